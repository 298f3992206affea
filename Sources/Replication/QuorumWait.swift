internal import BlobVolume
internal import Synchronization

/// Waits until enough of several calls succeeded; the rest goes on without anybody waiting.
///
/// Invariant: the continuation is resumed exactly once.
final class QuorumWait: Sendable {
    struct Outcome: Sendable {
        var succeeded = VolumeMask()
        var errors: [Int: VolumeError] = [:]
        /// Asked, and not answered yet.
        var outstanding = VolumeMask()
    }

    private struct State {
        var outcome = Outcome()
        var outstanding: VolumeMask
        var ignoresLaggards = false
        var hasGivenUp = false
        var continuation: CheckedContinuation<Outcome, Never>?
    }

    private let state: Mutex<State>
    private let isEnough: @Sendable (_ succeeded: VolumeMask) -> Bool
    private let mayLeave: @Sendable (_ outstanding: VolumeMask) -> Bool

    /// - Parameters:
    ///   - calls: the volumes that are asked; each must be reported by `completed`.
    ///   - isEnough: whether these successes are enough.
    ///   - mayLeave: whether the calls that are still out may be left behind already.
    init(
        calls: VolumeMask,
        isEnough: @escaping @Sendable (VolumeMask) -> Bool,
        mayLeave: @escaping @Sendable (VolumeMask) -> Bool = { _ in true }
    ) {
        state = Mutex(State(outstanding: calls))
        self.isEnough = isEnough
        self.mayLeave = mayLeave
    }

    func completed(_ index: Int, _ result: Result<Void, VolumeError>) {
        resumeIfDone { state in
            state.outstanding.remove(index)
            switch result {
            case .success: state.outcome.succeeded.insert(index)
            case .failure(let error): state.outcome.errors[index] = error
            }
        }
    }

    /// From now on the quorum is enough, however far behind the others are.
    func loseInterestInLaggards() {
        resumeIfDone { $0.ignoresLaggards = true }
    }

    /// The deadline has passed: answers with what there is.
    func giveUp() {
        resumeIfDone { $0.hasGivenUp = true }
    }

    /// Whether somebody waits still.
    var isWaiting: Bool { state.withLock { $0.continuation != nil } }

    func outcome() async -> Outcome {
        await withCheckedContinuation { continuation in
            resumeIfDone { $0.continuation = continuation }
        }
    }

    private func resumeIfDone(_ change: (inout State) -> Void) {
        let ready = state.withLock { state -> (CheckedContinuation<Outcome, Never>, Outcome)? in
            change(&state)
            guard let continuation = state.continuation, isDone(state) else { return nil }
            state.continuation = nil
            state.outcome.outstanding = state.outstanding
            return (continuation, state.outcome)
        }
        if let (continuation, outcome) = ready { continuation.resume(returning: outcome) }
    }

    private func isDone(_ state: State) -> Bool {
        if state.hasGivenUp || state.outstanding.isEmpty { return true }
        guard isEnough(state.outcome.succeeded) else { return false }
        return state.ignoresLaggards || mayLeave(state.outstanding)
    }
}
