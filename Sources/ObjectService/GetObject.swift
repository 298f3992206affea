package import Catalog
package import Encryption
package import StoreModel

/// Which bytes of an object are asked for, before its size is known.
/// https://www.rfc-editor.org/rfc/rfc9110#name-range
package enum RequestedRange: Hashable, Sendable {
    case whole
    /// From an offset; nil means to the end, and more than there is means to the end as well.
    case from(UInt64, length: UInt64?)
    /// The last bytes; more than there are means all.
    case last(UInt64)

    /// - Throws: `StoreError` with `.invalidRange` when no byte of the object is in it.
    package func resolved(size: UInt64) throws(StoreError) -> ByteRange {
        switch self {
        case .whole: return ByteRange(wholeOf: size)
        case .from(let offset, let length): return try ByteRange(offset: offset, length: length, of: size)
        case .last(let length):
            guard length > 0, size > 0 else {
                throw StoreError(.invalidRange, "The last \(length) of \(size) bytes are none.")
            }
            return try ByteRange(offset: size - min(length, size), length: nil, of: size)
        }
    }
}

extension ObjectStore {
    /// Opens a version for reading; the reader keeps to this version whatever is written meanwhile.
    /// - Parameter clientKey: the key of a version that was encrypted with a client's key.
    /// - Throws: also `.encryptionKeyMissing`, `.encryptionKeyUnexpected`, `.accessDenied` for another key than the
    ///   right one, `.masterKeyUnavailable`.
    package func get(
        _ address: VersionAddress,
        range: RequestedRange = .whole,
        clientKey: EncryptionKey? = nil
    ) async throws -> ObjectReader {
        let hold = storage.hold()
        let version = try await readableVersion(address)
        return try read(version, range, clientKey, hold)
    }

    /// Opens a version whose row is at hand, for a further range of it for example.
    /// - Parameter isLeft: whether nobody waits for the bytes any more: asked while something long is done for them.
    package func read(
        _ version: VersionRow,
        range: RequestedRange = .whole,
        clientKey: EncryptionKey? = nil,
        isLeft: @escaping @Sendable () -> Bool = { false }
    ) throws -> ObjectReader {
        try read(version, range, clientKey, storage.hold(), isLeft)
    }

    private func read(
        _ version: VersionRow,
        _ range: RequestedRange,
        _ clientKey: EncryptionKey?,
        _ hold: (any StorageHold)?,
        _ isLeft: @escaping @Sendable () -> Bool = { false }
    ) throws -> ObjectReader {
        precondition(!version.isDeleteMarker, "A delete marker has no bytes.")
        hold?.attach([version.manifest])
        let resolved = try range.resolved(size: version.size)
        let dataKey = try dataKey(of: version, clientKey: clientKey)
        let audience = Audience(hasLeft: isLeft, clock: clock)
        return ObjectReader(version, resolved, feed(version, resolved, dataKey, audience, storage), hold) {
            [self] delivered in
            guard try await restoreManifest(of: version, for: audience) else { return nil }
            let rest = try ByteRange(
                offset: resolved.offset + delivered,
                length: resolved.length - delivered,
                of: version.size
            )
            return feed(version, rest, dataKey, audience, storage)
        }
    }

    private func feed<Storage: ReplicatedStorage>(
        _ version: VersionRow,
        _ range: ByteRange,
        _ dataKey: EncryptionKey?,
        _ audience: Audience,
        _ storage: Storage
    ) -> any ChunkFeed {
        if let dataKey {
            return DecryptingFeed(
                version,
                range,
                dataKey,
                storage: storage,
                limits: limits,
                shared: readAhead,
                audience: audience,
                rescue: rescue
            )
        }
        return ChunkPrefetch(
            ManifestCursor(version.manifest, size: version.size, range: range, storage: storage),
            storage: storage,
            countMax: limits.chunksInFlightMax,
            shared: readAhead,
            offset: range.offset,
            rescue: rescue.map {
                AwaitedChunks(
                    source: ChunkRescue(source: $0, version: version, storage: storage),
                    audience: audience
                )
            }
        )
    }
}

/// The bytes of a version, in order. Used by one task; releasing it ends the reads that are under way.
///
/// Every piece was verified against its name or its checksums on this read. A piece that no replica has makes
/// `next()` throw, and every later call as well: a body that ends early never looks like one that is complete.
package final class ObjectReader {
    package let version: VersionRow
    package let range: ByteRange
    private var feed: any ChunkFeed
    private lazy var arrays = ArrayRoom()
    /// What goes on after so many bytes, where it could be put right why no replica has the rest; asked once.
    private var mend: ((UInt64) async throws -> (any ChunkFeed)?)?
    /// Bytes that were handed out.
    package private(set) var deliveredCount: UInt64 = 0
    private var failure: (any Error)?
    /// The version may be deleted meanwhile; its bytes stay until this reader is gone.
    private let hold: (any StorageHold)?

    init(
        _ version: VersionRow,
        _ range: ByteRange,
        _ feed: any ChunkFeed,
        _ hold: (any StorageHold)?,
        mend: @escaping (UInt64) async throws -> (any ChunkFeed)?
    ) {
        self.mend = mend
        self.hold = hold
        self.version = version
        self.range = range
        self.feed = feed
    }

    /// - Returns: the next piece, at most one chunk; nil when the whole range was delivered.
    package func next() async throws -> [UInt8]? {
        let room = arrays
        switch try await next(into: room) {
        case .bytes(let bytes): return bytes
        case .placed: return room.take()
        case nil: return nil
        }
    }

    /// The same; what can be had without waiting is put into the room.
    package func next(into room: any PieceRoom) async throws -> ObjectPiece? {
        if let failure { throw failure }
        do {
            guard let piece = try await nextPiece(room) else {
                guard deliveredCount == range.length else {
                    throw StoreError(
                        .internalFault,
                        "The read ended after \(deliveredCount) of \(range.length) bytes."
                    )
                }
                return nil
            }
            deliveredCount += UInt64(piece.count)
            return piece
        } catch {
            failure = error
            throw error
        }
    }

    private func nextPiece(_ room: any PieceRoom) async throws -> ObjectPiece? {
        do {
            return try await feed.next(into: room)
        } catch let error as StoreError where error.code == .dataUnavailable {
            guard let mend else { throw error }
            self.mend = nil
            guard let mended = try await mend(deliveredCount) else { throw error }
            feed = mended
            return try await feed.next(into: room)
        }
    }
}
