internal import COpenSSL
package import StoreModel

/// One running libcrypto digest. A class so that copies share nothing by accident and the context is freed once.
private final class DigestContext {
    private let context: OpaquePointer

    init(_ algorithm: OpaquePointer) {
        guard let context = EVP_MD_CTX_new(), EVP_DigestInit_ex(context, algorithm, nil) == 1 else {
            fatalError("libcrypto could not start a digest: out of memory, or the algorithm is disabled.")
        }
        self.context = context
    }

    deinit { EVP_MD_CTX_free(context) }

    func update(_ bytes: UnsafeRawBufferPointer) {
        guard let base = bytes.baseAddress, bytes.count > 0 else { return }
        let status = EVP_DigestUpdate(context, base, bytes.count)
        precondition(status == 1, "EVP_DigestUpdate fails only on a finished context.")
    }

    /// A context of its own that has seen the same bytes.
    init(copyOf other: DigestContext) {
        guard let context = EVP_MD_CTX_new(), EVP_MD_CTX_copy_ex(context, other.context) == 1 else {
            fatalError("libcrypto could not copy a digest: out of memory.")
        }
        self.context = context
    }

    func finish<Value>(byteCount: Int, _ body: (UnsafeRawBufferPointer) -> Value) -> Value {
        withUnsafeTemporaryAllocation(byteCount: Int(EVP_MAX_MD_SIZE), alignment: 8) { output in
            var length: UInt32 = 0
            let status = EVP_DigestFinal_ex(
                context,
                output.assumingMemoryBound(to: UInt8.self).baseAddress,
                &length
            )
            precondition(status == 1 && Int(length) == byteCount, "EVP_DigestFinal_ex gave another length.")
            return body(UnsafeRawBufferPointer(rebasing: output[..<byteCount]))
        }
    }
}

/// Fetched once: looking an algorithm up by name costs more than hashing a small block.
/// `nonisolated(unsafe)` is right: a fetched EVP_MD is immutable and libcrypto allows its use from any thread.
private nonisolated(unsafe) let sha256Algorithm: OpaquePointer = fetch("SHA256")
private nonisolated(unsafe) let md5Algorithm: OpaquePointer = fetch("MD5")
private nonisolated(unsafe) let sha1Algorithm: OpaquePointer = fetch("SHA1")

private func fetch(_ name: String) -> OpaquePointer {
    guard let algorithm = EVP_MD_fetch(nil, name, nil) else {
        fatalError("libcrypto offers no \(name): the provider configuration of OpenSSL disables it.")
    }
    return algorithm
}

/// A digest that is fed piece by piece.
package protocol RunningDigest: ~Copyable, Sendable {
    associatedtype Value: Sendable

    init()
    mutating func update(_ bytes: UnsafeRawBufferPointer)
    /// The digest of the bytes so far; more may follow.
    func current() -> Value
    consuming func finish() -> Value
}

/// SHA-256 by libcrypto, which uses the CPU's SHA instructions.
package struct SHA256Hasher: RunningDigest, ~Copyable, @unchecked Sendable {
    // Sendable because the value can't be copied and every use of the context needs exclusive access to it.
    private let context = DigestContext(sha256Algorithm)

    package init() {}

    package mutating func update(_ bytes: UnsafeRawBufferPointer) { context.update(bytes) }

    package consuming func finish() -> Digest { Self.finish(context) }

    package func current() -> Digest { Self.finish(DigestContext(copyOf: context)) }

    private static func finish(_ context: DigestContext) -> Digest {
        context.finish(byteCount: Digest.byteCount) { bytes in
            guard let digest = Digest(bytes: bytes) else { fatalError("A SHA-256 digest has 32 bytes.") }
            return digest
        }
    }

    /// The digest of one block.
    package static func hash(_ bytes: UnsafeRawBufferPointer) -> Digest {
        var hasher = SHA256Hasher()
        hasher.update(bytes)
        return hasher.finish()
    }

    /// The digest of one block.
    package static func hash(_ bytes: [UInt8]) -> Digest { bytes.withUnsafeBytes { hash($0) } }
}

/// MD5 by libcrypto, for ETags only.
package struct MD5Hasher: RunningDigest, ~Copyable, @unchecked Sendable {
    // Sendable because the value can't be copied and every use of the context needs exclusive access to it.
    private let context = DigestContext(md5Algorithm)

    package init() {}

    package mutating func update(_ bytes: UnsafeRawBufferPointer) { context.update(bytes) }

    package consuming func finish() -> MD5Digest { Self.finish(context) }

    package func current() -> MD5Digest { Self.finish(DigestContext(copyOf: context)) }

    private static func finish(_ context: DigestContext) -> MD5Digest {
        context.finish(byteCount: MD5Digest.byteCount) { bytes in
            guard let digest = MD5Digest(bytes: bytes) else { fatalError("An MD5 digest has 16 bytes.") }
            return digest
        }
    }

    package static func hash(_ bytes: UnsafeRawBufferPointer) -> MD5Digest {
        var hasher = MD5Hasher()
        hasher.update(bytes)
        return hasher.finish()
    }
}

/// SHA-1 by libcrypto, for checksums that a client declares: 20 bytes.
package struct SHA1Hasher: RunningDigest, ~Copyable, @unchecked Sendable {
    // Sendable because the value can't be copied and every use of the context needs exclusive access to it.
    private let context = DigestContext(sha1Algorithm)

    package init() {}

    package mutating func update(_ bytes: UnsafeRawBufferPointer) { context.update(bytes) }

    package consuming func finish() -> [UInt8] { context.finish(byteCount: 20) { [UInt8]($0) } }

    package func current() -> [UInt8] { DigestContext(copyOf: context).finish(byteCount: 20) { [UInt8]($0) } }
}

extension MD5Digest {
    /// The ETag of an object that was put in parts: the MD5 of their MD5s, a hyphen, and how many they are.
    /// https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity-upload.html
    package static func etag(ofParts parts: [MD5Digest]) -> String {
        parts.flatMap(\.bytes).withUnsafeBytes { MD5Hasher.hash($0) }.hex + "-\(parts.count)"
    }
}
