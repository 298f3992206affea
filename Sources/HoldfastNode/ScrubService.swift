internal import Foundation
package import ObjectService
internal import Observability
package import Replication
internal import ServiceLifecycle
package import StoreModel

/// How scrubs run in a server.
package struct ScrubConfiguration: Sendable {
    package var schedule: ScrubSchedule?
    package var rates = WorkBudget.Rates.standard

    package init() {}

    /// - Throws: `StoreError` with `.invalidArgument` for a name that is no time zone.
    package static func offsets(of timeZone: String) throws(StoreError) -> @Sendable (Int64) -> Int64 {
        guard let zone = TimeZone(identifier: timeZone) else {
            throw StoreError(
                .invalidArgument,
                "\(quoted(timeZone)) is no time zone.",
                advice: "Names are as in Europe/Berlin; UTC always works."
            )
        }
        return { Int64(zone.secondsFromGMT(for: Date(timeIntervalSince1970: Double($0)))) }
    }
}

/// Runs the scrubs of a store as long as it is served.
struct ScrubService: Service {
    let store: LocalStore

    init(_ store: LocalStore, _ configuration: ScrubConfiguration) {
        self.store = store
        if var schedule = configuration.schedule {
            schedule.since = SystemClock().now()
            store.scrubs.schedule = schedule
        }
        store.scrubs.budget.set(configuration.rates)
    }

    func run() async throws {
        await cancelWhenGracefulShutdown { await store.scrubs.run() }
    }

    func samples() async -> [MetricSample] {
        var samples: [MetricSample] = []
        for job in (try? await store.scrubs.jobs()) ?? [] {
            var name = "audit"
            if case .volume(let id) = job.subject {
                name = store.replicator.volumes.slots.first { $0.id == id }?.label ?? id.description
            }
            samples += Self.samples(job, [("subject", name)])
        }
        let counts = store.findings.counts
        for (kind, outcome, count) in counts.closed {
            samples.append(
                MetricSample(
                    "holdfast_findings_total",
                    help: "Findings that were closed since the process began.",
                    kind: .counter,
                    labels: [("kind", kind), ("outcome", outcome)],
                    value: Double(count)
                )
            )
        }
        samples.append(
            MetricSample(
                "holdfast_findings_open",
                help: "Findings without an outcome.",
                value: Double(counts.open)
            )
        )
        let repairs = store.replicator.repairCounts
        samples.append(
            MetricSample(
                "holdfast_repair_queue",
                help: "Copies that wait for repair.",
                value: Double(repairs.waiting)
            )
        )
        for (outcome, count) in [
            ("repaired", repairs.repaired), ("failed", repairs.failed),
            ("unrepairable", repairs.unrepairable),
            ("dropped", repairs.dropped),
        ] {
            samples.append(
                MetricSample(
                    "holdfast_repairs_total",
                    help: "Copies that were repaired, or not, since the process began.",
                    kind: .counter,
                    labels: [("outcome", outcome)],
                    value: Double(count)
                )
            )
        }
        return samples
    }

    private static func samples(_ job: ScrubJob, _ labels: [(name: String, value: String)]) -> [MetricSample]
    {
        [
            MetricSample(
                "holdfast_scrub_running",
                help: "Whether the scrub runs.",
                labels: labels,
                value: job.state == .running ? 1 : 0
            ),
            MetricSample(
                "holdfast_scrub_bytes",
                help: "Bytes that the last pass has read so far.",
                labels: labels,
                value: Double(job.byteCount)
            ),
            MetricSample(
                "holdfast_scrub_last_completed_seconds",
                help: "When the last pass was completed, in seconds since 1970; 0: never.",
                labels: labels,
                value: Double(job.lastPassEndedAt?.milliseconds ?? 0) / 1000
            ),
        ]
    }
}
