internal import StoreModel
internal import Synchronization

/// Passes blocks from a thread that blocks to a task that must not: one block at a time, so memory stays bounded.
///
/// Invariant: there is one producer and one consumer.
final class BlockHandoff<Result: Sendable>: Sendable {
    private struct State {
        /// At most one, but in a simulation.
        var blocks: [[UInt8]] = []
        var taken: BlockingSignal?
        var outcome: Swift.Result<Result, any Error>?
        var isAbandoned = false
        var consumer: CheckedContinuation<Void, Never>?
    }

    private let state = Mutex(State())

    /// Waits until the block is taken.
    /// - Throws: `StoreError` with `.deadlineExceeded` when nobody takes it, `.cancelled` when nobody will.
    func offer(_ block: [UInt8]) throws {
        let taken = BlockingSignal()
        let (consumer, isAbandoned) = state.withLock { state in
            state.blocks.append(block)
            state.taken = taken
            defer { state.consumer = nil }
            return (state.consumer, state.isAbandoned)
        }
        guard !isAbandoned else { throw StoreError(.cancelled, "The catalog snapshot was given up.") }
        consumer?.resume()
        // There the producer has the consumer's thread: while it waited in the middle of its work, others would be done in it.
        if ThreadSimulation.current != nil { return }
        guard taken.wait(for: Limits.commitDeadline) else {
            throw StoreError(
                .deadlineExceeded,
                "A block of the catalog snapshot could not be written in time."
            )
        }
        if state.withLock({ $0.isAbandoned }) {
            throw StoreError(.cancelled, "The catalog snapshot was given up.")
        }
    }

    func finish(_ outcome: Swift.Result<Result, any Error>) {
        let consumer = state.withLock { state in
            state.outcome = outcome
            defer { state.consumer = nil }
            return state.consumer
        }
        consumer?.resume()
    }

    /// The next block, or nil after the last.
    func next() async -> [UInt8]? {
        while true {
            let (block, taken, isFinished) = state.withLock { state in
                defer { state.taken = nil }
                let block = state.blocks.isEmpty ? nil : state.blocks.removeFirst()
                return (block, state.taken, state.outcome != nil)
            }
            taken?.signal()
            if let block { return block }
            if isFinished { return nil }
            await withCheckedContinuation { (continuation: CheckedContinuation<Void, Never>) in
                let resumeNow = state.withLock { state in
                    if !state.blocks.isEmpty || state.outcome != nil { return true }
                    state.consumer = continuation
                    return false
                }
                if resumeNow { continuation.resume() }
            }
        }
    }

    /// The producer's result, once `next()` gave nil.
    func result() throws -> Result {
        guard let outcome = state.withLock({ $0.outcome }) else {
            preconditionFailure("The result of a handoff is asked for after its last block.")
        }
        return try outcome.get()
    }

    /// The consumer gives up: the producer's next offer fails.
    func abandon() {
        let taken = state.withLock { state in
            state.isAbandoned = true
            defer {
                state.blocks = []
                state.taken = nil
            }
            return state.taken
        }
        taken?.signal()
    }
}
