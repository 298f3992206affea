internal import CPosix
internal import Glibc

/// Writes a file past the page cache, in whole blocks: what is written once and seldom read soon after costs a copy
/// into the cache, its pages, and a walk over them at the next fdatasync.
///
/// The system takes whole blocks at whole blocks' offsets from aligned memory. A write that begins or ends inside a
/// block therefore writes the block's other bytes again, as they are:
/// 1. The block in which the last write ended is kept, so appending reads nothing.
/// 2. What lies at or behind `zeroedFrom` was never written and is zero.
/// 3. Anything else is read from the file first.
///
/// Writing a block's older bytes again is what the page cache does as well: the device replaces a sector by one with
/// the same bytes in it.
struct DirectWriter: ~Copyable, @unchecked Sendable {
    // Sendable because the value can't be copied: the buffer is its own, and every use needs exclusive access.
    static let blockByteCount = 4096
    /// One call of the system writes at most so much.
    private static let bufferByteCount = 256 << 10

    private let descriptor: Int32
    private let buffer: UnsafeMutableRawBufferPointer
    private var tail: [UInt8] = []
    /// Where the block in `tail` stands; nil while none is kept.
    private var tailOffset: UInt64?
    private var zeroedFrom: UInt64

    /// - Returns: nil where the file system does not offer it.
    init?(_ descriptor: Int32, zeroedFrom: UInt64) {
        let own = holdfast_reopen_direct(descriptor)
        guard own >= 0 else { return nil }
        self.descriptor = own
        self.zeroedFrom = zeroedFrom
        buffer = UnsafeMutableRawBufferPointer.allocate(
            byteCount: Self.bufferByteCount,
            alignment: Self.blockByteCount
        )
    }

    deinit {
        buffer.deallocate()
        Glibc.close(descriptor)
    }

    /// - Throws: with `isRefused` when the system does not write this file this way: the whole write is to be done
    ///   another way then.
    mutating func write(_ pieces: [UnsafeRawBufferPointer], at offset: UInt64) throws(Failure) {
        let block = UInt64(Self.blockByteCount)
        if pieces.count == 1, Self.isAligned(pieces[0]), offset % block == 0 {
            try flush(pieces[0], at: offset)
            zeroedFrom = max(zeroedFrom, offset + UInt64(pieces[0].count))
            return
        }
        var start = offset / block * block
        var count = Int(offset - start)
        if count > 0 { try load(blockAt: start, at: 0) }
        // A write that ends in its first block finds the rest of the block there.
        var loadedEnd = count > 0 ? Self.blockByteCount : 0
        for piece in pieces {
            var taken = 0
            while taken < piece.count {
                let step = min(piece.count - taken, buffer.count - count)
                UnsafeMutableRawBufferPointer(rebasing: buffer[count..<count + step])
                    .copyMemory(from: UnsafeRawBufferPointer(rebasing: piece[taken..<taken + step]))
                taken += step
                count += step
                guard count == buffer.count else { continue }
                try flush(count, at: start)
                start += UInt64(count)
                count = 0
                loadedEnd = 0
            }
        }
        let end = start + UInt64(count)
        let isPartial = count % Self.blockByteCount != 0
        let last = count / Self.blockByteCount * Self.blockByteCount
        if isPartial {
            if count > loadedEnd {
                try complete(from: count, lastBlockAt: last, fileOffset: start + UInt64(last))
            }
            count = last + Self.blockByteCount
        }
        if count > 0 { try flush(count, at: start) }
        zeroedFrom = max(zeroedFrom, end)
        tailOffset = isPartial ? start + UInt64(last) : nil
        if isPartial {
            tail = [UInt8](UnsafeRawBufferPointer(rebasing: buffer[last..<last + Self.blockByteCount]))
        }
    }

    struct Failure: Error {
        let number: Int32
        let call: String
        let isRefused: Bool
    }

    /// Fills the part of the last block that is not written with what is in the file.
    private mutating func complete(from count: Int, lastBlockAt last: Int, fileOffset: UInt64) throws(Failure)
    {
        let written = [UInt8](UnsafeRawBufferPointer(rebasing: buffer[last..<count]))
        try load(blockAt: fileOffset, at: last)
        UnsafeMutableRawBufferPointer(rebasing: buffer[last..<count]).copyBytes(from: written)
    }

    /// Puts a block of the file into the buffer.
    private mutating func load(blockAt offset: UInt64, at place: Int) throws(Failure) {
        let target = UnsafeMutableRawBufferPointer(rebasing: buffer[place..<place + Self.blockByteCount])
        if offset == tailOffset {
            target.copyBytes(from: tail)
            return
        }
        target.initializeMemory(as: UInt8.self, repeating: 0)
        if offset >= zeroedFrom { return }
        while true {
            let count = pread(descriptor, target.baseAddress, target.count, off_t(clamping: offset))
            // Fewer bytes: the file ends there.
            if count >= 0 { return }
            guard errno == EINTR else { throw failure("pread") }
        }
    }

    private static func isAligned(_ piece: UnsafeRawBufferPointer) -> Bool {
        piece.count % blockByteCount == 0 && UInt(bitPattern: piece.baseAddress) % UInt(blockByteCount) == 0
    }

    private mutating func flush(_ count: Int, at offset: UInt64) throws(Failure) {
        try flush(UnsafeRawBufferPointer(rebasing: buffer[..<count]), at: offset)
    }

    private mutating func flush(_ blocks: UnsafeRawBufferPointer, at offset: UInt64) throws(Failure) {
        tailOffset = nil
        var done = 0
        while done < blocks.count {
            let rest = UnsafeRawBufferPointer(rebasing: blocks[done...])
            var vector = iovec(
                iov_base: UnsafeMutableRawPointer(mutating: rest.baseAddress),
                iov_len: rest.count
            )
            let written = pwritev(descriptor, &vector, 1, off_t(clamping: offset + UInt64(done)))
            if written > 0 {
                done += written
            } else if written == 0 || errno != EINTR {
                // Part of it may stand behind what counted as never written.
                zeroedFrom = .max
                throw failure("pwritev")
            }
        }
    }

    private func failure(_ call: String) -> Failure {
        let number = errno
        return Failure(number: number, call: call, isRefused: number == EINVAL || number == EOPNOTSUPP)
    }
}
