package import StoreModel
internal import Synchronization

/// A payload record that nobody may need any more: its name, and the place of this copy. Deletion is by place, never by
/// name, so that a late one can't hit a newer copy.
package struct GarbageCandidate: Hashable, Sendable {
    package let digest: Digest
    package let location: RecordLocation
    package let byteCount: Int
    /// With header and padding.
    package let recordByteCount: UInt64
}

/// Places in front of which records count as old enough to be garbage.
package struct GarbageHorizon: Hashable, Sendable {
    package var log: RecordLocation
    package var bulk: RecordLocation

    package static let everything = GarbageHorizon(
        log: RecordLocation(segment: .max, unit: .max),
        bulk: RecordLocation(segment: .max, unit: .max)
    )
}

/// Garbage collection, first half: which records are dead. What becomes of their space: BlobVolume+Reclaim.swift.
///
/// The order, each step durable before the next:
/// 1. Candidates: records in front of the horizon whose names are not in the live set.
/// 2. `withdraw`: under the lock of whoever pins payloads, the records leave the index. From here on an upload of the
///    same bytes does not find them and writes them anew, at another place.
/// 3. `bury`: tombstones in the volume's own log, fsynced: the condemned set, by place. A crash before that leaves the
///    records as they were: whole, and garbage for the next run.
/// 4. Only then is space given back.
extension BlobVolume {
    /// Where the next records go: what stands there later is younger than now.
    package var presentEnd: GarbageHorizon {
        writer.withLock { writer in
            let next = RecordLocation(segment: writer.nextSegmentNumber, unit: 0)
            return GarbageHorizon(
                log: writer.log.map { RecordLocation(segment: $0.number, offset: $0.end) } ?? next,
                bulk: writer.bulk.map { RecordLocation(segment: $0.number, offset: $0.end) } ?? next
            )
        }
    }

    /// The segments of now, oldest first.
    package var segmentNumbers: [UInt32] { state.withLock { $0.segments.keys.sorted() } }

    /// Live records of one segment whose name is not wanted, in the order of their places; none for a segment that is
    /// gone.
    /// - Throws: `.inputOutput`, `.corrupt` when the segment can't be read.
    package func garbageCandidates(
        in number: UInt32,
        before horizon: GarbageHorizon,
        isWanted: (Digest) -> Bool
    ) throws(VolumeError) -> [GarbageCandidate] {
        guard let (kind, contents) = try contents(ofSegment: number) else { return [] }
        let end = kind == .log ? horizon.log : horizon.bulk
        var candidates: [GarbageCandidate] = []
        for entry in contents.entries {
            let location = RecordLocation(segment: number, unit: entry.unit)
            guard location < end else { break }
            if isWanted(entry.digest) || !isIndexed(entry.digest, at: location) { continue }
            candidates.append(
                GarbageCandidate(
                    digest: entry.digest,
                    location: location,
                    byteCount: Int(entry.byteCount),
                    recordByteCount: RecordFormat.recordByteCount(Int(entry.byteCount), kind)
                )
            )
        }
        return candidates
    }

    /// Takes records out of the index. Touches no disk: made to be called under a lock.
    /// - Returns: those that were in it.
    package func withdraw(_ candidates: [GarbageCandidate]) -> [GarbageCandidate] {
        state.withLock { state in
            candidates.filter { state.index.remove(LocationIndex.fingerprint(of: $0.digest), $0.location) }
        }
    }

    /// Makes the death of withdrawn records durable. When that does not succeed they are back in the index: nothing has
    /// happened.
    /// - Throws: `.full`, `.failed`, `.closed`.
    package func bury(_ withdrawn: [GarbageCandidate]) throws(VolumeError) {
        var done = 0
        do throws(VolumeError) {
            while done < withdrawn.count {
                let end = min(done + RecordFormat.tombstoneCountMax, withdrawn.count)
                let part = withdrawn[done..<end]
                try writeTombstones(part.map { .init(digest: $0.digest, location: $0.location) })
                state.withLock { state in
                    for record in part {
                        state.payloadByteCount -= min(state.payloadByteCount, UInt64(record.byteCount))
                        state.noteDead(record.location.segment, payloadByteCount: record.byteCount)
                    }
                }
                done = end
            }
        } catch {
            state.withLock { state in
                for record in withdrawn[done...] {
                    state.index.insert(LocationIndex.fingerprint(of: record.digest), record.location)
                }
            }
            throw error
        }
    }

    /// Appends tombstones and makes them durable. They are no payloads: the reserve of a full volume is for them.
    func writeTombstones(_ tombstones: [SegmentContents.Tombstone]) throws(VolumeError) {
        try withLogWriter { writer throws(VolumeError) in
            try checkUsable()
            try append(Group(tombstones: tombstones, closer: .mark), &writer)
            try syncOpen(\.log, &writer)
        }
    }

    /// What a segment holds, open or sealed; nil when there is none of this number.
    func contents(ofSegment number: UInt32) throws(VolumeError) -> (SegmentKind, SegmentContents)? {
        try checkReadable()
        let open = writer.withLock { writer in
            [writer.log, writer.bulk].compactMap { $0 }.first { $0.number == number }
        }
        if let open { return (open.kind, open.contents) }
        guard let kind = state.withLock({ $0.segments[number]?.kind }) else { return nil }
        do throws(VolumeError) {
            return (kind, try sealedContents(number))
        } catch {
            if state.withLock({ $0.segments[number] == nil }) { return nil }
            throw error
        }
    }
}

/// Bounds that callers keep to.
package enum RecordFormatLimits {
    /// Tombstones of one record, which are one step of a burial.
    package static let tombstoneCountMax = RecordFormat.tombstoneCountMax
}

extension BlobVolume {
    package func isLogSegment(_ number: UInt32) -> Bool {
        state.withLock { $0.segments[number]?.kind == .log }
    }

    /// The segments of now, those first of which the most is dead.
    package var segmentsByDeath: [UInt32] {
        state.withLock { state in
            state.segments.map { number, segment in
                (number, Double(segment.deadRecordBytes) / Double(max(segment.payloadRecordBytes, 1)))
            }
            .sorted { ($1.1, $0.0) < ($0.1, $1.0) }.map(\.0)
        }
    }
}
