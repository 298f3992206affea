internal import Catalog
internal import ContentHashing
internal import GRDB
internal import StoreModel

// The index's SQLite file, format 2.
//
//   buckets   number, name, row bytes, checksum
//   versions  sequence (the row's place in the file too: new versions are appended), bucket, key,
//             1 for the null version else NULL, row bytes, checksum
//   heads     bucket, key, head bytes: the newest versions that are objects, for listings and for
//             reads of the newest
//   usage     bucket, usage bytes
//   documents space, key, row bytes, checksum (since format 2)
//   state     one row: applied state, checksum, and whether an import is under way
//
// Row bytes are `RowCodec`'s and their checksum is the low word of their XXH3-128, whose sum is the state
// hash. Heads and usage carry an XXH3-64 over themselves and their key. Keys are blobs: byte order.
//
// `application_id` is "HFCT". `user_version` holds the format in its low 16 bits and the complement of it in
// the high ones: a newer format is refused, a flipped bit is damage.

enum CatalogSchema {
    static let applicationID: Int32 = 0x4846_4354
    /// The newest format that this program writes and reads.
    static let format: UInt16 = 2

    static func userVersion(of format: UInt16) -> Int32 {
        Int32(bitPattern: UInt32(format) | UInt32(~format) << 16)
    }

    /// The format that a `user_version` names; nil when it is none.
    static func format(of userVersion: Int32) -> UInt16? {
        let bits = UInt32(bitPattern: userVersion)
        let format = UInt16(truncatingIfNeeded: bits)
        return UInt16(truncatingIfNeeded: bits >> 16) == ~format ? format : nil
    }

    /// - Throws: `CatalogError` with `.unsupportedFormat` when a newer program wrote it.
    static func checkFormat(_ found: UInt16) throws(CatalogError) {
        guard found > format else { return }
        throw CatalogError(
            .unsupportedFormat,
            "The file has format \(found); this program reads up to \(format). A newer program wrote it."
        )
    }

    /// Brings a database to the current format: an empty one gets the schema.
    /// - Throws: `CatalogError` with `.unsupportedFormat` when it is newer, `.damaged` when it isn't an
    ///   index.
    static func prepare(_ database: Database) throws {
        let application = try Int32.fetchOne(database, sql: "PRAGMA application_id") ?? 0
        let version = try Int32.fetchOne(database, sql: "PRAGMA user_version") ?? 0
        let tableCount = try Int.fetchOne(database, sql: "SELECT count(*) FROM sqlite_master") ?? 0
        if application == 0, version == 0, tableCount == 0 { return try create(database) }
        guard application == applicationID, let found = format(of: version) else {
            throw CatalogError(.damaged, "The file is a SQLite database but not a catalog's index.")
        }
        try checkFormat(found)
        guard found >= 1 else { throw CatalogError(.damaged, "The file has format 0, which never was.") }
        for step in migrations[Int(found - 1)...] { try step(database) }
        try setFormat(database)
    }

    /// `migrations[n]` brings format n + 1 to n + 2.
    private static let migrations: [@Sendable (Database) throws -> Void] = [
        // A row of format 1 has nothing that its head would have to know in format 2.
        { try $0.execute(sql: documentTable) }
    ]

    private static let documentTable = """
        CREATE TABLE documents (
            space INTEGER NOT NULL, key BLOB NOT NULL, bytes BLOB NOT NULL, checksum INTEGER NOT NULL,
            PRIMARY KEY (space, key)) WITHOUT ROWID;
        """

    private static func setFormat(_ database: Database) throws {
        let version = userVersion(of: format)
        if try Int32.fetchOne(database, sql: "PRAGMA user_version") != version {
            try database.execute(sql: "PRAGMA user_version = \(version)")
        }
    }

    private static func create(_ database: Database) throws {
        try database.execute(
            sql: """
                CREATE TABLE buckets (
                    number INTEGER PRIMARY KEY, name BLOB NOT NULL UNIQUE,
                    bytes BLOB NOT NULL, checksum INTEGER NOT NULL);
                CREATE TABLE versions (
                    sequence INTEGER PRIMARY KEY, bucket INTEGER NOT NULL, key BLOB NOT NULL, is_null INTEGER,
                    bytes BLOB NOT NULL, checksum INTEGER NOT NULL);
                CREATE UNIQUE INDEX versions_by_key ON versions (bucket, key, sequence DESC);
                CREATE UNIQUE INDEX null_versions ON versions (bucket, key) WHERE is_null = 1;
                CREATE TABLE heads (
                    bucket INTEGER NOT NULL, key BLOB NOT NULL, head BLOB NOT NULL,
                    PRIMARY KEY (bucket, key)) WITHOUT ROWID;
                CREATE TABLE usage (bucket INTEGER PRIMARY KEY, bytes BLOB NOT NULL);
                \(documentTable)
                CREATE TABLE state (
                    one INTEGER PRIMARY KEY CHECK (one = 1), bytes BLOB NOT NULL, checksum INTEGER NOT NULL,
                    importing INTEGER NOT NULL);
                PRAGMA application_id = \(applicationID);
                """
        )
        try StateRow.write(.empty, isImporting: false, database)
        try setFormat(database)
    }
}

/// The one row that says how far the index has come.
enum StateRow {
    static func write(_ state: AppliedState, isImporting: Bool, _ database: Database) throws {
        let bytes = AppliedStateCodec.encode(state)
        let query = try Query(
            database,
            "INSERT OR REPLACE INTO state (one, bytes, checksum, importing) VALUES (1, ?, ?, ?)"
        )
        query.bind(1, bytes)
        query.bind(2, BlockChecksum.xxh3(bytes))
        query.bind(3, isImporting ? 1 : 0)
        try query.run()
    }

    static func read(_ database: Database) throws -> AppliedState {
        let query = try Query(database, "SELECT bytes, checksum, importing FROM state")
        defer { query.reset() }
        guard try query.step() else { throw CatalogError(.damaged, "The applied state is missing.") }
        let bytes = query.bytes(0)
        guard query.integer(1) == BlockChecksum.xxh3(bytes) else {
            throw CatalogError(.damaged, "The applied state has a wrong checksum.")
        }
        guard query.integer(2) == 0 else {
            throw CatalogError(.damaged, "An import of a snapshot was interrupted.")
        }
        do {
            return try AppliedStateCodec.decode(bytes)
        } catch {
            throw CatalogError(
                .damaged,
                "The applied state can't be read: \(error.description).",
                cause: error
            )
        }
    }
}
