internal import COpenSSL
internal import ContentHashing
package import StoreModel

/// HMAC with SHA-256.
/// https://www.rfc-editor.org/rfc/rfc2104
package enum HMACSHA256 {
    private static let blockByteCount = 64

    /// - Parameter message: pieces that are taken as one.
    package static func code(key: UnsafeRawBufferPointer, message: [[UInt8]]) -> Digest {
        withUnsafeTemporaryAllocation(byteCount: blockByteCount, alignment: 8) { block in
            defer { if let base = block.baseAddress { OPENSSL_cleanse(base, block.count) } }
            block.initializeMemory(as: UInt8.self, repeating: 0)
            if key.count > blockByteCount {
                SHA256Hasher.hash(key).write(to: block)
            } else {
                block.copyMemory(from: key)
            }
            for index in block.indices { block[index] ^= 0x36 }
            var inner = SHA256Hasher()
            inner.update(UnsafeRawBufferPointer(block))
            for piece in message { piece.withUnsafeBytes { inner.update($0) } }
            let digest = inner.finish()
            // From the inner pad to the outer one.
            for index in block.indices { block[index] ^= 0x36 ^ 0x5c }
            var outer = SHA256Hasher()
            outer.update(UnsafeRawBufferPointer(block))
            digest.bytes.withUnsafeBytes { outer.update($0) }
            return outer.finish()
        }
    }

    package static func code(key: [UInt8], message: [[UInt8]]) -> Digest {
        key.withUnsafeBytes { code(key: $0, message: message) }
    }
}

/// HKDF with SHA-256: keys for one purpose each out of one key.
/// https://www.rfc-editor.org/rfc/rfc5869
package enum HKDFSHA256 {
    /// https://www.rfc-editor.org/rfc/rfc5869#section-2.3: at most 255 blocks of the hash.
    package static let outputByteCountMax = 255 * Digest.byteCount

    package static func derive(
        from key: UnsafeRawBufferPointer,
        salt: [UInt8],
        info: [UInt8],
        byteCount: Int
    ) -> [UInt8] {
        precondition((1...outputByteCountMax).contains(byteCount), "HKDF gives 1 to 8,160 bytes.")
        // A missing salt is a block of zeros, which is what HMAC makes of an empty key.
        let extracted = salt.withUnsafeBytes { HMACSHA256.code(key: $0, message: [[UInt8](key)]) }.bytes
        var output: [UInt8] = []
        var block: [UInt8] = []
        var counter: UInt8 = 1
        while output.count < byteCount {
            block = HMACSHA256.code(key: extracted, message: [block, info, [counter]]).bytes
            output += block
            counter &+= 1
        }
        return [UInt8](output.prefix(byteCount))
    }

    /// A key for one purpose.
    package static func key(from key: EncryptionKey, salt: [UInt8], info: String) -> EncryptionKey {
        var bytes = key.withUnsafeBytes {
            derive(from: $0, salt: salt, info: [UInt8](info.utf8), byteCount: EncryptionKey.byteCount)
        }
        defer { wipe(&bytes) }
        guard let derived = EncryptionKey(bytes) else { fatalError("HKDF gives as many bytes as asked for.") }
        return derived
    }
}

/// Overwrites secret bytes that an array held. Best effort: copies that the array made are out of reach.
package func wipe(_ bytes: inout [UInt8]) {
    bytes.withUnsafeMutableBytes { buffer in
        if let base = buffer.baseAddress { OPENSSL_cleanse(base, buffer.count) }
    }
}
