internal import BlobVolume
internal import Catalog
internal import StoreModel
internal import Synchronization

// How requests become batches: when the next one is built, what goes into it.
extension CommitPipeline {
    /// Builds batches as long as there are enough requests and the log takes them.
    func buildBatches(_ state: inout State) -> [Work] {
        guard state.stopReason == nil, state.decider != nil else {
            _ = intake.withLock { $0.rest(until: 1) }
            return []
        }
        var work: [Work] = []
        repeat {
            fetchWaiting(&state)
            if !state.machine.hasQuorumUp {
                work += refuseAll(&state)
            } else if state.toApply.count < Limits.unappliedBatchCountMax {
                while let actions = buildSystemBatch(&state, &work) ?? buildBatch(&state, &work) {
                    work += prepare(actions, &state)
                }
            }
            if mustApply(state) { startApplying(&state, &work) }
            let wanted = wantedCount(state)
            if intake.withLock({ $0.rest(until: wanted) }) { return work }
        } while true
    }

    func fetchWaiting(_ state: inout State) { state.waiting += intake.withLock { $0.takeAll() } }

    /// How many more requests are to come before the next batch is built, unless one of those under way ends before.
    private func wantedCount(_ state: borrowing State) -> Int {
        let waiting = state.waiting.count - state.waitingHead
        guard state.machine.hasQuorumUp, let size = nextBatchSize(state) else { return 1 }
        // The applier, or the end of a batch, builds the next one.
        guard size < .max, state.toApply.count < Limits.unappliedBatchCountMax else { return .max }
        return max(1, size - waiting)
    }

    /// How many requests a batch must have to be built now: nil when any will do, `.max` when none may be.
    ///
    /// The log is never idle while requests wait. Beside a batch that is being synced the next one is made ready once
    /// it holds half of the requests under way, so that it goes to the disks in the moment in which they are free and
    /// its callers' processor time is spent during the other one's sync.
    private func nextBatchSize(_ state: borrowing State) -> Int? {
        var inFlight = 0
        var size = 0
        for batch in state.batches where !batch.isCommitted {
            inFlight += 1
            size = max(size, batch.requestCount)
        }
        guard inFlight > 0 else { return nil }
        guard inFlight < Self.batchesInFlightMax else { return .max }
        return min(max(size, state.recentRequestCount / 2, 1), Limits.batchEntryCountMax)
    }

    /// With too few log volumes left nothing can be committed before the store is opened again (a failed volume stays
    /// failed): whoever waits is told at once.
    private func refuseAll(_ state: inout State) -> [Work] {
        guard
            !state.batches.isEmpty || state.waitingHead < state.waiting.count || !state.systemWaiting.isEmpty
        else { return [] }
        CoverageMark.reach(.quorumLost)
        let error = volumes.lostQuorum(of: logMask.indices, needed: quorum.writeQuorum)
        var work: [Work] = []
        for index in state.batches.indices where !state.batches[index].isCommitted {
            work += Self.unknownAnswers(state.batches[index], because: error.message)
            state.batches[index].waiters = []
            state.batches[index].systemAnswer = nil
        }
        work += refuseWaiting(&state, error)
        return work
    }

    /// Answers everything that is in no batch.
    func refuseWaiting(_ state: inout State, _ error: StoreError) -> [Work] {
        let requests = state.waiting[state.waitingHead...] + intake.withLock { $0.takeAll() }
        var work: [Work] = requests.map { request in .answer { request.answer(.failure(error)) } }
        work += state.systemWaiting.map { request in .answer { request.answer(.failure(error)) } }
        state.waiting = []
        state.waitingHead = 0
        state.systemWaiting = []
        return work
    }

    private func buildSystemBatch(
        _ state: inout State,
        _ work: inout [Work]
    ) -> [CommitLogMachine.Action]? {
        guard let place = state.machine.nextPlace else { return nil }
        while !state.systemWaiting.isEmpty {
            let request = state.systemWaiting.removeFirst()
            switch request.mutations(state.machine) {
            case .failure(let error):
                work.append(.answer { request.answer(.failure(error)) })
            case .success(let entry):
                return propose(
                    place,
                    entries: [.system(entry.mutations, operation: OperationID.random(from: random))],
                    contents: BatchContents(
                        incomplete: entry.incomplete,
                        knownAt: entry.knownAt,
                        systemAnswer: request.answer,
                        pins: request.pins,
                        membership: entry.membership
                    ),
                    &state
                )
            }
        }
        return nil
    }

    /// What a batch carries beside its entries.
    struct BatchContents {
        private(set) var payloads: [(targets: VolumeMask, record: PayloadRecord)] = []
        private(set) var payloadHolders = VolumeMask.all
        var incomplete = VolumeMask()
        /// When it was looked at, first, what volumes have of what the entries refer to.
        var knownAt = LossMoment.now
        var waiters: [Waiter] = []
        var systemAnswer: (@Sendable (Result<LogPosition, StoreError>) -> Void)?
        var pins: [ChunkPin] = []
        var membership: LogMembership?
        var lastDecision: UInt64 = 0

        mutating func add(_ payload: PayloadRecord, to targets: VolumeMask, held: VolumeMask) {
            payloads.append((targets, payload))
            payloadHolders = payloadHolders.intersection(targets.union(held))
        }
    }

    /// Where a chunk's copies are awaited. What belongs elsewhere since the chunk was written (a volume was added, or is
    /// drained) is noted as missing there.
    private func placement(of chunk: ChunkWrite, _ incomplete: inout VolumeMask, _ held: VolumeMask)
        -> VolumeMask
    {
        let roster = volumes.roster
        guard roster.version != chunk.placementVersion else { return chunk.placement }
        let wanted = VolumeMask.of(roster.placementIndices(for: chunk.digest))
        incomplete = incomplete.union(wanted.subtracting(held).subtracting(chunk.placement))
        var awaited = chunk.placement
        for index in awaited.subtracting(held).indices where roster.slots[index].role == .readOnly {
            awaited.remove(index)
        }
        return awaited
    }

    private func buildBatch(_ state: inout State, _ work: inout [Work]) -> [CommitLogMachine.Action]? {
        let waiting = state.waiting.count - state.waitingHead
        guard waiting > 0, waiting >= nextBatchSize(state) ?? 1, let place = state.machine.nextPlace
        else { return nil }
        noteLoad(waiting, &state)
        var entries: [CatalogEntry] = []
        var contents = BatchContents()
        var byteCount = 0
        while state.waitingHead < state.waiting.count, entries.count < Limits.batchEntryCountMax,
            byteCount < Limits.batchByteCountMax
        {
            let request = state.waiting[state.waitingHead]
            state.waitingHead += 1
            if let shortage = shortage(of: request) {
                CoverageMark.reach(.commitsRefusedForCopies)
                work.append(.answer { request.answer(.failure(shortage)) })
                continue
            }
            let (entry, result, dependsOn) = decide(request, &state)
            if let entry {
                entries.append(entry)
                contents.lastDecision = entry.sequence
                contents.waiters.append(Waiter(answer: request.answer, result: result))
                byteCount += 512 + entry.documentByteCount
                for chunk in request.chunks {
                    contents.pins.append(chunk.pin)
                    contents.knownAt = min(contents.knownAt, chunk.knownAt)
                    let held = volumes.stillHolding(
                        chunk.holders.intersection(chunk.needsBulkSync ? request.synced : chunk.holders),
                        since: chunk.knownAt
                    )
                    let placement = placement(of: chunk, &contents.incomplete, held)
                    guard let payload = chunk.deferred else {
                        contents.incomplete = contents.incomplete.union(placement.subtracting(held))
                        continue
                    }
                    contents.add(payload, to: placement.subtracting(held), held: held)
                    byteCount += payload.bytes.count
                }
            } else if dependsOn != nil, !contents.waiters.isEmpty {
                contents.waiters.append(Waiter(answer: request.answer, result: result))
            } else if dependsOn != nil, let last = state.batches.indices.last,
                !state.batches[last].isCommitted
            {
                state.batches[last].waiters.append(Waiter(answer: request.answer, result: result))
            } else {
                work.append(.answer { request.answer(result) })
            }
        }
        if state.waitingHead == state.waiting.count || state.waitingHead >= 1024 {
            state.waiting.removeFirst(state.waitingHead)
            state.waitingHead = 0
        }
        guard !entries.isEmpty else { return nil }
        return propose(place, entries: entries, contents: contents, &state)
    }

    /// Batches under way at a time: one is synced, and one stands ready behind it.
    private static let batchesInFlightMax = 2

    private func noteLoad(_ waiting: Int, _ state: inout State) {
        var count = waiting
        for batch in state.batches where !batch.isCommitted { count += batch.requestCount }
        state.recentRequestCount = max(count, state.recentRequestCount - (state.recentRequestCount + 15) / 16)
    }

    /// Why a request can't be committed now: a chunk it refers to has lost too many of its copies since it was written.
    private func shortage(of request: Request) -> StoreError? {
        let usable = volumes.usableMask
        for chunk in request.chunks {
            let holders = chunk.holders.intersection(usable)
            var held = volumes.stillHolding(holders, since: chunk.knownAt)
            let lost = holders.subtracting(held)
            if chunk.needsBulkSync { held = held.intersection(request.synced) }
            if chunk.deferred != nil {
                for index in chunk.placement.subtracting(held).indices where volumes.acceptsPayloads(index) {
                    held.insert(index)
                }
            }
            if held.count < quorum.writeQuorum {
                return volumes.shortage(
                    of: chunk.placement.indices,
                    needed: quorum.writeQuorum,
                    for: "a write",
                    lost: lost
                )
            }
        }
        return nil
    }

    private func decide(
        _ request: Request,
        _ state: inout State
    ) -> (CatalogEntry?, Result<CatalogOutcome, StoreError>, dependsOn: UInt64?) {
        do throws(DecisionFailure) {
            let decision = try state.decider?.decide(
                request.command,
                operation: request.operation,
                now: clock.now(),
                random: random,
                reader: catalog
            )
            guard let decision else {
                return (nil, .failure(StoreError(.catalogUnavailable, "The catalog is not open.")), nil)
            }
            return (decision.entry, .success(decision.outcome), decision.dependsOn)
        } catch {
            return (nil, .failure(error.error), error.dependsOn)
        }
    }

    func propose(
        _ place: CommitLogMachine.LogProposal,
        entries: [CatalogEntry],
        contents: BatchContents,
        _ state: inout State
    ) -> [CommitLogMachine.Action] {
        let hash = state.decider.map { StateHash(high: $0.stateHash.high, low: $0.stateHash.low) } ?? .zero
        let commit = CommitBatch(
            epoch: place.epoch,
            predecessor: place.predecessor,
            commitIndex: place.commitIndex,
            stateHash: CommitBatch.StateHash(high: hash.high, low: hash.low),
            timestamp: max(clock.now(), state.decider?.lastTimestamp ?? clock.now()),
            body: CatalogEntryCodec.encode(entries)
        )
        let applied = AppliedBatch(
            position: commit.position,
            predecessor: commit.predecessor,
            stateHash: hash,
            timestamp: commit.timestamp,
            entries: entries
        )
        state.batches.append(
            Batch(
                commit: commit,
                applied: applied,
                requestCount: contents.waiters.count,
                lastDecision: contents.lastDecision,
                hasPayloads: !contents.payloads.isEmpty,
                payloadHolders: contents.payloadHolders,
                waiters: contents.waiters,
                systemAnswer: contents.systemAnswer,
                pins: contents.pins,
                builtAt: clock.monotonicNanoseconds()
            )
        )
        state.retained.append(commit, contents)
        state.batchSizes.record(
            commit.encodedByteCount + contents.payloads.reduce(0) { $0 + $1.record.bytes.count }
        )
        do {
            if let membership = contents.membership {
                return try state.machine.propose(commit.position, membership: membership)
            }
            return try state.machine.propose(commit.position)
        } catch {
            preconditionFailure("The commit log refused the place that it offered: \(error)")
        }
    }
}

/// Sizes of the last batches, in bytes: what the group-commit floor is measured with.
struct BatchSizes: Sendable {
    private static let countMax = 4096
    private(set) var recent: [Int] = []
    private var next = 0
    private(set) var total = 0

    mutating func record(_ size: Int) {
        total += 1
        if recent.count < Self.countMax {
            recent.append(size)
        } else {
            recent[next] = size
            next = (next + 1) % Self.countMax
        }
    }
}
