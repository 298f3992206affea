import BlobVolume
import Catalog
import ContentHashing
import ObjectService
import StoreModel
import StoreTestKit
import Synchronization
import Testing

@testable import Replication

/// Answers and batches that come to a volume after something has happened to it.
@Suite(.serialized, .timeLimit(.minutes(3))) struct LateAnswerTests {
    private func opened(_ fixture: EngineFixture) async throws -> Engine {
        let engine = try await fixture.open(maintained: false)
        try await engine.makeBucket()
        try await engine.put("before", randomBytes(2000, seed: 1))
        #expect(await engine.eventually { !engine.replicator.pipeline.isBusy })
        return engine
    }

    /// Whether the last batch is known to be whole on the third volume, once those in front of it are.
    private func isLastWhole(_ engine: Engine) async throws -> Bool {
        let volume = try #require(engine.volumes[2])
        let last = engine.replicator.pipeline.committedSequence
        #expect(await engine.eventually { !engine.replicator.pipeline.isBusy })
        #expect(volume.logTail.sequence == last)
        if volume.completeSequence < last { volume.setComplete(through: last - 1) }
        return volume.completeSequence == last
    }

    @Test(arguments: [false, true]) func aBatchOnItsWayWhileAVolumeLosesSomethingIsNotWhole(isLoss: Bool)
        async throws
    {
        let engine = try await opened(try EngineFixture())
        let gate = FaultGate(deadline: .seconds(100))
        defer { gate.open() }
        engine.disk(2).add(FaultRule(.hold(gate), on: [.write], nameContains: ".log"))
        let put = Task { try await engine.put("new", randomBytes(1500, seed: 2)) }
        #expect(await gate.holding())
        if isLoss { engine.volumes[2]?.setComplete(through: 0) }
        gate.open()
        _ = try await put.value
        #expect(try await isLastWhole(engine) == !isLoss)
        await engine.close()
    }

    @Test(arguments: [false, true])
    func aChunkThatWasWrittenBeforeAVolumeLostSomethingIsNotWhole(isLoss: Bool) async throws {
        let engine = try await opened(try EngineFixture())
        let bytes = randomBytes(1500, seed: 3)
        let record = PayloadRecord(digest: SHA256Hasher.hash(bytes), bytes: bytes)
        let receipt = try await engine.replicator.write(record, waitsForCommit: false)
        #expect(await engine.eventually { receipt.holders.count == 3 })
        if isLoss { engine.volumes[2]?.setComplete(through: 0) }
        _ = try await engine.replicator.commit(
            .documents([DocumentWrite(space: .job, key: [1], body: [2])]),
            operation: OperationID.random(from: SeededRandom(seed: 4)),
            chunks: [receipt]
        )
        #expect(try await isLastWhole(engine) == !isLoss)
        await engine.close()
    }

    /// A copy that was written before its volume lost something, or was opened again, may be gone: it makes no quorum.
    @Test(arguments: [(2000, 0), (300_000, 0), (2000, 1), (2000, 2), (300_000, 1), (300_000, 2)])
    func whatVolumesHadBeforeTheyLostSomethingIsNoQuorum(size: Int, lossCount: Int) async throws {
        let engine = try await opened(try EngineFixture())
        let bytes = randomBytes(size, seed: 5)
        let record = PayloadRecord(digest: SHA256Hasher.hash(bytes), bytes: bytes)
        let receipt = try await engine.replicator.write(record, waitsForCommit: false)
        #expect(await engine.eventually { receipt.holders.count == 3 })
        // For a new layout volumes are compared although they lost nothing.
        for index in 0..<2 { engine.volumes[index]?.setComplete(through: 0) }
        for index in 0..<lossCount { engine.volumes[index]?.notePayloadLoss() }
        func commit(_ receipt: ChunkWrite) async throws {
            _ = try await engine.replicator.commit(
                .documents([DocumentWrite(space: .job, key: [1], body: [2])]),
                operation: OperationID.random(from: SeededRandom(seed: UInt64(size + lossCount))),
                chunks: [receipt]
            )
        }
        if lossCount < 2 {
            try await commit(receipt)
        } else {
            let error = await #expect(throws: StoreError.self) { try await commit(receipt) }
            #expect(error?.code == .notEnoughReplicas, "\(String(describing: error))")
            // The same once more finds what is there, or writes it.
            try await commit(try await engine.replicator.write(record, waitsForCommit: false))
        }
        await engine.close()
    }

    /// A call hangs on a volume that vanishes; it is back, as another replica, when the call fails.
    @Test func theLateFailureOfAVolumeThatWasReplacedDoesNotFailItsSuccessor() async throws {
        let fixture = try EngineFixture()
        let id = fixture.ids[2]
        let isGone = Atomic(false)
        let image = Mutex<DiskImage?>(nil)
        var options = fixture.options
        options.expectedVolume = id
        let opening = options
        let engine = try await fixture.open(
            opener: { index in
                guard index == 2, let image = image.withLock({ $0 }) else {
                    return .failure(VolumeError(.identityMissing, "It is away still.", path: "volume"))
                }
                do throws(VolumeError) {
                    let volume = try BlobVolume.open(CrashDisk(image, label: "volume 3"), options: opening)
                    return .success(LocalReplica(volume, label: "volume 3"))
                } catch {
                    return .failure(error)
                }
            },
            inspector: { volume in
                guard volume == id, isGone.load(ordering: .acquiring) else { return nil }
                return VolumeError(.identityMissing, "It is away.", path: "volume")
            }
        )
        try await engine.makeBucket()
        try await engine.put("before", randomBytes(2000, seed: 1))
        #expect(await engine.eventually { engine.isWhole })
        let replicator = engine.replicator
        let before = try #require(replicator.volumes.slots[2].replica)
        let gate = FaultGate(deadline: .seconds(100))
        defer { gate.open() }
        engine.disk(2).add(FaultRule(.hold(gate), on: [.write], nameContains: ".log"))
        try await engine.put("held", randomBytes(1500, seed: 2))
        #expect(await gate.holding())
        engine.disk(2).add(FaultRule(.inputOutputError, on: [.sync], nameContains: ".log", hitCount: nil))
        let crash = try #require(engine.disks[2]).crash
        isGone.store(true, ordering: .releasing)
        #expect(await replicator.inspect(2))
        isGone.store(false, ordering: .releasing)
        image.withLock { $0 = crash.image.restarted(after: .kept) }
        #expect(
            await engine.eventually {
                replicator.volumes.usableReplica(2) != nil && replicator.replicatorStatus().wholeCount == 3
            }
        )
        let successor = try #require(replicator.volumes.slots[2].replica)
        #expect(successor !== before)
        let life = incarnation(of: id, engine)
        gate.open()
        // The call that hung has ended.
        #expect(await engine.eventually { !replicator.pipeline.isBusy })
        #expect(before.hasFailed)
        #expect(life != nil && incarnation(of: id, engine) == life)
        #expect(replicator.volumes.slots[2].replica === successor && replicator.volumes.problem(at: 2) == nil)
        try await engine.put("after", randomBytes(1500, seed: 3))
        #expect(await engine.eventually { replicator.replicatorStatus().wholeCount == 3 })
        #expect(try await engine.objects.verify(repair: false).findingCount == 0)
        await engine.close()
    }

    /// A batch is asked of a volume once more in its next life; the answer of the earlier one does not end that.
    @Test(arguments: [false, true])
    func theLateAnswerOfAnEarlierLifeIsNotTakenForThePresentOne(isSuperseded: Bool) async throws {
        let engine = try await opened(try EngineFixture())
        let pipeline = engine.replicator.pipeline
        let id = engine.replicator.volumes.slots[2].id
        let gate = FaultGate(deadline: .seconds(100))
        defer { gate.open() }
        engine.disk(2).add(FaultRule(.hold(gate), on: [.write], nameContains: ".log"))
        try await engine.put("held", randomBytes(1500, seed: 2))
        #expect(await gate.holding())
        let position = try #require(engine.volumes[0]).logTail
        let life = try #require(incarnation(of: id, engine))
        #expect(pipeline.isOnItsWay(position.sequence, to: 2))
        pipeline.withState { $0.actionsInFlight += 1 }
        pipeline.leave(
            CommitPipeline.Acknowledgement(
                position: position,
                index: 2,
                incarnation: isSuperseded ? life - 1 : life,
                hasPayloads: true
            )
        )
        #expect(pipeline.isOnItsWay(position.sequence, to: 2) == isSuperseded)
        gate.open()
        #expect(await engine.eventually { !pipeline.isOnItsWay(position.sequence, to: 2) })
        await engine.close()
    }

    private func incarnation(of id: VolumeID, _ engine: Engine) -> UInt64? {
        engine.replicator.pipeline.withState { state in
            state.machine.volumes.first { $0.id == id && $0.isUp }?.incarnation
        }
    }
}
