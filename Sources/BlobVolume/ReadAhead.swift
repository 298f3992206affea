internal import CPosix
internal import Glibc

/// Memory for reads past the page cache, which is handed on as a whole: what was read ahead is taken by taking its memory.
package final class ReadMemory: @unchecked Sendable {
    // Sendable because one holder uses it at a time: whoever hands it on lets go of it.
    package let bytes: UnsafeMutableRawBufferPointer

    package init(byteCount: Int) {
        bytes = .allocate(byteCount: byteCount, alignment: DirectReads.alignment)
    }

    deinit { bytes.deallocate() }
}

/// A thread that reads one stretch of a file at a time while somebody works on the one before.
///
/// The kernel's own asynchronous reads would need no thread, but giving their queue back takes it 40 ms, for each file and once
/// more when the process ends. The thread keeps what it reads into and from: whoever closes the file need not wait for a disk
/// that hangs.
final class ReadAhead: Sendable {
    struct Stretch {
        let descriptor: OwnedDescriptor
        let memory: ReadMemory
        /// Where in the memory.
        let start: Int
        let byteCount: Int
        let offset: off_t
    }

    /// `@unchecked Sendable` holds because the variables are only touched while `mutex` is held, and both pointers never
    /// change.
    private final class Core: @unchecked Sendable {
        private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
        private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
        private var wanted: Stretch?
        /// How many bytes were read; what is wrong is left to who reads the place again.
        private var done: Int?
        private var isStopped = false

        init() {
            pthread_mutex_init(mutex, nil)
            pthread_cond_init(condition, nil)
        }

        deinit {
            pthread_cond_destroy(condition)
            pthread_mutex_destroy(mutex)
            condition.deallocate()
            mutex.deallocate()
        }

        func begin(_ stretch: Stretch) {
            pthread_mutex_lock(mutex)
            defer { pthread_mutex_unlock(mutex) }
            precondition(wanted == nil && done == nil, "One stretch is read at a time.")
            wanted = stretch
            pthread_cond_broadcast(condition)
        }

        func end() -> Int {
            pthread_mutex_lock(mutex)
            defer { pthread_mutex_unlock(mutex) }
            while true {
                if let count = done {
                    done = nil
                    return count
                }
                pthread_cond_wait(condition, mutex)
            }
        }

        func stop() {
            pthread_mutex_lock(mutex)
            defer { pthread_mutex_unlock(mutex) }
            isStopped = true
            pthread_cond_broadcast(condition)
        }

        func next() -> Stretch? {
            pthread_mutex_lock(mutex)
            defer { pthread_mutex_unlock(mutex) }
            while true {
                if isStopped { return nil }
                if let stretch = wanted {
                    wanted = nil
                    return stretch
                }
                pthread_cond_wait(condition, mutex)
            }
        }

        func finish(_ count: Int) {
            pthread_mutex_lock(mutex)
            defer { pthread_mutex_unlock(mutex) }
            done = count
            pthread_cond_broadcast(condition)
        }
    }

    private let core: Core

    /// - Returns: nil when the system gives no thread.
    init?() {
        core = Core()
        var thread = pthread_t()
        let argument = Unmanaged.passRetained(core)
        guard pthread_create(&thread, nil, Self.body, argument.toOpaque()) == 0 else {
            argument.release()
            return nil
        }
        pthread_detach(thread)
    }

    deinit { core.stop() }

    /// Starts to read a stretch; the one before must have ended.
    func begin(_ stretch: Stretch) { core.begin(stretch) }

    /// Waits for the stretch that was begun.
    /// - Returns: how many bytes were read before the file's end, or before what can't be read.
    func end() -> Int { core.end() }

    private static let body: @convention(c) (UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? = {
        argument in
        guard let argument else { return nil }
        let core = Unmanaged<Core>.fromOpaque(argument).takeRetainedValue()
        holdfast_name_thread("hf-ahead")
        while let stretch = core.next() { core.finish(ReadAhead.read(stretch)) }
        return nil
    }

    private static func read(_ stretch: Stretch) -> Int {
        guard let base = stretch.memory.bytes.baseAddress else { return 0 }
        var done = 0
        while done < stretch.byteCount, done.isMultiple(of: DirectReads.alignment) {
            let count = pread(
                stretch.descriptor.value,
                base + stretch.start + done,
                stretch.byteCount - done,
                stretch.offset + off_t(done)
            )
            if count > 0 {
                done += count
            } else if count == 0 || errno != EINTR {
                break
            }
        }
        return done
    }
}
