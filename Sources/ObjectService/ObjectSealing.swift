package import Catalog
package import Encryption
package import StoreModel

/// How a new object is to be encrypted.
package enum EncryptionChoice: Sendable {
    case none
    /// SSE-S3: under a key of its own that the store keeps, sealed with its master key.
    case storeKey
    /// SSE-C: under a key of its own, sealed with this one, which every request must bring.
    case clientKey(EncryptionKey)
}

/// The key of a body that is being taken in, and what is noted of it.
struct ObjectSealing: Sendable {
    let encryption: ObjectEncryption
    let cipher: SegmentCipher

    /// Takes out of the content what may not be known without the key, and gives the attribute that notes how it is
    /// encrypted.
    func note(_ content: inout ObjectContent, storedSize: UInt64) -> [UInt8] {
        conceal(&content)
        var encryption = encryption
        encryption.storedSize = storedSize
        return encryption.encoded()
    }

    /// https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html: "Objects encrypted by SSE-S3 or plaintext have
    /// ETags that are an MD5 digest of their data. Objects encrypted by SSE-C or SSE-KMS have ETags that are not."
    func conceal(_ content: inout ObjectContent) {
        content.checksums.sha256 = nil
        guard encryption.sort == .clientKey else { return }
        content.checksums.md5 = nil
        content.etag = Hex.encode(cipher.tag)
    }

    /// The ETag of a part that has this MD5.
    func entityTag(ofPart md5: MD5Digest) -> MD5Digest {
        guard encryption.sort == .clientKey else { return md5 }
        guard let tag = cipher.tag.withUnsafeBytes({ MD5Digest(bytes: $0) }) else {
            fatalError("A tag is as long as an MD5.")
        }
        return tag
    }
}

extension VersionRow {
    /// How the version is encrypted; nil: not at all.
    /// - Throws: `.storeDamaged`, `.unsupportedFormat`.
    package var encryption: ObjectEncryption? {
        get throws(StoreError) {
            try attributes.encryption.map { bytes throws(StoreError) in try ObjectEncryption(stored: bytes) }
        }
    }
}

extension ObjectEncryption {
    init(stored bytes: [UInt8]) throws(StoreError) {
        do throws(EncryptionError) {
            try self.init(decoding: bytes)
        } catch {
            throw StoreError(
                error.code == .unsupportedVersion ? .unsupportedFormat : .storeDamaged,
                "How an object is encrypted can't be read: \(error.message)"
            )
        }
    }
}

extension ObjectStore {
    /// A new data key for a body that is put whole; nil: it is not encrypted.
    func newSealing(_ choice: EncryptionChoice) async throws -> ObjectSealing? {
        guard let (encryption, dataKey) = try await newEncryption(choice, isInParts: false) else {
            return nil
        }
        return ObjectSealing(encryption: encryption, cipher: .whole(dataKey))
    }

    func newEncryption(
        _ choice: EncryptionChoice,
        isInParts: Bool
    ) async throws -> (ObjectEncryption, EncryptionKey)? {
        let dataKey = EncryptionKey(from: random)
        switch choice {
        case .none: return nil
        case .storeKey:
            let ring = try await sealingRing()
            return (
                ObjectEncryption(sealing: dataKey, under: ring, isInParts: isInParts, random: random), dataKey
            )
        case .clientKey(let key):
            return (
                ObjectEncryption(sealing: dataKey, under: key, isInParts: isInParts, random: random), dataKey
            )
        }
    }

    /// The key for a part that is about to be taken in; nil when the upload is not encrypted.
    func newSealing(
        ofPart number: Int,
        of upload: MultipartUpload,
        clientKey: EncryptionKey?
    ) throws -> ObjectSealing? {
        let encryption = try upload.attributes.encryption.map { try ObjectEncryption(stored: $0) }
        let dataKey = try dataKey(encryption, clientKey: clientKey, subject: "The upload")
        guard let encryption, let dataKey else { return nil }
        let cipher = SegmentCipher.newPart(UInt16(clamping: number), dataKey, random: random)
        return ObjectSealing(encryption: encryption, cipher: cipher)
    }

    /// Refuses a request that does not bring the key that the version needs, or brings one that it doesn't need: for
    /// requests that read no bytes.
    /// - Throws: `.encryptionKeyMissing`, `.encryptionKeyUnexpected`, `.accessDenied`.
    package func checkKey(_ clientKey: EncryptionKey?, of version: VersionRow) throws(StoreError) {
        let encryption = try version.encryption
        // The master key is not needed to tell about an object.
        guard encryption?.sort != .storeKey || clientKey != nil else { return }
        _ = try dataKey(encryption, clientKey: clientKey, subject: "The object")
    }

    /// nil when the version is not encrypted.
    func dataKey(of version: VersionRow, clientKey: EncryptionKey?) throws(StoreError) -> EncryptionKey? {
        try dataKey(try version.encryption, clientKey: clientKey, subject: "The object")
    }

    private func dataKey(
        _ encryption: ObjectEncryption?,
        clientKey: EncryptionKey?,
        subject: String
    ) throws(StoreError) -> EncryptionKey? {
        guard let encryption, encryption.sort == .clientKey || clientKey == nil else {
            guard clientKey != nil else { return nil }
            throw StoreError(
                .encryptionKeyUnexpected,
                "\(subject) was not encrypted with a key of the client's, and the request brings one."
            )
        }
        if encryption.sort == .clientKey, clientKey == nil {
            throw StoreError(
                .encryptionKeyMissing,
                "\(subject) was encrypted with a key of the client's, which the request must bring."
            )
        }
        let ring = clientKey == nil ? try openingRing() : nil
        do throws(EncryptionError) {
            if let clientKey { return try encryption.dataKey(with: clientKey) }
            return try ring?.dataKey(of: encryption)
        } catch {
            throw error.storeError(subject, masterKeys: masterKeys, sealed: encryption.sealedDataKey)
        }
    }
}

extension MasterKeyRing {
    fileprivate func dataKey(of encryption: ObjectEncryption) throws(EncryptionError) -> EncryptionKey {
        try encryption.dataKey(with: self)
    }
}
