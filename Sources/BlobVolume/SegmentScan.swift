internal import StoreModel

/// What a walk over the records of one segment found, before anything is decided about it.
struct SegmentScan: Sendable {
    struct Closer: Sendable {
        let type: RecordType
        let position: LogPosition
        let predecessor: LogPosition
        let commitIndex: UInt64
        let section: VolumeSection
    }

    enum Content: Sendable {
        case payload(Digest, byteCount: Int)
        indirect case tombstones([SegmentContents.Tombstone])
        /// Boxed: items of payloads, which are most, stay small.
        indirect case closer(Closer)
        /// Bytes that are no record. With the name where the header is good.
        indirect case bad(String, Digest?)
        /// The segment was sealed, or sealing it began. Nothing but the footer is lost.
        case damagedFooter
    }

    struct Item: Sendable {
        let start: UInt64
        let end: UInt64
        let content: Content

        var isBad: Bool {
            switch content {
            case .bad, .damagedFooter: true
            case .payload, .tombstones, .closer: false
            }
        }
    }

    /// Without gaps, from the first record on.
    var items: [Item] = []
    /// Everything from here on is zero, or behind the limit.
    var end = RecordFormat.segmentHeaderByteCount
    /// The content by its footer, when the walk ended at one.
    var footer: SegmentContents?
    var footerStart: UInt64 = 0
}

/// Walks over the records of an unsealed segment. Payloads are skipped (their headers are checked); closers and
/// tombstones are read and checked, because the walk needs what they say.
///
/// After bytes that are no record the walk goes on at the next valid header: the checksum of a header covers its place
/// and its volume, so that nothing else passes for one.
struct SegmentScanner {
    private let reader: SegmentReader
    private let limit: UInt64
    /// Where a clean close left the end, if the segment was not written since: zeros from there on need no look.
    private let cleanEnd: UInt64?
    /// Where the trailer says that the footer stands, if there is a trailer.
    private let footerStart: UInt64?
    private let window: ScanWindow

    init(_ reader: SegmentReader, limit: UInt64, cleanEnd: UInt64? = nil, footerStart: UInt64? = nil) {
        self.reader = reader
        self.limit = limit
        self.cleanEnd = cleanEnd
        self.footerStart = footerStart
        window = ScanWindow(reader.file, limit: limit)
    }

    /// - Throws: `.unsupportedFormat`, `.inputOutput`.
    func run() throws(VolumeError) -> SegmentScan {
        var scan = SegmentScan()
        var offset = RecordFormat.segmentHeaderByteCount
        while offset < limit {
            guard let header = try header(at: offset) else {
                if offset == cleanEnd { break }
                if offset == footerStart {
                    scan.items.append(.init(start: offset, end: limit, content: .damagedFooter))
                    scan.end = limit
                    break
                }
                let found = try resynchronise(from: offset)
                if found.badEnd > offset {
                    scan.items.append(
                        .init(
                            start: offset,
                            end: found.badEnd,
                            content: .bad("bytes that are no record", nil)
                        )
                    )
                    scan.end = found.badEnd
                }
                guard let next = found.next else { break }
                offset = next
                continue
            }
            let next = offset + header.recordByteCount(reader.kind)
            if header.type == .footer, let footer = try footer(at: offset) {
                scan.footer = footer
                scan.footerStart = offset
                scan.end = next
                try findLaterFooter(&scan)
                return scan
            }
            let content =
                next > limit && header.type != .footer
                ? .bad("a record beyond the end", header.digest) : try content(header, offset)
            scan.items.append(.init(start: offset, end: min(next, limit), content: content))
            scan.end = min(next, limit)
            // Behind a footer there is only the trailer.
            if header.type == .footer && reader.isTrailer(at: next, limit) {
                scan.end = limit
                break
            }
            offset = next
        }
        return scan
    }

    /// A footer that was written anew stands behind the one that it replaces and that one's trailer; it knows more.
    private func findLaterFooter(_ scan: inout SegmentScan) throws(VolumeError) {
        var end = scan.end
        while true {
            let offset = RecordFormat.roundedUp(end + SegmentTrailer.byteCount, to: reader.kind.alignment)
            guard offset < limit, let header = try header(at: offset), header.type == .footer else { return }
            end = offset + header.recordByteCount(reader.kind)
            guard end <= limit, let footer = try footer(at: offset) else { continue }
            scan.footer = footer
            scan.footerStart = offset
            scan.end = end
        }
    }

    private func header(at offset: UInt64) throws(VolumeError) -> RecordHeader? {
        let location = reader.location(offset)
        let parsed: RecordHeader.Parsed
        do throws(DiskError) {
            parsed = RecordHeader.parse(
                try window.view(at: offset, RecordFormat.headerByteCount),
                at: location,
                tag: reader.tag
            )
        } catch {
            throw reader.inputOutput(error, at: location)
        }
        switch parsed {
        case .valid(let header): return header
        case .invalid: return nil
        case .unsupported(let what):
            throw reader.error(.unsupportedFormat, "A newer version wrote this: \(what).", at: location)
        }
    }

    private func content(_ header: RecordHeader, _ offset: UInt64) throws(VolumeError) -> SegmentScan.Content
    {
        if header.type == .footer { return .damagedFooter }
        if header.type == .payload { return .payload(header.digest, byteCount: header.payloadByteCount) }
        let location = reader.location(offset)
        let bytes: [UInt8]
        do throws(VolumeError) {
            (_, bytes) = try reader.strictRecord(at: location)
        } catch {
            guard error.code == .corrupt else { throw error }
            return .bad(error.message, header.digest)
        }
        return Self.content(of: header, bytes)
            ?? .bad("a malformed record of type \(header.type)", header.digest)
    }

    /// Parses the payload of a record that is no user payload; nil when it is malformed.
    static func content(of header: RecordHeader, _ bytes: [UInt8]) -> SegmentScan.Content? {
        if header.type == .tombstone {
            return bytes.withUnsafeBytes { SegmentContents.Tombstone($0) }.map { .tombstones([$0]) }
        }
        if header.type == .tombstones {
            return bytes.withUnsafeBytes { SegmentContents.Tombstone.list($0) }.map { .tombstones($0) }
        }
        guard header.type.isCloser, let section = bytes.withUnsafeBytes({ VolumeSection(endOf: $0) }) else {
            return nil
        }
        let content = [UInt8](bytes.dropLast(RecordFormat.sectionByteCount))
        var position = LogPosition.origin
        var predecessor = LogPosition.origin
        var commitIndex: UInt64 = 0
        switch header.type {
        case .commitBatch:
            guard let batch = try? CommitBatch(decoding: content) else { return nil }
            position = batch.position
            predecessor = batch.predecessor
            commitIndex = batch.commitIndex
        case .logReset, .logTrim:
            guard content.count == RecordFormat.positionByteCount else { return nil }
            position = content.withUnsafeBytes { LogPosition(reading: $0) }
        case .mark: guard content.isEmpty else { return nil }
        case .payload, .tombstone, .tombstones, .footer: return nil
        }
        return .closer(
            .init(
                type: header.type,
                position: position,
                predecessor: predecessor,
                commitIndex: commitIndex,
                section: section
            )
        )
    }

    private func footer(at offset: UInt64) throws(VolumeError) -> SegmentContents? {
        do throws(VolumeError) {
            let (_, bytes) = try reader.record(at: reader.location(offset))
            return bytes.withUnsafeBytes { SegmentContents(footer: $0) }
        } catch {
            guard error.code == .corrupt else { throw error }
            return nil
        }
    }

    /// Looks for the next valid header behind `offset`.
    /// - Returns: its place, if any, and where the bytes that are neither zero nor a record end.
    private func resynchronise(from offset: UInt64) throws(VolumeError) -> (next: UInt64?, badEnd: UInt64) {
        let step = reader.kind.alignment
        var position = offset
        var badEnd = offset
        while position < limit {
            let span = Int(min(UInt64(ScanWindow.byteCount / 2), limit - position))
            let candidates: [UInt64]
            do throws(DiskError) {
                let bytes = try window.view(at: position, span)
                guard !bytes.isEmpty else { break }
                if bytes.isZero {
                    position += RecordFormat.roundedUp(UInt64(bytes.count), to: step)
                    continue
                }
                candidates = stride(from: 0, to: bytes.count - 3, by: Int(step))
                    .filter { bytes.uint32($0) == RecordFormat.magic }.map { position + UInt64($0) }
                badEnd = lastNonZero(bytes, position, step)
                position += RecordFormat.roundedUp(UInt64(bytes.count), to: step)
            } catch {
                throw reader.inputOutput(error, at: reader.location(offset))
            }
            for candidate in candidates where candidate > offset {
                if try header(at: candidate) != nil { return (candidate, candidate) }
            }
        }
        return (nil, min(badEnd, RecordFormat.roundedUp(limit, to: RecordFormat.unit)))
    }

    /// The first multiple of `step` behind which `bytes`, which stand at `start`, are zero.
    private func lastNonZero(_ bytes: UnsafeRawBufferPointer, _ start: UInt64, _ step: UInt64) -> UInt64 {
        var count = bytes.count
        while count > 0 {
            let from = (count - 1) / Int(step) * Int(step)
            if !bytes.slice(from, count - from).isZero { break }
            count = from
        }
        return start + UInt64(count)
    }
}
