internal import Catalog
internal import Logging
internal import ObjectService
internal import Observability
internal import S3Gateway
internal import ServiceLifecycle
internal import StoreModel
internal import Synchronization

/// When retention policies are applied beside the servers: the section `retention` of the configuration.
package struct RetentionSchedule: Sendable {
    /// From the end of a pass to the next; nil: only by command.
    package var interval: Duration? = .seconds(3600)
    package var deletesPerSecond = 500

    package init() {}
}

/// Applies the retention policies of all buckets, over and over. What a pass did not get to, the next one finds.
final class RetentionService: Service {
    private struct Totals {
        var passes: UInt64 = 0
        var dropped: UInt64 = 0
        var refused: UInt64 = 0
        var failures: UInt64 = 0
    }

    private let objects: ObjectStore
    private let schedule: RetentionSchedule
    private let logger: Logger
    private let totals = Mutex(Totals())

    init(_ objects: ObjectStore, schedule: RetentionSchedule, logger: Logger) {
        self.objects = objects
        self.schedule = schedule
        self.logger = logger
    }

    func run() async throws {
        guard let interval = schedule.interval else { return try await gracefulShutdown() }
        await cancelWhenGracefulShutdown {
            while !Task.isCancelled {
                await self.pass()
                do { try await SystemClock().sleep(for: interval) } catch { return }
            }
        }
    }

    private func pass() async {
        do {
            for bucket in try await objects.buckets() {
                try Task.checkCancellation()
                await apply(to: bucket.name)
            }
        } catch {
            if !(error is CancellationError) { note(error, nil) }
        }
        totals.withLock { $0.passes += 1 }
    }

    private func apply(to bucket: BucketName) async {
        do {
            guard let policy = try await objects.retentionPolicy(of: bucket) else { return }
            let outcome = try await objects.applyRetention(
                policy,
                to: bucket,
                isDryRun: false,
                deletesPerSecond: schedule.deletesPerSecond
            )
            totals.withLock { totals in
                totals.dropped += outcome.droppedCount
                totals.refused += outcome.refusedCount
            }
        } catch {
            if !(error is CancellationError) { note(error, bucket) }
        }
    }

    private func note(_ error: any Error, _ bucket: BucketName?) {
        totals.withLock { $0.failures += 1 }
        logger.warning(
            "The retention policy of a bucket could not be applied.",
            metadata: ["bucket": "\(bucket?.description ?? "")", "error": "\(error)"]
        )
    }

    func samples() -> [MetricSample] {
        let totals = totals.withLock { $0 }
        let counters: [(String, String, UInt64)] = [
            (
                "holdfast_retention_passes_total", "Passes over the retention policies of all buckets.",
                totals.passes
            ),
            ("holdfast_retention_dropped_total", "Versions that retention policies dropped.", totals.dropped),
            (
                "holdfast_retention_refused_total", "Versions that were to be dropped and changed meanwhile.",
                totals.refused
            ),
            (
                "holdfast_retention_failures_total", "Buckets whose policy could not be applied.",
                totals.failures
            ),
        ]
        return counters.map { name, help, value in
            MetricSample(name, help: help, kind: .counter, value: Double(value))
        }
    }
}
