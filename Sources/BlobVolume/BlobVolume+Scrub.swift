internal import ContentHashing
internal import StoreModel
internal import Synchronization

/// One segment under a scrub.
struct ScrubTarget {
    let reader: SegmentReader
    /// Where the records end that are compared.
    let limit: UInt64
    let isOpen: Bool
    /// Left after a failed fsync: it never gets a footer.
    var isFrozen = false
    /// What the segment should hold, by its footer, its writer, or a walk.
    let contents: SegmentContents
    /// Stretches that are known to be lost, by where they start.
    let holes: [UInt32: UInt64]
    private var nextEntry = 0
    /// Put right at the end of the segment.
    private(set) var local: [ScrubDamage] = []
    private(set) var padding: [Range<UInt64>] = []
    var lost: [Range<UInt64>] = []
    var needsHeader = false
    var needsFooter = false
    var needsSeal = false
    var isFinished = false

    init(_ reader: SegmentReader, limit: UInt64, isOpen: Bool, contents: SegmentContents) {
        self.reader = reader
        self.limit = limit
        self.isOpen = isOpen
        self.contents = contents
        var holes: [UInt32: UInt64] = [:]
        for event in contents.chain where event.kind == .hole { holes[event.unit] = event.number }
        self.holes = holes
    }

    var isDamaged: Bool {
        needsHeader || needsFooter || needsSeal || !padding.isEmpty || !local.isEmpty
    }

    /// Where a stretch ends that is known to be lost: behind its start, and not behind the records.
    func holeEnd(at unit: UInt32) -> UInt64? {
        guard let byteCount = holes[unit] else { return nil }
        let start = UInt64(unit) * RecordFormat.unit
        let (end, isTooLong) = start.addingReportingOverflow(max(byteCount, RecordFormat.unit))
        return max(start + RecordFormat.unit, isTooLong ? limit : min(end, limit))
    }

    /// Goes on with the entries at a place.
    mutating func skip(to offset: UInt64) {
        while nextEntry < contents.entries.count,
            UInt64(contents.entries[nextEntry].unit) * RecordFormat.unit < offset
        {
            nextEntry += 1
        }
    }

    mutating func takeEntry(at unit: UInt32) -> SegmentContents.Entry? {
        while nextEntry < contents.entries.count, contents.entries[nextEntry].unit < unit { nextEntry += 1 }
        guard nextEntry < contents.entries.count, contents.entries[nextEntry].unit == unit else { return nil }
        nextEntry += 1
        return contents.entries[nextEntry - 1]
    }

    /// Where what stands behind `offset` must have ended: at the next thing whose place is known.
    func boundary(after offset: UInt64) -> UInt64 {
        var end = limit
        if nextEntry < contents.entries.count {
            end = min(end, UInt64(contents.entries[nextEntry].unit) * RecordFormat.unit)
        }
        for unit in holes.keys where UInt64(unit) * RecordFormat.unit > offset {
            end = min(end, UInt64(unit) * RecordFormat.unit)
        }
        return end
    }

    mutating func note(_ kind: ScrubDamage.Kind, _ message: String, _ location: RecordLocation?) {
        local.append(
            ScrubDamage(kind: kind, location: location, digest: nil, message: message, remedy: .mended)
        )
    }

    mutating func notePadding(_ range: Range<UInt64>, _ location: RecordLocation) {
        padding.append(range)
        note(.padding, "The padding behind a record is not zero; no data is in it.", location)
    }
}

extension BlobVolume {
    /// Whether the volume counts on this record.
    func isLive(_ digest: Digest, _ location: RecordLocation) -> Bool {
        let fingerprint = LocationIndex.fingerprint(of: digest)
        return state.withLock { $0.index.contains(fingerprint, location) }
    }

    /// Whether the volume counts on another record of the same digest in the place of this one.
    func isReplaced(_ digest: Digest, _ location: RecordLocation) -> Bool {
        let locations = state.withLock { $0.index.locations(of: LocationIndex.fingerprint(of: digest)) }
        return !locations.isEmpty && !locations.contains(location)
    }

    func hasSegment(_ number: UInt32) -> Bool { state.withLock { $0.segments[number] != nil } }

    /// A batch of the log that stands in a stretch of a segment.
    func neededBatch(in segment: UInt32, _ range: Range<UInt64>) -> RecordLocation? {
        state.withLock { state in
            state.chain.entries.first {
                $0.location.segment == segment && range.contains($0.location.offset)
            }?.location
        }
    }

    // MARK: Before a segment

    /// Opens a segment for a scrub: looks at its header and its footer, and compares the index with what it holds.
    /// - Returns: nil when it is gone: because it was compacted, or because somebody took it away, which is damage.
    func scrubTarget(_ number: UInt32, _ found: inout [ScrubDamage]) throws(VolumeError) -> ScrubTarget? {
        guard let kind = state.withLock({ $0.segments[number]?.kind }) else { return nil }
        let file: any DiskFile
        do throws(DiskError) {
            // By its name: one that was removed would still be readable by who has it open.
            file = try disk.open(SegmentFiles.name(number, kind), .read)
        } catch {
            guard hasSegment(number) else { return nil }
            let lost = try noteSegmentLost(number, kind, error)
            found += lost
            // Payloads were in it, also where a batch of the log was.
            if !lost.isEmpty { try forgetCompleteness() }
            return nil
        }
        let reader = SegmentReader(file: file, number: number, kind: kind, tag: tag, path: disk.label)
        let open = writer.withLock { writer -> (contents: SegmentContents, end: UInt64)? in
            guard let segment = kind == .log ? writer.log : writer.bulk, segment.number == number else {
                return nil
            }
            return (segment.contents, segment.syncedEnd)
        }
        var target: ScrubTarget
        if let open {
            var contents = open.contents
            contents.entries.removeAll { UInt64($0.unit) * RecordFormat.unit >= open.end }
            target = ScrubTarget(reader, limit: open.end, isOpen: true, contents: contents)
            noteOpeningDamage(&target, &found)
        } else {
            guard let sealed = try sealedTarget(reader, &found) else { return nil }
            target = sealed
        }
        try checkHeader(&target)
        let strays = strayEntries(target)
        found += strays.map { _, location in
            ScrubDamage(
                kind: .index,
                location: location,
                digest: nil,
                message: "The index names a record that its segment does not have.",
                remedy: .compare
            )
        }
        let holes = target.isFrozen ? untoldHoles(target, &found) : []
        if !holes.isEmpty || found.contains(where: { $0.remedy == .compare }) { try forgetCompleteness() }
        buryStrays(strays)
        tell(of: holes)
        return target
    }

    /// Payloads may be gone of which nobody can tell: the volume claims nothing any more until it was compared with the
    /// catalog. Durable before what showed it is put right: a process that ends in between leaves nothing else behind that
    /// would tell.
    private func forgetCompleteness() throws(VolumeError) {
        // Also when it is 0 already: a comparison may be running that has not seen this.
        notePayloadLoss()
        guard !isForgottenDurably else { return }
        try appendGroup(payloads: [], batch: nil)
        try syncLog()
    }

    /// Whether whoever opens the volume after a crash in this moment reads that nothing is known: the last group of the log says
    /// so and is synced. A watermark that stands at 0 in memory tells nothing about that.
    private var isForgottenDurably: Bool {
        writer.withLock { writer in
            guard !writer.identityFile.memory.isClean, let log = writer.log, log.syncedEnd == log.end else {
                return false
            }
            let last = log.contents.section
            return last.recordCount > 0 && last.complete == 0
        }
    }

    /// A sealed segment must end with a footer that tells what it holds.
    /// - Returns: nil when it is gone.
    private func sealedTarget(_ reader: SegmentReader, _ found: inout [ScrubDamage]) throws(VolumeError)
        -> ScrubTarget?
    {
        let size = try fileSize(reader)
        if let trailer = try reader.trailer(fileByteCount: size),
            let contents = try strictFooter(reader, trailer)
        {
            var target = ScrubTarget(reader, limit: trailer.footer.offset, isOpen: false, contents: contents)
            if let dirty = try dirtyFooterPadding(reader, trailer, size) {
                target.notePadding(dirty, trailer.footer)
            }
            return target
        }
        let number = reader.number
        let frozenEnd = writer.withLock { writer in
            writer.identityFile.memory.frozen.first { $0.number == number }?.end
        }
        // Compaction may have taken it away meanwhile, and with it the word of where it was left.
        guard hasSegment(number) else { return nil }
        let limit = min(frozenEnd ?? .max, size)
        var scan = try SegmentScanner(
            reader,
            limit: limit,
            footerStart: try reader.trailer(fileByteCount: size)?.footer.offset
        ).run()
        if let frozenEnd { scan.noteLostEnd(synced: frozenEnd) }
        let contents = scan.footer ?? SegmentSettlement(scan, reader: reader).contents
        let end = scan.footer == nil ? min(scan.end, frozenEnd ?? limit) : scan.footerStart
        var target = ScrubTarget(reader, limit: end, isOpen: false, contents: contents)
        target.isFrozen = frozenEnd != nil
        guard !target.isFrozen else { return target }
        target.needsFooter = true
        target.note(.footer, "The footer or the trailer of the segment is damaged.", reader.location(0))
        if scan.footer != nil {
            // Behind the last footer that is good: what was to replace it.
            let rest = RecordFormat.roundedUp(scan.end + SegmentTrailer.byteCount, to: reader.kind.alignment)
            let fileEnd = RecordFormat.roundedUp(size, to: reader.kind.alignment)
            if rest < fileEnd { target.lost.append(rest..<fileEnd) }
        }
        for (unit, _) in target.holes where scan.footer == nil {
            found.append(
                ScrubDamage(
                    kind: .header,
                    location: RecordLocation(segment: number, unit: unit),
                    digest: nil,
                    message: "Bytes that are no record, in a segment whose footer is damaged.",
                    remedy: .compare
                )
            )
        }
        return target
    }

    /// What is lost in a segment that gets no footer and of which no tombstone tells that it was dealt with.
    private func untoldHoles(_ target: ScrubTarget, _ found: inout [ScrubDamage])
        -> [SegmentContents.Tombstone]
    {
        let number = target.reader.number
        var holes: [SegmentContents.Tombstone] = []
        for unit in target.holes.keys.sorted() {
            guard let end = target.holeEnd(at: unit) else { continue }
            let location = RecordLocation(segment: number, unit: unit)
            let byteCount = end - location.offset
            let batch = neededBatch(in: number, location.offset..<end)
            let told = state.withLock { $0.spentHoles[location] }
            if batch == nil, let told, told >= byteCount { continue }
            holes.append(.init(hole: location, byteCount: byteCount))
            // A record that was given up before its header rotted is no news; that nothing behind it is lost as well, the
            // comparison shows.
            if batch == nil, told == 0 { continue }
            found.append(
                ScrubDamage(
                    kind: batch == nil ? .header : .batch,
                    location: batch ?? location,
                    digest: nil,
                    message: "Bytes that are no record, in a segment that was left after an error.",
                    remedy: batch == nil ? .compare : .rebuildLog
                )
            )
        }
        return holes
    }

    /// Whoever meets them again, be it opening the volume, knows that they were dealt with: only after it is durable that
    /// nothing is known to be here until everything was compared.
    private func tell(of holes: [SegmentContents.Tombstone]) {
        for hole in holes {
            do throws(VolumeError) {
                try bury([hole], byteCount: 0)
                state.withLock { $0.spentHoles[hole.location] = hole.holeByteCount }
            } catch {
                // The next walk meets it again.
            }
        }
    }

    private func fileSize(_ reader: SegmentReader) throws(VolumeError) -> UInt64 {
        do throws(DiskError) {
            return try reader.file.size()
        } catch {
            throw reader.inputOutput(error, at: RecordLocation(segment: reader.number, unit: 0))
        }
    }

    private func strictFooter(_ reader: SegmentReader, _ trailer: SegmentTrailer) throws(VolumeError)
        -> SegmentContents?
    {
        do throws(VolumeError) {
            let (header, payload) = try reader.strictRecord(at: trailer.footer)
            guard header.type == .footer else { return nil }
            return payload.withUnsafeBytes { SegmentContents(footer: $0) }
        } catch {
            guard error.code == .corrupt || error.code == .inputOutput else { throw error }
            return nil
        }
    }

    private func dirtyFooterPadding(_ reader: SegmentReader, _ trailer: SegmentTrailer, _ size: UInt64)
        throws(VolumeError) -> Range<UInt64>?
    {
        let (header, _) = try reader.head(at: trailer.footer, byteCount: RecordFormat.headerByteCount)
        let start = trailer.footer.offset + UInt64(header.headByteCount + header.payloadByteCount)
        let end = size - SegmentTrailer.byteCount
        guard start < end else { return nil }
        do throws(DiskError) {
            return try Self.isZero(start..<end, of: reader.file) ? nil : start..<end
        } catch {
            throw reader.inputOutput(error, at: trailer.footer)
        }
    }

    /// What opening the volume found in a segment that is still open: it is set aside and known, but nobody has
    /// said so yet, and a footer has to remember it.
    private func noteOpeningDamage(_ target: inout ScrubTarget, _ found: inout [ScrubDamage]) {
        let number = target.reader.number
        for damage in openReport.damage where damage.location.segment == number {
            target.needsSeal = true
            if damage.location.offset < RecordFormat.segmentHeaderByteCount { continue }
            found.append(
                ScrubDamage(
                    kind: .header,
                    location: damage.location,
                    digest: damage.digest,
                    message: "Opening the volume found: \(damage.reason).",
                    remedy: .compare
                )
            )
        }
        if !target.holes.isEmpty { target.needsSeal = true }
    }

    private func checkHeader(_ target: inout ScrubTarget) throws(VolumeError) {
        let reader = target.reader
        let page: [UInt8]
        do throws(DiskError) {
            page = try reader.file.read(count: Int(RecordFormat.segmentHeaderByteCount), at: 0)
        } catch {
            target.needsHeader = true
            target.note(
                .segmentHeader,
                "The header of the segment can't be read: \(error)",
                reader.location(0)
            )
            return
        }
        switch segmentHeader(reader).check(page) {
        case .valid: break
        case .unsupported(let what): throw VolumeError(.unsupportedFormat, what + ".", path: disk.label)
        case .damaged:
            target.needsHeader = true
            target.note(.segmentHeader, "The header of the segment is damaged.", reader.location(0))
        }
        guard !target.needsHeader, page.dropFirst(64).contains(where: { $0 != 0 }) else { return }
        target.needsHeader = true
        target.note(
            .padding,
            "The padding behind the segment's header is not zero; no data is in it.",
            reader.location(0)
        )
    }

    private func segmentHeader(_ reader: SegmentReader) -> SegmentHeader {
        SegmentHeader(number: reader.number, kind: reader.kind, store: storeID, volume: volumeID)
    }

    /// Every place that the index names in a segment must be one of its records: the entries that are not.
    func strayEntries(_ target: ScrubTarget) -> [(fingerprint: UInt64, location: RecordLocation)] {
        let number = target.reader.number
        var places = Set<UInt32>(minimumCapacity: target.contents.entries.count)
        for entry in target.contents.entries { places.insert(entry.unit) }
        var strays: [(fingerprint: UInt64, location: RecordLocation)] = []
        for shard in 0..<LocationIndex.shardCount {
            let entries = state.withLock { $0.index.entries(shard: shard, segment: number) }
            for (fingerprint, unit) in entries where !places.contains(unit) {
                let location = RecordLocation(segment: number, unit: unit)
                // Of an open segment the records behind the limit are younger than this walk.
                if target.isOpen && location.offset >= target.limit { continue }
                guard state.withLock({ $0.index.contains(fingerprint, location) }) else { continue }
                strays.append((fingerprint, location))
            }
        }
        return strays
    }

    private func buryStrays(_ strays: [(fingerprint: UInt64, location: RecordLocation)]) {
        for (fingerprint, location) in strays {
            do throws(VolumeError) {
                let name = Digest(words: (fingerprint, 0, 0, 0))
                try bury([.init(digest: name, location: location)], byteCount: 0)
            } catch {
                // It stays in the index, and the next walk meets it again.
            }
        }
    }

    /// A segment that is in nobody's way and yet gone.
    private func noteSegmentLost(_ number: UInt32, _ kind: SegmentKind, _ cause: DiskError)
        throws(VolumeError)
        -> [ScrubDamage]
    {
        guard cause.code == .notFound else {
            throw VolumeError(
                .inputOutput,
                "Segment \(number) can't be opened.",
                path: disk.label,
                cause: cause
            )
        }
        let isOpen = writer.withLock { $0.log?.number == number || $0.bulk?.number == number }
        if isOpen { throw lostFiles(cause) }
        for shard in 0..<LocationIndex.shardCount {
            state.withLock { state in
                for (fingerprint, unit) in state.index.entries(shard: shard, segment: number) {
                    state.index.remove(fingerprint, RecordLocation(segment: number, unit: unit))
                }
            }
        }
        let batch = neededBatch(in: number, 0..<UInt64.max)
        state.withLock { state in
            state.segments[number] = nil
            state.files.remove(number)
        }
        return [
            ScrubDamage(
                kind: batch == nil ? .unreadable : .batch,
                location: batch ?? RecordLocation(segment: number, unit: 0),
                digest: nil,
                message: "The file \(SegmentFiles.name(number, kind)) is gone.",
                remedy: batch == nil ? .compare : .rebuildLog
            )
        ]
    }

    /// The files that are written to have no names any more: what is written is lost with the process.
    private func lostFiles(_ cause: DiskError) -> VolumeError {
        writer.withLock { writer in
            fail(
                "The volume's files are gone: it was emptied, or another disk is mounted in its place.",
                cause,
                &writer,
                remember: false
            )
        }
    }

    // MARK: Behind a segment

    /// Puts right what can be derived on the spot, and makes it durable.
    /// - Returns: all of it, with what became of it.
    func finishScrub(of target: inout ScrubTarget) throws(VolumeError) -> [ScrubDamage] {
        if target.isOpen, try hasDirtyTail(target.reader) {
            target.needsSeal = true
            target.note(
                .padding,
                "Bytes behind the records of the open segment are not zero; no data is in them.",
                target.reader.location(target.limit)
            )
        }
        guard target.isDamaged else { return [] }
        do throws(VolumeError) {
            try mend(target)
            return target.local
        } catch {
            // Its failure is for everybody; no room is for this only.
            if error.code == .failed || error.code == .closed { throw error }
            guard hasSegment(target.reader.number) else { return [] }
            return target.local.map { damage in
                var damage = damage
                damage.remedy = .failed(error.description)
                return damage
            }
        }
    }

    private func mend(_ target: ScrubTarget) throws(VolumeError) {
        let number = target.reader.number
        if target.isOpen { try sealIfOpen(number, target.reader.kind) }
        guard target.needsHeader || target.needsFooter || !target.padding.isEmpty else { return }
        for range in target.lost {
            _ = Quarantine.copy(
                target.reader,
                at: range.lowerBound,
                byteCount: range.upperBound - range.lowerBound,
                to: disk
            )
        }
        do throws(DiskError) {
            let file = try disk.open(SegmentFiles.name(number, target.reader.kind), .update)
            defer { file.close() }
            if target.needsHeader {
                var page = segmentHeader(target.reader).encode()
                page += [UInt8](repeating: 0, count: Int(RecordFormat.segmentHeaderByteCount) - page.count)
                try file.write(page, at: 0)
            }
            for range in target.padding { try Self.zero(range, of: file) }
            try file.sync()
        } catch {
            throw VolumeError(
                .inputOutput,
                "Segment \(number) can't be put right.",
                path: disk.label,
                cause: error
            )
        }
        if target.needsFooter { try renewFooter(of: target) }
    }

    private func sealIfOpen(_ number: UInt32, _ kind: SegmentKind) throws(VolumeError) {
        try logGate.withLock { _ throws(VolumeError) in
            try bulkGate.withLock { _ throws(VolumeError) in
                try writer.withLock { writer throws(VolumeError) in
                    try checkUsable()
                    if kind == .log, writer.log?.number == number { try sealLog(&writer) }
                    if kind == .bulk, writer.bulk?.number == number { try sealBulk(&writer) }
                }
            }
        }
    }

    /// Writes a footer behind the end of a sealed segment, which tells of the records that are lost. The old one stays
    /// where it is: until the new one is whole, the segment reads as before.
    private func renewFooter(of target: ScrubTarget) throws(VolumeError) {
        let reader = target.reader
        let size = try fileSize(reader)
        let start = RecordFormat.roundedUp(size, to: reader.kind.alignment)
        let scan = try SegmentScanner(reader, limit: start).run()
        // By the old footer where it is good: it knows the names of records whose headers are damaged.
        var contents = try reader.footer(fileByteCount: size) ?? target.contents
        let known = Set(contents.chain.lazy.filter { $0.kind == .hole }.map(\.unit))
        let named = Set(contents.entries.map(\.unit))
        var lost = target.lost
        for item in scan.items where item.isBad {
            let unit = reader.location(item.start).unit
            if known.contains(unit) || named.contains(unit) { continue }
            let end = Self.holeEnd(of: item, before: start)
            contents.chain.append(.hole(unit: unit, byteCount: end - item.start))
            lost.append(item.start..<end)
        }
        for range in target.lost {
            let unit = reader.location(range.lowerBound).unit
            if contents.chain.contains(where: { $0.kind == .hole && $0.unit == unit }) { continue }
            contents.chain.append(.hole(unit: unit, byteCount: range.upperBound - range.lowerBound))
        }
        leaveOutBatches(in: lost, of: reader.number, &contents)
        contents.chain.sort { $0.unit < $1.unit }
        let footer = contents.encodeFooter()
        var records = GroupWriter(
            segment: reader.number,
            kind: reader.kind,
            tag: tag,
            at: start,
            headByteCount: RecordFormat.headByteCount(footer.count) + 4096,
            recordCount: 1
        )
        let location = records.add(.footer, SHA256Hasher.hash(footer), payload: footer.withUnsafeBytes { $0 })
        let trailerOffset = start + records.byteCount
        do throws(DiskError) {
            let file = try disk.open(SegmentFiles.name(reader.number, reader.kind), .update)
            defer { file.close() }
            do throws(DiskError) {
                try withExtendedLifetime(footer) { () throws(DiskError) in try records.write(to: file) }
                try file.sync()
                try file.write(SegmentTrailer(footer: location).encode(tag: tag), at: trailerOffset)
                try file.sync()
            } catch {
                // The old trailer counts only where the file ends behind it.
                try? file.truncate(to: size)
                throw error
            }
        } catch {
            throw VolumeError(
                error.code == .full ? .full : .inputOutput,
                "The footer of segment \(reader.number) can't be written.",
                path: disk.label,
                cause: error
            )
        }
        state.withLock { state in
            guard state.segments[reader.number] != nil else { return }
            state.segments[reader.number]?.fileByteCount = trailerOffset + SegmentTrailer.byteCount
        }
    }

    /// Where a stretch ends that is no record: with a footer goes its trailer.
    private static func holeEnd(of item: SegmentScan.Item, before limit: UInt64) -> UInt64 {
        guard case .damagedFooter = item.content else { return item.end }
        return max(item.end, min(item.end + SegmentTrailer.byteCount, limit))
    }

    /// A batch that the log still needs and that is lost stands in the footer no more: whoever opens the volume before
    /// the log was rebuilt would count on it, and no walk would look at its place again. What is spent stays, because
    /// it tells of what was written behind it.
    private func leaveOutBatches(
        in lost: [Range<UInt64>],
        of segment: UInt32,
        _ contents: inout SegmentContents
    ) {
        contents.chain.removeAll { event in
            let place = RecordLocation(segment: segment, unit: event.unit).offset
            guard event.kind == .batch, lost.contains(where: { $0.contains(place) }) else { return false }
            return neededBatch(in: segment, place..<place + 1) != nil
        }
    }

    // MARK: Beside the segments

    /// Looks at both copies of the identity and writes them again when one is not good.
    /// - Throws: `.failed` when both are gone: the volume was emptied, or another disk is mounted in its place.
    func mendIdentity() throws(VolumeError) -> [ScrubDamage] {
        try writer.withLock { writer throws(VolumeError) in
            try checkUsable()
            var faults: [(name: String, reason: String)] = []
            do throws(VolumeError) {
                faults = try IdentityFile.load(from: disk).faults
            } catch {
                guard error.code == .corrupt else {
                    guard error.code == .identityMissing else { throw error }
                    let cause = DiskError(.notFound, call: "open", path: "\(disk.label)/volume.json")
                    throw fail(
                        "The volume's files are gone: it was emptied, or another disk is mounted in its place.",
                        cause,
                        &writer,
                        remember: false
                    )
                }
                faults = IdentityFile.names.map { ($0, error.message) }
            }
            guard !faults.isEmpty else { return [] }
            try writeIdentity(&writer, isClean: writer.identityFile.memory.isClean)
            return faults.map { fault in
                ScrubDamage(
                    kind: .identity,
                    location: nil,
                    digest: nil,
                    message: "\(fault.name) was not usable: \(fault.reason).",
                    remedy: .mended
                )
            }
        }
    }

    /// What opening the volume has put right by itself.
    package var mendedAtOpening: [ScrubDamage] {
        openReport.identityFaults.map { fault in
            ScrubDamage(kind: .identity, location: nil, digest: nil, message: "\(fault).", remedy: .mended)
        }
    }

    /// The segment that was prepared must be zero: a record that was cut can't come back behind a new one.
    func mendSpare() -> [ScrubDamage] {
        guard (try? preparer.isDirty()) == true else { return [] }
        let removed = writer.withLock { writer -> Bool in
            do throws(DiskError) {
                // It may have been taken and written to meanwhile.
                guard try preparer.isDirty() else { return false }
                try preparer.discard()
            } catch {
                return false
            }
            if let capacity = writer.log?.capacity { prepareSpare(after: capacity) }
            return true
        }
        guard removed else { return [] }
        return [
            ScrubDamage(
                kind: .padding,
                location: nil,
                digest: nil,
                message: "The segment prepared for later was not zero; it was made anew.",
                remedy: .mended
            )
        ]
    }

    /// The log segment that is written to.
    package var openLogNumber: UInt32? { writer.withLock { $0.log?.number } }

    /// Whether anything but zeros stands behind the records of the open log segment.
    private func hasDirtyTail(_ reader: SegmentReader) throws(VolumeError) -> Bool {
        guard reader.kind == .log else { return false }
        let number = reader.number
        guard let range = writer.withLock({ Self.tail(of: $0, number) }) else { return false }
        do throws(DiskError) {
            if try Self.isZero(range, of: reader.file) { return false }
            // It may just be that something was appended: again while nobody writes.
            return try writer.withLock { writer throws(DiskError) in
                guard let range = Self.tail(of: writer, number) else { return false }
                return try !Self.isZero(range, of: reader.file)
            }
        } catch {
            throw reader.inputOutput(error, at: reader.location(RecordFormat.segmentHeaderByteCount))
        }
    }

    private static func tail(of writer: Writer, _ number: UInt32) -> Range<UInt64>? {
        guard let log = writer.log, log.number == number, log.end < log.capacity else { return nil }
        return log.end..<log.capacity
    }

    static func isZero(_ range: Range<UInt64>, of file: any DiskFile) throws(DiskError) -> Bool {
        var memory = ReadMemory(byteCount: 1 << 20)
        // Past the page cache, in whole blocks: what stands in front of the range in its first one is not looked at.
        let block: UInt64 = 4096
        var offset = range.lowerBound / block * block
        while offset < range.upperBound {
            let left = (range.upperBound - offset + block - 1) / block * block
            let wanted = Int(min(UInt64(memory.bytes.count), left))
            let count = try file.readDirect(
                into: &memory,
                from: 0,
                byteCount: wanted,
                at: offset,
                aheadByteCount: left - UInt64(wanted)
            )
            let end = min(offset + UInt64(count), range.upperBound)
            let start = max(offset, range.lowerBound)
            guard start < end else { return true }
            let part = memory.bytes.slice(Int(start - offset), Int(end - start))
            if !UnsafeRawBufferPointer(part).isZero { return false }
            offset += UInt64(count)
        }
        return true
    }

    // MARK: The commit log

    /// A batch of the log can't be read any more: the log ends in front of it from now on and doesn't vote, until its
    /// peers have given it again and `noteLogRebuilt` is called.
    ///
    /// One that is not in the log any more, because the log let it go or was begun anew since it was looked at, changes
    /// nothing: a log that is said to end where it did not is believed, and would go on being written behind that end.
    package func noteLostBatch(at location: RecordLocation) throws(VolumeError) {
        try writer.withLock { writer throws(VolumeError) in
            try checkUsable()
            let identity = writer.identityFile.identity
            let isThere = state.withLock { state in
                // Where it was written to stays known when it is cut.
                guard state.chain.cut(at: location) else { return false }
                if !state.isLogDamaged {
                    state.attestedTail = identity.attestable(
                        state.chain.writtenTail,
                        knownCommitIndex: state.knownCommitIndex
                    )
                }
                state.isLogDamaged = true
                return true
            }
            if isThere { try writeIdentity(&writer) }
        }
    }
}
