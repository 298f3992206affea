package import AdminGateway
internal import BlobVolume
package import Observability
internal import Replication
internal import StoreModel

/// What is shown of the volumes.
extension VolumeCare {
    package func volumes() async throws -> VolumeListDocument {
        let status = replicator.replicatorStatus()
        let (_, isLogChanging) = replicator.logSet
        return VolumeListDocument(
            volumes: status.volumes.compactMap { document($0, committed: status.committed) },
            replicas: status.quorum.replicaCount,
            writeQuorum: status.quorum.writeQuorum,
            layoutVersion: replicator.layout.version,
            isLogChanging: isLogChanging
        )
    }

    private func document(_ volume: ReplicatorStatus.Volume, committed: UInt64) -> VolumeStateDocument? {
        guard let index = replicator.volumes.index(of: volume.id) else { return nil }
        let condition = replicator.condition(of: index)
        let slot = replicator.volumes.slots[index]
        var document = VolumeStateDocument(path: volume.label, id: volume.id.description)
        document.role = volume.wish.name
        document.health = volume.problem == nil ? condition.health.rawValue : "failed"
        (document.state, document.reason) = Self.state(volume, condition, isThere: slot.replica != nil)
        document.carriesLog = replicator.logSet.members.contains(volume.id)
        let isCaughtUp = volume.completeSequence >= committed || !replicator.laggingVolumes().contains(index)
        document.isWhole = volume.problem == nil && !volume.mustBeFilled && isCaughtUp
        document.isDrained = volume.wish == .draining && drainObstacle(index) == nil
        document.records = UInt64(volume.space?.recordCount ?? 0)
        document.payloadBytes = volume.space?.payloadBytes ?? 0
        document.fileBytes = volume.space?.fileBytes ?? 0
        document.freeBytes = volume.space?.freeBytes ?? 0
        document.totalBytes = volume.space?.totalBytes ?? 0
        document.errors = condition.errorCount
        document.readMedianMicroseconds = condition.readMedian?.microseconds
        document.readTailMicroseconds = condition.readTail?.microseconds
        document.syncMedianMicroseconds = condition.syncMedian?.microseconds
        document.syncTailMicroseconds = condition.syncTail?.microseconds
        document.progress = replicator.fillProgress[volume.id].map {
            VolumeProgressDocument(
                phase: $0.phase.rawValue,
                expected: $0.expected,
                held: $0.held,
                copied: $0.copied,
                copiedBytes: $0.copiedBytes,
                missing: $0.missing,
                versions: $0.versions
            )
        }
        return document
    }

    private static func state(
        _ volume: ReplicatorStatus.Volume,
        _ condition: Replicator.VolumeCondition,
        isThere: Bool
    ) -> (String, String?) {
        guard isThere else { return ("absent", volume.problem) }
        if let problem = volume.problem { return ("failed", problem) }
        if condition.health == .failed { return ("failed", condition.reason) }
        if volume.wish == .draining { return ("draining", nil) }
        if volume.mustBeFilled, volume.isNew { return ("joining", nil) }
        if volume.wish == .readOnly { return ("readonly", nil) }
        if condition.health == .suspect { return ("suspect", condition.reason) }
        return ("active", volume.isFull ? "full" : nil)
    }

    /// For the metrics.
    package func samples() async -> [MetricSample] {
        guard let list = try? await volumes() else { return [] }
        var samples: [MetricSample] = []
        for volume in list.volumes {
            let labels: [(name: String, value: String)] = [("volume", volume.path)]
            func add(_ name: String, _ help: String, _ value: Double, kind: MetricSample.Kind = .gauge) {
                samples.append(
                    MetricSample(
                        "holdfast_volume_\(name)",
                        help: help,
                        kind: kind,
                        labels: labels,
                        value: value
                    )
                )
            }
            samples.append(
                MetricSample(
                    "holdfast_volume_state",
                    help: "1 for the state that the volume is in.",
                    labels: labels + [("state", volume.state)],
                    value: 1
                )
            )
            add("carries_log", "Whether the volume is a member of the log set.", volume.carriesLog ? 1 : 0)
            add("whole", "Whether everything that belongs on it is on it.", volume.isWhole ? 1 : 0)
            add(
                "errors_total",
                "Calls that failed because of the disk.",
                Double(volume.errors),
                kind: .counter
            )
            if let tail = volume.readTailMicroseconds {
                add("read_tail_seconds", "99th percentile of recent reads.", Double(tail) / 1e6)
            }
            if let tail = volume.syncTailMicroseconds {
                add("sync_tail_seconds", "99th percentile of recent group commits.", Double(tail) / 1e6)
            }
            if let progress = volume.progress {
                add(
                    "fill_copied_bytes",
                    "Bytes copied to it by its last filling.",
                    Double(progress.copiedBytes)
                )
                add("fill_missing", "Chunks that its last filling could not copy.", Double(progress.missing))
            }
        }
        return samples
    }
}

extension VolumeRole {
    fileprivate var name: String {
        switch self {
        case .active: "active"
        case .readOnly: "readonly"
        case .draining: "draining"
        }
    }
}

extension Duration {
    fileprivate var microseconds: UInt64 {
        let (seconds, attoseconds) = components
        return UInt64(clamping: seconds) * 1_000_000 + UInt64(clamping: attoseconds / 1_000_000_000_000)
    }
}
