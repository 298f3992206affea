package import StoreModel
internal import Synchronization

extension BlobVolume {
    /// Bytes of a record's start that are read at once: header and table of any chunk, and small payloads whole.
    private static let headReadByteCount = 4096

    /// Whether the payload is here. Confirmed by the header on disk, whose name must be the digest; an unreadable
    /// header counts as absent.
    package func presence(of digest: Digest) -> RecordPresence {
        guard let (location, _, _, _) = try? locate(digest) else { return .absent }
        return state.withLock { state in
            guard let segment = state.segments[location.segment] else { return .absent }
            return location.offset < segment.syncedEnd ? .synced : .unsynced
        }
    }

    /// What the index alone says, without touching the disk: another payload whose digest begins with the same eight
    /// bytes is taken for it.
    package func indexedPresence(of digest: Digest) -> RecordPresence {
        let fingerprint = LocationIndex.fingerprint(of: digest)
        return state.withLock { state in
            guard !state.isClosed else { return .absent }
            guard let newest = state.index.newestLocation(of: fingerprint) else { return .absent }
            if let segment = state.segments[newest.segment], newest.offset < segment.syncedEnd {
                return .synced
            }
            var presence = RecordPresence.absent
            for location in state.index.locations(of: fingerprint) {
                guard let segment = state.segments[location.segment] else { continue }
                if location.offset < segment.syncedEnd { return .synced }
                presence = .unsynced
            }
            return presence
        }
    }

    /// Reads a range of a payload. Every byte returned was compared with its checksum, and the header with the name.
    ///
    /// When there are several copies of the payload here, the newest good one is used.
    /// - Throws: `.notFound`, `.corrupt`, `.inputOutput`, `.closed`.
    package func read(_ digest: Digest, range: Range<Int>) throws(VolumeError) -> [UInt8] {
        try firstGood(digest) { (location, reader, header, start) throws(VolumeError) in
            guard range.lowerBound >= 0, range.upperBound <= header.payloadByteCount else {
                throw reader.error(
                    .corrupt,
                    "Bytes \(range) of record \(digest) are wanted; it has \(header.payloadByteCount).",
                    at: location
                )
            }
            return try reader.payload(range, of: header, at: location, start: start)
        }
    }

    /// Reads a range of a payload, to where it is wanted, if the system has it in memory: waits for no disk.
    ///
    /// As verified as `read`. False for anything else, damage too: `read` finds out what it is.
    /// - Parameter target: has the length of the range. What it holds is of no use after a false.
    package func readCached(
        _ digest: Digest,
        range: Range<Int>,
        into target: UnsafeMutableRawBufferPointer
    ) -> Bool {
        let fingerprint = LocationIndex.fingerprint(of: digest)
        let found = state.withLock { state -> (RecordLocation, SegmentKind, any DiskFile)? in
            guard !state.isClosed, let location = state.index.newestLocation(of: fingerprint),
                let kind = state.segments[location.segment]?.kind, let file = state.files[location.segment]
            else { return nil }
            return (location, kind, file)
        }
        guard let (location, kind, file) = found else { return false }
        let reader = SegmentReader(
            file: file,
            number: location.segment,
            kind: kind,
            tag: tag,
            path: disk.label
        )
        // Of a small payload nearly always all is wanted.
        if kind == .log, range.lowerBound == 0, 1...Limits.logPayloadSizeMax ~= range.upperBound,
            reader.readCachedWhole(of: digest, at: location, into: target)
        {
            return true
        }
        return reader.readCached(range, of: digest, at: location, into: target)
    }

    /// The length of a payload.
    /// - Throws: as `read`.
    package func byteCount(of digest: Digest) throws(VolumeError) -> Int {
        try locate(digest).2.payloadByteCount
    }

    /// Reads a payload and compares it with its checksums.
    /// - Parameter strict: Compute the SHA-256 as well.
    /// - Throws: as `read`.
    package func verify(_ digest: Digest, strict: Bool) throws(VolumeError) {
        try firstGood(digest) { (location, reader, header, start) throws(VolumeError) in
            if strict {
                try reader.strictRecord(at: location)
            } else {
                _ = try reader.payload(0..<header.payloadByteCount, of: header, at: location, start: start)
            }
        }
    }

    /// Compares a payload with its checksums as the disk has it: past the page cache where it is large and that is possible.
    /// - Parameter byteCount: its length, as far as the caller knows.
    /// - Throws: as `read`.
    package func verifyOnDisk(_ digest: Digest, byteCount: Int) throws(VolumeError) {
        if byteCount > Limits.logPayloadSizeMax, byteCount <= Limits.chunkSizeMax {
            let memory = directMemory.withLock { $0.popLast() } ?? Self.makeDirectMemory()
            defer { directMemory.withLock { $0.append(memory) } }
            var damage: (error: VolumeError, location: RecordLocation)?
            for location in try candidates(digest) {
                guard let reader = try? segmentReader(location.segment) else { continue }
                do throws(VolumeError) {
                    if try reader.isGoodOnDisk(digest, byteCount, at: location, through: memory) { return }
                } catch {
                    damage = damage ?? (error, location)
                }
            }
            // Unless it was moved or given back meanwhile. The page cache may still have what was once written.
            if let damage, isIndexed(digest, at: damage.location) { throw damage.error }
        }
        try verify(digest, strict: false)
    }

    private static func makeDirectMemory() -> ReadMemory {
        ReadMemory(byteCount: Int(RecordFormat.recordByteCount(Limits.chunkSizeMax, .bulk)))
    }

    /// Runs `body` on the newest copy for which it succeeds.
    private func firstGood<Value>(
        _ digest: Digest,
        _ body: (RecordLocation, SegmentReader, RecordHeader, [UInt8]) throws(VolumeError) -> Value
    ) throws(VolumeError) -> Value {
        var firstError: VolumeError?
        // Garbage collection may give a place back, or move the record, while it is being read: then the index no longer
        // has it, and is asked once more.
        for _ in 0..<Self.lookUpCountMax {
            firstError = nil
            var hasMoved = false
            for location in try candidates(digest) {
                do throws(VolumeError) {
                    let reader = try segmentReader(location.segment)
                    let (header, start) = try reader.head(at: location, byteCount: Self.headReadByteCount)
                    // Another digest with the same first eight bytes.
                    guard header.type == .payload, header.digest == digest else { continue }
                    return try body(location, reader, header, start)
                } catch {
                    if isIndexed(digest, at: location) {
                        firstError = firstError ?? error
                    } else {
                        hasMoved = true
                    }
                }
            }
            if !hasMoved { break }
        }
        throw firstError ?? notFound(digest)
    }

    private static let lookUpCountMax = 8

    func isIndexed(_ digest: Digest, at location: RecordLocation) -> Bool {
        state.withLock { $0.index.contains(LocationIndex.fingerprint(of: digest), location) }
    }

    private func locate(
        _ digest: Digest
    ) throws(VolumeError) -> (RecordLocation, SegmentReader, RecordHeader, [UInt8]) {
        try firstGood(digest) { location, reader, header, start in (location, reader, header, start) }
    }

    private func candidates(_ digest: Digest) throws(VolumeError) -> [RecordLocation] {
        try checkReadable()
        let fingerprint = LocationIndex.fingerprint(of: digest)
        return state.withLock { $0.index.locations(of: fingerprint) }
    }

    private func notFound(_ digest: Digest) -> VolumeError {
        VolumeError(.notFound, "The volume has no record \(digest).", path: disk.label)
    }

    /// A reader of one segment; its file is opened when it isn't.
    func segmentReader(_ number: UInt32) throws(VolumeError) -> SegmentReader {
        let (kind, file) = state.withLock { ($0.segments[number]?.kind, $0.files[number]) }
        guard let kind else {
            throw VolumeError(.corrupt, "There is no segment \(number).", path: disk.label)
        }
        if let file {
            return SegmentReader(file: file, number: number, kind: kind, tag: tag, path: disk.label)
        }
        do throws(DiskError) {
            let opened = try disk.open(SegmentFiles.name(number, kind), .read)
            state.withLock { state in
                // One that went meanwhile would keep its space as long as it is open.
                if !state.isClosed, state.segments[number] != nil { state.files.insert(opened, number) }
            }
            return SegmentReader(file: opened, number: number, kind: kind, tag: tag, path: disk.label)
        } catch {
            throw VolumeError(
                error.code == .notFound ? .corrupt : .inputOutput,
                "Segment \(number) can't be opened.",
                path: disk.label,
                cause: error
            )
        }
    }

    /// Calls `body` for every live payload, segment by segment. Records appended meanwhile may be missed. A payload
    /// with several copies here may come more than once.
    package func forEachPayload(_ body: (Digest, _ length: Int) throws -> Void) throws {
        try checkReadable()
        let open = writer.withLock { [$0.log, $0.bulk].compactMap { $0 } }
        let numbers = state.withLock { $0.segments.keys.sorted() }
        for number in numbers {
            let contents: SegmentContents
            if let segment = open.first(where: { $0.number == number }) {
                contents = segment.contents
            } else {
                // Compaction may have taken it away meanwhile, after it had moved what is alive behind.
                guard state.withLock({ $0.segments[number] != nil }) else { continue }
                do throws(VolumeError) {
                    contents = try sealedContents(number)
                } catch {
                    if state.withLock({ $0.segments[number] == nil }) { continue }
                    throw error
                }
            }
            for entry in contents.entries {
                let location = RecordLocation(segment: number, unit: entry.unit)
                let fingerprint = LocationIndex.fingerprint(of: entry.digest)
                guard state.withLock({ $0.index.contains(fingerprint, location) }) else { continue }
                try body(entry.digest, Int(entry.byteCount))
            }
        }
    }

    /// What a sealed segment holds: by its footer, or by a walk when the footer is damaged.
    func sealedContents(_ number: UInt32) throws(VolumeError) -> SegmentContents {
        let reader = try segmentReader(number)
        let fileByteCount = state.withLock { $0.segments[number]?.fileByteCount } ?? 0
        if let contents = try reader.footer(fileByteCount: fileByteCount) { return contents }
        let frozenEnd = writer.withLock { writer in
            writer.identityFile.memory.frozen.first { $0.number == number }?.end
        }
        var scan = try SegmentScanner(
            reader,
            limit: min(frozenEnd ?? .max, fileByteCount),
            footerStart: try reader.trailer(fileByteCount: fileByteCount)?.footer.offset
        ).run()
        if let frozenEnd { scan.noteLostEnd(synced: frozenEnd) }
        return scan.footer ?? SegmentSettlement(scan, reader: reader).contents
    }
}
