package import StoreModel

/// A batch of the commit log, as the catalog needs it.
package struct AppliedBatch: Sendable {
    package let position: LogPosition
    package let predecessor: LogPosition
    /// Of the catalog after this batch; zero when the batch doesn't know.
    package let stateHash: StateHash
    package let timestamp: Timestamp
    package let entries: [CatalogEntry]

    package init(
        position: LogPosition,
        predecessor: LogPosition,
        stateHash: StateHash,
        timestamp: Timestamp,
        entries: [CatalogEntry]
    ) {
        self.position = position
        self.predecessor = predecessor
        self.stateHash = stateHash
        self.timestamp = timestamp
        self.entries = entries
    }
}

/// How far the index has come: written in the same transaction as the rows.
package struct AppliedState: Hashable, Sendable {
    package var position: LogPosition
    package var stateHash: StateHash
    /// The highest sequence of any decision applied, and so of any version.
    package var lastVersionSequence: UInt64
    /// Time in rows never goes back behind this.
    package var lastTimestamp: Timestamp
    /// The log set that was last recorded.
    package var logSet: LogSetNote?
    /// The snapshots that were last recorded, newest first; at most two.
    package var snapshots: [SnapshotNote]

    package init(
        position: LogPosition,
        stateHash: StateHash,
        lastVersionSequence: UInt64,
        lastTimestamp: Timestamp,
        logSet: LogSetNote? = nil,
        snapshots: [SnapshotNote] = []
    ) {
        self.position = position
        self.stateHash = stateHash
        self.lastVersionSequence = lastVersionSequence
        self.lastTimestamp = lastTimestamp
        self.logSet = logSet
        self.snapshots = snapshots
    }

    package static let empty = AppliedState(
        position: .origin,
        stateHash: .zero,
        lastVersionSequence: 0,
        lastTimestamp: Timestamp(milliseconds: 0)
    )
}

/// Reads of the catalog. Every call sees one state of it, the newest applied; calls block briefly on the
/// disk, so they aren't made from a thread that must not wait.
package protocol CatalogReader: Sendable {
    func bucket(named name: BucketName) throws(CatalogError) -> BucketRow?
    func bucket(id: BucketID) throws(CatalogError) -> BucketRow?
    /// In the order of their names.
    func buckets() throws(CatalogError) -> [BucketRow]
    /// A version, which may be a delete marker.
    func version(bucket: BucketID, key: ObjectKey, selector: VersionSelector) throws(CatalogError)
        -> VersionRow?
    /// The history of one key, newest first.
    /// - Parameter before: only versions older than this one.
    func log(bucket: BucketID, key: ObjectKey, before: VersionID?, limit: Int) throws(CatalogError)
        -> [VersionRow]
    func listObjects(_ request: ObjectListRequest) throws(CatalogError) -> ObjectListPage
    func listVersions(_ request: VersionListRequest) throws(CatalogError) -> VersionListPage
    func usage(of bucket: BucketID) throws(CatalogError) -> BucketUsage
    /// Versions in the order in which they were made, for audits: bounded pages, resumable at any sequence.
    func versions(afterSequence: UInt64, limit: Int) throws(CatalogError) -> [VersionRow]
    func document(_ space: DocumentSpace, _ key: [UInt8]) throws(CatalogError) -> DocumentRow?
    /// Documents whose keys begin with `prefix`, in the order of their keys.
    /// - Parameter start: no key before this one; empty: from the first.
    func documents(_ space: DocumentSpace, prefix: [UInt8], from start: [UInt8], limit: Int)
        throws(CatalogError) -> [DocumentRow]
}

extension CatalogReader {
    /// - Parameter last: the key after which to go on; nil: from the first.
    package func documents(
        _ space: DocumentSpace,
        prefix: [UInt8] = [],
        after last: [UInt8]? = nil,
        limit: Int
    ) throws(CatalogError) -> [DocumentRow] {
        try documents(space, prefix: prefix, from: last.map { $0 + [0] } ?? [], limit: limit)
    }

    /// Calls `body` with every document of a space under a prefix, in the order of the keys; memory stays bounded.
    package func forEachDocument(
        _ space: DocumentSpace,
        prefix: [UInt8] = [],
        _ body: (DocumentRow) throws -> Bool
    ) throws {
        var last: [UInt8]?
        while true {
            let page = try documents(space, prefix: prefix, after: last, limit: 256)
            for row in page where try !body(row) { return }
            guard let end = page.last else { return }
            last = end.key
        }
    }

    /// Calls `body` with every version after `afterSequence`, oldest first; memory stays bounded. Versions
    /// that are added while it runs are seen; `body` returns false to stop.
    package func forEachVersion(
        afterSequence: UInt64 = 0,
        _ body: (VersionRow) throws -> Bool
    ) throws {
        var cursor = afterSequence
        while true {
            let page = try versions(afterSequence: cursor, limit: 256)
            for row in page where try !body(row) { return }
            guard let last = page.last else { return }
            cursor = last.id.sequence
        }
    }

    /// What a mutation did, if it made a version of this key: how a retry finds the outcome of its first
    /// attempt. Looks at the newest versions of the key only, because retries come soon.
    package func outcome(
        of operation: OperationID,
        bucket: BucketID,
        key: ObjectKey
    ) throws(CatalogError) -> VersionRow? {
        try log(bucket: bucket, key: key, before: nil, limit: 64).first { $0.operation == operation }
    }
}

/// The index of the catalog: the commit log, applied.
package protocol CatalogStore: CatalogReader {
    var applied: AppliedState { get }
    /// Advanced with every applied batch; see there.
    var generations: DocumentGenerations { get }
    /// Applies batches in one transaction. Batches that were applied before are skipped.
    /// - Throws: `.offChain` when a batch doesn't follow, `.stateMismatch` when the state after a batch isn't
    ///   the one it names; nothing of the call is applied then.
    func apply(_ batches: [AppliedBatch]) throws(CatalogError)
    /// Writes every row as bounded blocks, from one state, and returns that state. Appliers aren't held up.
    func exportSnapshot(to sink: (_ block: [UInt8]) throws -> Void) throws -> SnapshotSummary
    /// Fills an empty index from the blocks of a snapshot.
    /// - Parameter next: the next block, nil after the last.
    /// - Throws: when a block is damaged, missing or of a newer format; the index must be reset then.
    func importSnapshot(from next: () throws -> [UInt8]?) throws -> SnapshotSummary
    /// Removes everything: the state before the first batch.
    func reset() throws(CatalogError)
    /// Reads everything and compares it with itself: every row's checksum, the state hash, heads, usage, the
    /// database's own structure.
    func verify() throws(CatalogError)
    func close() throws(CatalogError)
}

/// What a snapshot holds.
package struct SnapshotSummary: Hashable, Sendable {
    package let state: AppliedState
    package let bucketCount: UInt64
    package let versionCount: UInt64
    package let documentCount: UInt64
    package let blockCount: UInt64

    package var rowCount: UInt64 { bucketCount + versionCount + documentCount }

    package init(
        state: AppliedState,
        bucketCount: UInt64,
        versionCount: UInt64,
        documentCount: UInt64,
        blockCount: UInt64
    ) {
        self.state = state
        self.bucketCount = bucketCount
        self.versionCount = versionCount
        self.documentCount = documentCount
        self.blockCount = blockCount
    }
}
