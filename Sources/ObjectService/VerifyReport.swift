package import StoreModel

/// What of the store is verified.
package struct VerifyScope: Hashable, Sendable {
    /// nil: all buckets.
    package var bucket: BucketName?
    /// Keys that begin with it.
    package var prefix: [UInt8]

    package init(bucket: BucketName? = nil, prefix: [UInt8] = []) {
        self.bucket = bucket
        self.prefix = prefix
    }

    package static let everything = VerifyScope()
}

/// Something that is wrong with a version.
package struct VerifyFinding: Sendable {
    package enum Kind: Sendable {
        /// A copy of one of its payloads: a chunk, or a node of its manifest.
        case replica(ReplicaState, of: Digest)
        /// Its manifest can't be followed, so not all of its chunks were looked at.
        case manifest(StoreError)
    }

    package enum Outcome: Hashable, Sendable {
        case repaired
        /// Another replica has good bytes; a repair was not asked for.
        case repairable
        case repairFailed(String)
        /// No replica has good bytes.
        case lost
    }

    package let bucket: BucketName
    package let key: ObjectKey
    /// Of a part: the identity of its upload.
    package let version: VersionID
    /// The number of a part of an upload that is under way.
    package let part: Int?
    package let kind: Kind
    package let outcome: Outcome
    /// Mirrors that have the version, by the records, when it is lost here.
    package var holders: [String] = []
}

/// What was looked at and what was found.
package struct VerifyReport: Sendable {
    /// Findings beyond these are counted but not kept.
    package static let findingsMax = 10_000

    package internal(set) var bucketCount: UInt64 = 0
    package internal(set) var versionCount: UInt64 = 0
    package internal(set) var deleteMarkerCount: UInt64 = 0
    /// Bytes of the versions.
    package internal(set) var versionBytes: UInt64 = 0
    /// Parts of uploads that are under way, and their bytes.
    package internal(set) var partCount: UInt64 = 0
    package internal(set) var partBytes: UInt64 = 0
    package internal(set) var lostPartCount: UInt64 = 0
    /// Different payloads (chunks and nodes of manifests) and their bytes, each once.
    package internal(set) var payloadCount: UInt64 = 0
    package internal(set) var payloadBytes: UInt64 = 0
    /// Copies that were read and are good.
    package internal(set) var goodReplicaCount: UInt64 = 0
    package internal(set) var findings: [VerifyFinding] = []
    package internal(set) var findingCount: UInt64 = 0
    package internal(set) var repairedCount: UInt64 = 0
    /// Findings that are copies on volumes that did not answer, and stayed so.
    package internal(set) var unreachableCount: UInt64 = 0
    /// Versions of which some byte is on no replica.
    package internal(set) var lostVersionCount: UInt64 = 0

    /// Objects that came in parts and whose SHA-256 was found and noted.
    package internal(set) var digestCount: UInt64 = 0
    /// Volumes on which copies were looked at, and those of them on which every copy in scope is good now.
    package internal(set) var seenVolumes: Set<VolumeID> = []
    package internal(set) var badVolumes: Set<VolumeID> = []
    /// Every manifest could be followed to its end.
    package internal(set) var isWhole = true

    /// Every copy of everything is good now.
    package var isHealthy: Bool { findingCount == repairedCount }

    package init() {}
}
