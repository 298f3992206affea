package import StoreModel

/// How the bytes of a version are encrypted; kept with the version in its encryption attribute, and with an
/// upload that is under way. Holds no secret in the open and can be read without any key.
///
///     offset  size  field
///          0     1  format version, 1
///          1     1  sort: 1 the store keeps the key (SSE-S3), 2 the client does (SSE-C)
///          2     8  bytes that are stored for the version's content; 0 for an upload that is under way
///         10     1  1 when it was put in parts, else 0: FrameFormat.swift
///         11     2  length of the sealed data key
///         13     n  the data key, sealed: SealedSecret.swift, context "holdfast object data key"
///
/// Integers are little-endian.
package struct ObjectEncryption: Hashable, Sendable {
    package enum Sort: UInt8, Hashable, Sendable {
        /// SSE-S3: the data key is sealed under the store's master key.
        case storeKey = 1
        /// SSE-C: the data key is sealed under a key that comes with each request and is never stored.
        case clientKey = 2
    }

    private static let version: UInt8 = 1
    private static let dataKeyContext = "holdfast object data key"

    package let sort: Sort
    package var storedSize: UInt64
    package var isInParts: Bool
    package let sealedDataKey: SealedSecret

    /// A new data key under the store's master key.
    package init(
        sealing dataKey: EncryptionKey,
        under ring: MasterKeyRing,
        isInParts: Bool,
        random: any RandomSource
    ) {
        let bytes = dataKey.withUnsafeBytes { [UInt8]($0) }
        sort = .storeKey
        sealedDataKey = SealedSecret(bytes, under: ring, context: Self.dataKeyContext, random: random)
        storedSize = 0
        self.isInParts = isInParts
    }

    /// A new data key under a client's key.
    package init(
        sealing dataKey: EncryptionKey,
        under key: EncryptionKey,
        isInParts: Bool,
        random: any RandomSource
    ) {
        let bytes = dataKey.withUnsafeBytes { [UInt8]($0) }
        sort = .clientKey
        sealedDataKey = SealedSecret(bytes, under: key, context: Self.dataKeyContext, random: random)
        storedSize = 0
        self.isInParts = isInParts
    }

    /// - Throws: `EncryptionError` with `.wrongKey`, `.unknownMasterKey`, `.notAuthentic`.
    package func dataKey(with ring: MasterKeyRing) throws(EncryptionError) -> EncryptionKey {
        try Self.key(try sealedDataKey.open(with: ring, context: Self.dataKeyContext))
    }

    /// - Throws: `EncryptionError` with `.wrongKey`, `.notAuthentic`.
    package func dataKey(with clientKey: EncryptionKey) throws(EncryptionError) -> EncryptionKey {
        guard sort == .clientKey else {
            throw EncryptionError(.wrongKey, "The data key is sealed under a master key.")
        }
        return try Self.key(try sealedDataKey.open(with: clientKey, context: Self.dataKeyContext))
    }

    private static func key(_ bytes: [UInt8]) throws(EncryptionError) -> EncryptionKey {
        var bytes = bytes
        defer { wipe(&bytes) }
        guard let key = EncryptionKey(bytes) else {
            throw EncryptionError(.malformed, "A data key has \(bytes.count) bytes.")
        }
        return key
    }

    package func encoded() -> [UInt8] {
        var writer = ByteWriter(capacity: 13 + sealedDataKey.bytes.count)
        writer.write(Self.version)
        writer.write(sort.rawValue)
        writer.write(storedSize)
        writer.write(isInParts ? 1 : 0 as UInt8)
        writer.write(UInt16(sealedDataKey.bytes.count))
        writer.write(raw: sealedDataKey.bytes)
        return writer.bytes
    }

    /// - Throws: `EncryptionError` with `.malformed` or `.unsupportedVersion`.
    package init(decoding bytes: [UInt8]) throws(EncryptionError) {
        do {
            var reader = ByteReader(bytes)
            let version = try reader.read(UInt8.self)
            guard version == Self.version else {
                throw EncryptionError(
                    .unsupportedVersion,
                    "An object's encryption has format \(version); this program reads \(Self.version)."
                )
            }
            guard let sort = Sort(rawValue: try reader.read(UInt8.self)) else {
                throw ByteReader.Failure("an unknown sort")
            }
            self.sort = sort
            storedSize = try reader.read(UInt64.self)
            let parts = try reader.read(UInt8.self)
            guard parts <= 1 else { throw ByteReader.Failure("neither whole nor in parts") }
            isInParts = parts == 1
            let keyLength = Int(try reader.read(UInt16.self))
            sealedDataKey = try SealedSecret(decoding: [UInt8](try reader.read(count: keyLength)))
            try reader.finish()
            switch (sort, sealedDataKey.keeper) {
            case (.storeKey, .masterKey), (.clientKey, .client): break
            default: throw ByteReader.Failure("a data key that is sealed under another sort of key")
            }
        } catch let error as EncryptionError {
            throw error
        } catch {
            throw EncryptionError(.malformed, "An object's encryption can't be read: \(error).")
        }
    }
}
