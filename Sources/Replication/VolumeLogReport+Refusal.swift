import StoreModel

// What no volume of this store can say. It is not asked how it came about: such a volume counts for nothing, is written
// nothing, and what it says is not looked at.
//
// Not among it, because it happens: a log that is longer than what it attests (it is being rebuilt), a membership whose record
// is not in the log (it was noted before it was appended, or cut), a promise below the log's epoch or a commit index behind its
// end (damage: `VolumeLogReport.fault`).
extension VolumeLogReport {
    /// Epochs and sequences rise by one: none gets there.
    static let numberMax: UInt64 = 1 << 62

    /// Why this can't be, if it can't.
    func impossibility(in quorum: QuorumConfiguration) -> String? {
        for (name, position) in [
            ("base", outline.base), ("end", outline.tail), ("attested end", attestedTail),
        ] {
            guard let position else { continue }
            if let reason = Self.impossibility(of: LogPlace(position)) {
                return "the \(name) of its log, \(position), \(reason)"
            }
        }
        for (name, number) in [
            ("promise", record.promise), ("commit index", knownCommitIndex),
            ("watermark of what is complete", completeSequence),
        ]
        where number > Self.numberMax {
            return "its \(name), \(number), is higher than any can be"
        }
        if let attestedTail, record.promise > 0, attestedTail.epoch > record.promise {
            return
                "it attests an end of epoch \(attestedTail.epoch), but its identity promises \(record.promise)"
        }
        if record.votesFrom.epoch > record.promise || record.votesFrom.sequence > Self.numberMax {
            return
                "it votes from \(record.votesFrom) on, but its identity promises epoch \(record.promise) only"
        }
        return impossibleMembership(quorum)
    }

    private static func impossibility(of place: LogPlace) -> String? {
        if place.epoch > numberMax || place.sequence > numberMax { return "is higher than any can be" }
        return (place.epoch == 0) == (place.sequence == 0) ? nil : "is none that a batch can have"
    }

    private func impossibleMembership(_ quorum: QuorumConfiguration) -> String? {
        var last: LogPlace?
        for membership in record.memberships {
            let members = membership.members
            guard members.count >= quorum.writeQuorum, Set(members).count == members.count else {
                return "the members of its log are not a set of \(quorum.writeQuorum) or more volumes"
            }
            guard membership.since.epoch <= record.promise, membership.since.sequence <= Self.numberMax else {
                return
                    "members of its log changed at \(membership.since), behind its promise \(record.promise)"
            }
            if let last, membership.since <= last {
                return "changes of members of its log are out of order: \(membership.since) behind \(last)"
            }
            last = membership.since
        }
        if record.promise > 0, record.memberships.isEmpty { return "its log has no members" }
        return nil
    }

    /// What stands for a report that can't be.
    static func refused(_ volume: VolumeID, because reason: String) -> VolumeLogReport {
        VolumeLogReport(
            volume: volume,
            record: .replacement,
            outline: LogOutline(base: .origin),
            knownCommitIndex: 0,
            damage: reason
        )
    }
}
