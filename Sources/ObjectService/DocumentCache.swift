internal import Catalog
internal import StoreModel
internal import Synchronization

/// What was read from the documents of a space, for as long as none of them changes (`DocumentGenerations`).
final class DocumentCache<Value: Sendable>: Sendable {
    private struct Kept: Sendable {
        let generation: UInt64
        let value: Value
    }

    let space: DocumentSpace
    private let kept = Mutex<Kept?>(nil)

    init(_ space: DocumentSpace) { self.space = space }

    // Not inlined: a lock on either side of an await in one function is more than the compiler bears.

    @inline(never)
    fileprivate func value(at generation: UInt64) -> Value? {
        kept.withLock { $0?.generation == generation ? $0?.value : nil }
    }

    @inline(never)
    fileprivate func keep(_ value: Value, at generation: UInt64) {
        kept.withLock { $0 = Kept(generation: generation, value: value) }
    }
}

extension ObjectStore {
    func cached<Value>(
        _ cache: DocumentCache<Value>,
        _ read: @escaping @Sendable (any CatalogReader) throws -> Value
    ) async throws -> Value {
        // The generation first: what changes after it is read again.
        let generation = documentGeneration(of: cache.space)
        if let value = cache.value(at: generation) { return value }
        let value = try await readCatalog(read)
        cache.keep(value, at: generation)
        return value
    }
}
