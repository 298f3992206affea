/// The file layer under a volume, as a seam: `PosixDisk` is the product's, the test kit wraps or replaces it to
/// inject faults and crashes.
///
/// A disk is one directory that is held open; names are relative to it, have at most one slash, and never `..`.
/// All calls block. All calls may be made from any thread, but one file is written by one thread at a time.
///
/// #### Durability contract
/// 1. Bytes written to a file are durable once `sync()` of that file has returned without error.
/// 2. A created, renamed or removed name is durable once `syncDirectory` of its directory has returned.
/// 3. After a `sync()` that failed nothing written since the last good one may be relied on, and a later `sync()`
///    that succeeds proves nothing: the file must not be written again.
package protocol Disk: Sendable {
    /// What a person calls this place: a path, for messages.
    var label: String { get }

    func open(_ name: String, _ mode: DiskOpenMode) throws(DiskError) -> any DiskFile
    func exists(_ name: String) throws(DiskError) -> Bool
    /// Names in a directory ("" is the root), in no order.
    func list(_ directory: String) throws(DiskError) -> [String]
    /// Makes a directory; no error when it is there.
    func makeDirectory(_ name: String) throws(DiskError)
    /// Renames within the disk, over an existing file.
    func rename(_ source: String, to destination: String) throws(DiskError)
    func remove(_ name: String) throws(DiskError)
    func syncDirectory(_ name: String) throws(DiskError)
    /// Takes the exclusive lock of this disk, writes `content` into the lock file and holds the lock until released.
    /// - Throws: `.locked` with the content that the holder wrote.
    func lock(_ name: String, content: [UInt8]) throws(DiskError) -> any DiskLock
    func space() throws(DiskError) -> DiskSpace
    /// Identity of the device under the directory (st_dev): two volumes of one device share its fate.
    func deviceID() throws(DiskError) -> UInt64
    /// When a file was last written, in milliseconds since 1970; nil where that can't be told. For display and for
    /// throwing away the oldest, never for what is true.
    func modificationTime(of name: String) -> Int64?
}

package enum DiskOpenMode: Sendable {
    /// For reading; the file must exist.
    case read
    /// For reading and writing; the file must exist.
    case update
    /// For reading and writing; the file must not exist.
    case create
}

package protocol DiskLock: AnyObject, Sendable {
    func release()
}

package struct DiskSpace: Sendable, Equatable {
    package var freeBytes: UInt64
    package var totalBytes: UInt64

    package init(freeBytes: UInt64, totalBytes: UInt64) {
        self.freeBytes = freeBytes
        self.totalBytes = totalBytes
    }
}

/// One open file. Closed when released.
package protocol DiskFile: AnyObject, Sendable {
    /// Reads until `buffer` is full or the file ends; returns the bytes read.
    func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(DiskError) -> Int
    /// As `read`, but what the disk has, past the system's page cache where it allows that: nothing is put into the cache
    /// and nothing dropped from it. `offset`, and the buffer's address and length, are multiples of 4,096.
    func readDirect(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(DiskError) -> Int
    /// The same into memory from `start` on, for who reads on and on.
    /// - Parameters:
    ///   - memory: may be exchanged for other memory of the same size: only what was read is in it then.
    ///   - aheadByteCount: how many of the bytes that follow are read next: they may be fetched meanwhile.
    func readDirect(
        into memory: inout ReadMemory,
        from start: Int,
        byteCount: Int,
        at offset: UInt64,
        aheadByteCount: UInt64
    ) throws(DiskError) -> Int
    /// Reads what the system has in memory, without waiting: nil when that is nothing, or can't be told. Fewer bytes
    /// than asked for say nothing about the end of the file.
    /// - Parameter rest: where what follows goes when `buffer` is full.
    func readCached(
        into buffer: UnsafeMutableRawBufferPointer,
        _ rest: UnsafeMutableRawBufferPointer,
        at offset: UInt64
    ) -> Int?
    /// Writes all pieces one after the other from `offset`, as one vectored write where the system can.
    func write(_ pieces: [UnsafeRawBufferPointer], at offset: UInt64) throws(DiskError)
    /// A hint: from now on writes may go past the system's page cache. For files that are written from start to end
    /// in large pieces and seldom read soon after. What lies at or behind `zeroedFrom` is zero and was never written.
    /// It lasts until `truncate`.
    func bypassCache(zeroedFrom: UInt64)
    /// As `write`, past the system's page cache where it allows that: for large stretches that are not read again soon.
    /// `offset` and the length of all pieces together are multiples of 4,096.
    func writeDirect(_ pieces: [UnsafeRawBufferPointer], at offset: UInt64) throws(DiskError)
    /// fdatasync.
    func sync() throws(DiskError)
    /// Starts writing a range back without waiting. Not a promise of anything.
    func startWriteback(offset: UInt64, length: UInt64) throws(DiskError)
    /// Cuts or extends (with zeros, unallocated).
    func truncate(to size: UInt64) throws(DiskError)
    /// Frees the blocks of a range, which then reads as zeros; the size stays.
    func punchHole(offset: UInt64, length: UInt64) throws(DiskError)
    func size() throws(DiskError) -> UInt64
    /// Bytes that the file system has allocated.
    func allocatedSize() throws(DiskError) -> UInt64
    func close()
}

/// A failed call of the file layer.
package struct DiskError: Error, Sendable, CustomStringConvertible {
    package struct Code: Hashable, Sendable {
        fileprivate enum Value: String {
            case notFound, exists, full, locked, readOnly, permission, isDirectory, inputOutput
        }
        fileprivate let value: Value

        package static let notFound = Code(value: .notFound)
        package static let exists = Code(value: .exists)
        /// ENOSPC or EDQUOT: a state of the volume, not a failure of it.
        package static let full = Code(value: .full)
        package static let locked = Code(value: .locked)
        package static let readOnly = Code(value: .readOnly)
        package static let permission = Code(value: .permission)
        package static let isDirectory = Code(value: .isDirectory)
        package static let inputOutput = Code(value: .inputOutput)
    }

    package let code: Code
    /// The call that failed, as in `fdatasync`.
    package let call: String
    package let path: String
    /// errno, or 0 where there is none.
    package let number: Int32
    /// More about it: the holder of a lock, the system's text.
    package let detail: String

    package init(_ code: Code, call: String, path: String, number: Int32 = 0, detail: String = "") {
        self.code = code
        self.call = call
        self.path = path
        self.number = number
        self.detail = detail
    }

    package var description: String {
        "\(call) \(path): \(detail.isEmpty ? code.value.rawValue : detail)"
            + (number == 0 ? "" : " (errno \(number))")
    }
}

extension DiskFile {
    package func bypassCache(zeroedFrom: UInt64) {}

    package func readDirect(
        into buffer: UnsafeMutableRawBufferPointer,
        at offset: UInt64
    ) throws(DiskError) -> Int {
        try read(into: buffer, at: offset)
    }

    package func readDirect(
        into memory: inout ReadMemory,
        from start: Int,
        byteCount: Int,
        at offset: UInt64,
        aheadByteCount: UInt64
    ) throws(DiskError) -> Int {
        try readDirect(into: memory.bytes.slice(start, byteCount), at: offset)
    }

    package func readCached(
        into buffer: UnsafeMutableRawBufferPointer,
        _ rest: UnsafeMutableRawBufferPointer,
        at offset: UInt64
    ) -> Int? { nil }

    package func readCached(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) -> Int? {
        readCached(into: buffer, UnsafeMutableRawBufferPointer(start: nil, count: 0), at: offset)
    }

    /// Writes one array.
    package func write(_ bytes: [UInt8], at offset: UInt64) throws(DiskError) {
        try bytes.withUnsafeBufferPointer { buffer throws(DiskError) in
            try write([UnsafeRawBufferPointer(buffer)], at: offset)
        }
    }

    /// Reads up to `count` bytes; fewer at the end of the file.
    package func read(count: Int, at offset: UInt64) throws(DiskError) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        let done = try bytes.withUnsafeMutableBufferPointer { buffer throws(DiskError) in
            try read(into: UnsafeMutableRawBufferPointer(buffer), at: offset)
        }
        bytes.removeLast(count - done)
        return bytes
    }
}

extension Disk {
    package func modificationTime(of name: String) -> Int64? { nil }

    /// Puts a small file of the root in the place of another, whole or not at all: temporary name, fsync, rename, fsync
    /// of the directory.
    package func replaceFile(_ name: String, with bytes: [UInt8]) throws(DiskError) {
        let temporary = name + ".new"
        if try exists(temporary) { try remove(temporary) }
        let file = try open(temporary, .create)
        defer { file.close() }
        try file.write(bytes, at: 0)
        try file.sync()
        try rename(temporary, to: name)
        try syncDirectory("")
    }

    /// Reads a file of at most `byteCountMax` bytes; of a longer one, one byte more than that.
    package func readFile(_ name: String, byteCountMax: Int) throws(DiskError) -> [UInt8] {
        let file = try open(name, .read)
        defer { file.close() }
        return try file.read(count: min(Int(clamping: try file.size()), byteCountMax + 1), at: 0)
    }
}
