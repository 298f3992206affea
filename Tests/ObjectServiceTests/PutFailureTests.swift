import Catalog
import ContentHashing
import ObjectService
import StoreModel
import Synchronization
import Testing

@Suite struct PutFailureTests {
    private struct ClientGone: Error {}

    private func expectNothingVisible(_ fixture: Fixture) async throws {
        await expectFailure(.noSuchKey) { try await fixture.get() }
        #expect(try await fixture.store.listVersions(bucket: fixture.bucket).versions.isEmpty)
        #expect(fixture.storage.state.withLock { $0.commitCount } == 1)
    }

    @Test(arguments: [10, 100_000, 3 << 20])
    func aBodyThatIsNotWhatWasDeclaredLeavesNothing(size: Int) async throws {
        let fixture = try await Fixture()
        let bytes = noise(size)
        let other = SHA256Hasher.hash([0])
        let md5 = [UInt8(0)].withUnsafeBytes { MD5Hasher.hash($0) }
        for wrong in [
            BodyExpectation(sha256: other), BodyExpectation(md5: md5),
            BodyExpectation(size: UInt64(size + 1)),
            BodyExpectation(size: UInt64(size - 1)),
        ] {
            await expectFailure(.badDigest) { try await fixture.put(bytes, expecting: wrong) }
        }
        try await expectNothingVisible(fixture)
        let right = BodyExpectation(
            size: UInt64(size),
            sha256: SHA256Hasher.hash(bytes),
            md5: bytes.withUnsafeBytes { MD5Hasher.hash($0) }
        )
        _ = try await fixture.put(bytes, expecting: right)
        #expect(try await fixture.get() == bytes)
    }

    @Test(arguments: [1, 40, 400])
    func aSourceThatFailsHalfWayLeavesNothing(pieceCount: Int) async throws {
        let fixture = try await Fixture(limits: Fixture.smallLimits)
        let pieces = (0..<pieceCount).map { ScriptedSource.Step.bytes(noise(1000, seed: UInt64($0))) }
        let source = ScriptedSource(pieces + [.failure(ClientGone())])
        await #expect(throws: ClientGone.self) {
            try await fixture.store.put(PutRequest(bucket: fixture.bucket, key: fixture.key), body: source)
        }
        try await expectNothingVisible(fixture)
    }

    @Test func everyWriteThatFailsFailsThePut() async throws {
        let bytes = noise(200_000)
        let counting = try await Fixture(limits: Fixture.smallLimits)
        _ = try await counting.put(bytes)
        let writeCount = counting.storage.state.withLock { $0.writeCount }
        #expect(writeCount > 20)
        for failing in 1...writeCount {
            let fixture = try await Fixture(limits: Fixture.smallLimits)
            fixture.storage.state.withLock { $0.failingWrite = failing }
            await expectFailure(.notEnoughReplicas) { try await fixture.put(bytes, pieceSize: 10_000) }
            try await expectNothingVisible(fixture)
        }
    }

    @Test func aCancelledPutLeavesNothing() async throws {
        let fixture = try await Fixture(limits: Fixture.smallLimits)
        let (reached, continuation) = AsyncStream.makeStream(of: Void.self)
        let task = Task {
            let source = ScriptedSource([.bytes(noise(100_000)), .forever]) { continuation.finish() }
            return try await fixture.store.put(
                PutRequest(bucket: fixture.bucket, key: fixture.key),
                body: source
            )
        }
        for await _ in reached {}
        task.cancel()
        await #expect(throws: CancellationError.self) { try await task.value }
        try await expectNothingVisible(fixture)
        #expect(fixture.storage.state.withLock { $0.writesRunning } == 0)
    }

    @Test func uploadsThatFailOrAreCancelledGiveTheirPermitsBack() async throws {
        var limits = Fixture.smallLimits
        limits.uploadPermitCount = 1
        let fixture = try await Fixture(limits: limits)
        let request = PutRequest(bucket: fixture.bucket, key: fixture.key)
        for round in 0..<30 {
            let task = Task {
                let source = ScriptedSource([
                    .bytes(noise(50_000)), .bytes(noise(50_000)), .failure(ClientGone()),
                ])
                return try await fixture.store.put(request, body: source)
            }
            // Cancelled early, late, or after its end: whenever it happens to be.
            for _ in 0..<round * 3 { await Task.yield() }
            if round % 3 > 0 { task.cancel() }
            await #expect(throws: (any Error).self) { try await task.value }
        }
        _ = try await fixture.put(noise(300_000))
        #expect(try await fixture.get() == noise(300_000))
    }

    @Test func memoryOfOneUploadIsBounded() async throws {
        let fixture = try await Fixture(storage: InMemoryStorage(yieldCount: 200))
        _ = try await fixture.put(noise(30 << 20))
        let most = fixture.storage.state.withLock { $0.writesRunningMax }
        #expect(most < Limits.chunksInFlightMax)
        #expect(most > 1)
    }

    @Test func memoryOfManyUploadsIsBoundedTogether() async throws {
        var limits = Fixture.smallLimits
        limits.uploadPermitCount = 5
        let fixture = try await Fixture(limits: limits, storage: InMemoryStorage(yieldCount: 20))
        try await withThrowingTaskGroup(of: Void.self) { group in
            for index in 0..<16 {
                let request = PutRequest(bucket: fixture.bucket, key: try ObjectKey("k\(index)"))
                let bytes = noise(200_000, seed: UInt64(index + 1))
                group.addTask { _ = try await fixture.store.put(request, body: BufferByteSource(bytes)) }
            }
            try await group.waitForAll()
        }
        // Nodes of manifests are written outside of the permits, one for each upload.
        #expect(fixture.storage.state.withLock { $0.writesRunningMax } <= 5 + 16)
        #expect(try await fixture.store.list(ListRequest(bucket: fixture.bucket)).objects.count == 16)
    }

    @Test func conditionsAreDecidedWithThePut() async throws {
        let fixture = try await Fixture()
        let absent = Conditions(ifNoneMatch: .any)
        let first = try await fixture.put([1], conditions: absent)
        await expectFailure(.preconditionFailed) { try await fixture.put([2], conditions: absent) }
        await expectFailure(.preconditionFailed) { try await fixture.put(noise(1 << 20), conditions: absent) }
        // The large one was refused before its chunks were stored.
        #expect(fixture.storage.state.withLock { $0.newBytes } <= 2)
        _ = try await fixture.put([3], conditions: Conditions(ifMatch: .oneOf([first.etag])))
        #expect(try await fixture.get() == [3])
    }

    @Test func limitsOfMetadataAreCheckedBeforeTheBodyIsRead() async throws {
        let fixture = try await Fixture()
        let never = ScriptedSource([.failure(ClientGone())])
        var request = PutRequest(bucket: fixture.bucket, key: fixture.key)
        request.metadata.userMetadata = [NamedValue("a", String(repeating: "x", count: 2048))]
        await expectFailure(.metadataTooLarge) { try await fixture.store.put(request, body: never) }
        request.metadata.userMetadata = [NamedValue("a", "line\r\nbreak")]
        await expectFailure(.invalidArgument) { try await fixture.store.put(request, body: never) }
        request.metadata.userMetadata = []
        request.tags = (0...10).map { NamedValue("\($0)", "") }
        await expectFailure(.invalidArgument) { try await fixture.store.put(request, body: never) }
        request.tags = []
        request.expectation.size = Limits.objectSizeMax + 1
        await expectFailure(.entityTooLarge) { try await fixture.store.put(request, body: never) }
    }

    @Test func aMissingBucketIsFoundOutBeforeALargeBodyIsStored() async throws {
        let fixture = try await Fixture()
        let request = PutRequest(bucket: try BucketName("other"), key: fixture.key)
        await expectFailure(.noSuchBucket) {
            try await fixture.store.put(request, body: BufferByteSource(noise(2 << 20)))
        }
        await expectFailure(.noSuchBucket) {
            try await fixture.store.put(request, body: BufferByteSource([1]))
        }
        #expect(fixture.storage.state.withLock { $0.newBytes } == 1)
    }
}
