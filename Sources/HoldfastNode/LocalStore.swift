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
        /// A store on a read-only file system is opened to be read: nothing is written, nothing repaired.
        package var mayReadOnly = false
        /// Throw the index away and build it anew from the replicas.
        package var rebuildsCatalog = false
        /// How long closing waits for repairs and catching up that are under way.
        package var settleDeadline: Duration = .seconds(10)
        package var volume = VolumeOptions()
        /// Whether the watermarks of `volume` are written down for everybody who opens the store after this; else those that
        /// are written down count.
        package var keepsReserves = false
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
    /// Nothing of it is written; what is changed in it is gone when it is closed.
    package let isReadOnly: Bool
    private let catalogCopy: CatalogCopy?
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
    package let digests: WholeDigests
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
        _ directory: StoreDirectory,
        catalogCopy: CatalogCopy?,
        replicator: Replicator,
        volumeCare: VolumeCare,
        catalog: SQLiteCatalog,
        openReport: OpenReport,
        settleDeadline: Duration,
        mirrorAuthorityFile: String?,
        logger: Logger
    ) {
        let path = directory.path
        let isReadOnly = directory.isReadOnly
        self.path = path
        self.isReadOnly = isReadOnly
        self.catalogCopy = catalogCopy
        configuration = directory.configuration
        self.replicator = replicator
        self.volumeCare = volumeCare
        self.catalog = catalog
        lock = directory.lock
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
            load: replicator.clientLoad,
            authorityFile: mirrorAuthorityFile,
            logger: logger
        )
        replicator.setRescueSource(LostPayloads(objects))
        let findings = FindingLedger(objects)
        let scrubs = Scrubs(objects, replicator, findings) { problem in
            logger.error("The state of a scrub can't be used.", metadata: ["problem": "\(problem)"])
        }
        self.findings = findings
        self.scrubs = scrubs
        scrubs.schedule = ScrubSchedule(since: SystemClock().now())
        replicator.observeFindings { finding in
            findings.note(finding)
            scrubs.note(finding)
        }
        digests = WholeDigests(objects, load: replicator.clientLoad) { problem in
            logger.warning(
                "The SHA-256 of an object in parts could not be found; it is tried again later.",
                metadata: ["problem": "\(problem)"]
            )
        }
        mirrorAudits = MirrorAudits(objects, mirrors, findings, load: replicator.clientLoad)
        let garbage = GarbageRunner(replicator, logger: logger)
        self.garbage = garbage
        scrubs.whenAuditIsClean(isAwaited: { replicator.garbage.hold != nil }) { try await garbage.endHold() }
        maintenance = Task {
            guard !isReadOnly else { return await replicator.runMaintenance() }
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
        var directory = try await StoreDirectory.lock(
            path,
            timeout: options.lockTimeout,
            mayReadOnly: options.mayReadOnly
        )
        do {
            do {
                return try await open(directory, options)
            } catch let error as StoreError {
                // The store's directory can be written, its volumes can't.
                guard (error.cause as? VolumeError)?.cause?.code == .readOnly, options.mayReadOnly,
                    !directory.isReadOnly
                else { throw error }
                directory.isReadOnly = true
                return try await open(directory, options)
            }
        } catch {
            directory.lock.release()
            throw error
        }
    }

    private static func open(_ directory: StoreDirectory, _ options: Options) async throws -> LocalStore {
        var (directory, options) = (directory, options)
        settleReserves(&directory, &options)
        return try await openSettled(directory, options)
    }

    /// Commands obey the watermarks that a server was told.
    private static func settleReserves(_ directory: inout StoreDirectory, _ options: inout Options) {
        guard options.keepsReserves else {
            guard let reserves = directory.configuration.reserves else { return }
            options.volume.reserveBytes = reserves.hardBytes
            options.volume.softReserveBytes = reserves.softBytes
            return
        }
        let standard = VolumeOptions()
        let isStandard =
            options.volume.reserveBytes == standard.reserveBytes
            && options.volume.softReserveBytes == standard.softReserveBytes
        let reserves = StoreConfiguration.Reserves(
            hardBytes: options.volume.reserveBytes,
            softBytes: max(options.volume.reserveBytes, options.volume.softReserveBytes)
        )
        let kept = isStandard ? nil : reserves
        guard directory.configuration.reserves != kept else { return }
        directory.configuration.reserves = kept
        do throws(StoreError) {
            try directory.save()
        } catch {
            options.logger.warning(
                "The watermarks can't be written down; commands without a server don't know them.",
                metadata: ["error": "\(error)"]
            )
        }
    }

    private static func openSettled(_ directory: StoreDirectory, _ options: Options) async throws
        -> LocalStore
    {
        let configuration = directory.configuration
        let opened = try await directory.openVolumes(options.volume)
        var report = OpenReport()
        report.volumes = opened.map { ($0.slot.label, $0.report, $0.slot.problem) }
        let slots = opened.map(\.slot)
        let place = StorePlace(directory)
        let volumes = try VolumeSet(slots)
        let there = Set(slots.filter { $0.replica != nil }.map(\.id))
        var copy: CatalogCopy?
        do {
            try await place.refuseIfStale(of: there)
            if directory.isReadOnly { copy = try CatalogCopy(of: directory.catalogPath) }
            let (catalog, isNew) = try directory.openCatalog(mustReset: options.rebuildsCatalog, copy: copy)
            do {
                var settings = Replicator.Configuration(
                    storeID: configuration.storeID,
                    quorum: configuration.quorum
                )
                settings.isReadOnly = directory.isReadOnly
                let (replicator, didRebuild) = try await Replicator.open(
                    settings,
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
                if !directory.isReadOnly { await place.refreshCopies(options.logger, of: there) }
                let store = LocalStore(
                    directory,
                    catalogCopy: copy,
                    replicator: replicator,
                    volumeCare: VolumeCare(replicator, place, options.volume, options.logger),
                    catalog: catalog,
                    openReport: report,
                    settleDeadline: options.settleDeadline,
                    mirrorAuthorityFile: options.mirrorAuthorityFile,
                    logger: options.logger
                )
                if !directory.isReadOnly { await store.beginGarbage(wasRebuilt: wasRebuilt, directory) }
                return store
            } catch {
                try? catalog.close()
                throw error
            }
        } catch {
            for slot in slots { slot.replica?.close(deadline: .seconds(5)) }
            copy?.remove()
            throw Self.naming(opened, error)
        }
    }

    /// Where too few volumes are there because the system refuses them, that is the error.
    private static func naming(_ opened: [StoreDirectory.OpenedVolume], _ error: any Error) -> any Error {
        guard let error = error as? StoreError, error.code == .notEnoughReplicas else { return error }
        for refusal in opened.compactMap(\.error) {
            guard let cause = refusal.cause, cause.code == .permission || cause.code == .readOnly else {
                continue
            }
            let denied = StoreDirectory.failure(error.message, cause)
            return StoreError(denied.code, error.message, advice: denied.advice, cause: refusal)
        }
        return error
    }

    /// A hold that can't be written down is kept in memory; the store serves all the same. The note of a rebuild goes
    /// only when the hold is committed: a crash in between leaves one of them.
    private func beginGarbage(wasRebuilt: Bool, _ directory: StoreDirectory) async {
        do {
            try await garbage.begin(didRebuildCatalog: wasRebuilt)
            if wasRebuilt { try directory.clearRebuildNote() }
        } catch {
            logger.warning("The state of garbage collection can't be read.", metadata: ["error": "\(error)"])
            scrubs.distrustCleanPart()
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
        guard !isReadOnly else { return try await closeReadOnly() }
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

    /// What was written is in memory only: it goes.
    private func closeReadOnly() async throws -> [String] {
        replicator.close()
        _ = await value(of: maintenance, within: .seconds(2))
        try? catalog.close()
        catalogCopy?.remove()
        lock.release()
        return []
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
