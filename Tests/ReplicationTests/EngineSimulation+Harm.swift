import BlobVolume
import Catalog
import ObjectService
import StoreModel
import StoreTestKit

@testable import Replication

/// What is done to a simulated store, and how it is healed. The budget stands in `EngineSimulation`.
extension EngineSimulation {
    func count(_ name: String, _ amount: Int = 1) {
        outcome.harms[name, default: 0] += amount
        world.note(name)
    }

    static var garbageOptions: GarbageOptions {
        var options = GarbageOptions()
        options.grace = .zero
        options.settleTime = .zero
        options.policy.sealsAtDeadBytes = 1
        return options
    }

    /// Something happens beside the clients: harm, or work of upkeep.
    func upset() async {
        guard let engine else { return }
        let life = self.life
        if random.oneIn(3) { mirror?.upset(&random) }
        switch random.below(14) {
        case 0..<7: await harmOne(engine)
        case 7..<9:
            count("garbage")
            do {
                var options = Self.garbageOptions
                options.snapshotsAfterBatches = random.oneIn(3) ? 1 : 1 << 40
                async let wantedAgain: Void = writeAgain(engine, life)
                _ = try await engine.replicator.collectGarbage(options)
                await wantedAgain
            } catch {
                note(error, of: "garbage collection", life)
            }
        case 9:
            count("snapshot")
            do {
                _ = try await engine.replicator.takeSnapshot()
            } catch {
                note(error, of: "a snapshot", life)
            }
        case 10:
            count("clock jump")
            world.jumpWallClock(milliseconds: Int64(random.below(7_200_000)) - 3_600_000)
        case 11:
            count("verify")
            _ = try? await engine.objects.verify(repair: true)
        default:
            await heal(engine, within: .seconds(30))
        }
    }

    /// What is just being collected is wanted again.
    private func writeAgain(_ engine: Engine, _ life: Int) async {
        for _ in 0..<4 {
            await pause(.milliseconds(random.below(20)))
            await putAgain(engine, life)
        }
    }

    private func putFresh(_ engine: Engine, _ life: Int, sizes: [Int]) async {
        for size in sizes where self.life == life {
            let bytes = randomBytes(size, seed: random.next())
            await putFresh(engine, life, bytes)
        }
    }

    /// Snapshots let the log go; a volume that is lost then can't be caught up from it, and has to be filled.
    func loseAVolumeBehindTheLog() async throws {
        guard let engine else { return }
        for _ in 0..<3 {
            await putAgain(engine, life)
            _ = try await engine.put("before", Array("\(life)".utf8))
            _ = try await engine.replicator.takeSnapshot()
        }
        await endProcess()
        let index = random.below(fixture.ids.count)
        harmed = index
        harm = "lost"
        count("lost behind the log")
        try fixture.replaceVolume(index)
        self.engine = try await fixture.open(index: indexName)
    }

    private func note(_ error: any Error, of work: String, _ life: Int) {
        // Beside a harmed volume, and in a process that dies, upkeep may fail; otherwise it has to succeed.
        guard self.life == life, engine?.trip.isDead == false, harmed == nil,
            (error as? StoreError)?.code != .conflict
        else { return }
        fail("\(work), with no volume harmed: \(error)")
    }

    private func harmOne(_ engine: Engine) async {
        let life = self.life
        if harmed != nil { await heal(engine, within: .seconds(2)) }
        let index = random.below(fixture.ids.count)
        guard harmed == nil, let disk = engine.disks[index],
            await eventually(within: .seconds(1), { engine.isWhole || self.life != life }),
            self.life == life, harmed == nil, !engine.trip.isDead
        else { return }
        harmed = index
        switch random.below(6) {
        case 0:
            harm = "failing calls"
            let (fault, operations): (DiskFault, Set<DiskOperation>) =
                switch random.below(4) {
                case 0: (.inputOutputError, [.sync])
                case 1: (.inputOutputError, [.write, .create, .read])
                // Some of it is there all the same.
                case 2: (.failAfter(byteCount: 700, .inputOutput, number: 5), [.write])
                default: (.failAfterwards(.inputOutput, number: 5), [.sync])
                }
            disk.faulty.add(
                FaultRule(
                    fault,
                    on: operations,
                    skipCount: random.below(6),
                    hitCount: 1 + random.below(3)
                )
            )
            if random.oneIn(2) {
                var pace = SimulatedWorld.Pace()
                pace.typical = .milliseconds(60)
                world.paces[(index + 1 + random.below(2)) % fixture.ids.count] = pace
                await putFresh(engine, life, sizes: [900_000, 900_000])
            }
        case 1:
            harm = "a full disk"
            disk.faulty.setFreeBytes(UInt64(random.below(random.oneIn(2) ? 2_000 : 300_000)))
            // Until the segment that is open is full as well.
            if random.oneIn(2) { await putFresh(engine, life, sizes: [60_000, 60_000, 60_000, 60_000, 900]) }
        case 2:
            harm = "hanging"
            var pace = SimulatedWorld.Pace()
            pace.hangsUntil = world.nanoseconds + UInt64(random.below(40_000)) * 1_000_000
            world.paces[index] = pace
        case 3:
            harm = "slow"
            var pace = SimulatedWorld.Pace()
            pace.typical = .milliseconds(80)
            world.paces[index] = pace
        case 4:
            harm = "wrong reads"
            disk.faulty.add(FaultRule(.flip(bit: random.below(40_000)), on: [.read], hitCount: 4))
        default:
            harm = "flipped bits"
            flip(disk.crash)
        }
        count(harm)
    }

    private func flip(_ disk: CrashDisk) {
        let image = disk.image
        let names = image.fileNames.filter {
            // One of the two copies of the identity stays.
            $0 != "lock" && $0 != "volume.json.2" && (image.size(of: $0) ?? 0) > 0 && image.isSynced($0)
        }
        guard !names.isEmpty else { return }
        for _ in 0..<(1 + random.below(4)) {
            let name = random.pick(names)
            // Most of a log segment is zeros that were made ready.
            let written = (image.contents(of: name) ?? []).lastIndex { $0 != 0 } ?? 0
            disk.flip(name, offset: random.below(written + 1), bit: random.below(8))
        }
    }

    // MARK: Ends and beginnings

    /// The power fails, in the middle of what disks are doing; nothing that is answered from then on reaches a client.
    func kill(_ life: Int, within callCount: Int? = nil, isTorn: Bool = false) async {
        guard self.life == life, let engine else { return }
        wasWhole = harmed == nil && engine.isWhole
        engine.trip.arm(callCount ?? 1 + random.below(25))
        for _ in 0..<200 where !engine.trip.isDead { await pause(.milliseconds(1)) }
        engine.trip.kill()
        guard self.life == life else { return }
        self.life += 1
        outcome.crashCount += 1
        count("power cut")
        takeImages(engine, isTorn: isTorn)
        chooseIndex()
    }

    private func takeImages(_ engine: Engine, isTorn: Bool = false) {
        for index in engine.disks.keys.sorted() {
            guard let disk = engine.disks[index] else { continue }
            let mode: CrashMode =
                switch isTorn ? 6 : random.below(6) {
                case 0: .dropped
                case 1: .kept
                case 2: .killOnly
                default: .torn(seed: random.next())
                }
            fixture.images[index] = disk.crash.image.restarted(after: mode)
        }
    }

    /// The index of the next process: as it was in the moment of death, an older one, or none.
    private func chooseIndex() {
        let next = "catalog-\(life).sqlite"
        do {
            switch random.below(4) {
            case 0: count("index lost")
            case 1 where life > 1: try fixture.copyIndex(from: "old.sqlite", to: next)
            default: try fixture.copyIndex(from: indexName, to: next)
            }
            if random.oneIn(2) { try fixture.copyIndex(from: indexName, to: "old.sqlite") }
        } catch {
            fail("The index can't be copied: \(error)")
        }
        indexName = next
    }

    func close(_ engine: Engine) async {
        await engine.close()
        // A job that blocks has to come back before its engine goes.
        for _ in 0..<100 where world.depth > 0 { await pause(.milliseconds(100)) }
    }

    /// Ends the process, unless it has died.
    func endProcess() async {
        guard let engine else { return }
        let life = self.life
        let isDead = engine.trip.isDead
        world.paces = [:]
        if !isDead { wasWhole = harmed == nil && engine.isWhole }
        if let mirror, !(await mirror.stop()) { fail("The worker of the mirror does not end.") }
        await close(engine)
        self.engine = nil
        guard !isDead else { return }
        precondition(self.life == life, "Nobody else ends a process that nobody killed.")
        self.life += 1
        count("clean end")
        fixture.take(engine)
    }

    /// Starts the next process, perhaps without a volume, with an empty one, or dying while it opens.
    func startProcess() async throws {
        var present = Array(fixture.ids.indices)
        if harmed == nil, random.oneIn(4), wasWhole {
            let index = random.below(present.count)
            harmed = index
            if random.oneIn(2) {
                harm = "lost"
                try fixture.replaceVolume(index)
            } else {
                harm = "away"
                present.remove(at: index)
            }
            count(harm)
        } else if let harmed, harm == "away", random.oneIn(2) {
            present.removeAll { $0 == harmed }
        }
        if random.oneIn(4) { await dieWhileOpening(present) }
        engine = try await fixture.open(present, index: indexName)
    }

    private func dieWhileOpening(_ present: [Int]) async {
        count("death while opening")
        if let dying = try? await fixture.open(present, index: indexName, dyingAt: 1 + random.below(60)) {
            await pause(.milliseconds(random.below(50)))
            dying.trip.kill()
            takeImages(dying)
            await close(dying)
        } else {
            for index in present {
                let mode: CrashMode = random.oneIn(2) ? .dropped : .torn(seed: random.next())
                fixture.images[index] = fixture.images[index].restarted(after: mode)
            }
        }
        life += 1
    }

    // MARK: Healing

    /// Waits, in the world's time.
    func eventually(within deadline: Duration, _ condition: () -> Bool) async -> Bool {
        let end = ContinuousClock.now + deadline
        while !condition() {
            guard ContinuousClock.now < end else { return false }
            await pause(.milliseconds(50))
        }
        return true
    }

    /// Takes the harm away and waits until its volume holds everything again; then another one may be harmed.
    func heal(_ engine: Engine, within deadline: Duration) async {
        guard let index = harmed else { return }
        let life = self.life
        world.paces = [:]
        engine.disks[index]?.faulty.removeAllRules()
        engine.disks[index]?.faulty.setFreeBytes(nil)
        guard engine.disks.count == fixture.ids.count,
            await eventually(within: deadline, { self.life != life || engine.isWhole }), self.life == life
        else { return }
        if harm == "flipped bits" {
            guard await scrub(engine), self.life == life else { return }
        }
        harmed = nil
        count("healed")
    }

    /// Every byte of every volume is read and put right.
    func scrub(_ engine: Engine) async -> Bool {
        do {
            let ledger = FindingLedger(engine.objects)
            let scrubs = Scrubs(engine.objects, engine.replicator, ledger)
            engine.replicator.observeFindings { finding in
                ledger.note(finding)
                scrubs.note(finding)
            }
            try await scrubs.start(try await scrubs.jobs().map(\.subject))
            try await scrubs.runToEnd()
            _ = try await engine.objects.verify(repair: true)
            return await eventually(within: .seconds(60)) { engine.isWhole }
        } catch {
            return false
        }
    }
}
