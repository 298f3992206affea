package import S3Protocol

/// A header line of a response.
package struct HeaderField: Hashable, Sendable {
    package let name: String
    package let value: String

    package init(_ name: String, _ value: String) {
        self.name = name
        self.value = value
    }
}

/// The head of a request, whose framing is beyond doubt.
package struct GatewayRequest: Sendable {
    /// How the body is delimited.
    package enum Framing: Hashable, Sendable {
        case none
        case length(UInt64)
        case chunked
    }

    package let method: String
    /// The path as received, percent-encoded; begins with a slash, or is `*`.
    package let path: String
    /// What follows the first question mark, as received.
    package let query: String?
    package let headers: HeaderList
    package let framing: Framing
    /// HTTP/1.0: no chunked responses, and the connection is closed unless the client asks otherwise.
    package let isVersion10: Bool
    /// Whether the connection may serve a further request.
    package let keepsAlive: Bool
    /// Whether the client waits for `100 Continue` before it sends the body, even an empty one.
    package let expectsContinue: Bool
    package internal(set) var isSecure = false
    package internal(set) var remoteAddress = ""

    /// The first value of a header whose name is given in lower case.
    package func header(_ name: String) -> String? { headers.first(name) }
}
