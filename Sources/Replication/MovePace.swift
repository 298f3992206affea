internal import StoreModel
internal import Synchronization

/// How fast copies are made in the background: at full speed while clients do nothing, within a budget while they do.
final class MovePace: Sendable {
    private struct State {
        var turns = 0
        var busyUntil: UInt64 = 0
        /// When the budget that was taken so far is used up.
        var paidUntil: UInt64 = 0
    }

    /// Clients count as busy so long after their last request.
    private static let memory: UInt64 = 250_000_000
    /// Budget that may be taken ahead: a few chunks.
    private static let burst: UInt64 = 100_000_000

    private let state = Mutex(State())
    private let clock: any StoreClock
    private let bytesPerSecond: UInt64

    init(_ clock: any StoreClock, bytesPerSecond: UInt64) {
        self.clock = clock
        self.bytesPerSecond = max(bytesPerSecond, 1)
    }

    /// Waits until so many bytes may be copied.
    /// - Parameter clientTurns: counts what clients asked for.
    func take(_ byteCount: Int, clientTurns: Int) async throws {
        let now = clock.monotonicNanoseconds()
        let wait = state.withLock { state -> UInt64 in
            if state.turns != clientTurns {
                state.turns = clientTurns
                state.busyUntil = now + Self.memory
            }
            guard now < state.busyUntil else {
                state.paidUntil = now
                return 0
            }
            state.paidUntil = max(state.paidUntil, now) + UInt64(byteCount) * 1_000_000_000 / bytesPerSecond
            return state.paidUntil - now > Self.burst ? state.paidUntil - now - Self.burst : 0
        }
        if wait > 0 { try await clock.sleep(for: .nanoseconds(Int64(clamping: wait))) }
    }
}
