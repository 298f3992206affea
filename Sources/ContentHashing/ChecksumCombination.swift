internal import StoreModel

/// One CRC's polynomial: bit i of `reflected` and of every register stands for x^(width-1-i).
struct CyclicPolynomial: Sendable {
    let reflected: UInt64
    /// All bits of the register: the initial value and the final mask of all three.
    let mask: UInt64
    private let one: UInt64

    /// For an algorithm that is not cyclic, CRC-32 stands in: callers ask `isCyclic` first.
    init(_ algorithm: ChecksumAlgorithm) {
        let width: Int
        switch algorithm {
        case .crc64nvme: (reflected, width) = (0x9A6C_9329_AC4B_C9B5, 64)
        case .crc32c: (reflected, width) = (0x82F6_3B78, 32)
        case .crc32, .sha1, .sha256: (reflected, width) = (0xEDB8_8320, 32)
        }
        mask = width == 64 ? UInt64.max : UInt64(1) << UInt64(width) - 1
        one = UInt64(1) << UInt64(width - 1)
    }

    /// The product modulo the polynomial.
    private func product(_ left: UInt64, _ right: UInt64) -> UInt64 {
        var sum: UInt64 = 0
        var factor = right
        var bit = one
        while bit != 0 {
            if left & bit != 0 { sum ^= factor }
            factor = factor >> 1 ^ (factor & 1 != 0 ? reflected : 0)
            bit >>= 1
        }
        return sum
    }

    /// The value times x^(8 · byteCount): as if so many zero bytes followed.
    func shifted(_ value: UInt64, byteCount: UInt64) -> UInt64 {
        var result = value
        // x^8, then its squares.
        var power = one >> 8
        var rest = byteCount
        while rest != 0 {
            if rest & 1 != 0 { result = product(power, result) }
            power = product(power, power)
            rest >>= 1
        }
        return result
    }
}

/// The CRC of a whole from the CRCs and lengths of its pieces, in order, without reading them again.
///
/// With initial value and final mask equal, the CRC of A followed by B is the CRC of A times x^(8·|B|), plus the CRC
/// of B (as zlib's crc32_combine).
package struct CRCCombination: Sendable {
    private let algorithm: ChecksumAlgorithm
    private let polynomial: CyclicPolynomial
    private var value: UInt64 = 0
    /// Bytes of the pieces so far.
    package private(set) var byteCount: UInt64 = 0

    /// Nil for an algorithm that can't be combined.
    package init?(_ algorithm: ChecksumAlgorithm) {
        guard algorithm.isCyclic else { return nil }
        self.algorithm = algorithm
        polynomial = CyclicPolynomial(algorithm)
    }

    /// - Returns: false when the checksum is of another algorithm.
    package mutating func append(_ checksum: Checksum, byteCount count: UInt64) -> Bool {
        guard checksum.algorithm == algorithm else { return false }
        let piece = checksum.bytes.reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        value = polynomial.shifted(value, byteCount: count) ^ piece
        byteCount &+= count
        return true
    }

    package var checksum: Checksum { Checksum(algorithm, register: value) }
}

/// What S3 shows as the checksum of an object: one value, for a composite with the number of parts behind it.
/// https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity-upload.html
package struct ObjectChecksum: Hashable, Sendable {
    package let checksum: Checksum
    package let type: ChecksumType
    /// Zero for the full object.
    package let partCount: Int

    /// Over the object's own bytes.
    package init(fullObject checksum: Checksum) {
        self.checksum = checksum
        type = .fullObject
        partCount = 0
    }

    /// Over the checksums of the parts: the algorithm applied to their values one behind the other.
    /// Nil when a part's checksum is of another algorithm, or without parts.
    package init?(compositeOf parts: [Checksum]) {
        guard let algorithm = parts.first?.algorithm, parts.allSatisfy({ $0.algorithm == algorithm }) else {
            return nil
        }
        var checksummer = Checksummer(algorithm)
        for part in parts { part.bytes.withUnsafeBytes { checksummer.update($0) } }
        checksum = checksummer.finish()
        type = .composite
        partCount = parts.count
    }

    /// Parses what a header or an element shows: base64, with "-N" for a composite of N parts.
    package init?(_ algorithm: ChecksumAlgorithm, text: some StringProtocol) {
        let pieces = text.split(separator: "-", maxSplits: 1, omittingEmptySubsequences: false)
        guard let first = pieces.first, let checksum = Checksum(algorithm, base64: first) else { return nil }
        self.checksum = checksum
        guard pieces.count == 2, let digits = pieces.last else {
            type = .fullObject
            partCount = 0
            return
        }
        guard digits.utf8.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }),
            let count = Int(digits), (1...10_000).contains(count)
        else { return nil }
        type = .composite
        partCount = count
    }

    package var text: String {
        type == .composite ? "\(checksum.base64)-\(partCount)" : checksum.base64
    }

    /// Algorithm, type, number of parts in two bytes, value.
    package var storedBytes: [UInt8] {
        let count = UInt16(clamping: partCount)
        return [checksum.algorithm.rawValue, type.rawValue, UInt8(count >> 8), UInt8(count & 0xFF)]
            + checksum.bytes
    }

    /// Nil for bytes that `storedBytes` did not make.
    package init?(storedBytes bytes: [UInt8]) {
        guard bytes.count > 4, let algorithm = ChecksumAlgorithm(rawValue: bytes[0]),
            let type = ChecksumType(rawValue: bytes[1]),
            let checksum = Checksum(algorithm, bytes: [UInt8](bytes.dropFirst(4)))
        else { return nil }
        self.checksum = checksum
        self.type = type
        partCount = Int(bytes[2]) << 8 | Int(bytes[3])
    }
}
