internal import Catalog
internal import ContentHashing
internal import Encryption
internal import ObjectService
internal import S3Protocol
internal import StoreModel

/// https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html: larger objects are copied in parts.
private let copySourceSizeMax: UInt64 = 5 << 30

extension S3Service {
    /// https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html
    func copyObject(_ exchange: Exchange) async throws {
        let request = exchange.request
        let (bucket, key) = (try request.bucket(), try request.key())
        let named = try CopySource(request.headers)
        let directives = try CopyDirectives(request.headers)
        let new = try await newObject(request.headers, in: bucket, request, account: request.account)
        let source = try await copySource(named)
        guard source.size <= copySourceSizeMax else {
            throw S3Error(
                .invalidRequest,
                "The specified copy source is larger than the maximum allowable size for a copy source: "
                    + "\(copySourceSizeMax)"
            )
        }
        if named.versionID == nil, named.bucket == bucket, named.key == key {
            try Self.checkSelfCopy(request.headers, directives, new)
        }
        let sourceKey = try customerKey(request, .copySource)
        let command = CopyCommand(
            source: address(of: source, named),
            sourceConditions: Conditions(ConditionalHeaders(copySource: request.headers)),
            bucket: bucket,
            key: key,
            metadata: directives.replacesMetadata ? new.metadata : Self.kept(source.metadata, new.metadata),
            tags: directives.replacesTagging ? new.tags ?? [] : nil,
            attributes: new.attributes,
            conditions: try writeConditions(request.headers)
        )
        let policy = try await acknowledgement(
            of: bucket,
            for: key,
            new,
            keeps: command.tags == nil ? source.tags : []
        )
        let row: VersionRow
        if let algorithm = try ChecksumHeaders.uploadAlgorithm(request.headers),
            objectChecksum(of: source)?.checksum.algorithm != algorithm
        {
            row = try await copyBytes(command, new, source, sourceKey, algorithm, policy)
        } else {
            row = try await copy(command, new, source, sourceKey, policy)
        }
        try await acknowledge(row, policy)
        let expiration = try await expirationHeader(row, exchange)
        exchange.send(
            200,
            versionHeader(row) + sourceHeader(source) + new.encryptionHeaders + expiration,
            document: CopyResult(
                .object,
                entityTag: row.etag,
                lastModified: row.createdAt,
                checksum: objectChecksum(of: row)
            )
        )
    }

    /// A copy that was made before and whose mirrors were waited for in vain is not made a second time.
    @inline(never)
    private func copy(
        _ command: CopyCommand,
        _ new: NewObject,
        _ source: VersionRow,
        _ sourceKey: EncryptionKey?,
        _ policy: MirrorAcknowledgement?
    ) async throws -> VersionRow {
        let isDefault = new.hasDefaultRetention
        // What is to be encrypted, or again with another key, is no copy that was made before.
        if case .none = new.encryption, source.attributes[.encryption] == nil,
            let known = try await objects.versionToWaitFor(
                command,
                source: source,
                isDefaultRetention: isDefault,
                policy
            )
        {
            return known
        }
        return try await objects.copy(command, encryption: new.encryption, sourceKey: sourceKey)
    }

    /// A copy with a checksum that the source doesn't have: its bytes have to be read.
    private func copyBytes(
        _ command: CopyCommand,
        _ new: NewObject,
        _ source: VersionRow,
        _ sourceKey: EncryptionKey?,
        _ algorithm: ChecksumAlgorithm,
        _ policy: MirrorAcknowledgement?
    ) async throws -> VersionRow {
        let conditions = ConditionalHeaders(command.sourceConditions)
        guard
            conditions.evaluateCopySource(etag: source.etag, lastModified: source.createdAt) == .proceed
        else { throw S3Error(.preconditionFailed) }
        let reader = try objects.read(source, clientKey: sourceKey)
        var put = PutRequest(
            bucket: command.bucket,
            key: command.key,
            metadata: command.metadata ?? source.metadata,
            tags: command.tags ?? source.tags,
            attributes: command.attributes,
            encryption: new.encryption,
            conditions: command.conditions,
            expectation: BodyExpectation(size: source.size),
            checksum: algorithm
        )
        put.acknowledgement = policy
        put.retentionIsDefault = new.hasDefaultRetention
        return try await objects.put(put, body: ReaderByteSource(reader))
    }

    /// "This copy request is illegal because it is trying to copy an object to itself without changing …"
    private static func checkSelfCopy(
        _ headers: HeaderList,
        _ directives: CopyDirectives,
        _ new: NewObject
    ) throws(S3Error) {
        let changes =
            directives.replacesMetadata || headers.contains("x-amz-website-redirect-location")
            || headers.contains("x-amz-storage-class")
            || headers.contains("x-amz-server-side-encryption")
            || headers.contains(CustomerKey.Prefix.object.rawValue + "algorithm")
        guard changes else {
            throw S3Error(
                .invalidRequest,
                "This copy request is illegal because it is trying to copy an object to itself without changing the "
                    + "object's metadata, storage class, website redirect location or encryption attributes."
            )
        }
    }

    /// "The value of x-amz-website-redirect-location is not copied: it is what the request says."
    /// https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html
    private static func kept(_ metadata: ObjectMetadata, _ requested: ObjectMetadata) -> ObjectMetadata? {
        let name = "x-amz-website-redirect-location"
        let wanted = requested.otherHeaders.filter { $0.name == name }
        guard metadata.otherHeaders.filter({ $0.name == name }) != wanted else { return nil }
        return ObjectMetadata(
            contentType: metadata.contentType,
            otherHeaders: metadata.otherHeaders.filter { $0.name != name } + wanted,
            userMetadata: metadata.userMetadata
        )
    }

    // MARK: UploadPartCopy

    /// https://docs.aws.amazon.com/AmazonS3/latest/API/API_UploadPartCopy.html
    func uploadPartCopy(_ exchange: Exchange) async throws {
        let request = exchange.request
        let number = try partNumber(request.query)
        let upload = try uploadAddress(request)
        let named = try CopySource(request.headers)
        let range = try request.headers.single("x-amz-copy-source-range").map { text throws(S3Error) in
            try ByteRangeHeader.copySource(text)
        }
        let attributes = try await objects.upload(upload).attributes
        let source = try await copySource(named)
        let bytes = try range?.resolveInside(source: source.size)
        let copied = try await objects.copyPart(
            CopyPartRequest(
                upload: upload,
                number: number,
                source: address(of: source, named),
                sourceConditions: Conditions(ConditionalHeaders(copySource: request.headers)),
                range: bytes.map { $0.offset...($0.end - 1) },
                sourceKey: try customerKey(request, .copySource),
                clientKey: try customerKey(request)
            )
        )
        exchange.send(
            200,
            sourceHeader(copied.source) + (try encryptionHeaders(attributes, request)),
            document: CopyResult(
                .part,
                entityTag: copied.part.etag.hex,
                lastModified: copied.part.uploadedAt,
                checksum: copied.part.checksum.map { ObjectChecksum(fullObject: $0) }
            )
        )
    }

    // MARK: Sources

    private func copySource(_ named: CopySource) async throws -> VersionRow {
        let address = VersionAddress(
            bucket: named.bucket,
            key: named.key,
            selector: try selector(text: named.versionID)
        )
        do {
            return try await objects.head(address)
        } catch let error as StoreError where error.code == .methodNotAllowed {
            throw S3Error(
                .invalidRequest,
                "The source of a copy request may not specifically refer to a delete marker by version id."
            )
        } catch let error as StoreError where error.code == .noSuchKey {
            throw S3Error(.noSuchKey, details: [("Key", named.key.description)])
        }
    }

    /// The version that was looked at; a null version may be overwritten meanwhile, and then the new one counts.
    private func address(of source: VersionRow, _ named: CopySource) -> VersionAddress {
        let selector: VersionSelector =
            !source.isNull ? .id(source.id) : named.versionID == nil ? .newest : .null
        return VersionAddress(bucket: named.bucket, key: named.key, selector: selector)
    }

    private func sourceHeader(_ source: VersionRow) -> [HeaderField] {
        source.isNull ? [] : [HeaderField("x-amz-copy-source-version-id", source.id.description)]
    }
}

extension ConditionalHeaders {
    fileprivate init(_ conditions: Conditions) {
        self.init()
        ifMatch = conditions.ifMatch.map { Tags($0) }
        ifNoneMatch = conditions.ifNoneMatch.map { Tags($0) }
        ifModifiedSince = conditions.ifModifiedSince
        ifUnmodifiedSince = conditions.ifUnmodifiedSince
    }
}

extension ConditionalHeaders.Tags {
    fileprivate init(_ match: ETagMatch) {
        switch match {
        case .any: self = .any
        case .oneOf(let list): self = .some(list)
        }
    }
}
