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
    private struct Ahead {
        let task: Task<[UInt8], any Error>
        let hasShare: Bool
    }

    private let storage: Storage
    private let countMax: Int
    private let shared: SharedAllowance
    private var cursor: ManifestCursor<Storage>
    /// What is left of the chunk that the cursor gave last.
    private var rest: ChunkSlice?
    private var ahead: [Ahead] = []

    init(_ cursor: ManifestCursor<Storage>, storage: Storage, countMax: Int, shared: SharedAllowance) {
        self.cursor = cursor
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
            guard let slice = try await nextSlice() else { return nil }
            // The last chunk, or the only one: nothing comes after it that could be read meanwhile.
            if isAtEnd { return try await readVerified(slice, from: storage) }
            start(slice, hasShare: false)
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

    private func nextSlice() async throws -> ChunkSlice? {
        var slice = rest
        rest = nil
        if slice == nil { slice = try await cursor.next() }
        guard let slice else { return nil }
        // Counted from the chunk's start: no block is read for two pieces.
        let end = (slice.range.lowerBound / Limits.readPieceSizeMax + 1) * Limits.readPieceSizeMax
        guard end < slice.range.upperBound else { return slice }
        rest = ChunkSlice(chunk: slice.chunk, range: end..<slice.range.upperBound)
        return ChunkSlice(chunk: slice.chunk, range: slice.range.lowerBound..<end)
    }

    private func fill() async throws {
        while ahead.count < countMax, !isAtEnd {
            var hasShare = false
            if ahead.count >= 1 {
                guard shared.take() else { return }
                hasShare = true
            }
            do {
                guard let slice = try await nextSlice() else {
                    if hasShare { shared.give() }
                    return
                }
                start(slice, hasShare: hasShare)
            } catch {
                if hasShare { shared.give() }
                throw error
            }
        }
    }

    private func start(_ slice: ChunkSlice, hasShare: Bool) {
        let task = Task { [storage] in try await readVerified(slice, from: storage) }
        ahead.append(Ahead(task: task, hasShare: hasShare))
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
