import ContentHashing
import HoldfastNode
import ObjectService
import S3Protocol
import StoreModel
import Testing

@testable import S3Gateway

/// What headers make of an upload.
@Suite struct ObjectHeaderTests {
    private static let kinds: [(algorithm: String, type: String?, expected: ChecksumType)] = [
        ("CRC32", nil, .composite), ("CRC32", "FULL_OBJECT", .fullObject), ("CRC64NVME", nil, .fullObject),
        ("SHA256", nil, .composite), ("SHA1", "COMPOSITE", .composite),
    ]

    @Test func `An upload has the kind of checksum that its algorithm allows`() throws {
        for (algorithm, type, expected) in Self.kinds {
            let checksum = try UploadChecksum(Self.headers(algorithm, type))
            #expect(checksum?.algorithm == ChecksumAlgorithm(name: algorithm))
            #expect(checksum?.type == expected)
        }
        #expect(try UploadChecksum(HeaderList()) == nil)
    }

    private static let wrongKinds: [(algorithm: String?, type: String?)] = [
        ("SHA256", "FULL_OBJECT"), ("SHA1", "FULL_OBJECT"), ("CRC64NVME", "COMPOSITE"), (nil, "COMPOSITE"),
        ("CRC32", "BOTH"), ("MD4", nil),
    ]

    @Test func `Kinds of checksums that do not go together are refused`() {
        for (algorithm, type) in Self.wrongKinds {
            let headers = Self.headers(algorithm, type)
            let error = #expect(throws: S3Error.self) { _ = try UploadChecksum(headers) }
            #expect(error?.code == .invalidRequest)
        }
    }

    private static func headers(_ algorithm: String?, _ type: String?) -> HeaderList {
        var headers = HeaderList()
        if let algorithm { headers.append("x-amz-checksum-algorithm", algorithm) }
        if let type { headers.append("x-amz-checksum-type", type) }
        return headers
    }

    @Test func `Keys of clients travel in the open on the own machine only`() {
        for address in ["127.0.0.1", "127.8.0.1", "::1", "::ffff:127.0.0.1"] {
            #expect(PlainClientKeys.fromLoopback.allows(remoteAddress: address))
            #expect(!PlainClientKeys.never.allows(remoteAddress: address))
        }
        for address in ["10.0.0.1", "2001:db8::1", "", "::ffff:10.0.0.1", "12.7.0.1"] {
            #expect(!PlainClientKeys.fromLoopback.allows(remoteAddress: address))
            #expect(PlainClientKeys.always.allows(remoteAddress: address))
        }
    }
}

/// Requests on objects, from the socket to the disks and back.
@Suite struct ObjectOperationTests {
    private static let bucket = "/models"
    private static let object = "/models/weights"
    private static let keyHeaders = "x-amz-server-side-encryption-customer-"

    private static func text(_ answer: RawResponse?, _ element: String) -> String {
        let parts = (answer?.text ?? "").split(separator: "<\(element)>", maxSplits: 1)
        return parts.count == 2 ? String(parts[1].prefix { $0 != "<" }) : ""
    }

    private static func customer(_ byte: UInt8) -> [(String, String)] {
        let key = [UInt8](repeating: byte, count: 32)
        let md5 = key.withUnsafeBytes { MD5Hasher.hash($0) }
        return [
            (keyHeaders + "algorithm", "AES256"), (keyHeaders + "key", Base64.encode(key)),
            (keyHeaders + "key-md5", Base64.encode(md5.bytes)),
        ]
    }

    @Test func `Parts become one object that is read whole and by part`() async throws {
        try await ServiceFixture.run { fixture in
            try await fixture.expect(200, "PUT", Self.bucket)
            let upload = Self.text(try await fixture.send("POST", Self.object + "?uploads"), "UploadId")
            let pieces = [[UInt8](repeating: 1, count: 5 << 20), [2, 3, 4]]
            var list = ""
            for (number, piece) in zip(1..., pieces) {
                let target = "\(Self.object)?partNumber=\(number)&uploadId=\(upload)"
                let answer = try await fixture.send("PUT", target, body: piece)
                #expect(answer?.status == 200)
                let tag = answer?.header("etag") ?? ""
                list += "<Part><PartNumber>\(number)</PartNumber><ETag>\(tag)</ETag></Part>"
            }
            try await fixture.expect(404, "GET", Self.object)
            let target = "\(Self.object)?uploadId=\(upload)"
            let document = [UInt8]("<CompleteMultipartUpload>\(list)</CompleteMultipartUpload>".utf8)
            let first = try await fixture.send("POST", target, body: document)
            #expect(first?.status == 200)
            #expect(Self.text(first, "ETag").hasSuffix("-2&quot;"))
            let again = try await fixture.send("POST", target, body: document)
            #expect(Self.text(again, "ETag") == Self.text(first, "ETag"))
            let whole = try await fixture.send("GET", Self.object)
            #expect(whole?.body == pieces[0] + pieces[1])
            let part = try await fixture.send("GET", Self.object + "?partNumber=2")
            #expect(part?.status == 206)
            #expect(part?.body == pieces[1])
            #expect(part?.header("x-amz-mp-parts-count") == "2")
            try await fixture.expect(416, "GET", Self.object + "?partNumber=3")
        }
    }

    @Test func `Only the client's key opens what it closed`() async throws {
        try await ServiceFixture.run { fixture in
            try await fixture.expect(200, "PUT", Self.bucket)
            let put = try await fixture.send("PUT", Self.object, Self.customer(1), body: [1, 2, 3])
            #expect(put?.status == 200)
            #expect(try await fixture.send("GET", Self.object, Self.customer(1))?.body == [1, 2, 3])
            #expect(try await fixture.send("GET", Self.object, Self.customer(2))?.status == 403)
            try await fixture.expect(400, "GET", Self.object)
        }
    }

    @Test func `Keys of clients are refused in the open when they must not travel there`() async throws {
        try await ServiceFixture.run({ $0.service.plainClientKeys = .never }) { fixture in
            try await fixture.expect(200, "PUT", Self.bucket)
            let answer = try await fixture.send("PUT", Self.object, Self.customer(1), body: [1, 2, 3])
            #expect(answer?.status == 400)
            try await fixture.expect(404, "GET", Self.object)
        }
    }

    @Test func `A client that leaves in the middle of an upload leaves nothing behind`() async throws {
        try await ServiceFixture.run { fixture in
            try await fixture.expect(200, "PUT", Self.bucket)
            let head = fixture.head("PUT", Self.object, [("content-length", "1000000")])
            for _ in 0..<4 {
                try await RawClient.run(port: fixture.port) { client in
                    try client.send([UInt8](head.utf8) + [UInt8](repeating: 7, count: 1000))
                }
            }
            try await fixture.expect(404, "GET", Self.object)
        }
    }
}
