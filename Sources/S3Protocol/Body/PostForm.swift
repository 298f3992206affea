internal import ContentHashing
package import StoreModel

/// The fields of an HTML form that uploads an object.
/// https://docs.aws.amazon.com/AmazonS3/latest/API/RESTObjectPOST.html
package struct PostForm: Sendable {
    package struct Field: Hashable, Sendable {
        /// In lower case.
        package let name: String
        package let value: String
    }

    /// With `${filename}` replaced.
    package let fields: [Field]

    init(fields: [Field], fileName: String?) {
        let name = Self.lastComponent(fileName ?? "")
        self.fields = fields.map { field in
            Self.unsubstituted.contains(field.name)
                ? field : Field(name: field.name, value: field.value.replacing("${filename}", with: name))
        }
    }

    /// `name` in lower case.
    package func value(_ name: String) -> String? { fields.first { $0.name == name }?.value }

    /// - Throws: `InvalidArgument` without one, `KeyTooLongError` for a long one.
    package func key() throws(S3Error) -> ObjectKey {
        guard let text = value("key"), !text.isEmpty else {
            throw .invalidArgument(
                "Bucket POST must contain a field named 'key'. If it is specified, please check the order of the "
                    + "fields.",
                name: "key",
                value: ""
            )
        }
        do {
            return try ObjectKey(text)
        } catch {
            throw error.code == .keyTooLong
                ? S3Error(.keyTooLong) : .invalidArgument("The key is not valid.", name: "key", value: text)
        }
    }

    /// The fields that stand for headers of a PUT.
    package var headers: HeaderList {
        var list = HeaderList()
        for field in fields where !Self.unsubstituted.contains(field.name) {
            if field.name == "acl" {
                list.append("x-amz-acl", field.value)
            } else if ObjectHeaders.standardNames.contains(field.name) || field.name == "content-md5"
                || (field.name.hasPrefix("x-amz-") && !Self.credentialNames.contains(field.name))
            {
                list.append(field.name, field.value)
            }
        }
        return list
    }

    /// 200, 201 or 204; any other wish is 204, as in S3.
    package var successStatus: Int {
        switch value("success_action_status") {
        case "200": 200
        case "201": 201
        default: 204
        }
    }

    /// Where the browser is to go, when the form says so.
    package var successRedirect: String? {
        guard let text = value("success_action_redirect") ?? value("redirect"), text.utf8.count <= 4096,
            text.hasPrefix("http://") || text.hasPrefix("https://"),
            text.utf8.allSatisfy({ $0 > 0x20 && $0 != 0x7F })
        else { return nil }
        return text
    }

    private static let credentialNames: Set<String> = [
        "x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-security-token", "x-amz-signature",
    ]

    /// What is signed, or signs, stays as it is.
    private static let unsubstituted: Set<String> = credentialNames.union([
        "policy", "signature", "awsaccesskeyid",
    ])

    /// Some browsers send the whole path.
    private static func lastComponent(_ path: String) -> String {
        String(path.split(omittingEmptySubsequences: false) { $0 == "/" || $0 == "\\" }.last ?? "")
    }
}

extension PostForm {
    /// Who a form says it is from.
    package enum Authentication: Sendable {
        case anonymous
        case version4(SigningCredential, signature: Digest, time: Timestamp)
        /// Signed the old way, with HMAC-SHA-1.
        case version2(accessKey: String, signature: [UInt8])

        package var accessKey: String? {
            switch self {
            case .anonymous: nil
            case .version4(let credential, _, _): credential.accessKey
            case .version2(let accessKey, _): accessKey
            }
        }
    }

    /// - Throws: `InvalidArgument` when a form is signed in part.
    package func authentication() throws(S3Error) -> Authentication {
        try RequestAuthentication.refuseToken(value("x-amz-security-token"))
        if value("x-amz-signature") != nil || value("x-amz-credential") != nil
            || value("x-amz-algorithm") != nil
        {
            return try version4()
        }
        if value("awsaccesskeyid") != nil || value("signature") != nil {
            let accessKey = try required("AWSAccessKeyId")
            let signature = try required("Signature")
            _ = try required("Policy")
            guard signature.utf8.count <= 64, let bytes = Base64.decode(signature) else {
                throw SignatureVerifier.refusal(accessKey, isKnown: true)
            }
            return .version2(accessKey: accessKey, signature: bytes)
        }
        guard value("policy") == nil else { _ = try required("X-Amz-Signature"); return .anonymous }
        return .anonymous
    }

    private func version4() throws(S3Error) -> Authentication {
        let algorithm = try required("X-Amz-Algorithm")
        let credentialText = try required("X-Amz-Credential")
        let timeText = try required("X-Amz-Date")
        let signatureText = try required("X-Amz-Signature")
        _ = try required("Policy")
        guard algorithm == StringToSign.algorithm else {
            throw .invalidArgument(
                "X-Amz-Algorithm only supports \"AWS4-HMAC-SHA256\"",
                name: "X-Amz-Algorithm",
                value: algorithm
            )
        }
        guard let credential = SigningCredential(credentialText), let time = ISO8601.parseBasic(timeText),
            timeText.hasPrefix(credential.scope.day)
        else {
            throw .invalidArgument(
                "The credential or the date of the form is malformed.",
                name: "X-Amz-Credential",
                value: credentialText
            )
        }
        guard let signature = Hexadecimal.digest(signatureText) else {
            throw SignatureVerifier.refusal(credential.accessKey, isKnown: true)
        }
        return .version4(credential, signature: signature, time: time)
    }

    private func required(_ name: String) throws(S3Error) -> String {
        guard let value = value(ASCIIText.lowercased(name)), !value.isEmpty else {
            throw .invalidArgument(
                "Bucket POST must contain a field named '\(name)'.  If it is specified, please check the order of "
                    + "the fields.",
                name: name,
                value: ""
            )
        }
        return value
    }

    /// Checks signature and policy.
    /// - Parameters:
    ///   - secret: of the form's access key, or nil when there is no such key.
    ///   - bucket: the one of the URL.
    ///   - allowsVersion2: whether forms signed with HMAC-SHA-1 count.
    /// - Returns: the signature, and the sizes that the file may have.
    package func verify(
        _ authentication: Authentication,
        verifier: SignatureVerifier,
        secret: String?,
        bucket: BucketName,
        allowsVersion2: Bool,
        now: Timestamp
    ) throws(S3Error) -> (signature: VerifiedSignature, sizes: ClosedRange<UInt64>?) {
        let policy = value("policy") ?? ""
        let verified: VerifiedSignature
        switch authentication {
        case .anonymous:
            throw S3Error(.accessDenied)
        case .version4(let credential, let signature, let time):
            verified = try verifier.verifyForm(
                policy: policy,
                credential: credential,
                signature: signature,
                time: time,
                secret: secret
            )
        case .version2(let accessKey, let signature):
            guard allowsVersion2 else { throw RequestAuthentication.unsupportedMechanism }
            let key = [UInt8]((secret ?? "no such access key").utf8)
            let expected = HMACSHA1.authenticate([UInt8](policy.utf8), key: key)
            guard ConstantTime.equal(expected, signature), secret != nil else {
                throw SignatureVerifier.refusal(accessKey, isKnown: secret != nil)
            }
            verified = VerifiedSignature(
                accessKey: accessKey,
                payload: .unsigned,
                chunkSigning: nil,
                time: now
            )
        }
        let sizes = try PostPolicy(base64: policy).check(self, bucket: bucket, now: now)
        return (verified, sizes)
    }
}
