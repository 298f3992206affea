package import Catalog
package import ContentHashing
package import Encryption
package import StoreModel

/// Identity of a multipart upload: when it was started, and 64 random bits. Later ones compare greater.
package struct UploadID: Hashable, Sendable, Comparable, CustomStringConvertible {
    /// Names the completion as well, so that a retry finds it.
    let operation: OperationID

    init(_ operation: OperationID) { self.operation = operation }

    init(startedAt: Timestamp, random: UInt64) {
        operation = OperationID(high: UInt64(clamping: startedAt.milliseconds), low: random)
    }

    /// Parses the text form, or returns nil.
    package init?(_ text: some StringProtocol) {
        guard let bits = VersionID(text) else { return nil }
        operation = OperationID(high: bits.sequence, low: bits.nonce)
    }

    package var description: String {
        VersionID(sequence: operation.high, nonce: operation.low).description
    }

    package static func < (left: UploadID, right: UploadID) -> Bool { left.operation < right.operation }
}

/// An upload of a key of a bucket.
package struct UploadAddress: Hashable, Sendable {
    package let bucket: BucketName
    package let key: ObjectKey
    package let id: UploadID

    package init(bucket: BucketName, key: ObjectKey, id: UploadID) {
        self.bucket = bucket
        self.key = key
        self.id = id
    }
}

/// The checksum that an upload's object will have.
package struct UploadChecksum: Hashable, Sendable {
    package let algorithm: ChecksumAlgorithm
    package let type: ChecksumType

    package init(algorithm: ChecksumAlgorithm, type: ChecksumType) {
        self.algorithm = algorithm
        self.type = type
    }
}

/// A multipart upload to be started: what the object will be.
package struct CreateUploadRequest: Sendable {
    package var bucket: BucketName
    package var key: ObjectKey
    package var metadata: ObjectMetadata
    package var tags: [NamedValue]
    package var attributes: VersionAttributes
    package var encryption: EncryptionChoice
    package var checksum: UploadChecksum?
    /// The account that starts it.
    package var initiator: String?

    package init(
        bucket: BucketName,
        key: ObjectKey,
        metadata: ObjectMetadata = ObjectMetadata(),
        tags: [NamedValue] = [],
        attributes: VersionAttributes = .none,
        encryption: EncryptionChoice = .none,
        checksum: UploadChecksum? = nil,
        initiator: String? = nil
    ) {
        self.bucket = bucket
        self.key = key
        self.metadata = metadata
        self.tags = tags
        self.attributes = attributes
        self.encryption = encryption
        self.checksum = checksum
        self.initiator = initiator
    }
}

/// A multipart upload that is under way.
package struct MultipartUpload: Hashable, Sendable {
    package let id: UploadID
    package let bucket: BucketID
    package let key: ObjectKey
    package let startedAt: Timestamp
    package let metadata: ObjectMetadata
    package let tags: [NamedValue]
    package let attributes: VersionAttributes
    package let checksum: UploadChecksum?
    package let initiator: String?
}

/// A part that an upload has.
package struct UploadedPart: Hashable, Sendable {
    package let number: Int
    package let size: UInt64
    package let etag: MD5Digest
    package let uploadedAt: Timestamp
    package let checksum: Checksum?
    let payload: PayloadReference
}

/// The bytes of one part. A part that is there already is replaced.
package struct PutPartRequest: Sendable {
    package var upload: UploadAddress
    package var number: Int
    package var expectation: BodyExpectation
    /// Asked for after the last byte: what a trailer says.
    package var expectationAtEnd: (@Sendable () async throws -> BodyExpectation)?
    /// nil: the upload's algorithm, if it has one.
    package var checksum: ChecksumAlgorithm?
    /// The key of an upload that is encrypted with a client's key.
    package var clientKey: EncryptionKey?

    package init(
        upload: UploadAddress,
        number: Int,
        expectation: BodyExpectation = .none,
        expectationAtEnd: (@Sendable () async throws -> BodyExpectation)? = nil,
        checksum: ChecksumAlgorithm? = nil,
        clientKey: EncryptionKey? = nil
    ) {
        self.upload = upload
        self.number = number
        self.clientKey = clientKey
        self.expectation = expectation
        self.expectationAtEnd = expectationAtEnd
        self.checksum = checksum
    }
}

/// A part whose bytes are those of an object that is there.
package struct CopyPartRequest: Sendable {
    package var upload: UploadAddress
    package var number: Int
    package var source: VersionAddress
    package var sourceConditions: Conditions
    /// First and last byte; nil: all of the source.
    package var range: ClosedRange<UInt64>?
    /// The key of a source, and of an upload, that is encrypted with a client's key.
    package var sourceKey: EncryptionKey?
    package var clientKey: EncryptionKey?

    package init(
        upload: UploadAddress,
        number: Int,
        source: VersionAddress,
        sourceConditions: Conditions = .none,
        range: ClosedRange<UInt64>? = nil,
        sourceKey: EncryptionKey? = nil,
        clientKey: EncryptionKey? = nil
    ) {
        self.upload = upload
        self.number = number
        self.source = source
        self.sourceConditions = sourceConditions
        self.range = range
        self.sourceKey = sourceKey
        self.clientKey = clientKey
    }
}

/// What copying a part did.
package struct CopiedPart: Hashable, Sendable {
    package let part: UploadedPart
    /// The version that was read.
    package let source: VersionRow
}

/// A page of an upload's parts, in the order of their numbers.
package struct PartPage: Hashable, Sendable {
    package let upload: MultipartUpload
    package let parts: [UploadedPart]
    /// The number after which the next page starts; nil when this is the last one.
    package let next: Int?
}

/// Where a listing of uploads goes on.
package struct UploadMarker: Hashable, Sendable {
    /// A key or a common prefix.
    package let key: [UInt8]
    /// nil: after all uploads of `key`; else after this one.
    package let id: UploadID?

    package init(key: [UInt8], id: UploadID? = nil) {
        self.key = key
        self.id = id
    }
}

/// A page of the uploads of a bucket that are under way: keys in byte order, each key's uploads oldest first.
/// https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListMultipartUploads.html
package struct UploadListRequest: Hashable, Sendable {
    package var bucket: BucketName
    package var prefix: [UInt8]
    /// Empty: no common prefixes.
    package var delimiter: [UInt8]
    package var startAfter: UploadMarker?
    package var limit: Int

    package init(
        bucket: BucketName,
        prefix: [UInt8] = [],
        delimiter: [UInt8] = [],
        startAfter: UploadMarker? = nil,
        limit: Int = Limits.listPageSizeMax
    ) {
        self.bucket = bucket
        self.prefix = prefix
        self.delimiter = delimiter
        self.startAfter = startAfter
        self.limit = limit
    }
}

package struct UploadPage: Hashable, Sendable {
    package let uploads: [MultipartUpload]
    package let commonPrefixes: [[UInt8]]
    /// nil when this is the last page.
    package let next: UploadMarker?
}

/// A part as the client lists it when it completes an upload.
package struct ListedPart: Hashable, Sendable {
    package let number: Int
    /// Without quotes.
    package let etag: String
    package let checksum: Checksum?

    package init(number: Int, etag: String, checksum: Checksum? = nil) {
        self.number = number
        self.etag = etag
        self.checksum = checksum
    }
}

package struct CompleteRequest: Sendable {
    package var upload: UploadAddress
    package var parts: [ListedPart]
    package var conditions: Conditions
    /// The size that the client expects of the object.
    package var size: UInt64?
    /// The checksum that the client expects of the object.
    package var checksum: ObjectChecksum?
    /// The mirrors that the caller waits for afterwards: an upload that is repeated gives the version that it made.
    package var acknowledgement: MirrorAcknowledgement?

    package init(
        upload: UploadAddress,
        parts: [ListedPart],
        conditions: Conditions = .none,
        size: UInt64? = nil,
        checksum: ObjectChecksum? = nil
    ) {
        self.upload = upload
        self.parts = parts
        self.conditions = conditions
        self.size = size
        self.checksum = checksum
    }
}
