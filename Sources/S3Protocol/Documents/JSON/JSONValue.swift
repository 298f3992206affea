/// A JSON value (RFC 8259) as policies need it: the members of an object keep their order, numbers their digits.
package enum JSONValue: Hashable, Sendable {
    case null
    case boolean(Bool)
    /// As written.
    case number(String)
    case string(String)
    case array([JSONValue])
    case object([Member])

    package struct Member: Hashable, Sendable {
        package let name: String
        package let value: JSONValue
    }

    package struct Failure: Error, Hashable, Sendable {
        package let message: String
    }

    /// Objects and arrays inside each other; policies need seven.
    package static let depthMax = 16

    /// Parses one value and nothing behind it. Names of an object may not repeat: two readers could disagree about
    /// which one counts.
    package init(parsing bytes: [UInt8]) throws(Failure) {
        guard String(validating: bytes, as: UTF8.self) != nil else { throw Failure(message: "not UTF-8") }
        var parser = JSONParser(bytes)
        self = try parser.document()
    }

    package var string: String? {
        if case .string(let text) = self { text } else { nil }
    }

    package var members: [Member]? {
        if case .object(let members) = self { members } else { nil }
    }

    package subscript(name: String) -> JSONValue? { members?.first { $0.name == name }?.value }
}

private struct JSONParser {
    private let bytes: [UInt8]
    private var position = 0
    private var depth = 0

    init(_ bytes: [UInt8]) { self.bytes = bytes }

    private typealias Failure = JSONValue.Failure

    private var next: UInt8? { position < bytes.count ? bytes[position] : nil }

    private func failure(_ message: String) -> JSONValue.Failure {
        JSONValue.Failure(message: "\(message) at byte \(position)")
    }

    mutating func document() throws(JSONValue.Failure) -> JSONValue {
        let value = try value()
        skipBlanks()
        guard next == nil else { throw failure("more behind the value") }
        return value
    }

    private mutating func skipBlanks() {
        while let byte = next, [0x20, 0x09, 0x0A, 0x0D].contains(byte) { position += 1 }
    }

    private mutating func skip(_ mark: UInt8) -> Bool {
        skipBlanks()
        guard next == mark else { return false }
        position += 1
        return true
    }

    private mutating func value() throws(JSONValue.Failure) -> JSONValue {
        skipBlanks()
        guard let byte = next else { throw failure("a value is missing") }
        switch byte {
        case UInt8(ascii: "{"): return try nested { parser throws(JSONValue.Failure) in try parser.object() }
        case UInt8(ascii: "["): return try nested { parser throws(JSONValue.Failure) in try parser.array() }
        case UInt8(ascii: "\""): return .string(try string())
        case UInt8(ascii: "t"): return try word("true", .boolean(true))
        case UInt8(ascii: "f"): return try word("false", .boolean(false))
        case UInt8(ascii: "n"): return try word("null", .null)
        default: return try number()
        }
    }

    private mutating func nested(
        _ body: (inout JSONParser) throws(JSONValue.Failure) -> JSONValue
    ) throws(JSONValue.Failure) -> JSONValue {
        guard depth < JSONValue.depthMax else { throw failure("nested too deeply") }
        depth += 1
        position += 1
        let value = try body(&self)
        depth -= 1
        return value
    }

    private mutating func object() throws(JSONValue.Failure) -> JSONValue {
        var members: [JSONValue.Member] = []
        var names: Set<String> = []
        if skip(UInt8(ascii: "}")) { return .object(members) }
        while true {
            skipBlanks()
            guard next == UInt8(ascii: "\"") else { throw failure("a name is missing") }
            let name = try string()
            guard names.insert(name).inserted else { throw failure("a name stands twice") }
            guard skip(UInt8(ascii: ":")) else { throw failure("a colon is missing") }
            members.append(JSONValue.Member(name: name, value: try value()))
            if skip(UInt8(ascii: "}")) { return .object(members) }
            guard skip(UInt8(ascii: ",")) else { throw failure("a comma is missing") }
        }
    }

    private mutating func array() throws(JSONValue.Failure) -> JSONValue {
        var values: [JSONValue] = []
        if skip(UInt8(ascii: "]")) { return .array(values) }
        while true {
            values.append(try value())
            if skip(UInt8(ascii: "]")) { return .array(values) }
            guard skip(UInt8(ascii: ",")) else { throw failure("a comma is missing") }
        }
    }

    private mutating func word(
        _ text: String,
        _ value: JSONValue
    ) throws(JSONValue.Failure) -> JSONValue {
        guard bytes[position...].starts(with: text.utf8) else { throw failure("no value") }
        position += text.utf8.count
        return value
    }

    private mutating func digits() -> Int {
        let start = position
        while let byte = next, (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) { position += 1 }
        return position - start
    }

    private mutating func number() throws(JSONValue.Failure) -> JSONValue {
        let start = position
        if next == UInt8(ascii: "-") { position += 1 }
        let hasLeadingZero = next == UInt8(ascii: "0")
        let count = digits()
        guard count > 0, !hasLeadingZero || count == 1 else { throw failure("no value") }
        if next == UInt8(ascii: ".") {
            position += 1
            guard digits() > 0 else { throw failure("digits are missing") }
        }
        if next == UInt8(ascii: "e") || next == UInt8(ascii: "E") {
            position += 1
            if next == UInt8(ascii: "+") || next == UInt8(ascii: "-") { position += 1 }
            guard digits() > 0 else { throw failure("digits are missing") }
        }
        return .number(String(decoding: bytes[start..<position], as: UTF8.self))
    }

    private mutating func string() throws(JSONValue.Failure) -> String {
        position += 1
        var text: [UInt8] = []
        while let byte = next {
            position += 1
            switch byte {
            case UInt8(ascii: "\""): return String(decoding: text, as: UTF8.self)
            case UInt8(ascii: "\\"): try escape(into: &text)
            case 0..<0x20: throw failure("a control character in a string")
            default: text.append(byte)
            }
        }
        throw failure("a string is not closed")
    }

    private mutating func escape(into text: inout [UInt8]) throws(JSONValue.Failure) {
        guard let byte = next else { throw failure("a string is not closed") }
        position += 1
        switch byte {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): text.append(byte)
        case UInt8(ascii: "b"): text.append(0x08)
        case UInt8(ascii: "f"): text.append(0x0C)
        case UInt8(ascii: "n"): text.append(0x0A)
        case UInt8(ascii: "r"): text.append(0x0D)
        case UInt8(ascii: "t"): text.append(0x09)
        case UInt8(ascii: "u"):
            var code = try codeUnit()
            if (0xD800..<0xDC00).contains(code) {
                // A pair of surrogates makes one character.
                guard bytes[position...].starts(with: "\\u".utf8) else { throw failure("half a character") }
                position += 2
                let low = try codeUnit()
                guard (0xDC00..<0xE000).contains(low) else { throw failure("half a character") }
                code = 0x10000 + (code - 0xD800) << 10 + (low - 0xDC00)
            }
            guard let scalar = Unicode.Scalar(code) else { throw failure("half a character") }
            text.append(contentsOf: String(scalar).utf8)
        default: throw failure("an unknown escape")
        }
    }

    private mutating func codeUnit() throws(JSONValue.Failure) -> UInt32 {
        guard position + 4 <= bytes.count else { throw failure("a string is not closed") }
        var code: UInt32 = 0
        for byte in bytes[position..<position + 4] {
            guard let digit = PercentCoding.nibble(byte) else { throw failure("no hexadecimal digit") }
            code = code << 4 | UInt32(digit)
        }
        position += 4
        return code
    }
}
