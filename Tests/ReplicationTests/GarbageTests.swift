import BlobVolume
import Catalog
import CatalogSQLite
import ContentHashing
import ObjectService
import StoreModel
import StoreTestKit
import Synchronization
import Testing

@testable import Replication

/// Garbage collection of a store over simulated disks: what is alive stays, what is dead goes, whatever else happens.
@Suite(.serialized, .timeLimit(.minutes(10))) struct GarbageTests {
    private static var options: GarbageOptions {
        var options = GarbageOptions()
        options.grace = .zero
        options.settleTime = .zero
        return options
    }

    /// Waits until nothing is pinned: timers of a write may keep it for as long as a commit may take.
    private func collect(_ engine: Engine, _ options: GarbageOptions = Self.options) async throws
        -> GarbageReport
    {
        let gate = engine.replicator.pipeline.gate
        #expect(await engine.eventually(within: .seconds(90)) { gate.pinCount == 0 })
        #expect(await engine.eventually(within: .seconds(90)) { engine.isSettled })
        return try await engine.replicator.collectGarbage(options)
    }

    /// Digests on a volume, by its index.
    private func digests(_ volume: BlobVolume) throws -> Set<Digest> {
        var found: Set<Digest> = []
        try volume.forEachPayload { digest, _ in found.insert(digest) }
        return found
    }

    /// Digests that something refers to.
    private func live(_ engine: Engine) async throws -> Set<Digest> {
        var digests: Set<Digest> = []
        var manifests: [ManifestReference] = engine.catalog.applied.snapshots.map(\.manifest)
        let reader = try await engine.replicator.currentCatalog()
        try reader.forEachVersion { row in
            manifests += row.payloads.map(\.manifest)
            return true
        }
        for space in DocumentSpace.allCases {
            try reader.forEachDocument(space) { row in
                if let payload = row.payload { manifests.append(payload.manifest) }
                return true
            }
        }
        for manifest in manifests {
            switch manifest {
            case .inline(let chunks): digests.formUnion(chunks.map(\.digest))
            case .tree(let root, _, _, _):
                var stack = [root]
                while let digest = stack.popLast() {
                    digests.insert(digest)
                    let node = try ManifestNode(
                        decoding: try await engine.replicator.read(digest, range: nil)
                    )
                    if node.height == 0 {
                        digests.formUnion(node.entries.map(\.digest))
                    } else {
                        stack += node.entries.map(\.digest)
                    }
                }
            }
        }
        return digests
    }

    private func expectExactlyLive(_ engine: Engine, _ note: Comment? = nil) async throws {
        let live = try await live(engine)
        for (index, volume) in engine.volumes {
            #expect(try digests(volume) == live, "volume \(index + 1), \(note ?? "")")
        }
    }

    @Test func whatNothingRefersToIsGoneAndTheRestStays() async throws {
        let fixture = try EngineFixture()
        var engine = try await fixture.open()
        _ = try await engine.objects.createBucket(try engine.bucket, versioning: .off)
        let big = randomBytes(3_000_000, seed: 1)
        let kept = randomBytes(500_000, seed: 2)
        try await engine.put("dead-big", big)
        try await engine.put("kept", kept)
        try await engine.put("dead-small", randomBytes(900, seed: 3))
        try await engine.put("kept-small", randomBytes(800, seed: 4))
        _ = try await engine.delete("dead-big")
        _ = try await engine.delete("dead-small")
        var dry = Self.options
        dry.isDryRun = true
        let before = try digests(try #require(engine.volumes[0]))
        let expected = try await collect(engine, dry)
        #expect(try digests(try #require(engine.volumes[0])) == before)
        #expect(expected.volumes.allSatisfy { $0.deadCount > 1 && $0.buriedCount == 0 })
        let report = try await collect(engine)
        #expect(report.outcome == .done)
        #expect(zip(report.volumes, expected.volumes).allSatisfy { $0.buriedCount == $1.deadCount })
        try await expectExactlyLive(engine)
        #expect(try await engine.get("kept") == kept)
        await engine.close()
        fixture.take(engine)
        engine = try await fixture.open()
        try await expectExactlyLive(engine, "opened again")
        #expect(try await engine.get("kept-small") == randomBytes(800, seed: 4))
        #expect(try await engine.objects.verify(repair: false).findingCount == 0)
        // The same bytes come again.
        try await engine.put("again", big)
        #expect(try await engine.get("again") == big)
        #expect(try await engine.objects.verify(repair: false).findingCount == 0)
        await engine.close()
    }

    @Test func smallMemoryTakesSeveralWalksWithTheSameResult() async throws {
        let fixture = try EngineFixture()
        let engine = try await fixture.open()
        _ = try await engine.objects.createBucket(try engine.bucket, versioning: .off)
        for number in 0..<1500 { try await engine.put("k\(number)", randomBytes(40, seed: UInt64(number))) }
        for number in 0..<1500 where number % 3 == 0 { _ = try await engine.delete("k\(number)") }
        var options = Self.options
        options.markByteCountMax = 1
        let report = try await collect(engine, options)
        #expect(report.passCount > 1)
        #expect(report.volumes.allSatisfy { $0.buriedCount == 500 })
        try await expectExactlyLive(engine)
        #expect(try await engine.objects.verify(repair: false).findingCount == 0)
        await engine.close()
    }

    @Test func aDownloadKeepsWhatItReadsAlthoughItIsDeleted() async throws {
        let fixture = try EngineFixture()
        let engine = try await fixture.open()
        _ = try await engine.objects.createBucket(try engine.bucket, versioning: .off)
        let bytes = randomBytes(6_000_000, seed: 9)
        try await engine.put("k", bytes)
        let reader = try await engine.objects.get(try engine.address("k"))
        var read = try await reader.next() ?? []
        _ = try await engine.delete("k")
        #expect(
            try await engine.replicator.collectGarbage(Self.options).volumes.allSatisfy {
                $0.buriedCount == 0
            }
        )
        while let piece = try await reader.next() { read += piece }
        #expect(read == bytes)
        await engine.close()
    }

    @Test func anUploadThatIsUnderWayKeepsWhatItHasWrittenAndWhatItFound() async throws {
        let fixture = try EngineFixture()
        let engine = try await fixture.open()
        let old = PayloadRecord(digest: SHA256Hasher.hash([1, 2]), bytes: [1, 2])
        let bulk = randomBytes(200_000, seed: 5)
        let new = PayloadRecord(digest: SHA256Hasher.hash(bulk), bytes: bulk)
        _ = try await engine.replicator.write(old, waitsForCommit: false)
        // A volume that is still writing it would write it once more.
        #expect(
            try await engine.eventually {
                try engine.volumes.values.allSatisfy { try digests($0) == [old.digest] }
            }
        )
        do {
            let receipts = [
                try await engine.replicator.write(old, waitsForCommit: false),
                try await engine.replicator.write(new, waitsForCommit: false),
            ]
            let wanted: Set<Digest> = [old.digest, new.digest]
            // The third volume may be slower than the quorum.
            #expect(
                try await engine.eventually {
                    try engine.volumes.values.allSatisfy { try digests($0) == wanted }
                }
            )
            let report = try await engine.replicator.collectGarbage(Self.options)
            #expect(report.volumes.allSatisfy { $0.savedCount == 2 && $0.buriedCount == 0 })
            withExtendedLifetime(receipts) {}
        }
        let report = try await collect(engine)
        #expect(report.volumes.allSatisfy { $0.buriedCount == 2 })
        // Who asks now finds nothing and writes.
        let again = try await engine.replicator.write(new, waitsForCommit: false)
        #expect(!again.isDuplicate)
        #expect(try await engine.replicator.read(new.digest, range: nil) == bulk)
        await engine.close()
    }

    @Test func aVolumeThatWasAwayIsSweptAgainstWhatIsAliveAndBecomesWhole() async throws {
        let fixture = try EngineFixture()
        var engine = try await fixture.open()
        _ = try await engine.objects.createBucket(try engine.bucket, versioning: .off)
        for number in 0..<6 { try await engine.put("k\(number)", randomBytes(200_000, seed: UInt64(number))) }
        await engine.close()
        fixture.take(engine)
        engine = try await fixture.open([0, 1])
        for number in 0..<3 { _ = try await engine.delete("k\(number)") }
        try await engine.put("while-away", randomBytes(300_000, seed: 77))
        _ = try await engine.delete("while-away")
        try await engine.put("kept", randomBytes(300_000, seed: 78))
        let report = try await collect(engine)
        #expect(report.volumes[2].problem != nil)
        #expect(report.volumes[0].buriedCount > 3)
        await engine.close()
        fixture.take(engine)
        engine = try await fixture.open()
        let whole = engine
        // What it never got and nobody has any more does not hold it up.
        #expect(await engine.eventually { whole.isWhole })
        _ = try await collect(engine)
        try await expectExactlyLive(engine)
        #expect(try await engine.objects.verify(repair: false).findingCount == 0)
        await engine.close()
    }

    @Test func aHoldIsKept() async throws {
        let fixture = try EngineFixture()
        let engine = try await fixture.open()
        engine.replicator.garbage.hold = "test"
        await #expect { try await engine.replicator.collectGarbage(Self.options) } throws: { error in
            (error as? StoreError)?.code == .conflict
        }
        await engine.close()
    }

    // MARK: At random, against a model

    /// What clients know to be stored.
    private final class Model: Sendable {
        let objects = Mutex<[String: [UInt8]]>([:])
        subscript(key: String) -> [UInt8]? {
            get { objects.withLock { $0[key] } }
            set { objects.withLock { $0[key] = newValue } }
        }
    }

    /// Content out of a small pool, so that uploads meet content that is just being deleted.
    private static func content(_ number: Int) -> [UInt8] {
        let sizes = [60, 3000, 100_000, 160_000, 700_000, 2_000_000]
        return randomBytes(sizes[number % sizes.count], seed: UInt64(number) + 1000)
    }

    @Test(arguments: TestSeeds.seeds(fixed: 3, fresh: 1))
    func clientsAndCollectionAtRandom(seed: UInt64) async throws {
        let fixture = try EngineFixture()
        var engine = try await fixture.open()
        _ = try await engine.objects.createBucket(try engine.bucket, versioning: .off)
        for round in 0..<2 {
            let model = Model()
            let store = engine
            try await withThrowingTaskGroup(of: Void.self) { group in
                for client in 0..<3 {
                    group.addTask {
                        var random = SeededGenerator(seed: seed &* 31 &+ UInt64(client + round * 8))
                        for _ in 0..<25 { try await Self.act(store, model, client, &random) }
                    }
                }
                group.addTask {
                    for run in 0..<12 {
                        var options = Self.options
                        options.markByteCountMax = run % 3 == 0 ? 1 : 64 << 20
                        options.policy.sealsAtDeadBytes = 1
                        options.snapshotsAfterBatches = run % 4 == 3 ? 1 : 1 << 40
                        _ = try await store.replicator.collectGarbage(options)
                    }
                }
                try await group.waitForAll()
            }
            let expected = model.objects.withLock { $0 }
            for (key, bytes) in expected {
                #expect(try await engine.get(key) == bytes, "seed \(seed), \(key)")
            }
            #expect(try await engine.objects.verify(repair: false).findingCount == 0, "seed \(seed)")
            _ = await engine.eventually { store.isWhole }
            _ = try await collect(engine)
            try await expectExactlyLive(engine, "seed \(seed)")
            await engine.close()
            fixture.take(engine, after: round == 0 ? nil : .dropped)
            engine = try await fixture.open()
            for (key, bytes) in expected {
                #expect(try await engine.get(key) == bytes, "seed \(seed), \(key), opened again")
            }
            #expect(
                try await engine.objects.verify(repair: false).findingCount == 0,
                "seed \(seed), opened again"
            )
            let report = engine.volumes.values.flatMap(\.openReport.damage)
            #expect(report.isEmpty, "seed \(seed): \(report)")
        }
        await engine.close()
    }

    private static func act(
        _ engine: Engine,
        _ model: Model,
        _ client: Int,
        _ random: inout SeededGenerator
    ) async throws {
        // Each client has keys of its own; content is everybody's.
        let key = "c\(client)-\(random.below(6))"
        switch random.below(10) {
        case 0..<4:
            let bytes = content(random.below(9))
            try await engine.put(key, bytes)
            model[key] = bytes
        case 4..<7:
            _ = try await engine.delete(key)
            model[key] = nil
        case 7:
            guard let bytes = model[key] else { return }
            let target = "c\(client)-copy"
            _ = try await engine.objects.copy(
                CopyCommand(
                    source: try engine.address(key),
                    bucket: try engine.bucket,
                    key: try ObjectKey(bytes: Array(target.utf8))
                )
            )
            _ = try await engine.delete(key)
            model[key] = nil
            model[target] = bytes
        case 8:
            try await putInParts(engine, key, [content(random.below(9)), content(random.below(9))], model)
        default:
            if let bytes = model[key] { #expect(try await engine.get(key) == bytes) }
        }
    }

    private static func putInParts(
        _ engine: Engine,
        _ key: String,
        _ contents: [[UInt8]],
        _ model: Model
    ) async throws {
        let objects = engine.objectsWithSmallParts
        let upload = try await objects.createUpload(
            CreateUploadRequest(bucket: try engine.bucket, key: try ObjectKey(bytes: Array(key.utf8)))
        )
        let address = UploadAddress(bucket: try engine.bucket, key: upload.key, id: upload.id)
        var parts: [ListedPart] = []
        for (index, bytes) in contents.enumerated() {
            let part = try await objects.putPart(
                PutPartRequest(upload: address, number: index + 1),
                body: BufferByteSource(bytes)
            )
            parts.append(ListedPart(number: part.number, etag: part.etag.hex))
        }
        _ = try await objects.complete(CompleteRequest(upload: address, parts: parts))
        model[key] = contents.flatMap { $0 }
    }
}

extension Engine {
    /// Whether no volume has something under way.
    fileprivate var isSettled: Bool { !replicator.pipeline.isBusy }
}
