package import StoreModel
internal import Synchronization

/// How often and when a call is made again. For calls that may be made twice: reads, and writes whose caller looks
/// what became of the first attempt.
package struct S3Retry: Sendable {
    package var attemptCountMax: Int
    package var delayBase: Duration
    package var delayMax: Duration

    package init(
        attemptCountMax: Int = 5,
        delayBase: Duration = .milliseconds(100),
        delayMax: Duration = .seconds(20)
    ) {
        precondition(attemptCountMax > 0, "A call is made at least once.")
        self.attemptCountMax = attemptCountMax
        self.delayBase = delayBase
        self.delayMax = delayMax
    }

    /// Full jitter: anything from nothing to twice as much each time, so that callers do not come back together.
    /// What the server asked for is waited at least.
    /// - Parameter attempt: 0 after the first failure.
    package func delay(attempt: Int, retryAfter: Duration?, random: any RandomSource) -> Duration {
        var ceiling = delayBase
        for _ in 0..<min(max(attempt, 0), 32) where ceiling < delayMax { ceiling = ceiling * 2 }
        ceiling = min(ceiling, delayMax)
        let share = Double(random.next() >> 11) / Double(1 << 53)
        return max(ceiling * share, retryAfter ?? .zero)
    }

    /// Makes a call until it succeeds, fails for good, or budget or attempts run out; then its last error is thrown.
    package func run<Value>(
        budget: S3RetryBudget,
        clock: any StoreClock = SystemClock(),
        random: any RandomSource = SystemRandom(),
        _ call: () async throws -> Value
    ) async throws -> Value {
        var attempt = 0
        while true {
            do {
                let value = try await call()
                budget.noteSuccess()
                return value
            } catch let error as S3ClientError {
                guard error.isRetryable, attempt + 1 < attemptCountMax, budget.take() else { throw error }
                let delay = delay(attempt: attempt, retryAfter: error.retryAfter, random: random)
                try await clock.sleep(for: delay)
                attempt += 1
            }
        }
    }
}

/// Bounds the retries of all calls together: when most of them fail, retrying each would only add load.
package final class S3RetryBudget: Sendable {
    private let tokenCountMax: Double
    private let earned: Double
    private let tokens: Mutex<Double>

    /// - Parameters:
    ///   - countMax: retries that can be made in a row.
    ///   - earnedBySuccess: the part of a retry that each success gives back.
    package init(countMax: Int = 100, earnedBySuccess: Double = 0.2) {
        tokenCountMax = Double(countMax)
        earned = earnedBySuccess
        tokens = Mutex(Double(countMax))
    }

    // Not inlined: async functions call both, before and behind awaits, and must not keep one thread's identity for both locks.

    /// - Returns: false when there is none left.
    @inline(never)
    package func take() -> Bool {
        tokens.withLock { tokens in
            guard tokens >= 1 else { return false }
            tokens -= 1
            return true
        }
    }

    @inline(never)
    package func noteSuccess() { tokens.withLock { $0 = min($0 + earned, tokenCountMax) } }
}
