import ContentHashing
import S3Protocol
import StoreModel
import Testing

@Suite struct PostFormTests {
    static let now = Timestamp(milliseconds: 1_700_000_000_000)
    static let contentType = "multipart/form-data; boundary=9431149156168"
    let signer = RequestSigner(accessKey: "AKIDEXAMPLE", secret: "secret", region: "eu-west-1")
    let verifier = SignatureVerifier(region: "eu-west-1")

    static func body(_ fields: [(String, String)], file: String? = "content", fileName: String = "f.txt")
        -> [UInt8]
    {
        var text = ""
        for (name, value) in fields {
            text += "--9431149156168\r\nContent-Disposition: form-data; name=\"\(name)\"\r\n\r\n\(value)\r\n"
        }
        if let file {
            text +=
                "--9431149156168\r\nContent-Disposition: form-data; name=\"file\"; filename=\"\(fileName)\"\r\n"
            text += "Content-Type: text/plain\r\n\r\n\(file)\r\n"
        }
        return [UInt8]((text + "--9431149156168--\r\n").utf8)
    }

    static func parse(_ body: [UInt8], pieces: () -> Int = { Int.max / 2 }) throws -> (
        form: PostForm, content: [UInt8]
    ) {
        var parser = try PostFormParser(contentType: contentType)
        var content: [UInt8] = []
        var position = 0
        while position < body.count {
            let end = min(body.count, position + max(1, pieces()))
            content += try parser.push(body[position..<end])
            position = end
        }
        try parser.finish()
        return (try #require(parser.form), content)
    }

    private func policy(_ conditions: String, expiration: String = "2099-01-01T12:00:00.000Z") -> String {
        Base64.encode([UInt8]("{\"expiration\": \"\(expiration)\", \"conditions\": [\(conditions)]}".utf8))
    }

    static let common = """
        {"bucket": "b00"}, ["starts-with", "$key", "user/"], {"x-amz-algorithm": "AWS4-HMAC-SHA256"},
        ["starts-with", "$x-amz-credential", ""], ["starts-with", "$X-Amz-Date", ""]
        """

    private func fields(_ policy: String, key: String = "user/${filename}", extra: [(String, String)] = [])
        -> [(String, String)]
    {
        let credential = SigningCredential(
            accessKey: "AKIDEXAMPLE",
            scope: CredentialScope(Self.now, region: "eu-west-1")
        )
        return [
            ("key", key), ("Policy", policy), ("X-Amz-Algorithm", "AWS4-HMAC-SHA256"),
            ("X-Amz-Credential", credential.text), ("x-amz-date", ISO8601.formatBasic(Self.now)),
            ("X-Amz-Signature", signer.signForm(policy: policy, now: Self.now)),
        ] + extra
    }

    private func verify(
        _ fields: [(String, String)],
        secret: String? = "secret",
        bucket: String = "b00",
        allowsVersion2: Bool = false
    ) throws -> ClosedRange<UInt64>? {
        let form = try Self.parse(Self.body(fields)).form
        return try form.verify(
            try form.authentication(),
            verifier: verifier,
            secret: secret,
            bucket: try BucketName(bucket),
            allowsVersion2: allowsVersion2,
            now: Self.now
        ).sizes
    }

    private func code(_ fields: [(String, String)], secret: String? = "secret", bucket: String = "b00")
        -> S3ErrorCode?
    {
        refusal { _ = try verify(fields, secret: secret, bucket: bucket) }?.code
    }

    /// https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-post-example.html
    @Test func theSignatureOfTheDocumentationIsReached() throws {
        let policy = """
            eyAiZXhwaXJhdGlvbiI6ICIyMDE1LTEyLTMwVDEyOjAwOjAwLjAwMFoiLA0KICAiY29uZGl0aW9ucyI6IFsNCiAgICB7ImJ1Y2tldCI6\
            ICJzaWd2NGV4YW1wbGVidWNrZXQifSwNCiAgICBbInN0YXJ0cy13aXRoIiwgIiRrZXkiLCAidXNlci91c2VyMS8iXSwNCiAgICB7ImFjb\
            CI6ICJwdWJsaWMtcmVhZCJ9LA0KICAgIHsic3VjY2Vzc19hY3Rpb25fcmVkaXJlY3QiOiAiaHR0cDovL3NpZ3Y0ZXhhbXBsZWJ1Y2tldC\
            5zMy5hbWF6b25hd3MuY29tL3N1Y2Nlc3NmdWxfdXBsb2FkLmh0bWwifSwNCiAgICBbInN0YXJ0cy13aXRoIiwgIiRDb250ZW50LVR5cGU\
            iLCAiaW1hZ2UvIl0sDQogICAgeyJ4LWFtei1tZXRhLXV1aWQiOiAiMTQzNjUxMjM2NTEyNzQifSwNCiAgICB7IngtYW16LXNlcnZlci1z\
            aWRlLWVuY3J5cHRpb24iOiAiQUVTMjU2In0sDQogICAgWyJzdGFydHMtd2l0aCIsICIkeC1hbXotbWV0YS10YWciLCAiIl0sDQoNCiAgI\
            CB7IngtYW16LWNyZWRlbnRpYWwiOiAiQUtJQUlPU0ZPRE5ON0VYQU1QTEUvMjAxNTEyMjkvdXMtZWFzdC0xL3MzL2F3czRfcmVxdWVzdC\
            J9LA0KICAgIHsieC1hbXotYWxnb3JpdGhtIjogIkFXUzQtSE1BQy1TSEEyNTYifSwNCiAgICB7IngtYW16LWRhdGUiOiAiMjAxNTEyMjl\
            UMDAwMDAwWiIgfQ0KICBdDQp9
            """
        let documented = RequestSigner(
            accessKey: "AKIAIOSFODNN7EXAMPLE",
            secret: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
            region: "us-east-1"
        )
        let time = try #require(ISO8601.parseBasic("20151229T000000Z"))
        #expect(
            documented.signForm(policy: policy, now: time)
                == "8afdbf4008c03f22c2cd3cdb72e4afbb1f6a588f3255ac628749a66d7f09699e"
        )
        _ = try PostPolicy(base64: policy)
    }

    @Test func aSignedFormIsTaken() throws {
        let policy = policy(Self.common + ", [\"content-length-range\", 2, 10]")
        #expect(try verify(fields(policy)) == 2...10)
        let form = try Self.parse(Self.body(fields(policy), fileName: "C:\\dir\\a b.txt")).form
        #expect(try form.key().description == "user/a b.txt")
        #expect(throws: S3Error.self) { try PostPolicy.check(size: 1, in: 2...10) }
        #expect(throws: S3Error.self) { try PostPolicy.check(size: 11, in: 2...10) }
        try PostPolicy.check(size: 10, in: 2...10)
    }

    @Test func aFormThatIsNotSignedRightIsRefused() {
        let good = policy(Self.common)
        #expect(code(fields(good)) == nil)
        #expect(code(fields(good), secret: "other") == .signatureDoesNotMatch)
        #expect(code(fields(good), secret: nil) == .invalidAccessKeyID)
        for name in ["Policy", "X-Amz-Algorithm", "X-Amz-Credential", "x-amz-date", "X-Amz-Signature"] {
            #expect(code(fields(good).filter { $0.0 != name }) == .invalidArgument, "\(name)")
        }
        #expect(code([("key", "user/k")]) == .accessDenied)
        #expect(code([("key", "user/k"), ("policy", good)]) == .invalidArgument)
        #expect(code(fields(good) + [("x-amz-security-token", "t")]) == .invalidToken)
    }

    @Test func everyConditionIsEnforced() {
        let good = policy(Self.common)
        #expect(code(fields(good, key: "other/k")) == .accessDenied)
        #expect(code(fields(good), bucket: "b01") == .accessDenied)
        #expect(code(fields(good, extra: [("bucket", "b01")])) == .accessDenied)
        #expect(code(fields(good, extra: [("acl", "public-read")])) == .accessDenied)
        #expect(code(fields(good, extra: [("x-ignore-this", "1")])) == nil)
        let withACL = policy(Self.common + ", {\"ACL\": \"private\"}")
        #expect(code(fields(withACL, extra: [("acl", "private")])) == nil)
        #expect(code(fields(withACL, extra: [("acl", "public-read")])) == .accessDenied)
        #expect(code(fields(withACL)) == .accessDenied)
        #expect(code(fields(policy(Self.common, expiration: "2020-01-01T00:00:00Z"))) == .accessDenied)
        let nowhere = policy(Self.common.replacing("{\"bucket\": \"b00\"},", with: ""))
        #expect(code(fields(nowhere)) == .accessDenied)
    }

    @Test(arguments: [
        "[", "{}", "{\"expiration\": \"2099-01-01T00:00:00Z\"}", "{\"conditions\": []}",
        "{\"expiration\": \"soon\", \"conditions\": []}",
        "{\"EXPIRATION\": \"2099-01-01T00:00:00Z\", \"conditions\": []}",
        "{\"expiration\": \"2099-01-01T00:00:00Z\", \"conditions\": [{}]}",
        "{\"expiration\": \"2099-01-01T00:00:00Z\", \"conditions\": [[\"eq\", \"key\", \"a\"]]}",
        "{\"expiration\": \"2099-01-01T00:00:00Z\", \"conditions\": [[\"like\", \"$key\", \"a\"]]}",
        "{\"expiration\": \"2099-01-01T00:00:00Z\", \"conditions\": [[\"content-length-range\", -1, 0]]}",
        "{\"expiration\": \"2099-01-01T00:00:00Z\", \"conditions\": [[\"content-length-range\", 2, 1]]}",
        "{\"expiration\": \"2099-01-01T00:00:00Z\", \"conditions\": [[\"content-length-range\", 2]]}",
        "{\"expiration\": \"2099-01-01T00:00:00Z\", \"conditions\": [7]}",
    ])
    func policiesThatAreNoneAreRefused(_ text: String) {
        #expect(
            refusal { _ = try PostPolicy(base64: Base64.encode([UInt8](text.utf8))) }?.code
                == .invalidPolicyDocument
        )
        #expect(refusal { _ = try PostPolicy(base64: "%%%") }?.code == .invalidPolicyDocument)
    }

    @Test func theOldSignatureIsAnOption() throws {
        let policy = policy("{\"bucket\": \"b00\"}, {\"key\": \"k\"}")
        let signature = HMACSHA1.authenticate([UInt8](policy.utf8), key: [UInt8]("secret".utf8))
        let fields = [
            ("key", "k"), ("AWSAccessKeyId", "AKID"), ("Policy", policy),
            ("Signature", Base64.encode(signature)),
        ]
        #expect(try verify(fields, allowsVersion2: true) == nil)
        #expect(code(fields) == .invalidRequest)
        #expect(throws: S3Error.self) { try verify(fields, secret: "other", allowsVersion2: true) }
        #expect(throws: S3Error.self) { try verify(fields, secret: nil, allowsVersion2: true) }
    }

    @Test func everySplitOfTheInputGivesTheSame() throws {
        var generator = SeededGenerator(seed: 3)
        let tricky = ["", "\r\n", "\r\n--943114915616", "--9431149156168", "\r\n--\r\n-\r\r\n", "plain"]
        for file in tricky {
            let body = Self.body([("key", "k"), ("empty", ""), ("x-amz-meta-a", "1\r\n--2")], file: file)
            for largest in [1, 2, 7, 1000] {
                let (form, content) = try Self.parse(body) { Int.random(in: 1...largest, using: &generator) }
                #expect(String(decoding: content, as: UTF8.self) == file)
                #expect(form.value("empty") == "")
                #expect(form.value("x-amz-meta-a") == "1\r\n--2")
            }
        }
    }

    @Test func aTruncatedFormIsNeverComplete() {
        let body = Self.body([("key", "k")])
        for length in 0..<(body.count - 4) {
            #expect(throws: (any Error).self) { try Self.parse([UInt8](body.prefix(length))) }
        }
    }

    @Test func malformedFormsAreRefused() {
        func code(_ text: String) -> S3ErrorCode? {
            refusal { _ = try Self.parse([UInt8](text.utf8)) }?.code
        }
        let start = "--9431149156168\r\n"
        #expect(
            refusal { _ = try Self.parse(Self.body([("key", "k")], file: nil)) }?.code
                == .incorrectNumberOfFilesInPostRequest
        )
        #expect(code("") == .malformedPOSTRequest)
        #expect(code(start + "\r\nvalue") == .malformedPOSTRequest)
        #expect(code(start + "no colon\r\n\r\n") == .malformedPOSTRequest)
        #expect(code(start + "Content-Disposition: form-data\r\n\r\n") == .malformedPOSTRequest)
        #expect(code("--9431149156168garbage") == .malformedPOSTRequest)
        #expect(code(String(repeating: "x", count: 30_000)) == .maxPostPreDataLengthExceeded)
        let long = refusal { _ = try Self.parse(Self.body([("key", String(repeating: "k", count: 30_000))])) }
        #expect(long?.code == .maxPostPreDataLengthExceeded)
        let twice = refusal { _ = try Self.parse(Self.body([("key", "a"), ("Key", "b")])) }
        #expect(twice?.code == .invalidArgument)
        for type in [
            "", "multipart/form-data", "multipart/form-data; boundary=",
            "multipart/form-data; boundary=\"a\nb\"", "text/plain; boundary=a",
        ] {
            #expect(throws: S3Error.self) { try PostFormParser(contentType: type) }
        }
        #expect(throws: Never.self) {
            try PostFormParser(contentType: "multipart/form-data; charset=utf-8; boundary=\"a b\"")
        }
    }

    @Test func fieldsStandForHeaders() throws {
        let form = try Self.parse(
            Self.body([
                ("key", "k"), ("acl", "private"), ("Content-Type", "image/png"), ("x-amz-meta-a", "1"),
                ("x-amz-signature", "s"), ("success_action_status", "201"),
                ("success_action_redirect", "http://localhost/ok"), ("tagging", "<Tagging/>"),
            ])
        ).form
        #expect(form.headers.fields.map(\.name) == ["x-amz-acl", "content-type", "x-amz-meta-a"])
        #expect(form.successStatus == 201)
        #expect(form.successRedirect == "http://localhost/ok")
        let bad = try Self.parse(
            Self.body([("success_action_redirect", "javascript:1"), ("success_action_status", "404")])
        ).form
        #expect(bad.successRedirect == nil)
        #expect(bad.successStatus == 204)
        #expect(throws: S3Error.self) { try bad.key() }
    }
}
