internal import Catalog
internal import ContentHashing
internal import ObjectService
internal import S3Protocol
internal import StoreModel

extension S3Service {
    // MARK: GetObjectAttributes

    /// https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObjectAttributes.html
    func getObjectAttributes(_ exchange: Exchange) async throws {
        let request = exchange.request
        let names = try ObjectAttributes.names(of: request.headers.all("x-amz-object-attributes"))
        let row = try await readableVersion(request)
        try objects.checkKey(try customerKey(request), of: row)
        var attributes = ObjectAttributes()
        if names.contains(.entityTag) { attributes.entityTag = row.etag }
        if names.contains(.checksum) { attributes.checksum = objectChecksum(of: row) }
        if names.contains(.storageClass) {
            attributes.storageClass = row.attributes.storageClass ?? "STANDARD"
        }
        if names.contains(.objectSize) { attributes.size = row.size }
        if names.contains(.objectParts) { attributes.parts = try await parts(of: row, request.headers) }
        exchange.send(
            200,
            [HeaderField("Last-Modified", HTTPDate.format(row.createdAt))]
                + (try await shownVersionHeader(row, request)),
            document: attributes
        )
    }

    /// nil for an object that was put whole.
    private func parts(
        of row: VersionRow,
        _ headers: HeaderList
    ) async throws -> ObjectAttributes.Parts? {
        let countMax = try Self.count(headers, "x-amz-max-parts") ?? 1000
        let marker = try Self.count(headers, "x-amz-part-number-marker") ?? 0
        guard let all = try await objects.parts(of: row) else { return nil }
        let algorithm = objectChecksum(of: row)?.checksum.algorithm
        let rest = all.filter { Int($0.number) > marker }
        let page = rest.prefix(min(countMax, 1000))
        return ObjectAttributes.Parts(
            totalCount: all.count,
            marker: marker,
            nextMarker: page.last.map { Int($0.number) } ?? marker,
            maxParts: countMax,
            isTruncated: page.count < rest.count,
            parts: page.map { part in
                ObjectAttributes.Part(
                    number: Int(part.number),
                    size: part.size,
                    checksum: part.checksum.flatMap { text in algorithm.flatMap { Checksum($0, base64: text) }
                    }
                )
            }
        )
    }

    private static func count(_ headers: HeaderList, _ name: String) throws(S3Error) -> Int? {
        guard let text = try headers.single(name) else { return nil }
        guard let number = ASCIIText.decimal(text), number <= UInt64(Int32.max) else {
            throw .invalidArgument(
                "Provided \(name) not an integer or within integer range",
                name: name,
                value: text
            )
        }
        return Int(number)
    }

    // MARK: Tagging

    /// https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObjectTagging.html
    func getObjectTagging(_ exchange: Exchange) async throws {
        let row = try await readableVersion(exchange.request)
        exchange.send(
            200,
            try await shownVersionHeader(row, exchange.request),
            document: TagSet(stored: row.tags.map { .init(key: $0.name, value: $0.value) })
        )
    }

    /// https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObjectTagging.html
    func putObjectTagging(_ exchange: Exchange) async throws {
        let tags = try TagSet(body: try await exchange.document(), of: .object)
        try await setTags(exchange, tags.tags.map { NamedValue($0.key, $0.value) }, status: 200)
    }

    /// https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjectTagging.html
    func deleteObjectTagging(_ exchange: Exchange) async throws {
        try await setTags(exchange, [], status: 204)
    }

    private func setTags(_ exchange: Exchange, _ tags: [NamedValue], status: Int) async throws {
        let found = try await readableVersion(exchange.request)
        let row = try await objects.setTags(of: try address(exchange.request, of: found), to: tags)
        exchange.send(status, try await shownVersionHeader(row, exchange.request))
    }

    // MARK: Object lock

    /// https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObjectRetention.html
    func getObjectRetention(_ exchange: Exchange) async throws {
        let row = try await lockableVersion(exchange.request)
        guard let retention = row.attributes.retention else {
            throw S3Error(.noSuchObjectLockConfiguration)
        }
        exchange.send(document: Retention(retention))
    }

    /// https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObjectRetention.html
    func putObjectRetention(_ exchange: Exchange) async throws {
        let request = exchange.request
        let change = try RetentionChange(body: try await exchange.document())
        try change.retention?.requireFuture(of: request.receivedAt)
        let found = try await lockableVersion(request)
        let row = try await objects.setAttributes(
            of: try address(request, of: found),
            [AttributeChange(.retention, change.retention.map { ObjectRetention($0).bytes })],
            bypassesGovernance: try ObjectLockHeaders.bypassesGovernance(request.headers)
        )
        exchange.send(200, try await shownVersionHeader(row, request))
    }

    /// https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObjectLegalHold.html
    func getObjectLegalHold(_ exchange: Exchange) async throws {
        let row = try await lockableVersion(exchange.request)
        guard let isOn = row.attributes.legalHold else { throw S3Error(.noSuchObjectLockConfiguration) }
        exchange.send(document: LegalHold(isOn: isOn))
    }

    /// https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObjectLegalHold.html
    func putObjectLegalHold(_ exchange: Exchange) async throws {
        let request = exchange.request
        let hold = try LegalHold(body: try await exchange.document())
        let found = try await lockableVersion(request)
        let row = try await objects.setAttributes(
            of: try address(request, of: found),
            [AttributeChange(.legalHold, [hold.isOn ? 1 : 0])]
        )
        exchange.send(200, try await shownVersionHeader(row, request))
    }

    private func lockableVersion(_ request: VerifiedRequest) async throws -> VersionRow {
        let settings = try await objects.bucketConfiguration(try request.bucket()).settings
        guard try lockConfiguration(settings) != nil else { throw Self.lockMissing }
        return try await readableVersion(request)
    }
}

// MARK: Versions that requests name

extension S3Service {
    /// The version that a request names, or the newest.
    /// - Throws: an error that tells of a delete marker, when it is one that hides the object.
    ///   https://docs.aws.amazon.com/AmazonS3/latest/userguide/DeleteMarker.html
    func readableVersion(_ request: VerifiedRequest) async throws -> VersionRow {
        let address = VersionAddress(
            bucket: try request.bucket(),
            key: try request.key(),
            selector: try selector(request.query)
        )
        do {
            return try await objects.head(address)
        } catch let error as StoreError {
            throw try await described(error, address, request)
        }
    }

    private func described(
        _ error: StoreError,
        _ address: VersionAddress,
        _ request: VerifiedRequest
    ) async throws -> any Error {
        let key = ("Key", address.key.description)
        switch error.code {
        case .noSuchKey:
            let newest = try await objects.history(bucket: address.bucket, key: address.key, limit: 1).first
            guard let newest, newest.isDeleteMarker else { return S3Error(.noSuchKey, details: [key]) }
            return S3Error(
                .noSuchKey,
                details: [key],
                headers: [
                    ("x-amz-delete-marker", "true"), ("x-amz-version-id", Self.name(of: newest)),
                ]
            )
        case .noSuchVersion:
            let version = request.query.first("versionId") ?? ""
            return S3Error(.noSuchVersion, details: [key, ("VersionId", version)])
        case .methodNotAllowed:
            let version = request.query.first("versionId") ?? ""
            return S3Error(
                .methodNotAllowed,
                details: [("Method", request.head.method), ("ResourceType", "DeleteMarker")],
                headers: [
                    ("Allow", "DELETE"), ("x-amz-delete-marker", "true"), ("x-amz-version-id", version),
                ]
            )
        default: return error
        }
    }

    /// The version that was found, and no newer one.
    func address(_ request: VerifiedRequest, of row: VersionRow) throws -> VersionAddress {
        VersionAddress(bucket: try request.bucket(), key: row.key, selector: .id(row.id))
    }

    /// The version's name, where the bucket keeps versions or did: a null version is named there as well.
    func shownVersionHeader(
        _ row: VersionRow,
        _ request: VerifiedRequest
    ) async throws -> [HeaderField] {
        guard row.isNull else { return versionHeader(row) }
        let bucket = try await objects.bucketConfiguration(try request.bucket()).bucket
        return bucket.versioning == .off ? [] : [HeaderField("x-amz-version-id", "null")]
    }
}
