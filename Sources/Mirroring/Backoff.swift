package import StoreModel

/// How long to wait before the next attempt: exponential, with full jitter.
/// https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
package struct Backoff: Hashable, Sendable {
    package var base: Duration
    package var cap: Duration

    package init(base: Duration = .milliseconds(200), cap: Duration = .seconds(60)) {
        self.base = base
        self.cap = cap
    }

    /// - Parameter failures: in a row, at least one.
    package func ceiling(failures: Int) -> Duration {
        var value = base
        for _ in 1..<max(failures, 1) {
            value = value * 2
            if value >= cap { return cap }
        }
        return min(value, cap)
    }

    /// Somewhere between nothing and the ceiling; never before what the other side asked for.
    package func delay(
        failures: Int,
        retryAfter: Duration? = nil,
        random: any RandomSource
    ) -> Duration {
        let jittered = Self.part(of: ceiling(failures: failures), random)
        guard let retryAfter else { return jittered }
        // All that were told the same time come back one after the other.
        return min(retryAfter, .seconds(3600)) + Self.part(of: base, random)
    }

    private static func part(of duration: Duration, _ random: any RandomSource) -> Duration {
        let nanoseconds = duration.nanoseconds
        return .nanoseconds(Int64(clamping: random.next() % (nanoseconds + 1)))
    }
}

/// Lets retries be at most a share of what succeeds, plus a few: an ailing backend isn't buried under them.
package struct RetryBudget: Hashable, Sendable {
    private let share: Double
    private let most: Double
    package private(set) var level: Double

    package init(share: Double = 0.2, most: Double = 100, initial: Double = 20) {
        self.share = share
        self.most = most
        level = initial
    }

    package mutating func noteSuccess() { level = min(most, level + share) }

    /// - Returns: false when there is none left: then only the longest pause is right.
    package mutating func takeRetry() -> Bool {
        guard level >= 1 else { return false }
        level -= 1
        return true
    }
}

/// So many units a second, with a second's worth in reserve. 0: no limit.
package struct RateBudget: Hashable, Sendable {
    private let perSecond: Double
    private var available: Double
    private var lastNanoseconds: UInt64?

    package init(perSecond: UInt64) {
        self.perSecond = Double(perSecond)
        available = Double(perSecond)
    }

    /// Takes units, into debt if need be.
    /// - Returns: how long to wait before what they are for.
    package mutating func take(_ count: Double, at nanoseconds: UInt64) -> Duration {
        guard perSecond > 0 else { return .zero }
        // Callers read the clock before they come here, and may come in another order.
        let last = max(lastNanoseconds ?? nanoseconds, nanoseconds)
        let passed = Double(last - (lastNanoseconds ?? last)) / 1e9
        lastNanoseconds = last
        available = min(perSecond, available + passed * perSecond) - count
        guard available < 0 else { return .zero }
        return .nanoseconds(Int64(min(-available / perSecond, 3600) * 1e9))
    }
}

extension Duration {
    package var nanoseconds: UInt64 {
        let (seconds, attoseconds) = components
        return UInt64(clamping: seconds).multipliedReportingOverflow(by: 1_000_000_000).partialValue
            &+ UInt64(clamping: attoseconds / 1_000_000_000)
    }
}
