package import ContentHashing
package import CurlTransport
internal import S3Protocol
package import StoreModel

/// What the head of an answer says about an object.
package struct S3ObjectInfo: Sendable {
    /// Of the whole object, also where a range of it comes.
    package let size: UInt64
    /// Of the bytes that come.
    package let range: ByteRange
    /// Without quotes.
    package let entityTag: String
    package let lastModified: Timestamp?
    package let versionID: String?
    package let contentType: String?
    /// `x-amz-meta-…`, names in lower case without the prefix, in the order in which they came.
    package let metadata: [(name: String, value: String)]
    /// Of the whole object and not of its parts' checksums; only where the server was asked for them.
    package let checksums: [Checksum]
    package let isComposite: Bool
    package let storageClass: String?
    package let tagCount: Int
    package let replicationStatus: String?
    /// Everything that came.
    package let head: HTTPResponseHead

    package func metadata(_ name: String) -> String? { metadata.first { $0.name == name }?.value }

    /// - Throws: `.answer` for lengths that are none or do not fit each other.
    init(_ head: HTTPResponseHead) throws(S3ClientError) {
        self.head = head
        guard let text = head.first("content-length"), let length = ASCIIText.decimal(text) else {
            throw .answer("The server gave an object without its length.")
        }
        (range, size) = try Self.extent(head, length: length)
        entityTag = EntityTag.unquoted(head.first("etag") ?? "")
        lastModified = head.first("last-modified").flatMap { HTTPDate.parse($0) }
        versionID = head.first("x-amz-version-id")
        contentType = head.first("content-type")
        storageClass = head.first("x-amz-storage-class")
        replicationStatus = head.first("x-amz-replication-status")
        tagCount =
            head.first("x-amz-tagging-count").flatMap { ASCIIText.decimal($0) }
            .map { Int(clamping: $0) } ?? 0
        metadata = head.fields.filter { $0.name.hasPrefix(ObjectHeaders.metadataPrefix) }.map {
            (String($0.name.dropFirst(ObjectHeaders.metadataPrefix.utf8.count)), $0.value)
        }
        isComposite = head.first("x-amz-checksum-type") == "COMPOSITE"
        var checksums: [Checksum] = []
        if !isComposite, head.status == 200 {
            for algorithm in ChecksumAlgorithm.allCases {
                // A composite one ends in a dash and the number of parts, which no Base64 does.
                if let text = head.first(algorithm.headerName),
                    let checksum = Checksum(algorithm, base64: text)
                {
                    checksums.append(checksum)
                }
            }
        }
        self.checksums = checksums
    }

    private static func extent(
        _ head: HTTPResponseHead,
        length: UInt64
    ) throws(S3ClientError) -> (ByteRange, UInt64) {
        guard head.status == 206 else { return (try byteRange(0, length, of: length), length) }
        let text = head.first("content-range") ?? ""
        guard text.hasPrefix("bytes ") else { throw .answer("The server gave a part without its range.") }
        let parts = text.dropFirst(6).split(separator: "/", omittingEmptySubsequences: false)
        let bounds = parts.first?.split(separator: "-", omittingEmptySubsequences: false) ?? []
        guard parts.count == 2, bounds.count == 2, let size = ASCIIText.decimal(parts[1]),
            let first = ASCIIText.decimal(bounds[0]), let last = ASCIIText.decimal(bounds[1]), first <= last,
            last < size, last - first + 1 == length
        else { throw .answer("The server gave a part with a range that makes no sense.") }
        return (try byteRange(first, length, of: size), size)
    }

    private static func byteRange(
        _ offset: UInt64,
        _ length: UInt64,
        of size: UInt64
    ) throws(S3ClientError) -> ByteRange {
        do throws(StoreError) {
            return try ByteRange(offset: offset, length: length, of: size)
        } catch {
            throw .answer("The server gave a part with a range that makes no sense.")
        }
    }
}

/// An object on its way in. Good inside the closure that got it, for one task.
package struct S3Object: Sendable {
    package let info: S3ObjectInfo
    private let response: HTTPClientResponse

    init(info: S3ObjectInfo, response: HTTPClientResponse) {
        self.info = info
        self.response = response
    }

    /// The next bytes, or nil at the end of all of them: as many as `info.range` has.
    /// - Throws: `S3ClientError` when the rest does not come.
    package func next() async throws -> [UInt8]? {
        do {
            return try await response.next()
        } catch let error as TransportError {
            throw S3ClientError(error)
        }
    }

    /// Known after the end.
    package var statistics: TransferStatistics? { response.statistics }
}
