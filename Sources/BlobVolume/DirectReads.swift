internal import CPosix
internal import Glibc
internal import Synchronization

/// Reads of one file that go past the system's page cache (O_DIRECT): they get what the disk has, put nothing into memory
/// that clients' pages would have to leave, and drop nothing from it.
///
/// The next stretch is on its way while the caller works on this one (Linux AIO): without that a disk waits while its
/// bytes are hashed. Where the system has no such calls everything is read when it is asked for.
///
/// A file system may refuse direct reads (EINVAL): the file is then read as usual for as long as it is open.
final class DirectReads: Sendable {
    static let alignment = DirectWrites.alignment

    // Sendable because the memory is the state's own, and used only under its lock.
    private struct State: @unchecked Sendable {
        var descriptor: OwnedDescriptor?
        var isRefused = false
        /// Of the kernel's queue; 0: none yet.
        var context: UInt = 0
        var hasQueue = true
        var ahead: UnsafeMutableRawBufferPointer?
        /// What is on its way into `ahead`.
        var pending: Range<off_t>?
    }

    private let state = Mutex(State())

    deinit { close() }

    /// Reads until the buffer is full or the file ends, and starts to read what follows.
    /// - Parameter aheadByteCount: how much of what follows is going to be read.
    /// - Returns: the bytes read; nil when nothing can be read this way.
    func read(
        into buffer: UnsafeMutableRawBufferPointer,
        at offset: off_t,
        aheadByteCount: Int,
        descriptor: Int32,
        path: String
    ) throws(DiskError) -> Int? {
        guard Self.isAligned(buffer), Int(offset).isMultiple(of: Self.alignment) else { return nil }
        return try state.withLock { state throws(DiskError) in
            guard let direct = Self.open(&state, descriptor) else { return nil }
            var done = Self.takeAhead(&state, into: buffer, at: offset)
            while done < buffer.count, done.isMultiple(of: Self.alignment), let base = buffer.baseAddress {
                let count = pread(direct.value, base + done, buffer.count - done, offset + off_t(done))
                if count == 0 { break }
                if count > 0 {
                    done += count
                } else if errno == EINVAL, done == 0 {
                    Self.refuse(&state)
                    return nil
                } else if errno != EINTR {
                    throw DiskError.system("pread", path)
                }
            }
            if done == buffer.count, aheadByteCount > 0 {
                let count = min(aheadByteCount.roundedUp(to: Self.alignment), buffer.count)
                Self.begin(&state, direct, offset + off_t(done), count, capacity: buffer.count)
            }
            return done
        }
    }

    /// Nothing goes this way from here on.
    func close() { state.withLock { Self.refuse(&$0) } }

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

    private static func begin(
        _ state: inout State,
        _ direct: OwnedDescriptor,
        _ offset: off_t,
        _ count: Int,
        capacity: Int
    ) {
        guard state.hasQueue else { return }
        if let ahead = state.ahead, ahead.count < count {
            ahead.deallocate()
            state.ahead = nil
        }
        let ahead = state.ahead ?? .allocate(byteCount: max(count, capacity), alignment: alignment)
        state.ahead = ahead
        guard
            holdfast_read_begin(&state.context, direct.value, ahead.baseAddress, UInt(count), Int(offset))
                == 0
        else {
            state.hasQueue = false
            return
        }
        state.pending = offset..<(offset + off_t(count))
    }

    /// Waits for what is on its way and takes it when it is what is wanted. An error is left to who reads the place.
    private static func takeAhead(
        _ state: inout State,
        into buffer: UnsafeMutableRawBufferPointer,
        at offset: off_t
    ) -> Int {
        guard let pending = state.pending, let ahead = state.ahead else { return 0 }
        let count = holdfast_read_end(state.context)
        state.pending = nil
        guard pending.lowerBound == offset, count > 0 else { return 0 }
        let taken = min(count, buffer.count)
        buffer.copyMemory(from: UnsafeRawBufferPointer(rebasing: ahead[..<taken]))
        return taken
    }

    private static func refuse(_ state: inout State) {
        // The kernel writes into the memory until then.
        if state.pending != nil { _ = holdfast_read_end(state.context) }
        state.pending = nil
        if state.context != 0 { holdfast_read_close(state.context) }
        state.context = 0
        state.hasQueue = false
        state.ahead?.deallocate()
        state.ahead = nil
        state.descriptor = nil
        state.isRefused = true
    }
}

extension Int {
    fileprivate func roundedUp(to step: Int) -> Int { (self + step - 1) / step * step }
}
