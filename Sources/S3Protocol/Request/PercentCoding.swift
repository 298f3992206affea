/// Percent-encoding as AWS defines it: everything but A–Z a–z 0–9 - . _ ~ is encoded, with upper-case digits.
/// https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
package enum PercentCoding {
    /// The bytes that the text stands for, or nil when an escape is not two hexadecimal digits.
    /// - Parameter plusIsSpace: true in queries, where forms write a space as `+`.
    package static func decode(_ text: some StringProtocol, plusIsSpace: Bool) -> [UInt8]? {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(text.utf8.count)
        var iterator = text.utf8.makeIterator()
        while let byte = iterator.next() {
            if byte == UInt8(ascii: "%") {
                guard let high = iterator.next().flatMap({ nibble($0) }),
                    let low = iterator.next().flatMap({ nibble($0) })
                else { return nil }
                bytes.append(high << 4 | low)
            } else if plusIsSpace && byte == UInt8(ascii: "+") {
                bytes.append(0x20)
            } else {
                bytes.append(byte)
            }
        }
        return bytes
    }

    /// The text, or nil when an escape is broken or the bytes are not UTF-8.
    package static func decodeText(_ text: some StringProtocol, plusIsSpace: Bool) -> String? {
        if !text.utf8.contains(where: { $0 == UInt8(ascii: "%") || $0 == UInt8(ascii: "+") }) {
            return String(text)
        }
        return decode(text, plusIsSpace: plusIsSpace).flatMap { String(validating: $0, as: UTF8.self) }
    }

    /// - Parameter keepsSlash: true in paths.
    package static func encode(_ bytes: some Sequence<UInt8>, keepsSlash: Bool) -> String {
        var text: [UInt8] = []
        text.reserveCapacity(bytes.underestimatedCount + 16)
        append(bytes, to: &text, keepsSlash: keepsSlash)
        return String(decoding: text, as: UTF8.self)
    }

    package static func encode(_ text: some StringProtocol, keepsSlash: Bool) -> String {
        encode(text.utf8, keepsSlash: keepsSlash)
    }

    static func append(_ bytes: some Sequence<UInt8>, to text: inout [UInt8], keepsSlash: Bool) {
        for byte in bytes { append(byte, to: &text, keepsSlash: keepsSlash) }
    }

    static func append(_ byte: UInt8, to text: inout [UInt8], keepsSlash: Bool) {
        if isUnreserved(byte) || (keepsSlash && byte == UInt8(ascii: "/")) {
            text.append(byte)
        } else {
            text.append(UInt8(ascii: "%"))
            text.append(digit(byte >> 4))
            text.append(digit(byte & 15))
        }
    }

    static func isUnreserved(_ byte: UInt8) -> Bool {
        ASCIIText.isLower(byte) || ASCIIText.isUpper(byte) || ASCIIText.isDigit(byte)
            || byte == UInt8(ascii: "-")
            || byte == UInt8(ascii: ".") || byte == UInt8(ascii: "_") || byte == UInt8(ascii: "~")
    }

    static func nibble(_ byte: UInt8) -> UInt8? {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - UInt8(ascii: "0")
        case UInt8(ascii: "a")...UInt8(ascii: "f"): byte - UInt8(ascii: "a") + 10
        case UInt8(ascii: "A")...UInt8(ascii: "F"): byte - UInt8(ascii: "A") + 10
        default: nil
        }
    }

    private static func digit(_ value: UInt8) -> UInt8 {
        value < 10 ? UInt8(ascii: "0") + value : UInt8(ascii: "A") + (value - 10)
    }
}
