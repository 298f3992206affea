package import Catalog
package import ContentHashing
package import Encryption
internal import StoreModel
internal import Synchronization

/// The bytes of an object, stored but not visible yet.
package struct StoredContent<Receipt: Sendable>: Sendable {
    /// Size and digests are those of the body, also when it is stored encrypted.
    package var content: ObjectContent
    package let receipts: [Receipt]
    /// Bytes that the manifest lists.
    package let storedSize: UInt64
}

/// Takes a body in: cuts it into chunks, names and stores them, computes the digests of the whole and the manifest.
///
/// A small body is one payload: hashed where the caller runs, without a task. A larger one flows through four steps
/// at the same time: the caller's task takes pieces and cuts, one lane computes MD5, another the SHA-256 of the
/// whole, and each chunk has a task that names and stores it. Each byte is copied once, from the pieces to its chunk.
///
/// A body that is stored encrypted is cut where the frames end; its chunks are sealed by their tasks, and named by what
/// is stored. The digests of the whole are those of the body.
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

    /// - Parameters:
    ///   - cipher: seals what is stored; nil: it is stored as it is.
    ///   - beforeStreaming: called once if the body turns out to be more than a small one, before its
    ///     chunks are stored: the place to refuse what would be refused at the end anyway.
    /// - Throws: what the source or the storage throws, or the refusal of the expectation.
    package func store(
        _ source: any ByteSource,
        _ requirements: BodyRequirements,
        sealing cipher: SegmentCipher? = nil,
        beforeStreaming: () async throws -> Void = {}
    ) async throws -> StoredContent<Storage.Receipt> {
        var pieces: [[UInt8]] = []
        var count = 0
        while let piece = try await source.next() {
            count += piece.count
            try requirements.check(countSoFar: UInt64(count))
            if !piece.isEmpty { pieces.append(piece) }
            if count > limits.smallSizeMax {
                try await beforeStreaming()
                return try await storeLarge(pieces, source, requirements, cipher)
            }
        }
        let bytes = pieces.count == 1 ? pieces[0] : Array(pieces.joined())
        return try await storeSmall(bytes, requirements, cipher)
    }

    private func storeSmall(
        _ bytes: [UInt8],
        _ requirements: BodyRequirements,
        _ cipher: SegmentCipher?
    ) async throws -> StoredContent<Storage.Receipt> {
        let sha256 = SHA256Hasher.hash(bytes)
        let md5 = bytes.withUnsafeBytes { MD5Hasher.hash($0) }
        let checksum = requirements.checksum.map { algorithm in
            Checksum(algorithm, sha256: sha256) ?? Checksummer.checksum(algorithm, of: bytes)
        }
        let found = BodyDigests(size: UInt64(bytes.count), sha256: sha256, md5: md5, checksum: checksum)
        try await requirements.check(found)
        var receipts: [Storage.Receipt] = []
        var chunks: [ChunkReference] = []
        let stored = cipher?.seal(bytes, firstFrame: 0, isEnd: true) ?? bytes
        if !stored.isEmpty {
            let name = cipher == nil ? sha256 : SHA256Hasher.hash(stored)
            receipts.append(try await storage.write(name, bytes: stored, waitsForCommit: true))
            chunks.append(ChunkReference(digest: name, length: UInt32(stored.count)))
        }
        return StoredContent(
            content: ObjectContent(found, .inline(chunks)),
            receipts: receipts,
            storedSize: UInt64(stored.count)
        )
    }

    private func storeLarge(
        _ head: [[UInt8]],
        _ source: any ByteSource,
        _ requirements: BodyRequirements,
        _ cipher: SegmentCipher?
    ) async throws -> StoredContent<Storage.Receipt> {
        let upload = Upload(
            storage: storage,
            limits: limits,
            permits: permits,
            checksum: requirements.checksum,
            cipher: cipher
        )
        var manifest = ManifestBuilder(limits.manifest)
        var nodeReceipts: [Storage.Receipt] = []
        var size: UInt64 = 0
        try await withThrowingDiscardingTaskGroup { group in
            var assembly = ChunkAssembly(sizes: limits.chunkSizes, cipher: cipher)
            var waiting = head[...]
            while true {
                var next = waiting.popFirst()
                if next == nil { next = try await source.next() }
                guard let piece = next else { break }
                size += UInt64(piece.count)
                try requirements.check(countSoFar: size)
                var rest = piece[...]
                while !rest.isEmpty {
                    guard assembly.take(from: &rest) else { continue }
                    try Task.checkCancellation()
                    // Nothing may throw between the two: the chunk gives back what entering took.
                    try await upload.window.enter()
                    upload.start(assembly.takeChunk(), isEnd: false, in: &group)
                }
                for chunk in upload.results.takeOrdered() {
                    for node in manifest.append(chunk) { nodeReceipts.append(try await write(node)) }
                }
            }
            if !assembly.isEmpty {
                try await upload.window.enter()
                upload.start(assembly.takeChunk(), isEnd: true, in: &group)
            }
        }
        for chunk in upload.results.takeOrdered() {
            for node in manifest.append(chunk) { nodeReceipts.append(try await write(node)) }
        }
        let (reference, nodes) = manifest.finish()
        for node in nodes { nodeReceipts.append(try await write(node)) }
        precondition(
            cipher != nil || manifest.contentLength == size,
            "Every byte of a body is in one chunk."
        )
        let found = upload.finishDigests(size: size)
        try await requirements.check(found)
        return StoredContent(
            content: ObjectContent(found, reference),
            receipts: upload.results.takeReceipts() + nodeReceipts,
            storedSize: manifest.contentLength
        )
    }

    private func write(_ node: ManifestBuilder.Finished) async throws -> Storage.Receipt {
        try await storage.write(node.digest, bytes: node.bytes, waitsForCommit: false)
    }
}

extension ObjectContent {
    /// A body that was taken in whole.
    fileprivate init(_ found: BodyDigests, _ manifest: ManifestReference) {
        let others = found.checksum.map {
            [NamedValue($0.algorithm.name, ObjectChecksum(fullObject: $0).text)]
        }
        self.init(
            size: found.size,
            etag: found.md5.hex,
            checksums: ObjectChecksums(sha256: found.sha256, md5: found.md5, others: others ?? []),
            manifest: manifest
        )
    }
}

extension Checksum {
    /// The SHA-256 is computed anyway; nil for another algorithm.
    fileprivate init?(_ algorithm: ChecksumAlgorithm, sha256: Digest) {
        guard algorithm == .sha256 else { return nil }
        self.init(.sha256, bytes: sha256.bytes)
    }
}

/// A checksum as a digest lane works on it.
private struct RunningChecksum: LaneDigest, ~Copyable {
    private var summer: Checksummer?

    init(_ algorithm: ChecksumAlgorithm) { summer = Checksummer(algorithm) }

    mutating func update(_ bytes: UnsafeRawBufferPointer) { summer?.update(bytes) }

    func soFar() -> Checksum? { nil }

    consuming func finish() -> Checksum {
        guard let summer = summer.take() else { fatalError("A checksum is finished once.") }
        return summer.finish()
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
    package var partSizeMin = Limits.partSizeMin

    package init() {}
    package static let standard = PipelineLimits()
}

/// Puts chunks together from pieces.
private struct ChunkAssembly {
    /// Where chunks end: after what is in them, or, of an encrypted body, after so many bytes.
    private enum Cut {
        case byContent(ContentChunker)
        case bySize(index: Int, partNumber: UInt16, count: Int)
    }

    private var cut: Cut
    /// What the current chunk has so far. Slices: the bytes are copied once, when the chunk is complete.
    private var parts: [ArraySlice<UInt8>] = []

    init(sizes: ContentChunker.Sizes, cipher: SegmentCipher?) {
        cut =
            cipher.map { .bySize(index: 0, partNumber: $0.partNumber, count: 0) }
            ?? .byContent(ContentChunker(sizes))
    }

    var isEmpty: Bool { parts.isEmpty }

    /// Moves bytes from `rest` to the current chunk, up to its end.
    /// - Returns: whether the chunk is complete.
    mutating func take(from rest: inout ArraySlice<UInt8>) -> Bool {
        guard let end = endOfChunk(in: rest) else {
            parts.append(rest)
            rest = []
            return false
        }
        parts.append(rest.prefix(end))
        rest = rest.dropFirst(end)
        return true
    }

    private mutating func endOfChunk(in rest: ArraySlice<UInt8>) -> Int? {
        switch cut {
        case .byContent(var chunker):
            let end = rest.withUnsafeBytes { chunker.endOfChunk(in: $0) }
            cut = .byContent(chunker)
            return end
        case .bySize(let index, let partNumber, let count):
            // A chunk is complete when more follows: the last one of a body is sealed as the last.
            let room = SegmentLayout.chunkSize(at: index, partNumber: partNumber) - count
            guard rest.count > room else {
                cut = .bySize(index: index, partNumber: partNumber, count: count + rest.count)
                return nil
            }
            cut = .bySize(index: index + 1, partNumber: partNumber, count: 0)
            return room
        }
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
    private let md5 = DigestLane(MD5Hasher(), tellsFirst: false)
    private let sha256: DigestLane<SHA256Hasher>
    private let checksum: ChecksumAlgorithm?
    /// nil: SHA-256 is the checksum, or there is none.
    private let checksumLane: DigestLane<RunningChecksum>?
    private let cipher: SegmentCipher?
    private var count = 0

    init(
        storage: Storage,
        limits: PipelineLimits,
        permits: ChunkPermits,
        checksum: ChecksumAlgorithm?,
        cipher: SegmentCipher?
    ) {
        self.storage = storage
        self.cipher = cipher
        self.checksum = checksum
        checksumLane =
            checksum == nil || checksum == .sha256
            ? nil : checksum.map { DigestLane(RunningChecksum($0), tellsFirst: false) }
        sha256 = DigestLane(SHA256Hasher(), tellsFirst: cipher == nil)
        window = TransferWindow(countMax: max(1, limits.chunksInFlightMax - 1), permits: permits)
        results = ChunkResults()
    }

    /// Takes a chunk on, for which the caller entered the window.
    /// - Parameter isEnd: whether the body ends with it.
    func start(
        _ bytes: [UInt8],
        isEnd: Bool,
        in group: inout ThrowingDiscardingTaskGroup<any Error>
    ) {
        let chunk = InFlightChunk(index: count, bytes: bytes, window: window)
        count += 1
        if md5.add(chunk) { group.addTask { [md5] in await md5.work() } }
        if sha256.add(chunk) { group.addTask { [sha256] in await sha256.work() } }
        if let checksumLane, checksumLane.add(chunk) { group.addTask { await checksumLane.work() } }
        group.addTask { [storage, results, sha256, window, cipher] in
            do {
                let firstFrame = UInt64(chunk.index * FrameFormat.framesPerChunk)
                let sealed = cipher?.seal(chunk.bytes, firstFrame: firstFrame, isEnd: isEnd)
                let isHashed = chunk.index == 0 && sealed == nil
                let stored = sealed ?? chunk.bytes
                let digest = isHashed ? await sha256.digestOfFirst() : SHA256Hasher.hash(stored)
                let receipt = try await storage.write(digest, bytes: stored, waitsForCommit: true)
                let reference = ChunkReference(digest: digest, length: UInt32(stored.count))
                results.add(reference, receipt, at: chunk.index)
            } catch {
                window.fail(error)
                throw error
            }
        }
    }

    /// Digests of the whole body. Called once, when all tasks have ended.
    func finishDigests(size: UInt64) -> BodyDigests {
        let whole = sha256.finish()
        let found = checksum.flatMap { Checksum($0, sha256: whole) ?? checksumLane?.finish() }
        return BodyDigests(size: size, sha256: whole, md5: md5.finish(), checksum: found)
    }
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
