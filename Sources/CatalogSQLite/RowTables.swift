internal import Catalog
internal import GRDB
internal import StoreModel

/// Reads of single rows, each verified: checksum, form, and that it is the row that was asked for.
struct RowTables {
    let database: Database

    func bucket(id: BucketID) throws -> BucketRow? {
        let query = try Query(database, "SELECT bytes, checksum FROM buckets WHERE number = ?")
        query.bind(1, id.rawValue)
        defer { query.reset() }
        guard try query.step() else { return nil }
        let row = try Self.bucket(query)
        guard row.id == id else { throw CatalogError(.damaged, "Bucket \(id.rawValue) holds another's row.") }
        return row
    }

    func bucket(named name: BucketName) throws -> BucketRow? {
        let query = try Query(database, "SELECT bytes, checksum FROM buckets WHERE name = ?")
        query.bind(1, [UInt8](name.description.utf8))
        defer { query.reset() }
        guard try query.step() else { return nil }
        let row = try Self.bucket(query)
        guard row.name == name else { throw CatalogError(.damaged, "Bucket \(name) holds another's row.") }
        return row
    }

    func buckets() throws -> [BucketRow] {
        let query = try Query(database, "SELECT bytes, checksum FROM buckets ORDER BY name")
        defer { query.reset() }
        var rows: [BucketRow] = []
        while try query.step() { rows.append(try Self.bucket(query)) }
        return rows
    }

    func head(bucket: BucketID, key: ObjectKey) throws -> ObjectHead? {
        let query = try Query(database, "SELECT head FROM heads WHERE bucket = ? AND key = ?")
        query.bind(1, bucket.rawValue)
        query.bind(2, key.bytes)
        defer { query.reset() }
        guard try query.step() else { return nil }
        return try HeadCodec.decode(query.bytes(0), bucket: bucket, key: key.bytes)
    }

    func usage(bucket: BucketID) throws -> BucketUsage {
        let query = try Query(database, "SELECT bytes FROM usage WHERE bucket = ?")
        query.bind(1, bucket.rawValue)
        defer { query.reset() }
        guard try query.step() else { return BucketUsage() }
        return try HeadCodec.decodeUsage(query.bytes(0), bucket: bucket)
    }

    func version(bucket: BucketID, key: ObjectKey, id: VersionID) throws -> VersionRow? {
        let query = try Query(database, "SELECT bytes, checksum FROM versions WHERE sequence = ?")
        query.bind(1, id.sequence)
        defer { query.reset() }
        guard try query.step() else { return nil }
        let row = try Self.version(query)
        guard row.id.sequence == id.sequence else {
            throw CatalogError(.damaged, "Version \(id) holds another's row.")
        }
        // A version id of another key, or of a mutation that never was: not found, no damage.
        return row.id == id && row.bucket == bucket && row.key == key ? row : nil
    }

    /// The newest version by the history, which may be a delete marker.
    func newestInHistory(bucket: BucketID, key: ObjectKey) throws -> VersionRow? {
        try history(bucket: bucket, key: key, before: nil, limit: 1).first
    }

    /// The newest version. The head and the history must agree: a key that is lost in one of the two trees
    /// through damage is found this way, where a look at one of them would give an older version or none.
    func newest(bucket: BucketID, key: ObjectKey) throws -> VersionRow? {
        if let head = try head(bucket: bucket, key: key) {
            guard let row = try version(bucket: bucket, key: key, id: head.id), !row.isDeleteMarker else {
                throw CatalogError(
                    .damaged,
                    "The head of \(quoted(key.bytes)) names a version that isn't there."
                )
            }
            return row
        }
        let row = try newestInHistory(bucket: bucket, key: key)
        guard row?.isDeleteMarker ?? true else {
            throw CatalogError(.damaged, "The newest version of \(quoted(key.bytes)) has no head.")
        }
        return row
    }

    func nullVersion(bucket: BucketID, key: ObjectKey) throws -> VersionRow? {
        let query = try Query(
            database,
            "SELECT bytes, checksum FROM versions WHERE bucket = ? AND key = ? AND is_null = 1"
        )
        query.bind(1, bucket.rawValue)
        query.bind(2, key.bytes)
        defer { query.reset() }
        guard try query.step() else { return nil }
        let row = try Self.version(query)
        guard row.bucket == bucket, row.key == key, row.isNull else {
            throw CatalogError(.damaged, "The null version of \(quoted(key.bytes)) holds another's row.")
        }
        return row
    }

    func history(bucket: BucketID, key: ObjectKey, before: VersionID?, limit: Int) throws -> [VersionRow] {
        let query = try Query(
            database,
            """
            SELECT bytes, checksum FROM versions WHERE bucket = ? AND key = ? AND sequence < ?
            ORDER BY sequence DESC
            """
        )
        query.bind(1, bucket.rawValue)
        query.bind(2, key.bytes)
        query.bind(3, min(before?.sequence ?? .max, UInt64(Int64.max)))
        defer { query.reset() }
        var rows: [VersionRow] = []
        while rows.count < limit, try query.step() {
            let row = try Self.version(query)
            guard row.bucket == bucket, row.key == key else {
                throw CatalogError(.damaged, "The history of \(quoted(key.bytes)) holds another key's row.")
            }
            rows.append(row)
        }
        return rows
    }

    func versions(afterSequence: UInt64, limit: Int) throws -> [VersionRow] {
        let query = try Query(
            database,
            "SELECT bytes, checksum, sequence FROM versions WHERE sequence > ? ORDER BY sequence"
        )
        query.bind(1, min(afterSequence, UInt64(Int64.max)))
        defer { query.reset() }
        var rows: [VersionRow] = []
        while rows.count < limit, try query.step() {
            let row = try Self.version(query)
            guard row.id.sequence == query.integer(2) else {
                throw CatalogError(.damaged, "Version \(query.integer(2)) holds another's row.")
            }
            rows.append(row)
        }
        return rows
    }

    func document(_ name: DocumentName) throws -> DocumentRow? {
        let query = try Query(database, "SELECT bytes, checksum FROM documents WHERE space = ? AND key = ?")
        query.bind(1, UInt64(name.space.rawValue))
        query.bind(2, name.key)
        defer { query.reset() }
        guard try query.step() else { return nil }
        let row = try Self.document(query)
        guard row.name == name else {
            throw CatalogError(.damaged, "A document of \(name.space) holds another's row.")
        }
        return row
    }

    func documents(
        _ space: DocumentSpace,
        prefix: [UInt8],
        from start: [UInt8],
        limit: Int
    ) throws -> [DocumentRow] {
        let query = try Query(
            database,
            "SELECT bytes, checksum, key FROM documents WHERE space = ? AND key >= ? ORDER BY key"
        )
        query.bind(1, UInt64(space.rawValue))
        query.bind(2, KeyBounds.precedes(start, prefix) ? prefix : start)
        defer { query.reset() }
        var rows: [DocumentRow] = []
        while rows.count < limit, try query.step() {
            let row = try Self.document(query)
            guard row.space == space, row.key == query.bytes(2) else {
                throw CatalogError(.damaged, "A document of \(space) holds another's row.")
            }
            guard row.key.starts(with: prefix) else { break }
            rows.append(row)
        }
        return rows
    }

    /// The row's bytes, checked, from columns `column` (bytes) and `column + 1` (checksum).
    static func bytes(_ query: Query, column: Int32 = 0) throws -> [UInt8] {
        let bytes = query.bytes(column)
        guard StateHash(ofRow: bytes).low == query.integer(column + 1) else {
            throw CatalogError(.damaged, "A row of the index has a wrong checksum.")
        }
        return bytes
    }

    static func version(_ query: Query, column: Int32 = 0) throws -> VersionRow {
        do {
            return try RowCodec.decodeVersion(try bytes(query, column: column))
        } catch let error as ByteReader.Failure {
            throw CatalogError(.damaged, "A version row can't be read: \(error.description).", cause: error)
        }
    }

    static func bucket(_ query: Query, column: Int32 = 0) throws -> BucketRow {
        do {
            return try RowCodec.decodeBucket(try bytes(query, column: column))
        } catch let error as ByteReader.Failure {
            throw CatalogError(.damaged, "A bucket row can't be read: \(error.description).", cause: error)
        }
    }

    static func document(_ query: Query, column: Int32 = 0) throws -> DocumentRow {
        do {
            return try RowCodec.decodeDocument(try bytes(query, column: column))
        } catch let error as ByteReader.Failure {
            throw CatalogError(.damaged, "A document can't be read: \(error.description).", cause: error)
        }
    }
}
