/// The checksums that S3 clients declare and servers keep beside an object.
/// https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html
package enum ChecksumAlgorithm: UInt8, CaseIterable, Sendable {
    // The raw values are stored; they never change.
    case crc32 = 1
    case crc32c = 2
    case crc64nvme = 3
    case sha1 = 4
    case sha256 = 5

    /// As in x-amz-checksum-algorithm and in XML.
    package var name: String {
        switch self {
        case .crc32: "CRC32"
        case .crc32c: "CRC32C"
        case .crc64nvme: "CRC64NVME"
        case .sha1: "SHA1"
        case .sha256: "SHA256"
        }
    }

    /// Parses a name of either case: SDKs send both.
    package init?(name: some StringProtocol) {
        let upper = name.uppercased()
        guard let match = Self.allCases.first(where: { $0.name == upper }) else { return nil }
        self = match
    }

    /// The header or trailer that carries the value, in lower case.
    package var headerName: String {
        switch self {
        case .crc32: "x-amz-checksum-crc32"
        case .crc32c: "x-amz-checksum-crc32c"
        case .crc64nvme: "x-amz-checksum-crc64nvme"
        case .sha1: "x-amz-checksum-sha1"
        case .sha256: "x-amz-checksum-sha256"
        }
    }

    package init?(headerName: some StringProtocol) {
        let lower = headerName.lowercased()
        guard let match = Self.allCases.first(where: { $0.headerName == lower }) else { return nil }
        self = match
    }

    /// The XML element that carries the value.
    package var elementName: String {
        switch self {
        case .crc32: "ChecksumCRC32"
        case .crc32c: "ChecksumCRC32C"
        case .crc64nvme: "ChecksumCRC64NVME"
        case .sha1: "ChecksumSHA1"
        case .sha256: "ChecksumSHA256"
        }
    }

    package var byteCount: Int {
        switch self {
        case .crc32, .crc32c: 4
        case .crc64nvme: 8
        case .sha1: 20
        case .sha256: 32
        }
    }

    /// CRCs of parts give the CRC of the whole; digests do not.
    package var isCyclic: Bool {
        switch self {
        case .crc32, .crc32c, .crc64nvme: true
        case .sha1, .sha256: false
        }
    }

    /// How a multipart upload that names only the algorithm is checksummed.
    /// https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity-upload.html
    package var multipartTypeDefault: ChecksumType {
        self == .crc64nvme ? .fullObject : .composite
    }

    /// Which forms a multipart upload may ask for: CRC64NVME only the full object, SHA only the composite.
    package func allows(_ type: ChecksumType) -> Bool {
        switch self {
        case .crc64nvme: type == .fullObject
        case .crc32, .crc32c: true
        case .sha1, .sha256: type == .composite
        }
    }
}

/// Whether a checksum is over the object's bytes or over the checksums of its parts.
package enum ChecksumType: UInt8, CaseIterable, Sendable {
    // The raw values are stored; they never change.
    case fullObject = 1
    case composite = 2

    package var name: String {
        switch self {
        case .fullObject: "FULL_OBJECT"
        case .composite: "COMPOSITE"
        }
    }

    package init?(name: some StringProtocol) {
        guard let match = Self.allCases.first(where: { $0.name == name }) else { return nil }
        self = match
    }
}

/// A checksum's value: as many bytes as its algorithm gives, most significant first.
package struct Checksum: Hashable, Sendable {
    package let algorithm: ChecksumAlgorithm
    package let bytes: [UInt8]

    /// Nil when the number of bytes is not the algorithm's.
    package init?(_ algorithm: ChecksumAlgorithm, bytes: [UInt8]) {
        guard bytes.count == algorithm.byteCount else { return nil }
        self.algorithm = algorithm
        self.bytes = bytes
    }

    /// Nil when the text is not the base64 form of a value of this algorithm.
    package init?(_ algorithm: ChecksumAlgorithm, base64: some StringProtocol) {
        guard let bytes = Base64.decode(base64) else { return nil }
        self.init(algorithm, bytes: bytes)
    }

    init(_ algorithm: ChecksumAlgorithm, register: UInt64) {
        self.algorithm = algorithm
        let word = withUnsafeBytes(of: register.bigEndian) { [UInt8]($0) }
        bytes = [UInt8](word.suffix(algorithm.byteCount))
    }

    package var base64: String { Base64.encode(bytes) }
}

/// Base64 with padding (RFC 4648, section 4).
package enum Base64 {
    private static let alphabet = [UInt8](
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8
    )

    package static func encode(_ bytes: some Collection<UInt8>) -> String {
        var text: [UInt8] = []
        text.reserveCapacity((bytes.count / 3 + 1) * 4)
        var group: UInt32 = 0
        var count = 0
        func flush() {
            for index in 0...count { text.append(alphabet[Int(group >> (18 - 6 * UInt32(index)) & 63)]) }
        }
        for byte in bytes {
            group |= UInt32(byte) << (16 - 8 * UInt32(count))
            count += 1
            if count == 3 {
                flush()
                (group, count) = (0, 0)
            }
        }
        if count > 0 {
            flush()
            text.append(contentsOf: repeatElement(UInt8(ascii: "="), count: 3 - count))
        }
        return String(decoding: text, as: UTF8.self)
    }

    /// The bytes, or nil when the text is anything but canonical: wrong length, another character, padding that is
    /// missing or in the middle, bits behind the last byte.
    package static func decode(_ text: some StringProtocol) -> [UInt8]? {
        var characters = [UInt8](text.utf8)
        guard characters.count.isMultiple(of: 4) else { return nil }
        for _ in 0..<2 where characters.last == UInt8(ascii: "=") { characters.removeLast() }
        var bytes: [UInt8] = []
        bytes.reserveCapacity(characters.count / 4 * 3 + 3)
        var bits: UInt32 = 0
        var bitCount: UInt32 = 0
        for character in characters {
            guard let value = value(of: character) else { return nil }
            bits = bits << 6 | value
            bitCount += 6
            if bitCount >= 8 {
                bitCount -= 8
                bytes.append(UInt8(truncatingIfNeeded: bits >> bitCount))
                bits &= 1 << bitCount - 1
            }
        }
        return bits == 0 && bitCount < 6 ? bytes : nil
    }

    private static func value(of character: UInt8) -> UInt32? {
        switch character {
        case UInt8(ascii: "A")...UInt8(ascii: "Z"): UInt32(character - UInt8(ascii: "A"))
        case UInt8(ascii: "a")...UInt8(ascii: "z"): UInt32(character - UInt8(ascii: "a")) + 26
        case UInt8(ascii: "0")...UInt8(ascii: "9"): UInt32(character - UInt8(ascii: "0")) + 52
        case UInt8(ascii: "+"): 62
        case UInt8(ascii: "/"): 63
        default: nil
        }
    }
}
