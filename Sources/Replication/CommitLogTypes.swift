package import StoreModel

/// Epoch and sequence of a batch. Epochs have one writer each and a sequence is never reused within an epoch,
/// so a place names a batch; the hash of a `LogPosition` proves it.
package struct LogPlace: Hashable, Sendable, BitwiseCopyable, Comparable, CustomStringConvertible {
    package let epoch: UInt64
    package let sequence: UInt64

    package init(epoch: UInt64, sequence: UInt64) {
        self.epoch = epoch
        self.sequence = sequence
    }

    package init(_ position: LogPosition) { self.init(epoch: position.epoch, sequence: position.sequence) }

    package static let origin = LogPlace(epoch: 0, sequence: 0)

    package static func < (left: LogPlace, right: LogPlace) -> Bool {
        (left.epoch, left.sequence) < (right.epoch, right.sequence)
    }

    package var description: String { "\(epoch).\(sequence)" }
}

/// What a log contains, as runs of one epoch: a few words however long the log is.
///
/// Because a place names a batch and every batch names its predecessor, two logs that both contain a place
/// are the same up to it.
package struct LogOutline: Hashable, Sendable {
    package struct Run: Hashable, Sendable {
        package let epoch: UInt64
        package let first: UInt64
        package fileprivate(set) var last: UInt64
    }

    /// The place after which the log starts; its batch is not in the log any more, but is known to be
    /// committed.
    package private(set) var base: LogPosition
    package private(set) var tail: LogPosition
    package private(set) var runs: [Run] = []

    package init(base: LogPosition) {
        self.base = base
        tail = base
    }

    /// - Parameter positions: every batch in order, the base excluded. What follows a gap or a step back of
    ///   the epoch is not taken: `tail` is then before the last of `positions`.
    package init(base: LogPosition, positions: some Sequence<LogPosition>) {
        self.init(base: base)
        for position in positions {
            guard canAppend(position) else { break }
            append(position)
        }
    }

    package var isEmpty: Bool { runs.isEmpty }

    package func canAppend(_ position: LogPosition) -> Bool {
        position.sequence > tail.sequence && position.sequence - 1 == tail.sequence
            && position.epoch >= tail.epoch
    }

    package mutating func append(_ position: LogPosition) {
        precondition(canAppend(position), "A batch is appended directly after its predecessor only.")
        if let last = runs.last, last.epoch == position.epoch {
            runs[runs.count - 1].last = position.sequence
        } else {
            runs.append(Run(epoch: position.epoch, first: position.sequence, last: position.sequence))
        }
        tail = position
    }

    /// Whether the batch at `place` is in the log, or is its base.
    package func contains(_ place: LogPlace) -> Bool {
        if place == LogPlace(base) { return true }
        return runs.contains {
            $0.epoch == place.epoch && $0.first <= place.sequence && place.sequence <= $0.last
        }
    }

    /// Whether the log, or what its base stands for, goes through `place`, where `place` is known to be on
    /// the chain that leads to the base when it is not after it.
    package func covers(_ place: LogPlace) -> Bool { place.sequence <= base.sequence || contains(place) }

    /// The last batch that both logs contain (a base counts), or nil.
    package func lastCommon(with other: LogOutline) -> LogPlace? {
        var best: LogPlace?
        func consider(_ place: LogPlace) {
            if best.map({ $0.sequence < place.sequence }) ?? true { best = place }
        }
        if other.contains(LogPlace(base)) { consider(LogPlace(base)) }
        if contains(LogPlace(other.base)) { consider(LogPlace(other.base)) }
        var left = runs[...]
        var right = other.runs[...]
        while let ours = left.last, let theirs = right.last {
            if ours.epoch == theirs.epoch {
                let last = min(ours.last, theirs.last)
                if last >= max(ours.first, theirs.first) {
                    consider(LogPlace(epoch: ours.epoch, sequence: last))
                    break
                }
            }
            if ours.epoch >= theirs.epoch { left.removeLast() }
            if theirs.epoch >= ours.epoch { right.removeLast() }
        }
        return best
    }

    /// The epoch of the batch with this sequence, the base included.
    package func epoch(of sequence: UInt64) -> UInt64? {
        if sequence == base.sequence { return base.epoch }
        return runs.last { $0.first <= sequence && sequence <= $0.last }?.epoch
    }
}

/// Who carries the commit log, from the record at `since` on (the origin for the first one).
package struct LogMembership: Hashable, Sendable {
    package let version: UInt64
    /// In the order of the identifiers.
    package let members: [VolumeID]
    /// Where the record that made it stands in the log.
    package let since: LogPlace

    package init(version: UInt64, members: [VolumeID], since: LogPlace = .origin) {
        self.version = version
        self.members = members.sorted()
        self.since = since
    }
}

/// What a volume's identity file says about the log, written as a whole and durable before anything that
/// relies on it happens on that volume.
package struct VolumeLogRecord: Hashable, Sendable {
    /// How many memberships are kept; changes are rare, and only the last two can matter to a volume that is
    /// at most this many changes behind.
    package static let membershipCountMax = 16

    /// The volume takes batches of no writer with a lower epoch. Zero: the volume is new, or forgot what it
    /// had, and its word counts for nothing yet.
    package var promise: UInt64
    /// The volume counts at a start only when its log has reached this place (or a later epoch): set before
    /// it is rebuilt, because it has lost what it once acknowledged. Never goes down and needs no clearing.
    package var votesFrom: LogPlace
    /// The memberships by version. A membership whose record is not in the volume's log is not in force
    /// there: it is written here before the record is appended.
    package var memberships: [LogMembership]

    package init(promise: UInt64, votesFrom: LogPlace = .origin, memberships: [LogMembership]) {
        self.promise = promise
        self.votesFrom = votesFrom
        self.memberships = memberships
    }

    /// For a member that is made together with the store: it has acknowledged nothing, and it may say so.
    package static func founding(members: [VolumeID]) -> VolumeLogRecord {
        VolumeLogRecord(promise: 1, memberships: [LogMembership(version: 1, members: members)])
    }

    /// For a volume that is made later, in place of another or beside: it votes only when it was filled.
    package static let replacement = VolumeLogRecord(promise: 0, memberships: [])

    /// The memberships that hold for a log, by version.
    package func memberships(in outline: LogOutline) -> [LogMembership] {
        memberships.filter { outline.covers($0.since) }
    }
}

/// What one reachable volume has, read after its tails were fdatasynced (what is only in the page cache
/// counts for nothing).
package struct VolumeLogReport: Sendable {
    package let volume: VolumeID
    package let record: VolumeLogRecord
    package let outline: LogOutline
    /// The highest commit index that any valid batch *on this volume* carries, those after a damaged one
    /// included.
    package let knownCommitIndex: UInt64
    /// Every payload of commits up to here is on the volume; for display.
    package let completeSequence: UInt64
    /// Why the volume can't be trusted to hold what it acknowledged: a bad record below its synced watermark,
    /// a failed fsync recorded by itself or by a peer. Nil when the open found no fault.
    package let damage: String?
    /// Where the log ended when it was noticed that batches in front of its end are lost, if that is certain. Everything
    /// that the volume acknowledged is in the log that ends there, and nothing that it is sent counts before it is
    /// rebuilt: so it is true, and enough to vote, until then.
    package let attestedTail: LogPosition?

    package init(
        volume: VolumeID,
        record: VolumeLogRecord,
        outline: LogOutline,
        knownCommitIndex: UInt64,
        completeSequence: UInt64 = 0,
        damage: String? = nil,
        attestedTail: LogPosition? = nil
    ) {
        self.volume = volume
        self.record = record
        self.outline = outline
        self.knownCommitIndex = knownCommitIndex
        self.completeSequence = completeSequence
        self.damage = damage
        self.attestedTail = attestedTail
    }

    /// What the volume proves to be committed, in its own log: what stands under a base is.
    package var provenCommitIndex: UInt64 { max(knownCommitIndex, outline.base.sequence) }

    /// Rule 7, decided on what the volume itself says. A peer's commit index proves nothing here: a volume
    /// that was absent is behind, not damaged. A volume's own does: batches arrive in order, and a batch that
    /// carries commit index c stands after c, so this volume once held everything up to c.
    package var fault: String? {
        if let damage { return damage }
        if knownCommitIndex > outline.tail.sequence {
            return
                "its log ends at \(outline.tail.sequence), but it once held the committed \(knownCommitIndex)"
        }
        if record.promise < outline.tail.epoch {
            return
                "its identity promises epoch \(record.promise), but its log reaches epoch \(outline.tail.epoch)"
        }
        return nil
    }
}
