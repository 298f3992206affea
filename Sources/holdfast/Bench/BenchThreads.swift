internal import Glibc
internal import StoreModel
internal import Synchronization

/// Real threads for calls that block: a benchmark of blocking calls must not wait for the pool.
enum BenchThreads {
    fileprivate final class Job: Sendable {
        let index: Int
        let body: @Sendable (Int) throws(StoreError) -> Void
        let failure = Mutex<StoreError?>(nil)

        init(index: Int, body: @escaping @Sendable (Int) throws(StoreError) -> Void) {
            self.index = index
            self.body = body
        }

        func run() {
            do throws(StoreError) { try body(index) } catch { failure.withLock { $0 = error } }
        }
    }

    /// Runs `body` on so many threads at once, with their numbers, and returns when all have ended.
    /// - Throws: The first thread's error, in the order of their numbers.
    static func run(count: Int, _ body: @escaping @Sendable (Int) throws(StoreError) -> Void)
        throws(StoreError)
    {
        let jobs = (0..<count).map { Job(index: $0, body: body) }
        var threads: [pthread_t] = []
        for job in jobs {
            var thread = pthread_t()
            let status = pthread_create(&thread, nil, runJob, Unmanaged.passRetained(job).toOpaque())
            // The other threads may wait for this one for ever: there is no way back.
            precondition(status == 0, "The system allows a benchmark's few threads.")
            threads.append(thread)
        }
        for thread in threads { pthread_join(thread, nil) }
        for job in jobs { if let failure = job.failure.withLock({ $0 }) { throw failure } }
    }
}

private func runJob(_ argument: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
    if let argument { Unmanaged<BenchThreads.Job>.fromOpaque(argument).takeRetainedValue().run() }
    return nil
}

/// Where threads wait until all have come.
///
/// `@unchecked Sendable` is right: the barrier is at a fixed address, and POSIX makes it for many threads.
final class RoundBarrier: @unchecked Sendable {
    private let barrier = UnsafeMutablePointer<pthread_barrier_t>.allocate(capacity: 1)

    init(threadCount: Int) {
        let status = pthread_barrier_init(barrier, nil, UInt32(threadCount))
        precondition(status == 0, "A barrier for at least one thread can be made.")
    }

    deinit {
        pthread_barrier_destroy(barrier)
        barrier.deallocate()
    }

    func wait() { pthread_barrier_wait(barrier) }
}
