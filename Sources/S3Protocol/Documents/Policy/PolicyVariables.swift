/// Text of a policy that may hold variables: `${aws:username}`, `${s3:prefix}`, with a default
/// `${aws:username, 'nobody'}`, and `${*}`, `${?}`, `${$}` for the signs themselves.
/// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_variables.html
struct PolicyTemplate: Hashable, Sendable {
    private enum Piece: Hashable, Sendable {
        /// With its wildcards.
        case pattern(String)
        case literal(String)
        case variable(key: String, fallback: String?)
    }

    private let pieces: [Piece]
    /// Made once where there is nothing to fill in.
    private let fixed: (pattern: Wildcard, text: String)?
    /// As written.
    let source: String

    /// - Parameter hasVariables: false for policies of the first version, where `${` is text.
    init(_ source: String, hasVariables: Bool) {
        self.source = source
        pieces = hasVariables ? Self.parse(source) : [.pattern(source)]
        let isFixed = pieces.allSatisfy { piece in
            if case .variable = piece { false } else { true }
        }
        fixed = isFixed ? Self.fill(pieces) { _ in nil } : nil
    }

    private static func parse(_ source: String) -> [Piece] {
        var pieces: [Piece] = []
        var rest = source[...]
        while let start = rest.firstRange(of: "${") {
            guard let end = rest[start.upperBound...].firstIndex(of: "}") else { break }
            if start.lowerBound > rest.startIndex {
                pieces.append(.pattern(String(rest[..<start.lowerBound])))
            }
            let inside = String(rest[start.upperBound..<end])
            if ["*", "?", "$"].contains(inside) {
                pieces.append(.literal(inside))
            } else {
                pieces.append(variable(inside))
            }
            rest = rest[rest.index(after: end)...]
        }
        if !rest.isEmpty { pieces.append(.pattern(String(rest))) }
        return pieces
    }

    private static func variable(_ inside: String) -> Piece {
        let parts = inside.split(separator: ",", maxSplits: 1, omittingEmptySubsequences: false)
        let key = ASCIIText.trimmed(String(parts.first ?? ""))
        guard parts.count == 2 else { return .variable(key: key, fallback: nil) }
        let text = ASCIIText.trimmed(String(parts[1]))
        let isQuoted = text.utf8.count >= 2 && text.hasPrefix("'") && text.hasSuffix("'")
        return .variable(key: key, fallback: isQuoted ? String(text.dropFirst().dropLast()) : text)
    }

    private static func fill(
        _ pieces: [Piece],
        _ value: (String) -> String?
    ) -> (pattern: Wildcard, text: String)? {
        var pattern = Wildcard()
        var text = ""
        for piece in pieces {
            switch piece {
            case .pattern(let piece):
                pattern.append(pattern: piece)
                text += piece
            case .literal(let piece):
                pattern.append(literal: piece)
                text += piece
            case .variable(let key, let fallback):
                guard let found = value(key) ?? fallback else { return nil }
                pattern.append(literal: found)
                text += found
            }
        }
        return (pattern, text)
    }

    /// Nil when a variable has no single value in this request: then nothing matches.
    func filled(_ context: PolicyContext) -> (pattern: Wildcard, text: String)? {
        fixed ?? Self.fill(pieces) { context.single($0) }
    }

    static func == (left: PolicyTemplate, right: PolicyTemplate) -> Bool { left.pieces == right.pieces }

    func hash(into hasher: inout Hasher) { hasher.combine(pieces) }
}

/// The condition keys of a request with their values.
/// https://docs.aws.amazon.com/AmazonS3/latest/userguide/amazon-s3-policy-keys.html
package struct PolicyContext: Hashable, Sendable {
    private var values: [String: [String]] = [:]

    package init() {}

    /// Names have no case, but the tag's key behind the slash has.
    static func normalized(_ key: String) -> String {
        guard let slash = key.firstIndex(of: "/") else { return ASCIIText.lowercased(key) }
        return ASCIIText.lowercased(String(key[..<slash])) + key[slash...]
    }

    package subscript(key: String) -> [String]? {
        get { values[Self.normalized(key)] }
        set { values[Self.normalized(key)] = newValue }
    }

    package mutating func set(_ key: String, _ value: String?) {
        if let value { self[key] = [value] }
    }

    func single(_ key: String) -> String? {
        guard let found = self[key], found.count == 1 else { return nil }
        return found.first
    }

    /// The tags that an object has: `s3:ExistingObjectTag/<key>`.
    package mutating func setExistingTags(_ tags: TagSet) {
        for tag in tags.tags { self["s3:ExistingObjectTag/" + tag.key] = [tag.value] }
    }

    /// The tags that a request gives: `s3:RequestObjectTag/<key>` and `s3:RequestObjectTagKeys`.
    package mutating func setRequestTags(_ tags: TagSet) {
        for tag in tags.tags { self["s3:RequestObjectTag/" + tag.key] = [tag.value] }
        self["s3:RequestObjectTagKeys"] = tags.tags.map(\.key)
    }
}
