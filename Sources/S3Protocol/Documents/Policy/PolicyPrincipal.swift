/// Who makes a request, as policies name accounts.
package struct PolicyPrincipal: Hashable, Sendable {
    /// The canonical user id; nil for an anonymous request.
    package let canonicalID: String?

    package static let anonymous = PolicyPrincipal(canonicalID: nil)

    package init(canonicalID: String?) { self.canonicalID = canonicalID }

    /// The twelve digits that stand for the account in ARNs: made from its canonical id, so that they never change.
    package var accountNumber: String? { canonicalID.map { Self.accountNumber(of: $0) } }

    /// The ARN of the account.
    package var arn: String? { accountNumber.map { "arn:aws:iam::\($0):root" } }

    package static func accountNumber(of canonicalID: String) -> String {
        var remainder: UInt64 = 0
        for byte in canonicalID.utf8 { remainder = (remainder * 251 + UInt64(byte)) % 1_000_000_000_000 }
        return ISOTime.padded(Int64(remainder), 12)
    }
}

/// Whom a statement is about.
/// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_principal.html
struct PrincipalPattern: Hashable, Sendable {
    enum Element: Hashable, Sendable {
        case everyone
        /// Twelve digits, or a canonical id in an ARN.
        case account(String)
        case canonicalUser(String)
        /// A service or a federation: no request here comes from one.
        case other(kind: String, name: String)
    }

    let elements: [Element]

    var isEveryone: Bool { elements.contains(.everyone) }

    /// The accounts that are named, so that those that do not exist can be refused.
    var accounts: [Element] {
        elements.filter { element in
            switch element {
            case .account, .canonicalUser: true
            case .everyone, .other: false
            }
        }
    }

    init(parsing value: JSONValue) throws(S3Error) {
        var elements: [Element] = []
        switch value {
        case .string("*"): elements = [.everyone]
        case .object(let members) where !members.isEmpty:
            for member in members {
                let names = try PolicyText.strings(member.value) { Self.invalid }
                guard !names.isEmpty else { throw Self.invalid }
                for name in names { elements.append(try Self.element(kind: member.name, name)) }
            }
        default: throw Self.invalid
        }
        self.elements = elements
    }

    private static var invalid: S3Error { PolicyText.malformed("Invalid principal in policy") }

    private static func element(kind: String, _ name: String) throws(S3Error) -> Element {
        switch kind {
        case "AWS":
            if name == "*" { return .everyone }
            return .account(try account(of: name))
        case "CanonicalUser":
            guard name.utf8.count == 64, name.utf8.allSatisfy({ PercentCoding.nibble($0) != nil }) else {
                throw invalid
            }
            return .canonicalUser(name.lowercased())
        case "Service", "Federated":
            guard !name.isEmpty, name != "*" || kind == "Federated" else { throw invalid }
            return .other(kind: kind, name: name)
        default: throw invalid
        }
    }

    /// An account's digits, its canonical id, or an ARN with one of them. Users inside accounts do not exist here;
    /// a user's ARN without an account names the account by its canonical id.
    private static func account(of name: String) throws(S3Error) -> String {
        if isAccount(name) { return name }
        let parts = name.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
        guard parts.count == 6, parts[0] == "arn", ["iam", "sts"].contains(parts[2]), parts[3].isEmpty else {
            throw invalid
        }
        if parts[5] == "root", isAccount(parts[4]) { return parts[4] }
        if parts[5].hasPrefix("user/") {
            let user = String(parts[5].dropFirst(5))
            guard !user.isEmpty, !user.utf8.contains(UInt8(ascii: "*")) else { throw invalid }
            if parts[4].isEmpty || isAccount(parts[4]) { return user }
        }
        throw invalid
    }

    private static func isAccount(_ text: String) -> Bool {
        (text.utf8.count == 12 && text.utf8.allSatisfy { ASCIIText.isDigit($0) })
            || (text.utf8.count == 64 && text.utf8.allSatisfy { PercentCoding.nibble($0) != nil })
    }

    func matches(_ principal: PolicyPrincipal) -> Bool {
        elements.contains { element in
            switch element {
            case .everyone: true
            case .account(let name):
                principal.canonicalID != nil
                    && (principal.accountNumber == name || principal.canonicalID == name.lowercased())
            case .canonicalUser(let id): principal.canonicalID == id
            case .other: false
            }
        }
    }
}

/// Small readings that all parts of a policy share.
enum PolicyText {
    static func malformed(_ message: String) -> S3Error { S3Error(.malformedPolicy, message) }

    /// One string or an array of them.
    static func strings(
        _ value: JSONValue,
        _ failure: () -> S3Error
    ) throws(S3Error) -> [String] {
        switch value {
        case .string(let text): return [text]
        case .array(let values):
            var texts: [String] = []
            for value in values {
                guard let text = value.string else { throw failure() }
                texts.append(text)
            }
            return texts
        default: throw failure()
        }
    }
}
