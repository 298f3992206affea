import BlobVolume
import StoreModel
import StoreTestKit
import Synchronization

@testable import Replication

/// What chance rarely leads to: beginnings of a simulated life, one for some of the seeds. Each ends with the store open, and
/// with at most one volume harmed; then life goes on as in other seeds.
extension EngineSimulation {
    func beginWithAStory() async throws {
        var chance = SeededGenerator(seed: world.seed &+ 7)
        switch world.seed % 8 {
        case 1, 5: try await loseAVolumeBehindTheLog()
        case 2: try await comeLate(&chance)
        case 3: try await loseCopiesBeforeTheDecision(&chance)
        case 4: try await failASync(&chance)
        case 6: try await tearTheLog(&chance)
        default: break
        }
    }

    /// Writes side by side, each to a key of its own, begun one after the other.
    private func putMany(_ engine: Engine, _ sizes: [Int], after pause: Duration, _ story: String) async {
        let life = self.life
        let seeds = sizes.map { _ in random.next() }
        await withTaskGroup(of: Void.self) { group in
            for (number, size) in sizes.enumerated() {
                group.addTask {
                    await self.pause(pause * number)
                    guard self.life == life else { return }
                    let bytes = randomBytes(size, seed: seeds[number])
                    self.time += 1
                    await self.put(
                        engine,
                        "\(story)\(life)-\(number)",
                        self.time,
                        life,
                        self.freshContent(bytes),
                        bytes
                    )
                }
            }
        }
    }

    /// A volume appears while the store is open and clients are at it: it is out until its log is known, and then takes part.
    private func comeLate(_ chance: inout SeededGenerator) async throws {
        await endProcess()
        let index = chance.below(fixture.ids.count)
        harmed = index
        harm = "away"
        count("a volume that comes late")
        let isThere = Mutex(false)
        let (opener, disk) = fixture.arrival(of: index) { isThere.withLock { $0 } }
        let late = try await fixture.open(
            fixture.ids.indices.filter { $0 != index },
            index: indexName,
            opener: opener
        )
        engine = late
        await putMany(late, [900, 200_000, 40_000], after: .milliseconds(2), "before")
        isThere.withLock { $0 = true }
        await putMany(late, [900, 200_000, 40_000], after: .seconds(2), "beside")
        let count = fixture.ids.count
        if !(await eventually(
            within: .seconds(120),
            { late.replicator.replicatorStatus().wholeCount == count }
        )) {
            fail("A volume that came late takes no part: \(late.replicator.replicatorStatus())")
        }
        await endProcess()
        fixture.take(disk.image, of: index)
        engine = try await fixture.open(index: indexName)
    }

    /// A volume fails after it got a chunk as one of two, and before the batch that would refer to it is decided: it takes its
    /// time, so that commits wait for its log, and the third volume takes longer still.
    private func loseCopiesBeforeTheDecision(_ chance: inout SeededGenerator) async throws {
        for file in [".bulk", ".log", ".bulk"] {
            guard let engine, harmed == nil else { return }
            // Two of those that carry the log.
            var carriers = engine.replicator.pipeline.logMask.indices.map { $0 }
            let index = carriers.remove(at: chance.below(carriers.count))
            guard let disk = engine.disks[index] else { return }
            harmed = index
            harm = "failing calls"
            count("copies lost before a decision")
            var pace = SimulatedWorld.Pace()
            pace.typical = .milliseconds(5)
            world.paces[index] = pace
            pace.typical = .milliseconds(300)
            world.paces[chance.pick(carriers)] = pace
            disk.faulty.add(
                FaultRule(.inputOutputError, on: [.sync], nameContains: file, skipCount: 3 + chance.below(3))
            )
            let sizes = (0..<24).map { $0 % 2 == 0 ? 200_000 : 900 }
            await putMany(engine, sizes, after: .milliseconds(1), "copies")
            await endProcess()
            let next = try await fixture.open(index: indexName)
            self.engine = next
            await heal(next, within: .seconds(60))
        }
    }

    /// An fsync of a log takes effect and says that it failed: the volume is opened without what it was to make durable.
    private func failASync(_ chance: inout SeededGenerator) async throws {
        guard let engine else { return }
        let index = chance.pick(engine.replicator.pipeline.logMask.indices.map { $0 })
        guard let disk = engine.disks[index] else { return }
        harmed = index
        harm = "failing calls"
        count("a failed fsync")
        disk.faulty.add(
            FaultRule(
                .failAfterwards(.inputOutput, number: 5),
                on: [.sync],
                nameContains: ".log",
                skipCount: chance.below(3)
            )
        )
        await putMany(engine, [900, 20_000, 900, 60_000, 900, 900], after: .milliseconds(5), "unsynced")
        await endProcess()
        self.engine = try await fixture.open(index: indexName)
    }

    /// The power fails while logs are written, and what was not synced is torn on every volume.
    private func tearTheLog(_ chance: inout SeededGenerator) async throws {
        for _ in 0..<2 {
            guard let engine else { return }
            let life = self.life
            let callCount = 2 + chance.below(8)
            async let isKilled: Void = kill(life, within: callCount, isTorn: true)
            await putMany(engine, [60_000, 60_000, 900, 40_000], after: .microseconds(100), "torn")
            await isKilled
            await endProcess()
            self.engine = try await fixture.open(index: indexName)
        }
    }
}
