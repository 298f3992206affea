internal import Catalog
internal import ContentHashing
internal import Encryption
internal import ObjectService
internal import S3Protocol
internal import StoreModel

/// Largest object of a single upload. https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html
private let singleUploadSizeMax: UInt64 = 5 << 30

extension S3Service {
    // MARK: PUT

    /// https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html
    func putObject(_ exchange: Exchange) async throws {
        let request = exchange.request
        let (bucket, key) = (try request.bucket(), try request.key())
        let checksums = try ChecksumHeaders(request.headers)
        let content = try ObjectBody(exchange, checksums: checksums)
        guard let length = content.contentLength else { throw S3Error(.missingContentLength) }
        guard length <= singleUploadSizeMax else {
            throw S3Error(
                .entityTooLarge,
                details: [("ProposedSize", "\(length)"), ("MaxSizeAllowed", "\(singleUploadSizeMax)")]
            )
        }
        let new = try await newObject(request.headers, in: bucket, request, account: request.account)
        try Self.checkIntegrity(request.headers, checksums)
        let policy = try await acknowledgement(of: bucket, for: key, new)
        var put = PutRequest(
            bucket: bucket,
            key: key,
            metadata: new.metadata,
            tags: new.tags ?? [],
            attributes: new.attributes,
            encryption: new.encryption,
            conditions: try writeConditions(request.headers),
            expectation: expectation(of: request, length, checksums),
            checksum: checksums.algorithm
        )
        if checksums.trailer != nil { put.expectationAtEnd = content.expectationSource }
        put.acknowledgement = policy
        put.retentionIsDefault = new.hasDefaultRetention
        exchange.body.acceptBody()
        let row = try await objects.put(put, body: content)
        try await acknowledge(row, policy)
        exchange.send(
            200,
            [HeaderField("ETag", ETag.quoted(row.etag))] + identity(of: row) + new.encryptionHeaders
                + (try await expirationHeader(row, exchange))
        )
    }

    /// A version that can't be removed should not be a damaged one.
    private static func checkIntegrity(
        _ headers: HeaderList,
        _ checksums: ChecksumHeaders
    ) throws(S3Error) {
        guard checksums.contentMD5 == nil, checksums.algorithm == nil,
            headers.contains("x-amz-object-lock-mode") || headers.contains("x-amz-object-lock-legal-hold")
        else { return }
        throw S3Error(
            .invalidRequest,
            "Content-MD5 OR x-amz-checksum- HTTP header is required for Put Object requests with Object Lock "
                + "parameters"
        )
    }

    func expectation(
        of request: VerifiedRequest,
        _ length: UInt64,
        _ checksums: ChecksumHeaders
    ) -> BodyExpectation {
        var expectation = BodyExpectation(
            size: length,
            md5: checksums.contentMD5,
            checksum: checksums.checksum
        )
        if case .signed(let digest) = request.payload { expectation.signedSHA256 = digest }
        return expectation
    }

    // MARK: GET and HEAD

    /// https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html
    func getObject(_ exchange: Exchange) async throws {
        let clientKey = try customerKey(exchange.request)
        let row = try await version(for: exchange, clientKey)
        let selection = try await selection(exchange, row)
        let headers = try await objectHeaders(row, exchange, selection)
        guard let range = selection.range, range.length > 0 else {
            let reader = try objects.read(row, clientKey: clientKey, isLeft: exchange.body.hasLeft)
            return try await send(reader, 200, headers, exchange)
        }
        let reader = try objects.read(
            row,
            range: .from(range.offset, length: range.length),
            clientKey: clientKey,
            isLeft: exchange.body.hasLeft
        )
        try await send(reader, 206, headers, exchange)
    }

    /// https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadObject.html
    func headObject(_ exchange: Exchange) async throws {
        let row = try await version(for: exchange, try customerKey(exchange.request))
        let selection = try await selection(exchange, row)
        let wait = try await mirrorWaitHeader(row, exchange.request)
        let headers = try await objectHeaders(row, exchange, selection) + wait
        let isPartial = (selection.range?.length ?? 0) > 0
        exchange.send(
            isPartial ? 206 : 200,
            headers,
            contentLength: selection.range?.length ?? row.size
        )
    }

    /// Nothing is sent before the first piece was read and verified, so that an object that can't be read is an error
    /// and not a broken answer; what goes wrong later cuts the connection.
    private func send(
        _ reader: ObjectReader,
        _ status: Int,
        _ headers: [HeaderField],
        _ exchange: Exchange
    ) async throws {
        guard let first = try await reader.next(into: exchange) else {
            return exchange.send(status, headers, contentLength: 0)
        }
        guard UInt64(first.count) < reader.range.length else {
            return exchange.send(status, headers, piece: first)
        }
        exchange.start(status, headers, contentLength: reader.range.length)
        try await exchange.write(first)
        while let piece = try await reader.next(into: exchange) { try await exchange.write(piece) }
        exchange.finish()
    }

    private func version(
        for exchange: Exchange,
        _ clientKey: EncryptionKey?
    ) async throws -> VersionRow {
        let request = exchange.request
        let row = try await readableVersion(request)
        try objects.checkKey(clientKey, of: row)
        let conditions = try ConditionalHeaders(request.headers)
        switch conditions.evaluateRead(etag: row.etag, lastModified: row.createdAt) {
        case .proceed: return row
        case .notModified:
            throw S3Error(
                .notModified,
                headers: [
                    ("ETag", ETag.quoted(row.etag)), ("Last-Modified", HTTPDate.format(row.createdAt)),
                ] + versionHeader(row).map { ($0.name, $0.value) }
            )
        case .preconditionFailed:
            throw S3Error(
                .preconditionFailed,
                details: [("Condition", conditions.ifMatch != nil ? "If-Match" : "If-Unmodified-Since")]
            )
        case .noSuchKey: throw S3Error(.noSuchKey)
        }
    }

    /// The bytes that are asked for: by a range, or by the number of a part.
    private func selection(_ exchange: Exchange, _ row: VersionRow) async throws -> Selection {
        let headers = exchange.headers
        let rangeText = try headers.single("range")
        if exchange.query.contains("partNumber") {
            guard rangeText == nil else {
                throw S3Error(
                    .invalidRequest,
                    "Cannot specify both Range header and partNumber query parameter"
                )
            }
            return try await selection(part: try partNumber(exchange.query), of: row)
        }
        guard let rangeText, let header = ByteRangeHeader(rangeText),
            try Self.isRangeStillMeant(headers, row)
        else { return Selection() }
        return Selection(range: try header.resolve(in: row.size))
    }

    private func selection(part number: Int, of row: VersionRow) async throws -> Selection {
        do {
            let (range, count) = try await objects.partRange(number, of: row)
            return Selection(range: range, partCount: row.attributes.partList == nil ? nil : count)
        } catch let error as StoreError where error.code == .invalidRange {
            throw S3Error(.invalidPartNumber)
        }
    }

    /// https://www.rfc-editor.org/rfc/rfc9110#name-if-range
    private static func isRangeStillMeant(
        _ headers: HeaderList,
        _ row: VersionRow
    ) throws(S3Error) -> Bool {
        guard let text = try headers.single("if-range") else { return true }
        if let time = HTTPDate.parse(text) { return HTTPDate.format(row.createdAt) == HTTPDate.format(time) }
        return ETag.unquoted(text) == row.etag
    }

    private func objectHeaders(
        _ row: VersionRow,
        _ exchange: Exchange,
        _ selection: Selection
    ) async throws -> [HeaderField] {
        let overrides = try ResponseOverrides.parse(exchange.query, isSigned: exchange.request.account != nil)
        var headers: [HeaderField] = []
        headers.reserveCapacity(16)
        headers.append(HeaderField("ETag", ETag.quoted(row.etag)))
        headers.append(HeaderField("Last-Modified", HTTPDate.format(row.createdAt)))
        headers.append(HeaderField("Accept-Ranges", "bytes"))
        let type = row.metadata.contentType ?? ObjectHeaders.contentTypeDefault
        for entry in [NamedValue("content-type", type)] + row.metadata.otherHeaders
        where !overrides.contains(where: { $0.name == entry.name }) {
            headers.append(HeaderField(entry.name, entry.value))
        }
        headers += overrides.map { HeaderField($0.name, $0.value) }
        for entry in row.metadata.userMetadata {
            headers.append(HeaderField(ObjectHeaders.metadataPrefix + entry.name, entry.value))
        }
        if !row.tags.isEmpty { headers.append(HeaderField("x-amz-tagging-count", "\(row.tags.count)")) }
        if let range = selection.range, range.length > 0 {
            headers.append(HeaderField("Content-Range", range.contentRange(of: row.size)))
        } else if try ChecksumHeaders.isRequested(exchange.headers) {
            headers += checksums(of: row)
            // Of the whole, whatever the client declared: our own clients compare what they get with it.
            if let digest = row.sha256 {
                headers.append(HeaderField(HoldfastHeader.sha256, digest.hex))
            }
        }
        if let count = selection.partCount { headers.append(HeaderField("x-amz-mp-parts-count", "\(count)")) }
        headers += try await expirationHeader(row, exchange)
        if let status = try await objects.replicationStatus(of: row, in: try exchange.request.bucket()) {
            headers.append(HeaderField("x-amz-replication-status", status.rawValue))
        }
        if row.attributes.isEmpty {
            return headers + (try await shownVersionHeader(row, exchange.request))
        }
        headers += try encryptionHeaders(row.attributes, exchange.request)
        headers += lockHeaders(row)
        return headers + (try await shownVersionHeader(row, exchange.request))
    }

    private func lockHeaders(_ row: VersionRow) -> [HeaderField] {
        var headers: [HeaderField] = []
        if let retention = row.attributes.retention.map({ Retention($0) }) {
            headers.append(HeaderField("x-amz-object-lock-mode", retention.mode.rawValue))
            headers.append(
                HeaderField("x-amz-object-lock-retain-until-date", ISO8601.format(retention.until))
            )
        }
        if let isOn = row.attributes.legalHold {
            headers.append(HeaderField("x-amz-object-lock-legal-hold", isOn ? "ON" : "OFF"))
        }
        return headers
    }
}

/// The bytes of an object that a read asks for.
private struct Selection {
    /// nil: all.
    var range: ByteRange?
    /// Of an object that was uploaded in parts, when one of them is asked for.
    var partCount: Int?
}

// MARK: Parts of several handlers

extension S3Service {
    /// The version that `versionId` names, or the newest.
    func selector(_ query: QueryItems) throws(S3Error) -> VersionSelector {
        try selector(text: query.first("versionId"))
    }

    func selector(text: String?) throws(S3Error) -> VersionSelector {
        guard let text else { return .newest }
        if text == "null" { return .null }
        guard let id = VersionID(text) else {
            throw .invalidArgument("Invalid version id specified", name: "versionId", value: text)
        }
        return .id(id)
    }

    /// Nothing for a bucket that never kept versions.
    func versionHeader(_ row: VersionRow) -> [HeaderField] {
        row.isNull ? [] : [HeaderField("x-amz-version-id", row.id.description)]
    }

    /// What identifies a new version: its id and its checksums.
    func identity(of row: VersionRow) -> [HeaderField] { versionHeader(row) + checksums(of: row) }

    func checksums(of row: VersionRow) -> [HeaderField] {
        var headers = row.checksums.others.compactMap { entry in
            ChecksumAlgorithm(name: entry.name).map { HeaderField($0.headerName, entry.value) }
        }
        if !headers.isEmpty {
            let type = row.attributes.checksumType ?? .fullObject
            headers.append(HeaderField("x-amz-checksum-type", type.name))
        }
        return headers
    }
}

extension ObjectMetadata {
    init(_ headers: ObjectHeaders) {
        self.init(
            contentType: headers.value("content-type"),
            otherHeaders: headers.standard.filter { $0.name != "content-type" }.map {
                NamedValue($0.name, $0.value)
            },
            userMetadata: headers.userMetadata.map { NamedValue($0.name, $0.value) }
        )
    }
}

extension Conditions {
    init(_ headers: ConditionalHeaders) {
        self.init(
            ifMatch: headers.ifMatch.map { ETagMatch($0) },
            ifNoneMatch: headers.ifNoneMatch.map { ETagMatch($0) },
            ifModifiedSince: headers.ifModifiedSince,
            ifUnmodifiedSince: headers.ifUnmodifiedSince,
            ifLastModified: headers.ifMatchLastModified,
            ifSize: headers.ifMatchSize
        )
    }
}

extension ETagMatch {
    init(_ tags: ConditionalHeaders.Tags) {
        switch tags {
        case .any: self = .any
        case .some(let list): self = .oneOf(list)
        }
    }
}
