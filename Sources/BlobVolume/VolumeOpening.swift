internal import ContentHashing
internal import Glibc
internal import StoreModel
internal import Synchronization

/// Opens a volume: reads what its files tell, decides what is torn and what is damaged, cuts the torn tails durably
/// and sets damage aside.
///
/// The order matters: what the volume has to remember (damage of its log, segments never to be written again) is
/// durable before the bytes that showed it are cut; all tails are fsynced before anything in them counts.
struct VolumeOpening: ~Copyable {
    /// What a `BlobVolume` is made of.
    struct Opened: ~Copyable {
        let disk: any Disk
        let options: VolumeOptions
        let tag: UInt64
        let lock: any DiskLock
        let preparer: SparePreparer
        let report: VolumeOpenReport
        let writer: BlobVolume.Writer
        var state: BlobVolume.State
    }

    private struct Found {
        let number: UInt32
        let kind: SegmentKind
        let reader: SegmentReader
        var fileByteCount: UInt64
        var contents = SegmentContents()
        /// Set for the one segment of its kind that has no footer and may take records again.
        var tail: Tail?
        /// Set when the trailer is missing behind the footer of the last segment: where that stands.
        var unfinishedFooter: (start: UInt64, end: UInt64)?
        /// The last of its kind ends with a footer that a killed process may have left in the page cache only.
        var needsSync = false
        /// Set for the last segment when its footer may not have been fsynced and the file must not be written again:
        /// where its records end.
        var frozenEnd: UInt64?
    }

    private struct Tail {
        /// Where records go on.
        let end: UInt64
        /// Bytes that are not zero reach to here.
        let dirtyEnd: UInt64
    }

    private let disk: any Disk
    private let options: VolumeOptions
    private let tag: UInt64
    private var identityFile: IdentityFile
    private var report = VolumeOpenReport()
    private var found: [Found] = []
    private var knownCommitIndex: UInt64
    /// The highest synced places that any record tells.
    private var syncedLog: RecordLocation
    private var syncedBulk: RecordLocation
    private var losesSyncedBatches = false
    /// Bytes at the end of the log were taken for an unfinished write.
    private var isLogEndTorn = false
    /// The log's tail is fsynced, or there is none.
    private var isLogSettled = false
    private let discardsUnsynced: Bool
    /// The batch up to which the log is known to be synced although its own marks don't tell, and whether it is there.
    private let acknowledged: AcknowledgedBatch?
    private var hasAcknowledged = false

    static func open(_ disk: any Disk, options: VolumeOptions) throws(VolumeError) -> Opened {
        let start = ContinuousClock.now
        // The identity comes first: an empty mount point gets no lock file.
        let early = try IdentityFile.load(from: disk)
        try check(early.file.identity, options, disk)
        let lock = try takeLock(disk)
        do throws(VolumeError) {
            // Read again: the holder before us may have changed it.
            let loaded = try IdentityFile.load(from: disk)
            try check(loaded.file.identity, options, disk)
            var opening = VolumeOpening(disk, options, loaded)
            return try opening.run(lock, start)
        } catch {
            lock.release()
            throw error
        }
    }

    private static func check(
        _ identity: VolumeIdentity,
        _ options: VolumeOptions,
        _ disk: any Disk
    ) throws(VolumeError) {
        if let expected = options.expectedStore, identity.storeID != expected {
            throw VolumeError(
                .identityMismatch,
                "The volume belongs to store \(identity.storeID), not to \(expected).",
                path: disk.label
            )
        }
        if let expected = options.expectedVolume, identity.volumeID != expected {
            throw VolumeError(
                .identityMismatch,
                "This is volume \(identity.volumeID); volume \(expected) was expected here.",
                path: disk.label
            )
        }
    }

    private static func takeLock(_ disk: any Disk) throws(VolumeError) -> any DiskLock {
        do throws(DiskError) {
            return try disk.lock("lock", content: [UInt8](String(getpid()).utf8))
        } catch {
            guard error.code == .locked else {
                throw VolumeError(.inputOutput, "The volume can't be locked.", path: disk.label, cause: error)
            }
            let holder = error.detail.isEmpty ? "another process" : "process \(error.detail)"
            throw VolumeError(.locked, "The volume is in use by \(holder).", path: disk.label, cause: error)
        }
    }

    private init(_ disk: any Disk, _ options: VolumeOptions, _ loaded: IdentityFile.Loaded) {
        self.disk = disk
        self.options = options
        identityFile = loaded.file
        let identity = loaded.file.identity
        tag = RecordFormat.tag(store: identity.storeID, volume: identity.volumeID)
        report.identityFaults = loaded.faults.map { "\($0.name): \($0.reason)" }
        report.wasClosedCleanly = loaded.file.memory.isClean
        knownCommitIndex = loaded.file.memory.knownCommitIndex
        syncedLog = loaded.file.memory.watermarks.log
        syncedBulk = loaded.file.memory.watermarks.bulk
        discardsUnsynced = options.discardUnsynced || loaded.file.memory.failureReason != nil
        acknowledged = options.acknowledged
    }

    private mutating func run(
        _ lock: any DiskLock,
        _ start: ContinuousClock.Instant
    ) throws(VolumeError) -> Opened {
        let preparer = SparePreparer(disk: disk)
        try io("The volume's directories can't be read.") { () throws(DiskError) in
            try disk.makeDirectory("segments")
            try disk.makeDirectory("quarantine")
            try preparer.adopt()
            // A process that was killed may have named a segment, or a copy of the identity, and not synced the
            // name: what is appended from here on must not vanish with it.
            try disk.syncDirectory("")
            try disk.syncDirectory("segments")
        }
        IdentityReserve.ensure(on: disk)
        try loadSegments(.log)
        try loadSegments(.bulk)
        guard latestNumber <= SegmentFiles.numberMax / 2 else {
            throw VolumeError(
                .corrupt,
                "A segment has the number \(latestNumber), which no volume reaches.",
                path: disk.label
            )
        }
        found.sort { $0.number < $1.number }
        var chain = replay()
        noteMissingSegments(&chain)
        if identityFile.memory.isLogDamaged { try cutAtLostBatch(&chain) }
        try remember(chain)
        do throws(VolumeError) {
            try settleTails()
        } catch {
            rememberFailure(error)
            throw error
        }
        let spent = spentHoles
        // What was told of before is no news, unless more is lost there now.
        report.damage.removeAll { $0.byteCount > 0 && spent[$0.location, default: 0] >= $0.byteCount }
        quarantineDamage()
        var state = indexed(chain)
        state.spentHoles = spent
        let writer = makeWriter()
        state.identity = writer.identityFile.identity
        for segment in found {
            let isOpen = segment.number == writer.log?.number || segment.number == writer.bulk?.number
            state.segments[segment.number]?.syncedEnd = isOpen ? segment.tail?.end ?? .max : .max
            state.segments[segment.number]?.fileByteCount = segment.fileByteCount
            if isOpen { state.files.insert(segment.reader.file, segment.number) }
        }
        report.recordCount = state.index.count
        report.segmentCount = found.count
        let (seconds, attoseconds) = start.duration(to: .now).components
        report.seconds = Double(seconds) + Double(attoseconds) * 1e-18
        return Opened(
            disk: disk,
            options: options,
            tag: tag,
            lock: lock,
            preparer: preparer,
            report: report,
            writer: writer,
            state: state
        )
    }

    // MARK: Reading

    private mutating func loadSegments(_ kind: SegmentKind) throws(VolumeError) {
        let names = try io("The segments can't be listed.") { () throws(DiskError) in
            try disk.list("segments")
        }
        let numbers = names.compactMap { SegmentFiles.parse($0) }.filter { $0.kind == kind }.map(\.number)
            .sorted()
        for number in numbers {
            guard !found.contains(where: { $0.number == number }) else {
                throw VolumeError(.corrupt, "Two segments have the number \(number).", path: disk.label)
            }
            let isLast = number == numbers.last
            try loadSegment(number, kind, isLast: isLast)
        }
    }

    private mutating func loadSegment(_ number: UInt32, _ kind: SegmentKind, isLast: Bool) throws(VolumeError)
    {
        let name = SegmentFiles.name(number, kind)
        let (file, fileByteCount) = try io("Segment \(number) can't be opened.") { () throws(DiskError) in
            let file = try disk.open(name, isLast ? .update : .read)
            return (file, try file.size())
        }
        let reader = SegmentReader(file: file, number: number, kind: kind, tag: tag, path: disk.label)
        var segment = Found(number: number, kind: kind, reader: reader, fileByteCount: fileByteCount)
        let isFresh = try checkHeader(segment)
        if let contents = try reader.footer(fileByteCount: fileByteCount) {
            segment.contents = contents
            if isLast && discardsUnsynced {
                segment.frozenEnd = try reader.trailer(fileByteCount: fileByteCount)?.footer.offset
            } else {
                segment.needsSync = isLast && !identityFile.memory.frozen.contains { $0.number == number }
            }
        } else {
            try scan(&segment, isLast: isLast, isFresh: isFresh)
        }
        note(segment.contents.section)
        for event in segment.contents.chain where event.kind == .batch {
            knownCommitIndex = max(knownCommitIndex, event.number)
            if isAcknowledged(event.position) { hasAcknowledged = true }
        }
        found.append(segment)
    }

    private mutating func scan(_ segment: inout Found, isLast: Bool, isFresh: Bool) throws(VolumeError) {
        report.scannedSegmentCount += 1
        let reader = segment.reader
        let frozenEnd = identityFile.memory.frozen.first { $0.number == segment.number }?.end
        let cleanEnd = identityFile.memory.isClean && isLast && segment.kind == .log ? syncedLog : nil
        // Offsets are kept in 32 bits of 64-byte units.
        let limit = min(frozenEnd ?? .max, segment.fileByteCount, UInt64(UInt32.max) * RecordFormat.unit)
        var scan = try SegmentScanner(
            reader,
            limit: limit,
            cleanEnd: cleanEnd?.segment == segment.number ? cleanEnd?.offset : nil,
            footerStart: try reader.trailer(fileByteCount: segment.fileByteCount)?.footer.offset
        ).run()
        if let footer = scan.footer {
            segment.contents = footer
            // A crash while the last segment was sealed leaves its footer without the trailer.
            if isLast && frozenEnd == nil && !discardsUnsynced {
                segment.unfinishedFooter = (scan.footerStart, scan.end)
            } else if isLast && frozenEnd == nil {
                segment.frozenEnd = scan.footerStart
            } else if !isLast {
                noteDamage(segment, scan.end, SegmentTrailer.byteCount, "the trailer is damaged")
            }
            return
        }
        for item in scan.items {
            if case .closer(let closer) = item.content { note(closer.section) }
        }
        if let frozenEnd { scan.noteLostEnd(synced: frozenEnd) }
        let isHistory = !isLast || frozenEnd != nil
        var synced = isHistory ? UInt64.max : syncedOffset(of: segment)
        if let end = acknowledgedEnd(scan.items), synced < end { synced = end }
        let settlement = try SegmentSettlement(
            scan,
            reader: reader,
            synced: synced,
            discardsUnsynced: discardsUnsynced && !isHistory
        )
        segment.contents = settlement.contents
        knownCommitIndex = max(knownCommitIndex, settlement.knownCommitIndex)
        for damage in settlement.damage {
            report.damage.append(
                .init(
                    location: reader.location(damage.start),
                    byteCount: damage.end - damage.start,
                    digest: damage.digest,
                    reason: damage.reason
                )
            )
        }
        guard !isHistory else { return }
        segment.tail = Tail(end: settlement.end, dirtyEnd: max(scan.end, settlement.end))
        let cutByteCount = max(scan.end, settlement.end) - settlement.end
        if segment.kind == .log, cutByteCount > 0 { isLogEndTorn = true }
        if discardsUnsynced {
            report.discardedByteCount += cutByteCount
            if cutByteCount > 0 { CoverageMark.reach(.unsyncedDiscarded) }
            // Without the exact watermarks something acknowledged may be among what is dropped.
            if settlement.dropsValidRecords && identityFile.memory.failureReason == nil {
                losesSyncedBatches = true
            }
        } else {
            report.tornByteCount += cutByteCount
            if cutByteCount > 0 { CoverageMark.reach(.logTailCut) }
        }
        if isFresh { try writeHeader(segment) }
    }

    private func isAcknowledged(_ position: LogPosition) -> Bool {
        acknowledged == AcknowledgedBatch(epoch: position.epoch, sequence: position.sequence)
    }

    /// Where the group of the batch ends that is known to be synced.
    private func acknowledgedEnd(_ items: [SegmentScan.Item]) -> UInt64? {
        guard acknowledged != nil else { return nil }
        for item in items.reversed() {
            if case .closer(let closer) = item.content, closer.type == .commitBatch,
                isAcknowledged(closer.position)
            {
                return item.end
            }
        }
        return nil
    }

    private mutating func noteDamage(
        _ segment: Found,
        _ offset: UInt64,
        _ byteCount: UInt64,
        _ reason: String
    ) {
        let location = segment.reader.location(offset)
        report.damage.append(.init(location: location, byteCount: byteCount, digest: nil, reason: reason))
    }

    /// A segment that other records name as synced must be there.
    private mutating func noteMissingSegments(_ chain: inout CommitChain) {
        for (mark, kind) in [(syncedLog, SegmentKind.log), (syncedBulk, .bulk)] where mark.segment != 0 {
            if found.contains(where: { $0.number == mark.segment }) { continue }
            report.damage.append(
                .init(
                    location: RecordLocation(segment: mark.segment, unit: 0),
                    byteCount: mark.offset,
                    digest: nil,
                    reason: "\(SegmentFiles.name(mark.segment, kind)) is missing"
                )
            )
            if kind == .log { chain.noteLostRecords() }
        }
    }

    private func syncedOffset(of segment: Found) -> UInt64 {
        let mark = segment.kind == .log ? syncedLog : syncedBulk
        if mark.segment == segment.number { return mark.offset }
        return mark.segment > segment.number ? .max : 0
    }

    private mutating func note(_ section: VolumeSection) {
        syncedLog = max(syncedLog, section.syncedLog)
        syncedBulk = max(syncedBulk, section.syncedBulk)
        knownCommitIndex = max(knownCommitIndex, section.knownCommitIndex)
    }

    /// - Returns: whether the header was never written: the crash came between naming the segment and that.
    private mutating func checkHeader(_ segment: Found) throws(VolumeError) -> Bool {
        let bytes = try io("Segment \(segment.number) can't be read.") { () throws(DiskError) in
            try segment.reader.file.read(count: 64, at: 0)
        }
        switch header(of: segment).check(bytes) {
        case .valid: return false
        case .unsupported(let what): throw VolumeError(.unsupportedFormat, what + ".", path: disk.label)
        case .damaged:
            if bytes.allSatisfy({ $0 == 0 }) { return true }
            noteDamage(segment, 0, 64, "the header of the segment is damaged")
            return false
        }
    }

    private func header(of segment: Found) -> SegmentHeader {
        SegmentHeader(
            number: segment.number,
            kind: segment.kind,
            store: identityFile.identity.storeID,
            volume: identityFile.identity.volumeID
        )
    }

    private func writeHeader(_ segment: Found) throws(VolumeError) {
        try io("The header of segment \(segment.number) can't be written.") { () throws(DiskError) in
            try segment.reader.file.write(header(of: segment).encode(), at: 0)
        }
    }

    // MARK: Deciding

    private func replay() -> CommitChain {
        let floor = identityFile.memory.logFloor
        var chain = CommitChain()
        if let floor { chain.reset(base: floor.position) }
        for segment in found where segment.kind == .log {
            chain.take(segment.contents, segment: segment.number, floor: floor)
        }
        return chain
    }

    /// A log that is known to be damaged may have been cut at a batch that its segment still tells of: only reading it shows
    /// that it is lost.
    private func cutAtLostBatch(_ chain: inout CommitChain) throws(VolumeError) {
        for entry in chain.entries {
            if try isGood(entry) { continue }
            _ = chain.cut(at: entry.location)
            return
        }
    }

    private func isGood(_ entry: CommitChain.Entry) throws(VolumeError) -> Bool {
        guard let segment = found.first(where: { $0.number == entry.location.segment }) else { return false }
        do throws(VolumeError) {
            let (header, bytes) = try segment.reader.strictRecord(at: entry.location)
            guard header.type == .commitBatch,
                let batch = try? CommitBatch(decoding: [UInt8](bytes.dropLast(RecordFormat.sectionByteCount)))
            else { return false }
            return batch.position == entry.position
        } catch {
            guard error.code == .corrupt || error.code == .inputOutput else { throw error }
            return false
        }
    }

    /// Makes durable what the bytes about to be cut, or the segments about to be left, are the only witnesses of.
    private mutating func remember(_ chain: CommitChain) throws(VolumeError) {
        var memory = identityFile.memory
        if chain.isDamaged || losesSyncedBatches && !hasAcknowledged {
            if !memory.isLogDamaged { memory.attestedTail = attestedTail(of: chain) }
            memory.isLogDamaged = true
        }
        memory.knownCommitIndex = max(memory.knownCommitIndex, knownCommitIndex)
        if discardsUnsynced {
            for segment in found {
                guard let end = segment.tail?.end ?? segment.frozenEnd else { continue }
                if memory.frozen.contains(where: { $0.number == segment.number }) { continue }
                memory.frozen.append(.init(number: segment.number, end: end))
            }
            memory.failureReason = nil
        }
        let cuts = found.contains { $0.tail.map { $0.end < $0.dirtyEnd } ?? false }
        let isNews = memory.isLogDamaged != identityFile.memory.isLogDamaged || discardsUnsynced
        let mustKeepIndex = cuts && memory.knownCommitIndex > identityFile.memory.knownCommitIndex
        guard isNews || mustKeepIndex || !report.identityFaults.isEmpty else { return }
        if isNews || mustKeepIndex { memory.isClean = false }
        var file = identityFile
        file.memory = memory
        try io("The volume's identity can't be written.") { () throws(DiskError) in try file.write(to: disk) }
        identityFile = file
    }

    /// Where a damaged log ended, if that is certain: the hole is in front of the last batch, and nothing can have stood
    /// behind that. After a clean close the watermarks tell; without one the rest of the open segment must be zero,
    /// because in a file whose bits flip a bad end may be a whole batch as well as an unfinished one.
    private func attestedTail(of chain: CommitChain) -> LogPosition? {
        if discardsUnsynced || losesSyncedBatches || isLogEndTorn { return nil }
        let last = found.last { $0.kind == .log }
        guard identityFile.memory.isClean || last?.tail != nil else { return nil }
        if let acknowledged, let tail = chain.writtenTail,
            (tail.epoch, tail.sequence) < (acknowledged.epoch, acknowledged.sequence)
        {
            return nil
        }
        return identityFile.identity.attestable(
            chain.writtenTail,
            knownCommitIndex: max(knownCommitIndex, identityFile.memory.knownCommitIndex)
        )
    }

    /// Cuts what is torn and fsyncs the tails: what is only in the page cache counts for nothing until then.
    private mutating func settleTails() throws(VolumeError) {
        isLogSettled = !found.contains { $0.kind == .log && ($0.tail != nil || $0.unfinishedFooter != nil) }
        // The log first: it tells how far the bulk segment is synced.
        for index in found.indices.sorted(by: { found[$0].kind.rawValue < found[$1].kind.rawValue }) {
            if let footer = found[index].unfinishedFooter {
                found[index].fileByteCount = try finishSealing(found[index].reader, footer.start, footer.end)
            }
            let segment = found[index]
            if segment.needsSync {
                try io("The footer of segment \(segment.number) can't be made durable.") {
                    () throws(DiskError) in
                    try segment.reader.file.sync()
                }
            }
            guard let tail = segment.tail, !discardsUnsynced else { continue }
            try io("The tail of segment \(segment.number) can't be made durable.") { () throws(DiskError) in
                switch segment.kind {
                case .log:
                    if tail.end < tail.dirtyEnd {
                        try BlobVolume.zero(tail.end..<tail.dirtyEnd, of: segment.reader.file)
                    }
                case .bulk:
                    if segment.fileByteCount != tail.end { try segment.reader.file.truncate(to: tail.end) }
                }
                try segment.reader.file.sync()
            }
            if segment.kind == .bulk { found[index].fileByteCount = tail.end }
            // Should the other file's fsync fail, this one's records stay.
            let end = segment.reader.location(tail.end)
            if segment.kind == .log {
                syncedLog = max(syncedLog, end)
                isLogSettled = true
            } else {
                syncedBulk = max(syncedBulk, end)
            }
        }
    }

    /// - Returns: the size of the file.
    private func finishSealing(
        _ reader: SegmentReader,
        _ footerStart: UInt64,
        _ footerEnd: UInt64
    ) throws(VolumeError) -> UInt64 {
        try io("Segment \(reader.number) can't be sealed.") { () throws(DiskError) in
            let fileByteCount = try reader.file.size()
            try reader.file.write(
                SegmentTrailer(footer: reader.location(footerStart)).encode(tag: tag),
                at: footerEnd
            )
            if fileByteCount != footerEnd + SegmentTrailer.byteCount {
                try reader.file.truncate(to: footerEnd + SegmentTrailer.byteCount)
            }
            try reader.file.sync()
            return footerEnd + SegmentTrailer.byteCount
        }
    }

    /// An fsync that failed must not be tried again by the next opening: that one discards what is not known to be
    /// synced, and something acknowledged may be among it.
    private mutating func rememberFailure(_ error: VolumeError) {
        identityFile.memory.isClean = false
        identityFile.memory.failureReason = error.description
        if !isLogSettled { identityFile.memory.isLogDamaged = true }
        identityFile.memory.watermarks.log = syncedLog
        identityFile.memory.watermarks.bulk = syncedBulk
        try? identityFile.write(to: disk)
    }

    /// Copies damaged bytes aside. They also stay where they are, so a copy that can't be made loses nothing.
    private mutating func quarantineDamage() {
        for index in report.damage.indices {
            let damage = report.damage[index]
            guard let segment = found.first(where: { $0.number == damage.location.segment }) else { continue }
            report.damage[index].quarantineName = Quarantine.copy(
                segment.reader,
                at: damage.location.offset,
                byteCount: damage.byteCount,
                to: disk
            )
        }
    }

    private mutating func indexed(_ chain: CommitChain) -> BlobVolume.State {
        var generator = SystemRandomNumberGenerator()
        var state = BlobVolume.State(
            identity: identityFile.identity,
            seed: options.indexSeed ?? generator.next()
        )
        state.index.reserve(found.reduce(0) { $0 + $1.contents.entries.count })
        var places: [UInt32: Int] = [:]
        for (place, segment) in found.enumerated() {
            places[segment.number] = place
            var total = BlobVolume.Segment(kind: segment.kind, syncedEnd: 0, fileByteCount: 0)
            for entry in segment.contents.entries {
                let location = RecordLocation(segment: segment.number, unit: entry.unit)
                state.index.insert(LocationIndex.fingerprint(of: entry.digest), location)
                state.payloadByteCount += UInt64(entry.byteCount)
                total.payloadRecordBytes += RecordFormat.recordByteCount(Int(entry.byteCount), segment.kind)
            }
            state.segments[segment.number] = total
        }
        for segment in found {
            for tombstone in segment.contents.tombstones {
                let fingerprint = LocationIndex.fingerprint(of: tombstone.digest)
                let number = tombstone.location.segment
                guard state.index.remove(fingerprint, tombstone.location), let place = places[number],
                    let entry = found[place].contents.entry(at: tombstone.location.unit)
                else { continue }
                state.payloadByteCount -= UInt64(entry.byteCount)
                state.segments[number]?.deadRecordBytes += RecordFormat.recordByteCount(
                    Int(entry.byteCount),
                    found[place].kind
                )
            }
        }
        state.chain = chain
        state.knownCommitIndex = max(knownCommitIndex, identityFile.memory.knownCommitIndex)
        state.isLogDamaged = identityFile.memory.isLogDamaged
        state.attestedTail = identityFile.memory.attestedTail
        let lastSection = found.last { $0.kind == .log }?.contents.section
        // Payloads that were here are gone: nothing is known to be complete until it was looked at again.
        if report.damage.isEmpty, !discardsUnsynced {
            let said =
                identityFile.memory.isClean
                ? identityFile.memory.watermarks.complete : lastSection?.complete ?? 0
            // No commit gets beyond: what says so says nothing.
            if said <= Self.sequenceMax { state.complete = CompleteWatermark(said) }
        }
        return state
    }

    private static let sequenceMax: UInt64 = 1 << 62

    /// What is no record in segments that were left after a failed fsync and was dealt with: they get no footer that tells
    /// of it, so tombstones do. That of a record whose header is lost since does not say how long it was.
    private var spentHoles: [RecordLocation: UInt64] {
        let frozen = Set(identityFile.memory.frozen.map(\.number))
        var holes: Set<RecordLocation> = []
        for segment in found where frozen.contains(segment.number) {
            for event in segment.contents.chain where event.kind == .hole {
                holes.insert(RecordLocation(segment: segment.number, unit: event.unit))
            }
        }
        var spent: [RecordLocation: UInt64] = [:]
        guard !holes.isEmpty else { return spent }
        for segment in found {
            for tombstone in segment.contents.tombstones where holes.contains(tombstone.location) {
                spent[tombstone.location] = max(spent[tombstone.location] ?? 0, tombstone.holeByteCount ?? 0)
            }
        }
        return spent
    }

    /// The highest number that a segment has had, as far as anything tells. One that lost its file is not given again: what is
    /// said of the old one, in tombstones, and where it was left after an error, would hold for the new one.
    private var latestNumber: UInt32 {
        let told = identityFile.memory.frozen.map(\.number) + [syncedLog.segment, syncedBulk.segment]
        return (found.map(\.number) + told.filter { $0 <= SegmentFiles.numberMax }).max() ?? 0
    }

    private func makeWriter() -> BlobVolume.Writer {
        var writer = BlobVolume.Writer(
            identityFile: identityFile,
            nextSegmentNumber: latestNumber + 1
        )
        for segment in found {
            guard let tail = segment.tail, !discardsUnsynced else { continue }
            let open = BlobVolume.OpenSegment(
                number: segment.number,
                kind: segment.kind,
                file: segment.reader.file,
                end: tail.end,
                syncedEnd: tail.end,
                capacity: segment.kind == .log ? segment.fileByteCount : options.bulkSegmentSizeMax,
                contents: segment.contents,
                writebackEnd: tail.end
            )
            if segment.kind == .log { writer.log = open } else { writer.bulk = open }
        }
        if found.contains(where: { $0.number == syncedBulk.segment && $0.kind == .bulk }) {
            writer.sealedBulk = syncedBulk
        }
        return writer
    }

    private func io<Value>(
        _ message: String,
        _ body: () throws(DiskError) -> Value
    ) throws(VolumeError) -> Value {
        do throws(DiskError) {
            return try body()
        } catch {
            throw VolumeError(
                error.code == .full ? .full : .inputOutput,
                message,
                path: disk.label,
                cause: error
            )
        }
    }
}

extension BlobVolume {
    /// Makes an empty volume in the disk's directory. Durable on return.
    /// - Throws: `.alreadyExists` when there is one, `.inputOutput`, `.full`.
    package static func format(
        _ disk: any Disk,
        identity: VolumeIdentity,
        options: VolumeOptions = VolumeOptions()
    ) throws(VolumeError) {
        do throws(DiskError) {
            for name in IdentityFile.names where try disk.exists(name) {
                throw DiskError(.exists, call: "format", path: "\(disk.label)/\(name)")
            }
            // Leftovers of a volume whose identity is lost must not become part of the new one.
            try disk.makeDirectory("segments")
            guard try disk.list("segments").allSatisfy({ SegmentFiles.parse($0) == nil }) else {
                throw DiskError(.exists, call: "format", path: "\(disk.label)/segments")
            }
            try disk.makeDirectory("quarantine")
            try disk.syncDirectory("")
            var file = IdentityFile(identity: identity)
            try file.write(to: disk)
        } catch {
            switch error.code {
            case .exists:
                throw VolumeError(
                    .alreadyExists,
                    "There is a volume here already.",
                    path: disk.label,
                    cause: error
                )
            case .full:
                throw VolumeError(.full, "There is no room for a volume.", path: disk.label, cause: error)
            default:
                throw VolumeError(.inputOutput, "The volume can't be made.", path: disk.label, cause: error)
            }
        }
    }

    /// Opens the volume of a directory and takes its lock.
    /// - Throws: `.identityMissing`, `.identityMismatch`, `.locked` (the message names the process), `.corrupt` when
    ///   neither copy of the identity is readable, `.unsupportedFormat`, `.inputOutput`, `.full`.
    package static func open(
        _ disk: any Disk,
        options: VolumeOptions = VolumeOptions()
    ) throws(VolumeError) -> BlobVolume {
        let volume = BlobVolume(opened: try VolumeOpening.open(disk, options: options))
        volume.noteRoom()
        return volume
    }
}
