import ContentHashing
import S3Protocol
import StoreModel
import Testing

@Suite struct SignatureVerifierTests {
    static let now = Timestamp(milliseconds: 1_700_000_000_000)
    static let minute: Int64 = 60_000
    let signer = RequestSigner(accessKey: "AKIDEXAMPLE", secret: "secret", region: "eu-west-1")
    let verifier = SignatureVerifier(region: "eu-west-1")

    private func head(_ method: String = "PUT", _ target: String = "/bucket/key?b=2&a=1") -> S3RequestHead {
        let headers = HeaderList([("Host", "localhost:9000"), ("X-Amz-Meta-A", "1"), ("Range", "bytes=0-1")])
        return S3RequestHead(method: method, target: target, headers: headers)
    }

    private func signed(
        _ payload: PayloadMode = .unsigned,
        at time: Timestamp = now,
        _ change: (inout S3RequestHead) -> Void = { _ in }
    ) -> S3RequestHead {
        var head = head()
        signer.sign(&head, payload: payload, now: time)
        change(&head)
        return head
    }

    private func presigned(
        expires: Int = 60,
        at time: Timestamp = now,
        _ change: (inout S3RequestHead) -> Void = { _ in }
    ) -> S3RequestHead {
        var head = head("GET")
        head.headers.remove("x-amz-meta-a")
        head.query = signer.presign(head, expires: expires, now: time)
        change(&head)
        return head
    }

    private func code(_ head: S3RequestHead, secret: String? = "secret", now: Timestamp = now) -> S3ErrorCode?
    {
        refusal {
            _ = try verifier.verify(try RequestAuthentication(head), head: head, secret: secret, now: now)
        }?.code
    }

    @Test(arguments: [
        PayloadMode.unsigned, .signed(.zero), .streaming(signed: true, trailer: false),
        .streaming(signed: true, trailer: true), .streaming(signed: false, trailer: true),
    ])
    func aRightSignatureIsTakenAndAWrongOneIsNotInEveryMode(_ payload: PayloadMode) {
        #expect(code(signed(payload)) == nil)
        #expect(code(signed(payload), secret: "another") == .signatureDoesNotMatch)
        #expect(code(signed(payload), secret: nil) == .invalidAccessKeyID)
        #expect(code(presigned()) == nil)
        #expect(code(presigned(), secret: "another") == .signatureDoesNotMatch)
        #expect(code(presigned(), secret: nil) == .invalidAccessKeyID)
    }

    @Test func anonymousRequestsAreNotVerified() throws {
        let head = head()
        let claim = try RequestAuthentication(head)
        #expect(claim.claim == nil)
        #expect(
            refusal { _ = try verifier.verify(claim, head: head, secret: "", now: Self.now) }?.code
                == .accessDenied
        )
    }

    @Test func aSignatureIsGoodForOneRequestOnly() {
        #expect(code(signed { $0.method = "DELETE" }) == .signatureDoesNotMatch)
        #expect(code(signed { $0.path = "/bucket/other" }) == .signatureDoesNotMatch)
        #expect(code(signed { $0.path = "/bucket//key" }) == .signatureDoesNotMatch)
        #expect(code(signed { $0.query = "b=2&a=2" }) == .signatureDoesNotMatch)
        #expect(code(signed { $0.query = nil }) == .signatureDoesNotMatch)
        #expect(code(signed { $0.headers.set("host", "elsewhere") }) == .signatureDoesNotMatch)
        #expect(code(signed { $0.headers.set("x-amz-meta-a", "2") }) == .signatureDoesNotMatch)
        #expect(code(signed { $0.headers.remove("x-amz-meta-a") }) == .signatureDoesNotMatch)
        #expect(code(presigned { $0.method = "PUT" }) == .signatureDoesNotMatch)
        #expect(code(presigned { $0.path = "/bucket/other" }) == .signatureDoesNotMatch)
        #expect(code(presigned { $0.query? += "&acl" }) == .signatureDoesNotMatch)
    }

    @Test func otherSpellingsOfTheSameRequestHaveTheSameSignature() {
        #expect(code(signed { $0.path = "/bucket/%6Bey" }) == nil)
        #expect(code(signed { $0.query = "a=1&b=%32" }) == nil)
        #expect(code(signed { $0.headers.set("x-amz-meta-a", "  1 ") }) == nil)
    }

    @Test func headersThatMatterMustBeSigned() {
        #expect(code(signed { $0.headers.append("x-amz-acl", "public-read") }) == .accessDenied)
        #expect(code(presigned { $0.headers.append("x-amz-acl", "public-read") }) == .accessDenied)
        #expect(
            code(signed { $0.headers.append("X-AMZ-Meta-A", "2") }) == .signatureDoesNotMatch,
            "A second field of a signed name changes the signed list."
        )
        let withoutHost = signed { head in
            let text = head.headers.first("authorization") ?? ""
            head.headers.set("authorization", text.replacing("host;", with: ""))
        }
        #expect(code(withoutHost) == .accessDenied)
        #expect(code(signed { $0.headers.append("x-other", "1") }) == nil)
    }

    @Test(arguments: [(-16, false), (-14, true), (0, true), (14, true), (16, false)])
    func clocksMayDifferByAQuarterOfAnHour(_ minutes: Int64, _ isFine: Bool) {
        let time = Timestamp(milliseconds: Self.now.milliseconds + minutes * Self.minute)
        #expect(code(signed(at: time)) == (isFine ? nil : .requestTimeTooSkewed))
    }

    @Test func theDateThatIsSignedIsTheOneThatIsChecked() {
        let old = Timestamp(milliseconds: Self.now.milliseconds - 60 * Self.minute)
        let day = Timestamp(milliseconds: Self.now.milliseconds - 24 * 60 * Self.minute)
        #expect(
            code(signed(at: old) { $0.headers.append("date", HTTPDate.format(Self.now)) })
                == .requestTimeTooSkewed
        )
        #expect(
            code(signed(at: old) { $0.headers.set("x-amz-date", ISO8601.formatBasic(Self.now)) })
                == .signatureDoesNotMatch
        )
        #expect(code(signed { $0.headers.remove("x-amz-date") }) == .accessDenied)
        #expect(code(signed { $0.headers.set("x-amz-date", "yesterday") }) == .accessDenied)
        #expect(
            code(signed { $0.headers.set("x-amz-date", ISO8601.formatBasic(day)) })
                == .authorizationHeaderMalformed
        )
    }

    @Test func dateAloneIsEnough() throws {
        var head = head()
        head.headers.set("date", HTTPDate.format(Self.now))
        head.headers.set("x-amz-content-sha256", "UNSIGNED-PAYLOAD")
        let names = ["date", "host", "x-amz-content-sha256", "x-amz-meta-a"]
        let scope = CredentialScope(Self.now, region: "eu-west-1")
        let canonical = CanonicalRequest(head, signedHeaders: names, payload: "UNSIGNED-PAYLOAD")
        let text = ["AWS4-HMAC-SHA256", ISO8601.formatBasic(Self.now), scope.text, canonical.hash.hex]
        let signature = SigningKey(secret: "secret", scope: scope).sign(
            [UInt8](text.joined(separator: "\n").utf8)
        )
        let list = names.joined(separator: ";")
        head.headers.set(
            "authorization",
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/\(scope.text), SignedHeaders=\(list), Signature=\(signature.hex)"
        )
        #expect(code(head) == nil)
        #expect(
            code(head, now: Timestamp(milliseconds: Self.now.milliseconds + 16 * Self.minute))
                == .requestTimeTooSkewed
        )
    }

    @Test func presignedRequestsExpire() {
        let later = Timestamp(milliseconds: Self.now.milliseconds + Self.minute)
        let justBefore = Timestamp(milliseconds: later.milliseconds - 1)
        #expect(code(presigned(), now: justBefore) == nil)
        #expect(code(presigned(), now: later) == .accessDenied)
        #expect(code(presigned(expires: 0)) == .accessDenied)
        #expect(code(presigned(expires: 604_800)) == nil)
        #expect(code(presigned(expires: 604_801)) == .authorizationQueryParametersError)
        #expect(code(presigned(expires: -7)) == .authorizationQueryParametersError)
        let future = Timestamp(milliseconds: Self.now.milliseconds + 16 * Self.minute)
        #expect(code(presigned(at: future)) == .accessDenied)
    }

    @Test func regionAndServiceMustBeOurs() {
        let elsewhere = RequestSigner(accessKey: "AKIDEXAMPLE", secret: "secret", region: "us-east-1")
        var head = head()
        elsewhere.sign(&head, payload: .unsigned, now: Self.now)
        let error = refusal {
            _ = try verifier.verify(
                try RequestAuthentication(head),
                head: head,
                secret: "secret",
                now: Self.now
            )
        }
        #expect(error?.code == .authorizationHeaderMalformed)
        #expect(error?.details.contains { $0.name == "Region" && $0.value == "eu-west-1" } == true)
        let other = RequestSigner(accessKey: "A", secret: "secret", region: "eu-west-1", service: "iam")
        other.sign(&head, payload: .unsigned, now: Self.now)
        #expect(code(head) == .authorizationHeaderMalformed)
    }

    @Test func twoWaysToSignAreTooMany() {
        let both = presigned { head in
            head.headers.append("authorization", "AWS4-HMAC-SHA256 Credential=")
        }
        #expect(code(both) == .invalidArgument)
        #expect(code(both).map(\.status) == 400)
        let old = signed { $0.query = "AWSAccessKeyId=a&Signature=b&Expires=1" }
        #expect(code(old) == .invalidArgument)
    }

    @Test func versionTwoIsRefused() {
        var head = head()
        head.headers.set("authorization", "AWS AKIDEXAMPLE:frJIUN8DYpKDtOLCwo//yllqDzg=")
        #expect(code(head) == .invalidRequest)
        head.headers.remove("authorization")
        head.query = "AWSAccessKeyId=AKID&Signature=x&Expires=1175139620"
        #expect(code(head) == .invalidRequest)
    }

    @Test(arguments: [
        ("", S3ErrorCode.invalidArgument), ("Basic YTpi", .invalidArgument), ("Bearer x", .invalidArgument),
        ("AWS4-HMAC-SHA256", .authorizationHeaderMalformed),
        ("AWS4-HMAC-SHA256 Credential", .authorizationHeaderMalformed),
        ("AWS4-HMAC-SHA256 Credential=a/b,SignedHeaders=host,Signature=0", .authorizationHeaderMalformed),
        ("AWS4-HMAC-SHA256 Credential=a,Credential=a", .authorizationHeaderMalformed),
        ("AWS4-HMAC-SHA256 Color=red", .authorizationHeaderMalformed),
        (
            "AWS4-HMAC-SHA256 Credential=a/20231114/r/s3/aws4_request,SignedHeaders=,Signature=0",
            .authorizationHeaderMalformed
        ),
        (
            "AWS4-HMAC-SHA256 Credential=a/20231114/r/s3/aws4_request,SignedHeaders=host,Signature=0",
            .signatureDoesNotMatch
        ),
        (
            "AWS4-HMAC-SHA256 Credential=/20231114/r/s3/aws4_request,SignedHeaders=host,Signature=0",
            .authorizationHeaderMalformed
        ),
    ])
    func malformedHeadersAreRefused(_ text: String, _ expected: S3ErrorCode) {
        var head = head()
        head.headers.set("authorization", text)
        #expect(code(head) == expected)
    }

    @Test func thePayloadHeaderMustBeThereAndValid() {
        #expect(code(signed { $0.headers.remove("x-amz-content-sha256") }) == .invalidRequest)
        #expect(code(signed { $0.headers.set("x-amz-content-sha256", "nonsense") }) == .invalidArgument)
        #expect(
            code(signed { $0.headers.set("x-amz-content-sha256", PayloadMode.emptyText) })
                == .signatureDoesNotMatch
        )
        let twice = signed { $0.headers.append("x-amz-content-sha256", PayloadMode.emptyText) }
        #expect(code(twice) == .invalidRequest)
    }

    @Test func sessionTokensAreNotKnown() {
        let token = signed { $0.headers.append("x-amz-security-token", "t") }
        #expect(code(token) == .invalidToken)
        #expect(code(presigned { $0.query? += "&X-Amz-Security-Token=t" }) == .invalidToken)
    }

    @Test func aMissingParameterOfAPresignedRequestIsNamed() {
        let names = [
            "X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders",
        ]
        for name in names + ["X-Amz-Signature"] {
            let head = presigned { head in
                let left = head.query?.split(separator: "&").filter { !$0.hasPrefix(name + "=") } ?? []
                head.query = left.joined(separator: "&")
            }
            #expect(code(head) == .authorizationQueryParametersError, "\(name)")
            let twice = presigned { $0.query? += "&\(name)=0" }
            #expect(code(twice) == .invalidArgument, "\(name)")
        }
    }

    @Test func aRotatedSecretStopsWorkingAtOnce() {
        let head = signed()
        #expect(code(head, secret: "secret") == nil)
        #expect(code(head, secret: "rotated") == .signatureDoesNotMatch)
        #expect(code(head, secret: "secret") == nil)
    }

    @Test func errorsShowWhatWasSignedButNoKeysOfTheClient() {
        var head = head()
        head.headers.append("x-amz-server-side-encryption-customer-key", "S0VZ")
        signer.sign(&head, payload: .unsigned, now: Self.now)
        let error = refusal {
            _ = try verifier.verify(try RequestAuthentication(head), head: head, secret: "x", now: Self.now)
        }
        #expect(error?.details.contains { $0.name == "StringToSign" } == true)
        #expect(error?.details.contains { $0.value.contains("S0VZ") } == false)
        #expect("\(signer)".contains("secret") == false)
    }

    @Test func headersInAPresignedQueryCountAsHeaders() throws {
        var head = S3RequestHead(
            method: "PUT",
            target: "/b/k?x-amz-acl=private&X-Amz-Meta-A=1",
            headers: HeaderList([("host", "h")])
        )
        head.query = signer.presign(head, expires: 60, now: Self.now)
        #expect(code(head) == nil)
        let query = try QueryItems(decoding: head.query)
        let full = try head.withHeadersOfPresignedQuery(query)
        #expect(full.headers.first("x-amz-acl") == "private")
        #expect(full.headers.first("x-amz-meta-a") == "1")
        #expect(full.headers.first("x-amz-credential") == nil)
        head.headers.append("x-amz-acl", "public-read")
        #expect(refusal { _ = try head.withHeadersOfPresignedQuery(query) }?.code == .invalidArgument)
    }
}

@Suite struct KeyedHashTests {
    /// https://www.rfc-editor.org/rfc/rfc4231 cases 1, 2 and 6
    @Test func macsAreThoseOfTheStandard() {
        let first = HMACSHA256.authenticate(
            [UInt8]("Hi There".utf8),
            key: [UInt8](repeating: 0x0B, count: 20)
        )
        #expect(first.hex == "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7")
        let second = HMACSHA256.authenticate(
            [UInt8]("what do ya want for nothing?".utf8),
            key: [UInt8]("Jefe".utf8)
        )
        #expect(second.hex == "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843")
        let long = HMACSHA256.authenticate(
            [UInt8]("Test Using Larger Than Block-Size Key - Hash Key First".utf8),
            key: [UInt8](repeating: 0xAA, count: 131)
        )
        #expect(long.hex == "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54")
        let old = HMACSHA1.authenticate(
            [UInt8]("what do ya want for nothing?".utf8),
            key: [UInt8]("Jefe".utf8)
        )
        #expect(Hex.encode(old) == "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79")
    }

    @Test func comparisonSeesEveryByte() {
        #expect(ConstantTime.equal([1, 2, 3], [1, 2, 3]))
        #expect(!ConstantTime.equal([1, 2, 3], [1, 2, 4]))
        #expect(!ConstantTime.equal([1, 2, 3], [1, 2]))
        #expect(!ConstantTime.equal(Digest.zero, Digest(words: (0, 0, 0, 1))))
    }
}
