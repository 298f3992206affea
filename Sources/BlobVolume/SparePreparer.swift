internal import CPosix
internal import Glibc
internal import Synchronization

/// Keeps one zeroed log segment ready: an append into blocks that are allocated and written needs no journal commit
/// of the file system at its fsync, and the spare is the room that deletes have left on a full disk.
///
/// A thread of its own at low priority zeroes the file in steps, so the writer's fsyncs don't wait behind it for long.
/// `segments/spare.new` is under preparation, `segments/spare` is zeroed and durable.
final class SparePreparer: Sendable {
    static let readyName = "segments/spare"
    /// Made by the writer when no spare is ready.
    static let freshName = "segments/fresh"
    private static let stepByteCount = 1 << 20
    /// With the step, at most 200 MB/s: a spare of the largest size is ready in half a second.
    private static let stepPauseMicroseconds: UInt32 = 5000

    private enum Phase: Sendable {
        case idle
        case preparing(pthread_t)
        case ready(UInt64)
    }

    private struct State: Sendable {
        var phase = Phase.idle
        var isStopped = false
        /// The thread is done; joining it does not wait.
        var outcome: UInt64?
    }

    private let disk: any Disk
    private let state = Mutex(State())

    init(disk: any Disk) { self.disk = disk }

    /// Looks for what an earlier run left behind.
    func adopt() throws(DiskError) {
        for name in [Self.readyName + ".new", Self.freshName + ".new", Self.freshName]
        where try disk.exists(name) {
            try disk.remove(name)
        }
        guard try disk.exists(Self.readyName) else { return }
        let file = try disk.open(Self.readyName, .read)
        defer { file.close() }
        let size = try file.size()
        state.withLock { $0.phase = .ready(size) }
    }

    /// Starts preparing a spare of this size unless there is one.
    func start(size: UInt64, inBackground: Bool) {
        collect()
        state.withLock { state in
            guard case .idle = state.phase, !state.isStopped else { return }
            guard inBackground else {
                // No lock is contended in this mode: the writer is the only caller.
                state.outcome = nil
                return
            }
            let job = Unmanaged.passRetained(Job(preparer: self, size: size))
            var thread = pthread_t()
            let status = pthread_create(&thread, nil, { Job.run($0) }, job.toOpaque())
            if status == 0 {
                state.phase = .preparing(thread)
            } else {
                // No thread now: the writer makes its segment itself when it needs one.
                job.release()
            }
        }
        if !inBackground, case .idle = state.withLock({ $0.phase }) {
            let made = prepare(size, pausing: false)
            state.withLock { $0.phase = made ? .ready(size) : .idle }
        }
    }

    /// Size of the spare, when one is ready.
    var readySize: UInt64? {
        collect()
        guard case .ready(let size) = state.withLock({ $0.phase }) else { return nil }
        return size
    }

    /// Marks the spare as used; the caller has renamed it.
    func take() { state.withLock { $0.phase = .idle } }

    /// Whether the spare is not all zeros: what was written behind a cut must read as zeros.
    func isDirty() throws(DiskError) -> Bool {
        guard readySize != nil else { return false }
        let file = try disk.open(Self.readyName, .read)
        defer { file.close() }
        return try !BlobVolume.isZero(0..<(try file.size()), of: file)
    }

    /// Removes the spare. Only while nobody can take it.
    func discard() throws(DiskError) {
        guard readySize != nil else { return }
        take()
        try disk.remove(Self.readyName)
    }

    /// Stops the thread and waits for it.
    func stop() {
        let thread: pthread_t? = state.withLock { state in
            state.isStopped = true
            guard case .preparing(let thread) = state.phase else { return nil }
            state.phase = .idle
            return thread
        }
        if let thread { pthread_join(thread, nil) }
    }

    /// Makes a zeroed, durable file of this size under `name`; false when it can't (no room, an error).
    static func makeZeroed(
        _ name: String,
        size: UInt64,
        on disk: any Disk,
        isStopped: () -> Bool = { false },
        afterStep: () -> Void = {}
    ) throws(DiskError) -> Bool {
        let temporaryName = name + ".new"
        if try disk.exists(temporaryName) { try disk.remove(temporaryName) }
        let file = try disk.open(temporaryName, .create)
        defer { file.close() }
        // Pages of zeros in the cache would serve nobody.
        file.bypassCache(zeroedFrom: 0)
        do throws(DiskError) {
            let zeros = UnsafeMutableRawBufferPointer.allocate(
                byteCount: stepByteCount,
                alignment: DirectWriter.blockByteCount
            )
            defer { zeros.deallocate() }
            zeros.initializeMemory(as: UInt8.self, repeating: 0)
            var offset: UInt64 = 0
            while offset < size {
                if isStopped() {
                    try disk.remove(temporaryName)
                    return false
                }
                let count = Int(min(UInt64(stepByteCount), size - offset))
                try file.write([UnsafeRawBufferPointer(rebasing: zeros[..<count])], at: offset)
                try file.startWriteback(offset: offset, length: UInt64(count))
                offset += UInt64(count)
                afterStep()
            }
            try file.sync()
        } catch {
            // What it took of a full disk is given back.
            try? disk.remove(temporaryName)
            throw error
        }
        try disk.rename(temporaryName, to: name)
        try disk.syncDirectory("segments")
        return true
    }

    private func prepare(_ size: UInt64, pausing: Bool) -> Bool {
        let made = try? Self.makeZeroed(
            Self.readyName,
            size: size,
            on: disk,
            isStopped: { state.withLock { $0.isStopped } },
            afterStep: {
                // The device's queue stays short: what is zeroed at full speed is in front of every fsync meanwhile.
                if pausing { usleep(Self.stepPauseMicroseconds) }
            }
        )
        return made ?? false
    }

    /// Takes the result of a thread that is done.
    private func collect() {
        let thread: pthread_t? = state.withLock { state in
            guard case .preparing(let thread) = state.phase, let outcome = state.outcome else { return nil }
            state.phase = outcome > 0 ? .ready(outcome) : .idle
            state.outcome = nil
            return thread
        }
        if let thread { pthread_join(thread, nil) }
    }

    private final class Job: Sendable {
        let preparer: SparePreparer
        let size: UInt64

        init(preparer: SparePreparer, size: UInt64) {
            self.preparer = preparer
            self.size = size
        }

        static func run(_ argument: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
            guard let argument else { return nil }
            let job = Unmanaged<Job>.fromOpaque(argument).takeRetainedValue()
            holdfast_lower_thread_priority()
            let made = job.preparer.prepare(job.size, pausing: true)
            job.preparer.state.withLock { $0.outcome = made ? job.size : 0 }
            return nil
        }
    }
}
