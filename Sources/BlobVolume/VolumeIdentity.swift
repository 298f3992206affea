package import StoreModel

/// The volumes that carry the commit log. It changes only by records in the log; this is a volume's copy of it.
package struct LogSet: Hashable, Sendable {
    package var version: UInt64
    package var members: [VolumeID]
    /// Where the record that made it stands in the log; 0, 0 for the set that the store was founded with.
    package var sinceEpoch: UInt64
    package var sinceSequence: UInt64

    package init(version: UInt64, members: [VolumeID], sinceEpoch: UInt64 = 0, sinceSequence: UInt64 = 0) {
        self.version = version
        self.members = members
        self.sinceEpoch = sinceEpoch
        self.sinceSequence = sinceSequence
    }
}

/// What a volume remembers about a peer that failed, in case the peer could not write it down itself.
package struct PeerFailure: Hashable, Sendable {
    /// The epoch of the writer that saw it. It says nothing any more once the peer has promised a later one: then it was
    /// opened as a failed volume since.
    package let epoch: UInt64
    package let reason: String
    /// The last batch that the peer had acknowledged to that writer: it and all before it are synced there. Nil when the
    /// writer did not know.
    package let acknowledged: AcknowledgedBatch?

    package init(epoch: UInt64, reason: String, acknowledged: AcknowledgedBatch? = nil) {
        self.epoch = epoch
        self.reason = reason
        self.acknowledged = acknowledged
    }

    /// Of two records of the same peer the one of the later failure, or that knows of more.
    package static func later(_ left: PeerFailure, _ right: PeerFailure) -> PeerFailure {
        guard left.epoch == right.epoch else { return left.epoch > right.epoch ? left : right }
        guard let known = left.acknowledged else { return right }
        guard let other = right.acknowledged else { return left }
        return known < other ? right : left
    }
}

/// A batch by its place in the log: an epoch has one writer, which never gives a sequence twice.
package struct AcknowledgedBatch: Hashable, Sendable, Comparable {
    package let epoch: UInt64
    package let sequence: UInt64

    package init(epoch: UInt64, sequence: UInt64) {
        self.epoch = epoch
        self.sequence = sequence
    }

    package static func < (left: AcknowledgedBatch, right: AcknowledgedBatch) -> Bool {
        (left.epoch, left.sequence) < (right.epoch, right.sequence)
    }
}

/// What a volume is and what it has promised; kept in `volume.json` and its second copy.
package struct VolumeIdentity: Sendable, Equatable {
    package static let formatMajor: UInt64 = 1
    /// The newest that this program reads, and writes where a volume needs it; see IdentityFile.swift.
    package static let formatMajorMax: UInt64 = 2
    package static let formatMinor: UInt64 = 0

    package let storeID: StoreID
    package let volumeID: VolumeID
    package internal(set) var formatMajor = VolumeIdentity.formatMajor
    package internal(set) var formatMinor = VolumeIdentity.formatMinor
    /// The highest epoch that this volume promised to a writer: it takes no batches of earlier ones.
    package var promise: UInt64
    /// The volume counts when a writer starts only if its log has reached this place: set while it is rebuilt because
    /// it has lost what it once acknowledged.
    package var votesFromEpoch: UInt64 = 0
    package var votesFromSequence: UInt64 = 0
    /// The log sets that this volume knows, by version; the last few are enough.
    package var memberships: [LogSet]
    package var quorum: QuorumConfiguration
    package let createdAt: Timestamp
    /// Volumes whose failure (a failed write or fsync) was recorded here because they may be unable to record it.
    package var failed: [VolumeID: PeerFailure]

    package init(
        storeID: StoreID,
        volumeID: VolumeID,
        promise: UInt64 = 0,
        logSet: LogSet,
        quorum: QuorumConfiguration,
        createdAt: Timestamp,
        failed: [VolumeID: PeerFailure] = [:]
    ) {
        self.storeID = storeID
        self.volumeID = volumeID
        self.promise = promise
        memberships = [logSet]
        self.quorum = quorum
        self.createdAt = createdAt
        self.failed = failed
    }
}

extension VolumeIdentity {
    /// The newest log set that this volume knows.
    package var logSet: LogSet {
        get { memberships.last ?? LogSet(version: 0, members: []) }
        set { memberships = memberships.filter { $0.version < newValue.version } + [newValue] }
    }
}

/// What a volume has to remember about itself beside its segments.
struct VolumeMemory: Sendable, Equatable {
    /// A segment that must never be written again because a write or an fsync of it failed, and where its good part
    /// ends.
    struct FrozenSegment: Sendable, Equatable {
        let number: UInt32
        let end: UInt64
    }

    /// The places that were known to be fsynced when this was written.
    struct Watermarks: Sendable, Equatable {
        var log = RecordLocation(segment: 0, unit: 0)
        var bulk = RecordLocation(segment: 0, unit: 0)
        var complete: UInt64 = 0
    }

    /// Where the log of this volume begins, once segments with batches were given back.
    struct LogFloor: Sendable, Equatable {
        let position: LogPosition
        /// Where the log ended when it was so.
        let from: RecordLocation
    }

    var logFloor: LogFloor?
    /// Lower bounds of what is fsynced, as of the last time that this was written.
    var watermarks = Watermarks()
    /// Set by a clean close, cleared before the first write after it. The log segment then holds zeros behind the
    /// watermark, and the watermarks are exact.
    var isClean = false
    /// Set when a write or an fsync failed and this file could still be written: the watermarks are then exact too,
    /// and nothing behind them may be relied on.
    var failureReason: String?
    var frozen: [FrozenSegment] = []
    /// A batch that was acknowledged from here is lost; see `BlobVolume.isLogDamaged`.
    var isLogDamaged = false
    /// Where a damaged log ended, when that is certain: everything that was acknowledged from here is in the log that
    /// ends there. True from the moment at which the damage was noticed, whatever is done to the log afterwards, because
    /// nothing that is written to a damaged log counts before it is rebuilt; forgotten then. Nil: no such thing is known.
    var attestedTail: LogPosition?
    /// Kept here when it is higher than what the log's own records tell.
    var knownCommitIndex: UInt64 = 0
}

extension VolumeIdentity {
    /// The end of a log that is about to be called damaged, unless the volume once acknowledged more than that: it knows
    /// of a later commit, it had lost something before, or its promise is older than the log.
    func attestable(_ tail: LogPosition?, knownCommitIndex: UInt64) -> LogPosition? {
        guard let tail, promise > 0, promise >= tail.epoch, knownCommitIndex <= tail.sequence,
            (tail.epoch, tail.sequence) >= (votesFromEpoch, votesFromSequence)
        else { return nil }
        return tail
    }
}

extension BlobVolume {
    /// Reads the identity of the volume on a disk, without opening it.
    /// - Throws: `.identityMissing` when there is none, `.unsupportedFormat`, `.corrupt`, `.inputOutput`.
    package static func readIdentity(_ disk: any Disk) throws(VolumeError) -> VolumeIdentity {
        try IdentityFile.load(from: disk).file.identity
    }
}
