internal import StoreModel

/// A buffer over a file that is read once from start to end, in large reads past the page cache: a scrub wants to know what
/// the disk has, and what it reads nobody else needs in memory.
///
/// What the cache still gives a scrub are the 64 bytes of a segment's header and its footer, and what is read again when a
/// repair is verified.
final class ScrubWindow {
    static let byteCount = 2 << 20

    private let buffer: UnsafeMutableRawBufferPointer
    private var file: (any DiskFile)?
    private var limit: UInt64 = 0
    private var start: UInt64 = 0
    private var count = 0
    /// Since they were last taken.
    private(set) var byteCount: UInt64 = 0
    private(set) var readCount: UInt64 = 0

    private static let alignment: UInt64 = 4096

    // What is wanted may begin within a block.
    init() {
        buffer = .allocate(
            byteCount: Self.byteCount + Int(Self.alignment),
            alignment: Int(Self.alignment)
        )
    }

    deinit { buffer.deallocate() }

    func begin(_ file: any DiskFile, limit: UInt64) {
        self.file = file
        self.limit = limit
        count = 0
    }

    func end() { file = nil }

    func takeCounts() -> (bytes: UInt64, reads: UInt64) {
        defer { (byteCount, readCount) = (0, 0) }
        return (byteCount, readCount)
    }

    /// The bytes from a place on: at least `wanted` of them unless the file ends before. Valid until the next call.
    func view(at offset: UInt64, atLeast wanted: Int) throws(DiskError) -> UnsafeRawBufferPointer {
        precondition(wanted <= Self.byteCount, "The window is too small.")
        guard offset < limit else { return UnsafeRawBufferPointer(rebasing: buffer[..<0]) }
        let needed = Int(min(UInt64(wanted), limit - offset))
        if offset < start || offset + UInt64(needed) > start + UInt64(count) {
            try fill(offset, needed)
        }
        let from = Int(offset - start)
        return UnsafeRawBufferPointer(rebasing: buffer[min(from, count)..<count])
    }

    private func fill(_ offset: UInt64, _ needed: Int) throws(DiskError) {
        guard let file else { preconditionFailure("A window is used between begin and end.") }
        count = 0
        start = offset / Self.alignment * Self.alignment
        let least = Self.blocks(offset - start + UInt64(needed))
        let whole = max(least, Self.blocks(min(UInt64(Self.byteCount), limit - start)))
        // What is read next is fetched while this is hashed.
        let next = start + UInt64(whole)
        let ahead = next < limit ? min(UInt64(Self.byteCount), limit - next) : 0
        readCount += 1
        var read: Int
        do throws(DiskError) {
            read = try file.readDirect(into: buffer.slice(0, whole), at: start, aheadByteCount: ahead)
        } catch {
            // The bad sector may lie behind what is wanted.
            guard least < whole else { throw error }
            readCount += 1
            read = try file.readDirect(into: buffer.slice(0, least), at: start, aheadByteCount: 0)
        }
        // Behind the limit somebody may be writing.
        count = Int(min(UInt64(read), limit - start))
        byteCount += UInt64(count) - min(UInt64(count), offset - start)
    }

    private static func blocks(_ byteCount: UInt64) -> Int {
        Int((byteCount + alignment - 1) / alignment * alignment)
    }
}
