/// What a request is refused with: the code decides the status, the message says what is wrong.
///
/// Messages and details may hold names, keys and what the client sent, never secrets.
package struct S3Error: Error, Sendable, CustomStringConvertible {
    package let code: S3ErrorCode
    package let message: String
    /// Further elements of the error document, in order: `("ArgumentName", "max-keys")`.
    package var details: [(name: String, value: String)]
    /// Further headers of the response: `("retry-after", "1")`.
    package var headers: [(name: String, value: String)]

    /// - Parameter message: nil means the code's usual message.
    package init(
        _ code: S3ErrorCode,
        _ message: String? = nil,
        details: [(name: String, value: String)] = [],
        headers: [(name: String, value: String)] = []
    ) {
        self.code = code
        self.message = message ?? code.message
        self.details = details
        self.headers = headers
    }

    package var status: Int { code.status }

    package var description: String { "\(code.rawValue): \(message)" }
}

extension S3Error {
    /// S3 names the argument and repeats its value.
    package static func invalidArgument(_ message: String, name: String, value: String) -> S3Error {
        S3Error(
            .invalidArgument,
            message,
            details: [("ArgumentName", name), ("ArgumentValue", clipped(value))]
        )
    }

    /// S3 names the header that asks for something it does not do.
    package static func notImplemented(header: String) -> S3Error {
        S3Error(
            .notImplemented,
            "A header you provided implies functionality that is not implemented",
            details: [("Header", clipped(header))]
        )
    }

    /// What a client sent goes back to it in a bounded length.
    private static func clipped(_ text: String) -> String {
        text.utf8.count <= 1024 ? text : String(text.prefix(256)) + "…"
    }
}
