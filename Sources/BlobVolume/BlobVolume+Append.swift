internal import ContentHashing
package import StoreModel
internal import Synchronization

extension BlobVolume {
    // MARK: The log segment

    /// Appends a group: payloads, and at most one batch. After a crash all of it is here, or nothing.
    ///
    /// Not durable before `syncLog`. Only from the volume's writer thread.
    /// - Throws: `.notSuccessor` when the batch's predecessor is not in this log (nothing is written), `.full` when
    ///   there is no room (nothing is written; a group without payloads has the reserve to itself), `.tooLarge`,
    ///   `.failed`.
    package func appendGroup(payloads: [PayloadRecord], batch: CommitBatch?) throws(VolumeError) {
        try withLogWriter { writer throws(VolumeError) in
            try checkUsable()
            if let batch, state.withLock({ $0.chain.keptCount(before: batch.predecessor) }) == nil {
                throw VolumeError(
                    .notSuccessor,
                    "Batch \(batch.position) follows \(batch.predecessor), which is not in this log.",
                    path: disk.label
                )
            }
            try append(Group(payloads: payloads, closer: batch.map { .batch($0) } ?? .mark), &writer)
        }
    }

    /// Makes every group appended so far durable (fdatasync). Only from the writer thread.
    /// - Throws: `.failed`: the volume is out until it is opened again.
    package func syncLog() throws(VolumeError) {
        try logGate.withLock { _ throws(VolumeError) in try syncBesideWriter(\.log) }
    }

    /// Drops every batch of this log, which then starts after `base`; durable on return. Payloads stay.
    package func resetLog(base: LogPosition) throws(VolumeError) {
        try withLogWriter { writer throws(VolumeError) in
            try checkUsable()
            try append(Group(closer: .reset(base)), &writer)
            try syncOpen(\.log, &writer)
        }
    }

    /// Drops the batches up to `base`, which must be in the log; durable on return.
    /// - Throws: `.notSuccessor` when it isn't.
    package func trimLog(base: LogPosition) throws(VolumeError) {
        try withLogWriter { writer throws(VolumeError) in
            try checkUsable()
            var copy = state.withLock { $0.chain }
            guard copy.trim(base: base) else {
                throw VolumeError(.notSuccessor, "Batch \(base) is not in this log.", path: disk.label)
            }
            try append(Group(closer: .trim(base)), &writer)
            try syncOpen(\.log, &writer)
        }
    }

    struct Group {
        enum Closer {
            case batch(CommitBatch)
            case mark
            case reset(LogPosition)
            case trim(LogPosition)
        }

        var payloads: [PayloadRecord] = []
        var tombstones: [SegmentContents.Tombstone] = []
        var closer: Closer

        var recordCount: Int { payloads.count + tombstoneRecords.count + 1 }

        /// The tombstones as they are written: one alone, or many in a record.
        var tombstoneRecords: [ArraySlice<SegmentContents.Tombstone>] {
            stride(from: 0, to: tombstones.count, by: RecordFormat.tombstoneCountMax).map {
                tombstones[$0..<min($0 + RecordFormat.tombstoneCountMax, tombstones.count)]
            }
        }

        var closerByteCount: Int {
            switch closer {
            case .batch(let batch): batch.encodedByteCount + RecordFormat.sectionByteCount
            case .mark: RecordFormat.sectionByteCount
            case .reset, .trim: RecordFormat.positionByteCount + RecordFormat.sectionByteCount
            }
        }

        /// Bytes that the group takes in a log segment.
        var byteCount: UInt64 {
            var total = RecordFormat.recordByteCount(closerByteCount, .log)
            for record in tombstoneRecords {
                total += RecordFormat.recordByteCount(record.count * RecordFormat.tombstoneByteCount, .log)
            }
            for payload in payloads { total += RecordFormat.recordByteCount(payload.bytes.count, .log) }
            return total
        }

        /// Bytes that the group adds to the footer: an upper bound.
        var footerByteCount: UInt64 {
            UInt64(recordCount) * 128 + UInt64(tombstones.count * RecordFormat.tombstoneByteCount)
        }
    }

    func append(_ group: Group, _ writer: inout Writer) throws(VolumeError) {
        let byteCount = group.byteCount
        try checkSizes(group)
        // A batch that was decided is written with its payloads as long as there is any room: the reserve is for it.
        // Whether the volume has become full is noted all the same, before the next decision.
        if !group.payloads.isEmpty {
            do throws(VolumeError) {
                try checkRoom(byteCount, &writer)
            } catch {
                guard case .batch = group.closer else { throw error }
            }
        }
        try clearCleanMark(&writer)
        try makeLogRoom(for: group, byteCount, &writer)
        guard var log = writer.log else { preconditionFailure("Room was made in a log segment.") }
        let section = section(for: group, log, writer)
        let (records, locations) = layOut(group, section, log)
        do throws(DiskError) {
            // The pointers in `records` are those of the payload arrays, which are alive and unchanged until here.
            try withExtendedLifetime(group) { () throws(DiskError) in try records.write(to: log.file) }
        } catch {
            throw undo(error, byteCount, log, &writer)
        }
        let start = log.end
        log.end += byteCount
        precondition(records.byteCount == byteCount, "The size of a group is known before it is laid out.")
        let closer = closer(of: group, section)
        // Let go of the other reference first: growing the contents must not copy them.
        writer.log = nil
        publish(group, closer, locations, &log)
        writer.log = log
        precondition(log.end > start && log.end <= log.capacity, "A group stays inside its segment.")
    }

    private func checkSizes(_ group: Group) throws(VolumeError) {
        let largest = max(group.closerByteCount, group.payloads.reduce(0) { max($0, $1.bytes.count) })
        guard largest <= RecordFormat.payloadByteCountMax else {
            throw VolumeError(
                .tooLarge,
                "A record of \(largest) bytes; at most \(RecordFormat.payloadByteCountMax) are allowed.",
                path: disk.label
            )
        }
    }

    private func section(for group: Group, _ log: OpenSegment, _ writer: Writer) -> VolumeSection {
        var section = VolumeSection()
        section.groupStart = RecordLocation(segment: log.number, offset: log.end).unit
        section.recordCount = UInt32(group.recordCount)
        section.syncedLog = log.syncedLocation
        section.syncedBulk = syncedBulk(writer)
        state.withLock { state in
            section.complete = state.complete.sequence
            section.knownCommitIndex = state.knownCommitIndex
        }
        return section
    }

    private func layOut(
        _ group: Group,
        _ section: VolumeSection,
        _ log: OpenSegment
    ) -> (GroupWriter, [RecordLocation]) {
        var heads = 512
        for payload in group.payloads { heads += RecordFormat.headByteCount(payload.bytes.count) + 64 }
        var records = GroupWriter(
            segment: log.number,
            kind: .log,
            tag: tag,
            at: log.end,
            headByteCount: heads + group.tombstones.count * RecordFormat.tombstoneByteCount + 4096,
            recordCount: group.recordCount
        )
        var locations: [RecordLocation] = []
        locations.reserveCapacity(group.recordCount)
        for payload in group.payloads {
            // An array on this platform has one contiguous buffer that stays where it is while the array is retained
            // and unchanged; `group` retains it until the write is done.
            let bytes = payload.bytes.withUnsafeBytes { $0 }
            locations.append(records.add(.payload, payload.digest, payload: bytes))
        }
        let none = UnsafeRawBufferPointer(start: nil, count: 0)
        for tombstones in group.tombstoneRecords {
            let size = RecordFormat.tombstoneByteCount
            var bytes = [UInt8](repeating: 0, count: tombstones.count * size)
            bytes.withUnsafeMutableBytes { bytes in
                for (index, tombstone) in tombstones.enumerated() {
                    tombstone.write(to: bytes.slice(index * size, size))
                }
            }
            let type = tombstones.count == 1 ? RecordType.tombstone : .tombstones
            locations.append(
                records.add(type, SHA256Hasher.hash(bytes), prefix: bytes, body: none, suffix: [])
            )
        }
        var end = [UInt8](repeating: 0, count: RecordFormat.sectionByteCount)
        end.withUnsafeMutableBytes { section.write(to: $0) }
        switch group.closer {
        case .batch(let batch):
            let body = batch.body.withUnsafeBytes { $0 }
            let header = batch.encodeHeader()
            locations.append(
                records.add(.commitBatch, batch.position.hash, prefix: header, body: body, suffix: end)
            )
        case .mark:
            locations.append(records.add(.mark, SHA256Hasher.hash([]), prefix: [], body: none, suffix: end))
        case .reset(let base), .trim(let base):
            var bytes = [UInt8](repeating: 0, count: RecordFormat.positionByteCount)
            bytes.withUnsafeMutableBytes { base.write(to: $0) }
            var type = RecordType.logReset
            if case .trim = group.closer { type = .logTrim }
            locations.append(
                records.add(type, SHA256Hasher.hash(bytes), prefix: bytes, body: none, suffix: end)
            )
        }
        return (records, locations)
    }

    private func closer(of group: Group, _ section: VolumeSection) -> SegmentScan.Closer {
        var type = RecordType.mark
        var position = LogPosition.origin
        var predecessor = LogPosition.origin
        var commitIndex: UInt64 = 0
        switch group.closer {
        case .mark: break
        case .batch(let batch):
            type = .commitBatch
            (position, predecessor, commitIndex) = (batch.position, batch.predecessor, batch.commitIndex)
        case .reset(let base): (type, position) = (.logReset, base)
        case .trim(let base): (type, position) = (.logTrim, base)
        }
        return .init(
            type: type,
            position: position,
            predecessor: predecessor,
            commitIndex: commitIndex,
            section: section
        )
    }

    /// Makes a written group visible to readers and to the footer.
    private func publish(
        _ group: Group,
        _ closer: SegmentScan.Closer,
        _ locations: [RecordLocation],
        _ log: inout OpenSegment
    ) {
        for (payload, location) in zip(group.payloads, locations) {
            log.contents.entries.append(
                .init(digest: payload.digest, unit: location.unit, byteCount: UInt32(payload.bytes.count))
            )
        }
        log.contents.tombstones.append(contentsOf: group.tombstones)
        log.contents.section = closer.section
        let closerUnit = locations[locations.count - 1].unit
        log.contents.addChainEvent(of: closer, unit: closerUnit)
        state.withLock { state in
            for (payload, location) in zip(group.payloads, locations) {
                state.index.insert(LocationIndex.fingerprint(of: payload.digest), location)
                state.payloadByteCount += UInt64(payload.bytes.count)
                state.segments[location.segment]?.payloadRecordBytes += RecordFormat.recordByteCount(
                    payload.bytes.count,
                    .log
                )
            }
            state.knownCommitIndex = max(state.knownCommitIndex, closer.commitIndex)
            var event = SegmentContents()
            event.addChainEvent(of: closer, unit: closerUnit)
            state.chain.take(event, segment: log.number)
        }
    }

    /// After a write that did not succeed. A full file system leaves a part of the group, which is zeroed again so
    /// that nothing of it can stand behind a later group; any other error ends the volume.
    private func undo(
        _ error: DiskError,
        _ byteCount: UInt64,
        _ log: OpenSegment,
        _ writer: inout Writer
    ) -> VolumeError {
        guard error.code == .full else { return fail("A write to the log failed.", error, &writer) }
        do throws(DiskError) {
            try Self.zero(log.end..<min(log.end + byteCount, log.capacity), of: log.file)
        } catch {
            return fail("A write to the log failed and could not be undone.", error, &writer)
        }
        return noteFull(error)
    }

    static func zero(_ range: Range<UInt64>, of file: any DiskFile) throws(DiskError) {
        let zeros = [UInt8](repeating: 0, count: Int(min(range.upperBound - range.lowerBound, 1 << 20)))
        var offset = range.lowerBound
        while offset < range.upperBound {
            let count = Int(min(UInt64(zeros.count), range.upperBound - offset))
            try file.write(count == zeros.count ? zeros : [UInt8](zeros[..<count]), at: offset)
            offset += UInt64(count)
        }
    }

    // MARK: The bulk segment

    /// Appends one large payload and starts its writeback in paced steps. Not durable before `syncBulk`. Only from
    /// the writer thread.
    /// - Throws: `.full`, `.tooLarge`, `.failed`.
    package func appendBulk(_ payload: PayloadRecord) throws(VolumeError) {
        try withBulkWriter(appending: payload) { writer throws(VolumeError) in
            try checkUsable()
            try checkSizes(Group(payloads: [payload], closer: .mark))
            let byteCount = RecordFormat.recordByteCount(payload.bytes.count, .bulk)
            try checkRoom(byteCount, &writer)
            try clearCleanMark(&writer)
            try makeBulkRoom(for: byteCount, &writer)
            guard var bulk = writer.bulk else { preconditionFailure("Room was made in a bulk segment.") }
            var records = GroupWriter(
                segment: bulk.number,
                kind: .bulk,
                tag: tag,
                at: bulk.end,
                headByteCount: RecordFormat.headByteCount(payload.bytes.count) + 8192,
                recordCount: 1
            )
            let location: RecordLocation
            if let image = payload.image.content(of: payload.bytes) {
                location = records.add(payload.digest, image)
            } else {
                location = records.add(
                    .payload,
                    payload.digest,
                    payload: payload.bytes.withUnsafeBytes { $0 }
                )
            }
            do throws(DiskError) {
                // As in `append`: the array is retained and unchanged until the write is done, and so is the image.
                try withExtendedLifetime(payload) { () throws(DiskError) in
                    try records.write(to: bulk.file, isDirect: true)
                }
                try paceWriteback(&bulk, byteCount)
            } catch {
                guard error.code == .full, (try? bulk.file.truncate(to: bulk.end)) != nil else {
                    throw fail("A write to a bulk segment failed.", error, &writer)
                }
                throw noteFull(error)
            }
            bulk.end += byteCount
            writer.bulk = nil
            bulk.contents.entries.append(
                .init(digest: payload.digest, unit: location.unit, byteCount: UInt32(payload.bytes.count))
            )
            writer.bulk = bulk
            state.withLock { state in
                state.index.insert(LocationIndex.fingerprint(of: payload.digest), location)
                state.payloadByteCount += UInt64(payload.bytes.count)
                state.segments[bulk.number]?.fileByteCount = bulk.end
                state.segments[bulk.number]?.payloadRecordBytes += byteCount
            }
        }
    }

    /// Makes every bulk payload appended so far durable. Only from the writer thread.
    /// - Throws: `.failed`.
    package func syncBulk() throws(VolumeError) {
        try bulkGate.withLock { _ throws(VolumeError) in try syncBesideWriter(\.bulk) }
    }

    /// Locks what appending one payload to the bulk segment needs. A full segment is synced before `writer` is locked
    /// for good: little is left for the fsync that seals it, during which nobody else writes.
    private func withBulkWriter(
        appending payload: PayloadRecord,
        _ body: (inout Writer) throws(VolumeError) -> Void
    ) throws(VolumeError) {
        let byteCount = RecordFormat.recordByteCount(payload.bytes.count, .bulk)
        try bulkGate.withLock { _ throws(VolumeError) in
            let isFull = writer.withLock { writer in
                writer.bulk.map { $0.end + byteCount > $0.capacity } ?? false
            }
            if isFull { try syncBesideWriter(\.bulk) }
            try writer.withLock { writer throws(VolumeError) in try body(&writer) }
        }
    }

    private func paceWriteback(_ bulk: inout OpenSegment, _ added: UInt64) throws(DiskError) {
        let end = bulk.end + added
        guard end - bulk.writebackEnd >= options.writebackStep else { return }
        try bulk.file.startWriteback(offset: bulk.writebackEnd, length: end - bulk.writebackEnd)
        bulk.writebackEnd = end
    }

    // MARK: Syncing and room

    /// Locks what appending to the log needs.
    func withLogWriter(_ body: (inout Writer) throws(VolumeError) -> Void) throws(VolumeError) {
        try logGate.withLock { _ throws(VolumeError) in
            try writer.withLock { writer throws(VolumeError) in try body(&writer) }
        }
    }

    /// Syncs an open segment while others may append and sync in the other one. Its gate must be held: a second sync
    /// of the same file would return success for pages whose loss the first one was told of.
    private func syncBesideWriter(_ which: WritableKeyPath<Writer, OpenSegment?>) throws(VolumeError) {
        let open = try writer.withLock { writer throws(VolumeError) -> (any DiskFile, UInt32, UInt64)? in
            try checkUsable()
            guard let segment = writer[keyPath: which], segment.syncedEnd < segment.end else { return nil }
            return (segment.file, segment.number, segment.end)
        }
        guard let (file, number, end) = open else { return }
        do throws(DiskError) {
            try file.sync()
        } catch {
            let cause = error
            throw writer.withLock { fail("An fsync failed.", cause, &$0) }
        }
        writer.withLock { writer in
            if writer[keyPath: which]?.number == number { writer[keyPath: which]?.syncedEnd = end }
            state.withLock { $0.segments[number]?.syncedEnd = end }
        }
    }

    /// Syncs an open segment; its gate must be held.
    func syncOpen(_ which: WritableKeyPath<Writer, OpenSegment?>, _ writer: inout Writer) throws(VolumeError)
    {
        guard let segment = writer[keyPath: which], segment.syncedEnd < segment.end else { return }
        do throws(DiskError) {
            try segment.file.sync()
        } catch {
            throw fail("An fsync failed.", error, &writer)
        }
        writer[keyPath: which]?.syncedEnd = segment.end
        state.withLock { $0.segments[segment.number]?.syncedEnd = segment.end }
    }

    /// The first write after a clean close says durably that the end is no longer where the close left it.
    private func clearCleanMark(_ writer: inout Writer) throws(VolumeError) {
        if writer.identityFile.memory.isClean { try writeIdentity(&writer) }
    }

    /// Refuses payloads when they would eat into the reserve. Asks the file system every few megabytes.
    func checkRoom(_ byteCount: UInt64, _ writer: inout Writer) throws(VolumeError) {
        let isFull = self.isFull
        let (sum, overflow) = writer.bytesSinceSpaceCheck.addingReportingOverflow(byteCount)
        if !isFull && !overflow && sum < 4 << 20 {
            writer.bytesSinceSpaceCheck = sum
            return
        }
        guard let space = try? disk.space() else { return }
        writer.bytesSinceSpaceCheck = 0
        guard space.freeBytes >= options.reserveBytes + byteCount else {
            throw noteFull(
                DiskError(
                    .full,
                    call: "append",
                    path: disk.label,
                    detail: "\(space.freeBytes) bytes are free, \(options.reserveBytes) of them reserved"
                )
            )
        }
        fullFlag.store(false, ordering: .releasing)
    }

    /// Whether payload appends are refused. Asks nobody, not even the file system.
    package var isFull: Bool { fullFlag.load(ordering: .acquiring) }

    /// Whether an upload of so many bytes may begin: above the soft watermark now, above the hard one at its end.
    package func hasRoom(for byteCount: UInt64?) -> Bool {
        guard !isFull, let space = try? disk.space() else { return !isFull }
        guard space.freeBytes >= options.softReserveBytes else { return false }
        // A sixteenth for headers, padding and footers.
        let needed = byteCount.map { $0 + $0 / 16 } ?? 0
        return space.freeBytes - min(options.reserveBytes, space.freeBytes) >= needed
    }

    /// Whether the soft watermark is reached: uploads under way may end, no new ones begin. Asks the file system.
    package var isNearlyFull: Bool {
        guard let space = try? disk.space() else { return false }
        return space.freeBytes < options.softReserveBytes
    }

    /// Asks the file system at opening whether there is room: a volume that is full from the start says so before
    /// anything is decided.
    func noteRoom() {
        guard let space = try? disk.space(), space.freeBytes < options.reserveBytes else { return }
        fullFlag.store(true, ordering: .releasing)
    }

    /// Asks the file system whether a full volume has room again.
    package func recheckRoom() {
        guard isFull, let space = try? disk.space() else { return }
        // Some room beyond the reserve, so that the volume does not go back and forth with every payload.
        guard space.freeBytes >= options.reserveBytes + UInt64(Limits.chunkSizeMax) else { return }
        fullFlag.store(false, ordering: .releasing)
    }

    func noteFull(_ cause: DiskError) -> VolumeError {
        fullFlag.store(true, ordering: .releasing)
        return VolumeError(
            .full,
            "The volume is full. Reads and deletes go on; free some space, or add a volume.",
            path: disk.label,
            cause: cause
        )
    }
}
