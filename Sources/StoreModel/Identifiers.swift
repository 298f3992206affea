/// 128 random bits with a UUID's text form: identity of a store or of a volume.
package struct UniqueID: Hashable, Sendable, BitwiseCopyable, Comparable, CustomStringConvertible {
    package let high: UInt64
    package let low: UInt64

    package init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }

    /// A random (version 4) identifier.
    package static func random(from source: any RandomSource) -> UniqueID {
        let high = source.next() & 0xFFFF_FFFF_FFFF_0FFF | 0x0000_0000_0000_4000
        let low = source.next() & 0x3FFF_FFFF_FFFF_FFFF | 0x8000_0000_0000_0000
        return UniqueID(high: high, low: low)
    }

    /// Parses 8-4-4-4-12 hexadecimal digits, or returns nil.
    package init?(_ text: some StringProtocol) {
        let parts = text.split(separator: "-", omittingEmptySubsequences: false)
        guard parts.map(\.utf8.count) == [8, 4, 4, 4, 12] else { return nil }
        let joined = parts.joined()
        guard let high = UInt64(joined.prefix(16), radix: 16), let low = UInt64(joined.suffix(16), radix: 16)
        else { return nil }
        guard !joined.utf8.contains(UInt8(ascii: "+")) else { return nil }
        self.init(high: high, low: low)
    }

    package var description: String {
        let digits = Hex.encode(bytes)
        var text = ""
        for (index, character) in digits.enumerated() {
            if [8, 12, 16, 20].contains(index) { text.append("-") }
            text.append(character)
        }
        return text
    }

    /// The 16 bytes, most significant first.
    package var bytes: [UInt8] {
        withUnsafeBytes(of: high.bigEndian) { [UInt8]($0) }
            + withUnsafeBytes(of: low.bigEndian) { [UInt8]($0) }
    }

    package static func < (left: UniqueID, right: UniqueID) -> Bool {
        (left.high, left.low) < (right.high, right.low)
    }
}

package typealias StoreID = UniqueID
package typealias VolumeID = UniqueID

/// Names one mutation as the caller asked for it, so that a retry finds the outcome of the first attempt.
package typealias OperationID = UniqueID

/// Number of a bucket; never reused, so a bucket that is deleted and made again is another one.
package struct BucketID: Hashable, Sendable, BitwiseCopyable, Comparable, RawRepresentable {
    package let rawValue: UInt64
    package init(rawValue: UInt64) { self.rawValue = rawValue }
    package static func < (left: BucketID, right: BucketID) -> Bool { left.rawValue < right.rawValue }
}

/// Identity of one version of one object: its place in the order of all mutations, and 64 random bits.
///
/// Sortable (later versions compare greater), opaque, and never reused: a sequence that was given to a mutation
/// that never became durable may be given again after a crash, but the random bits then differ.
/// Text form: 26 characters of base32hex in lower case, which sort like the value.
package struct VersionID: Hashable, Sendable, BitwiseCopyable, Comparable, CustomStringConvertible {
    package let sequence: UInt64
    package let nonce: UInt64

    package init(sequence: UInt64, nonce: UInt64) {
        self.sequence = sequence
        self.nonce = nonce
    }

    private static let alphabet = [UInt8]("0123456789abcdefghijklmnopqrstuv".utf8)
    private static let textLength = 26

    /// Parses the text form, or returns nil.
    package init?(_ text: some StringProtocol) {
        guard text.utf8.count == Self.textLength else { return nil }
        var value: (high: UInt64, low: UInt64) = (0, 0)
        for (index, character) in text.utf8.enumerated() {
            guard let digit = Self.alphabet.firstIndex(of: character) else { return nil }
            // 26 characters carry 130 bits: the first may use three of its five.
            guard index > 0 || digit < 8 else { return nil }
            value.high = value.high << 5 | value.low >> 59
            value.low = value.low << 5 | UInt64(digit)
        }
        self.init(sequence: value.high, nonce: value.low)
    }

    package var description: String {
        var value = (high: sequence, low: nonce)
        var characters = [UInt8](repeating: 0, count: Self.textLength)
        for index in characters.indices.reversed() {
            characters[index] = Self.alphabet[Int(value.low & 31)]
            value.low = value.low >> 5 | value.high << 59
            value.high >>= 5
        }
        return String(decoding: characters, as: UTF8.self)
    }

    package static func < (left: VersionID, right: VersionID) -> Bool {
        (left.sequence, left.nonce) < (right.sequence, right.nonce)
    }
}
