internal import COpenSSL

/// AES-256 in Galois/Counter Mode under one key: encrypts and authenticates, by libcrypto, which uses the
/// CPU's AES instructions.
/// https://nvlpubs.nist.gov/nistpubs/Legacy/SP/nistspecialpublication800-38d.pdf
///
/// The caller never gives the same nonce twice under one key: two messages under one nonce give away both,
/// and the means to forge more. Everything in this target therefore has a key of its own for what it seals.
package struct AESGCM: ~Copyable {
    package static let nonceByteCount = 12
    package static let tagByteCount = 16
    /// Lengths are given to libcrypto in 32 bits.
    private static let messageByteCountMax = 1 << 30

    private let context: OpaquePointer
    private let isSealing: Bool

    private init(_ key: EncryptionKey, isSealing: Bool) {
        guard let context = EVP_CIPHER_CTX_new() else {
            fatalError("libcrypto could not make a cipher: out of memory.")
        }
        self.context = context
        self.isSealing = isSealing
        let status = key.withUnsafeBytes { key in
            EVP_CipherInit_ex2(
                context,
                aes256GCM,
                key.assumingMemoryBound(to: UInt8.self).baseAddress,
                nil,
                isSealing ? 1 : 0,
                nil
            )
        }
        precondition(status == 1, "libcrypto takes a key of 32 bytes.")
    }

    deinit { EVP_CIPHER_CTX_free(context) }

    package static func sealing(_ key: EncryptionKey) -> AESGCM { AESGCM(key, isSealing: true) }
    package static func opening(_ key: EncryptionKey) -> AESGCM { AESGCM(key, isSealing: false) }

    /// Writes the ciphertext and the tag to `output`, which has room for `plaintext.count + 16` bytes.
    package mutating func seal(
        _ plaintext: UnsafeRawBufferPointer,
        nonce: [UInt8],
        authenticating header: [UInt8],
        to output: UnsafeMutableRawBufferPointer
    ) {
        precondition(isSealing, "A cipher for opening seals nothing.")
        precondition(plaintext.count <= Self.messageByteCountMax, "Messages are as long as a chunk at most.")
        precondition(
            output.count >= plaintext.count + Self.tagByteCount,
            "The ciphertext and its tag need room."
        )
        start(nonce, header)
        update(plaintext, to: output)
        var rest: Int32 = 0
        let tag = UnsafeMutableRawBufferPointer(
            rebasing: output[plaintext.count..<plaintext.count + Self.tagByteCount]
        )
        precondition(
            EVP_CipherFinal_ex(context, tag.assumingMemoryBound(to: UInt8.self).baseAddress, &rest) == 1
                && EVP_CIPHER_CTX_ctrl(
                    context,
                    EVP_CTRL_AEAD_GET_TAG,
                    Int32(Self.tagByteCount),
                    tag.baseAddress
                ) == 1,
            "Sealing fails only on a wrong call."
        )
    }

    /// Writes the plaintext of `sealed`, a ciphertext with its tag, to `output`.
    /// - Returns: whether it is authentic. If not, nothing in `output` may be used.
    package mutating func open(
        _ sealed: UnsafeRawBufferPointer,
        nonce: [UInt8],
        authenticating header: [UInt8],
        to output: UnsafeMutableRawBufferPointer
    ) -> Bool {
        precondition(!isSealing, "A cipher for sealing opens nothing.")
        guard (Self.tagByteCount...Self.messageByteCountMax).contains(sealed.count) else { return false }
        let count = sealed.count - Self.tagByteCount
        precondition(output.count >= count, "The plaintext needs room.")
        start(nonce, header)
        update(UnsafeRawBufferPointer(rebasing: sealed[..<count]), to: output)
        // libcrypto takes the tag as mutable memory and doesn't change it; it gets a copy all the same.
        let isSet = withUnsafeTemporaryAllocation(byteCount: Self.tagByteCount, alignment: 1) { tag in
            tag.copyMemory(from: UnsafeRawBufferPointer(rebasing: sealed[count...]))
            return EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, Int32(tag.count), tag.baseAddress)
        }
        precondition(isSet == 1, "libcrypto takes a tag of 16 bytes.")
        var rest: Int32 = 0
        var nothing: UInt8 = 0
        let isAuthentic = EVP_CipherFinal_ex(context, &nothing, &rest) == 1
        if !isAuthentic, let base = output.baseAddress { OPENSSL_cleanse(base, count) }
        return isAuthentic
    }

    private func start(_ nonce: [UInt8], _ header: [UInt8]) {
        precondition(nonce.count == Self.nonceByteCount, "A nonce has 12 bytes.")
        precondition(
            EVP_CipherInit_ex2(context, nil, nil, nonce, -1, nil) == 1,
            "libcrypto takes a nonce of 12 bytes."
        )
        guard !header.isEmpty else { return }
        var done: Int32 = 0
        let status = EVP_CipherUpdate(context, nil, &done, header, Int32(header.count))
        precondition(status == 1, "libcrypto takes what is to be authenticated before the text.")
    }

    private func update(_ input: UnsafeRawBufferPointer, to output: UnsafeMutableRawBufferPointer) {
        guard let source = input.assumingMemoryBound(to: UInt8.self).baseAddress, input.count > 0 else {
            return
        }
        var done: Int32 = 0
        let status = EVP_CipherUpdate(
            context,
            output.assumingMemoryBound(to: UInt8.self).baseAddress,
            &done,
            source,
            Int32(input.count)
        )
        precondition(status == 1 && Int(done) == input.count, "GCM gives a byte for each byte at once.")
    }
}

/// Fetched once: looking an algorithm up by name costs more than sealing a small block.
/// `nonisolated(unsafe)` is right: a fetched EVP_CIPHER is immutable and libcrypto allows its use from any
/// thread.
private nonisolated(unsafe) let aes256GCM: OpaquePointer = {
    guard let cipher = EVP_CIPHER_fetch(nil, "AES-256-GCM", nil) else {
        fatalError("libcrypto offers no AES-256-GCM: the provider configuration of OpenSSL disables it.")
    }
    return cipher
}()
