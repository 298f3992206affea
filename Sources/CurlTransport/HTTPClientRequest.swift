/// A server: scheme, host and port, nothing else. User names and passwords have no place in it.
package struct HTTPOrigin: Hashable, Sendable, CustomStringConvertible {
    package enum Scheme: String, Sendable {
        case http, https

        package var defaultPort: UInt16 { self == .http ? 80 : 443 }
    }

    package let scheme: Scheme
    /// In lower case; an IPv6 address in its brackets.
    package let host: String
    package let port: UInt16

    /// - Throws: `.invalidRequest` for a host that could be read as anything but a host.
    package init(_ scheme: Scheme, host: String, port: UInt16? = nil) throws(TransportError) {
        let lower = host.lowercased()
        guard Self.isHost(lower) else {
            throw TransportError(.invalidRequest, "'\(host.prefix(255))' is not the name of a host.")
        }
        self.scheme = scheme
        self.host = lower
        self.port = port ?? scheme.defaultPort
    }

    /// Parses `https://host:port`, perhaps with a slash behind it, and returns what stands behind the origin.
    /// - Throws: `.invalidRequest` when there is anything else: another scheme, a user, no host, a port that is none.
    package static func parse(_ url: String) throws(TransportError) -> (origin: HTTPOrigin, rest: String) {
        guard url.utf8.count <= 8192, let mark = url.range(ofASCII: "://"),
            let scheme = Scheme(rawValue: url[..<mark.lowerBound].lowercased())
        else { throw TransportError(.invalidRequest, "A URL begins with http:// or https://.") }
        let behind = url[mark.upperBound...]
        let end = behind.utf8.firstIndex { [0x2F, 0x3F, 0x23].contains($0) } ?? behind.endIndex
        let authority = behind[..<end]
        guard !authority.utf8.contains(UInt8(ascii: "@")) else {
            throw TransportError(.invalidRequest, "A URL may not hold a user name or a password.")
        }
        var host = authority
        var port: UInt16?
        if let colon = authority.utf8.lastIndex(of: UInt8(ascii: ":")),
            authority.utf8.last != UInt8(ascii: "]")
        {
            let digits = authority[authority.utf8.index(after: colon)...]
            guard !digits.isEmpty, digits.utf8.allSatisfy({ (0x30...0x39).contains($0) }),
                let number = UInt16(digits), number > 0
            else {
                throw TransportError(.invalidRequest, "The port of the URL is not a number of 1 to 65535.")
            }
            port = number
            host = authority[..<colon]
        }
        return (try HTTPOrigin(scheme, host: String(host), port: port), String(behind[end...]))
    }

    /// `host`, with the port where it is not the scheme's own: as it stands in the Host header.
    package var authority: String { port == scheme.defaultPort ? host : "\(host):\(port)" }

    package var description: String { "\(scheme.rawValue)://\(authority)" }

    private static func isHost(_ text: String) -> Bool {
        guard (1...255).contains(text.utf8.count) else { return false }
        if text.utf8.first == UInt8(ascii: "[") {
            guard text.utf8.last == UInt8(ascii: "]"), text.utf8.count > 3 else { return false }
            return text.utf8.dropFirst().dropLast().allSatisfy {
                isHexadecimal($0) || $0 == UInt8(ascii: ":") || $0 == UInt8(ascii: ".")
            }
        }
        return text.utf8.allSatisfy {
            (0x61...0x7A).contains($0) || (0x30...0x39).contains($0) || $0 == UInt8(ascii: "-")
                || $0 == UInt8(ascii: ".") || $0 == UInt8(ascii: "_")
        }
    }

    private static func isHexadecimal(_ byte: UInt8) -> Bool {
        (0x30...0x39).contains(byte) || (0x61...0x66).contains(byte)
    }
}

extension String {
    /// The place of an ASCII mark.
    fileprivate func range(ofASCII mark: StaticString) -> Range<Index>? {
        let pattern = mark.withUTF8Buffer { [UInt8]($0) }
        var start = utf8.startIndex
        while start < utf8.endIndex {
            let rest = utf8[start...]
            if rest.starts(with: pattern) { return start..<utf8.index(start, offsetBy: pattern.count) }
            start = utf8.index(after: start)
        }
        return nil
    }
}

package struct HTTPField: Hashable, Sendable {
    /// In a response in lower case.
    package let name: String
    package let value: String

    package init(_ name: String, _ value: String) {
        self.name = name
        self.value = value
    }
}

package struct HTTPClientRequest: Sendable {
    /// In upper case.
    package var method: String
    package var origin: HTTPOrigin
    /// Path and query, percent-encoded, from the first slash on. It is sent as it stands.
    package var target: String
    package var fields: [HTTPField]
    /// In place of the transport's own.
    package var timeouts: TransportTimeouts?
    /// Where the host's name may lead. With a proxy it is the proxy that finds the host, and is to be asked.
    package var addresses: AddressRule

    package init(
        method: String,
        origin: HTTPOrigin,
        target: String,
        fields: [HTTPField] = [],
        timeouts: TransportTimeouts? = nil,
        addresses: AddressRule = .everything
    ) {
        self.method = method
        self.origin = origin
        self.target = target
        self.fields = fields
        self.timeouts = timeouts
        self.addresses = addresses
    }

    /// Refuses what could become another request on the wire.
    func check() throws(TransportError) {
        guard (1...16).contains(method.utf8.count), method.utf8.allSatisfy({ (0x41...0x5A).contains($0) })
        else {
            throw TransportError(.invalidRequest, "The method of a request has upper-case letters only.")
        }
        guard target.utf8.first == UInt8(ascii: "/"), target.utf8.count <= 65_536,
            target.utf8.allSatisfy({ (0x21...0x7E).contains($0) && $0 != UInt8(ascii: "#") })
        else {
            throw TransportError(
                .invalidRequest,
                "The target of a request begins with a slash and is percent-encoded."
            )
        }
        for field in fields {
            guard !field.name.isEmpty, field.name.utf8.allSatisfy(Self.isTokenByte),
                field.value.utf8.allSatisfy({ ($0 >= 0x20 && $0 != 0x7F) || $0 == 0x09 })
            else {
                throw TransportError(
                    .invalidRequest,
                    "The header '\(field.name.prefix(64).filter { $0.isASCII && !$0.isNewline })' holds a character "
                        + "that no header may hold."
                )
            }
        }
    }

    /// https://www.rfc-editor.org/rfc/rfc9110#name-tokens
    private static func isTokenByte(_ byte: UInt8) -> Bool {
        switch byte {
        case 0x30...0x39, 0x41...0x5A, 0x61...0x7A: true
        default: "!#$%&'*+-.^_`|~".utf8.contains(byte)
        }
    }
}

/// What goes with a request.
package enum HTTPRequestBody {
    /// No body, and no Content-Length but where the method needs one.
    case none
    /// It can be sent again by the transport, when a kept connection turns out to be dead.
    case bytes([UInt8])
    /// Pieces in order, then nil; asked by the task that performs the request, and by no other. Pieces of 64 KiB to
    /// 1 MiB are best; empty ones are allowed. More or fewer bytes than `length` end the transfer: the last piece is
    /// held back until the source has ended, so that no server takes a body of the wrong length for whole.
    case stream(length: UInt64, next: () async throws -> [UInt8]?)
}

/// The head of a final answer, as it came; redirects are answers too.
package struct HTTPResponseHead: Sendable {
    package let status: Int
    /// Names in lower case, values without blanks at their ends, in the order in which they came.
    package let fields: [HTTPField]

    package init(status: Int, fields: [HTTPField]) {
        self.status = status
        self.fields = fields
    }

    /// The first value; `name` in lower case.
    package func first(_ name: String) -> String? { fields.first { $0.name == name }?.value }

    /// Where a redirect leads. The transport never follows it: a signature is good for one host only.
    package var location: String? { (300...399).contains(status) ? first("location") : nil }
}
