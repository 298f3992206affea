package import Catalog
package import Logging
package import Replication
package import StoreModel
internal import Synchronization

/// Makes the calls of a backend. Throws `StoreError` for settings or credentials that can't be used.
package typealias MirrorBackendMaker =
    @Sendable (_ settings: MirrorSettings, _ credentials: MirrorCredentials) throws -> any MirrorBackend

/// Bounds of one mirror's worker: each has its own, so that a backend that does not work costs no other one anything.
package struct MirrorWorkerLimits: Sendable {
    package var memory = 64 << 20
    package var window = 4096
    package var pageSize = 512
    package var backfillPageSize = 256
    /// Versions of one key that are looked at for those that a new one has to wait for; with more of them it waits for
    /// the whole back-fill.
    package var keyWalk = 4096
    /// Failures of one task, while the backend does other tasks, after which it is given up.
    package var attemptCountMax = 8
    package var backoff = Backoff()
    package var breaker = CircuitBreaker()
    /// What is done beside clients.
    package var besideClients = MirrorYield.standard
    /// Between two looks for new tasks.
    package var pause = Duration.milliseconds(20)
    /// `runUntilIdle` ends when nothing has succeeded for so long.
    package var giveUp = Duration.seconds(30)

    package init() {}
}

/// Works off the tasks of one mirror.
///
/// One loop decides, its children carry out: at most `concurrency` tasks, one probe, one tick at a time. What the loop
/// knows it can lose: after a crash the next one reads the tasks again and looks before it sends.
package final class MirrorWorker: Sendable {
    package let name: MirrorName
    package let id: MirrorID
    let store: any MirrorStore
    let make: MirrorBackendMaker
    let clock: any StoreClock
    let random: any RandomSource
    let limits: MirrorWorkerLimits
    let lease: MirrorLease
    let yield: MirrorYield
    private let isAlone: Bool
    let logger: Logger
    let pending = PendingCount()
    /// The versions that were given up and for which newer ones of their keys wait.
    let held = Mutex<[TaskWindow.Name: VersionID]>([:])
    private let current = Mutex(MirrorWorkerState())
    /// Somebody has put tasks in between, or wants the backend to be asked at once.
    private let nudges = Atomic<UInt64>(0)

    package init(
        _ row: MirrorRow,
        store: any MirrorStore,
        make: @escaping MirrorBackendMaker,
        clock: any StoreClock,
        random: any RandomSource,
        isAlone: Bool,
        load: ClientLoad = ClientLoad(),
        limits: MirrorWorkerLimits = MirrorWorkerLimits(),
        logger: Logger
    ) {
        name = row.name
        id = row.id
        self.store = store
        self.make = make
        self.clock = clock
        self.random = random
        self.limits = limits
        self.logger = logger
        self.isAlone = isAlone
        yield = MirrorYield(limits.besideClients, load: load, clock: clock)
        lease = MirrorLease(id: row.id, holder: UniqueID.random(from: random), isAlone: isAlone)
    }

    package var state: MirrorWorkerState {
        var state = current.withLock { $0 }
        state.isYielding = state.runningCount > 0 && yield.isYielding
        state.yieldedNanoseconds = yield.waitedNanoseconds
        return state
    }
    func change(_ body: (inout MirrorWorkerState) -> Void) { current.withLock { body(&$0) } }

    /// Tasks are read again from the first one, and the backend is asked again.
    package func nudge() {
        nudges.wrappingAdd(1, ordering: .relaxed)
        pending.reset()
    }

    var nudgeCount: UInt64 { nudges.load(ordering: .relaxed) }

    /// Works until the task is cancelled or the mirror is removed.
    package func run() async { await run(untilIdle: false) }

    /// Works until nothing is left that could be done now.
    package func runUntilIdle() async { await run(untilIdle: true) }

    private func run(untilIdle: Bool) async {
        defer { change { ($0.activity, $0.runningCount) = (.stopped, 0) } }
        await withTaskGroup(of: MirrorLoop.Event.self) { group in
            var loop = MirrorLoop(self, untilIdle: untilIdle)
            while !Task.isCancelled {
                do {
                    guard try await loop.turn(&group) else { break }
                } catch {
                    loop.rest(after: error)
                }
                guard let event = await loop.wait(&group) else { break }
                await loop.take(event)
            }
            group.cancelAll()
        }
        if !isAlone { await lease.release(store) }
    }
}
