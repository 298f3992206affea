import Catalog
import StoreModel

/// The rows of a catalog at one moment, in arrays; every read is a scan.
struct MemoryCatalog: CatalogReader {
    var bucketRows: [BucketRow] = []
    /// In the order of their ids.
    var versionRows: [VersionRow] = []
    var lastSequence: UInt64 = 0
    var documentRows: [DocumentName: DocumentRow] = [:]

    mutating func apply(_ entry: CatalogEntry) {
        lastSequence = max(lastSequence, entry.sequence)
        for mutation in entry.mutations {
            switch mutation {
            case .putBucket(let row):
                bucketRows.removeAll { $0.id == row.id }
                bucketRows.append(row)
            case .removeBucket(let id): bucketRows.removeAll { $0.id == id }
            case .putVersion(let row):
                versionRows.removeAll { $0.bucket == row.bucket && $0.key == row.key && $0.id == row.id }
                versionRows.append(row)
                versionRows.sort { $0.id < $1.id }
            case .removeVersion(let bucket, let key, let id):
                versionRows.removeAll { $0.bucket == bucket && $0.key == key && $0.id == id }
            case .putDocument(let row): documentRows[row.name] = row
            case .removeDocument(let name): documentRows[name] = nil
            case .noteSnapshot, .setLogSet, .epochStart: break
            }
        }
    }

    func bucket(named name: BucketName) -> BucketRow? { bucketRows.first { $0.name == name } }
    func bucket(id: BucketID) -> BucketRow? { bucketRows.first { $0.id == id } }
    func buckets() -> [BucketRow] { bucketRows.sorted { $0.name < $1.name } }

    func version(bucket: BucketID, key: ObjectKey, selector: VersionSelector) -> VersionRow? {
        let rows = history(bucket, key)
        return switch selector {
        case .newest: rows.first
        case .id(let id): rows.first { $0.id == id }
        case .null: rows.first { $0.isNull }
        }
    }

    func log(bucket: BucketID, key: ObjectKey, before: VersionID?, limit: Int) -> [VersionRow] {
        Array(history(bucket, key).filter { row in before.map { row.id < $0 } ?? true }.prefix(limit))
    }

    func listObjects(_ request: ObjectListRequest) -> ObjectListPage {
        let heads = keys(request.bucket, request.prefix).compactMap { history(request.bucket, $0).first }
            .filter { !$0.isDeleteMarker && request.startAfter.lexicographicallyPrecedes($0.key.bytes) }
        let page = heads.prefix(request.limit).map { ObjectHead($0) }
        return ObjectListPage(
            objects: page,
            commonPrefixes: [],
            next: heads.count > page.count ? page.last?.key.bytes : nil
        )
    }

    func listVersions(_ request: VersionListRequest) -> VersionListPage {
        var listed: [ListedVersion] = []
        for key in keys(request.bucket, request.prefix) {
            let rows = history(request.bucket, key)
            for row in rows {
                if let marker = request.startAfter {
                    if key.bytes.lexicographicallyPrecedes(marker.key) { continue }
                    if key.bytes == marker.key, marker.version.map({ row.id >= $0 }) ?? true { continue }
                }
                listed.append(ListedVersion(row: row, isNewest: row.id == rows.first?.id))
            }
        }
        let page = Array(listed.prefix(request.limit))
        let next =
            listed.count > page.count
            ? page.last.map { VersionListMarker(key: $0.row.key.bytes, version: $0.row.id) } : nil
        return VersionListPage(versions: page, commonPrefixes: [], next: next)
    }

    func usage(of bucket: BucketID) -> BucketUsage {
        let rows = versionRows.filter { $0.bucket == bucket }
        let heads = keys(bucket, []).compactMap { history(bucket, $0).first }.filter { !$0.isDeleteMarker }
        let objects = rows.filter { !$0.isDeleteMarker }
        return BucketUsage(
            objectCount: UInt64(heads.count),
            objectBytes: heads.reduce(0) { $0 + $1.size },
            versionCount: UInt64(objects.count),
            versionBytes: objects.reduce(0) { $0 + $1.size },
            deleteMarkerCount: UInt64(rows.count - objects.count)
        )
    }

    func versions(afterSequence: UInt64, limit: Int) -> [VersionRow] {
        Array(versionRows.filter { $0.id.sequence > afterSequence }.prefix(limit))
    }

    func document(_ space: DocumentSpace, _ key: [UInt8]) -> DocumentRow? {
        documentRows[DocumentName(space, key)]
    }

    func documents(
        _ space: DocumentSpace,
        prefix: [UInt8],
        from start: [UInt8],
        limit: Int
    ) -> [DocumentRow] {
        let rows = documentRows.values.filter { row in
            row.space == space && row.key.starts(with: prefix) && !KeyBounds.precedes(row.key, start)
        }
        return Array(rows.sorted { $0.name < $1.name }.prefix(limit))
    }

    /// Newest first.
    private func history(_ bucket: BucketID, _ key: ObjectKey) -> [VersionRow] {
        versionRows.reversed().filter { $0.bucket == bucket && $0.key == key }
    }

    private func keys(_ bucket: BucketID, _ prefix: [UInt8]) -> [ObjectKey] {
        Set(versionRows.filter { $0.bucket == bucket && $0.key.bytes.starts(with: prefix) }.map(\.key))
            .sorted()
    }
}
