/// The head of a request as it came, independent of the HTTP library.
package struct S3RequestHead: Sendable {
    /// In upper case, as HTTP's methods are.
    package var method: String
    /// Percent-encoded as received, from the first `/` up to the `?`.
    package var path: String
    /// Percent-encoded as received, without the `?`; nil when there is none.
    package var query: String?
    package var headers: HeaderList
    /// Whether the request came by TLS.
    package var isSecure: Bool

    package init(
        method: String,
        path: String,
        query: String? = nil,
        headers: HeaderList,
        isSecure: Bool = false
    ) {
        self.method = method
        self.path = path
        self.query = query
        self.headers = headers
        self.isSecure = isSecure
    }

    /// - Parameter target: path and query as they stand in the request line.
    package init(method: String, target: String, headers: HeaderList, isSecure: Bool = false) {
        if let mark = target.utf8.firstIndex(of: UInt8(ascii: "?")) {
            path = String(target[..<mark])
            query = String(target[target.utf8.index(after: mark)...])
        } else {
            path = target
            query = nil
        }
        self.method = method
        self.headers = headers
        self.isSecure = isSecure
    }
}
