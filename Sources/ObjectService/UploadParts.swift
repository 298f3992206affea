internal import Catalog
internal import ContentHashing
internal import StoreModel

extension ObjectStore {
    /// Takes in the bytes of a part; one that is there already is replaced.
    /// - Throws: `.noSuchUpload`, also when the upload ended while the body came in; else as `put`.
    package func putPart(_ request: PutPartRequest, body: any ByteSource) async throws -> UploadedPart {
        try Self.checkPart(number: request.number, size: request.expectation.size)
        try storage.checkRoom(for: request.expectation.size)
        let upload = try await upload(request.upload)
        let sealing = try newSealing(ofPart: request.number, of: upload, clientKey: request.clientKey)
        let requirements = BodyRequirements(
            expectation: request.expectation,
            expectationAtEnd: request.expectationAtEnd,
            checksum: try upload.checksumAlgorithm(ofPart: request.checksum),
            sizeMax: Limits.partSizeMax
        )
        return try await store(request.number, of: upload, body, requirements, sealing, storage)
    }

    /// Makes a part of the bytes of an object that is there. They are read and taken in again, because a part has
    /// an ETag of its own; what is stored already isn't stored twice.
    package func copyPart(_ request: CopyPartRequest) async throws -> CopiedPart {
        try Self.checkPart(number: request.number, size: nil)
        let upload = try await upload(request.upload)
        let source = try await readableVersion(request.source)
        try request.sourceConditions.check(on: source, key: request.source.key)
        let range = try Self.resolve(request.range, of: source)
        try Self.checkPart(number: request.number, size: range.length)
        let requested: RequestedRange =
            range.length == source.size ? .whole : .from(range.offset, length: range.length)
        let sealing = try newSealing(ofPart: request.number, of: upload, clientKey: request.clientKey)
        let body = ReaderByteSource(try read(source, range: requested, clientKey: request.sourceKey))
        let requirements = BodyRequirements(
            checksum: upload.checksum?.algorithm,
            sizeMax: Limits.partSizeMax
        )
        let part = try await store(request.number, of: upload, body, requirements, sealing, storage)
        return CopiedPart(part: part, source: source)
    }

    /// https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
    private static func checkPart(number: Int, size: UInt64?) throws(StoreError) {
        guard (1...Limits.partCountMax).contains(number) else {
            throw StoreError(
                .invalidArgument,
                "Part number must be an integer between 1 and \(Limits.partCountMax), inclusive."
            )
        }
        guard (size ?? 0) <= Limits.partSizeMax else {
            throw StoreError(.entityTooLarge, "A part has at most \(Limits.partSizeMax) bytes.")
        }
    }

    private static func resolve(
        _ range: ClosedRange<UInt64>?,
        of source: VersionRow
    ) throws(StoreError) -> ByteRange {
        guard let range else { return ByteRange(wholeOf: source.size) }
        guard range.upperBound < source.size else {
            throw StoreError(
                .invalidRange,
                "The range \(range.lowerBound)-\(range.upperBound) is not within the \(source.size) bytes."
            )
        }
        return try ByteRange(
            offset: range.lowerBound,
            length: range.upperBound - range.lowerBound + 1,
            of: source.size
        )
    }

    private func store<Storage: ReplicatedStorage>(
        _ number: Int,
        of upload: MultipartUpload,
        _ body: any ByteSource,
        _ requirements: BodyRequirements,
        _ sealing: ObjectSealing?,
        _ storage: Storage
    ) async throws -> UploadedPart {
        let pipeline = ContentPipeline(storage: storage, limits: limits, permits: uploadPermits)
        let stored = try await pipeline.store(body, requirements, sealing: sealing?.cipher)
        try Task.checkCancellation()
        guard let md5 = stored.content.checksums.md5 else {
            throw StoreError(.internalFault, "A body was taken in without an MD5.")
        }
        let checksum = stored.content.checksums.others.first.flatMap { found in
            requirements.checksum.flatMap { Checksum($0, base64: found.value) }
        }
        let part = UploadedPart(
            number: number,
            size: stored.content.size,
            etag: sealing?.entityTag(ofPart: md5) ?? md5,
            uploadedAt: clock.now(),
            checksum: checksum,
            payload: PayloadReference(manifest: stored.content.manifest, size: stored.storedSize)
        )
        let key = upload.documentKey
        let writes = [
            DocumentWrite(
                space: .upload,
                key: key,
                expectation: .present,
                change: .keep,
                refusal: .noSuchUpload
            ),
            DocumentWrite(
                space: .part,
                key: UploadKey.part(key, number),
                change: .put(body: part.body, payload: part.payload)
            ),
        ]
        _ = try await commit(
            .documents(writes),
            operation: newOperation(),
            chunks: stored.receipts,
            on: storage
        )
        return part
    }
}

extension MultipartUpload {
    /// The algorithm that a part is checked with.
    fileprivate func checksumAlgorithm(
        ofPart named: ChecksumAlgorithm?
    ) throws(StoreError) -> ChecksumAlgorithm? {
        let own = checksum?.algorithm
        guard let named, let own, named != own else { return named ?? own }
        throw StoreError(
            .invalidArgument,
            "The upload is checked with \(own.name), the part with \(named.name)."
        )
    }
}

/// The bytes of a version as a body.
package final class ReaderByteSource: ByteSource {
    private let reader: ObjectReader

    package init(_ reader: ObjectReader) { self.reader = reader }

    package func next() async throws -> [UInt8]? { try await reader.next() }
}
