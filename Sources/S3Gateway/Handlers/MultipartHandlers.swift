internal import Catalog
internal import ContentHashing
internal import ObjectService
internal import S3Protocol
internal import StoreModel

// https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html
extension S3Service {
    /// https://docs.aws.amazon.com/AmazonS3/latest/API/API_CreateMultipartUpload.html
    func createMultipartUpload(_ exchange: Exchange) async throws {
        let request = exchange.request
        let (bucket, key) = (try request.bucket(), try request.key())
        let new = try await newObject(request.headers, in: bucket, request, account: request.account)
        let checksum = try UploadChecksum(request.headers)
        _ = try await acknowledgement(of: bucket, for: key, new)
        let upload = try await objects.createUpload(
            CreateUploadRequest(
                bucket: bucket,
                key: key,
                metadata: new.metadata,
                tags: new.tags ?? [],
                attributes: new.attributes,
                encryption: new.encryption,
                checksum: checksum,
                initiator: request.account?.id
            )
        )
        var headers = new.encryptionHeaders
        if let checksum {
            headers.append(HeaderField("x-amz-checksum-algorithm", checksum.algorithm.name))
            headers.append(HeaderField("x-amz-checksum-type", checksum.type.name))
        }
        exchange.send(
            200,
            headers,
            document: InitiateMultipartUploadResult(
                bucket: bucket.description,
                key: key.description,
                uploadID: upload.id.description
            )
        )
    }

    /// https://docs.aws.amazon.com/AmazonS3/latest/API/API_UploadPart.html
    func uploadPart(_ exchange: Exchange) async throws {
        let request = exchange.request
        let number = try partNumber(request.query)
        let address = try uploadAddress(request)
        let checksums = try ChecksumHeaders(request.headers)
        let content = try ObjectBody(exchange, checksums: checksums)
        guard let length = content.contentLength else { throw S3Error(.missingContentLength) }
        guard length <= Limits.partSizeMax else {
            throw S3Error(
                .entityTooLarge,
                details: [("ProposedSize", "\(length)"), ("MaxSizeAllowed", "\(Limits.partSizeMax)")]
            )
        }
        let upload = try await objects.upload(address)
        if let own = upload.checksum?.algorithm, let named = checksums.algorithm, own != named {
            throw S3Error(
                .invalidRequest,
                "Checksum Type mismatch occurred, expected checksum Type: \(own.name.lowercased()), "
                    + "actual checksum Type: \(named.name.lowercased())"
            )
        }
        var put = PutPartRequest(
            upload: address,
            number: number,
            expectation: expectation(of: request, length, checksums),
            checksum: checksums.algorithm,
            clientKey: try customerKey(request)
        )
        if checksums.trailer != nil { put.expectationAtEnd = content.expectationSource }
        exchange.body.acceptBody()
        let part = try await objects.putPart(put, body: content)
        var headers = [HeaderField("ETag", ETag.quoted(part.etag.hex))]
        if let checksum = part.checksum {
            headers.append(HeaderField(checksum.algorithm.headerName, checksum.base64))
        }
        exchange.send(200, headers + (try encryptionHeaders(upload.attributes, request)))
    }

    /// https://docs.aws.amazon.com/AmazonS3/latest/API/API_AbortMultipartUpload.html
    func abortMultipartUpload(_ exchange: Exchange) async throws {
        try await objects.abort(try uploadAddress(exchange.request))
        exchange.send(204)
    }

    // MARK: Complete

    /// https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html
    func completeMultipartUpload(_ exchange: Exchange) async throws {
        let request = exchange.request
        let address = try uploadAddress(request)
        let expected = try Self.objectChecksum(request.headers)
        let type = try ChecksumHeaders.type(of: request.headers)
        // Here the checksum headers are about the object, not about the document. 10,000 parts with the longest of
        // checksums come to less than 4 MiB.
        let body = try await exchange.document(sizeMax: 4 << 20, checksums: ChecksumHeaders())
        let document = try CompleteMultipartUpload(body: body)
        let conditions = try writeConditions(request.headers)
        let size = try request.headers.single("x-amz-mp-object-size").map { text throws(S3Error) in
            guard let size = ASCIIText.decimal(text) else {
                throw .invalidArgument(
                    "The size is not valid.",
                    name: "x-amz-mp-object-size",
                    value: text
                )
            }
            return size
        }
        let wanted = try await uploadChecksum(address)
        if let type, let wanted, wanted.type != type {
            throw S3Error(
                .invalidRequest,
                "The upload was created using the \(wanted.type.name) checksum mode. The complete request must use "
                    + "the same checksum mode."
            )
        }
        let complete = CompleteRequest(
            upload: address,
            parts: document.parts.map { part in
                ListedPart(
                    number: part.number,
                    etag: part.entityTag,
                    checksum: part.checksums.first { wanted == nil || $0.algorithm == wanted?.algorithm }
                )
            },
            conditions: conditions,
            size: size,
            checksum: wanted.flatMap { $0.algorithm == expected?.checksum.algorithm ? expected : nil }
        )
        try await answer(exchange, complete)
    }

    /// nil also for an upload that has ended: a repeated request is told apart below.
    private func uploadChecksum(_ address: UploadAddress) async throws -> UploadChecksum? {
        do {
            return try await objects.upload(address).checksum
        } catch let error as StoreError where error.code == .noSuchUpload {
            return nil
        }
    }

    /// Checking that thousands of parts are durable, and waiting for mirrors, may take longer than a client waits in
    /// silence: blanks in front of
    /// the document keep it waiting, and what goes wrong then is told in the document.
    /// "Amazon S3 periodically sends white space characters to keep the connection from timing out."
    /// https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html
    private func answer(_ exchange: Exchange, _ complete: CompleteRequest) async throws {
        let clock = self.clock
        let policy = try await objects.mirrorAcknowledgement(of: complete.upload.bucket)
        try await withThrowingTaskGroup(of: CompletionEvent.self) { group in
            group.addTask {
                do {
                    return .ended(.success(try await self.completed(complete, policy)))
                } catch {
                    return .ended(.failure(error))
                }
            }
            func wait() {
                group.addTask {
                    try await clock.sleep(for: completionSilenceMax)
                    return .stillWaiting
                }
            }
            wait()
            var hasStarted = false
            while let event = try await group.next() {
                switch event {
                case .stillWaiting:
                    if !hasStarted {
                        exchange.start(
                            200,
                            [HeaderField("Content-Type", "application/xml")],
                            contentLength: nil
                        )
                        try await exchange.write(xmlDeclaration)
                        hasStarted = true
                    }
                    try await exchange.write([0x20])
                    wait()
                case .ended(let result):
                    group.cancelAll()
                    guard hasStarted else {
                        let row = try result.get()
                        let expiration = try await expirationHeader(row, exchange)
                        return try send(exchange, complete, row, expiration)
                    }
                    return try await finish(exchange, complete, result)
                }
            }
        }
    }

    /// A completion that is repeated gives the version that the first one made, and waits for it.
    @inline(never)
    private func completed(_ complete: CompleteRequest, _ policy: MirrorAcknowledgement?) async throws
        -> VersionRow
    {
        var complete = complete
        complete.acknowledgement = policy
        let row = try await objects.complete(complete)
        try await acknowledge(row, policy)
        if policy != nil { await objects.endRepeated(complete.upload, answeredWith: row) }
        return row
    }

    private func send(
        _ exchange: Exchange,
        _ complete: CompleteRequest,
        _ row: VersionRow,
        _ expiration: [HeaderField]
    ) throws {
        exchange.send(
            200,
            versionHeader(row) + (try encryptionHeaders(row.attributes, exchange.request)) + expiration,
            document: completion(complete, row, exchange.request)
        )
    }

    private func finish(
        _ exchange: Exchange,
        _ complete: CompleteRequest,
        _ result: Result<VersionRow, any Error>
    ) async throws {
        let document: [UInt8]
        switch result {
        case .success(let row): document = completion(complete, row, exchange.request).xmlBytes
        case .failure(let error):
            guard let error = ErrorMapping.s3Error(for: error) else { throw error }
            document =
                ErrorDocument(
                    error: error,
                    resource: exchange.request.head.path,
                    requestID: exchange.request.id
                )
                .xmlBytes
        }
        try await exchange.write([UInt8](document.dropFirst(xmlDeclaration.count)))
        exchange.finish()
    }

    private func completion(
        _ complete: CompleteRequest,
        _ row: VersionRow,
        _ request: VerifiedRequest
    ) -> CompleteMultipartUploadResult {
        CompleteMultipartUploadResult(
            location: location(of: complete.upload.key, in: complete.upload.bucket, request),
            bucket: complete.upload.bucket.description,
            key: complete.upload.key.description,
            entityTag: row.etag,
            checksum: objectChecksum(of: row)
        )
    }

    /// The URL of an object, as the request's own host names it.
    func location(of key: ObjectKey, in bucket: BucketName, _ request: VerifiedRequest) -> String {
        let host = request.headers.first("host") ?? "localhost"
        let scheme = request.head.isSecure ? "https" : "http"
        let path = PercentCoding.encode(key.bytes, keepsSlash: true)
        // Virtual-host style: the bucket stands in the host.
        let isInHost = host.hasPrefix(bucket.description + ".")
        return isInHost ? "\(scheme)://\(host)/\(path)" : "\(scheme)://\(host)/\(bucket)/\(path)"
    }

    /// `x-amz-checksum-…` of CompleteMultipartUpload: of the whole object, with the number of parts or without.
    private static func objectChecksum(_ headers: HeaderList) throws(S3Error) -> ObjectChecksum? {
        for algorithm in ChecksumAlgorithm.allCases {
            guard let text = try headers.single(algorithm.headerName) else { continue }
            guard text.utf8.count <= 128, let checksum = ObjectChecksum(algorithm, text: text) else {
                throw S3Error(.invalidRequest, "Value for \(algorithm.headerName) header is invalid.")
            }
            return checksum
        }
        return nil
    }
}

private let xmlDeclaration = XMLWriter().bytes

private enum CompletionEvent: Sendable {
    case stillWaiting
    case ended(Result<VersionRow, any Error>)
}

/// Shorter than what clients and proxies wait for the first byte.
private let completionSilenceMax: Duration = .seconds(10)

// MARK: Parts of several handlers

extension S3Service {
    func uploadAddress(_ request: VerifiedRequest) throws -> UploadAddress {
        let text = request.query.first("uploadId") ?? ""
        guard let id = UploadID(text) else {
            throw S3Error(.noSuchUpload, details: [("UploadId", String(text.prefix(256)))])
        }
        return UploadAddress(bucket: try request.bucket(), key: try request.key(), id: id)
    }

    func partNumber(_ query: QueryItems) throws(S3Error) -> Int {
        let text = query.first("partNumber") ?? ""
        guard let number = ASCIIText.decimal(text), (1...UInt64(Limits.partCountMax)).contains(number) else {
            throw .invalidArgument(
                "Part number must be an integer between 1 and \(Limits.partCountMax), inclusive",
                name: "partNumber",
                value: text
            )
        }
        return Int(number)
    }

    /// The conditions of a request that makes or removes a version. S3 knows no `If-None-Match` with an ETag there.
    /// https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
    func writeConditions(_ headers: HeaderList) throws(S3Error) -> Conditions {
        let conditions = try ConditionalHeaders(headers)
        if case .some(.some) = conditions.ifNoneMatch { throw .notImplemented(header: "If-None-Match") }
        return Conditions(conditions)
    }

    func objectChecksum(of row: VersionRow) -> ObjectChecksum? {
        row.checksums.others.lazy.compactMap { entry in
            ChecksumAlgorithm(name: entry.name).flatMap { ObjectChecksum($0, text: entry.value) }
        }
        .first
    }
}

extension UploadChecksum {
    /// What CreateMultipartUpload asks for.
    /// https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity-upload.html#Full-object-checksums
    init?(_ headers: HeaderList) throws(S3Error) {
        let type = try ChecksumHeaders.type(of: headers)
        guard let algorithm = try ChecksumHeaders.uploadAlgorithm(headers) else {
            guard type == nil else {
                throw S3Error(
                    .invalidRequest,
                    "The x-amz-checksum-type header can only be used with the x-amz-checksum-algorithm header."
                )
            }
            return nil
        }
        let isFullOnly = algorithm == .crc64nvme
        let isCompositeOnly = algorithm == .sha1 || algorithm == .sha256
        let wanted = type ?? (isFullOnly ? .fullObject : .composite)
        guard wanted == .fullObject ? !isCompositeOnly : !isFullOnly else {
            throw S3Error(
                .invalidRequest,
                "The \(wanted.name) checksum type cannot be used with the \(algorithm.name.lowercased()) checksum "
                    + "algorithm."
            )
        }
        self.init(algorithm: algorithm, type: wanted)
    }
}
