import Glibc
import Synchronization

/// A thread for a blocking call of a test, independent of the pool: a busy pool must not look like a hung disk.
final class BlockingThread: Sendable {
    private final class Job: Sendable {
        let body: @Sendable () -> Void
        init(_ body: @escaping @Sendable () -> Void) { self.body = body }
    }

    private let thread: pthread_t

    init(_ body: @escaping @Sendable () -> Void) {
        let job = Unmanaged.passRetained(Job(body))
        var thread = pthread_t()
        let status = pthread_create(
            &thread,
            nil,
            { argument in
                guard let argument else { return nil }
                Unmanaged<Job>.fromOpaque(argument).takeRetainedValue().body()
                return nil
            },
            job.toOpaque()
        )
        precondition(status == 0, "A test can start a thread.")
        self.thread = thread
    }

    func join() { pthread_join(thread, nil) }
}
