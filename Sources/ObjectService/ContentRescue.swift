package import Catalog
internal import ContentHashing
package import StoreModel

/// A stretch of a version's content, and where it came from.
package struct RescuedBytes: Sendable {
    package let bytes: [UInt8]
    /// The name of the mirror.
    package let mirror: String

    package init(bytes: [UInt8], mirror: String) {
        self.bytes = bytes
        self.mirror = mirror
    }
}

/// Copies of the content of versions elsewhere than on the replicas.
package protocol ContentRescue: Sendable {
    /// Whether there is anybody to be asked.
    func isThere() async -> Bool
    /// A stretch of a version's content, from the first mirror whose bytes are good.
    /// - Parameters:
    ///   - mirror: the only one to be asked; nil: all of them.
    ///   - isGood: compares the bytes with what they should be, where that is known.
    /// - Returns: nil when there are none to be had.
    func bytes(
        of version: VersionRow,
        _ range: ByteRange,
        from mirror: String?,
        where isGood: @Sendable ([UInt8]) -> Bool
    ) async -> RescuedBytes?
    /// The mirrors that have the version, by the store's own records: none of them is asked.
    func holders(of version: VersionRow) async -> [String]
}

/// Chunks that no replica has any more, from elsewhere; they are given back to the replicas.
protocol LostChunkSource: Sendable {
    /// - Parameter start: where the chunk begins in what the version's chunks are put together to.
    /// - Returns: bytes whose SHA-256 is the chunk's name, or nil.
    /// - Throws: `CancellationError` when nobody waits for them any more.
    func chunk(_ chunk: ChunkReference, at start: UInt64) async throws -> [UInt8]?
}

/// Those of another source, for somebody who may leave.
struct AwaitedChunks: LostChunkSource {
    /// A client that only closed its half looks like one that left. One chunk is not much: a mirror that answers is waited
    /// for, one that hangs is not.
    private static let patience = Duration.seconds(5)

    let source: any LostChunkSource
    let audience: Audience

    func chunk(_ chunk: ChunkReference, at start: UInt64) async throws -> [UInt8]? {
        try await audience.stays(longerBy: Self.patience) { [source] in
            try await source.chunk(chunk, at: start)
        }
    }
}

/// Whoever waits for what is done.
struct Audience: Sendable {
    private static let look = Duration.milliseconds(200)

    /// Whether nobody waits any more: asked again and again while something long is done.
    let hasLeft: @Sendable () -> Bool
    let clock: any StoreClock

    /// Does something long, and ends it when nobody waits for it any more.
    /// - Parameter patience: how long it goes on after that.
    /// - Throws: what the work throws; `CancellationError` when the audience has left, or the caller is cancelled.
    func stays<Answer: Sendable>(
        longerBy patience: Duration = .zero,
        for work: @escaping @Sendable () async throws -> Answer
    ) async throws -> Answer {
        try await withThrowingTaskGroup(of: Answer?.self) { group in
            defer { group.cancelAll() }
            group.addTask { try await work() }
            group.addTask { [clock, hasLeft] in
                while !hasLeft() { try await clock.sleep(for: Self.look) }
                try await clock.sleep(for: patience)
                return nil
            }
            guard let first = try await group.next(), let answer = first else {
                throw CancellationError()
            }
            // Work that was cancelled may have an answer all the same: that there is nothing.
            try Task.checkCancellation()
            return answer
        }
    }
}

/// Those of versions that are stored as they are. Only the bytes whose SHA-256 is the chunk's name count.
struct ChunkRescue<Storage: ReplicatedStorage>: LostChunkSource {
    let source: any ContentRescue
    let version: VersionRow
    let storage: Storage

    func chunk(_ chunk: ChunkReference, at start: UInt64) async -> [UInt8]? {
        let range = try? ByteRange(offset: start, length: UInt64(chunk.length), of: version.size)
        guard let range,
            let found = await source.bytes(
                of: version,
                range,
                from: nil,
                where: { SHA256Hasher.hash($0) == chunk.digest }
            )
        else { return nil }
        // What can't be repaired now is found again by the next read.
        _ = try? await storage.write(chunk.digest, bytes: found.bytes, waitsForCommit: false)
        return found.bytes
    }
}
