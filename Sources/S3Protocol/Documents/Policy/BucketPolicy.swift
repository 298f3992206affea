/// A bucket policy: parsed once, evaluated for each request.
/// https://docs.aws.amazon.com/AmazonS3/latest/userguide/access-policy-language-overview.html
package struct BucketPolicy: Hashable, Sendable {
    package static let sizeMax = 20 << 10

    /// The document as the client gave it: this is what is stored and given back.
    package let source: [UInt8]
    let statements: [PolicyStatement]

    /// - Parameter bucket: the bucket that the policy is for: no statement may speak of another.
    /// - Throws: MalformedPolicy with what S3 says about the fault.
    package init(parsing bytes: [UInt8], bucket: String) throws(S3Error) {
        guard bytes.count <= Self.sizeMax else {
            throw PolicyText.malformed("Policies must be at most \(Self.sizeMax / 1024) KB in size.")
        }
        let value: JSONValue
        do throws(JSONValue.Failure) {
            value = try JSONValue(parsing: bytes)
        } catch {
            throw S3Error(
                .malformedPolicy,
                "Policies must be valid JSON and the first byte must be '{'",
                details: [("Detail", error.message)]
            )
        }
        guard let members = value.members else {
            throw PolicyText.malformed("Policies must be valid JSON and the first byte must be '{'")
        }
        source = bytes
        statements = try Self.statements(members, bucket: bucket)
    }

    private static func statements(
        _ members: [JSONValue.Member],
        bucket: String
    ) throws(S3Error) -> [PolicyStatement] {
        var hasVariables = false
        var found: JSONValue?
        for member in members {
            switch member.name {
            case "Version":
                guard let version = member.value.string, ["2012-10-17", "2008-10-17"].contains(version) else {
                    throw PolicyText.malformed("The policy must contain a valid version string")
                }
                hasVariables = version == "2012-10-17"
            case "Id":
                guard member.value.string != nil else { throw PolicyText.malformed("Invalid policy Id") }
            case "Statement": found = member.value
            default: throw PolicyText.malformed("Unknown field \(member.name.prefix(64))")
            }
        }
        guard let found else { throw PolicyText.malformed("Missing required field Statement") }
        let values =
            if case .array(let values) = found { values } else { [found] }
        guard !values.isEmpty else {
            throw PolicyText.malformed("Could not parse the policy: Statement is empty!")
        }
        var statements: [PolicyStatement] = []
        for value in values {
            statements.append(try PolicyStatement(parsing: value, bucket: bucket, hasVariables: hasVariables))
        }
        let ids = statements.compactMap(\.id)
        guard Set(ids).count == ids.count else {
            throw PolicyText.malformed("Statement IDs (SID) in a single policy must be unique.")
        }
        return statements
    }

    /// Accounts that statements name, as twelve digits or canonical ids. S3 refuses a policy that names one that
    /// does not exist ("Invalid principal in policy").
    package var namedAccounts: [String] {
        statements.flatMap { statement in
            statement.principal.pattern.accounts.compactMap { element in
                switch element {
                case .account(let name), .canonicalUser(let name): name
                case .everyone, .other: nil
                }
            }
        }
    }

    /// Whether a condition or a variable needs the tags of the object that is asked for.
    package var needsExistingTags: Bool {
        statements.contains { statement in
            statement.conditions.contains { $0.key.hasPrefix("s3:existingobjecttag/") }
        } || String(decoding: source, as: UTF8.self).lowercased().contains("${s3:existingobjecttag/")
    }

    package enum Effect: Sendable {
        case allow, deny
        /// No statement applies.
        case none
    }

    /// Deny wins over Allow.
    package func evaluate(_ request: PolicyRequest) -> Effect {
        var effect = Effect.none
        for statement in statements where statement.applies(to: request) {
            if statement.effect == .deny { return .deny }
            effect = .allow
        }
        return effect
    }
}

/// What a policy is asked.
package struct PolicyRequest: Sendable {
    package var principal: PolicyPrincipal
    /// As in `s3:GetObject`.
    package var action: String
    package var bucket: String
    /// Nil for the bucket itself.
    package var key: String?
    package var context: PolicyContext

    package init(
        principal: PolicyPrincipal,
        action: String,
        bucket: String,
        key: String?,
        context: PolicyContext = PolicyContext()
    ) {
        self.principal = principal
        self.action = action
        self.bucket = bucket
        self.key = key
        self.context = context
    }

    var resource: String { key.map { "\(bucket)/\($0)" } ?? bucket }
}
