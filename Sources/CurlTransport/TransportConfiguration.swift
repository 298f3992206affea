/// How long the stages of a transfer may take.
package struct TransportTimeouts: Hashable, Sendable {
    /// From the attempt to connect, names and TLS included, until the request can be sent.
    package var connect: Duration
    /// From the end of the request until the answer begins.
    package var firstByte: Duration
    /// While bytes are on the way, in either direction: fewer than so many each second, over this time. Time in which
    /// this side holds the transfer back does not count.
    package var slowness: Duration
    package var bytesPerSecondMin: Int
    /// The whole transfer, waiting for a connection included; nil for no limit.
    package var total: Duration?

    package init(
        connect: Duration = .seconds(10),
        firstByte: Duration = .seconds(60),
        slowness: Duration = .seconds(30),
        bytesPerSecondMin: Int = 1024,
        total: Duration? = nil
    ) {
        self.connect = connect
        self.firstByte = firstByte
        self.slowness = slowness
        self.bytesPerSecondMin = bytesPerSecondMin
        self.total = total
    }
}

package struct TransportConfiguration: Sendable {
    package enum HTTPVersions: Sendable {
        case http1
        /// HTTP/2 where a TLS server offers it (ALPN), else HTTP/1.1.
        case negotiated
    }

    package var timeouts = TransportTimeouts()
    package var versions = HTTPVersions.negotiated
    /// Transfers at the same time, and with HTTP/1.1 connections; others wait.
    package var transferCountMax = 64
    package var transferCountPerHostMax = 16
    /// Beyond, a transfer is refused.
    package var waitingCountMax = 4096
    /// Bytes of one transfer that are held for its reader, and for the network, before the other side is held back.
    package var bufferSize = 1 << 20
    /// From this body length on, the server is asked before the body is sent.
    package var expectContinueLength: UInt64 = 1 << 20
    /// How long an answer to that is waited for; then the body is sent all the same.
    package var expectContinueWait: Duration = .seconds(1)
    /// Of a response's head.
    package var headSizeMax = 64 << 10
    package var headFieldCountMax = 256
    /// A PEM file that is trusted in place of the system's authorities. Verification can't be switched off.
    package var authorityFile: String?
    /// `http://host:port` or `socks5h://host:port`. The environment's proxies are not used.
    package var proxy: String?
    /// `host:port:address`: names that are not looked up, as in tests of what names may lead to.
    package var knownAddresses: [String] = []
    package var userAgent = "holdfast"

    package init() {}
}

/// What a transfer cost. Times are counted from its start on the network.
package struct TransferStatistics: Sendable {
    package var nameLookup: Duration = .zero
    package var connect: Duration = .zero
    package var handshake: Duration = .zero
    package var firstByte: Duration = .zero
    package var total: Duration = .zero
    package var bytesSent: UInt64 = 0
    package var bytesReceived: UInt64 = 0
    package var isReusedConnection = false
    /// `1.1`, `2`.
    package var version = ""
    /// Waiting for one of the transfers that may run at the same time.
    package var queueing: Duration = .zero
}
