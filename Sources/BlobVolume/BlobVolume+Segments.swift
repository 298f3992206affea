internal import ContentHashing
internal import StoreModel
internal import Synchronization

extension BlobVolume {
    // MARK: Rotation

    /// Makes sure that the open log segment has room for a group and, behind it, for its footer: sealing must work
    /// on a full disk.
    func makeLogRoom(for group: Group, _ byteCount: UInt64, _ writer: inout Writer) throws(VolumeError) {
        let footer = RecordFormat.recordByteCount(Int(group.footerByteCount) + 4096, .log)
        let needed = byteCount + footer + SegmentTrailer.byteCount
        if let log = writer.log {
            let own = RecordFormat.recordByteCount(log.contents.footerByteCount, .log)
            let isRoomy = log.end + needed + own <= log.capacity
            let isShort =
                log.contents.entries.count + group.payloads.count <= options.logSegmentRecordCountMax
            // A group beyond the count goes into a segment of its own rather than nowhere.
            if isRoomy && (isShort || log.contents.entries.isEmpty) { return }
        }
        let total = RecordFormat.segmentHeaderByteCount + needed
        // Payloads don't take the last prepared segment when there is no room for another.
        if !group.payloads.isEmpty { try checkRoom(max(options.logSegmentSizeMin, total), &writer) }
        try sealLog(&writer)
        try activateLog(capacity: total, &writer)
    }

    func makeBulkRoom(for byteCount: UInt64, _ writer: inout Writer) throws(VolumeError) {
        if let bulk = writer.bulk {
            if bulk.end + byteCount <= bulk.capacity || bulk.contents.entries.isEmpty { return }
            try sealBulk(&writer)
        }
        let number = writer.nextSegmentNumber
        let name = SegmentFiles.name(number, .bulk)
        let file: any DiskFile
        do throws(DiskError) {
            file = try disk.open(name, .create)
            try file.write(header(number, .bulk).encode(), at: 0)
            // The first record begins at 4,096; the file reaches that far from the start.
            try file.truncate(to: RecordFormat.segmentHeaderByteCount)
            try file.sync()
            try disk.syncDirectory("segments")
        } catch {
            // A file that could not be begun has no records; opening the volume takes it for an empty segment.
            writer.nextSegmentNumber += 1
            guard error.code == .full else { throw fail("A bulk segment could not be made.", error, &writer) }
            try? disk.remove(name)
            throw noteFull(error)
        }
        begin(
            OpenSegment(
                number: number,
                kind: .bulk,
                file: file,
                end: RecordFormat.segmentHeaderByteCount,
                syncedEnd: RecordFormat.segmentHeaderByteCount,
                capacity: options.bulkSegmentSizeMax,
                writebackEnd: RecordFormat.segmentHeaderByteCount
            ),
            fileByteCount: RecordFormat.segmentHeaderByteCount,
            \.bulk,
            &writer
        )
    }

    /// Takes the spare, or makes a small segment on the spot, and has the next spare prepared.
    func activateLog(capacity needed: UInt64, _ writer: inout Writer) throws(VolumeError) {
        let number = writer.nextSegmentNumber
        let name = SegmentFiles.name(number, .log)
        let file: any DiskFile
        let capacity: UInt64
        do throws(DiskError) {
            if let size = preparer.readySize, size >= needed {
                capacity = size
                try disk.rename(SparePreparer.readyName, to: name)
                preparer.take()
            } else {
                capacity = RecordFormat.roundedUp(max(needed, options.logSegmentSizeMin), to: 4096)
                _ = try SparePreparer.makeZeroed(SparePreparer.freshName, size: capacity, on: disk)
                try disk.rename(SparePreparer.freshName, to: name)
            }
            file = try disk.open(name, .update)
            file.bypassCache(zeroedFrom: 0)
            try file.write(header(number, .log).encode(), at: 0)
            try disk.syncDirectory("segments")
        } catch {
            guard error.code == .full else { throw fail("A log segment could not be made.", error, &writer) }
            throw noteFull(error)
        }
        begin(
            OpenSegment(
                number: number,
                kind: .log,
                file: file,
                end: RecordFormat.segmentHeaderByteCount,
                syncedEnd: RecordFormat.segmentHeaderByteCount,
                capacity: capacity
            ),
            fileByteCount: capacity,
            \.log,
            &writer
        )
        prepareSpare(after: capacity)
    }

    func prepareSpare(after capacity: UInt64) {
        let size = min(max(options.logSegmentSizeMin, capacity * 2), options.logSegmentSizeMax)
        preparer.start(
            size: RecordFormat.roundedUp(size, to: 4096),
            inBackground: options.preparesSpareInBackground
        )
    }

    private func begin(
        _ segment: OpenSegment,
        fileByteCount: UInt64,
        _ which: WritableKeyPath<Writer, OpenSegment?>,
        _ writer: inout Writer
    ) {
        writer.nextSegmentNumber = segment.number + 1
        writer[keyPath: which] = segment
        state.withLock { state in
            state.segments[segment.number] = Segment(
                kind: segment.kind,
                syncedEnd: segment.syncedEnd,
                fileByteCount: fileByteCount
            )
            state.files.insert(segment.file, segment.number)
        }
    }

    private func header(_ number: UInt32, _ kind: SegmentKind) -> SegmentHeader {
        SegmentHeader(number: number, kind: kind, store: storeID, volume: volumeID)
    }

    // MARK: Sealing

    func sealLog(_ writer: inout Writer) throws(VolumeError) {
        try syncOpen(\.log, &writer)
        guard let log = writer.log else { return }
        try seal(log, &writer)
        writer.log = nil
    }

    func sealBulk(_ writer: inout Writer) throws(VolumeError) {
        try syncOpen(\.bulk, &writer)
        guard let bulk = writer.bulk else { return }
        try seal(bulk, &writer)
        writer.sealedBulk = bulk.syncedLocation
        writer.bulk = nil
    }

    /// Writes footer and trailer, cuts the file behind them and syncs: from then on the segment never changes.
    ///
    /// The records are synced before: whoever finds a good footer may rely on everything that it names, even if the
    /// crash came before the fsync here.
    private func seal(_ segment: OpenSegment, _ writer: inout Writer) throws(VolumeError) {
        var contents = segment.contents
        contents.section.syncedLog = writer.log?.syncedLocation ?? contents.section.syncedLog
        contents.section.syncedBulk = writer.bulk?.syncedLocation ?? contents.section.syncedBulk
        state.withLock { state in
            contents.section.complete = state.complete.sequence
            contents.section.knownCommitIndex = state.knownCommitIndex
        }
        let footer = contents.encodeFooter()
        var records = GroupWriter(
            segment: segment.number,
            kind: segment.kind,
            tag: tag,
            at: segment.end,
            headByteCount: RecordFormat.headByteCount(footer.count) + 4096,
            recordCount: 1
        )
        let bytes = footer.withUnsafeBytes { $0 }
        let location = records.add(.footer, SHA256Hasher.hash(footer), payload: bytes)
        let trailerOffset = segment.end + records.byteCount
        let fileByteCount = trailerOffset + SegmentTrailer.byteCount
        do throws(DiskError) {
            try withExtendedLifetime(footer) { () throws(DiskError) in try records.write(to: segment.file) }
            try segment.file.write(SegmentTrailer(footer: location).encode(tag: tag), at: trailerOffset)
            try segment.file.truncate(to: fileByteCount)
        } catch {
            guard error.code == .full, segment.kind == .bulk,
                (try? segment.file.truncate(to: segment.end)) != nil
            else { throw fail("Segment \(segment.number) could not be sealed.", error, &writer) }
            throw noteFull(error)
        }
        do throws(DiskError) {
            try segment.file.sync()
        } catch {
            // Also when there was no room: after an fsync that failed nothing in the file may be relied on.
            throw fail("Segment \(segment.number) could not be sealed.", error, &writer)
        }
        state.withLock { state in
            state.segments[segment.number]?.syncedEnd = .max
            state.segments[segment.number]?.fileByteCount = fileByteCount
        }
    }
}
