internal import ContentHashing
package import StoreModel

/// A signature that was found right. Only the verifiers can make one.
package struct VerifiedSignature: Sendable {
    package let accessKey: String
    package let payload: PayloadMode
    /// For the chunks of a streamed body; nil for forms, which have none.
    package let chunkSigning: ChunkSigning?
    /// When the client signed.
    package let time: Timestamp

    init(accessKey: String, payload: PayloadMode, chunkSigning: ChunkSigning?, time: Timestamp) {
        self.accessKey = accessKey
        self.payload = payload
        self.chunkSigning = chunkSigning
        self.time = time
    }
}

/// Checks signatures of version 4, in the header and in the query.
///
/// 1. Every check works on the bytes that the request is served from: method, path, query and headers of one head.
/// 2. An unknown access key costs the same work as a wrong signature.
/// 3. Signatures are compared in constant time.
package struct SignatureVerifier: Sendable {
    /// How far the clock of a client may be off.
    /// https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html (RequestTimeTooSkewed)
    package static let clockSkewMax: Int64 = 15 * 60 * 1000

    /// Requests must be signed for this region.
    package let region: String
    package let service: String
    private let keys: SigningKeyCache

    package init(region: String, service: String = "s3", keys: SigningKeyCache = SigningKeyCache()) {
        self.region = region
        self.service = service
        self.keys = keys
    }

    /// - Parameters:
    ///   - secret: of the claim's access key, or nil when there is no such key.
    ///   - now: the server's wall clock.
    /// - Throws: what S3 answers; nothing of the request may be acted on then.
    package func verify(
        _ authentication: RequestAuthentication,
        head: S3RequestHead,
        secret: String?,
        now: Timestamp
    ) throws(S3Error) -> VerifiedSignature {
        switch authentication {
        case .anonymous:
            throw S3Error(.accessDenied)
        case .header(let claim):
            try checkScope(claim.credential, .authorizationHeaderMalformed)
            try checkSignedHeaders(claim, head)
            let canonical = CanonicalRequest(
                head,
                signedHeaders: claim.signedHeaders,
                payload: claim.payloadText
            )
            return try verify(claim, canonical, head, secret) { () throws(S3Error) in
                try Self.checkSkew(claim.time, now: now)
            }
        case .presigned(let claim, let expires):
            try checkScope(claim.credential, .authorizationQueryParametersError)
            try checkSignedHeaders(claim, head)
            let canonical = CanonicalRequest(
                head,
                signedHeaders: claim.signedHeaders,
                payload: claim.payloadText,
                omitting: "X-Amz-Signature"
            )
            return try verify(claim, canonical, head, secret) { () throws(S3Error) in
                try Self.checkLifetime(claim.time, seconds: expires, now: now)
            }
        }
    }

    /// Signs the policy of a form the way of version 4: the policy as it came is the string to sign.
    /// https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-authentication-HTTPPOST.html
    func verifyForm(
        policy: String,
        credential: SigningCredential,
        signature: Digest,
        time: Timestamp,
        secret: String?
    ) throws(S3Error) -> VerifiedSignature {
        try checkScope(credential, .authorizationQueryParametersError)
        let key = key(credential, secret)
        guard ConstantTime.equal(key.sign([UInt8](policy.utf8)), signature), secret != nil else {
            throw Self.refusal(credential.accessKey, isKnown: secret != nil)
        }
        return VerifiedSignature(
            accessKey: credential.accessKey,
            payload: .unsigned,
            chunkSigning: nil,
            time: time
        )
    }

    private func verify(
        _ claim: SignatureClaim,
        _ canonical: CanonicalRequest,
        _ head: S3RequestHead,
        _ secret: String?,
        checkTime: () throws(S3Error) -> Void
    ) throws(S3Error) -> VerifiedSignature {
        let text = StringToSign.request(
            time: ISO8601.formatBasic(claim.time),
            scope: claim.credential.scope.text,
            hash: canonical.hash
        )
        let key = key(claim.credential, secret)
        let isRight = ConstantTime.equal(key.sign(text), claim.signature)
        guard isRight, secret != nil else {
            guard secret != nil else { throw Self.refusal(claim.accessKey, isKnown: false) }
            // A clock that is off is what the client must hear of, whatever else is wrong.
            try checkTime()
            throw mismatch(claim, canonical, text, head)
        }
        try checkTime()
        return VerifiedSignature(
            accessKey: claim.accessKey,
            payload: claim.payload,
            chunkSigning: ChunkSigning(
                key: key,
                time: claim.time,
                scope: claim.credential.scope,
                seed: claim.signature
            ),
            time: claim.time
        )
    }

    /// An unknown access key is given a secret that nobody has, so that it takes as long as a known one.
    private func key(_ credential: SigningCredential, _ secret: String?) -> SigningKey {
        guard let secret else {
            return keys.key(accessKey: "", secret: unknownSecret, scope: credential.scope)
        }
        return keys.key(accessKey: credential.accessKey, secret: secret, scope: credential.scope)
    }

    private func checkScope(_ credential: SigningCredential, _ code: S3ErrorCode) throws(S3Error) {
        let subject =
            code == .authorizationHeaderMalformed
            ? "The authorization header is malformed" : "Error parsing the X-Amz-Credential parameter"
        guard credential.scope.service == service else {
            throw S3Error(
                code,
                "\(subject); incorrect service \(quoted(credential.scope.service)). "
                    + "This endpoint belongs to \"\(service)\"."
            )
        }
        guard credential.scope.region == region else {
            throw S3Error(
                code,
                "\(subject); the region \(quoted(credential.scope.region)) is wrong; expecting '\(region)'",
                details: [("Region", region)]
            )
        }
    }

    /// Host and every `x-amz-` header must be signed: what is not could have been added on the way.
    /// https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html#canonical-request
    private func checkSignedHeaders(_ claim: SignatureClaim, _ head: S3RequestHead) throws(S3Error) {
        guard claim.signedHeaders.contains("host") else {
            throw S3Error(
                .accessDenied,
                "There were headers present in the request which were not signed",
                details: [("HeadersNotSigned", "host")]
            )
        }
        for field in head.headers.fields where field.name.hasPrefix("x-amz-") {
            guard claim.signedHeaders.contains(field.name) else {
                throw S3Error(
                    .accessDenied,
                    "There were headers present in the request which were not signed",
                    details: [("HeadersNotSigned", field.name)]
                )
            }
        }
    }

    private static func checkSkew(_ time: Timestamp, now: Timestamp) throws(S3Error) {
        let (distance, overflow) = time.milliseconds.subtractingReportingOverflow(now.milliseconds)
        guard !overflow, distance.magnitude <= UInt64(clockSkewMax) else {
            throw S3Error(
                .requestTimeTooSkewed,
                details: [
                    ("RequestTime", ISO8601.formatBasic(time)),
                    ("ServerTime", ISO8601.format(now)),
                    ("MaxAllowedSkewMilliseconds", "\(clockSkewMax)"),
                ]
            )
        }
    }

    private static func checkLifetime(
        _ time: Timestamp,
        seconds: Int64,
        now: Timestamp
    ) throws(S3Error) {
        // Times have years of four digits and lifetimes end after a week: the sums can't overflow.
        guard now.milliseconds >= time.milliseconds - clockSkewMax else {
            throw S3Error(.accessDenied, "Request is not yet valid")
        }
        let end = Timestamp(milliseconds: time.milliseconds + seconds * 1000)
        guard now < end else {
            throw S3Error(
                .accessDenied,
                "Request has expired",
                details: [
                    ("X-Amz-Expires", "\(seconds)"), ("Expires", ISO8601.format(end)),
                    ("ServerTime", ISO8601.format(now)),
                ]
            )
        }
    }

    static func refusal(_ accessKey: String, isKnown: Bool) -> S3Error {
        S3Error(
            isKnown ? .signatureDoesNotMatch : .invalidAccessKeyID,
            details: [("AWSAccessKeyId", accessKey)]
        )
    }

    /// Shows the client what was signed, so that it can find the difference. It holds what the client sent; the
    /// canonical request is left out where it repeats an encryption key.
    private func mismatch(
        _ claim: SignatureClaim,
        _ canonical: CanonicalRequest,
        _ text: [UInt8],
        _ head: S3RequestHead
    ) -> S3Error {
        var error = Self.refusal(claim.accessKey, isKnown: true)
        error.details.append(("StringToSign", String(decoding: text, as: UTF8.self)))
        error.details.append(("SignatureProvided", Hexadecimal.text(claim.signature)))
        let holdsKey = head.headers.fields.contains {
            $0.name.hasSuffix("server-side-encryption-customer-key")
        }
        if !holdsKey, canonical.bytes.count <= 8192 {
            error.details.append(("CanonicalRequest", canonical.text))
        }
        return error
    }
}

/// For access keys that do not exist. Nothing is ever accepted by it: a match is refused as well.
private let unknownSecret = "no access key has this secret, whatever it says"
