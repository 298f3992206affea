internal import AdminGateway
internal import BlobVolume
internal import Catalog
internal import Foundation
internal import HoldfastNode
internal import Logging
internal import Mirroring
internal import ObjectService
internal import Replication
internal import StoreModel

/// Where a store is and how long to wait for it.
struct StoreLocation: Sendable {
    let path: String
    let lockTimeout: Duration
    /// A store on a read-only file system is opened to be read.
    var mayReadOnly = false
}

/// A store that is put together out of its directory: the only file of the command line that knows how.
final class StoreAssembly: Sendable {
    let objects: ObjectStore
    let administration: any Administration
    private let store: LocalStore

    private init(_ store: LocalStore) {
        self.store = store
        objects = store.objects
        // Volumes that are behind, be it only by the record that opening the store has just written, get a moment to
        // catch up: the state shown afterwards is one that lasts. Only a volume that hangs, or has much to catch up,
        // makes this wait as long as it may.
        administration = StoreAdministration(store) {
            await store.replicator.quiesce(within: .seconds(5))
            _ = await store.settle(within: .seconds(10))
        }
    }

    static func open(_ location: StoreLocation) async throws -> StoreAssembly {
        StoreAssembly(try await LocalStore.open(location.path, options(location)))
    }

    /// A store to be served.
    static func openStore(_ location: StoreLocation, _ volume: VolumeOptions, logger: Logger) async throws
        -> LocalStore
    {
        var options = options(location)
        options.logger = logger
        options.volume = volume
        options.keepsReserves = true
        return try await LocalStore.open(location.path, options)
    }

    private static func options(_ location: StoreLocation) -> LocalStore.Options {
        var options = LocalStore.Options()
        options.lockTimeout = location.lockTimeout
        options.mayReadOnly = location.mayReadOnly
        options.mirrorAuthorityFile = ProcessInfo.processInfo.environment["HOLDFAST_MIRROR_CA_FILE"]
        return options
    }

    /// What was repaired and caught up since the store was opened, for `status`.
    var replication: ReplicatorStatus { store.replicator.replicatorStatus() }

    var mirrors: MirrorService { store.mirrors }

    func acknowledge(_ version: VersionRow, _ policy: MirrorAcknowledgement?) async throws {
        try await store.acknowledge(version, policy)
    }

    func restore(
        from settings: MirrorSettings,
        _ credentials: MirrorCredentials,
        bucket: BucketName?,
        key: ObjectKey?
    ) async throws -> MirrorRestoreReport {
        try await store.restore(from: settings, credentials, bucket: bucket, key: key)
    }
    /// Everything was verified and found: garbage may be collected again after a rebuild of the catalog.
    func endGarbageHold() async throws { try await store.garbage.endHold() }

    func close() async throws { try await store.close() }

    static func create(
        at location: StoreLocation,
        volumes: [String],
        replicas: Int?,
        writeQuorum: Int?
    ) async throws -> CreationReport {
        let quorum = try QuorumConfiguration(
            replicaCount: replicas ?? (volumes.isEmpty ? 3 : min(volumes.count, 3)),
            writeQuorum: writeQuorum
        )
        let made = try await LocalStore.create(location.path, volumePaths: volumes, quorum: quorum)
        return CreationReport(
            store: location.path,
            replicas: quorum.replicaCount,
            writeQuorum: quorum.writeQuorum,
            volumes: made.volumes.map { $0.path.hasPrefix("/") ? $0.path : location.path + "/" + $0.path }
        )
    }

    static func recover(at location: StoreLocation, volumes: [String]) async throws -> StoreRecoveryDocument {
        let report = try await LocalStore.recover(
            location.path,
            volumePaths: volumes,
            lockTimeout: location.lockTimeout
        )
        return StoreRecoveryDocument(
            store: location.path,
            storeID: report.configuration.storeID.description,
            generation: report.generation,
            sources: report.sources,
            volumes: report.configuration.volumes.map {
                $0.path.hasPrefix("/") ? $0.path : location.path + "/" + $0.path
            },
            hasMasterKey: report.hasMasterKey,
            remarks: report.remarks
        )
    }

    /// Checks the volumes' files without changing anything.
    static func check(_ location: StoreLocation, isDeep: Bool) async throws -> CheckReport {
        let directory = try await StoreDirectory.lock(
            location.path,
            timeout: location.lockTimeout,
            mayReadOnly: true
        )
        defer { directory.release() }
        var records: UInt64 = 0
        var bytes: UInt64 = 0
        var findings: [FindingReport] = []
        var (absentCount, deniedCount) = (0, 0)
        for (label, result) in await directory.checkVolumes(deep: isDeep) {
            switch result {
            case .failure(let error):
                if error.code == .identityMissing { absentCount += 1 }
                if error.cause?.code == .permission { deniedCount += 1 }
                findings.append(
                    FindingReport(
                        volume: label,
                        subject: "volume",
                        problem: error.description,
                        outcome: "found"
                    )
                )
            case .success(let report):
                records += UInt64(report.recordCount)
                bytes += report.payloadByteCount
                for problem in report.damage {
                    findings.append(
                        FindingReport(
                            volume: label,
                            subject: problem.location?.description ?? "volume",
                            problem: problem.message,
                            outcome: "found"
                        )
                    )
                }
            }
        }
        return CheckReport(
            records: records,
            bytes: bytes,
            findings: findings,
            absentCount: absentCount,
            deniedCount: deniedCount
        )
    }

    static func rebuildCatalog(_ location: StoreLocation) async throws -> RecoveryReport {
        var options = options(location)
        options.rebuildsCatalog = true
        let store = try await LocalStore.open(location.path, options)
        let totals: (versions: UInt64, bytes: UInt64)
        do {
            totals = try await store.catalogTotals()
        } catch {
            _ = try? await store.close()
            throw error
        }
        try await store.close()
        return RecoveryReport(
            restored: totals.versions,
            bytes: totals.bytes,
            message: "The catalog was built anew from the commit log on the replicas."
        )
    }

    static func replaceVolume(
        _ location: StoreLocation,
        path: String,
        newPath: String? = nil
    ) async throws -> RecoveryReport {
        let result = try await LocalStore.replaceVolume(
            location.path,
            oldPath: path,
            newPath: newPath,
            options: options(location)
        )
        return RecoveryReport(
            restored: UInt64(result.recordCount),
            bytes: result.payloadBytes,
            message: result.remaining.isEmpty
                ? "The volume in \(result.label) is filled and takes part in the commit log."
                : "The volume in \(result.label) is not whole yet: \(result.remaining.joined(separator: "; "))"
        )
    }
}
