import BlobVolume
import Catalog
import CatalogSQLite
import ContentHashing
import ObjectService
import StoreModel
import StoreTestKit
import Testing

@testable import Replication

/// Volumes that fail, fill up, hang or rot while the store is in use.
@Suite(.serialized, .timeLimit(.minutes(3))) struct EngineFailureTests {
    private func filled(_ fixture: EngineFixture) async throws -> Engine {
        let engine = try await fixture.open()
        try await engine.makeBucket()
        try await engine.put("before", randomBytes(2000, seed: 1))
        try await engine.put("before-large", randomBytes(300_000, seed: 2))
        // The slowest volume has it too.
        #expect(await engine.eventually { engine.isWhole })
        return engine
    }

    private func checkOld(_ engine: Engine) async throws {
        #expect(try await engine.get("before") == randomBytes(2000, seed: 1))
        #expect(try await engine.get("before-large") == randomBytes(300_000, seed: 2))
    }

    // MARK: Failures

    @Test(arguments: [DiskOperation.write, .sync], [".log", ".bulk"])
    func aVolumeThatFailsOnceIsOutUntilItIsReopenedAndRebuilt(_ operation: DiskOperation, _ file: String)
        async throws
    {
        let fixture = try EngineFixture()
        var engine = try await filled(fixture)
        engine.disk(2).add(FaultRule(.inputOutputError, on: [operation], nameContains: file))
        for number in 0..<6 {
            try await engine.put("small\(number)", randomBytes(500, seed: 10 + UInt64(number)))
            try await engine.put("large\(number)", randomBytes(200_000, seed: 20 + UInt64(number)))
        }
        let failed = engine
        #expect(await engine.eventually { failed.replicator.volumes.problem(at: 2) != nil })
        let isRecorded = await engine.eventually {
            [0, 1].allSatisfy { failed.volumes[$0]?.identity.failed[fixture.ids[2]] != nil }
        }
        #expect(isRecorded)
        #expect(await engine.eventually { failed.replicator.replicatorStatus().wholeCount == 2 })
        try await checkOld(engine)
        await engine.close()
        fixture.take(engine)

        engine = try await fixture.open()
        let reopened = engine
        #expect(await engine.eventually { reopened.isWhole })
        let isForgotten = await engine.eventually {
            [0, 1].allSatisfy { reopened.volumes[$0]?.identity.failed.isEmpty == true }
        }
        #expect(isForgotten)
        #expect(try await engine.objects.verify(repair: false).findingCount == 0)
        await engine.close()
        fixture.take(engine)
        // What was rebuilt carries the store.
        engine = try await fixture.open([1, 2])
        try await checkOld(engine)
        for number in 0..<6 {
            #expect(try await engine.get("small\(number)") == randomBytes(500, seed: 10 + UInt64(number)))
            #expect(try await engine.get("large\(number)") == randomBytes(200_000, seed: 20 + UInt64(number)))
        }
        await engine.close()
    }

    @Test func aReadErrorIsCoveredRecordedAndRepaired() async throws {
        let fixture = try EngineFixture()
        let engine = try await filled(fixture)
        for index in 0..<2 {
            engine.disk(index).add(
                FaultRule(.inputOutputError, on: [.read], nameContains: ".bulk", hitCount: 3)
            )
        }
        let isHit = try await engine.eventually {
            try await checkOld(engine)
            return engine.disk(0).firedCount + engine.disk(1).firedCount > 0
        }
        #expect(isHit)
        for index in 0..<2 { engine.disk(index).removeAllRules() }
        #expect(await engine.eventually { engine.replicator.replicatorStatus().repairs.waiting == 0 })
        #expect(engine.replicator.replicatorStatus().findings.isEmpty == false)
        #expect(try await engine.objects.verify(repair: false).findingCount == 0)
        #expect(engine.replicator.volumes.usableMask.count == 3)
        await engine.close()
    }

    @Test func withTwoVolumesFailedAWriteIsRefusedAtOnceAndReadsGoOn() async throws {
        let fixture = try EngineFixture()
        var engine = try await filled(fixture)
        for index in 1...2 {
            engine.disk(index).add(
                FaultRule(.inputOutputError, on: [.sync], nameContains: ".log", hitCount: nil)
            )
        }
        var codes: [StoreError.Code] = []
        var lastMessage = ""
        for number in 0..<4 {
            do {
                if number % 2 == 0 {
                    try await engine.put("lost\(number)", [UInt8(number)])
                } else {
                    _ = try await engine.delete("before")
                }
                Issue.record("a write was acknowledged by one volume")
            } catch let error as StoreError {
                codes.append(error.code)
                lastMessage = error.description
            }
        }
        // Whoever waits for the commit's deadline is told that the outcome is unknown.
        #expect(codes.first == .outcomeUnknown)
        #expect(codes.dropFirst().allSatisfy { $0 == .notEnoughReplicas })
        #expect(lastMessage.contains("volume 2") && lastMessage.contains("volume 3"))
        try await checkOld(engine)
        await #expect(throws: StoreError.self) { _ = try await engine.replicator.takeSnapshot() }
        await engine.close()
        fixture.take(engine)
        engine = try await fixture.open()
        try await checkOld(engine)
        // Refused for certain: nothing of it may ever show.
        await #expect(throws: StoreError.self) { try await engine.get("lost2") }
        try await engine.put("after", [9])
        let reopened = engine
        #expect(await engine.eventually { reopened.isWhole })
        await engine.close()
    }

    /// Both disks answer every change with an error, so that neither volume can note its own failure: the third one's word
    /// is all there is. Nothing that was acknowledged is lost, and the store opens again.
    @Test(arguments: [[DiskOperation.write], [.sync], [.write, .sync]])
    func twoVolumesThatCouldNotNoteTheirFailureAreOpenedAgain(failing: Set<DiskOperation>) async throws {
        let fixture = try EngineFixture()
        var engine = try await filled(fixture)
        var acked: [Int] = []
        for number in 0..<5 {
            try await engine.put(
                "a\(number)",
                randomBytes(number % 2 == 0 ? 300 : 150_000, seed: UInt64(number))
            )
            acked.append(number)
        }
        for index in 1...2 {
            engine.disk(index).add(FaultRule(.inputOutputError, on: failing, hitCount: nil))
        }
        for number in 0..<3 {
            await #expect(throws: StoreError.self) { try await engine.put("lost\(number)", [UInt8(number)]) }
        }
        await engine.close()
        fixture.take(engine)
        engine = try await fixture.open()
        try await checkOld(engine)
        for number in acked {
            let bytes = randomBytes(number % 2 == 0 ? 300 : 150_000, seed: UInt64(number))
            #expect(try await engine.get("a\(number)") == bytes)
        }
        try await engine.put("after", [9])
        let reopened = engine
        #expect(await engine.eventually { reopened.isWhole })
        #expect(try await engine.objects.verify(repair: false).findingCount == 0)
        await engine.close()
    }

    @Test func manyWritersAreAllAnsweredWhenTheQuorumIsLost() async throws {
        let fixture = try EngineFixture()
        var engine = try await filled(fixture)
        for index in 1...2 {
            engine.disk(index).add(
                FaultRule(
                    .inputOutputError,
                    on: [.sync],
                    nameContains: "segments",
                    skipCount: 3 + index,
                    hitCount: nil
                )
            )
        }
        let held = engine
        let acked = await withTaskGroup(of: Int?.self) { group in
            for number in 0..<200 {
                group.addTask {
                    let bytes = randomBytes(number % 10 == 0 ? 140_000 : 300, seed: 100 + UInt64(number))
                    return (try? await held.put("w\(number)", bytes)) == nil ? nil : number
                }
            }
            return await group.reduce(into: [Int]()) { if let number = $1 { $0.append(number) } }
        }
        await engine.close()
        fixture.take(engine)
        engine = try await fixture.open()
        for number in acked {
            let bytes = randomBytes(number % 10 == 0 ? 140_000 : 300, seed: 100 + UInt64(number))
            #expect(try await engine.get("w\(number)") == bytes)
        }
        await engine.close()
    }

    // MARK: Full volumes

    @Test func aFullVolumeIsCaughtUpOnceThereIsRoom() async throws {
        let fixture = try EngineFixture()
        let engine = try await filled(fixture)
        engine.disk(2).setFreeBytes(0)
        for number in 0..<5 {
            try await engine.put("s\(number)", randomBytes(40_000, seed: 30 + UInt64(number)))
            try await engine.put("l\(number)", randomBytes(200_000, seed: 40 + UInt64(number)))
        }
        #expect(engine.replicator.volumes.problem(at: 2) == nil)
        #expect(await engine.eventually { engine.replicator.replicatorStatus().wholeCount == 2 })
        engine.disk(2).setFreeBytes(nil)
        #expect(await engine.eventually { engine.isWhole })
        #expect(try await engine.objects.verify(repair: false).findingCount == 0)
        await engine.close()
    }

    @Test func onAFullStoreDeletesWorkAndNothingIsLost() async throws {
        let fixture = try EngineFixture()
        let engine = try await filled(fixture)
        for index in 0..<3 { engine.disk(index).setFreeBytes(0) }
        for number in 0..<2 {
            do {
                try await engine.put("big\(number)", randomBytes(250_000, seed: 50))
                Issue.record("a put was acknowledged without room")
            } catch let error as StoreError {
                #expect(error.code == .storeFull, "\(error)")
            }
        }
        do {
            try await engine.put("small", [1])
            Issue.record("a put was acknowledged without room")
        } catch let error as StoreError {
            #expect(error.code == .storeFull, "\(error)")
        }
        try await checkOld(engine)
        _ = try await engine.delete("before")
        await #expect(throws: StoreError.self) { try await engine.get("before") }
        for index in 0..<3 { engine.disk(index).setFreeBytes(nil) }
        let isOpenAgain = await engine.eventually { (try? await engine.put("small", [1])) != nil }
        #expect(isOpenAgain)
        #expect(engine.replicator.volumes.usableMask.count == 3)
        await engine.close()
    }

    @Test func whenVolumesFillUpUnderLoadWhatWasAcknowledgedStays() async throws {
        let fixture = try EngineFixture()
        let engine = try await filled(fixture)
        for index in 1...2 { engine.disk(index).setFreeBytes(UInt64(1_500_000 + index * 400_000)) }
        let acked = await withTaskGroup(of: Int?.self) { group in
            for number in 0..<150 {
                group.addTask {
                    let bytes = randomBytes(number % 3 == 0 ? 150_000 : 60_000, seed: 300 + UInt64(number))
                    do {
                        try await engine.put("f\(number)", bytes)
                        return number
                    } catch let error as StoreError {
                        #expect(error.code == .storeFull || error.code == .outcomeUnknown, "\(error)")
                    } catch {
                        Issue.record("\(error)")
                    }
                    return nil
                }
            }
            return await group.reduce(into: [Int]()) { if let number = $1 { $0.append(number) } }
        }
        #expect(acked.count < 150)
        #expect(engine.replicator.volumes.usableMask.count == 3)
        for index in 1...2 { engine.disk(index).setFreeBytes(nil) }
        #expect(await engine.eventually { engine.isWhole })
        for number in acked {
            let bytes = randomBytes(number % 3 == 0 ? 150_000 : 60_000, seed: 300 + UInt64(number))
            let isRight = try await engine.get("f\(number)") == bytes
            #expect(isRight)
        }
        #expect(try await engine.objects.verify(repair: false).findingCount == 0)
        await engine.close()
    }

    // MARK: Opening and the index

    @Test(arguments: [[2], [1, 2], [0, 1, 2]], [0, 1, 3, 5])
    func volumesThatFailWhileTheLogIsRecoveredNeverHangTheOpening(_ failing: [Int], _ skipCount: Int)
        async throws
    {
        let fixture = try EngineFixture()
        var engine = try await filled(fixture)
        await engine.close()
        fixture.take(engine)
        do {
            engine = try await fixture.open { index, disk in
                guard failing.contains(index) else { return }
                disk.add(FaultRule(.inputOutputError, on: [.write], skipCount: skipCount, hitCount: nil))
            }
            if failing.count == 1 { try await engine.put("during", [1]) }
            try await checkOld(engine)
            await engine.close()
            fixture.take(engine)
        } catch let error as StoreError {
            #expect(failing.count > 1, "\(error)")
            #expect(error.code == .notEnoughReplicas || error.code == .catalogUnavailable, "\(error)")
        }
        engine = try await fixture.open()
        try await checkOld(engine)
        try await engine.put("after", [2])
        let reopened = engine
        #expect(await engine.eventually { reopened.isWhole })
        await engine.close()
    }

    /// The newest batch is on two volumes, and they begin to fail reads at some moment of the opening. Nothing is damaged.
    @Test(arguments: 0..<3)
    func volumesWhoseReadsFailWhileTheLogIsRecoveredAreMissedNotDamaged(_ skipCount: Int) async throws {
        let fixture = try EngineFixture()
        var engine = try await filled(fixture)
        let behind = try #require(engine.disks[2])
        behind.faulty.add(FaultRule(.inputOutputError, on: [.write], hitCount: nil))
        try await engine.put("behind", [3])
        await engine.close()
        fixture.take(engine)
        do {
            engine = try await fixture.open { index, disk in
                guard index < 2 else { return }
                disk.add(FaultRule(.inputOutputError, on: [.read], skipCount: skipCount, hitCount: nil))
            }
            await engine.close()
            fixture.take(engine)
        } catch let error as StoreError {
            #expect(error.code == .notEnoughReplicas, "\(error)")
            #expect(error.message.hasPrefix("The store can't be opened"), "\(error)")
        }
        engine = try await fixture.open()
        try await checkOld(engine)
        #expect(try await engine.get("behind") == [3])
        await engine.close()
    }

    @Test func whenTheIndexFailsEverybodyIsAnsweredAndNothingIsLost() async throws {
        let fixture = try EngineFixture()
        var engine = try await filled(fixture)
        let held = engine
        let acked = await withTaskGroup(of: Int?.self) { group in
            for number in 0..<100 {
                group.addTask {
                    if number == 40 { try? held.catalog.close() }
                    return (try? await held.put("i\(number)", [UInt8(number)])) == nil ? nil : number
                }
            }
            return await group.reduce(into: [Int]()) { if let number = $1 { $0.append(number) } }
        }
        await #expect(throws: StoreError.self) { try await held.get("before") }
        await engine.close()
        fixture.take(engine)
        engine = try await fixture.open()
        for number in acked { #expect(try await engine.get("i\(number)") == [UInt8(number)]) }
        try await checkOld(engine)
        await engine.close()
    }

    // MARK: Hanging volumes

    /// Longer than a test may take: one that waits for a held call fails by its time limit, one that does not wait passes
    /// however slow the machine is.
    private static let gateDeadline: Duration = .seconds(1000)

    @Test func aVolumeWhoseQueueOverflowedTakesPartAgainWhenItGoesOn() async throws {
        let fixture = try EngineFixture()
        let engine = try await filled(fixture)
        let gate = FaultGate(deadline: Self.gateDeadline)
        defer { gate.open() }
        engine.disk(0).add(FaultRule(.hold(gate), on: [.write], hitCount: nil))
        await withTaskGroup(of: Void.self) { group in
            for number in 0..<400 {
                group.addTask {
                    do {
                        try await engine.put("q\(number)", randomBytes(120_000, seed: 900 + UInt64(number)))
                    } catch {
                        Issue.record("\(error)")
                    }
                }
            }
        }
        gate.open()
        #expect(await engine.eventually(within: .seconds(30)) { engine.isWhole })
        #expect(engine.volumes[1]?.identity.failed.isEmpty == true)
        await engine.close()
    }

    /// Nobody catches up here: what the volume has afterwards it was sent.
    @Test func aVolumeThatLagsGetsEveryBatchWhole() async throws {
        let fixture = try EngineFixture()
        let engine = try await fixture.open(maintained: false)
        try await engine.makeBucket()
        let gate = FaultGate(deadline: Self.gateDeadline)
        defer { gate.open() }
        engine.disk(0).add(FaultRule(.hold(gate), on: [.write, .sync], hitCount: nil))
        // More batches than may be on their way to one volume.
        let contents = (0..<30).map { randomBytes(600, seed: 1900 + UInt64($0)) }
        for (number, content) in contents.enumerated() { try await engine.put("n\(number)", content) }
        #expect(gate.heldCount > 0)
        gate.open()
        #expect(await engine.eventually { engine.isWhole })
        let replica = try #require(engine.replicator.volumes.slots[0].replica)
        for content in contents { #expect(replica.presence(of: SHA256Hasher.hash(content)) != .absent) }
        await engine.close()
    }

    @Test func aVolumeThatHangsOnReadsDelaysNobodyForLong() async throws {
        let fixture = try EngineFixture()
        let engine = try await filled(fixture)
        let gate = FaultGate(deadline: Self.gateDeadline)
        defer { gate.open() }
        engine.disk(0).add(FaultRule(.hold(gate), on: [.read], hitCount: nil))
        for _ in 0..<9 { try await checkOld(engine) }
        // An upload of content that is there already looks at the copies.
        try await engine.put("same", randomBytes(300_000, seed: 2))
        try await engine.put("new", randomBytes(300_000, seed: 3))
        #expect(gate.heldCount > 0)
        await engine.close(deadline: .seconds(1))
    }

    @Test func aVolumeThatHangsOnWritesHoldsUpNeitherPutsNorClosing() async throws {
        let fixture = try EngineFixture()
        var engine = try await filled(fixture)
        let gate = FaultGate(deadline: Self.gateDeadline)
        defer { gate.open() }
        engine.disk(0).add(FaultRule(.hold(gate), on: [.write, .sync], hitCount: nil))
        for number in 0..<20 {
            try await engine.put("n\(number)", randomBytes(600, seed: 60 + UInt64(number)))
        }
        try await engine.put("large", randomBytes(400_000, seed: 90))
        _ = try await engine.delete("n0")
        let held = engine
        #expect(await engine.eventually { held.replicator.replicatorStatus().wholeCount == 2 })
        await engine.close(deadline: .seconds(1))
        engine.trip.kill()
        gate.open()
        fixture.take(engine, after: .killOnly)
        engine = try await fixture.open()
        let reopened = engine
        #expect(await engine.eventually { reopened.isWhole })
        #expect(try await engine.get("n19") == randomBytes(600, seed: 79))
        #expect(try await engine.get("large") == randomBytes(400_000, seed: 90))
        await engine.close()
    }

    // MARK: Rot

    /// Flips a bit inside the payload, on some volumes.
    private func rot(_ bytes: [UInt8], on volumes: [Int], _ engine: Engine) throws {
        for index in volumes {
            guard let disk = engine.disks[index]?.crash else { continue }
            let found = disk.image.find(bytes)
            let place = try #require(found)
            disk.flip(place.name, offset: place.offset + 7, bit: 3)
        }
    }

    @Test(arguments: [[0], [1, 2]])
    func rottenCopiesAreNeverServedAndAreRepaired(_ rotten: [Int]) async throws {
        let fixture = try EngineFixture()
        var engine = try await filled(fixture)
        let small = randomBytes(2000, seed: 1)
        let large = randomBytes(300_000, seed: 2)
        try rot(small, on: rotten, engine)
        try rot(Array(large[..<4096]), on: rotten, engine)
        for _ in 0..<6 { try await checkOld(engine) }
        let held = engine
        #expect(await engine.eventually { held.replicator.replicatorStatus().repairs.waiting == 0 })
        let findings = engine.replicator.replicatorStatus().findings
        #expect(!findings.isEmpty)
        let areRepaired = findings.allSatisfy { if case .repaired = $0.outcome { true } else { false } }
        #expect(areRepaired)
        // Reads may have kept to the good copies of the rest.
        let report = try await engine.objects.verify(repair: true)
        #expect(findings.count + Int(report.repairedCount) == 2 * rotten.count)
        #expect(try await engine.objects.verify(repair: false).findingCount == 0)
        for index in rotten {
            let names = engine.disks[index]?.crash.image.fileNames ?? []
            #expect(names.count { $0.hasPrefix("quarantine/") } == 2)
        }
        await engine.close()
        fixture.take(engine)
        engine = try await fixture.open()
        try await checkOld(engine)
        #expect(try await engine.objects.verify(repair: false).findingCount == 0)
        await engine.close()
    }

    @Test func whatRottedEverywhereIsAnErrorAndNeverWrongBytes() async throws {
        let fixture = try EngineFixture()
        let engine = try await filled(fixture)
        try rot(randomBytes(2000, seed: 1), on: [0, 1, 2], engine)
        do {
            _ = try await engine.get("before")
            Issue.record("rotten bytes were served")
        } catch let error as StoreError {
            #expect(error.code == .dataUnavailable, "\(error)")
        }
        #expect(try await engine.get("before-large") == randomBytes(300_000, seed: 2))
        #expect(await engine.eventually { engine.replicator.replicatorStatus().repairs.waiting == 0 })
        let report = try await engine.objects.verify(repair: true)
        #expect(report.lostVersionCount == 1)
        // An upload of the same content heals it.
        try await engine.put("again", randomBytes(2000, seed: 1))
        #expect(try await engine.get("before") == randomBytes(2000, seed: 1))
        await engine.close()
    }
}
