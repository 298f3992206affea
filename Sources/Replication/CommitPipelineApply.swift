internal import BlobVolume
internal import Catalog
internal import Logging
internal import StoreModel
internal import Synchronization

extension CommitPipeline {
    /// Applies what is committed, on the applier's thread; readers that wait for it go on then.
    func applyWaiting() {
        var isFirst = true
        while true {
            let batches = withState { state -> [(batch: AppliedBatch, lastDecision: UInt64)] in
                let taken = isFirst || mustApply(state) ? state.toApply : []
                if taken.isEmpty || state.stopReason?.code == .catalogUnavailable {
                    state.isApplying = false
                    return []
                }
                state.toApply = []
                return taken
            }
            isFirst = false
            guard let last = batches.last else { return }
            do {
                try catalog.apply(batches.map(\.batch))
            } catch {
                indexFailed(error)
                return
            }
            let lastDecision = batches.map(\.lastDecision).max() ?? 0
            let resumed = withState { state in
                state.appliedSequence = last.batch.position.sequence
                appliedMark.store(state.appliedSequence, ordering: .releasing)
                if lastDecision > 0 { state.decider?.noteApplied(through: lastDecision) }
                let applied = state.appliedSequence
                let ready = state.barriers.filter { $0.sequence <= applied }
                state.barriers.removeAll { $0.sequence <= applied }
                return ready
            }
            for barrier in resumed { barrier.continuation.resume() }
            pump()
        }
    }

    private func indexFailed(_ error: CatalogError) {
        logger.error("The catalog's index failed.", metadata: ["error": "\(error)"])
        decide { state in
            var work: [Work] = []
            state.isApplying = false
            stop(error.storeError, &state, &work)
            return work
        }
    }

    /// Returns when everything that is committed now is applied.
    func awaitApplied() async throws {
        // What is committed is read first: the index only ever gets further.
        let committed = committedMark.load(ordering: .acquiring)
        if appliedMark.load(ordering: .acquiring) >= committed, !hasStopped.load(ordering: .acquiring) {
            return
        }
        try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
            decide { state in
                if let reason = state.stopReason {
                    return [.answer { continuation.resume(throwing: reason) }]
                }
                if state.appliedSequence >= state.committedSequence {
                    return [.answer { continuation.resume() }]
                }
                state.barriers.append((state.committedSequence, continuation))
                var work: [Work] = []
                startApplying(&state, &work)
                return work
            }
        }
    }

    var isClosing: Bool { withState { $0.isClosing } }
    var isStopped: Bool { withState { $0.stopReason != nil } }

    /// Ends the pipeline: what is not committed is answered as unknown, what is not in a batch as refused.
    func stop(_ reason: StoreError, _ state: inout State, _ work: inout [Work]) {
        guard state.stopReason == nil else { return }
        // What is under way may still come true when the store is opened again: nothing of it is garbage.
        gate.close()
        state.stopReason = reason
        hasStopped.store(true, ordering: .releasing)
        closeIntake(reason)
        work += refuseWaiting(&state, reason)
        for batch in state.batches { work += Self.unknownAnswers(batch, because: reason.message) }
        state.batches = []
        let barriers = state.barriers
        state.barriers = []
        work.append(.answer { for barrier in barriers { barrier.continuation.resume(throwing: reason) } })
        if let waiter = state.openWaiter {
            state.openWaiter = nil
            work.append(.answer { waiter(.failure(reason)) })
        }
    }

    static func unknownAnswers(_ batch: Batch, because reason: String) -> [Work] {
        let unknown = StoreError(
            .outcomeUnknown,
            "It is not known whether the change became durable: \(reason)",
            advice: "Look at the object's history before you try again."
        )
        // A refusal changes nothing whatever becomes of the batch; but its reason may be gone with it.
        var work: [Work] = [.answers(batch.waiters, failure: unknown)]
        if let answer = batch.systemAnswer { work.append(.answer { answer(.failure(unknown)) }) }
        return work
    }

    func close() {
        decide { state in
            var work: [Work] = []
            state.isClosing = true
            stop(StoreError(.catalogUnavailable, "The store is closed."), &state, &work)
            return work
        }
        applier.stop()
    }

    // MARK: Deadlines

    /// Looks once a second for requests that have waited too long; sleeps while there is nothing to look at.
    func startSweeping() {
        guard !isSweeping.load(ordering: .acquiring) else { return }
        let mustStart = withState { state in
            guard !isSweeping.load(ordering: .relaxed), state.stopReason == nil else { return false }
            guard
                !state.batches.isEmpty || state.waitingHead < state.waiting.count
                    || !state.systemWaiting.isEmpty
                    || state.toApply.count >= Limits.unappliedBatchCountMax
            else { return false }
            isSweeping.store(true, ordering: .releasing)
            return true
        }
        if mustStart { timers.schedule(after: .seconds(1)) { [weak self] in self?.sweep() } }
    }

    private func sweep() {
        let now = clock.monotonicNanoseconds()
        let patience = UInt64(Limits.commitDeadline.components.seconds) * 1_000_000_000
        decide { state in
            isSweeping.store(false, ordering: .releasing)
            fetchWaiting(&state)
            var work: [Work] = []
            let obstacle =
                state.machine.status.obstacle ?? "no quorum answered within \(Limits.commitDeadline)"
            for index in state.batches.indices where state.batches[index].builtAt + patience < now {
                work += Self.unknownAnswers(state.batches[index], because: obstacle)
                state.batches[index].waiters = []
                state.batches[index].systemAnswer = nil
            }
            settleBatches(&state, &work)
            releaseHeld(&state, &work)
            let refusal = StoreError(
                .notEnoughReplicas,
                "The commit log takes nothing now: \(obstacle). Nothing became visible."
            )
            while let request = state.systemWaiting.first, request.submittedAt + patience < now {
                state.systemWaiting.removeFirst()
                work.append(.answer { request.answer(.failure(refusal)) })
            }
            while state.waitingHead < state.waiting.count,
                state.waiting[state.waitingHead].submittedAt + patience < now
            {
                let request = state.waiting[state.waitingHead]
                state.waitingHead += 1
                work.append(.answer { request.answer(.failure(refusal)) })
            }
            if state.waitingHead > 0 {
                state.waiting.removeFirst(state.waitingHead)
                state.waitingHead = 0
            }
            return work
        }
        pump()
    }
}
