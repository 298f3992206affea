package import StoreModel

/// Keeps a backend that does not work from being asked all the time.
///
/// ```
/// closed ──failures in a row (noteFailure)──▶ open ──time over (mayProbe)──▶ half-open
///    ▲                                          ▲                               │
///    └────────── the probe succeeds (noteSuccess) ┴── it fails (noteFailure) ◀──┘
/// ```
///
/// 1. Only failures of the backend as a whole count; one object that it refuses says nothing about it. Where that is not
///    clear the loop asks a probe, and keeps this closed meanwhile.
/// 2. While it is open nothing is sent; then one probe at a time, and everything else waits for its outcome.
/// 3. What needs a person (keys, bucket, certificate, room) opens it at once: asking on does harm and helps nobody.
package struct CircuitBreaker: Sendable {
    package enum State: String, Hashable, Sendable { case closed, open, halfOpen = "half-open" }

    package private(set) var state = State.closed
    package private(set) var failuresInARow = 0
    package private(set) var lastFailure: MirrorFailure?
    /// Monotonic.
    package private(set) var opensAgainAt: UInt64 = 0
    /// How often it was opened.
    package private(set) var openCount: UInt64 = 0
    private var openingsInARow = 0

    package let failureCountMax: Int
    private let backoff: Backoff
    private let backoffForHelp: Backoff

    package init(
        failureCountMax: Int = 5,
        backoff: Backoff = Backoff(base: .seconds(1), cap: .seconds(60)),
        backoffForHelp: Backoff = Backoff(base: .seconds(10), cap: .seconds(300))
    ) {
        self.failureCountMax = failureCountMax
        self.backoff = backoff
        self.backoffForHelp = backoffForHelp
    }

    /// Whether ordinary calls may be made.
    package var isClosed: Bool { state == .closed }

    /// Whether it is time for a probe; if so the caller makes one.
    package mutating func takeProbe(at now: UInt64) -> Bool {
        guard state == .open, now >= opensAgainAt else { return false }
        state = .halfOpen
        return true
    }

    /// - Parameter isProbe: a probe has succeeded: a backend that answers probes and does nothing else is asked more and
    ///   more rarely.
    package mutating func noteSuccess(isProbe: Bool = false) {
        failuresInARow = 0
        // What was sent before it opened may yet succeed; the probe decides.
        guard state != .open else { return }
        state = .closed
        if !isProbe { openingsInARow = 0 }
        lastFailure = nil
    }

    /// - Parameter isCertain: enough is known to open it.
    package mutating func noteFailure(
        _ failure: MirrorFailure,
        at now: UInt64,
        isCertain: Bool = false,
        random: any RandomSource
    ) {
        lastFailure = failure
        failuresInARow += 1
        switch state {
        case .open: return
        case .halfOpen: break
        case .closed:
            guard isCertain || failure.needsHelp || failuresInARow >= failureCountMax else { return }
        }
        state = .open
        openCount += 1
        openingsInARow += 1
        let chosen = failure.needsHelp ? backoffForHelp : backoff
        // At least half of the ceiling: a probe that comes at once tells nothing new.
        let half = chosen.ceiling(failures: openingsInARow) / 2
        let rest = Backoff(base: half, cap: half).delay(failures: 1, random: random)
        opensAgainAt = now &+ max(half + rest, failure.retryAfter ?? .zero).nanoseconds
    }

    /// Somebody has changed something: the next probe may come now.
    package mutating func allowProbe() { opensAgainAt = 0 }
}
