internal import Catalog
internal import ContentHashing
internal import GRDB
internal import StoreModel

/// Compares the index with itself.
struct IndexVerifier {
    let database: Database

    /// Every row's checksum, and that together they are the applied state's; every head's checksum; and that
    /// each table and tree has as many entries as the usage counts.
    func verifyRows(against state: AppliedState) throws {
        var hash = StateHash.zero
        let buckets = try Query(database, "SELECT bytes, checksum FROM buckets")
        defer { buckets.reset() }
        while try buckets.step() { hash += StateHash(ofRow: try RowTables.bytes(buckets)) }
        let versions = try Query(database, "SELECT bytes, checksum FROM versions ORDER BY sequence")
        defer { versions.reset() }
        var versionCount: UInt64 = 0
        while try versions.step() {
            hash += StateHash(ofRow: try RowTables.bytes(versions))
            versionCount += 1
        }
        let documents = try Query(database, "SELECT bytes, checksum FROM documents")
        defer { documents.reset() }
        while try documents.step() { hash += StateHash(ofRow: try RowTables.bytes(documents)) }
        guard hash == state.stateHash else {
            throw CatalogError(.damaged, "The rows have the hash \(hash), not \(state.stateHash).")
        }
        let heads = try headUsage()
        let usages = try usages()
        let counted = usages.values.reduce(0) { $0 + $1.versionCount + $1.deleteMarkerCount }
        guard counted == versionCount else {
            throw CatalogError(.damaged, "There are \(versionCount) versions; the usage counts \(counted).")
        }
        for (bucket, usage) in usages {
            let found = heads[bucket] ?? BucketUsage()
            guard found.objectCount == usage.objectCount, found.objectBytes == usage.objectBytes else {
                throw CatalogError(
                    .damaged,
                    "The heads of bucket \(bucket.rawValue) aren't what its usage says."
                )
            }
        }
        guard Set(heads.keys).isSubset(of: usages.keys) else {
            throw CatalogError(.damaged, "There are heads in a bucket that has no usage.")
        }
        let indexed = try UInt64.fetchOne(
            database,
            sql: "SELECT count(*) FROM versions INDEXED BY versions_by_key WHERE key >= x''"
        )
        guard indexed == versionCount else {
            throw CatalogError(
                .damaged,
                "There are \(versionCount) versions and \(indexed ?? 0) in their order."
            )
        }
    }

    /// All of that, SQLite's own check of the file, and head by head that it is the newest version of its
    /// key.
    func verifyEverything(against state: AppliedState) throws {
        let findings = try String.fetchAll(database, sql: "PRAGMA integrity_check(10)")
        guard findings == ["ok"] else {
            throw CatalogError(.damaged, "SQLite finds: \(findings.joined(separator: "; ")).")
        }
        try verifyRows(against: state)
        try verifyDocuments()
        var counted: [BucketID: BucketUsage] = [:]
        let tables = RowTables(database: database)
        let query = try Query(
            database,
            """
            SELECT bytes, checksum, bucket, key, sequence, is_null FROM versions
            ORDER BY bucket, key, sequence DESC
            """
        )
        defer { query.reset() }
        var previous: (bucket: BucketID, key: ObjectKey)?
        while try query.step() {
            let row = try RowTables.version(query)
            guard row.bucket.rawValue == query.integer(2), row.key.bytes == query.bytes(3),
                row.id.sequence == query.integer(4), row.isNull == (query.integer(5) == 1)
            else { throw CatalogError(.damaged, "Version \(query.integer(4)) stands in the wrong place.") }
            try counted[row.bucket, default: BucketUsage()].count(row)
            guard previous.map({ $0.bucket != row.bucket || $0.key != row.key }) ?? true else { continue }
            previous = (row.bucket, row.key)
            let head = try tables.head(bucket: row.bucket, key: row.key)
            guard head == (row.isDeleteMarker ? nil : ObjectHead(row)) else {
                throw CatalogError(.damaged, "The head of \(quoted(row.key.bytes)) isn't its newest version.")
            }
            if let head { try counted[row.bucket, default: BucketUsage()].count(head) }
        }
        guard try usages().filter({ !$0.value.isEmpty }) == counted else {
            throw CatalogError(.damaged, "The usage isn't what the rows come to.")
        }
    }

    /// That each document stands where its row says.
    private func verifyDocuments() throws {
        let query = try Query(database, "SELECT bytes, checksum, space, key FROM documents")
        defer { query.reset() }
        while try query.step() {
            let row = try RowTables.document(query)
            guard UInt64(row.space.rawValue) == query.integer(2), row.key == query.bytes(3) else {
                throw CatalogError(.damaged, "A document of \(row.space) stands in the wrong place.")
            }
        }
    }

    private func headUsage() throws -> [BucketID: BucketUsage] {
        var found: [BucketID: BucketUsage] = [:]
        let query = try Query(database, "SELECT bucket, key, head FROM heads")
        defer { query.reset() }
        while try query.step() {
            let bucket = BucketID(rawValue: query.integer(0))
            let head = try HeadCodec.decode(query.bytes(2), bucket: bucket, key: query.bytes(1))
            try found[bucket, default: BucketUsage()].count(head)
        }
        return found
    }

    private func usages() throws -> [BucketID: BucketUsage] {
        var found: [BucketID: BucketUsage] = [:]
        let query = try Query(database, "SELECT bucket, bytes FROM usage")
        defer { query.reset() }
        while try query.step() {
            let bucket = BucketID(rawValue: query.integer(0))
            found[bucket] = try HeadCodec.decodeUsage(query.bytes(1), bucket: bucket)
        }
        return found
    }
}
