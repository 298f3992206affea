package import Observability

/// The operations face: whether the process lives, whether it is ready, and its metrics. On a port of its own, for
/// balancers and monitoring; it tells nothing about what is stored.
///
///     /livez          200 while the process answers
///     /readyz         200 when it takes writes, else 503; lists each check
///     /readyz/read    200 when it takes reads, else 503
///     /metrics        Prometheus text
package struct OperationsResponder: RequestResponder {
    private let health: StoreHealth
    private let metrics: MetricsRegistry
    private let next: (any RequestResponder)?

    /// - Parameter next: answers every other path; nil: 404.
    package init(health: StoreHealth, metrics: MetricsRegistry, next: (any RequestResponder)? = nil) {
        self.health = health
        self.metrics = metrics
        self.next = next
    }

    package func respond(to request: GatewayRequest, body: RequestBody, writer: ResponseWriter) async {
        let isRead = request.method == "GET" || request.method == "HEAD"
        switch request.path {
        case "/livez" where isRead: Self.send(200, "ok\n", writer)
        case "/readyz" where isRead: Self.send(await health.checks(for: .write), writer)
        case "/readyz/read" where isRead: Self.send(await health.checks(for: .read), writer)
        case "/metrics" where isRead:
            Self.send(200, await metrics.render(), writer, type: "text/plain; version=0.0.4; charset=utf-8")
        default:
            guard let next else { return Self.send(404, "not found\n", writer) }
            await next.respond(to: request, body: body, writer: writer)
        }
    }

    private static func send(_ checks: [HealthCheck], _ writer: ResponseWriter) {
        let isReady = checks.allSatisfy(\.isPassing)
        let lines = checks.map { "[\($0.isPassing ? "+" : "-")] \($0.name): \($0.detail)\n" }
        send(isReady ? 200 : 503, lines.joined() + (isReady ? "ready\n" : "not ready\n"), writer)
    }

    private static func send(
        _ status: Int,
        _ text: String,
        _ writer: ResponseWriter,
        type: String = "text/plain; charset=utf-8"
    ) {
        let body = [UInt8](text.utf8)
        writer.send(
            ResponseHead(
                status: status,
                headers: [HeaderField("Content-Type", type), HeaderField("Cache-Control", "no-store")],
                contentLength: UInt64(body.count)
            ),
            body: body
        )
    }
}
