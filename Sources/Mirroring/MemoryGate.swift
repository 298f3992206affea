internal import Synchronization

/// So many bytes may be in memory at a time; who wants more waits, first come first served.
package final class MemoryGate: Sendable {
    private struct Waiter {
        let number: UInt64
        let count: Int
        let continuation: CheckedContinuation<Bool, Never>
    }

    private struct State {
        var free: Int
        var waiters: [Waiter] = []
        var nextNumber: UInt64 = 0
        /// Cancelled before they waited.
        var cancelled: Set<UInt64> = []

        mutating func admit() -> [CheckedContinuation<Bool, Never>] {
            var admitted: [CheckedContinuation<Bool, Never>] = []
            while let first = waiters.first, first.count <= free {
                free -= first.count
                admitted.append(first.continuation)
                waiters.removeFirst()
            }
            return admitted
        }
    }

    private let total: Int
    private let state: Mutex<State>

    package init(_ total: Int) {
        self.total = total
        state = Mutex(State(free: total))
    }

    /// Runs `body` with room for so many bytes, or for all there is when it asks for more.
    package func with<Value: Sendable>(
        _ count: Int,
        _ body: () async throws -> Value
    ) async throws -> Value {
        let count = min(max(count, 1), total)
        try await take(count)
        defer { give(count) }
        return try await body()
    }

    private func take(_ count: Int) async throws {
        let number = state.withLock { state in
            state.nextNumber += 1
            return state.nextNumber
        }
        let isAdmitted = await withTaskCancellationHandler {
            await withCheckedContinuation { (continuation: CheckedContinuation<Bool, Never>) in
                let answer = state.withLock { state -> Bool? in
                    if state.cancelled.remove(number) != nil { return false }
                    if state.waiters.isEmpty, count <= state.free {
                        state.free -= count
                        return true
                    }
                    state.waiters.append(Waiter(number: number, count: count, continuation: continuation))
                    return nil
                }
                if let answer { continuation.resume(returning: answer) }
            }
        } onCancel: {
            let (waiter, admitted) = state.withLock { state in
                guard let index = state.waiters.firstIndex(where: { $0.number == number }) else {
                    state.cancelled.insert(number)
                    return (Waiter?.none, [CheckedContinuation<Bool, Never>]())
                }
                let waiter = state.waiters.remove(at: index)
                return (waiter, state.admit())
            }
            waiter?.continuation.resume(returning: false)
            for continuation in admitted { continuation.resume(returning: true) }
        }
        state.withLock { _ = $0.cancelled.remove(number) }
        guard isAdmitted else { throw CancellationError() }
    }

    private func give(_ count: Int) {
        let admitted = state.withLock { state in
            state.free += count
            return state.admit()
        }
        for continuation in admitted { continuation.resume(returning: true) }
    }
}
