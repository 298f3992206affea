package import Catalog
package import ContentHashing
package import StoreModel

/// A new version of an object, as its client declares it.
package struct PutRequest: Sendable {
    package var bucket: BucketName
    package var key: ObjectKey
    package var metadata: ObjectMetadata
    package var tags: [NamedValue]
    /// Owner, access control list, locks, storage class.
    package var attributes: VersionAttributes
    package var encryption: EncryptionChoice
    package var conditions: Conditions
    package var expectation: BodyExpectation
    /// Asked for after the last byte: what a trailer says.
    package var expectationAtEnd: (@Sendable () async throws -> BodyExpectation)?
    /// A further checksum that is computed and kept.
    package var checksum: ChecksumAlgorithm?
    /// Further checksums of the body that the caller has verified, kept with the version.
    package var otherChecksums: [NamedValue]
    /// Names this attempt and its retries; nil: a new one.
    package var operation: OperationID?
    /// The mirrors that the caller waits for afterwards: a put that is repeated gives the version that it made.
    package var acknowledgement: MirrorAcknowledgement?
    /// Until when the version is locked was said by the bucket and not by the client.
    package var retentionIsDefault = false

    package init(
        bucket: BucketName,
        key: ObjectKey,
        metadata: ObjectMetadata = ObjectMetadata(),
        tags: [NamedValue] = [],
        attributes: VersionAttributes = .none,
        encryption: EncryptionChoice = .none,
        conditions: Conditions = .none,
        expectation: BodyExpectation = .none,
        expectationAtEnd: (@Sendable () async throws -> BodyExpectation)? = nil,
        checksum: ChecksumAlgorithm? = nil,
        otherChecksums: [NamedValue] = [],
        operation: OperationID? = nil
    ) {
        self.bucket = bucket
        self.key = key
        self.metadata = metadata
        self.tags = tags
        self.attributes = attributes
        self.encryption = encryption
        self.conditions = conditions
        self.expectation = expectation
        self.expectationAtEnd = expectationAtEnd
        self.checksum = checksum
        self.otherChecksums = otherChecksums
        self.operation = operation
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
        if let size = request.expectation.size { try BodyRequirements().check(countSoFar: size) }
        try storage.checkRoom(for: request.expectation.size)
        return try await put(request, body, on: storage)
    }

    private func put<Storage: ReplicatedStorage>(
        _ request: PutRequest,
        _ body: any ByteSource,
        on storage: Storage
    ) async throws -> VersionRow {
        let pipeline = ContentPipeline(storage: storage, limits: limits, permits: uploadPermits)
        let requirements = BodyRequirements(
            expectation: request.expectation,
            expectationAtEnd: request.expectationAtEnd,
            checksum: request.checksum
        )
        let sealing = try await newSealing(request.encryption)
        var stored = try await pipeline.store(body, requirements, sealing: sealing?.cipher) {
            // The catalog decides at the end; this saves a client a long upload that could only be refused. For a
            // small body it would cost more than it saves.
            try await refuseEarly(request.bucket, request.key, request.conditions)
        }
        try Task.checkCancellation()
        var attributes = request.attributes
        let sha256 = stored.content.checksums.sha256
        attributes.encryption = sealing?.note(&stored.content, storedSize: stored.storedSize)
        var content = stored.content
        content.checksums.others += request.otherChecksums
        let command = PutCommand(
            bucket: request.bucket,
            key: request.key,
            content: content,
            metadata: request.metadata,
            tags: request.tags,
            attributes: attributes,
            conditions: request.conditions
        )
        if request.acknowledgement != nil,
            let known = try await versionToWaitFor(request, command, sha256: sha256)
        {
            return known
        }
        let operation = request.operation ?? newOperation()
        return try await commit(
            .putObject(command),
            operation: operation,
            chunks: stored.receipts,
            on: storage
        )
        .madeVersion()
    }

    /// What the catalog would refuse now, without a word on what it will do at the end.
    func refuseEarly(_ name: BucketName, _ key: ObjectKey, _ conditions: Conditions) async throws {
        try await readCatalog { reader in
            let bucket = try reader.existingBucket(name)
            guard !conditions.isEmpty else { return }
            let row = try reader.version(bucket: bucket.id, key: key, selector: .newest)
            try conditions.check(on: row?.isDeleteMarker == true ? nil : row, key: key)
        }
    }
}

extension PutRequest {
    fileprivate func checkLimits() throws(StoreError) { try metadata.checkLimits(tags: tags) }
}

extension ObjectMetadata {
    /// The bounds that can be checked before a body is read; the catalog checks all of them.
    func checkLimits(tags: [NamedValue]) throws(StoreError) {
        let size = userMetadata.reduce(0) { $0 + $1.name.utf8.count + $1.value.utf8.count }
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
        for entry in userMetadata + otherHeaders + tags {
            guard entry.name.isHeaderSafe, entry.value.isHeaderSafe else {
                throw StoreError(
                    .invalidArgument,
                    "The entry \(quoted(entry.name)) holds a control character."
                )
            }
        }
        guard contentType?.isHeaderSafe ?? true else {
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
