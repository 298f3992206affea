/// Builds one JSON object on one line.
package struct JSONLine: ~Copyable {
    private var bytes: [UInt8] = []
    private var isFirst = true

    package init() {
        bytes.reserveCapacity(384)
        bytes.append(UInt8(ascii: "{"))
    }

    package mutating func add(_ name: String, _ value: String) {
        key(name)
        quoted(value)
    }

    package mutating func add(_ name: String, _ value: Int64) {
        key(name)
        bytes += "\(value)".utf8
    }

    /// - Returns: the object with a line's end.
    package consuming func finished() -> [UInt8] {
        bytes += [UInt8(ascii: "}"), UInt8(ascii: "\n")]
        return bytes
    }

    private mutating func key(_ name: String) {
        if !isFirst { bytes.append(UInt8(ascii: ",")) }
        isFirst = false
        quoted(name)
        bytes.append(UInt8(ascii: ":"))
    }

    /// https://www.rfc-editor.org/rfc/rfc8259#section-7
    private mutating func quoted(_ text: String) {
        bytes.append(UInt8(ascii: "\""))
        for byte in text.utf8 {
            switch byte {
            case UInt8(ascii: "\""), UInt8(ascii: "\\"): bytes += [UInt8(ascii: "\\"), byte]
            case UInt8(ascii: "\n"): bytes += [UInt8(ascii: "\\"), UInt8(ascii: "n")]
            case 0..<0x20, 0x7F:
                let digits: [UInt8] = [UInt8]("0123456789abcdef".utf8)
                bytes += [UInt8]("\\u00".utf8) + [digits[Int(byte >> 4)], digits[Int(byte & 15)]]
            default: bytes.append(byte)
            }
        }
        bytes.append(UInt8(ascii: "\""))
    }
}
