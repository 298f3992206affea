internal import ContentHashing
package import StoreModel

/// A short secret (an access key's secret, a data key) sealed under another key.
///
///     offset  size  field
///          0     1  format version, 1
///          1     1  sealed under: 1 a master key, 2 a key that a client keeps
///          2     8  id of the master key; zeros for a client's key
///         10    16  salt, random
///         26    16  commitment: tells a wrong key from changed bytes
///         42     n  ciphertext, 0 to 4,096 bytes
///       42+n    16  tag of AES-256-GCM over bytes 0 to 41, the context, and the ciphertext
///
/// HKDF-SHA256 makes 48 bytes of the key, the salt and the info "holdfast sealed secret 1": 32 are the key of
/// the cipher, 16 the commitment. So no two secrets are sealed under the same cipher key, the nonce is zero,
/// and the commitment says nothing about the key to who doesn't have it.
///
/// The context says what the secret is for and is not stored: a secret that was moved to another place of the
/// catalog doesn't open there.
package struct SealedSecret: Hashable, Sendable {
    package static let plaintextByteCountMax = 4096
    private static let version: UInt8 = 1
    private static let headerByteCount = 42
    private static let saltByteCount = 16
    private static let commitmentByteCount = 16
    private static let info = [UInt8]("holdfast sealed secret 1".utf8)
    private static let nonce = [UInt8](repeating: 0, count: AESGCM.nonceByteCount)

    package enum Keeper: Hashable, Sendable {
        case masterKey(MasterKeyID)
        case client

        fileprivate var bytes: [UInt8] {
            switch self {
            case .masterKey(let id): [1] + id.bytes
            case .client: [2] + [UInt8](repeating: 0, count: MasterKeyID.byteCount)
            }
        }
    }

    package let keeper: Keeper
    /// As stored.
    package let bytes: [UInt8]

    /// Seals a secret under a key that a client keeps.
    package init(_ secret: [UInt8], under key: EncryptionKey, context: String, random: any RandomSource) {
        self.init(secret, key, .client, context, random)
    }

    /// Seals a secret under the newest master key.
    package init(_ secret: [UInt8], under ring: MasterKeyRing, context: String, random: any RandomSource) {
        self.init(secret, ring.newest.key, .masterKey(ring.newest.id), context, random)
    }

    private init(
        _ secret: [UInt8],
        _ key: EncryptionKey,
        _ keeper: Keeper,
        _ context: String,
        _ random: any RandomSource
    ) {
        precondition(secret.count <= Self.plaintextByteCountMax, "Secrets are short.")
        let salt = random.bytes(count: Self.saltByteCount)
        let derived = Self.derive(key, salt)
        let header = [Self.version] + keeper.bytes + salt + derived.commitment
        var output = [UInt8](repeating: 0, count: header.count + secret.count + AESGCM.tagByteCount)
        output.replaceSubrange(..<header.count, with: header)
        var cipher = AESGCM.sealing(derived.key)
        output.withUnsafeMutableBytes { output in
            secret.withUnsafeBytes { secret in
                cipher.seal(
                    secret,
                    nonce: Self.nonce,
                    authenticating: header + [UInt8](context.utf8),
                    to: UnsafeMutableRawBufferPointer(rebasing: output[header.count...])
                )
            }
        }
        self.keeper = keeper
        bytes = output
    }

    /// Parses stored bytes.
    /// - Throws: `EncryptionError` with `.malformed` or `.unsupportedVersion`.
    package init(decoding bytes: [UInt8]) throws(EncryptionError) {
        guard let version = bytes.first else {
            throw EncryptionError(.malformed, "A sealed secret is empty.")
        }
        guard version == Self.version else {
            throw EncryptionError(
                .unsupportedVersion,
                "A sealed secret has format version \(version); this program reads version \(Self.version)."
            )
        }
        let overhead = Self.headerByteCount + AESGCM.tagByteCount
        guard (overhead...overhead + Self.plaintextByteCountMax).contains(bytes.count) else {
            throw EncryptionError(.malformed, "A sealed secret has \(bytes.count) bytes.")
        }
        let id = [UInt8](bytes[2..<2 + MasterKeyID.byteCount])
        switch bytes[1] {
        case 1:
            guard let id = MasterKeyID(bytes: id) else {
                throw EncryptionError(.malformed, "A sealed secret names no master key.")
            }
            keeper = .masterKey(id)
        case 2 where id.allSatisfy { $0 == 0 }: keeper = .client
        default: throw EncryptionError(.malformed, "A sealed secret has the sort \(bytes[1]).")
        }
        self.bytes = bytes
    }

    /// - Throws: `EncryptionError` with `.wrongKey`, or `.notAuthentic` for changed bytes or another context.
    package func open(with key: EncryptionKey, context: String) throws(EncryptionError) -> [UInt8] {
        let salt = [UInt8](bytes[10..<10 + Self.saltByteCount])
        let commitment = [UInt8](bytes[26..<26 + Self.commitmentByteCount])
        let derived = Self.derive(key, salt)
        guard ConstantTime.equal(derived.commitment, commitment) else {
            throw EncryptionError(.wrongKey, "This is not the key that the secret was sealed under.")
        }
        let header = [UInt8](bytes[..<Self.headerByteCount])
        let count = bytes.count - Self.headerByteCount - AESGCM.tagByteCount
        var secret = [UInt8](repeating: 0, count: count)
        var cipher = AESGCM.opening(derived.key)
        let isAuthentic = bytes.withUnsafeBytes { bytes in
            secret.withUnsafeMutableBytes { secret in
                cipher.open(
                    UnsafeRawBufferPointer(rebasing: bytes[Self.headerByteCount...]),
                    nonce: Self.nonce,
                    authenticating: header + [UInt8](context.utf8),
                    to: secret
                )
            }
        }
        guard isAuthentic else {
            throw EncryptionError(.notAuthentic, "A sealed secret was changed, or belongs somewhere else.")
        }
        return secret
    }

    /// - Throws: `EncryptionError`, also with `.unknownMasterKey`.
    package func open(with ring: MasterKeyRing, context: String) throws(EncryptionError) -> [UInt8] {
        guard case .masterKey(let id) = keeper else {
            throw EncryptionError(.wrongKey, "The secret was sealed under a key that a client keeps.")
        }
        guard let generation = ring.generation(id) else {
            throw EncryptionError(.unknownMasterKey, "The secret was sealed under the master key \(id).")
        }
        return try open(with: generation.key, context: context)
    }

    private static func derive(_ key: EncryptionKey, _ salt: [UInt8]) -> (
        key: EncryptionKey, commitment: [UInt8]
    ) {
        var output = key.withUnsafeBytes {
            HKDFSHA256.derive(
                from: $0,
                salt: salt,
                info: info,
                byteCount: EncryptionKey.byteCount + commitmentByteCount
            )
        }
        defer { wipe(&output) }
        guard let derived = EncryptionKey(output[..<EncryptionKey.byteCount]) else {
            fatalError("HKDF gives as many bytes as asked for.")
        }
        return (derived, [UInt8](output[EncryptionKey.byteCount...]))
    }
}
