/// Stored and given back; pages are not served.
/// https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketWebsite.html
package struct WebsiteConfiguration: XMLSetting, Hashable {
    package static let routingRuleCountMax = 50

    package struct RedirectAll: Hashable, Sendable {
        package let host: String
        package let scheme: String?
    }

    package struct RoutingRule: Hashable, Sendable {
        package let keyPrefix: String?
        package let errorCode: String?
        package let host: String?
        package let redirectCode: String?
        package let scheme: String?
        package let replacementPrefix: String?
        package let replacementKey: String?
    }

    package let redirectAll: RedirectAll?
    package let indexSuffix: String?
    package let errorKey: String?
    package let routingRules: [RoutingRule]

    package init(xml: XMLElement) throws(S3Error) {
        try xml.requireName("WebsiteConfiguration")
        try xml.requireOnly(["RedirectAllRequestsTo", "IndexDocument", "ErrorDocument", "RoutingRules"])
        redirectAll = try xml.child("RedirectAllRequestsTo").map { element throws(S3Error) in
            try element.requireOnly(["HostName", "Protocol"])
            return RedirectAll(
                host: try element.requiredWord(of: "HostName"),
                scheme: try Self.scheme(of: element)
            )
        }
        indexSuffix = try xml.child("IndexDocument").map { element throws(S3Error) in
            try element.requireOnly(["Suffix"])
            return try element.requiredText(of: "Suffix")
        }
        errorKey = try xml.child("ErrorDocument").map { element throws(S3Error) in
            try element.requireOnly(["Key"])
            return try element.requiredText(of: "Key")
        }
        var rules: [RoutingRule] = []
        if let list = try xml.child("RoutingRules") {
            try list.requireOnly(["RoutingRule"])
            for element in list.children { rules.append(try RoutingRule(element)) }
        }
        routingRules = rules
        try check()
    }

    private func check() throws(S3Error) {
        if redirectAll != nil {
            guard indexSuffix == nil, errorKey == nil, routingRules.isEmpty else {
                throw S3Error(
                    .invalidRequest,
                    "RedirectAllRequestsTo cannot be provided in conjunction with other Routing Rules."
                )
            }
            return
        }
        guard let indexSuffix else {
            throw S3Error(
                .invalidArgument,
                "A value for IndexDocument Suffix must be provided if RedirectAllRequestsTo is empty",
                details: [("ArgumentName", "IndexDocument"), ("ArgumentValue", "null")]
            )
        }
        guard !indexSuffix.isEmpty, !indexSuffix.contains("/") else {
            throw .invalidArgument(
                "The IndexDocument Suffix is not well formed",
                name: "IndexDocument",
                value: indexSuffix
            )
        }
        guard errorKey != "" else {
            throw .invalidArgument(
                "The ErrorDocument Key is not well formed",
                name: "ErrorDocument",
                value: ""
            )
        }
        guard routingRules.count <= Self.routingRuleCountMax else {
            throw S3Error(
                .invalidRequest,
                "\(routingRules.count) routing rules provided, the number of routing rules in a website "
                    + "configuration is limited to \(Self.routingRuleCountMax)."
            )
        }
    }

    fileprivate static func scheme(of xml: XMLElement) throws(S3Error) -> String? {
        guard let word = try xml.word(of: "Protocol") else { return nil }
        guard ["http", "https"].contains(word) else {
            throw S3Error(
                .invalidRequest,
                "Invalid protocol, protocol can be http or https. "
                    + "If not defined the protocol will be selected automatically."
            )
        }
        return word
    }

    package func render(into writer: inout XMLWriter) {
        writer.root("WebsiteConfiguration") { writer in
            if let redirectAll {
                writer.element("RedirectAllRequestsTo") { writer in
                    writer.element("HostName", redirectAll.host)
                    writer.optional("Protocol", redirectAll.scheme)
                }
            }
            if let indexSuffix { writer.element("IndexDocument") { $0.element("Suffix", indexSuffix) } }
            if let errorKey { writer.element("ErrorDocument") { $0.element("Key", errorKey) } }
            guard !routingRules.isEmpty else { return }
            writer.element("RoutingRules") { writer in
                for rule in routingRules { rule.render(into: &writer) }
            }
        }
    }
}

extension WebsiteConfiguration.RoutingRule {
    init(_ xml: XMLElement) throws(S3Error) {
        try xml.requireOnly(["Condition", "Redirect"])
        let condition = try xml.child("Condition")
        try condition?.requireOnly(["KeyPrefixEquals", "HttpErrorCodeReturnedEquals"])
        keyPrefix = try condition?.text(of: "KeyPrefixEquals")
        errorCode = try condition?.word(of: "HttpErrorCodeReturnedEquals")
        let redirect = try xml.requiredChild("Redirect")
        try redirect.requireOnly([
            "HostName", "HttpRedirectCode", "Protocol", "ReplaceKeyPrefixWith", "ReplaceKeyWith",
        ])
        host = try redirect.word(of: "HostName")
        redirectCode = try redirect.word(of: "HttpRedirectCode")
        scheme = try WebsiteConfiguration.scheme(of: redirect)
        replacementPrefix = try redirect.text(of: "ReplaceKeyPrefixWith")
        replacementKey = try redirect.text(of: "ReplaceKeyWith")
        try check(hasCondition: condition != nil)
    }

    private func check(hasCondition: Bool) throws(S3Error) {
        guard !hasCondition || keyPrefix != nil || errorCode != nil else {
            throw S3Error(
                .invalidRequest,
                "Condition cannot be empty. To redirect all requests without a condition, "
                    + "the condition element shouldn't be present."
            )
        }
        guard replacementPrefix == nil || replacementKey == nil else {
            throw S3Error(
                .invalidRequest,
                "You can only define ReplaceKeyPrefix or ReplaceKey but not both."
            )
        }
        // Codes are numbers of three digits: 4XX and 5XX for errors, 3XX but 300 for redirections.
        if let errorCode {
            guard let code = XMLText.integer(errorCode), (400...599).contains(code) else {
                throw S3Error(
                    .invalidRequest,
                    "The provided HTTP error code (\(errorCode.prefix(16))) is not valid. "
                        + "Valid codes are 4XX or 5XX."
                )
            }
        }
        if let redirectCode {
            guard let code = XMLText.integer(redirectCode), (301...399).contains(code) else {
                throw S3Error(
                    .invalidRequest,
                    "The provided HTTP redirect code (\(redirectCode.prefix(16))) is not valid. "
                        + "Valid codes are 3XX except 300."
                )
            }
        }
    }

    func render(into writer: inout XMLWriter) {
        writer.element("RoutingRule") { writer in
            if keyPrefix != nil || errorCode != nil {
                writer.element("Condition") { writer in
                    writer.optional("KeyPrefixEquals", keyPrefix)
                    writer.optional("HttpErrorCodeReturnedEquals", errorCode)
                }
            }
            writer.element("Redirect") { writer in
                writer.optional("Protocol", scheme)
                writer.optional("HostName", host)
                writer.optional("ReplaceKeyPrefixWith", replacementPrefix)
                writer.optional("ReplaceKeyWith", replacementKey)
                writer.optional("HttpRedirectCode", redirectCode)
            }
        }
    }
}
