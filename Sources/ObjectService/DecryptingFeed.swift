internal import Catalog
internal import Encryption
internal import StoreModel

/// Opens what another feed reads: a range of an encrypted version.
///
/// 1. Frames that hold the range are read, and no others, but for the salt of a part in whose middle the range begins.
/// 2. What comes is whole frames of one segment at a time, because chunks end where frames do and every segment begins
///    a chunk. Nothing of a frame is handed out before all of it is known to be authentic.
final class DecryptingFeed<Storage: ReplicatedStorage>: ChunkFeed {
    /// A segment as far as the range goes into it.
    private struct Stretch {
        let layout: SegmentLayout
        let frames: FrameRange
        /// Where the segment begins in what is stored.
        let storedStart: UInt64
        /// Bytes of plaintext that are in the range.
        let count: UInt64
    }

    private let version: VersionRow
    private let range: ByteRange
    private let dataKey: EncryptionKey
    private let storage: Storage
    private let limits: PipelineLimits
    private let shared: SharedAllowance
    private let audience: Audience
    private let rescue: (any ContentRescue)?
    private var frames: ChunkPrefetch<Storage>?
    private let framesRoom = ArrayRoom()
    private var stretches: ArraySlice<Stretch> = []
    private var cipher: SegmentCipher?
    private var nextFrame: UInt64 = 0
    /// What is left of the current stretch.
    private var rest: UInt64 = 0
    private var skip = 0

    init(
        _ version: VersionRow,
        _ range: ByteRange,
        _ dataKey: EncryptionKey,
        storage: Storage,
        limits: PipelineLimits,
        shared: SharedAllowance,
        audience: Audience,
        rescue: (any ContentRescue)? = nil
    ) {
        self.audience = audience
        self.rescue = rescue
        self.version = version
        self.range = range
        self.dataKey = dataKey
        self.storage = storage
        self.limits = limits
        self.shared = shared
    }

    func next(into room: any PieceRoom) async throws -> ObjectPiece? {
        if frames == nil { try await begin() }
        if rest == 0, try await !enterStretch() { return nil }
        guard let frames, let stored = try await framesRoom.next(of: frames), let stretch = stretches.first
        else {
            throw damaged("its frames end early")
        }
        var cipher = cipher
        do throws(EncryptionError) {
            if cipher == nil {
                cipher = try SegmentCipher.part(stretch.layout.partNumber, dataKey, stored: stored)
                self.cipher = cipher
            }
            guard let cipher else { throw EncryptionError(.malformed, "a part has no salt") }
            let plaintext = try cipher.open(
                stored,
                firstFrame: nextFrame,
                frameCount: stretch.layout.frameCount
            )
            return .bytes(take(plaintext, stored))
        } catch {
            throw damaged(error.message)
        }
    }

    /// Cuts the range out of opened frames.
    private func take(_ plaintext: [UInt8], _ stored: [UInt8]) -> [UInt8] {
        let frameSize = FrameFormat.storedByteCountMax
        nextFrame += UInt64((stored.count + frameSize - 1) / frameSize)
        let isWhole = skip == 0 && UInt64(plaintext.count) <= rest
        let wanted =
            isWhole
            ? plaintext : [UInt8](plaintext.dropFirst(skip).prefix(Int(min(rest, UInt64(plaintext.count)))))
        skip = 0
        rest -= UInt64(wanted.count)
        if rest == 0 { stretches.removeFirst() }
        return wanted
    }

    // MARK: Segments

    private func begin() async throws {
        let segments = try await version.storedSegments(from: storage)
        stretches = stretches(of: range, in: segments)[...]
        var (lower, upper) = (UInt64(0), UInt64(0))
        if let first = stretches.first, let last = stretches.last {
            lower = first.storedStart + first.frames.stored.lowerBound
            upper = last.storedStart + last.frames.stored.upperBound
        }
        frames = ChunkPrefetch(
            try cursor(lower..<upper),
            storage: storage,
            countMax: limits.chunksInFlightMax,
            shared: shared,
            offset: lower,
            rescue: rescue.map {
                let source = SealedChunkRescue(
                    source: $0,
                    version: version,
                    dataKey: dataKey,
                    segments: segments,
                    storage: storage
                )
                return AwaitedChunks(source: source, audience: audience)
            }
        )
    }

    /// - Returns: whether there is another one.
    private func enterStretch() async throws -> Bool {
        guard let stretch = stretches.first else { return false }
        nextFrame = stretch.frames.frames.lowerBound
        skip = stretch.frames.skip
        rest = stretch.count
        cipher = nil
        if stretch.layout.partNumber == 0 {
            cipher = .whole(dataKey)
        } else if nextFrame > 0 {
            cipher = try await storedCipher(of: stretch)
        }
        return true
    }

    /// Reads the salt of a part whose first frame is not in the range.
    private func storedCipher(of stretch: Stretch) async throws -> SegmentCipher {
        let end = stretch.storedStart + UInt64(FrameFormat.saltByteCount)
        var cursor = try cursor(stretch.storedStart..<end)
        let salt = try await cursor.bytes()
        do throws(EncryptionError) {
            return try SegmentCipher.part(stretch.layout.partNumber, dataKey, stored: salt)
        } catch {
            throw damaged(error.message)
        }
    }

    private func cursor(_ stored: Range<UInt64>) throws -> ManifestCursor<Storage> {
        let size = version.storedSize
        guard stored.upperBound <= size else { throw damaged("it has \(size) bytes") }
        let range =
            stored.isEmpty
            ? ByteRange(wholeOf: 0)
            : try ByteRange(offset: stored.lowerBound, length: UInt64(stored.count), of: size)
        return ManifestCursor(version.manifest, size: size, range: range, storage: storage)
    }

    private func stretches(of range: ByteRange, in segments: [StoredSegment]) -> [Stretch] {
        segments.compactMap { segment in
            let layout = segment.layout
            let (lower, upper) = (
                max(range.offset, segment.start), min(range.end, segment.start + layout.size)
            )
            guard lower < upper else { return nil }
            return Stretch(
                layout: layout,
                frames: layout.frames(of: lower - segment.start..<upper - segment.start),
                storedStart: segment.storedStart,
                count: upper - lower
            )
        }
    }

    private func damaged(_ what: String) -> StoreError { version.unopenable(what) }
}
