import StoreModel

/// Reports, promises and the choice of a log.
extension CommitLogMachine {
    /// Rules that tests can break, to show that the simulation notices.
    struct Weaknesses: OptionSet, Sendable {
        let rawValue: Int
        /// Writes without a promise; the epoch is taken from the logs.
        static let noPromise = Weaknesses(rawValue: 1)
        /// Chooses the longest log instead of the one of the highest epoch.
        static let choosesLongest = Weaknesses(rawValue: 2)
        /// Is ready without a start record on a quorum.
        static let noStartRecord = Weaknesses(rawValue: 4)
        /// Counts volumes that lost what they acknowledged.
        static let trustsDamaged = Weaknesses(rawValue: 8)
        /// Takes completions of ended incarnations.
        static let takesZombies = Weaknesses(rawValue: 16)
        /// Counts only the new members while a change is under way.
        static let newMembersOnly = Weaknesses(rawValue: 32)
        /// Rebuilds damaged volumes without recording that they don't vote.
        static let unmarkedRebuild = Weaknesses(rawValue: 64)
        /// Commits with one volume less.
        static let smallQuorum = Weaknesses(rawValue: 128)
        /// Takes what volumes share with the chosen log by length, not by place.
        static let noChain = Weaknesses(rawValue: 256)
        /// Counts damaged volumes that know where their log ended, and does not ask what they know.
        static let ignoresAttested = Weaknesses(rawValue: 512)
    }

    func index(of volume: VolumeID) -> Int? { volumes.firstIndex { $0.id == volume } }

    mutating func take(_ given: VolumeLogReport) {
        let refusal = weaknesses.isEmpty ? given.impossibility(in: quorum) : nil
        let report = refusal.map { .refused(given.volume, because: $0) } ?? given
        var incarnation: UInt64 = 1
        var fault = report.fault
        if !weaknesses.isDisjoint(with: [.noPromise, .trustsDamaged]) { fault = nil }
        if let index = index(of: report.volume) {
            incarnation = volumes[index].incarnation + 1
            fault = fault ?? loss(from: volumes[index], to: report)
            volumes.remove(at: index)
        }
        for index in volumes.indices { volumes[index].avoidedSources.removeAll { $0 == report.volume } }
        let volume = Volume(
            id: report.volume,
            incarnation: incarnation,
            isUp: refusal == nil,
            failure: refusal,
            record: report.record,
            report: report,
            fault: fault,
            mark: nil,
            base: report.outline.base,
            durable: nil,
            issued: 0,
            operation: nil,
            advancing: nil,
            avoidedSources: [],
            completeSequence: report.completeSequence
        )
        let place = volumes.firstIndex { $0.id > report.volume } ?? volumes.endIndex
        volumes.insert(volume, at: place)
        guard refusal == nil else {
            if phase == .promising { phase = .gathering }
            return
        }
        guard case .serving = phase else {
            // A promise that a dead writer left on fewer than a quorum: go above it.
            if phase == .promising, report.record.promise >= wantedEpoch {
                wantedEpoch = report.record.promise + 1
            }
            return
        }
        if report.outline.tail.epoch > max(epoch, wantedEpoch) {
            let reason =
                "volume \(report.volume) carries batches of epoch \(report.outline.tail.epoch), this writer's"
                + " is \(epoch)"
            phase = .deposed(reason: reason)
            actions.append(.deposed(reason: reason))
            return
        }
        if report.record.promise > wantedEpoch { wantedEpoch = report.record.promise + 1 }
        follow(place)
    }

    /// What this writer saw the volume acknowledge must be in its log when it comes back.
    private func loss(from before: Volume, to report: VolumeLogReport) -> String? {
        guard case .serving = phase, let durable = before.durable, let epoch = chain.epoch(of: durable) else {
            return nil
        }
        if report.outline.covers(LogPlace(epoch: epoch, sequence: durable)) { return nil }
        return "it acknowledged \(epoch).\(durable), which is not in its log any more"
    }

    mutating func markFailed(_ id: VolumeID, reason: String) {
        guard let index = index(of: id), volumes[index].isUp else { return }
        volumes[index].isUp = false
        volumes[index].failure = reason
        volumes[index].operation = nil
        if !weaknesses.contains(.takesZombies) { volumes[index].incarnation += 1 }
        if phase == .promising { phase = .gathering }
    }

    // MARK: Who counts

    /// Whether the volume's word counts at a start. A volume that is merely behind counts, and one whose log is damaged
    /// but which knows where it ended.
    func isEligible(_ volume: Volume) -> Bool {
        volume.isUp && (hasWholeLog(volume) || attestedTail(of: volume) != nil)
    }

    /// Whether everything that the volume acknowledged is in its log.
    private func hasWholeLog(_ volume: Volume) -> Bool {
        if !weaknesses.isDisjoint(with: [.noPromise, .trustsDamaged]) { return true }
        return volume.fault == nil && LogPlace(volume.report.outline.tail) >= volume.record.votesFrom
            && !isNew(volume)
    }

    /// What a volume whose log is not whole votes for.
    private func attestedTail(of volume: Volume) -> LogPosition? {
        isNew(volume) || hasWholeLog(volume) ? nil : volume.report.attestedTail
    }

    /// Never promised anything: a replacement that is being filled, or a volume that forgot. Founding members
    /// promise epoch 1 when they are made.
    func isNew(_ volume: Volume) -> Bool { volume.report.record.promise == 0 }

    /// The memberships that a quorum is counted in, given the memberships of a log: the last one, and the one
    /// before it until the change is known to be committed.
    func active(of memberships: [LogMembership], committed: UInt64) -> [LogMembership] {
        guard let last = memberships.last else { return [] }
        if last.since.sequence <= committed || memberships.count == 1 { return [last] }
        return weaknesses.contains(.newMembersOnly) ? [last] : Array(memberships.suffix(2))
    }

    var activeMemberships: [LogMembership] {
        if case .serving = phase { return active(of: memberships, committed: commitIndex) }
        return (choice(among: volumes.filter(isEligible)) ?? latest(of: volumes)).map { active(for: $0) }
            ?? []
    }

    /// The memberships in force for a volume's log. Whether its last change is committed is judged by what
    /// the volume itself knows: a commit index from elsewhere may count batches of another chain, of which
    /// this one has only the sequences.
    private func active(for volume: Volume) -> [LogMembership] {
        active(
            of: volume.record.memberships(in: volume.report.outline),
            committed: volume.report.provenCommitIndex
        )
    }

    func isQuorum(_ ids: [VolumeID], of memberships: [LogMembership]) -> Bool {
        let needed = quorum.writeQuorum - (weaknesses.contains(.smallQuorum) ? 1 : 0)
        return !memberships.isEmpty
            && memberships.allSatisfy { membership in
                membership.members.count { ids.contains($0) } >= needed
            }
    }

    func isQuorum(_ ids: [VolumeID]) -> Bool { isQuorum(ids, of: activeMemberships) }

    /// What some volume proves to be committed. True whoever says it, a damaged volume included.
    var knownCommitIndex: UInt64 { volumes.map(\.report.provenCommitIndex).max() ?? 0 }

    // MARK: Promise and choice

    /// The volume with the highest (epoch, sequence); of equals the first.
    func latest(of candidates: [Volume]) -> Volume? {
        candidates.reduce(nil) { (best: Volume?, next) in
            guard let best else { return next }
            let tails = (next.report.outline.tail, best.report.outline.tail)
            if weaknesses.contains(.choosesLongest) {
                return tails.0.sequence > tails.1.sequence ? next : best
            }
            return tails.0.isLater(than: tails.1) ? next : best
        }
    }

    /// The volume whose log is chosen when these vote: the latest of the whole ones, unless one that is damaged ended
    /// later. Then nobody here has that end with all that leads to it, and nothing can be chosen.
    ///
    /// Whole ones that are a quorum by themselves need no other's vote: what was acknowledged is with one of them, and what
    /// only a damaged one ever had was not.
    private func choice(among candidates: [Volume]) -> Volume? {
        let whole = candidates.filter(hasWholeLog)
        guard let best = latest(of: whole) else { return nil }
        if isQuorum(whole.map(\.id), of: active(for: best)) { return best }
        return isOutvoted(best.report.outline.tail, by: candidates) ? nil : best
    }

    private func isOutvoted(_ tail: LogPosition, by candidates: [Volume]) -> Bool {
        guard !weaknesses.contains(.ignoresAttested) else { return false }
        return candidates.contains { attestedTail(of: $0)?.isLater(than: tail) ?? false }
    }

    /// Why there is nothing to choose although enough volumes vote.
    var endWithoutLog: String? {
        let eligible = volumes.filter(isEligible)
        guard choice(among: eligible) == nil else { return nil }
        var end: LogPosition?
        for volume in eligible {
            guard let tail = attestedTail(of: volume) else { continue }
            if end.map({ tail.isLater(than: $0) }) ?? true { end = tail }
        }
        return end.map {
            "the log is known to end at \($0), but no volume that is here has it whole up to there"
        }
    }

    /// Why the log that could be chosen must not be.
    var lossOfCommitted: String? {
        let eligible = volumes.filter(isEligible)
        return canDecide(eligible) ? choice(among: eligible).flatMap { lossOfCommitted(in: $0) } : nil
    }

    /// What the log lacks of what is known to be committed: more volumes lost something than can be
    /// tolerated.
    private func lossOfCommitted(in chosen: Volume) -> String? {
        guard weaknesses.isEmpty else { return nil }
        let outline = chosen.report.outline
        for volume in volumes {
            let proven = volume.report.provenCommitIndex
            let isThere = volume.report.outline.epoch(of: proven).map { epoch in
                outline.covers(LogPlace(epoch: epoch, sequence: proven))
            }
            if isThere ?? (proven <= outline.tail.sequence) { continue }
            return
                "volume \(volume.id) knows that the batches up to \(proven) were committed, but the log of the"
                + " volumes that can vote, which ends at \(outline.tail), does not have them"
        }
        return nil
    }

    /// Whether these volumes are a quorum of the memberships that hold for the latest log among them.
    private func canDecide(_ candidates: [Volume]) -> Bool {
        guard let chosen = choice(among: candidates) else { return false }
        return isQuorum(candidates.map(\.id), of: active(for: chosen))
    }

    /// Promises are written only when enough volumes can vote: a lone volume's promise would be of no use.
    mutating func startPromising() {
        guard phase == .gathering, hasBegun, canDecide(volumes.filter(isEligible)), lossOfCommitted == nil
        else {
            return
        }
        let seen = volumes.map { volume in
            weaknesses.contains(.noPromise)
                ? volume.report.outline.tail.epoch
                : max(volume.record.promise, volume.report.outline.tail.epoch)
        }
        wantedEpoch = max(wantedEpoch, seen.max() ?? 0) + 1
        phase = .promising
    }

    mutating func pumpPromises() {
        guard phase == .promising else { return }
        for index in volumes.indices where isEligible(volumes[index]) && volumes[index].operation == nil {
            guard volumes[index].record.promise < wantedEpoch, !weaknesses.contains(.noPromise) else {
                continue
            }
            var record = volumes[index].record
            record.promise = wantedEpoch
            write(record, to: index)
        }
        let promised = volumes.filter { volume in
            isEligible(volume) && (volume.record.promise >= wantedEpoch || weaknesses.contains(.noPromise))
        }
        guard canDecide(promised), let chosen = choice(among: promised) else { return }
        guard lossOfCommitted(in: chosen) == nil else { return }
        choose(chosen)
    }

    private mutating func choose(_ chosen: Volume) {
        epoch = wantedEpoch
        commitIndex = knownCommitIndex
        chain = chosen.report.outline
        memberships = chosen.record.memberships(in: chain)
        phase = .serving(startSequence: nil)
        if weaknesses.contains(.noStartRecord) { commitIndex = chain.tail.sequence }
        for index in volumes.indices where volumes[index].isUp { follow(index) }
    }

    /// From here on the volume's word counts for nothing until its log has reached the end that the chain has
    /// now.
    mutating func mark(_ index: Int) {
        guard weaknesses.isDisjoint(with: [.unmarkedRebuild, .trustsDamaged]) else { return }
        let isStarted = startedEpoch == epoch
        volumes[index].mark = LogPlace(epoch: epoch, sequence: chain.tail.sequence + (isStarted ? 0 : 1))
    }

    /// Compares a volume's log with the chain.
    mutating func follow(_ index: Int) {
        let outline = volumes[index].report.outline
        if isNew(volumes[index]), volumes[index].fault == nil, !weaknesses.contains(.noPromise) {
            volumes[index].fault = "it is new: it is filled before it votes"
        }
        var common = outline.lastCommon(with: chain)
        if weaknesses.contains(.noChain) {
            let sequence = min(outline.tail.sequence, chain.tail.sequence)
            common = chain.epoch(of: sequence).map { LogPlace(epoch: $0, sequence: sequence) }
        }
        if common == LogPlace(outline.tail), common == LogPlace(chain.tail),
            outline.tail.hash != chain.tail.hash
        {
            volumes[index].fault = "it has another batch at \(outline.tail) than the log that was chosen"
            common = nil
        }
        let known = volumes[index].record.memberships(in: outline)
        volumes[index].foreign = known.filter { $0.since != .origin && !memberships.contains($0) }
        if volumes[index].fault != nil { mark(index) }
        volumes[index].durable = common?.sequence
        volumes[index].issued = common?.sequence ?? 0
    }
}
