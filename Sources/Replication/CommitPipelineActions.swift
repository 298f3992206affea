internal import BlobVolume
internal import Catalog
internal import StoreModel
internal import Synchronization

extension CommitPipeline {
    /// Something to do outside the lock.
    enum Work {
        case writeRecord(Int, incarnation: UInt64, VolumeLogRecord)
        case resetLog(Int, incarnation: UInt64, base: LogPosition)
        case trimLog(Int, incarnation: UInt64, base: LogPosition)
        case noteRebuilt(Int, incarnation: UInt64)
        case copy(BatchCopy)
        /// - Parameter wholeSince: nil when the volume lacks something that the batch refers to; else when that was looked at.
        case append(Int, incarnation: UInt64, ReplicaGroup, wholeSince: LossMoment?)
        case answer(@Sendable () -> Void)
        /// Answers to the callers of a batch: as decided, or with the reason why it came to nothing.
        case answers([Waiter], failure: StoreError?)
        case apply

        var isAnswer: Bool {
            switch self {
            case .answer, .answers: true
            default: false
            }
        }
    }

    typealias Event = (inout CommitLogMachine) -> [CommitLogMachine.Action]

    /// Feeds an event to the machine and does what it asks for.
    /// - Parameter endsAction: whether the event is the end of an action.
    func handle(endsAction: Bool, _ event: Event) {
        decide { state in
            if endsAction { state.actionsInFlight -= 1 }
            guard state.stopReason == nil else { return [] }
            return prepare(event(&state.machine), &state)
        }
        checkOpening()
        pump()
    }

    /// Turns the machine's actions into work; what needs only the state is done here.
    func prepare(_ actions: [CommitLogMachine.Action], _ state: inout State) -> [Work] {
        var work: [Work] = []
        var pending = actions[...]
        while let action = pending.popFirst() {
            switch action {
            case .writeRecord(let id, let incarnation, let record):
                guard let index = volumes.index(of: id) else { continue }
                state.actionsInFlight += 1
                work.append(.writeRecord(index, incarnation: incarnation, record))
            case .resetLog(let id, let incarnation, let base):
                guard let index = volumes.index(of: id) else { continue }
                state.actionsInFlight += 1
                work.append(.resetLog(index, incarnation: incarnation, base: base))
            case .advanceBase(let id, let incarnation, let base):
                guard let index = volumes.index(of: id) else { continue }
                state.actionsInFlight += 1
                work.append(.trimLog(index, incarnation: incarnation, base: base))
            case .noteRebuilt(let id, let incarnation):
                guard let index = volumes.index(of: id) else { continue }
                state.actionsInFlight += 1
                work.append(.noteRebuilt(index, incarnation: incarnation))
            case .copyBatches(let target, let incarnation, let source, let after, let through):
                guard let to = volumes.index(of: target), let from = volumes.index(of: source) else {
                    continue
                }
                state.actionsInFlight += 1
                let copy = BatchCopy(
                    target: to,
                    source: from,
                    incarnation: incarnation,
                    done: after.sequence,
                    through: through
                )
                work.append(.copy(copy))
            case .proposeStart(let place):
                guard place == state.machine.upcoming else { continue }
                let entry = CatalogEntry.system(
                    [.epochStart(epoch: place.epoch)],
                    operation: OperationID.random(from: random)
                )
                pending += propose(place, entries: [entry], contents: BatchContents(), &state)
            case .append(let id, let incarnation, let position):
                guard let index = volumes.index(of: id) else { continue }
                if let append = holdOrSend(index, incarnation, position, &state) { work.append(append) }
            case .ready:
                break
            case .committed(let through):
                noteCommitted(through: through, &state, &work)
            case .startOver(let reason), .deposed(let reason):
                let error = StoreError(
                    .catalogUnavailable,
                    "The commit log stopped: \(reason).",
                    advice: "Open the store again."
                )
                stop(error, &state, &work)
            }
        }
        releaseHeld(&state, &work)
        state.retained.removeAll(before: state.machine.retainedFrom)
        return work
    }

    func prepareAppend(
        _ index: Int,
        _ incarnation: UInt64,
        _ position: LogPosition,
        _ state: inout State
    ) -> Work {
        guard
            let (group, wholeSince) = state.retained.send(
                position,
                to: index,
                incarnation: incarnation,
                usable: volumes.usableMask
            )
        else { preconditionFailure("The commit log asked for a batch that is no longer kept.") }
        if let place = state.place(of: position) {
            state.batches[place].outstanding.insert(index)
        }
        if wholeSince != nil { state.onTheirWay[index].append(position.sequence) }
        return .append(index, incarnation: incarnation, group, wholeSince: wholeSince)
    }

    // MARK: Doing it

    func perform(_ work: Work) {
        switch work {
        case .writeRecord(let index, let incarnation, let record):
            let id = volumes.slots[index].id
            perform(index, incarnation, { $0.writeLogRecord(record, completion: $1) }) { machine in
                machine.recordWritten(id, incarnation: incarnation)
            }
        case .resetLog(let index, let incarnation, let base):
            let id = volumes.slots[index].id
            perform(index, incarnation, { $0.resetLog(base: base, completion: $1) }) { machine in
                machine.logReset(id, incarnation: incarnation)
            }
        case .trimLog(let index, let incarnation, let base):
            let id = volumes.slots[index].id
            perform(index, incarnation, { $0.trimLog(base: base, completion: $1) }) { machine in
                machine.baseAdvanced(id, incarnation: incarnation)
            }
        case .noteRebuilt(let index, let incarnation):
            noteRebuilt(index, incarnation)
        case .copy(let copy):
            copyNext(copy)
        case .append(let index, let incarnation, let group, let wholeSince):
            append(group, to: index, incarnation, wholeSince: wholeSince)
        case .answer(let answer):
            answer()
        case .answers(let waiters, let failure):
            for waiter in waiters { waiter.answer(failure.map { .failure($0) } ?? waiter.result) }
        case .apply:
            let isQueued = applier.submit { [self] in applyWaiting() }
            precondition(isQueued || isStopped, "The applier takes one job at a time.")
        }
    }

    /// The volume has its log back: its own signs of damage go, then what its peers recorded about it.
    private func noteRebuilt(_ index: Int, _ incarnation: UInt64) {
        let id = volumes.slots[index].id
        for peer in volumes.present where peer != index {
            volumes.usableReplica(peer)?.clearFailure(of: id) { _ in }
        }
        perform(index, incarnation, { $0.noteLogRebuilt(completion: $1) }) { machine in
            machine.rebuiltNoted(id, incarnation: incarnation)
        }
    }

    /// One call of a volume whose success is an event of the log and whose failure is a failure of the volume.
    private func perform(
        _ index: Int,
        _ incarnation: UInt64,
        _ call: (any Replica, @escaping ReplicaCompletion<Void>) -> Void,
        _ event: @escaping @Sendable (inout CommitLogMachine) -> [CommitLogMachine.Action]
    ) {
        guard let replica = volumes.usableReplica(index) else {
            volumeEnded(index, incarnation, nil, reason: volumes.problem(at: index) ?? "not usable")
            return
        }
        call(replica) { [self] result in
            switch result {
            case .success:
                handle(endsAction: true, event)
            case .failure(let error):
                volumeEnded(index, incarnation, replica, reason: error.description)
            }
        }
    }

    /// An action on a volume failed: the volume takes no further part until the store is opened again.
    ///
    /// A late failure, of a life of the volume that has ended, says nothing about the next one: it came back since, as another
    /// replica or after it had lagged. Unless the replica that is there has failed for good.
    /// - Parameter replica: the one that was called; nil when none could be.
    func volumeEnded(_ index: Int, _ incarnation: UInt64, _ replica: (any Replica)?, reason: String) {
        let slot = volumes.slots[index]
        let isBroken = replica.map { $0 === slot.replica && $0.hasFailed } ?? false
        guard isBroken || withState({ $0.machine.isCurrent(slot.id, incarnation) }) else {
            return handle(endsAction: true) { _ in [] }
        }
        onVolumeFailure.withLock { $0 }?(index, replica, reason)
        handle(endsAction: true) { machine in
            isBroken || machine.isCurrent(slot.id, incarnation) ? machine.fail(slot.id, reason: reason) : []
        }
    }

    private func append(
        _ group: ReplicaGroup,
        to index: Int,
        _ incarnation: UInt64,
        wholeSince: LossMoment?
    ) {
        guard let batch = group.batch else { preconditionFailure("The log appends batches.") }
        guard let replica = volumes.usableReplica(index) else {
            noteUnacknowledged(batch.position, by: index, incarnation)
            volumeEnded(index, incarnation, nil, reason: volumes.problem(at: index) ?? "not usable")
            return
        }
        replica.appendGroup(group) { [self] result in
            switch result {
            case .success(.whole):
                // This replica and no other: what came back in its place may not have the batch.
                if let wholeSince {
                    replica.advanceComplete(to: batch.position.sequence, unlessLostSince: wholeSince)
                }
                acknowledge(batch.position, by: index, incarnation, hasPayloads: true)
            case .success(.batchOnly):
                // It is caught up with the payloads when it has room again.
                acknowledge(batch.position, by: index, incarnation, hasPayloads: false)
            case .failure(let error):
                noteUnacknowledged(batch.position, by: index, incarnation)
                volumeEnded(index, incarnation, replica, reason: error.description)
            }
        }
    }

    /// A volume has a batch, durably.
    struct Acknowledgement: Sendable {
        let position: LogPosition
        let index: Int
        let incarnation: UInt64
        let hasPayloads: Bool
    }

    private func acknowledge(
        _ position: LogPosition,
        by index: Int,
        _ incarnation: UInt64,
        hasPayloads: Bool
    ) {
        leave(
            Acknowledgement(
                position: position,
                index: index,
                incarnation: incarnation,
                hasPayloads: hasPayloads
            )
        )
        checkOpening()
        startSweeping()
    }

    func take(_ acknowledgement: Acknowledgement, _ state: inout State, _ work: inout [Work]) {
        let (position, index) = (acknowledgement.position, acknowledgement.index)
        let id = volumes.slots[index].id
        state.actionsInFlight -= 1
        // The word of an earlier life of the volume says nothing of what was sent to the present one.
        guard !state.machine.isSuperseded(id, acknowledgement.incarnation) else { return }
        state.noteNotOnItsWay(position, to: index)
        // Only the word of volumes that hold every payload of the batch counts for them.
        if acknowledgement.hasPayloads, let place = state.place(of: position),
            state.batches[place].payloadHolders.contains(index)
        {
            state.batches[place].acknowledged.insert(index)
        }
        guard state.stopReason == nil else { return }
        let actions = state.machine.appended(
            id,
            incarnation: acknowledgement.incarnation,
            through: position.sequence
        )
        work += prepare(actions, &state)
        settleBatches(&state, &work)
    }

    /// - Parameter incarnation: the life of the volume that the batch was sent to; the next one has its own answers to give.
    private func noteUnacknowledged(_ position: LogPosition, by index: Int, _ incarnation: UInt64) {
        let id = volumes.slots[index].id
        decide { state in
            guard !state.machine.isSuperseded(id, incarnation) else { return [] }
            state.noteNotOnItsWay(position, to: index)
            var work: [Work] = []
            settleBatches(&state, &work)
            return work
        }
    }

    // MARK: Commit and answer

    private func noteCommitted(through sequence: UInt64, _ state: inout State, _ work: inout [Work]) {
        state.committedSequence = max(state.committedSequence, sequence)
        committedMark.store(state.committedSequence, ordering: .releasing)
        for index in state.batches.indices where !state.batches[index].isCommitted {
            guard state.batches[index].commit.position.sequence <= sequence else { break }
            state.batches[index].isCommitted = true
            // After the mark, before answers and index: the order that `NewestVersions` needs.
            newest.forget(state.batches[index].applied.entries)
            state.toApply.append((state.batches[index].applied, state.batches[index].lastDecision))
        }
        settleBatches(&state, &work)
    }

    /// Groups cost the index less than batches one by one: it is only told when somebody waits for it, when there is
    /// enough for a group, or when the log has nothing else to do.
    func mustApply(_ state: borrowing State) -> Bool {
        guard state.barriers.isEmpty else { return true }
        if state.toApply.count * 2 >= Limits.unappliedBatchCountMax { return true }
        let entryCount = state.toApply.reduce(0) { $0 + $1.batch.entries.count }
        if entryCount >= Limits.applyGroupEntryCount { return true }
        return state.batches.allSatisfy(\.isCommitted)
    }

    func startApplying(_ state: inout State, _ work: inout [Work]) {
        guard state.decider != nil, !state.isApplying, !state.toApply.isEmpty else { return }
        state.isApplying = true
        work.append(.apply)
    }

    /// Brings the index to what is committed without waiting for more.
    func applyNow() {
        decide { state in
            var work: [Work] = []
            startApplying(&state, &work)
            return work
        }
    }

    /// Answers the callers of batches that are committed with enough copies of their payloads. One that still waits
    /// for copies does not hold up those behind it, which are committed as well.
    func settleBatches(_ state: inout State, _ work: inout [Work]) {
        var place = 0
        while place < state.batches.count, state.batches[place].isCommitted {
            let copies = state.batches[place].acknowledged.count
            let isWhole = !state.batches[place].hasPayloads || copies >= quorum.writeQuorum
            guard isWhole || state.batches[place].outstanding.isEmpty || state.batches[place].hasNoWaiters
            else {
                place += 1
                continue
            }
            let batch = state.batches.remove(at: place)
            state.retained.noteAnswered(batch.commit.position, usable: volumes.usableMask)
            work.append(.answers(batch.waiters, failure: isWhole ? nil : thinError(copies)))
            if let answer = batch.systemAnswer {
                let position = batch.commit.position
                work.append(.answer { answer(.success(position)) })
            }
        }
    }

    private func thinError(_ copies: Int) -> StoreError {
        StoreError(
            .outcomeUnknown,
            "Volumes became full while the write was under way: the version may be visible, with \(copies) of "
                + "\(quorum.writeQuorum) copies.",
            advice: "Make room; the missing copies are written when there is some."
        )
    }
}
