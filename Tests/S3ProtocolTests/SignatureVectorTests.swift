import S3Protocol
import StoreModel
import Testing

@Suite struct SignatureVectorTests {
    @Test func thereAreVectors() {
        #expect(SignatureVector.all.count >= 100)
        #expect(SignatureVector.all.filter(\.published).count >= 15)
    }

    @Test(arguments: SignatureVector.all)
    func theCanonicalRequestIsThatOfTheReference(_ vector: SignatureVector) {
        let canonical = CanonicalRequest(
            vector.head,
            signedHeaders: vector.signedHeaders,
            payload: vector.payload,
            omitting: vector.kind == "presigned" ? "X-Amz-Signature" : nil
        )
        #expect(canonical.text == vector.canonicalRequest)
    }

    @Test(arguments: SignatureVector.all.filter { $0.service == "s3" })
    func theVerifierTakesTheSignatureOfTheReference(_ vector: SignatureVector) throws {
        let verifier = SignatureVerifier(region: vector.region)
        let claim = try RequestAuthentication(vector.head)
        let verified = try verifier.verify(
            claim,
            head: vector.head,
            secret: vector.secret,
            now: vector.timestamp
        )
        #expect(verified.accessKey == vector.accessKey)
        #expect(verified.payload.headerValue == vector.payload)
        #expect(throws: S3Error.self) {
            try verifier.verify(claim, head: vector.head, secret: vector.secret + "x", now: vector.timestamp)
        }
    }

    @Test(arguments: SignatureVector.all.filter { $0.service == "service" })
    func theTestSuiteVerifies(_ vector: SignatureVector) throws {
        // The suite signs for a service that has no payload header: it gets one that is not signed over.
        var head = vector.head
        head.headers.remove("x-amz-content-sha256")
        var signed = head
        let signer = RequestSigner(
            accessKey: vector.accessKey,
            secret: vector.secret,
            region: vector.region,
            service: vector.service
        )
        let key = SigningKey(secret: vector.secret, scope: vector.scope)
        let canonical = CanonicalRequest(head, signedHeaders: vector.signedHeaders, payload: vector.payload)
        let text = ["AWS4-HMAC-SHA256", vector.time, vector.scope.text, canonical.hash.hex]
        #expect(key.sign([UInt8](text.joined(separator: "\n").utf8)).hex == vector.signature)
        signer.sign(&signed, payload: .unsigned, now: vector.timestamp)
        let verifier = SignatureVerifier(region: vector.region, service: vector.service)
        _ = try verifier.verify(
            try RequestAuthentication(signed),
            head: signed,
            secret: vector.secret,
            now: vector.timestamp
        )
    }

    @Test(arguments: SignatureVector.all.filter { $0.service == "s3" && $0.kind == "header" })
    func theSignerSignsLikeTheReference(_ vector: SignatureVector) throws {
        var head = vector.head
        let wanted = vector.signedHeaders
        // The reference decides what it signs; here everything is that is left.
        for field in head.headers.fields where !wanted.contains(field.name) {
            head.headers.remove(field.name)
        }
        guard !wanted.contains("content-length") else { return }
        let signer = RequestSigner(accessKey: vector.accessKey, secret: vector.secret, region: vector.region)
        signer.sign(&head, payload: try PayloadMode(headerValue: vector.payload), now: vector.timestamp)
        #expect(head.headers.first("authorization")?.hasSuffix("Signature=" + vector.signature) == true)
    }

    @Test func theSignerPresignsLikeTheDocumentation() throws {
        let vector = try SignatureVector.named("S3 documentation: presigned GET")
        let head = S3RequestHead(
            method: "GET",
            path: "/test.txt",
            headers: HeaderList([("Host", "examplebucket.s3.amazonaws.com")])
        )
        let signer = RequestSigner(accessKey: vector.accessKey, secret: vector.secret, region: vector.region)
        let query = signer.presign(head, expires: 86400, now: vector.timestamp)
        #expect(query.hasSuffix("&X-Amz-Signature=" + vector.signature))
    }
}
