/// How the bucket of a request is found: in the host name below one of the domains, else in the path.
/// https://docs.aws.amazon.com/AmazonS3/latest/userguide/VirtualHosting.html
package struct Addressing: Sendable {
    /// In lower case, without a port; longer ones first, so that of nested domains the inner one is found.
    package let domains: [String]

    package init(domains: [String] = []) {
        self.domains = domains.map { ASCIIText.lowercased($0) }.sorted { $0.utf8.count > $1.utf8.count }
    }

    /// The bucket that stands in front of a domain of the server, or nil for path style.
    package func bucketName(inHost host: String) -> String? {
        guard !domains.isEmpty else { return nil }
        let name = Self.withoutPort(ASCIIText.lowercased(host))
        for domain in domains {
            if name == domain { return nil }
            if name.utf8.count > domain.utf8.count + 1, name.hasSuffix("." + domain) {
                return String(name.dropLast(domain.utf8.count + 1))
            }
        }
        return nil
    }

    static func withoutPort(_ host: String) -> String {
        // An IPv6 literal stands in brackets: its colons do not start a port.
        guard let colon = host.lastIndex(of: ":"), !host.hasPrefix("[") else { return host }
        return String(host[..<colon])
    }
}
