internal import Catalog
internal import GRDB
internal import GRDBSQLite

/// One use of a prepared statement that GRDB caches on its connection.
///
/// Columns are read through SQLite's own functions, which convert where a type isn't the expected one: in a
/// damaged file a blob may have become text or NULL, and that has to end in a wrong checksum, never in a
/// trap. Two uses of one SQL text on one connection may not overlap.
struct Query {
    private let statement: Statement
    private let handle: OpaquePointer

    /// Tells SQLite to copy bound bytes before the call returns.
    private static var copied: sqlite3_destructor_type { unsafeBitCast(-1, to: sqlite3_destructor_type.self) }

    init(_ database: Database, _ sql: String) throws {
        statement = try database.cachedStatement(sql: sql)
        handle = statement.sqliteStatement
        sqlite3_reset(handle)
    }

    /// Integers of 64 bits are kept as SQLite's signed ones, bit for bit.
    func bind(_ index: Int32, _ value: UInt64) {
        check(sqlite3_bind_int64(handle, index, Int64(bitPattern: value)))
    }

    func bind(_ index: Int32, _ bytes: [UInt8]) {
        guard !bytes.isEmpty else { return check(sqlite3_bind_zeroblob(handle, index, 0)) }
        bytes.withUnsafeBytes { buffer in
            check(sqlite3_bind_blob64(handle, index, buffer.baseAddress, UInt64(buffer.count), Self.copied))
        }
    }

    func bindNull(_ index: Int32) { check(sqlite3_bind_null(handle, index)) }

    /// - Returns: whether there is a row.
    func step() throws -> Bool {
        switch sqlite3_step(handle) {
        case SQLITE_ROW: return true
        case SQLITE_DONE: return false
        default:
            let connection = sqlite3_db_handle(handle)
            let error = DatabaseError(
                resultCode: ResultCode(rawValue: sqlite3_extended_errcode(connection)),
                message: String(cString: sqlite3_errmsg(connection))
            )
            sqlite3_reset(handle)
            throw error
        }
    }

    /// Runs a statement that gives no rows.
    func run() throws {
        _ = try step()
        reset()
    }

    /// Ends the use; a read that isn't ended holds its transaction open.
    func reset() { sqlite3_reset(handle) }

    func integer(_ column: Int32) -> UInt64 { UInt64(bitPattern: sqlite3_column_int64(handle, column)) }

    func isNull(_ column: Int32) -> Bool { sqlite3_column_type(handle, column) == SQLITE_NULL }

    func bytes(_ column: Int32) -> [UInt8] {
        // The pointer first: it may convert the value, and the count is that of what it converted to.
        guard let start = sqlite3_column_blob(handle, column) else { return [] }
        return [UInt8](UnsafeRawBufferPointer(start: start, count: Int(sqlite3_column_bytes(handle, column))))
    }

    /// Binding fails only for a wrong index, a statement in use, or no memory.
    private func check(_ code: Int32) {
        precondition(code == SQLITE_OK, "SQLite refused to bind a value: \(code).")
    }
}

extension Database {
    /// Rows that the last INSERT, UPDATE or DELETE changed.
    var lastChangeCount: Int { Int(sqlite3_changes(sqliteConnection)) }
}

extension CatalogError {
    init(_ error: DatabaseError) {
        let message = "SQLite: \(error.message ?? "no message") (\(error.extendedResultCode.rawValue))."
        switch error.resultCode {
        case .SQLITE_CORRUPT, .SQLITE_NOTADB, .SQLITE_CONSTRAINT, .SQLITE_MISMATCH, .SQLITE_FORMAT:
            self.init(.damaged, message, cause: error)
        case .SQLITE_FULL:
            self.init(.full, message, cause: error)
        case .SQLITE_MISUSE:
            self.init(.closed, message, cause: error)
        case .SQLITE_ERROR where Self.speaksOfSchema(error):
            self.init(.damaged, message, cause: error)
        default:
            self.init(.inputOutput, message, cause: error)
        }
    }

    /// A table or column that isn't there, in a file whose format says that it is: the schema's page is
    /// damaged.
    private static func speaksOfSchema(_ error: DatabaseError) -> Bool {
        let message = error.message ?? ""
        return message.contains("no such table") || message.contains("no such column")
            || message.contains("no such index") || message.contains("malformed")
    }

    /// Runs `body` and gives its errors as catalog errors.
    static func mapping<Value>(_ body: () throws -> Value) throws(CatalogError) -> Value {
        do {
            return try body()
        } catch let error as CatalogError {
            throw error
        } catch let error as DatabaseError {
            throw CatalogError(error)
        } catch {
            throw CatalogError(.inputOutput, "\(error)", cause: error)
        }
    }
}
