internal import COpenSSL
package import StoreModel

/// HMAC (RFC 2104) with SHA-256: what signatures of requests are made of.
package enum HMACSHA256 {
    package static func authenticate(_ message: [UInt8], key: [UInt8]) -> Digest {
        key.withUnsafeBytes { key in message.withUnsafeBytes { authenticate($0, key: key) } }
    }

    package static func authenticate(_ message: [UInt8], key: Digest) -> Digest {
        withUnsafeTemporaryAllocation(byteCount: Digest.byteCount, alignment: 8) { room in
            key.write(to: room)
            return message.withUnsafeBytes { authenticate($0, key: UnsafeRawBufferPointer(room)) }
        }
    }

    package static func authenticate(_ message: UnsafeRawBufferPointer, key: UnsafeRawBufferPointer) -> Digest
    {
        withHMAC(sha256, message, key: key) { bytes in
            guard let digest = Digest(bytes: bytes) else { fatalError("HMAC-SHA-256 has 32 bytes.") }
            return digest
        }
    }
}

/// HMAC with SHA-1: only for forms that are signed the way of version 2.
package enum HMACSHA1 {
    package static func authenticate(_ message: [UInt8], key: [UInt8]) -> [UInt8] {
        key.withUnsafeBytes { key in
            message.withUnsafeBytes { withHMAC(sha1, $0, key: key) { [UInt8]($0) } }
        }
    }
}

/// Comparison that takes as long for a wrong first byte as for a wrong last one.
package enum ConstantTime {
    package static func equal(_ left: Digest, _ right: Digest) -> Bool {
        let difference =
            (left.words.0 ^ right.words.0) | (left.words.1 ^ right.words.1) | (left.words.2 ^ right.words.2)
            | (left.words.3 ^ right.words.3)
        return difference == 0
    }

    /// The lengths are no secret.
    package static func equal(_ left: [UInt8], _ right: [UInt8]) -> Bool {
        left.withUnsafeBytes { left in right.withUnsafeBytes { right in equal(left, right) } }
    }

    package static func equal(_ left: UnsafeRawBufferPointer, _ right: UnsafeRawBufferPointer) -> Bool {
        guard left.count == right.count else { return false }
        guard let first = left.baseAddress, let second = right.baseAddress else { return true }
        return CRYPTO_memcmp(first, second, left.count) == 0
    }
}

/// Fetched once, as looking them up costs more than using them.
/// `nonisolated(unsafe)` is right: a fetched EVP_MD is immutable and libcrypto allows its use from any thread.
private nonisolated(unsafe) let sha256: OpaquePointer = fetch("SHA256")
private nonisolated(unsafe) let sha1: OpaquePointer = fetch("SHA1")

private func fetch(_ name: String) -> OpaquePointer {
    guard let algorithm = EVP_MD_fetch(nil, name, nil) else {
        fatalError("libcrypto offers no \(name): the provider configuration of OpenSSL disables it.")
    }
    return algorithm
}

/// Both digests work on blocks of so many bytes.
private let blockSize = 64
private let innerPad: UInt8 = 0x36
private let outerPad: UInt8 = 0x5C

/// Two digests in one context: made by hand this takes half of the time of EVP_MAC, which sets up both key blocks
/// through its parameter lists for every message.
private func withHMAC<Value>(
    _ algorithm: OpaquePointer,
    _ message: UnsafeRawBufferPointer,
    key: UnsafeRawBufferPointer,
    _ body: (UnsafeRawBufferPointer) -> Value
) -> Value {
    guard let context = EVP_MD_CTX_new() else { fatalError("libcrypto is out of memory.") }
    defer { EVP_MD_CTX_free(context) }
    return withUnsafeTemporaryAllocation(byteCount: blockSize + Int(EVP_MAX_MD_SIZE), alignment: 8) { room in
        let block = UnsafeMutableRawBufferPointer(rebasing: room[..<blockSize])
        let output = UnsafeMutableRawBufferPointer(rebasing: room[blockSize...])
        defer { OPENSSL_cleanse(room.baseAddress, room.count) }
        block.initializeMemory(as: UInt8.self, repeating: 0)
        if key.count <= blockSize {
            block.copyMemory(from: key)
        } else {
            let length = digest(context, algorithm, key, UnsafeRawBufferPointer(start: nil, count: 0), output)
            block.copyMemory(from: UnsafeRawBufferPointer(rebasing: output[..<length]))
        }
        for index in block.indices { block[index] ^= innerPad }
        let length = digest(context, algorithm, UnsafeRawBufferPointer(block), message, output)
        for index in block.indices { block[index] ^= innerPad ^ outerPad }
        let inner = UnsafeRawBufferPointer(rebasing: output[..<length])
        let end = digest(context, algorithm, UnsafeRawBufferPointer(block), inner, output)
        return body(UnsafeRawBufferPointer(rebasing: output[..<end]))
    }
}

/// The digest of two pieces; its length.
private func digest(
    _ context: OpaquePointer,
    _ algorithm: OpaquePointer,
    _ first: UnsafeRawBufferPointer,
    _ second: UnsafeRawBufferPointer,
    _ output: UnsafeMutableRawBufferPointer
) -> Int {
    var length: UInt32 = 0
    var status = EVP_DigestInit_ex(context, algorithm, nil)
    if status == 1, !first.isEmpty { status = EVP_DigestUpdate(context, first.baseAddress, first.count) }
    if status == 1, !second.isEmpty { status = EVP_DigestUpdate(context, second.baseAddress, second.count) }
    if status == 1 {
        status = EVP_DigestFinal_ex(
            context,
            output.assumingMemoryBound(to: UInt8.self).baseAddress,
            &length
        )
    }
    guard status == 1 else { fatalError("libcrypto could not make a digest: out of memory, or disabled.") }
    return Int(length)
}
