internal import ContentHashing
internal import StoreModel
internal import Synchronization

/// The state of a walk over the segments of a volume: see `VolumeScrubber`.
struct ScrubWalk: ~Copyable {
    private let volume: BlobVolume
    private let lastSegment: UInt32
    private let window = ScrubWindow()
    private var cursor: ScrubCursor
    private var target: ScrubTarget?
    private var hasBegun = false
    private var isAtEnd = false
    private var unreadableInARow = 0
    private var found: [ScrubDamage] = []
    private var recordCount: UInt64 = 0

    /// A disk that gives nothing but errors is no list of damaged records.
    private static let unreadableInARowMax = 64
    /// Damage of one step: what comes after it is found by the next one.
    private static let damageCountMax = 256

    init(_ volume: BlobVolume, from cursor: ScrubCursor, through last: UInt32) {
        self.volume = volume
        self.cursor = cursor
        lastSegment = last
    }

    mutating func step(_ byteCount: UInt64) throws(VolumeError) -> ScrubStep {
        try volume.checkUsable()
        if !hasBegun {
            hasBegun = true
            found += try volume.mendIdentity()
        }
        recordCount = 0
        while !isAtEnd, window.byteCount < max(byteCount, 1), found.count < Self.damageCountMax {
            if target == nil {
                try beginNextSegment()
            } else {
                try advance()
            }
        }
        var step = ScrubStep()
        (step.byteCount, step.readCount) = window.takeCounts()
        step.recordCount = recordCount
        step.damage = found
        found = []
        step.isAtEnd = isAtEnd
        step.cursor = cursor
        // What is to be put right at the end of the segment is found again by whoever begins in it.
        if let target, target.isDamaged { step.cursor.offset = 0 }
        return step
    }

    // MARK: Segments

    private mutating func beginNextSegment() throws(VolumeError) {
        let from = cursor.segment
        let last = lastSegment
        let next = volume.state.withLock { state in
            state.segments.keys.filter { $0 >= from && $0 <= last }.min()
        }
        guard let next else {
            found += try volume.mendIdentity()
            found += volume.mendSpare()
            try lookBehindYoungLog()
            isAtEnd = true
            cursor = ScrubCursor(segment: last == .max ? last : last + 1, offset: 0)
            return
        }
        let offset = next == from ? cursor.offset : 0
        cursor = ScrubCursor(segment: next, offset: offset)
        guard var opened = try volume.scrubTarget(next, &found) else {
            cursor = ScrubCursor(segment: next + 1, offset: 0)
            return
        }
        cursor.offset = max(offset, RecordFormat.segmentHeaderByteCount)
        opened.skip(to: cursor.offset)
        window.begin(opened.reader.file, limit: opened.limit)
        target = opened
    }

    /// The prepared segment may have become the open one since the walk began, which ends in front of it: what was not zero in
    /// it then stands behind the records now.
    private mutating func lookBehindYoungLog() throws(VolumeError) {
        guard let number = volume.openLogNumber, number > lastSegment,
            var young = try volume.scrubTarget(number, &found)
        else { return }
        found += try volume.finishScrub(of: &young)
    }

    private mutating func advance() throws(VolumeError) {
        guard var current = target.take() else { return }
        defer { target = current.isFinished ? nil : current }
        if cursor.offset < current.limit {
            do throws(VolumeError) {
                cursor.offset = try look(&current)
            } catch {
                // Closed or compacted under the walk.
                guard volume.hasSegment(current.reader.number) else {
                    return endSegment(&current)
                }
                throw error
            }
            return
        }
        found += try volume.finishScrub(of: &current)
        endSegment(&current)
    }

    private mutating func endSegment(_ current: inout ScrubTarget) {
        window.end()
        cursor = ScrubCursor(segment: current.reader.number + 1, offset: 0)
        current.isFinished = true
    }

    // MARK: Records

    /// Looks at what stands at the cursor.
    /// - Returns: where the next thing stands.
    private mutating func look(_ current: inout ScrubTarget) throws(VolumeError) -> UInt64 {
        let offset = cursor.offset
        let reader = current.reader
        let location = reader.location(offset)
        if let end = current.holeEnd(at: location.unit) {
            noteKnownHole(location, end, current)
            return end
        }
        if let entry = current.takeEntry(at: location.unit) {
            recordCount += 1
            let end = offset + RecordFormat.recordByteCount(Int(entry.byteCount), reader.kind)
            if volume.isLive(entry.digest, location) { try check(entry, location, &current) }
            return end
        }
        let boundary = current.boundary(after: offset)
        switch try parse(location) {
        case .valid(let header) where offset + header.recordByteCount(reader.kind) <= boundary:
            recordCount += 1
            let end = offset + header.recordByteCount(reader.kind)
            if header.type == .footer { return try passFooter(header, location, end, &current) }
            if let problem = try problem(header, location) {
                noteLostRecord(problem, location, end, &current)
            } else if let bad = dirtyPadding(header, location, reader.kind) {
                current.notePadding(bad, location)
            }
            return end
        case .valid, .invalid, .unsupported:
            let end = try nextHeader(behind: offset, before: boundary, reader)
            noteLostRecord("Bytes that are no record.", location, end, &current)
            return end
        }
    }

    /// A footer that was replaced stands in front of the one that counts, with what is left of its trailer. A walk that has no
    /// other end stops at it, so that it has to be good, or known to be none.
    private mutating func passFooter(
        _ header: RecordHeader,
        _ location: RecordLocation,
        _ recordEnd: UInt64,
        _ current: inout ScrubTarget
    ) throws(VolumeError) -> UInt64 {
        let end = RecordFormat.roundedUp(
            recordEnd + SegmentTrailer.byteCount,
            to: current.reader.kind.alignment
        )
        if let problem = try problem(header, location) {
            let range = location.offset..<min(end, current.limit)
            // Where it is known that a footer is damaged, this is the one.
            if current.needsFooter {
                current.lost.append(range)
            } else {
                noteLostRecord(problem, location, range.upperBound, &current)
            }
        }
        return end
    }

    private func parse(_ location: RecordLocation) throws(VolumeError) -> RecordHeader.Parsed {
        do throws(DiskError) {
            let bytes = try window.view(at: location.offset, atLeast: RecordFormat.headerByteCount)
            return RecordHeader.parse(bytes, at: location, tag: volume.tag)
        } catch {
            // Where this record ends nobody knows: the walk looks for the next one.
            return .invalid
        }
    }

    /// Compares a live payload with what its segment says of it.
    private mutating func check(
        _ entry: SegmentContents.Entry,
        _ location: RecordLocation,
        _ current: inout ScrubTarget
    ) throws(VolumeError) {
        var kind = ScrubDamage.Kind.header
        var message: String?
        do throws(DiskError) {
            let bytes = try window.view(at: location.offset, atLeast: RecordFormat.headerByteCount)
            if case .valid(let header) = RecordHeader.parse(bytes, at: location, tag: volume.tag) {
                if header.digest != entry.digest || header.payloadByteCount != Int(entry.byteCount) {
                    message = "The header names another payload than the segment's footer."
                } else if let problem = try contentProblem(header, location) {
                    kind = .payload
                    message = problem
                } else if let bad = try paddingRange(header, location, current.reader.kind) {
                    current.notePadding(bad, location)
                }
            } else {
                message = "The header of the record is damaged."
            }
            unreadableInARow = 0
        } catch {
            kind = .unreadable
            message = "The disk can't read it: \(error)"
            try noteUnreadable(error, current.reader, location)
        }
        // It may have been replaced or compacted while it was looked at.
        guard let message, volume.isLive(entry.digest, location) else { return }
        found.append(
            ScrubDamage(
                kind: kind,
                location: location,
                digest: entry.digest,
                message: message,
                remedy: .replace
            )
        )
        if kind == .header { current.needsSeal = true }
    }

    private mutating func noteUnreadable(
        _ error: DiskError,
        _ reader: SegmentReader,
        _ location: RecordLocation
    )
        throws(VolumeError)
    {
        unreadableInARow += 1
        guard unreadableInARow < Self.unreadableInARowMax else {
            throw reader.inputOutput(error, at: location)
        }
    }

    /// What is wrong with a record that is no user payload.
    private func problem(_ header: RecordHeader, _ location: RecordLocation) throws(VolumeError) -> String? {
        do throws(DiskError) {
            return try contentProblem(header, location)
        } catch {
            return "The disk can't read it: \(error)"
        }
    }

    private func dirtyPadding(_ header: RecordHeader, _ location: RecordLocation, _ kind: SegmentKind)
        -> Range<UInt64>?
    {
        // What can't be read here is noted with the record.
        do throws(DiskError) { return try paddingRange(header, location, kind) } catch { return nil }
    }

    /// Reads the block table and the payload: each block against its checksum, all of it against the name.
    private func contentProblem(_ header: RecordHeader, _ location: RecordLocation) throws(DiskError)
        -> String?
    {
        var table: [UInt8] = []
        var offset = location.offset + UInt64(RecordFormat.headerByteCount)
        let start = location.offset + UInt64(header.headByteCount)
        while offset < start {
            let wanted = Int(start - offset)
            let bytes = try window.view(at: offset, atLeast: min(wanted, 4096))
            let count = min(wanted, bytes.count)
            guard count > 0 else { return "The segment ends inside of the record." }
            table += bytes.slice(0, count)
            offset += UInt64(count)
        }
        guard BlockChecksum.xxh3(table) == header.tableChecksum else { return "The block table is damaged." }
        let section = header.type.isCloser ? RecordFormat.sectionByteCount : 0
        guard header.payloadByteCount >= section else { return "The record is too short." }
        var hasher = SHA256Hasher()
        var position = 0
        let named = header.payloadByteCount - section
        while position < header.payloadByteCount {
            let rest = header.payloadByteCount - position
            let block = min(rest, RecordFormat.blockByteCount)
            let bytes = try window.view(at: start + UInt64(position), atLeast: block)
            guard bytes.count >= block else { return "The segment ends inside of the record." }
            let usable = min(rest, bytes.count)
            let count =
                usable == rest ? rest : usable / RecordFormat.blockByteCount * RecordFormat.blockByteCount
            if let bad = badBlock(bytes.slice(0, count), position / RecordFormat.blockByteCount, table) {
                return "Block \(bad) of the record is damaged."
            }
            if position < named { hasher.update(bytes.slice(0, min(count, named - position))) }
            position += count
        }
        return hasher.finish() == header.digest ? nil : "The content has another SHA-256."
    }

    private func badBlock(_ bytes: UnsafeRawBufferPointer, _ first: Int, _ table: [UInt8]) -> Int? {
        table.withUnsafeBytes { sums in
            SegmentReader.badBlock(of: bytes, sums.slice(first * 8, sums.count - first * 8)).map {
                first + $0
            }
        }
    }

    /// The padding of a record, if it is not zero.
    private func paddingRange(_ header: RecordHeader, _ location: RecordLocation, _ kind: SegmentKind)
        throws(DiskError) -> Range<UInt64>?
    {
        let start = location.offset + UInt64(header.headByteCount + header.payloadByteCount)
        let end = location.offset + header.recordByteCount(kind)
        guard start < end else { return nil }
        let count = Int(end - start)
        let bytes = try window.view(at: start, atLeast: count)
        return bytes.slice(0, min(count, bytes.count)).isZero ? nil : start..<end
    }

    // MARK: Records of the log

    /// The next valid header between two places; the second when there is none.
    private func nextHeader(behind offset: UInt64, before boundary: UInt64, _ reader: SegmentReader)
        throws(VolumeError) -> UInt64
    {
        var position = offset + reader.kind.alignment
        while position < boundary {
            if case .valid = try parse(reader.location(position)) { return position }
            position += reader.kind.alignment
        }
        return boundary
    }

    /// A stretch that an earlier walk has found, with a batch in it that the log still counts on: it was not rebuilt then,
    /// and is asked for again. Of segments that get no footer that was said before the walk.
    private mutating func noteKnownHole(
        _ location: RecordLocation,
        _ end: UInt64,
        _ current: ScrubTarget
    ) {
        guard !current.isFrozen,
            let batch = volume.neededBatch(in: location.segment, location.offset..<end)
        else { return }
        found.append(
            ScrubDamage(
                kind: .batch,
                location: batch,
                digest: nil,
                message: "A batch of the log in a stretch that is known to be lost.",
                remedy: .rebuildLog
            )
        )
    }

    /// A record of the log that is lost: batches are fetched from the peers; of all others the footer tells enough.
    private mutating func noteLostRecord(
        _ message: String,
        _ location: RecordLocation,
        _ end: UInt64,
        _ current: inout ScrubTarget
    ) {
        guard volume.hasSegment(location.segment) else { return }
        current.needsFooter = true
        current.lost.append(location.offset..<end)
        if let batch = volume.neededBatch(in: location.segment, location.offset..<end) {
            found.append(
                ScrubDamage(
                    kind: .batch,
                    location: batch,
                    digest: nil,
                    message: message,
                    remedy: .rebuildLog
                )
            )
        } else {
            current.note(.spentRecord, message, location)
        }
    }
}
