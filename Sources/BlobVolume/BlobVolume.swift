internal import ContentHashing
internal import Glibc
package import StoreModel
internal import Synchronization

/// One place that holds replicas: a directory of append-only segments with payloads, named by their SHA-256, and the
/// batches of the commit log.
///
/// Synchronous and blocking. One writer thread appends and syncs; any thread reads. A second writer waits for the
/// first, it doesn't break anything.
///
/// #### Invariants
/// 1. Two segments at most are open for appending: one *log* segment (groups of small payloads and commit batches;
///    allocated and zeroed before it is used) and one *bulk* segment (large payloads; grows). All others are sealed:
///    they end with a footer and never change.
/// 2. A group is atomic: when opening finds any record of an unsynced group bad, the whole group is cut.
/// 3. `.synced` is said of a record only after an fsync that covers it has returned without error.
/// 4. Bytes behind the end of the open log segment are zero and durably so before anything is appended: a record that
///    was cut can't come back behind a new one.
/// 5. After a failed write or fsync nothing is written to that file again, by this process or a later one: the volume
///    is failed until it is opened again, and then goes on in new segments.
/// 6. `state` is never locked during I/O; `writer` is locked by whoever appends, for the length of its write. An fsync
///    runs beside it, so that a large upload's does not hold up a small group: `logGate` and `bulkGate` (locked in this
///    order, before `writer`) let one thread at a time append to a segment or sync it, so that the fsync that learns of
///    a failure is the only one that could have.
/// 7. Sealing makes a segment durable before the next one of its kind is named in a directory.
package final class BlobVolume: Sendable {
    let disk: any Disk
    let options: VolumeOptions
    let tag: UInt64
    let state: Mutex<State>
    let writer: Mutex<Writer>
    /// Asked by every write: beside the lock. `failedFlag` follows `State.failure`.
    let fullFlag = Atomic<Bool>(false)
    private let failedFlag: Atomic<Bool>
    let logGate = Mutex(())
    let bulkGate = Mutex(())
    /// For reads past the page cache: as many as are made at the same time.
    let directMemory = Mutex<[ReadMemory]>([])
    let preparer: SparePreparer
    private let lock: any DiskLock
    package let storeID: StoreID
    package let volumeID: VolumeID
    package let openReport: VolumeOpenReport

    /// What readers see.
    struct State: ~Copyable {
        var identity: VolumeIdentity
        var index: LocationIndex
        var segments: [UInt32: Segment] = [:]
        var files = SegmentFiles()
        var chain = CommitChain()
        var complete = CompleteWatermark()
        /// When `complete` was taken back to 0, or the volume was opened, last.
        var lastLoss = LossMoment.next()
        /// When payloads were found to be gone, or the volume was opened, last: unlike `lastLoss` not when it is to be compared
        /// for another reason, as a new layout is.
        var lastPayloadLoss = LossMoment.next()
        var knownCommitIndex: UInt64 = 0
        var isLogDamaged = false
        /// See `VolumeMemory.attestedTail`.
        var attestedTail: LogPosition?
        var payloadByteCount: UInt64 = 0
        /// Stretches of segments without a footer that are no record and were dealt with, as tombstones tell: how long they
        /// were then, or 0 where that is not told.
        var spentHoles: [RecordLocation: UInt64] = [:]
        var failure: VolumeError?
        var isClosed = false

        init(identity: VolumeIdentity, seed: UInt64) {
            self.identity = identity
            index = LocationIndex(seed: seed)
        }

        /// A record of a segment is in no use any more.
        mutating func noteDead(_ number: UInt32, payloadByteCount: Int) {
            guard let kind = segments[number]?.kind else { return }
            segments[number]?.deadRecordBytes += RecordFormat.recordByteCount(payloadByteCount, kind)
        }
    }

    struct Segment: Sendable {
        let kind: SegmentKind
        /// Records in front of this offset are fsynced. All of them in a sealed segment.
        var syncedEnd: UInt64
        var fileByteCount: UInt64
        /// Of all payload records that were written to it.
        var payloadRecordBytes: UInt64 = 0
        /// Of those that are dead: what can be given back, or was.
        var deadRecordBytes: UInt64 = 0
    }

    /// What the writer needs beside it.
    struct Writer: Sendable {
        var identityFile: IdentityFile
        var log: OpenSegment?
        var bulk: OpenSegment?
        /// Up to where the last bulk segment is synced when none is open.
        var sealedBulk = RecordLocation(segment: 0, unit: 0)
        var nextSegmentNumber: UInt32
        /// Payload bytes that were appended since the file system was last asked for its free space.
        var bytesSinceSpaceCheck: UInt64 = .max
    }

    /// A segment that takes records.
    struct OpenSegment: Sendable {
        let number: UInt32
        let kind: SegmentKind
        let file: any DiskFile
        /// Where the next record goes.
        var end: UInt64
        var syncedEnd: UInt64
        /// Size of the preallocated file (log), or the largest size (bulk).
        let capacity: UInt64
        /// For the footer.
        var contents = SegmentContents()
        /// Bulk: up to where writeback was started.
        var writebackEnd: UInt64 = 0

        var syncedLocation: RecordLocation { RecordLocation(segment: number, offset: syncedEnd) }
    }

    init(opened: consuming VolumeOpening.Opened) {
        disk = opened.disk
        options = opened.options
        tag = opened.tag
        preparer = opened.preparer
        lock = opened.lock
        storeID = opened.writer.identityFile.identity.storeID
        volumeID = opened.writer.identityFile.identity.volumeID
        openReport = opened.report
        writer = Mutex(opened.writer)
        failedFlag = Atomic(opened.state.failure != nil)
        state = Mutex(opened.state)
    }

    deinit {
        preparer.stop()
        lock.release()
    }

    // MARK: Identity

    package var identity: VolumeIdentity { state.withLock { $0.identity } }

    /// Changes the identity; on return both copies are durable.
    package func updateIdentity(_ change: (inout VolumeIdentity) -> Void) throws(VolumeError) {
        try writer.withLock { writer throws(VolumeError) in
            try checkUsable()
            change(&writer.identityFile.identity)
            try writeIdentity(&writer)
            let identity = writer.identityFile.identity
            state.withLock { $0.identity = identity }
        }
    }

    /// Writes both copies with the watermarks of now; clears the mark of a clean close.
    func writeIdentity(_ writer: inout Writer, isClean: Bool = false) throws(VolumeError) {
        writer.identityFile.memory.isClean = isClean
        writer.identityFile.memory.watermarks = watermarks(writer)
        state.withLock { state in
            writer.identityFile.memory.knownCommitIndex = state.knownCommitIndex
            writer.identityFile.memory.isLogDamaged = state.isLogDamaged
            writer.identityFile.memory.attestedTail = state.attestedTail
        }
        do throws(DiskError) {
            try writer.identityFile.write(to: disk)
        } catch {
            if error.code == .full {
                throw VolumeError(
                    .full,
                    "There is no room for the volume's identity.",
                    path: disk.label,
                    cause: error
                )
            }
            throw fail("The volume's identity could not be written.", error, &writer, remember: false)
        }
    }

    func watermarks(_ writer: borrowing Writer) -> VolumeMemory.Watermarks {
        var marks = VolumeMemory.Watermarks()
        if let log = writer.log { marks.log = log.syncedLocation }
        marks.bulk = syncedBulk(writer)
        marks.complete = state.withLock { $0.complete.sequence }
        return marks
    }

    /// Up to where the last bulk segment is synced, whether or not it is open: what is said of it never goes back to an
    /// earlier segment, which may be given back.
    func syncedBulk(_ writer: borrowing Writer) -> RecordLocation {
        if let bulk = writer.bulk { return bulk.syncedLocation }
        let sealed = writer.sealedBulk
        let isThere = state.withLock { $0.segments[sealed.segment] != nil }
        return isThere ? sealed : RecordLocation(segment: 0, unit: 0)
    }

    // MARK: The commit log

    /// The log starts after this position.
    package var logBase: LogPosition { state.withLock { $0.chain.base } }
    /// The last batch of the log; the base when it has none.
    package var logTail: LogPosition { state.withLock { $0.chain.tail } }
    /// The highest commit index that this volume has seen. A log that ends below it has lost something.
    package var knownCommitIndex: UInt64 { state.withLock { $0.knownCommitIndex } }
    /// A batch that was fsynced here can't be read any more (or may be among records that can't): this log must not
    /// vote. It stays so, over reopening, until `noteLogRebuilt`.
    package var isLogDamaged: Bool { state.withLock { $0.isLogDamaged } }
    /// Where the log ended, when it is damaged and that is certain: everything that was acknowledged from here is in the
    /// log that ends there, whoever has it. It stays true until `noteLogRebuilt`, over reopening and half a rebuild.
    package var attestedTail: LogPosition? { state.withLock { $0.attestedTail } }
    /// Every payload of commits up to this sequence was here, as the writer last said.
    package var completeSequence: UInt64 { state.withLock { $0.complete.sequence } }

    /// The batches after a sequence, in order.
    package func positions(after sequence: UInt64) -> [LogPosition] {
        state.withLock { $0.chain.positions(after: sequence) }
    }

    /// Reads a batch and compares it with its hash.
    /// - Throws: `.notFound`, `.corrupt`, `.inputOutput`.
    package func readBatch(sequence: UInt64) throws(VolumeError) -> CommitBatch {
        try checkReadable()
        guard let entry = state.withLock({ $0.chain.entry(sequence: sequence) }) else {
            throw VolumeError(.notFound, "Batch \(sequence) is not in this volume's log.", path: disk.label)
        }
        let reader = try segmentReader(entry.location.segment)
        let (header, bytes) = try reader.record(at: entry.location)
        let content = [UInt8](bytes.dropLast(RecordFormat.sectionByteCount))
        guard header.type == .commitBatch, let batch = try? CommitBatch(decoding: content),
            batch.position == entry.position
        else {
            throw reader.error(
                .corrupt,
                "Batch \(entry.position) reads as something else.",
                at: entry.location
            )
        }
        return batch
    }

    /// Takes note that every payload of commits up to this sequence is durably here. Goes to disk with the next group
    /// or at close.
    package func setComplete(through sequence: UInt64) {
        state.withLock { state in
            if sequence == 0 { state.lastLoss = .next() }
            state.complete.set(sequence, tail: state.chain.tail.sequence)
        }
    }

    /// The same as `setComplete`, unless the watermark was taken back to 0 since `moment`, also from 0: what was compared
    /// since then has not seen what was lost.
    /// - Returns: whether it was set.
    package func setComplete(through sequence: UInt64, unlessLostSince moment: LossMoment) -> Bool {
        state.withLock { state in
            guard state.lastLoss <= moment else { return false }
            state.complete.set(sequence, tail: state.chain.tail.sequence)
            return true
        }
    }

    /// The same for one batch, of which it was known at `moment` what is here. Beyond a gap it is remembered until the gap is
    /// filled; what was lowered meanwhile stays so.
    package func advanceComplete(to sequence: UInt64, unlessLostSince moment: LossMoment) {
        state.withLock { state in
            guard state.lastLoss <= moment else { return }
            state.complete.note(sequence)
        }
    }

    /// Whether payloads were found to be gone since a moment, or the volume was opened since.
    package func hasLost(since moment: LossMoment) -> Bool { state.withLock { $0.lastPayloadLoss > moment } }

    /// Payloads are gone of which nobody can tell.
    package func notePayloadLoss() {
        state.withLock { $0.lastPayloadLoss = .next() }
        setComplete(through: 0)
    }

    /// The log was brought up to date from its peers after damage: it may vote again.
    /// - Throws: `.corrupt` when it has lost more since it was looked at, and has not got that back.
    package func noteLogRebuilt() throws(VolumeError) {
        try writer.withLock { writer throws(VolumeError) in
            try checkUsable()
            let isWhole = state.withLock { state in
                guard state.chain.cutTail == nil else { return false }
                state.isLogDamaged = false
                state.attestedTail = nil
                return true
            }
            guard isWhole else {
                throw VolumeError(
                    .corrupt,
                    "The log lost another batch while it was rebuilt; it is rebuilt once more.",
                    path: disk.label
                )
            }
            try writeIdentity(&writer)
        }
    }

    /// Reads the identity from the directory that the volume was opened in.
    /// - Throws: `.identityMissing`, `.identityMismatch`, `.inputOutput`.
    package func probe() throws(VolumeError) {
        let found = try Self.readIdentity(disk)
        guard found.volumeID == volumeID else {
            throw VolumeError(.identityMismatch, "This is volume \(found.volumeID) now.", path: disk.label)
        }
    }

    // MARK: State

    /// The error that made the volume fail, if one did. Final until the volume is opened again.
    package var failure: VolumeError? { state.withLock { $0.failure } }
    package var hasFailed: Bool { failedFlag.load(ordering: .acquiring) }

    /// How much it holds and may take.
    package var space: VolumeSpace {
        let free = try? disk.space()
        return state.withLock { state in
            VolumeSpace(
                payloadBytes: state.payloadByteCount,
                recordCount: state.index.count,
                fileBytes: state.segments.values.reduce(0) { $0 + $1.fileByteCount },
                freeBytes: free?.freeBytes ?? 0,
                totalBytes: free?.totalBytes ?? 0,
                reserveBytes: options.reserveBytes,
                isFull: isFull,
                indexBytes: state.index.byteCount,
                liveBytes: state.segments.values.reduce(0) {
                    $0 + $1.payloadRecordBytes - $1.deadRecordBytes
                },
                deadBytes: state.segments.values.reduce(0) { $0 + $1.deadRecordBytes },
                softReserveBytes: options.softReserveBytes
            )
        }
    }

    /// Syncs what is unsynced, remembers the watermarks and lets go of the lock. A failed volume only lets go.
    ///
    /// Later calls throw `.closed`; closing twice is harmless.
    package func close() throws(VolumeError) {
        preparer.stop()
        defer { lock.release() }
        try logGate.withLock { _ throws(VolumeError) in
            try bulkGate.withLock { _ throws(VolumeError) in
                try writer.withLock { writer throws(VolumeError) in try close(&writer) }
            }
        }
    }

    private func close(_ writer: inout Writer) throws(VolumeError) {
        let (isClosed, hasFailed) = state.withLock { ($0.isClosed, $0.failure != nil) }
        if isClosed { return }
        defer {
            writer.log = nil
            writer.bulk = nil
            state.withLock { state in
                state.isClosed = true
                state.files.removeAll()
                // Whoever still knows the volume gets nothing from it any more: its memory is given back.
                state.index = LocationIndex(seed: 0)
            }
        }
        if hasFailed { return }
        try syncOpen(\.log, &writer)
        try syncOpen(\.bulk, &writer)
        if !writer.identityFile.memory.isClean
            || writer.identityFile.memory.watermarks != watermarks(writer)
        {
            try writeIdentity(&writer, isClean: true)
        }
    }

    /// - Throws: the sticky failure, or `.closed`.
    func checkUsable() throws(VolumeError) {
        let (failure, isClosed) = state.withLock { ($0.failure, $0.isClosed) }
        if let failure { throw failure }
        if isClosed { throw VolumeError(.closed, "The volume is closed.", path: disk.label) }
    }

    /// Records that were read back are verified, so a volume that can't be written may still be read.
    func checkReadable() throws(VolumeError) {
        if state.withLock({ $0.isClosed }) {
            throw VolumeError(.closed, "The volume is closed.", path: disk.label)
        }
    }

    /// Makes the volume fail for good and remembers it on the volume itself where that still works.
    func fail(_ message: String, _ cause: DiskError, _ writer: inout Writer, remember: Bool = true)
        -> VolumeError
    {
        let error = VolumeError(
            .failed,
            message + " Nothing more is written here until the volume is opened again.",
            path: disk.label,
            cause: cause
        )
        state.withLock { $0.failure = $0.failure ?? error }
        failedFlag.store(true, ordering: .releasing)
        if remember {
            writer.identityFile.memory.isClean = false
            writer.identityFile.memory.watermarks = watermarks(writer)
            writer.identityFile.memory.failureReason = cause.description
            try? writer.identityFile.write(to: disk)
        }
        return error
    }
}
