internal import Catalog
internal import ContentHashing
internal import Encryption
package import Replication
package import StoreModel

/// Payloads that no volume has any more, brought back from mirrors: what the repairs of scrubs, audits and `verify` ask
/// when every copy is bad.
///
/// 1. A payload is known by its name only. Which version needs it, and where it stands in that version's content, is
///    found by a walk over the catalog: one at a time, for everything that is lost at that moment.
/// 2. A node of a manifest is in no mirror. It is made anew: the content is fetched, cut and named as when it was put,
///    and counts when its name is that of the node.
/// 3. What is handed out was compared with its name; whoever writes it compares it again.
/// 4. Memory is bounded: places by number, nodes by number, content by the piece. Where somebody waits for a manifest its
///    nodes go to the volumes as they are made: those that turn out to be nobody's are garbage.
/// 5. Chunks of encrypted versions are ciphertext, which no mirror has: they are sealed anew, with the version's own key
///    (`SealedChunkRescue`), where the store keeps that.
///
/// Of encrypted uploads in parts no manifest can be made: each part begins with a salt that stands nowhere else. Parts of uploads that are under way, lists of
/// parts that stand outside their rows, and snapshots of the catalog are in no mirror either.
package actor LostPayloads: RescueSource {
    private struct Place {
        let version: VersionRow
        let range: ByteRange
    }

    private struct Found {
        var places: [Digest: Place] = [:]
        var nodes: [Digest: RescuedPayload] = [:]
        /// Looked for in everything, and not found.
        var nowhere: Set<Digest> = []
    }

    private static let placeCountMax = 65_536
    private static let nodeCountMax = 1024
    private static let pieceSize: UInt64 = 8 << 20
    private static let pageSize = 128
    /// What was not found is not looked for again for so long.
    private static let patience: Duration = .seconds(30)

    private let objects: ObjectStore
    private var places: [Digest: Place] = [:]
    private var nodes: [Digest: RescuedPayload] = [:]
    private var nowhere: [Digest: ContinuousClock.Instant] = [:]
    private var isWalking = false
    private var waiters: [CheckedContinuation<Void, Never>] = []

    package init(_ objects: ObjectStore) { self.objects = objects }

    package func payload(
        _ digest: Digest,
        alsoLost: @Sendable () -> Set<Digest>
    ) async -> RescuedPayload? {
        guard let source = objects.rescue, await source.isThere() else { return nil }
        while isWalking { await withCheckedContinuation { waiters.append($0) } }
        if !isKnown(digest) {
            isWalking = true
            let wanted = alsoLost().union([digest]).filter { !isKnown($0) }
            let found = await find(wanted, source)
            keep(found)
            isWalking = false
            let woken = waiters
            waiters = []
            for waiter in woken { waiter.resume() }
        }
        if let node = nodes[digest] { return node }
        guard let place = places[digest] else { return nil }
        let found = await bytes(of: digest, at: place, source, objects.storage)
        if found == nil {
            // Another version or another mirror may have it by the time it is asked for again.
            places[digest] = nil
            nowhere[digest] = .now
        }
        return found.map { RescuedPayload(bytes: $0.bytes, source: "mirror \($0.mirror)") }
    }

    private nonisolated func bytes<Storage: ReplicatedStorage>(
        of digest: Digest,
        at place: Place,
        _ source: any ContentRescue,
        _ storage: Storage
    ) async -> RescuedBytes? {
        let version = place.version
        guard version.attributes.encryption != nil else {
            return await source.bytes(
                of: version,
                place.range,
                from: nil,
                where: { SHA256Hasher.hash($0) == digest }
            )
        }
        guard let dataKey = try? objects.dataKey(of: version, clientKey: nil),
            let segments = try? await version.storedSegments(from: storage)
        else { return nil }
        let chunk = ChunkReference(digest: digest, length: UInt32(place.range.length))
        return await SealedChunkRescue(
            source: source,
            version: version,
            dataKey: dataKey,
            segments: segments,
            storage: storage
        )
        .sealed(chunk, at: place.range.offset)
    }

    /// Whether the bytes that the volumes keep of a version can be made of its content.
    private nonisolated func canBeMade(_ row: VersionRow) -> Bool {
        row.kind == .object
            && (row.attributes.encryption == nil || (try? row.encryption)?.sort == .storeKey)
    }

    private func isKnown(_ digest: Digest) -> Bool {
        if places[digest] != nil || nodes[digest] != nil { return true }
        guard let since = nowhere[digest] else { return false }
        if ContinuousClock.now - since < Self.patience { return true }
        nowhere[digest] = nil
        return false
    }

    private func keep(_ found: Found?) {
        guard let found else { return }
        if places.count + found.places.count > Self.placeCountMax { places = [:] }
        if nodes.count + found.nodes.count > Self.nodeCountMax { nodes = [:] }
        if nowhere.count + found.nowhere.count > Self.placeCountMax { nowhere = [:] }
        places.merge(found.places) { $1 }
        nodes.merge(found.nodes) { $1 }
        for digest in found.nowhere { nowhere[digest] = .now }
    }

    // MARK: Where payloads stand

    private nonisolated func find(_ wanted: Set<Digest>, _ source: any ContentRescue) async -> Found? {
        // A walk that was broken off says nothing about what it didn't find.
        try? await find(wanted, source, objects.storage)
    }

    private nonisolated func find<Storage: ReplicatedStorage>(
        _ wanted: Set<Digest>,
        _ source: any ContentRescue,
        _ storage: Storage
    ) async throws -> Found {
        var found = Found()
        var rest = wanted
        var after: UInt64 = 0
        while !rest.isEmpty {
            try Task.checkCancellation()
            let rows = try await objects.readCatalog { [after] reader in
                try reader.versions(afterSequence: after, limit: Self.pageSize)
            }
            guard let last = rows.last else { break }
            after = last.id.sequence
            for row in rows where canBeMade(row) && !rest.isEmpty {
                try await look(at: row, &rest, &found, source, storage)
            }
        }
        found.nowhere = rest
        return found
    }

    private nonisolated func look<Storage: ReplicatedStorage>(
        at row: VersionRow,
        _ rest: inout Set<Digest>,
        _ found: inout Found,
        _ source: any ContentRescue,
        _ storage: Storage
    ) async throws {
        // Asked for those that are concerned only.
        var holders: [String]?
        var offset: UInt64 = 0
        var cursor = cursor(of: row, storage)
        do {
            while let slice = try await cursor.next() {
                defer { offset += UInt64(slice.range.count) }
                guard rest.contains(slice.chunk.digest) else { continue }
                if holders == nil { holders = await source.holders(of: row) }
                guard holders?.isEmpty == false else { return }
                let range = try ByteRange(
                    offset: offset,
                    length: UInt64(slice.chunk.length),
                    of: row.storedSize
                )
                found.places[slice.chunk.digest] = Place(version: row, range: range)
                rest.remove(slice.chunk.digest)
            }
        } catch let error as StoreError where error.code == .dataUnavailable {
            // A node is lost, and hides what is below it.
            if holders == nil { holders = await source.holders(of: row) }
            for holder in holders ?? [] {
                if try await rebuild(row, from: holder, &rest, &found, source, storage) { return }
            }
        } catch let error as StoreError where error.code == .storeDamaged {
            // Whoever verifies the version tells of it.
        }
    }

    // MARK: Manifests made anew

    /// For somebody who reads a version: makes the nodes of its manifest anew that no volume has, and gives them to the
    /// volumes. All of its content is fetched for that.
    /// - Returns: whether the manifest is whole, and wasn't.
    nonisolated func restoreManifest(
        of row: VersionRow,
        taking turns: ChunkPermits
    ) async throws -> Bool {
        guard case .tree = row.manifest, canBeMade(row), let source = objects.rescue,
            await source.isThere()
        else { return false }
        return try await restoreManifest(of: row, source, turns, objects.storage)
    }

    private nonisolated func restoreManifest<Storage: ReplicatedStorage>(
        of row: VersionRow,
        _ source: any ContentRescue,
        _ turns: ChunkPermits,
        _ storage: Storage
    ) async throws -> Bool {
        guard try await isManifestLost(row, storage) else { return false }
        // Whoever comes second finds it put right. Who waits can leave.
        while !turns.acquireNow() {
            try Task.checkCancellation()
            try await objects.clock.sleep(for: .milliseconds(50))
        }
        defer { turns.release() }
        guard try await isManifestLost(row, storage) else { return true }
        for holder in await source.holders(of: row) {
            var rest: Set<Digest> = []
            var found = Found()
            if try await rebuild(row, from: holder, &rest, &found, source, storage, writesNodes: true) {
                return true
            }
        }
        return false
    }

    private nonisolated func cursor<Storage: ReplicatedStorage>(
        of row: VersionRow,
        _ storage: Storage
    ) -> ManifestCursor<Storage> {
        ManifestCursor(
            row.manifest,
            size: row.storedSize,
            range: ByteRange(wholeOf: row.storedSize),
            storage: storage
        )
    }

    private nonisolated func isManifestLost<Storage: ReplicatedStorage>(
        _ row: VersionRow,
        _ storage: Storage
    ) async throws -> Bool {
        var cursor = cursor(of: row, storage)
        do {
            while try await cursor.next() != nil {}
            return false
        } catch let error as StoreError where error.code == .dataUnavailable {
            return true
        }
    }

    /// Fetches a version's content, cuts it as it was cut when it was put, and seals it where it was.
    /// - Parameter writesNodes: nodes that no volume has are given to the volumes, and not kept in memory.
    /// - Returns: whether it came out as the version's manifest.
    private nonisolated func rebuild<Storage: ReplicatedStorage>(
        _ row: VersionRow,
        from mirror: String,
        _ rest: inout Set<Digest>,
        _ found: inout Found,
        _ source: any ContentRescue,
        _ storage: Storage,
        writesNodes: Bool = false
    ) async throws -> Bool {
        guard let sizes = try await partSizes(of: row, storage) else { return false }
        var cipher: SegmentCipher?
        if let encryption = try row.encryption {
            guard !encryption.isInParts, let key = try? objects.dataKey(of: row, clientKey: nil) else {
                return false
            }
            cipher = .whole(key)
        }
        var builder = ManifestBuilder(objects.limits.manifest)
        var offset: UInt64 = 0
        for size in sizes {
            var cutter = PartCutter(size: size, objects.limits, cipher)
            var taken: UInt64 = 0
            while taken < size {
                try Task.checkCancellation()
                let length = min(size - taken, Self.pieceSize)
                let range = try ByteRange(offset: offset + taken, length: length, of: row.size)
                guard
                    let piece = await source.bytes(of: row, range, from: mirror, where: { _ in true }),
                    UInt64(piece.bytes.count) == length
                else { return false }
                taken += length
                for (start, chunk) in cutter.chunks(piece.bytes, isEnd: taken == size) {
                    if rest.remove(chunk.digest) != nil {
                        let range = try ByteRange(
                            offset: offset + start,
                            length: UInt64(chunk.length),
                            of: row.storedSize
                        )
                        found.places[chunk.digest] = Place(version: row, range: range)
                    }
                    for node in builder.append(chunk) {
                        try await keep(node, mirror, &rest, &found, storage, writes: writesNodes)
                    }
                }
            }
            offset += size
        }
        let (reference, last) = builder.finish()
        for node in last { try await keep(node, mirror, &rest, &found, storage, writes: writesNodes) }
        return reference == row.manifest
    }

    /// Where content was cut whatever its bytes are: at the ends of its parts.
    /// - Returns: nil when that is not known any more.
    private nonisolated func partSizes<Storage: ReplicatedStorage>(
        of row: VersionRow,
        _ storage: Storage
    ) async throws -> [UInt64]? {
        let bytes: [UInt8]
        switch row.attributes.partList {
        case nil: return [row.size]
        case .inline(let list): bytes = list
        case .stored(let payload):
            guard case .inline(let chunks) = payload.manifest, let chunk = chunks.first, chunks.count == 1
            else { return nil }
            let length = Int(chunk.length)
            guard
                let list = try? await storage.read(chunk.digest, length: length, range: 0..<length)
            else { return nil }
            bytes = list
        }
        guard let parts = try? PartListCodec.decode(bytes) else { return nil }
        let sizes = parts.map(\.size)
        var sum: UInt64 = 0
        for size in sizes {
            let (next, isOver) = sum.addingReportingOverflow(size)
            guard !isOver else { return nil }
            sum = next
        }
        return sum == row.size ? sizes : nil
    }

    /// Keeps a node if no volume has it.
    private nonisolated func keep<Storage: ReplicatedStorage>(
        _ node: ManifestBuilder.Finished,
        _ mirror: String,
        _ rest: inout Set<Digest>,
        _ found: inout Found,
        _ storage: Storage,
        writes: Bool
    ) async throws {
        if rest.remove(node.digest) == nil {
            do {
                _ = try await storage.read(node.digest, length: node.bytes.count, range: 0..<node.bytes.count)
                return
            } catch let error as StoreError where error.code == .dataUnavailable {
            }
        }
        guard !writes else {
            _ = try await storage.write(node.digest, bytes: node.bytes, waitsForCommit: false)
            return
        }
        guard found.nodes.count < Self.nodeCountMax else { return }
        found.nodes[node.digest] = RescuedPayload(bytes: node.bytes, source: "mirror \(mirror)")
    }
}

/// Cuts one part, or a whole that was put at once, into chunks.
private struct PartCutter {
    private enum Cut {
        /// A small body is one chunk.
        case atEnd
        case byContent(ContentChunker)
        /// Of an encrypted body: after so many bytes.
        case bySize
    }

    private var cut: Cut
    private let cipher: SegmentCipher?
    private let size: UInt64
    /// The current chunk, and how much came before it.
    private var chunk: [UInt8] = []
    private var taken: UInt64 = 0
    private var index = 0
    private var start: UInt64 = 0

    init(size: UInt64, _ limits: PipelineLimits, _ cipher: SegmentCipher?) {
        self.size = size
        self.cipher = cipher
        cut =
            size <= UInt64(limits.smallSizeMax)
            ? .atEnd : cipher == nil ? .byContent(ContentChunker(limits.chunkSizes)) : .bySize
    }

    private mutating func endOfChunk(in rest: UnsafeRawBufferPointer) -> Int? {
        switch cut {
        case .atEnd: return nil
        case .byContent(var chunker):
            let end = chunker.endOfChunk(in: rest)
            cut = .byContent(chunker)
            return end
        case .bySize:
            let room = SegmentLayout.chunkSize(at: index, partNumber: 0) - chunk.count
            return rest.count >= room ? room : nil
        }
    }

    /// - Returns: the chunks that end in this piece, and where they begin in the part as it is stored.
    mutating func chunks(_ piece: [UInt8], isEnd: Bool) -> [(start: UInt64, chunk: ChunkReference)] {
        var found: [(UInt64, ChunkReference)] = []
        piece.withUnsafeBytes { bytes in
            var rest = UnsafeRawBufferPointer(rebasing: bytes[...])
            while !rest.isEmpty {
                let end = endOfChunk(in: rest)
                chunk.append(contentsOf: rest.prefix(end ?? rest.count))
                rest = UnsafeRawBufferPointer(rebasing: rest.dropFirst(end ?? rest.count))
                if end != nil { found.append(take()) }
            }
        }
        if isEnd, !chunk.isEmpty { found.append(take()) }
        return found
    }

    private mutating func take() -> (UInt64, ChunkReference) {
        taken += UInt64(chunk.count)
        let stored =
            cipher?.seal(
                chunk,
                firstFrame: UInt64(index * FrameFormat.framesPerChunk),
                isEnd: taken == size
            ) ?? chunk
        defer {
            start += UInt64(stored.count)
            index += 1
            chunk.removeAll(keepingCapacity: true)
        }
        return (start, ChunkReference(digest: SHA256Hasher.hash(stored), length: UInt32(stored.count)))
    }
}
