package import Catalog
internal import ContentHashing
internal import Encryption
internal import StoreModel

extension ObjectStore {
    /// Puts the parts of an upload together: the newest version of its key.
    ///
    /// 1. Every listed part must be there as the client lists it, in ascending order, and long enough.
    /// 2. Every payload of every part must still be on enough replicas; what isn't is repaired, or the call fails.
    /// 3. The version and the end of the upload are one decision. Who comes second, or comes again after an answer
    ///    that was lost, gets the version that the first one made.
    /// - Throws: `.noSuchUpload`, `.invalidPart`, `.invalidPartOrder`, `.entityTooSmall`, `.entityTooLarge`,
    ///   `.preconditionFailed`, `.badDigest`, `.notEnoughReplicas`.
    package func complete(_ request: CompleteRequest) async throws -> VersionRow {
        do {
            let upload = try await upload(request.upload)
            return try await complete(request, upload, storage)
        } catch let error as StoreError {
            guard try await hasEnded(request.upload) else { throw error }
            guard let row = try await earlierCompletion(request) else {
                throw StoreError.noSuchUpload(request.upload)
            }
            return row
        }
    }

    private func hasEnded(_ address: UploadAddress) async throws -> Bool {
        try await readCatalog { reader in
            guard let bucket = try reader.bucket(named: address.bucket) else { return false }
            return try reader.document(.upload, UploadKey.upload(bucket.id, address.key, address.id)) == nil
        }
    }

    private func complete<Storage: ReplicatedStorage>(
        _ request: CompleteRequest,
        _ upload: MultipartUpload,
        _ storage: Storage
    ) async throws -> VersionRow {
        // A part may be put anew, or the upload be ended by someone else, while this one goes on with what it has listed.
        let hold = storage.hold()
        defer { withExtendedLifetime(hold) {} }
        if let policy = request.acknowledgement,
            try upload.attributes.encryption.map({ try ObjectEncryption(stored: $0) })?.sort == .clientKey
        {
            // Begun before the bucket waited for a mirror.
            try await refuseClientKey(policy, request.upload.bucket, request.upload.key, upload.tags)
        }
        let parts = try await listedParts(request, upload)
        hold?.attach(parts.map(\.payload.manifest))
        let size = try checkSizes(of: parts, expected: request.size)
        try await refuseEarly(request.upload.bucket, request.upload.key, request.conditions)
        try await ensureDurable(parts.map(\.payload), storage)
        var assembly = ManifestAssembly(storage: storage, limits: limits.manifest)
        for part in parts { try await assembly.append(part.payload) }
        let (manifest, nodeReceipts) = try await assembly.finish()
        var attributes = upload.attributes
        let checksum = try Self.checksum(of: parts, upload, expected: request.checksum)
        if checksum != nil { attributes.checksumType = upload.checksum?.type }
        let (list, listReceipts) = try await storePartList(parts, checksum, storage)
        attributes.partList = list
        if let bytes = attributes.encryption {
            var encryption = try ObjectEncryption(stored: bytes)
            encryption.storedSize = parts.reduce(0) { $0 + $1.payload.size }
            attributes.encryption = encryption.encoded()
        }
        let content = ObjectContent(
            size: size,
            etag: MD5Digest.etag(ofParts: parts.map(\.etag)),
            checksums: ObjectChecksums(
                others: checksum.map { [NamedValue($0.checksum.algorithm.name, $0.text)] } ?? []
            ),
            manifest: manifest
        )
        var documents = upload.removal(expecting: .equals(upload.body))
        if attributes.encryption == nil {
            if case .inline(let chunks) = manifest, chunks.count == 1 {
                attributes.wholeSHA256 = chunks[0].digest
            } else {
                // Found in the background (`WholeDigests`): the parts came in any order.
                let task = DigestTask(
                    operation: upload.id.operation,
                    bucket: upload.bucket,
                    key: request.upload.key
                )
                documents.append(task.write)
            }
        }
        let command = PutCommand(
            bucket: request.upload.bucket,
            key: request.upload.key,
            content: content,
            metadata: upload.metadata,
            tags: upload.tags,
            attributes: attributes,
            conditions: request.conditions,
            documents: documents + removals(of: try await firstParts(of: upload))
        )
        let known = try await versionToWaitFor(
            command,
            of: upload.id.operation,
            request.acknowledgement
        )
        if let known { return known }
        let row = try await commit(
            .putObject(command),
            operation: upload.id.operation,
            chunks: nodeReceipts + listReceipts,
            on: storage
        )
        .madeVersion()
        await removeParts(ofUpload: upload.documentKey)
        return row
    }

    /// The version that the upload became, if the request lists the same parts.
    private func earlierCompletion(_ request: CompleteRequest) async throws -> VersionRow? {
        let address = request.upload
        let etags = request.parts.compactMap { MD5Digest(hex: $0.etag) }
        let etag = MD5Digest.etag(ofParts: etags)
        return try await readCatalog { reader in
            let bucket = try reader.existingBucket(address.bucket)
            let row = try reader.outcome(of: address.id.operation, bucket: bucket.id, key: address.key)
            return row?.etag == etag ? row : nil
        }
    }

    // MARK: Checks

    /// The parts that the client lists, as the upload has them.
    private func listedParts(
        _ request: CompleteRequest,
        _ upload: MultipartUpload
    ) async throws -> [UploadedPart] {
        guard (1...Limits.partCountMax).contains(request.parts.count) else {
            throw StoreError(
                .invalidArgument,
                "An object is put together of 1 to \(Limits.partCountMax) parts, not \(request.parts.count)."
            )
        }
        for (first, second) in zip(request.parts, request.parts.dropFirst())
        where first.number >= second.number {
            throw StoreError(
                .invalidPartOrder,
                "Part \(second.number) is listed after part \(first.number)."
            )
        }
        let key = upload.documentKey
        let wanted = Set(request.parts.map(\.number))
        let found = try await readCatalog { reader in
            var found: [Int: UploadedPart] = [:]
            try reader.forEachDocument(.part, prefix: key) { row in
                let part = try UploadedPart(row)
                if wanted.contains(part.number) { found[part.number] = part }
                return true
            }
            return found
        }
        var parts: [UploadedPart] = []
        for listed in request.parts {
            guard let part = found[listed.number], part.etag.hex == listed.etag.lowercased(),
                listed.checksum == nil || listed.checksum == part.checksum
            else {
                throw StoreError(
                    .invalidPart,
                    "Part \(listed.number) isn't there, or has another ETag or checksum than the request says."
                )
            }
            parts.append(part)
        }
        return parts
    }

    private func checkSizes(of parts: [UploadedPart], expected: UInt64?) throws(StoreError) -> UInt64 {
        for part in parts.dropLast() where part.size < limits.partSizeMin {
            throw StoreError(
                .entityTooSmall,
                "Part \(part.number) has \(part.size) bytes; all but the last have at least \(limits.partSizeMin)."
            )
        }
        // At most 10,000 parts of at most 5 GiB: no overflow.
        let size = parts.reduce(0) { $0 + $1.size }
        guard size <= Limits.objectSizeMax else {
            throw StoreError(
                .entityTooLarge,
                "The object would have \(size) bytes; at most \(Limits.objectSizeMax) are allowed."
            )
        }
        if let expected, expected != size {
            throw StoreError(
                .invalidArgument,
                "The object would have \(size) bytes; the request says \(expected)."
            )
        }
        return size
    }

    /// https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity-upload.html
    private static func checksum(
        of parts: [UploadedPart],
        _ upload: MultipartUpload,
        expected: ObjectChecksum?
    ) throws(StoreError) -> ObjectChecksum? {
        guard let wanted = upload.checksum else { return nil }
        var found: ObjectChecksum?
        switch wanted.type {
        case .composite:
            let values = parts.compactMap(\.checksum)
            if values.count == parts.count { found = ObjectChecksum(compositeOf: values) }
        case .fullObject:
            if var combination = CRCCombination(wanted.algorithm),
                parts.allSatisfy({ part in
                    part.checksum.map { combination.append($0, byteCount: part.size) } ?? false
                })
            {
                found = ObjectChecksum(fullObject: combination.checksum)
            }
        }
        guard let found else {
            throw StoreError(
                .invalidPart,
                "A part has no checksum of the algorithm \(wanted.algorithm.name)."
            )
        }
        // A client may leave out the number of parts.
        if let expected, expected.checksum != found.checksum {
            throw StoreError(
                .badDigest,
                "The \(wanted.algorithm.name) you specified did not match the calculated checksum: "
                    + "the object has \(found.text); \(expected.text) was declared."
            )
        }
        return found
    }

    // MARK: Payloads

    private func storePartList<Storage: ReplicatedStorage>(
        _ parts: [UploadedPart],
        _ checksum: ObjectChecksum?,
        _ storage: Storage
    ) async throws -> (PartListReference, [Storage.Receipt]) {
        let bytes = PartListCodec.encode(
            parts.map { part in
                ObjectPart(
                    number: UInt16(clamping: part.number),
                    size: part.size,
                    etag: part.etag,
                    checksum: checksum == nil ? nil : part.checksum?.base64
                )
            }
        )
        guard bytes.count > PartListReference.inlineSizeMax else { return (.inline(bytes), []) }
        // 10,000 parts come to less than a chunk.
        let digest = SHA256Hasher.hash(bytes)
        let receipt = try await storage.write(digest, bytes: bytes, waitsForCommit: true)
        let chunk = ChunkReference(digest: digest, length: UInt32(bytes.count))
        let payload = PayloadReference(manifest: .inline([chunk]), size: UInt64(bytes.count))
        return (.stored(payload), [receipt])
    }

    /// Parts may have been uploaded days ago, and volumes lost since: what is answered as durable must be so now.
    private func ensureDurable<Storage: ReplicatedStorage>(
        _ payloads: [PayloadReference],
        _ storage: Storage
    ) async throws {
        var waiting: [Digest] = []
        for payload in payloads {
            var cursor = ManifestCursor(
                payload.manifest,
                size: payload.size,
                range: ByteRange(wholeOf: payload.size),
                storage: storage,
                notesVisits: true
            )
            while let slice = try await cursor.next() {
                waiting.append(slice.chunk.digest)
                waiting += cursor.takeVisitedNodes().map(\.digest)
                if waiting.count >= 256 {
                    try await ensureDurable(waiting, storage)
                    waiting.removeAll(keepingCapacity: true)
                }
            }
        }
        try await ensureDurable(waiting, storage)
    }

    private func ensureDurable<Storage: ReplicatedStorage>(
        _ digests: [Digest],
        _ storage: Storage
    ) async throws {
        try Task.checkCancellation()
        guard !digests.isEmpty else { return }
        func isDurable(_ states: [ReplicaState]) -> Bool {
            states.count { $0.condition == .present } >= storage.durableCopyCount
        }
        let states = try await storage.replicaStates(of: digests, check: .presence)
        for (digest, copies) in zip(digests, states) where !isDurable(copies) {
            _ = try await storage.repairNow(digest)
            let now = try await storage.replicaStates(of: [digest], check: .presence)
            guard now.allSatisfy(isDurable) else {
                throw StoreError(
                    .notEnoughReplicas,
                    "Chunk \(digest) of a part is on fewer than \(storage.durableCopyCount) replicas;"
                        + " nothing became visible."
                )
            }
        }
    }
}

/// The manifest of an object that is put together from others: their chunks, one after the other.
private struct ManifestAssembly<Storage: ReplicatedStorage> {
    private let storage: Storage
    private var builder: ManifestBuilder
    private var receipts: [Storage.Receipt] = []

    init(storage: Storage, limits: ManifestBuilder.Limits) {
        self.storage = storage
        builder = ManifestBuilder(limits)
    }

    mutating func append(_ payload: PayloadReference) async throws {
        var cursor = ManifestCursor(
            payload.manifest,
            size: payload.size,
            range: ByteRange(wholeOf: payload.size),
            storage: storage
        )
        while let slice = try await cursor.next() {
            for node in builder.append(slice.chunk) { try await write(node) }
        }
    }

    mutating func finish() async throws -> (ManifestReference, [Storage.Receipt]) {
        let (reference, nodes) = builder.finish()
        for node in nodes { try await write(node) }
        return (reference, receipts)
    }

    private mutating func write(_ node: ManifestBuilder.Finished) async throws {
        receipts.append(try await storage.write(node.digest, bytes: node.bytes, waitsForCommit: false))
    }
}
