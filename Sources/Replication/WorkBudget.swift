package import StoreModel
internal import Synchronization

/// How much clients are doing right now, as far as background work has to know.
package final class ClientLoad: Sendable {
    private let running = Atomic<Int>(0)
    private let lastEnd = Mutex<ContinuousClock.Instant?>(nil)
    /// Clients that just got an answer are likely to ask again.
    private static let memory: Duration = .milliseconds(100)

    /// Whether what the task reads and writes is no client's: nothing would ever be idle that yields to itself.
    @TaskLocal private static var isBackground = false

    package init() {}

    /// Runs `body`, and what it starts, without counting it as a client's.
    package static func inBackground<Value: Sendable>(
        _ body: () async throws -> Value
    ) async rethrows -> Value {
        try await $isBackground.withValue(true, operation: body)
    }

    package func run<Value>(_ body: () async throws -> Value) async rethrows -> Value {
        guard !Self.isBackground else { return try await body() }
        running.wrappingAdd(1, ordering: .relaxed)
        defer {
            running.wrappingSubtract(1, ordering: .relaxed)
            lastEnd.withLock { $0 = .now }
        }
        return try await body()
    }

    /// Notes that a client was served just now, at once.
    package func note() {
        guard !Self.isBackground else { return }
        lastEnd.withLock { $0 = .now }
    }

    package var isBusy: Bool {
        if running.load(ordering: .relaxed) > 0 { return true }
        return lastEnd.withLock { $0.map { ContinuousClock.now - $0 < Self.memory } ?? false }
    }
}

/// What background work may take of the disks: bytes and calls a second, as token buckets that hold a quarter of a second.
///
/// A debt is taken at once and waited for afterwards, so that work of any size gets through.
package struct TokenBucket: Sendable {
    package private(set) var level: Double
    private var last: UInt64
    package let ratePerSecond: Double

    /// - Parameter now: nanoseconds of a clock that never goes back.
    package init(ratePerSecond: Double, now: UInt64) {
        precondition(ratePerSecond > 0, "A bucket is filled at some rate.")
        self.ratePerSecond = ratePerSecond
        level = ratePerSecond / 4
        last = now
    }

    /// Takes an amount.
    /// - Returns: how long to wait before the next thing is done.
    package mutating func take(_ amount: Double, now: UInt64) -> Duration {
        let elapsed = now > last ? Double(now - last) / 1e9 : 0
        last = max(last, now)
        level = min(ratePerSecond / 4, level + elapsed * ratePerSecond) - amount
        guard level < 0 else { return .zero }
        // A debt is paid within a minute: whoever asked for gigabytes at once does not sleep for hours.
        return .seconds(min(-level / ratePerSecond, 60))
    }
}

package final class WorkBudget: Sendable {
    package struct Rates: Sendable, Hashable {
        package var bytesPerSecond: Double
        package var operationsPerSecond: Double
        /// As fast as it goes while no client asks for anything.
        package var isUnlimitedWhenIdle: Bool

        package init(bytesPerSecond: Double, operationsPerSecond: Double, isUnlimitedWhenIdle: Bool) {
            self.bytesPerSecond = bytesPerSecond
            self.operationsPerSecond = operationsPerSecond
            self.isUnlimitedWhenIdle = isUnlimitedWhenIdle
        }

        /// Beside clients a twentieth of what a disk gives; alone all of it.
        package static let standard = Rates(
            bytesPerSecond: 16_000_000,
            operationsPerSecond: 100,
            isUnlimitedWhenIdle: true
        )
    }

    private struct State {
        var rates: Rates
        var bytes: TokenBucket
        var operations: TokenBucket
    }

    private let state: Mutex<State>
    private let load: ClientLoad
    private let isUrgent: @Sendable () -> Bool
    private let clock: any StoreClock

    /// - Parameter isUrgent: whether clients wait for the work itself: then it does not yield to them.
    package init(
        _ rates: Rates = .standard,
        load: ClientLoad,
        isUrgent: @escaping @Sendable () -> Bool = { false },
        clock: any StoreClock
    ) {
        self.load = load
        self.isUrgent = isUrgent
        self.clock = clock
        let now = clock.monotonicNanoseconds()
        state = Mutex(Self.state(rates, now))
    }

    private static func state(_ rates: Rates, _ now: UInt64) -> State {
        State(
            rates: rates,
            bytes: TokenBucket(ratePerSecond: max(rates.bytesPerSecond, 1), now: now),
            operations: TokenBucket(ratePerSecond: max(rates.operationsPerSecond, 1), now: now)
        )
    }

    package var rates: Rates { state.withLock { $0.rates } }

    package func set(_ rates: Rates) {
        let now = clock.monotonicNanoseconds()
        state.withLock { $0 = Self.state(rates, now) }
    }

    /// Whether there are clients to whom the work yields.
    package var isBusy: Bool { load.isBusy && !isUrgent() }

    /// Says what was just done; returns when more may be done.
    package func spend(bytes: UInt64, operations: UInt64) async throws {
        let isBusy = isBusy
        let now = clock.monotonicNanoseconds()
        let pause = state.withLock { state -> Duration in
            if state.rates.isUnlimitedWhenIdle && !isBusy { return .zero }
            return max(
                state.bytes.take(Double(bytes), now: now),
                state.operations.take(Double(operations), now: now)
            )
        }
        var rest = pause
        // In short pieces: it goes on as soon as the clients have gone.
        while rest > .zero {
            let piece = min(rest, .milliseconds(50))
            try await clock.sleep(for: piece)
            rest -= piece
            if rates.isUnlimitedWhenIdle && !self.isBusy { return }
        }
    }
}
