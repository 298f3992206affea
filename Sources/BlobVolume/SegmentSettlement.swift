internal import StoreModel

/// Decides what the findings of a walk mean: which bytes are an unfinished write and are cut, which are damage, and
/// what is left.
///
/// The line is the synced watermark. Bad bytes in front of it were good once: damage, set aside, and the rest stays.
/// Behind it a bad record is what a crash leaves of a write that nobody was told about: it and everything after it is
/// cut, back to the start of its group.
struct SegmentSettlement: Sendable {
    struct Damage: Sendable {
        let start: UInt64
        let end: UInt64
        let reason: String
        let digest: Digest?
    }

    private(set) var contents = SegmentContents()
    private(set) var damage: [Damage] = []
    /// Where the segment goes on: the end of what is kept.
    private(set) var end: UInt64
    /// Highest commit index that any valid record carries, cut ones included.
    private(set) var knownCommitIndex: UInt64 = 0
    /// Whether valid records behind `end` are dropped.
    private(set) var dropsValidRecords = false

    /// Takes everything as it is: for sealed segments, and for checks.
    init(_ scan: SegmentScan, reader: SegmentReader) {
        end = scan.end
        keep(scan.items, before: .max, kind: reader.kind, number: reader.number)
    }

    /// - Parameter synced: everything in front of it was fsynced.
    /// - Parameter discardsUnsynced: cut at the watermark whatever is behind it.
    /// - Throws: `.inputOutput`.
    init(
        _ scan: SegmentScan,
        reader: SegmentReader,
        synced: UInt64,
        discardsUnsynced: Bool
    ) throws(VolumeError) {
        var scan = scan
        if synced != .max { scan.noteLostEnd(synced: synced) }
        var cut =
            switch reader.kind {
            case .log: try Self.logCut(scan.items, reader, synced)
            case .bulk: try Self.bulkCut(scan.items, reader, synced)
            }
        if discardsUnsynced { cut = min(cut, max(synced, RecordFormat.segmentHeaderByteCount)) }
        end = min(cut, scan.end)
        dropsValidRecords = scan.items.contains { !$0.isBad && $0.start >= cut }
        keep(scan.items, before: cut, kind: reader.kind, number: reader.number)
    }

    /// Where the first unsynced group starts that is not whole.
    private static func logCut(
        _ items: [SegmentScan.Item],
        _ reader: SegmentReader,
        _ synced: UInt64
    ) throws(VolumeError) -> UInt64 {
        var group: (start: UInt64, items: [SegmentScan.Item])?
        // Groups don't straddle the watermark: what ends in front of it is history.
        for item in items where item.end > synced {
            let start = group?.start ?? item.start
            switch item.content {
            case .bad, .damagedFooter: return max(synced, start)
            case .payload, .tombstones: group = (start, (group?.items ?? []) + [item])
            case .closer(let closer):
                let members = group?.items ?? []
                let isWhole =
                    UInt64(closer.section.groupStart) * RecordFormat.unit == start
                    && Int(closer.section.recordCount) == members.count + 1
                guard isWhole else { return max(synced, start) }
                for member in members {
                    guard try isGood(member, reader) else { return max(synced, start) }
                }
                group = nil
            }
        }
        // Records without their closer.
        return group.map { max(synced, $0.start) } ?? .max
    }

    private static func bulkCut(
        _ items: [SegmentScan.Item],
        _ reader: SegmentReader,
        _ synced: UInt64
    ) throws(VolumeError) -> UInt64 {
        for item in items where item.end > synced {
            guard try isGood(item, reader) else { return max(synced, item.start) }
        }
        return .max
    }

    /// Whether a record that may be unfinished is whole, by its SHA-256.
    private static func isGood(_ item: SegmentScan.Item, _ reader: SegmentReader) throws(VolumeError) -> Bool
    {
        switch item.content {
        case .bad, .damagedFooter: return false
        case .tombstones, .closer: return true
        case .payload:
            do throws(VolumeError) {
                try reader.strictRecord(at: reader.location(item.start))
                return true
            } catch {
                guard error.code == .corrupt else { throw error }
                return false
            }
        }
    }

    private mutating func keep(
        _ items: [SegmentScan.Item],
        before cut: UInt64,
        kind: SegmentKind,
        number: UInt32
    ) {
        for item in items {
            if case .closer(let closer) = item.content {
                knownCommitIndex = max(knownCommitIndex, closer.commitIndex, closer.section.knownCommitIndex)
            }
            guard item.start < cut else { continue }
            let unit = RecordLocation(segment: number, offset: item.start).unit
            switch item.content {
            case .payload(let digest, let byteCount):
                contents.entries.append(.init(digest: digest, unit: unit, byteCount: UInt32(byteCount)))
            case .tombstones(let tombstones): contents.tombstones.append(contentsOf: tombstones)
            case .closer(let closer):
                contents.section = closer.section
                contents.addChainEvent(of: closer, unit: unit)
            case .damagedFooter:
                damage.append(
                    Damage(start: item.start, end: item.end, reason: "the footer is damaged", digest: nil)
                )
            case .bad(let reason, let digest):
                let itemEnd = min(item.end, cut)
                damage.append(Damage(start: item.start, end: itemEnd, reason: reason, digest: digest))
                contents.chain.append(.hole(unit: unit, byteCount: itemEnd - item.start))
            }
        }
    }
}

extension SegmentScan {
    /// Zeros where fsynced records stood, or the end of a record that is bad already.
    mutating func noteLostEnd(synced: UInt64) {
        guard end < synced else { return }
        if let last = items.last, last.isBad {
            items[items.count - 1] = .init(start: last.start, end: synced, content: last.content)
        } else {
            let reason = "nothing is there, although it was fsynced"
            items.append(.init(start: end, end: synced, content: .bad(reason, nil)))
        }
        end = synced
    }
}

extension SegmentContents {
    mutating func addChainEvent(of closer: SegmentScan.Closer, unit: UInt32) {
        let kind: ChainEvent.Kind
        switch closer.type {
        case .commitBatch: kind = .batch
        case .logReset: kind = .reset
        case .logTrim: kind = .trim
        case .mark, .payload, .tombstone, .tombstones, .footer: return
        }
        chain.append(
            ChainEvent(
                kind: kind,
                unit: unit,
                number: closer.commitIndex,
                position: closer.position,
                predecessor: closer.predecessor
            )
        )
    }
}

extension CommitChain {
    /// Takes what a segment tells about the log, in the order in which it was written.
    /// - Parameter floor: where the log of this volume begins, when segments in front of it were given back. What it says
    ///   was so when the log's end stood at `floor.from`; up to there nothing that is not behind its position counts.
    mutating func take(_ contents: SegmentContents, segment: UInt32, floor: VolumeMemory.LogFloor? = nil) {
        for event in contents.chain {
            if let floor, RecordLocation(segment: segment, unit: event.unit) < floor.from {
                if event.kind != .hole, !event.position.isLater(than: floor.position) {
                    // Batches and trims are behind us; a reset dropped what had come before it.
                    if event.kind == .reset { reset(base: floor.position) } else { noteContinuation() }
                    continue
                }
            }
            switch event.kind {
            case .hole: noteLostRecords()
            case .reset: reset(base: event.position)
            case .trim:
                // A position that isn't here belonged to batches that are lost: what is left has no beginning.
                if !trim(base: event.position) { noteUnreachable(event.position) }
            case .batch:
                let location = RecordLocation(segment: segment, unit: event.unit)
                noteWritten(event.position)
                if !append(event.position, predecessor: event.predecessor, at: location) {
                    noteUnreachable(event.position)
                }
            }
        }
    }
}

extension SegmentReader {
    /// The contents by the footer that the trailer at the file's end names; nil when there is no good one.
    /// - Throws: `.inputOutput`, `.unsupportedFormat`.
    func footer(fileByteCount: UInt64) throws(VolumeError) -> SegmentContents? {
        guard let trailer = try trailer(fileByteCount: fileByteCount) else { return nil }
        do throws(VolumeError) {
            let (header, payload) = try record(at: trailer.footer)
            guard header.type == .footer else { return nil }
            return payload.withUnsafeBytes { SegmentContents(footer: $0) }
        } catch {
            guard error.code == .corrupt else { throw error }
            return nil
        }
    }

    /// The trailer at the file's end, if there is a good one.
    func trailer(fileByteCount: UInt64) throws(VolumeError) -> SegmentTrailer? {
        let start = RecordFormat.segmentHeaderByteCount
        guard fileByteCount >= start + SegmentTrailer.byteCount else { return nil }
        do throws(DiskError) {
            let offset = fileByteCount - SegmentTrailer.byteCount
            let bytes = try file.read(count: Int(SegmentTrailer.byteCount), at: offset)
            let trailer = SegmentTrailer(bytes, segment: number, tag: tag)
            return (trailer?.footer.offset ?? 0) >= start ? trailer : nil
        } catch {
            throw inputOutput(error, at: RecordLocation(segment: number, unit: 0))
        }
    }

    /// Whether the bytes at a place are this segment's trailer and end the file.
    func isTrailer(at offset: UInt64, _ fileByteCount: UInt64) -> Bool {
        guard offset + SegmentTrailer.byteCount == fileByteCount else { return false }
        return (try? trailer(fileByteCount: fileByteCount)).flatMap { $0 } != nil
    }
}
