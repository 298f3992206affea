import BlobVolume
import ContentHashing
import ObjectService
import StoreModel
import StoreTestKit
import Synchronization
import Testing

@testable import Replication

/// A read that comes before the slowest volume has its copy: what it misses there is no damage.
@Suite(.serialized, .timeLimit(.minutes(3))) struct LateCopyTests {
    private final class Seen: Sendable {
        private let findings = Mutex<[Finding]>([])
        func note(_ finding: Finding) { findings.withLock { $0.append(finding) } }
        func missing(_ chunk: Digest) -> [Finding] {
            findings.withLock { $0.filter { $0.kind == .missing && $0.chunk == chunk } }
        }
    }

    private func opened(_ fixture: EngineFixture) async throws -> (Engine, Seen) {
        let engine = try await fixture.open()
        let seen = Seen()
        engine.replicator.observeFindings { seen.note($0) }
        try await engine.makeBucket()
        try await engine.put("before", randomBytes(200_000, seed: 1))
        #expect(await engine.eventually { engine.isWhole })
        return (engine, seen)
    }

    @Test(arguments: [2000, 200_000])
    func aReadRightAfterItsPutAccusesNobody(size: Int) async throws {
        let (engine, seen) = try await opened(try EngineFixture())
        let gate = FaultGate(deadline: .seconds(1000))
        defer { gate.open() }
        engine.disk(2).add(FaultRule(.hold(gate), on: [.write], hitCount: nil))
        let content = randomBytes(size, seed: 2)
        try await engine.put("new", content)
        let chunk = SHA256Hasher.hash(content)
        #expect(await gate.holding())
        #expect(engine.volumes[2]?.indexedPresence(of: chunk) == .absent)
        #expect(try await engine.get("new") == content)
        #expect(engine.replicator.late.count == 1)
        gate.open()
        #expect(await engine.eventually { engine.isWhole && engine.replicator.late.count == 0 })
        #expect(engine.volumes[2]?.indexedPresence(of: chunk) == .synced)
        #expect(seen.missing(chunk).isEmpty)
        // Once: what was on its way and what was caught up are the same copy.
        #expect(try await engine.objects.verify(repair: false).findingCount == 0)
        await engine.close()
    }

    /// A volume that is behind hides no copy that is missing.
    @Test func aCopyThatIsMissingIsFoundAlsoWhileItsVolumeIsBehind() async throws {
        let (engine, seen) = try await opened(try EngineFixture())
        let chunk = SHA256Hasher.hash(randomBytes(200_000, seed: 1))
        let volume = try #require(engine.volumes[2])
        let withdrawn = try lose(chunk, on: volume)
        #expect(withdrawn == 1)
        let gate = FaultGate(deadline: .seconds(1000))
        defer { gate.open() }
        engine.disk(2).add(FaultRule(.hold(gate), on: [.write], hitCount: nil))
        try await engine.put("new", randomBytes(2000, seed: 2))
        #expect(await gate.holding())
        #expect(try await engine.get("before") == randomBytes(200_000, seed: 1))
        #expect(engine.replicator.late.count == 1)
        #expect(seen.missing(chunk).isEmpty)
        gate.open()
        #expect(await engine.eventually { !seen.missing(chunk).isEmpty })
        #expect(seen.missing(chunk).first?.foundBy == .read)
        #expect(await engine.eventually { volume.indexedPresence(of: chunk) == .synced })
        await engine.close()
    }

    /// Nothing waits for ever, and not for more than there is room for.
    @Test func whatIsWaitedForIsBounded() {
        let late = LateCopies()
        func copy(_ number: Int) -> LateCopies.Copy {
            LateCopies.Copy(chunk: SHA256Hasher.hash([UInt8(number & 255), UInt8(number >> 8)]), index: 1)
        }
        #expect(late.add(copy(0), committed: 5, now: 0))
        // Somebody looks already.
        #expect(!late.add(copy(1), committed: 9, now: 0))
        #expect(!late.add(copy(0), committed: 9, now: 0))
        #expect(late.take(now: 1, isLast: false) { _ in 4 }.isEmpty)
        #expect(late.take(now: 1, isLast: false) { _ in 5 } == [copy(0)])
        #expect(late.goOn())
        #expect(late.take(now: 30_000_000_001, isLast: false) { _ in 0 } == [copy(1)])
        #expect(!late.goOn())
        for number in 0..<5000 { _ = late.add(copy(number), committed: 1, now: 0) }
        #expect(late.count == 4096)
        #expect(late.take(now: 0, isLast: true) { _ in 0 }.count == 4096)
    }

    /// Takes a copy out of a volume, behind everybody's back.
    private func lose(_ chunk: Digest, on volume: BlobVolume) throws -> Int {
        var found: [GarbageCandidate] = []
        for segment in volume.segmentNumbers {
            found += try volume.garbageCandidates(in: segment, before: .everything) { $0 != chunk }
        }
        return volume.withdraw(found).count
    }
}
