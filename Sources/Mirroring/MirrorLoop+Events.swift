internal import Catalog
internal import Logging
internal import StoreModel
internal import Synchronization

// What comes back, and what follows from it.
extension MirrorLoop {
    mutating func take(_ event: Event) async {
        let now = worker.clock.monotonicNanoseconds()
        switch event {
        case .tick:
            isTicking = false
            mayReadAgain = true
        case .probed(let result, let generation):
            guard generation == setupGeneration else { return }
            isProbing = false
            switch result {
            case .success(let keeps):
                if breaker.state == .halfOpen { failing = [] }
                breaker.noteSuccess(isProbe: true)
                probeSuccessCount += 1
                if keepsVersions != keeps {
                    keepsVersions = keeps
                    worker.logger.info(
                        "A mirror's backend answers.",
                        metadata: ["mirror": "\(worker.name)", "keepsVersions": "\(keeps)"]
                    )
                }
            case .failure(let error):
                guard !(error is CancellationError) else { return }
                note(Self.failure(error), now)
                // One is not enough, unless it needs help.
                wantsProbe = breaker.isClosed && keepsVersions != nil
            }
        case .performed(let task, .success(let ending)):
            // The backend works now; when the end is written is the store's affair.
            breaker.noteSuccess()
            budget.noteSuccess()
            taskSuccessCount += 1
            failing = []
            window.freePlace(of: task)
            ended.append(ending)
        case .performed(let task, .failure(let error)):
            running.remove(task.sequence)
            await take(error, of: task, now)
        case .ended(let outcomes):
            writingCount = 0
            for (ending, error) in outcomes {
                running.remove(ending.task.sequence)
                if let error { await take(error, of: ending.task, now) } else { take(ending, now) }
            }
        }
    }

    private mutating func take(_ ending: Ending, _ now: UInt64) {
        attempts[ending.task.sequence] = nil
        window.finish(ending.task)
        worker.pending.noteEnded(ending.task)
        lastProgress = now
        let time = worker.clock.now()
        worker.change { state in
            state.doneCount += 1
            state.sentBytes += ending.outcome.bytes
            state.lastSuccessAt = time
        }
    }

    private mutating func take(_ error: any Error, of task: MirrorTask, _ now: UInt64) async {
        switch error {
        case is CancellationError:
            window.delay(task, until: now)
        case let refusal as MirrorRefusal:
            await giveUp(task, refusal.message, holdsKey: false)
        case let failure as MirrorFailure:
            judge(failure, of: task, now)
            let counted = attempts[task.sequence]?.counted ?? 0
            if failure.kind == .rejected || counted >= worker.limits.attemptCountMax {
                await giveUp(task, failure.description, holdsKey: keepsVersions == true)
            } else {
                delay(task, retryAfter: failure.retryAfter, now)
            }
        case let error as StoreError where error.code == .cancelled:
            // The lease went to another worker, who goes on.
            (hasLease, renewAt) = (false, now)
            window.delay(task, until: now)
        case let error as StoreError:
            await take(error, of: task, now)
        default:
            noteTrouble(error)
            delay(task, retryAfter: nil, now)
        }
    }

    /// Whose trouble it is: the backend's, which the breaker is for, or the task's, which has its budget. MirrorFailure
    /// has the table.
    private mutating func judge(_ failure: MirrorFailure, of task: MirrorTask, _ now: UInt64) {
        var attempt = attempts[task.sequence] ?? Attempts()
        let othersWork = taskSuccessCount > attempt.tasksBefore
        let answersProbes = probeSuccessCount > attempt.probesBefore
        (attempt.tasksBefore, attempt.probesBefore) = (taskSuccessCount, probeSuccessCount)
        switch failure.scope {
        case .task:
            attempt.counted += 1
            show(failure.description)
        case .backend:
            note(failure, now)
            if failure.kind == .unreachable, othersWork { attempt.counted += 1 }
        case .unclear:
            failing.insert(task.sequence)
            if failing.count >= breaker.failureCountMax {
                note(failure, now, isCertain: true)
            } else {
                wantsProbe = breaker.isClosed
                show(failure.description)
            }
            if othersWork || answersProbes && failure.kind != .denied { attempt.counted += 1 }
        }
        attempts[task.sequence] = attempt
    }

    /// The store itself could not do its part.
    private mutating func take(_ error: StoreError, of task: MirrorTask, _ now: UInt64) async {
        noteTrouble(error)
        let isOfObject = [.dataUnavailable, .storeDamaged, .masterKeyUnavailable, .unsupportedFormat]
            .contains(
                error.code
            )
        if isOfObject { attempts[task.sequence, default: Attempts()].counted += 1 }
        if attempts[task.sequence]?.counted ?? 0 >= worker.limits.attemptCountMax {
            await giveUp(task, "\(error)", holdsKey: keepsVersions == true)
        } else {
            delay(task, retryAfter: nil, now)
        }
    }

    private mutating func delay(_ task: MirrorTask, retryAfter: Duration?, _ now: UInt64) {
        attempts[task.sequence, default: Attempts()].count += 1
        let count = attempts[task.sequence]?.count ?? 1
        var delay = worker.limits.backoff.delay(
            failures: count,
            retryAfter: retryAfter,
            random: worker.random
        )
        if !budget.takeRetry() { delay = max(delay, worker.limits.backoff.cap / 2) }
        window.delay(task, until: now &+ delay.nanoseconds)
    }

    private mutating func giveUp(_ task: MirrorTask, _ reason: String, holdsKey: Bool) async {
        let letter = DeadLetter(
            task: task,
            holdsKey: holdsKey,
            attemptCount: UInt32(clamping: (attempts[task.sequence]?.count ?? 0) + 1),
            time: worker.clock.now(),
            reason: reason
        )
        let key = MirrorKey.pending(worker.id, task.sequence)
        worker.pending.noteEnding(task)
        do {
            try await worker.store.write([
                DocumentWrite(space: .outbox, key: key, expectation: .present, body: nil),
                DocumentWrite(
                    space: .outbox,
                    key: MirrorKey.dead(worker.id, task.sequence),
                    body: letter.body
                ),
                worker.lease.proof,
            ])
        } catch {
            worker.pending.noteNotEnded(task)
            noteTrouble(error)
            let now = worker.clock.monotonicNanoseconds()
            return window.delay(task, until: now &+ worker.limits.backoff.cap.nanoseconds)
        }
        attempts[task.sequence] = nil
        worker.pending.noteEnded(task)
        lastProgress = worker.clock.monotonicNanoseconds()
        if holdsKey {
            let name = TaskWindow.Name(task)
            window.hold(name)
            worker.held.withLock { $0[name] = $0[name] ?? task.version }
        } else {
            window.finish(task)
        }
        worker.change { $0.deadCount += 1 }
        worker.logger.error(
            "A task of a mirror was given up.",
            metadata: [
                "mirror": "\(worker.name)", "bucket": "\(task.bucketName)",
                "key": "\(quoted(task.key.bytes))",
                "version": "\(task.version)", "reason": "\(reason)",
            ]
        )
    }

    private mutating func note(_ failure: MirrorFailure, _ now: UInt64, isCertain: Bool = false) {
        let before = breaker.state
        breaker.noteFailure(failure, at: now, isCertain: isCertain, random: worker.random)
        show(failure.description)
        guard breaker.state == .open, before != .open else { return }
        worker.logger.warning(
            "A mirror's backend does not work; it is left alone for a while.",
            metadata: ["mirror": "\(worker.name)", "reason": "\(failure)"]
        )
    }

    mutating func rest(after error: any Error) {
        noteTrouble(error)
        restsUntil = worker.clock.monotonicNanoseconds() &+ 1_000_000_000
    }

    func noteTrouble(_ error: any Error) {
        guard !(error is CancellationError) else { return }
        show("\(error)")
    }

    private func show(_ message: String) {
        let time = worker.clock.now()
        worker.change { state in
            state.failureCount += 1
            state.lastFailure = message
            state.lastFailureAt = time
        }
    }

    private static func failure(_ error: any Error) -> MirrorFailure {
        guard let failure = error as? MirrorFailure else { return MirrorFailure(.fault, "\(error)") }
        // The probe is about no object: whatever it was answered is about the backend.
        return failure.scope == .task ? MirrorFailure(.fault, failure.message) : failure
    }
}

extension StoreError.Code {
    /// Whether the same write may succeed later, whatever is in it.
    var isOfTheMoment: Bool {
        switch self {
        case .cancelled, .inputOutput, .notEnoughReplicas, .storeFull, .outcomeUnknown, .overloaded,
            .dataUnavailable, .catalogUnavailable, .deadlineExceeded:
            true
        default: false
        }
    }
}
