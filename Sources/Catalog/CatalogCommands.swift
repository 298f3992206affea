package import StoreModel

/// Which ETags a condition accepts.
package enum ETagMatch: Hashable, Sendable {
    /// `*`: any object that exists.
    case any
    /// Without quotes.
    case oneOf([String])
}

/// Conditions on the key's current object, checked in the same decision as the write.
/// https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
package struct Conditions: Hashable, Sendable {
    package var ifMatch: ETagMatch?
    package var ifNoneMatch: ETagMatch?

    package init(ifMatch: ETagMatch? = nil, ifNoneMatch: ETagMatch? = nil) {
        self.ifMatch = ifMatch
        self.ifNoneMatch = ifNoneMatch
    }

    package static let none = Conditions()

    package var isEmpty: Bool { ifMatch == nil && ifNoneMatch == nil }
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
    package let conditions: Conditions

    package init(
        bucket: BucketName,
        key: ObjectKey,
        content: ObjectContent,
        metadata: ObjectMetadata = ObjectMetadata(),
        tags: [NamedValue] = [],
        conditions: Conditions = .none
    ) {
        self.bucket = bucket
        self.key = key
        self.content = content
        self.metadata = metadata
        self.tags = tags
        self.conditions = conditions
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
    package let conditions: Conditions

    package init(
        source: VersionAddress,
        sourceConditions: Conditions = .none,
        bucket: BucketName,
        key: ObjectKey,
        metadata: ObjectMetadata? = nil,
        tags: [NamedValue]? = nil,
        conditions: Conditions = .none
    ) {
        self.source = source
        self.sourceConditions = sourceConditions
        self.bucket = bucket
        self.key = key
        self.metadata = metadata
        self.tags = tags
        self.conditions = conditions
    }
}

/// What a caller may ask of the catalog.
package enum CatalogCommand: Hashable, Sendable {
    case createBucket(BucketName, versioning: VersioningState, owner: String?)
    case deleteBucket(BucketName)
    case setVersioning(BucketName, VersioningState)
    case putObject(PutCommand)
    /// As S3 deletes a key without naming a version: a delete marker, or the removal of the null version.
    case deleteObject(bucket: BucketName, key: ObjectKey, conditions: Conditions)
    /// Removes one version (or delete marker) for good.
    case deleteVersion(VersionAddress)
    /// Makes a copy of an older version the newest.
    case restore(bucket: BucketName, key: ObjectKey, version: VersionID)
    case copy(CopyCommand)
    case setTags(VersionAddress, [NamedValue])
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
