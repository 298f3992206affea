import ContentHashing
import S3Protocol
import StoreModel
import Testing

/// Valid requests with random bytes changed: whatever comes out, nothing traps, and nothing that was changed where it
/// matters is taken for the original.
@Suite struct MutationTests {
    static let now = Timestamp(milliseconds: 1_369_353_600_000)

    /// Flips, cuts, doubles and inserts bytes.
    private static func mutated(_ text: String, _ generator: inout SeededGenerator) -> String {
        var bytes = [UInt8](text.utf8)
        for _ in 0..<Int.random(in: 1...4, using: &generator) {
            let index = bytes.isEmpty ? 0 : Int.random(in: 0..<bytes.count, using: &generator)
            switch Int.random(in: 0..<5, using: &generator) {
            case 0 where !bytes.isEmpty: bytes[index] ^= UInt8.random(in: 1...255, using: &generator)
            case 1 where !bytes.isEmpty: bytes.remove(at: index)
            case 2: bytes.insert(UInt8.random(in: 0...255, using: &generator), at: index)
            case 3: bytes.insert(contentsOf: bytes.prefix(20), at: index)
            default:
                bytes.insert(
                    contentsOf: "%/?&=;,\"\r\n".utf8.shuffled(using: &generator).prefix(2),
                    at: index
                )
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// Everything that reads heads of requests.
    private static func readAll(_ head: S3RequestHead) {
        let addressing = Addressing(domains: ["s3.amazonaws.com"])
        _ = try? Router.route(head, addressing: addressing)
        _ = try? ObjectHeaders(head.headers)
        _ = try? ChecksumHeaders(head.headers)
        _ = try? ConditionalHeaders(head.headers)
        _ = try? ObjectLockHeaders(head.headers, now: now)
        _ = try? CopyDirectives(head.headers)
        _ = try? PayloadMode(anonymous: head)
        _ = try? CustomerKey.parse(head.headers, .copySource)
        if let query = try? QueryItems(decoding: head.query) {
            _ = try? ResponseOverrides.parse(query, isSigned: true)
            _ = try? head.withHeadersOfPresignedQuery(query)
        }
        for field in head.headers.fields {
            _ = ByteRangeHeader(field.value)?.resolved(in: 1000)
            _ = try? CopySource(field.value)
            _ = HTTPDate.parse(field.value)
            _ = ISO8601.parse(field.value)
            _ = try? PostFormParser(contentType: field.value)
        }
    }

    private static let extra: [(String, String)] = [
        ("range", "bytes=0-9"), ("x-amz-copy-source", "/b00/k%20k?versionId=v"),
        ("if-match", "\"e\", W/\"f\""),
        ("if-modified-since", "Sun, 06 Nov 1994 08:49:37 GMT"), ("content-md5", "nQqh4fP9NMRFkFfRc1gyXw=="),
        ("content-type", "multipart/form-data; boundary=\"abc\""), ("x-amz-meta-a", "v"),
        ("x-amz-object-lock-retain-until-date", "2030-01-01T00:00:00.000+01:00"),
    ]

    @Test func changedHeadsNeverTrapAndNeverVerify() throws {
        var generator = SeededGenerator(seed: 42)
        let verifier = SignatureVerifier(region: "us-east-1")
        let vectors = SignatureVector.all.filter { $0.service == "s3" }
        for round in 0..<1500 {
            let vector = vectors[round % vectors.count]
            var head = vector.head
            for field in Self.extra where !head.headers.contains(field.0) {
                head.headers.append(field.0, field.1)
            }
            let original = head
            switch Int.random(in: 0..<4, using: &generator) {
            case 0: head.path = Self.mutated(head.path, &generator)
            case 1: head.query = Self.mutated(head.query ?? "a=b", &generator)
            case 2: head.method = Self.mutated(head.method, &generator)
            default:
                let index = Int.random(in: 0..<head.headers.fields.count, using: &generator)
                var list = HeaderList()
                for (position, field) in head.headers.fields.enumerated() {
                    list.append(
                        field.name,
                        position == index ? Self.mutated(field.value, &generator) : field.value
                    )
                }
                head.headers = list
            }
            Self.readAll(head)
            guard let claim = try? RequestAuthentication(head), claim.claim != nil else { continue }
            let verified = try? verifier.verify(
                claim,
                head: head,
                secret: vector.secret,
                now: vector.timestamp
            )
            guard verified != nil else { continue }
            // Other spellings of the same request may pass; another request may not.
            let names = claim.claim?.signedHeaders ?? []
            let omitted = "X-Amz-Signature"
            let left = CanonicalRequest(head, signedHeaders: names, payload: "", omitting: omitted)
            let right = CanonicalRequest(original, signedHeaders: names, payload: "", omitting: omitted)
            #expect(left.text == right.text)
        }
    }

    @Test func changedFormsNeverTrap() throws {
        var generator = SeededGenerator(seed: 43)
        let policy = Base64.encode(
            [UInt8]("{\"expiration\":\"2099-01-01\",\"conditions\":[[\"eq\",\"$key\",\"k\"]]}".utf8)
        )
        let body = PostFormTests.body([
            ("key", "k"), ("policy", policy), ("x-amz-credential", "a/20231114/r/s3/aws4_request"),
            ("x-amz-algorithm", "AWS4-HMAC-SHA256"), ("x-amz-date", "20231114T000000Z"),
            ("x-amz-signature", String(repeating: "0", count: 64)),
        ])
        let text = String(decoding: body, as: UTF8.self)
        for _ in 0..<600 {
            let bytes = [UInt8](Self.mutated(text, &generator).utf8)
            guard let form = try? PostFormTests.parse(bytes).form else { continue }
            guard let authentication = try? form.authentication() else { continue }
            let verified = try? form.verify(
                authentication,
                verifier: SignatureVerifier(region: "r"),
                secret: "secret",
                bucket: try BucketName("b00"),
                allowsVersion2: true,
                now: Self.now
            )
            #expect(verified == nil)
            _ = try? form.key()
            _ = form.headers
        }
        for _ in 0..<600 {
            let changed = Self.mutated(
                "{\"expiration\":\"2099-01-01\",\"conditions\":[[\"eq\",\"$key\",\"k\"]]}",
                &generator
            )
            _ = try? PostPolicy(base64: Base64.encode([UInt8](changed.utf8)))
            _ = try? PostPolicy(base64: Self.mutated(policy, &generator))
        }
    }

    @Test func randomBytesInBodiesNeverTrap() throws {
        var generator = SeededGenerator(seed: 44)
        let alphabet = [UInt8]("0123aF;chunk-signature=\r\n\r\n:x-amz-".utf8)
        for _ in 0..<2000 {
            let bytes = (0..<Int.random(in: 0...80, using: &generator)).map { _ in
                alphabet.randomElement(using: &generator) ?? 0
            }
            var decoder = try AWSChunkedDecoder(
                signed: false,
                trailer: true,
                decodedLength: 16,
                signing: nil,
                announced: ["x-amz-"]
            )
            _ = try? decoder.push(bytes)
            _ = try? decoder.finish()
        }
    }
}
