package import StoreModel

/// Which ETags a condition accepts.
package enum ETagMatch: Hashable, Sendable {
    /// `*`: any object that exists.
    case any
    /// Without quotes.
    case oneOf([String])
}

/// Conditions on an object, checked in the same decision as the write.
/// https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
package struct Conditions: Hashable, Sendable {
    package var ifMatch: ETagMatch?
    package var ifNoneMatch: ETagMatch?
    package var ifModifiedSince: Timestamp?
    package var ifUnmodifiedSince: Timestamp?
    /// The object was last modified in this second.
    package var ifLastModified: Timestamp?
    package var ifSize: UInt64?
    /// Of a version that is to be removed: it has these tags still, and is not the newest of its key.
    package var ifNoncurrentWithTags: [NamedValue]?

    package init(
        ifMatch: ETagMatch? = nil,
        ifNoneMatch: ETagMatch? = nil,
        ifModifiedSince: Timestamp? = nil,
        ifUnmodifiedSince: Timestamp? = nil,
        ifLastModified: Timestamp? = nil,
        ifSize: UInt64? = nil
    ) {
        self.ifMatch = ifMatch
        self.ifNoneMatch = ifNoneMatch
        self.ifModifiedSince = ifModifiedSince
        self.ifUnmodifiedSince = ifUnmodifiedSince
        self.ifLastModified = ifLastModified
        self.ifSize = ifSize
    }

    package static let none = Conditions()

    package var isEmpty: Bool { self == .none }
}

/// Which version of a key is meant.
package enum VersionSelector: Hashable, Sendable {
    case newest
    case id(VersionID)
    case null
}

/// A key of a bucket, and a version of it.
package struct VersionAddress: Hashable, Sendable {
    package let bucket: BucketName
    package let key: ObjectKey
    package let selector: VersionSelector

    package init(bucket: BucketName, key: ObjectKey, selector: VersionSelector = .newest) {
        self.bucket = bucket
        self.key = key
        self.selector = selector
    }
}

package struct PutCommand: Hashable, Sendable {
    package let bucket: BucketName
    package let key: ObjectKey
    package let content: ObjectContent
    package let metadata: ObjectMetadata
    package let tags: [NamedValue]
    package let attributes: VersionAttributes
    package let conditions: Conditions
    /// Written in the same decision.
    package let documents: [DocumentWrite]

    package init(
        bucket: BucketName,
        key: ObjectKey,
        content: ObjectContent,
        metadata: ObjectMetadata = ObjectMetadata(),
        tags: [NamedValue] = [],
        attributes: VersionAttributes = .none,
        conditions: Conditions = .none,
        documents: [DocumentWrite] = []
    ) {
        self.bucket = bucket
        self.key = key
        self.content = content
        self.metadata = metadata
        self.tags = tags
        self.attributes = attributes
        self.conditions = conditions
        self.documents = documents
    }
}

package struct CopyCommand: Hashable, Sendable {
    package let source: VersionAddress
    /// On the source version itself.
    package let sourceConditions: Conditions
    package let bucket: BucketName
    package let key: ObjectKey
    /// nil: the source's.
    package let metadata: ObjectMetadata?
    /// nil: the source's.
    package let tags: [NamedValue]?
    /// Of the copy. What belongs to the bytes (encryption, parts, the kind of checksum) is the source's.
    package let attributes: VersionAttributes
    package let conditions: Conditions
    /// Written in the same decision.
    package let documents: [DocumentWrite]

    package init(
        source: VersionAddress,
        sourceConditions: Conditions = .none,
        bucket: BucketName,
        key: ObjectKey,
        metadata: ObjectMetadata? = nil,
        tags: [NamedValue]? = nil,
        attributes: VersionAttributes = .none,
        conditions: Conditions = .none,
        documents: [DocumentWrite] = []
    ) {
        self.source = source
        self.sourceConditions = sourceConditions
        self.bucket = bucket
        self.key = key
        self.metadata = metadata
        self.tags = tags
        self.attributes = attributes
        self.conditions = conditions
        self.documents = documents
    }
}

/// What a caller may ask of the catalog.
package enum CatalogCommand: Hashable, Sendable {
    /// - Parameter requires: documents that must be there, in the same decision: the owner's account.
    case createBucket(
        BucketName,
        versioning: VersioningState,
        owner: String?,
        settings: [BucketSetting] = [],
        requires: [DocumentWrite] = []
    )
    case deleteBucket(BucketName)
    case setVersioning(BucketName, VersioningState)
    case putObject(PutCommand)
    /// As S3 deletes a key without naming a version: a delete marker, or the removal of the null version.
    case deleteObject(bucket: BucketName, key: ObjectKey, conditions: Conditions)
    /// Removes one version (or delete marker) for good.
    /// - Parameter bypassesGovernance: whether a retention in governance mode doesn't hinder it.
    case deleteVersion(VersionAddress, conditions: Conditions = .none, bypassesGovernance: Bool = false)
    /// Makes a copy of an older version the newest.
    case restore(bucket: BucketName, key: ObjectKey, version: VersionID)
    case copy(CopyCommand)
    case setTags(VersionAddress, [NamedValue])
    /// Changes attributes of a version, which stays the same version.
    case setAttributes(
        VersionAddress,
        [AttributeChange],
        conditions: Conditions = .none,
        bypassesGovernance: Bool = false
    )
    case documents([DocumentWrite])
    case setBucketSettings(BucketName, [BucketSetting])
}

/// What a command did.
package enum CatalogOutcome: Hashable, Sendable {
    case bucket(BucketRow)
    /// The new (or newly tagged) version, and the row whose place it took, if any.
    case version(VersionRow, replaced: VersionRow?)
    /// A delete: the marker that was added, the row that was removed. Both nil: there was nothing to delete.
    case deleted(marker: VersionRow?, removed: VersionRow?)
    case none
}
