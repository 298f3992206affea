internal import CPosix
internal import Glibc
internal import Synchronization

/// Reads of one file that go past the system's page cache (O_DIRECT): they get what the disk has, put nothing into memory
/// that clients' pages would have to leave, and drop nothing from it.
///
/// The next stretch is on its way while the caller works on this one: without that a disk waits while its bytes are hashed.
/// Where the system gives no thread everything is read when it is asked for.
///
/// A file system may refuse direct reads (EINVAL): the file is then read as usual for as long as it is open.
final class DirectReads: Sendable {
    static let alignment = DirectWrites.alignment

    private struct State {
        var descriptor: OwnedDescriptor?
        var isRefused = false
        var hasNoThread = false
        var ahead: ReadAhead?
        /// What is on its way.
        var pending: ReadAhead.Stretch?
        /// For the next stretch.
        var spare: ReadMemory?
    }

    private let state = Mutex(State())

    deinit { close() }

    /// Reads until the buffer is full or the file ends.
    /// - Returns: the bytes read; nil when nothing can be read this way.
    func read(
        into buffer: UnsafeMutableRawBufferPointer,
        at offset: off_t,
        descriptor: Int32,
        path: String
    ) throws(DiskError) -> Int? {
        guard Self.isAligned(buffer), Int(offset).isMultiple(of: Self.alignment),
            let direct = state.withLock({ Self.open(&$0, descriptor) })
        else { return nil }
        return try read(into: buffer, from: 0, at: offset, direct, path)
    }

    /// Reads into the memory from `start` on, until `byteCount` bytes are there or the file ends, and starts to read what
    /// follows.
    /// - Parameters:
    ///   - memory: may be exchanged for other memory of the same size.
    ///   - aheadByteCount: how much of what follows is going to be read.
    /// - Returns: the bytes read; nil when nothing can be read this way.
    func read(
        into memory: inout ReadMemory,
        from start: Int,
        byteCount: Int,
        at offset: off_t,
        aheadByteCount: Int,
        descriptor: Int32,
        path: String
    ) throws(DiskError) -> Int? {
        let place = memory.bytes.slice(start, byteCount)
        guard Self.isAligned(place), Int(offset).isMultiple(of: Self.alignment) else { return nil }
        guard let direct = state.withLock({ Self.open(&$0, descriptor) }) else { return nil }
        let taken = takeAhead(&memory, start, byteCount, offset)
        let buffer = memory.bytes.slice(start, byteCount)
        guard let done = try read(into: buffer, from: taken, at: offset, direct, path) else { return nil }
        if done == byteCount, aheadByteCount > 0 {
            let room = (memory.bytes.count - start) / Self.alignment * Self.alignment
            let count = min(aheadByteCount.roundedUp(to: Self.alignment), room)
            begin(direct, offset + off_t(done), start, count, memory.bytes.count)
        }
        return done
    }

    /// Nothing goes this way from here on.
    func close() { state.withLock { Self.refuse(&$0) } }

    private func read(
        into buffer: UnsafeMutableRawBufferPointer,
        from first: Int,
        at offset: off_t,
        _ direct: OwnedDescriptor,
        _ path: String
    ) throws(DiskError) -> Int? {
        var done = first
        while done < buffer.count, done.isMultiple(of: Self.alignment), let base = buffer.baseAddress {
            let count = pread(direct.value, base + done, buffer.count - done, offset + off_t(done))
            if count == 0 { break }
            if count > 0 {
                done += count
            } else if errno == EINVAL, done == 0 {
                state.withLock { Self.refuse(&$0) }
                return nil
            } else if errno != EINTR {
                throw DiskError.system("pread", path)
            }
        }
        return done
    }

    private static func isAligned(_ buffer: UnsafeMutableRawBufferPointer) -> Bool {
        !buffer.isEmpty && buffer.count.isMultiple(of: alignment)
            && Int(bitPattern: buffer.baseAddress).isMultiple(of: alignment)
    }

    private static func open(_ state: inout State, _ descriptor: Int32) -> OwnedDescriptor? {
        if state.isRefused { return nil }
        if let direct = state.descriptor { return direct }
        let own = holdfast_reopen_direct_reading(descriptor)
        guard own >= 0 else {
            state.isRefused = true
            return nil
        }
        let direct = OwnedDescriptor(own)
        state.descriptor = direct
        return direct
    }

    private static func refuse(_ state: inout State) {
        state = State()
        state.isRefused = true
    }

    // MARK: Ahead

    private func begin(
        _ direct: OwnedDescriptor,
        _ offset: off_t,
        _ start: Int,
        _ byteCount: Int,
        _ memoryByteCount: Int
    ) {
        state.withLock { state in
            // Several may read one file: only one of them is read ahead for.
            guard !state.isRefused, !state.hasNoThread, state.pending == nil, byteCount > 0 else { return }
            guard let ahead = state.ahead ?? ReadAhead() else {
                state.hasNoThread = true
                return
            }
            state.ahead = ahead
            var spare = state.spare
            state.spare = nil
            if spare?.bytes.count != memoryByteCount { spare = nil }
            let stretch = ReadAhead.Stretch(
                descriptor: direct,
                memory: spare ?? ReadMemory(byteCount: memoryByteCount),
                start: start,
                byteCount: byteCount,
                offset: offset
            )
            state.pending = stretch
            ahead.begin(stretch)
        }
    }

    /// Waits for what is on its way and takes it when it is what is wanted. An error is left to who reads the place.
    /// - Returns: how many of the wanted bytes are in `memory` now.
    private func takeAhead(_ memory: inout ReadMemory, _ start: Int, _ byteCount: Int, _ offset: off_t) -> Int
    {
        let onItsWay = state.withLock { state -> (ReadAhead, ReadAhead.Stretch)? in
            guard let ahead = state.ahead, let pending = state.pending else { return nil }
            (state.ahead, state.pending) = (nil, nil)
            return (ahead, pending)
        }
        guard let (ahead, pending) = onItsWay else { return 0 }
        // Beside the lock: who closes the file does not wait.
        let count = ahead.end()
        var spare = pending.memory
        let isWanted =
            pending.offset == offset && pending.start == start && count > 0
            && spare.bytes.count == memory.bytes.count
        if isWanted { swap(&memory, &spare) }
        let left = spare
        state.withLock { state in
            guard !state.isRefused, state.ahead == nil else { return }
            (state.ahead, state.spare) = (ahead, left)
        }
        return isWanted ? min(count, byteCount) : 0
    }
}

extension Int {
    fileprivate func roundedUp(to step: Int) -> Int { (self + step - 1) / step * step }
}
