import Catalog
import ContentHashing
import Encryption
import Foundation
import HoldfastNode
import ObjectService
import StoreModel
import StoreTestKit
import Synchronization
import Testing

@testable import Mirroring

/// What mirrors keep in the store, while others change it.
@Suite struct MirrorStoreTests {
    /// A store in which something happens behind each reading.
    private final class BusyStore: ForwardingStore {
        let store: MirroredStore
        private let afterRead: Mutex<[@Sendable () async throws -> Void]>

        init(_ store: MirroredStore, afterRead: [@Sendable () async throws -> Void]) {
            self.store = store
            self.afterRead = Mutex(afterRead.reversed())
        }

        func read<Value: Sendable>(
            _ body: @escaping @Sendable (any CatalogReader) throws -> Value
        ) async throws -> Value {
            let value = try await store.read(body)
            if let next = afterRead.withLock({ $0.popLast() }) { try await next() }
            return value
        }
    }

    @Test(arguments: 1...6)
    func removingAMirrorTakesNothingOfANewOneOfItsName(turn: Int) async throws {
        let fixture = try await MirrorFixture()
        try await fixture.add()
        try await ClassesTests.fill(fixture, 300)
        let directory = fixture.directory
        let (objects, bucket, name) = (fixture.objects, fixture.bucket, fixture.mirror)
        let settings = try await directory.mirror(name).settings
        let key = try ObjectKey("new")
        // Between two steps of the sweep there is a new one, and something for it.
        let idle: @Sendable () async throws -> Void = {}
        let addAnew: @Sendable () async throws -> Void = {
            _ = try await directory.add(
                name,
                settings,
                rules: [MirrorRule()],
                MirrorCredentials(accessKey: "key", secret: "secret")
            )
            _ = try await objects.put(PutRequest(bucket: bucket, key: key), body: BufferByteSource([2]))
        }
        let row = try await directory.mirror(name)
        try await objects.write(documents: [
            DocumentWrite(space: .setting, key: row.key, body: nil),
            DocumentWrite(space: .setting, key: MirrorKey.route(row.id), body: nil),
        ])
        let busy = BusyStore(
            MirroredStore(objects: objects),
            afterRead: Array(repeating: idle, count: turn - 1) + [addAnew]
        )
        try await MirrorDirectory(busy, clock: fixture.clock, random: SystemRandom()).sweep()
        let added = try await directory.mirror(name)
        #expect(added.id != row.id)
        #expect(try await fixture.tasks().map(\.mirror) == [added.id])
        let backfill = try await directory.store.document(.outbox, MirrorKey.backfill(added.id))
        #expect(backfill != nil)
        #expect(try await fixture.drain().isUpToDate)
        #expect(fixture.backend.keys.count == 301)
        try await fixture.close()
    }

    @Test func whatADeclaredMirrorMayDoIsKeptAndChangedAsDeclared() async throws {
        let fixture = try await MirrorFixture()
        let credentials = MirrorCredentials(accessKey: "key", secret: "secret")
        var settings = MirrorSettings(endpoint: try MirrorEndpoint("https://s3.example.org"), bucket: "b")
        settings.allowsPrivate = true
        func declare() async throws -> MirrorDirectory.Declaration {
            try await fixture.directory.declare(fixture.mirror, settings, rules: [MirrorRule()], credentials)
        }
        #expect(try await declare() == .added)
        #expect(try await fixture.directory.mirror(fixture.mirror).settings.allowsPrivate)
        try await fixture.reopen()
        #expect(try await declare() == .same)
        #expect(try await fixture.directory.mirror(fixture.mirror).settings.allowsPrivate)
        settings.allowsPrivate = false
        #expect(try await declare() == .changed)
        #expect(try await !fixture.directory.mirror(fixture.mirror).settings.allowsPrivate)
        try await fixture.close()
    }

    @Test(arguments: [
        "https://me:hunter2@s3.example.org", "http://hunter2@h", "ftp://me:hunter2@h", "me:hunter2@h",
        "https://h/me:hunter2@h", "HTTPS://me:hunter2@[::1", " http://me:hunter2@h", "https://me:hunter2@h:0",
    ])
    func aPasswordInAnEndpointIsNotShown(text: String) {
        let error = #expect(throws: StoreError.self) { try MirrorEndpoint(text) }
        #expect(error.map { "\($0)".contains("hunter2") } == false)
    }

    @Test func aQueueIsReadOnceForManyKeys() async throws {
        let fixture = try await MirrorFixture()
        let row = try await fixture.add()
        for number in 0..<50 { try await fixture.put("k\(number)", [1]) }
        let store = fixture.directory.store
        let bucket = try #require(try await store.read { try $0.buckets().first })
        let pending = PendingKeys(store, row.id, bucket.id)
        for number in 0..<50 {
            #expect(try await pending.contains(Array("k\(number)".utf8)))
            #expect(try await !pending.contains(Array("x\(number)".utf8)))
        }
        #expect(pending.readCount == 50)
        try await fixture.put("x1", [1])
        #expect(try await pending.contains(Array("x1".utf8)))
        #expect(pending.readCount == 51)
        let other = PendingKeys(store, row.id, BucketID(rawValue: 1 << 40))
        #expect(try await !other.contains(Array("k1".utf8)))
        try await fixture.close()
    }

    @Test func whatEndsWhileItIsCountedIsNotMissedLater() async throws {
        let fixture = try await MirrorFixture()
        let row = try await fixture.add()
        for number in 0..<6 { try await fixture.put("k\(number)", [1]) }
        let tasks = try await fixture.tasks()
        let (store, pending) = (fixture.directory.store, PendingCount())
        func end(_ task: MirrorTask) async throws {
            try await store.write([DocumentWrite(space: .outbox, key: task.pendingRow.key, body: nil)])
        }
        func count() async throws -> UInt64 {
            try await pending.total(row.id, store, boundary: 0).count
        }
        // Its row is gone before the first count, and the word of it comes after.
        pending.noteEnding(tasks[0])
        try await end(tasks[0])
        #expect(try await count() == 5)
        pending.noteEnded(tasks[0])
        #expect(try await count() == 5)
        // Counted, then ended in either order.
        pending.noteEnding(tasks[1])
        try await end(tasks[1])
        pending.noteEnded(tasks[1])
        #expect(try await count() == 4)
        // An end that could not be written is none.
        pending.noteEnding(tasks[2])
        pending.noteNotEnded(tasks[2])
        #expect(try await count() == 4)
        // Counted anew while an end is on its way.
        pending.noteEnding(tasks[3])
        try await end(tasks[3])
        pending.reset()
        #expect(try await count() == 3)
        pending.noteEnded(tasks[3])
        #expect(try await count() == 3)
        // Put in between, and counted before the word of it comes.
        let mark = pending.mark()
        let known = Set(tasks.map(\.sequence))
        try await fixture.put("k7", [1])
        #expect(try await count() == 4)
        let added = try await fixture.tasks().filter { !known.contains($0.sequence) }
        #expect(added.count == 1)
        pending.noteAdded(added, since: mark)
        #expect(try await count() == 4)
        try await fixture.close()
    }

    // MARK: The keys of a backend

    @Test func theKeysOfABackendComeWholeAcrossPages() async throws {
        let backend = StrictS3Backend()
        var expected: [String: Int] = [:]
        for (key, count) in [("p/a", 3), ("p/b", 1205), ("p/b/c", 1), ("p/c", 2), ("q", 1)] {
            expected[key] = count
            for number in 0..<count {
                let bytes = [UInt8](withUnsafeBytes(of: number) { Array($0) })
                _ = try await backend.put(key, MirrorBody(hashing: bytes), MirrorProperties())
            }
        }
        var keys = BackendKeys(backend, prefix: "p/", true)
        var found: [String] = []
        while let key = try await keys.next() {
            found.append(key.key)
            #expect(key.entries.count == expected[key.key])
            #expect(key.entries.first?.isLatest == true)
        }
        #expect(found == ["p/a", "p/b", "p/b/c", "p/c"])
        #expect(keys.pageCount == 2)
        // Behind a key: nothing of it, whatever number of versions it has; also when nobody has that key.
        for (after, expected) in [("p/b", ["p/b/c", "p/c"]), ("p/b/b", ["p/b/c", "p/c"]), ("p/c", [])] {
            var rest = BackendKeys(backend, prefix: "p/", true, after: after)
            var names: [String] = []
            while let key = try await rest.next() { names.append(key.key) }
            #expect(names == expected, "after \(after)")
        }
    }

    // MARK: More versions of a key than are looked at

    @Test(arguments: TestSeeds.seeds(fixed: 3, fresh: 1))
    func newVersionsOfAKeyWithALongHistoryStayInOrder(seed: UInt64) async throws {
        let fixture = try await MirrorFixture(seed: seed)
        for number in 0..<24 { try await fixture.put("a", [UInt8(number)]) }
        for number in 0..<8 { try await fixture.put("b\(number)", [UInt8(number)]) }
        try await fixture.add()
        fixture.limits.keyWalk = 6
        fixture.limits.backfillPageSize = 2
        fixture.limits.pageSize = 2
        let service = fixture.service()
        let work = Task { await service.run() }
        // New ones come in while the back-fill is on its way.
        let random = SeededRandom(seed: seed)
        for number in 0..<16 {
            try await fixture.put("a", [UInt8(100 + number)])
            for _ in 0..<random.next() % 4 { await Task.yield() }
        }
        while try await !service.status(of: fixture.directory.mirror(fixture.mirror)).isUpToDate {
            try await Task.sleep(for: .milliseconds(5))
        }
        work.cancel()
        await work.value
        #expect(fixture.mirroredHistory("a") == (try await fixture.expectedHistory("a")))
        try await fixture.close()
    }
}
