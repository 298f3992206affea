internal import Catalog
internal import ContentHashing
internal import ObjectService
internal import S3Protocol
internal import StoreModel

extension S3Service {
    /// https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectVersions.html
    func listObjectVersions(_ exchange: Exchange) async throws {
        let parameters = try ListingParameters(exchange)
        let keyMarker = exchange.query.first("key-marker") ?? ""
        let versionMarker = exchange.query.first("version-id-marker") ?? ""
        let bucket = try await objects.bucketConfiguration(parameters.bucket).bucket
        let start = try await marker(keyMarker, versionMarker, parameters.bucket)
        var page = VersionListPage(versions: [], commonPrefixes: [], next: nil)
        // A page of nothing is no error.
        if parameters.maxKeys > 0 {
            page = try await objects.listVersions(
                bucket: parameters.bucket,
                prefix: [UInt8](parameters.prefix.utf8),
                delimiter: [UInt8]((parameters.delimiter ?? "").utf8),
                startAfter: start,
                limit: parameters.maxKeys
            )
        }
        exchange.send(
            document: ListVersionsResult(
                frame: parameters.frame(isTruncated: page.next != nil, commonPrefixes: page.commonPrefixes),
                keyMarker: keyMarker,
                versionIDMarker: versionMarker,
                nextKeyMarker: page.next.map { String(decoding: $0.key, as: UTF8.self) },
                nextVersionIDMarker: page.next?.version.map { $0.description },
                entries: try await entries(page.versions, in: bucket)
            )
        )
    }

    private func marker(
        _ key: String,
        _ version: String,
        _ bucket: BucketName
    ) async throws -> VersionListMarker? {
        guard !key.isEmpty else {
            guard version.isEmpty else {
                throw S3Error.invalidArgument(
                    "A version-id marker cannot be specified without a key marker.",
                    name: "version-id-marker",
                    value: version
                )
            }
            return nil
        }
        let bytes = [UInt8](key.utf8)
        guard !version.isEmpty else { return VersionListMarker(key: bytes) }
        if version == "null" {
            let rows = try await objects.history(bucket: bucket, key: try ObjectKey(bytes: bytes))
            return VersionListMarker(key: bytes, version: rows.first { $0.isNull }?.id)
        }
        guard let id = VersionID(version) else {
            throw S3Error.invalidArgument(
                "Invalid version id specified",
                name: "version-id-marker",
                value: version
            )
        }
        return VersionListMarker(key: bytes, version: id)
    }

    private func entries(
        _ versions: [ListedVersion],
        in bucket: BucketRow
    ) async throws -> [ListVersionsResult.Entry] {
        let bucketOwner = try await ownerID(of: bucket)
        var owners: [String: Owner] = [:]
        var entries: [ListVersionsResult.Entry] = []
        entries.reserveCapacity(versions.count)
        for version in versions {
            let row = version.row
            let id = row.attributes.owner ?? bucketOwner
            if owners[id] == nil { owners[id] = try await owner(id: id) }
            let checksum = objectChecksum(of: row)
            entries.append(
                ListVersionsResult.Entry(
                    object: ListedObject(
                        key: row.key.description,
                        lastModified: row.createdAt,
                        entityTag: row.etag,
                        size: row.size,
                        owner: owners[id],
                        checksumAlgorithm: checksum?.checksum.algorithm,
                        checksumType: checksum == nil ? nil : row.attributes.checksumType ?? .fullObject
                    ),
                    versionID: Self.name(of: row),
                    isLatest: version.isNewest,
                    isDeleteMarker: row.isDeleteMarker
                )
            )
        }
        return entries
    }

    /// https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListMultipartUploads.html
    func listMultipartUploads(_ exchange: Exchange) async throws {
        let parameters = try ListingParameters(exchange, countName: "max-uploads")
        let query = exchange.query
        let keyMarker = query.first("key-marker") ?? ""
        let idMarker = query.first("upload-id-marker") ?? ""
        let bucket = try await objects.bucketConfiguration(parameters.bucket).bucket
        // "If key-marker is not specified, the upload-id-marker parameter is ignored."
        var start: UploadMarker?
        if !keyMarker.isEmpty {
            let id = idMarker.isEmpty ? nil : UploadID(idMarker)
            guard idMarker.isEmpty || id != nil else {
                throw S3Error.invalidArgument(
                    "Invalid uploadId marker",
                    name: "upload-id-marker",
                    value: idMarker
                )
            }
            start = UploadMarker(key: [UInt8](keyMarker.utf8), id: id)
        }
        let page = try await objects.listUploads(
            UploadListRequest(
                bucket: parameters.bucket,
                prefix: [UInt8](parameters.prefix.utf8),
                delimiter: [UInt8]((parameters.delimiter ?? "").utf8),
                startAfter: start,
                limit: parameters.maxKeys
            )
        )
        exchange.send(
            document: ListMultipartUploadsResult(
                frame: parameters.frame(isTruncated: page.next != nil, commonPrefixes: page.commonPrefixes),
                keyMarker: keyMarker,
                uploadIDMarker: idMarker,
                nextKeyMarker: page.next.map { String(decoding: $0.key, as: UTF8.self) },
                nextUploadIDMarker: page.next.map { $0.id?.description ?? "" },
                uploads: try await listed(page.uploads, in: bucket)
            )
        )
    }

    private func listed(
        _ uploads: [MultipartUpload],
        in bucket: BucketRow
    ) async throws -> [ListMultipartUploadsResult.Upload] {
        var list: [ListMultipartUploadsResult.Upload] = []
        for upload in uploads {
            var entry = ListMultipartUploadsResult.Upload(
                key: upload.key.description,
                uploadID: upload.id.description,
                initiatedAt: upload.startedAt
            )
            (entry.initiator, entry.owner) = try await persons(of: upload, in: bucket)
            entry.checksumAlgorithm = upload.checksum?.algorithm
            entry.checksumType = upload.checksum?.type
            list.append(entry)
        }
        return list
    }

    private func persons(
        of upload: MultipartUpload,
        in bucket: BucketRow
    ) async throws -> (initiator: Owner, owner: Owner) {
        let bucketOwner = try await ownerID(of: bucket)
        return (
            try await owner(id: upload.initiator ?? bucketOwner),
            try await owner(id: upload.attributes.owner ?? bucketOwner)
        )
    }

    /// https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListParts.html
    func listParts(_ exchange: Exchange) async throws {
        let address = try uploadAddress(exchange.request)
        let query = exchange.query
        let limit = try ListingParameters.count(query, "max-parts")
        let marker = try query.first("part-number-marker").map { text in
            guard let number = ASCIIText.decimal(text), number <= UInt64(Int32.max) else {
                throw S3Error.invalidArgument(
                    "Provided part-number-marker not an integer or within integer range",
                    name: "part-number-marker",
                    value: text
                )
            }
            return Int(number)
        }
        let page = try await objects.listParts(of: address, after: marker ?? 0, limit: limit)
        let bucket = try await objects.bucketConfiguration(address.bucket).bucket
        var result = ListPartsResult(
            bucket: address.bucket.description,
            key: address.key.description,
            uploadID: address.id.description,
            parts: page.parts.map { part in
                ListPartsResult.Part(
                    number: part.number,
                    lastModified: part.uploadedAt,
                    entityTag: part.etag.hex,
                    size: part.size,
                    checksum: part.checksum
                )
            }
        )
        (result.initiator, result.owner) = try await persons(of: page.upload, in: bucket)
        result.partNumberMarker = marker ?? 0
        result.nextPartNumberMarker = page.next ?? page.parts.last?.number
        result.maxParts = limit
        result.isTruncated = page.next != nil
        result.encoding = try ListingEncoding(query: query.first("encoding-type"))
        result.checksumAlgorithm = page.upload.checksum?.algorithm
        result.checksumType = page.upload.checksum?.type
        exchange.send(document: result)
    }
}
