internal import BlobVolume
package import Catalog
internal import Logging
package import StoreModel
internal import Synchronization

/// The replicated store of chunks and commits: what every use case above stands on.
///
/// Invariants:
/// 1. A commit is answered with success only after its batch, and with it every payload it refers to, is durable on
///    at least W replicas, and so is everything before it in the log.
/// 2. A read hands out only bytes whose checksums verified on that read.
/// 3. No request waits for a replica that the quorum does not need, beyond a bounded patience.
/// 4. A replica that failed stays failed until the store is opened again; its failure is recorded on its peers.
package final class Replicator: Sendable {
    package struct Configuration: Sendable {
        package var storeID: StoreID
        package var quorum: QuorumConfiguration
        /// Between two looks for a volume that was absent at opening.
        package var arrivalProbeInterval = Limits.arrivalProbeInterval
        package var snapshots = SnapshotSchedule()
        /// Between two looks whether a volume is still where it should be.
        package var inspectionInterval = Limits.inspectionInterval
        /// The volumes keep what is written in memory only: no copy may be called repaired.
        package var isReadOnly = false
        /// Copies in the background while clients are busy, in bytes a second.
        package var moveRate = Limits.moveRateUnderLoad

        package init(storeID: StoreID, quorum: QuorumConfiguration) {
            self.storeID = storeID
            self.quorum = quorum
        }
    }

    package let storeID: StoreID
    package let quorum: QuorumConfiguration
    package let isReadOnly: Bool
    package let volumes: VolumeSet
    let catalog: any CatalogStore
    let clock: any StoreClock
    let random: any RandomSource
    let timers: any Timers
    let logger: Logger
    let opener: VolumeOpener?
    let inspector: VolumeInspector?
    let arrivalProbeInterval: Duration
    let snapshots: SnapshotSchedule
    let inspectionInterval: Duration
    let layoutState: Mutex<LayoutState>
    /// Volumes that are being caught up: by one task at a time.
    let catchingUp = Mutex<Set<Int>>([])
    let fills = Mutex<[VolumeID: FillProgress]>([:])
    let health = VolumeHealthBoard()
    let pace: MovePace
    /// Counts what clients ask for: background work makes room for them.
    let clientTurns = Atomic<Int>(0)
    /// Counts the reads that nothing in memory could answer.
    let disksAsked = Atomic<Int>(0)
    let verified = VerifiedRecently()
    let repairs = RepairQueue()
    let late = LateCopies()
    /// What clients do; whoever serves them tells it.
    package let clientLoad = ClientLoad()
    /// Of all repairs together, and of catching up.
    package let repairBudget: WorkBudget
    /// Asked when no volume has good bytes.
    let rescue = Mutex<(any RescueSource)?>(nil)
    let pipeline: CommitPipeline
    package let garbage = GarbageCollector()
    /// Begins anywhere: commands that make one read each would all ask the same volume.
    private let readTurn: Atomic<Int>
    private let catalogThreads: [WorkerThread]

    init(
        configuration: Configuration,
        volumes: VolumeSet,
        catalog: any CatalogStore,
        pipeline: CommitPipeline,
        clock: any StoreClock,
        random: any RandomSource,
        timers: any Timers,
        logger: Logger,
        opener: VolumeOpener?,
        inspector: VolumeInspector?
    ) {
        storeID = configuration.storeID
        quorum = configuration.quorum
        isReadOnly = configuration.isReadOnly
        self.volumes = volumes
        repairBudget = WorkBudget(
            WorkBudget.Rates(
                bytesPerSecond: 64_000_000,
                operationsPerSecond: 1000,
                isUnlimitedWhenIdle: true
            ),
            load: clientLoad,
            clock: clock
        )
        self.catalog = catalog
        self.pipeline = pipeline
        self.clock = clock
        self.random = random
        readTurn = Atomic(Int(truncatingIfNeeded: random.next() >> 1))
        self.timers = timers
        self.logger = logger
        self.opener = opener
        arrivalProbeInterval = configuration.arrivalProbeInterval
        snapshots = configuration.snapshots
        self.inspector = inspector
        inspectionInterval = configuration.inspectionInterval
        pace = MovePace(clock, bytesPerSecond: configuration.moveRate)
        volumes.setReplicaCount(configuration.quorum.replicaCount)
        let founding = volumes.slots.map { ($0.id, $0.placementID) }
        layoutState = Mutex(LayoutState(layout: VolumeLayout(founding: founding), body: nil))
        catalogThreads = (0..<Limits.catalogReaderThreadCount).map { _ in
            WorkerThread(name: "hf-catalog", costMax: Limits.catalogReadsWaitingMax)
        }
    }

    /// The volumes that should hold a chunk, best first.
    func placementIndices(for digest: Digest) -> [Int] { volumes.placementIndices(for: digest) }

    /// Lets the threads end; reads of the catalog that wait are refused.
    func stopCatalogThreads() {
        for thread in catalogThreads { thread.stop() }
    }

    func nextReadTurn() -> Int { readTurn.wrappingAdd(1, ordering: .relaxed).newValue }

    /// A call has failed: if that was because the volume has failed for good, so has the one that is there now, or the call was
    /// made on one that was there before it and says nothing.
    func noteBroken(_ index: Int, _ error: VolumeError) {
        guard error.code == .failed, volumes.slots[index].replica?.hasFailed ?? false else { return }
        fail(index, reason: error.description)
    }

    /// Declares a volume failed until the store is opened again, tells the commit log, and records the failure on
    /// the peers so that the next opening knows.
    /// - Parameter replica: the one that it is about, which may be gone, and another one in its place; nil: who is there.
    func fail(_ index: Int, reason: String, of replica: (any Replica)? = nil) {
        // A volume that is being closed refuses calls; that is no failure, and must not be recorded as one.
        guard !pipeline.isClosing, volumes.markFailed(index, reason, of: replica) else { return }
        CoverageMark.reach(.volumeFailed)
        logger.error(
            "A volume failed; the store goes on without it.",
            metadata: ["volume": "\(volumes.slots[index].label)", "reason": "\(reason)"]
        )
        let acknowledged = pipeline.acknowledged(by: volumes.slots[index].id)
        pipeline.volumeFailed(index)
        // Only a write or an fsync that failed makes the disk's word doubtful; a volume that lags, say, is merely out.
        guard volumes.slots[index].replica?.failure != nil else { return }
        let failure = PeerFailure(epoch: pipeline.epoch, reason: reason, acknowledged: acknowledged)
        for peer in volumes.present where peer != index {
            volumes.usableReplica(peer)?.recordFailure(of: volumes.slots[index].id, failure) { _ in }
        }
    }

    /// The catalog, after everything that was committed before this call is applied to it: reads see all acknowledged
    /// writes.
    /// - Throws: `StoreError` with `.catalogUnavailable` when the index failed.
    package var generations: DocumentGenerations { catalog.generations }

    package func currentCatalog() async throws -> any CatalogReader {
        try await pipeline.awaitApplied()
        return catalog
    }

    /// Reads the catalog on a thread that may wait for the disk, after everything committed so far is applied.
    package func readCatalog<Value: Sendable>(
        _ body: @escaping @Sendable (any CatalogReader) throws -> Value
    ) async throws -> Value {
        try await pipeline.awaitApplied()
        return try await withCheckedThrowingContinuation { continuation in
            let refused = StoreError(.overloaded, "Too many reads of the catalog wait already.")
            let isQueued = nextCatalogThread().submit(cancelled: { continuation.resume(throwing: refused) }) {
                [catalog] in
                continuation.resume(with: Result { try body(catalog) })
            }
            if !isQueued { continuation.resume(throwing: refused) }
        }
    }

    /// The newest version of a key, which may be a delete marker, and its bucket: from memory where it is known, else
    /// as `readCatalog`.
    package func newestVersion(
        of key: ObjectKey,
        in bucket: BucketName
    ) async throws -> (bucket: BucketRow?, version: VersionRow?) {
        let newest = pipeline.newest
        if !pipeline.hasStopped.load(ordering: .acquiring), let found = newest.find(key, in: bucket) {
            return (found.bucket, found.version)
        }
        let ticket = newest.ticket(for: key)
        let found = try await readCatalog { reader in
            let row = try reader.bucket(named: bucket)
            return NewestVersions.Found(
                bucket: row,
                version: try row.flatMap { try reader.version(bucket: $0.id, key: key, selector: .newest) }
            )
        }
        newest.keep(found, ticket)
        return (found.bucket, found.version)
    }

    private func nextCatalogThread() -> WorkerThread {
        let turn = readTurn.wrappingAdd(1, ordering: .relaxed).newValue
        return catalogThreads[Int(UInt(bitPattern: turn) % UInt(catalogThreads.count))]
    }
}
