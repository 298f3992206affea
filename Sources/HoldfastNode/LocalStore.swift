package import BlobVolume
internal import Catalog
internal import CatalogSQLite
package import Logging
package import Mirroring
package import ObjectService
package import Replication
internal import StoreModel
internal import Synchronization

/// A store of this machine, open: the one place where the parts are put together.
package final class LocalStore: Sendable {
    package struct Options: Sendable {
        /// How long to wait for another process to let go of the store.
        package var lockTimeout: Duration = .zero
        /// Throw the index away and build it anew from the replicas.
        package var rebuildsCatalog = false
        /// How long closing waits for repairs and catching up that are under way.
        package var settleDeadline: Duration = .seconds(10)
        package var volume = VolumeOptions()
        /// A PEM file that mirrors trust in place of the system's authorities.
        package var mirrorAuthorityFile: String?
        package var logger = Logger(label: "holdfast", factory: { _ in SwiftLogNoOpLogHandler() })

        package init() {}
    }

    /// What opening the store met.
    package struct OpenReport: Sendable {
        package var didRebuildCatalog = false
        package var volumes: [(label: String, report: VolumeOpenReport?, problem: String?)] = []
    }

    package let path: String
    package let configuration: StoreConfiguration
    package let objects: ObjectStore
    package let accounts: AccountDirectory
    package let replicator: Replicator
    package let volumeCare: VolumeCare
    package let mirrors: MirrorService
    let transports: MirrorTransports
    package let findings: FindingLedger
    package let scrubs: Scrubs
    package let mirrorAudits: MirrorAudits
    package let garbage: GarbageRunner
    package let openReport: OpenReport
    private let catalog: SQLiteCatalog
    private let lock: any DiskLock
    private let settleDeadline: Duration
    private let logger: Logger
    private let maintenance: Task<Void, Never>
    /// Mirrors at work in a store that is not served.
    let mirrorWork = Mutex<Task<Void, Never>?>(nil)
    private let isClosed = Mutex(false)

    private init(
        path: String,
        configuration: StoreConfiguration,
        replicator: Replicator,
        volumeCare: VolumeCare,
        catalog: SQLiteCatalog,
        lock: any DiskLock,
        openReport: OpenReport,
        settleDeadline: Duration,
        mirrorAuthorityFile: String?,
        logger: Logger
    ) {
        self.path = path
        self.configuration = configuration
        self.replicator = replicator
        self.volumeCare = volumeCare
        self.catalog = catalog
        self.lock = lock
        self.openReport = openReport
        self.settleDeadline = settleDeadline
        self.logger = logger
        let objects = ObjectStore(
            storage: replicator,
            masterKeys: MasterKeys(MasterKeyFile(storeDirectory: path))
        )
        self.objects = objects
        accounts = AccountDirectory(objects)
        (mirrors, transports) = Self.mirrorService(
            objects,
            authorityFile: mirrorAuthorityFile,
            logger: logger
        )
        replicator.setRescueSource(LostPayloads(objects))
        let findings = FindingLedger(objects)
        let scrubs = Scrubs(objects, replicator, findings)
        self.findings = findings
        self.scrubs = scrubs
        scrubs.schedule = ScrubSchedule(since: SystemClock().now())
        replicator.observeFindings { finding in
            findings.note(finding)
            scrubs.note(finding)
        }
        mirrorAudits = MirrorAudits(objects, mirrors, findings, load: replicator.clientLoad)
        let garbage = GarbageRunner(replicator, logger: logger)
        self.garbage = garbage
        scrubs.whenAuditIsClean { try await garbage.endHold() }
        maintenance = Task {
            async let uploads: Void = objects.maintainUploads()
            async let ledger: Void = Self.keepLedger(findings, replicator)
            await replicator.runMaintenance()
            await uploads
            await ledger
        }
    }

    /// Opens the store in a directory, alone: locks it, opens the volumes that are there, recovers the commit log,
    /// brings the catalog's index to its state.
    /// - Throws: `StoreError`: `.storeNotFound`, `.storeInUse` with the other process, `.unsupportedFormat`,
    ///   `.notEnoughReplicas` naming the volumes, `.storeDamaged`.
    package static func open(_ path: String, _ options: Options = Options()) async throws -> LocalStore {
        let directory = try await StoreDirectory.lock(path, timeout: options.lockTimeout)
        do {
            return try await open(directory, options)
        } catch {
            directory.lock.release()
            throw error
        }
    }

    private static func open(_ directory: StoreDirectory, _ options: Options) async throws -> LocalStore {
        let configuration = directory.configuration
        let opened = try await directory.openVolumes(options.volume)
        var report = OpenReport()
        report.volumes = opened.map { ($0.slot.label, $0.report, $0.slot.problem) }
        let slots = opened.map(\.slot)
        let place = StorePlace(directory)
        let volumes = try VolumeSet(slots)
        let there = Set(slots.filter { $0.replica != nil }.map(\.id))
        do {
            try await place.refuseIfStale(of: there)
            let (catalog, isNew) = try directory.openCatalog(mustReset: options.rebuildsCatalog)
            do {
                let (replicator, didRebuild) = try await Replicator.open(
                    .init(storeID: configuration.storeID, quorum: configuration.quorum),
                    volumes: volumes,
                    catalog: catalog,
                    mustRebuildCatalog: false,
                    willRebuild: { try directory.noteRebuild() },
                    clock: SystemClock(),
                    random: SystemRandom(),
                    timers: SystemTimers(),
                    logger: options.logger,
                    opener: {
                        let id = volumes.slots[$0].id
                        let opened = await place.directory.openArrived(id, options.volume)
                        if case .success = opened { await place.refreshCopies(options.logger, of: [id]) }
                        return opened
                    },
                    inspector: { await place.directory.inspect($0) }
                )
                report.didRebuildCatalog = didRebuild || isNew
                let wasRebuilt = try directory.hasRebuildNote
                await place.refreshCopies(options.logger, of: there)
                let store = LocalStore(
                    path: directory.path,
                    configuration: configuration,
                    replicator: replicator,
                    volumeCare: VolumeCare(replicator, place, options.volume, options.logger),
                    catalog: catalog,
                    lock: directory.lock,
                    openReport: report,
                    settleDeadline: options.settleDeadline,
                    mirrorAuthorityFile: options.mirrorAuthorityFile,
                    logger: options.logger
                )
                await store.beginGarbage(wasRebuilt: wasRebuilt, directory)
                return store
            } catch {
                try? catalog.close()
                throw error
            }
        } catch {
            for slot in slots { slot.replica?.close(deadline: .seconds(5)) }
            throw error
        }
    }

    /// A hold that can't be written down is kept in memory; the store serves all the same. The note of a rebuild goes
    /// only when the hold is committed: a crash in between leaves one of them.
    private func beginGarbage(wasRebuilt: Bool, _ directory: StoreDirectory) async {
        do {
            try await garbage.begin(didRebuildCatalog: wasRebuilt)
            if wasRebuilt { try directory.clearRebuildNote() }
        } catch {
            logger.warning("The state of garbage collection can't be read.", metadata: ["error": "\(error)"])
            replicator.garbage.hold =
                replicator.garbage.hold ?? "Its state could not be read when the store was opened."
        }
    }

    /// Closes the store: lets repairs and catching up go on for a bounded time, then closes index and volumes.
    /// - Returns: what is still to be done, in words; it goes on when the store is opened again.
    @discardableResult
    package func close() async throws -> [String] {
        let isFirst = isClosed.withLock { closed in
            defer { closed = true }
            return !closed
        }
        guard isFirst else { return [] }
        maintenance.cancel()
        if let work = mirrorWork.withLock({ $0 }) {
            work.cancel()
            _ = await value(of: work, within: .seconds(2))
        }
        transports.shutdown()
        // They hold the store that holds them.
        objects.rescue = nil
        objects.mirrorWatch = nil
        replicator.setRescueSource(nil)
        garbage.cancel()
        await replicator.quiesce(within: .seconds(2))
        let snapshot = Task { await replicator.takeSnapshotIfDue() }
        _ = await value(of: snapshot, within: settleDeadline)
        let remaining = await settle(within: settleDeadline)
        let findings = self.findings
        let flush = Task { try? await findings.flush() }
        _ = await value(of: flush, within: .seconds(2))
        replicator.close()
        // What waits for a volume that hangs is left behind.
        _ = await value(of: maintenance, within: .seconds(2))
        defer { lock.release() }
        do {
            try catalog.close()
        } catch {
            throw error.storeError
        }
        return remaining
    }

    /// Takes up the repairs that an earlier process has left open, then writes down what is found.
    private static func keepLedger(_ findings: FindingLedger, _ replicator: Replicator) async {
        for var finding in (try? await findings.load()) ?? [] {
            if finding.mirror != nil { continue }
            if finding.chunk != nil {
                replicator.queueRepair(finding)
            } else {
                finding.outcome = .failed(
                    "the process ended before it was settled; the next scrub looks again"
                )
                findings.note(finding)
            }
        }
        await findings.run()
    }

    /// Repairs and catches up until nothing is left or the time is over.
    package func settle(within deadline: Duration) async -> [String] {
        guard !replicator.laggingVolumes().isEmpty || replicator.replicatorStatus().repairs.waiting > 0 else {
            return []
        }
        let replicator = self.replicator
        let repairs = Task { await replicator.runRepairs() }
        let work = Task { await replicator.settle() }
        let remaining = await value(of: work, within: deadline)
        repairs.cancel()
        work.cancel()
        return remaining ?? ["Repairs and catching up go on when the store is opened again."]
    }

    /// Versions in the catalog and their bytes.
    package func catalogTotals() async throws -> (versions: UInt64, bytes: UInt64) {
        let reader = try await replicator.currentCatalog()
        do {
            return try reader.buckets().reduce(into: (versions: UInt64(0), bytes: UInt64(0))) {
                totals,
                bucket in
                let usage = try reader.usage(of: bucket.id)
                totals.versions += usage.versionCount
                totals.bytes += usage.versionBytes
            }
        } catch let error as CatalogError {
            throw error.storeError
        }
    }

    /// Whether this volume has not yet taken the place of the one that it replaces.
    func isReplacementUnfinished(by volume: VolumeID) -> Bool {
        replicator.unfinishedReplacements.contains { $0.new == volume }
    }

    /// Waits until volumes that replace others have taken their places in the log set.
    package func finishReplacements(within deadline: Duration) async throws {
        let end = ContinuousClock.now + deadline
        while let (_, new) = replicator.unfinishedReplacements.first {
            guard ContinuousClock.now < end else {
                let label = replicator.volumes.slots.first { $0.id == new }?.label ?? "\(new)"
                throw StoreError(
                    .conflict,
                    "The volume in \(quoted(label)) has not taken its place in the commit log yet.",
                    advice: "It goes on whenever the store is open."
                )
            }
            try await SystemClock().sleep(for: .milliseconds(20))
        }
    }
}
