internal import BlobVolume
internal import StoreModel
internal import Synchronization

/// One verified read of one chunk: the healthiest replica first, the next one when it fails or is slow.
///
/// Invariants:
/// 1. The continuation is resumed exactly once: by the first good bytes, by the failure of the last candidate, or by
///    the deadline.
/// 2. A read that is stuck is left behind: nobody waits for it, and its late answer is dropped.
/// 3. Every candidate that answered with damage or absence is reported, whoever wins.
final class ReadRace: Sendable {
    struct Failure: Sendable {
        let replica: any Replica
        let error: VolumeError
    }

    struct Answer: Sendable {
        let bytes: [UInt8]
        let source: VolumeID
        let failures: [Failure]
    }

    private struct State {
        var continuation: CheckedContinuation<Answer, any Error>?
        var nextCandidate = 0
        var outstanding = 0
        var failures: [Failure] = []
    }

    private let digest: Digest
    private let range: Range<Int>?
    private let candidates: [any Replica]
    private let timers: any Timers
    private let onLateFailure: @Sendable (Failure) -> Void
    private let state = Mutex(State())

    private init(
        digest: Digest,
        range: Range<Int>?,
        candidates: [any Replica],
        timers: any Timers,
        onLateFailure: @escaping @Sendable (Failure) -> Void
    ) {
        self.digest = digest
        self.range = range
        self.candidates = candidates
        self.timers = timers
        self.onLateFailure = onLateFailure
    }

    /// Reads from the candidates in their order.
    /// - Parameter onLateFailure: told of damage that shows after the race was won.
    /// - Throws: `StoreError` with `.dataUnavailable` or `.deadlineExceeded`, naming what each replica answered.
    static func run(
        digest: Digest,
        range: Range<Int>?,
        candidates: [any Replica],
        timers: any Timers,
        onLateFailure: @escaping @Sendable (Failure) -> Void
    ) async throws -> Answer {
        let race = ReadRace(
            digest: digest,
            range: range,
            candidates: candidates,
            timers: timers,
            onLateFailure: onLateFailure
        )
        return try await withCheckedThrowingContinuation { continuation in
            race.state.withLock { $0.continuation = continuation }
            timers.schedule(after: Limits.readDeadline, whileWanted: { race.isRunning }) { race.expire() }
            race.askNext()
        }
    }

    private func askNext() {
        let candidate: (any Replica)? = state.withLock { state in
            guard state.continuation != nil, state.nextCandidate < candidates.count else { return nil }
            defer { state.nextCandidate += 1 }
            state.outstanding += 1
            return candidates[state.nextCandidate]
        }
        guard let candidate else {
            finishIfExhausted()
            return
        }
        if candidates.count > 1 {
            // Bounded: reads that hung for a while must not teach that hanging is normal.
            let delay =
                candidate.latency.recentTail.map { min(max($0 * 2, .milliseconds(5)), Limits.hedgeDelayMax) }
                ?? Limits.hedgeDelayInitial
            timers.schedule(after: delay) { [self] in hedge() }
        }
        candidate.read(digest, range: range) { [self] result in
            switch result {
            case .success(let bytes): win(bytes, from: candidate)
            case .failure(let error): lose(Failure(replica: candidate, error: error))
            }
        }
    }

    private var isRunning: Bool { state.withLock { $0.continuation != nil } }

    private func hedge() {
        let isWanted = state.withLock { $0.continuation != nil && $0.nextCandidate < candidates.count }
        guard isWanted else { return }
        CoverageMark.reach(.hedgedRead)
        askNext()
    }

    private func win(_ bytes: [UInt8], from replica: any Replica) {
        let (continuation, failures) = state.withLock { state in
            state.outstanding -= 1
            defer { state.continuation = nil }
            return (state.continuation, state.failures)
        }
        continuation?.resume(returning: Answer(bytes: bytes, source: replica.id, failures: failures))
    }

    private func lose(_ failure: Failure) {
        let isLate = state.withLock { state in
            state.outstanding -= 1
            state.failures.append(failure)
            return state.continuation == nil
        }
        guard !isLate else { return onLateFailure(failure) }
        CoverageMark.reach(.readAfterFailure)
        askNext()
    }

    private func finishIfExhausted() {
        let (continuation, failures) = state.withLock {
            state -> (CheckedContinuation<Answer, any Error>?, [Failure]) in
            guard state.outstanding == 0, state.nextCandidate >= candidates.count else { return (nil, []) }
            defer { state.continuation = nil }
            return (state.continuation, state.failures)
        }
        continuation?.resume(throwing: NoGoodCopy(failures: failures))
    }

    private func expire() {
        let (continuation, asked) = state.withLock { state in
            defer { state.continuation = nil }
            return (state.continuation, state.nextCandidate)
        }
        guard let continuation else { return }
        let labels = candidates.prefix(asked).map(\.label).joined(separator: ", ")
        continuation.resume(
            throwing: StoreError(
                .deadlineExceeded,
                "Chunk \(digest) could not be read within \(Limits.readDeadline): no answer from \(labels)."
            )
        )
    }

    /// No candidate had good bytes.
    struct NoGoodCopy: Error {
        let failures: [Failure]
    }
}
