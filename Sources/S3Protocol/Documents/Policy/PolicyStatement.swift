/// One statement of a policy.
/// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements.html
struct PolicyStatement: Hashable, Sendable {
    enum Effect: String, Sendable {
        case allow = "Allow"
        case deny = "Deny"
    }

    let id: String?
    let effect: Effect
    let principal: (pattern: PrincipalPattern, isNegated: Bool)
    let action: (pattern: ActionPattern, isNegated: Bool)
    /// Behind `arn:aws:s3:::`.
    let resource: (patterns: [PolicyTemplate], isNegated: Bool)
    let conditions: [PolicyCondition]

    func applies(to request: PolicyRequest) -> Bool {
        guard principal.pattern.matches(request.principal) != principal.isNegated,
            action.pattern.matches(request.action) != action.isNegated
        else { return false }
        let resource = request.resource
        let isNamed = self.resource.patterns.contains { template in
            template.filled(request.context)?.pattern.matches(resource) ?? false
        }
        guard isNamed != self.resource.isNegated else { return false }
        return conditions.allSatisfy { $0.holds(request.context) }
    }

    static func == (left: PolicyStatement, right: PolicyStatement) -> Bool {
        left.id == right.id && left.effect == right.effect && left.principal == right.principal
            && left.action == right.action && left.resource == right.resource
            && left.conditions == right.conditions
    }

    func hash(into hasher: inout Hasher) {
        hasher.combine(id)
        hasher.combine(effect)
        hasher.combine(conditions)
    }
}

/// Reading.
extension PolicyStatement {
    private static let fields: Set<String> = [
        "Sid", "Effect", "Principal", "NotPrincipal", "Action", "NotAction", "Resource", "NotResource",
        "Condition",
    ]

    init(parsing value: JSONValue, bucket: String, hasVariables: Bool) throws(S3Error) {
        guard let members = value.members else { throw PolicyText.malformed("Statement must be an object") }
        for member in members where !Self.fields.contains(member.name) {
            throw PolicyText.malformed("Unknown field \(member.name.prefix(64))")
        }
        id = try value["Sid"].map { sid throws(S3Error) in
            guard let text = sid.string else { throw PolicyText.malformed("Invalid Sid") }
            return text
        }
        guard let effectText = value["Effect"] else {
            throw PolicyText.malformed("Missing required field Effect")
        }
        guard let effect = effectText.string.flatMap({ Effect(rawValue: $0) }) else {
            throw PolicyText.malformed("Invalid effect: \((effectText.string ?? "").prefix(64))")
        }
        self.effect = effect
        let whom = try Self.one(of: "Principal", in: value)
        principal = (try PrincipalPattern(parsing: whom.value), whom.isNegated)
        let what = try Self.one(of: "Action", in: value)
        action = (try ActionPattern(parsing: what.value), what.isNegated)
        let target = try Self.one(of: "Resource", in: value)
        let names = try Self.resources(target.value, bucket: bucket)
        resource = (names.map { PolicyTemplate($0, hasVariables: hasVariables) }, target.isNegated)
        conditions =
            try value["Condition"].map { condition throws(S3Error) in
                try PolicyCondition.parse(condition, hasVariables: hasVariables)
            } ?? []
        try check(names)
    }

    /// The element, or the one with Not in front: one of them, and not both.
    private static func one(
        of name: String,
        in value: JSONValue
    ) throws(S3Error) -> (value: JSONValue, isNegated: Bool) {
        switch (value[name], value["Not" + name]) {
        case (let found?, nil): return (found, false)
        case (nil, let found?): return (found, true)
        case (nil, nil): throw PolicyText.malformed("Missing required field \(name)")
        default: throw PolicyText.malformed("\(name) and Not\(name) may not stand in one statement")
        }
    }

    /// Names behind `arn:aws:s3:::`. The bucket's part has to fit this bucket.
    private static func resources(_ value: JSONValue, bucket: String) throws(S3Error) -> [String] {
        let invalid = PolicyText.malformed("Policy has invalid resource")
        let texts = try PolicyText.strings(value) { invalid }
        guard !texts.isEmpty else { throw invalid }
        var names: [String] = []
        for text in texts {
            if text == "*" {
                names.append("*")
                continue
            }
            let parts = text.split(separator: ":", maxSplits: 5, omittingEmptySubsequences: false)
            guard parts.count == 6, parts[0] == "arn", parts[1].hasPrefix("aws"), parts[2] == "s3",
                ["", "*"].contains(parts[3]), ["", "*"].contains(parts[4]), !parts[5].isEmpty
            else { throw invalid }
            let name = String(parts[5])
            let bucketPart = name.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false)[0]
            guard Wildcard(String(bucketPart)).matches(bucket) else { throw invalid }
            names.append(name)
        }
        return names
    }

    /// An action on objects needs a resource with a key, one on buckets a resource without.
    private func check(_ names: [String]) throws(S3Error) {
        guard !action.isNegated, !resource.isNegated else { return }
        let hasObject = names.contains { $0.utf8.contains(UInt8(ascii: "/")) || $0.hasSuffix("*") }
        let hasBucket = names.contains { !$0.utf8.contains(UInt8(ascii: "/")) || $0.hasPrefix("*") }
        guard action.pattern.applies(toBuckets: hasBucket, toObjects: hasObject) else {
            throw PolicyText.malformed("Action does not apply to any resource(s) in statement")
        }
    }
}
