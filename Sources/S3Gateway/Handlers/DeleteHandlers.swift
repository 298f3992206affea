internal import Catalog
internal import ContentHashing
internal import ObjectService
internal import S3Protocol
internal import StoreModel

extension S3Service {
    /// https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObject.html
    func deleteObject(_ exchange: Exchange) async throws {
        let request = exchange.request
        let address = VersionAddress(
            bucket: try request.bucket(),
            key: try request.key(),
            selector: try selector(request.query)
        )
        var result: ObjectService.DeleteResult?
        do {
            result = try await objects.delete(
                address,
                conditions: try writeConditions(request.headers),
                bypassesGovernance: try ObjectLockHeaders.bypassesGovernance(request.headers)
            )
        } catch let error as StoreError where error.code == .noSuchVersion {
            // A version that is not there is as good as removed.
        }
        var headers: [HeaderField] = []
        if let made = result?.marker {
            headers = [Self.markerHeader, HeaderField("x-amz-version-id", Self.name(of: made))]
        } else if let named = request.query.first("versionId") {
            if result?.removed?.isDeleteMarker == true { headers.append(Self.markerHeader) }
            headers.append(HeaderField("x-amz-version-id", named))
        }
        exchange.send(204, headers)
    }

    static var markerHeader: HeaderField { HeaderField("x-amz-delete-marker", "true") }

    /// How S3 names a version of a bucket that keeps versions, or did.
    static func name(of row: VersionRow) -> String { row.isNull ? "null" : row.id.description }

    /// https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html
    func deleteObjects(_ exchange: Exchange) async throws {
        let request = exchange.request
        let bucket = try request.bucket()
        try Self.requireIntegrity(request.headers)
        // 1,000 keys of 1,024 bytes, many of which may be written as references.
        let document = try DeleteRequest(body: try await exchange.document(sizeMax: 4 << 20))
        let bypasses = try ObjectLockHeaders.bypassesGovernance(request.headers)
        var entries: [S3Protocol.DeleteResult.Entry?] = Array(repeating: nil, count: document.objects.count)
        var targets: [DeleteTarget] = []
        var indices: [Int] = []
        for (index, object) in document.objects.enumerated() {
            do {
                let target = try DeleteTarget(object)
                guard try await mayDelete(target.key, version: object.versionID, request) else {
                    throw S3Error(.accessDenied)
                }
                targets.append(target)
                indices.append(index)
            } catch {
                entries[index] = try Self.entry(object, error)
            }
        }
        let results = try await objects.deleteMany(targets, in: bucket, bypassesGovernance: bypasses)
        for (index, result) in zip(indices, results) {
            entries[index] = try Self.entry(document.objects[index], result)
        }
        exchange.send(
            document: S3Protocol.DeleteResult(entries: entries.compactMap { $0 }, isQuiet: document.isQuiet)
        )
    }

    /// "The Content-MD5 request header is required for all Multi-Object Delete requests", or a checksum in its place.
    private static func requireIntegrity(_ headers: HeaderList) throws(S3Error) {
        let checksums = try ChecksumHeaders(headers)
        guard checksums.contentMD5 != nil || checksums.algorithm != nil else {
            throw S3Error(
                .invalidRequest,
                "Missing required header for this request: Content-MD5 OR x-amz-checksum-*"
            )
        }
    }

    private static func entry(
        _ object: DeleteRequest.Object,
        _ result: Result<ObjectService.DeleteResult, StoreError>
    ) throws -> S3Protocol.DeleteResult.Entry {
        switch result {
        case .success(let done):
            let marker = done.marker ?? done.removed.flatMap { $0.isDeleteMarker ? $0 : nil }
            // What a suspended or unversioned bucket removed by itself was not named, and is not told.
            let isTold = done.marker != nil || object.versionID != nil
            return .deleted(
                key: object.key,
                versionID: object.versionID,
                marker: isTold ? marker.map { name(of: $0) } : nil
            )
        case .failure(let error) where error.code == .noSuchVersion:
            return .deleted(key: object.key, versionID: object.versionID, marker: nil)
        case .failure(let error): return try entry(object, error)
        }
    }

    /// - Throws: the error, when it is not about this object.
    private static func entry(
        _ object: DeleteRequest.Object,
        _ error: any Error
    ) throws -> S3Protocol.DeleteResult.Entry {
        guard let answer = ErrorMapping.s3Error(for: error), answer.code != .noSuchBucket else { throw error }
        return .failed(
            key: object.key,
            versionID: object.versionID,
            code: answer.code.rawValue,
            message: answer.message
        )
    }
}

extension DeleteTarget {
    fileprivate init(_ object: DeleteRequest.Object) throws {
        var conditions = Conditions.none
        conditions.ifMatch = object.entityTag.map { $0 == "*" ? .any : .oneOf([$0]) }
        conditions.ifSize = object.size
        if let text = object.lastModified {
            guard let time = HTTPDate.parse(text) ?? ISO8601.parse(text) else {
                throw S3Error.invalidArgument(
                    "The time is not valid.",
                    name: "LastModifiedTime",
                    value: text
                )
            }
            conditions.ifLastModified = time
        }
        self.init(
            key: try ObjectKey(object.key),
            selector: try VersionSelector(named: object.versionID),
            conditions: conditions
        )
    }
}

extension VersionSelector {
    fileprivate init(named text: String?) throws(S3Error) {
        guard let text else {
            self = .newest
            return
        }
        if text == "null" {
            self = .null
            return
        }
        guard let id = VersionID(text) else { throw S3Error(.noSuchVersion) }
        self = .id(id)
    }
}
