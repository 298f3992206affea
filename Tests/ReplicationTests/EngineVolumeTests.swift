import BlobVolume
import Catalog
import ObjectService
import StoreModel
import StoreTestKit
import Synchronization
import Testing

@testable import Replication

/// Volumes that are added, drained, removed, made read-only, or vanish while the store is open; and crashes in between.
@Suite(.serialized, .timeLimit(.minutes(5))) struct EngineVolumeTests {
    private static let count = 12

    private func size(_ number: Int) -> Int { number % 3 == 0 ? 180_000 : 900 }

    private func write(_ engine: Engine, from first: Int = 0) async throws {
        for number in first..<first + Self.count {
            try await engine.put("k\(number)", randomBytes(size(number), seed: UInt64(number)))
        }
    }

    private func check(_ engine: Engine, from first: Int = 0) async throws {
        for number in first..<first + Self.count {
            #expect(try await engine.get("k\(number)") == randomBytes(size(number), seed: UInt64(number)))
        }
    }

    private func isDrained(_ index: Int, _ engine: Engine) -> Bool {
        let replicator = engine.replicator
        let id = replicator.volumes.slots[index].id
        return !replicator.logSet.members.contains(id) && !replicator.logSet.isChanging
            && replicator.volumes.present.allSatisfy { !replicator.mustBeFilled($0) }
            && replicator.laggingVolumes().isEmpty
    }

    private func drain(_ index: Int, _ engine: Engine) async throws {
        let id = engine.replicator.volumes.slots[index].id
        try await engine.replicator.changeLayout { $0.setting(.draining, of: id, replicaCount: 3) }
    }

    @Test func withoutADrainedVolumeEverythingIsThereStill() async throws {
        let fixture = try EngineFixture(volumeCount: 4)
        var engine = try await fixture.open()
        try await engine.makeBucket()
        try await write(engine)
        try await drain(0, engine)
        let draining = engine
        #expect(await engine.eventually { isDrained(0, draining) })
        #expect(try await engine.replicator.audit(without: 0).thin == 0)
        try await write(engine, from: 100)
        #expect(try await engine.objects.verify(repair: false).findingCount == 0)
        await engine.close()
        fixture.take(engine)
        for away in 1...3 {
            // The drained one is away for good, and one of the others as well.
            engine = try await fixture.open((1...3).filter { $0 != away }, maintained: false)
            try await check(engine)
            try await check(engine, from: 100)
            await engine.close()
        }
    }

    @Test func anAuditSaysWhatCountsOnAVolume() async throws {
        let fixture = try EngineFixture(volumeCount: 4)
        let engine = try await fixture.open()
        try await engine.makeBucket()
        try await write(engine)
        let audit = try await engine.replicator.audit(without: 0)
        #expect(audit.thin > 0 && audit.lost == 0 && !audit.examples.isEmpty)
        await engine.close()
    }

    @Test func anAuditCatchesUpWhatLagsAndTellsWhatKeepsAVolumeFromIt() async throws {
        let fixture = try EngineFixture()
        var engine = try await fixture.open([0, 2])
        try await engine.makeBucket()
        try await write(engine)
        await engine.close()
        fixture.take(engine)
        // Nobody else catches it up.
        engine = try await fixture.open(maintained: false)
        let behind = engine.replicator.volumes.slots[1]
        let reached = try #require(behind.replica?.completeSequence)
        engine.disk(1).add(FaultRule(.full, on: [.write], nameContains: "bulk", hitCount: nil))
        let found = try await stale(engine)
        #expect(found.map(\.volume) == [behind.id])
        for finding in found {
            #expect(finding.chunk == nil && finding.detail.contains("up to batch \(reached),"))
            guard case .failed(let reason) = finding.outcome else {
                Issue.record("\(finding.outcome)")
                continue
            }
            #expect(reason.contains("full"))
        }
        engine.disk(1).removeAllRules()
        #expect(try await stale(engine).isEmpty)
        #expect(engine.replicator.laggingVolumes().isEmpty)
        #expect(try await engine.objects.verify(repair: false).findingCount == 0)
        await engine.close()
    }

    private func stale(_ engine: Engine) async throws -> [Finding] {
        var (cursor, memory, found) = (AuditCursor.start, AuditMemory(), [Finding]())
        while cursor.phase != .done {
            found += try await engine.replicator.audit(&cursor, &memory).findings
        }
        return found.filter { $0.kind == .stale }
    }

    @Test(arguments: [CrashMode.dropped, .kept])
    func aDrainThatCrashesAnywhereGoesOn(_ mode: CrashMode) async throws {
        for call in stride(from: 1, through: 60, by: 5) {
            let fixture = try EngineFixture(volumeCount: 4)
            var engine = try await fixture.open()
            try await engine.makeBucket()
            try await write(engine)
            engine.trip.arm(call)
            try? await drain(0, engine)
            let dying = engine
            _ = await engine.eventually(within: .seconds(3)) { dying.trip.isDead || isDrained(0, dying) }
            engine.trip.kill()
            await engine.close(deadline: .seconds(2))
            fixture.take(engine, after: mode)

            engine = try await fixture.open()
            let reopened = engine
            try await drain(0, engine)
            #expect(await engine.eventually { isDrained(0, reopened) }, "call \(call)")
            #expect(try await engine.replicator.audit(without: 0).thin == 0, "call \(call)")
            try await check(engine)
            await engine.close()
            fixture.take(engine)
            engine = try await fixture.open([1, 2, 3], maintained: false)
            try await check(engine)
            await engine.close()
        }
    }

    @Test func anAddedVolumeIsFilledAndTakesItsPart() async throws {
        let fixture = try EngineFixture()
        let engine = try await fixture.open()
        try await engine.makeBucket()
        try await write(engine)
        let id = VolumeID(high: 9, low: 9)
        let disk = CrashDisk()
        var options = fixture.options
        options.expectedVolume = id
        var identity = VolumeIdentity(
            storeID: fixture.storeID,
            volumeID: id,
            promise: 0,
            logSet: LogSet(version: 0, members: []),
            quorum: fixture.quorum,
            createdAt: Timestamp(milliseconds: 1)
        )
        identity.memberships = []
        try BlobVolume.format(disk, identity: identity, options: options)
        let volume = try BlobVolume.open(disk, options: options)
        let recordsBefore = engine.volumes.mapValues { $0.space.recordCount }
        try await engine.replicator.add(
            VolumeSet.Slot(
                id: id,
                label: "added",
                failureDomain: "added",
                replica: LocalReplica(volume, label: "added"),
                problem: nil
            )
        )
        let index = try #require(engine.replicator.volumes.index(of: id))
        // Not whole before it was filled and every copy verified.
        try await write(engine, from: 100)
        #expect(
            await engine.eventually {
                !engine.replicator.mustBeFilled(index) && engine.replicator.laggingVolumes().isEmpty
            }
        )
        #expect(volume.space.recordCount > 0)
        for (place, count) in recordsBefore {
            #expect((engine.volumes[place]?.space.recordCount ?? 0) >= count, "copies were taken away")
        }
        #expect(engine.replicator.layout[id]?.isNew == false)
        #expect(try await engine.replicator.check(index, strict: true).missing == 0)
        #expect(try await engine.objects.verify(repair: false).findingCount == 0)

        // The log can go there.
        let target = [fixture.ids[1], fixture.ids[2], id]
        try await engine.replicator.changeLayout { $0.settingLogTarget(target) }
        #expect(
            await engine.eventually {
                Set(engine.replicator.logSet.members) == Set(target) && !engine.replicator.logSet.isChanging
            }
        )
        try await check(engine)
        try await check(engine, from: 100)
        await engine.close()
    }

    /// Also in a store of which nobody has written down a layout: what has taken a volume's place is new, is filled, and each
    /// copy on it is read after it was made durable. A disk that gives back other bytes does not pass for whole.
    @Test(arguments: [0, 3]) func aReplacedVolumeIsReadBackBeforeItIsWhole(badReads: Int) async throws {
        let fixture = try EngineFixture()
        var engine = try await fixture.open()
        try await engine.makeBucket()
        try await write(engine)
        await engine.close()
        fixture.take(engine)
        try fixture.replaceVolume(2)
        let id = fixture.ids[2]
        var rule = 0
        engine = try await fixture.open { index, disk in
            guard index == 2 else { return }
            rule = disk.add(
                FaultRule(.flip(bit: 80_000), on: [.read], nameContains: ".bulk", hitCount: badReads)
            )
        }
        #expect(engine.replicator.layout[id]?.isNew == true)
        let filled = engine
        #expect(
            await engine.eventually { filled.isWhole && filled.replicator.unfinishedReplacements.isEmpty }
        )
        #expect(engine.disk(2).firedCount(ofRule: rule) == badReads)
        #expect(engine.replicator.layout[id]?.isNew == false)
        let progress = try #require(engine.replicator.fillProgress[id])
        #expect(progress.phase == .done && progress.missing == 0)
        // It is written down: the next process does not do it again.
        #expect(try await engine.objects.verify(repair: false).findingCount == 0)
        await engine.close()
        fixture.take(engine)
        engine = try await fixture.open([0, 2], maintained: false)
        #expect(engine.replicator.layout[id]?.mustBeFilled == false)
        try await check(engine)
        await engine.close()
    }

    @Test func aReadOnlyVolumeGetsNoPayloadsAndIsStillRead() async throws {
        let fixture = try EngineFixture()
        let engine = try await fixture.open { index, disk in
            // It is the last to have what is written.
            if index == 2 { disk.add(FaultRule(.delay(.milliseconds(30)), on: [.write], hitCount: nil)) }
        }
        try await engine.makeBucket()
        try await write(engine)
        // Copies that are on their way are not taken back.
        #expect(await engine.eventually { engine.isWhole })
        let id = fixture.ids[2]
        try await engine.replicator.changeLayout { $0.setting(.readOnly, of: id, replicaCount: 3) }
        let before = try #require(engine.volumes[2]).space.recordCount
        try await write(engine, from: 100)
        #expect(try #require(engine.volumes[2]).space.recordCount == before)
        try await check(engine)
        try await check(engine, from: 100)
        try await engine.replicator.changeLayout { $0.setting(.active, of: id, replicaCount: 3) }
        #expect(await engine.eventually { engine.isWhole })
        #expect(try #require(engine.volumes[2]).space.recordCount > before)
        #expect(try await engine.objects.verify(repair: false).findingCount == 0)
        await engine.close()
    }

    @Test func aVolumeThatVanishesIsLeftAndOneThatComesBackIsCaughtUp() async throws {
        let fixture = try EngineFixture()
        let (isGone, isBack) = (Flag(), Flag())
        let (arrival, _) = fixture.arrival(of: 2, when: { isBack.isUp })
        let vanished = fixture.ids[2]
        let engine = try await fixture.open(opener: arrival) { volume in
            guard volume == vanished, isGone.isUp else { return nil }
            return VolumeError(.identityMissing, "Nothing is there.", path: "volume 3")
        }
        try await engine.makeBucket()
        try await write(engine)
        isGone.raise()
        #expect(await engine.eventually { engine.replicator.volumes.slots[2].replica == nil })
        #expect(engine.replicator.volumes.problem(at: 2) != nil)
        try await write(engine, from: 100)
        try await check(engine)
        isGone.lower()
        isBack.raise()
        #expect(await engine.eventually { engine.replicator.replicatorStatus().wholeCount == 3 })
        try await check(engine, from: 100)
        #expect(try await engine.objects.verify(repair: false).findingCount == 0)
        await engine.close()
    }
}

private final class Flag: Sendable {
    private let value = Atomic<Bool>(false)
    var isUp: Bool { value.load(ordering: .acquiring) }
    func raise() { value.store(true, ordering: .releasing) }
    func lower() { value.store(false, ordering: .releasing) }
}
