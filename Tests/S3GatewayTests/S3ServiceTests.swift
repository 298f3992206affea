import Catalog
import ContentHashing
import HoldfastNode
import ObjectService
import S3Gateway
import S3Protocol
import StoreModel
import Synchronization
import Testing

/// Requests from the socket to the disks and back.
@Suite struct S3ServiceTests {
    private static let bucket = "/models"
    private static let object = "/models/a%20b/%C3%BC"

    @Test func anObjectComesBackAsItWasPut() async throws {
        try await ServiceFixture.run { fixture in
            try await fixture.expect(200, "PUT", Self.bucket)
            let body = (0..<3_000_000).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 8) }
            let put = try await fixture.send(
                "PUT",
                Self.object,
                [("x-amz-meta-Colour", "blue"), ("content-type", "text/x")],
                body: body,
                payload: .signed(SHA256Hasher.hash(body))
            )
            #expect(put?.status == 200)
            let got = try await fixture.send("GET", Self.object)
            #expect(got?.status == 200)
            #expect(got?.body == body)
            #expect(got?.header("etag") == put?.header("etag"))
            #expect(got?.header("x-amz-meta-colour") == "blue")
            #expect(got?.header("content-type") == "text/x")
            let part = try await fixture.send("GET", Self.object, [("range", "bytes=1000000-1999999")])
            #expect(part?.status == 206)
            #expect(part?.header("content-range") == "bytes 1000000-1999999/3000000")
            #expect(part?.body == [UInt8](body[1_000_000..<2_000_000]))
            let head = try await fixture.send("HEAD", Self.object)
            #expect(head?.header("content-length") == "3000000")
            #expect(head?.body == [])
            try await fixture.expect(204, "DELETE", Self.object)
            try await fixture.expect(404, "GET", Self.object)
        }
    }

    /// A mirror that never has anything; notes who waits for it.
    private final class AbsentMirror: MirrorWatch {
        private let calls = Mutex<[Bool]>([])

        /// Of each question since the last look: whether who asked waits.
        func asked() -> [Bool] {
            calls.withLock { calls in
                defer { calls = [] }
                return calls
            }
        }

        func outlook(of version: VersionRow, in mirrors: [String], isAwaited: Bool) async throws
            -> MirrorOutlook
        {
            calls.withLock { $0.append(isAwaited) }
            return .waiting(mirror: mirrors[0])
        }

        func taker(of key: ObjectKey, tags: [NamedValue], in bucket: BucketName, among mirrors: [String])
            async throws -> String?
        { mirrors[0] }
    }

    @Test func aReaderWhoMayNotPutKeepsNoMirrorFromYielding() async throws {
        try await ServiceFixture.run { fixture in
            try await fixture.expect(200, "PUT", Self.bucket)
            try await fixture.expect(200, "PUT", Self.object)
            try await fixture.expect(204, "DELETE", Self.bucket + "?publicAccessBlock")
            let statement =
                #"{"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::models/*"}"#
            let policy = [UInt8](#"{"Version": "2012-10-17", "Statement": [\#(statement)]}"#.utf8)
            let set = try await fixture.send("PUT", Self.bucket + "?policy", body: policy)
            #expect(set?.status == 204, "\(set?.text ?? "no answer")")
            let mirror = AbsentMirror()
            let objects = fixture.store.objects
            let usual = objects.mirrorWatch
            objects.mirrorWatch = mirror
            defer { objects.mirrorWatch = usual }
            let rules = try MirrorAcknowledgement(mirrors: ["offsite"], timeout: .seconds(7))
            try await objects.setMirrorAcknowledgement(rules, of: try BucketName("models"))

            let asks = ("x-holdfast-mirror-wait", "1")
            let owner = try await fixture.send("HEAD", Self.object, [asks])
            #expect(owner?.status == 200)
            #expect(owner?.header(asks.0) == "7")
            #expect(mirror.asked() == [true])
            let looks = try await fixture.send("HEAD", Self.object)
            #expect(looks?.header(asks.0) == "7")
            #expect(mirror.asked() == [false])
            let stranger = try await fixture.exchange(
                [UInt8](
                    "HEAD \(Self.object) HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\(asks.0): 1\r\n\r\n"
                        .utf8
                ),
                port: fixture.port
            )
            #expect(stranger?.status == 200)
            #expect(stranger?.header(asks.0) == "7")
            #expect(mirror.asked() == [false])
        }
    }

    @Test func whoDoesNotSignGetsNothing() async throws {
        try await ServiceFixture.run { fixture in
            try await fixture.expect(200, "PUT", Self.bucket)
            let plain = [UInt8]("GET /models HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".utf8)
            let answer = try await fixture.exchange(plain, port: fixture.port)
            #expect(answer?.status == 403)
            #expect(answer?.text.contains("<Code>AccessDenied</Code>") == true)
            let id = answer?.header("x-amz-request-id") ?? "none"
            #expect(answer?.text.contains("<RequestId>\(id)</RequestId>") == true)
            let wrong = RequestSigner(
                accessKey: ServiceFixture.accessKey,
                secret: "not the secret",
                region: "us-east-1"
            )
            let close = [("connection", "close")]
            let head = fixture.head("GET", "/", close, signer: wrong)
            let refused = try await fixture.exchange([UInt8](head.utf8), port: fixture.port)
            #expect(refused?.status == 403)
            #expect(refused?.text.contains("<Code>SignatureDoesNotMatch</Code>") == true)
        }
    }

    @Test func aBodyIsNotAskedForBeforeItsSenderIsKnown() async throws {
        try await ServiceFixture.run { fixture in
            try await fixture.expect(200, "PUT", "/closed")
            let head =
                "PUT /closed/key HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n"
            let answer = try await fixture.exchange([UInt8](head.utf8), port: fixture.port)
            #expect(answer?.status == 403)
            // Nor for a bucket that is not there.
            let signed = fixture.head(
                "PUT",
                "/missing/key",
                [("content-length", "10"), ("expect", "100-continue")]
            )
            let missing = try await fixture.exchange([UInt8](signed.utf8), port: fixture.port)
            #expect(missing?.status == 404)
            #expect(missing?.text.contains("<Code>NoSuchBucket</Code>") == true)
        }
    }

    @Test func aBodyThatIsNotWhatWasSignedLeavesNothing() async throws {
        try await ServiceFixture.run { fixture in
            try await fixture.expect(200, "PUT", Self.bucket)
            let signed = PayloadMode.signed(SHA256Hasher.hash([UInt8]("true".utf8)))
            let answer = try await fixture.send(
                "PUT",
                Self.object,
                body: [UInt8]("fals".utf8),
                payload: signed
            )
            #expect(answer?.status == 400)
            #expect(answer?.text.contains("<Code>XAmzContentSHA256Mismatch</Code>") == true)
            try await fixture.expect(404, "GET", Self.object)
        }
    }

    @Test func aBodyThatEndsEarlyLeavesNothing() async throws {
        try await ServiceFixture.run { fixture in
            try await fixture.expect(200, "PUT", Self.bucket)
            let head = fixture.head("PUT", Self.object, [("content-length", "1000000")])
            let answer = try await RawClient.run(port: fixture.port) { client in
                try client.send(head + "only this")
                client.closeOutput()
                return RawResponse(try client.receiveAll())
            }
            #expect(answer?.status == 400)
            #expect(answer?.text.contains("<Code>IncompleteBody</Code>") == true)
            try await fixture.expect(404, "GET", Self.object)
        }
    }

    @Test func whatIsNotServedIsNotPretended() async throws {
        try await ServiceFixture.run { fixture in
            try await fixture.expect(200, "PUT", Self.bucket)
            let answer = try await fixture.send("GET", "/models?replication")
            #expect(answer?.status == 501)
            #expect(answer?.text.contains("<Code>NotImplemented</Code>") == true)
        }
    }

    @Test func badHTTPIsAnsweredInXML() async throws {
        try await ServiceFixture.run { fixture in
            let bad = [UInt8]("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n".utf8)
            let answer = try await fixture.exchange(bad, port: fixture.port)
            #expect(answer?.status == 400)
            #expect(answer?.header("content-type") == "application/xml")
            #expect(answer?.header("x-amz-request-id")?.count == 16)
        }
    }

    @Test func theOperationsFaceTellsTheState() async throws {
        try await ServiceFixture.run { fixture in
            func get(_ path: String) async throws -> RawResponse? {
                let text = "GET \(path) HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
                return try await fixture.exchange([UInt8](text.utf8), port: fixture.operationsPort)
            }
            _ = try await fixture.send("PUT", Self.bucket)
            for (path, status) in [("/livez", 200), ("/readyz", 200), ("/readyz/read", 200), ("/other", 404)]
            {
                let answer = try await get(path)
                #expect(answer?.status == status)
            }
            let ready = try await get("/readyz")
            #expect(ready?.text.contains("[+] writeQuorum: 3 of 3") == true)
            let metrics = try await get("/metrics")?.text ?? ""
            #expect(metrics.contains(#"holdfast_s3_requests_total{api="CreateBucket",code="200"} 1"#))
            #expect(metrics.contains("holdfast_store_can_write 1"))
            #expect(metrics.contains("process_resident_memory_bytes"))
        }
    }

    @Test func readinessFailsBeforeTheServerStops() async throws {
        try await ServiceFixture.run({ $0.limits.drainLead = .milliseconds(500) }) { fixture in
            let client = try RawClient(port: fixture.operationsPort)
            let text = "GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n"
            try client.send(text)
            let before = try client.receive(until: "ready\n")
            #expect(before.contains(" 200 "))
            await fixture.assembly.stop()
            var answer = ""
            while !answer.contains(" 503 ") {
                try client.send(text)
                answer = try client.receive(until: "ready\n")
                guard !answer.isEmpty else { break }
            }
            #expect(answer.contains("[-] accepting"))
        }
    }
}
