internal import Catalog
internal import Encryption
internal import StoreModel

// Multipart uploads: https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html
extension ObjectStore {
    package func createUpload(_ request: CreateUploadRequest) async throws -> MultipartUpload {
        try request.metadata.checkLimits(tags: request.tags)
        let bucket = try await bucketConfiguration(request.bucket).bucket
        let startedAt = clock.now()
        var attributes = request.attributes
        attributes.encryption = try await newEncryption(request.encryption, isInParts: true)?.0.encoded()
        let upload = MultipartUpload(
            id: UploadID(startedAt: startedAt, random: random.next()),
            bucket: bucket.id,
            key: request.key,
            startedAt: startedAt,
            metadata: request.metadata,
            tags: request.tags,
            attributes: attributes,
            checksum: request.checksum,
            initiator: request.initiator
        )
        try await write(documents: [
            DocumentWrite(
                space: .upload,
                key: upload.documentKey,
                expectation: .absent,
                body: upload.body
            )
        ])
        return upload
    }

    /// - Throws: `.noSuchUpload`.
    package func upload(_ address: UploadAddress) async throws -> MultipartUpload {
        try await readCatalog { reader in try reader.existingUpload(address) }
    }

    /// A page of an upload's parts, in the order of their numbers.
    /// - Parameter last: the number after which the page starts.
    package func listParts(
        of address: UploadAddress,
        after last: Int = 0,
        limit: Int = Limits.listPageSizeMax
    ) async throws -> PartPage {
        let limit = min(max(limit, 0), Limits.listPageSizeMax)
        return try await readCatalog { reader in
            let upload = try reader.existingUpload(address)
            let key = upload.documentKey
            var rows: [DocumentRow] = []
            if last < Limits.partCountMax {
                rows = try reader.documents(
                    .part,
                    prefix: key,
                    after: last > 0 ? UploadKey.part(key, last) : nil,
                    limit: limit + 1
                )
            }
            let parts = try rows.prefix(limit).map { try UploadedPart($0) }
            return PartPage(
                upload: upload,
                parts: parts,
                next: rows.count > limit ? parts.last?.number ?? last : nil
            )
        }
    }

    /// Ends an upload without an object.
    /// - Throws: `.noSuchUpload`.
    package func abort(_ address: UploadAddress) async throws {
        let upload = try await upload(address)
        let parts = try await firstParts(of: upload)
        try await write(documents: upload.removal(expecting: .present) + removals(of: parts))
        await removeParts(ofUpload: upload.documentKey)
    }

    /// Parts that leave together with their upload, in one decision; most uploads have no more.
    func firstParts(of upload: MultipartUpload) async throws -> [DocumentRow] {
        let key = upload.documentKey
        return try await readCatalog { reader in
            try reader.documents(.part, prefix: key, limit: Self.firstPartCountMax)
        }
    }

    func removals(of parts: [DocumentRow]) -> [DocumentWrite] {
        parts.map { DocumentWrite(space: .part, key: $0.key, body: nil) }
    }

    /// Parts that leave in the same decision as their upload. A decision holds up others while it looks them up.
    private static var firstPartCountMax: Int { 32 }
    /// Parts that are removed in one decision of their own.
    static var removalCountMax: Int { 128 }

    /// Removes the parts of an upload that isn't there any more. What fails is left to the next sweep.
    func removeParts(ofUpload key: [UInt8]) async {
        while !Task.isCancelled {
            do {
                let parts = try await readCatalog { reader in
                    try reader.documents(.part, prefix: key, limit: Self.removalCountMax)
                }
                guard !parts.isEmpty else { return }
                try await write(documents: removals(of: parts))
            } catch {
                return
            }
        }
    }
}

extension MultipartUpload {
    func removal(expecting expectation: DocumentExpectation) -> [DocumentWrite] {
        [
            DocumentWrite(
                space: .upload,
                key: documentKey,
                expectation: expectation,
                body: nil,
                refusal: .noSuchUpload
            )
        ]
    }
}

extension CatalogReader {
    func existingUpload(_ address: UploadAddress) throws -> MultipartUpload {
        let bucket = try existingBucket(address.bucket)
        let key = UploadKey.upload(bucket.id, address.key, address.id)
        guard let document = try document(.upload, key) else { throw StoreError.noSuchUpload(address) }
        return try MultipartUpload(document)
    }
}

extension StoreError {
    static func noSuchUpload(_ address: UploadAddress) -> StoreError {
        StoreError(
            .noSuchUpload,
            "There is no upload \(address.id) of \(quoted(address.key.bytes)) in \(address.bucket).",
            advice: "It may have been completed or aborted."
        )
    }
}
