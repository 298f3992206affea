package import StoreModel

/// Signs requests as a client.
/// https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-authenticating-requests.html
package struct RequestSigner: Sendable, CustomStringConvertible {
    package let accessKey: String
    package let region: String
    package let service: String
    private let secret: String
    private let token: String?
    private let keys = SigningKeyCache()

    /// - Parameter token: of a session, where the server has such.
    package init(
        accessKey: String,
        secret: String,
        token: String? = nil,
        region: String,
        service: String = "s3"
    ) {
        self.accessKey = accessKey
        self.secret = secret
        self.token = token
        self.region = region
        self.service = service
    }

    /// A secret must not get into a log by accident.
    package var description: String { "signer of \(accessKey)" }

    /// Adds date, payload hash and signature to the headers. `host` must be among them already; everything that S3
    /// wants signed is.
    /// - Returns: what the chunks of a streamed body are to be signed with.
    @discardableResult
    package func sign(_ head: inout S3RequestHead, payload: PayloadMode, now: Timestamp) -> ChunkSigning {
        let payloadText = payload.headerValue
        head.headers.remove("authorization")
        head.headers.set("x-amz-date", ISO8601.formatBasic(now))
        head.headers.set("x-amz-content-sha256", payloadText)
        if let token { head.headers.set("x-amz-security-token", token) }
        let names = Self.signedHeaders(of: head)
        let canonical = CanonicalRequest(head, signedHeaders: names, payload: payloadText)
        let scope = CredentialScope(now, region: region, service: service)
        let key = keys.key(accessKey: accessKey, secret: secret, scope: scope)
        let signature = signature(canonical, key, scope, now)
        head.headers.append(
            "authorization",
            "\(StringToSign.algorithm) Credential=\(accessKey)/\(scope.text),"
                + "SignedHeaders=\(names.joined(separator: ";")),Signature=\(Hexadecimal.text(signature))"
        )
        return ChunkSigning(key: key, time: now, scope: scope, seed: signature)
    }

    /// The query that lets anybody make this request until it expires.
    /// - Parameters:
    ///   - head: with `host` and the headers that the request must have, beside its own query.
    ///   - expires: seconds, at most a week.
    package func presign(
        _ head: S3RequestHead,
        expires: Int,
        payload: String? = nil,
        now: Timestamp
    ) -> String {
        let scope = CredentialScope(now, region: region, service: service)
        let names = Self.signedHeaders(of: head)
        var parameters = [
            ("X-Amz-Algorithm", StringToSign.algorithm),
            ("X-Amz-Credential", "\(accessKey)/\(scope.text)"),
            ("X-Amz-Date", ISO8601.formatBasic(now)),
            ("X-Amz-Expires", "\(expires)"),
            ("X-Amz-SignedHeaders", names.joined(separator: ";")),
        ]
        if let token { parameters.append(("X-Amz-Security-Token", token)) }
        let added = parameters.map { name, value in
            "\(name)=\(PercentCoding.encode(value, keepsSlash: false))"
        }
        var signed = head
        signed.query = ([head.query].compactMap { $0 }.filter { !$0.isEmpty } + added).joined(separator: "&")
        let canonical = CanonicalRequest(
            signed,
            signedHeaders: names,
            payload: payload ?? PayloadMode.unsignedText
        )
        let key = keys.key(accessKey: accessKey, secret: secret, scope: scope)
        let signature = signature(canonical, key, scope, now)
        return (signed.query ?? "") + "&X-Amz-Signature=" + Hexadecimal.text(signature)
    }

    /// The signature of a form's policy, which is in Base64.
    package func signForm(policy: String, now: Timestamp) -> String {
        let scope = CredentialScope(now, region: region, service: service)
        let key = keys.key(accessKey: accessKey, secret: secret, scope: scope)
        return Hexadecimal.text(key.sign([UInt8](policy.utf8)))
    }

    private func signature(
        _ canonical: CanonicalRequest,
        _ key: SigningKey,
        _ scope: CredentialScope,
        _ now: Timestamp
    ) -> Digest {
        key.sign(
            StringToSign.request(
                time: ISO8601.formatBasic(now),
                scope: scope.text,
                hash: canonical.hash
            )
        )
    }

    /// What proxies change or add on the way is left out.
    private static func signedHeaders(of head: S3RequestHead) -> [String] {
        let unsigned: Set<String> = [
            "accept", "accept-encoding", "authorization", "connection", "content-length", "expect", "te",
            "transfer-encoding", "upgrade", "user-agent", "via", "x-amzn-trace-id",
        ]
        return Set(head.headers.fields.map(\.name)).subtracting(unsigned).sorted()
    }
}
