import Logging
import S3Gateway
import StoreTestKit
import Synchronization
import Testing

/// Answers by path:
///
///     /echo       the body, in one answer
///     /count      how many bytes the body has
///     /ignore     without reading the body
///     /late       waits for the test's word, then answers
///     /fail       begins an answer of 100 bytes and gives up after 10
///     /abort      cuts the connection, and does not know it
///     /chunked    an answer without a length
///     /bytes/N    N bytes in pieces of up to 1 MiB
///     /placed/N   N bytes that count up, put where they are sent from: up to 4,096 in one answer, more in pieces; with
///                 `tall` as query under a long head, with `chunked` without a length
///     others      "hello"
final class TestResponder: RequestResponder {
    struct Seen: Sendable {
        var paths: [String] = []
        var problems: [TransportProblem.Kind] = []
        var cancelledCount = 0
        var heads: [GatewayRequest] = []
    }

    private let state = Mutex(Seen())
    private let gate = Gate()

    var seen: Seen { state.withLock { $0 } }

    /// Lets `/late` answer.
    func open() { gate.open() }

    /// Returns when a request for this path is being answered.
    func waitUntilSeen(_ path: String) async throws {
        try await eventually { self.seen.paths.contains(path) }
    }

    func respond(to request: GatewayRequest, body: RequestBody, writer: ResponseWriter) async {
        state.withLock {
            $0.paths.append(request.path)
            $0.heads.append(request)
        }
        do throws(TransportProblem) {
            try await answer(request, body, writer)
        } catch {
            state.withLock { $0.problems.append(error.kind) }
            if !writer.hasStarted { send("\(error.kind.rawValue)", writer, status: error.status) }
        }
    }

    private func answer(
        _ request: GatewayRequest,
        _ body: RequestBody,
        _ writer: ResponseWriter
    ) async throws(TransportProblem) {
        switch request.path {
        case "/echo":
            var bytes: [UInt8] = []
            while let piece = try await body.next() { bytes += piece }
            writer.send(ResponseHead(status: 200, contentLength: nil), body: bytes)
        case "/count":
            var count = 0
            while let piece = try await body.next() { count += piece.count }
            send("\(count)", writer)
        case "/ignore": send("ignored", writer, status: 403)
        case "/late":
            await withTaskCancellationHandler {
                await gate.wait()
            } onCancel: {
                state.withLock { $0.cancelledCount += 1 }
                gate.open()
            }
            send("late", writer)
        case "/fail":
            writer.start(ResponseHead(status: 200, contentLength: 100))
            try await writer.write([UInt8](repeating: 120, count: 10))
        case "/chunked":
            writer.start(ResponseHead(status: 200, contentLength: nil))
            try await writer.write([UInt8]("one".utf8))
            try await writer.write([UInt8]("two".utf8))
            writer.finish()
        case "/silent": return
        case "/abort":
            writer.abort()
            send("too late", writer)
            try await writer.write([1])
        case let path where path.hasPrefix("/placed/"):
            try await place(Int(path.dropFirst(8)) ?? 0, request.query, writer)
        default:
            guard request.path.hasPrefix("/bytes/"), let count = Int(request.path.dropFirst(7)) else {
                return send("hello", writer)
            }
            writer.start(ResponseHead(status: 200, contentLength: UInt64(count)))
            let piece = [UInt8](repeating: 120, count: 1 << 20)
            var rest = count
            while rest > 0 {
                try await writer.write(rest < piece.count ? [UInt8](piece[..<rest]) : piece)
                rest -= min(rest, piece.count)
            }
            writer.finish()
        }
    }

    private func place(
        _ count: Int,
        _ query: String?,
        _ writer: ResponseWriter
    ) async throws(TransportProblem) {
        var head = ResponseHead(status: 200, contentLength: query == "chunked" ? nil : UInt64(count))
        if query == "tall" {
            head.headers.append(HeaderField("x-tall", String(repeating: "t", count: 5000)))
        }
        if count <= 4096 {
            _ = writer.place(count) { Self.fill($0, from: 0) }
            return writer.sendPlaced(head)
        }
        var start = 0
        while start < count {
            let size = min(50_000, count - start)
            // What is no good leaves nothing behind.
            let isPlaced = writer.place(size) { _ in false }
            if isPlaced || !writer.place(size, { Self.fill($0, from: start) }) { return writer.abort() }
            if start == 0 { writer.start(head) }
            try await writer.writePlaced()
            start += size
        }
        writer.finish()
    }

    private static func fill(_ target: UnsafeMutableRawBufferPointer, from start: Int) -> Bool {
        for index in target.indices { target[index] = UInt8(truncatingIfNeeded: (start + index) % 251) }
        return true
    }

    private func send(_ text: String, _ writer: ResponseWriter, status: Int = 200) {
        writer.send(ResponseHead(status: status, contentLength: nil), body: [UInt8](text.utf8))
    }
}

/// Returns when a condition holds that another task brings about.
func eventually(_ condition: @Sendable () -> Bool) async throws {
    for _ in 0..<20_000 {
        if condition() { return }
        try await Task.sleep(for: .milliseconds(1))
    }
    throw NeverHappened()
}

struct NeverHappened: Error {}

/// A running server for one test.
struct ServerFixture: Sendable {
    let port: Int
    let responder: TestResponder
    let server: S3Server

    /// Runs `body` with a server, and the blocking calls of clients on threads of their own.
    static func run(
        _ adjust: (inout ServerLimits) -> Void = { _ in },
        _ body: @Sendable (ServerFixture) async throws -> Void
    ) async throws {
        var limits = ServerLimits.standard
        limits.drainLead = .zero
        limits.tick = .milliseconds(5)
        adjust(&limits)
        let responder = TestResponder()
        let (ports, continuation) = AsyncStream.makeStream(of: Int.self)
        var configuration = S3Server.Configuration(
            addresses: [.network(host: "127.0.0.1", port: 0)],
            limits: limits
        )
        configuration.loopCount = 1
        let server = S3Server(
            configuration,
            responder: responder,
            logger: Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() }),
            onReady: { addresses in
                if case .network(_, let port)? = addresses.first { continuation.yield(port) }
            }
        )
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await server.run() }
            for await port in ports {
                do {
                    try await body(ServerFixture(port: port, responder: responder, server: server))
                } catch {
                    responder.open()
                    server.stop()
                    throw error
                }
                break
            }
            responder.open()
            server.stop()
            try await group.waitForAll()
        }
    }

    /// Runs blocking calls of a client.
    func client<Value: Sendable>(
        receiveBufferSize: Int32? = nil,
        _ body: @escaping @Sendable (RawClient) throws -> Value
    ) async throws -> Value {
        try await RawClient.run(port: port, receiveBufferSize: receiveBufferSize, body)
    }

    /// Sends bytes and checks the status of the answer.
    func expect(_ status: Int, for text: String) async throws {
        let answer = try await exchange(text)
        #expect(answer?.status == status, "\(text.prefix(200))")
    }

    /// Sends bytes and returns the answer, up to the end of the connection.
    func exchange(_ text: String) async throws -> RawResponse? {
        try await client { client in
            try client.send(text)
            return RawResponse(try client.receiveAll())
        }
    }
}
