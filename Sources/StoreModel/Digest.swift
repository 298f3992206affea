/// A SHA-256 digest: the name of a chunk, of a manifest node and of a whole object.
///
/// Four words rather than an array: hashable, comparable and trivially copyable. The words hold the digest's bytes
/// in big-endian order, so comparing words compares bytes.
package struct Digest: Hashable, Sendable, BitwiseCopyable {
    package static let byteCount = 32

    package let words: (UInt64, UInt64, UInt64, UInt64)

    package init(words: (UInt64, UInt64, UInt64, UInt64)) {
        self.words = words
    }

    /// The all-zero digest: the "nothing yet" of hash chains. No content is named by it.
    package static let zero = Digest(words: (0, 0, 0, 0))

    /// Reads the first 32 bytes, or nil when there are fewer.
    package init?(bytes: UnsafeRawBufferPointer) {
        guard bytes.count >= Self.byteCount else { return nil }
        words = (
            UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: 0, as: UInt64.self)),
            UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self)),
            UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: 16, as: UInt64.self)),
            UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: 24, as: UInt64.self))
        )
    }

    /// Takes exactly 32 bytes, or returns nil.
    package init?(_ bytes: [UInt8]) {
        guard bytes.count == Self.byteCount else { return nil }
        guard let digest = bytes.withUnsafeBytes({ Digest(bytes: $0) }) else { return nil }
        self = digest
    }

    /// Parses 64 hexadecimal digits of either case, or returns nil.
    package init?(hex: some StringProtocol) {
        guard let bytes = Hex.decode(hex) else { return nil }
        self.init(bytes)
    }

    package var bytes: [UInt8] {
        [UInt8](unsafeUninitializedCapacity: Self.byteCount) { buffer, count in
            write(to: UnsafeMutableRawBufferPointer(buffer))
            count = Self.byteCount
        }
    }

    /// Writes the 32 bytes to the start of `buffer`, which must hold at least 32.
    package func write(to buffer: UnsafeMutableRawBufferPointer) {
        precondition(buffer.count >= Self.byteCount, "A digest needs 32 bytes of room.")
        buffer.storeBytes(of: words.0.bigEndian, toByteOffset: 0, as: UInt64.self)
        buffer.storeBytes(of: words.1.bigEndian, toByteOffset: 8, as: UInt64.self)
        buffer.storeBytes(of: words.2.bigEndian, toByteOffset: 16, as: UInt64.self)
        buffer.storeBytes(of: words.3.bigEndian, toByteOffset: 24, as: UInt64.self)
    }

    /// 64 lower-case hexadecimal digits.
    package var hex: String { Hex.encode(bytes) }

    package static func == (left: Digest, right: Digest) -> Bool { left.words == right.words }

    package func hash(into hasher: inout Hasher) {
        hasher.combine(words.0)
        hasher.combine(words.1)
    }
}

extension Digest: Comparable {
    package static func < (left: Digest, right: Digest) -> Bool { left.words < right.words }
}

extension Digest: CustomStringConvertible {
    package var description: String { hex }
}

/// An MD5 digest: the ETag of an object that was put in one piece. Never used to identify or to verify content.
package struct MD5Digest: Hashable, Sendable, BitwiseCopyable, CustomStringConvertible {
    package static let byteCount = 16

    package let high: UInt64
    package let low: UInt64

    package init?(bytes: UnsafeRawBufferPointer) {
        guard bytes.count >= Self.byteCount else { return nil }
        high = UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: 0, as: UInt64.self))
        low = UInt64(bigEndian: bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
    }

    /// Parses 32 hexadecimal digits of either case, or returns nil.
    package init?(hex: some StringProtocol) {
        guard let bytes = Hex.decode(hex), bytes.count == Self.byteCount else { return nil }
        guard let digest = bytes.withUnsafeBytes({ Self(bytes: $0) }) else { return nil }
        self = digest
    }

    package var bytes: [UInt8] {
        [UInt8](unsafeUninitializedCapacity: Self.byteCount) { buffer, count in
            let raw = UnsafeMutableRawBufferPointer(buffer)
            raw.storeBytes(of: high.bigEndian, toByteOffset: 0, as: UInt64.self)
            raw.storeBytes(of: low.bigEndian, toByteOffset: 8, as: UInt64.self)
            count = Self.byteCount
        }
    }

    package var hex: String { Hex.encode(bytes) }
    package var description: String { hex }
}
