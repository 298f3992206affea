package import StoreModel

/// What `x-amz-content-sha256` says about the body of a request.
/// https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
package enum PayloadMode: Hashable, Sendable {
    /// The body has this SHA-256.
    case signed(Digest)
    case unsigned
    /// The body comes in aws-chunked pieces: signed ones or not, with trailing headers or without.
    case streaming(signed: Bool, trailer: Bool)

    package static let unsignedText = "UNSIGNED-PAYLOAD"
    /// The SHA-256 of nothing.
    package static let emptyText = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

    /// - Throws: `InvalidArgument` for anything that is not one of the values of the documentation.
    package init(headerValue text: String) throws(S3Error) {
        // First what most requests say.
        if text.utf8.count == Self.emptyText.utf8.count, let digest = Hexadecimal.digest(text) {
            self = .signed(digest)
            return
        }
        switch text {
        case Self.unsignedText: self = .unsigned
        case "STREAMING-AWS4-HMAC-SHA256-PAYLOAD": self = .streaming(signed: true, trailer: false)
        case "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER": self = .streaming(signed: true, trailer: true)
        case "STREAMING-UNSIGNED-PAYLOAD-TRAILER": self = .streaming(signed: false, trailer: true)
        case "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD", "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD-TRAILER":
            throw .notImplemented(header: "x-amz-content-sha256")
        default:
            throw .invalidArgument(
                "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-UNSIGNED-PAYLOAD-TRAILER, "
                    + "STREAMING-AWS4-HMAC-SHA256-PAYLOAD, STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER "
                    + "or a valid sha256 value.",
                name: "x-amz-content-sha256",
                value: text
            )
        }
    }

    package var headerValue: String {
        switch self {
        case .signed(let digest): digest.hex
        case .unsigned: Self.unsignedText
        case .streaming(signed: true, trailer: false): "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
        case .streaming(signed: true, trailer: true): "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
        case .streaming(signed: false, trailer: _): "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
        }
    }

    package var isStreaming: Bool {
        if case .streaming = self { return true }
        return false
    }

    /// What a request without a signature says about its body.
    package init(anonymous head: S3RequestHead) throws(S3Error) {
        guard let text = try head.headers.single("x-amz-content-sha256") else {
            self = .unsigned
            return
        }
        try self.init(headerValue: text)
        if case .streaming(signed: true, trailer: _) = self {
            throw S3Error(.accessDenied, "A body of signed chunks needs a signed request.")
        }
    }
}
