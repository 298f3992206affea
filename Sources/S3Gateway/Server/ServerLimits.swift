/// Every bound of the HTTP transport, in one place, with its reason.
package struct ServerLimits: Sendable {
    /// A request line holds a key of 1,024 bytes, each percent-encoded, and a presigned query with a session token.
    package var targetSizeMax = 16 << 10
    /// The request line and all header lines together.
    package var headSizeMax = 64 << 10
    package var headerCountMax = 128
    /// One line that announces a chunk of a chunked body, with its extensions.
    package var chunkLineSizeMax = 1 << 10
    /// Trailers of a chunked body: read, and dropped.
    package var trailerSizeMax = 8 << 10
    /// A body on the wire: the largest object with room for the framing of signed chunks.
    package var bodySizeMax: UInt64 = 6 << 40
    /// Connections at a time. Beyond, a new one is answered 503; beyond a tenth more it is closed unanswered.
    package var connectionCountMax = 4096
    /// A body is handed over in pieces of at least this size, but for the last one.
    package var bodyPieceSize = 256 << 10
    /// Body bytes that wait for the handler: beyond, the socket is not read.
    package var bodyBacklogMax = 512 << 10
    /// Bytes of later requests that wait while one is answered: beyond, the socket is not read.
    package var pipelineBacklogMax = 64 << 10
    /// One read of the socket.
    package var readSizeMin = 2 << 10
    package var readSizeMax = 256 << 10
    /// Response bytes that wait for the socket: above the upper mark the handler waits, below the lower it goes on.
    package var writeBacklogLow = 256 << 10
    package var writeBacklogHigh = 1 << 20
    /// What is left of a body that the handler did not want is read and dropped up to here; beyond, the connection
    /// is closed after the answer.
    package var discardedBodySizeMax: UInt64 = 256 << 10
    /// How long a connection may be without a request.
    package var idleTimeout: Duration = .seconds(75)
    /// From the first byte of a head to its last.
    package var headTimeout: Duration = .seconds(20)
    /// A body, or the reading of a response, must progress by `rateMin` bytes a second over `rateWindow`.
    package var rateMin = 1 << 10
    package var rateWindow: Duration = .seconds(30)
    /// How long a closing connection waits for its client to have read the answer.
    package var lingerTimeout: Duration = .seconds(2)
    /// How often the times above are looked at.
    package var tick: Duration = .seconds(1)
    /// On shutdown: how long the server still accepts after readiness has failed, so that balancers notice.
    package var drainLead: Duration = .seconds(1)
    /// On shutdown: how long requests in flight may take.
    package var drainDeadline: Duration = .seconds(25)

    package init() {}

    package static let standard = ServerLimits()
}
