internal import Observability
internal import S3Protocol
internal import StoreModel

/// What is remembered of a request for the logs. Without secrets: a query may hold a signature.
struct AccessRecord {
    let id: String
    let time: Timestamp
    private let request: GatewayRequest
    var api = "none"
    var account: String?
    var status = 0
    /// The error's code.
    var code: String?
    var nanoseconds: UInt64 = 0
    var receivedCount: UInt64 = 0
    var sentCount: UInt64 = 0

    var remoteAddress: String { request.remoteAddress }

    init(id: String, request: GatewayRequest, time: Timestamp) {
        self.id = id
        self.request = request
        self.time = time
    }

    func line() -> [UInt8] {
        var line = JSONLine()
        line.add("time", ISO8601.format(time))
        line.add("kind", "access")
        line.add("requestId", id)
        line.add("remote", request.remoteAddress)
        if let account { line.add("account", account) }
        line.add("api", api)
        line.add("method", request.method)
        line.add("path", request.path)
        line.add("status", Int64(status))
        if let code { line.add("code", code) }
        line.add("receivedBytes", Int64(clamping: receivedCount))
        line.add("sentBytes", Int64(clamping: sentCount))
        line.add("microseconds", Int64(clamping: nanoseconds / 1000))
        if let agent = request.header("user-agent") { line.add("agent", String(agent.prefix(200))) }
        return line.finished()
    }
}
