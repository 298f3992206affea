internal import ContentHashing
package import StoreModel

/// What the chunks of a streamed body are signed with: each signature covers the one before, the first one that of
/// the request.
/// https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html
package struct ChunkSigning: Sendable {
    private let key: SigningKey
    private let time: String
    private let scope: String
    private var previous: Digest

    package init(key: SigningKey, time: Timestamp, scope: CredentialScope, seed: Digest) {
        self.key = key
        self.time = ISO8601.formatBasic(time)
        self.scope = scope.text
        previous = seed
    }

    /// The signature of the next chunk, given the hash of its bytes.
    package mutating func chunk(_ hash: Digest) -> Digest {
        next("AWS4-HMAC-SHA256-PAYLOAD", PayloadMode.emptyText + "\n" + Hexadecimal.text(hash))
    }

    /// The signature of the trailing headers, given the hash of `name:value\n…`.
    /// https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming-trailers.html
    package mutating func trailer(_ hash: Digest) -> Digest {
        next("AWS4-HMAC-SHA256-TRAILER", Hexadecimal.text(hash))
    }

    private mutating func next(_ algorithm: String, _ rest: String) -> Digest {
        let text = StringToSign.lines(algorithm, time, scope, Hexadecimal.text(previous), rest)
        previous = key.sign(text)
        return previous
    }
}
