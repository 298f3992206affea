package import StoreModel
internal import Synchronization

/// How fast a mirror may ask and send, and whether it still may. Every request passes through here.
package final class MirrorPace: Sendable {
    private struct Budgets {
        var requests: RateBudget
        var bytes: RateBudget
    }

    private let budgets: Mutex<Budgets>
    private let clock: any StoreClock
    private let lease: MirrorLease
    private let yield: MirrorYield

    package init(
        _ settings: MirrorSettings,
        clock: any StoreClock,
        lease: MirrorLease,
        yield: MirrorYield
    ) {
        self.lease = lease
        self.yield = yield
        budgets = Mutex(
            Budgets(
                requests: RateBudget(perSecond: UInt64(settings.requestsPerSecond)),
                bytes: RateBudget(perSecond: settings.bytesPerSecond)
            )
        )
        self.clock = clock
    }

    func request() async throws {
        let now = clock.monotonicNanoseconds()
        try await rest(budgets.withLock { $0.requests.take(1, at: now) })
        try await yield.spend(requests: 1)
        try check()
    }

    func bytes(_ count: Int) async throws {
        let now = clock.monotonicNanoseconds()
        try await rest(budgets.withLock { $0.bytes.take(Double(count), at: now) })
        try await yield.spend(bytes: UInt64(count))
        try check()
    }

    /// After bytes were read that are not sent: the clients only are yielded to.
    func read(_ count: UInt64, mayWait: Bool) async throws {
        if mayWait { try await yield.spend(bytes: count) }
        try check()
    }

    /// Whether a client waits for the mirror.
    var isAwaited: Bool { yield.isAwaited }

    private func check() throws(StoreError) {
        guard !lease.isValid(at: clock.monotonicNanoseconds()) else { return }
        throw StoreError(.cancelled, "The lease of this worker has run out.")
    }

    private func rest(_ duration: Duration) async throws {
        guard duration > .zero else { return }
        try await clock.sleep(for: duration)
    }
}
