import StoreModel

/// Proposals, the count of copies, changes of membership and snapshots.
extension CommitLogMachine {
    var upcoming: LogProposal {
        LogProposal(
            epoch: epoch,
            sequence: chain.tail.sequence + 1,
            predecessor: chain.tail,
            commitIndex: commitIndex
        )
    }

    // MARK: Epochs

    /// A volume joined with a promise above ours: a writer that never got a quorum left it. We go above it,
    /// with the log that we have: while that promise is on no quorum, no other writer can have begun.
    mutating func raiseEpoch() {
        guard wantedEpoch > epoch else { return }
        let promised = volumes.filter { $0.isUp && $0.record.promise >= wantedEpoch }
        if isQuorum(promised.map(\.id)) { epoch = wantedEpoch }
    }

    mutating func announceStart() {
        if isReady, !hasAnnouncedReady {
            hasAnnouncedReady = true
            actions.append(.ready(epoch: epoch))
        }
        guard startedEpoch != epoch, wantedEpoch == epoch, announcedStart != upcoming.place else { return }
        announcedStart = upcoming.place
        actions.append(.proposeStart(upcoming))
    }

    // MARK: Proposals

    mutating func accept(_ position: LogPosition, membership: LogMembership? = nil) throws(Refusal) {
        guard case .serving(let start) = phase, wantedEpoch == epoch else {
            throw Refusal(description: "no batch may be proposed in this state")
        }
        guard LogPlace(position) == upcoming.place else {
            throw Refusal(description: "\(position) is not the next place, \(upcoming.place)")
        }
        if startedEpoch == epoch {
            guard nextPlace != nil else { throw Refusal(description: "the head of the log is blocked") }
        } else {
            guard membership == nil else {
                throw Refusal(description: "a start record changes no membership")
            }
        }
        if let membership {
            try check(membership, at: LogPlace(position))
            memberships.append(membership)
        }
        if membership != nil {
            settledBy = nil
        } else if settledBy == nil, let last = memberships.last, last.since.sequence <= commitIndex {
            settledBy = position.sequence
        }
        if startedEpoch != epoch {
            startedEpoch = epoch
            phase = .serving(startSequence: start ?? position.sequence)
        }
        chain.append(position)
        retained.append(position)
        let excess = retained.count - Self.retainedCountMax
        if excess > 0 { retained.removeFirst(retained.prefix(excess).count { $0.sequence <= commitIndex }) }
    }

    // MARK: Commit

    /// The highest sequence that is durable on a quorum of every membership in force. Before this writer's
    /// start record is, nothing is.
    mutating func updateCommitIndex() {
        guard case .serving(let start?) = phase else { return }
        let needed = quorum.writeQuorum - (weaknesses.contains(.smallQuorum) ? 1 : 0)
        var reached = chain.tail.sequence
        for membership in activeMemberships {
            let durable = membership.members.map { durableSequence(of: $0) }.sorted(by: >)
            reached = min(reached, durable.count < needed ? 0 : durable[needed - 1])
        }
        guard reached >= start, reached > commitIndex else { return }
        commitIndex = reached
        actions.append(.committed(through: reached))
    }

    /// What counts: a volume that is up, has promised this epoch and would vote at a start. A copy on a
    /// volume that does not vote yet could not be found without the others.
    func durableSequence(of id: VolumeID) -> UInt64 {
        guard let index = index(of: id), counts(volumes[index]) else { return 0 }
        return volumes[index].durable ?? 0
    }

    private func counts(_ volume: Volume) -> Bool {
        guard volume.isUp else { return false }
        if weaknesses.contains(.trustsDamaged) { return true }
        guard volume.fault == nil, volume.mark == nil, place(of: volume) >= volume.record.votesFrom else {
            return false
        }
        return volume.record.promise >= epoch || weaknesses.contains(.noPromise)
    }

    /// Whether volumes that pass are enough to commit what they have: those whose copies count, in every membership in force.
    func isQuorumCounting(_ passes: (VolumeID) -> Bool) -> Bool {
        isQuorum(volumes.filter { counts($0) && passes($0.id) }.map(\.id))
    }

    // MARK: Memberships

    func replacement(of oldMember: VolumeID, with newMember: VolumeID) throws(Refusal) -> LogMembership {
        guard let place = nextPlace?.place, let last = memberships.last else {
            throw Refusal(description: "the members of the log can't be changed while it takes no batches")
        }
        guard last.since.sequence <= commitIndex else {
            throw Refusal(description: "the last change of members is not committed yet")
        }
        guard last.members.contains(oldMember) else {
            throw Refusal(description: "volume \(oldMember) does not carry the commit log")
        }
        guard !last.members.contains(newMember) else {
            throw Refusal(description: "volume \(newMember) carries the commit log already")
        }
        guard durableSequence(of: newMember) >= commitIndex else {
            throw Refusal(description: "volume \(newMember) is not caught up")
        }
        let members = last.members.filter { $0 != oldMember } + [newMember]
        return LogMembership(version: last.version + 1, members: members, since: place)
    }

    /// One member at a time, and only the next version, at the place of its record.
    private func check(_ membership: LogMembership, at place: LogPlace) throws(Refusal) {
        guard let last = memberships.last, membership.version == last.version + 1, membership.since == place
        else {
            throw Refusal(description: "the change of members was made for another place in the log")
        }
        let leaving = last.members.filter { !membership.members.contains($0) }
        let joining = membership.members.filter { !last.members.contains($0) }
        guard let oldMember = leaving.first, let newMember = joining.first,
            try replacement(of: oldMember, with: newMember) == membership
        else { throw Refusal(description: "one member is replaced at a time") }
    }

    // MARK: Snapshots

    mutating func take(_ snapshot: Snapshot) {
        if let index = snapshots.firstIndex(where: { $0.position == snapshot.position }) {
            let known = snapshots[index].holders
            snapshots[index].holders += snapshot.holders.filter { !known.contains($0) }
        } else {
            snapshots.append(snapshot)
            snapshots.sort { $0.position.sequence < $1.position.sequence }
        }
    }

    /// Rule 8: a base moves to the older of the two latest generations that are committed and held by a
    /// quorum. A volume that others copy from keeps its batches meanwhile.
    mutating func advanceBases() {
        guard isReady else { return }
        let good = snapshots.filter { $0.notedAt <= commitIndex && isQuorum($0.holders) }
        guard let older = good.dropLast().last, chain.contains(LogPlace(older.position)) else { return }
        snapshots.removeAll { $0.position.sequence < older.position.sequence }
        let sources = volumes.compactMap { volume -> VolumeID? in
            guard case .copy(let source, _) = volume.operation else { return nil }
            return source
        }
        for index in volumes.indices where volumes[index].isUp && !sources.contains(volumes[index].id) {
            let volume = volumes[index]
            guard let durable = volume.durable, durable >= older.position.sequence, volume.advancing == nil,
                volume.base.sequence < older.position.sequence,
                volume.record.memberships
                    == memberships.suffix(
                        VolumeLogRecord.membershipCountMax
                    )
            else { continue }
            volumes[index].advancing = older.position
            actions.append(.advanceBase(volume.id, incarnation: volume.incarnation, to: older.position))
        }
    }
}
