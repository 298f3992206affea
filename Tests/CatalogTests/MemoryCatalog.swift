import Catalog
import StoreModel
import Synchronization

/// An index as a list of rows, applied at once; counts its reads. Listings are only what a decider needs.
final class MemoryCatalog: CatalogReader {
    fileprivate struct State {
        var buckets: [BucketRow] = []
        var versions: [VersionRow] = []
        var documents: [DocumentName: DocumentRow] = [:]
        var readCount = 0
        var applied = AppliedState.empty
    }

    private let state = Mutex(State())

    var readCount: Int { state.withLock(\.readCount) }
    var applied: AppliedState { state.withLock(\.applied) }

    func apply(_ entry: CatalogEntry) {
        state.withLock { state in
            for mutation in entry.mutations {
                switch mutation {
                case .putBucket(let row):
                    state.buckets.removeAll { $0.id == row.id }
                    state.buckets.append(row)
                case .removeBucket(let id): state.buckets.removeAll { $0.id == id }
                case .putVersion(let row):
                    state.versions.removeAll { $0.id == row.id }
                    state.versions.append(row)
                case .removeVersion(_, _, let id): state.versions.removeAll { $0.id == id }
                case .putDocument(let row): state.documents[row.name] = row
                case .removeDocument(let name): state.documents[name] = nil
                case .noteSnapshot, .setLogSet, .epochStart: break
                }
            }
            state.versions.sort { $0.id > $1.id }
            state.applied.lastVersionSequence = entry.sequence
        }
    }

    fileprivate func read<Value>(_ body: (State) -> Value) -> Value {
        state.withLock { state in
            state.readCount += 1
            return body(state)
        }
    }

    func bucket(named name: BucketName) -> BucketRow? { read { $0.buckets.first { $0.name == name } } }
    func bucket(id: BucketID) -> BucketRow? { read { $0.buckets.first { $0.id == id } } }
    func buckets() -> [BucketRow] { read { $0.buckets.sorted { $0.name < $1.name } } }

    func version(bucket: BucketID, key: ObjectKey, selector: VersionSelector) -> VersionRow? {
        let rows = log(bucket: bucket, key: key, before: nil, limit: .max)
        switch selector {
        case .newest: return rows.first
        case .null: return rows.first(where: \.isNull)
        case .id(let id): return rows.first { $0.id == id }
        }
    }

    func log(bucket: BucketID, key: ObjectKey, before: VersionID?, limit: Int) -> [VersionRow] {
        read { state in
            let rows = state.versions.filter { row in
                row.bucket == bucket && row.key == key && before.map { row.id < $0 } ?? true
            }
            return Array(rows.prefix(limit))
        }
    }

    func listObjects(_ request: ObjectListRequest) -> ObjectListPage {
        ObjectListPage(objects: [], commonPrefixes: [], next: nil)
    }

    func listVersions(_ request: VersionListRequest) -> VersionListPage {
        read { state in
            let rows = state.versions.filter { $0.bucket == request.bucket }
            let listed = rows.map { ListedVersion(row: $0, isNewest: false) }
            return VersionListPage(versions: listed, commonPrefixes: [], next: nil)
        }
    }

    func usage(of bucket: BucketID) -> BucketUsage { BucketUsage() }

    func versions(afterSequence: UInt64, limit: Int) -> [VersionRow] {
        read { state in
            Array(state.versions.reversed().filter { $0.id.sequence > afterSequence }.prefix(limit))
        }
    }
}

extension MemoryCatalog {
    func document(_ space: DocumentSpace, _ key: [UInt8]) -> DocumentRow? {
        read { $0.documents[DocumentName(space, key)] }
    }

    func documents(
        _ space: DocumentSpace,
        prefix: [UInt8],
        from start: [UInt8],
        limit: Int
    ) -> [DocumentRow] {
        read { state in
            let rows = state.documents.values.filter { row in
                row.space == space && row.key.starts(with: prefix) && !KeyBounds.precedes(row.key, start)
            }
            return Array(rows.sorted { $0.name < $1.name }.prefix(limit))
        }
    }
}

/// Numbers that only count.
final class CountingNumbers: RandomSource {
    private let state = Mutex(UInt64(0))
    func next() -> UInt64 {
        state.withLock { state in
            state += 1
            return state
        }
    }
}
