/// Patterns with `*` for any text and `?` for one character, over UTF-8.
package struct Wildcard: Hashable, Sendable {
    /// Bytes as they are; the two signs stand above them.
    private var tokens: [UInt16] = []
    private static let anyText: UInt16 = 256
    private static let anyCharacter: UInt16 = 257

    /// Nothing yet: it matches the empty text.
    package init() {}

    /// - Parameter hasQuestionMark: false where a question mark is itself.
    package init(_ pattern: String, hasQuestionMark: Bool = true) {
        append(pattern: pattern, hasQuestionMark: hasQuestionMark)
    }

    package mutating func append(pattern: some StringProtocol, hasQuestionMark: Bool = true) {
        for byte in pattern.utf8 {
            switch byte {
            case UInt8(ascii: "*"): if tokens.last != Self.anyText { tokens.append(Self.anyText) }
            case UInt8(ascii: "?") where hasQuestionMark: tokens.append(Self.anyCharacter)
            default: tokens.append(UInt16(byte))
            }
        }
    }

    /// Text in which the signs mean themselves: what a variable stands for.
    package mutating func append(literal: some StringProtocol) {
        for byte in literal.utf8 { tokens.append(UInt16(byte)) }
    }

    package var hasSigns: Bool { tokens.contains { $0 >= Self.anyText } }

    /// Goes back to the last star only, so the time is at most the product of the lengths.
    package func matches(_ text: String) -> Bool {
        var text = text
        return text.withUTF8 { matches(bytes: $0) }
    }

    private func matches(bytes text: UnsafeBufferPointer<UInt8>) -> Bool {
        var textIndex = 0
        var tokenIndex = 0
        var star: (token: Int, text: Int)?
        while textIndex < text.count {
            let token = tokenIndex < tokens.count ? tokens[tokenIndex] : nil
            if token == Self.anyText {
                star = (tokenIndex, textIndex)
                tokenIndex += 1
            } else if token == Self.anyCharacter {
                tokenIndex += 1
                textIndex += 1
                // The rest of a character of several bytes.
                while textIndex < text.count, text[textIndex] & 0xC0 == 0x80 { textIndex += 1 }
            } else if token == UInt16(text[textIndex]) {
                tokenIndex += 1
                textIndex += 1
            } else if let last = star {
                star = (last.token, last.text + 1)
                tokenIndex = last.token + 1
                textIndex = last.text + 1
            } else {
                return false
            }
        }
        return tokens[tokenIndex...].allSatisfy { $0 == Self.anyText }
    }
}
