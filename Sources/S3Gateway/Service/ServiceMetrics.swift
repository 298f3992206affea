package import Observability
internal import S3Protocol

/// What is counted of the S3 API.
package final class ServiceMetrics: Sendable {
    private let requests: Family<Counter>
    private let durations: Family<Histogram>
    private let received: Family<Counter>
    private let sent: Family<Counter>
    private let inFlight: Gauge

    package init(_ registry: MetricsRegistry) {
        requests = registry.counters(
            "holdfast_s3_requests_total",
            help: "Requests by API and result: the error code, or the status.",
            labels: ["api", "code"]
        )
        durations = registry.histograms(
            "holdfast_s3_request_duration_seconds",
            help: "Time from the head of a request to the end of its answer.",
            labels: ["api"]
        )
        received = registry.counters(
            "holdfast_s3_received_bytes_total",
            help: "Bytes of request bodies.",
            labels: ["api"]
        )
        sent = registry.counters(
            "holdfast_s3_sent_bytes_total",
            help: "Bytes of response bodies.",
            labels: ["api"]
        )
        inFlight =
            registry.gauges(
                "holdfast_s3_requests_in_flight",
                help: "Requests that are being answered."
            )[]
    }

    func begin() { inFlight.add(1) }

    func end(api: String, code: String, nanoseconds: UInt64, received: UInt64, sent: UInt64) {
        inFlight.add(-1)
        requests[api, code].add()
        durations[api].record(nanoseconds: nanoseconds)
        if received > 0 { self.received[api].add(received) }
        if sent > 0 { self.sent[api].add(sent) }
    }
}
