// How the store's own types become what the commands print.

internal import AdminGateway
internal import Catalog
internal import ContentHashing
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
            sha256: row.sha256,
            contentType: row.contentType,
            userMetadata: row.userMetadata.map { ($0.name, $0.value) },
            tags: row.tags.map { ($0.name, $0.value) },
            checksum: row.checksums.others.lazy.compactMap { other in
                // One of an object in parts that is over the parts' checksums can't be read as one.
                ChecksumAlgorithm(name: other.name).flatMap { Checksum($0, base64: other.value) }
            }.first
        )
        isEncrypted = row.attributes.encryption != nil
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
            verifiedAt: state.verifiedAt?.internetDateTime,
            verifiedBy: state.verifiedBy?.rawValue
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
            isComplete: report.isHealthy,
            isOnlyUnreachable: report.unreachableCount > 0
                && report.unreachableCount + report.repairedCount == report.findingCount
        )
        sha256Found = report.digestCount
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
            case .lost:
                (
                    "lost",
                    finding.holders.isEmpty
                        ? nil : "mirror \(finding.holders.joined(separator: ", ")) has the version"
                )
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
    init(_ volume: VolumeDocument) {
        self.init(
            path: volume.path,
            id: volume.id,
            state: volume.state,
            reason: volume.reason,
            payloadBytes: volume.payloadBytes,
            fileBytes: volume.fileBytes,
            freeBytes: volume.freeBytes
        )
    }
}

extension StatusReport {
    init(_ status: StatusDocument) {
        self.init(
            store: status.store,
            storeID: status.storeID,
            formatVersion: status.formatVersion,
            replicas: status.replicas,
            writeQuorum: status.writeQuorum,
            isWritable: status.isWritable,
            isReadable: status.isReadable,
            isFullyRedundant: status.isFullyRedundant,
            copiesWaitingForRepair: status.copiesWaitingForRepair,
            volumes: status.volumes.map(VolumeReport.init),
            sharedDevices: LocalDirectory.sharingDevices(status.volumes.map(\.path)),
            buckets: status.buckets,
            objects: status.objects,
            versions: status.versions,
            logicalBytes: status.logicalBytes,
            uniqueBytes: status.uniqueBytes,
            physicalBytes: status.physicalBytes,
            catalog: status.catalog
        )
        objectsWaitingForSHA256 = status.objectsWaitingForSHA256
    }
}
