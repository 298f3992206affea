internal import CPosix
internal import Glibc
internal import Synchronization

/// One operating system thread with a bounded queue of blocking jobs, served in order.
///
/// Blocking calls never run on Swift's pool (two cores have two pool threads): each volume owns its threads, so that
/// a hung volume costs these and nothing else.
///
/// Invariants:
/// 1. Jobs run one at a time and in the order in which they were taken.
/// 2. The sum of the costs of waiting jobs is at most `costMax`, except that one job is always taken by an empty
///    queue; what does not fit is refused, never blocked on.
/// 3. After `stop()` no job starts. Jobs that were waiting are dropped by calling their `cancelled` closure.
package final class WorkerThread: Sendable {
    package struct Job: Sendable {
        let cost: Int
        let run: @Sendable () -> Void
        let cancelled: @Sendable () -> Void
    }

    private struct State {
        /// Those before `head` are taken; nothing of them is kept.
        var jobs: [Job?] = []
        var head = 0
        var cost = 0
        var isStopped = false
        var isRunningJob = false
        /// When the running job began, by the monotonic clock; nil when idle.
        var runningSince: ContinuousClock.Instant?

        mutating func takeNext() -> Job? {
            isRunningJob = false
            runningSince = nil
            guard !isStopped, head < jobs.count, let job = jobs[head] else { return nil }
            jobs[head] = nil
            head += 1
            if head == jobs.count || head >= 256 {
                jobs.removeFirst(head)
                head = 0
            }
            cost -= job.cost
            isRunningJob = true
            runningSince = .now
            return job
        }
    }

    /// The queue, its lock and its condition, at fixed addresses for pthread.
    ///
    /// `@unchecked Sendable` holds because `state` is only touched between `lock()` and `unlock()` of the mutex that
    /// is stored beside it.
    private final class Core: @unchecked Sendable {
        let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
        let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
        var state = State()

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

        func withLock<Value>(_ body: (inout State) -> Value) -> Value {
            pthread_mutex_lock(mutex)
            defer { pthread_mutex_unlock(mutex) }
            return body(&state)
        }

        /// The next job, or nil when stopped. Waits without bound: the thread lives as long as its owner.
        func next() -> Job? {
            pthread_mutex_lock(mutex)
            defer { pthread_mutex_unlock(mutex) }
            while true {
                if let job = state.takeNext() { return job }
                if state.isStopped { return nil }
                pthread_cond_wait(condition, mutex)
            }
        }
    }

    private final class Launch {
        let core: Core
        let name: String

        init(core: Core, name: String) {
            self.core = core
            self.name = name
        }
    }

    private let core: Core
    private let costMax: Int
    /// Tells a simulation that a queue that was idle has a job; nil where a thread serves the queue.
    private let wakeServer: (@Sendable () -> Void)?

    /// - Parameter costMax: bound of the waiting jobs' costs, in whatever unit the jobs are submitted with.
    package init(name: String, costMax: Int) {
        self.costMax = costMax
        let core = Core()
        self.core = core
        wakeServer = ThreadSimulation.current.map { simulation in
            simulation.makeServer(name) { core.withLock { $0.takeNext() }?.run }
        }
        guard wakeServer == nil else { return }
        var thread = pthread_t()
        let launch = Unmanaged.passRetained(Launch(core: core, name: String(name.prefix(15))))
        let status = pthread_create(&thread, nil, WorkerThread.body, launch.toOpaque())
        precondition(
            status == 0,
            "The system refused a thread (errno \(status)): check the limit of processes."
        )
        pthread_detach(thread)
    }

    private static let body: @convention(c) (UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? = {
        argument in
        guard let argument else { return nil }
        let launch = Unmanaged<Launch>.fromOpaque(argument).takeRetainedValue()
        holdfast_name_thread(launch.name)
        while let job = launch.core.next() { job.run() }
        return nil
    }

    deinit { stop() }

    /// Queues a job.
    /// - Returns: false when the queue is full or stopped; the job then never runs and nothing is called.
    @discardableResult
    package func submit(
        cost: Int = 1,
        cancelled: @escaping @Sendable () -> Void = {},
        _ run: @escaping @Sendable () -> Void
    ) -> Bool {
        let (isTaken, isIdle) = core.withLock { state -> (Bool, Bool) in
            guard !state.isStopped else { return (false, false) }
            guard state.cost == 0 || state.cost + cost <= costMax else { return (false, false) }
            state.jobs.append(Job(cost: cost, run: run, cancelled: cancelled))
            state.cost += cost
            return (true, !state.isRunningJob)
        }
        if let wakeServer {
            if isTaken, isIdle { wakeServer() }
            return isTaken
        }
        // Beside the lock: the thread that wakes up would only wait for it.
        if isIdle { pthread_cond_signal(core.condition) }
        return isTaken
    }

    /// Cost of the jobs that wait.
    package var waitingCost: Int { core.withLock { $0.cost } }

    /// How long the running job has been running; zero when idle. A volume whose job never ends is hung.
    package var busyDuration: Duration {
        core.withLock { state in state.runningSince.map { ContinuousClock.now - $0 } ?? .zero }
    }

    /// Ends the thread after the running job; does not wait for it, since it may be stuck in the kernel.
    package func stop() {
        let dropped = core.withLock { state in
            state.isStopped = true
            let waiting = state.jobs[state.head...].compactMap(\.self)
            state.jobs = []
            state.head = 0
            state.cost = 0
            pthread_cond_broadcast(core.condition)
            return waiting
        }
        for job in dropped { job.cancelled() }
    }
}
