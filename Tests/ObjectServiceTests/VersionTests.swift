import Catalog
import ObjectService
import StoreModel
import Synchronization
import Testing

@Suite struct VersionTests {
    @Test func everyVersionStaysReadable() async throws {
        let fixture = try await Fixture()
        let first = try await fixture.put([1])
        let second = try await fixture.put([2])
        #expect(first.id < second.id)
        #expect(try await fixture.get() == [2])
        #expect(try await fixture.get(.id(first.id)) == [1])
        let history = try await fixture.store.history(bucket: fixture.bucket, key: fixture.key)
        #expect(history.map(\.id) == [second.id, first.id])
    }

    @Test func aDeleteHidesAndARestoreBringsBack() async throws {
        let fixture = try await Fixture()
        let first = try await fixture.put(noise(2 << 20))
        let result = try await fixture.store.delete(fixture.address())
        let marker = try #require(result.marker)
        await expectFailure(.noSuchKey) { try await fixture.get() }
        await expectFailure(.noSuchKey) { try await fixture.store.head(fixture.address()) }
        await expectFailure(.methodNotAllowed) { try await fixture.get(.id(marker.id)) }
        #expect(try await fixture.get(.id(first.id)) == noise(2 << 20))

        let written = fixture.storage.state.withLock { $0.writtenBytes }
        let restored = try await fixture.store.restore(
            bucket: fixture.bucket,
            key: fixture.key,
            version: first.id
        )
        #expect(restored.content == first.content)
        #expect(restored.id > marker.id)
        #expect(try await fixture.get() == noise(2 << 20))
        #expect(fixture.storage.state.withLock { $0.writtenBytes } == written)
    }

    @Test func aNamedVersionIsRemovedForGood() async throws {
        let fixture = try await Fixture()
        let first = try await fixture.put([1])
        let second = try await fixture.put([2])
        let result = try await fixture.store.delete(fixture.address(.id(second.id)))
        #expect(result.removed?.id == second.id)
        #expect(try await fixture.get() == [1])
        await expectFailure(.noSuchVersion) { try await fixture.get(.id(second.id)) }
        let again = try await fixture.store.delete(fixture.address(.id(second.id)))
        #expect(again.marker == nil && again.removed == nil)
        await expectFailure(.preconditionFailed) {
            try await fixture.store.delete(
                fixture.address(.id(first.id)),
                conditions: Conditions(ifMatch: .oneOf([second.etag]))
            )
        }
    }

    @Test func aCopySharesItsBytes() async throws {
        let fixture = try await Fixture()
        let bytes = noise(3 << 20)
        let source = try await fixture.put(bytes)
        let written = fixture.storage.state.withLock { $0.writtenBytes }
        let key = try ObjectKey("copy")
        let copy = CopyCommand(source: fixture.address(), bucket: fixture.bucket, key: key)
        let row = try await fixture.store.copy(copy)
        #expect(row.content == source.content)
        #expect(fixture.storage.state.withLock { $0.writtenBytes } == written)
        let reader = try await fixture.store.get(VersionAddress(bucket: fixture.bucket, key: key))
        var read: [UInt8] = []
        while let piece = try await reader.next() { read += piece }
        #expect(read == bytes)
    }

    @Test func whatIsNotThereIsNamedClearly() async throws {
        let fixture = try await Fixture()
        await expectFailure(.noSuchKey) { try await fixture.get() }
        await expectFailure(.noSuchVersion) { try await fixture.get(.id(VersionID(sequence: 9, nonce: 9))) }
        await expectFailure(.noSuchVersion) { try await fixture.get(.null) }
        let other = VersionAddress(bucket: try BucketName("other"), key: fixture.key)
        await expectFailure(.noSuchBucket) { try await fixture.store.get(other) }
        await expectFailure(.noSuchBucket) { try await fixture.store.list(ListRequest(bucket: other.bucket)) }
        await expectFailure(.invalidArgument) {
            try await fixture.store.list(ListRequest(bucket: fixture.bucket, limit: 0))
        }
    }

    @Test func bucketsAreMadeListedAndRemovedWhenEmpty() async throws {
        let fixture = try await Fixture()
        let other = try BucketName("adapters")
        _ = try await fixture.store.createBucket(other, versioning: .off)
        #expect(try await fixture.store.buckets().map(\.name) == [other, fixture.bucket])
        await expectFailure(.bucketAlreadyExists) { try await fixture.store.createBucket(other) }
        _ = try await fixture.put([1, 2, 3])
        await expectFailure(.bucketNotEmpty) { try await fixture.store.deleteBucket(fixture.bucket) }
        #expect(try await fixture.store.usage(of: fixture.bucket).objectBytes == 3)
        try await fixture.store.deleteBucket(other)
        #expect(try await fixture.store.buckets().map(\.name) == [fixture.bucket])
        #expect(
            try await fixture.store.setVersioning(of: fixture.bucket, to: .suspended).versioning == .suspended
        )
    }

    @Test func statShowsEveryChunkAndItsCopies() async throws {
        let fixture = try await Fixture(limits: Fixture.smallLimits)
        let half = noise(100_000)
        let row = try await fixture.put(half + half)
        let chunks = try await fixture.chunks(of: row)
        fixture.storage.lose(chunks[0].digest, on: [1])
        let statistics = try await fixture.store.stat(fixture.address(), chunkLimit: 3)
        #expect(statistics.version == row)
        #expect(statistics.chunkCount == UInt64(chunks.count))
        #expect(statistics.chunks.map(\.digest) == chunks.prefix(3).map(\.digest))
        #expect(statistics.chunks[0].replicas.map(\.condition) == [.present, .missing, .present])
        #expect(statistics.chunks[1].replicas.allSatisfy { $0.condition == .present })
        #expect(try #require(statistics.uniqueBytes) < row.size)
        #expect(statistics.badReplicaCount >= 1)
    }
}
