package import StoreModel

/// The address of a backend: `http://` or `https://`, a host, perhaps a port, and nothing else.
///
/// Who may add a mirror makes the server send requests to where they say. So only these two schemes are taken; addresses
/// of the local link, where clouds keep their metadata and with it credentials, are refused unless that is allowed for
/// the mirror; and redirects are not followed. Loopback and private networks are allowed: that is where many backends
/// are, and who may add mirrors is an administrator. A name that resolves to such an address is the business of whoever
/// makes the connection (`isForbidden`).
package struct MirrorEndpoint: Hashable, Sendable, CustomStringConvertible {
    package let isSecure: Bool
    /// Without brackets.
    package let host: String
    package let port: UInt16?

    package init(_ text: String) throws(StoreError) {
        func refuse(_ what: String) -> StoreError {
            StoreError(
                .invalidArgument,
                "The endpoint \(quoted(text)) \(what).",
                advice: "Give https://HOST or http://HOST:PORT."
            )
        }
        let lowered = text.lowercased()
        var rest: Substring
        if lowered.hasPrefix("https://") {
            isSecure = true
            rest = lowered.dropFirst(8)
        } else if lowered.hasPrefix("http://") {
            isSecure = false
            rest = lowered.dropFirst(7)
        } else {
            throw refuse("is neither http:// nor https://")
        }
        if rest.hasSuffix("/") { rest = rest.dropLast() }
        guard !rest.contains("@") else { throw refuse("holds credentials, which go into a file") }
        guard rest.utf8.allSatisfy({ (0x21...0x7E).contains($0) }),
            !rest.contains(where: { "/?#\\%".contains($0) })
        else { throw refuse("holds more than a host and a port") }
        if rest.hasPrefix("[") {
            guard let end = rest.firstIndex(of: "]") else { throw refuse("has no end of its address") }
            host = String(rest[rest.index(after: rest.startIndex)..<end])
            rest = rest[rest.index(after: end)...]
        } else {
            let end = rest.firstIndex(of: ":") ?? rest.endIndex
            host = String(rest[..<end])
            rest = rest[end...]
        }
        guard !host.isEmpty, host.utf8.count <= 253 else { throw refuse("has no host") }
        if rest.isEmpty {
            port = nil
        } else {
            guard rest.first == ":", let number = UInt16(rest.dropFirst()), number > 0 else {
                throw refuse("has a port that is none")
            }
            port = number
        }
    }

    package var description: String {
        let shown = host.contains(":") ? "[\(host)]" : host
        return (isSecure ? "https://" : "http://") + shown + (port.map { ":\($0)" } ?? "")
    }

    /// - Throws: `.invalidArgument` for an address where metadata services are.
    package func check(allowsLinkLocal: Bool) throws(StoreError) {
        guard !allowsLinkLocal, Self.isForbidden(address: host) else { return }
        throw StoreError(
            .invalidArgument,
            "The endpoint \(quoted(description)) is an address of the local link, where clouds keep credentials.",
            advice: "If it is meant: --allow-link-local."
        )
    }

    /// Whether a numeric address is one of the local link or a metadata service's: in any way in which an IPv4 address
    /// can be written.
    package static func isForbidden(address: String) -> Bool {
        let address = address.lowercased()
        if address == "metadata.google.internal" || address == "metadata" { return true }
        if address.contains(":") {
            guard let words = parseV6(address) else { return false }
            if words[0] & 0xFFC0 == 0xFE80 { return true }
            // fd00:ec2::254, and IPv4 inside of IPv6.
            if words[0] == 0xFD00, words[1] == 0x0EC2 { return true }
            let isMapped =
                words[..<5].allSatisfy { $0 == 0 } && (words[5] == 0xFFFF || words[5] == 0 && words[6] != 0)
            return isMapped && isForbidden(v4: UInt32(words[6]) << 16 | UInt32(words[7]))
        }
        guard let number = parseV4(address) else { return false }
        return isForbidden(v4: number)
    }

    private static func isForbidden(v4 number: UInt32) -> Bool {
        // 169.254.0.0/16, 0.0.0.0/8, and 100.100.100.200, a metadata service.
        number >> 16 == 0xA9FE || number >> 24 == 0 || number == 0x6464_64C8
    }

    /// As `inet_aton` reads it: one to four numbers, decimal, octal or hexadecimal.
    private static func parseV4(_ text: String) -> UInt32? {
        let parts = text.split(separator: ".", omittingEmptySubsequences: false)
        guard (1...4).contains(parts.count) else { return nil }
        var numbers: [UInt64] = []
        for part in parts {
            let number: UInt64?
            if part.hasPrefix("0x") {
                number = UInt64(part.dropFirst(2), radix: 16)
            } else if part.hasPrefix("0"), part.count > 1 {
                number = UInt64(part.dropFirst(), radix: 8)
            } else {
                number = UInt64(part)
            }
            guard let number, number <= UInt64(UInt32.max) else { return nil }
            numbers.append(number)
        }
        var value: UInt64 = 0
        for number in numbers.dropLast() {
            guard number < 256 else { return nil }
            value = value << 8 | number
        }
        let last = numbers[numbers.count - 1]
        let bits = UInt64(8 * (5 - numbers.count))
        guard last < 1 << bits else { return nil }
        return UInt32(truncatingIfNeeded: value << bits | last)
    }

    private static func parseV6(_ text: String) -> [UInt16]? {
        let text = text.prefix { $0 != "%" }
        let halves = text.split(separator: "::", maxSplits: 1, omittingEmptySubsequences: false)
        func words(_ half: Substring) -> [UInt16]? {
            guard !half.isEmpty else { return [] }
            var words: [UInt16] = []
            for part in half.split(separator: ":", omittingEmptySubsequences: false) {
                if part.contains(".") {
                    guard let number = parseV4(String(part)) else { return nil }
                    words += [UInt16(number >> 16), UInt16(number & 0xFFFF)]
                } else {
                    guard let word = UInt16(part, radix: 16) else { return nil }
                    words.append(word)
                }
            }
            return words
        }
        guard let front = words(halves[0]) else { return nil }
        guard halves.count == 2 else { return front.count == 8 ? front : nil }
        guard let back = words(halves[1]), front.count + back.count < 8 else { return nil }
        return front + [UInt16](repeating: 0, count: 8 - front.count - back.count) + back
    }
}
