/// What HTTP means by case and by blanks: ASCII only, whatever the locale.
package enum ASCIIText {
    package static func lowercased(_ text: String) -> String {
        guard text.utf8.contains(where: { isUpper($0) }) else { return text }
        return String(decoding: text.utf8.map { isUpper($0) ? $0 | 0x20 : $0 }, as: UTF8.self)
    }

    package static func equalIgnoringCase(_ left: some StringProtocol, _ right: some StringProtocol) -> Bool {
        left.utf8.elementsEqual(right.utf8) { folded($0) == folded($1) }
    }

    package static func hasPrefixIgnoringCase(_ text: some StringProtocol, _ prefix: String) -> Bool {
        let start = text.utf8.prefix(prefix.utf8.count)
        return start.elementsEqual(prefix.utf8) { folded($0) == folded($1) }
    }

    /// Without spaces and tabs at both ends.
    package static func trimmed(_ text: String) -> String {
        guard let first = text.utf8.first, let last = text.utf8.last, isBlank(first) || isBlank(last) else {
            return text
        }
        return String(trimmedSlice(text[...]))
    }

    package static func trimmedSlice(_ text: Substring) -> Substring {
        var bytes = text.utf8
        while let first = bytes.first, isBlank(first) { bytes = bytes.dropFirst() }
        while let last = bytes.last, isBlank(last) { bytes = bytes.dropLast() }
        return Substring(bytes)
    }

    /// The pieces between ASCII characters. Splitting a String by Characters looks for graphemes: 20 times as slow.
    package static func split(
        _ text: Substring,
        at separator: Unicode.Scalar,
        omittingEmpty: Bool = false
    ) -> [Substring] {
        let byte = UInt8(truncatingIfNeeded: separator.value)
        var pieces: [Substring] = []
        var rest = text.utf8
        while let end = rest.firstIndex(of: byte) {
            if !omittingEmpty || end > rest.startIndex { pieces.append(Substring(rest[..<end])) }
            rest = rest[rest.index(after: end)...]
        }
        if !omittingEmpty || !rest.isEmpty { pieces.append(Substring(rest)) }
        return pieces
    }

    /// A decimal number without a sign: `Int("+5")` would take one.
    package static func decimal(_ text: some StringProtocol) -> UInt64? {
        guard !text.isEmpty, text.utf8.count <= 20, text.utf8.allSatisfy({ isDigit($0) }) else { return nil }
        return UInt64(text)
    }

    package static func isDigit(_ byte: UInt8) -> Bool { byte >= 0x30 && byte <= 0x39 }
    package static func isUpper(_ byte: UInt8) -> Bool { byte >= 0x41 && byte <= 0x5A }
    package static func isLower(_ byte: UInt8) -> Bool { byte >= 0x61 && byte <= 0x7A }
    package static func isBlank(_ byte: UInt8) -> Bool { byte == 0x20 || byte == 0x09 }

    private static func folded(_ byte: UInt8) -> UInt8 { isUpper(byte) ? byte | 0x20 : byte }
}
