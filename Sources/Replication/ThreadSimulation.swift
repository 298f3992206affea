internal import Glibc

/// Serves the queues of `WorkerThread` in place of threads of the system, and lets others go on while somebody blocks: so a
/// test runs the whole engine on one thread, in an order that follows from a seed.
package protocol ThreadSimulator: AnyObject, Sendable {
    /// A new queue.
    /// - Parameter takeNext: takes the next job, which counts as running until the next call; nil when there is none.
    /// - Returns: what is called when the queue, having been idle, has a job. It may be called again before the job is taken.
    func makeServer(
        _ name: String,
        takeNext: @escaping @Sendable () -> (@Sendable () -> Void)?
    ) -> @Sendable () -> Void

    /// Does other work until `isDone`, or until the deadline has passed.
    /// - Returns: whether it is done.
    func wait(for deadline: Duration, until isDone: () -> Bool) -> Bool
}

/// The simulation that the calling thread lives in. There is none outside of tests.
package enum ThreadSimulation {
    private final class Box {
        let simulator: any ThreadSimulator
        init(_ simulator: any ThreadSimulator) { self.simulator = simulator }
    }

    private static let key: pthread_key_t = {
        var key = pthread_key_t()
        let status = pthread_key_create(&key, nil)
        precondition(status == 0, "The system refused a key for values of threads (\(status)).")
        return key
    }()

    package static var current: (any ThreadSimulator)? {
        guard let box = pthread_getspecific(key) else { return nil }
        return Unmanaged<Box>.fromOpaque(box).takeUnretainedValue().simulator
    }

    /// Whatever `body` makes on this thread belongs to the simulation.
    package static func run(_ simulator: any ThreadSimulator, _ body: () -> Void) {
        let box = Box(simulator)
        withExtendedLifetime(box) {
            pthread_setspecific(key, Unmanaged.passUnretained(box).toOpaque())
            body()
            pthread_setspecific(key, nil)
        }
    }
}
