package import CurlTransport
package import StoreModel

/// The address of a backend: `http://` or `https://`, a host, perhaps a port, and nothing else.
///
/// Who may add a mirror makes the server send requests to where they say. So only these two schemes are taken, and the
/// address of every connection is looked at before a packet goes there (`addressRule`), whatever the name led to before:
///
/// | endpoint | loopback, private networks | local link, metadata services |
/// |---|---|---|
/// | an address | that address was meant: yes | no, or `--allow-link-local` |
/// | a name of this house: no dot, `.internal`, `.local`, `.localhost`, `.home.arpa` | yes | no, or `--allow-link-local` |
/// | any other name | no, or `--allow-private` | no, or `--allow-link-local` |
///
/// A backend that redirects to another host of its domain is held to the same.
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
        // Before anything else, as everything else shows the text.
        guard !text.contains("@") else {
            throw StoreError(
                .invalidArgument,
                "The endpoint holds credentials, which go into a file.",
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

    /// The address, where the operator has given one and no name.
    private var address: NetworkAddress? { NetworkAddress(host) }

    /// - Throws: `.invalidArgument` for an address where metadata services are.
    package func check(allowsLinkLocal: Bool) throws(StoreError) {
        let isForbidden = address.map { $0.place == .special } ?? Self.isMetadata(host)
        guard isForbidden, !allowsLinkLocal else { return }
        throw StoreError(
            .invalidArgument,
            "The endpoint \(quoted(description)) is an address of the local link, where clouds keep credentials.",
            advice: "If it is meant: --allow-link-local."
        )
    }

    private static func isMetadata(_ host: String) -> Bool {
        let name = host.hasSuffix(".") ? host.dropLast() : host[...]
        return name == "metadata.google.internal" || name == "metadata"
    }

    /// Where connections may go, whatever the name leads to at the time.
    package func addressRule(allowsPrivate: Bool, allowsLinkLocal: Bool) -> AddressRule {
        let isNear = allowsPrivate || address != nil || isLocalName
        return AddressRule(allowsPrivate: isNear, allowsLoopback: isNear, allowsSpecial: allowsLinkLocal)
    }

    /// A name that nobody outside can give an address: one without a dot, or below a domain that is not delegated.
    /// https://www.iana.org/assignments/special-use-domain-names
    private var isLocalName: Bool {
        let name = host.hasSuffix(".") ? host.dropLast() : host[...]
        guard name.contains(".") else { return true }
        return [".localhost", ".local", ".internal", ".home.arpa"].contains { name.hasSuffix($0) }
    }
}
