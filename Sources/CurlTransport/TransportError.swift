/// Why a transfer gave no answer. What a server answered is never an error here, whatever its status.
///
/// Messages name hosts and what libcurl says, never headers, queries or bodies.
package struct TransportError: Error, Sendable, CustomStringConvertible {
    package struct Code: Hashable, Sendable, CustomStringConvertible {
        private enum Value: String {
            case invalidRequest, nameNotResolved, addressRefused, connectFailed, proxyFailed,
                certificateRejected
            case handshakeFailed, connectionLost, protocolViolation, bodyLengthMismatch, tooLarge, overloaded
            case connectTimedOut, firstByteTimedOut, tooSlow, timedOut, cancelled, shutDown, internalFault
        }

        private let value: Value

        /// The request can't be sent as it stands: a header with a line end, a target that is no path.
        package static let invalidRequest = Code(value: .invalidRequest)
        package static let nameNotResolved = Code(value: .nameNotResolved)
        /// The name leads where this request may not go.
        package static let addressRefused = Code(value: .addressRefused)
        package static let connectFailed = Code(value: .connectFailed)
        package static let proxyFailed = Code(value: .proxyFailed)
        /// The server's certificate is not one to be trusted, or the CA bundle can't be read.
        package static let certificateRejected = Code(value: .certificateRejected)
        package static let handshakeFailed = Code(value: .handshakeFailed)
        /// Reset, closed half-way, or closed without an answer.
        package static let connectionLost = Code(value: .connectionLost)
        /// What came is not HTTP, or beyond the limits of a response's head.
        package static let protocolViolation = Code(value: .protocolViolation)
        /// The source of the body gave more or fewer bytes than were declared; the server has not got it whole.
        package static let bodyLengthMismatch = Code(value: .bodyLengthMismatch)
        /// A body that was to be collected is larger than allowed.
        package static let tooLarge = Code(value: .tooLarge)
        /// Too many transfers wait already.
        package static let overloaded = Code(value: .overloaded)
        package static let connectTimedOut = Code(value: .connectTimedOut)
        package static let firstByteTimedOut = Code(value: .firstByteTimedOut)
        /// Slower than the configured minimum for the configured time.
        package static let tooSlow = Code(value: .tooSlow)
        /// The limit of the whole transfer.
        package static let timedOut = Code(value: .timedOut)
        package static let cancelled = Code(value: .cancelled)
        package static let shutDown = Code(value: .shutDown)
        package static let internalFault = Code(value: .internalFault)

        package var description: String { value.rawValue }
    }

    package let code: Code
    package let message: String
    /// False: no byte of the request has left, so that it can't have had an effect.
    package let requestMayHaveArrived: Bool

    package init(_ code: Code, _ message: String, requestMayHaveArrived: Bool = false) {
        self.code = code
        self.message = message
        self.requestMayHaveArrived = requestMayHaveArrived
    }

    /// Whether the same request may fare better later. Whether it may be sent twice is for the caller to know.
    package var isTransient: Bool {
        switch code {
        case .nameNotResolved, .connectFailed, .proxyFailed, .handshakeFailed, .connectionLost, .overloaded,
            .connectTimedOut, .firstByteTimedOut, .tooSlow, .timedOut:
            true
        default: false
        }
    }

    package var description: String { "\(code): \(message)" }
}
