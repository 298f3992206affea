internal import Catalog
internal import ContentHashing
internal import StoreModel
internal import Synchronization

/// Payloads that are read for what they hash to: each by one reader at a time, whoever wants to know it.
///
/// 1. Of those who want the digest of a payload one reads it, and the others wait for what it finds.
/// 2. Who waits may leave. When who reads leaves, or can't read it, one of the others does, from the beginning: the trouble
///    may have been its own.
/// 3. As long as one of them must not wait for clients, the reading is not held back for them, from its next piece on.
/// 4. The last that were found are remembered, a bounded number.
final class DigestSearches: Sendable {
    private static let recentMax = 256

    private struct Search {
        /// Of all who want it: whether they must not wait for clients.
        var isHurried: [UInt64: @Sendable () -> Bool] = [:]
        var waiters: [UInt64: CheckedContinuation<Digest?, Never>] = [:]
    }

    private struct State {
        var searches: [PayloadReference: Search] = [:]
        /// Newest last.
        var recent: [(payload: PayloadReference, digest: Digest)] = []
        var nextNumber: UInt64 = 0
        /// They left before they waited.
        var left: Set<UInt64> = []
    }

    private enum Turn {
        case known(Digest)
        case read
        case wait(UInt64)
    }

    private let state = Mutex(State())

    /// - Parameters:
    ///   - isHurried: asked again and again whether who wants it must not wait for clients.
    ///   - read: reads the payload. It asks before it waits for clients whether it may.
    /// - Throws: what `read` throws; `CancellationError`.
    func digest(
        of payload: PayloadReference,
        isHurried: @escaping @Sendable () -> Bool,
        read: (_ mayWait: () -> Bool) async throws -> Digest
    ) async throws -> Digest {
        while true {
            try Task.checkCancellation()
            switch turn(payload, isHurried) {
            case .known(let digest): return digest
            case .read:
                do {
                    let digest = try await read { mayWait(payload) }
                    end(payload, digest)
                    return digest
                } catch {
                    end(payload, nil)
                    throw error
                }
            case .wait(let number):
                if let found = await wait(payload, number, isHurried) { return found }
            }
        }
    }

    /// How many wait for what somebody else reads.
    var waitingCount: Int { state.withLock { $0.searches.values.reduce(0) { $0 + $1.waiters.count } } }

    // Not inlined: a lock on either side of an await in one function is more than the compiler bears.

    @inline(never)
    private func turn(_ payload: PayloadReference, _ isHurried: @escaping @Sendable () -> Bool) -> Turn {
        state.withLock { state in
            if let found = state.recent.last(where: { $0.payload == payload }) { return .known(found.digest) }
            state.nextNumber += 1
            guard state.searches[payload] == nil else { return .wait(state.nextNumber) }
            state.searches[payload] = Search(isHurried: [state.nextNumber: isHurried])
            return .read
        }
    }

    @inline(never)
    private func mayWait(_ payload: PayloadReference) -> Bool {
        // Asked beside the lock: nobody knows what they do.
        let hurried = state.withLock { $0.searches[payload]?.isHurried.values.map(\.self) ?? [] }
        return !hurried.contains { $0() }
    }

    /// - Returns: nil when who read it has given up, or who waits is to leave.
    private func wait(
        _ payload: PayloadReference,
        _ number: UInt64,
        _ isHurried: @escaping @Sendable () -> Bool
    ) async -> Digest? {
        let found = await withTaskCancellationHandler {
            await withCheckedContinuation { (continuation: CheckedContinuation<Digest?, Never>) in
                let isWaiting = state.withLock { state in
                    // A search that has ended meanwhile has left what it found among the last.
                    guard !state.left.contains(number), state.searches[payload] != nil else { return false }
                    state.searches[payload]?.waiters[number] = continuation
                    state.searches[payload]?.isHurried[number] = isHurried
                    return true
                }
                if !isWaiting { continuation.resume(returning: nil) }
            }
        } onCancel: {
            let waiter = state.withLock { state -> CheckedContinuation<Digest?, Never>? in
                state.left.insert(number)
                return state.searches[payload]?.waiters.removeValue(forKey: number)
            }
            waiter?.resume(returning: nil)
        }
        forget(payload, number)
        return found
    }

    @inline(never)
    private func forget(_ payload: PayloadReference, _ number: UInt64) {
        state.withLock { state in
            state.left.remove(number)
            state.searches[payload]?.isHurried[number] = nil
        }
    }

    @inline(never)
    private func end(_ payload: PayloadReference, _ digest: Digest?) {
        let waiters = state.withLock { state in
            if let digest {
                state.recent.append((payload, digest))
                state.recent.removeFirst(max(0, state.recent.count - Self.recentMax))
            }
            return state.searches.removeValue(forKey: payload)?.waiters ?? [:]
        }
        for waiter in waiters.values { waiter.resume(returning: digest) }
    }
}
