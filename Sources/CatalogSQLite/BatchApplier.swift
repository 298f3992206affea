internal import Catalog
internal import GRDB
internal import StoreModel

/// Applies batches inside one transaction and keeps heads, usage and the applied state in step with the rows.
///
/// 1. The state hash is computed from the rows as they are stored, so a batch that names another one shows
///    that the index or the log has drifted.
/// 2. A version whose sequence is its entry's is new, and so the newest of its key: sequences only grow.
/// 3. `finish` writes what was gathered; without it the transaction must be rolled back.
struct BatchApplier {
    private let database: Database
    private let tables: RowTables
    private(set) var state: AppliedState
    private var usages: [BucketID: BucketUsage] = [:]
    /// Whose generations the batches advance.
    private(set) var spaces: Set<DocumentSpace> = []

    init(_ database: Database, state: AppliedState) {
        self.database = database
        tables = RowTables(database: database)
        self.state = state
    }

    /// - Returns: whether the batch was new.
    @discardableResult
    mutating func apply(_ batch: AppliedBatch) throws -> Bool {
        if batch.position == state.position || batch.position.sequence < state.position.sequence {
            return false
        }
        guard batch.predecessor == state.position else {
            throw CatalogError(
                .offChain,
                "The batch \(batch.position) follows \(batch.predecessor), not the applied \(state.position)."
            )
        }
        for entry in batch.entries {
            for mutation in entry.mutations { try apply(mutation, of: entry) }
            state.lastVersionSequence = max(state.lastVersionSequence, entry.sequence)
        }
        state.position = batch.position
        state.lastTimestamp = max(state.lastTimestamp, batch.timestamp)
        guard batch.stateHash == .zero || batch.stateHash == state.stateHash else {
            throw CatalogError(
                .stateMismatch,
                "The state after \(batch.position) is \(state.stateHash); the batch names \(batch.stateHash)."
            )
        }
        return true
    }

    /// Adds a row of a snapshot: new, and newer than every version before it.
    mutating func load(_ row: SnapshotReader.Row) throws {
        switch row {
        case .bucket(let row): try put(row)
        case .version(let row): try add(row)
        case .document(let row): try put(row)
        }
    }

    /// Writes the state and the usage.
    mutating func finish(state final: AppliedState? = nil, isImporting: Bool = false) throws {
        if let final { state = final }
        for (bucket, usage) in usages {
            let query = try Query(database, "INSERT OR REPLACE INTO usage (bucket, bytes) VALUES (?, ?)")
            query.bind(1, bucket.rawValue)
            query.bind(2, HeadCodec.encode(usage, bucket: bucket))
            try query.run()
        }
        usages = [:]
        try StateRow.write(state, isImporting: isImporting, database)
    }

    private mutating func apply(_ mutation: CatalogMutation, of entry: CatalogEntry) throws {
        switch mutation {
        case .putBucket(let row): try put(row)
        case .removeBucket(let id): try removeBucket(id)
        case .putVersion(let row):
            if row.id.sequence == entry.sequence { try add(row) } else { try update(row) }
        case .removeVersion(let bucket, let key, let id): try remove(id, of: key, in: bucket)
        case .noteSnapshot(let note):
            state.snapshots = Array(([note] + state.snapshots).prefix(AppliedStateCodec.snapshotCountMax))
        case .setLogSet(let note): state.logSet = note
        case .epochStart: break
        case .putDocument(let row): try put(row)
        case .removeDocument(let name): try remove(name)
        }
        if let space = mutation.space { spaces.insert(space) }
    }

    // MARK: Documents

    private mutating func put(_ row: DocumentRow) throws {
        if let old = try tables.document(row.name) { state.stateHash -= StateHash(of: old) }
        let bytes = RowCodec.encode(row)
        let hash = StateHash(ofRow: bytes)
        let query = try Query(
            database,
            "INSERT OR REPLACE INTO documents (space, key, bytes, checksum) VALUES (?, ?, ?, ?)"
        )
        query.bind(1, UInt64(row.space.rawValue))
        query.bind(2, row.key)
        query.bind(3, bytes)
        query.bind(4, hash.low)
        try query.run()
        state.stateHash += hash
    }

    private mutating func remove(_ name: DocumentName) throws {
        guard let old = try tables.document(name) else {
            throw CatalogError(.damaged, "A document of \(name.space) is to be removed but isn't there.")
        }
        let query = try Query(database, "DELETE FROM documents WHERE space = ? AND key = ?")
        query.bind(1, UInt64(name.space.rawValue))
        query.bind(2, name.key)
        try query.run()
        state.stateHash -= StateHash(of: old)
    }

    // MARK: Buckets

    private mutating func put(_ row: BucketRow) throws {
        if let old = try tables.bucket(id: row.id) { state.stateHash -= StateHash(of: old) }
        let bytes = RowCodec.encode(row)
        let hash = StateHash(ofRow: bytes)
        let query = try Query(
            database,
            """
            INSERT INTO buckets (number, name, bytes, checksum) VALUES (?, ?, ?, ?)
            ON CONFLICT (number) DO UPDATE SET
            name = excluded.name, bytes = excluded.bytes, checksum = excluded.checksum
            """
        )
        query.bind(1, row.id.rawValue)
        query.bind(2, [UInt8](row.name.description.utf8))
        query.bind(3, bytes)
        query.bind(4, hash.low)
        try query.run()
        state.stateHash += hash
        state.lastTimestamp = max(state.lastTimestamp, row.createdAt)
    }

    private mutating func removeBucket(_ id: BucketID) throws {
        guard let old = try tables.bucket(id: id) else {
            throw CatalogError(.damaged, "Bucket \(id.rawValue) is to be removed but isn't there.")
        }
        guard try usage(of: id).isEmpty else {
            throw CatalogError(.damaged, "Bucket \(id.rawValue) is to be removed but isn't empty.")
        }
        usages[id] = nil
        for sql in ["DELETE FROM buckets WHERE number = ?", "DELETE FROM usage WHERE bucket = ?"] {
            let query = try Query(database, sql)
            query.bind(1, id.rawValue)
            try query.run()
        }
        state.stateHash -= StateHash(of: old)
    }

    // MARK: Versions

    private mutating func add(_ row: VersionRow) throws {
        let bytes = RowCodec.encode(row)
        let hash = StateHash(ofRow: bytes)
        let query = try Query(
            database,
            "INSERT INTO versions (sequence, bucket, key, is_null, bytes, checksum) VALUES (?, ?, ?, ?, ?, ?)"
        )
        query.bind(1, row.id.sequence)
        query.bind(2, row.bucket.rawValue)
        query.bind(3, row.key.bytes)
        if row.isNull { query.bind(4, 1) } else { query.bindNull(4) }
        query.bind(5, bytes)
        query.bind(6, hash.low)
        try query.run()
        state.stateHash += hash
        state.lastTimestamp = max(state.lastTimestamp, row.createdAt)
        var usage = try usage(of: row.bucket)
        try usage.count(row)
        if row.isDeleteMarker {
            if let old = try tables.head(bucket: row.bucket, key: row.key) {
                try removeHead(row.bucket, row.key)
                try usage.uncount(old)
            }
        } else {
            let head = ObjectHead(row)
            if try !insertHead(head, row.bucket) {
                guard let old = try tables.head(bucket: row.bucket, key: row.key) else {
                    throw CatalogError(.damaged, "A head of \(quoted(row.key.bytes)) is there and isn't.")
                }
                try usage.uncount(old)
                try replaceHead(head, row.bucket)
            }
            try usage.count(head)
        }
        usages[row.bucket] = usage
    }

    private mutating func update(_ row: VersionRow) throws {
        guard let old = try tables.version(bucket: row.bucket, key: row.key, id: row.id),
            old.isNull == row.isNull, old.kind == row.kind
        else { throw CatalogError(.damaged, "Version \(row.id) is to be changed but isn't there.") }
        let bytes = RowCodec.encode(row)
        let hash = StateHash(ofRow: bytes)
        let query = try Query(database, "UPDATE versions SET bytes = ?, checksum = ? WHERE sequence = ?")
        query.bind(1, bytes)
        query.bind(2, hash.low)
        query.bind(3, row.id.sequence)
        try query.run()
        state.stateHash -= StateHash(of: old)
        state.stateHash += hash
        var usage = try usage(of: row.bucket)
        try usage.uncount(old)
        try usage.count(row)
        usages[row.bucket] = usage
        try refreshHead(row.bucket, row.key)
    }

    private mutating func remove(_ id: VersionID, of key: ObjectKey, in bucket: BucketID) throws {
        guard let old = try tables.version(bucket: bucket, key: key, id: id) else {
            throw CatalogError(
                .damaged,
                "Version \(id) of \(quoted(key.bytes)) is to be removed but isn't there."
            )
        }
        let query = try Query(database, "DELETE FROM versions WHERE sequence = ?")
        query.bind(1, id.sequence)
        try query.run()
        state.stateHash -= StateHash(of: old)
        var usage = try usage(of: bucket)
        try usage.uncount(old)
        usages[bucket] = usage
        try refreshHead(bucket, key)
    }

    // MARK: Heads

    /// Makes the head what the history says.
    private mutating func refreshHead(_ bucket: BucketID, _ key: ObjectKey) throws {
        let old = try tables.head(bucket: bucket, key: key)
        let newest = try tables.newestInHistory(bucket: bucket, key: key)
        let new = newest.flatMap { $0.isDeleteMarker ? nil : ObjectHead($0) }
        guard old != new else { return }
        var usage = try usage(of: bucket)
        if let old { try usage.uncount(old) }
        if let new { try usage.count(new) }
        usages[bucket] = usage
        guard let new else { return try removeHead(bucket, key) }
        if old == nil { try insertHead(new, bucket) } else { try replaceHead(new, bucket) }
    }

    /// - Returns: false when the key has a head.
    @discardableResult
    private func insertHead(_ head: ObjectHead, _ bucket: BucketID) throws -> Bool {
        let query = try Query(database, "INSERT OR IGNORE INTO heads (bucket, key, head) VALUES (?, ?, ?)")
        query.bind(1, bucket.rawValue)
        query.bind(2, head.key.bytes)
        query.bind(3, HeadCodec.encode(head, bucket: bucket))
        try query.run()
        return database.lastChangeCount == 1
    }

    private func replaceHead(_ head: ObjectHead, _ bucket: BucketID) throws {
        let query = try Query(database, "UPDATE heads SET head = ? WHERE bucket = ? AND key = ?")
        query.bind(1, HeadCodec.encode(head, bucket: bucket))
        query.bind(2, bucket.rawValue)
        query.bind(3, head.key.bytes)
        try query.run()
    }

    private func removeHead(_ bucket: BucketID, _ key: ObjectKey) throws {
        let query = try Query(database, "DELETE FROM heads WHERE bucket = ? AND key = ?")
        query.bind(1, bucket.rawValue)
        query.bind(2, key.bytes)
        try query.run()
    }

    // MARK: Usage

    private mutating func usage(of bucket: BucketID) throws -> BucketUsage {
        if let usage = usages[bucket] { return usage }
        let usage = try tables.usage(bucket: bucket)
        usages[bucket] = usage
        return usage
    }
}

extension BucketUsage {
    mutating func count(_ row: VersionRow) throws {
        if row.isDeleteMarker {
            deleteMarkerCount += 1
        } else {
            versionCount += 1
            versionBytes = try Self.sum(versionBytes, row.size)
        }
    }

    mutating func uncount(_ row: VersionRow) throws {
        if row.isDeleteMarker {
            deleteMarkerCount = try Self.difference(deleteMarkerCount, 1)
        } else {
            versionCount = try Self.difference(versionCount, 1)
            versionBytes = try Self.difference(versionBytes, row.size)
        }
    }

    mutating func count(_ head: ObjectHead) throws {
        objectCount += 1
        objectBytes = try Self.sum(objectBytes, head.size)
    }

    mutating func uncount(_ head: ObjectHead) throws {
        objectCount = try Self.difference(objectCount, 1)
        objectBytes = try Self.difference(objectBytes, head.size)
    }

    private static func sum(_ left: UInt64, _ right: UInt64) throws -> UInt64 {
        let (value, isOverflow) = left.addingReportingOverflow(right)
        guard !isOverflow else { throw CatalogError(.damaged, "The usage of a bucket is more than 64 bits.") }
        return value
    }

    private static func difference(_ left: UInt64, _ right: UInt64) throws -> UInt64 {
        guard left >= right else {
            throw CatalogError(.damaged, "The usage of a bucket is less than its rows.")
        }
        return left - right
    }
}
