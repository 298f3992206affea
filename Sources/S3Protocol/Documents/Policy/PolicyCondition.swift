internal import StoreModel

/// One line of a statement's Condition: an operator, a key, the values.
/// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html
struct PolicyCondition: Hashable, Sendable {
    enum Quantifier: Hashable, Sendable {
        case none, anyValue, allValues
    }

    enum Comparison: String, CaseIterable, Sendable {
        case stringEquals, stringNotEquals, stringEqualsIgnoreCase, stringNotEqualsIgnoreCase
        case stringLike, stringNotLike
        case numericEquals, numericNotEquals, numericLessThan, numericLessThanEquals
        case numericGreaterThan, numericGreaterThanEquals
        case dateEquals, dateNotEquals, dateLessThan, dateLessThanEquals, dateGreaterThan,
            dateGreaterThanEquals
        case bool, binaryEquals, ipAddress, notIpAddress, arnEquals, arnNotEquals, arnLike, arnNotLike, null

        /// True when none of the values fits.
        var isNegated: Bool {
            switch self {
            case .stringNotEquals, .stringNotEqualsIgnoreCase, .stringNotLike, .numericNotEquals,
                .dateNotEquals,
                .notIpAddress, .arnNotEquals, .arnNotLike:
                true
            default: false
            }
        }
    }

    let quantifier: Quantifier
    let comparison: Comparison
    /// True also when the request has no such key.
    let ifExists: Bool
    let key: String
    let values: [PolicyTemplate]

    func holds(_ context: PolicyContext) -> Bool {
        let found = context[key]
        if comparison == .null {
            // "true": the key is absent. Several values: one of them is enough.
            let isAbsent = found?.isEmpty ?? true
            return values.contains { ASCIIText.lowercased($0.source) == (isAbsent ? "true" : "false") }
        }
        guard let found, !found.isEmpty else {
            return ifExists || quantifier == .allValues || (comparison.isNegated && quantifier == .none)
        }
        switch quantifier {
        case .none, .anyValue: return found.contains { isSatisfied(by: $0, context) }
        case .allValues: return found.allSatisfy { isSatisfied(by: $0, context) }
        }
    }

    private func isSatisfied(by value: String, _ context: PolicyContext) -> Bool {
        let fits = values.contains { template in
            guard let wanted = template.filled(context) else { return false }
            return compare(value, wanted)
        }
        return fits != comparison.isNegated
    }

    private func compare(_ value: String, _ wanted: (pattern: Wildcard, text: String)) -> Bool {
        switch comparison {
        case .stringEquals, .stringNotEquals, .binaryEquals: return value == wanted.text
        case .stringEqualsIgnoreCase, .stringNotEqualsIgnoreCase:
            return value.lowercased() == wanted.text.lowercased()
        case .stringLike, .stringNotLike: return wanted.pattern.matches(value)
        case .bool: return ASCIIText.equalIgnoringCase(value, wanted.text)
        case .ipAddress, .notIpAddress:
            guard let address = AddressBlock(value), let block = AddressBlock(wanted.text) else {
                return false
            }
            return block.contains(address)
        case .arnEquals, .arnNotEquals, .arnLike, .arnNotLike: return Self.arn(value, wanted.text)
        case .null: return false
        default: return compareOrdered(value, wanted.text)
        }
    }

    private func compareOrdered(_ value: String, _ wanted: String) -> Bool {
        switch comparison {
        case .numericEquals, .numericNotEquals, .numericLessThan, .numericLessThanEquals, .numericGreaterThan,
            .numericGreaterThanEquals:
            guard let left = Self.number(value), let right = Self.number(wanted) else { return false }
            return isOrdered(left, right)
        default:
            guard let left = Self.seconds(value), let right = Self.seconds(wanted) else { return false }
            return isOrdered(left, right)
        }
    }

    private func isOrdered(_ left: Double, _ right: Double) -> Bool {
        switch comparison {
        case .numericLessThan, .dateLessThan: left < right
        case .numericLessThanEquals, .dateLessThanEquals: left <= right
        case .numericGreaterThan, .dateGreaterThan: left > right
        case .numericGreaterThanEquals, .dateGreaterThanEquals: left >= right
        default: left == right
        }
    }

    static func number(_ text: String) -> Double? {
        guard text.utf8.count <= 40,
            text.utf8.allSatisfy({ ASCIIText.isDigit($0) || "+-.eE".utf8.contains($0) })
        else { return nil }
        return Double(text)
    }

    /// ISO 8601, or seconds since 1970.
    static func seconds(_ text: String) -> Double? {
        if let time = ISOTime(text) { return Double(time.timestamp.milliseconds) / 1000 }
        return number(text)
    }

    /// Part by part: a star does not reach over a colon but in the last part.
    static func arn(_ value: String, _ pattern: String) -> Bool {
        let parts = value.split(separator: ":", maxSplits: 5, omittingEmptySubsequences: false)
        let patterns = pattern.split(separator: ":", maxSplits: 5, omittingEmptySubsequences: false)
        guard parts.count == 6, patterns.count == 6 else { return pattern == "*" }
        return zip(parts, patterns).allSatisfy { Wildcard(String($1)).matches(String($0)) }
    }
}

/// Reading the Condition of a statement.
extension PolicyCondition {
    private static let comparisons: [String: Comparison] = Dictionary(
        uniqueKeysWithValues: Comparison.allCases.map { (ASCIIText.lowercased($0.rawValue), $0) }
    )

    static func parse(_ value: JSONValue, hasVariables: Bool) throws(S3Error) -> [PolicyCondition] {
        guard let operators = value.members else {
            throw PolicyText.malformed("Conditions must be an object")
        }
        var conditions: [PolicyCondition] = []
        for member in operators {
            guard let keys = member.value.members else {
                throw PolicyText.malformed("Conditions must map keys to values")
            }
            let kind = try parse(operator: member.name)
            for line in keys {
                conditions.append(
                    PolicyCondition(
                        quantifier: kind.quantifier,
                        comparison: kind.comparison,
                        ifExists: kind.ifExists,
                        key: try checked(key: line.name),
                        values: try values(of: line.value, kind.comparison).map {
                            PolicyTemplate($0, hasVariables: hasVariables)
                        }
                    )
                )
            }
        }
        return conditions
    }

    private static func parse(
        operator name: String
    ) throws(S3Error) -> (quantifier: Quantifier, comparison: Comparison, ifExists: Bool) {
        var rest = ASCIIText.lowercased(name)
        var quantifier = Quantifier.none
        for (prefix, value) in [("foranyvalue:", Quantifier.anyValue), ("forallvalues:", .allValues)]
        where rest.hasPrefix(prefix) {
            quantifier = value
            rest = String(rest.dropFirst(prefix.count))
        }
        let ifExists = rest.hasSuffix("ifexists")
        if ifExists { rest = String(rest.dropLast(8)) }
        guard let comparison = comparisons[rest], !(ifExists && comparison == .null) else {
            throw PolicyText.malformed("Invalid Condition type : \(name.prefix(128))")
        }
        return (quantifier, comparison, ifExists)
    }

    private static func checked(key: String) throws(S3Error) -> String {
        let name = PolicyContext.normalized(key)
        let isKnown =
            name.hasPrefix("s3:existingobjecttag/") || name.hasPrefix("s3:requestobjecttag/")
            || name.hasPrefix("s3:buckettag/") || name.hasPrefix("aws:requesttag/")
            || name.hasPrefix("aws:resourcetag/") || name.hasPrefix("aws:principaltag/")
            || keys.contains(name)
        guard isKnown else { throw PolicyText.malformed("Policy has an invalid condition key") }
        return name
    }

    /// Booleans and numbers may stand without quotes.
    private static func values(of value: JSONValue, _ comparison: Comparison) throws(S3Error) -> [String] {
        let list =
            if case .array(let values) = value { values } else { [value] }
        var texts: [String] = []
        for value in list {
            switch value {
            case .string(let text), .number(let text): texts.append(text)
            case .boolean(let flag): texts.append(flag ? "true" : "false")
            default: throw PolicyText.malformed("Conditions must map keys to values")
            }
        }
        guard !texts.isEmpty else { throw PolicyText.malformed("Conditions must map keys to values") }
        for text in texts where !text.contains("${") { try check(text, comparison) }
        return texts
    }

    private static func check(_ text: String, _ comparison: Comparison) throws(S3Error) {
        switch comparison {
        case .ipAddress, .notIpAddress:
            guard AddressBlock(text) != nil else {
                throw PolicyText.malformed("Invalid IP Address in Conditions : \(text.prefix(64))")
            }
        case .bool, .null:
            guard ["true", "false"].contains(ASCIIText.lowercased(text)) else {
                throw PolicyText.malformed("Invalid value for a Boolean condition")
            }
        case .numericEquals, .numericNotEquals, .numericLessThan, .numericLessThanEquals, .numericGreaterThan,
            .numericGreaterThanEquals:
            guard number(text) != nil else {
                throw PolicyText.malformed("Invalid numeric value in Conditions")
            }
        case .dateEquals, .dateNotEquals, .dateLessThan, .dateLessThanEquals, .dateGreaterThan,
            .dateGreaterThanEquals:
            guard seconds(text) != nil else { throw PolicyText.malformed("Invalid date in Conditions") }
        default: break
        }
    }

    /// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-keys.html
    /// https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazons3.html
    static let keys: Set<String> = [
        "aws:calledvia", "aws:currenttime", "aws:epochtime", "aws:multifactorauthage",
        "aws:multifactorauthpresent", "aws:principalaccount", "aws:principalarn", "aws:principalisawsservice",
        "aws:principalorgid", "aws:principalorgpaths", "aws:principalservicename", "aws:principaltype",
        "aws:referer", "aws:requestedregion", "aws:resourceaccount", "aws:resourceorgid",
        "aws:resourceorgpaths",
        "aws:securetransport", "aws:sourceaccount", "aws:sourcearn", "aws:sourceip", "aws:sourceorgid",
        "aws:sourceowner", "aws:sourcevpc", "aws:sourcevpce", "aws:tagkeys", "aws:tokenissuetime",
        "aws:useragent", "aws:userid", "aws:username", "aws:viaawsservice", "aws:vpcsourceip",
        "s3:accesspointnetworkorigin", "s3:authtype", "s3:dataaccesspointaccount", "s3:dataaccesspointarn",
        "s3:delimiter", "s3:if-match", "s3:if-none-match", "s3:locationconstraint", "s3:max-keys",
        "s3:object-lock-legal-hold", "s3:object-lock-mode", "s3:object-lock-remaining-retention-days",
        "s3:object-lock-retain-until-date", "s3:objectcreationoperation", "s3:prefix",
        "s3:requestobjecttagkeys", "s3:resourceaccount", "s3:signatureage", "s3:signatureversion",
        "s3:tlsversion", "s3:versionid", "s3:x-amz-acl", "s3:x-amz-content-sha256", "s3:x-amz-copy-source",
        "s3:x-amz-grant-full-control", "s3:x-amz-grant-read", "s3:x-amz-grant-read-acp",
        "s3:x-amz-grant-write",
        "s3:x-amz-grant-write-acp", "s3:x-amz-metadata-directive", "s3:x-amz-object-ownership",
        "s3:x-amz-server-side-encryption", "s3:x-amz-server-side-encryption-aws-kms-key-id",
        "s3:x-amz-server-side-encryption-customer-algorithm", "s3:x-amz-storage-class",
        "s3:x-amz-website-redirect-location",
    ]
}
