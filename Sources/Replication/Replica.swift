package import BlobVolume
package import StoreModel

/// What goes to one replica in one round: payloads and at most one commit batch, durable together or not at all.
package struct ReplicaGroup: Sendable {
    package var payloads: [PayloadRecord]
    package var batch: CommitBatch?
    /// Payloads that are there by the time they would be written are left out: somebody else was faster.
    package var leavesOutPresent = false

    package init(payloads: [PayloadRecord], batch: CommitBatch?) {
        self.payloads = payloads
        self.batch = batch
    }

    /// Bytes that wait in memory for this group.
    package var byteCount: Int {
        payloads.reduce(batch?.body.count ?? 0) { $0 + $1.bytes.count }
    }
}

package enum GroupOutcome: Sendable {
    /// Payloads and batch are durable.
    case whole
    /// The volume is full: the batch is durable, the payloads are not there.
    case batchOnly
}

package typealias ReplicaCompletion<Value> = @Sendable (Result<Value, VolumeError>) -> Void

/// One place that holds copies: a local volume with its threads, later a storage node.
///
/// Calls return at once; the completion is called exactly once, on a thread of the replica, and must not block.
/// Groups are performed in the order in which they were given; so are bulk appends and bulk syncs among themselves.
package protocol Replica: AnyObject, Sendable {
    var id: VolumeID { get }
    /// What a person calls it: a path, for messages.
    var label: String { get }

    /// Appends a group to the log segment and makes it durable.
    ///
    /// A full volume that has no room for the payloads still takes the batch: the answer says which it was.
    func appendGroup(_ group: ReplicaGroup, completion: @escaping ReplicaCompletion<GroupOutcome>)
    /// Appends a payload to the bulk segment; durable only after `syncBulk`.
    func appendBulk(_ payload: PayloadRecord, completion: @escaping ReplicaCompletion<Void>)
    /// The same, unless the payload is there by the time it would be written: who copies in the background makes no second
    /// copy of what an upload or a repair has written meanwhile.
    func appendBulkIfAbsent(_ payload: PayloadRecord, completion: @escaping ReplicaCompletion<Void>)
    /// Makes every bulk append that was completed before durable.
    func syncBulk(completion: @escaping ReplicaCompletion<Void>)
    /// Reads a range of a payload; only bytes that verified are handed out.
    /// nil means the whole payload.
    func read(_ digest: Digest, range: Range<Int>?, completion: @escaping ReplicaCompletion<[UInt8]>)
    /// The same at once, on the caller's thread and to where the caller wants it, if that takes no waiting for a disk.
    /// - Returns: false otherwise: then `target`, which has the length of the range, holds nothing of use.
    func readCached(_ digest: Digest, range: Range<Int>, into target: UnsafeMutableRawBufferPointer) -> Bool
    /// Verifies a copy in place: block checksums, and with `strict` its SHA-256.
    func verify(_ digest: Digest, strict: Bool, completion: @escaping ReplicaCompletion<Void>)
    /// Compares a copy with its block checksums as the disk has it, past the system's page cache where that is possible.
    func verifyOnDisk(_ digest: Digest, byteCount: Int, completion: @escaping ReplicaCompletion<Void>)
    /// Replaces a damaged or missing copy durably; the damaged original is quarantined.
    func repair(_ payload: PayloadRecord, completion: @escaping ReplicaCompletion<Void>)
    /// Whole payloads, in the order of their names; nil for one that can't be read. Of as many as may well be in memory.
    func readAll(_ digests: [Digest], completion: @escaping ReplicaCompletion<[[UInt8]?]>)
    /// What the index says, without touching the disk; it may be wrong about digests that begin alike.
    func presence(of digest: Digest) -> RecordPresence
    /// Bytes of the records that hold it, with headers and padding, by the index.
    func recordBytes(of digest: Digest, length: UInt64) -> UInt64
    /// The same as `presence`, confirmed by the copy's header on the disk.
    func confirmPresence(of digest: Digest, completion: @escaping ReplicaCompletion<RecordPresence>)
    /// The same of several, in their order; for as many as a thread may well look at in one go.
    func confirmPresence(of digests: [Digest], completion: @escaping ReplicaCompletion<[RecordPresence]>)

    func logReport(completion: @escaping ReplicaCompletion<ReplicaLogReport>)
    func readBatch(sequence: UInt64, completion: @escaping ReplicaCompletion<CommitBatch>)
    /// Batches one after the other, from the first on: those that can be read, until they have `byteCount` bytes together.
    /// Fails only when the first can't be read.
    func readBatches(
        _ sequences: ClosedRange<UInt64>,
        byteCount: Int,
        completion: @escaping ReplicaCompletion<[CommitBatch]>
    )
    /// Makes a record of promise and memberships durable.
    func writeLogRecord(_ record: VolumeLogRecord, completion: @escaping ReplicaCompletion<Void>)
    /// Drops the batches up to `base`, which is in the log.
    func trimLog(base: LogPosition, completion: @escaping ReplicaCompletion<Void>)
    /// Durably forgets the signs of damage: the log is back.
    func noteLogRebuilt(completion: @escaping ReplicaCompletion<Void>)
    /// Drops all batches; the log then starts after `base`.
    func resetLog(base: LogPosition, completion: @escaping ReplicaCompletion<Void>)
    /// Notes that every payload of commits up to `sequence` is here; written with the next group.
    func setComplete(through sequence: UInt64)
    /// The same as `setComplete`, unless it was said since `moment` that nothing is known to be here (`setComplete` through 0).
    /// - Returns: whether it was noted.
    func setComplete(through sequence: UInt64, unlessLostSince moment: LossMoment) -> Bool
    /// The same for one batch; beyond a gap it is remembered until the gap is filled.
    func advanceComplete(to sequence: UInt64, unlessLostSince moment: LossMoment)
    /// Records on this replica that a peer failed for good.
    func recordFailure(
        of peer: VolumeID,
        _ failure: PeerFailure,
        completion: @escaping ReplicaCompletion<Void>
    )
    /// Takes that back, once the peer was rebuilt.
    func clearFailure(of peer: VolumeID, completion: @escaping ReplicaCompletion<Void>)

    var completeSequence: UInt64 { get }
    /// Whether payloads were found to be gone since a moment, or this replica was opened since.
    func hasLost(since moment: LossMoment) -> Bool
    /// The sticky failure of this replica, if it has one.
    var failure: VolumeError? { get }
    /// Whether it has one: asked by every write and read, so it takes no lock.
    var hasFailed: Bool { get }
    /// Whether payloads may be sent: false when the volume is full (it still takes commit batches) or failed.
    var acceptsPayloads: Bool { get }
    /// May ask the file system: for display, not for the way of a request.
    var space: VolumeSpace { get }
    /// Whether so many more bytes leave the volume above its watermarks. Asks the file system, which costs next to nothing.
    func hasRoom(for byteCount: UInt64?) -> Bool
    /// Looks, in the background, whether a full volume has room again.
    func recheckRoom()
    /// Bytes that wait to be written to the bulk segment.
    var waitingBulkBytes: Int { get }
    /// How long the oldest running job has been running.
    var busyDuration: Duration { get }
    var latency: LatencyEstimate { get }
    /// Of groups made durable.
    var syncLatency: LatencyEstimate { get }
    /// Calls that failed because of the disk, since the volume was opened.
    var errorCount: UInt64 { get }
    /// Reads a little from the disk, to see whether it answers.
    func probe(completion: @escaping ReplicaCompletion<Void>)

    /// A walk over all of the volume's files; nil where there are none of this machine's.
    func makeScrubber(from cursor: ScrubCursor, through last: UInt32?) -> VolumeScrubber?
    /// One step of it, on a thread that serves nothing else.
    func scrub(
        _ scrubber: VolumeScrubber,
        byteCount: UInt64,
        completion: @escaping ReplicaCompletion<ScrubStep>
    )
    /// What opening the volume has put right by itself.
    var mendedAtOpening: [ScrubDamage] { get }
    /// A batch of its log is lost: the log ends in front of it, and does not vote until it is whole again.
    func noteLostBatch(at location: RecordLocation, completion: @escaping ReplicaCompletion<Void>)

    /// Stops the threads and closes the volume. Returns when closed or when `deadline` has passed: a thread that
    /// is stuck in the kernel is left behind.
    func close(deadline: Duration)
}

/// What a replica says of its commit log when a writer starts; its tail was made durable before.
package struct ReplicaLogReport: Sendable {
    package var record: VolumeLogRecord
    package var base: LogPosition
    package var positions: [LogPosition]
    package var knownCommitIndex: UInt64
    package var completeSequence: UInt64
    /// Why the log can't be trusted; nil when no fault was found.
    package var damage: String?
    /// Where a damaged log ended, when that is certain.
    package var attestedTail: LogPosition?
}

extension VolumeError {
    package static func noAnswer(from label: String, within deadline: Duration) -> VolumeError {
        VolumeError(.overloaded, "No answer within \(deadline).", path: label)
    }
}
