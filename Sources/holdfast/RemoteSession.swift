internal import ContentHashing
internal import CurlTransport
internal import ObjectService
internal import S3Client
internal import S3Protocol
internal import StoreModel

/// A store behind a server, by its S3 API.
///
/// Reads are made again when they fail for a while; changes only where the server has said that it did nothing.
final class RemoteSession: ObjectSession {
    let client: S3Client
    private let transport: CurlTransport
    private let retry = S3Retry()
    private let budget = S3RetryBudget(countMax: 50)
    private let downloads = RemoteDownload.Active()
    /// In the notes of uploads that are gone on with.
    private let endpointName: String

    init(_ target: RemoteTarget) throws {
        transport = try target.transport()
        endpointName = "\(target.endpoint)"
        client = S3Client(
            S3ClientConfiguration(endpoint: target.endpoint),
            credentials: target.credentials,
            transport: transport
        )
    }

    func close() { transport.shutdown() }

    private func read<Value>(_ call: () async throws -> Value) async throws -> Value {
        try await RemoteErrors.translate { try await retry.run(budget: budget, call) }
    }

    private func change<Value>(_ call: () async throws -> Value) async throws -> Value {
        try await RemoteErrors.translate(isChange: true, call)
    }

    var verifiesBytes: Bool { false }

    // MARK: Buckets

    func buckets() async throws -> [BucketReport] {
        let found = try await read { try await client.listBuckets() }
        var versioning: [String: String] = [:]
        try await forEachConcurrently(found, limit: 8) { bucket in
            do {
                return (bucket.name, try await self.versioning(bucket.name))
            } catch let error as StoreError where error.code == .accessDenied || error.code == .noSuchBucket {
                return (bucket.name, "unknown")
            }
        } receive: { (name: String, text: String) in
            versioning[name] = text
        }
        return found.map {
            BucketReport(name: $0.name, versioning: versioning[$0.name] ?? "unknown", createdAt: $0.createdAt)
        }
    }

    private func versioning(_ bucket: String) async throws -> String {
        switch try await read({ try await client.getBucketVersioning(bucket) }) {
        case .enabled?: BucketVersioning.enabled.rawValue
        case .suspended?: BucketVersioning.suspended.rawValue
        case nil: BucketVersioning.off.rawValue
        }
    }

    func requireBucket(_ name: BucketName) async throws {
        do {
            _ = try await read { try await client.headBucket(name.description) }
        } catch let error as StoreError where error.code == .noSuchKey {
            throw StoreError(.noSuchBucket, "There is no bucket \(quoted(name.description)).")
        }
    }

    private func isBucket(_ name: BucketName) async throws -> Bool {
        do {
            try await requireBucket(name)
            return true
        } catch let error as StoreError where error.code == .noSuchBucket {
            return false
        }
    }

    private func report(_ name: BucketName) async throws -> BucketReport {
        let versioning = try await versioning(name.description)
        let all = try await read { try await client.listBuckets() }
        guard let found = all.first(where: { $0.name == name.description }) else {
            throw StoreError(.noSuchBucket, "There is no bucket \(quoted(name.description)).")
        }
        return BucketReport(name: found.name, versioning: versioning, createdAt: found.createdAt)
    }

    func createBucket(_ name: BucketName, versioning: BucketVersioning) async throws -> BucketReport {
        // Amazon's oldest region, and servers like it, take a bucket that is there for a new one.
        guard try await !isBucket(name) else {
            throw StoreError(.bucketAlreadyExists, "There is a bucket \(quoted(name.description)) already.")
        }
        try await change { try await client.createBucket(name.description) }
        if versioning != .off { return try await setVersioning(name, to: versioning) }
        return try await report(name)
    }

    func deleteBucket(_ name: BucketName) async throws {
        try await change { try await client.deleteBucket(name.description) }
    }

    func setVersioning(_ name: BucketName, to versioning: BucketVersioning) async throws -> BucketReport {
        let status: VersioningConfiguration.Status
        switch versioning {
        case .enabled: status = .enabled
        case .suspended: status = .suspended
        case .off:
            throw StoreError(
                .invalidBucketState,
                "A bucket that once kept versions can't go back to off.",
                advice: "Suspended: 'holdfast bucket versioning \(name) suspended'."
            )
        }
        try await change { try await client.putBucketVersioning(name.description, status) }
        return try await report(name)
    }

    // MARK: Objects

    func put(_ request: UploadRequest, from source: any ByteSource) async throws -> VersionReport {
        let made = try await change {
            try await RemoteUpload(client: client, endpoint: endpointName, retry: retry, budget: budget)
                .run(request, from: source)
        }
        // The object itself is asked for: what is reported is what is there.
        let choice = made.versionID.flatMap { VersionID($0) }.map { VersionChoice.id($0) } ?? .newest
        var version = try await head(bucket: request.bucket, key: request.key, choice)
        guard version.etag == made.entityTag else {
            throw StoreError(
                .outcomeUnknown,
                "\(quoted("\(request.bucket)/\(request.key)")) was stored, and somebody else has replaced it since."
            )
        }
        version.isLatest = true
        version.resumedBytes = made.resumedBytes
        return version
    }

    func head(bucket: BucketName, key: ObjectKey, _ choice: VersionChoice) async throws -> VersionReport {
        let info = try await info(bucket, key, choice)
        var version = VersionReport(info, bucket, key)
        version.isLatest = choice.name == nil ? true : nil
        version.tags = []
        if info.tagCount > 0 {
            let tags = try await read {
                try await client.getTagging(bucket.description, key, versionID: choice.name)
            }
            version.tags = tags.map { ($0.key, $0.value) }
        }
        return version
    }

    /// - Parameter isAwaited: we wait until mirrors have the version.
    private func info(
        _ bucket: BucketName,
        _ key: ObjectKey,
        _ choice: VersionChoice,
        isAwaited: Bool = false
    ) async throws -> S3ObjectInfo {
        do {
            return try await headInfo(bucket, key, choice, isAwaited)
        } catch let error as StoreError where error.code == .noSuchKey {
            // The answer to HEAD has no words: whether it is the bucket that is missing is asked for.
            try await requireBucket(bucket)
            let address = quoted("\(bucket)/\(key)")
            guard choice.name == nil else {
                throw StoreError(.noSuchVersion, "\(address) has no such version.")
            }
            throw StoreError(.noSuchKey, "There is no object \(address).")
        }
    }

    private func headInfo(
        _ bucket: BucketName,
        _ key: ObjectKey,
        _ choice: VersionChoice,
        _ isAwaited: Bool
    ) async throws -> S3ObjectInfo {
        do {
            return try await retry.run(budget: budget) {
                try await client.headObject(
                    bucket.description,
                    key,
                    versionID: choice.name,
                    headers: isAwaited ? [(HoldfastHeader.mirrorWait, "1")] : []
                )
            }
        } catch let error as S3ClientError {
            let told = await reason(of: error, bucket, key, choice) ?? error
            if told.status == 400, told.message.contains("Server Side Encryption") {
                throw StoreError(
                    .encryptionKeyMissing,
                    "\(quoted("\(bucket)/\(key)")) is encrypted with a client's key, which has to come with each request.",
                    advice: "holdfast sends no such keys: use a client that does (aws s3 cp --sse-c …).",
                    cause: told
                )
            }
            throw RemoteErrors.storeError(told, isChange: false)
        }
    }

    /// The answer to a HEAD has no words: what stands in the way of it is told by that to a GET of one byte.
    private func reason(
        of error: S3ClientError,
        _ bucket: BucketName,
        _ key: ObjectKey,
        _ choice: VersionChoice
    ) async -> S3ClientError? {
        guard !error.isDocumented, let status = error.status, [400, 403, 405].contains(status) else {
            return nil
        }
        do {
            try await client.getObject(
                bucket.description,
                key,
                range: .from(first: 0, last: 0),
                versionID: choice.name
            ) { _ in }
            return nil
        } catch let told as S3ClientError where told.status == status && told.isDocumented {
            return told
        } catch {
            return nil
        }
    }

    /// Servers of other makes tell nothing of the kind.
    func waitForMirrors(_ version: VersionReport) async throws {
        guard let wait = version.mirrorWait else { return }
        let end = ContinuousClock.now + wait
        let choice: VersionChoice =
            version.isNull ? .null : version.id == .unknown ? .newest : .id(version.id)
        var left: Duration? = wait
        while let rest = left {
            guard rest > .zero, ContinuousClock.now < end else {
                throw StoreError(
                    .notMirrored,
                    "\(quoted("\(version.bucket)/\(version.key)")) is stored (version \(version.versionName)), but a mirror "
                        + "that its bucket waits for does not have it yet.",
                    advice: "Repeating the command waits for the same version."
                )
            }
            try await Task.sleep(for: .milliseconds(250))
            left = try await info(version.bucket, version.key, choice, isAwaited: true).mirrorWait
        }
    }

    func download(
        _ version: VersionReport,
        from offset: UInt64,
        _ take: ([UInt8]) async throws -> Void
    ) async throws {
        try await RemoteDownload(
            client: client,
            retry: retry,
            budget: budget,
            active: downloads,
            version: version,
            versionName: version.exactName
        ).run(from: offset, take)
    }

    func chunks(
        of version: VersionReport,
        upTo byteCount: UInt64
    ) async throws -> [(digest: Digest, length: UInt64)]? {
        nil
    }

    func list(
        bucket: BucketName,
        prefix: String,
        isRecursive: Bool,
        continuation: ListingContinuation?
    ) async throws -> ListingPage {
        let page = try await read {
            try await client.listObjects(
                bucket.description,
                prefix: prefix,
                delimiter: isRecursive ? nil : "/",
                token: continuation?.token
            )
        }
        let objects = page.objects.map { object in
            (object.key.bytes, ListingEntry.object(VersionReport(object, bucket)))
        }
        let prefixes = page.commonPrefixes.map { ([UInt8]($0.utf8), ListingEntry.prefix($0)) }
        let entries = (objects + prefixes).sorted { $0.0.lexicographicallyPrecedes($1.0) }.map(\.1)
        return ListingPage(
            entries: entries,
            continuation: page.nextToken.map { ListingContinuation(key: [], version: nil, token: $0) }
        )
    }

    func versions(
        bucket: BucketName,
        prefix: String,
        continuation: ListingContinuation?
    ) async throws -> ListingPage {
        let marker = continuation.flatMap { place in
            place.token.map { S3VersionMarker(key: $0, versionID: place.versionName) }
        }
        let page = try await read {
            try await client.listVersions(bucket.description, prefix: prefix, after: marker)
        }
        return ListingPage(
            entries: page.versions.map { .object(VersionReport($0, bucket)) },
            continuation: page.next.map {
                ListingContinuation(key: [], version: nil, token: $0.key, versionName: $0.versionID)
            }
        )
    }

    func history(bucket: BucketName, key: ObjectKey) async throws -> [VersionReport] {
        var found: [VersionReport] = []
        var marker: S3VersionMarker?
        while true {
            try Task.checkCancellation()
            let after = marker
            let page = try await read {
                try await client.listVersions(bucket.description, prefix: key.description, after: after)
            }
            let own = page.versions.filter { $0.key == key }
            found += own.map { VersionReport($0, bucket) }
            // The key itself is the first of those that begin with it.
            guard let next = page.next, own.count == page.versions.count, !own.isEmpty else { return found }
            marker = next
        }
    }

    func delete(bucket: BucketName, key: ObjectKey, _ choice: VersionChoice) async throws -> DeletionReport {
        // The answer is the same whether or not there was such a version.
        if choice.isNamed, try await !exists(bucket, key, choice) {
            return DeletionReport(bucket: bucket.description, key: key.description)
        }
        let result = try await change {
            try await client.deleteObject(bucket.description, key, versionID: choice.name)
        }
        if choice.isNamed {
            return DeletionReport(
                bucket: bucket.description,
                key: key.description,
                removedVersion: result.versionID ?? choice.name
            )
        }
        let marker = result.isDeleteMarker ? result.versionID : nil
        return DeletionReport(
            bucket: bucket.description,
            key: key.description,
            deleteMarker: marker,
            versioning: marker.map { $0 == "null" ? .suspended : .enabled } ?? .off
        )
    }

    /// Whether there is such a version, or delete marker. What may not be looked at counts as there.
    private func exists(_ bucket: BucketName, _ key: ObjectKey, _ choice: VersionChoice) async throws -> Bool
    {
        do {
            _ = try await head(bucket: bucket, key: key, choice)
            return true
        } catch let error as StoreError where error.code == .noSuchVersion {
            return false
        } catch let error as StoreError where Self.isThere(error.code) {
            return true
        }
    }

    private static func isThere(_ code: StoreError.Code) -> Bool {
        [.methodNotAllowed, .accessDenied, .encryptionKeyMissing, .invalidArgument].contains(code)
    }

    func restore(_ version: VersionReport) async throws -> VersionReport {
        guard let name = version.exactName else {
            throw StoreError(
                .noSuchVersion,
                "The server names that version in a way that can't be used here."
            )
        }
        return try await copy(
            version.bucket,
            version.key,
            versionName: name,
            to: (version.bucket, version.key)
        )
    }

    func copy(
        from source: (bucket: BucketName, key: ObjectKey),
        _ choice: VersionChoice,
        to target: (bucket: BucketName, key: ObjectKey)
    ) async throws -> VersionReport {
        try await copy(source.bucket, source.key, versionName: choice.name, to: target)
    }

    private func copy(
        _ bucket: BucketName,
        _ key: ObjectKey,
        versionName: String?,
        to target: (bucket: BucketName, key: ObjectKey)
    ) async throws -> VersionReport {
        let named: VersionChoice =
            versionName == "null" ? .null : versionName.flatMap { VersionID($0) }.map { .id($0) } ?? .newest
        let info = try await info(bucket, key, named)
        let madeID =
            info.size > RemoteCopy.sizeMax
            ? try await copyInParts(info, bucket, key, versionName, to: target)
            : try await change {
                try await client.copyObject(
                    from: CopySource(bucket: bucket, key: key, versionID: versionName),
                    to: target.bucket.description,
                    target.key
                ).versionID
            }
        let choice = madeID.flatMap { VersionID($0) }.map { VersionChoice.id($0) } ?? .newest
        var version = try await head(bucket: target.bucket, key: target.key, choice)
        version.isLatest = true
        return version
    }

    private func copyInParts(
        _ info: S3ObjectInfo,
        _ bucket: BucketName,
        _ key: ObjectKey,
        _ versionName: String?,
        to target: (bucket: BucketName, key: ObjectKey)
    ) async throws -> String? {
        // The version that was looked at, whatever becomes the newest meanwhile.
        let name = versionName ?? info.versionID
        let tags =
            info.tagCount == 0
            ? [] : try await read { try await client.getTagging(bucket.description, key, versionID: name) }
        return try await change {
            try await RemoteCopy(client: client, retry: retry, budget: budget).run(
                info,
                from: CopySource(bucket: bucket, key: key, versionID: name),
                tags: tags,
                to: target.bucket.description,
                target.key
            )
        }
    }

    func uploads(bucket: BucketName, prefix: String) async throws -> [UploadReport] {
        var found: [UploadReport] = []
        var marker: (key: String, uploadID: String)?
        repeat {
            try Task.checkCancellation()
            let after = marker
            let page = try await read {
                try await client.listUploads(bucket.description, prefix: prefix, after: after)
            }
            found += page.uploads.map {
                UploadReport(key: $0.key.description, uploadID: $0.uploadID, startedAt: $0.initiated)
            }
            marker = page.next
        } while marker != nil
        return found
    }

    func abortUpload(bucket: BucketName, key: ObjectKey, id: String) async throws {
        try await change { try await client.abortUpload(bucket.description, key, uploadID: id) }
    }

    func statistics(
        bucket: BucketName,
        key: ObjectKey,
        _ choice: VersionChoice,
        chunkLimit: Int,
        verifying: Bool
    ) async throws -> StatisticsReport {
        StatisticsReport(
            version: try await head(bucket: bucket, key: key, choice),
            chunkCount: nil,
            uniqueBytes: nil,
            copiesNotPresent: nil,
            chunks: nil
        )
    }
}

extension VersionChoice {
    /// As S3 names it; nil for the newest.
    fileprivate var name: String? {
        switch self {
        case .newest: nil
        case .id(let id): id.description
        case .null: "null"
        }
    }
}

extension VersionReport {
    /// This version and no other, as S3 names it; nil when the server names none that is known here.
    fileprivate var exactName: String? { isNull ? "null" : id == .unknown ? nil : id.description }

    fileprivate init(_ info: S3ObjectInfo, _ bucket: BucketName, _ key: ObjectKey) {
        self.init(
            bucket: bucket,
            key: key,
            id: info.versionID.flatMap { VersionID($0) } ?? .unknown,
            isNull: info.versionID == "null" || info.versionID == nil,
            kind: .object,
            isLatest: nil,
            createdAt: info.lastModified ?? Timestamp(milliseconds: 0),
            size: info.size,
            etag: info.entityTag,
            sha256: info.head.first(HoldfastHeader.sha256).flatMap { Digest(hex: $0) } ?? info.wholeSHA256,
            contentType: info.contentType,
            userMetadata: info.metadata,
            tags: nil,
            checksum: info.checksums.first,
            mirrorWait: info.mirrorWait
        )
    }

    fileprivate init(_ object: S3ListedObject, _ bucket: BucketName) {
        self.init(
            bucket: bucket,
            key: object.key,
            id: .unknown,
            isNull: false,
            kind: .object,
            isLatest: true,
            createdAt: object.lastModified,
            size: object.size,
            etag: object.entityTag
        )
    }

    fileprivate init(_ version: S3ListedVersion, _ bucket: BucketName) {
        self.init(
            bucket: bucket,
            key: version.key,
            id: VersionID(version.versionID) ?? .unknown,
            isNull: version.versionID == "null",
            kind: version.isDeleteMarker ? .deleteMarker : .object,
            isLatest: version.isLatest,
            createdAt: version.lastModified,
            size: version.size,
            etag: version.entityTag
        )
    }
}

extension S3ObjectInfo {
    fileprivate var mirrorWait: Duration? {
        head.first(HoldfastHeader.mirrorWait).flatMap { Int64($0) }.map { .seconds(min(max($0, 0), 86_400)) }
    }

    fileprivate var wholeSHA256: Digest? {
        checksums.first { $0.algorithm == .sha256 }.flatMap { Digest($0.bytes) }
    }
}
