package import StoreModel

/// What a signed request claims, before anything is believed.
package struct SignatureClaim: Sendable {
    package let credential: SigningCredential
    /// Names in lower case, in the order of the request.
    package let signedHeaders: [String]
    package let signature: Digest
    package let time: Timestamp
    /// As it stands in the canonical request.
    package let payloadText: String
    package let payload: PayloadMode

    package var accessKey: String { credential.accessKey }
}

/// Who a request says it is from.
package enum RequestAuthentication: Sendable {
    case anonymous
    /// Signed in the Authorization header.
    case header(SignatureClaim)
    /// Signed in the query, good for so many seconds from the time of the claim.
    case presigned(SignatureClaim, expires: Int64)

    /// Reads the claim of a request; the signature itself is for `SignatureVerifier`.
    package init(_ head: S3RequestHead) throws(S3Error) {
        let query = try QueryItems(decoding: head.query)
        try self.init(head, query: query)
    }

    /// - Parameters:
    ///   - query: the head's query, decoded.
    ///   - unstatedPayload: the hash of the body, for services whose clients need not state it in a header. S3's must.
    package init(
        _ head: S3RequestHead,
        query: QueryItems,
        unstatedPayload: String? = nil
    ) throws(S3Error) {
        let hasHeader = head.headers.contains("authorization")
        let isPresigned = query.items.contains { Self.isSignatureParameter($0.name) }
        let isOldPresigned = query.contains("AWSAccessKeyId") && query.contains("Signature")
        if hasHeader && (isPresigned || isOldPresigned) {
            throw .invalidArgument(
                "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query "
                    + "string parameter or the Authorization header should be specified",
                name: "Authorization",
                value: ""
            )
        }
        if hasHeader {
            self = .header(try HeaderClaim.parse(head, unstatedPayload))
        } else if isPresigned {
            let (claim, expires) = try PresignedClaim.parse(head, query)
            self = .presigned(claim, expires: expires)
        } else if isOldPresigned {
            throw Self.unsupportedMechanism
        } else {
            self = .anonymous
        }
    }

    package var claim: SignatureClaim? {
        switch self {
        case .anonymous: nil
        case .header(let claim), .presigned(let claim, _): claim
        }
    }

    static func isSignatureParameter(_ name: String) -> Bool {
        name == "X-Amz-Algorithm" || name == "X-Amz-Credential" || name == "X-Amz-Signature"
    }

    /// Version 2 is refused: it signs with SHA-1 and leaves most of the request unsigned.
    static let unsupportedMechanism = S3Error(
        .invalidRequest,
        "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256."
    )

    /// Names in lower case.
    static func signedHeaders(_ text: String) -> [String]? {
        guard text.utf8.count <= 8192 else { return nil }
        let names = ASCIIText.split(text[...], at: ";").map {
            ASCIIText.lowercased(String($0))
        }
        return names.contains(where: \.isEmpty) || names.count > 256 ? nil : names
    }

    /// There are no session tokens: whoever sends one believes to be someone else.
    static func refuseToken(_ token: String?) throws(S3Error) {
        if let token, !token.isEmpty { throw S3Error(.invalidToken) }
    }
}

/// `Authorization: AWS4-HMAC-SHA256 Credential=…, SignedHeaders=…, Signature=…`
private enum HeaderClaim {
    static func parse(_ head: S3RequestHead, _ unstatedPayload: String?) throws(S3Error) -> SignatureClaim {
        guard let text = try head.headers.single("authorization") else { throw malformed("it is missing") }
        let components = try components(of: text)
        guard let credentialText = components.credential else { throw malformed("the Credential is missing") }
        guard let credential = SigningCredential(credentialText) else {
            throw malformed(
                "the Credential is mal-formed; expecting "
                    + "\"<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request\""
            )
        }
        guard let names = components.signedHeaders, let names = RequestAuthentication.signedHeaders(names)
        else {
            throw malformed("the SignedHeaders are missing or malformed")
        }
        guard let signatureText = components.signature else { throw malformed("the Signature is missing") }
        guard let signature = Hexadecimal.digest(signatureText) else { throw S3Error(.signatureDoesNotMatch) }
        try RequestAuthentication.refuseToken(head.headers.first("x-amz-security-token"))
        let time = try time(of: head)
        guard ISO8601.formatBasic(time).hasPrefix(credential.scope.day) else {
            throw malformed("the date of the Credential is not that of the request")
        }
        guard let payloadText = try head.headers.single("x-amz-content-sha256") ?? unstatedPayload else {
            throw S3Error(.invalidRequest, "Missing required header for this request: x-amz-content-sha256")
        }
        return SignatureClaim(
            credential: credential,
            signedHeaders: names,
            signature: signature,
            time: time,
            payloadText: payloadText,
            payload: try PayloadMode(headerValue: payloadText)
        )
    }

    private struct Components {
        var credential: String?
        var signedHeaders: String?
        var signature: String?
    }

    private static func components(of text: String) throws(S3Error) -> Components {
        let scheme = text.utf8.prefix { !ASCIIText.isBlank($0) }
        if ASCIIText.equalIgnoringCase(Substring(scheme), "AWS") {
            throw RequestAuthentication.unsupportedMechanism
        }
        if ASCIIText.hasPrefixIgnoringCase(Substring(scheme), "AWS4-ECDSA") {
            throw RequestAuthentication.unsupportedMechanism
        }
        guard Substring(scheme) == StringToSign.algorithm else {
            throw .invalidArgument("Unsupported Authorization Type", name: "Authorization", value: "")
        }
        var components = Components()
        for part in ASCIIText.split(
            Substring(text.utf8.dropFirst(scheme.count)),
            at: ",",
            omittingEmpty: true
        ) {
            let part = ASCIIText.trimmedSlice(part)
            guard let split = part.utf8.firstIndex(of: UInt8(ascii: "=")) else {
                throw malformed("a component has no value")
            }
            let value = String(part[part.utf8.index(after: split)...])
            let isNew: Bool
            switch String(part[..<split]) {
            case "Credential": isNew = set(&components.credential, value)
            case "SignedHeaders": isNew = set(&components.signedHeaders, value)
            case "Signature": isNew = set(&components.signature, value)
            default: throw malformed("there is an unknown component")
            }
            guard isNew else { throw malformed("a component was given twice") }
        }
        return components
    }

    private static func set(_ component: inout String?, _ value: String) -> Bool {
        defer { component = value }
        return component == nil
    }

    /// `x-amz-date`, or `Date` where that is missing: the same that is signed is the one that is checked.
    private static func time(of head: S3RequestHead) throws(S3Error) -> Timestamp {
        if let text = try head.headers.single("x-amz-date") {
            guard let time = ISO8601.parseBasic(text) else { throw invalidDate }
            return time
        }
        guard let text = try head.headers.single("date"),
            let time = HTTPDate.parse(text) ?? ISO8601.parseBasic(text)
        else { throw invalidDate }
        return time
    }

    private static let invalidDate = S3Error(
        .accessDenied,
        "AWS authentication requires a valid Date or x-amz-date header"
    )

    private static func malformed(_ reason: String) -> S3Error {
        S3Error(.authorizationHeaderMalformed, "The authorization header is malformed; \(reason).")
    }
}

/// https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
private enum PresignedClaim {
    static func parse(
        _ head: S3RequestHead,
        _ query: QueryItems
    ) throws(S3Error) -> (SignatureClaim, expires: Int64) {
        let algorithm = try parameter("X-Amz-Algorithm", query)
        let credentialText = try parameter("X-Amz-Credential", query)
        let signatureText = try parameter("X-Amz-Signature", query)
        let timeText = try parameter("X-Amz-Date", query)
        let namesText = try parameter("X-Amz-SignedHeaders", query)
        let expiresText = try parameter("X-Amz-Expires", query)
        guard algorithm == StringToSign.algorithm else {
            throw malformed("X-Amz-Algorithm only supports \"AWS4-HMAC-SHA256\"")
        }
        guard let credential = SigningCredential(credentialText) else {
            throw malformed(
                "Error parsing the X-Amz-Credential parameter; the Credential is mal-formed; expecting "
                    + "\"<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request\"."
            )
        }
        guard let time = ISO8601.parseBasic(timeText) else {
            throw malformed("X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\"")
        }
        guard timeText.hasPrefix(credential.scope.day) else {
            throw malformed(
                "Invalid credential date \"\(credential.scope.day)\". This date is not the same as "
                    + "X-Amz-Date: \"\(timeText.prefix(8))\"."
            )
        }
        guard let names = RequestAuthentication.signedHeaders(namesText) else {
            throw malformed("X-Amz-SignedHeaders is malformed.")
        }
        let expires = try lifetime(expiresText)
        guard let signature = Hexadecimal.digest(signatureText) else { throw S3Error(.signatureDoesNotMatch) }
        try RequestAuthentication.refuseToken(query.first("X-Amz-Security-Token"))
        try RequestAuthentication.refuseToken(head.headers.first("x-amz-security-token"))
        let payloadText = try payloadText(head, query, names)
        let claim = SignatureClaim(
            credential: credential,
            signedHeaders: names,
            signature: signature,
            time: time,
            payloadText: payloadText,
            payload: try PayloadMode(headerValue: payloadText)
        )
        return (claim, expires)
    }

    /// One second to a week. What has no second to live is refused as expired by the verifier.
    private static func lifetime(_ text: String) throws(S3Error) -> Int64 {
        if text.hasPrefix("-"), ASCIIText.decimal(text.dropFirst()) != nil {
            throw malformed("X-Amz-Expires must be non-negative")
        }
        guard let seconds = ASCIIText.decimal(text) else {
            throw malformed("X-Amz-Expires should be a number")
        }
        guard seconds <= 604_800 else {
            throw malformed(
                "X-Amz-Expires must be less than a week (in seconds); that is, the given X-Amz-Expires must be "
                    + "less than 604800 seconds"
            )
        }
        return Int64(seconds)
    }

    /// A presigned URL does not know its body, unless whoever made it said otherwise and signed that.
    private static func payloadText(
        _ head: S3RequestHead,
        _ query: QueryItems,
        _ signedHeaders: [String]
    ) throws(S3Error) -> String {
        if let text = query.first("X-Amz-Content-Sha256") { return text }
        if signedHeaders.contains("x-amz-content-sha256"),
            let text = try head.headers.single("x-amz-content-sha256")
        {
            return text
        }
        return PayloadMode.unsignedText
    }

    private static func parameter(_ name: String, _ query: QueryItems) throws(S3Error) -> String {
        guard let value = try query.single(name), !value.isEmpty else {
            throw malformed(
                "Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, "
                    + "X-Amz-Signature, X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters."
            )
        }
        return value
    }

    private static func malformed(_ message: String) -> S3Error {
        S3Error(.authorizationQueryParametersError, message)
    }
}
