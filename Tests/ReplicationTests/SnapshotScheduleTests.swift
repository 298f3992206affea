import BlobVolume
import Catalog
import CatalogSQLite
import ObjectService
import StoreModel
import StoreTestKit
import Testing

@testable import Replication

/// Snapshots of the catalog that a store takes while it is open.
@Suite(.serialized) struct SnapshotScheduleTests {
    private func schedule(batches: UInt64 = .max, age: Duration = .seconds(3600)) -> SnapshotSchedule {
        var schedule = SnapshotSchedule()
        schedule.batchCount = batches
        schedule.ageMax = age
        schedule.probeInterval = .milliseconds(2)
        return schedule
    }

    @Test func aLogThatHasGrownGetsASnapshotWhileTheStoreIsOpen() async throws {
        let fixture = try EngineFixture()
        var engine = try await fixture.open(snapshots: schedule(batches: 12))
        try await engine.makeBucket()
        #expect(engine.replicator.snapshotState.takenAt == nil)
        let open = engine
        // Two generations: only then is the log before the older one dead.
        func hasTwo() -> Bool {
            open.catalog.applied.snapshots.count == 2
                && open.volumes.values.allSatisfy { $0.logBase.sequence > 0 }
        }
        // As many as it takes: how many are put before the log is looked at again is the machine's affair.
        var count = 0
        while count < 30 || count < 5000 && !hasTwo() {
            try await engine.put("k\(count)", [UInt8(truncatingIfNeeded: count)])
            count += 1
        }
        #expect(await engine.eventually { hasTwo() })
        let status = try await engine.replicator.status()
        #expect(status.snapshot.takenAt != nil && status.snapshot.rowCount > 0)
        #expect(status.snapshot.batchesSince < count)
        await engine.close()
        fixture.take(engine)
        engine = try await fixture.open(index: "fresh.sqlite")
        #expect(engine.didRebuild)
        for number in 0..<count {
            #expect(try await engine.get("k\(number)") == [UInt8(truncatingIfNeeded: number)])
        }
        await engine.close()
    }

    @Test func anOldSnapshotIsRenewedOnlyWhenSomethingWasCommittedSince() async throws {
        let fixture = try EngineFixture()
        let engine = try await fixture.open(snapshots: schedule(age: .zero))
        try await engine.makeBucket()
        let first = try await engine.replicator.takeSnapshot()
        // Many looks later.
        for _ in 0..<20 { try await Task.sleep(for: .milliseconds(2)) }
        #expect(engine.replicator.snapshotState.batchesSince == 1)
        #expect(engine.catalog.applied.snapshots.map(\.position) == [first.position])
        try await engine.put("k", [1])
        #expect(await engine.eventually { engine.catalog.applied.snapshots.count == 2 })
        await engine.close()
    }

    @Test func aSnapshotThatReadsBackWrongIsNotNoted() async throws {
        let fixture = try EngineFixture()
        let engine = try await fixture.open(maintained: false)
        try await engine.makeBucket()
        for number in 0..<4 { try await engine.put("k\(number)", [UInt8(number)]) }
        let rules = [0, 1].map { index in
            engine.disk(index).add(
                FaultRule(.flip(bit: 4000), on: [.read], nameContains: "segments/", hitCount: nil)
            )
        }
        await #expect(throws: StoreError.self) { _ = try await engine.replicator.takeSnapshot() }
        #expect(engine.catalog.applied.snapshots.isEmpty)
        for (index, rule) in zip([0, 1], rules) {
            #expect(engine.disk(index).firedCount(ofRule: rule) > 0)
            engine.disk(index).remove(rule: rule)
        }
        for number in 0..<4 { #expect(try await engine.get("k\(number)") == [UInt8(number)]) }
        await engine.close()
    }
}
