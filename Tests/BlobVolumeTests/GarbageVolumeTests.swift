import BlobVolume
import ContentHashing
import Glibc
import StoreModel
import Synchronization
import Testing

/// Records that die, and what becomes of their space. Crashes in it: CrashTests.
@Suite struct GarbageVolumeTests {
    private static let keptSeeds = [1, 7, 13]
    private static let seeds = Array(1...18)

    private static func size(_ seed: Int) -> Int { seed % 3 == 0 ? 20_000 + seed : 700 + seed }

    /// Fills log segments with payloads and batches, trims the log, buries all but a few payloads, gives space back.
    /// - Returns: the position behind which the log begins.
    private func live(_ volume: BlobVolume) throws -> LogPosition {
        var tail = LogPosition.origin
        var base = LogPosition.origin
        for seed in Self.seeds {
            let next = CommitBatch(
                epoch: 1,
                predecessor: tail,
                commitIndex: tail.sequence,
                timestamp: Timestamp(milliseconds: Int64(seed)),
                body: content(seed + 500, count: 200)
            )
            try volume.appendGroup(payloads: [payload(seed, count: Self.size(seed))], batch: next)
            try volume.syncLog()
            tail = next.position
            if seed == Self.seeds.count - 2 { base = tail }
        }
        try volume.trimLog(base: base)
        let kept = Set(Self.keptSeeds.map { payload($0, count: Self.size($0)).digest })
        for number in volume.segmentNumbers {
            let found = try volume.garbageCandidates(in: number, before: .everything) { kept.contains($0) }
            try volume.bury(volume.withdraw(found))
        }
        for number in volume.segmentNumbers { _ = try volume.reclaim(number, ReclaimPolicy()) }
        return base
    }

    private func check(_ volume: BlobVolume, base: LogPosition) throws {
        #expect(volume.logBase == base)
        #expect(volume.positions(after: 0).count == 2)
        #expect(!volume.isLogDamaged)
        #expect(volume.openReport.damage.isEmpty)
        for seed in Self.seeds {
            let record = payload(seed, count: Self.size(seed))
            if Self.keptSeeds.contains(seed) {
                #expect(try volume.read(record.digest, range: 0..<record.bytes.count) == record.bytes)
            } else {
                #expect(volume.presence(of: record.digest) == .absent)
            }
        }
    }

    @Test func logSegmentsGoAndTheLogBeginsWhereItDid() throws {
        let fixture = try VolumeFixture()
        var volume = try fixture.open()
        let base = try live(volume)
        #expect(try fixture.segments().count <= 2)
        #expect(volume.identity.formatMajor == 2)
        try check(volume, base: base)
        try volume.close()
        volume = try fixture.open()
        try check(volume, base: base)
        // Numbers are never used again, and the log goes on.
        let next = CommitBatch(
            epoch: 2,
            predecessor: volume.logTail,
            commitIndex: 1,
            timestamp: Timestamp(milliseconds: 1),
            body: []
        )
        try volume.appendGroup(payloads: [payload(99, count: 60_000)], batch: next)
        try volume.syncLog()
        try volume.close()
        #expect(try fixture.open().logTail == next.position)
    }

    /// What logs say of the bulk segments does not go back to one that is gone, when the last one was sealed.
    @Test func aSealedBulkSegmentIsNamedUntilTheNext() throws {
        let fixture = try VolumeFixture()
        let volume = try fixture.open()
        func rotateLog(from seed: Int) throws {
            let last = volume.segmentNumbers.max()
            for seed in seed..<seed + 1000 where volume.segmentNumbers.max() == last {
                try volume.appendGroup(payloads: [payload(seed, count: 20_000)], batch: nil)
                try volume.syncLog()
            }
            #expect(volume.segmentNumbers.max() != last)
        }
        try volume.appendBulk(payload(1, count: 400_000))
        try volume.syncBulk()
        let first = try #require(volume.segmentNumbers.max())
        try rotateLog(from: 1000)
        var last = 1
        let present = volume.segmentNumbers.max()
        while volume.segmentNumbers.max() == present {
            last += 1
            try volume.appendBulk(payload(last, count: 400_000))
        }
        try volume.appendBulk(payload(last + 1, count: 400_000))
        try volume.syncBulk()
        let kept = payload(last, count: 400_000).digest
        for number in volume.segmentNumbers {
            let found = try volume.garbageCandidates(in: number, before: .everything) { $0 == kept }
            try volume.bury(volume.withdraw(found))
        }
        #expect(try volume.sealForReclaiming(ReclaimPolicy(), force: true) == 1)
        try rotateLog(from: 2000)
        try rotateLog(from: 3000)
        #expect(try volume.reclaim(first, ReclaimPolicy()).removedSegmentCount == 1)
        try volume.close()
        #expect(try fixture.check().damage.isEmpty)
        let reopened = try fixture.open()
        #expect(reopened.openReport.damage.isEmpty)
        try reopened.close()
    }

    /// They get no footer, and are never written to again: they go, a step at a time, and what is alive in them stays.
    @Test func segmentsThatWereLeftAreEmptied() throws {
        let fixture = try VolumeFixture()
        func open(discarding: Bool = false) throws -> BlobVolume {
            try fixture.open { options in
                options.bulkSegmentSizeMax = 64 << 20
                options.discardUnsynced = discarding
            }
        }
        let small = (1...20).map { payload($0, count: 1000) }
        let large = (101...136).map { payload($0, count: 1 << 20) }
        var volume = try open()
        for record in small { try volume.commit([record]) }
        for record in large { try volume.appendBulk(record) }
        try volume.syncBulk()
        try volume.commit()
        try volume.close()
        let left = try fixture.segments()
        volume = try open(discarding: true)
        let later = [payload(21, count: 1000), payload(137, count: 1 << 20)]
        try volume.commit([later[0]])
        try volume.appendBulk(later[1])
        try volume.syncBulk()
        // As long as the log needs one it stays.
        for number in volume.segmentNumbers where volume.isLogSegment(number) {
            #expect(try volume.reclaim(number, ReclaimPolicy()).removedSegmentCount == 0)
        }
        try volume.trimLog(base: volume.logTail)
        let dead = Set(small.prefix(5).map(\.digest) + large.prefix(2).map(\.digest))
        for number in volume.segmentNumbers {
            let found = try volume.garbageCandidates(in: number, before: .everything) { !dead.contains($0) }
            try volume.bury(volume.withdraw(found))
        }
        var stepCount = 0
        var space = ReclaimedSpace()
        for number in volume.segmentNumbers {
            var isUnfinished = true
            while isUnfinished {
                let step = try volume.reclaim(number, ReclaimPolicy())
                isUnfinished = step.isUnfinished
                space.add(step)
                stepCount += 1
            }
        }
        #expect(stepCount > volume.segmentNumbers.count)
        #expect(space.removedSegmentCount == left.count)
        #expect(Set(try fixture.segments()).isDisjoint(with: left))
        let kept = small.dropFirst(5) + large.dropFirst(2) + later
        func check() throws {
            for record in kept { #expect(try volume.read(record) == record.bytes) }
            for digest in dead { #expect(volume.presence(of: digest) == .absent) }
        }
        try check()
        try volume.close()
        #expect(try fixture.check().damage.isEmpty)
        #expect(String(decoding: try fixture.bytes("volume.json"), as: UTF8.self).contains("\"frozen\": []"))
        volume = try open()
        #expect(volume.openReport.damage.isEmpty)
        try check()
        try volume.close()
    }

    /// Killed at any moment while segments are emptied: the next run does the rest, and nothing is kept twice.
    @Test func whatWasCopiedAlreadyIsNotCopiedAgain() throws {
        let fixture = try VolumeFixture()
        let records = (1...6).map { payload($0, count: $0 % 2 == 0 ? 200_000 : 1000) }
        var volume = try fixture.open()
        for record in records {
            let isLarge = record.bytes.count > 1000
            if isLarge { try volume.appendBulk(record) } else { try volume.commit([record]) }
        }
        try volume.syncBulk()
        try volume.commit()
        try volume.close()
        let left = try fixture.segments()
        let disk = RiggedDisk(try fixture.directory.disk())
        var options = fixture.options
        options.discardUnsynced = true
        volume = try BlobVolume.open(disk, options: options)
        try volume.commit([payload(7, count: 1000)])
        try volume.appendBulk(payload(8, count: 200_000))
        try volume.syncBulk()
        try volume.trimLog(base: volume.logTail)
        let moments = Mutex<[Result<[String: [UInt8]], any Error>]>([])
        disk.rigging.withLock { rigging in
            rigging.observer = { call, _ in
                guard call == "write" || call == "sync" else { return }
                moments.withLock { $0.append(Result { try fixture.snapshot() }) }
            }
        }
        for number in volume.segmentNumbers { _ = try volume.reclaim(number, ReclaimPolicy()) }
        disk.rigging.withLock { $0.observer = nil }
        #expect(Set(try fixture.segments()).isDisjoint(with: left))
        try volume.close()
        var unfinished = 0
        for moment in moments.withLock({ $0 }) {
            try fixture.restore(moment.get())
            if !Set(try fixture.segments()).isDisjoint(with: left) { unfinished += 1 }
            let volume = try fixture.open()
            for number in volume.segmentNumbers { _ = try volume.reclaim(number, ReclaimPolicy()) }
            #expect(Set(try fixture.segments()).isDisjoint(with: left))
            #expect(try volume.usage().liveRecordCount == records.count + 2)
            for record in records { #expect(try volume.read(record) == record.bytes) }
            try volume.close()
            #expect(try fixture.check().damage.isEmpty)
        }
        #expect(unfinished > 4)
    }

    /// What is said of it, in tombstones, would hold for the one that gets its number.
    @Test func theNumberOfALostSegmentIsNotGivenAgain() throws {
        let fixture = try VolumeFixture()
        var volume = try fixture.open()
        try volume.commit([payload(1, count: 1000)])
        let record = payload(2, count: 200_000)
        try volume.appendBulk(record)
        try volume.syncBulk()
        for number in volume.segmentNumbers where !volume.isLogSegment(number) {
            let found = try volume.garbageCandidates(in: number, before: .everything) { _ in false }
            try volume.bury(volume.withdraw(found))
        }
        try volume.close()
        let lost = try #require(try fixture.segments().last)
        #expect(lost.hasSuffix(".bulk"))
        try fixture.directory.disk().remove("segments/" + lost)
        volume = try fixture.open()
        // The same bytes once more, which would stand where the dead record stood.
        try volume.appendBulk(record)
        try volume.syncBulk()
        try volume.commit()
        try volume.close()
        volume = try fixture.open()
        #expect(volume.presence(of: record.digest) == .synced)
        #expect(try volume.read(record) == record.bytes)
        try volume.close()
    }

    @Test func bulkRecordsBecomeHolesAndLastSegmentsStay() throws {
        let fixture = try VolumeFixture()
        let volume = try fixture.open()
        for seed in 1...30 { try volume.appendBulk(payload(seed, count: 400_000)) }
        try volume.syncBulk()
        let before = try volume.usage()
        let kept = payload(2, count: 400_000)
        for number in volume.segmentNumbers {
            let found = try volume.garbageCandidates(in: number, before: .everything) { $0 == kept.digest }
            try volume.bury(volume.withdraw(found))
        }
        #expect(try volume.sealForReclaiming(ReclaimPolicy(), force: true) == 1)
        let last = try #require(volume.segmentNumbers.last)
        var space = ReclaimedSpace()
        for number in volume.segmentNumbers { space.add(try volume.reclaim(number, ReclaimPolicy())) }
        #expect(space.removedSegmentCount > 0 && space.punchedBytes > 400_000)
        #expect(volume.segmentNumbers.contains(last) || volume.segmentNumbers.max() ?? 0 > last)
        let after = try volume.usage()
        #expect(after.liveRecordCount == 1)
        #expect(after.allocatedBytes < before.allocatedBytes / 4)
        #expect(after.reclaimableBytes < 200_000)
        #expect(try volume.read(kept.digest, range: 0..<400_000) == kept.bytes)
        try volume.close()
        let reopened = try fixture.open()
        #expect(reopened.openReport.damage.isEmpty)
        #expect(try reopened.read(kept.digest, range: 0..<400_000) == kept.bytes)
        try reopened.close()
        #expect(try fixture.check().damage.isEmpty)
    }

    @Test func theQuarantineStaysWithinItsBounds() throws {
        let fixture = try VolumeFixture()
        let volume = try fixture.open()
        let disk = try fixture.directory.disk()
        for number in 0..<5 {
            let file = try disk.open("quarantine/1-\(number)-100.log", .create)
            try file.write([UInt8](repeating: 1, count: 100), at: 0)
        }
        var bounds = QuarantineBounds()
        bounds.bytesMax = 350
        let now = Timestamp(milliseconds: Int64(time(nil)) * 1000)
        #expect(volume.trimQuarantine(bounds, now: now).count == 2)
        #expect(volume.quarantine.count == 3)
        bounds.countMax = 2
        #expect(volume.trimQuarantine(bounds, now: now).count == 1)
        bounds.ageMax = .seconds(10)
        #expect(
            volume.trimQuarantine(bounds, now: Timestamp(milliseconds: now.milliseconds + 60_000)).count == 2
        )
        #expect(try disk.list("quarantine").isEmpty)
        try volume.close()
    }

    /// `fixtures/volumes/v2` was made once by the first program that writes format 2 (HOLDFAST_MAKE_VOLUME names a directory
    /// to make such a volume in) and never changes.
    @Test func aVolumeOfTheSecondFormatIsReadWhole() throws {
        let parts = #filePath.split(separator: "/").dropLast(3)
        let source = try PosixDisk(path: "/" + parts.joined(separator: "/") + "/fixtures/volumes/v2")
        let fixture = try VolumeFixture()
        var files: [String: [UInt8]] = [:]
        for folder in ["", "segments"] {
            for name in try source.list(folder) where name != "segments" && name != "quarantine" {
                let path = folder.isEmpty ? name : folder + "/" + name
                let file = try source.open(path, .read)
                files[path] = try file.read(count: Int(file.size()), at: 0)
            }
        }
        try fixture.restore(files)
        let volume = try fixture.open()
        #expect(volume.identity.formatMajor == 2)
        try check(volume, base: volume.logBase)
        #expect(volume.logBase.sequence == UInt64(Self.seeds.count - 2))
        try volume.close()
        #expect(try fixture.check().damage.isEmpty)
    }

    @Test(.enabled(if: getenv("HOLDFAST_MAKE_VOLUME") != nil)) func makeTheFixture() throws {
        let path = try #require(getenv("HOLDFAST_MAKE_VOLUME").map { String(cString: $0) })
        let disk = try PosixDisk(path: path)
        let fixture = try VolumeFixture()
        try BlobVolume.format(disk, identity: fixture.open().identity, options: fixture.options)
        let volume = try BlobVolume.open(disk, options: fixture.options)
        _ = try live(volume)
        try volume.close()
    }
}
