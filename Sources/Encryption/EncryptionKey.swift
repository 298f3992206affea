internal import COpenSSL
internal import ContentHashing
package import StoreModel

/// 256 secret bits. They leave this type only through `withUnsafeBytes`, are never printed, not even by
/// `dump`, and are wiped when the last reference goes.
package final class EncryptionKey: Sendable {
    package static let byteCount = 32

    // Sendable because the bytes are written in `init` and wiped in `deinit`, and only read in between.
    private nonisolated(unsafe) let bytes: UnsafeMutableRawPointer

    private init(filledBy fill: (UnsafeMutableRawBufferPointer) -> Void) {
        bytes = .allocate(byteCount: Self.byteCount, alignment: 8)
        fill(UnsafeMutableRawBufferPointer(start: bytes, count: Self.byteCount))
    }

    /// - Returns: nil unless there are exactly 32 bytes.
    package convenience init?(_ source: some Collection<UInt8>) {
        guard source.count == Self.byteCount else { return nil }
        self.init { $0.copyBytes(from: source) }
    }

    /// A new key. The source must be one that can't be foreseen: the operating system's outside of tests.
    package convenience init(from random: any RandomSource) {
        self.init { buffer in
            for offset in stride(from: 0, to: Self.byteCount, by: 8) {
                buffer.storeBytes(of: random.next(), toByteOffset: offset, as: UInt64.self)
            }
        }
    }

    deinit {
        OPENSSL_cleanse(bytes, Self.byteCount)
        bytes.deallocate()
    }

    package func withUnsafeBytes<Value>(_ body: (UnsafeRawBufferPointer) -> Value) -> Value {
        body(UnsafeRawBufferPointer(start: bytes, count: Self.byteCount))
    }
}

extension EncryptionKey: Equatable {
    package static func == (left: EncryptionKey, right: EncryptionKey) -> Bool {
        left.withUnsafeBytes { first in
            right.withUnsafeBytes { second in ConstantTime.equal(first, second) }
        }
    }
}

extension EncryptionKey: CustomStringConvertible, CustomReflectable {
    package var description: String { "EncryptionKey(secret)" }
    package var customMirror: Mirror { Mirror(self, children: []) }
}

extension RandomSource {
    /// Random bytes for salts.
    package func bytes(count: Int) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(count + 8)
        while bytes.count < count {
            withUnsafeBytes(of: next()) { bytes.append(contentsOf: $0) }
        }
        bytes.removeLast(bytes.count - count)
        return bytes
    }
}
