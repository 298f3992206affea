import Catalog
import ObjectService
import StoreModel
import StoreTestKit
import Synchronization
import Testing

@testable import Replication

/// Newest versions kept in memory: what a reader gets is never older than what was answered before it asked.
@Suite(.serialized, .timeLimit(.minutes(3))) struct NewestVersionsTests {
    // MARK: The store

    /// The sequences that were answered for each key, and whether the writers are done.
    private final class Watch: Sendable {
        let answered: Mutex<[UInt64]>
        let isDone = Atomic<Bool>(false)

        init(keyCount: Int) { answered = Mutex(Array(repeating: 0, count: keyCount)) }
    }

    /// Writers of their own keys look at each change as soon as it is answered, while readers keep the rows of all keys
    /// in memory and look whether any of them goes back.
    @Test func noReadGivesWhatAnAnsweredWriteHasReplaced() async throws {
        let fixture = try EngineFixture()
        let engine = try await fixture.open()
        try await engine.makeBucket()
        let keyCount = 6
        let watch = Watch(keyCount: keyCount)
        try await withThrowingTaskGroup(of: Void.self) { group in
            for reader in 0..<12 {
                group.addTask {
                    var turn = reader
                    while !watch.isDone.load(ordering: .acquiring) {
                        turn += 1
                        let index = turn % keyCount
                        let before = watch.answered.withLock { $0[index] }
                        let address = try engine.address("steady\(index)")
                        // Before the first put there is nothing to see.
                        guard before > 0 else {
                            await Task.yield()
                            continue
                        }
                        let seen = try await engine.objects.head(address).id.sequence
                        #expect(seen >= before, "key \(index) went back from \(before) to \(seen)")
                        _ = try? await engine.objects.head(try engine.address("restless\(index)"))
                        await Task.yield()
                    }
                }
            }
            try await withThrowingTaskGroup(of: Void.self) { writers in
                for index in 0..<keyCount {
                    writers.addTask {
                        for round in 0..<60 {
                            let row = try await engine.put("steady\(index)", [UInt8(round)])
                            watch.answered.withLock { $0[index] = row.id.sequence }
                            #expect(try await engine.get("steady\(index)") == [UInt8(round)])
                        }
                    }
                    writers.addTask { try await Self.changeInEveryWay("restless\(index)", engine) }
                }
                try await writers.waitForAll()
            }
            watch.isDone.store(true, ordering: .releasing)
            try await group.waitForAll()
        }
        await engine.close()
        fixture.take(engine)
    }

    private static func changeInEveryWay(_ key: String, _ engine: Engine) async throws {
        let address = try engine.address(key)
        for round in 0..<20 {
            let first = try await engine.put(key, [1, UInt8(round)])
            #expect(try await engine.objects.head(address).id == first.id)
            let second = try await engine.put(key, [2, UInt8(round)])
            #expect(try await engine.objects.head(address).id == second.id)
            _ = try await engine.delete(key, .id(second.id))
            #expect(try await engine.objects.head(address).id == first.id)
            let tags = [NamedValue("round", "\(round)")]
            _ = try await engine.objects.setTags(of: address, to: tags)
            #expect(try await engine.objects.head(address).tags == tags)
            _ = try await engine.delete(key)
            await #expect(throws: StoreError.self) { try await engine.objects.head(address) }
            let restored = try await engine.objects.restore(
                bucket: try engine.bucket,
                key: address.key,
                version: first.id
            )
            #expect(try await engine.objects.head(address).id == restored.id)
        }
    }

    @Test func aBucketThatWasRemovedAndMadeAgainIsAnotherOne() async throws {
        let fixture = try EngineFixture()
        let engine = try await fixture.open()
        for round in 0..<5 {
            try await engine.makeBucket()
            let row = try await engine.put("key", [UInt8(round)])
            for _ in 0..<2 { #expect(try await engine.get("key") == [UInt8(round)]) }
            _ = try await engine.delete("key", .id(row.id))
            await #expect(throws: StoreError.self) { try await engine.get("key") }
            try await engine.objects.deleteBucket(try engine.bucket)
            await #expect(throws: StoreError.self) { try await engine.get("key") }
        }
        await engine.close()
        fixture.take(engine)
    }

    // MARK: The rows in memory

    private let bucket: BucketRow

    init() throws {
        bucket = BucketRow(
            id: BucketID(rawValue: 1),
            name: try BucketName("bucket"),
            createdAt: Timestamp(milliseconds: 1),
            versioning: .enabled,
            owner: nil
        )
    }

    private func row(_ key: ObjectKey, _ sequence: UInt64) -> VersionRow {
        VersionRow(
            bucket: bucket.id,
            key: key,
            id: VersionID(sequence: sequence, nonce: 0),
            isNull: false,
            kind: .object,
            createdAt: Timestamp(milliseconds: 1),
            content: .nothing,
            operation: OperationID(high: 1, low: sequence)
        )
    }

    private func commit(_ row: VersionRow) -> [CatalogEntry] {
        [CatalogEntry(operation: row.operation, sequence: row.id.sequence, mutations: [.putVersion(row)])]
    }

    @Test func aRowThatWasReadBeforeACommitIsNotKeptAfterIt() throws {
        let newest = NewestVersions()
        let key = try ObjectKey("key")
        let early = newest.ticket(for: key)
        newest.keep(.init(bucket: bucket, version: row(key, 5)), early)
        #expect(newest.find(key, in: bucket.name)?.version?.id.sequence == 5)
        let late = newest.ticket(for: key)
        newest.forget(commit(row(key, 6)))
        #expect(newest.find(key, in: bucket.name) == nil)
        newest.keep(.init(bucket: bucket, version: row(key, 5)), late)
        #expect(newest.find(key, in: bucket.name) == nil)
        newest.keep(.init(bucket: bucket, version: row(key, 6)), newest.ticket(for: key))
        #expect(newest.find(key, in: bucket.name)?.version?.id.sequence == 6)
    }

    @Test func aChangeOfABucketForgetsItsName() throws {
        let newest = NewestVersions()
        let key = try ObjectKey("key")
        let ticket = newest.ticket(for: key)
        newest.keep(.init(bucket: bucket, version: row(key, 5)), ticket)
        let entry = CatalogEntry(
            operation: OperationID(high: 0, low: 1),
            sequence: 6,
            mutations: [.removeBucket(bucket.id)]
        )
        newest.forget([entry])
        #expect(newest.find(key, in: bucket.name) == nil)
        newest.keep(.init(bucket: bucket, version: row(key, 5)), ticket)
        #expect(newest.find(key, in: bucket.name) == nil)
    }

    @Test func whatIsKeptIsBounded() throws {
        let newest = NewestVersions(byteCountMax: 1 << 20)
        let keys = try (0..<5000).map { try ObjectKey("key-\($0)") }
        for (number, key) in keys.enumerated() {
            newest.keep(
                .init(bucket: bucket, version: row(key, UInt64(number) + 1)),
                newest.ticket(for: key)
            )
        }
        let kept = keys.count { newest.find($0, in: bucket.name) != nil }
        #expect(kept > 200)
        #expect(kept <= (1 << 20) / 1024)
    }
}
