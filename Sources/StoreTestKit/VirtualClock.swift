package import StoreModel
internal import Synchronization

/// Time that stands still until the test moves it.
///
/// Sleepers wake in the order of their deadlines; `advance(by:)` returns when they have been resumed, not
/// when they have run: wait for what they do, or for them to sleep again (`sleepers(atLeast:)`).
package final class VirtualClock: StoreClock {
    private struct Sleeper {
        let deadline: UInt64
        let continuation: CheckedContinuation<Void, any Error>
    }

    private struct Watcher {
        let sleeperCount: Int
        let continuation: CheckedContinuation<Void, Never>
    }

    private struct State {
        var nanoseconds: UInt64 = 0
        var wallOffset: Int64
        var sleepers: [UInt64: Sleeper] = [:]
        var nextSleeper: UInt64 = 0
        /// Cancelled before they fell asleep.
        var cancelled: Set<UInt64> = []
        var watchers: [Watcher] = []

        mutating func takeWatchers() -> [CheckedContinuation<Void, Never>] {
            let ready = watchers.filter { $0.sleeperCount <= sleepers.count }
            watchers.removeAll { $0.sleeperCount <= sleepers.count }
            return ready.map(\.continuation)
        }
    }

    private let state: Mutex<State>

    /// - Parameter start: The wall clock at the beginning.
    package init(start: Timestamp = Timestamp(milliseconds: 1_700_000_000_000)) {
        state = Mutex(State(wallOffset: start.milliseconds))
    }

    package func monotonicNanoseconds() -> UInt64 { state.withLock { $0.nanoseconds } }

    package func now() -> Timestamp {
        state.withLock { Timestamp(milliseconds: $0.wallOffset + Int64($0.nanoseconds / 1_000_000)) }
    }

    package var sleeperCount: Int { state.withLock { $0.sleepers.count } }

    /// Lets time pass and wakes those whose deadline has come, earliest first.
    package func advance(by duration: Duration) {
        let due = state.withLock { state in
            state.nanoseconds += Self.nanoseconds(duration)
            let now = state.nanoseconds
            let due = state.sleepers.filter { $0.value.deadline <= now }
                .sorted { ($0.value.deadline, $0.key) < ($1.value.deadline, $1.key) }
            for (number, _) in due { state.sleepers[number] = nil }
            return due.map(\.value.continuation)
        }
        for continuation in due { continuation.resume() }
    }

    /// Moves the wall clock alone, forwards or back: what an operator or NTP does.
    package func jumpWallClock(milliseconds: Int64) { state.withLock { $0.wallOffset += milliseconds } }

    /// Returns when at least so many tasks are asleep.
    package func sleepers(atLeast count: Int) async {
        await withCheckedContinuation { continuation in
            let ready = state.withLock { state in
                state.watchers.append(Watcher(sleeperCount: count, continuation: continuation))
                return state.takeWatchers()
            }
            for continuation in ready { continuation.resume() }
        }
    }

    package func sleep(for duration: Duration) async throws {
        guard duration > .zero else { return try Task.checkCancellation() }
        let number = state.withLock { state in
            defer { state.nextSleeper += 1 }
            return state.nextSleeper
        }
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation {
                (continuation: CheckedContinuation<Void, any Error>) in
                let (isCancelled, ready) = state.withLock { state in
                    if state.cancelled.remove(number) != nil {
                        return (true, [CheckedContinuation<Void, Never>]())
                    }
                    let deadline = state.nanoseconds + Self.nanoseconds(duration)
                    state.sleepers[number] = Sleeper(deadline: deadline, continuation: continuation)
                    return (false, state.takeWatchers())
                }
                if isCancelled { continuation.resume(throwing: CancellationError()) }
                for continuation in ready { continuation.resume() }
            }
        } onCancel: {
            let sleeper = state.withLock { state -> Sleeper? in
                if let sleeper = state.sleepers.removeValue(forKey: number) { return sleeper }
                state.cancelled.insert(number)
                return nil
            }
            sleeper?.continuation.resume(throwing: CancellationError())
        }
        // A cancellation that came after waking has left its mark.
        state.withLock { _ = $0.cancelled.remove(number) }
    }

    private static func nanoseconds(_ duration: Duration) -> UInt64 {
        let (seconds, attoseconds) = duration.components
        precondition(seconds >= 0 && attoseconds >= 0, "Time does not go back.")
        return UInt64(seconds) * 1_000_000_000 + UInt64(attoseconds / 1_000_000_000)
    }
}
