import Catalog
import ContentHashing
import Encryption
import HoldfastNode
import Mirroring
import ObjectService
import StoreModel
import StoreTestKit
import Testing

/// What arrives in a backend, whatever happens on the way.
@Suite struct WorkerTests {
    @Test func theHistoryOfAKeyArrivesInOrderWithMarkersTagsAndRemovals() async throws {
        let fixture = try await MirrorFixture()
        // Some of it from before the mirror.
        for number in 0..<5 { try await fixture.put("a", [UInt8(number)]) }
        try await fixture.add()
        try await fixture.delete("a")
        let tagged = try await fixture.put("a", [9])
        _ = try await fixture.objects.setTags(of: fixture.address("a"), to: [NamedValue("k", "v")])
        var status = try await fixture.drain()
        #expect(status.isUpToDate && status.worker.keepsVersions == true)
        #expect(fixture.mirroredHistory("a") == (try await fixture.expectedHistory("a")))
        let last = try #require(fixture.backend.history("models/a").last)
        #expect(last.bytes == [9] && last.properties.tags.map(\.0) == ["k"])
        #expect(last.properties.holdfastVersion == tagged.id)
        #expect(last.properties.holdfastSHA256 == SHA256Hasher.hash([9]))
        try await fixture.delete("a", .id(tagged.id))
        status = try await fixture.drain()
        #expect(fixture.mirroredHistory("a") == (try await fixture.expectedHistory("a")))
        #expect(try await fixture.objects.documents(.outbox, prefix: MirrorKey.pendingPrefix).isEmpty)
        try await fixture.close()
    }

    @Test func aBucketWithoutVersionsHasTheNewestOfEachKey() async throws {
        let fixture = try await MirrorFixture(keepsVersions: false)
        try await fixture.add()
        for number in 0..<5 { try await fixture.put("a", [UInt8(number)]) }
        try await fixture.put("b", [1])
        try await fixture.delete("b")
        let status = try await fixture.drain()
        #expect(status.isUpToDate && status.worker.keepsVersions == false)
        #expect(fixture.backend.keys == ["models/a"])
        #expect(fixture.backend.history("models/a").map(\.bytes) == [[4]])
        // The newest one goes: the one before comes back.
        let newest = try await fixture.objects.head(fixture.address("a"))
        try await fixture.delete("a", .id(newest.id))
        try await fixture.drain()
        #expect(fixture.backend.history("models/a").map(\.bytes) == [[3]])
        try await fixture.close()
    }

    @Test(arguments: TestSeeds.seeds(fixed: 6, fresh: 1))
    func chaosLeavesEachVersionThereOnceAndInOrder(seed: UInt64) async throws {
        let fixture = try await MirrorFixture(seed: seed)
        fixture.backend.set(.all)
        fixture.limits.attemptCountMax = 1000
        try await fixture.put("k0", [255])
        try await fixture.add()
        let random = SeededRandom(seed: seed)
        for number in 0..<60 {
            let key = "k\(random.next() % 4)"
            switch random.next() % 6 {
            case 0: try await fixture.delete(key)
            case 1:
                let history = try await fixture.objects.history(bucket: fixture.bucket, key: ObjectKey(key))
                if let row = history.randomElement() { try await fixture.delete(key, .id(row.id)) }
            default: try await fixture.put(key, [UInt8(number)])
            }
            if number == 30 { try await fixture.drain() }
        }
        // A worker that ends in the middle, as by a crash; the next one knows nothing of it.
        let service = fixture.service()
        let work = Task { try await service.runUntilIdle() }
        for _ in 0..<50 { await Task.yield() }
        work.cancel()
        _ = try? await work.value
        let status = try await fixture.drain()
        #expect(status.isUpToDate, "seed \(seed): \(status.worker)")
        #expect(!fixture.backend.hasOverlapped, "seed \(seed)")
        for number in 0..<4 {
            let expected = try await fixture.expectedHistory("k\(number)")
            #expect(
                Self.merged(fixture.mirroredHistory("k\(number)")) == Self.merged(expected),
                "seed \(seed), k\(number)"
            )
        }
        try await fixture.close()
    }

    /// A delete marker in a backend has no name: a worker that finds one on top can't tell whether a task of an earlier
    /// worker put it there, and puts no second one on it. What readers see is the same.
    private static func merged(_ history: [VersionID?]) -> [VersionID?] {
        history.enumerated().filter { $0.element != nil || $0.offset == 0 || history[$0.offset - 1] != nil }
            .map(\.element)
    }

    @Test func aLargeObjectGoesInPartsAndALaterAttemptGoesOnWithThem() async throws {
        let fixture = try await MirrorFixture()
        let bytes = noise(18 << 20, 7)
        try await fixture.add()
        try await fixture.put("large", bytes)
        fixture.backend.set(.init(lostAnswers: 30))
        fixture.limits.attemptCountMax = 1000
        let status = try await fixture.drain()
        #expect(status.isUpToDate)
        let objects = fixture.backend.history("models/large")
        #expect(objects.count == 1 && objects.first?.bytes == bytes)
        #expect(fixture.backend.partCount >= 4)
        #expect(fixture.backend.uploadCount == 0, "no upload is left behind")
        try await fixture.close()
    }

    @Test func aPoisonedKeyHoldsBackItsOwnVersionsAndNoOthers() async throws {
        let fixture = try await MirrorFixture()
        try await fixture.add()
        fixture.limits.attemptCountMax = 1
        fixture.backend.poison("models/bad")
        try await fixture.put("bad", [1])
        try await fixture.put("bad", [2])
        for number in 0..<30 { try await fixture.put("good\(number)", [UInt8(number)]) }
        // Something that works has to go on, so that the backend is known to be alive.
        var status = try await fixture.drain()
        for number in 0..<20 where status.deadCount == 0 {
            try await fixture.put("more\(number)", [1])
            status = try await fixture.drain()
        }
        for number in 0..<30 { #expect(fixture.backend.history("models/good\(number)").count == 1) }
        #expect(fixture.backend.history("models/bad").isEmpty)
        fixture.backend.poison("models/bad", false)
        let result = try await fixture.directory.retry(fixture.mirror)
        #expect(result.kept == 0)
        status = try await fixture.drain()
        #expect(status.isUpToDate)
        #expect(fixture.backend.history("models/bad").map(\.bytes) == [[1], [2]])
        try await fixture.close()
    }

    @Test func whatOnlyItsClientCanReadIsGivenUpWithTheReasonAndNotInTheWay() async throws {
        let fixture = try await MirrorFixture()
        try await fixture.add()
        let key = EncryptionKey(from: SeededRandom(seed: 3))
        _ = try await fixture.objects.put(
            PutRequest(bucket: fixture.bucket, key: ObjectKey("c"), encryption: .clientKey(key)),
            body: BufferByteSource([1])
        )
        try await fixture.put("c", [2])
        let sealed = try await fixture.objects.put(
            PutRequest(bucket: fixture.bucket, key: ObjectKey("s"), encryption: .storeKey),
            body: BufferByteSource([3])
        )
        let status = try await fixture.drain()
        #expect(status.deadCount == 1 && status.pendingCount == 0)
        let letters = try await fixture.directory.deadLetters(status.row, limit: 10)
        #expect(letters.first?.reason.contains("SSE-C") == true)
        #expect(fixture.backend.history("models/c").map(\.bytes) == [[2]])
        // With the store's key it goes as plaintext, and says the hash of that.
        let object = try #require(fixture.backend.history("models/s").first)
        #expect(object.bytes == [3] && object.properties.holdfastVersion == sealed.id)
        #expect(object.properties.holdfastSHA256 == SHA256Hasher.hash([3]))
        try await fixture.close()
    }

    @Test func aBackendThatIsDownCostsFewCallsAndLosesNothing() async throws {
        let fixture = try await MirrorFixture()
        try await fixture.add()
        for number in 0..<50 { try await fixture.put("k\(number)", [1]) }
        fixture.backend.fail(MirrorFailure(.unreachable, "Connection refused."))
        var status = try await fixture.drain()
        #expect(status.pendingCount == 50 && status.deadCount == 0)
        #expect(status.worker.lastFailure?.contains("refused") == true)
        #expect(fixture.backend.callCount < 60, "the breaker keeps it from being asked")
        fixture.backend.fail(nil)
        status = try await fixture.drain()
        #expect(status.isUpToDate && fixture.backend.keys.count == 50)
        try await fixture.close()
    }

    @Test func theReplicationStatusFollows() async throws {
        let fixture = try await MirrorFixture()
        let old = try await fixture.put("old", [1])
        #expect(try await fixture.objects.replicationStatus(of: old, in: fixture.bucket) == nil)
        try await fixture.add()
        let new = try await fixture.put("new", [1])
        #expect(try await fixture.objects.replicationStatus(of: old, in: fixture.bucket) == .pending)
        #expect(try await fixture.objects.replicationStatus(of: new, in: fixture.bucket) == .pending)
        try await fixture.drain()
        #expect(try await fixture.objects.replicationStatus(of: old, in: fixture.bucket) == .completed)
        #expect(try await fixture.objects.replicationStatus(of: new, in: fixture.bucket) == .completed)
        try await fixture.close()
    }

    @Test func anAuditNamesWhatIsMissingDifferentAndTooMuch() async throws {
        for keepsVersions in [true, false] {
            let fixture = try await MirrorFixture(keepsVersions: keepsVersions)
            try await fixture.add()
            for number in 0..<10 { try await fixture.put("k\(number)", [UInt8(number)]) }
            try await fixture.put("k0", [99])
            try await fixture.delete("k1")
            let status = try await fixture.drain()
            let route = try #require(try await fixture.directory.route(status.row.id))
            func audit() async throws -> MirrorAuditReport {
                try await MirrorAudit(
                    fixture.directory.store,
                    fixture.backend,
                    status.row,
                    route,
                    isDeep: true
                ).run()
            }
            var report = try await audit()
            #expect(report.isClean, "\(report.differences)")
            fixture.backend.lose("models/k3")
            fixture.backend.place("models/stranger", [1])
            // Page by page it is the same.
            var (position, kinds): (MirrorPosition?, [MirrorDifference.Kind]) = (nil, [])
            repeat {
                let (page, next) = try await MirrorAudit(
                    fixture.directory.store,
                    fixture.backend,
                    status.row,
                    route,
                    isDeep: true
                ).page(after: position, keyCountMax: 1)
                kinds += page.differences.map(\.kind)
                position = try next.map { try MirrorPosition(text: $0.text) }
            } while position != nil
            #expect(Set(kinds) == [.missing, .extra] && kinds.count == 2)
            report = try await audit()
            #expect(report.counts == [.missing: 1, .extra: 1], "\(report.differences)")
            #expect(Set(report.differences.map(\.key)) == ["models/k3", "models/stranger"])
            try await fixture.close()
        }
    }

    @Test func whatIsQueuedAgainBehindAVersionOnItsWayDoesNotBecomeTheNewest() async throws {
        let fixture = try await MirrorFixture()
        let row = try await fixture.add()
        let first = try await fixture.put("a", [1])
        let other = try await fixture.put("b", [1])
        try await fixture.drain()
        // Both are lost in the backend; a newer version of the one is on its way when both are queued again.
        for key in ["models/a", "models/b"] {
            let lost = try #require(fixture.backend.history(key).first)
            _ = try await fixture.backend.delete(key, version: lost.versionID)
        }
        let second = try await fixture.put("a", [2])
        fixture.backend.hold(true)
        let service = fixture.service()
        let work = Task { await service.run() }
        while fixture.backend.heldKeys.isEmpty { try await Task.sleep(for: .milliseconds(5)) }
        for version in [first, other] {
            let isQueued = try await fixture.directory.requeue(
                version,
                of: fixture.bucket,
                for: row.id,
                keepsVersions: true
            )
            #expect(isQueued)
        }
        service.nudge(row.id)
        fixture.backend.hold(false)
        while try await !fixture.tasks().isEmpty { try await Task.sleep(for: .milliseconds(5)) }
        work.cancel()
        await work.value
        #expect(fixture.mirroredHistory("a") == [second.id])
        #expect(fixture.mirroredHistory("b") == [other.id])
        let letters = try await fixture.directory.deadLetters(row, limit: 10)
        #expect(letters.map(\.task.version) == [first.id])
        #expect(letters.first?.reason.contains("newer version") == true && letters.first?.holdsKey == false)
        // Nobody can help it: trying again leaves it where it is.
        let retried = try await fixture.directory.retry(fixture.mirror)
        #expect(retried.queued == 0 && retried.kept == 1)
        try await fixture.close()
    }

    @Test func anEmptyStoreGetsTheHistoryBackFromTheBackendAlone() async throws {
        let source = try await MirrorFixture()
        try await source.add()
        for number in 0..<6 { try await source.put("a", noise(1000 + number, UInt64(number))) }
        try await source.delete("a")
        try await source.put("a", [7], tags: [NamedValue("k", "v")])
        try await source.put("b/c", noise(6 << 20, 5))
        try await source.drain()
        let target = try await MirrorFixture()
        let restore = MirrorRestore(source.backend, prefix: "", to: StoreRestoreTarget(target.objects))
        let report = try await restore.run()
        #expect(report.versionCount == 8 && report.markerCount == 1 && report.keyCount == 2)
        for key in ["a", "b/c"] {
            let old = try await source.objects.history(bucket: source.bucket, key: ObjectKey(key))
            let new = try await target.objects.history(bucket: target.bucket, key: ObjectKey(key))
            #expect(new.map(\.checksums.sha256) == old.map(\.checksums.sha256))
            #expect(new.map(\.isDeleteMarker) == old.map(\.isDeleteMarker))
            #expect(new.map(\.tags) == old.map(\.tags) && new.map(\.userMetadata) == old.map(\.userMetadata))
        }
        // Again: everything is there.
        let again = try await restore.run()
        #expect(again.versionCount == 0 && again.skippedCount == 9)
        try await source.close()
        try await target.close()
    }
}
