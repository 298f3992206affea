internal import StoreModel

/// A buffer over a file that is read once from start to end, in large reads past the page cache: a scrub wants to know what
/// the disk has, and what it reads nobody else needs in memory.
///
/// What the cache still gives a scrub are the 64 bytes of a segment's header and its footer, and what is read again when a
/// repair is verified.
final class ScrubWindow {
    static let byteCount = 2 << 20

    private static let alignment: UInt64 = 4096
    /// What is wanted and begins at the end of one window is kept for the next one, up to so many bytes: the disk is read in
    /// one line then, and what was fetched ahead is what comes next.
    private static let keptByteCountMax = 256 << 10

    // Room for what is kept, and for a window; what is wanted may begin within a block.
    private var memory = ReadMemory(
        byteCount: ScrubWindow.keptByteCountMax + ScrubWindow.byteCount + Int(ScrubWindow.alignment)
    )
    /// What is kept, while the memory is exchanged.
    private let kept = UnsafeMutableRawBufferPointer.allocate(
        byteCount: ScrubWindow.keptByteCountMax,
        alignment: 64
    )
    /// Where the window begins in the memory.
    private var base = ScrubWindow.keptByteCountMax
    private var file: (any DiskFile)?
    private var limit: UInt64 = 0
    private var start: UInt64 = 0
    private var count = 0
    /// Since they were last taken.
    private(set) var byteCount: UInt64 = 0
    private(set) var readCount: UInt64 = 0

    deinit { kept.deallocate() }

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
        guard offset < limit else { return UnsafeRawBufferPointer(rebasing: memory.bytes[..<0]) }
        let needed = Int(min(UInt64(wanted), limit - offset))
        if offset < start || offset + UInt64(needed) > start + UInt64(count) {
            try fill(offset, needed)
        }
        let from = Int(offset - start)
        return UnsafeRawBufferPointer(rebasing: memory.bytes[(base + min(from, count))..<(base + count)])
    }

    private func fill(_ offset: UInt64, _ needed: Int) throws(DiskError) {
        guard let file else { preconditionFailure("A window is used between begin and end.") }
        let keptCount = keep(from: offset)
        start = offset / Self.alignment * Self.alignment
        count = 0
        defer { putBack(keptCount) }
        let place = start + UInt64(keptCount)
        let least = Self.blocks(offset - start + UInt64(needed) - UInt64(keptCount))
        let whole = max(least, Self.blocks(min(UInt64(Self.byteCount), limit - place)))
        // What is read next is fetched while this is hashed.
        let next = place + UInt64(whole)
        let ahead = next < limit ? min(UInt64(Self.byteCount), limit - next) : 0
        var read: Int
        do throws(DiskError) {
            read = try self.read(file, whole, at: place, aheadByteCount: ahead)
        } catch {
            // The bad sector may lie behind what is wanted.
            guard least < whole else { throw error }
            read = try self.read(file, least, at: place, aheadByteCount: 0)
        }
        // Behind the limit somebody may be writing.
        count = Int(min(UInt64(read), limit - place))
        byteCount += UInt64(count) - (keptCount > 0 ? 0 : min(UInt64(count), offset - start))
    }

    private func read(_ file: any DiskFile, _ wanted: Int, at place: UInt64, aheadByteCount: UInt64)
        throws(DiskError) -> Int
    {
        readCount += 1
        return try file.readDirect(
            into: &memory,
            from: Self.keptByteCountMax,
            byteCount: wanted,
            at: place,
            aheadByteCount: aheadByteCount
        )
    }

    /// Sets aside what is there from the block of a place on.
    /// - Returns: how many bytes that are, whole blocks; 0 where what follows can't be read behind them.
    private func keep(from offset: UInt64) -> Int {
        let first = offset / Self.alignment * Self.alignment
        let end = start + UInt64(count)
        guard count > 0, first >= start, first < end, end < limit, end.isMultiple(of: Self.alignment),
            end - first <= UInt64(Self.keptByteCountMax)
        else { return 0 }
        let byteCount = Int(end - first)
        kept.copyMemory(
            from: UnsafeRawBufferPointer(memory.bytes.slice(base + Int(first - start), byteCount))
        )
        return byteCount
    }

    /// Puts what was set aside in front of what was read.
    private func putBack(_ byteCount: Int) {
        base = Self.keptByteCountMax - byteCount
        count += byteCount
        guard byteCount > 0 else { return }
        memory.bytes.slice(base, byteCount).copyMemory(
            from: UnsafeRawBufferPointer(kept.slice(0, byteCount))
        )
    }

    private static func blocks(_ byteCount: UInt64) -> Int {
        Int((byteCount + alignment - 1) / alignment * alignment)
    }
}
