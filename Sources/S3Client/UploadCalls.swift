package import ContentHashing
internal import CurlTransport
package import S3Protocol
package import StoreModel

package struct S3UploadedPart: Hashable, Sendable {
    package let number: Int
    /// Without quotes.
    package let entityTag: String
    package let size: UInt64
    package let checksum: Checksum?

    package init(number: Int, entityTag: String, size: UInt64, checksum: Checksum? = nil) {
        self.number = number
        self.entityTag = entityTag
        self.size = size
        self.checksum = checksum
    }
}

package struct S3BegunUpload: Hashable, Sendable {
    package let uploadID: String
    /// How the server is going to encrypt the object, as it tells; empty: it doesn't.
    package let encryption: String
}

package struct S3PendingUpload: Hashable, Sendable {
    package let key: ObjectKey
    package let uploadID: String
    package let initiated: Timestamp
}

package struct S3UploadListing: Sendable {
    package let uploads: [S3PendingUpload]
    /// Nil on the last page.
    package let next: (key: String, uploadID: String)?
}

package struct S3CompletedUpload: Sendable {
    package let entityTag: String
    package let versionID: String?
}

extension S3Client {
    /// https://docs.aws.amazon.com/AmazonS3/latest/API/API_CreateMultipartUpload.html
    /// - Parameter checksum: what the parts are going to bring.
    package func createUpload(
        _ bucket: String,
        _ key: ObjectKey,
        options: S3ObjectOptions = S3ObjectOptions(),
        checksum: ChecksumAlgorithm? = nil,
        checksumType: ChecksumType? = nil
    ) async throws -> S3BegunUpload {
        var call = S3Call("POST", bucket: bucket, key: key)
        call.query = [("uploads", nil)]
        options.apply(to: &call)
        call.headers.remove("if-match")
        call.headers.remove("if-none-match")
        call.setHeader("x-amz-checksum-algorithm", checksum?.name)
        call.setHeader("x-amz-checksum-type", checksumType?.name)
        let answer = try await document(call, body: .empty)
        let id = try AnswerElement(try answer.document("InitiateMultipartUploadResult")).text("UploadId")
        guard !id.isEmpty else { throw S3ClientError.answer("The server began an upload without an id.") }
        let encryption = ["", "-aws-kms-key-id", "-context"].compactMap {
            answer.head.first("x-amz-server-side-encryption\($0)")
        }
        return S3BegunUpload(uploadID: id, encryption: encryption.joined(separator: " "))
    }

    package func uploadPart(
        _ bucket: String,
        _ key: ObjectKey,
        uploadID: String,
        number: Int,
        _ body: S3Body,
        integrity: S3Integrity = S3Integrity()
    ) async throws -> S3UploadedPart {
        var call = S3Call("PUT", bucket: bucket, key: key)
        call.query = [("partNumber", "\(number)"), ("uploadId", uploadID)]
        integrity.apply(to: &call)
        let result = try await perform(call, body: body) { response in
            _ = try await response.collect(upTo: ErrorAnswer.sizeMax)
            return try S3PutResult(response.head)
        }
        return S3UploadedPart(
            number: number,
            entityTag: result.entityTag,
            size: body.length,
            checksum: integrity.checksum
        )
    }

    /// A part out of bytes that the server has.
    /// https://docs.aws.amazon.com/AmazonS3/latest/API/API_UploadPartCopy.html
    /// - Parameter ifMatch: the source's entity tag, without quotes: another one is refused with status 412.
    package func copyPart(
        from source: CopySource,
        _ range: ClosedRange<UInt64>,
        ifMatch: String,
        to bucket: String,
        _ key: ObjectKey,
        uploadID: String,
        number: Int
    ) async throws -> S3UploadedPart {
        var call = S3Call("PUT", bucket: bucket, key: key)
        call.query = [("partNumber", "\(number)"), ("uploadId", uploadID)]
        call.headers.set(CopySource.headerName, source.headerValue)
        call.headers.set("x-amz-copy-source-range", "bytes=\(range.lowerBound)-\(range.upperBound)")
        call.headers.set("x-amz-copy-source-if-match", EntityTag.quoted(ifMatch))
        call.timeouts = Self.patient
        let element = AnswerElement(try await document(call, body: .empty).document("CopyPartResult"))
        return S3UploadedPart(
            number: number,
            entityTag: try element.entityTag(),
            size: range.upperBound - range.lowerBound + 1,
            checksum: element.checksum()
        )
    }

    /// An error is an error also where its status is 200.
    /// https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html
    /// - Parameter options: only its conditions count here.
    package func completeUpload(
        _ bucket: String,
        _ key: ObjectKey,
        uploadID: String,
        parts: [S3UploadedPart],
        checksum: Checksum? = nil,
        options: S3ObjectOptions = S3ObjectOptions()
    ) async throws -> S3CompletedUpload {
        var call = S3Call("POST", bucket: bucket, key: key)
        call.query = [("uploadId", uploadID)]
        call.setHeader("if-match", options.ifMatch.map { EntityTag.quoted($0) })
        call.setHeader("if-none-match", options.ifNoneMatch.map { EntityTag.quoted($0) })
        if let checksum {
            call.headers.set(checksum.algorithm.headerName, checksum.base64)
            call.headers.set("x-amz-checksum-type", ChecksumType.fullObject.name)
        }
        call.timeouts = Self.patient
        var writer = XMLWriter()
        writer.root("CompleteMultipartUpload") { writer in
            for part in parts.sorted(by: { $0.number < $1.number }) {
                writer.element("Part") { writer in
                    writer.element("PartNumber", part.number)
                    writer.entityTag(part.entityTag)
                    if let checksum = part.checksum {
                        writer.element(checksum.algorithm.elementName, checksum.base64)
                    }
                }
            }
        }
        let answer = try await document(call, body: .bytes(writer.bytes))
        let element = AnswerElement(try answer.document("CompleteMultipartUploadResult"))
        return S3CompletedUpload(
            entityTag: try element.entityTag(),
            versionID: answer.head.first("x-amz-version-id")
        )
    }

    /// Throws code `NoSuchUpload` when it is gone already.
    package func abortUpload(_ bucket: String, _ key: ObjectKey, uploadID: String) async throws {
        var call = S3Call("DELETE", bucket: bucket, key: key)
        call.query = [("uploadId", uploadID)]
        call.accepted = [200, 204]
        _ = try await document(call)
    }

    /// All parts that are there, page by page.
    package func listParts(
        _ bucket: String,
        _ key: ObjectKey,
        uploadID: String
    ) async throws -> [S3UploadedPart] {
        var parts: [S3UploadedPart] = []
        var marker = 0
        while true {
            var call = S3Call("GET", bucket: bucket, key: key)
            call.query = [("uploadId", uploadID)]
            call.add("part-number-marker", marker > 0 ? "\(marker)" : nil)
            let page = AnswerElement(try await document(call).document("ListPartsResult"))
            for element in page.children("Part") { parts.append(try Self.part(element)) }
            guard try page.boolean("IsTruncated") else { return parts }
            let next = Int(clamping: try page.count("NextPartNumberMarker"))
            guard next > marker, parts.count <= Limits.partCountMax else {
                throw S3ClientError.answer("The server gave the same page of a listing again.")
            }
            marker = next
        }
    }

    private static func part(_ element: AnswerElement) throws(S3ClientError) -> S3UploadedPart {
        let number = try element.count("PartNumber")
        guard (1...UInt64(Limits.partCountMax)).contains(number) else {
            throw .answer("The server lists a part with the number \(number).")
        }
        return S3UploadedPart(
            number: Int(number),
            entityTag: try element.entityTag(),
            size: try element.count("Size"),
            checksum: element.checksum()
        )
    }

    /// One page of the uploads that were begun and not ended.
    package func listUploads(
        _ bucket: String,
        prefix: String = "",
        after marker: (key: String, uploadID: String)? = nil
    ) async throws -> S3UploadListing {
        var call = S3Call("GET", bucket: bucket)
        call.query = [("uploads", nil), ("encoding-type", "url")]
        call.add("prefix", prefix.isEmpty ? nil : prefix)
        call.add("key-marker", marker?.key)
        call.add("upload-id-marker", marker?.uploadID)
        let xml = try await document(call).document("ListMultipartUploadsResult")
        let encoding = try AnswerElement(xml).optionalText("EncodingType")
        let page = AnswerElement(xml, isEncoded: encoding == "url")
        var uploads: [S3PendingUpload] = []
        for element in page.children("Upload") {
            uploads.append(
                S3PendingUpload(
                    key: try element.key(),
                    uploadID: try element.text("UploadId"),
                    initiated: try element.time("Initiated")
                )
            )
        }
        var next: (key: String, uploadID: String)?
        if try page.boolean("IsTruncated") {
            let following = (
                key: try page.name("NextKeyMarker"), uploadID: try page.text("NextUploadIdMarker")
            )
            if let marker, marker == following {
                throw S3ClientError.answer("The server gave the same page of a listing again.")
            }
            next = following
        }
        return S3UploadListing(uploads: uploads, next: next)
    }
}
