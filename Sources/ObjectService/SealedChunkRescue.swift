internal import Catalog
internal import ContentHashing
internal import Encryption
internal import StoreModel

/// Makes a chunk of an encrypted version anew that no replica has any more: a mirror has the plaintext, and sealing it with
/// the version's own key gives the same bytes again.
///
/// Only bytes whose SHA-256 is the chunk's name count. A part's salt stands at its beginning: with the chunk that begins a
/// part the salt is lost, and the bytes can't be made again.
struct SealedChunkRescue<Storage: ReplicatedStorage>: LostChunkSource {
    let source: any ContentRescue
    let version: VersionRow
    let dataKey: EncryptionKey
    let segments: [StoredSegment]
    let storage: Storage

    /// - Parameter start: where the chunk begins in what is stored.
    func chunk(_ chunk: ChunkReference, at start: UInt64) async -> [UInt8]? {
        guard let found = await sealed(chunk, at: start) else { return nil }
        // What can't be repaired now is found again by the next read.
        _ = try? await storage.write(chunk.digest, bytes: found.bytes, waitsForCommit: false)
        return found.bytes
    }

    /// The chunk's bytes, for whoever writes them.
    func sealed(_ chunk: ChunkReference, at start: UInt64) async -> RescuedBytes? {
        guard let segment = segments.last(where: { $0.storedStart <= start }),
            let place = SealedPlace(of: chunk, at: start - segment.storedStart, in: segment.layout),
            let range = try? ByteRange(
                offset: segment.start + place.plaintextStart,
                length: place.plaintextCount,
                of: version.size
            ),
            let cipher = try? await cipher(of: segment)
        else { return nil }
        let found = await source.bytes(of: version, range, from: nil) { plaintext in
            SHA256Hasher.hash(
                cipher.seal(plaintext, firstFrame: place.firstFrame, isEnd: place.isEnd)
            ) == chunk.digest
        }
        guard let found else { return nil }
        return RescuedBytes(
            bytes: cipher.seal(found.bytes, firstFrame: place.firstFrame, isEnd: place.isEnd),
            mirror: found.mirror
        )
    }

    private func cipher(of segment: StoredSegment) async throws -> SegmentCipher {
        guard segment.layout.partNumber > 0 else { return .whole(dataKey) }
        var cursor = ManifestCursor(
            version.manifest,
            size: version.storedSize,
            range: try ByteRange(
                offset: segment.storedStart,
                length: UInt64(FrameFormat.saltByteCount),
                of: version.storedSize
            ),
            storage: storage
        )
        return try SegmentCipher.part(
            segment.layout.partNumber,
            dataKey,
            stored: try await cursor.bytes()
        )
    }
}

/// A segment, where it begins in the content, and where in what is stored.
struct StoredSegment: Sendable {
    let layout: SegmentLayout
    let start: UInt64
    let storedStart: UInt64
}

extension VersionRow {
    /// The segments of an encrypted version, in order.
    func storedSegments<Storage: ReplicatedStorage>(from storage: Storage) async throws -> [StoredSegment] {
        var segments: [StoredSegment] = []
        var (start, storedStart) = (UInt64(0), UInt64(0))
        for layout in try await layouts(from: storage) {
            segments.append(StoredSegment(layout: layout, start: start, storedStart: storedStart))
            start += layout.size
            storedStart += layout.storedSize
        }
        guard start == size, storedStart == storedSize else {
            throw unopenable("its segments have \(start) bytes, \(storedStart) stored")
        }
        return segments
    }

    private func layouts<Storage: ReplicatedStorage>(from storage: Storage) async throws -> [SegmentLayout] {
        guard try encryption?.isInParts == true else {
            guard size <= Limits.objectSizeMax else { throw unopenable("it is too large") }
            return [SegmentLayout(partNumber: 0, size: size)]
        }
        guard let parts = try await loadParts(from: storage) else { throw unopenable("it has no parts") }
        return try parts.map { part in
            guard part.number > 0, part.size <= Limits.objectSizeMax else {
                throw unopenable("a part is too large")
            }
            return SegmentLayout(partNumber: part.number, size: part.size)
        }
    }

    func unopenable(_ what: String) -> StoreError {
        StoreError(
            .storeDamaged,
            "The encrypted version \(id) of \(quoted(key.bytes)) can't be opened: \(what)."
        )
    }
}

/// What a chunk of a segment holds.
struct SealedPlace: Hashable {
    let firstFrame: UInt64
    /// In the segment.
    let plaintextStart: UInt64
    let plaintextCount: UInt64
    let isEnd: Bool

    /// - Parameter start: where the chunk begins in the segment as it is stored.
    /// - Returns: nil when no chunk of the segment can stand there.
    init?(of chunk: ChunkReference, at start: UInt64, in layout: SegmentLayout) {
        let (storedFrame, frame) = (
            UInt64(FrameFormat.storedByteCountMax), UInt64(FrameFormat.plaintextByteCountMax)
        )
        let end = start + UInt64(chunk.length)
        guard start % storedFrame == 0, end <= layout.storedSize, chunk.length > 0 else { return nil }
        isEnd = end == layout.storedSize
        guard isEnd || end % storedFrame == 0 else { return nil }
        firstFrame = start / storedFrame
        let salt = layout.partNumber == 0 ? 0 : UInt64(FrameFormat.saltByteCount)
        plaintextStart = firstFrame == 0 ? 0 : firstFrame * frame - salt
        let plaintextEnd = isEnd ? layout.size : end / storedFrame * frame - salt
        guard plaintextStart < plaintextEnd, plaintextEnd <= layout.size else { return nil }
        plaintextCount = plaintextEnd - plaintextStart
    }
}
