import BlobVolume
import Catalog
import CatalogSQLite
import ObjectService
import StoreModel
import StoreTestKit
import Synchronization
import Testing

@testable import Replication

/// Volumes and indexes that were away, are new, or come from another time.
@Suite(.serialized, .timeLimit(.minutes(3))) struct EngineAbsenceTests {
    private func write(_ range: Range<Int>, _ engine: Engine) async throws {
        for number in range {
            let size = number % 4 == 0 ? 150_000 : 700
            try await engine.put("k\(number)", randomBytes(size, seed: UInt64(number)))
        }
    }

    private func check(_ range: Range<Int>, _ engine: Engine) async throws {
        for number in range {
            let size = number % 4 == 0 ? 150_000 : 700
            #expect(try await engine.get("k\(number)") == randomBytes(size, seed: UInt64(number)))
        }
    }

    @Test func aVolumeThatWasAwayIsNotWholeBeforeItIsCaughtUp() async throws {
        let fixture = try EngineFixture()
        var engine = try await fixture.open()
        try await engine.makeBucket()
        try await write(0..<4, engine)
        await engine.close()
        fixture.take(engine)
        engine = try await fixture.open([0, 1])
        try await write(4..<12, engine)
        let pair = engine
        #expect(await engine.eventually { pair.isWhole })
        await engine.close()
        fixture.take(engine)
        engine = try await fixture.open(maintained: false)
        let unmaintained = engine
        #expect(await engine.eventually { unmaintained.replicator.laggingVolumes() == [2] })
        #expect(engine.replicator.replicatorStatus().wholeCount == 2)
        guard case .complete(let copied) = await engine.replicator.catchUp(2) else {
            Issue.record("not caught up")
            return
        }
        #expect(copied > 0)
        #expect(engine.isWhole)
        #expect(try await engine.objects.verify(repair: false).findingCount == 0)
        await engine.close()
        fixture.take(engine)
        engine = try await fixture.open([0, 2], maintained: false)
        let two = engine
        #expect(await engine.eventually { two.isWhole })
        try await check(0..<12, engine)
        await engine.close()
    }

    @Test func aVolumeThatAppearsWhileTheStoreIsOpenIsTakenIn() async throws {
        let fixture = try EngineFixture()
        var engine = try await fixture.open()
        try await engine.makeBucket()
        try await write(0..<4, engine)
        await engine.close()
        fixture.take(engine)
        // By more batches than are kept in memory.
        engine = try await fixture.open([0, 1])
        try await write(4..<90, engine)
        await engine.close()
        fixture.take(engine)
        let isThere = Atomic(false)
        let (opener, disk) = fixture.arrival(of: 2) { isThere.load(ordering: .acquiring) }
        engine = try await fixture.open([0, 1], opener: opener)
        try await write(90..<94, engine)
        let open = engine
        let isStillAway = await engine.eventually {
            open.replicator.replicatorStatus().volumes[2].problem?.contains("It is away still") ?? false
        }
        #expect(isStillAway)
        isThere.store(true, ordering: .releasing)
        #expect(await engine.eventually { open.replicator.replicatorStatus().wholeCount == 3 })
        #expect(engine.replicator.replicatorStatus().volumes[2].problem == nil)
        try await write(94..<98, engine)
        #expect(await engine.eventually { open.replicator.replicatorStatus().wholeCount == 3 })
        #expect(try await engine.objects.verify(repair: false).findingCount == 0)
        await engine.close()
        fixture.take(engine)
        fixture.take(disk.image, of: 2)
        // It carries its share.
        engine = try await fixture.open([1, 2], maintained: false)
        try await check(0..<98, engine)
        await engine.close()
    }

    /// With a sync for each of them it would never come after clients that go on writing.
    @Test func batchesThatAVolumeMissedShareSyncs() async throws {
        let fixture = try EngineFixture()
        var engine = try await fixture.open()
        try await engine.makeBucket()
        await engine.close()
        fixture.take(engine)
        engine = try await fixture.open([0, 1])
        try await write(0..<300, engine)
        let committed = engine.replicator.replicatorStatus().committed
        #expect(committed >= 300)
        await engine.close()
        fixture.take(engine)
        engine = try await fixture.open()
        let open = engine
        #expect(await engine.eventually(within: .seconds(60)) { open.isWhole })
        // 75 large chunks and 225 small ones, in 300 batches: some 40, more where a thread is late.
        #expect(engine.disk(2).callCount(of: .sync) < 150)
        #expect(try await engine.objects.verify(repair: false).findingCount == 0)
        await engine.close()
        fixture.take(engine)
        engine = try await fixture.open([0, 2], maintained: false)
        try await check(0..<300, engine)
        await engine.close()
    }

    /// The row that put it is gone, and that which has it now came in a batch of which the volume lacks nothing else.
    @Test func aChunkThatAnotherRowHasTakenOverIsNotLeftOut() async throws {
        let fixture = try EngineFixture()
        var engine = try await fixture.open()
        try await engine.makeBucket()
        await engine.close()
        fixture.take(engine)
        engine = try await fixture.open([0, 1])
        let bytes = randomBytes(200_000, seed: 7)
        let row = try await engine.put("first", bytes)
        await engine.close()
        fixture.take(engine)
        engine = try await fixture.open(maintained: false)
        let open = engine
        #expect(await engine.eventually { open.replicator.laggingVolumes() == [2] })
        _ = try await engine.objects.copy(
            CopyCommand(
                source: try engine.address("first"),
                bucket: try engine.bucket,
                key: try ObjectKey("second")
            )
        )
        _ = try await engine.delete("first", .id(row.id))
        let rules = [0, 1].map { index in
            engine.disk(index).add(
                FaultRule(.inputOutputError, on: [.read], nameContains: ".bulk", hitCount: nil)
            )
        }
        guard case .incomplete = await engine.replicator.catchUp(2) else {
            Issue.record("It counts as whole without a copy of what nobody could read.")
            return
        }
        #expect(engine.replicator.laggingVolumes() == [2])
        for (index, rule) in rules.enumerated() { engine.disk(index).remove(rule: rule) }
        guard case .complete(let copied) = await engine.replicator.catchUp(2) else {
            Issue.record("not caught up")
            return
        }
        #expect(copied == 1)
        #expect(try await engine.get("second") == bytes)
        #expect(try await engine.objects.verify(repair: false).findingCount == 0)
        await engine.close()
    }

    @Test func aVolumeThatAppearsWhileTheStoreClosesIsLetGo() async throws {
        let fixture = try EngineFixture()
        var engine = try await fixture.open()
        try await engine.makeBucket()
        await engine.close()
        fixture.take(engine)
        let (opener, disk) = fixture.arrival(of: 2) { true }
        let asked = Atomic(false)
        engine = try await fixture.open(
            [0, 1],
            opener: { index in
                // The store is closed while the volume opens.
                while index == 2, !asked.load(ordering: .acquiring) { await Task.yield() }
                return await opener(index)
            }
        )
        let closing = engine
        async let closed: Void = closing.close()
        asked.store(true, ordering: .releasing)
        await closed
        // Whoever was first: the lock is free.
        let isFree = await engine.eventually {
            (try? disk.lock("lock", content: []))?.release() != nil
        }
        #expect(isFree)
    }

    @Test func aVolumeThatWasAwayGetsThePartsOfUploadsToo() async throws {
        let fixture = try EngineFixture()
        var engine = try await fixture.open()
        try await engine.makeBucket()
        await engine.close()
        fixture.take(engine)
        engine = try await fixture.open([0, 1])
        let store = engine.objectsWithSmallParts
        var uploads: [UploadAddress] = []
        var parts: [UploadedPart] = []
        for key in ["done", "open"] {
            let upload = try await store.createUpload(
                CreateUploadRequest(bucket: try engine.bucket, key: try ObjectKey(key))
            )
            let address = UploadAddress(bucket: try engine.bucket, key: upload.key, id: upload.id)
            uploads.append(address)
            parts = []
            for (number, size) in [(1, 150_000), (2, 900)] {
                parts.append(
                    try await store.putPart(
                        PutPartRequest(upload: address, number: number),
                        body: BufferByteSource(randomBytes(size, seed: UInt64(size)))
                    )
                )
            }
        }
        let listed = parts.map { ListedPart(number: $0.number, etag: $0.etag.hex) }
        _ = try await store.complete(CompleteRequest(upload: uploads[0], parts: listed))
        await engine.close()
        fixture.take(engine)
        engine = try await fixture.open()
        let whole = engine
        #expect(await engine.eventually { whole.isWhole })
        let report = try await engine.objects.verify(repair: false)
        #expect(report.findingCount == 0 && report.partCount == 2)
        await engine.close()
        fixture.take(engine)
        // The one that was away is one of the two now, and the upload goes on.
        engine = try await fixture.open([0, 2])
        let row = try await engine.objectsWithSmallParts.complete(
            CompleteRequest(upload: uploads[1], parts: listed)
        )
        #expect(row.size == 150_900)
        let expected = randomBytes(150_000, seed: 150_000) + randomBytes(900, seed: 900)
        #expect(try await engine.get("open") == expected)
        #expect(try await engine.get("done") == expected)
        await engine.close()
    }

    @Test func anUnrepairableChunkDoesNotKeepTheRestFromBeingCopied() async throws {
        let fixture = try EngineFixture()
        var engine = try await fixture.open([0, 1])
        try await engine.makeBucket()
        try await write(0..<6, engine)
        let pair = engine
        #expect(await engine.eventually { pair.isWhole })
        for index in 0...1 {
            let disk = try #require(engine.disks[index]?.crash)
            let found = disk.image.find(randomBytes(700, seed: 1))
            let place = try #require(found)
            disk.flip(place.name, offset: place.offset + 3)
        }
        await engine.close()
        fixture.take(engine)
        engine = try await fixture.open(maintained: false)
        guard case .incomplete(let copied, let missing, _) = await engine.replicator.catchUp(2) else {
            Issue.record("a volume without a chunk counts as complete")
            return
        }
        #expect(missing == 1)
        #expect(copied >= 1)
        #expect(!engine.isWhole)
        await engine.close()
        fixture.take(engine)
        engine = try await fixture.open([0, 2], maintained: false)
        try await check(2..<6, engine)
        await engine.close()
    }

    @Test func anEmptyVolumeIsFilledAndThenCarriesTheStore() async throws {
        let fixture = try EngineFixture()
        var engine = try await fixture.open()
        try await engine.makeBucket()
        try await write(0..<8, engine)
        await engine.close()
        fixture.take(engine)
        let old = (image: fixture.images[2], id: fixture.ids[2])
        try fixture.replaceVolume(2)
        engine = try await fixture.open()
        let held = engine
        #expect(await engine.eventually { held.isWhole && held.replicator.unfinishedReplacements.isEmpty })
        try await write(8..<10, engine)
        await engine.close()
        fixture.take(engine)
        engine = try await fixture.open([1, 2])
        try await check(0..<10, engine)
        await engine.close()
        fixture.take(engine)
        // The old one comes back in its place.
        let disk = CrashDisk(old.image)
        var options = fixture.options
        options.expectedVolume = fixture.ids[2]
        #expect(throws: VolumeError.self) { try BlobVolume.open(disk, options: options) }
    }

    @Test func anIndexThatIsLostOrOldOrOfAnotherChainIsBroughtToTheSameState() async throws {
        let fixture = try EngineFixture()
        var engine = try await fixture.open()
        try await engine.makeBucket()
        try await write(0..<3, engine)
        await engine.close()
        fixture.take(engine)
        try fixture.copyIndex(to: "old.sqlite")
        let fork = fixture.images
        engine = try await fixture.open()
        try await write(3..<9, engine)
        _ = try await engine.delete("k4")
        await engine.close()
        fixture.take(engine)
        // Lost.
        try fixture.removeIndex("lost.sqlite")
        engine = try await fixture.open(index: "lost.sqlite")
        let state = try await state(engine)
        await engine.close()
        fixture.take(engine)
        // Old: replayed, not rebuilt.
        engine = try await fixture.open(index: "old.sqlite")
        #expect(!engine.didRebuild)
        #expect(try await self.state(engine) == state)
        await engine.close()
        fixture.take(engine)
        // Of another chain: written by a store that went on from the same beginning.
        let images = fixture.images
        fixture.images = fork
        try fixture.removeIndex("fork.sqlite")
        engine = try await fixture.open(index: "fork.sqlite")
        try await write(20..<22, engine)
        await engine.close()
        fixture.images = images
        engine = try await fixture.open(index: "fork.sqlite")
        #expect(engine.didRebuild)
        #expect(try await self.state(engine) == state)
        try await check(5..<9, engine)
        await engine.close()
    }

    private func state(_ engine: Engine) async throws -> StateHash {
        _ = try await engine.replicator.currentCatalog()
        return engine.catalog.applied.stateHash
    }

    @Test func snapshotsLetTheLogStartLaterAndAnAbsentVolumeIsFilledFromTheCatalog() async throws {
        let fixture = try EngineFixture()
        var engine = try await fixture.open()
        try await engine.makeBucket()
        try await write(0..<4, engine)
        await engine.close()
        fixture.take(engine)
        // Volume 3 is away from here on.
        engine = try await fixture.open([0, 1])
        try await write(4..<8, engine)
        let first = try await engine.replicator.takeSnapshot()
        try await write(8..<10, engine)
        _ = try await engine.replicator.takeSnapshot()
        let held = engine
        #expect(
            await engine.eventually {
                [0, 1].allSatisfy { held.volumes[$0]?.logBase == first.position }
            }
        )
        #expect(engine.replicator.pipeline.baseSequence == first.position.sequence)
        try await write(10..<12, engine)
        let expected = try await state(engine)
        await engine.close()
        fixture.take(engine)
        // Without the index: snapshot and log.
        try fixture.removeIndex("fresh.sqlite")
        engine = try await fixture.open([0, 1], index: "fresh.sqlite")
        #expect(engine.didRebuild)
        #expect(try await state(engine) == expected)
        try await check(0..<12, engine)
        await engine.close()
        fixture.take(engine)
        // The absent one comes back: its log ends before the others' begins.
        engine = try await fixture.open()
        let back = engine
        #expect(await engine.eventually { back.isWhole && back.volumes[2]?.logBase == first.position })
        #expect(try await engine.objects.verify(repair: false).findingCount == 0)
        // With the record of what was verified.
        let verified = try await state(engine)
        await engine.close()
        fixture.take(engine)
        try fixture.removeIndex("fresh.sqlite")
        engine = try await fixture.open([1, 2], index: "fresh.sqlite")
        #expect(try await state(engine) == verified)
        try await check(0..<12, engine)
        await engine.close()
    }

    /// A volume that is away while a snapshot is written, and back before the log starts after it.
    @Test func catchingUpBringsTheSnapshotsAsWell() async throws {
        let fixture = try EngineFixture()
        var engine = try await fixture.open([0, 1])
        try await engine.makeBucket()
        try await write(0..<3, engine)
        let note = try await engine.replicator.takeSnapshot()
        await engine.close()
        fixture.take(engine)
        engine = try await fixture.open()
        let held = engine
        #expect(await engine.eventually { held.isWhole })
        guard case .inline(let chunks) = note.manifest else { return }
        for chunk in chunks {
            #expect(engine.volumes[2]?.presence(of: chunk.digest) == .synced)
        }
        await engine.close()
    }

    @Test func whenTheOlderSnapshotIsLostTheNewerOneServes() async throws {
        let fixture = try EngineFixture()
        var engine = try await fixture.open()
        try await engine.makeBucket()
        try await write(0..<4, engine)
        let first = try await engine.replicator.takeSnapshot()
        try await write(4..<6, engine)
        _ = try await engine.replicator.takeSnapshot()
        try await write(6..<8, engine)
        let held = engine
        #expect(
            await engine.eventually {
                held.isWhole && held.volumes.values.allSatisfy { $0.logBase == first.position }
            }
        )
        let expected = try await state(engine)
        guard case .inline(let chunks) = first.manifest, let chunk = chunks.first else {
            Issue.record("the snapshot is larger than this test wants")
            return
        }
        let block = try await engine.replicator.read(chunk.digest, range: nil)
        for disk in engine.disks.values {
            let found = disk.crash.image.find(block)
            let place = try #require(found)
            disk.crash.flip(place.name, offset: place.offset + 11)
        }
        await engine.close()
        fixture.take(engine)
        try fixture.removeIndex("fresh.sqlite")
        engine = try await fixture.open(index: "fresh.sqlite")
        #expect(engine.didRebuild)
        #expect(try await state(engine) == expected)
        try await check(0..<8, engine)
        await engine.close()
    }
}
