/// The body of one request, pulled by its handler. Used by one task.
package final class RequestBody {
    private let connection: Connection
    private let request: GatewayRequest
    private var hasContinued = false
    /// Bytes that were handed over.
    package private(set) var receivedCount: UInt64 = 0

    init(_ connection: Connection, of request: GatewayRequest) {
        self.connection = connection
        self.request = request
    }

    /// The declared length on the wire; nil when the body comes in chunks.
    package var contentLength: UInt64? {
        switch request.framing {
        case .none: 0
        case .length(let length): length
        case .chunked: nil
        }
    }

    /// Whether the client has gone, as far as can be seen: it sends no more.
    package var hasLeft: @Sendable () -> Bool { { [connection] in connection.hasLeft } }

    /// Whether the client still waits to be told that its body is wanted.
    var isWaitedFor: Bool { request.expectsContinue && !hasContinued }

    /// Tells a client that waits for `100 Continue` to go on. `next()` does it as well.
    package func acceptBody() {
        guard isWaitedFor else { return }
        hasContinued = true
        connection.sendContinue()
    }

    /// The next piece, of 256 KiB to 1 MiB but for the last one; nil at the end.
    /// - Throws: when the body is cut short, malformed or too slow. Nothing of it may become visible then.
    package func next() async throws(TransportProblem) -> [UInt8]? {
        acceptBody()
        let piece = try await connection.nextPiece()
        receivedCount += UInt64(piece?.count ?? 0)
        return piece
    }
}
