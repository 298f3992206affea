internal import StoreModel

/// The part of JSON that the identity file needs: objects, arrays, strings, whole numbers, true and false.
///
/// A person can read and `jq` can query the file; the reader is strict and bounded.
indirect enum IdentityText: Sendable, Equatable {
    case object([Member])
    case array([IdentityText])
    case text(String)
    case number(Int64)
    /// Numbers beyond Int64 don't occur in text; sequences are unsigned.
    case unsigned(UInt64)
    case boolean(Bool)

    struct Member: Sendable, Equatable {
        let name: String
        let value: IdentityText
    }

    subscript(name: String) -> IdentityText? {
        guard case .object(let members) = self else { return nil }
        return members.first { $0.name == name }?.value
    }

    var asText: String? {
        guard case .text(let value) = self else { return nil }
        return value
    }

    var asUnsigned: UInt64? {
        switch self {
        case .unsigned(let value): value
        case .number(let value): UInt64(exactly: value)
        default: nil
        }
    }

    var asSigned: Int64? {
        switch self {
        case .unsigned(let value): Int64(exactly: value)
        case .number(let value): value
        default: nil
        }
    }

    var asBoolean: Bool? {
        guard case .boolean(let value) = self else { return nil }
        return value
    }

    var asArray: [IdentityText]? {
        guard case .array(let values) = self else { return nil }
        return values
    }

    // MARK: Writing

    func write(to text: inout String, indent: Int) {
        switch self {
        case .object(let members):
            text += members.isEmpty ? "{}" : "{\n"
            for (index, member) in members.enumerated() {
                text += String(repeating: " ", count: indent + 2)
                Self.write(member.name, to: &text)
                text += ": "
                member.value.write(to: &text, indent: indent + 2)
                text += index + 1 < members.count ? ",\n" : "\n" + String(repeating: " ", count: indent) + "}"
            }
        case .array(let values):
            text += "["
            for (index, value) in values.enumerated() {
                if index > 0 { text += ", " }
                value.write(to: &text, indent: indent)
            }
            text += "]"
        case .text(let value): Self.write(value, to: &text)
        case .number(let value): text += String(value)
        case .unsigned(let value): text += String(value)
        case .boolean(let value): text += value ? "true" : "false"
        }
    }

    private static func write(_ value: String, to text: inout String) {
        text += "\""
        for scalar in value.unicodeScalars {
            switch scalar {
            case "\"": text += "\\\""
            case "\\": text += "\\\\"
            case _ where scalar.value < 0x20:
                let digits = String(scalar.value, radix: 16)
                text += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
            default: text.unicodeScalars.append(scalar)
            }
        }
        text += "\""
    }

    // MARK: Reading

    /// Parses one value that fills the text.
    init(parsing bytes: [UInt8]) throws(ByteReader.Failure) {
        var parser = Parser(bytes: bytes)
        self = try parser.value(depth: 0)
        parser.skipSpace()
        guard parser.position == bytes.count else { throw ByteReader.Failure("text after the end") }
    }

    private struct Parser {
        let bytes: [UInt8]
        var position = 0

        static let depthMax = 8

        var next: UInt8? { position < bytes.count ? bytes[position] : nil }

        mutating func skipSpace() {
            while let byte = next, byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 {
                position += 1
            }
        }

        mutating func take(_ character: Unicode.Scalar) throws(ByteReader.Failure) {
            skipSpace()
            guard next == UInt8(ascii: character) else { throw ByteReader.Failure("\(character) expected") }
            position += 1
        }

        mutating func takeIf(_ character: Unicode.Scalar) -> Bool {
            skipSpace()
            guard next == UInt8(ascii: character) else { return false }
            position += 1
            return true
        }

        mutating func value(depth: Int) throws(ByteReader.Failure) -> IdentityText {
            guard depth < Self.depthMax else { throw ByteReader.Failure("nested too deeply") }
            skipSpace()
            switch next {
            case UInt8(ascii: "{"): return try object(depth: depth)
            case UInt8(ascii: "["): return try array(depth: depth)
            case UInt8(ascii: "\""): return .text(try string())
            case UInt8(ascii: "t"): return try word("true", .boolean(true))
            case UInt8(ascii: "f"): return try word("false", .boolean(false))
            default: return try number()
            }
        }

        mutating func object(depth: Int) throws(ByteReader.Failure) -> IdentityText {
            try take("{")
            var members: [Member] = []
            if takeIf("}") { return .object(members) }
            repeat {
                skipSpace()
                let name = try string()
                try take(":")
                members.append(Member(name: name, value: try value(depth: depth + 1)))
            } while takeIf(",")
            try take("}")
            return .object(members)
        }

        mutating func array(depth: Int) throws(ByteReader.Failure) -> IdentityText {
            try take("[")
            var values: [IdentityText] = []
            if takeIf("]") { return .array(values) }
            repeat { values.append(try value(depth: depth + 1)) } while takeIf(",")
            try take("]")
            return .array(values)
        }

        mutating func word(_ word: String, _ value: IdentityText) throws(ByteReader.Failure) -> IdentityText {
            let end = position + word.utf8.count
            guard end <= bytes.count, bytes[position..<end].elementsEqual(word.utf8) else {
                throw ByteReader.Failure("\(word) expected")
            }
            position = end
            return value
        }

        mutating func number() throws(ByteReader.Failure) -> IdentityText {
            let start = position
            while let byte = next, (0x30...0x39).contains(byte) || byte == UInt8(ascii: "-") { position += 1 }
            let digits = String(decoding: bytes[start..<position], as: UTF8.self)
            if let value = UInt64(digits) { return .unsigned(value) }
            guard let value = Int64(digits) else { throw ByteReader.Failure("a number expected") }
            return .number(value)
        }

        mutating func string() throws(ByteReader.Failure) -> String {
            try take("\"")
            var content: [UInt8] = []
            while let byte = next, byte != UInt8(ascii: "\"") {
                position += 1
                if byte == UInt8(ascii: "\\") {
                    content.append(contentsOf: try escape())
                } else {
                    content.append(byte)
                }
            }
            try take("\"")
            guard let text = String(validating: content, as: UTF8.self) else {
                throw ByteReader.Failure("text is not UTF-8")
            }
            return text
        }

        mutating func escape() throws(ByteReader.Failure) -> [UInt8] {
            guard let byte = next else { throw ByteReader.Failure("text ends in an escape") }
            position += 1
            if byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "\\") { return [byte] }
            guard byte == UInt8(ascii: "u"), position + 4 <= bytes.count,
                let code = UInt32(String(decoding: bytes[position..<position + 4], as: UTF8.self), radix: 16),
                let scalar = Unicode.Scalar(code)
            else { throw ByteReader.Failure("unknown escape") }
            position += 4
            return [UInt8](String(scalar).utf8)
        }
    }
}
