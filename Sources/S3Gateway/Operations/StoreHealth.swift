package import ObjectService
package import Observability
internal import StoreModel

/// The state of a store as checks and as metrics, computed when it is asked for.
package struct StoreHealth: Sendable {
    package enum Need: Sendable {
        case read, write
    }

    private let objects: ObjectStore
    private let drain: DrainFlag

    package init(_ objects: ObjectStore, drain: DrainFlag) {
        self.objects = objects
        self.drain = drain
    }

    /// Each check; the process is ready when all pass.
    package func checks(for need: Need) async -> [HealthCheck] {
        let draining = HealthCheck(
            "accepting",
            drain.isListening && !drain.isDraining,
            drain.isDraining
                ? "the process is stopping"
                : drain.isListening ? "the process takes requests" : "the S3 API does not listen yet"
        )
        do {
            let status = try await objects.status()
            let usable = status.volumes.count { if case .failed = $0.condition { false } else { true } }
            let quorum =
                "\(usable) of \(status.volumes.count) volumes usable, "
                + "\(status.quorum.writeQuorum) needed to write"
            switch need {
            case .read: return [draining, HealthCheck("readQuorum", status.canRead, quorum)]
            case .write:
                return [
                    draining, HealthCheck("readQuorum", status.canRead, quorum),
                    HealthCheck("writeQuorum", status.canWrite, quorum),
                ]
            }
        } catch {
            return [draining, HealthCheck("store", false, "\(error)")]
        }
    }

    package func samples() async -> [MetricSample] {
        guard let status = try? await objects.status() else {
            return [
                MetricSample(
                    "holdfast_store_up",
                    help: "Whether the store could be asked.",
                    value: 0
                )
            ]
        }
        var samples = [
            MetricSample("holdfast_store_up", help: "Whether the store could be asked.", value: 1),
            MetricSample(
                "holdfast_store_can_read",
                help: "Whether reads are possible.",
                value: status.canRead ? 1 : 0
            ),
            MetricSample(
                "holdfast_store_can_write",
                help: "Whether a write quorum is there.",
                value: status.canWrite ? 1 : 0
            ),
            MetricSample(
                "holdfast_store_committed_sequence",
                help: "The newest batch of the commit log that is on a write quorum.",
                kind: .counter,
                value: Double(status.committed.sequence)
            ),
            MetricSample(
                "holdfast_repairs_pending",
                help: "Copies that wait for repair.",
                value: Double(status.repairsPending)
            ),
        ]
        for volume in status.volumes { samples += Self.samples(of: volume) }
        return samples
    }

    private static func samples(of volume: StorageStatus.Volume) -> [MetricSample] {
        let labels: [(name: String, value: String)] = [("volume", volume.label)]
        var isHealthy = false
        var missing: UInt64 = 0
        var isFull = false
        switch volume.condition {
        case .healthy: isHealthy = true
        case .catchingUp(let count): missing = count
        case .full: isFull = true
        case .failed: break
        }
        func sample(_ name: String, _ help: String, _ value: Double) -> MetricSample {
            MetricSample(name, help: help, labels: labels, value: value)
        }
        return [
            sample("holdfast_volume_healthy", "Whether the volume has everything.", isHealthy ? 1 : 0),
            sample("holdfast_volume_full", "Whether the volume takes no payloads.", isFull ? 1 : 0),
            sample("holdfast_volume_missing_copies", "Copies missing on the volume.", Double(missing)),
            sample("holdfast_volume_payload_bytes", "Payload bytes stored.", Double(volume.payloadBytes)),
            sample(
                "holdfast_volume_file_bytes",
                "Bytes that the volume's files take.",
                Double(volume.fileBytes)
            ),
            sample("holdfast_volume_free_bytes", "Free bytes of its file system.", Double(volume.freeBytes)),
            sample("holdfast_volume_total_bytes", "Size of its file system.", Double(volume.totalBytes)),
        ]
    }
}
