import Catalog
import Mirroring
import ObjectService
import StoreModel
import StoreTestKit
import Testing

/// What is new does not wait for what was there before the mirror, and both get their share.
@Suite struct ClassesTests {
    /// Puts many objects at a time, so that they share their syncs.
    static func fill(_ fixture: MirrorFixture, _ count: Int) async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            for lane in 0..<64 {
                let (objects, bucket) = (fixture.objects, fixture.bucket)
                group.addTask {
                    for number in stride(from: lane, to: count, by: 64) {
                        let key = try ObjectKey("before/\(number)")
                        _ = try await objects.put(
                            PutRequest(bucket: bucket, key: key),
                            body: BufferByteSource([UInt8(truncatingIfNeeded: number)])
                        )
                    }
                }
            }
            try await group.waitForAll()
        }
    }

    /// Runs the mirrors while `body` does something, and ends them as a crash would.
    private static func working(
        _ service: MirrorService,
        _ body: () async throws -> Void
    ) async throws {
        let work = Task { await service.run() }
        do {
            try await body()
        } catch {
            work.cancel()
            throw error
        }
        work.cancel()
        await work.value
    }

    private static func wait(_ what: String, _ condition: () async throws -> Bool) async throws {
        for _ in 0..<60_000 {
            if try await condition() { return }
            try await Task.sleep(for: .milliseconds(2))
        }
        Issue.record("waited in vain: \(what)")
    }

    @Test func aNewVersionDoesNotWaitForTenThousandFromBefore() async throws {
        let fixture = try await MirrorFixture()
        let count = TestSeeds.isLong ? 10_000 : 2_000
        try await Self.fill(fixture, count)
        for number in 0..<5 { try await fixture.put("k", [UInt8(number)]) }
        try await fixture.add()
        fixture.backend.hold(true)
        let service = fixture.service()
        try await Self.working(service) {
            // Three of four places, of eight, are taken by what was there before, and nothing moves.
            try await Self.wait("the back-fill is under way") { fixture.backend.heldKeys.count == 6 }
            try await fixture.put("new", [1])
            try await Self.wait("the new one is sent") { fixture.backend.heldKeys.contains("models/new") }
            #expect(fixture.backend.putCount == 0)
            let status = try await service.status(of: try await fixture.directory.mirror(fixture.mirror))
            #expect(status.beforeCount > 0 && status.isFillingUp && status.pendingCount > status.beforeCount)
            let now = fixture.clock.now()
            #expect(status.lag(at: now) == 0 || status.oldestPending != nil)
            #expect(status.backfillLag(at: Timestamp(milliseconds: .max / 2)) > 0)
            // A version of a key with a history goes ahead with all of it, and in its order.
            try await fixture.put("k", [5])
            for _ in 0..<200 where fixture.backend.history("models/k").count < 6 {
                let before = fixture.backend.putCount
                fixture.backend.letOneGo()
                try await Self.wait("one is done") {
                    fixture.backend.putCount > before && fixture.backend.heldKeys.count > 1
                }
            }
            #expect(fixture.backend.history("models/k").map(\.bytes) == (0..<6).map { [UInt8($0)] })
            #expect(fixture.backend.putCount < 100, "the rest was not waited for")
            #expect(fixture.backend.keys.contains { $0.hasPrefix("models/before/") }, "and has its share")
        }
        // The next worker knows nothing of this one.
        fixture.backend.hold(false)
        let status = try await fixture.drain()
        #expect(
            status.isUpToDate && status.beforeCount == 0 && status.backfillLag(at: fixture.clock.now()) == 0
        )
        #expect(fixture.backend.keys.count == count + 2)
        #expect(fixture.backend.putCount == count + 7, "nothing was sent twice")
        #expect(fixture.mirroredHistory("k") == (try await fixture.expectedHistory("k")))
        try await fixture.close()
    }

    @Test(arguments: TestSeeds.seeds(fixed: 3, fresh: 1))
    func longHistoriesFromBeforeStayInOrderWhileNewVersionsCome(seed: UInt64) async throws {
        let fixture = try await MirrorFixture(seed: seed)
        fixture.backend.set(.all)
        fixture.limits.attemptCountMax = 1000
        fixture.limits.giveUp = .seconds(3600)
        fixture.limits.backfillPageSize = 16
        fixture.limits.window = 64
        let random = SeededRandom(seed: seed)
        for number in 0..<150 { try await fixture.put("long", [UInt8(number)]) }
        for number in 0..<60 { try await fixture.put("k\(number % 7)", [UInt8(number)]) }
        try await fixture.add()
        for round in 0..<4 {
            try await fixture.put("long", [UInt8(200 + round)])
            let key = "k\(random.next() % 7)"
            if random.next() % 3 == 0 {
                try await fixture.delete(key)
            } else {
                try await fixture.put(key, [99])
            }
            let service = fixture.service()
            let work = Task { try await service.runUntilIdle() }
            for _ in 0..<(random.next() % 2000) { await Task.yield() }
            work.cancel()
            _ = try? await work.value
        }
        let status = try await fixture.drain()
        #expect(status.isUpToDate, "seed \(seed): \(status.worker)")
        #expect(!fixture.backend.hasOverlapped)
        for key in ["long"] + (0..<7).map({ "k\($0)" }) {
            #expect(
                fixture.mirroredHistory(key) == (try await fixture.expectedHistory(key)),
                "seed \(seed), \(key)"
            )
        }
        try await fixture.close()
    }

    @Test func aBackendWithoutVersionsHasTheNewestWhateverCameFirst() async throws {
        let fixture = try await MirrorFixture(keepsVersions: false)
        fixture.limits.backfillPageSize = 8
        for number in 0..<40 { try await fixture.put("k\(number % 5)", [UInt8(number)]) }
        try await fixture.add()
        for number in 0..<5 { try await fixture.put("k\(number)", [UInt8(100 + number)]) }
        #expect(try await fixture.drain().isUpToDate)
        for number in 0..<5 {
            #expect(fixture.backend.history("models/k\(number)").map(\.bytes) == [[UInt8(100 + number)]])
        }
        try await fixture.close()
    }
}
