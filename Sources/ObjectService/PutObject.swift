package import Catalog
internal import ContentHashing
package import StoreModel

/// A new version of an object, as its client declares it.
package struct PutRequest: Sendable {
    package var bucket: BucketName
    package var key: ObjectKey
    package var metadata: ObjectMetadata
    package var tags: [NamedValue]
    package var conditions: Conditions
    package var expectation: BodyExpectation
    /// Further checksums of the body that the caller has verified, kept with the version.
    package var otherChecksums: [NamedValue]
    /// Names this attempt and its retries; nil: a new one.
    package var operation: OperationID?

    package init(
        bucket: BucketName,
        key: ObjectKey,
        metadata: ObjectMetadata = ObjectMetadata(),
        tags: [NamedValue] = [],
        conditions: Conditions = .none,
        expectation: BodyExpectation = .none,
        otherChecksums: [NamedValue] = [],
        operation: OperationID? = nil
    ) {
        self.bucket = bucket
        self.key = key
        self.metadata = metadata
        self.tags = tags
        self.conditions = conditions
        self.expectation = expectation
        self.otherChecksums = otherChecksums
        self.operation = operation
    }
}

/// What a client says its body is. A body that is anything else is refused, and nothing of it becomes visible.
package struct BodyExpectation: Hashable, Sendable {
    package var size: UInt64?
    package var sha256: Digest?
    package var md5: MD5Digest?

    package init(size: UInt64? = nil, sha256: Digest? = nil, md5: MD5Digest? = nil) {
        self.size = size
        self.sha256 = sha256
        self.md5 = md5
    }

    package static let none = BodyExpectation()

    /// Refuses a body as soon as it is too long.
    func check(countSoFar count: UInt64) throws(StoreError) {
        guard count <= Limits.objectSizeMax else {
            throw StoreError(.entityTooLarge, "The body has more than \(Limits.objectSizeMax) bytes.")
        }
        if let size, count > size {
            throw StoreError(.badDigest, "The body has more than the \(size) bytes that were declared.")
        }
    }

    func check(count: UInt64, sha256: Digest, md5: MD5Digest) throws(StoreError) {
        if let size, count != size {
            throw StoreError(.badDigest, "The body has \(count) bytes; \(size) were declared.")
        }
        if let expected = self.sha256, expected != sha256 {
            throw StoreError(.badDigest, "The body has the SHA-256 \(sha256); \(expected) was declared.")
        }
        if let expected = self.md5, expected != md5 {
            throw StoreError(.badDigest, "The body has the MD5 \(md5); \(expected) was declared.")
        }
    }
}

extension ObjectStore {
    /// Stores a body as the newest version of a key.
    ///
    /// - Throws: `.noSuchBucket`, `.preconditionFailed`, `.badDigest`, `.entityTooLarge`, `.metadataTooLarge`,
    ///   `.notEnoughReplicas`, `.storeFull`, or what the source throws: nothing is visible then. `.outcomeUnknown`:
    ///   a later read tells.
    package func put(_ request: PutRequest, body: any ByteSource) async throws -> VersionRow {
        try request.checkLimits()
        if let size = request.expectation.size { try BodyExpectation.none.check(countSoFar: size) }
        return try await put(request, body, on: storage)
    }

    private func put<Storage: ReplicatedStorage>(
        _ request: PutRequest,
        _ body: any ByteSource,
        on storage: Storage
    ) async throws -> VersionRow {
        let pipeline = ContentPipeline(storage: storage, limits: limits, permits: uploadPermits)
        let stored = try await pipeline.store(body, expecting: request.expectation) {
            // The catalog decides at the end; this saves a client a long upload that could only be refused. For a
            // small body it would cost more than it saves.
            try await refuseEarly(request)
        }
        try Task.checkCancellation()
        var content = stored.content
        content.checksums.others = request.otherChecksums
        let command = PutCommand(
            bucket: request.bucket,
            key: request.key,
            content: content,
            metadata: request.metadata,
            tags: request.tags,
            conditions: request.conditions
        )
        let operation = request.operation ?? newOperation()
        return try await storage.commit(.putObject(command), operation: operation, chunks: stored.receipts)
            .madeVersion()
    }

    private func refuseEarly(_ request: PutRequest) async throws {
        try await readCatalog { reader in
            let bucket = try reader.existingBucket(request.bucket)
            guard !request.conditions.isEmpty else { return }
            let row = try reader.version(bucket: bucket.id, key: request.key, selector: .newest)
            try request.conditions.check(on: row?.isDeleteMarker == true ? nil : row, key: request.key)
        }
    }
}

extension PutRequest {
    /// The bounds that can be checked before a body is read; the catalog checks all of them.
    fileprivate func checkLimits() throws(StoreError) {
        let size = metadata.userMetadata.reduce(0) { $0 + $1.name.utf8.count + $1.value.utf8.count }
        guard size <= Limits.userMetadataSizeMax else {
            throw StoreError(
                .metadataTooLarge,
                "The user metadata has \(size) bytes; at most \(Limits.userMetadataSizeMax) are allowed."
            )
        }
        guard tags.count <= Limits.tagCountMax else {
            throw StoreError(
                .invalidArgument,
                "\(tags.count) tags; at most \(Limits.tagCountMax) are allowed."
            )
        }
        for entry in metadata.userMetadata + metadata.otherHeaders + tags {
            guard entry.name.isHeaderSafe, entry.value.isHeaderSafe else {
                throw StoreError(
                    .invalidArgument,
                    "The entry \(quoted(entry.name)) holds a control character."
                )
            }
        }
        guard metadata.contentType?.isHeaderSafe ?? true else {
            throw StoreError(.invalidArgument, "The content type holds a control character.")
        }
    }
}

extension String {
    /// What goes out as a header again must not end it.
    fileprivate var isHeaderSafe: Bool {
        utf8.allSatisfy { $0 >= 0x20 && $0 != 0x7F || $0 == UInt8(ascii: "\t") }
    }
}
