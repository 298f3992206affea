package import StoreModel

/// The commit log's state machine: a quorum log with one writer over passive volumes. Events in, actions out;
/// no clock, no I/O, no lock, no randomness, and nothing depends on the order of an unordered collection.
///
/// ```
///               begin(), join(_:) with enough voters             a quorum promised: the log is chosen
///   gathering ───────────────────────────────────▶ promising ───────────────────────────────────────▶ starting
///       ▲   a promising volume failed                  │                                                  │
///       └──────────────────────────────────────────────┘        the start record is on a quorum           │
///                                                      ready ◀────────────────────────────────────────────┤
///   join(_:) shows a log of a higher epoch: deposed      a log that only failed volumes hold: startOver   ▼
///   (from any state; final)                                                                     stopped (final)
/// ```
///
/// One volume, once a log was chosen (each arrow waits for the completion of the one before):
/// ```
///   joined ─▶ writeRecord ─▶ resetLog (only when off the chain) ─▶ copyBatches … ─▶ append, append …
///     ▲                          fail(_:) from anywhere                                  │
///     └───────────── join(_:) ◀─ failed ◀────────────────────────────────────────────────┘
/// ```
///
/// Invariants:
///  1. *Promise.* No batch of epoch e is sent to a volume whose record does not durably promise e; none is
///     made before a quorum promised e. So an epoch has one writer, and every later quorum contains a volume
///     that knows of e.
///  2. *Choose.* The chain starts as the log with the highest (epoch, sequence) among a quorum of volumes
///     that promised. Everything committed before is in it: a committed batch is on a quorum, and each volume
///     of that quorum had it before it promised. Faulty volumes are neither counted nor chosen.
///  3. *Chain.* A volume gets a batch only after its predecessor: sends to one volume are in order, without
///     holes, and begin directly after its last batch that is on the chain. What it has beyond that batch is
///     cut by that append; it was never committed, or the chain would contain it.
///  4. *Start.* Nothing is committed, shown or answered before the start record of this writer is on a
///     quorum. A batch of an older epoch is never committed by counting its copies alone: a copy of it could
///     still be cut by a log of a higher epoch. Counting the start record, which stands after it, commits it.
///  5. *In order.* committed(through: s) is emitted only when everything up to s is durable on a quorum of
///     every membership in force; the bound on uncommitted batches refuses proposals behind a blocked head.
///  6. *Damage.* A volume that lost what it acknowledged (`VolumeLogReport.fault`), or has never promised,
///     first gets `votesFrom` durably: this epoch and the end of the chain. Then it gets its log back. Until
///     its log has reached that place it votes in no start; a log that reached it, or a later epoch, has
///     everything that the volume can have acknowledged. A volume that is only behind keeps its vote: it says
///     truthfully that it acknowledged no more.
///     A volume that lost batches *in front of* its end, and whose end is certain, keeps a vote as well: what
///     the proof of 2. takes from a voter is its promise and the place up to which it acknowledged, not the
///     bytes. `attestedTail` is that place, durable before the damaged log is touched, and true until
///     `noteRebuilt`, because nothing that the volume gets meanwhile is counted: so a crash in the middle of
///     the rebuild takes no vote away. Its log is never chosen, and none is chosen that ends before what a
///     voter attests: two damaged logs of three need the third one whole up to the latest end. When nobody
///     has that, the store stays shut; pieces of several damaged logs are not put together.
///  7. *Memberships.* They change only by a record in the log, one member at a time, the next only after the
///     last one is committed, and only when ready (a batch of this epoch is committed). A change is in force
///     for a log as soon as the log contains the record. Until the record is known to be committed, a quorum
///     is W of the old *and* W of the new members, for the record itself, for everything after it and at a
///     start: joint consensus, where any later batch whose commit index covers the record ends the
///     transition.
///  8. *Snapshots.* A base only moves forward, to a position of the chain that is covered by the older of two
///     committed generations, each held by a quorum. So what a base stands for is committed, and raising a
///     volume that is behind it to it takes nothing back that it acknowledged.
///  9. *Nonsense.* A report that no volume can truthfully give (`VolumeLogReport.impossibility`) is refused as a
///     whole: the volume counts as failed until it joins with another one.
/// 10. *No zombies.* Every action on a volume carries its incarnation; a failure ends the incarnation, and
///     completions of an ended one change nothing. A failed volume counts for nothing until it joins again
///     with a fresh report.
package struct CommitLogMachine: Sendable {
    /// Batches proposed and not yet committed. A constant: it bounds the head that a lost quorum can block.
    package static let uncommittedCountMax = 8
    /// Appends in flight to one volume.
    package static let appendsInFlightMax = 8
    /// Batches that the driver keeps for volumes that lag, a tenth of a second's worth under load; a volume further
    /// behind is served by copies from a peer.
    package static let retainedCountMax = 128

    package enum Action: Hashable, Sendable {
        /// Write the record durably to the volume's identity, then call `recordWritten`.
        case writeRecord(VolumeID, incarnation: UInt64, VolumeLogRecord)
        /// Drop all batches of the volume and let its log start after `base`, durably; then call `logReset`.
        /// The payloads stay. The volume needs the snapshot that covers `base`.
        case resetLog(VolumeID, incarnation: UInt64, base: LogPosition)
        /// Copy the batches after `after` up to `through` from one volume's log to another's, fdatasync, then
        /// call `copyEnded`. The first one's predecessor is the batch at `after`. Reading may run on any
        /// thread; what is appended goes through the target's writer.
        case copyBatches(to: VolumeID, incarnation: UInt64, from: VolumeID, after: LogPlace, through: UInt64)
        /// Build the epoch-start batch for `place` and call `propose`. Stale when `place` is not `nextPlace`:
        /// skip it.
        case proposeStart(LogProposal)
        /// Append the batch that was proposed with this position (still retained), fdatasync, then call
        /// `appended`. Appends to one volume are performed in the order of the actions; several may share one
        /// fdatasync.
        case append(VolumeID, incarnation: UInt64, LogPosition)
        /// The volume has its log back: durably forget its own signs of damage, then call `rebuiltNoted`.
        /// Only then it counts again.
        case noteRebuilt(VolumeID, incarnation: UInt64)
        /// Drop the batches up to `to` (it becomes the base); then call `baseAdvanced`. May be performed
        /// late.
        case advanceBase(VolumeID, incarnation: UInt64, to: LogPosition)
        /// The start record is committed: reads of the newest state and answers may begin.
        case ready(epoch: UInt64)
        /// Everything up to here is on a quorum: apply it, answer its callers. Emitted in rising order.
        case committed(through: UInt64)
        /// The chosen log is not on any volume that is left. Wait for outstanding I/O, read fresh reports and
        /// begin with a new machine; this one is finished.
        case startOver(reason: String)
        /// A volume carries batches of a later writer: the exclusive locks were violated. Stop; this one is
        /// finished.
        case deposed(reason: String)
    }

    /// Where the next batch stands. The driver builds the batch from it and gives its position to `propose`.
    package struct LogProposal: Hashable, Sendable {
        package let epoch: UInt64
        package let sequence: UInt64
        package let predecessor: LogPosition
        /// To be carried by the batch: everything up to here is on a quorum.
        package let commitIndex: UInt64

        package var place: LogPlace { LogPlace(epoch: epoch, sequence: sequence) }
    }

    package struct Refusal: Error, Hashable, Sendable, CustomStringConvertible {
        package let description: String
    }

    enum Phase: Hashable, Sendable {
        case gathering
        case promising
        /// A log is chosen. `startSequence` is nil until this writer's start record is proposed.
        case serving(startSequence: UInt64?)
        case stopped(reason: String)
        case deposed(reason: String)
    }

    /// One exclusive operation on a volume; appends are counted apart.
    enum Operation: Hashable, Sendable {
        case record(VolumeLogRecord)
        case reset(LogPosition)
        case copy(from: VolumeID, through: UInt64)
        case rebuilt
    }

    struct Volume: Sendable {
        let id: VolumeID
        var incarnation: UInt64
        var isUp: Bool
        /// Why it is not up.
        var failure: String?
        var record: VolumeLogRecord
        /// What the last report said; not kept up to date, `durable` is.
        var report: VolumeLogReport
        /// Why it counts for nothing until it is rebuilt.
        var fault: String?
        /// What `votesFrom` must be raised to before anything else is done to it: its log is about to lose
        /// what it once acknowledged, or has lost it.
        var mark: LogPlace?
        /// Changes of members that stand in its log and not in the chain. Its record keeps them until they
        /// are cut, so that it can be judged by them before and by the chain's after.
        var foreign: [LogMembership] = []
        /// Where its log starts.
        var base: LogPosition
        /// Its log is on the chain, durably, up to here. Nil: the log has no batch in common with the chain.
        var durable: UInt64?
        /// The last sequence that was sent to it.
        var issued: UInt64
        var operation: Operation?
        /// The base that it was told to move to.
        var advancing: LogPosition?
        /// Sources whose batches could not be read for this volume; cleared by progress.
        var avoidedSources: [VolumeID]
        var completeSequence: UInt64
    }

    /// Generations of the catalog's snapshot that are noted in the log.
    struct Snapshot: Hashable, Sendable {
        let position: LogPosition
        let notedAt: UInt64
        var holders: [VolumeID]
    }

    let quorum: QuorumConfiguration
    let weaknesses: Weaknesses
    var phase: Phase = .gathering
    /// Whether `begin` was called: until then reports are only collected.
    var hasBegun = false
    /// In the order of the identifiers.
    var volumes: [Volume] = []
    /// The epoch in which this writer writes; 0 until a quorum promised.
    var epoch: UInt64 = 0
    /// The epoch that is (being) promised; higher than `epoch` while a promise is under way.
    var wantedEpoch: UInt64 = 0
    /// The log of this writer; meaningful while serving.
    var chain = LogOutline(base: .origin)
    /// The memberships that hold for the chain, by version.
    var memberships: [LogMembership] = []
    /// The first batch of this writer that tells that the last change of members is committed.
    var settledBy: UInt64?
    /// Everything up to here is known to be on a quorum.
    var commitIndex: UInt64 = 0
    /// The latest positions, oldest first: those of the batches that the driver keeps.
    var retained: [LogPosition] = []
    var snapshots: [Snapshot] = []
    var hasAnnouncedReady = false
    /// The epoch of the start record that was proposed last.
    var startedEpoch: UInt64 = 0
    /// The proposal for a start record that was emitted last.
    var announcedStart: LogPlace?
    var actions: [Action] = []

    package init(quorum: QuorumConfiguration) { self.init(quorum: quorum, weaknesses: []) }

    init(quorum: QuorumConfiguration, weaknesses: Weaknesses) {
        self.quorum = quorum
        self.weaknesses = weaknesses
    }

    // MARK: Start and rejoin

    /// A volume is reachable: at the start, or again after a failure, or for the first time while running. A
    /// volume that is already up is taken as failed first. Its tails were fdatasynced before the report was
    /// made, and no I/O of an earlier incarnation will touch the files that its log is continued in.
    package mutating func join(_ report: VolumeLogReport) -> [Action] {
        perform { $0.take(report) }
    }

    /// Every volume that can be reached now has joined: the start may begin as soon as there are enough.
    package mutating func begin() -> [Action] {
        perform { $0.hasBegun = true }
    }

    /// The volume failed, hangs or was lost. What was sent to it has an unknown outcome there and counts for
    /// nothing.
    package mutating func fail(_ volume: VolumeID, reason: String) -> [Action] {
        perform { $0.markFailed(volume, reason: reason) }
    }

    // MARK: Completions

    package mutating func recordWritten(_ volume: VolumeID, incarnation: UInt64) -> [Action] {
        perform { $0.noteRecordWritten(volume, incarnation) }
    }

    package mutating func logReset(_ volume: VolumeID, incarnation: UInt64) -> [Action] {
        perform { $0.noteLogReset(volume, incarnation) }
    }

    /// - Parameters:
    ///   - through: the last sequence that is durable on the target; what was copied before a failure counts.
    ///   - isSourceUnreadable: the copy ended early because a batch of the source could not be read. (A
    ///     target that can't be written is `fail`.)
    package mutating func copyEnded(
        _ target: VolumeID,
        incarnation: UInt64,
        through: UInt64,
        isSourceUnreadable: Bool = false
    ) -> [Action] {
        perform { $0.noteCopyEnded(target, incarnation, through: through, isSourceUnreadable) }
    }

    package mutating func rebuiltNoted(_ volume: VolumeID, incarnation: UInt64) -> [Action] {
        perform { $0.noteRebuilt(volume, incarnation) }
    }

    /// Everything that was sent to the volume up to `through` is durable there.
    package mutating func appended(_ volume: VolumeID, incarnation: UInt64, through: UInt64) -> [Action] {
        perform { $0.noteAppended(volume, incarnation, through: through) }
    }

    package mutating func baseAdvanced(_ volume: VolumeID, incarnation: UInt64) -> [Action] {
        perform { $0.noteBaseAdvanced(volume, incarnation) }
    }

    // MARK: Proposals

    /// Where the next batch stands, or nil when none may be proposed now: not ready, or the head is blocked.
    package var nextPlace: LogProposal? {
        let uncommittedCount = chain.tail.sequence - min(commitIndex, chain.tail.sequence)
        guard isReady, wantedEpoch == epoch, startedEpoch == epoch,
            uncommittedCount < Self.uncommittedCountMax
        else { return nil }
        return upcoming
    }

    /// Puts a batch on the log: for `nextPlace`, or for the place of `proposeStart`.
    ///
    /// - Throws: `Refusal` when the position is not the next one; nothing happened then.
    package mutating func propose(_ position: LogPosition) throws(Refusal) -> [Action] {
        try accept(position)
        return perform { _ in }
    }

    /// The membership that replaces one member, for the record that the driver builds for `nextPlace`.
    ///
    /// - Throws: `Refusal` unless the last change is committed, `newMember` is caught up and `oldMember` is a
    ///   member.
    package func membership(
        replacing oldMember: VolumeID,
        with newMember: VolumeID
    ) throws(Refusal) -> LogMembership {
        try replacement(of: oldMember, with: newMember)
    }

    /// Like `propose(_:)`, for a batch that carries the record of this membership.
    package mutating func propose(_ position: LogPosition, membership: LogMembership) throws(Refusal)
        -> [Action]
    {
        try accept(position, membership: membership)
        return perform { _ in }
    }

    // MARK: Snapshots

    /// A snapshot of the state at `position` stands in the log at `notedAt` and is durable on `holders`. May
    /// be called again when there are more holders, and after a start for those that the catalog remembers.
    package mutating func noteSnapshot(
        at position: LogPosition,
        notedAt: UInt64,
        holders: [VolumeID]
    ) -> [Action] {
        perform { $0.take(Snapshot(position: position, notedAt: notedAt, holders: holders)) }
    }

    // MARK: State

    /// The start record is committed: what `commitIndex` covers may be shown and answered.
    package var isReady: Bool {
        guard case .serving(let start) = phase else { return false }
        guard let start else { return weaknesses.contains(.noStartRecord) }
        return commitIndex >= start
    }

    /// Everything up to here is committed. At a start this is what the volumes knew; it may be shown when
    /// ready.
    package var committedSequence: UInt64 { commitIndex }

    package var tail: LogPosition { chain.tail }

    package var currentEpoch: UInt64 { epoch }

    /// The driver keeps the batches from here on: an append names no older one.
    package var retainedFrom: UInt64 { retained.first?.sequence ?? chain.tail.sequence + 1 }

    /// A volume that has everything up to `sequence`, for reading batches of the chain (replay of the
    /// catalog).
    package func volumes(holding sequence: UInt64) -> [VolumeID] { holders(of: sequence).map(\.volume) }

    /// Volumes that have a batch of the chain, and up to which one each is known to have them. Behind that its log may go on
    /// with others, which are not cut yet.
    package func holders(of sequence: UInt64) -> [(volume: VolumeID, durable: UInt64)] {
        guard case .serving = phase else { return [] }
        return volumes.compactMap { volume in
            guard volume.isUp, volume.base.sequence < sequence, let durable = volume.durable,
                durable >= sequence
            else { return nil }
            return (volume.id, durable)
        }
    }

    /// A change of members is under way: the member that leaves is still needed for a start. The change is
    /// over when a batch that was proposed after its commit is committed too, because only then a quorum
    /// knows of the commit.
    package var isChangingMembers: Bool {
        guard let last = memberships.last, last.since != .origin else { return false }
        return settledBy.map { commitIndex < $0 } ?? true
    }

    package var status: CommitLogStatus { makeStatus() }

    /// Runs a change, then everything that follows from it.
    private mutating func perform(_ change: (inout CommitLogMachine) -> Void) -> [Action] {
        switch phase {
        case .stopped, .deposed: return []
        case .gathering, .promising, .serving: break
        }
        change(&self)
        settle()
        defer { actions = [] }
        return actions
    }
}
