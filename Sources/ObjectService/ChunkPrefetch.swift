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

/// Reads chunks ahead of the one who takes them.
///
/// The reads run between two calls of `next()`, while the taker sends or writes what it got, so they are tasks of
/// their own: the one place in this target where a task outlives a call. They belong to this object: it cancels
/// them when it is released, and each ends with one read.
///
/// 1. Pieces come in order, each a chunk or, of a long one, a part of it that ends where a block of checksums does.
/// 2. At most `countMax` pieces are in memory: those that are read ahead and the one that the taker has. Each that is
///    read ahead beyond the first needs a share of the allowance.
/// 3. What the system has in memory is read by the taker itself, to where it wants it; nothing is read ahead then.
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

    /// Bytes that were taken since others got their turn, and after how many they do.
    private var takenInARow = 0
    private static var turn: Int { 1 << 20 }

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

    func next(into room: any PieceRoom) async throws -> ObjectPiece? {
        let piece = try await nextPieceOfBytes(room)
        takenInARow += piece?.count ?? 0
        if takenInARow >= Self.turn {
            // Where nothing waits, neither for a disk nor for a client, others on the same thread would for all of an object.
            takenInARow = 0
            await Task.yield()
        }
        return piece
    }

    private func nextPieceOfBytes(_ room: any PieceRoom) async throws -> ObjectPiece? {
        if ahead.isEmpty {
            if let count = try await nextInMemory(room) { return .placed(count) }
            guard let piece = try await nextPiece() else { return nil }
            // The last chunk, or the only one: nothing comes after it that could be read meanwhile.
            if isAtEnd {
                return .bytes(
                    try await readOrRescue(piece.slice, at: piece.chunkStart, from: storage, rescue)
                )
            }
            start(piece, hasShare: false)
        }
        try await fill()
        let first = ahead.removeFirst()
        if first.hasShare { shared.give() }
        return .bytes(
            try await withTaskCancellationHandler {
                try await first.task.value
            } onCancel: {
                first.task.cancel()
            }
        )
    }

    private var isAtEnd: Bool { rest == nil && cursor.isAtEnd }

    /// The next piece when nobody has to wait for it: nothing is gained by reading ahead then, and what is read, checked and
    /// sent in one go costs half.
    private func nextInMemory(_ room: any PieceRoom) async throws -> Int? {
        try Task.checkCancellation()
        if rest == nil { rest = try await nextSlice() }
        guard let whole = rest else { return nil }
        let piece = takePiece(of: whole)
        let (chunk, range) = (piece.slice.chunk, piece.slice.range)
        let isPlaced = room.place(range.count) { [storage] target in
            storage.readInMemory(chunk.digest, length: Int(chunk.length), range: range, into: target)
        }
        guard isPlaced else {
            rest = whole
            return nil
        }
        return range.count
    }

    private func nextPiece() async throws -> Piece? {
        if rest == nil { rest = try await nextSlice() }
        return rest.map { takePiece(of: $0) }
    }

    /// All that is wanted of the next chunk.
    private func nextSlice() async throws -> Piece? {
        guard let slice = try await cursor.next() else { return nil }
        defer { offset += UInt64(slice.range.count) }
        // Where a chunk starts counts for a rescue only.
        return Piece(
            slice: slice,
            chunkStart: rescue == nil ? 0 : offset - UInt64(slice.range.lowerBound)
        )
    }

    /// Cuts a piece off; what it leaves is `rest`.
    private func takePiece(of piece: Piece) -> Piece {
        let (slice, sizeMax) = (piece.slice, Limits.readPieceSizeMax)
        rest = nil
        // Counted from the chunk's start: no block is read for two pieces.
        guard sizeMax < slice.range.count else { return piece }
        let end = (slice.range.lowerBound / sizeMax + 1) * sizeMax
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
        // Who is not there any more is not told that bytes are lost.
        try Task.checkCancellation()
        guard let rescue, (error as? StoreError)?.code == .dataUnavailable,
            let chunk = try await rescue.chunk(slice.chunk, at: chunkStart)
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
