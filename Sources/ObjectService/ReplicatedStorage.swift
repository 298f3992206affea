package import Catalog
package import StoreModel

/// What the use cases need of replication: payloads and commits that are durable on a write quorum, verified reads,
/// the catalog.
///
/// A failed call throws `StoreError`. A cancelled task gets an error as soon as the storage can give one; what was
/// appended for it stays without a reference and costs space only.
package protocol ReplicatedStorage: Sendable {
    /// What a written payload hands to its commit: where the copies are, or the payload itself while it waits for
    /// the group commit.
    associatedtype Receipt: Sendable

    /// Stores a payload, unless enough copies of it are durable and verify now.
    ///
    /// `bytes` have the SHA-256 `digest`: the storage relies on it. When `waitsForCommit` is false a small payload
    /// must not stay in memory until the commit: an object has thousands of them.
    func write(_ digest: Digest, bytes: [UInt8], waitsForCommit: Bool) async throws -> Receipt

    /// Makes the payloads durable, decides the command and commits it; answers when it is on a write quorum.
    /// - Throws: the reason for which nothing happened, or `.outcomeUnknown`.
    func commit(
        _ command: CatalogCommand,
        operation: OperationID,
        chunks: [Receipt]
    ) async throws -> CatalogOutcome

    /// Bytes of a payload, verified on this read, from whichever replica has them.
    /// - Throws: `.dataUnavailable` when no replica has good bytes.
    func read(_ digest: Digest, length: Int, range: Range<Int>) async throws -> [UInt8]

    /// The same without waiting, if it can be had from memory at once, to where it is wanted.
    /// - Parameter target: has the length of the range.
    /// - Returns: false otherwise: then `target` holds nothing of use.
    func readInMemory(
        _ digest: Digest,
        length: Int,
        range: Range<Int>,
        into target: UnsafeMutableRawBufferPointer
    ) -> Bool

    /// A view that has everything that was committed before the call.
    func currentCatalog() async throws -> any CatalogReader

    /// Reads the catalog on a thread that may wait for the disk.
    func readCatalog<Value: Sendable>(
        _ body: @escaping @Sendable (any CatalogReader) throws -> Value
    ) async throws -> Value

    /// Advanced when a change of documents or buckets is applied to the catalog, and by whoever answers it.
    var generations: DocumentGenerations { get }

    /// How many good copies make a payload durable.
    var durableCopyCount: Int { get }

    /// The newest version of a key, which may be a delete marker, with its bucket: as `readCatalog` would find them, but
    /// the storage may know them without asking the index.
    func newestVersion(of key: ObjectKey, in bucket: BucketName) async throws -> (
        bucket: BucketRow?, version: VersionRow?
    )

    /// The state of every copy of each payload that should exist, in the order of `digests`.
    func replicaStates(of digests: [Digest], check: ReplicaCheck) async throws -> [[ReplicaState]]

    /// Writes good copies wherever one is missing or damaged, now.
    /// - Throws: `.dataUnavailable` when no replica has good bytes.
    func repairNow(_ digest: Digest) async throws -> RepairOutcome

    func status() async throws -> StorageStatus

    /// Bytes of all records that hold a payload, on all volumes that can be asked, with headers and padding. Asks the
    /// indexes of the volumes; touches no disk.
    func physicalBytes(of digest: Digest, length: UInt64) -> UInt64

    /// Of the catalog's snapshots, which no row names.
    var snapshotManifests: [ManifestReference] { get }

    /// Keeps from garbage collection what is about to be looked up, as long as the hold lives. Taken before the look.
    func hold() -> (any StorageHold)?

    /// Whether the volumes have room for so many more bytes; nil: nobody knows how many.
    /// - Throws: `.storeFull`.
    func checkRoom(for byteCount: UInt64?) throws
}

/// Keeps the payloads of manifests from garbage collection, whatever becomes of the versions.
package protocol StorageHold: AnyObject, Sendable {
    func attach(_ manifests: [ManifestReference])
}

extension ReplicatedStorage {
    package func hold() -> (any StorageHold)? { nil }
    package func checkRoom(for byteCount: UInt64?) throws {}

    package func readCatalog<Value: Sendable>(
        _ body: @escaping @Sendable (any CatalogReader) throws -> Value
    ) async throws -> Value {
        try body(try await currentCatalog())
    }

    package func newestVersion(of key: ObjectKey, in bucket: BucketName) async throws -> (
        bucket: BucketRow?, version: VersionRow?
    ) {
        try await readCatalog { reader in
            let row = try reader.bucket(named: bucket)
            return (row, try row.flatMap { try reader.version(bucket: $0.id, key: key, selector: .newest) })
        }
    }
}

/// How closely copies are looked at.
package enum ReplicaCheck: Hashable, Sendable {
    /// Index only: no disk is touched.
    case presence
    /// The checksums of all blocks.
    case blocks
    /// The SHA-256 of the bytes, computed again.
    case strict
}

/// One copy of a payload on one volume.
package struct ReplicaState: Hashable, Sendable {
    package enum Condition: Hashable, Sendable {
        case present
        case missing
        /// The bytes are not what was written; the text says where and how.
        case damaged(String)
        /// The volume can't be asked.
        case unreachable(String)
    }

    package let volume: VolumeID
    /// What a person calls the volume: a path.
    package let label: String
    /// What found a copy good.
    package enum Verifier: String, Hashable, Sendable {
        /// A read in this process.
        case read
        case scrub, verify
    }

    package let condition: Condition
    /// When these bytes were last read and found good, at the earliest; nil: nothing is known of that. Replication tells what it
    /// has seen since the store was opened, `stat` adds what is kept.
    package var verifiedAt: Timestamp?
    package var verifiedBy: Verifier?

    package init(volume: VolumeID, label: String, condition: Condition, verifiedAt: Timestamp?) {
        self.volume = volume
        self.label = label
        self.condition = condition
        self.verifiedAt = verifiedAt
        verifiedBy = verifiedAt == nil ? nil : .read
    }
}

/// What a repair did.
package struct RepairOutcome: Hashable, Sendable {
    package let repaired: [VolumeID]
    package let failed: [VolumeID]

    package init(repaired: [VolumeID], failed: [VolumeID]) {
        self.repaired = repaired
        self.failed = failed
    }
}

/// The replicas as the store sees them now.
package struct StorageStatus: Sendable {
    package struct Volume: Sendable {
        package enum Condition: Hashable, Sendable {
            case healthy
            /// It takes writes, but copies are still missing on it.
            case catchingUp(missing: UInt64)
            case full
            case failed(String)
        }

        package let id: VolumeID
        package let label: String
        package let condition: Condition
        package let carriesLog: Bool
        /// Payload bytes that are stored, and what their files take.
        package let payloadBytes: UInt64
        package let fileBytes: UInt64
        package let freeBytes: UInt64
        package let totalBytes: UInt64

        package init(
            id: VolumeID,
            label: String,
            condition: Condition,
            carriesLog: Bool,
            payloadBytes: UInt64,
            fileBytes: UInt64,
            freeBytes: UInt64,
            totalBytes: UInt64
        ) {
            self.id = id
            self.label = label
            self.condition = condition
            self.carriesLog = carriesLog
            self.payloadBytes = payloadBytes
            self.fileBytes = fileBytes
            self.freeBytes = freeBytes
            self.totalBytes = totalBytes
        }
    }

    package let store: StoreID
    package let quorum: QuorumConfiguration
    package let volumes: [Volume]
    /// The newest batch that is on a write quorum.
    package let committed: LogPosition
    package let repairsPending: Int
    package let canRead: Bool
    package let canWrite: Bool
    package let snapshot: CatalogSnapshotStatus

    package init(
        store: StoreID,
        quorum: QuorumConfiguration,
        volumes: [Volume],
        committed: LogPosition,
        repairsPending: Int,
        canRead: Bool,
        canWrite: Bool,
        snapshot: CatalogSnapshotStatus = CatalogSnapshotStatus()
    ) {
        self.store = store
        self.quorum = quorum
        self.volumes = volumes
        self.committed = committed
        self.repairsPending = repairsPending
        self.canRead = canRead
        self.canWrite = canWrite
        self.snapshot = snapshot
    }
}

/// The newest snapshot of the catalog on the replicas.
package struct CatalogSnapshotStatus: Hashable, Sendable {
    /// nil: none was taken yet.
    package let takenAt: Timestamp?
    package let rowCount: UInt64
    /// Batches of the commit log after it: what a rebuild of the catalog replays.
    package let batchesSince: UInt64

    package init(takenAt: Timestamp? = nil, rowCount: UInt64 = 0, batchesSince: UInt64 = 0) {
        self.takenAt = takenAt
        self.rowCount = rowCount
        self.batchesSince = batchesSince
    }
}
