internal import S3Protocol

/// Reads the head of a request, strictly: what two parsers may read in two ways is refused, because the difference
/// is what request smuggling lives on.
/// https://www.rfc-editor.org/rfc/rfc9112#section-11.2
///
/// Refused with 400: bare CR or LF, obsolete folding, white space before a colon, control characters, several or odd
/// lengths, a length beside a transfer coding, a transfer coding in HTTP/1.0, no or several Host lines.
struct RequestHeadParser {
    private let limits: ServerLimits

    init(limits: ServerLimits) { self.limits = limits }

    /// - Parameter bytes: from the first byte of the request line up to the end of the empty line.
    func parse(_ bytes: Span<UInt8>) throws(TransportProblem) -> GatewayRequest {
        var position = 0
        let line = try nextLine(bytes, from: &position)
        let (method, target, isVersion10) = try requestLine(bytes, line)
        var headers = HeaderList()
        headers.reserveCapacity(16)
        while true {
            let line = try nextLine(bytes, from: &position)
            if line.isEmpty { break }
            guard headers.fields.count < limits.headerCountMax else {
                throw TransportProblem(
                    .headersTooLarge,
                    "The request has more than \(limits.headerCountMax) headers."
                )
            }
            let field = try Self.field(bytes, line)
            headers.append(field.name, field.value)
        }
        let (path, query, authority) = try split(target: target, method: method)
        return try request(method, path, query, authority, headers, isVersion10)
    }

    /// The range of the line that starts at `position`, without its CR LF.
    private func nextLine(_ bytes: Span<UInt8>, from position: inout Int) throws(TransportProblem) -> Range<
        Int
    > {
        let start = position
        var index = start
        while index < bytes.count {
            let byte = bytes[index]
            if byte == UInt8(ascii: "\n") { throw malformed("A line ends without a carriage return.") }
            if byte == UInt8(ascii: "\r") {
                guard index + 1 < bytes.count, bytes[index + 1] == UInt8(ascii: "\n") else {
                    throw malformed("A carriage return stands alone.")
                }
                position = index + 2
                return start..<index
            }
            index += 1
        }
        throw malformed("The head has no end.")
    }

    private func requestLine(
        _ bytes: Span<UInt8>,
        _ line: Range<Int>
    ) throws(TransportProblem) -> (method: String, target: String, isVersion10: Bool) {
        var index = line.lowerBound
        while index < line.upperBound, bytes[index] != UInt8(ascii: " ") {
            guard Self.isToken(bytes[index]) else { throw malformed("The method is not a token.") }
            index += 1
        }
        let method = line.lowerBound..<index
        guard !method.isEmpty, method.count <= 32 else { throw malformed("There is no method.") }
        let targetStart = index + 1
        index = targetStart
        while index < line.upperBound, bytes[index] != UInt8(ascii: " ") {
            guard bytes[index] > 0x20, bytes[index] != 0x7F else {
                throw malformed("The request target holds a control character.")
            }
            index += 1
        }
        guard targetStart < index else { throw malformed("There is no request target.") }
        guard index - targetStart <= limits.targetSizeMax else { throw targetTooLong }
        let target = targetStart..<index
        let version = (index + 1)..<max(index + 1, line.upperBound)
        let isVersion10 = try minorVersion(bytes, version) == 0
        guard let text = Self.unicode(bytes, target) else {
            throw malformed("The request target is not UTF-8.")
        }
        return (Self.text(bytes, method), text, isVersion10)
    }

    private func minorVersion(_ bytes: Span<UInt8>, _ range: Range<Int>) throws(TransportProblem) -> UInt8 {
        let name: [UInt8] = [0x48, 0x54, 0x54, 0x50, 0x2F]  // HTTP/
        guard range.count == 8 else { throw malformed("The request line has no HTTP version.") }
        for (offset, byte) in name.enumerated() where bytes[range.lowerBound + offset] != byte {
            throw malformed("The request line has no HTTP version.")
        }
        let (major, dot, minor) = (
            bytes[range.lowerBound + 5], bytes[range.lowerBound + 6], bytes[range.lowerBound + 7]
        )
        guard dot == UInt8(ascii: "."), Self.isDigit(major), Self.isDigit(minor) else {
            throw malformed("The request line has no HTTP version.")
        }
        guard major == UInt8(ascii: "1") else {
            throw TransportProblem(.unsupportedVersion, "This server speaks HTTP/1.1.")
        }
        return minor - UInt8(ascii: "0")
    }

    /// One header or trailer line.
    static func field(_ bytes: Span<UInt8>, _ line: Range<Int>) throws(TransportProblem) -> HeaderField {
        var index = line.lowerBound
        var hasUpperCase = false
        while index < line.upperBound, bytes[index] != UInt8(ascii: ":") {
            let byte = bytes[index]
            // White space here is obsolete folding, or a name that some servers trim and others don't.
            // https://www.rfc-editor.org/rfc/rfc9112#section-5.1
            guard isToken(byte) else {
                throw TransportProblem(.malformed, "A header name is not a token.")
            }
            if byte >= UInt8(ascii: "A"), byte <= UInt8(ascii: "Z") { hasUpperCase = true }
            index += 1
        }
        guard index > line.lowerBound, index < line.upperBound else {
            throw TransportProblem(.malformed, "A header line has no name or no colon.")
        }
        let name = line.lowerBound..<index
        var (start, end) = (index + 1, line.upperBound)
        while start < end, isBlank(bytes[start]) { start += 1 }
        while end > start, isBlank(bytes[end - 1]) { end -= 1 }
        for index in start..<end {
            let byte = bytes[index]
            guard byte >= 0x20 && byte != 0x7F || byte == UInt8(ascii: "\t") else {
                throw TransportProblem(.malformed, "A header value holds a control character.")
            }
        }
        return HeaderField(
            hasUpperCase ? lowerCased(bytes, name) : text(bytes, name),
            text(bytes, start..<end)
        )
    }

    /// The forms of a request target. https://www.rfc-editor.org/rfc/rfc9112#section-3.2
    private func split(
        target: String,
        method: String
    ) throws(TransportProblem) -> (path: String, query: String?, authority: String?) {
        var rest = Substring(target)
        var authority: String?
        if !target.utf8.starts(with: "/".utf8) {
            if target == "*", method == "OPTIONS" { return ("*", nil, nil) }
            let scheme = target.prefix(8).lowercased()
            guard scheme.hasPrefix("http://") || scheme.hasPrefix("https://") else {
                throw malformed("The request target is neither a path nor a URL.")
            }
            rest = target.dropFirst(scheme.hasPrefix("https://") ? 8 : 7)
            let end = rest.utf8.firstIndex { $0 == UInt8(ascii: "/") || $0 == UInt8(ascii: "?") }
            authority = String(rest[..<(end ?? rest.endIndex)])
            guard authority?.isEmpty == false else { throw malformed("The request target names no host.") }
            rest = rest[(end ?? rest.endIndex)...]
        }
        let mark = rest.utf8.firstIndex(of: UInt8(ascii: "?"))
        let path = String(rest[..<(mark ?? rest.endIndex)])
        let query = mark.map { String(rest[rest.utf8.index(after: $0)...]) }
        return (path.isEmpty ? "/" : path, query, authority)
    }

    private func request(
        _ method: String,
        _ path: String,
        _ query: String?,
        _ authority: String?,
        _ fields: HeaderList,
        _ isVersion10: Bool
    ) throws(TransportProblem) -> GatewayRequest {
        var framing = MessageFraming()
        for field in fields.fields { try framing.note(field.name, field.value) }
        let body = try framing.body(isVersion10: isVersion10)
        guard framing.hostCount == 1 || isVersion10 && framing.hostCount == 0 else {
            throw malformed("There must be one Host header.")
        }
        var headers = fields
        // The URL's host wins over the header. https://www.rfc-editor.org/rfc/rfc9112#section-3.2.2
        if let authority {
            headers.set("host", authority)
        }
        return GatewayRequest(
            method: method,
            path: path,
            query: query,
            headers: headers,
            framing: body,
            isVersion10: isVersion10,
            keepsAlive: isVersion10
                ? framing.asksToKeepAlive && !framing.asksToClose : !framing.asksToClose,
            // A 1.0 client does not wait. https://www.rfc-editor.org/rfc/rfc9110#section-10.1.1
            expectsContinue: framing.expectsContinue && !isVersion10
        )
    }

    private var targetTooLong: TransportProblem {
        TransportProblem(
            .targetTooLong,
            "The request target has more than \(limits.targetSizeMax) bytes."
        )
    }

    private func malformed(_ message: String) -> TransportProblem { TransportProblem(.malformed, message) }
}

/// What the headers say about where the body ends, and about the connection.
private struct MessageFraming {
    var hostCount = 0
    var asksToClose = false
    var asksToKeepAlive = false
    var expectsContinue = false
    private var length: UInt64?
    private var isChunked = false

    mutating func note(_ name: String, _ value: String) throws(TransportProblem) {
        switch name {
        case "host": hostCount += 1
        case "content-length": try noteLength(value)
        case "transfer-encoding":
            guard !isChunked else {
                throw TransportProblem(.malformed, "The transfer coding is given twice.")
            }
            guard value.lowercased() == "chunked" else {
                throw TransportProblem(.unsupportedCoding, "The only transfer coding is chunked.")
            }
            isChunked = true
        case "connection":
            for option in value.lowercased().split(separator: ",") {
                switch option.trimmed {
                case "close": asksToClose = true
                case "keep-alive": asksToKeepAlive = true
                default: break
                }
            }
        case "expect":
            guard value.lowercased() == "100-continue" else {
                throw TransportProblem(
                    .unsupportedExpectation,
                    "The only expectation that can be met is 100-continue."
                )
            }
            expectsContinue = true
        default: break
        }
    }

    /// Two lengths are refused even when they agree: a proxy in front may have joined or dropped one.
    private mutating func noteLength(_ text: String) throws(TransportProblem) {
        guard length == nil else {
            throw TransportProblem(.malformed, "The length is given twice.")
        }
        guard !text.isEmpty, text.utf8.count <= 19,
            text.utf8.allSatisfy({ $0 >= UInt8(ascii: "0") && $0 <= UInt8(ascii: "9") }),
            let value = UInt64(text)
        else { throw TransportProblem(.malformed, "The length is not a decimal number.") }
        length = value
    }

    func body(isVersion10: Bool) throws(TransportProblem) -> GatewayRequest.Framing {
        if isChunked {
            // https://www.rfc-editor.org/rfc/rfc9112#section-6.1
            guard length == nil else {
                throw TransportProblem(.malformed, "A length and a transfer coding exclude each other.")
            }
            guard !isVersion10 else {
                throw TransportProblem(.malformed, "HTTP/1.0 has no transfer coding.")
            }
            return .chunked
        }
        guard let length, length > 0 else { return .none }
        return .length(length)
    }
}

extension Substring {
    fileprivate var trimmed: Substring {
        var rest = self
        while let first = rest.utf8.first, first == 0x20 || first == 0x09 { rest = rest.dropFirst() }
        while let last = rest.utf8.last, last == 0x20 || last == 0x09 { rest = rest.dropLast() }
        return rest
    }
}

// MARK: Bytes

extension RequestHeadParser {
    /// A token's characters. https://www.rfc-editor.org/rfc/rfc9110#section-5.6.2
    static func isToken(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "_"), UInt8(ascii: "."),
            UInt8(ascii: "!"), UInt8(ascii: "#"), UInt8(ascii: "$"), UInt8(ascii: "%"), UInt8(ascii: "&"),
            UInt8(ascii: "'"), UInt8(ascii: "*"), UInt8(ascii: "+"), UInt8(ascii: "^"), UInt8(ascii: "`"),
            UInt8(ascii: "|"), UInt8(ascii: "~"):
            true
        default: false
        }
    }

    static func isDigit(_ byte: UInt8) -> Bool { byte >= UInt8(ascii: "0") && byte <= UInt8(ascii: "9") }

    static func isBlank(_ byte: UInt8) -> Bool { byte == UInt8(ascii: " ") || byte == UInt8(ascii: "\t") }

    /// The bytes as UTF-8, if they are.
    static func unicode(_ bytes: Span<UInt8>, _ range: Range<Int>) -> String? {
        guard let valid = try? UTF8Span(validating: bytes.extracting(range)) else { return nil }
        return String(copying: valid)
    }

    /// The bytes as UTF-8 where they are, else each byte as the character of its number, so that none is lost.
    static func text(_ bytes: Span<UInt8>, _ range: Range<Int>) -> String {
        if let text = unicode(bytes, range) { return text }
        var text = ""
        for index in range { text.unicodeScalars.append(Unicode.Scalar(bytes[index])) }
        return text
    }

    private static func lowerCased(_ bytes: Span<UInt8>, _ range: Range<Int>) -> String {
        String(unsafeUninitializedCapacity: range.count) { target in
            for (offset, index) in range.enumerated() {
                let byte = bytes[index]
                let isUpper = byte >= UInt8(ascii: "A") && byte <= UInt8(ascii: "Z")
                target.initializeElement(at: offset, to: isUpper ? byte | 0x20 : byte)
            }
            return range.count
        }
    }
}
