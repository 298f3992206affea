import Catalog
import ContentHashing
import CurlTransport
import Foundation
import Mirroring
import ObjectService
import StoreModel
import StoreTestKit
import Testing

/// Whose trouble a failure is: of one key, which has a budget, or of the backend, for which the breaker is.
@Suite struct FailureTests {
    private static func fixture() async throws -> MirrorFixture {
        let fixture = try await MirrorFixture()
        fixture.limits.attemptCountMax = 3
        fixture.limits.giveUp = .seconds(900)
        try await fixture.add()
        return fixture
    }

    @Test(arguments: [MirrorFailure.Kind.garbled, .fault, .denied, .mismatch, .rejected])
    func oneKeyThatAlwaysFailsCostsNoOtherOneAnything(kind: MirrorFailure.Kind) async throws {
        let fixture = try await Self.fixture()
        fixture.backend.poison("models/bad", MirrorFailure(kind, "Never."))
        try await fixture.put("bad", [1])
        // Others come in all the time, as an attempt that is denied tells nothing by itself.
        let (objects, bucket) = (fixture.objects, fixture.bucket)
        let service = fixture.service()
        let work = Task { await service.run() }
        var count = 0
        while count < 2000 {
            _ = try await objects.put(
                PutRequest(bucket: bucket, key: ObjectKey("good\(count)")),
                body: BufferByteSource([1])
            )
            count += 1
            let row = try await fixture.directory.mirror(fixture.mirror)
            if try await fixture.directory.deadLetters(row, limit: 1).count == 1 { break }
        }
        work.cancel()
        await work.value
        let state = try await service.status(of: try await fixture.directory.mirror(fixture.mirror))
        #expect(state.worker.breakerOpenCount == 0 && state.deadCount == 1)
        let status = try await fixture.drain()
        #expect(status.deadCount == 1 && status.pendingCount == 0)
        #expect(fixture.backend.keys.count == count)
        fixture.backend.poison("models/bad", nil)
        _ = try await fixture.directory.retry(fixture.mirror)
        #expect(try await fixture.drain().isUpToDate)
        try await fixture.close()
    }

    @Test func aBackendThatDropsMetadataIsShownAndMakesNoDeadLetters() async throws {
        let fixture = try await Self.fixture()
        fixture.limits.giveUp = .seconds(120)
        fixture.backend.dropMetadata()
        for number in 0..<20 { try await fixture.put("k\(number)", [1]) }
        var status = try await fixture.drain()
        #expect(status.pendingCount == 20 && status.deadCount == 0 && status.worker.breaker != .closed)
        #expect(
            status.worker.lastFailure?.hasPrefix("unsuited: It did not keep the object's metadata") == true
        )
        fixture.backend.dropMetadata(false)
        status = try await fixture.drain()
        #expect(status.isUpToDate && fixture.backend.keys.count == 20)
        for key in fixture.backend.keys {
            #expect(fixture.backend.history(key).last?.properties.holdfastVersion != nil, "\(key)")
        }
        try await fixture.close()
    }

    @Test func whoWasSeenToKeepMetadataIsNotAskedAgain() async throws {
        let fixture = try await Self.fixture()
        let service = fixture.service()
        let work = Task { await service.run() }
        for number in 0..<20 {
            try await fixture.put("k\(number)", [1])
            // One after the other: nothing is on its way before the first was looked at.
            let end = ContinuousClock.now + .seconds(60)
            while fixture.backend.keys.count <= number, ContinuousClock.now < end {
                try await Task.sleep(for: .milliseconds(2))
            }
        }
        work.cancel()
        await work.value
        #expect(fixture.backend.keys.count == 20)
        // One for the proof; others only where a worker could not know whether somebody had sent the object before.
        #expect((1...4).contains(fixture.backend.headCount))
        try await fixture.close()
    }

    @Test(arguments: [MirrorFailure.Kind.garbled, .fault])
    func oneKeyAloneIsGivenUpAsSoonAsProbesTellThatTheBackendWorks(kind: MirrorFailure.Kind) async throws {
        let fixture = try await Self.fixture()
        fixture.backend.poison("models/bad", MirrorFailure(kind, "Never."))
        try await fixture.put("bad", [1])
        try await fixture.put("bad", [2])
        let status = try await fixture.drain()
        #expect(status.deadCount == 1 && status.worker.breakerOpenCount == 0)
        #expect(status.worker.lastFailure?.hasPrefix(kind.rawValue) == true)
        try await fixture.close()
    }

    @Test(arguments: [
        MirrorFailure.Kind.garbled, .fault, .denied, .unreachable, .busy, .full, .noBucket, .untrusted,
        .forbidden,
    ])
    func aBackendThatTakesNothingAtAllMakesNoDeadLetters(kind: MirrorFailure.Kind) async throws {
        let fixture = try await Self.fixture()
        fixture.limits.giveUp = .seconds(200)
        for number in 0..<60 { try await fixture.put("k\(number)", [1]) }
        fixture.backend.fail(MirrorFailure(kind, "Nothing works."))
        var status = try await fixture.drain()
        #expect(status.pendingCount == 60 && status.deadCount == 0)
        #expect(status.worker.breaker != .closed && fixture.backend.callCount < 100)
        fixture.backend.fail(nil)
        status = try await fixture.drain()
        #expect(status.isUpToDate && fixture.backend.keys.count == 60)
        try await fixture.close()
    }

    @Test(arguments: [MirrorFailure.Kind.full, .denied, .noBucket, .busy, .garbled, .fault])
    func aBackendThatAnswersProbesAndTakesNothingIsAskedMoreAndMoreRarely(kind: MirrorFailure.Kind)
        async throws
    {
        let fixture = try await Self.fixture()
        fixture.limits.attemptCountMax = 8
        fixture.limits.giveUp = .seconds(120)
        for number in 0..<100 { try await fixture.put("k\(number)", [1]) }
        fixture.backend.failWrites(MirrorFailure(kind, "No room."))
        var status = try await fixture.drain()
        #expect(status.deadCount <= 16, "not one for each")
        if [.full, .noBucket, .denied, .busy].contains(kind) { #expect(status.deadCount == 0) }
        #expect(status.pendingCount + status.deadCount == 100)
        #expect(status.worker.breakerOpenCount > 0 && fixture.backend.callCount < 400)
        fixture.backend.failWrites(nil)
        _ = try await fixture.directory.retry(fixture.mirror)
        status = try await fixture.drain()
        #expect(status.isUpToDate && fixture.backend.keys.count == 100)
        try await fixture.close()
    }

    /// What a server answers, and what is made of it.
    @Test(arguments: [
        ("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n", "<html>Log in</html>", MirrorFailure.Kind.garbled),
        ("HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\n", "<html>nginx</html>", .garbled),
        ("HTTP/1.1 400 Bad Request\r\n", "", .garbled),
        ("HTTP/1.1 302 Found\r\nLocation: http://login.example.org/\r\n", "", .garbled),
        ("SSH-2.0-OpenSSH\r\n", "", .garbled),
        ("HTTP/1.1 400 Bad Request\r\n", "<Error><Code>InvalidArgument</Code></Error>", .rejected),
        ("HTTP/1.1 413 Too Large\r\n", "<html></html>", .rejected),
        ("HTTP/1.1 501 Not Implemented\r\n", "", .rejected),
        ("HTTP/1.1 404 Not Found\r\n", "<Error><Code>NoSuchBucket</Code></Error>", .noBucket),
        ("HTTP/1.1 403 Forbidden\r\n", "<Error><Code>AccessDenied</Code></Error>", .denied),
        ("HTTP/1.1 403 Forbidden\r\n", "<Error><Code>QuotaExceeded</Code></Error>", .full),
        ("HTTP/1.1 507 Insufficient Storage\r\n", "", .full),
        ("HTTP/1.1 503 Service Unavailable\r\n", "<html></html>", .busy),
        ("HTTP/1.1 429 Too Many Requests\r\n", "", .busy),
        ("HTTP/1.1 500 Internal Server Error\r\n", "<html></html>", .fault),
        ("HTTP/1.1 400 Bad Request\r\n", "<Error><Code>BadDigest</Code></Error>", .mismatch),
    ])
    func everyAnswerIsOfOneKind(head: String, body: String, kind: MirrorFailure.Kind) async throws {
        let server = try RawServer { connection in
            while let request = connection.readHead() {
                _ = connection.read(Int(header("content-length", in: request) ?? "") ?? 0)
                connection.write(head + "Content-Length: \(body.utf8.count)\r\n\r\n" + body)
            }
        }
        defer { server.stop() }
        let settings = MirrorSettings(
            endpoint: try MirrorEndpoint("http://127.0.0.1:\(server.port)"),
            bucket: "mirror"
        )
        let backend = try S3MirrorBackend(
            settings,
            MirrorCredentials(accessKey: "key", secret: "secret"),
            try CurlTransport()
        )
        let failure = await #expect(throws: MirrorFailure.self) {
            _ = try await backend.put("k", MirrorBody(hashing: [1]), MirrorProperties())
        }
        #expect(failure?.kind == kind, "\(failure?.description ?? "")")
    }
}
