internal import ObjectService
internal import Observability
internal import ServiceLifecycle

/// Finds the SHA-256 of objects that came in parts, as long as the store is served.
struct DigestService: Service {
    let store: LocalStore

    func run() async throws {
        await cancelWhenGracefulShutdown { await store.digests.run() }
    }

    func samples() async -> [MetricSample] {
        let counts = store.digests.counts
        return [
            MetricSample(
                "holdfast_digests_waiting",
                help: "Objects that came in parts and whose SHA-256 is still to be found.",
                value: Double((try? await store.objects.digestTaskCount()) ?? 0)
            ),
            MetricSample(
                "holdfast_digests_found_total",
                help: "Objects whose SHA-256 was found since the process began.",
                kind: .counter,
                value: Double(counts.foundCount)
            ),
            MetricSample(
                "holdfast_digests_bytes_total",
                help: "Bytes that were read for that.",
                kind: .counter,
                value: Double(counts.byteCount)
            ),
            MetricSample(
                "holdfast_digests_failures_total",
                help: "Attempts that failed; they are made again later.",
                kind: .counter,
                value: Double(counts.failureCount)
            ),
        ]
    }
}
