private import CSimulation
internal import Glibc
package import Replication
package import StoreModel
private import Synchronization

/// A world on one thread: its time, the order of everything that happens, and how long each job of a disk takes follow from a
/// seed.
///
/// In it, jobs of Swift tasks, jobs of worker threads, timers and sleepers are events. What is ready is carried out in an
/// order that is drawn; when nothing is, time jumps to the next event. The engine is the real one: `WorkerThread` and
/// `BlockingSignal` find the world through `ThreadSimulation`, tasks come here through the runtime's hooks, and
/// `ContinuousClock` shows the world's time (`CSimulation`).
///
/// What is atomic here and not in the real world: a job of a worker thread, and a piece of a task between two suspensions.
/// Races within a volume or under a lock are for the thread sanitizer.
///
/// The order of sets and dictionaries is the same in each run only with SWIFT_DETERMINISTIC_HASHING=1.
///
/// `@unchecked Sendable` holds because everything happens on the thread that `run` has made.
package final class SimulatedWorld: @unchecked Sendable {
    private struct Later {
        let time: UInt64
        let number: UInt64
        let body: () -> Void
    }

    private enum Ready {
        case task(UnsafeMutableRawPointer)
        case work(String, () -> Void)
    }

    /// How long jobs of a volume take.
    package struct Pace: Sendable {
        package var typical: Duration = .microseconds(200)
        /// Once in so many jobs one takes up to `slow`.
        package var slowOneIn = 50
        package var slow: Duration = .milliseconds(30)
        /// Jobs that would end before this moment end then: the disk hangs until it.
        package var hangsUntil: UInt64 = 0

        package init() {}
    }

    package let seed: UInt64
    /// Of the schedule alone; what is done in the world draws from generators of its own.
    private var generator: SeededGenerator
    private var ready: [Ready] = []
    private var later: [Later] = []
    private var nextNumber: UInt64 = 0
    private var trace: UInt64 = 0xCBF2_9CE4_8422_2325
    /// Blocking calls that stand on the stack, one in the other.
    package private(set) var depth = 0
    package private(set) var eventCount = 0
    private let eventCountMax: Int
    /// Where every event is written down, when HOLDFAST_TRACE names a file: what to compare when a seed takes another course.
    private let file = getenv("HOLDFAST_TRACE").flatMap { fopen($0, "a") }
    private let bridge = UnsafeMutablePointer<holdfast_simulation>.allocate(capacity: 1)
    /// By the tag that was set when their workers were made.
    package var paces: [Int: Pace] = [:]
    /// Workers that are made now belong to this volume.
    package var tag: Int?

    private init(_ seed: UInt64, eventCountMax: Int) {
        self.seed = seed
        self.eventCountMax = eventCountMax
        generator = SeededGenerator(seed: seed)
        bridge.initialize(to: holdfast_simulation())
        bridge.pointee.context = Unmanaged.passUnretained(self).toOpaque()
        bridge.pointee.monotonic_nanoseconds = 1_000_000_000
        bridge.pointee.wall_nanoseconds = 1_700_000_000_000_000_000
        bridge.pointee.enqueue = { context, job in
            guard let context, let job else { return }
            Unmanaged<SimulatedWorld>.fromOpaque(context).takeUnretainedValue().ready.append(.task(job))
        }
        bridge.pointee.enqueue_at = { context, job, nanoseconds in
            guard let context, let job else { return }
            let world = Unmanaged<SimulatedWorld>.fromOpaque(context).takeUnretainedValue()
            world.at(UInt64(max(0, nanoseconds))) { world.ready.append(.task(job)) }
        }
    }

    deinit {
        bridge.deallocate()
        if let file { fclose(file) }
    }

    /// How a run ended.
    package enum End: Sendable, Hashable {
        case done
        /// Nothing can happen any more, and it is not done.
        case stuck
        /// Too many events.
        case endless
    }

    /// Runs what `start` starts, in a world of its own, on a thread of its own, until `isDone`.
    package static func run(
        seed: UInt64,
        eventCountMax: Int = 20_000_000,
        start: @escaping @Sendable (SimulatedWorld) -> Void,
        isDone: @escaping @Sendable () -> Bool
    ) async -> (end: End, trace: UInt64, events: Int) {
        await withCheckedContinuation { continuation in
            let worker = WorkerThread(name: "simulation", costMax: 1)
            worker.submit {
                let world = SimulatedWorld(seed, eventCountMax: eventCountMax)
                holdfast_enter_simulation(world.bridge)
                var end = End.done
                ThreadSimulation.run(world) {
                    start(world)
                    end = world.go(until: isDone)
                    // Whoever still waits is let go; jobs that are left belong to tasks that are forgotten.
                    world.later = []
                }
                holdfast_enter_simulation(nil)
                worker.stop()
                continuation.resume(returning: (end, world.trace, world.eventCount))
            }
        }
    }

    /// Timers of this world.
    package var timers: any Timers { SimulatedTimers(self) }

    // MARK: Time

    package var nanoseconds: UInt64 { UInt64(bridge.pointee.monotonic_nanoseconds) }

    /// Moves the wall clock alone.
    package func jumpWallClock(milliseconds: Int64) {
        bridge.pointee.wall_nanoseconds += milliseconds * 1_000_000
    }

    var wallMilliseconds: Int64 { bridge.pointee.wall_nanoseconds / 1_000_000 }

    private func advance(to time: UInt64) {
        guard time > nanoseconds else { return }
        bridge.pointee.wall_nanoseconds += Int64(time - nanoseconds)
        bridge.pointee.monotonic_nanoseconds = Int64(time)
    }

    func after(_ delay: Duration, _ body: @escaping () -> Void) {
        at(nanoseconds + Self.nanoseconds(delay), body)
    }

    private static func nanoseconds(_ duration: Duration) -> UInt64 {
        let (seconds, attoseconds) = duration.components
        return UInt64(max(0, seconds)) * 1_000_000_000 + UInt64(max(0, attoseconds) / 1_000_000_000)
    }

    private func at(_ time: UInt64, _ body: @escaping () -> Void) {
        nextNumber += 1
        later.append(Later(time: time, number: nextNumber, body: body))
        var child = later.count - 1
        while child > 0, isEarlier(child, (child - 1) / 2) {
            later.swapAt(child, (child - 1) / 2)
            child = (child - 1) / 2
        }
    }

    private func isEarlier(_ left: Int, _ right: Int) -> Bool {
        (later[left].time, later[left].number) < (later[right].time, later[right].number)
    }

    private func popLater() -> Later? {
        guard let last = later.popLast() else { return nil }
        guard let first = later.first else { return last }
        later[0] = last
        var parent = 0
        while true {
            var child = 2 * parent + 1
            guard child < later.count else { return first }
            if child + 1 < later.count, isEarlier(child + 1, child) { child += 1 }
            guard isEarlier(child, parent) else { return first }
            later.swapAt(child, parent)
            parent = child
        }
    }

    // MARK: What happens

    private func go(until isDone: () -> Bool) -> End {
        while !isDone() {
            while let first = later.first, first.time <= nanoseconds { popLater()?.body() }
            guard !ready.isEmpty else {
                guard let next = popLater() else { return .stuck }
                advance(to: next.time)
                next.body()
                continue
            }
            eventCount += 1
            guard eventCount < eventCountMax else { return .endless }
            let place = generator.below(ready.count)
            ready.swapAt(place, ready.count - 1)
            // A microsecond for each: loops that look at the clock come to their end.
            advance(to: nanoseconds + 1000)
            switch ready.removeLast() {
            case .task(let job):
                mix(UInt64(ready.count))
                write("task, \(ready.count) ready")
                holdfast_run_job(job)
            case .work(let name, let body):
                note(name)
                body()
            }
        }
        return .done
    }

    /// Something that happened, for the trace: two runs with the same seed have the same trace.
    package func note(_ text: String) {
        for byte in text.utf8 { trace = (trace ^ UInt64(byte)) &* 0x100_0000_01B3 }
        mix(nanoseconds)
        write(text)
    }

    private func write(_ text: @autoclosure () -> String) {
        if let file { fputs("\(seed) \(nanoseconds) \(text())\n", file) }
    }

    private func mix(_ number: UInt64) { trace = (trace ^ number) &* 0x100_0000_01B3 }
}

// MARK: - Worker threads

extension SimulatedWorld: ThreadSimulator {
    package func makeServer(
        _ name: String,
        takeNext: @escaping @Sendable () -> (@Sendable () -> Void)?
    ) -> @Sendable () -> Void {
        let server = Server(world: self, name: name, tag: tag, takeNext: takeNext)
        return { server.wake() }
    }

    package func wait(for deadline: Duration, until isDone: () -> Bool) -> Bool {
        let end = nanoseconds + Self.nanoseconds(deadline)
        at(end) {}
        depth += 1
        defer { depth -= 1 }
        _ = go { isDone() || nanoseconds >= end }
        return isDone()
    }

    fileprivate func duration(_ tag: Int?) -> Duration {
        let pace = tag.flatMap { paces[$0] } ?? Pace()
        let isSlow = generator.oneIn(pace.slowOneIn)
        let longest = Self.nanoseconds(isSlow ? pace.slow : pace.typical)
        let time = UInt64(generator.below(Int(longest) + 1))
        let hanging = pace.hangsUntil > nanoseconds ? pace.hangsUntil - nanoseconds : 0
        return .nanoseconds(Int64(max(time, hanging)))
    }

    fileprivate func makeReady(_ name: String, _ body: @escaping () -> Void) {
        ready.append(.work(name, body))
    }
}

/// Serves one queue: a job is taken, and has its effect when its time is over.
///
/// `@unchecked Sendable` for the same reason as the world.
private final class Server: @unchecked Sendable {
    private unowned let world: SimulatedWorld
    private let name: String
    private let tag: Int?
    private let takeNext: @Sendable () -> (@Sendable () -> Void)?
    private var isAwake = false

    init(
        world: SimulatedWorld,
        name: String,
        tag: Int?,
        takeNext: @escaping @Sendable () -> (@Sendable () -> Void)?
    ) {
        self.world = world
        self.name = name + (tag.map(String.init) ?? "")
        self.tag = tag
        self.takeNext = takeNext
    }

    func wake() {
        guard !isAwake else { return }
        isAwake = true
        world.makeReady(name) { self.serve() }
    }

    private func serve() {
        guard let job = takeNext() else {
            isAwake = false
            return
        }
        world.after(world.duration(tag)) { [self] in
            world.makeReady(name) {
                job()
                self.serve()
            }
        }
    }
}

// MARK: - Clock and timers

/// The clock of a simulated world.
package final class SimulatedClock: StoreClock, @unchecked Sendable {
    // Sendable for the same reason as the world.
    private let world: SimulatedWorld
    private var sleepers: [UInt64: CheckedContinuation<Void, any Error>] = [:]
    private var cancelled: Set<UInt64> = []
    private var nextSleeper: UInt64 = 0

    package init(_ world: SimulatedWorld) { self.world = world }

    package func monotonicNanoseconds() -> UInt64 { world.nanoseconds }
    package func now() -> Timestamp { Timestamp(milliseconds: world.wallMilliseconds) }

    package func sleep(for duration: Duration) async throws {
        precondition(ThreadSimulation.current != nil, "Somebody has left the world and wants to sleep in it.")
        try Task.checkCancellation()
        guard duration > .zero else { return }
        nextSleeper += 1
        let number = nextSleeper
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation {
                (continuation: CheckedContinuation<Void, any Error>) in
                guard cancelled.remove(number) == nil else {
                    return continuation.resume(throwing: CancellationError())
                }
                sleepers[number] = continuation
                world.after(duration) { self.sleepers.removeValue(forKey: number)?.resume() }
            }
        } onCancel: {
            if let sleeper = sleepers.removeValue(forKey: number) {
                sleeper.resume(throwing: CancellationError())
            } else {
                cancelled.insert(number)
            }
        }
        cancelled.remove(number)
    }
}

private struct SimulatedTimers: Timers {
    let world: SimulatedWorld
    init(_ world: SimulatedWorld) { self.world = world }

    func schedule(after delay: Duration, _ action: @escaping @Sendable () -> Void) {
        world.after(delay) { world.makeReady("timer", action) }
    }
}
