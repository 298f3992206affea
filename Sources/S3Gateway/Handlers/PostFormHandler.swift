internal import Catalog
internal import ContentHashing
internal import ObjectService
internal import S3Protocol
internal import StoreModel

/// Largest object of a single upload. https://docs.aws.amazon.com/AmazonS3/latest/API/RESTObjectPOST.html
private let formUploadSizeMax: UInt64 = 5 << 30

extension S3Service {
    /// An HTML form that uploads an object.
    /// https://docs.aws.amazon.com/AmazonS3/latest/API/RESTObjectPOST.html
    func postObject(_ exchange: Exchange) async throws {
        let request = exchange.request
        let bucket = try request.bucket()
        let file = try Self.file(of: exchange)
        let form = try await file.form()
        let (account, sizes) = try await authenticate(form, bucket, request)
        try await authorize(form, of: account, request)
        file.sizes = sizes
        let new = try await newObject(from: form, in: bucket, request, account: account)
        let policy = try await acknowledgement(of: bucket, for: try form.key(), new)
        var put = try putRequest(form, new, bucket)
        put.acknowledgement = policy
        put.retentionIsDefault = new.hasDefaultRetention
        let row = try await objects.put(put, body: file)
        try await acknowledge(row, policy)
        answer(exchange, form, row, new, bucket)
    }

    // The steps are functions of their own that are not inlined: the optimiser of Swift 6.3 crashes on one async function
    // with all these throwing calls.

    @inline(never)
    private static func file(of exchange: Exchange) throws -> FormFile {
        guard let type = try exchange.request.headers.single("content-type") else {
            throw S3Error(.requestIsNotMultiPartContent)
        }
        return FormFile(exchange.body, try PostFormParser(contentType: type))
    }

    @inline(never)
    private func authorize(
        _ form: PostForm,
        of account: AccountIdentity?,
        _ request: VerifiedRequest
    ) async throws {
        let key = try form.key()
        try await authorizeForm(
            request,
            account: account,
            key: key,
            hasACL: Self.namesACL(form.headers),
            hasTags: form.headers.contains("x-amz-tagging") || form.value("tagging") != nil
        )
    }

    @inline(never)
    private func newObject(
        from form: PostForm,
        in bucket: BucketName,
        _ request: VerifiedRequest,
        account: AccountIdentity?
    ) async throws -> NewObject {
        var new = try await newObject(form.headers, in: bucket, request, account: account)
        if let tagging = form.value("tagging") { new.tags = try Self.tags(tagging) }
        return new
    }

    @inline(never)
    private static func tags(_ text: String) throws -> [NamedValue] {
        try TagSet(body: [UInt8](text.utf8), of: .object).tags.map { NamedValue($0.key, $0.value) }
    }

    @inline(never)
    private func putRequest(
        _ form: PostForm,
        _ new: NewObject,
        _ bucket: BucketName
    ) throws -> PutRequest {
        let checksums = try ChecksumHeaders(form.headers)
        return PutRequest(
            bucket: bucket,
            key: try form.key(),
            metadata: new.metadata,
            tags: new.tags ?? [],
            attributes: new.attributes,
            encryption: new.encryption,
            conditions: try writeConditions(form.headers),
            expectation: BodyExpectation(md5: checksums.contentMD5, checksum: checksums.checksum),
            checksum: checksums.algorithm
        )
    }

    /// - Returns: nil for a form that nobody signed: whether that may upload is up to the bucket.
    @inline(never)
    private func authenticate(
        _ form: PostForm,
        _ bucket: BucketName,
        _ request: VerifiedRequest
    ) async throws -> (account: AccountIdentity?, sizes: ClosedRange<UInt64>?) {
        let authentication = try form.authentication()
        guard let accessKey = authentication.accessKey else { return (nil, nil) }
        let credential = try await credentials.credential(for: accessKey)
        let verified = try form.verify(
            authentication,
            verifier: verifier,
            secret: credential?.secret,
            bucket: bucket,
            allowsVersion2: configuration.allowsVersion2Forms,
            now: request.receivedAt
        )
        guard let credential else { throw S3Error(.invalidAccessKeyID) }
        return (credential.account, verified.sizes)
    }

    private func answer(
        _ exchange: Exchange,
        _ form: PostForm,
        _ row: VersionRow,
        _ new: NewObject,
        _ bucket: BucketName
    ) {
        let tag = ETag.quoted(row.etag)
        let location = location(of: row.key, in: bucket, exchange.request)
        let headers = [HeaderField("ETag", tag)] + identity(of: row) + new.encryptionHeaders
        if let target = form.successRedirect {
            let mark = target.contains("?") ? "&" : "?"
            let query = [("bucket", bucket.description), ("key", row.key.description), ("etag", tag)]
                .map { "\($0.0)=\(PercentCoding.encode($0.1.utf8, keepsSlash: false))" }
            return exchange.send(
                303,
                headers + [HeaderField("Location", target + mark + query.joined(separator: "&"))]
            )
        }
        let located = headers + [HeaderField("Location", location)]
        guard form.successStatus == 201 else { return exchange.send(form.successStatus, located) }
        exchange.send(
            201,
            located,
            document: PostResponse(
                location: location,
                bucket: bucket.description,
                key: row.key.description,
                entityTag: row.etag
            )
        )
    }
}

/// The file of a form as the body of an object. Used by one task.
private final class FormFile: ByteSource {
    private let body: RequestBody
    private var parser: PostFormParser
    private var pending: [UInt8] = []
    private var count: UInt64 = 0
    private var hasEnded = false
    /// What the policy allows.
    var sizes: ClosedRange<UInt64>?

    init(_ body: RequestBody, _ parser: PostFormParser) {
        self.body = body
        self.parser = parser
    }

    /// Reads up to the file.
    @inline(never)
    func form() async throws -> PostForm {
        while true {
            if let form = parser.form { return form }
            guard let piece = try await body.next() else {
                try parser.finish()
                throw S3Error(.malformedPOSTRequest)
            }
            pending += try parser.push(piece)
        }
    }

    func next() async throws -> [UInt8]? {
        while true {
            if !pending.isEmpty {
                let content = pending
                pending = []
                count += UInt64(content.count)
                // Before the rest comes in: a file that is too long need not be read to its end.
                let sizeMax = min(sizes?.upperBound ?? formUploadSizeMax, formUploadSizeMax)
                if count > sizeMax { try PostPolicy.check(size: count, in: 0...sizeMax) }
                return content
            }
            if hasEnded { return nil }
            guard let piece = try await body.next() else {
                try parser.finish()
                try PostPolicy.check(size: count, in: sizes)
                hasEnded = true
                continue
            }
            pending = try parser.push(piece)
        }
    }
}
