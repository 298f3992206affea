package import StoreModel

/// Whether a bucket keeps history.
/// https://docs.aws.amazon.com/AmazonS3/latest/userguide/Versioning.html: "Buckets can be in one of three
/// states"
package enum VersioningState: UInt8, Hashable, Sendable, CaseIterable {
    /// Never switched on: an overwrite replaces, a delete removes.
    case off = 0
    /// Every write adds a version, every delete adds a delete marker.
    case enabled = 1
    /// History stays, new writes replace the null version only.
    case suspended = 2
}

/// A bucket.
package struct BucketRow: Hashable, Sendable {
    package let id: BucketID
    package let name: BucketName
    package let createdAt: Timestamp
    package var versioning: VersioningState
    package let owner: String?

    package init(
        id: BucketID,
        name: BucketName,
        createdAt: Timestamp,
        versioning: VersioningState,
        owner: String? = nil
    ) {
        self.id = id
        self.name = name
        self.createdAt = createdAt
        self.versioning = versioning
        self.owner = owner
    }
}

/// One chunk of an object: its name and its length.
package struct ChunkReference: Hashable, Sendable, BitwiseCopyable {
    package let digest: Digest
    package let length: UInt32

    package init(digest: Digest, length: UInt32) {
        self.digest = digest
        self.length = length
    }
}

/// Where the chunks of an object are listed.
package enum ManifestReference: Hashable, Sendable {
    /// Up to `Limits.inlineManifestEntryCountMax` chunks, in order, in the row itself.
    case inline([ChunkReference])
    /// The root node of a tree of nodes that are payloads themselves; depth 0 is a root that lists chunks.
    case tree(root: Digest, depth: UInt8, nodeLength: UInt32, chunkCount: UInt64)
}

/// A name and its value: a header, a user metadata entry, a tag. Order is kept as given.
package struct NamedValue: Hashable, Sendable {
    package let name: String
    package let value: String

    package init(_ name: String, _ value: String) {
        self.name = name
        self.value = value
    }
}

/// Digests of the whole object, as far as they are known.
package struct ObjectChecksums: Hashable, Sendable {
    package var sha256: Digest?
    package var md5: MD5Digest?
    /// Further checksums that a client declared, by algorithm ("CRC32C"), in the client's text form.
    package var others: [NamedValue]

    package init(sha256: Digest? = nil, md5: MD5Digest? = nil, others: [NamedValue] = []) {
        self.sha256 = sha256
        self.md5 = md5
        self.others = others
    }
}

/// What the bytes of a version are.
package struct ObjectContent: Hashable, Sendable {
    package var size: UInt64
    /// Without quotes.
    package var etag: String
    package var checksums: ObjectChecksums
    package var manifest: ManifestReference

    package init(size: UInt64, etag: String, checksums: ObjectChecksums, manifest: ManifestReference) {
        self.size = size
        self.etag = etag
        self.checksums = checksums
        self.manifest = manifest
    }

    /// A delete marker's.
    package static let nothing = ObjectContent(size: 0, etag: "", checksums: .init(), manifest: .inline([]))
}

/// What a client said about a version when it put it.
package struct ObjectMetadata: Hashable, Sendable {
    package var contentType: String?
    /// Headers that are stored and given back: Cache-Control, Content-Disposition, Content-Encoding, …
    package var otherHeaders: [NamedValue]
    package var userMetadata: [NamedValue]

    package init(contentType: String? = nil, otherHeaders: [NamedValue] = [], userMetadata: [NamedValue] = [])
    {
        self.contentType = contentType
        self.otherHeaders = otherHeaders
        self.userMetadata = userMetadata
    }
}

/// One version of one object, or a delete marker in its history.
package struct VersionRow: Hashable, Sendable {
    package enum Kind: UInt8, Hashable, Sendable {
        case object = 0
        case deleteMarker = 1
    }

    package let bucket: BucketID
    package let key: ObjectKey
    package let id: VersionID
    /// The version that S3 calls "null": made while the bucket's versioning was off or suspended; at most one
    /// a key.
    package let isNull: Bool
    package let kind: Kind
    package let createdAt: Timestamp
    package let content: ObjectContent
    package let metadata: ObjectMetadata
    package var tags: [NamedValue]
    package var attributes: VersionAttributes
    /// The mutation that made this version, so that a retry finds it.
    package let operation: OperationID
    /// The older version of the same key of which this is a copy, when it was made by a restore.
    package let restoredFrom: VersionID?

    package init(
        bucket: BucketID,
        key: ObjectKey,
        id: VersionID,
        isNull: Bool,
        kind: Kind,
        createdAt: Timestamp,
        content: ObjectContent,
        metadata: ObjectMetadata = ObjectMetadata(),
        tags: [NamedValue] = [],
        attributes: VersionAttributes = .none,
        operation: OperationID,
        restoredFrom: VersionID? = nil
    ) {
        self.bucket = bucket
        self.key = key
        self.id = id
        self.isNull = isNull
        self.kind = kind
        self.createdAt = createdAt
        self.content = content
        self.metadata = metadata
        self.tags = tags
        self.attributes = attributes
        self.operation = operation
        self.restoredFrom = restoredFrom
    }

    package var isDeleteMarker: Bool { kind == .deleteMarker }
    package var size: UInt64 { content.size }
    package var etag: String { content.etag }
    package var checksums: ObjectChecksums { content.checksums }
    package var manifest: ManifestReference { content.manifest }
    package var contentType: String? { metadata.contentType }
    package var otherHeaders: [NamedValue] { metadata.otherHeaders }
    package var userMetadata: [NamedValue] { metadata.userMetadata }
}

/// A snapshot of the catalog that is durable on a write quorum: what the log may start after.
package struct SnapshotNote: Hashable, Sendable {
    package let position: LogPosition
    package let stateHash: StateHash
    package let rowCount: UInt64
    package let manifest: ManifestReference
    package let createdAt: Timestamp

    package init(
        position: LogPosition,
        stateHash: StateHash,
        rowCount: UInt64,
        manifest: ManifestReference,
        createdAt: Timestamp
    ) {
        self.position = position
        self.stateHash = stateHash
        self.rowCount = rowCount
        self.manifest = manifest
        self.createdAt = createdAt
    }
}

/// The volumes that carry the commit log, as a record in the log.
package struct LogSetNote: Hashable, Sendable {
    package let version: UInt64
    package let members: [VolumeID]

    package init(version: UInt64, members: [VolumeID]) {
        self.version = version
        self.members = members
    }
}

/// One change of the catalog, as full row images: applying it twice is applying it once.
package enum CatalogMutation: Hashable, Sendable {
    case putBucket(BucketRow)
    case removeBucket(BucketID)
    /// A new version when `row.id.sequence` is the entry's sequence; otherwise new contents of an existing
    /// row.
    case putVersion(VersionRow)
    case removeVersion(bucket: BucketID, key: ObjectKey, id: VersionID)
    case noteSnapshot(SnapshotNote)
    case setLogSet(LogSetNote)
    case epochStart(epoch: UInt64)
    case putDocument(DocumentRow)
    case removeDocument(DocumentName)
}

/// What one decision puts into the commit log.
package struct CatalogEntry: Hashable, Sendable {
    package let operation: OperationID
    /// The decision's place in the order of all decisions; 0 for entries of the log itself (`system`).
    package let sequence: UInt64
    package let mutations: [CatalogMutation]

    package init(operation: OperationID, sequence: UInt64, mutations: [CatalogMutation]) {
        self.operation = operation
        self.sequence = sequence
        self.mutations = mutations
    }

    /// An entry that the log writes for itself: an epoch's start, a log set, a snapshot. It changes no row
    /// and needs no decision.
    package static func system(_ mutations: [CatalogMutation], operation: OperationID) -> CatalogEntry {
        CatalogEntry(operation: operation, sequence: 0, mutations: mutations)
    }
}
