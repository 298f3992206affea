import BlobVolume
import Catalog
import Foundation
import ObjectService
import StoreModel
import StoreTestKit
import Synchronization

@testable import Replication

/// The whole engine in a simulated world: clients, harm, power cuts, restarts; then everything is healed and checked.
///
/// #### The budget of faults: inside it every failing seed is a bug
/// 1. Three or four volumes, three copies, two for a write. At most one volume is harmed at a time: its calls fail, it is full,
///    it hangs, bits of it flip, it is away while the store is open, or it is lost and an empty one stands in its place.
///    Harm lasts until that volume holds everything again (flipped bits: until a scrub of it, too, found nothing more).
///    A volume that only takes its time is not harmed: another one may be slow meanwhile.
/// 2. The process can die, and with it the power, at any moment and any number of times, beside the harm of one volume and
///    while the store opens: whatever a volume had not synced is kept, lost or torn, independently for each.
/// 3. The catalog's index is kept, lost, or replaced by an older copy when the process dies.
/// 4. The wall clock jumps. Disks do not lie: what they say is synced is synced.
/// 5. The backend of a mirror fails, is away, refuses for a while, loses its answers, and answers with wrong ETags.
///
/// #### What is checked
/// 1. Each key is a register: an order explains every answer, over all restarts (`KeyHistory`): nothing acknowledged is lost,
///    no update is lost, conditional writes are atomic, no read shows anything that was not written there.
/// 2. A version that was acknowledged is read by its id, byte for byte, as long as the bucket keeps it.
/// 3. Healed, every volume becomes whole; `verify` finds nothing; `fsck` of every volume finds no damage.
/// 4. An index that is built again from the log has the same state; every set of volumes but one serves everything.
/// 5. An upload that was begun, and is not known to be ended, has every part that was acknowledged, and can be completed; an
///    object that was put together from parts is one like others (1 to 4).
/// 6. A mirror's backend ends with what the store has: each version once and in order, or the newest one where it keeps none.
/// 7. Nothing hangs: the world never stands still before the run is over, and does not go on for ever.
///
/// Everything happens on the world's thread.
final class EngineSimulation: @unchecked Sendable {
    struct Outcome: Sendable {
        var failures: [String] = []
        var trace: UInt64 = 0
        var eventCount = 0
        var callCount = 0
        var answeredCount = 0
        var crashCount = 0
        var harms: [String: Int] = [:]
    }

    let world: SimulatedWorld
    let clock: SimulatedClock
    let fixture: EngineFixture
    /// Of what is done in the world, beside its schedule.
    var random: SeededGenerator
    var outcome = Outcome()
    private(set) var isDone = false

    // MARK: What clients know

    private(set) var histories: [String: KeyHistory] = [:]
    var time = 0
    private var contentCount = 0
    private(set) var contents: [[UInt8]: Int] = [:]
    var uploads: [SimulatedUpload] = []
    private var etags: [Int: String] = [:]
    private var used: [(number: Int, bytes: [UInt8])] = []
    /// Acknowledged versions, in a bucket that keeps them.
    private(set) var kept: [VersionID: (key: String, bytes: [UInt8])] = [:]
    let keepsVersions: Bool
    /// Nil in worlds without one.
    let mirror: SimulatedMirror?

    // MARK: What is harmed

    var harmed: Int?
    var harm = ""
    /// Whether every volume was known to hold everything when the last process ended.
    var wasWhole = true
    var engine: Engine?
    /// Counts processes: who finds another number than before was killed meanwhile.
    var life = 0
    var indexName = "catalog.sqlite"

    init(_ world: SimulatedWorld) throws {
        self.world = world
        clock = SimulatedClock(world)
        var random = SeededGenerator(seed: world.seed &* 0x9E37_79B9 &+ 17)
        fixture = try EngineFixture(volumeCount: random.oneIn(3) ? 4 : 3)
        keepsVersions = random.oneIn(2)
        // Segments that are soon full: the next one may find no room.
        if random.oneIn(2) {
            fixture.options.logSegmentSizeMin = 64 << 10
            fixture.options.logSegmentSizeMax = 64 << 10
        }
        mirror = random.oneIn(3) ? SimulatedMirror(world, clock, keepsVersions: keepsVersions) : nil
        self.random = random
        let source = SeededRandom(seed: world.seed &+ 99)
        fixture.clock = clock
        fixture.random = source
        fixture.options.indexSeed = world.seed
        fixture.makeTimers = { world.timers }
        fixture.configure = { configuration in
            configuration.arrivalProbeInterval = .seconds(5)
            configuration.inspectionInterval = .seconds(5)
        }
        fixture.willOpen = { world.tag = $0 }
    }

    /// Runs one seed.
    static func run(seed: UInt64) async -> Outcome {
        let box = Mutex<EngineSimulation?>(nil)
        let failure = Mutex<String?>(nil)
        let (end, trace, events) = await SimulatedWorld.run(
            seed: seed,
            start: { world in
                do {
                    let simulation = try EngineSimulation(world)
                    box.withLock { $0 = simulation }
                    Task.detached { await simulation.live() }
                } catch {
                    failure.withLock { $0 = "The simulation can't be made: \(error)" }
                }
            },
            isDone: { box.withLock { $0?.isDone ?? true } }
        )
        var outcome = box.withLock { $0?.outcome } ?? Outcome()
        if let text = failure.withLock({ $0 }) { outcome.failures.append(text) }
        if end != .done { outcome.failures.append("The world is \(end) after \(events) events.") }
        outcome.trace = trace
        outcome.eventCount = events
        return outcome
    }

    func fail(_ text: String) {
        world.note("failure: " + text)
        outcome.failures.append(text)
    }

    func pause(_ duration: Duration) async { try? await clock.sleep(for: duration) }

    // MARK: A life

    private func live() async {
        do {
            let first = try await fixture.open(index: indexName)
            engine = first
            _ = try await first.objects.createBucket(
                try first.bucket,
                versioning: keepsVersions ? .enabled : .off
            )
            try await beginWithAStory()
            let lives = 2 + random.below(3)
            for _ in 0..<lives {
                await workAndHarm()
                await endProcess()
                try await startProcess()
            }
            try await healAndCheck()
        } catch {
            fail("\(error)")
        }
        if let engine { await close(engine) }
        engine = nil
        isDone = true
    }

    private func workAndHarm() async {
        let life = self.life
        if let engine { await mirror?.start(engine, &random) }
        let seeds = (0..<3).map { _ in random.next() }
        let hasUpset = !random.oneIn(4)
        await withTaskGroup(of: Void.self) { group in
            for seed in seeds {
                group.addTask {
                    var random = SeededGenerator(seed: seed)
                    for _ in 0..<8 where self.life == life { await self.call(&random) }
                }
            }
            group.addTask {
                for _ in 0..<5 where self.life == life {
                    await self.pause(.milliseconds(self.random.below(80)))
                    if hasUpset, self.life == life { await self.upset() }
                }
            }
            let isKilled = !random.oneIn(3)
            // While clients are at it, or later.
            let delay = Duration.milliseconds(random.below(random.oneIn(2) ? 60 : 400))
            group.addTask {
                guard isKilled else { return }
                await self.pause(delay)
                await self.kill(life)
            }
        }
    }

    // MARK: Clients

    func note(_ key: String, _ start: Int, isAnswered: Bool, _ action: KeyHistory.Action) {
        time += 1
        let call = KeyHistory.Call(start: start, end: isAnswered ? time : nil, action: action)
        histories[key, default: KeyHistory()].add(call)
        if isAnswered { outcome.answeredCount += 1 }
        world.note("\(key) \(action) \(isAnswered)")
    }

    /// The number of these bytes: a new one, unless someone has written them before, as happens with a single byte.
    func freshContent(_ bytes: [UInt8]) -> Int {
        if let known = contents[bytes] { return known }
        contentCount += 1
        contents[bytes] = contentCount
        return contentCount
    }

    private func newContent(_ random: inout SeededGenerator) -> (number: Int, bytes: [UInt8]) {
        // Bytes that were written before: what is just being collected is wanted again.
        if random.oneIn(3), let known = used.randomElement(using: &random) { return known }
        contentCount += 1
        let sizes = [1, 700, 4_000, 60_000, 150_000, 400_000]
        let bytes =
            randomBytes(random.pick(sizes), seed: random.next())
            + Array("#\(contentCount)".utf8)
        contents[bytes] = contentCount
        used.append((contentCount, bytes))
        return (contentCount, bytes)
    }

    private func call(_ random: inout SeededGenerator) async {
        guard let engine else { return }
        let life = self.life
        let key = "k\(random.below(4))"
        outcome.callCount += 1
        time += 1
        let start = time
        switch random.below(12) {
        case 10, 11: await upload(engine, key, life, &random)
        case 0..<3: await put(engine, key, start, life, &random)
        case 3: await create(engine, key, start, life, &random)
        case 4..<6: await replace(engine, key, life, &random)
        case 6: await delete(engine, key, start, life)
        default: _ = await read(engine, key, start, life)
        }
        if random.oneIn(4) { await pause(.milliseconds(random.below(40))) }
    }

    /// Whether the process that a call was made in can still answer.
    func isAlive(_ life: Int) -> Bool { self.life == life && engine?.trip.isDead == false }

    /// Whether a call that threw may have had its effect.
    func isUnknown(_ error: any Error, _ life: Int) -> Bool {
        world.note("refused: \(error)")
        guard isAlive(life), let error = error as? StoreError else { return true }
        switch error.code {
        case .outcomeUnknown, .cancelled, .deadlineExceeded, .internalFault: return true
        default: return false
        }
    }

    func acknowledge(_ row: VersionRow, _ key: String, _ number: Int, _ bytes: [UInt8]) {
        etags[number] = row.etag
        if keepsVersions { kept[row.id] = (key, bytes) }
    }

    private func put(
        _ engine: Engine,
        _ key: String,
        _ start: Int,
        _ life: Int,
        _ random: inout SeededGenerator
    ) async {
        let (number, bytes) = newContent(&random)
        await put(engine, key, start, life, number, bytes)
    }

    func put(
        _ engine: Engine,
        _ key: String,
        _ start: Int,
        _ life: Int,
        _ number: Int,
        _ bytes: [UInt8]
    ) async {
        do {
            let row = try await engine.put(key, bytes)
            note(key, start, isAnswered: self.life == life, .write(number))
            if self.life == life { acknowledge(row, key, number, bytes) }
        } catch {
            if isUnknown(error, life) { note(key, start, isAnswered: false, .write(number)) }
        }
    }

    /// Bytes that were written before, and that nothing may refer to any more, while garbage is collected.
    func putAgain(_ engine: Engine, _ life: Int) async {
        guard self.life == life, let (number, bytes) = used.randomElement(using: &random) else { return }
        let key = "k\(random.below(4))"
        time += 1
        await put(engine, key, time, life, number, bytes)
    }

    func putFresh(_ engine: Engine, _ life: Int, _ bytes: [UInt8]) async {
        let number = freshContent(bytes)
        let key = "k\(random.below(4))"
        time += 1
        await put(engine, key, time, life, number, bytes)
    }

    private func create(
        _ engine: Engine,
        _ key: String,
        _ start: Int,
        _ life: Int,
        _ random: inout SeededGenerator
    ) async {
        let (number, bytes) = newContent(&random)
        do {
            let row = try await engine.put(key, bytes, Conditions(ifNoneMatch: .any))
            note(key, start, isAnswered: self.life == life, .create(number))
            if self.life == life { acknowledge(row, key, number, bytes) }
        } catch {
            if isAlive(life), (error as? StoreError)?.code == .preconditionFailed {
                note(key, start, isAnswered: true, .somethingWasThere)
            } else if isUnknown(error, life) {
                note(key, start, isAnswered: false, .create(number))
            }
        }
    }

    private func replace(
        _ engine: Engine,
        _ key: String,
        _ life: Int,
        _ random: inout SeededGenerator
    ) async {
        time += 1
        guard let old = await read(engine, key, time, life), old != 0, let etag = etags[old] else { return }
        let (number, bytes) = newContent(&random)
        time += 1
        let start = time
        do {
            let row = try await engine.put(key, bytes, Conditions(ifMatch: .oneOf([etag])))
            note(key, start, isAnswered: self.life == life, .replace(old, by: number))
            if self.life == life { acknowledge(row, key, number, bytes) }
        } catch {
            let code = (error as? StoreError)?.code
            if isAlive(life), code == .preconditionFailed || code == .noSuchKey {
                note(key, start, isAnswered: true, .otherWasThere(than: old))
            } else if isUnknown(error, life) {
                note(key, start, isAnswered: false, .replace(old, by: number))
            }
        }
    }

    private func delete(_ engine: Engine, _ key: String, _ start: Int, _ life: Int) async {
        do {
            _ = try await engine.delete(key)
            note(key, start, isAnswered: self.life == life, .delete)
        } catch {
            if isUnknown(error, life) { note(key, start, isAnswered: false, .delete) }
        }
    }

    /// - Returns: the number of what was read; nil when nothing was answered.
    func read(_ engine: Engine, _ key: String, _ start: Int, _ life: Int) async -> Int? {
        var number = 0
        do {
            let reader = try await engine.objects.get(try engine.address(key))
            var bytes: [UInt8] = []
            while let piece = try await reader.next() { bytes += piece }
            guard isAlive(life) else { return nil }
            number = contents[bytes] ?? -1
            etags[number] = reader.version.etag
        } catch let error as StoreError where error.code == .noSuchKey {
            guard isAlive(life) else { return nil }
        } catch {
            return nil
        }
        note(key, start, isAnswered: true, .read(number))
        return number
    }

    /// A read that must be answered, at the end.
    func readAtLast(_ engine: Engine, _ key: String) async {
        time += 1
        if await read(engine, key, time, life) == nil { fail("\(key) can't be read with everything healed.") }
    }
}
