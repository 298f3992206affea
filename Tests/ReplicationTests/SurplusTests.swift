import BlobVolume
import Catalog
import ContentHashing
import ObjectService
import StoreModel
import StoreTestKit
import Synchronization
import Testing

@testable import Replication

/// Garbage collection of copies that stand where their chunks don't belong any more.
@Suite(.serialized, .timeLimit(.minutes(10))) struct SurplusTests {
    private static var options: GarbageOptions {
        var options = GarbageOptions()
        options.grace = .zero
        options.settleTime = .zero
        return options
    }

    private static let count = 10

    private static func content(_ number: Int) -> [UInt8] {
        randomBytes(number % 3 == 0 ? 180_000 : 900, seed: UInt64(number))
    }

    private func write(_ engine: Engine) async throws {
        try await engine.makeBucket()
        for number in 0..<Self.count { try await engine.put("k\(number)", Self.content(number)) }
    }

    private func check(_ engine: Engine, _ note: Comment? = nil) async throws {
        for number in 0..<Self.count {
            let isRight = try await engine.get("k\(number)") == Self.content(number)
            #expect(isRight, note)
        }
    }

    private static func set(_ role: VolumeRole, of index: Int, _ engine: Engine) async throws {
        let id = engine.replicator.volumes.slots[index].id
        try await engine.replicator.changeLayout { $0.setting(role, of: id, replicaCount: 3) }
    }

    /// Whether every chunk is where it belongs.
    private static func isSettled(_ engine: Engine) -> Bool {
        let replicator = engine.replicator
        return !replicator.logSet.isChanging && replicator.laggingVolumes().isEmpty
            && replicator.volumes.present.allSatisfy { !replicator.mustBeFilled($0) }
            && !replicator.pipeline.isBusy && replicator.pipeline.gate.pinCount == 0
    }

    private static func collect(_ engine: Engine, dry: Bool = false) async throws -> GarbageReport {
        #expect(await engine.eventually(within: .seconds(90)) { isSettled(engine) })
        var options = options
        options.isDryRun = dry
        return try await engine.replicator.collectGarbage(options)
    }

    private static func digests(_ engine: Engine, _ index: Int) throws -> Set<Digest> {
        var found: Set<Digest> = []
        try engine.volumes[index]?.forEachPayload { digest, _ in found.insert(digest) }
        return found
    }

    /// Chunks of the versions and of the catalog's snapshots; no tree is among them.
    private static func live(_ engine: Engine) async throws -> Set<Digest> {
        var digests: Set<Digest> = []
        let manifests = try await engine.versions().map(\.manifest) + engine.replicator.snapshotManifests
        for manifest in manifests {
            guard case .inline(let chunks) = manifest else {
                Issue.record("a tree")
                continue
            }
            digests.formUnion(chunks.map(\.digest))
        }
        return digests
    }

    /// Every volume has what belongs on it, and nothing else.
    private static func expectExactlyPlaced(_ engine: Engine, _ note: Comment? = nil) async throws {
        let live = try await live(engine)
        var copyCount = 0
        for index in engine.volumes.keys {
            let belongs = live.filter { engine.replicator.placementIndices(for: $0).contains(index) }
            let found = try digests(engine, index)
            #expect(found == belongs, "volume \(index + 1), \(note ?? "")")
            copyCount += found.count
        }
        #expect(copyCount == 3 * live.count, note)
    }

    @Test func aDrainedVolumeIsEmptiedAndTheRestHoldsThreeOfEverything() async throws {
        let fixture = try EngineFixture(volumeCount: 4)
        var engine = try await fixture.open()
        try await write(engine)
        try await Self.set(.draining, of: 0, engine)
        let before = try Self.digests(engine, 0)
        let dry = try await Self.collect(engine, dry: true)
        #expect(!before.isEmpty)
        #expect(try Self.digests(engine, 0) == before, "a dry run takes nothing away")
        let run = try await Self.collect(engine)
        #expect(run.volumes[0].surplusCount == dry.volumes[0].surplusCount)
        #expect(run.volumes[0].surplusBytes == dry.volumes[0].surplusBytes)
        #expect(run.volumes[0].surplusCount >= before.count)
        #expect(run.volumes.allSatisfy { $0.strayCount == 0 && $0.problem == nil })
        try await Self.expectExactlyPlaced(engine)
        #expect(try Self.digests(engine, 0).isEmpty)
        #expect(engine.replicator.garbage.totals.surplusRecords == UInt64(run.volumes[0].surplusCount))
        try await check(engine)
        #expect(try await engine.objects.verify(repair: false).findingCount == 0)
        // It comes back: what it gave up is copied to it again.
        try await Self.set(.active, of: 0, engine)
        _ = try await Self.collect(engine)
        try await Self.expectExactlyPlaced(engine, "active again")
        #expect(try !Self.digests(engine, 0).isEmpty)
        #expect(try await engine.objects.verify(repair: false).findingCount == 0)
        await engine.close()
        fixture.take(engine, after: .dropped)
        for away in 0..<4 {
            engine = try await fixture.open((0..<4).filter { $0 != away }, maintained: false)
            try await check(engine, "without volume \(away + 1)")
            await engine.close()
        }
    }

    @Test func aCopyStaysUntilAllOthersAreGood() async throws {
        let fixture = try EngineFixture(volumeCount: 4)
        let engine = try await fixture.open(maintained: false)
        try await write(engine)
        try await Self.set(.draining, of: 0, engine)
        for index in 1...3 { _ = await engine.replicator.catchUp(index) }
        #expect(await engine.eventually { !engine.replicator.pipeline.isBusy })
        let old = try Self.digests(engine, 0)
        let rotten = try #require(
            try await engine.versions().compactMap { row -> Digest? in
                guard case .inline(let chunks) = row.manifest, chunks[0].length > 100_000 else { return nil }
                return old.contains(chunks[0].digest) ? chunks[0].digest : nil
            }.first
        )
        // The index of a volume has it still; the bytes are wrong.
        let bytes = try await engine.replicator.read(rotten, range: nil)
        let crash = try #require(engine.disks[1]).crash
        let image = crash.image
        let name = try #require(
            image.fileNames.first { Self.place(of: bytes, in: image.contents(of: $0) ?? []) != nil }
        )
        let place = try #require(Self.place(of: bytes, in: image.contents(of: name) ?? []))
        crash.flip(name, offset: place + 70_000)
        #expect(engine.replicator.volumes.usableReplica(1)?.presence(of: rotten) == .synced)
        let run = try await engine.replicator.collectGarbage(Self.options)
        #expect(run.volumes[0].strayCount == 1)
        #expect(try Self.digests(engine, 0) == [rotten])
        #expect(await engine.replicator.repair(rotten, on: fixture.ids[1]).isRepaired)
        let next = try await engine.replicator.collectGarbage(Self.options)
        #expect(next.volumes[0].surplusCount == 1 && next.volumes[0].strayCount == 0)
        #expect(try Self.digests(engine, 0).isEmpty)
        try await check(engine)
        await engine.close()
    }

    private static func place(of bytes: [UInt8], in file: [UInt8]) -> Int? {
        file.firstRange(of: bytes[..<256])?.lowerBound
    }

    /// What may happen between the proof and the moment at which the copy leaves the index.
    private enum Between: CaseIterable { case nothing, layout, pin, lostElsewhere, volumeFailed, closed }

    @Test(arguments: Between.allCases)
    private func aProofThatNoLongerHoldsFreesNothing(_ between: Between) async throws {
        let fixture = try EngineFixture(volumeCount: 4)
        let engine = try await fixture.open(maintained: false)
        try await write(engine)
        try await Self.set(.draining, of: 0, engine)
        for index in 1...3 { _ = await engine.replicator.catchUp(index) }
        #expect(await engine.eventually { !engine.replicator.pipeline.isBusy })
        let replicator = engine.replicator
        let gate = replicator.pipeline.gate
        let volume = try #require(engine.volumes[0])
        let old = try Self.digests(engine, 0)
        var candidates: [GarbageCandidate] = []
        for number in volume.segmentNumbers {
            candidates += try volume.garbageCandidates(in: number, before: .everything) { !old.contains($0) }
        }
        let chosen = try #require(candidates.first)
        #expect(gate.beginRun())
        let proof = try #require(await replicator.surplusProof(of: chosen.digest, on: 0))
        #expect(await replicator.surplusProof(of: chosen.digest, on: proof.places[0]) == nil)
        var pin: ChunkPin?
        switch between {
        case .nothing: break
        case .layout: try await Self.set(.active, of: 0, engine)
        case .pin: pin = ChunkPin(chosen.digest, in: gate)
        case .lostElsewhere:
            let other = try #require(engine.volumes[proof.places[0]])
            var there: [GarbageCandidate] = []
            for number in other.segmentNumbers {
                there += try other.garbageCandidates(in: number, before: .everything) { $0 != chosen.digest }
            }
            #expect(!other.withdraw(there).isEmpty)
        case .volumeFailed: replicator.fail(proof.places[0], reason: "test")
        case .closed: gate.close()
        }
        let replica = try #require(replicator.sweptReplica(0))
        let taken = try? await replicator.takeAway(
            [chosen],
            [chosen.digest: proof],
            on: 0,
            replica
        )
        #expect(taken?.count ?? 0 == (between == .nothing ? 1 : 0))
        #expect((volume.indexedPresence(of: chosen.digest) == .absent) == (between == .nothing))
        withExtendedLifetime(pin) {}
        gate.endRun()
        await engine.close()
    }

    @Test(arguments: [CrashMode.dropped, .kept])
    func aCrashAnywhereLeavesThreeGoodCopies(_ mode: CrashMode) async throws {
        let prepared = try EngineFixture(volumeCount: 4)
        var engine = try await prepared.open()
        try await write(engine)
        try await Self.set(.draining, of: 0, engine)
        let draining = engine
        #expect(await engine.eventually(within: .seconds(60)) { Self.isSettled(draining) })
        await engine.close()
        prepared.take(engine)
        let images = prepared.images
        var call = 1
        var hasEnded = false
        while !hasEnded {
            for index in images.indices { prepared.take(images[index], of: index) }
            try prepared.copyIndex(to: "crash.sqlite")
            engine = try await prepared.open(index: "crash.sqlite", maintained: false)
            let dying = engine
            #expect(await engine.eventually { dying.replicator.pipeline.gate.pinCount == 0 })
            var options = Self.options
            options.policy.sealsAtDeadBytes = 1
            engine.trip.arm(call)
            _ = try? await engine.replicator.collectGarbage(options)
            hasEnded = !engine.trip.isDead
            engine.trip.kill()
            await engine.close(deadline: .seconds(2))
            prepared.take(engine, after: mode)
            engine = try await prepared.open(index: "crash.sqlite")
            try await check(engine, "call \(call)")
            #expect(try await engine.replicator.audit(without: 0).thin == 0, "call \(call)")
            let run = try await Self.collect(engine)
            #expect(run.outcome == .done, "call \(call)")
            try await Self.expectExactlyPlaced(engine, "call \(call)")
            let isUndamaged = engine.volumes.values.allSatisfy { $0.openReport.damage.isEmpty }
            #expect(isUndamaged, "call \(call)")
            await engine.close()
            // All of the first calls, then fewer.
            call += max(1, call / 6)
        }
        #expect(call > 5, "the run changed next to nothing")
    }

    /// What clients know to be stored.
    private final class Known: Sendable {
        let objects = Mutex<[String: [UInt8]]>([:])
    }

    @Test(arguments: TestSeeds.seeds(fixed: 2, fresh: 1))
    func clientsDrainsAndCollectionAtRandom(seed: UInt64) async throws {
        let fixture = try EngineFixture(volumeCount: 5)
        var engine = try await fixture.open()
        try await engine.makeBucket()
        let store = engine
        let known = Known()
        try await withThrowingTaskGroup(of: Void.self) { group in
            for client in 0..<3 {
                group.addTask {
                    var random = SeededGenerator(seed: seed &* 17 &+ UInt64(client))
                    for _ in 0..<20 {
                        let key = "c\(client)-\(random.below(5))"
                        if random.below(4) == 0 {
                            _ = try await store.delete(key)
                            known.objects.withLock { $0[key] = nil }
                        } else {
                            // Out of a small pool: uploads meet copies that are just going.
                            let bytes = Self.content(random.below(8) + 100)
                            try await store.put(key, bytes)
                            known.objects.withLock { $0[key] = bytes }
                        }
                    }
                }
            }
            group.addTask {
                var random = SeededGenerator(seed: seed &+ 99)
                for _ in 0..<6 {
                    let index = random.below(2)
                    try await Self.set(random.below(2) == 0 ? .draining : .active, of: index, store)
                    try await Task.sleep(for: .milliseconds(random.below(60)))
                }
            }
            group.addTask {
                for _ in 0..<12 {
                    var options = Self.options
                    options.policy.sealsAtDeadBytes = 1
                    _ = try await store.replicator.collectGarbage(options)
                }
            }
            try await group.waitForAll()
        }
        let expected = known.objects.withLock { $0 }
        _ = try await Self.collect(engine)
        _ = try await Self.collect(engine)
        try await Self.expectExactlyPlaced(engine, "seed \(seed)")
        #expect(try await engine.objects.verify(repair: false).findingCount == 0, "seed \(seed)")
        await engine.close()
        fixture.take(engine, after: .dropped)
        for away in [0, 3, 4] {
            engine = try await fixture.open((0..<5).filter { $0 != away }, maintained: false)
            for (key, bytes) in expected {
                let isRight = try await engine.get(key) == bytes
                #expect(isRight, "seed \(seed), \(key), without volume \(away + 1)")
            }
            await engine.close()
        }
    }
}
