internal import BlobVolume
internal import CPosix
internal import Glibc
internal import StoreModel
internal import Synchronization

/// Deadlines and hedges: closures that run after a delay. A protocol so that tests decide when time passes.
package protocol Timers: Sendable {
    /// Runs `action` once after `delay`, on the timers' own thread: it must be short and must not block.
    func schedule(after delay: Duration, _ action: @escaping @Sendable () -> Void)
}

extension Timers {
    /// For deadlines that hardly ever pass: looks after a short while whether this one is still wanted, so that what
    /// ended quickly does not lie in memory until its deadline.
    func schedule(
        after delay: Duration,
        whileWanted isWanted: @escaping @Sendable () -> Bool,
        _ action: @escaping @Sendable () -> Void
    ) {
        let first = Duration.milliseconds(250)
        guard delay > first else { return schedule(after: delay, action) }
        schedule(after: first) { [self] in
            if isWanted() { schedule(after: delay - first, action) }
        }
    }

    /// One call of a replica, with the read deadline: one that hangs is given up, and does not hold up its caller.
    func call<Value: Sendable>(
        _ replica: any Replica,
        _ body: (any Replica, @escaping ReplicaCompletion<Value>) -> Void
    ) async -> Result<Value, VolumeError> {
        await withCheckedContinuation { continuation in
            let once = OnceContinuation(continuation)
            schedule(after: Limits.readDeadline, whileWanted: { once.isWaiting }) {
                once.resume(returning: .failure(.noAnswer(from: replica.label, within: Limits.readDeadline)))
            }
            body(replica) { once.resume(returning: $0) }
        }
    }
}

/// Timers on one thread of the operating system: a heap of deadlines.
///
/// There is no cancellation: an action finds out by itself that it is no longer wanted. That keeps the common case
/// (a read that is answered long before its hedge) at one push under a lock.
package final class SystemTimers: Timers {
    private struct Entry {
        let deadline: ContinuousClock.Instant
        let action: @Sendable () -> Void
    }

    /// `@unchecked Sendable` holds because `heap` and `isStopped` are only touched while `mutex` is held.
    private final class Core: @unchecked Sendable {
        let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
        let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
        var heap: [Entry] = []
        var isStopped = false

        init() {
            pthread_mutex_init(mutex, nil)
            var attributes = pthread_condattr_t()
            pthread_condattr_init(&attributes)
            pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
            pthread_cond_init(condition, &attributes)
            pthread_condattr_destroy(&attributes)
        }

        deinit {
            pthread_cond_destroy(condition)
            pthread_mutex_destroy(mutex)
            condition.deallocate()
            mutex.deallocate()
        }

        func push(_ entry: Entry) {
            pthread_mutex_lock(mutex)
            defer { pthread_mutex_unlock(mutex) }
            guard !isStopped else { return }
            heap.append(entry)
            var child = heap.count - 1
            while child > 0, heap[child].deadline < heap[(child - 1) / 2].deadline {
                heap.swapAt(child, (child - 1) / 2)
                child = (child - 1) / 2
            }
            if child == 0 { pthread_cond_signal(condition) }
        }

        /// Waits for the earliest deadline; nil when stopped.
        func next() -> Entry? {
            pthread_mutex_lock(mutex)
            defer { pthread_mutex_unlock(mutex) }
            while !isStopped {
                guard let first = heap.first else {
                    pthread_cond_wait(condition, mutex)
                    continue
                }
                let delay = first.deadline - .now
                if delay <= .zero { return pop() }
                var time = timespec()
                clock_gettime(CLOCK_MONOTONIC, &time)
                let (seconds, attoseconds) = delay.components
                time.tv_sec += Int(clamping: seconds)
                time.tv_nsec += Int(attoseconds / 1_000_000_000)
                if time.tv_nsec >= 1_000_000_000 {
                    time.tv_nsec -= 1_000_000_000
                    time.tv_sec += 1
                }
                pthread_cond_timedwait(condition, mutex, &time)
            }
            return nil
        }

        private func pop() -> Entry? {
            guard let last = heap.popLast() else { return nil }
            guard let first = heap.first else { return last }
            heap[0] = last
            var parent = 0
            while true {
                var child = 2 * parent + 1
                guard child < heap.count else { break }
                if child + 1 < heap.count, heap[child + 1].deadline < heap[child].deadline { child += 1 }
                guard heap[child].deadline < heap[parent].deadline else { break }
                heap.swapAt(child, parent)
                parent = child
            }
            return first
        }
    }

    private let core = Core()

    package init() {
        var thread = pthread_t()
        let retained = Unmanaged.passRetained(core)
        let status = pthread_create(&thread, nil, SystemTimers.body, retained.toOpaque())
        precondition(
            status == 0,
            "The system refused a thread (errno \(status)): check the limit of processes."
        )
        pthread_detach(thread)
    }

    private static let body: @convention(c) (UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? = {
        argument in
        guard let argument else { return nil }
        let core = Unmanaged<Core>.fromOpaque(argument).takeRetainedValue()
        holdfast_name_thread("hf-timers")
        while let entry = core.next() { entry.action() }
        return nil
    }

    deinit {
        pthread_mutex_lock(core.mutex)
        core.isStopped = true
        core.heap = []
        pthread_cond_broadcast(core.condition)
        pthread_mutex_unlock(core.mutex)
    }

    package func schedule(after delay: Duration, _ action: @escaping @Sendable () -> Void) {
        core.push(Entry(deadline: .now + delay, action: action))
    }
}
