package import Catalog
package import ContentHashing
internal import StoreModel
internal import Synchronization

/// The bytes of an object, stored but not visible yet.
package struct StoredContent<Receipt: Sendable>: Sendable {
    package let content: ObjectContent
    package let receipts: [Receipt]
}

/// Takes a body in: cuts it into chunks, names and stores them, computes the digests of the whole and the manifest.
///
/// A small body is one payload: hashed where the caller runs, without a task. A larger one flows through four steps
/// at the same time: the caller's task takes pieces and cuts, one lane computes MD5, another the SHA-256 of the
/// whole, and each chunk has a task that names and stores it. Each byte is copied once, from the pieces to its chunk.
///
/// Memory: `chunksInFlightMax` chunks at most, one of which is being put together, whatever the body's size; and
/// over all uploads the chunks that are being worked on have permits.
package struct ContentPipeline<Storage: ReplicatedStorage>: Sendable {
    private let storage: Storage
    private let limits: PipelineLimits
    private let permits: ChunkPermits

    package init(storage: Storage, limits: PipelineLimits = .standard, permits: ChunkPermits) {
        self.storage = storage
        self.limits = limits
        self.permits = permits
    }

    /// - Parameter beforeStreaming: called once if the body turns out to be more than a small one, before its chunks
    ///   are stored: the place to refuse what would be refused at the end anyway.
    /// - Throws: what the source or the storage throws, or the refusal of the expectation.
    package func store(
        _ source: any ByteSource,
        expecting expectation: BodyExpectation,
        beforeStreaming: () async throws -> Void = {}
    ) async throws -> StoredContent<Storage.Receipt> {
        var pieces: [[UInt8]] = []
        var count = 0
        while let piece = try await source.next() {
            count += piece.count
            try expectation.check(countSoFar: UInt64(count))
            if !piece.isEmpty { pieces.append(piece) }
            if count > limits.smallSizeMax {
                try await beforeStreaming()
                return try await storeLarge(pieces, source, expectation)
            }
        }
        return try await storeSmall(pieces.count == 1 ? pieces[0] : Array(pieces.joined()), expectation)
    }

    private func storeSmall(
        _ bytes: [UInt8],
        _ expectation: BodyExpectation
    ) async throws -> StoredContent<Storage.Receipt> {
        let sha256 = SHA256Hasher.hash(bytes)
        let md5 = bytes.withUnsafeBytes { MD5Hasher.hash($0) }
        try expectation.check(count: UInt64(bytes.count), sha256: sha256, md5: md5)
        var receipts: [Storage.Receipt] = []
        var chunks: [ChunkReference] = []
        if !bytes.isEmpty {
            receipts.append(try await storage.write(sha256, bytes: bytes, waitsForCommit: true))
            chunks.append(ChunkReference(digest: sha256, length: UInt32(bytes.count)))
        }
        let content = ObjectContent(
            size: UInt64(bytes.count),
            etag: md5.hex,
            checksums: ObjectChecksums(sha256: sha256, md5: md5),
            manifest: .inline(chunks)
        )
        return StoredContent(content: content, receipts: receipts)
    }

    private func storeLarge(
        _ head: [[UInt8]],
        _ source: any ByteSource,
        _ expectation: BodyExpectation
    ) async throws -> StoredContent<Storage.Receipt> {
        let upload = Upload(storage: storage, limits: limits, permits: permits)
        var manifest = ManifestBuilder(limits.manifest)
        var nodeReceipts: [Storage.Receipt] = []
        var size: UInt64 = 0
        try await withThrowingDiscardingTaskGroup { group in
            var assembly = ChunkAssembly(sizes: limits.chunkSizes)
            var waiting = head[...]
            while true {
                var next = waiting.popFirst()
                if next == nil { next = try await source.next() }
                guard let piece = next else { break }
                size += UInt64(piece.count)
                try expectation.check(countSoFar: size)
                var rest = piece[...]
                while !rest.isEmpty {
                    guard assembly.take(from: &rest) else { continue }
                    try Task.checkCancellation()
                    // Nothing may throw between the two: the chunk gives back what entering took.
                    try await upload.window.enter()
                    upload.start(assembly.takeChunk(), in: &group)
                }
                for chunk in upload.results.takeOrdered() {
                    for node in manifest.append(chunk) { nodeReceipts.append(try await write(node)) }
                }
            }
            if !assembly.isEmpty {
                try await upload.window.enter()
                upload.start(assembly.takeChunk(), in: &group)
            }
        }
        for chunk in upload.results.takeOrdered() {
            for node in manifest.append(chunk) { nodeReceipts.append(try await write(node)) }
        }
        let (reference, nodes) = manifest.finish()
        for node in nodes { nodeReceipts.append(try await write(node)) }
        precondition(manifest.contentLength == size, "Every byte of a body is in one chunk.")
        let (sha256, md5) = upload.finishDigests()
        try expectation.check(count: size, sha256: sha256, md5: md5)
        let content = ObjectContent(
            size: size,
            etag: md5.hex,
            checksums: ObjectChecksums(sha256: sha256, md5: md5),
            manifest: reference
        )
        return StoredContent(content: content, receipts: upload.results.takeReceipts() + nodeReceipts)
    }

    private func write(_ node: ManifestBuilder.Finished) async throws -> Storage.Receipt {
        try await storage.write(node.digest, bytes: node.bytes, waitsForCommit: false)
    }
}

/// The bounds of a pipeline; anything but `standard` is for tests.
package struct PipelineLimits: Hashable, Sendable {
    package var smallSizeMax = Limits.logPayloadSizeMax
    package var chunksInFlightMax = Limits.chunksInFlightMax
    package var chunkSizes = ContentChunker.Sizes.standard
    package var manifest = ManifestBuilder.Limits.standard
    package var uploadPermitCount = Limits.uploadPermitCount
    package var readAheadShareCount = Limits.readAheadShareCount

    package init() {}
    package static let standard = PipelineLimits()
}

/// Puts chunks together from pieces.
private struct ChunkAssembly {
    private var chunker: ContentChunker
    /// What the current chunk has so far. Slices: the bytes are copied once, when the chunk is complete.
    private var parts: [ArraySlice<UInt8>] = []

    init(sizes: ContentChunker.Sizes) { chunker = ContentChunker(sizes) }

    var isEmpty: Bool { parts.isEmpty }

    /// Moves bytes from `rest` to the current chunk, up to its end.
    /// - Returns: whether the chunk is complete.
    mutating func take(from rest: inout ArraySlice<UInt8>) -> Bool {
        guard let end = rest.withUnsafeBytes({ chunker.endOfChunk(in: $0) }) else {
            parts.append(rest)
            rest = []
            return false
        }
        parts.append(rest.prefix(end))
        rest = rest.dropFirst(end)
        return true
    }

    /// The bytes of the current chunk, and the next one begins.
    mutating func takeChunk() -> [UInt8] {
        defer { parts.removeAll(keepingCapacity: true) }
        let count = parts.reduce(0) { $0 + $1.count }
        return [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
            let raw = UnsafeMutableRawBufferPointer(buffer)
            for part in parts {
                UnsafeMutableRawBufferPointer(rebasing: raw[filled..<filled + part.count]).copyBytes(
                    from: part
                )
                filled += part.count
            }
        }
    }
}

/// One body on its way through the lanes.
private final class Upload<Storage: ReplicatedStorage> {
    let window: TransferWindow
    let results: ChunkResults<Storage.Receipt>
    private let storage: Storage
    private let md5 = DigestLane<MD5Hasher>(tellsFirst: false)
    private let sha256 = DigestLane<SHA256Hasher>(tellsFirst: true)
    private var count = 0

    init(storage: Storage, limits: PipelineLimits, permits: ChunkPermits) {
        self.storage = storage
        window = TransferWindow(countMax: max(1, limits.chunksInFlightMax - 1), permits: permits)
        results = ChunkResults()
    }

    /// Takes a chunk on, for which the caller entered the window.

    func start(_ bytes: [UInt8], in group: inout ThrowingDiscardingTaskGroup<any Error>) {
        let chunk = InFlightChunk(index: count, bytes: bytes, window: window)
        count += 1
        if md5.add(chunk) { group.addTask { [md5] in await md5.work() } }
        if sha256.add(chunk) { group.addTask { [sha256] in await sha256.work() } }
        group.addTask { [storage, results, sha256, window] in
            do {
                let isFirst = chunk.index == 0
                let digest = isFirst ? await sha256.digestOfFirst() : SHA256Hasher.hash(chunk.bytes)
                let receipt = try await storage.write(digest, bytes: chunk.bytes, waitsForCommit: true)
                let reference = ChunkReference(digest: digest, length: UInt32(chunk.bytes.count))
                results.add(reference, receipt, at: chunk.index)
            } catch {
                window.fail(error)
                throw error
            }
        }
    }

    /// Digests of the whole body. Called once, when all tasks have ended.
    func finishDigests() -> (sha256: Digest, md5: MD5Digest) { (sha256.finish(), md5.finish()) }
}

/// What became of the chunks, back in their order.
private final class ChunkResults<Receipt: Sendable>: Sendable {
    private struct State {
        /// Chunks whose predecessors aren't all here yet: about as many as are in flight.
        var early: [Int: ChunkReference] = [:]
        var ordered: [ChunkReference] = []
        var orderedCount = 0
        var receipts: [Receipt] = []
    }

    private let state = Mutex(State())

    func add(_ chunk: ChunkReference, _ receipt: Receipt, at index: Int) {
        state.withLock { state in
            state.receipts.append(receipt)
            state.early[index] = chunk
            while let next = state.early.removeValue(forKey: state.orderedCount) {
                state.ordered.append(next)
                state.orderedCount += 1
            }
        }
    }

    /// The chunks that came in order since the last call.
    func takeOrdered() -> [ChunkReference] {
        state.withLock { state in
            defer { state.ordered.removeAll(keepingCapacity: true) }
            return state.ordered
        }
    }

    func takeReceipts() -> [Receipt] {
        state.withLock { state in
            defer { state.receipts = [] }
            return state.receipts
        }
    }
}
