package import ContentHashing
package import StoreModel

/// https://docs.aws.amazon.com/AmazonS3/latest/API/API_CopyObject.html
/// https://docs.aws.amazon.com/AmazonS3/latest/API/API_UploadPartCopy.html
package struct CopyResult: XMLResponse, Hashable {
    package enum Kind: String, Sendable {
        case object = "CopyObjectResult"
        case part = "CopyPartResult"
    }

    package var kind: Kind
    package var entityTag: String
    package var lastModified: Timestamp
    package var checksum: ObjectChecksum?

    package init(
        _ kind: Kind,
        entityTag: String,
        lastModified: Timestamp,
        checksum: ObjectChecksum? = nil
    ) {
        self.kind = kind
        self.entityTag = entityTag
        self.lastModified = lastModified
        self.checksum = checksum
    }

    package func render(into writer: inout XMLWriter) {
        writer.root(kind.rawValue) { writer in
            writer.element("LastModified", lastModified)
            writer.entityTag(entityTag)
            // A part's checksum has no type.
            if kind == .part { writer.checksum(checksum?.checksum) } else { writer.checksum(checksum) }
        }
    }
}

/// The answer to a form, when it asks for status 201.
/// https://docs.aws.amazon.com/AmazonS3/latest/API/RESTObjectPOST.html
package struct PostResponse: XMLResponse, Hashable {
    package var location: String
    package var bucket: String
    package var key: String
    package var entityTag: String

    package init(location: String, bucket: String, key: String, entityTag: String) {
        self.location = location
        self.bucket = bucket
        self.key = key
        self.entityTag = entityTag
    }

    package func render(into writer: inout XMLWriter) {
        writer.element("PostResponse") { writer in
            writer.element("Location", location)
            writer.element("Bucket", bucket)
            writer.element("Key", key)
            writer.entityTag(entityTag)
        }
    }
}

/// https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
package struct ErrorDocument: XMLResponse {
    package var error: S3Error
    /// The path that was asked for.
    package var resource: String
    package var requestID: String
    package var hostID: String?

    package init(error: S3Error, resource: String, requestID: String, hostID: String? = nil) {
        self.error = error
        self.resource = resource
        self.requestID = requestID
        self.hostID = hostID
    }

    /// Without a namespace: S3's errors have none.
    package func render(into writer: inout XMLWriter) {
        writer.element("Error") { writer in
            writer.element("Code", error.code.rawValue)
            writer.element("Message", error.message)
            for detail in error.details { writer.element(detail.name, detail.value) }
            writer.element("Resource", resource)
            writer.element("RequestId", requestID)
            writer.optional("HostId", hostID)
        }
    }
}

/// https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObjectAttributes.html
package struct ObjectAttributes: XMLResponse, Hashable {
    /// What x-amz-object-attributes asks for.
    package enum Name: String, CaseIterable, Sendable {
        case entityTag = "ETag"
        case checksum = "Checksum"
        case objectParts = "ObjectParts"
        case storageClass = "StorageClass"
        case objectSize = "ObjectSize"
    }

    package struct Part: Hashable, Sendable {
        package var number: Int
        package var size: UInt64
        package var checksum: Checksum?

        package init(number: Int, size: UInt64, checksum: Checksum? = nil) {
            self.number = number
            self.size = size
            self.checksum = checksum
        }
    }

    /// Of an object that was uploaded in parts. S3 lists the parts only where they have checksums.
    package struct Parts: Hashable, Sendable {
        package var totalCount: Int
        package var marker: Int
        package var nextMarker: Int
        package var maxParts: Int
        package var isTruncated: Bool
        package var parts: [Part]

        package init(
            totalCount: Int,
            marker: Int,
            nextMarker: Int,
            maxParts: Int,
            isTruncated: Bool,
            parts: [Part]
        ) {
            self.totalCount = totalCount
            self.marker = marker
            self.nextMarker = nextMarker
            self.maxParts = maxParts
            self.isTruncated = isTruncated
            self.parts = parts
        }
    }

    package var entityTag: String?
    package var checksum: ObjectChecksum?
    package var parts: Parts?
    package var storageClass: String?
    package var size: UInt64?

    package init(
        entityTag: String? = nil,
        checksum: ObjectChecksum? = nil,
        parts: Parts? = nil,
        storageClass: String? = nil,
        size: UInt64? = nil
    ) {
        self.entityTag = entityTag
        self.checksum = checksum
        self.parts = parts
        self.storageClass = storageClass
        self.size = size
    }

    /// Parses the header's values.
    package static func names(of values: [String]) throws(S3Error) -> Set<Name> {
        var names: Set<Name> = []
        for text in values.flatMap({ $0.split(separator: ",") }) {
            let word = ASCIIText.trimmed(String(text))
            guard let name = Name(rawValue: word) else {
                throw .invalidArgument(
                    "Invalid attribute name specified.",
                    name: "x-amz-object-attributes",
                    value: word
                )
            }
            names.insert(name)
        }
        guard !names.isEmpty else {
            throw S3Error(
                .invalidRequest,
                "The x-amz-object-attributes header specifying the attributes to be retrieved "
                    + "is either missing or empty"
            )
        }
        return names
    }

    package func render(into writer: inout XMLWriter) {
        writer.root("GetObjectAttributesResponse") { writer in
            // The one document where S3 shows the tag without quotes.
            writer.optional("ETag", entityTag)
            if let checksum { writer.element("Checksum") { $0.checksum(checksum) } }
            if let parts { render(parts, into: &writer) }
            writer.optional("StorageClass", storageClass)
            writer.optional("ObjectSize", size)
        }
    }

    private func render(_ parts: Parts, into writer: inout XMLWriter) {
        writer.element("ObjectParts") { writer in
            writer.element("PartsCount", parts.totalCount)
            let isListed = parts.parts.contains { $0.checksum != nil }
            guard isListed else { return }
            writer.element("PartNumberMarker", parts.marker)
            writer.element("NextPartNumberMarker", parts.nextMarker)
            writer.element("MaxParts", parts.maxParts)
            writer.element("IsTruncated", parts.isTruncated)
            for part in parts.parts {
                writer.element("Part") { writer in
                    writer.element("PartNumber", part.number)
                    writer.element("Size", part.size)
                    writer.checksum(part.checksum)
                }
            }
        }
    }
}
