internal import Catalog
internal import GRDB
internal import Glibc

/// What can be said of the file without SQLite.
enum IndexFile {
    private static let magic = Array("SQLite format 3\0".utf8)
    /// Of SQLite's file header.
    private static let headerSize = 100
    private static let userVersionOffset = 60
    private static let applicationIDOffset = 68

    /// The file's size; 0 when there is none.
    static func size(_ path: String) -> Int64 {
        var status = stat()
        return stat(path, &status) == 0 ? Int64(status.st_size) : 0
    }

    /// - Throws: `.damaged` when there is a file and it doesn't begin like a database; `.unsupportedFormat`
    ///   when it is an index of a newer format, which is so found before SQLite opens it for writing.
    static func checkHeader(_ path: String) throws(CatalogError) {
        guard size(path) > 0 else { return }
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else {
            throw CatalogError(.inputOutput, "The file \(path) can't be opened: errno \(errno).")
        }
        defer { _ = Glibc.close(descriptor) }
        var header = [UInt8](repeating: 0, count: headerSize)
        let count = pread(descriptor, &header, header.count, 0)
        guard count >= 0 else {
            throw CatalogError(.inputOutput, "The file \(path) can't be read: errno \(errno).")
        }
        guard count == headerSize, header.starts(with: magic) else {
            throw CatalogError(.damaged, "The file \(path) is not a database.")
        }
        guard integer(header, at: applicationIDOffset) == CatalogSchema.applicationID,
            let format = CatalogSchema.format(of: integer(header, at: userVersionOffset))
        else { return }
        try CatalogSchema.checkFormat(format)
    }

    private static func integer(_ header: [UInt8], at offset: Int) -> Int32 {
        Int32(bitPattern: header[offset..<offset + 4].reduce(0) { $0 << 8 | UInt32($1) })
    }

    /// SQLite finds a missing page when it first needs it; here it is found at once.
    static func checkLength(_ path: String, _ pool: DatabasePool) throws {
        // Everything into the file, so that its own length counts. No reader is there yet to hinder it.
        try pool.writeWithoutTransaction { database in
            _ = try database.checkpoint(.truncate)
            let pageCount = try Int64.fetchOne(database, sql: "PRAGMA page_count") ?? 0
            let pageSize = try Int64.fetchOne(database, sql: "PRAGMA page_size") ?? 0
            guard size(path) >= pageCount * pageSize else {
                throw CatalogError(
                    .damaged,
                    "The file \(path) has \(size(path)) bytes; it should have \(pageCount * pageSize)."
                )
            }
        }
    }
}
