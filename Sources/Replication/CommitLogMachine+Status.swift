internal import BlobVolume
package import StoreModel

/// What the log is doing, for display and for error messages.
package struct CommitLogStatus: Hashable, Sendable {
    package enum Role: Hashable, Sendable {
        /// Holds the start record and everything before it.
        case voting
        case catchingUp
        /// Lost what it had acknowledged and is being rebuilt; does not vote until it is.
        case damaged(String)
        case failed(String)
        /// A member that never joined.
        case absent
        /// Up, but not a member: a spare that is kept filled, or a member that was replaced.
        case spare
        /// Joined; no log is chosen yet.
        case waiting
    }

    package struct Volume: Hashable, Sendable {
        package let volume: VolumeID
        package let isMember: Bool
        package let role: Role
        /// Its log is on the chain up to here.
        package let durableSequence: UInt64
        package let completeSequence: UInt64
    }

    package let isReady: Bool
    package let epoch: UInt64
    package let tail: LogPosition
    package let committedSequence: UInt64
    package let membership: LogMembership?
    /// Members, then others, each in the order of the identifiers.
    package let volumes: [Volume]
    /// Why there is no service, or why the head is blocked; nil when batches can be committed.
    package let obstacle: String?
    /// The members that are missing for that.
    package let missing: [VolumeID]
}

extension CommitLogMachine {
    /// Whether enough members are up for anything to be committed ever again.
    var hasQuorumUp: Bool { isQuorum(volumes.filter(\.isUp).map(\.id)) }

    /// Batches up to here can be read from no volume any more.
    var lowestBase: UInt64 {
        volumes.filter { $0.isUp && $0.durable != nil }.map(\.base.sequence).min() ?? chain.base.sequence
    }

    /// Where a volume's reported watermark must go back to, because its log left the chain before it. Nil: it stands.
    func completenessCorrection(of id: VolumeID) -> UInt64? {
        guard let index = index(of: id) else { return nil }
        let common = volumes[index].report.outline.lastCommon(with: chain)?.sequence ?? 0
        return volumes[index].completeSequence > common ? common : nil
    }

    func makeStatus() -> CommitLogStatus {
        let active = activeMemberships
        let members = (active.last?.members ?? []) + volumes.map(\.id)
        var listed: [CommitLogStatus.Volume] = []
        for id in members where !listed.contains(where: { $0.volume == id }) { listed.append(entry(for: id)) }
        let missing = missingMembers
        return CommitLogStatus(
            isReady: isReady,
            epoch: epoch,
            tail: chain.tail,
            committedSequence: commitIndex,
            membership: active.last,
            volumes: listed,
            obstacle: obstacle(missing: missing),
            missing: missing
        )
    }

    /// The last batch that a volume told this writer it has synced, or that it had when this writer began.
    func acknowledged(by id: VolumeID) -> AcknowledgedBatch? {
        guard let index = index(of: id), let sequence = volumes[index].durable,
            let epoch = chain.epoch(of: sequence)
        else { return nil }
        return AcknowledgedBatch(epoch: epoch, sequence: sequence)
    }

    private func entry(for id: VolumeID) -> CommitLogStatus.Volume {
        let isMember = activeMemberships.contains { $0.members.contains(id) }
        guard let index = index(of: id) else {
            return .init(
                volume: id,
                isMember: isMember,
                role: .absent,
                durableSequence: 0,
                completeSequence: 0
            )
        }
        let volume = volumes[index]
        return .init(
            volume: id,
            isMember: isMember,
            role: role(of: volume, isMember: isMember),
            durableSequence: volume.durable ?? 0,
            completeSequence: volume.completeSequence
        )
    }

    private func role(of volume: Volume, isMember: Bool) -> CommitLogStatus.Role {
        if !volume.isUp { return .failed(volume.failure ?? "not reachable") }
        guard case .serving(let start) = phase else {
            return volume.fault.map { .damaged($0) } ?? .waiting
        }
        if !isMember { return .spare }
        if durableSequence(of: volume.id) >= start ?? UInt64.max { return .voting }
        return volume.fault.map { .damaged($0) } ?? .catchingUp
    }

    /// Members that are down, absent, or (before a log is chosen) don't vote.
    private var missingMembers: [VolumeID] {
        var missing: [VolumeID] = []
        for id in activeMemberships.flatMap(\.members) where !missing.contains(id) {
            let isThere = index(of: id).map { position in
                if case .serving = phase { return volumes[position].isUp }
                return isEligible(volumes[position])
            }
            if isThere != true { missing.append(id) }
        }
        return missing.sorted()
    }

    private func obstacle(missing: [VolumeID]) -> String? {
        let names = missing.map(\.description).joined(separator: ", ")
        switch phase {
        case .stopped(let reason), .deposed(let reason):
            return reason
        case .gathering:
            if !hasBegun { return "the log volumes are being read" }
            return lossOfCommitted ?? endWithoutLog
                ?? "fewer than \(quorum.writeQuorum) log volumes can vote; missing: \(names)"
        case .promising:
            return "the log volumes are being promised epoch \(wantedEpoch)"
        case .serving:
            let up = volumes.filter(\.isUp).map(\.id)
            if !isQuorum(up) {
                return "fewer than \(quorum.writeQuorum) log volumes are up; missing: \(names)"
            }
            return isReady
                ? nil : "the start record of epoch \(epoch) is not on \(quorum.writeQuorum) volumes yet"
        }
    }
}
