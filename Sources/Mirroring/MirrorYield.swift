package import Replication
package import StoreModel
internal import Synchronization

/// A mirror's work beside the clients of the store.
///
/// 1. It is the budget that scrubs have: while clients ask for something, no more is taken than its rates; alone, as fast as
///    it goes. What a mirror reads itself counts as no client's (`ClientLoad.inBackground`).
/// 2. The rates are a floor as well: a store that is never idle is mirrored at that pace.
/// 3. A client that waits until the mirror has its version is not helped by yielding: while one does, there is none.
///
/// Requests and bytes are paced, not the number of tasks: of a backend that is far away the tasks mostly wait, which takes
/// nothing from clients, and fewer of them would only make it later.
package final class MirrorYield: Sendable {
    /// A fraction of what a store does for clients at the same time.
    package static let standard = WorkBudget.Rates(
        bytesPerSecond: 32_000_000,
        operationsPerSecond: 200,
        isUnlimitedWhenIdle: true
    )
    /// Who waits looks several times in this time.
    private static let awaitedNanoseconds: UInt64 = 1_000_000_000

    /// Until when somebody is taken to wait for the mirror.
    private final class Wait: Sendable {
        let end = Atomic<UInt64>(0)

        func isUnderWay(_ clock: any StoreClock) -> Bool {
            clock.monotonicNanoseconds() < end.load(ordering: .relaxed)
        }
    }

    private let wait = Wait()
    private let budget: WorkBudget
    private let clock: any StoreClock
    private let waited = Atomic<UInt64>(0)

    package init(_ rates: WorkBudget.Rates = standard, load: ClientLoad, clock: any StoreClock) {
        self.clock = clock
        budget = WorkBudget(
            rates,
            load: load,
            isUrgent: { [wait] in wait.isUnderWay(clock) },
            clock: clock
        )
    }

    /// Somebody waits for a version to be mirrored, now and for the next moments.
    package func noteAwaited() {
        wait.end.store(clock.monotonicNanoseconds() &+ Self.awaitedNanoseconds, ordering: .relaxed)
    }

    /// Whether somebody waits for the mirror now.
    package var isAwaited: Bool { wait.isUnderWay(clock) }

    /// Whether the rates are in force now.
    package var isYielding: Bool { budget.isBusy }

    /// How long requests have waited for clients, all together.
    package var waitedNanoseconds: UInt64 { waited.load(ordering: .relaxed) }

    /// Before something is asked or sent: returns when it may be.
    package func spend(requests: UInt64 = 0, bytes: UInt64 = 0) async throws {
        let start = clock.monotonicNanoseconds()
        defer { waited.wrappingAdd(clock.monotonicNanoseconds() &- start, ordering: .relaxed) }
        try await budget.spend(bytes: bytes, operations: requests)
    }
}
