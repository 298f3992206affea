internal import Catalog
internal import ContentHashing
internal import ObjectService
internal import S3Protocol
internal import StoreModel

/// What the listings of a bucket have in common.
struct ListingParameters {
    let bucket: BucketName
    let prefix: String
    let delimiter: String?
    let encoding: ListingEncoding
    let maxKeys: Int

    init(_ exchange: Exchange, countName: String = "max-keys") throws(S3Error) {
        bucket = try exchange.request.bucket()
        let query = exchange.query
        prefix = query.first("prefix") ?? ""
        delimiter = query.first("delimiter").flatMap { $0.isEmpty ? nil : $0 }
        encoding = try ListingEncoding(query: query.first("encoding-type"))
        maxKeys = try Self.count(query, countName)
    }

    /// More than a page may hold is a full page; what is no number is refused.
    static func count(_ query: QueryItems, _ name: String) throws(S3Error) -> Int {
        guard let text = query.first(name), !text.isEmpty else { return Limits.listPageSizeMax }
        guard let value = Int64(text), value <= Int64(Int32.max) else {
            throw .invalidArgument(
                "Provided \(name) not an integer or within integer range",
                name: name,
                value: text
            )
        }
        guard value >= 0 else {
            throw .invalidArgument(
                "Argument \(name) must be an integer between 0 and 2147483647",
                name: name,
                value: text
            )
        }
        return Int(min(value, Int64(Limits.listPageSizeMax)))
    }

    func frame(isTruncated: Bool, commonPrefixes: [[UInt8]]) -> ListingFrame {
        ListingFrame(
            bucket: bucket.description,
            prefix: prefix,
            delimiter: delimiter,
            encoding: encoding,
            maxCount: maxKeys,
            isTruncated: isTruncated,
            commonPrefixes: commonPrefixes.map { String(decoding: $0, as: UTF8.self) }
        )
    }
}

extension S3Service {
    /// https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjects.html
    func listObjects(_ exchange: Exchange) async throws {
        let parameters = try ListingParameters(exchange)
        let marker = exchange.query.first("marker") ?? ""
        let page = try await page(parameters, startAfter: [UInt8](marker.utf8))
        let bucket = try await objects.bucketConfiguration(parameters.bucket).bucket
        let next = page.next.map { String(decoding: $0, as: UTF8.self) }
        exchange.send(
            document: ListBucketResult(
                frame: parameters.frame(isTruncated: next != nil, commonPrefixes: page.commonPrefixes),
                marker: marker,
                // Without a delimiter the last key of the page says the same.
                nextMarker: parameters.delimiter == nil ? nil : next,
                objects: try await listed(page.objects, in: bucket, withOwner: true)
            )
        )
    }

    /// https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html
    func listObjectsV2(_ exchange: Exchange) async throws {
        let parameters = try ListingParameters(exchange)
        let query = exchange.query
        let startAfter = query.first("start-after")
        let token = query.first("continuation-token")
        let position = try token.map { text throws(S3Error) in try ContinuationToken.position(text) }
        let page = try await page(parameters, startAfter: position ?? [UInt8]((startAfter ?? "").utf8))
        let bucket = try await objects.bucketConfiguration(parameters.bucket).bucket
        exchange.send(
            document: ListBucketResultV2(
                frame: parameters.frame(isTruncated: page.next != nil, commonPrefixes: page.commonPrefixes),
                startAfter: startAfter,
                continuationToken: token,
                nextContinuationToken: page.next.map { ContinuationToken.text($0) },
                objects: try await listed(
                    page.objects,
                    in: bucket,
                    withOwner: query.first("fetch-owner") == "true"
                )
            )
        )
    }

    private func page(_ parameters: ListingParameters, startAfter: [UInt8]) async throws -> ObjectListPage {
        // A page of nothing is no error; the bucket must be there all the same.
        guard parameters.maxKeys > 0 else {
            _ = try await objects.bucketConfiguration(parameters.bucket)
            return ObjectListPage(objects: [], commonPrefixes: [], next: nil)
        }
        return try await objects.list(
            ListRequest(
                bucket: parameters.bucket,
                prefix: [UInt8](parameters.prefix.utf8),
                delimiter: [UInt8]((parameters.delimiter ?? "").utf8),
                startAfter: startAfter,
                limit: parameters.maxKeys
            )
        )
    }

    private func listed(
        _ heads: [ObjectHead],
        in bucket: BucketRow,
        withOwner: Bool
    ) async throws -> [ListedObject] {
        let bucketOwner = try await ownerID(of: bucket)
        var owners: [String: Owner] = [:]
        var list: [ListedObject] = []
        list.reserveCapacity(heads.count)
        for head in heads {
            var owner: Owner?
            if withOwner {
                let id = head.owner ?? bucketOwner
                if owners[id] == nil { owners[id] = try await self.owner(id: id) }
                owner = owners[id]
            }
            list.append(
                ListedObject(
                    key: head.key.description,
                    lastModified: head.createdAt,
                    entityTag: head.etag,
                    size: head.size,
                    owner: owner,
                    checksumAlgorithm: head.checksumAlgorithms.first.flatMap { ChecksumAlgorithm(name: $0) },
                    checksumType: head.checksumType
                )
            )
        }
        return list
    }
}

/// Where a listing goes on, opaque to clients: the last item's bytes.
enum ContinuationToken {
    static func text(_ position: [UInt8]) -> String { Base64.encode(position) }

    static func position(_ text: String) throws(S3Error) -> [UInt8] {
        guard let bytes = Base64.decode(text), !bytes.isEmpty, bytes.count <= ObjectKey.byteCountMax else {
            throw .invalidArgument(
                "The continuation token provided is incorrect",
                name: "continuation-token",
                value: text
            )
        }
        return bytes
    }
}
