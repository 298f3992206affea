import ContentHashing
import Foundation
import NIOCore
import S3Protocol
import StoreModel

@testable import S3Gateway

extension FuzzTarget {
    static let all = protocols + codecs

    static let protocols = [http, head, headers, chunks, signedChunks, form, postPolicy, policy] + documents

    private static func text(_ lines: String...) -> [UInt8] { [UInt8](lines.joined(separator: "\r\n").utf8) }

    // MARK: HTTP

    /// What a connection's bytes are: heads, bodies, and whether they are refused in the end.
    private static func messages(_ pieces: [ArraySlice<UInt8>]) -> (parts: [String], isRefused: Bool) {
        var parser = MessageParser(limits: ServerLimits())
        var (buffer, body, parts) = (ByteBuffer(), [UInt8](), [String]())
        for piece in pieces {
            buffer.writeBytes(piece)
            do throws(TransportProblem) {
                steps: while true {
                    switch try parser.parse(&buffer, body: &body) {
                    case .needsMore: break steps
                    case .head(let request): parts.append("\(request)")
                    case .complete:
                        parts.append("body \(body)")
                        body = []
                        parser.next()
                        if buffer.readableBytes == 0 { break steps }
                    }
                }
            } catch {
                return (parts, true)
            }
        }
        return (parts + ["rest \(body)"], false)
    }

    private static let http = FuzzTarget(
        name: "http",
        words: [
            "\r\n", "\r\n\r\n", "GET ", "PUT ", " HTTP/1.1\r\n", "host: a\r\n", "content-length: ",
            "transfer-encoding: chunked\r\n", "expect: 100-continue\r\n", "connection: close\r\n", "%00",
            "//", ":", " ", "\t",
            "fffffffffffffff\r\n", "0\r\n\r\n", ";x=y",
        ],
        samples: {
            [
                text("GET /bucket/key?versionId=1 HTTP/1.1", "host: h", "range: bytes=0-9", "", ""),
                text("PUT /b/k HTTP/1.1", "host: h", "content-length: 5", "x-amz-meta-a: b", "", "hello"),
                text(
                    "POST /b/k?uploads HTTP/1.1",
                    "host: h",
                    "transfer-encoding: chunked",
                    "",
                    "5;a=b",
                    "hello",
                    "0",
                    "x: y",
                    "",
                    "GET / HTTP/1.1",
                    "host: h",
                    "",
                    ""
                ),
            ]
        },
        take: { input, mutator in
            let whole = messages([input[...]])
            let split = messages(mutator.pieces(of: input))
            try require(whole.isRefused == split.isRefused, "whole and in pieces are not refused alike")
            try require(whole.parts == split.parts, "whole \(whole.parts), in pieces \(split.parts)")
        }
    )

    /// Lines: method, target, headers. Everything that reads the head of a request reads it.
    private static let head = FuzzTarget(
        name: "head",
        words: [
            "?versionId=", "&uploadId=", "?acl", "?policy", "?partNumber=", "?list-type=2",
            "x-amz-copy-source:", "%2F", "%",
            "AWS4-HMAC-SHA256 Credential=", "SignedHeaders=", "Signature=", "X-Amz-Expires=", "x-amz-date:",
            "\n", "authorization:",
            "x-amz-content-sha256:", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "..", "bytes=", "W/\"", "*", "\"",
        ],
        samples: {
            [
                "GET\n/bucket/key?versionId=abc\nhost:s3.example.com\nrange:bytes=0-9,20-\nif-match:\"a\", W/\"b\"",
                "PUT\n/b00/k%20k?partNumber=3&uploadId=u\nhost:h\nx-amz-copy-source:/b01/k%2F?versionId=v\ncontent-md5:nQqh4fP9NMRFkFfRc1gyXw==",
                "GET\n/?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=A%2F20260101%2Fr%2Fs3%2Faws4_request&X-Amz-Date=20260101T000000Z&X-Amz-Expires=60&X-Amz-SignedHeaders=host&X-Amz-Signature=00\nhost:h",
                "PUT\n/b00/k\nhost:h\nx-amz-date:20260101T000000Z\nx-amz-content-sha256:UNSIGNED-PAYLOAD\nauthorization:AWS4-HMAC-SHA256 Credential=A/20260101/r/s3/aws4_request, SignedHeaders=host;x-amz-date, Signature=\(String(repeating: "0", count: 64))\nx-amz-tagging:a=b&c=d\nx-amz-acl:private\nx-amz-object-lock-mode:GOVERNANCE\nx-amz-object-lock-retain-until-date:2030-01-01T00:00:00Z",
            ].map { [UInt8]($0.utf8) }
        },
        take: { input, _ in
            let lines = String(decoding: input, as: UTF8.self).split(
                separator: "\n",
                omittingEmptySubsequences: false
            )
            var list = HeaderList()
            for line in lines.dropFirst(2).prefix(100) {
                let parts = line.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
                list.append(String(parts.first ?? ""), String(parts.dropFirst().first ?? ""))
            }
            let target = lines.dropFirst().first.map(String.init) ?? ""
            let head = S3RequestHead(
                method: lines.first.map(String.init) ?? "",
                target: target,
                headers: list
            )
            let now = Timestamp(milliseconds: 1_767_225_600_000)
            _ = try? Router.route(head, addressing: Addressing(domains: ["example.com"]))
            _ = try? ObjectHeaders(list)
            _ = try? ChecksumHeaders(list)
            _ = try? ConditionalHeaders(list)
            _ = try? ObjectLockHeaders(list, now: now)
            _ = try? CopyDirectives(list)
            _ = try? PayloadMode(anonymous: head)
            _ = try? CustomerKey.parse(list, .object)
            if let query = try? QueryItems(decoding: head.query) {
                _ = try? ResponseOverrides.parse(query, isSigned: true)
                _ = try? head.withHeadersOfPresignedQuery(query)
            }
            guard let claim = try? RequestAuthentication(head), claim.claim != nil else { return }
            let verified = try? SignatureVerifier(region: "r").verify(
                claim,
                head: head,
                secret: "secret",
                now: now
            )
            try require(verified == nil, "a signature that nobody made is right")
        }
    )

    /// One value for every parser of a header's value.
    private static let headers = FuzzTarget(
        name: "values",
        words: [
            "bytes=", "-", ",", "GMT", "T", "Z", "+00:00", "\"", "W/", "*", "?versionId=", "%", "=", "&",
            "id=", ":", "/",
        ],
        samples: {
            [
                "bytes=0-9", "bytes=-5", "bytes=1-", "Sun, 06 Nov 1994 08:49:37 GMT",
                "Sunday, 06-Nov-94 08:49:37 GMT",
                "Sun Nov  6 08:49:37 1994", "2030-01-01T00:00:00.000+01:00", "20260101T000000Z",
                "/bucket/key%20?versionId=3",
                "a=b&c=d%20e", "id=\"79a5\", uri=\"http://acs.amazonaws.com/groups/global/AllUsers\"",
                "multipart/form-data; boundary=\"abc\"", "10.0.0.0/8", "2001:db8::/32", "127.0.0.1:9000",
                "[::1]:80",
            ].map { [UInt8]($0.utf8) }
        },
        take: { input, _ in
            let text = String(decoding: input, as: UTF8.self)
            for size: UInt64 in [0, 1, 1000, .max] {
                guard let range = ByteRangeHeader(text)?.resolved(in: size) else { continue }
                _ = range
            }
            _ = try? ByteRangeHeader.copySource(text)
            _ = try? CopySource(text)
            _ = HTTPDate.parse(text)
            _ = ISO8601.parse(text)
            _ = ISO8601.parseBasic(text)
            _ = ISOTime(text)
            _ = try? TagSet(header: text)
            _ = try? Grant.grants(header: text, .read)
            _ = try? CannedACL(header: text)
            _ = try? PostFormParser(contentType: text)
            _ = AddressBlock(text)
            _ = ListenAddress(text)
            _ = PercentCoding.decode(text, plusIsSpace: true)
            _ = try? BucketName(text)
            if let key = try? ObjectKey(text) {
                try require(key.bytes.count <= 1024, "a key of \(key.bytes.count) bytes")
            }
        }
    )

    // MARK: Bodies

    private static func decode(_ decoder: consuming AWSChunkedDecoder, _ pieces: [ArraySlice<UInt8>])
        -> [UInt8]?
    {
        var decoder = decoder
        var content: [UInt8] = []
        do throws(S3Error) {
            for piece in pieces { content += try decoder.push(Array(piece)) }
            _ = try decoder.finish()
            return content
        } catch {
            return nil
        }
    }

    private static let chunks = FuzzTarget(
        name: "chunks",
        words: [
            "\r\n", "0\r\n", "5\r\n", ";a=b", "x-amz-checksum-crc32:", "fffffffffffffff", "-5", "\r\n\r\n",
        ],
        samples: {
            [
                text("10", "0123456789abcdef", "0", "x-amz-checksum-crc32:AAAAAA==", "", ""),
                text("10;note=1", "0123456789abcdef", "0", "", ""),
            ]
        },
        take: { input, mutator in
            func decoder() throws -> AWSChunkedDecoder {
                try AWSChunkedDecoder(
                    signed: false,
                    trailer: true,
                    decodedLength: 16,
                    signing: nil,
                    announced: ["x-amz-checksum-crc32"]
                )
            }
            let whole = decode(try decoder(), [input[...]])
            try require(
                whole == decode(try decoder(), mutator.pieces(of: input)),
                "pieces give something else"
            )
            try require(whole.map { $0.count == 16 } ?? true, "\(whole?.count ?? 0) bytes instead of 16")
        }
    )

    /// With signatures that nobody made: no content is ever whole.
    private static let signedChunks = FuzzTarget(
        name: "signed-chunks",
        words: [
            "\r\n", ";chunk-signature=", "x-amz-trailer-signature:", "0;", "10;",
            String(repeating: "0", count: 64),
        ],
        samples: {
            let none = String(repeating: "0", count: 64)
            return [
                text("10;chunk-signature=\(none)", "0123456789abcdef", "0;chunk-signature=\(none)", "", ""),
                text(
                    "10;chunk-signature=\(none)",
                    "0123456789abcdef",
                    "0;chunk-signature=\(none)",
                    "x-amz-checksum-crc32:AAAAAA==",
                    "x-amz-trailer-signature:\(none)",
                    "",
                    ""
                ),
            ]
        },
        take: { input, mutator in
            for trailer in [false, true] {
                let scope = CredentialScope(day: "20260101", region: "r", service: "s3")
                let signing = ChunkSigning(
                    key: SigningKey(secret: "s", scope: scope),
                    time: Timestamp(milliseconds: 1_767_225_600_000),
                    scope: scope,
                    seed: Digest(words: (1, 2, 3, 4))
                )
                let decoder = try AWSChunkedDecoder(
                    signed: true,
                    trailer: trailer,
                    decodedLength: 16,
                    signing: signing,
                    announced: ["x-amz-checksum-crc32"]
                )
                try require(
                    decode(decoder, mutator.pieces(of: input)) == nil,
                    "chunks that nobody signed pass"
                )
            }
        }
    )

    private static func read(
        _ parser: inout PostFormParser,
        _ pieces: [ArraySlice<UInt8>]
    ) throws(S3Error) -> [UInt8] {
        var content: [UInt8] = []
        for piece in pieces { content += try parser.push(piece) }
        try parser.finish()
        return content
    }

    private static let form = FuzzTarget(
        name: "form",
        words: [
            "\r\n", "--b", "--b--", "Content-Disposition: form-data; name=\"", "filename=\"", "\"", "key",
            "policy", "file",
        ],
        samples: {
            let field = "--b\r\nContent-Disposition: form-data; name="
            return [
                text(
                    field + "\"key\"",
                    "",
                    "k/${filename}",
                    field + "\"x-amz-signature\"",
                    "",
                    "00",
                    field + "\"file\"; filename=\"f\"",
                    "Content-Type: text/plain",
                    "",
                    "content",
                    "--b--",
                    ""
                )
            ]
        },
        take: { input, mutator in
            func parse(_ pieces: [ArraySlice<UInt8>]) -> (String, [UInt8])? {
                guard var parser = try? PostFormParser(contentType: "multipart/form-data; boundary=b") else {
                    return nil
                }
                guard let content = try? read(&parser, pieces), let form = parser.form else { return nil }
                _ = try? form.authentication()
                _ = try? form.key()
                return ("\(form.headers)", content)
            }
            let (whole, split) = (parse([input[...]]), parse(mutator.pieces(of: input)))
            try require(whole?.0 == split?.0 && whole?.1 == split?.1, "pieces give something else")
        }
    )

    // MARK: JSON and XML

    private static let policySample = """
        {"Version":"2012-10-17","Id":"i","Statement":[{"Sid":"s","Effect":"Allow","Principal":{"AWS":["*","arn:aws:iam::1:root"]},\
        "Action":["s3:GetObject","s3:Put*"],"Resource":"arn:aws:s3:::bucket/*","Condition":{"IpAddress":{"aws:SourceIp":"10.0.0.0/8"},\
        "NumericLessThan":{"s3:max-keys":"10"},"DateGreaterThan":{"aws:CurrentTime":"2020-01-01T00:00:00Z"},"Bool":\
        {"aws:SecureTransport":"true"},"StringLike":{"s3:prefix":["a?","b*"]},"Null":{"s3:x-amz-acl":"true"}}},{"Effect":"Deny",\
        "NotPrincipal":"*","NotAction":"s3:*","NotResource":["arn:aws:s3:::bucket"]}]}
        """

    private static let policy = FuzzTarget(
        name: "policy",
        words: [
            "{", "}", "[", "]", ":", ",", "\"", "\\u0000", "\\uD800", "\"Effect\":\"Deny\"", "null", "true",
            "[[[[[[", "\"*\"", "${aws:username}",
        ],
        samples: {
            [[UInt8](policySample.utf8), [UInt8](#"{"a":[1,-2.5e3,true,null,"\u00e9\ud83d\ude00"]}"#.utf8)]
        },
        take: { input, _ in
            _ = try? JSONValue(parsing: input)
            _ = try? BucketPolicy(parsing: input, bucket: "bucket")
        }
    )

    private static let postPolicy = FuzzTarget(
        name: "post-policy",
        words: [
            "[", "]", "\"eq\"", "\"starts-with\"", "\"content-length-range\"", "\"$key\"", "\"expiration\"",
            ":", ",",
        ],
        samples: {
            [
                [UInt8](
                    #"{"expiration":"2099-01-01T00:00:00.000Z","conditions":[["eq","$key","k"],["starts-with","$x-amz-meta-a","b"],["content-length-range",1,10],{"bucket":"b00"}]}"#
                        .utf8
                )
            ]
        },
        take: { input, _ in _ = try? PostPolicy(base64: Base64.encode(input)) }
    )

    private static let documents: [FuzzTarget] = [
        document("acl") { try AccessControlPolicy(body: $0).xmlBytes },
        document("complete") {
            _ = try CompleteMultipartUpload(body: $0)
            return nil
        },
        document("cors") { try CORSConfiguration(body: $0).xmlBytes },
        document("create") {
            _ = try CreateBucketConfiguration(body: $0)
            return nil
        },
        document("delete") {
            _ = try DeleteRequest(body: $0)
            return nil
        },
        document("legal") { try LegalHold(body: $0).xmlBytes },
        document("lifecycle") { try LifecycleConfiguration(body: $0).xmlBytes },
        document("lock") { try ObjectLockConfiguration(body: $0).xmlBytes },
        document("logging") { try BucketLoggingStatus(body: $0).xmlBytes },
        document("notification") { try NotificationConfiguration(body: $0).xmlBytes },
        document("owner") { try OwnershipControls(body: $0).xmlBytes },
        document("pab") { try PublicAccessBlock(body: $0).xmlBytes },
        document("pay") { try RequestPaymentConfiguration(body: $0).xmlBytes },
        document("retention") { try Retention(body: $0).xmlBytes },
        document("sse") { try ServerSideEncryptionConfiguration(body: $0).xmlBytes },
        document("tag") { try TagSet(body: $0, of: .object).xmlBytes },
        document("versioning") { try VersioningConfiguration(body: $0).xmlBytes },
        document("website") { try WebsiteConfiguration(body: $0).xmlBytes },
    ]

    /// A document of S3: what is accepted can be written, and what was written is read as the same.
    private static func document(
        _ name: String,
        _ canonical: @escaping @Sendable ([UInt8]) throws -> [UInt8]?
    ) -> FuzzTarget {
        FuzzTarget(
            name: "xml-\(name)",
            words: [
                "<", "</", ">", "/>", "&amp;", "&#0;", "&#x10FFFF;", "&lol;",
                "<!DOCTYPE a [<!ENTITY lol \"x\">]>", "<![CDATA[", "]]>",
                "<!--", "<?xml version=\"1.0\" encoding=\"UTF-16\"?>",
                " xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"",
                "<Rule>", "</Rule>", "<Key>", "</Key>", "true", "Enabled", "2030-01-01T00:00:00Z",
            ],
            samples: {
                let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
                    .deletingLastPathComponent()
                    .deletingLastPathComponent()
                return [
                    [UInt8](
                        try Data(contentsOf: root.appendingPathComponent("fixtures/documents/\(name).xml"))
                    )
                ]
            },
            take: { input, _ in
                _ = try? XMLReader.read(input)
                guard let first = try canonical(input) else { return }
                guard let second = try? canonical(first) else {
                    throw FuzzFailure(
                        "its canonical form is refused: \(String(decoding: first, as: UTF8.self))"
                    )
                }
                try require(second == first, "its canonical form is not stable")
            }
        )
    }
}
