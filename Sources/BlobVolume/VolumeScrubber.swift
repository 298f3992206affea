internal import StoreModel
internal import Synchronization

extension BlobVolume {
    /// A walk over all segments, sealed and open, that reads every byte and compares it with what it should be.
    /// - Parameters:
    ///   - cursor: where an earlier walk ended.
    ///   - last: the last segment to be looked at; nil: the newest that there is now.
    package func makeScrubber(from cursor: ScrubCursor = .start, through last: UInt32? = nil)
        -> VolumeScrubber
    {
        VolumeScrubber(self, from: cursor, through: last ?? newestSegment)
    }

    private var newestSegment: UInt32 { state.withLock { $0.segments.keys.max() ?? 0 } }

    /// Sizes of the segments between two places.
    func byteCount(from cursor: ScrubCursor, through last: UInt32) -> UInt64 {
        state.withLock { state in
            state.segments.reduce(0) { total, entry in
                guard entry.key >= cursor.segment, entry.key <= last else { return total }
                let isCurrent = entry.key == cursor.segment
                return total + entry.value.fileByteCount
                    - (isCurrent ? min(cursor.offset, entry.value.fileByteCount) : 0)
            }
        }
    }
}

/// Walks over the segments of a volume, step by step, on whatever thread its owner gives it; readers and writers go on.
///
/// #### Invariants
/// 1. Every byte of the segments up to `lastSegment` is read once, or belongs to a record that is dead or to a hole
///    that is known. Records that are appended meanwhile belong to the next walk.
/// 2. Nothing is written but to put right what can be derived on the spot (headers of segments, footers, padding, the
///    identity), and only into segments that are sealed: an open one is sealed first.
/// 3. What vanishes under the walk (a segment that was compacted) is no damage.
/// 4. `ScrubStep.cursor` never lies behind something that was found and not yet put right.
package final class VolumeScrubber: Sendable {
    package let lastSegment: UInt32
    private let volume: BlobVolume
    private let walk: Mutex<ScrubWalk>

    init(_ volume: BlobVolume, from cursor: ScrubCursor, through last: UInt32) {
        self.volume = volume
        lastSegment = last
        walk = Mutex(ScrubWalk(volume, from: cursor, through: last))
    }

    /// Bytes that are still to be read from a place on.
    package func remainingByteCount(from cursor: ScrubCursor) -> UInt64 {
        volume.byteCount(from: cursor, through: lastSegment)
    }

    /// Looks at about `byteCount` bytes, at least at one record.
    /// - Throws: `.inputOutput` when the disk gives nothing but errors, `.failed` when the volume's files are gone,
    ///   `.closed`, `.unsupportedFormat`.
    package func step(byteCount: UInt64) throws(VolumeError) -> ScrubStep {
        var step = try walk.withLock { walk throws(VolumeError) in try walk.step(byteCount) }
        // A read may have met the same damage meanwhile, and it is repaired already.
        step.damage.removeAll { damage in
            guard damage.remedy == .replace, let digest = damage.digest, let location = damage.location
            else { return false }
            return volume.isReplaced(digest, location)
        }
        return step
    }
}
