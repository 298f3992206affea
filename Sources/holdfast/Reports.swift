// What the commands know about a store, and the JSON that they print: the fields below are the documented,
// stable interface of `--json`. A field may be added; none is renamed, removed or given another meaning.
//
// Times are text in UTC with milliseconds ("2026-03-01T12:30:00.123Z"), sizes are bytes, digests are
// lower-case hexadecimal. Absent means "not known" or "does not apply"; there are no nulls.

package import AdminGateway
package import ContentHashing
package import StoreModel

/// One version of one object, or a delete marker.
package struct VersionReport: Encodable, Sendable {
    package enum Kind: String, Encodable, Sendable { case object, deleteMarker }

    package var bucket: BucketName
    package var key: ObjectKey
    package var id: VersionID
    /// Whether S3 names this version "null": it was written while the bucket kept no versions.
    package var isNull: Bool
    package var kind: Kind
    /// Whether this is the newest version of its key; nil when the answer does not tell.
    package var isLatest: Bool?
    package var createdAt: Timestamp
    package var size: UInt64
    package var etag: String
    package var sha256: Digest?
    package var contentType: String?
    /// Not known, like the tags, from a listing.
    package var userMetadata: [(name: String, value: String)]?
    package var tags: [(name: String, value: String)]?
    /// Of the whole object, for where its SHA-256 is not known; not shown.
    package var checksum: Checksum?
    /// How long writes of its bucket wait for a version that some mirror doesn't have yet, as a server told; not shown.
    package var mirrorWait: Duration?
    /// Where that is known; not shown.
    package var isEncrypted = false
    /// What an earlier run of the same put had sent; not shown.
    package var resumedBytes: UInt64 = 0

    private enum CodingKeys: String, CodingKey {
        case bucket, key, versionID, isNull, kind, isLatest, createdAt, size, etag, sha256, contentType
        case metadata, tags
    }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(bucket.description, forKey: .bucket)
        try container.encode(key.description, forKey: .key)
        if id != .unknown { try container.encode(id.description, forKey: .versionID) }
        try container.encode(isNull, forKey: .isNull)
        try container.encode(kind, forKey: .kind)
        try container.encodeIfPresent(isLatest, forKey: .isLatest)
        try container.encode(createdAt.internetDateTime, forKey: .createdAt)
        guard kind == .object else { return }
        try container.encode(size, forKey: .size)
        try container.encode(etag, forKey: .etag)
        try container.encodeIfPresent(sha256?.hex, forKey: .sha256)
        try container.encodeIfPresent(contentType, forKey: .contentType)
        try container.encodeIfPresent(userMetadata.map(Self.dictionary), forKey: .metadata)
        try container.encodeIfPresent(tags.map(Self.dictionary), forKey: .tags)
    }

    private static func dictionary(_ pairs: [(name: String, value: String)]) -> [String: String] {
        Dictionary(pairs.map { ($0.name, $0.value) }, uniquingKeysWith: { _, last in last })
    }
}

/// `init`: the store that was made.
package struct CreationReport: Encodable, Sendable {
    package let store: String
    package let replicas: Int
    package let writeQuorum: Int
    package let volumes: [String]
}

/// `init --recover`.
package struct StoreRecoveryDocument: Encodable, Sendable {
    package let store: String
    package let storeID: String
    /// The generation of store.json that was found, and the volumes that had it.
    package let generation: UInt64
    package let sources: [String]
    package let volumes: [String]
    package let hasMasterKey: Bool
    package let remarks: [String]
}

/// `ls` without an address, `bucket ls`.
package struct BucketReport: Encodable, Sendable {
    package let name: String
    /// "enabled", "suspended" or "off".
    package let versioning: String
    package let createdAt: Timestamp

    private enum CodingKeys: String, CodingKey { case name, versioning, createdAt }

    package init(name: String, versioning: String, createdAt: Timestamp) {
        self.name = name
        self.versioning = versioning
        self.createdAt = createdAt
    }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(name, forKey: .name)
        try container.encode(versioning, forKey: .versioning)
        try container.encode(createdAt.internetDateTime, forKey: .createdAt)
    }
}

/// One line of a listing.
package enum ListingEntry: Encodable, Sendable {
    case object(VersionReport)
    /// Everything that begins with this text, as one line.
    case prefix(String)

    private enum CodingKeys: String, CodingKey { case prefix }

    package func encode(to encoder: any Encoder) throws {
        switch self {
        case .object(let version):
            try version.encode(to: encoder)
        case .prefix(let prefix):
            var container = encoder.container(keyedBy: CodingKeys.self)
            try container.encode(prefix, forKey: .prefix)
        }
    }
}

/// Where the next page of a listing starts.
package struct ListingContinuation: Sendable {
    package let key: [UInt8]
    /// After this version of the key; nil: after all of them.
    package let version: VersionID?
    /// What a server wants to see again instead.
    package var token: String?
    /// A server's name of the version.
    package var versionName: String?
}

extension VersionID {
    /// Of a version that a server names in another way than by a version id of Holdfast, or not at all.
    package static let unknown = VersionID(sequence: 0, nonce: 0)
}

/// A page of a listing.
package struct ListingPage: Sendable {
    package let entries: [ListingEntry]
    /// Where the next page starts; nil after the last one.
    package let continuation: ListingContinuation?

    package init(entries: [ListingEntry], continuation: ListingContinuation?) {
        self.entries = entries
        self.continuation = continuation
    }
}

/// One copy of a chunk on one volume.
package struct ReplicaReport: Encodable, Sendable {
    package let volume: String
    /// "present", "missing", "damaged" or "unreachable".
    package let state: String
    package let reason: String?
    /// When this copy was last read and found good, at the earliest; absent: not since it was stored, as far as is known.
    package let verifiedAt: String?
    /// What found it good: "scrub", "verify", or "read" (in this command).
    package let verifiedBy: String?

    package init(
        volume: String,
        state: String,
        reason: String?,
        verifiedAt: String?,
        verifiedBy: String? = nil
    ) {
        self.volume = volume
        self.state = state
        self.reason = reason
        self.verifiedAt = verifiedAt
        self.verifiedBy = verifiedBy
    }
}

/// One chunk of an object.
package struct ChunkReport: Encodable, Sendable {
    package let sha256: String
    package let offset: UInt64
    package let length: UInt64
    package let replicas: [ReplicaReport]

    package init(sha256: String, offset: UInt64, length: UInt64, replicas: [ReplicaReport]) {
        self.sha256 = sha256
        self.offset = offset
        self.length = length
        self.replicas = replicas
    }
}

/// `stat`.
package struct StatisticsReport: Encodable, Sendable {
    package let version: VersionReport
    /// Absent, like all that follows, where a server was asked: S3 has no chunks.
    package let chunkCount: UInt64?
    /// Bytes of the different chunks; absent also when there are too many to count.
    package let uniqueBytes: UInt64?
    /// Copies that are missing, damaged or unreachable, over all chunks.
    package let copiesNotPresent: UInt64?
    /// The first 1,000, or all with --chunks.
    package let chunks: [ChunkReport]?

    package init(
        version: VersionReport,
        chunkCount: UInt64?,
        uniqueBytes: UInt64?,
        copiesNotPresent: UInt64?,
        chunks: [ChunkReport]?
    ) {
        self.version = version
        self.chunkCount = chunkCount
        self.uniqueBytes = uniqueBytes
        self.copiesNotPresent = copiesNotPresent
        self.chunks = chunks
    }
}

/// `rm`.
package struct DeletionReport: Encodable, Sendable {
    package let bucket: String
    package let key: String
    /// The version id of the delete marker that now hides the object.
    package let deleteMarker: String?
    /// The version that is gone for good, as S3 names it: an id, or "null".
    package let removedVersion: String?
    /// What the bucket keeps, as the answer tells: "enabled": all versions are kept; "suspended": but for the null
    /// version; "off": nothing is. Absent for a named version, and where there was nothing to delete.
    package let versioning: String?

    init(
        bucket: String,
        key: String,
        deleteMarker: String? = nil,
        removedVersion: String? = nil,
        versioning: BucketVersioning? = nil
    ) {
        self.bucket = bucket
        self.key = key
        self.deleteMarker = deleteMarker
        self.removedVersion = removedVersion
        self.versioning = versioning?.rawValue
    }
}

/// Something wrong that `verify` or `fsck` found.
package struct FindingReport: Encodable, Sendable {
    package let volume: String?
    /// The segment or version that it is about.
    package let subject: String
    package let problem: String
    /// "repaired", "repairable", "repairFailed" or "lost"; "found" from `fsck`, which repairs nothing.
    package let outcome: String

    package init(volume: String?, subject: String, problem: String, outcome: String) {
        self.volume = volume
        self.subject = subject
        self.problem = problem
        self.outcome = outcome
    }
}

/// `verify`.
package struct VerificationReport: Encodable, Sendable {
    package let versions: UInt64
    /// Different chunks, the nodes of manifests among them, and their bytes.
    package let chunks: UInt64
    package let chunkBytes: UInt64
    /// Copies that were read and are good.
    package let copiesGood: UInt64
    /// Copies as they were found, before any repair; of the findings that are listed.
    package let copiesDamaged: UInt64
    package let copiesMissing: UInt64
    package let copiesUnreachable: UInt64
    /// All findings; the list stops at 10,000.
    package let findingCount: UInt64
    package let repairedCount: UInt64
    /// Versions of which some byte is on no volume.
    package let versionsLost: UInt64
    package let findings: [FindingReport]
    /// Whether every copy of everything that was looked at is good now.
    package let isComplete: Bool

    /// Nothing is known to be bad: all that is open are copies on volumes that did not answer.
    package let isOnlyUnreachable: Bool

    /// Objects that came in parts and whose SHA-256 was found and noted.
    package var sha256Found: UInt64 = 0

    private enum CodingKeys: String, CodingKey {
        case versions, chunks, chunkBytes, copiesGood, copiesDamaged, copiesMissing, copiesUnreachable
        case findingCount, repairedCount, versionsLost, findings, isComplete, sha256Found
    }

    package init(
        versions: UInt64,
        chunks: UInt64,
        chunkBytes: UInt64,
        copiesGood: UInt64,
        copiesDamaged: UInt64,
        copiesMissing: UInt64,
        copiesUnreachable: UInt64,
        findingCount: UInt64,
        repairedCount: UInt64,
        versionsLost: UInt64,
        findings: [FindingReport],
        isComplete: Bool,
        isOnlyUnreachable: Bool
    ) {
        self.versions = versions
        self.chunks = chunks
        self.chunkBytes = chunkBytes
        self.copiesGood = copiesGood
        self.copiesDamaged = copiesDamaged
        self.copiesMissing = copiesMissing
        self.copiesUnreachable = copiesUnreachable
        self.findingCount = findingCount
        self.repairedCount = repairedCount
        self.versionsLost = versionsLost
        self.findings = findings
        self.isComplete = isComplete
        self.isOnlyUnreachable = isOnlyUnreachable
    }
}

/// One volume, as `status` shows it.
package struct VolumeReport: Encodable, Sendable {
    package let path: String
    package let id: String?
    /// "healthy", "behind", "full", "failed" or "offline".
    package let state: String
    package let reason: String?
    package let payloadBytes: UInt64
    package let fileBytes: UInt64
    package let freeBytes: UInt64?

    package init(
        path: String,
        id: String?,
        state: String,
        reason: String?,
        payloadBytes: UInt64,
        fileBytes: UInt64,
        freeBytes: UInt64?
    ) {
        self.path = path
        self.id = id
        self.state = state
        self.reason = reason
        self.payloadBytes = payloadBytes
        self.fileBytes = fileBytes
        self.freeBytes = freeBytes
    }
}

/// `status`.
package struct StatusReport: Encodable, Sendable {
    package var store: String
    package var storeID: String
    package var formatVersion: String
    package var replicas: Int
    package var writeQuorum: Int
    package var isWritable: Bool
    package var isReadable: Bool
    /// Whether all volumes are healthy and nothing waits for repair.
    package var isFullyRedundant: Bool
    package var copiesWaitingForRepair: UInt64
    package var volumes: [VolumeReport]
    /// Volumes that stand on the same device as others, by device: its loss takes them all.
    package var sharedDevices: [[String]]
    package var buckets: UInt64
    package var objects: UInt64
    package var versions: UInt64
    /// What all versions add up to.
    package var logicalBytes: UInt64
    /// What is left when equal chunks are counted once.
    package var uniqueBytes: UInt64?
    /// What the volumes' files take up, all copies together.
    package var physicalBytes: UInt64
    package var catalog: CatalogDocument
    /// Objects that came in parts and whose SHA-256 is still to be found.
    package var objectsWaitingForSHA256: UInt64?

    package init(
        store: String,
        storeID: String,
        formatVersion: String,
        replicas: Int,
        writeQuorum: Int,
        isWritable: Bool,
        isReadable: Bool,
        isFullyRedundant: Bool,
        copiesWaitingForRepair: UInt64,
        volumes: [VolumeReport],
        sharedDevices: [[String]],
        buckets: UInt64,
        objects: UInt64,
        versions: UInt64,
        logicalBytes: UInt64,
        uniqueBytes: UInt64?,
        physicalBytes: UInt64,
        catalog: CatalogDocument
    ) {
        self.store = store
        self.storeID = storeID
        self.formatVersion = formatVersion
        self.replicas = replicas
        self.writeQuorum = writeQuorum
        self.isWritable = isWritable
        self.isReadable = isReadable
        self.isFullyRedundant = isFullyRedundant
        self.copiesWaitingForRepair = copiesWaitingForRepair
        self.volumes = volumes
        self.sharedDevices = sharedDevices
        self.buckets = buckets
        self.objects = objects
        self.versions = versions
        self.logicalBytes = logicalBytes
        self.uniqueBytes = uniqueBytes
        self.physicalBytes = physicalBytes
        self.catalog = catalog
    }
}

/// `fsck`.
package struct CheckReport: Encodable, Sendable {
    package let records: UInt64
    package let bytes: UInt64
    package let findings: [FindingReport]
    package var isClean: Bool { findings.isEmpty }

    /// Volumes among the findings that are not there: nothing is known to be damaged on them.
    package let absentCount: Int
    /// Volumes among the findings that the system does not let this user read.
    package let deniedCount: Int

    private enum CodingKeys: String, CodingKey { case records, bytes, findings, isClean }

    package init(
        records: UInt64,
        bytes: UInt64,
        findings: [FindingReport],
        absentCount: Int,
        deniedCount: Int = 0
    ) {
        self.records = records
        self.bytes = bytes
        self.findings = findings
        self.absentCount = absentCount
        self.deniedCount = deniedCount
    }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(records, forKey: .records)
        try container.encode(bytes, forKey: .bytes)
        try container.encode(findings, forKey: .findings)
        try container.encode(isClean, forKey: .isClean)
    }
}

/// `rebuild-catalog`, `volume replace`.
package struct RecoveryReport: Encodable, Sendable {
    /// Rows of the catalog, or copies on the replacement.
    package let restored: UInt64
    package let bytes: UInt64
    package let message: String

    package init(restored: UInt64, bytes: UInt64, message: String) {
        self.restored = restored
        self.bytes = bytes
        self.message = message
    }
}

/// `put` of a directory, `get` of a prefix.
package struct TransferReport: Encodable, Sendable {
    package struct Item: Encodable, Sendable {
        /// The file or the key.
        package let name: String
        package let code: String
        package let reason: String
    }

    package var transferred: UInt64 = 0
    package var bytes: UInt64 = 0
    /// Files that the store already has, or that are already here.
    package var unchanged: UInt64 = 0
    /// Keys that were got although the server knows nothing to compare their bytes with.
    package var notVerified: UInt64 = 0
    package var skipped: [Item] = []
    package var failed: [Item] = []

    package init() {}
}

/// `upload ls`: one upload in parts.
package struct UploadReport: Encodable, Sendable {
    package let key: String
    package let uploadID: String
    package let startedAt: Timestamp

    private enum CodingKeys: String, CodingKey { case key, uploadID, startedAt }

    package func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(key, forKey: .key)
        try container.encode(uploadID, forKey: .uploadID)
        try container.encode(startedAt.internetDateTime, forKey: .startedAt)
    }
}

/// `serve`, on one line, when it is ready.
package struct ServingReport: Encodable, Sendable {
    /// Where the S3 API listens.
    package let addresses: [String]
    package let operations: String?
    /// Of the root key, when a random one was made: it is shown this once.
    package let rootAccessKey: String?
    package let rootSecretKey: String?
}

/// `put` of a file.
package struct PutReport: Encodable, Sendable {
    package let version: VersionReport
    /// False when the store already had these bytes as the newest version.
    package let isStored: Bool
    /// Bytes that an earlier run had sent, and that were found good.
    package var resumedBytes: UInt64 = 0
}

/// `get` of an object into a file.
package struct GetReport: Encodable, Sendable {
    package let version: VersionReport
    package let file: String
    /// Verified bytes of an earlier attempt that were used.
    package let resumedBytes: UInt64
    /// Whether the file was there already, bit for bit.
    package let isUnchanged: Bool
    /// Whether the bytes were compared with a checksum; false where a server knows none.
    package let isVerified: Bool
}
