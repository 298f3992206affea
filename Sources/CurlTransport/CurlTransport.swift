/// HTTP as a client, by libcurl: the only way in which bytes leave for another server.
///
/// Connections are kept and shared by all transfers of one transport. Nothing is logged; nothing is taken from the
/// environment; TLS certificates are always verified; redirects are answers.
package final class CurlTransport: Sendable {
    private let loop: TransferLoop
    private let configuration: TransportConfiguration

    /// - Throws: when libcurl or the thread can't be started.
    package init(_ configuration: TransportConfiguration = TransportConfiguration()) throws(TransportError) {
        self.configuration = configuration
        loop = try TransferLoop(configuration)
        try loop.launch()
    }

    deinit { loop.stop() }

    /// Ends all transfers, and the thread after them.
    package func shutdown() { loop.stop() }

    /// Sends a request and hands its answer to `receive` as soon as the head is there.
    ///
    /// The body is asked for by this task, between the pieces it waits for the network. When the server answers before
    /// it has the whole body, the rest is not sent. When `receive` returns before the end of the answer, the transfer
    /// ends there, and its connection with it. Cancelling the task ends the transfer at once.
    /// - Throws: `TransportError`, what the body's source throws, or what `receive` throws.
    package func perform<Value>(
        _ request: HTTPClientRequest,
        body: HTTPRequestBody = .none,
        _ receive: (HTTPClientResponse) async throws -> Value
    ) async throws -> Value {
        try request.check()
        try Task.checkCancellation()
        let exchange = Exchange(body: body, bufferSize: configuration.bufferSize)
        let start = TransferStart(
            request: request,
            exchange: exchange,
            bodyLength: body.length,
            submitted: .now
        )
        try loop.submit(start)
        return try await withTaskCancellationHandler {
            do {
                if case .stream(let length, let next) = body {
                    try await pump(length, next, exchange)
                }
                let response = HTTPClientResponse(
                    head: try await exchange.head(),
                    exchange: exchange,
                    loop: loop
                )
                let value = try await receive(response)
                if !exchange.hasEnded { loop.abandon(exchange, Self.abandoned) }
                return value
            } catch {
                if !exchange.hasEnded { loop.abandon(exchange, Self.abandoned) }
                throw error
            }
        } onCancel: {
            loop.abandon(
                exchange,
                TransportError(.cancelled, "The transfer was cancelled.", requestMayHaveArrived: true)
            )
        }
    }

    private static let abandoned = TransportError(
        .cancelled,
        "The transfer was given up.",
        requestMayHaveArrived: true
    )

    /// Brings the body from its source to the transfer, one piece ahead: the last one is sent when the source has
    /// ended with the right length.
    private func pump(
        _ length: UInt64,
        _ next: () async throws -> [UInt8]?,
        _ exchange: Exchange
    ) async throws {
        var count: UInt64 = 0
        var held: [UInt8] = []
        while let piece = try await next() {
            guard !piece.isEmpty else { continue }
            count += UInt64(piece.count)
            guard count <= length else { throw Self.mismatch(length, "more") }
            if !held.isEmpty {
                guard await exchange.waitForRoom() else { return }
                if exchange.send(held, isLast: false) { loop.resume(exchange) }
            }
            held = piece
            if exchange.hasEnded { return }
        }
        guard count == length else { throw Self.mismatch(length, "\(count)") }
        guard await exchange.waitForRoom() else { return }
        if exchange.send(held, isLast: true) { loop.resume(exchange) }
    }

    private static func mismatch(_ length: UInt64, _ given: String) -> TransportError {
        TransportError(
            .bodyLengthMismatch,
            "The body was to have \(length) bytes; its source gave \(given).",
            requestMayHaveArrived: false
        )
    }
}

extension HTTPRequestBody {
    fileprivate var length: UInt64? {
        switch self {
        case .none: nil
        case .bytes(let bytes): UInt64(bytes.count)
        case .stream(let length, _): length
        }
    }
}

/// An answer, while it comes in. Good inside the closure that got it, for one task.
package struct HTTPClientResponse: Sendable {
    package let head: HTTPResponseHead
    private let exchange: Exchange
    private let loop: TransferLoop

    init(head: HTTPResponseHead, exchange: Exchange, loop: TransferLoop) {
        self.head = head
        self.exchange = exchange
        self.loop = loop
    }

    /// The next bytes of the body, as many as have come: up to the transport's buffer. Nil after a whole body.
    /// - Throws: `TransportError` when the rest does not come. What was given until then is not to be trusted.
    package func next() async throws -> [UInt8]? {
        guard let (bytes, wasFull) = try await exchange.nextPiece() else { return nil }
        if wasFull { loop.resume(exchange) }
        return bytes
    }

    /// The whole body.
    /// - Throws: `.tooLarge` when it has more than `countMax` bytes.
    package func collect(upTo countMax: Int) async throws -> [UInt8] {
        var body: [UInt8] = []
        while let bytes = try await next() {
            guard body.count + bytes.count <= countMax else {
                throw TransportError(
                    .tooLarge,
                    "The body of an answer has more than \(countMax) bytes.",
                    requestMayHaveArrived: true
                )
            }
            if body.isEmpty { body = bytes } else { body += bytes }
        }
        return body
    }

    /// Known when `next()` has given nil.
    package var statistics: TransferStatistics? { exchange.statistics }
}
