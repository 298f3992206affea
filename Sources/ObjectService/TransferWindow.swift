internal import StoreModel
internal import Synchronization

/// Chunks that may be worked on at the same time, over all uploads: bounds their memory, first come first served.
///
/// Who holds a permit waits for the storage at most, never for a client and never for another permit, so permits
/// always come back.
package final class ChunkPermits: Sendable {
    private struct State {
        var free: Int
        var waiters: [CheckedContinuation<Void, Never>] = []
        /// Waiters before this index were served; they are cut off now and then, not one by one.
        var served = 0
    }

    private let state: Mutex<State>

    package init(count: Int) {
        precondition(count > 0, "Without a permit no upload goes on.")
        state = Mutex(State(free: count))
    }

    package var freeCount: Int { state.withLock { $0.free } }

    package func acquire() async {
        if state.withLock({ Self.take(&$0) }) { return }
        await withCheckedContinuation { continuation in
            let isTaken = state.withLock { state in
                if Self.take(&state) { return true }
                state.waiters.append(continuation)
                return false
            }
            if isTaken { continuation.resume() }
        }
    }

    /// Takes a permit if there is one now.
    func acquireNow() -> Bool { state.withLock { Self.take(&$0) } }

    package func release() {
        let waiter = state.withLock { state -> CheckedContinuation<Void, Never>? in
            guard state.served < state.waiters.count else {
                state.free += 1
                return nil
            }
            let waiter = state.waiters[state.served]
            state.served += 1
            if state.served == state.waiters.count || state.served >= 256 {
                state.waiters.removeFirst(state.served)
                state.served = 0
            }
            return waiter
        }
        waiter?.resume()
    }

    private static func take(_ state: inout State) -> Bool {
        guard state.free > 0 else { return false }
        state.free -= 1
        return true
    }
}

/// The chunks of one upload that are worked on.
///
/// 1. At most `countMax` at a time, each with a permit.
/// 2. Waited for by the one task that takes the body in.
/// 3. The first failure of a chunk ends the waiting, now and later.
final class TransferWindow: Sendable {
    private struct State {
        var count = 0
        var failure: (any Error)?
        var waiter: CheckedContinuation<Void, any Error>?
    }

    private let countMax: Int
    private let permits: ChunkPermits
    private let state = Mutex(State())

    init(countMax: Int, permits: ChunkPermits) {
        precondition(countMax > 0, "A window lets at least one chunk in.")
        self.countMax = countMax
        self.permits = permits
    }

    /// Waits for room for one more chunk, then for its permit.
    func enter() async throws {
        if try !state.withLock({ try admit(&$0) }) { try await wait() }
        await permits.acquire()
    }

    private func wait() async throws {
        try await withCheckedThrowingContinuation { continuation in
            let answer: Result<Void, any Error>? = state.withLock { state in
                switch Result(catching: { try admit(&state) }) {
                case .success(true): return .success(())
                case .failure(let error): return .failure(error)
                case .success(false):
                    precondition(state.waiter == nil, "A window is filled by one task.")
                    state.waiter = continuation
                    return nil
                }
            }
            if let answer { continuation.resume(with: answer) }
        }
    }

    func leave() {
        permits.release()
        let waiter = state.withLock { state -> CheckedContinuation<Void, any Error>? in
            precondition(state.count > 0, "A chunk leaves the window once.")
            guard let waiter = state.waiter else {
                state.count -= 1
                return nil
            }
            // The place goes straight to the one who waits for it.
            state.waiter = nil
            return waiter
        }
        waiter?.resume()
    }

    func fail(_ error: any Error) {
        let waiter = state.withLock { state in
            if state.failure == nil { state.failure = error }
            defer { state.waiter = nil }
            return state.waiter
        }
        waiter?.resume(throwing: error)
    }

    private func admit(_ state: inout State) throws -> Bool {
        if let failure = state.failure { throw failure }
        guard state.count < countMax else { return false }
        state.count += 1
        return true
    }
}

/// One chunk on its way through: it leaves the window when the last step that needs its bytes lets go of it.
final class InFlightChunk: Sendable {
    let index: Int
    let bytes: [UInt8]
    private let window: TransferWindow

    /// The caller entered the window for it.
    init(index: Int, bytes: [UInt8], window: TransferWindow) {
        self.index = index
        self.bytes = bytes
        self.window = window
    }

    deinit { window.leave() }
}
