import StoreModel

/// What each volume is told next, and what its answers mean.
extension CommitLogMachine {
    /// Everything that follows from the present state. Each pass either changes something or ends the loop.
    mutating func settle() {
        startPromising()
        pumpPromises()
        guard case .serving = phase else { return }
        // A commit can bring a change of members to its end.
        var before: UInt64
        repeat {
            before = commitIndex
            raiseEpoch()
            for index in volumes.indices { pump(index) }
            updateCommitIndex()
        } while commitIndex != before
        // A machine that stops asks for nothing more: the driver would propose to one that takes nothing.
        startOverIfStuck()
        guard case .serving = phase else { return }
        announceStart()
        advanceBases()
    }

    mutating func write(_ record: VolumeLogRecord, to index: Int) {
        volumes[index].operation = .record(record)
        let volume = volumes[index]
        actions.append(.writeRecord(volume.id, incarnation: volume.incarnation, record))
    }

    // MARK: One volume

    /// What the volume's record must say before it gets another batch.
    private func desiredRecord(of volume: Volume) -> VolumeLogRecord {
        let promise =
            weaknesses.contains(.noPromise) ? volume.record.promise : max(volume.record.promise, wantedEpoch)
        return VolumeLogRecord(
            promise: promise,
            votesFrom: max(volume.record.votesFrom, volume.mark ?? .origin),
            memberships: (memberships + volume.foreign).sorted { $0.since < $1.since }
                .suffix(VolumeLogRecord.membershipCountMax)
        )
    }

    private mutating func pump(_ index: Int) {
        guard volumes[index].isUp, volumes[index].operation == nil else { return }
        let desired = desiredRecord(of: volumes[index])
        if volumes[index].record != desired { return write(desired, to: index) }
        guard let durable = volumes[index].durable else { return resetIfPossible(index) }
        if isRebuilt(volumes[index]) {
            volumes[index].operation = .rebuilt
            return actions.append(.noteRebuilt(volumes[index].id, incarnation: volumes[index].incarnation))
        }
        guard volumes[index].issued < chain.tail.sequence else { return }
        if volumes[index].issued + 1 >= retainedFrom { return sendAppends(index, durable: durable) }
        // Copies and appends don't overlap: what was sent is awaited first.
        if volumes[index].issued == durable { copyOrReset(index, durable: durable) }
    }

    /// Whether a volume that counted for nothing holds again all that it can have acknowledged.
    private func isRebuilt(_ volume: Volume) -> Bool {
        guard volume.fault != nil || volume.mark != nil, case .serving(let start?) = phase else {
            return false
        }
        let reached = place(of: volume)
        return reached.sequence >= start && reached >= volume.record.votesFrom
            && volume.issued == volume.durable
    }

    /// Where the part of its log that is on the chain ends.
    func place(of volume: Volume) -> LogPlace {
        guard let durable = volume.durable, let epoch = chain.epoch(of: durable) else { return .origin }
        return LogPlace(epoch: epoch, sequence: durable)
    }

    private mutating func sendAppends(_ index: Int, durable: UInt64) {
        while volumes[index].issued < chain.tail.sequence,
            volumes[index].issued - durable < UInt64(Self.appendsInFlightMax)
        {
            volumes[index].issued += 1
            let volume = volumes[index]
            let position = retained[Int(volume.issued - retainedFrom)]
            actions.append(.append(volume.id, incarnation: volume.incarnation, position))
        }
    }

    /// Copies from the volume that has most, among those whose log still has the batches that are missing;
    /// when none has them any more, the volume starts again at a base.
    private mutating func copyOrReset(_ index: Int, durable: UInt64) {
        guard let source = source(for: volumes[index], durable: durable) else {
            return resetIfPossible(index)
        }
        guard let reached = source.durable, let epoch = chain.epoch(of: durable) else { return }
        // What is not committed yet comes with its payloads, by appends: what is kept for those begins no later.
        let settled = isReady ? min(reached, commitIndex) : reached
        let through = settled > durable ? settled : reached
        volumes[index].operation = .copy(from: source.id, through: through)
        actions.append(
            .copyBatches(
                to: volumes[index].id,
                incarnation: volumes[index].incarnation,
                from: source.id,
                after: LogPlace(epoch: epoch, sequence: durable),
                through: through
            )
        )
    }

    private mutating func resetIfPossible(_ index: Int) {
        guard let source = baseSource(for: volumes[index]) else { return }
        if !volumes[index].foreign.isEmpty {
            // Below a base it can't be told which changes of members are the chain's. The record can't serve
            // the log before and after at once, so the volume does not vote in between.
            mark(index)
            volumes[index].foreign = []
            return write(desiredRecord(of: volumes[index]), to: index)
        }
        let base = startingBase(from: source)
        volumes[index].operation = .reset(base)
        volumes[index].durable = nil
        volumes[index].issued = 0
        let volume = volumes[index]
        actions.append(.resetLog(volume.id, incarnation: volume.incarnation, base: base))
    }

    private func source(for target: Volume, durable: UInt64) -> Volume? {
        best { candidate, candidateDurable in
            candidate.id != target.id && candidateDurable > durable && candidate.base.sequence <= durable
                && !target.avoidedSources.contains(candidate.id)
        }
    }

    /// A volume whose base a volume may start from again: it has everything that this writer found, so that
    /// the copies that follow don't end before what the volume gave up.
    private func baseSource(for target: Volume) -> Volume? {
        best { candidate, candidateDurable in
            candidate.id != target.id && candidateDurable >= foundSequence
                && target.durable.map { startingBase(from: candidate).sequence > $0 } ?? true
        }
    }

    /// Where a log starts again that is filled from this volume. A log that goes further back than the chain gives
    /// nothing more: what stands before the chain's base can't be compared with it.
    private func startingBase(from source: Volume) -> LogPosition {
        source.base.sequence < chain.base.sequence ? chain.base : source.base
    }

    /// The volume that is up and has most, among those that pass; of equals the first.
    private func best(_ passes: (_ candidate: Volume, _ durable: UInt64) -> Bool) -> Volume? {
        var best: Volume?
        for candidate in volumes where candidate.isUp {
            guard let durable = candidate.durable, passes(candidate, durable) else { continue }
            if durable > best?.durable ?? 0 || best == nil { best = candidate }
        }
        return best
    }

    /// The last sequence of the log that was chosen: what stands before this writer's start record.
    private var foundSequence: UInt64 {
        guard case .serving(let start?) = phase else { return chain.tail.sequence }
        return start - 1
    }

    // MARK: Completions

    /// The volume, when the completion belongs to its present incarnation.
    private func current(_ id: VolumeID, _ incarnation: UInt64) -> Int? {
        guard let index = index(of: id) else { return nil }
        if weaknesses.contains(.takesZombies) { return index }
        return volumes[index].isUp && volumes[index].incarnation == incarnation ? index : nil
    }

    /// Whether what was asked of a volume in this life of its is still wanted.
    func isCurrent(_ id: VolumeID, _ incarnation: UInt64) -> Bool { current(id, incarnation) != nil }

    /// Whether the volume lives again since: what was asked of that life of its is asked anew, and answered by this one.
    func isSuperseded(_ id: VolumeID, _ incarnation: UInt64) -> Bool {
        index(of: id).map { volumes[$0].isUp && volumes[$0].incarnation != incarnation } ?? false
    }

    mutating func noteRecordWritten(_ id: VolumeID, _ incarnation: UInt64) {
        guard let index = current(id, incarnation), case .record(let record) = volumes[index].operation else {
            return
        }
        volumes[index].record = record
        volumes[index].operation = nil
    }

    mutating func noteLogReset(_ id: VolumeID, _ incarnation: UInt64) {
        guard let index = current(id, incarnation), case .reset(let base) = volumes[index].operation else {
            return
        }
        volumes[index].base = base
        volumes[index].durable = base.sequence
        volumes[index].issued = base.sequence
        volumes[index].operation = nil
    }

    mutating func noteRebuilt(_ id: VolumeID, _ incarnation: UInt64) {
        guard let index = current(id, incarnation), volumes[index].operation == .rebuilt else { return }
        volumes[index].fault = nil
        volumes[index].mark = nil
        volumes[index].operation = nil
    }

    mutating func noteCopyEnded(
        _ id: VolumeID,
        _ incarnation: UInt64,
        through: UInt64,
        _ isSourceUnreadable: Bool
    ) {
        guard let index = current(id, incarnation),
            case .copy(let source, let planned) = volumes[index].operation,
            let durable = volumes[index].durable
        else { return }
        let reached = max(durable, min(through, planned))
        if reached > durable {
            volumes[index].avoidedSources = []
            volumes[index].foreign = []
        }
        if isSourceUnreadable || reached == durable { volumes[index].avoidedSources.append(source) }
        volumes[index].durable = reached
        volumes[index].issued = reached
        volumes[index].operation = nil
    }

    mutating func noteAppended(_ id: VolumeID, _ incarnation: UInt64, through: UInt64) {
        guard let index = current(id, incarnation), let durable = volumes[index].durable else { return }
        let reached = max(durable, min(through, volumes[index].issued))
        // The first batch after the last common one has cut what stood there.
        if reached > durable { volumes[index].foreign = [] }
        volumes[index].durable = reached
    }

    mutating func noteBaseAdvanced(_ id: VolumeID, _ incarnation: UInt64) {
        guard let index = current(id, incarnation), let base = volumes[index].advancing else { return }
        volumes[index].base = base
        volumes[index].advancing = nil
    }

    // MARK: Start over

    /// Before the start record is committed, a failure can take away the only volumes that have the end of
    /// the chosen log. Those that are left may choose among themselves, by a new start with fresh reports.
    private mutating func startOverIfStuck() {
        guard case .serving = phase, !isReady else { return }
        let up = volumes.filter(\.isUp)
        guard isQuorum(up.map(\.id)) else { return }
        let capable = up.filter { volume in
            if volume.operation != nil || volume.durable.map({ $0 >= foundSequence }) == true { return true }
            if let durable = volume.durable, source(for: volume, durable: durable) != nil { return true }
            return baseSource(for: volume) != nil
        }
        guard !isQuorum(capable.map(\.id)) else { return }
        let reason =
            "the end of the log that was chosen is only on volumes that failed before the start record"
            + " of epoch \(epoch) was durable"
        phase = .stopped(reason: reason)
        actions.append(.startOver(reason: reason))
    }
}
