/// Which pages of other origins may use a bucket from a browser.
/// https://docs.aws.amazon.com/AmazonS3/latest/userguide/ManageCorsUsing.html
package struct CORSConfiguration: XMLSetting, Hashable {
    package static let ruleCountMax = 100
    private static let methods: Set<String> = ["GET", "PUT", "HEAD", "POST", "DELETE"]

    package struct Rule: Hashable, Sendable {
        package let id: String?
        /// Each with one `*` at most.
        package let allowedOrigins: [String]
        package let allowedMethods: [String]
        /// Each with one `*` at most.
        package let allowedHeaders: [String]
        package let exposedHeaders: [String]
        package let maxAgeSeconds: Int64?
    }

    package let rules: [Rule]

    package init(xml: XMLElement) throws(S3Error) {
        try xml.requireName("CORSConfiguration")
        try xml.requireOnly(["CORSRule"])
        guard (1...Self.ruleCountMax).contains(xml.children.count) else {
            throw .malformedXML("There must be 1 to \(Self.ruleCountMax) rules.")
        }
        var rules: [Rule] = []
        for element in xml.children { rules.append(try Self.rule(element)) }
        self.rules = rules
    }

    private static func rule(_ xml: XMLElement) throws(S3Error) -> Rule {
        try xml.requireOnly([
            "ID", "AllowedOrigin", "AllowedMethod", "AllowedHeader", "ExposeHeader", "MaxAgeSeconds",
        ])
        let rule = Rule(
            id: try xml.text(of: "ID"),
            allowedOrigins: try xml.texts(of: "AllowedOrigin"),
            allowedMethods: try xml.texts(of: "AllowedMethod"),
            allowedHeaders: try xml.texts(of: "AllowedHeader"),
            exposedHeaders: try xml.texts(of: "ExposeHeader"),
            maxAgeSeconds: try xml.integer(of: "MaxAgeSeconds")
        )
        try check(rule)
        return rule
    }

    private static func check(_ rule: Rule) throws(S3Error) {
        guard rule.id.map({ $0.utf8.count <= 255 }) ?? true else {
            throw S3Error(.invalidArgument, "ID length should not exceed allowed limit of 255")
        }
        guard !rule.allowedOrigins.isEmpty, !rule.allowedMethods.isEmpty else {
            throw .malformedXML("A rule needs an AllowedOrigin and an AllowedMethod.")
        }
        guard rule.maxAgeSeconds.map({ (0...Int64(Int32.max)).contains($0) }) ?? true else {
            throw .malformedXML("MaxAgeSeconds is out of range.")
        }
        for method in rule.allowedMethods where !methods.contains(method) {
            throw S3Error(
                .invalidRequest,
                "Found unsupported HTTP method in CORS config. Unsupported method is \(method.prefix(64))"
            )
        }
        for (element, values) in [
            ("AllowedOrigin", rule.allowedOrigins), ("AllowedHeader", rule.allowedHeaders),
        ] {
            for value in values where value.utf8.count(where: { $0 == UInt8(ascii: "*") }) > 1 {
                throw S3Error(
                    .invalidRequest,
                    "\(element) \"\(value.prefix(256))\" can not have more than one wildcard."
                )
            }
        }
        for header in rule.exposedHeaders {
            guard !header.utf8.contains(UInt8(ascii: "*")) else {
                throw S3Error(
                    .invalidRequest,
                    "ExposeHeader \"\(header.prefix(256))\" contains wildcard. "
                        + "We currently do not support wildcard for ExposeHeader."
                )
            }
        }
        // They stand in response headers later.
        for value in rule.exposedHeaders + rule.allowedHeaders + rule.allowedOrigins {
            guard value.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F }) else {
                throw .malformedXML("A header or an origin holds characters that it may not.")
            }
        }
    }

    package func render(into writer: inout XMLWriter) {
        writer.root("CORSConfiguration") { writer in
            for rule in rules {
                writer.element("CORSRule") { writer in
                    writer.optional("ID", rule.id)
                    for value in rule.allowedHeaders { writer.element("AllowedHeader", value) }
                    for value in rule.allowedMethods { writer.element("AllowedMethod", value) }
                    for value in rule.allowedOrigins { writer.element("AllowedOrigin", value) }
                    for value in rule.exposedHeaders { writer.element("ExposeHeader", value) }
                    writer.optional("MaxAgeSeconds", rule.maxAgeSeconds)
                }
            }
        }
    }
}

extension CORSConfiguration {
    /// What a browser is told.
    package struct Answer: Hashable, Sendable {
        /// `*`, or the origin that asked.
        package let allowedOrigin: String
        package let allowedMethods: [String]
        /// Those that were asked for.
        package let allowedHeaders: [String]
        package let exposedHeaders: [String]
        package let maxAgeSeconds: Int64?
        /// Only for an origin that is named in full: no pattern hands a user's credentials to whoever matches it.
        package let allowsCredentials: Bool

        /// The response headers, with Vary, because the answer depends on what was asked.
        package var headers: [(name: String, value: String)] {
            var headers = [("access-control-allow-origin", allowedOrigin)]
            headers.append(("access-control-allow-methods", allowedMethods.joined(separator: ", ")))
            if !allowedHeaders.isEmpty {
                headers.append(("access-control-allow-headers", allowedHeaders.joined(separator: ", ")))
            }
            if !exposedHeaders.isEmpty {
                headers.append(("access-control-expose-headers", exposedHeaders.joined(separator: ", ")))
            }
            if let maxAgeSeconds { headers.append(("access-control-max-age", String(maxAgeSeconds))) }
            if allowsCredentials { headers.append(("access-control-allow-credentials", "true")) }
            headers.append(
                ("vary", "Origin, Access-Control-Request-Headers, Access-Control-Request-Method")
            )
            return headers
        }
    }

    /// The first rule that allows the origin, the method and all of the headers.
    /// - Parameters:
    ///   - method: of the request, or for a preflight what Access-Control-Request-Method names.
    ///   - headers: what Access-Control-Request-Headers names; empty for anything but a preflight.
    package func match(origin: String, method: String, headers: [String] = []) -> Answer? {
        for rule in rules where rule.allowedMethods.contains(method) {
            guard
                let pattern = rule.allowedOrigins.first(where: {
                    Wildcard($0, hasQuestionMark: false).matches(origin)
                })
            else {
                continue
            }
            let isAllowed = headers.allSatisfy { header in
                let name = ASCIIText.lowercased(header)
                return rule.allowedHeaders.contains {
                    Wildcard(ASCIIText.lowercased($0), hasQuestionMark: false).matches(name)
                }
            }
            guard isAllowed else { continue }
            return Answer(
                allowedOrigin: pattern == "*" ? "*" : origin,
                allowedMethods: rule.allowedMethods,
                allowedHeaders: headers,
                exposedHeaders: rule.exposedHeaders,
                maxAgeSeconds: rule.maxAgeSeconds,
                allowsCredentials: !pattern.utf8.contains(UInt8(ascii: "*"))
            )
        }
        return nil
    }

    /// Splits what Access-Control-Request-Headers says.
    package static func requestedHeaders(_ value: String?) -> [String] {
        (value ?? "").split(separator: ",").map { ASCIIText.trimmed(String($0)) }.filter { !$0.isEmpty }
    }
}
