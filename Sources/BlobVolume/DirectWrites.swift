internal import CPosix
internal import Glibc
internal import Synchronization

/// Writes of one file that go past the system's page cache (O_DIRECT): the processor copies nothing into pages that
/// nobody will read soon, and a fsync behind them finds nothing to write.
///
/// The system takes such writes only from memory at a multiple of its block size. Pieces that stand so are written where
/// they are; others go through memory of the disk's.
///
/// A file system may refuse (EINVAL): everything is then written as usual, from that write on and for as long as the
/// file is open. Nothing else depends on which way bytes took: both are coherent, and neither is durable before an
/// fsync.
final class DirectWrites: Sendable {
    /// Offsets, lengths and addresses are multiples of this: no device that is known wants more.
    static let alignment = 4096

    private enum State {
        case untried
        case open(OwnedDescriptor)
        case refused
    }

    private let state = Mutex(State.untried)
    private let buffer: DirectBuffer

    init(_ buffer: DirectBuffer) { self.buffer = buffer }

    /// Writes as much as the system takes this way.
    /// - Parameter descriptor: the file, open for reading and writing.
    /// - Returns: how many bytes are written; the rest is to be written as usual.
    func write(
        _ pieces: [UnsafeRawBufferPointer],
        at offset: off_t,
        descriptor: Int32,
        path: String
    ) throws(DiskError) -> Int {
        let total = pieces.reduce(0) { $0 + $1.count }
        precondition(
            Int(offset).isMultiple(of: Self.alignment) && total.isMultiple(of: Self.alignment),
            "A write past the page cache takes whole blocks."
        )
        guard let direct = open(descriptor) else { return 0 }
        let done = try buffer.withBytes { bytes throws(DiskError) in
            try Self.write(pieces, through: bytes, to: direct.value, at: offset, path)
        }
        if done < total { close() }
        return done
    }

    /// Nothing goes this way from here on.
    func close() { state.withLock { $0 = .refused } }

    private func open(_ descriptor: Int32) -> OwnedDescriptor? {
        state.withLock { state in
            if case .untried = state {
                let direct = holdfast_reopen_direct(descriptor)
                state = direct >= 0 ? .open(OwnedDescriptor(direct)) : .refused
            }
            if case .open(let direct) = state { return direct }
            return nil
        }
    }

    private static func write(
        _ pieces: [UnsafeRawBufferPointer],
        through bytes: UnsafeMutableRawBufferPointer,
        to descriptor: Int32,
        at offset: off_t,
        _ path: String
    ) throws(DiskError) -> Int {
        var source = AlignedPieces(pieces)
        var done = 0
        while true {
            var vectors = source.next(through: bytes)
            if vectors.isEmpty { return done }
            var next = 0
            while next < vectors.count {
                let position = offset + off_t(done)
                let count = vectors.withUnsafeBufferPointer { all in
                    pwritev(descriptor, all.baseAddress.map { $0 + next }, Int32(all.count - next), position)
                }
                if count > 0 {
                    done += count
                    // After a short write within a block it can't go on this way.
                    if !count.isMultiple(of: alignment) { return done }
                    vectors.skip(count, from: &next)
                } else if count == 0 {
                    throw DiskError(.inputOutput, call: "pwritev", path: path, detail: "nothing was written")
                } else if errno == EINVAL {
                    return done
                } else if errno != EINTR {
                    throw DiskError.system("pwritev", path)
                }
            }
        }
    }
}

/// The memory that direct writes of one disk go through, one at a time.
final class DirectBuffer: Sendable {
    private static let byteCount = 1 << 20

    private struct Memory {
        var bytes: UnsafeMutableRawBufferPointer?
    }

    private let memory = Mutex(Memory())

    deinit { memory.withLock { $0.bytes?.deallocate() } }

    /// Lends the memory, which is allocated when it is first needed.
    func withBytes<Value: Sendable>(
        _ body: (UnsafeMutableRawBufferPointer) throws(DiskError) -> Value
    ) throws(DiskError) -> Value {
        try memory.withLock { memory throws(DiskError) in
            let bytes =
                memory.bytes
                ?? .allocate(byteCount: Self.byteCount, alignment: DirectWrites.alignment)
            memory.bytes = bytes
            return try body(bytes)
        }
    }
}

/// Stretches of memory as vectors that begin and end at multiples of the alignment.
private struct AlignedPieces {
    private static let vectorCountMax = 64

    private let pieces: [UnsafeRawBufferPointer]
    private var index = 0
    private var offset = 0

    init(_ pieces: [UnsafeRawBufferPointer]) { self.pieces = pieces }

    /// The next vectors: pieces that are aligned as they are, the others in `bytes`. None when nothing is left.
    mutating func next(through bytes: UnsafeMutableRawBufferPointer) -> [iovec] {
        var vectors: [iovec] = []
        var used = 0
        var isGrowing = false
        while index < pieces.count, vectors.count < Self.vectorCountMax {
            let piece = pieces[index]
            if offset == 0, used.isMultiple(of: DirectWrites.alignment), Self.isAligned(piece) {
                vectors.append(
                    iovec(
                        iov_base: UnsafeMutableRawPointer(mutating: piece.baseAddress),
                        iov_len: piece.count
                    )
                )
                index += 1
                isGrowing = false
                continue
            }
            let count = min(piece.count - offset, bytes.count - used)
            let target = UnsafeMutableRawBufferPointer(rebasing: bytes[used..<used + count])
            target.copyMemory(from: UnsafeRawBufferPointer(rebasing: piece[offset..<offset + count]))
            if isGrowing {
                vectors[vectors.count - 1].iov_len += count
            } else if count > 0 {
                vectors.append(iovec(iov_base: target.baseAddress, iov_len: count))
                isGrowing = true
            }
            used += count
            offset += count
            if offset == piece.count { (index, offset) = (index + 1, 0) }
            if used == bytes.count { break }
        }
        return vectors
    }

    private static func isAligned(_ piece: UnsafeRawBufferPointer) -> Bool {
        !piece.isEmpty && piece.count.isMultiple(of: DirectWrites.alignment)
            && Int(bitPattern: piece.baseAddress).isMultiple(of: DirectWrites.alignment)
    }
}

extension [iovec] {
    /// Takes off what was written.
    /// - Parameter next: the first vector that is not written whole.
    mutating func skip(_ byteCount: Int, from next: inout Int) {
        var left = byteCount
        while left > 0 && next < count {
            if self[next].iov_len <= left {
                left -= self[next].iov_len
                next += 1
            } else {
                self[next].iov_base += left
                self[next].iov_len -= left
                left = 0
            }
        }
    }
}
