package import ContentHashing
package import StoreModel

/// One object of a listing.
/// https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html
package struct ListedObject: Hashable, Sendable {
    package var key: String
    package var lastModified: Timestamp
    /// Without quotes.
    package var entityTag: String
    package var size: UInt64
    package var storageClass: String
    package var owner: Owner?
    package var checksumAlgorithm: ChecksumAlgorithm?
    package var checksumType: ChecksumType?

    package init(
        key: String,
        lastModified: Timestamp,
        entityTag: String,
        size: UInt64,
        storageClass: String = "STANDARD",
        owner: Owner? = nil,
        checksumAlgorithm: ChecksumAlgorithm? = nil,
        checksumType: ChecksumType? = nil
    ) {
        self.key = key
        self.lastModified = lastModified
        self.entityTag = entityTag
        self.size = size
        self.storageClass = storageClass
        self.owner = owner
        self.checksumAlgorithm = checksumAlgorithm
        self.checksumType = checksumType
    }

    func render(into writer: inout XMLWriter, encoding: ListingEncoding) {
        writer.element("Contents") { writer in
            writer.element("Key", encoding.encode(key))
            writer.element("LastModified", lastModified)
            writer.entityTag(entityTag)
            writer.optional("ChecksumAlgorithm", checksumAlgorithm?.name)
            writer.optional("ChecksumType", checksumType?.name)
            writer.element("Size", size)
            owner?.render(into: &writer)
            writer.element("StorageClass", storageClass)
        }
    }
}

/// What all listings have in common. Names are given as they are and encoded when they are written.
package struct ListingFrame: Hashable, Sendable {
    package var bucket: String
    package var prefix: String
    package var delimiter: String?
    package var encoding: ListingEncoding
    package var maxCount: Int
    package var isTruncated: Bool
    package var commonPrefixes: [String]

    package init(
        bucket: String,
        prefix: String,
        delimiter: String?,
        encoding: ListingEncoding,
        maxCount: Int,
        isTruncated: Bool,
        commonPrefixes: [String]
    ) {
        self.bucket = bucket
        self.prefix = prefix
        self.delimiter = delimiter
        self.encoding = encoding
        self.maxCount = maxCount
        self.isTruncated = isTruncated
        self.commonPrefixes = commonPrefixes
    }

    func renderPrefixes(into writer: inout XMLWriter) {
        for prefix in commonPrefixes {
            writer.element("CommonPrefixes") { $0.element("Prefix", encoding.encode(prefix)) }
        }
    }

    func renderDelimiter(into writer: inout XMLWriter) {
        writer.optional("Delimiter", delimiter.map { encoding.encode($0) })
        encoding.render(into: &writer)
    }
}

/// https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjects.html
package struct ListBucketResult: XMLResponse, Hashable {
    package var frame: ListingFrame
    package var marker: String
    /// Only with a delimiter, and when there is more.
    package var nextMarker: String?
    package var objects: [ListedObject]

    package init(frame: ListingFrame, marker: String, nextMarker: String?, objects: [ListedObject]) {
        self.frame = frame
        self.marker = marker
        self.nextMarker = nextMarker
        self.objects = objects
    }

    package func render(into writer: inout XMLWriter) {
        let encoding = frame.encoding
        writer.root("ListBucketResult") { writer in
            writer.element("Name", frame.bucket)
            writer.element("Prefix", encoding.encode(frame.prefix))
            writer.element("Marker", encoding.encode(marker))
            writer.optional("NextMarker", nextMarker.map { encoding.encode($0) })
            writer.element("MaxKeys", frame.maxCount)
            frame.renderDelimiter(into: &writer)
            writer.element("IsTruncated", frame.isTruncated)
            for object in objects { object.render(into: &writer, encoding: encoding) }
            frame.renderPrefixes(into: &writer)
        }
    }
}

/// https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html
package struct ListBucketResultV2: XMLResponse, Hashable {
    package var frame: ListingFrame
    package var startAfter: String?
    package var continuationToken: String?
    package var nextContinuationToken: String?
    package var objects: [ListedObject]

    package init(
        frame: ListingFrame,
        startAfter: String?,
        continuationToken: String?,
        nextContinuationToken: String?,
        objects: [ListedObject]
    ) {
        self.frame = frame
        self.startAfter = startAfter
        self.continuationToken = continuationToken
        self.nextContinuationToken = nextContinuationToken
        self.objects = objects
    }

    package func render(into writer: inout XMLWriter) {
        let encoding = frame.encoding
        writer.root("ListBucketResult") { writer in
            writer.element("Name", frame.bucket)
            writer.element("Prefix", encoding.encode(frame.prefix))
            writer.optional("StartAfter", startAfter.map { encoding.encode($0) })
            writer.optional("ContinuationToken", continuationToken)
            writer.optional("NextContinuationToken", nextContinuationToken)
            // Keys and common prefixes together.
            writer.element("KeyCount", objects.count + frame.commonPrefixes.count)
            writer.element("MaxKeys", frame.maxCount)
            frame.renderDelimiter(into: &writer)
            writer.element("IsTruncated", frame.isTruncated)
            for object in objects { object.render(into: &writer, encoding: encoding) }
            frame.renderPrefixes(into: &writer)
        }
    }
}

/// https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectVersions.html
package struct ListVersionsResult: XMLResponse, Hashable {
    package struct Entry: Hashable, Sendable {
        package var object: ListedObject
        /// "null" for the null version.
        package var versionID: String
        package var isLatest: Bool
        /// Of a delete marker, only key, time and owner are shown.
        package var isDeleteMarker: Bool

        package init(object: ListedObject, versionID: String, isLatest: Bool, isDeleteMarker: Bool) {
            self.object = object
            self.versionID = versionID
            self.isLatest = isLatest
            self.isDeleteMarker = isDeleteMarker
        }
    }

    package var frame: ListingFrame
    package var keyMarker: String
    package var versionIDMarker: String
    package var nextKeyMarker: String?
    package var nextVersionIDMarker: String?
    package var entries: [Entry]

    package init(
        frame: ListingFrame,
        keyMarker: String,
        versionIDMarker: String,
        nextKeyMarker: String?,
        nextVersionIDMarker: String?,
        entries: [Entry]
    ) {
        self.frame = frame
        self.keyMarker = keyMarker
        self.versionIDMarker = versionIDMarker
        self.nextKeyMarker = nextKeyMarker
        self.nextVersionIDMarker = nextVersionIDMarker
        self.entries = entries
    }

    package func render(into writer: inout XMLWriter) {
        let encoding = frame.encoding
        writer.root("ListVersionsResult") { writer in
            writer.element("Name", frame.bucket)
            writer.element("Prefix", encoding.encode(frame.prefix))
            writer.element("KeyMarker", encoding.encode(keyMarker))
            writer.element("VersionIdMarker", versionIDMarker)
            writer.optional("NextKeyMarker", nextKeyMarker.map { encoding.encode($0) })
            writer.optional("NextVersionIdMarker", nextVersionIDMarker)
            writer.element("MaxKeys", frame.maxCount)
            frame.renderDelimiter(into: &writer)
            writer.element("IsTruncated", frame.isTruncated)
            for entry in entries { render(entry, into: &writer) }
            frame.renderPrefixes(into: &writer)
        }
    }

    private func render(_ entry: Entry, into writer: inout XMLWriter) {
        writer.element(entry.isDeleteMarker ? "DeleteMarker" : "Version") { writer in
            writer.element("Key", frame.encoding.encode(entry.object.key))
            writer.element("VersionId", entry.versionID)
            writer.element("IsLatest", entry.isLatest)
            writer.element("LastModified", entry.object.lastModified)
            if !entry.isDeleteMarker {
                writer.entityTag(entry.object.entityTag)
                writer.optional("ChecksumAlgorithm", entry.object.checksumAlgorithm?.name)
                writer.optional("ChecksumType", entry.object.checksumType?.name)
                writer.element("Size", entry.object.size)
                writer.element("StorageClass", entry.object.storageClass)
            }
            entry.object.owner?.render(into: &writer)
        }
    }
}
