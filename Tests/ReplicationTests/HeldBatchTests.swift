import BlobVolume
import ContentHashing
import ObjectService
import StoreModel
import StoreTestKit
import Testing

@testable import Replication

/// A batch that the next opening may find on one volume only has its small payloads there as well.
@Suite(.serialized, .timeLimit(.minutes(3))) struct HeldBatchTests {
    private static let content = randomBytes(1500, seed: 2)
    private static let digest = SHA256Hasher.hash(content)

    private func opened(_ fixture: EngineFixture) async throws -> Engine {
        let engine = try await fixture.open()
        try await engine.makeBucket()
        try await engine.put("before", randomBytes(2000, seed: 1))
        #expect(await engine.eventually { engine.isWhole })
        return engine
    }

    /// Volume 3 takes no payloads any more.
    private func takeRoom(_ engine: Engine) async throws {
        engine.disk(2).setFreeBytes(0)
        for number in 0..<50 where engine.replicator.volumes.acceptsPayloads(2) {
            try await engine.put("fill\(number)", randomBytes(300_000, seed: 10 + UInt64(number)))
        }
        #expect(!engine.replicator.volumes.acceptsPayloads(2))
    }

    /// The log writes of the volumes that get the payload are under way while the power fails: what the third one has is kept,
    /// of what they have nothing.
    private func putAndLosePower(_ engine: Engine, _ fixture: EngineFixture, writers: [Int], other: Int)
        async throws
    {
        let gate = FaultGate(deadline: .seconds(100))
        defer { gate.open() }
        for index in writers {
            engine.disk(index).add(FaultRule(.hold(gate), on: [.write], nameContains: ".log", hitCount: nil))
        }
        let tail = try #require(engine.volumes[other]).logTail
        let put = Task { try await engine.put("new", Self.content) }
        #expect(await gate.holding(writers.count))
        // It would be there by now.
        try await Task.sleep(for: .milliseconds(100))
        let hasPayload = engine.volumes[other]?.indexedPresence(of: Self.digest) != .absent
        #expect(engine.volumes[other]?.logTail == tail || hasPayload)
        var images: [Int: DiskImage] = [:]
        for (index, disk) in engine.disks {
            images[index] = disk.crash.image.restarted(after: index == other ? .kept : .dropped)
        }
        gate.open()
        _ = try await put.value
        // With the batch on a quorum it goes to the others too.
        #expect(
            await engine.eventually { engine.volumes[other]?.logTail == engine.volumes[writers[0]]?.logTail }
        )
        #expect(try await engine.get("new") == Self.content)
        await engine.close()
        for (index, image) in images { fixture.take(image, of: index) }
    }

    private func checkNothingIsHalfThere(_ fixture: EngineFixture) async throws {
        let engine = try await fixture.open()
        #expect(await engine.eventually { engine.isWhole })
        #expect(try await engine.get("before") == randomBytes(2000, seed: 1))
        do {
            // With all of it, or not at all.
            #expect(try await engine.get("new") == Self.content)
        } catch let error as StoreError {
            #expect(error.code == .noSuchKey)
        }
        #expect(try await engine.objects.verify(repair: false).findingCount == 0)
        await engine.close()
    }

    @Test func aVolumeOutsideTheLogSetGetsABatchWhenItIsCommitted() async throws {
        let fixture = try EngineFixture(volumeCount: 4)
        let engine = try await opened(fixture)
        try await putAndLosePower(engine, fixture, writers: [0, 1, 2], other: 3)
        try await checkNothingIsHalfThere(fixture)
    }

    @Test func aMemberWithoutRoomGetsABatchWhenItIsCommitted() async throws {
        let fixture = try EngineFixture()
        let engine = try await opened(fixture)
        try await takeRoom(engine)
        await engine.replicator.quiesce(within: .seconds(10))
        try await putAndLosePower(engine, fixture, writers: [0, 1], other: 2)
        try await checkNothingIsHalfThere(fixture)
    }

    /// Where a quorum can't be had without the volume that has no room, it is not waited for.
    @Test func withAVolumeFailedAMemberWithoutRoomIsToldAtOnce() async throws {
        let fixture = try EngineFixture()
        let engine = try await opened(fixture)
        try await takeRoom(engine)
        let gate = FaultGate(deadline: .seconds(100))
        defer { gate.open() }
        engine.disk(1).add(FaultRule(.hold(gate), on: [.write], nameContains: ".log"))
        let put = Task { try await engine.put("new", Self.content) }
        #expect(await gate.holding())
        engine.disk(1).add(FaultRule(.inputOutputError, on: [.sync], nameContains: ".log", hitCount: nil))
        gate.open()
        do {
            // It may have had room in the segment that is open.
            _ = try await put.value
            #expect(try await engine.get("new") == Self.content)
        } catch let error as StoreError {
            #expect(error.code == .outcomeUnknown)
        }
        // What needs no copies goes on.
        _ = try await engine.delete("before")
        #expect(await engine.eventually { engine.volumes[2]?.logTail == engine.volumes[0]?.logTail })
        await engine.close()
    }
}
