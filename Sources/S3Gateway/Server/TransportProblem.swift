/// Why a request was refused before any handler saw it, or why its body ended early.
package struct TransportProblem: Error, Hashable, Sendable, CustomStringConvertible {
    package enum Kind: String, Hashable, Sendable {
        /// Not HTTP, or HTTP in a shape that two parsers may read in two ways.
        case malformed
        case headersTooLarge
        case targetTooLong
        case unsupportedVersion
        /// A transfer coding other than chunked.
        case unsupportedCoding
        case unsupportedExpectation
        case headTimeout
        case tooManyConnections
        /// A local client of a user that is not served.
        case foreignUser
        case bodyTooLarge
        /// The body came slower than the least rate.
        case bodyTooSlow
        /// The client ended the connection before the body's end.
        case bodyTruncated
        case connectionLost
    }

    package let kind: Kind
    package let message: String

    package init(_ kind: Kind, _ message: String) {
        self.kind = kind
        self.message = message
    }

    package var description: String { "\(kind.rawValue): \(message)" }

    /// https://www.rfc-editor.org/rfc/rfc9110#section-15, https://www.rfc-editor.org/rfc/rfc6585#section-5
    package var status: Int {
        switch kind {
        case .malformed, .bodyTruncated: 400
        case .headersTooLarge: 431
        case .targetTooLong: 414
        case .unsupportedVersion: 505
        case .unsupportedCoding: 501
        case .unsupportedExpectation: 417
        case .headTimeout, .bodyTooSlow, .connectionLost: 408
        case .tooManyConnections: 503
        case .foreignUser: 403
        case .bodyTooLarge: 413
        }
    }
}
