internal import Catalog
package import StoreModel
internal import Synchronization

/// The store as its faces see it: buckets, objects, versions. One file for each use case extends it.
///
/// Every call throws `StoreError`, or what a body's source throws. A mutation is answered when it is durable on a
/// write quorum and is then seen by every later call.
package final class ObjectStore: Sendable {
    let storage: any ReplicatedStorage
    let limits: PipelineLimits
    let random: any RandomSource
    let clock: any StoreClock
    let bucketCache = BucketCache()
    let masterKeys: MasterKeys
    /// Bounds of what all uploads, and all downloads, hold in memory at the same time.
    let uploadPermits: ChunkPermits
    let readAhead: SharedAllowance
    let mirrorRoutes = MirrorRoutes()
    let badCopies = DocumentCache<Set<BadCopy>>(.finding)
    let digestTasks = DocumentCache<UInt64>(.job)
    let digestSearches = DigestSearches()
    /// Who makes a lost manifest anew for a read: one at a time, as each fetches a whole object.
    let manifestTurns = ChunkPermits(count: 1)
    /// Who compares what is sealed: one at a time, as each reads two whole objects.
    let comparisonTurns = ChunkPermits(count: 1)
    let repeats = KnownRepeats()
    private let rescueSource = Mutex<(any ContentRescue)?>(nil)
    private let watch = Mutex<(any MirrorWatch)?>(nil)

    package init(
        storage: any ReplicatedStorage,
        random: any RandomSource = SystemRandom(),
        clock: any StoreClock = SystemClock(),
        masterKeys: MasterKeys = .none,
        limits: PipelineLimits = .standard
    ) {
        self.storage = storage
        self.random = random
        self.clock = clock
        self.limits = limits
        self.masterKeys = masterKeys
        uploadPermits = ChunkPermits(count: limits.uploadPermitCount)
        readAhead = SharedAllowance(count: limits.readAheadShareCount)
    }

    /// Where bytes may come from that no replica has any more; nil: nowhere.
    package var rescue: (any ContentRescue)? {
        get { rescueSource.withLock { $0 } }
        set { rescueSource.withLock { $0 = newValue } }
    }

    /// For somebody who reads a version: makes its manifest anew, if that is what is lost and a mirror has the version. All
    /// of its content is fetched for that, so it ends when the reader is cancelled or has left.
    /// - Returns: whether the manifest is whole, and wasn't.
    func restoreManifest(of version: VersionRow, for audience: Audience) async throws -> Bool {
        try await audience.stays { [self] in
            try await LostPayloads(self).restoreManifest(of: version, taking: manifestTurns)
        }
    }

    /// Who knows whether mirrors have a version; nil: nobody.
    package var mirrorWatch: (any MirrorWatch)? {
        @inline(never) get { watch.withLock { $0 } }
        @inline(never) set { watch.withLock { $0 = newValue } }
    }

    package func status() async throws -> StorageStatus { try await storage.status() }

    func newOperation() -> OperationID { .random(from: random) }

    /// Commits a command that brings no payloads of its own.
    func commit(_ command: CatalogCommand, operation: OperationID?) async throws -> CatalogOutcome {
        try await commit(command, operation: operation ?? newOperation(), on: storage)
    }

    private func commit<Storage: ReplicatedStorage>(
        _ command: CatalogCommand,
        operation: OperationID,
        on storage: Storage
    ) async throws -> CatalogOutcome {
        try await commit(command, operation: operation, chunks: [], on: storage)
    }

    /// Commits a command; caches see what it changed before the caller does.
    func commit<Storage: ReplicatedStorage>(
        _ command: CatalogCommand,
        operation: OperationID,
        chunks: [Storage.Receipt],
        on storage: Storage
    ) async throws -> CatalogOutcome {
        let outcome = try await storage.commit(command, operation: operation, chunks: chunks)
        storage.generations.advance(command.spaces)
        return outcome
    }
}

extension CatalogOutcome {
    /// The version that a put, copy or restore made.
    func madeVersion() throws(StoreError) -> VersionRow {
        guard case .version(let row, _) = self else { throw unexpected }
        return row
    }

    func madeBucket() throws(StoreError) -> BucketRow {
        guard case .bucket(let row) = self else { throw unexpected }
        return row
    }

    var unexpected: StoreError {
        StoreError(
            .internalFault,
            "The catalog answered a command with the outcome of another kind: \(self)."
        )
    }
}
