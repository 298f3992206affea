internal import StoreModel

/// A buffer over a file that is read once from start to end, in large reads.
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

    init() { buffer = .allocate(byteCount: Self.byteCount, alignment: 4096) }

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
        let whole = Int(min(UInt64(Self.byteCount), limit - offset))
        count = 0
        start = offset
        readCount += 1
        do throws(DiskError) {
            count = try file.read(into: buffer.slice(0, whole), at: offset)
        } catch {
            // The bad sector may lie behind what is wanted.
            guard needed < whole else { throw error }
            readCount += 1
            count = try file.read(into: buffer.slice(0, needed), at: offset)
        }
        byteCount += UInt64(count)
        let next = offset + UInt64(whole)
        // What is read next is fetched while this is hashed.
        if next < limit { file.prefetch(offset: next, length: min(UInt64(Self.byteCount), limit - next)) }
    }
}
