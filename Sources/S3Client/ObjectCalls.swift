package import ContentHashing
package import CurlTransport
package import S3Protocol
package import StoreModel

/// What a new object brings with it.
package struct S3ObjectOptions: Sendable {
    package var contentType: String?
    /// Names without the prefix `x-amz-meta-`.
    package var metadata: [(name: String, value: String)] = []
    package var tags: [TagSet.Tag] = []
    package var storageClass: String?
    /// Entity tags without quotes, or `*`.
    package var ifMatch: String?
    package var ifNoneMatch: String?
    /// Any other headers: `cache-control`, server-side encryption.
    package var headers: [(name: String, value: String)] = []

    package init() {}

    func apply(to call: inout S3Call) {
        for (name, value) in headers { call.headers.set(name.lowercased(), value) }
        call.setHeader("content-type", contentType)
        for (name, value) in metadata {
            call.headers.set(ObjectHeaders.metadataPrefix + name.lowercased(), value)
        }
        if !tags.isEmpty { call.headers.set("x-amz-tagging", Self.query(tags)) }
        call.setHeader("x-amz-storage-class", storageClass)
        call.setHeader("if-match", ifMatch.map { EntityTag.quoted($0) })
        call.setHeader("if-none-match", ifNoneMatch.map { EntityTag.quoted($0) })
    }

    private static func query(_ tags: [TagSet.Tag]) -> String {
        tags.map { tag in
            PercentCoding.encode(tag.key, keepsSlash: false) + "="
                + PercentCoding.encode(tag.value, keepsSlash: false)
        }.joined(separator: "&")
    }
}

/// What the server checks a body against.
package struct S3Integrity: Sendable {
    package var contentMD5: MD5Digest?
    package var checksum: Checksum?
    /// Computed while the body is sent, and sent behind it.
    package var trailer: ChecksumAlgorithm?

    package init(
        contentMD5: MD5Digest? = nil,
        checksum: Checksum? = nil,
        trailer: ChecksumAlgorithm? = nil
    ) {
        self.contentMD5 = contentMD5
        self.checksum = checksum
        self.trailer = trailer
    }

    func apply(to call: inout S3Call) {
        call.setHeader("content-md5", contentMD5.map { Base64.encode($0.bytes) })
        call.setHeader(checksum?.algorithm.headerName ?? "", checksum?.base64)
        call.setHeader("x-amz-sdk-checksum-algorithm", (checksum?.algorithm ?? trailer)?.name)
        call.trailer = checksum == nil ? trailer : nil
    }
}

package struct S3PutResult: Sendable {
    /// Without quotes.
    package let entityTag: String
    package let versionID: String?
    package let head: HTTPResponseHead

    init(_ head: HTTPResponseHead) throws(S3ClientError) {
        guard let tag = head.first("etag"), !tag.isEmpty else {
            throw .answer("The server took an object and gave no ETag.")
        }
        entityTag = EntityTag.unquoted(tag)
        versionID = head.first("x-amz-version-id")
        self.head = head
    }
}

package struct S3DeleteResult: Sendable {
    /// The version that was removed, or the delete marker that was made.
    package let versionID: String?
    package let isDeleteMarker: Bool
}

package struct S3CopyResult: Sendable {
    package let entityTag: String
    package let lastModified: Timestamp
    package let versionID: String?
}

extension S3Client {
    package func putObject(
        _ bucket: String,
        _ key: ObjectKey,
        _ body: S3Body,
        options: S3ObjectOptions = S3ObjectOptions(),
        integrity: S3Integrity = S3Integrity()
    ) async throws -> S3PutResult {
        var call = S3Call("PUT", bucket: bucket, key: key)
        options.apply(to: &call)
        integrity.apply(to: &call)
        return try await perform(call, body: body) { response in
            _ = try await response.collect(upTo: ErrorAnswer.sizeMax)
            return try S3PutResult(response.head)
        }
    }

    /// Streams an object, or a range of it.
    /// - Parameters:
    ///   - ifMatch: an entity tag without quotes: a part of another version is refused with status 412.
    ///   - receive: gets the object as soon as its head is there. What it was given is whole only when `next()` has
    ///     given nil.
    package func getObject<Value>(
        _ bucket: String,
        _ key: ObjectKey,
        range: ByteRangeHeader? = nil,
        versionID: String? = nil,
        ifMatch: String? = nil,
        headers: [(name: String, value: String)] = [],
        _ receive: (S3Object) async throws -> Value
    ) async throws -> Value {
        var call = S3Call("GET", bucket: bucket, key: key)
        call.add("versionId", versionID)
        call.setHeader("range", range?.text)
        call.setHeader("if-match", ifMatch.map { EntityTag.quoted($0) })
        call.setHeader("x-amz-checksum-mode", "ENABLED")
        for (name, value) in headers { call.headers.set(name.lowercased(), value) }
        // A server may answer a range with the whole object.
        call.accepted = range == nil ? [200] : [200, 206]
        return try await perform(call) { response in
            let info = try S3ObjectInfo(response.head)
            if let range {
                guard range.resolved(in: info.size) == info.range else {
                    throw S3ClientError.answer("The server gave another range than it was asked for.")
                }
            }
            return try await receive(S3Object(info: info, response: response))
        }
    }

    package func headObject(
        _ bucket: String,
        _ key: ObjectKey,
        versionID: String? = nil,
        headers: [(name: String, value: String)] = []
    ) async throws -> S3ObjectInfo {
        var call = S3Call("HEAD", bucket: bucket, key: key)
        call.add("versionId", versionID)
        call.setHeader("x-amz-checksum-mode", "ENABLED")
        for (name, value) in headers { call.headers.set(name.lowercased(), value) }
        return try S3ObjectInfo(try await document(call).head)
    }

    package func deleteObject(
        _ bucket: String,
        _ key: ObjectKey,
        versionID: String? = nil
    ) async throws -> S3DeleteResult {
        var call = S3Call("DELETE", bucket: bucket, key: key)
        call.add("versionId", versionID)
        call.accepted = [200, 204]
        let head = try await document(call).head
        return S3DeleteResult(
            versionID: head.first("x-amz-version-id"),
            isDeleteMarker: head.first("x-amz-delete-marker") == "true"
        )
    }

    /// - Parameters:
    ///   - replacesMetadata: with that of `options`; else the source's comes along.
    ///   - replacesTags: with those of `options`; else the source's come along.
    package func copyObject(
        from source: CopySource,
        to bucket: String,
        _ key: ObjectKey,
        options: S3ObjectOptions = S3ObjectOptions(),
        replacesMetadata: Bool = false,
        replacesTags: Bool = false
    ) async throws -> S3CopyResult {
        var call = S3Call("PUT", bucket: bucket, key: key)
        options.apply(to: &call)
        call.headers.set(CopySource.headerName, source.headerValue)
        call.headers.set("x-amz-metadata-directive", replacesMetadata ? "REPLACE" : "COPY")
        call.headers.set("x-amz-tagging-directive", replacesTags ? "REPLACE" : "COPY")
        // The answer of a large copy takes its time, and may be an error although its status is 200.
        call.timeouts = Self.patient
        let answer = try await document(call, body: .empty)
        let element = AnswerElement(try answer.document("CopyObjectResult"))
        return S3CopyResult(
            entityTag: try element.entityTag(),
            lastModified: try element.time("LastModified"),
            versionID: answer.head.first("x-amz-version-id")
        )
    }

    /// For calls in which the server moves the data itself.
    static let patient = TransportTimeouts(
        firstByte: .seconds(600),
        slowness: .seconds(600),
        bytesPerSecondMin: 0
    )

    package func getTagging(
        _ bucket: String,
        _ key: ObjectKey,
        versionID: String? = nil
    ) async throws -> [TagSet.Tag] {
        let call = tagging("GET", bucket, key, versionID)
        let xml = try await document(call).document("Tagging")
        var tags: [TagSet.Tag] = []
        for element in xml.children(named: "TagSet").flatMap({ $0.children(named: "Tag") }) {
            let answer = AnswerElement(element)
            tags.append(TagSet.Tag(key: try answer.text("Key"), value: try answer.text("Value")))
        }
        return tags
    }

    package func putTagging(
        _ bucket: String,
        _ key: ObjectKey,
        versionID: String? = nil,
        _ tags: [TagSet.Tag]
    ) async throws {
        let call = tagging("PUT", bucket, key, versionID)
        _ = try await document(call, body: .bytes(TagSet(stored: tags).xmlBytes))
    }

    package func deleteTagging(_ bucket: String, _ key: ObjectKey, versionID: String? = nil) async throws {
        var call = tagging("DELETE", bucket, key, versionID)
        call.accepted = [200, 204]
        _ = try await document(call)
    }

    private func tagging(_ method: String, _ bucket: String, _ key: ObjectKey, _ versionID: String?) -> S3Call
    {
        var call = S3Call(method, bucket: bucket, key: key)
        call.query = [("tagging", nil)]
        call.add("versionId", versionID)
        return call
    }
}
