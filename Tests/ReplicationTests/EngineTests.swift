import Catalog
import CatalogSQLite
import ObjectService
import StoreModel
import StoreTestKit
import Testing

@testable import Replication

/// The engine in health: three volumes, the log, the index, the use cases.
@Suite(.serialized, .timeLimit(.minutes(3))) struct EngineTests {
    @Test func whatWasPutIsReadListedDeletedAndRestoredOverReopening() async throws {
        let fixture = try EngineFixture()
        var engine = try await fixture.open()
        try await engine.makeBucket()
        let small = randomBytes(3000, seed: 1)
        let large = randomBytes(700_000, seed: 2)
        let first = try await engine.put("a/small", small)
        try await engine.put("a/large", large)
        let second = try await engine.put("a/small", [1, 2, 3])
        try await engine.put("empty", [])
        #expect(try await engine.get("a/small") == [1, 2, 3])
        #expect(try await engine.get("a/small", .id(first.id)) == small)
        #expect(try await engine.get("empty").isEmpty)
        let deleted = try await engine.delete("a/large")
        #expect(deleted.marker != nil)
        await #expect(throws: StoreError.self) { try await engine.get("a/large") }
        let key = try engine.address("a/small").key
        _ = try await engine.objects.restore(bucket: try engine.bucket, key: key, version: first.id)
        for _ in 0..<2 {
            #expect(try await engine.get("a/small") == small)
            #expect(try await engine.get("a/small", .id(second.id)) == [1, 2, 3])
            let versions = try await engine.versions()
            #expect(versions.count == 6)
            let held = engine
            #expect(await engine.eventually { held.isWhole })
            let report = try await engine.objects.verify(repair: false)
            #expect(report.findingCount == 0)
            await engine.close()
            fixture.take(engine)
            engine = try await fixture.open()
            #expect(!engine.didRebuild)
        }
        await engine.close()
    }

    @Test func ofManyConditionalPutsToOneKeyExactlyOneWins() async throws {
        let fixture = try EngineFixture()
        let engine = try await fixture.open()
        try await engine.makeBucket()
        for round in 0..<3 {
            let outcomes = await withTaskGroup(of: StoreError.Code?.self) { group in
                for number in 0..<64 {
                    group.addTask {
                        do {
                            try await engine.put(
                                "key\(round)",
                                [UInt8(number)],
                                Conditions(ifNoneMatch: .any)
                            )
                            return nil
                        } catch {
                            return (error as? StoreError)?.code ?? .internalFault
                        }
                    }
                }
                return await group.reduce(into: [StoreError.Code?]()) { $0.append($1) }
            }
            #expect(outcomes.count { $0 == nil } == 1)
            #expect(outcomes.allSatisfy { $0 == nil || $0 == .preconditionFailed })
            #expect(try await engine.versions().count == round + 1)
        }
        await engine.close()
    }

    @Test func hundredsOfConcurrentPutsAreAllThereAfterReopening() async throws {
        let fixture = try EngineFixture()
        var engine = try await fixture.open()
        try await engine.makeBucket()
        let sizes = (0..<500).map { $0 % 25 == 0 ? 150_000 + $0 : 100 + $0 * 7 % 5000 }
        let held = engine
        try await withThrowingTaskGroup(of: Void.self) { group in
            for (number, size) in sizes.enumerated() {
                group.addTask {
                    let bytes = randomBytes(size, seed: UInt64(number))
                    try await held.put("k\(number)", bytes)
                    // Read after write, under load.
                    let row = try await held.objects.head(try held.address("k\(number)"))
                    #expect(row.size == UInt64(size))
                }
            }
            try await group.waitForAll()
        }
        #expect(try await engine.versions().count == 500)
        await engine.close()
        fixture.take(engine)
        engine = try await fixture.open()
        #expect(try await engine.versions().count == 500)
        let reopened = engine
        #expect(await engine.eventually { reopened.isWhole })
        for (number, size) in sizes.enumerated() where number % 7 == 0 {
            #expect(try await engine.get("k\(number)") == randomBytes(size, seed: UInt64(number)))
        }
        await engine.close()
        fixture.take(engine)
        // Any two volumes, and no index.
        try fixture.removeIndex()
        engine = try await fixture.open([1, 2])
        #expect(engine.didRebuild || engine.catalog.applied.position.sequence > 0)
        #expect(try await engine.versions().count == 500)
        await engine.close()
    }

    @Test func aStoreWithOneOfThreeVolumesRefusesToOpenAndNamesTheOthers() async throws {
        let fixture = try EngineFixture()
        let engine = try await fixture.open()
        try await engine.makeBucket()
        await engine.close()
        fixture.take(engine)
        do {
            _ = try await fixture.open([0])
            Issue.record("it opened")
        } catch let error as StoreError {
            #expect(error.code == .notEnoughReplicas)
            #expect(error.description.contains("volume 2") && error.description.contains("volume 3"))
        }
    }
}
