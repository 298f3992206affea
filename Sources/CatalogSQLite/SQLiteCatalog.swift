package import Catalog
internal import GRDB
internal import Glibc
package import StoreModel
internal import Synchronization

/// How an index is opened.
package struct SQLiteCatalogOptions: Sendable {
    /// Whether opening reads all rows and compares their hash with the applied state's.
    package enum Verification: Sendable {
        case always
        /// When the file wasn't closed: after a crash, pages may stand in two places, and SQLite takes what a
        /// damaged write-ahead log still yields for the whole. One that was closed is compared with its seal.
        case afterUncleanClose
        case never
    }

    package var verification = Verification.afterUncleanClose
    package var readerCount = 4
    /// Pages in the write-ahead log after which a commit also moves them into the file. Small enough that the
    /// commit that does it waits a few tens of milliseconds; large enough that a page that changes often is
    /// moved rarely.
    package var checkpointPageCount = 2000

    package init() {}
}

/// The catalog's index in one SQLite file.
///
/// 1. The commit log is the truth; this file may be lost at any time and is then built again.
/// 2. Rows, heads, usage and the applied position change in one transaction, so that the file always is the
///    state after some batch, and batches after it can be applied.
/// 3. One connection does all writes and all checkpoints (SQLite before 3.51.3 can lose a transaction when
///    two connections checkpoint and write at once); readers open the file read-only. The store's lock keeps
///    other processes out.
/// 4. `synchronous = NORMAL` in WAL mode: a commit waits for no disk. A kill loses nothing, because the page
///    cache stays; a power cut may lose the newest commits, but whole and from the end, since frames of the
///    write-ahead log carry chained checksums and are synced before a checkpoint moves them. The index is
///    then an older state, and the log's batches after it are applied again. `OFF` would save two syncs a
///    checkpoint and allow a file of mixed states, which only a full scan would find.
/// 5. Every row that is read is checked; what can't be right is `.damaged`, never an answer.
package final class SQLiteCatalog: CatalogStore {
    private struct State {
        var applied: AppliedState
        var isClosed = false
    }

    package let generations = DocumentGenerations()
    let pool: DatabasePool
    private let path: String
    private let state: Mutex<State>
    /// Held while a transaction writes, so that the state that it starts from is the last one's.
    private let writing = Mutex(())

    /// Opens the index at `path`, making it when there is none.
    /// - Throws: `CatalogError`; `needsRebuild` says that `remove(at:)` and a rebuild are the cure.
    package init(path: String, options: SQLiteCatalogOptions = SQLiteCatalogOptions()) throws(CatalogError) {
        try IndexFile.checkHeader(path)
        let seal = IndexFile.size(path + "-wal") == 0 ? IndexSeal.state(path) : .missing
        if seal == .broken, options.verification != .never {
            throw CatalogError(.damaged, "The file \(path) is not as it was closed.")
        }
        IndexSeal.remove(path)
        let (pool, applied) = try CatalogError.mapping {
            let pool = try DatabasePool(path: path, configuration: Self.configuration(options))
            do {
                let applied = try pool.write { database in
                    try CatalogSchema.prepare(database)
                    return try StateRow.read(database)
                }
                try IndexFile.checkLength(path, pool)
                let isVerified =
                    options.verification == .always
                    || options.verification == .afterUncleanClose && seal == .missing
                if isVerified {
                    try pool.read { try IndexVerifier(database: $0).verifyEverything(against: applied) }
                }
                return (pool, applied)
            } catch {
                try? pool.close()
                throw error
            }
        }
        self.pool = pool
        self.path = path
        state = Mutex(State(applied: applied))
    }

    /// Removes the files of an index that is not open. What isn't there is no error.
    package static func remove(at path: String) throws(CatalogError) {
        for suffix in ["-wal", "-shm", "-journal", "-sum", ""]
        where unlink(path + suffix) != 0 && errno != ENOENT {
            throw CatalogError(.inputOutput, "The file \(path + suffix) can't be removed: errno \(errno).")
        }
    }

    private static func configuration(_ options: SQLiteCatalogOptions) -> Configuration {
        var configuration = Configuration()
        configuration.label = "catalog"
        configuration.foreignKeysEnabled = false
        configuration.maximumReaderCount = options.readerCount
        configuration.busyMode = .timeout(5)
        let checkpointPageCount = options.checkpointPageCount
        configuration.prepareDatabase { database in
            // Pages whose cells don't fit are refused before they are used.
            try database.execute(sql: "PRAGMA cell_size_check = ON")
            try database.execute(sql: "PRAGMA trusted_schema = OFF")
            let isReader = database.configuration.readonly
            // Negative: KiB. They are small because the kernel caches the file as well: with a million versions twice as much
            // gains no time.
            try database.execute(sql: "PRAGMA cache_size = \(isReader ? -2048 : -8192)")
            guard !isReader else { return }
            try database.execute(sql: "PRAGMA wal_autocheckpoint = \(checkpointPageCount)")
            // A write-ahead log that a long read let grow is cut back when it is reused.
            try database.execute(sql: "PRAGMA journal_size_limit = 67108864")
        }
        return configuration
    }

    // MARK: Writing

    package var applied: AppliedState { state.withLock(\.applied) }

    package func apply(_ batches: [AppliedBatch]) throws(CatalogError) {
        guard !batches.isEmpty else { return }
        var spaces: Set<DocumentSpace> = []
        try write { database, state in
            var applier = BatchApplier(database, state: state)
            var isChanged = false
            for batch in batches where try applier.apply(batch) { isChanged = true }
            if isChanged { try applier.finish() }
            spaces = applier.spaces
            return applier.state
        }
        generations.advance(spaces)
    }

    package func reset() throws(CatalogError) {
        try write { database, _ in
            for table in ["heads", "versions", "buckets", "usage", "documents"] {
                try database.execute(sql: "DELETE FROM \(table)")
            }
            try StateRow.write(.empty, isImporting: false, database)
            return .empty
        }
        generations.advance(DocumentSpace.allCases)
    }

    /// Runs one write transaction; the state that `body` returns becomes the applied one when it is
    /// committed.
    func write(
        _ body: (Database, AppliedState) throws -> AppliedState
    ) throws(CatalogError) {
        try CatalogError.mapping {
            try writing.withLock { _ in
                try checkOpen()
                let before = applied
                let after = try pool.write { try body($0, before) }
                state.withLock { $0.applied = after }
            }
        }
    }

    package func verify() throws(CatalogError) {
        try CatalogError.mapping {
            try checkOpen()
            try pool.read { try IndexVerifier(database: $0).verifyEverything(against: try StateRow.read($0)) }
        }
    }

    package func close() throws(CatalogError) {
        try CatalogError.mapping {
            try writing.withLock { _ in
                guard state.withLock({ !$0.isClosed }) else { return }
                // An empty write-ahead log is the mark of a clean close. Where it can't be emptied, the next
                // open verifies: no reason to fail.
                _ = try? pool.writeWithoutTransaction { try $0.checkpoint(.truncate) }
                state.withLock { $0.isClosed = true }
                try pool.close()
                if IndexFile.size(path + "-wal") == 0 { IndexSeal.write(path) }
            }
        }
    }

    private func checkOpen() throws {
        guard state.withLock({ !$0.isClosed }) else { throw CatalogError(.closed, "The index is closed.") }
    }

    // MARK: Reading

    private func read<Value>(_ body: (Database) throws -> Value) throws(CatalogError) -> Value {
        try CatalogError.mapping {
            try checkOpen()
            return try pool.read(body)
        }
    }

    /// For a single statement, which sees one state by itself: a transaction around it would cost more than it does.
    private func readOnce<Value>(_ body: (Database) throws -> Value) throws(CatalogError) -> Value {
        try CatalogError.mapping {
            try checkOpen()
            return try pool.unsafeRead(body)
        }
    }

    package func bucket(named name: BucketName) throws(CatalogError) -> BucketRow? {
        try readOnce { try RowTables(database: $0).bucket(named: name) }
    }

    package func bucket(id: BucketID) throws(CatalogError) -> BucketRow? {
        try readOnce { try RowTables(database: $0).bucket(id: id) }
    }

    package func buckets() throws(CatalogError) -> [BucketRow] {
        try read { try RowTables(database: $0).buckets() }
    }

    package func version(
        bucket: BucketID,
        key: ObjectKey,
        selector: VersionSelector
    ) throws(CatalogError) -> VersionRow? {
        switch selector {
        case .newest: try read { try RowTables(database: $0).newest(bucket: bucket, key: key) }
        case .null: try readOnce { try RowTables(database: $0).nullVersion(bucket: bucket, key: key) }
        case .id(let id):
            try readOnce { try RowTables(database: $0).version(bucket: bucket, key: key, id: id) }
        }
    }

    package func log(
        bucket: BucketID,
        key: ObjectKey,
        before: VersionID?,
        limit: Int
    ) throws(CatalogError) -> [VersionRow] {
        try read {
            try RowTables(database: $0).history(bucket: bucket, key: key, before: before, limit: limit)
        }
    }

    package func listObjects(_ request: ObjectListRequest) throws(CatalogError) -> ObjectListPage {
        try read { try Listing(database: $0).objects(request) }
    }

    package func listVersions(_ request: VersionListRequest) throws(CatalogError) -> VersionListPage {
        try read { try Listing(database: $0).versions(request) }
    }

    package func usage(of bucket: BucketID) throws(CatalogError) -> BucketUsage {
        try read { try RowTables(database: $0).usage(bucket: bucket) }
    }

    package func versions(afterSequence: UInt64, limit: Int) throws(CatalogError) -> [VersionRow] {
        try read { try RowTables(database: $0).versions(afterSequence: afterSequence, limit: limit) }
    }

    package func document(_ space: DocumentSpace, _ key: [UInt8]) throws(CatalogError) -> DocumentRow? {
        try readOnce { try RowTables(database: $0).document(DocumentName(space, key)) }
    }

    package func documents(
        _ space: DocumentSpace,
        prefix: [UInt8],
        from start: [UInt8],
        limit: Int
    ) throws(CatalogError) -> [DocumentRow] {
        try read {
            try RowTables(database: $0).documents(space, prefix: prefix, from: start, limit: limit)
        }
    }
}
