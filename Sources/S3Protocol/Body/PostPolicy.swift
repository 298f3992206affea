internal import ContentHashing
internal import StoreModel

/// The policy of an upload form: until when, and what its fields may be.
/// https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-HTTPPOSTConstructPolicy.html
package struct PostPolicy: Sendable {
    private enum Condition: Sendable {
        case equals(field: String, value: String)
        case startsWith(field: String, prefix: String)
        case size(ClosedRange<UInt64>)

        var field: String? {
            switch self {
            case .equals(let field, _), .startsWith(let field, _): field
            case .size: nil
            }
        }
    }

    private let expiration: Timestamp
    private let conditions: [Condition]

    /// - Throws: `InvalidPolicyDocument` for anything that is not exactly a policy: what is not understood can't be
    ///   enforced.
    package init(base64: String) throws(S3Error) {
        guard let bytes = Base64.decode(base64) else { throw Self.invalid("The Base64 is not valid.") }
        let document: JSONValue
        do {
            document = try JSONValue(parsing: bytes)
        } catch {
            throw Self.invalid("Invalid JSON.")
        }
        guard let members = document.members else { throw Self.invalid("Invalid JSON.") }
        guard let expirationText = document["expiration"]?.string else {
            throw Self.invalid("Policy missing expiration.")
        }
        guard let expiration = ISO8601.parse(expirationText) else {
            throw Self.invalid("Invalid 'expiration' value.")
        }
        guard case .array(let list)? = document["conditions"] else {
            throw Self.invalid("Policy missing conditions.")
        }
        guard members.allSatisfy({ $0.name == "expiration" || $0.name == "conditions" }) else {
            throw Self.invalid("Unexpected element.")
        }
        self.expiration = expiration
        var conditions: [Condition] = []
        for value in list { conditions += try Self.conditions(value) }
        self.conditions = conditions
    }

    /// - Returns: the sizes that the file may have; nil when the policy does not say.
    /// - Throws: `AccessDenied` when it is over, a condition does not hold, or a field stands in no condition.
    func check(
        _ form: PostForm,
        bucket: BucketName,
        now: Timestamp
    ) throws(S3Error) -> ClosedRange<UInt64>? {
        guard now < expiration else { throw Self.denied("Policy expired.") }
        if let named = form.value("bucket"), named != bucket.description {
            throw Self.denied("The bucket of the form is not the one of the request.")
        }
        var sizes: ClosedRange<UInt64>?
        for condition in conditions {
            switch condition {
            case .equals(let field, let wanted):
                // By bytes: strings that look the same are equal to Swift, but not to a store of keys.
                guard let value = Self.value(field, form, bucket), value.utf8.elementsEqual(wanted.utf8)
                else {
                    throw Self.denied("Policy Condition failed: [\"eq\", \"$\(field)\", \"\(wanted)\"]")
                }
            case .startsWith(let field, let prefix):
                guard let value = Self.value(field, form, bucket), value.utf8.starts(with: prefix.utf8) else {
                    throw Self.denied(
                        "Policy Condition failed: [\"starts-with\", \"$\(field)\", \"\(prefix)\"]"
                    )
                }
            case .size(let range):
                let low = max(range.lowerBound, sizes?.lowerBound ?? 0)
                let high = min(range.upperBound, sizes?.upperBound ?? UInt64.max)
                guard low <= high else { throw Self.denied("No file has a size that all conditions allow.") }
                sizes = low...high
            }
        }
        let covered = Set(conditions.compactMap(\.field))
        for name in ["bucket"] + form.fields.map(\.name)
        where !covered.contains(name) && !Self.needsNoCondition(name) {
            throw Self.denied("Extra input fields: \(name.prefix(128))")
        }
        return sizes
    }

    /// - Throws: `EntityTooSmall`, `EntityTooLarge`.
    package static func check(size: UInt64, in sizes: ClosedRange<UInt64>?) throws(S3Error) {
        guard let sizes else { return }
        guard size >= sizes.lowerBound else {
            throw S3Error(
                .entityTooSmall,
                details: [("ProposedSize", "\(size)"), ("MinSizeAllowed", "\(sizes.lowerBound)")]
            )
        }
        guard size <= sizes.upperBound else {
            throw S3Error(
                .entityTooLarge,
                details: [("ProposedSize", "\(size)"), ("MaxSizeAllowed", "\(sizes.upperBound)")]
            )
        }
    }

    private static func value(_ field: String, _ form: PostForm, _ bucket: BucketName) -> String? {
        field == "bucket" ? bucket.description : form.value(field)
    }

    private static func needsNoCondition(_ name: String) -> Bool {
        name == "x-amz-signature" || name == "signature" || name == "awsaccesskeyid" || name == "policy"
            || name == "file" || name.hasPrefix("x-ignore-")
    }

    // MARK: Parsing

    private static func conditions(_ value: JSONValue) throws(S3Error) -> [Condition] {
        switch value {
        case .object(let members):
            guard !members.isEmpty else { throw invalid("Invalid Simple-Condition: empty.") }
            var conditions: [Condition] = []
            for member in members {
                guard let text = member.value.string else {
                    throw invalid("Invalid Simple-Condition: value must be a string.")
                }
                conditions.append(.equals(field: ASCIIText.lowercased(member.name), value: text))
            }
            return conditions
        case .array(let parts):
            return [try condition(parts)]
        default:
            throw invalid("Invalid Condition.")
        }
    }

    private static func condition(_ parts: [JSONValue]) throws(S3Error) -> Condition {
        guard parts.count == 3, let name = parts[0].string else { throw invalid("Invalid Condition.") }
        switch ASCIIText.lowercased(name) {
        case "content-length-range":
            guard let low = number(parts[1]), let high = number(parts[2]), low <= high else {
                throw invalid("Invalid content-length-range.")
            }
            return .size(low...high)
        case "eq":
            guard let field = field(parts[1]), let text = parts[2].string else {
                throw invalid("Invalid Condition.")
            }
            return .equals(field: field, value: text)
        case "starts-with":
            guard let field = field(parts[1]), let text = parts[2].string else {
                throw invalid("Invalid Condition.")
            }
            return .startsWith(field: field, prefix: text)
        default:
            throw invalid("Invalid Condition: unknown operation.")
        }
    }

    private static func field(_ value: JSONValue) -> String? {
        guard let text = value.string, text.hasPrefix("$"), text.utf8.count > 1 else { return nil }
        return ASCIIText.lowercased(String(text.dropFirst()))
    }

    private static func number(_ value: JSONValue) -> UInt64? {
        switch value {
        case .number(let text), .string(let text): ASCIIText.decimal(text)
        default: nil
        }
    }

    private static func invalid(_ reason: String) -> S3Error {
        S3Error(.invalidPolicyDocument, "Invalid Policy: \(reason)")
    }

    private static func denied(_ reason: String) -> S3Error {
        S3Error(.accessDenied, "Invalid according to Policy: \(reason)")
    }
}
