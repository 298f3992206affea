internal import BlobVolume
internal import Catalog
internal import Logging
internal import StoreModel
internal import Synchronization

extension CommitPipeline {
    /// Recovers the commit log from the volumes' reports: promise, choose, catch up, start record.
    /// - Throws: `StoreError` with `.notEnoughReplicas` and the reason when no log can be chosen.
    func recover(_ reports: [VolumeLogReport]) async throws {
        try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
            decide { state in
                state.openWaiter = { continuation.resume(with: $0.mapError { $0 as any Error }) }
                isOpening.store(true, ordering: .releasing)
                var actions: [CommitLogMachine.Action] = []
                for report in reports { actions += state.machine.join(report) }
                actions += state.machine.begin()
                return prepare(actions, &state)
            }
            checkOpening()
            timers.schedule(after: Limits.commitDeadline) { [weak self] in self?.openingTookTooLong() }
        }
    }

    /// Ends the opening when the log is ready, or when nothing is under way that could make it ready.
    func checkOpening() {
        guard isOpening.load(ordering: .acquiring) else { return }
        let waiter: (@Sendable () -> Void)? = withState { state in
            guard let waiter = state.openWaiter else { return nil }
            if state.machine.isReady {
                state.openWaiter = nil
                isOpening.store(false, ordering: .releasing)
                return { waiter(.success(())) }
            }
            guard state.actionsInFlight == 0, state.outbox.isEmpty, !state.isDraining else { return nil }
            state.openWaiter = nil
            let error = notReadyError(state.machine.status)
            return { waiter(.failure(error)) }
        }
        waiter?()
    }

    private func openingTookTooLong() {
        let waiter: (@Sendable () -> Void)? = withState { state in
            guard let waiter = state.openWaiter else { return nil }
            state.openWaiter = nil
            let error = notReadyError(state.machine.status)
            return { waiter(.failure(error)) }
        }
        waiter?()
    }

    private func notReadyError(_ status: CommitLogStatus) -> StoreError {
        var reasons: [String] = []
        for volume in status.volumes {
            let index = volumes.index(of: volume.volume)
            let label = index.map { volumes.slots[$0].label } ?? "volume \(volume.volume)"
            if let problem = index.flatMap({ volumes.problem(at: $0) }) {
                reasons.append("\(label): \(problem)")
            } else if case .damaged(let fault) = volume.role {
                reasons.append("\(label): \(fault)")
            } else if case .failed(let reason) = volume.role {
                reasons.append("\(label): \(reason)")
            }
        }
        for (index, slot) in volumes.slots.enumerated() {
            guard !status.volumes.contains(where: { $0.volume == slot.id }),
                let problem = volumes.problem(at: index)
            else { continue }
            reasons.append("\(slot.label): \(problem)")
        }
        return StoreError(
            .notEnoughReplicas,
            "The store can't be opened: it takes \(quorum.writeQuorum) of \(quorum.replicaCount) log volumes to know "
                + "its newest state, and \(status.obstacle ?? "the log is not ready"). \(reasons.joined(separator: "; ")).",
            advice: "Bring the volumes back that are named; nothing was changed."
        )
    }

    /// Brings the index to the state of the log, then takes commands.
    /// - Parameters:
    ///   - willRebuild: called before an index that is not good is thrown away.
    ///   - importSnapshot: fills the empty index from the snapshot that the log starts after.
    /// - Returns: whether the index had to be built anew.
    func openCatalog(
        mustRebuild: Bool,
        willRebuild: () throws -> Void,
        importSnapshot: (SnapshotNote) async throws -> Void
    ) async throws -> Bool {
        do {
            return try await bringCatalogUp(mustRebuild, willRebuild, importSnapshot)
        } catch let error as StoreError where error.code == .notEnoughReplicas {
            throw StoreError(
                error.code,
                "The store can't be opened. \(error.message)",
                advice: error.advice,
                cause: error.cause
            )
        }
    }

    private func bringCatalogUp(
        _ mustRebuild: Bool,
        _ willRebuild: () throws -> Void,
        _ importSnapshot: (SnapshotNote) async throws -> Void
    ) async throws -> Bool {
        let committed = withState { $0.machine.committedSequence }
        let base = withState { $0.machine.chain.base }
        var rebuilds = mustRebuild
        if !rebuilds {
            rebuilds = try await !isOnChain(catalog.applied.position, base: base, committed: committed)
        }
        if rebuilds {
            try willRebuild()
            try catalogCall { () throws(CatalogError) in try catalog.reset() }
            if base != .origin { try await startFromSnapshot(base, committed, importSnapshot) }
        }
        do {
            try await replay(through: committed)
        } catch let error as CatalogError where error.needsRebuild && !rebuilds {
            logger.warning("The catalog's index is rebuilt.", metadata: ["reason": "\(error)"])
            return try await bringCatalogUp(true, willRebuild, importSnapshot)
        } catch let error as CatalogError {
            throw error.storeError
        }
        let decider = try catalogCall { () throws(CatalogError) in
            CatalogDecider(
                applied: catalog.applied,
                buckets: try catalog.buckets(),
                mirrors: try MirrorRoute.all(in: catalog)
            )
        }
        let applied = catalog.applied
        decide { state in
            state.decider = decider
            setLogMask(state)
            lowerCompleteness(state)
            state.appliedSequence = applied.position.sequence
            appliedMark.store(state.appliedSequence, ordering: .releasing)
            state.toApply.removeAll { $0.batch.position.sequence <= applied.position.sequence }
            var actions: [CommitLogMachine.Action] = []
            for note in applied.snapshots.reversed() {
                actions += state.machine.noteSnapshot(
                    at: note.position,
                    notedAt: note.position.sequence + 1,
                    holders: []
                )
            }
            return prepare(actions, &state)
        }
        return rebuilds
    }

    /// A volume that kept batches which are not on the chain may have counted itself complete through them.
    private func lowerCompleteness(_ state: borrowing State) {
        for slot in volumes.slots {
            guard let place = state.machine.completenessCorrection(of: slot.id) else { continue }
            slot.replica?.setComplete(through: place)
        }
    }

    private func setLogMask(_ state: borrowing State) {
        let members = state.machine.memberships.last?.members ?? []
        logMask = VolumeMask.of(members.compactMap { volumes.index(of: $0) })
    }

    /// After a change of the log set.
    func refreshLogMask() { withState { setLogMask($0) } }

    private func catalogCall<Value>(_ body: () throws(CatalogError) -> Value) throws -> Value {
        do throws(CatalogError) {
            return try body()
        } catch {
            throw error.storeError
        }
    }

    /// Whether the index stands at a place of the log that was recovered.
    private func isOnChain(_ position: LogPosition, base: LogPosition, committed: UInt64) async throws -> Bool
    {
        if position == base { return true }
        guard position.sequence > base.sequence, position.sequence <= committed else { return false }
        return try await batch(position.sequence).position == position
    }

    /// A batch of the recovered log, from any volume that has it.
    /// - Throws: `.dataUnavailable` when a volume that should have it shows other bytes or none, `.notEnoughReplicas`
    ///   when all that have it only failed to answer: then nothing is known to be damaged.
    func batch(_ sequence: UInt64) async throws -> CommitBatch {
        var errors: [(index: Int, error: VolumeError)] = []
        for id in withState({ $0.machine.volumes(holding: sequence) }) {
            guard let index = volumes.index(of: id), let replica = volumes.usableReplica(index) else {
                continue
            }
            switch await timers.call(replica, { $0.readBatch(sequence: sequence, completion: $1) }) {
            case .success(let batch): return batch
            case .failure(let error): errors.append((index, error))
            }
        }
        let problems = volumes.slots.indices.compactMap { index in
            let reason = errors.first { $0.index == index }?.error.description ?? volumes.problem(at: index)
            return reason.map { "\(volumes.slots[index].label): \($0)" }
        }
        let shown = [.corrupt, .notFound, .unsupportedFormat] as [VolumeError.Code]
        throw StoreError(
            errors.contains { shown.contains($0.error.code) } ? .dataUnavailable : .notEnoughReplicas,
            (["Batch \(sequence) of the commit log can be read from no volume"] + problems).joined(
                separator: "; "
            )
                + ".",
            advice: "Bring the missing volumes back.",
            cause: errors.last?.error
        )
    }

    /// Batches of the recovered log, one after the other: the first of them, and as many more as one volume gives at once.
    /// - Throws: as `batch`.
    func batches(_ sequences: ClosedRange<UInt64>, byteCount: Int) async throws -> [CommitBatch] {
        for (id, durable) in withState({ $0.machine.holders(of: sequences.lowerBound) }) {
            guard let index = volumes.index(of: id), let replica = volumes.usableReplica(index) else {
                continue
            }
            let sequences = sequences.lowerBound...min(sequences.upperBound, durable)
            let result = await timers.call(replica) {
                $0.readBatches(sequences, byteCount: byteCount, completion: $1)
            }
            if case .success(let batches) = result, !batches.isEmpty { return batches }
        }
        // Which says why it can't be read.
        return [try await batch(sequences.lowerBound)]
    }

    private func replay(through committed: UInt64) async throws {
        var next = catalog.applied.position.sequence + 1
        var group: [AppliedBatch] = []
        var byteCount = 0
        while next <= committed {
            let commit = try await batch(next)
            byteCount += commit.body.count
            group.append(
                AppliedBatch(
                    position: commit.position,
                    predecessor: commit.predecessor,
                    stateHash: StateHash(high: commit.stateHash.high, low: commit.stateHash.low),
                    timestamp: commit.timestamp,
                    entries: try CatalogEntryCodec.decode(commit.body)
                )
            )
            next += 1
            if group.count >= 256 || byteCount >= Limits.batchByteCountMax || next > committed {
                try catalog.apply(group)
                group = []
                byteCount = 0
            }
        }
    }

    /// Fills the index from the snapshot that the log starts after; when that can't be read any more, from a later one
    /// that the log notes.
    private func startFromSnapshot(
        _ base: LogPosition,
        _ committed: UInt64,
        _ importSnapshot: (SnapshotNote) async throws -> Void
    ) async throws {
        var failure: (any Error)?
        for note in try await snapshotNotes(from: base, committed: committed) {
            do {
                return try await importSnapshot(note)
            } catch {
                logger.warning(
                    "A snapshot of the catalog can't be used.",
                    metadata: ["position": "\(note.position)", "error": "\(error)"]
                )
                failure = failure ?? error
                try catalogCall { () throws(CatalogError) in try catalog.reset() }
            }
        }
        if let failure { throw failure }
        throw StoreError(
            .storeDamaged,
            "The commit log starts after \(base), but no snapshot of that state is noted in it.",
            advice: "Bring back a volume that has an older part of the log."
        )
    }

    /// The snapshots from which the rest of the log leads to the newest state, oldest first.
    private func snapshotNotes(from base: LogPosition, committed: UInt64) async throws -> [SnapshotNote] {
        var notes: [SnapshotNote] = []
        var sequence = base.sequence + 1
        while sequence <= committed {
            for entry in try CatalogEntryCodec.decode(try await batch(sequence).body) {
                for case .noteSnapshot(let note) in entry.mutations
                where note.position.sequence >= base.sequence {
                    notes.append(note)
                }
            }
            sequence += 1
        }
        return notes.sorted { $0.position.sequence < $1.position.sequence }
    }
}
