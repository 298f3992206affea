internal import ContentHashing
internal import StoreModel

/// The key of a client for one object (SSE-C). It is never stored.
package struct CustomerKey: Hashable, Sendable, CustomStringConvertible {
    package static let algorithm = "AES256"

    /// 32 bytes.
    package let bytes: [UInt8]
    /// Base64, as it goes back to the client.
    package let md5: String

    /// A key must not get into a log by accident.
    package var description: String { "customer key \(md5)" }

    package enum Prefix: String, Sendable {
        case object = "x-amz-server-side-encryption-customer-"
        case copySource = "x-amz-copy-source-server-side-encryption-customer-"
    }

    /// Nil when the headers name no key.
    /// https://docs.aws.amazon.com/AmazonS3/latest/userguide/ServerSideEncryptionCustomerKeys.html
    package static func parse(_ headers: HeaderList, _ prefix: Prefix) throws(S3Error) -> CustomerKey? {
        let algorithm = try headers.single(prefix.rawValue + "algorithm")
        let keyText = try headers.single(prefix.rawValue + "key")
        let md5Text = try headers.single(prefix.rawValue + "key-md5")
        if algorithm == nil && keyText == nil && md5Text == nil { return nil }
        guard algorithm == Self.algorithm else {
            throw invalid("a valid encryption algorithm", prefix, "algorithm", value: algorithm ?? "")
        }
        // The values of the next errors are secrets, or near to them.
        guard let keyText, !keyText.isEmpty else { throw invalid("an appropriate secret key", prefix, "key") }
        guard let md5Text, !md5Text.isEmpty else {
            throw invalid("the client calculated MD5 of the secret key", prefix, "key-MD5")
        }
        guard keyText.utf8.count <= 64, let bytes = Base64.decode(keyText), bytes.count == 32 else {
            throw .invalidArgument(
                "The secret key was invalid for the specified algorithm.",
                name: prefix.rawValue + "key",
                value: ""
            )
        }
        let md5 = bytes.withUnsafeBytes { MD5Hasher.hash($0) }
        guard md5Text.utf8.count <= 64, Base64.decode(md5Text) == md5.bytes else {
            throw .invalidArgument(
                "The calculated MD5 hash of the key did not match the hash that was provided.",
                name: prefix.rawValue + "key-MD5",
                value: md5Text
            )
        }
        return CustomerKey(bytes: bytes, md5: Base64.encode(md5.bytes))
    }

    private static func invalid(
        _ missing: String,
        _ prefix: Prefix,
        _ suffix: String,
        value: String = ""
    ) -> S3Error {
        .invalidArgument(
            "Requests specifying Server Side Encryption with Customer provided keys must provide \(missing).",
            name: prefix.rawValue + suffix,
            value: value
        )
    }
}

/// How an object is to be encrypted, as far as the request says.
package enum RequestedEncryption: Hashable, Sendable {
    /// Nothing: the bucket's setting decides.
    case unspecified
    /// SSE-S3: by a key of the store.
    case store
    /// SSE-C: by a key of the client.
    case customer(CustomerKey)

    private static let headerName = "x-amz-server-side-encryption"

    /// - Throws: `NotImplemented` for keys of KMS.
    package init(_ headers: HeaderList) throws(S3Error) {
        let customer = try CustomerKey.parse(headers, .object)
        for name in ["-aws-kms-key-id", "-context", "-bucket-key-enabled"] {
            guard let value = headers.first(Self.headerName + name) else { continue }
            guard ASCIIText.equalIgnoringCase(value, "false") else {
                throw .notImplemented(header: Self.headerName + name)
            }
        }
        switch (try headers.single(Self.headerName), customer) {
        case (nil, nil): self = .unspecified
        case (nil, let key?): self = .customer(key)
        case ("AES256"?, nil): self = .store
        case (let text?, nil):
            if text.hasPrefix("aws:") { throw .notImplemented(header: Self.headerName) }
            throw .invalidArgument(
                "The encryption method specified is not supported",
                name: Self.headerName,
                value: text
            )
        case (let text?, _):
            throw .invalidArgument(
                "Server Side Encryption with Customer provided key is incompatible with the encryption method "
                    + "specified",
                name: Self.headerName,
                value: text
            )
        }
    }
}
