internal import NIOCore

/// Status and headers of a response. The server adds Date, Server, Connection and the framing.
package struct ResponseHead: Sendable {
    package var status: Int
    package var headers: [HeaderField]
    /// Bytes of the body: of the one that a GET would get, for HEAD. nil: sent in chunks until `finish()`.
    package var contentLength: UInt64?

    package init(status: Int, headers: [HeaderField] = [], contentLength: UInt64?) {
        self.status = status
        self.headers = headers
        self.contentLength = contentLength
    }
}

/// How a response's bytes are delimited.
enum ResponseFraming: Hashable {
    /// No body, whatever the head says: HEAD, 204, 304.
    case none
    case length(UInt64)
    case chunked
    /// HTTP/1.0 without a length: the end of the connection is the end of the body.
    case untilClose
}

extension ResponseHead {
    /// https://www.rfc-editor.org/rfc/rfc9112#section-6.3
    func framing(method: String, isVersion10: Bool) -> ResponseFraming {
        if method == "HEAD" || status == 204 || status == 304 || status < 200 { return .none }
        if let contentLength { return .length(contentLength) }
        return isVersion10 ? .untilClose : .chunked
    }

    func write(
        to buffer: inout ByteBuffer,
        framing: ResponseFraming,
        keepsAlive: Bool,
        isVersion10: Bool,
        serverName: String
    ) {
        buffer.writeString("HTTP/1.1 ")
        buffer.writeString(String(status))
        buffer.writeString(" ")
        buffer.writeString(Self.reason(status))
        buffer.writeString("\r\nDate: ")
        DateHeader.write(to: &buffer)
        buffer.writeString("\r\nServer: ")
        buffer.writeString(serverName)
        // What a client has stored is never anything but what it says it is.
        buffer.writeString("\r\nX-Content-Type-Options: nosniff\r\n")
        for field in headers {
            Self.writeClean(field.name, to: &buffer)
            buffer.writeString(": ")
            Self.writeClean(field.value, to: &buffer)
            buffer.writeString("\r\n")
        }
        if framing == .chunked {
            buffer.writeString("Transfer-Encoding: chunked\r\n")
        } else if let contentLength, status >= 200, status != 204, status != 304 || contentLength > 0 {
            buffer.writeString("Content-Length: ")
            buffer.writeString(String(contentLength))
            buffer.writeString("\r\n")
        }
        if !keepsAlive {
            buffer.writeString("Connection: close\r\n")
        } else if isVersion10 {
            buffer.writeString("Connection: keep-alive\r\n")
        }
        buffer.writeString("\r\n")
    }

    /// What was stored as metadata comes back as a header: it must not end the line, whatever it holds.
    private static func writeClean(_ text: String, to buffer: inout ByteBuffer) {
        let isClean = text.utf8.allSatisfy { $0 >= 0x20 && $0 != 0x7F || $0 == 0x09 }
        if isClean {
            buffer.writeString(text)
        } else {
            buffer.writeBytes(text.utf8.map { $0 >= 0x20 && $0 != 0x7F || $0 == 0x09 ? $0 : 0x20 })
        }
    }

    private static func reason(_ status: Int) -> String {
        switch status {
        case 100: "Continue"
        case 200: "OK"
        case 201: "Created"
        case 204: "No Content"
        case 206: "Partial Content"
        case 303: "See Other"
        case 304: "Not Modified"
        case 307: "Temporary Redirect"
        case 400: "Bad Request"
        case 403: "Forbidden"
        case 404: "Not Found"
        case 405: "Method Not Allowed"
        case 408: "Request Timeout"
        case 409: "Conflict"
        case 411: "Length Required"
        case 412: "Precondition Failed"
        case 413: "Content Too Large"
        case 414: "URI Too Long"
        case 416: "Range Not Satisfiable"
        case 417: "Expectation Failed"
        case 431: "Request Header Fields Too Large"
        case 500: "Internal Server Error"
        case 501: "Not Implemented"
        case 503: "Service Unavailable"
        case 505: "HTTP Version Not Supported"
        case 507: "Insufficient Storage"
        default: "Status"
        }
    }
}
