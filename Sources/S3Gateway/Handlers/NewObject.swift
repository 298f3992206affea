internal import Catalog
internal import ContentHashing
internal import Encryption
internal import ObjectService
internal import S3Protocol
internal import StoreModel

/// What a request that makes a version says about it, together with what its bucket says.
struct NewObject {
    var metadata: ObjectMetadata
    /// nil: the request names none.
    var tags: [NamedValue]?
    var attributes: VersionAttributes
    var encryption: EncryptionChoice
    /// Until when it is locked was said by the bucket.
    var hasDefaultRetention: Bool
    /// Of the response.
    var encryptionHeaders: [HeaderField]
}

extension S3Service {
    /// Reads the headers of PutObject, CopyObject, CreateMultipartUpload and of forms.
    /// - Parameter account: who makes the version, and owns it.
    func newObject(
        _ headers: HeaderList,
        in bucket: BucketName,
        _ request: VerifiedRequest,
        account: AccountIdentity?
    ) async throws -> NewObject {
        let object = try ObjectHeaders(headers)
        let settings = try await objects.bucketConfiguration(bucket).settings
        var attributes = try await accessAttributes(headers, in: bucket, account: account)
        try lock(&attributes, headers, settings, request)
        let encryption = try encryption(object.encryption, settings, request)
        let tags = try object.tagging.map { header throws(S3Error) in
            try TagSet(header: header).tags.map { NamedValue($0.key, $0.value) }
        }
        return NewObject(
            metadata: ObjectMetadata(object),
            tags: tags,
            attributes: attributes,
            encryption: encryption.choice,
            hasDefaultRetention: !headers.contains("x-amz-object-lock-retain-until-date"),
            encryptionHeaders: encryption.headers
        )
    }

    // MARK: Encryption

    /// The bucket decides where the request says nothing.
    /// https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucket-encryption.html
    private func encryption(
        _ requested: RequestedEncryption,
        _ settings: [String: [UInt8]],
        _ request: VerifiedRequest
    ) throws(S3Error) -> (choice: EncryptionChoice, headers: [HeaderField]) {
        switch requested {
        case .store: return (.storeKey, Self.storeKeyHeaders)
        case .customer(let key):
            return (.clientKey(try clientKey(key, request)), Self.headers(of: key))
        case .unspecified:
            // A setting that was taken away may be stored empty.
            guard settings[BucketSettingName.encryption]?.isEmpty == false else { return (.none, []) }
            return (.storeKey, Self.storeKeyHeaders)
        }
    }

    static var storeKeyHeaders: [HeaderField] {
        [HeaderField("x-amz-server-side-encryption", CustomerKey.algorithm)]
    }

    static func headers(of key: CustomerKey) -> [HeaderField] {
        let prefix = CustomerKey.Prefix.object.rawValue
        return [
            HeaderField(prefix + "algorithm", CustomerKey.algorithm),
            HeaderField(prefix + "key-MD5", key.md5),
        ]
    }

    /// The key that the request brings; nil when it brings none.
    func customerKey(
        _ request: VerifiedRequest,
        _ prefix: CustomerKey.Prefix = .object
    ) throws(S3Error) -> EncryptionKey? {
        guard let key = try CustomerKey.parse(request.headers, prefix) else { return nil }
        return try clientKey(key, request)
    }

    /// "Amazon S3 rejects any requests made over HTTP when using SSE-C."
    /// https://docs.aws.amazon.com/AmazonS3/latest/userguide/ServerSideEncryptionCustomerKeys.html
    func clientKey(_ key: CustomerKey, _ request: VerifiedRequest) throws(S3Error) -> EncryptionKey {
        guard
            request.head.isSecure
                || configuration.plainClientKeys.allows(remoteAddress: request.remoteAddress)
        else {
            throw S3Error(
                .invalidRequest,
                "Requests specifying Server Side Encryption with Customer provided keys must be made over a secure "
                    + "connection."
            )
        }
        guard let found = EncryptionKey(key.bytes) else { throw S3Error(.internalError) }
        return found
    }

    /// How a version, or an upload, is encrypted, for the response.
    func encryptionHeaders(
        _ attributes: VersionAttributes,
        _ request: VerifiedRequest
    ) throws -> [HeaderField] {
        guard let bytes = attributes.encryption else { return [] }
        switch try ObjectEncryption(decoding: bytes).sort {
        case .storeKey: return Self.storeKeyHeaders
        case .clientKey:
            return try CustomerKey.parse(request.headers, .object).map { Self.headers(of: $0) } ?? []
        }
    }

    // MARK: Locks

    /// https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-lock.html
    private func lock(
        _ attributes: inout VersionAttributes,
        _ headers: HeaderList,
        _ settings: [String: [UInt8]],
        _ request: VerifiedRequest
    ) throws(S3Error) {
        let named = try ObjectLockHeaders(headers, now: request.receivedAt)
        guard let configuration = try lockConfiguration(settings) else {
            guard named.isEmpty else { throw Self.lockMissing }
            return
        }
        attributes.legalHold = named.legalHold?.isOn
        let retention = named.retention ?? configuration.defaultRetention?.retention(from: request.receivedAt)
        attributes.retention = retention.map { ObjectRetention($0) }
    }

    /// nil for a bucket without object lock.
    func lockConfiguration(_ settings: [String: [UInt8]]) throws(S3Error) -> ObjectLockConfiguration? {
        guard let body = settings[BucketSettingName.objectLock], !body.isEmpty else { return nil }
        return try ObjectLockConfiguration(body: body)
    }

    static var lockMissing: S3Error {
        S3Error(.invalidRequest, "Bucket is missing Object Lock Configuration")
    }
}

extension ObjectRetention {
    init(_ retention: Retention) {
        self.init(mode: retention.mode == .compliance ? .compliance : .governance, until: retention.until)
    }
}

extension Retention {
    init(_ retention: ObjectRetention) {
        self.init(mode: retention.mode == .compliance ? .compliance : .governance, until: retention.until)
    }
}

/// From where keys of clients (SSE-C) are taken over connections that are not encrypted.
package enum PlainClientKeys: String, Sendable {
    case never
    /// For tests and for a proxy on the same machine.
    case fromLoopback
    case always

    func allows(remoteAddress: String) -> Bool {
        switch self {
        case .never: false
        case .fromLoopback:
            remoteAddress.hasPrefix("127.") || remoteAddress == "::1"
                || remoteAddress.hasPrefix("::ffff:127.")
        case .always: true
        }
    }
}
