package import StoreModel
internal import Synchronization

/// What the files of a volume take on its file system, by what it is for.
package struct VolumeUsage: Hashable, Sendable {
    /// Live payload records.
    package var liveBytes: UInt64 = 0
    /// Dead records whose space was not given back yet.
    package var reclaimableBytes: UInt64 = 0
    package var quarantineBytes: UInt64 = 0
    package var quarantineCount = 0
    /// Commit records, footers, room that is prepared: what is allocated and neither live nor dead payload.
    package var logBytes: UInt64 = 0
    package var freeBytes: UInt64 = 0
    package var totalBytes: UInt64 = 0
    package var liveRecordCount = 0
    package var segmentCount = 0

    package init() {}

    /// All that its files have allocated.
    package var allocatedBytes: UInt64 { liveBytes + reclaimableBytes + quarantineBytes + logBytes }
}

extension BlobVolume {
    /// Bytes of the records that the index has of a payload of so many bytes, with headers and padding. Several copies
    /// count each; a payload whose digest begins alike counts as one.
    package func recordBytes(of digest: Digest, length: UInt64) -> UInt64 {
        let fingerprint = LocationIndex.fingerprint(of: digest)
        return state.withLock { state in
            state.index.locations(of: fingerprint).reduce(0) { sum, location in
                guard let kind = state.segments[location.segment]?.kind else { return sum }
                return sum + RecordFormat.recordByteCount(Int(clamping: length), kind)
            }
        }
    }

    /// Measured, not estimated: asks the file system about every segment.
    /// - Throws: `.closed`, `.inputOutput`.
    package func usage() throws(VolumeError) -> VolumeUsage {
        try checkReadable()
        var usage = VolumeUsage()
        let (segments, recordCount) = state.withLock { ($0.segments, $0.index.count) }
        usage.liveRecordCount = recordCount
        usage.segmentCount = segments.count
        for (number, segment) in segments {
            let live = segment.payloadRecordBytes - min(segment.deadRecordBytes, segment.payloadRecordBytes)
            let allocated: UInt64
            do throws(DiskError) {
                let file = try disk.open(SegmentFiles.name(number, segment.kind), .read)
                defer { file.close() }
                allocated = try file.allocatedSize()
            } catch {
                // Compaction took it away meanwhile.
                if error.code == .notFound { continue }
                throw VolumeError(
                    .inputOutput,
                    "Segment \(number) can't be measured.",
                    path: disk.label,
                    cause: error
                )
            }
            let rest = allocated - min(live, allocated)
            usage.liveBytes += live
            // What is not allocated any more was given back.
            let overhead = segment.fileByteCount - min(segment.fileByteCount, segment.payloadRecordBytes)
            let dead = min(segment.deadRecordBytes, rest - min(rest, overhead))
            usage.reclaimableBytes += dead
            usage.logBytes += rest - dead
        }
        for name in [SparePreparer.readyName, SparePreparer.readyName + ".new"] {
            guard let file = try? disk.open(name, .read) else { continue }
            usage.logBytes += (try? file.allocatedSize()) ?? 0
            file.close()
        }
        let quarantine = quarantine
        usage.quarantineBytes = quarantine.byteCount
        usage.quarantineCount = quarantine.count
        if let space = try? disk.space() {
            usage.freeBytes = space.freeBytes
            usage.totalBytes = space.totalBytes
        }
        return usage
    }
}
