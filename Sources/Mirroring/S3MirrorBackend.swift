internal import ContentHashing
package import CurlTransport
internal import S3Client
internal import S3Protocol
package import StoreModel

/// A backend that speaks S3.
///
/// Every call is one request with the transport's deadlines; retries are the worker's. A clock that is off is set right
/// by the client, by the backend's Date.
package struct S3MirrorBackend: MirrorBackend {
    private let client: S3Client
    private let settings: MirrorSettings
    private var bucket: String { settings.bucket }

    package init(
        _ settings: MirrorSettings,
        _ credentials: MirrorCredentials,
        _ transport: CurlTransport
    ) throws {
        try settings.endpoint.check(allowsLinkLocal: settings.allowsLinkLocal)
        let endpoint: S3Endpoint
        do {
            endpoint = try S3Endpoint(
                url: settings.endpoint.description,
                region: settings.region.isEmpty ? "us-east-1" : settings.region,
                style: settings.isVirtualHost ? .virtualHost : .path
            )
        } catch {
            throw StoreError(.invalidArgument, "The mirror's endpoint can't be used: \(error.message)")
        }
        var configuration = S3ClientConfiguration(endpoint: endpoint)
        configuration.addresses = settings.endpoint.addressRule(
            allowsPrivate: settings.allowsPrivate,
            allowsLinkLocal: settings.allowsLinkLocal
        )
        if !settings.signsBodies { configuration.signing = .unsigned }
        client = S3Client(
            configuration,
            credentials: FixedCredentials(
                S3Credentials(
                    accessKey: credentials.accessKey,
                    secret: credentials.secret,
                    token: credentials.sessionToken
                )
            ),
            transport: transport
        )
        self.settings = settings
    }

    private func options(_ properties: MirrorProperties) -> S3ObjectOptions {
        var options = S3ObjectOptions()
        options.contentType = properties.contentType
        options.metadata = properties.userMetadata.map { (name: $0.0, value: $0.1) }
        options.tags = properties.tags.map { TagSet.Tag(key: $0.0, value: $0.1) }
        options.storageClass = settings.storageClass.isEmpty ? nil : settings.storageClass
        options.headers = properties.otherHeaders.map { (name: $0.0, value: $0.1) }
        if !settings.encryption.isEmpty {
            options.headers.append(("x-amz-server-side-encryption", settings.encryption))
        }
        if !settings.encryptionKey.isEmpty {
            options.headers.append(("x-amz-server-side-encryption-aws-kms-key-id", settings.encryptionKey))
        }
        return options
    }

    private func name(_ key: String) throws(MirrorFailure) -> ObjectKey {
        do {
            return try ObjectKey(key)
        } catch {
            throw MirrorFailure(.rejected, error.message)
        }
    }

    // MARK: Calls

    package func keepsVersions() async throws -> Bool {
        try await call {
            do {
                return try await client.getBucketVersioning(bucket) == .enabled
            } catch let error as S3ClientError where error.code == "NotImplemented" || error.status == 501 {
                return false
            }
        }
    }

    package func put(_ key: String, _ body: MirrorBody, _ properties: MirrorProperties) async throws
        -> MirrorReceipt
    {
        let name = try name(key)
        return try await call {
            let result = try await client.putObject(
                bucket,
                name,
                .bytes(body.bytes, sha256: body.sha256),
                options: options(properties),
                integrity: S3Integrity(contentMD5: body.md5)
            )
            return MirrorReceipt(etag: result.entityTag, versionID: Self.version(result.versionID))
        }
    }

    package func startUpload(_ key: String, _ properties: MirrorProperties) async throws -> String {
        let name = try name(key)
        return try await call {
            try await client.createUpload(bucket, name, options: options(properties)).uploadID
        }
    }

    package func putPart(_ key: String, upload: String, number: Int, _ body: MirrorBody) async throws
        -> MirrorPart
    {
        let name = try name(key)
        return try await call {
            let part = try await client.uploadPart(
                bucket,
                name,
                uploadID: upload,
                number: number,
                .bytes(body.bytes, sha256: body.sha256),
                integrity: S3Integrity(contentMD5: body.md5)
            )
            return MirrorPart(number: number, size: part.size, etag: part.entityTag)
        }
    }

    package func parts(_ key: String, upload: String) async throws -> [MirrorPart] {
        let name = try name(key)
        return try await call {
            try await client.listParts(bucket, name, uploadID: upload).map {
                MirrorPart(number: $0.number, size: $0.size, etag: $0.entityTag)
            }
        }
    }

    package func complete(_ key: String, upload: String, _ parts: [MirrorPart]) async throws -> MirrorReceipt
    {
        let name = try name(key)
        return try await call {
            let done = try await client.completeUpload(
                bucket,
                name,
                uploadID: upload,
                parts: parts.map { S3UploadedPart(number: $0.number, entityTag: $0.etag, size: $0.size) }
            )
            return MirrorReceipt(etag: done.entityTag, versionID: Self.version(done.versionID))
        }
    }

    package func abort(_ key: String, upload: String) async throws {
        let name = try name(key)
        do {
            try await call { try await client.abortUpload(bucket, name, uploadID: upload) }
        } catch let failure as MirrorFailure where failure.kind == .noUpload {
        }
    }

    package func head(_ key: String, version: String?) async throws -> MirrorHead? {
        let name = try name(key)
        return try await call {
            do {
                return Self.head(try await client.headObject(bucket, name, versionID: version))
            } catch let error as S3ClientError where error.isNotFound || error.status == 405 {
                // An answer to HEAD has no document; the bucket is asked for by the probe.
                return nil
            }
        }
    }

    private static func head(_ info: S3ObjectInfo) -> MirrorHead {
        var properties = MirrorProperties()
        properties.contentType = info.contentType
        properties.userMetadata = info.metadata.map { ($0.name, $0.value) }
        for name in [
            "cache-control", "content-disposition", "content-encoding", "content-language", "expires",
        ] {
            if let value = info.head.first(name) { properties.otherHeaders.append((name, value)) }
        }
        return MirrorHead(
            size: info.size,
            etag: info.entityTag,
            versionID: version(info.versionID),
            properties: properties
        )
    }

    package func get(_ key: String, version: String?, _ range: ByteRange) async throws -> [UInt8] {
        guard range.length > 0 else { return [] }
        let name = try name(key)
        return try await call {
            try await client.getObject(
                bucket,
                name,
                range: .from(first: range.offset, last: range.end - 1),
                versionID: version
            ) { object in
                guard object.info.range == range else {
                    throw MirrorFailure(.mismatch, "It gave another range than it was asked for.")
                }
                var bytes: [UInt8] = []
                bytes.reserveCapacity(Int(range.length))
                while let piece = try await object.next() {
                    guard UInt64(bytes.count + piece.count) <= range.length else {
                        throw MirrorFailure(.mismatch, "It gave more bytes than it was asked for.")
                    }
                    bytes += piece
                }
                return bytes
            }
        }
    }

    package func delete(_ key: String, version: String?) async throws -> String? {
        let name = try name(key)
        return try await call {
            do {
                let result = try await client.deleteObject(bucket, name, versionID: version)
                return result.isDeleteMarker ? Self.version(result.versionID) : nil
            } catch let error as S3ClientError
                where error.isNotFound && error.code != "NoSuchBucket" && error.code != "NotFound"
            {
                // Gone already.
                return nil
            }
        }
    }

    package func setTags(_ key: String, version: String?, _ tags: [(String, String)]) async throws {
        let name = try name(key)
        try await call {
            guard !tags.isEmpty else {
                return try await client.deleteTagging(bucket, name, versionID: version)
            }
            try await client.putTagging(
                bucket,
                name,
                versionID: version,
                tags.map { TagSet.Tag(key: $0.0, value: $0.1) }
            )
        }
    }

    package func tags(_ key: String, version: String?) async throws -> [(String, String)] {
        let name = try name(key)
        return try await call {
            do {
                return try await client.getTagging(bucket, name, versionID: version).map {
                    ($0.key, $0.value)
                }
            } catch let error as S3ClientError
                where error.code == "NoSuchTagSet" || error.code == "NotImplemented" || error.status == 501
            {
                return []
            }
        }
    }

    package func list(prefix: String, after: MirrorListPage.Marker?, limit: Int) async throws
        -> MirrorListPage
    {
        try await call {
            let page = try await client.listObjects(
                bucket,
                prefix: prefix,
                startAfter: after.flatMap { $0.isKey ? $0.key : nil },
                token: after.flatMap { $0.isKey ? nil : $0.key },
                countMax: limit
            )
            let entries = page.objects.map {
                MirrorListed(key: $0.key.description, versionID: nil, size: $0.size, etag: $0.entityTag)
            }
            return MirrorListPage(
                entries: entries,
                next: page.nextToken.map { MirrorListPage.Marker(key: $0, versionID: nil) }
            )
        }
    }

    package func listVersions(
        prefix: String,
        after: MirrorListPage.Marker?,
        limit: Int
    ) async throws -> MirrorListPage {
        try await call {
            let page = try await client.listVersions(
                bucket,
                prefix: prefix,
                after: after.map { S3VersionMarker(key: $0.key, versionID: $0.versionID) },
                countMax: limit
            )
            let entries = page.versions.map {
                MirrorListed(
                    key: $0.key.description,
                    versionID: $0.versionID,
                    isDeleteMarker: $0.isDeleteMarker,
                    isLatest: $0.isLatest,
                    size: $0.size,
                    etag: $0.entityTag
                )
            }
            return MirrorListPage(
                entries: entries,
                next: page.next.map { MirrorListPage.Marker(key: $0.key, versionID: $0.versionID) }
            )
        }
    }

    // MARK: Failures

    private static func version(_ text: String?) -> String? { text.flatMap { $0.isEmpty ? nil : $0 } }

    private func call<Value>(_ body: () async throws -> Value) async throws -> Value {
        do {
            return try await body()
        } catch let error as S3ClientError {
            if error.transport?.code == .cancelled { try Task.checkCancellation() }
            throw Self.failure(error)
        }
    }

    private static func failure(_ error: S3ClientError) -> MirrorFailure {
        MirrorFailure(kind(error), error.description, retryAfter: error.retryAfter)
    }

    private static let busyCodes: Set<String> = [
        "SlowDown", "ServiceUnavailable", "TooManyRequests", "Throttling", "ThrottlingException",
        "RequestThrottled", "RequestLimitExceeded", "BandwidthLimitExceeded", "Busy",
    ]
    private static let fullCodes: Set<String> = [
        "InsufficientStorage", "InsufficientCapacity", "QuotaExceeded", "XMinioStorageFull", "StorageFull",
        "XMinioAdminBucketQuotaExceeded",
    ]

    private static let plainStatuses: Set<Int> = [405, 409, 411, 412, 413, 414, 416, 501]

    private static func kind(_ error: TransportError) -> MirrorFailure.Kind {
        switch error.code {
        case .certificateRejected: .untrusted
        case .addressRefused: .forbidden
        case .protocolViolation, .tooLarge: .garbled
        case .invalidRequest: .rejected
        default: .unreachable
        }
    }

    private static func kind(_ error: S3ClientError) -> MirrorFailure.Kind {
        if let transport = error.transport { return kind(transport) }
        switch error.kind {
        case .credentials: return .denied
        case .request: return .rejected
        case .integrity: return .mismatch
        case .answer: return .garbled
        case .transport: return .unreachable
        case .service: break
        }
        if error.code == "NoSuchBucket" { return .noBucket }
        if error.code == "NoSuchUpload" { return .noUpload }
        if fullCodes.contains(error.code) || error.status == 507 { return .full }
        if busyCodes.contains(error.code) || error.status == 429 || error.status == 503 { return .busy }
        if error.isRefused || error.code == "RequestTimeTooSkewed" { return .denied }
        if ["BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch", "IncompleteBody", "RequestTimeout"]
            .contains(
                error.code
            )
        {
            return .mismatch
        }
        if error.isRetryable || (error.status ?? 500) >= 500 && error.code != "NotImplemented" {
            return .fault
        }
        // A refusal in S3's words, or by a status that says enough, is about the object; any other comes from something
        // in between.
        let saysEnough = error.isDocumented || plainStatuses.contains(error.status ?? 0)
        return saysEnough ? .rejected : .garbled
    }
}
