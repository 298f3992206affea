// How the store's own types become what the commands print.

internal import Catalog
internal import ObjectService
internal import StoreModel

extension VersionReport {
    init(_ row: VersionRow, in bucket: BucketName, isLatest: Bool? = nil) {
        self.init(
            bucket: bucket,
            key: row.key,
            id: row.id,
            isNull: row.isNull,
            kind: row.isDeleteMarker ? .deleteMarker : .object,
            isLatest: isLatest,
            createdAt: row.createdAt,
            size: row.size,
            etag: row.etag,
            sha256: row.checksums.sha256,
            contentType: row.contentType,
            userMetadata: row.userMetadata.map { ($0.name, $0.value) },
            tags: row.tags.map { ($0.name, $0.value) }
        )
    }

    /// From a listing, which knows less.
    init(_ head: ObjectHead, in bucket: BucketName) {
        self.init(
            bucket: bucket,
            key: head.key,
            id: head.id,
            isNull: head.isNull,
            kind: .object,
            isLatest: true,
            createdAt: head.createdAt,
            size: head.size,
            etag: head.etag,
            sha256: nil,
            contentType: nil,
            userMetadata: nil,
            tags: nil
        )
    }

    /// This version and no other, whatever becomes the newest meanwhile.
    var exactAddress: VersionAddress { VersionAddress(bucket: bucket, key: key, selector: .id(id)) }
}

extension BucketReport {
    init(_ row: BucketRow) {
        self.init(
            name: row.name.description,
            versioning: BucketVersioning(row.versioning).rawValue,
            createdAt: row.createdAt
        )
    }
}

extension BucketVersioning {
    init(_ state: VersioningState) {
        self =
            switch state {
            case .off: .off
            case .enabled: .enabled
            case .suspended: .suspended
            }
    }

    var state: VersioningState {
        switch self {
        case .off: .off
        case .enabled: .enabled
        case .suspended: .suspended
        }
    }
}

extension ReplicaReport {
    init(_ state: ReplicaState) {
        let (name, reason) = state.condition.described
        self.init(
            volume: state.label,
            state: name,
            reason: reason,
            verifiedAt: state.verifiedAt?.internetDateTime
        )
    }
}

extension ReplicaState.Condition {
    var described: (state: String, reason: String?) {
        switch self {
        case .present: ("present", nil)
        case .missing: ("missing", nil)
        case .damaged(let reason): ("damaged", reason)
        case .unreachable(let reason): ("unreachable", reason)
        }
    }
}

extension StatisticsReport {
    init(_ statistics: ObjectStatistics, in bucket: BucketName) {
        var offset: UInt64 = 0
        var chunks: [ChunkReport] = []
        for chunk in statistics.chunks {
            chunks.append(
                ChunkReport(
                    sha256: chunk.digest.hex,
                    offset: offset,
                    length: UInt64(chunk.length),
                    replicas: chunk.replicas.map(ReplicaReport.init)
                )
            )
            offset += UInt64(chunk.length)
        }
        self.init(
            version: VersionReport(statistics.version, in: bucket),
            chunkCount: statistics.chunkCount,
            uniqueBytes: statistics.uniqueBytes,
            copiesNotPresent: statistics.badReplicaCount,
            chunks: chunks
        )
    }
}

extension VerificationReport {
    init(_ report: VerifyReport) {
        var (damaged, missing, unreachable): (UInt64, UInt64, UInt64) = (0, 0, 0)
        for case .replica(let state, _) in report.findings.map(\.kind) {
            switch state.condition {
            case .present: break
            case .missing: missing += 1
            case .damaged: damaged += 1
            case .unreachable: unreachable += 1
            }
        }
        self.init(
            versions: report.versionCount,
            chunks: report.payloadCount,
            chunkBytes: report.payloadBytes,
            copiesGood: report.goodReplicaCount,
            copiesDamaged: damaged,
            copiesMissing: missing,
            copiesUnreachable: unreachable,
            findingCount: report.findingCount,
            repairedCount: report.repairedCount,
            versionsLost: report.lostVersionCount,
            findings: report.findings.map(FindingReport.init),
            isComplete: report.isHealthy
        )
    }
}

extension FindingReport {
    init(_ finding: VerifyFinding) {
        let subject = "\(finding.bucket)/\(finding.key) version \(finding.version)"
        let (outcome, detail): (String, String?) =
            switch finding.outcome {
            case .repaired: ("repaired", nil)
            case .repairable: ("repairable", nil)
            case .repairFailed(let reason): ("repairFailed", reason)
            case .lost: ("lost", nil)
            }
        switch finding.kind {
        case .replica(let state, let digest):
            let (name, reason) = state.condition.described
            let problem = ["chunk \(digest.hex.prefix(12))… \(name)", reason, detail].compactMap { $0 }
            self.init(
                volume: state.label,
                subject: subject,
                problem: problem.joined(separator: ": "),
                outcome: outcome
            )
        case .manifest(let error):
            self.init(volume: nil, subject: subject, problem: "manifest: \(error.message)", outcome: outcome)
        }
    }
}

extension VolumeReport {
    init(_ volume: StorageStatus.Volume) {
        let (state, reason): (String, String?) =
            switch volume.condition {
            case .healthy: ("healthy", nil)
            case .catchingUp(let missing): ("behind", "\(HumanFormat.count(missing, "commit")) to catch up")
            case .full: ("full", "no room for new data; reads and deletes go on")
            case .failed(let reason): ("failed", reason)
            }
        self.init(
            path: volume.label,
            id: volume.id.description,
            state: state,
            reason: reason,
            payloadBytes: volume.payloadBytes,
            fileBytes: volume.fileBytes,
            freeBytes: volume.freeBytes
        )
    }
}

extension StatusReport {
    init(_ storage: StorageStatus, bucketCount: UInt64, usage: BucketUsage, assembly: StoreAssembly) {
        let payloadBytes = storage.volumes.map(\.payloadBytes)
        // Every volume has a copy of everything when there are no more volumes than replicas.
        let isMirrored = storage.volumes.count <= storage.quorum.replicaCount
        let uniqueBytes =
            isMirrored
            ? payloadBytes.max() ?? 0 : payloadBytes.reduce(0, +) / UInt64(storage.quorum.replicaCount)
        self.init(
            store: assembly.path,
            storeID: storage.store.description,
            formatVersion: assembly.formatVersion,
            replicas: storage.quorum.replicaCount,
            writeQuorum: storage.quorum.writeQuorum,
            isWritable: storage.canWrite,
            isReadable: storage.canRead,
            isFullyRedundant: storage.repairsPending == 0
                && storage.volumes.allSatisfy { $0.condition == .healthy },
            copiesWaitingForRepair: UInt64(storage.repairsPending),
            volumes: storage.volumes.map(VolumeReport.init),
            sharedDevices: LocalDirectory.sharingDevices(storage.volumes.map(\.label)),
            buckets: bucketCount,
            objects: usage.objectCount,
            versions: usage.versionCount,
            logicalBytes: usage.versionBytes,
            uniqueBytes: uniqueBytes,
            physicalBytes: storage.volumes.reduce(0) { $0 + $1.fileBytes }
        )
    }
}
