internal import ContentHashing
internal import StoreModel
internal import Synchronization

/// What giving space back did, on one segment or on many.
package struct ReclaimedSpace: Hashable, Sendable {
    /// Bytes that were made holes.
    package var punchedBytes: UInt64 = 0
    /// Sizes of the segment files that are gone.
    package var removedFileBytes: UInt64 = 0
    package var removedSegmentCount = 0
    /// Live payload bytes that were copied forward.
    package var movedBytes: UInt64 = 0
    package var sealedSegmentCount = 0
    /// Segments that were left alone because something in them can't be read.
    package var skippedSegmentCount = 0
    /// There is more to be done in the segment: it takes another step.
    package var isUnfinished = false

    package init() {}

    package mutating func add(_ other: ReclaimedSpace) {
        punchedBytes += other.punchedBytes
        removedFileBytes += other.removedFileBytes
        removedSegmentCount += other.removedSegmentCount
        movedBytes += other.movedBytes
        sealedSegmentCount += other.sealedSegmentCount
        skippedSegmentCount += other.skippedSegmentCount
    }
}

/// When a segment is worth the work.
package struct ReclaimPolicy: Hashable, Sendable {
    /// A log segment is compacted when at most this share of its payload bytes is alive.
    package var compactsBelow = 0.5
    /// An open segment is sealed when so much of it is dead.
    package var sealsAtDeadBytes: UInt64 = 4 << 20

    package init() {}
}

/// Garbage collection, second half: the space of dead records.
///
/// 1. Only sealed segments are touched, and only records whose tombstones are durable (they are not in the index, and
///    `bury` has counted them). One that was left after an error is read, and removed, and never written to.
/// 2. The last segment of each kind stays, whatever is in it: numbers are never used again, because tombstones name them,
///    and the watermarks name the last.
/// 3. A segment is removed only after (a) everything alive in it stands, verified and fsynced, in a later segment, (b)
///    tombstones in it that speak of segments that are still there are written again, durably, (c) its batches are all
///    in front of the log's base, and that base is in volume.json.
/// 4. A crash between any two calls leaves a record twice (read the one or the other), or a hole not yet made: both are
///    found by the next run.
extension BlobVolume {
    /// Gives back what one segment holds of dead records. Nothing is done to a segment that is open or damaged. One that was
    /// left after an error goes, whatever is alive in it: a step at a time.
    /// - Throws: `.full`, `.failed`, `.inputOutput`, `.closed`.
    package func reclaim(_ number: UInt32, _ policy: ReclaimPolicy) throws(VolumeError) -> ReclaimedSpace {
        try checkUsable()
        var space = ReclaimedSpace()
        let (isOpen, isFrozen) = writer.withLock { writer in
            (
                writer.log?.number == number || writer.bulk?.number == number,
                writer.identityFile.memory.frozen.contains { $0.number == number }
            )
        }
        guard !isOpen, let segment = state.withLock({ $0.segments[number] }) else { return space }
        if isFrozen { return try empty(number, segment) }
        guard segment.deadRecordBytes > 0 || segment.kind == .log else { return space }
        let reader = try segmentReader(number)
        guard let contents = try reader.footer(fileByteCount: segment.fileByteCount),
            !contents.chain.contains(where: { $0.kind == .hole })
        else {
            space.skippedSegmentCount = 1
            return space
        }
        let alive = alive(contents, in: number)
        let aliveBytes = alive.reduce(UInt64(0)) {
            $0 + RecordFormat.recordByteCount(Int($1.byteCount), segment.kind)
        }
        switch segment.kind {
        case .bulk:
            if alive.isEmpty, try remove(number, segment, contents) {
                space.removedSegmentCount = 1
                space.removedFileBytes = segment.fileByteCount
                return space
            }
        case .log:
            let isMostlyDead = Double(aliveBytes) <= Double(segment.payloadRecordBytes) * policy.compactsBelow
            // A segment of batches alone is mostly dead as soon as they are.
            if isMostlyDead, mayRemove(number, .log), !isLogNeeded(number),
                try move(alive, reader, upTo: .max, &space)
            {
                if try remove(number, segment, contents) {
                    space.removedSegmentCount = 1
                    space.removedFileBytes = segment.fileByteCount
                }
                return space
            }
        }
        try punch(contents, segment, reader, aliveBytes, &space)
        return space
    }

    /// A segment that was left after an error gets no footer and no holes: it would be read through at every opening, and
    /// keep the space of what dies in it, for ever.
    private func empty(_ number: UInt32, _ segment: Segment) throws(VolumeError) -> ReclaimedSpace {
        var space = ReclaimedSpace()
        guard mayRemove(number, segment.kind), !(segment.kind == .log && isLogNeeded(number)) else {
            return space
        }
        let contents = try sealedContents(number)
        // What is lost in it must have been seen by a scrub: with the segment the last sign of it goes.
        let reader = try segmentReader(number)
        let target = ScrubTarget(reader, limit: .max, isOpen: false, contents: contents)
        guard !hasUntoldHoles(contents, in: number), strayEntries(target).isEmpty else {
            space.skippedSegmentCount = 1
            return space
        }
        let alive = alive(contents, in: number)
        // Copies need their room before the originals give up theirs.
        guard alive.isEmpty || !isFull && !isNearlyFull else { return space }
        guard try move(alive, reader, upTo: Self.emptyByteCount, &space) else { return space }
        if !space.isUnfinished, try remove(number, segment, contents) {
            space.removedSegmentCount = 1
            space.removedFileBytes = segment.fileByteCount
        }
        return space
    }

    /// Bounds a step in which a segment is emptied.
    private static let emptyByteCount: UInt64 = 32 << 20

    private func alive(_ contents: SegmentContents, in number: UInt32) -> [SegmentContents.Entry] {
        contents.entries.filter { isIndexed($0.digest, at: RecordLocation(segment: number, unit: $0.unit)) }
    }

    private func hasUntoldHoles(_ contents: SegmentContents, in number: UInt32) -> Bool {
        let holes = contents.chain.filter { $0.kind == .hole }
        return state.withLock { state in
            holes.contains { hole in
                state.spentHoles[RecordLocation(segment: number, unit: hole.unit), default: 0] < hole.number
            }
        }
    }

    /// Seals open segments of which much is dead, so that the space in them can be given back.
    /// - Parameter force: whatever is dead in them: the volume is full.
    package func sealForReclaiming(_ policy: ReclaimPolicy, force: Bool) throws(VolumeError) -> Int {
        var count = 0
        let floor = force ? 1 : policy.sealsAtDeadBytes
        func isDue(_ number: UInt32?) -> Bool {
            guard let number else { return false }
            return state.withLock { $0.segments[number]?.deadRecordBytes ?? 0 } >= floor
        }
        if isDue(writer.withLock { $0.bulk?.number }) {
            try bulkGate.withLock { _ throws(VolumeError) in
                try writer.withLock { writer throws(VolumeError) in
                    try checkUsable()
                    do throws(VolumeError) {
                        try sealBulk(&writer)
                    } catch {
                        // The footer of a full disk's segment takes the room that is kept for such things, which is made
                        // again once there is some.
                        guard error.code == .full, IdentityReserve.release(on: disk) else { throw error }
                        try sealBulk(&writer)
                    }
                }
            }
            count += 1
        }
        let open = writer.withLock { $0.log?.number }
        let deadInLog = state.withLock { state in open.flatMap { state.segments[$0]?.deadRecordBytes } ?? 0 }
        if deadInLog >= policy.sealsAtDeadBytes, preparer.readySize != nil {
            try withLogWriter { writer throws(VolumeError) in
                try checkUsable()
                try sealLog(&writer)
                try activateLog(capacity: RecordFormat.segmentHeaderByteCount * 2, &writer)
            }
            count += 1
        }
        return count
    }

    /// Makes again what a full disk cost: the reserve, the spare log segment.
    package func restoreSpare() {
        IdentityReserve.ensure(on: disk)
        guard preparer.readySize == nil, !isFull else { return }
        prepareSpare(after: options.logSegmentSizeMin)
    }

    // MARK: Holes

    private func punch(
        _ contents: SegmentContents,
        _ segment: Segment,
        _ reader: SegmentReader,
        _ aliveBytes: UInt64,
        _ space: inout ReclaimedSpace
    ) throws(VolumeError) {
        let file: any DiskFile
        let allocated: UInt64
        do throws(DiskError) {
            file = try disk.open(SegmentFiles.name(reader.number, reader.kind), .update)
            allocated = try file.allocatedSize()
        } catch {
            throw VolumeError(
                .inputOutput,
                "Segment \(reader.number) can't be opened.",
                path: disk.label,
                cause: error
            )
        }
        defer { file.close() }
        // Holes that were made before are no news: what is allocated is what is alive, and a little.
        let heads = UInt64(contents.entries.count) * SegmentKind.bulk.alignment
        guard allocated > aliveBytes + heads + Self.punchSlack else { return }
        for range in holes(contents, reader) {
            do throws(DiskError) {
                try file.punchHole(offset: range.lowerBound, length: range.upperBound - range.lowerBound)
            } catch {
                // A file system without holes: the space stays until the segment goes.
                return
            }
            space.punchedBytes += range.upperBound - range.lowerBound
        }
        if let left = try? file.allocatedSize(), left < allocated {
            space.punchedBytes = min(space.punchedBytes, allocated - left)
        } else {
            space.punchedBytes = 0
        }
    }

    /// Below this much nothing is looked for: heads, footers, the file system's own blocks.
    private static let punchSlack: UInt64 = 64 << 10

    /// Payloads of dead records, as far as they are whole pages. Headers stay: should the footer be damaged some day, a
    /// walk steps over the holes by them.
    private func holes(_ contents: SegmentContents, _ reader: SegmentReader) -> [Range<UInt64>] {
        let page = SegmentKind.bulk.alignment
        var ranges: [Range<UInt64>] = []
        for entry in contents.entries {
            let location = RecordLocation(segment: reader.number, unit: entry.unit)
            if isIndexed(entry.digest, at: location) { continue }
            let count = Int(entry.byteCount)
            let headEnd = location.offset + UInt64(RecordFormat.headByteCount(count))
            let start = RecordFormat.roundedUp(headEnd, to: page)
            let end = (location.offset + RecordFormat.recordByteCount(count, reader.kind)) / page * page
            if start < end { ranges.append(start..<end) }
        }
        return ranges
    }

    // MARK: Compaction

    /// Copies live records forward, verified, and makes the copies durable; then only these are in the index.
    /// - Parameter byteCountMax: after so many it ends, and `space` tells that there is more.
    /// - Returns: false when one can't be read: the segment stays as it is.
    private func move(
        _ alive: [SegmentContents.Entry],
        _ reader: SegmentReader,
        upTo byteCountMax: UInt64,
        _ space: inout ReclaimedSpace
    ) throws(VolumeError) -> Bool {
        // Bounds the memory of a group, and how long one holds the log. Bulk segments pay for each with two syncs.
        let byteCountOfGroup = reader.kind == .log ? 1 << 20 : 4 << 20
        var next = 0
        while next < alive.count {
            if space.movedBytes >= byteCountMax {
                space.isUnfinished = true
                return true
            }
            var payloads: [PayloadRecord] = []
            var moved: [GarbageCandidate] = []
            /// Of these the other copy counts, as long as it is there.
            var copied: Set<Digest> = []
            var byteCount = 0
            while next < alive.count, byteCount < byteCountOfGroup {
                let entry = alive[next]
                let location = reader.location(UInt64(entry.unit) * RecordFormat.unit)
                next += 1
                // Condemned since it was listed, or repaired.
                guard isIndexed(entry.digest, at: location) else { continue }
                moved.append(
                    GarbageCandidate(
                        digest: entry.digest,
                        location: location,
                        byteCount: Int(entry.byteCount),
                        recordByteCount: RecordFormat.recordByteCount(Int(entry.byteCount), reader.kind)
                    )
                )
                byteCount += Int(entry.byteCount)
                if hasAnotherCopy(of: entry.digest, besides: reader.number) {
                    copied.insert(entry.digest)
                    continue
                }
                let bytes: [UInt8]
                do throws(VolumeError) {
                    let (header, read) = try reader.strictRecord(at: location)
                    guard header.digest == entry.digest else { return false }
                    bytes = read
                } catch {
                    guard error.code == .corrupt || error.code == .inputOutput else { throw error }
                    space.skippedSegmentCount += 1
                    return false
                }
                payloads.append(PayloadRecord(digest: entry.digest, bytes: bytes))
            }
            if reader.kind == .bulk, !payloads.isEmpty {
                for payload in payloads { try appendBulk(payload) }
                try syncBulk()
            }
            // A repair may have met the other copy meanwhile, and counted on this one: it stays for the next run.
            moved.removeAll { record in
                copied.contains(record.digest)
                    && otherPlaces(of: record.digest, besides: reader.number).isEmpty
            }
            guard !moved.isEmpty else { continue }
            let tombstones = moved.map {
                SegmentContents.Tombstone(digest: $0.digest, location: $0.location)
            }
            switch reader.kind {
            case .log:
                try withLogWriter { writer throws(VolumeError) in
                    try checkUsable()
                    // In one group: the copies, and the death of the originals.
                    try append(Group(payloads: payloads, tombstones: tombstones, closer: .mark), &writer)
                    try syncOpen(\.log, &writer)
                }
            case .bulk:
                try writeTombstones(tombstones)
            }
            // The old places go only now. Readers that are there find the new ones.
            for record in withdraw(moved) {
                state.withLock { state in
                    state.payloadByteCount -= min(state.payloadByteCount, UInt64(record.byteCount))
                    state.noteDead(record.location.segment, payloadByteCount: record.byteCount)
                }
                space.movedBytes += UInt64(record.byteCount)
            }
        }
        return true
    }

    /// Whether another segment has a payload as well, durably and good: a run that ended early has left a copy, or a repair.
    private func hasAnotherCopy(of digest: Digest, besides number: UInt32) -> Bool {
        otherPlaces(of: digest, besides: number).contains { other in
            (try? segmentReader(other.segment).strictRecord(at: other).0.digest) == digest
        }
    }

    private func otherPlaces(of digest: Digest, besides number: UInt32) -> [RecordLocation] {
        state.withLock { state in
            state.index.locations(of: LocationIndex.fingerprint(of: digest)).filter { other in
                other.segment != number && other.offset < state.segments[other.segment]?.syncedEnd ?? 0
            }
        }
    }

    /// Whether a later segment of the same kind is there: the watermarks name that one.
    private func mayRemove(_ number: UInt32, _ kind: SegmentKind) -> Bool {
        let frozen = writer.withLock { $0.identityFile.memory.frozen.map(\.number) }
        return state.withLock { state in
            state.segments.contains {
                $0.key > number && $0.value.kind == kind && !frozen.contains($0.key)
            }
        }
    }

    /// Whether the commit log needs a segment, or is in a state in which nothing of it is taken away.
    private func isLogNeeded(_ number: UInt32) -> Bool {
        state.withLock { $0.isLogDamaged || $0.chain.isDamaged || $0.chain.reaches(into: number) }
    }

    /// Removes the file of a sealed segment in which nothing is alive.
    /// - Returns: false when it has to stay.
    private func remove(
        _ number: UInt32,
        _ segment: Segment,
        _ contents: SegmentContents
    ) throws(VolumeError) -> Bool {
        guard mayRemove(number, segment.kind) else { return false }
        let isAlive = contents.entries.contains {
            isIndexed($0.digest, at: RecordLocation(segment: number, unit: $0.unit))
        }
        if isAlive || segment.kind == .log && isLogNeeded(number) { return false }
        try writeAgain(contents.tombstones, except: number)
        try withLogWriter { writer throws(VolumeError) in
            try checkUsable()
            if !contents.chain.isEmpty {
                // All in front of the place that is named is durable.
                try syncOpen(\.log, &writer)
            }
            if !contents.chain.isEmpty, let log = writer.log {
                let base = state.withLock { $0.chain.base }
                writer.identityFile.memory.logFloor = .init(
                    position: base,
                    from: RecordLocation(segment: log.number, offset: log.end)
                )
                writer.identityFile.identity.formatMajor = VolumeIdentity.formatMajorMax
            }
            // The watermarks of now, so that none names the segment.
            try writeIdentity(&writer)
            let identity = writer.identityFile.identity
            state.withLock { $0.identity = identity }
        }
        let name = SegmentFiles.name(number, segment.kind)
        // First here: a scrub that comes to it meanwhile must not take it for lost.
        state.withLock { state in
            state.segments[number] = nil
            state.files.remove(number)
        }
        do throws(DiskError) {
            try disk.remove(name)
            try disk.syncDirectory("segments")
        } catch {
            if (try? disk.exists(name)) == true { state.withLock { $0.segments[number] = segment } }
            throw VolumeError(
                .inputOutput,
                "Segment \(number) can't be removed.",
                path: disk.label,
                cause: error
            )
        }
        // Only now: as long as the file is there, what stands behind the place where it was left is no record. And not when
        // the volume was closed meanwhile: what it left behind is somebody else's now.
        try writer.withLock { writer throws(VolumeError) in
            guard writer.identityFile.memory.frozen.contains(where: { $0.number == number }) else { return }
            try checkUsable()
            writer.identityFile.memory.frozen.removeAll { $0.number == number }
            try writeIdentity(&writer)
        }
        return true
    }

    /// Tombstones whose places are still there must outlive the segment that they stand in.
    private func writeAgain(
        _ tombstones: [SegmentContents.Tombstone],
        except number: UInt32
    ) throws(VolumeError) {
        let kept = state.withLock { state in
            tombstones.filter { $0.location.segment != number && state.segments[$0.location.segment] != nil }
        }
        for start in stride(from: 0, to: kept.count, by: RecordFormat.tombstoneCountMax) {
            try writeTombstones(Array(kept[start..<min(start + RecordFormat.tombstoneCountMax, kept.count)]))
        }
    }
}

extension CommitChain {
    /// Whether a batch that counts stands in a segment.
    func reaches(into segment: UInt32) -> Bool { entries.contains { $0.location.segment == segment } }
}
