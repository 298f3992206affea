package import ContentHashing
package import StoreModel

/// https://docs.aws.amazon.com/AmazonS3/latest/API/API_CreateMultipartUpload.html
package struct InitiateMultipartUploadResult: XMLResponse, Hashable {
    package var bucket: String
    package var key: String
    package var uploadID: String

    package init(bucket: String, key: String, uploadID: String) {
        self.bucket = bucket
        self.key = key
        self.uploadID = uploadID
    }

    package func render(into writer: inout XMLWriter) {
        writer.root("InitiateMultipartUploadResult") { writer in
            writer.element("Bucket", bucket)
            writer.element("Key", key)
            writer.element("UploadId", uploadID)
        }
    }
}

/// The parts that a client wants to be the object.
/// https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html
package struct CompleteMultipartUpload: XMLRequest, Hashable {
    package static let partNumbers = 1...10_000

    package struct Part: Hashable, Sendable {
        package let number: Int
        /// Without quotes.
        package let entityTag: String
        package let checksums: [Checksum]
    }

    /// In ascending order of their numbers; at least one.
    package let parts: [Part]

    package init(xml: XMLElement) throws(S3Error) {
        guard ["CompleteMultipartUpload", "CompletedMultipartUpload"].contains(xml.name) else {
            throw .malformedXML("The root element is not CompleteMultipartUpload.")
        }
        try xml.requireOnly(["Part"])
        guard Self.partNumbers.contains(xml.children.count) else {
            throw .malformedXML("There must be 1 to 10,000 parts.")
        }
        var parts: [Part] = []
        parts.reserveCapacity(xml.children.count)
        for element in xml.children {
            let part = try Part(element)
            if let last = parts.last, last.number >= part.number { throw S3Error(.invalidPartOrder) }
            parts.append(part)
        }
        self.parts = parts
    }
}

extension CompleteMultipartUpload.Part {
    private static let elements = Set(ChecksumAlgorithm.allCases.map(\.elementName)).union([
        "PartNumber", "ETag",
    ])

    init(_ xml: XMLElement) throws(S3Error) {
        try xml.requireOnly(Self.elements)
        guard let number = try xml.integer(of: "PartNumber") else {
            throw .malformedXML("A part lacks its PartNumber.")
        }
        guard let number = Int(exactly: number), CompleteMultipartUpload.partNumbers.contains(number) else {
            throw .invalidArgument(
                "Part number must be an integer between 1 and 10000, inclusive",
                name: "partNumber",
                value: String(number)
            )
        }
        self.number = number
        entityTag = EntityTagText.unquoted(try xml.requiredWord(of: "ETag"))
        var checksums: [Checksum] = []
        for algorithm in ChecksumAlgorithm.allCases {
            guard let text = try xml.word(of: algorithm.elementName) else { continue }
            guard let checksum = Checksum(algorithm, base64: text) else {
                throw S3Error(
                    .invalidRequest,
                    "Value for x-amz-checksum-\(algorithm.name.lowercased()) header is invalid."
                )
            }
            checksums.append(checksum)
        }
        self.checksums = checksums
    }
}

enum EntityTagText {
    /// Clients send the tag with and without its quotes.
    static func unquoted(_ text: String) -> String {
        guard text.utf8.count >= 2, text.hasPrefix("\""), text.hasSuffix("\"") else { return text }
        return String(text.dropFirst().dropLast())
    }
}

/// https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html
package struct CompleteMultipartUploadResult: XMLResponse, Hashable {
    package var location: String
    package var bucket: String
    package var key: String
    package var entityTag: String
    package var checksum: ObjectChecksum?

    package init(
        location: String,
        bucket: String,
        key: String,
        entityTag: String,
        checksum: ObjectChecksum? = nil
    ) {
        self.location = location
        self.bucket = bucket
        self.key = key
        self.entityTag = entityTag
        self.checksum = checksum
    }

    package func render(into writer: inout XMLWriter) {
        writer.root("CompleteMultipartUploadResult") { writer in
            writer.element("Location", location)
            writer.element("Bucket", bucket)
            writer.element("Key", key)
            writer.entityTag(entityTag)
            writer.checksum(checksum)
        }
    }
}

extension XMLWriter {
    /// The element of the algorithm, and the type.
    mutating func checksum(_ checksum: ObjectChecksum?) {
        guard let checksum else { return }
        element(checksum.checksum.algorithm.elementName, checksum.text)
        element("ChecksumType", checksum.type.name)
    }

    mutating func checksum(_ checksum: Checksum?) {
        if let checksum { element(checksum.algorithm.elementName, checksum.base64) }
    }
}

/// https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListParts.html
package struct ListPartsResult: XMLResponse, Hashable {
    package struct Part: Hashable, Sendable {
        package var number: Int
        package var lastModified: Timestamp
        package var entityTag: String
        package var size: UInt64
        package var checksum: Checksum?

        package init(
            number: Int,
            lastModified: Timestamp,
            entityTag: String,
            size: UInt64,
            checksum: Checksum? = nil
        ) {
            self.number = number
            self.lastModified = lastModified
            self.entityTag = entityTag
            self.size = size
            self.checksum = checksum
        }
    }

    package var bucket: String
    package var key: String
    package var uploadID: String
    package var initiator: Owner?
    package var owner: Owner?
    package var storageClass = "STANDARD"
    package var partNumberMarker = 0
    package var nextPartNumberMarker: Int?
    package var maxParts = 1000
    package var isTruncated = false
    package var encoding = ListingEncoding.plain
    package var checksumAlgorithm: ChecksumAlgorithm?
    package var checksumType: ChecksumType?
    package var parts: [Part]

    package init(bucket: String, key: String, uploadID: String, parts: [Part]) {
        self.bucket = bucket
        self.key = key
        self.uploadID = uploadID
        self.parts = parts
    }

    package func render(into writer: inout XMLWriter) {
        writer.root("ListPartsResult") { writer in
            writer.element("Bucket", bucket)
            writer.element("Key", encoding.encode(key))
            writer.element("UploadId", uploadID)
            initiator?.render(into: &writer, name: "Initiator")
            owner?.render(into: &writer)
            writer.element("StorageClass", storageClass)
            writer.element("PartNumberMarker", partNumberMarker)
            writer.optional("NextPartNumberMarker", nextPartNumberMarker)
            writer.element("MaxParts", maxParts)
            encoding.render(into: &writer)
            writer.element("IsTruncated", isTruncated)
            writer.optional("ChecksumAlgorithm", checksumAlgorithm?.name)
            writer.optional("ChecksumType", checksumType?.name)
            for part in parts {
                writer.element("Part") { writer in
                    writer.element("PartNumber", part.number)
                    writer.element("LastModified", part.lastModified)
                    writer.entityTag(part.entityTag)
                    writer.element("Size", part.size)
                    writer.checksum(part.checksum)
                }
            }
        }
    }
}

/// https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListMultipartUploads.html
package struct ListMultipartUploadsResult: XMLResponse, Hashable {
    package struct Upload: Hashable, Sendable {
        package var key: String
        package var uploadID: String
        package var initiator: Owner?
        package var owner: Owner?
        package var storageClass = "STANDARD"
        package var initiatedAt: Timestamp
        package var checksumAlgorithm: ChecksumAlgorithm?
        package var checksumType: ChecksumType?

        package init(key: String, uploadID: String, initiatedAt: Timestamp) {
            self.key = key
            self.uploadID = uploadID
            self.initiatedAt = initiatedAt
        }
    }

    package var frame: ListingFrame
    package var keyMarker: String
    package var uploadIDMarker: String
    package var nextKeyMarker: String?
    package var nextUploadIDMarker: String?
    package var uploads: [Upload]

    package init(
        frame: ListingFrame,
        keyMarker: String,
        uploadIDMarker: String,
        nextKeyMarker: String?,
        nextUploadIDMarker: String?,
        uploads: [Upload]
    ) {
        self.frame = frame
        self.keyMarker = keyMarker
        self.uploadIDMarker = uploadIDMarker
        self.nextKeyMarker = nextKeyMarker
        self.nextUploadIDMarker = nextUploadIDMarker
        self.uploads = uploads
    }

    package func render(into writer: inout XMLWriter) {
        let encoding = frame.encoding
        writer.root("ListMultipartUploadsResult") { writer in
            writer.element("Bucket", frame.bucket)
            writer.element("KeyMarker", encoding.encode(keyMarker))
            writer.element("UploadIdMarker", uploadIDMarker)
            writer.optional("NextKeyMarker", nextKeyMarker.map { encoding.encode($0) })
            writer.optional("NextUploadIdMarker", nextUploadIDMarker)
            writer.element("Prefix", encoding.encode(frame.prefix))
            frame.renderDelimiter(into: &writer)
            writer.element("MaxUploads", frame.maxCount)
            writer.element("IsTruncated", frame.isTruncated)
            for upload in uploads { render(upload, into: &writer) }
            frame.renderPrefixes(into: &writer)
        }
    }

    private func render(_ upload: Upload, into writer: inout XMLWriter) {
        writer.element("Upload") { writer in
            writer.element("Key", frame.encoding.encode(upload.key))
            writer.element("UploadId", upload.uploadID)
            upload.initiator?.render(into: &writer, name: "Initiator")
            upload.owner?.render(into: &writer)
            writer.element("StorageClass", upload.storageClass)
            writer.element("Initiated", upload.initiatedAt)
            writer.optional("ChecksumAlgorithm", upload.checksumAlgorithm?.name)
            writer.optional("ChecksumType", upload.checksumType?.name)
        }
    }
}
