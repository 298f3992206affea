internal import Catalog
internal import StoreModel
internal import Synchronization

/// Chunks that all downloads together may have read ahead beyond the one that each may: it bounds the memory of many
/// downloads at a time. Taken without waiting, so that no download ever waits for a slow one.
package final class SharedAllowance: Sendable {
    private let free: Atomic<Int>

    package init(count: Int) { free = Atomic(count) }

    package var freeCount: Int { free.load(ordering: .relaxed) }

    func take() -> Bool {
        var current = free.load(ordering: .relaxed)
        while current > 0 {
            let (exchanged, original) = free.weakCompareExchange(
                expected: current,
                desired: current - 1,
                ordering: .acquiringAndReleasing
            )
            if exchanged { return true }
            current = original
        }
        return false
    }

    func give() { free.wrappingAdd(1, ordering: .acquiringAndReleasing) }
}

/// Pieces of an object, one after the other.
protocol ChunkFeed: AnyObject {
    func next() async throws -> [UInt8]?
}

/// Reads chunks ahead of the one who takes them.
///
/// The reads run between two calls of `next()`, while the taker sends or writes what it got, so they are tasks of
/// their own: the one place in this target where a task outlives a call. They belong to this object: it cancels
/// them when it is released, and each ends with one read.
///
/// 1. Pieces come in order, each a chunk or, of a long one, a part of it that ends where a block of checksums does.
/// 2. At most `countMax` pieces are in memory: those that are read ahead and the one that the taker has. Each that is
///    read ahead beyond the first needs a share of the allowance.
final class ChunkPrefetch<Storage: ReplicatedStorage>: ChunkFeed {
    /// A stretch to be read, and where its chunk begins in the object.
    private struct Piece: Sendable {
        let slice: ChunkSlice
        let chunkStart: UInt64
    }

    private struct Ahead {
        let task: Task<[UInt8], any Error>
        let hasShare: Bool
    }

    private let storage: Storage
    private let countMax: Int
    private let shared: SharedAllowance
    private var cursor: ManifestCursor<Storage>
    /// What is left of the chunk that the cursor gave last.
    private var rest: Piece?
    private var ahead: [Ahead] = []

    private let rescue: (any LostChunkSource)?
    /// Where the next slice of the cursor starts in the object.
    private var offset: UInt64

    init(
        _ cursor: ManifestCursor<Storage>,
        storage: Storage,
        countMax: Int,
        shared: SharedAllowance,
        offset: UInt64 = 0,
        rescue: (any LostChunkSource)? = nil
    ) {
        self.cursor = cursor
        self.offset = offset
        self.rescue = rescue
        self.storage = storage
        self.countMax = countMax
        self.shared = shared
    }

    deinit {
        for entry in ahead {
            entry.task.cancel()
            if entry.hasShare { shared.give() }
        }
    }

    func next() async throws -> [UInt8]? {
        if ahead.isEmpty {
            guard let piece = try await nextPiece() else { return nil }
            // The last chunk, or the only one: nothing comes after it that could be read meanwhile.
            if isAtEnd {
                return try await readOrRescue(piece.slice, at: piece.chunkStart, from: storage, rescue)
            }
            start(piece, hasShare: false)
        }
        try await fill()
        let first = ahead.removeFirst()
        if first.hasShare { shared.give() }
        return try await withTaskCancellationHandler {
            try await first.task.value
        } onCancel: {
            first.task.cancel()
        }
    }

    private var isAtEnd: Bool { rest == nil && cursor.isAtEnd }

    private func nextPiece() async throws -> Piece? {
        var piece = rest
        rest = nil
        if piece == nil, let slice = try await cursor.next() {
            // Where a chunk starts counts for a rescue only.
            piece = Piece(
                slice: slice,
                chunkStart: rescue == nil ? 0 : offset - UInt64(slice.range.lowerBound)
            )
            offset += UInt64(slice.range.count)
        }
        guard let piece else { return nil }
        let slice = piece.slice
        // Counted from the chunk's start: no block is read for two pieces.
        let end = (slice.range.lowerBound / Limits.readPieceSizeMax + 1) * Limits.readPieceSizeMax
        guard end < slice.range.upperBound else { return piece }
        func part(_ range: Range<Int>) -> Piece {
            Piece(slice: ChunkSlice(chunk: slice.chunk, range: range), chunkStart: piece.chunkStart)
        }
        rest = part(end..<slice.range.upperBound)
        return part(slice.range.lowerBound..<end)
    }

    private func fill() async throws {
        while ahead.count < countMax, !isAtEnd {
            var hasShare = false
            if ahead.count >= 1 {
                guard shared.take() else { return }
                hasShare = true
            }
            do {
                guard let piece = try await nextPiece() else {
                    if hasShare { shared.give() }
                    return
                }
                start(piece, hasShare: hasShare)
            } catch {
                if hasShare { shared.give() }
                throw error
            }
        }
    }

    private func start(_ piece: Piece, hasShare: Bool) {
        let (slice, chunkStart) = (piece.slice, piece.chunkStart)
        let task = Task { [storage, rescue] in
            try await readOrRescue(slice, at: chunkStart, from: storage, rescue)
        }
        ahead.append(Ahead(task: task, hasShare: hasShare))
    }
}

private func readOrRescue(
    _ slice: ChunkSlice,
    at chunkStart: UInt64,
    from storage: some ReplicatedStorage,
    _ rescue: (any LostChunkSource)?
) async throws -> [UInt8] {
    do {
        return try await readVerified(slice, from: storage)
    } catch {
        guard let rescue, (error as? StoreError)?.code == .dataUnavailable,
            let chunk = await rescue.chunk(slice.chunk, at: chunkStart)
        else { throw error }
        return [UInt8](chunk[slice.range])
    }
}

private func readVerified(_ slice: ChunkSlice, from storage: some ReplicatedStorage) async throws -> [UInt8] {
    let chunk = slice.chunk
    let bytes = try await storage.read(chunk.digest, length: Int(chunk.length), range: slice.range)
    guard bytes.count == slice.range.count else {
        throw StoreError(
            .internalFault,
            "A read of \(slice.range.count) bytes of chunk \(chunk.digest) gave \(bytes.count)."
        )
    }
    return bytes
}
