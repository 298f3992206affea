import BlobVolume
import ContentHashing
import Foundation
import StoreModel
import StoreTestKit
import Synchronization
import Testing

@Suite struct ScrubTests {
    /// Walks to the end; what needs a good copy gets it from `records`.
    @discardableResult
    private func scrub(
        _ volume: BlobVolume,
        _ records: [PayloadRecord] = [],
        step: UInt64 = 1 << 20,
        restarting: Bool = false
    ) throws -> (damage: [ScrubDamage], bytes: UInt64, records: UInt64) {
        var scrubber = volume.makeScrubber()
        let last = scrubber.lastSegment
        var result: (damage: [ScrubDamage], bytes: UInt64, records: UInt64) = ([], 0, 0)
        for _ in 0..<1_000_000 {
            let done = try scrubber.step(byteCount: step)
            result.damage += done.damage
            result.bytes += done.byteCount
            result.records += done.recordCount
            for damage in done.damage {
                switch damage.remedy {
                case .replace:
                    let known = records + Self.unacknowledged
                    let record = try #require(known.first { $0.digest == damage.digest }, "\(damage)")
                    try volume.replaceDamaged(record)
                case .compare:
                    for record in records where volume.presence(of: record.digest) == .absent {
                        try volume.replaceDamaged(record)
                    }
                case .rebuildLog: try volume.noteLostBatch(at: #require(damage.location))
                case .mended: break
                case .failed(let reason): Issue.record("\(damage): \(reason)")
                }
            }
            if done.isAtEnd { return result }
            // Whoever comes after begins a damaged segment anew, and so does not get ahead in it by steps of one byte.
            if restarting, done.cursor.offset > 0 {
                scrubber = volume.makeScrubber(from: done.cursor, through: last)
            }
        }
        Issue.record("the walk does not end")
        return result
    }

    /// Sealed and open segments of both kinds, overwritten batches, marks and a tombstone.
    private func filled(_ fixture: VolumeFixture) throws -> [PayloadRecord] {
        let small = (0..<14).map { payload($0, count: 200 + $0 * 211) }
        let large = (100..<103).map { payload($0, count: 150_000 + $0 * 977) }
        let volume = try fixture.open()
        for (index, record) in small.enumerated() {
            try volume.commit([record], commitIndex: UInt64(index))
            if index % 5 == 0 {
                try volume.appendGroup(payloads: [payload(200 + index, count: 70)], batch: nil)
            }
        }
        for record in large { try volume.appendBulk(record) }
        try volume.syncBulk()
        try volume.syncLog()
        try volume.close()
        return small + large + stride(from: 0, to: 14, by: 5).map { payload(200 + $0, count: 70) }
    }

    @Test func aSoundVolumeIsReadFromEndToEndAndNothingIsFound() throws {
        let fixture = try VolumeFixture()
        let records = try filled(fixture)
        let before = try fixture.snapshot()
        let volume = try fixture.open()
        let result = try scrub(volume)
        #expect(result.damage.isEmpty, "\(result.damage)")
        #expect(result.records >= UInt64(records.count))
        #expect(result.bytes >= records.reduce(0) { $0 + UInt64($1.bytes.count) })
        let again = try scrub(volume, step: 1, restarting: true)
        #expect(again.damage.isEmpty)
        #expect(again.records == result.records)
        try volume.close()
        let after = try fixture.snapshot()
        for (name, bytes) in before where name.hasPrefix("segments/") {
            #expect(after[name] == bytes, "\(name)")
        }
    }

    /// What a scrub says of a disk, the disk has said: not the page cache, which was right all along.
    @Test func recordsAreReadPastThePageCache() throws {
        let fixture = try VolumeFixture()
        _ = try filled(fixture)
        let disk = RiggedDisk(try fixture.directory.disk())
        let volume = try BlobVolume.open(disk, options: fixture.options)
        let opened = disk.reads.count
        var wanted: UInt64 = 0
        try scrub(volume)
        let reads = disk.reads[opened...].filter { $0.name.hasPrefix("segments/") }
        for name in try fixture.segments() {
            let direct = reads.filter { $0.isDirect && $0.name.hasSuffix(name) }
            // In one go from the first record on, from block to block.
            var end = UInt64(4096)
            for read in direct {
                #expect(read.range.lowerBound % 4096 == 0 && read.range.count % 4096 == 0, "\(name)")
                #expect(read.range.lowerBound <= end, "\(name): a gap in front of \(read.range)")
                end = max(end, read.range.upperBound)
            }
            wanted += end
            // The rest is the segment's header, its footer and its trailer.
            let cached = reads.filter { !$0.isDirect && $0.name.hasSuffix(name) }
            #expect(cached.reduce(0) { $0 + $1.range.count } < 32 << 10, "\(name): \(cached)")
        }
        #expect(wanted > 400_000)
        try volume.close()
    }

    /// A block that lies across two windows is kept, not read again: what was fetched ahead is what comes next.
    @Test func aSegmentIsReadInOneLine() throws {
        let fixture = try VolumeFixture()
        let disk = RiggedDisk(try fixture.directory.disk())
        let volume = try BlobVolume.open(disk, options: fixture.options)
        let records = (0..<9).map { payload(700 + $0, count: 850_000 + $0 * 1237) }
        for record in records { try volume.appendBulk(record) }
        try volume.syncBulk()
        let opened = disk.reads.count
        let result = try scrub(volume)
        #expect(result.damage.isEmpty)
        #expect(result.records >= UInt64(records.count))
        let direct = disk.reads[opened...].filter { $0.isDirect && $0.name.hasSuffix(".bulk") }
        for name in Set(direct.map(\.name)) {
            // The padding of the footer is looked at first.
            let ranges = direct.filter { $0.name == name && $0.range.count > 4096 }.map(\.range)
            let isOneLine = zip(ranges, ranges.dropFirst()).allSatisfy { $0.upperBound == $1.lowerBound }
            #expect(isOneLine && ranges.first?.lowerBound == 4096, "\(ranges)")
        }
        #expect(direct.count > Set(direct.map(\.name)).count)
        let bytes = records.reduce(0) { $0 + $1.bytes.count }
        #expect(result.bytes >= UInt64(bytes) && result.bytes < UInt64(bytes) * 11 / 10)
        try volume.close()
    }

    /// One flipped bit anywhere, found when the volume is opened or while it is open, is found by one scrub, and after
    /// what the scrub asked for nothing is left to be found, by it or by a check of all files.
    @Test(arguments: [false, true]) func aFlippedBitAnywhereIsFoundAndMended(whileOpen: Bool) throws {
        let fixture = try VolumeFixture()
        let records = try filled(fixture)
        let clean = try fixture.snapshot()
        var generator = SeededGenerator(seed: 20_261)
        // What is set aside for a full disk means nothing.
        for name in clean.keys.sorted() where !name.hasPrefix("quarantine/") && name != "reserve" {
            let size = try #require(clean[name]).count
            var offsets = Set((0..<5).map { _ in Int.random(in: 0..<size, using: &generator) })
            offsets.formUnion([40, 70, 4100, 4200, size - 1].filter { $0 < size })
            for offset in offsets.sorted() {
                try fixture.restore(clean)
                let bit = UInt8(1) << UInt8.random(in: 0..<8, using: &generator)
                let place = Comment(rawValue: "\(name) byte \(offset), mask \(bit)")
                var volume: BlobVolume
                if whileOpen {
                    volume = try fixture.open()
                    // What opening makes anew has other bytes.
                    guard try fixture.segments().contains(String(name.dropFirst(9))) else {
                        try volume.close()
                        continue
                    }
                    try fixture.flip(name, at: UInt64(offset), bit)
                } else {
                    try fixture.flip(name, at: UInt64(offset), bit)
                    volume = try fixture.open()
                }
                let found = try scrub(volume, records).damage + volume.mendedAtOpening
                #expect(!found.isEmpty, place)
                for record in records { #expect(try volume.read(record) == record.bytes, place) }
                let rest = try scrub(volume, records).damage
                #expect(rest.isEmpty, "\(place): \(rest)")
                if volume.isLogDamaged {
                    // What its peers do.
                    try volume.resetLog(base: volume.logTail)
                    try volume.noteLogRebuilt()
                }
                try volume.close()
                let check = try fixture.check()
                #expect(check.damage.isEmpty, "\(place): \(found) \(check.damage)")
                volume = try fixture.open()
                #expect(volume.openReport.damage.isEmpty, place)
                #expect(!volume.isLogDamaged, place)
                #expect(try scrub(volume).damage.isEmpty, place)
                try volume.close()
            }
        }
    }

    // MARK: Damage beside damage

    /// Scrubs once; whoever looks at the files then has nothing to say.
    /// - Returns: what was found. (In bytes that nothing counts on, nothing needs to be.)
    @discardableResult
    private func mend(_ fixture: VolumeFixture, _ records: [PayloadRecord], _ place: Comment) throws
        -> [ScrubDamage]
    {
        var volume = try fixture.open()
        let found = try scrub(volume, records).damage + volume.mendedAtOpening
        for record in records { #expect(try volume.read(record) == record.bytes, place) }
        try rebuildLog(volume)
        try volume.close()
        volume = try fixture.open()
        let rest = try scrub(volume, records).damage
        #expect(rest.isEmpty, "\(place): \(rest)")
        // Whether a batch was among what stood at the end and is lost, a volume can't tell by itself.
        try rebuildLog(volume)
        volume.setComplete(through: volume.logTail.sequence)
        try volume.close()
        // What was dealt with is no reason to compare everything again.
        volume = try fixture.open()
        #expect(volume.openReport.damage.isEmpty, "\(place): \(volume.openReport.damage)")
        #expect(volume.completeSequence == volume.logTail.sequence, place)
        try volume.close()
        let check = try fixture.check()
        #expect(check.damage.isEmpty, "\(place): \(check.damage)")
        return found
    }

    /// What its peers do.
    private func rebuildLog(_ volume: BlobVolume) throws {
        guard volume.isLogDamaged else { return }
        try volume.resetLog(base: volume.logTail)
        try volume.noteLogRebuilt()
    }

    /// Where records of a type stand in a segment.
    private func places(of type: UInt8, _ fixture: VolumeFixture, _ name: String) throws -> [Int] {
        let bytes = try fixture.bytes("segments/" + name)
        return stride(from: 4096, to: bytes.count - 96, by: 64).filter {
            Array(bytes[$0..<$0 + 5]) == Array("HFRC".utf8) + [type]
        }
    }

    /// A footer that was replaced counts for nothing, but a walk without a footer would stop at it.
    @Test(arguments: [4, 100, 180]) func aFooterThatWasReplacedRots(at byte: Int) throws {
        let fixture = try VolumeFixture()
        let records = try filled(fixture)
        let name = try #require(try fixture.segments().first { $0.hasSuffix(".log") })
        for round in 0..<2 {
            // The first one has the segment sealed, the second one its footer replaced.
            let batch = try #require(try places(of: 2, fixture, name).dropFirst(3 + round).first)
            try fixture.flip("segments/" + name, at: UInt64(batch + 5))
            #expect(!(try mend(fixture, records, "batch \(round)")).isEmpty)
        }
        for round in 0..<3 {
            let footers = try places(of: 7, fixture, name)
            let replaced = try #require(footers.dropLast().last, "round \(round)")
            try fixture.flip("segments/" + name, at: UInt64(replaced + byte))
            #expect(!(try mend(fixture, records, "round \(round)")).isEmpty)
        }
        let footer = try #require(try places(of: 7, fixture, name).last)
        try fixture.flip("segments/" + name, at: UInt64(footer + byte))
        #expect(!(try mend(fixture, records, "the one that counts")).isEmpty)
    }

    /// What was never acknowledged, because its fsync failed, may be there all the same.
    private static let unacknowledged = [
        payload(700, count: 140_000), payload(800), payload(701, count: 140_000), payload(801),
    ]

    /// A volume with segments of both kinds that were left after a failed fsync.
    private func frozen(_ fixture: VolumeFixture) throws -> [PayloadRecord] {
        let records = try filled(fixture)
        var added: [PayloadRecord] = []
        for (round, suffix) in [".log", ".bulk"].enumerated() {
            let disk = RiggedDisk(try fixture.directory.disk())
            var volume = try BlobVolume.open(disk, options: fixture.options)
            for index in 0..<3 {
                let small = payload(500 + round * 10 + index, count: 900)
                let large = payload(600 + round * 10 + index, count: 140_000)
                try volume.commit([small])
                try volume.appendBulk(large)
                try volume.syncBulk()
                added += [small, large]
            }
            try volume.commit()
            disk.fail("sync", suffix)
            #expect(throws: VolumeError.self) {
                try volume.appendBulk(Self.unacknowledged[2 * round])
                try volume.syncBulk()
                try volume.commit([Self.unacknowledged[2 * round + 1]])
            }
            try volume.close()
            volume = try fixture.open()
            for index in 0..<3 {
                let record = payload(900 + round * 10 + index, count: 500)
                try volume.commit([record])
                added.append(record)
            }
            try volume.close()
        }
        let volume = try fixture.open()
        for record in records + added { #expect(try volume.read(record) == record.bytes) }
        try volume.close()
        return records + added
    }

    /// What is lost in a segment that gets no footer is named once, and told by tombstones from then on.
    @Test func aSegmentThatWasLeftAfterAFailedFsyncRots() throws {
        let fixture = try VolumeFixture()
        let records = try frozen(fixture)
        let clean = try fixture.snapshot()
        var count = 0
        for name in try fixture.segments() where try places(of: 7, fixture, name).isEmpty {
            for type in [UInt8](1...3) {
                for (index, start) in try places(of: type, fixture, name).enumerated() {
                    try fixture.restore(clean)
                    // The header, or what it heads.
                    try fixture.flip("segments/" + name, at: UInt64(start + (index % 2 == 0 ? 40 : 150)))
                    if !(try mend(fixture, records, "\(name) \(start)")).isEmpty { count += 1 }
                }
            }
        }
        #expect(count > 12)
    }

    /// The first record of a type in a segment that was left after a failed fsync, and the record behind it.
    private func neighbours(_ fixture: VolumeFixture, _ suffix: String) throws -> (
        name: String, first: Int, second: Int
    ) {
        let name = try #require(
            try fixture.segments().first { try $0.hasSuffix(suffix) && places(of: 7, fixture, $0).isEmpty }
        )
        let all = try [UInt8](1...3).flatMap { try places(of: $0, fixture, name) }.sorted()
        return (name, try #require(all.first), try #require(all.dropFirst().first))
    }

    /// What was dealt with is no news to whoever opens the volume, unless more is lost there since.
    @Test(arguments: [".log", ".bulk"]) func aHoleThatGrowsIsNews(_ suffix: String) throws {
        let fixture = try VolumeFixture()
        let records = try frozen(fixture)
        let (name, first, second) = try neighbours(fixture, suffix)
        try fixture.flip("segments/" + name, at: UInt64(first + 40))
        #expect(!(try mend(fixture, records, "the first")).isEmpty)
        try fixture.flip("segments/" + name, at: UInt64(second + 40))
        #expect(!(try fixture.check()).damage.isEmpty)
        let volume = try fixture.open()
        #expect(!volume.openReport.damage.isEmpty)
        #expect(volume.completeSequence == 0)
        try volume.close()
        #expect(!(try mend(fixture, records, "the one behind it")).isEmpty)
    }

    /// Zeros, or nothing, at the end of a segment that was left: whoever opens the volume misses what stood there, also when
    /// the first who did so was killed, and the segment does not go before a scrub has told of it.
    @Test(arguments: [".log", ".bulk"], [false, true]) func theEndOfSuchASegmentIsMissed(
        _ suffix: String,
        isCut: Bool
    ) throws {
        let fixture = try VolumeFixture()
        let records = try frozen(fixture)
        let (name, _, _) = try neighbours(fixture, suffix)
        var volume = try fixture.open()
        volume.setComplete(through: volume.logTail.sequence)
        try volume.commit([payload(980, count: 300)])
        try volume.trimLog(base: volume.logTail)
        try volume.close()
        let sound = try fixture.snapshot()
        // Behind the last record nothing was ever written, or what was not acknowledged.
        let last = try #require(
            try records.compactMap { record in
                try places(of: 1, fixture, name).last { start in
                    let bytes = try fixture.bytes("segments/" + name)
                    return Array(bytes[start + 32..<start + 64]) == record.digest.bytes
                }
            }.max()
        )
        let file = try fixture.directory.disk().open("segments/" + name, .update)
        let size = try file.size()
        if isCut {
            try file.truncate(to: UInt64(last))
        } else {
            try file.write([UInt8](repeating: 0, count: Int(size) - last), at: UInt64(last))
        }
        file.close()
        let number = try #require(UInt32(name.prefix(8)))
        volume = try fixture.open()
        #expect(!volume.openReport.damage.isEmpty)
        #expect(volume.completeSequence == 0)
        #expect(try volume.reclaim(number, ReclaimPolicy()).removedSegmentCount == 0)
        try volume.close()
        #expect(!(try mend(fixture, records, "the end")).isEmpty)
        volume = try fixture.open()
        _ = try volume.reclaim(number, ReclaimPolicy())
        #expect(!volume.segmentNumbers.contains(number))
        for record in records { #expect(try volume.read(record) == record.bytes) }
        try volume.close()
        // The same while the volume is open: the index knows what the segment does not have.
        try fixture.restore(sound)
        volume = try fixture.open()
        let again = try fixture.directory.disk().open("segments/" + name, .update)
        try again.write([UInt8](repeating: 0, count: Int(size) - last), at: UInt64(last))
        again.close()
        #expect(try volume.reclaim(number, ReclaimPolicy()).removedSegmentCount == 0)
        #expect(volume.segmentNumbers.contains(number))
        try volume.close()
    }

    /// Killed at any moment of a walk that tells of a hole: either opening the volume finds the hole, or it knows that everything
    /// has to be compared.
    @Test(arguments: [".log", ".bulk"]) func aHoleIsToldOfAfterTheVolumeClaimsNothing(_ suffix: String) throws
    {
        let fixture = try VolumeFixture()
        let records = try frozen(fixture)
        let (name, first, _) = try neighbours(fixture, suffix)
        let disk = RiggedDisk(try fixture.directory.disk())
        var volume = try BlobVolume.open(disk, options: fixture.options)
        volume.setComplete(through: volume.logTail.sequence)
        try volume.commit([payload(980, count: 300)])
        try volume.close()
        volume = try BlobVolume.open(disk, options: fixture.options)
        #expect(volume.completeSequence > 0)
        try volume.commit([payload(981, count: 300)])
        try fixture.flip("segments/" + name, at: UInt64(first + 40))
        let moments = Mutex<[Result<[String: [UInt8]], any Error>]>([])
        disk.rigging.withLock { rigging in
            rigging.observer = { call, _ in
                guard call == "write" || call == "sync" else { return }
                moments.withLock { $0.append(Result { try fixture.snapshot() }) }
            }
        }
        #expect(!(try scrub(volume, records)).damage.isEmpty)
        disk.rigging.withLock { $0.observer = nil }
        moments.withLock { $0.append(Result { try fixture.snapshot() }) }
        try volume.close()
        var tellsOfIt = 0
        var claimsNothing = 0
        for moment in moments.withLock({ $0 }) {
            try fixture.restore(moment.get())
            let volume = try fixture.open()
            if volume.openReport.damage.isEmpty { claimsNothing += 1 } else { tellsOfIt += 1 }
            #expect(volume.completeSequence == 0)
            try volume.close()
        }
        #expect(tellsOfIt > 0)
        #expect(claimsNothing > 0)
    }

    @Test func aBatchOfSuchASegmentIsMissedWhileTheVolumeIsOpen() throws {
        let fixture = try VolumeFixture()
        let records = try frozen(fixture)
        let name = try #require(
            try fixture.segments().first {
                try $0.hasSuffix(".log") && places(of: 7, fixture, $0).isEmpty
            }
        )
        let volume = try fixture.open()
        let start = try #require(try places(of: 2, fixture, name).dropLast().last)
        try fixture.flip("segments/" + name, at: UInt64(start + 40))
        let found = try scrub(volume, records).damage
        #expect(found.contains { $0.remedy == .rebuildLog }, "\(found)")
        #expect(volume.isLogDamaged)
        try rebuildLog(volume)
        #expect(try scrub(volume, records).damage.isEmpty)
        try volume.close()
        #expect(try fixture.check().damage.isEmpty)
    }

    /// Bits flip again and again, in what was put right before as well.
    @Test(arguments: TestSeeds.seeds(fixed: 12, fresh: 2)) func damageAfterDamageIsMended(_ seed: UInt64)
        throws
    {
        var generator = SeededGenerator(seed: seed)
        let fixture = try VolumeFixture()
        let records = try generator.oneIn(2) ? frozen(fixture) : filled(fixture)
        for round in 0..<8 {
            var told: [String] = []
            for _ in 0..<(1 + generator.below(5)) {
                let name =
                    generator.oneIn(12) ? "volume.json" : "segments/" + generator.pick(try fixture.segments())
                // Most of the open log segment is zeros that were made ready.
                let used = try fixture.bytes(name).lastIndex { $0 != 0 } ?? 0
                let offset = generator.below(used + 1)
                try fixture.flip(name, at: UInt64(offset), 1 << UInt8(generator.below(8)))
                told.append("\(name)@\(offset)")
            }
            // Two that take each other back.
            if Set(told).count < told.count { return }
            try mend(fixture, records, "HOLDFAST_SEED=\(seed) round \(round): \(told)")
        }
    }

    /// Batches that fill more than one segment of the log.
    private func committed(_ volume: BlobVolume, count: Int = 40) throws -> [CommitBatch] {
        try volume.updateIdentity { $0.promise = 1 }
        return try (0..<count).map { index in
            let next = batch(after: volume.logTail, body: content(9000 + index, count: 3000))
            try volume.appendGroup(payloads: [], batch: next)
            try volume.syncLog()
            return next
        }
    }

    /// Damages a batch where it stands, by its body.
    private func damage(_ index: Int, in fixture: VolumeFixture) throws {
        let body = content(9000 + index, count: 3000)
        for name in try fixture.segments() where name.hasSuffix(".log") {
            let name = "segments/" + name
            guard let place = try place(of: body, in: fixture.bytes(name)) else { continue }
            return try fixture.flip(name, at: UInt64(place + 17))
        }
        Issue.record("no segment has the batch")
    }

    /// A scrub makes the footer of a damaged segment anew when it leaves it, and has the log rebuilt at its end. A process
    /// that ends in between has told nobody: the volume itself has to know of it when it is opened again.
    @Test(arguments: [false, true]) func aLostBatchIsKnownAlsoWhenTheProcessEndsBeforeTheWalk(isClosed: Bool)
        throws
    {
        let fixture = try VolumeFixture()
        var volume: BlobVolume? = try fixture.open()
        let batches = try committed(#require(volume))
        try damage(3, in: fixture)
        do {
            let volume = try #require(volume)
            let scrubber = volume.makeScrubber()
            var found: [ScrubDamage] = []
            while true {
                let step = try scrubber.step(byteCount: 1 << 20)
                found += step.damage
                if step.isAtEnd { break }
            }
            #expect(found.contains { $0.remedy == .rebuildLog }, "\(found)")
            #expect(!volume.isLogDamaged)
            if isClosed { try volume.close() }
        }
        volume = nil
        let again = try fixture.open()
        #expect(again.isLogDamaged)
        #expect(again.logTail == batches[2].position)
        // What it acknowledged is still certain: behind the lost one it reads.
        #expect(again.attestedTail == batches.last?.position)
        // What its peers do.
        for batch in batches[3...] { try again.appendGroup(payloads: [], batch: batch) }
        try again.syncLog()
        try again.noteLogRebuilt()
        try again.close()
        let last = try fixture.open()
        #expect(!last.isLogDamaged)
        #expect(last.logTail == batches.last?.position)
        #expect(try scrub(last).damage.isEmpty)
        try last.close()
        let check = try fixture.check()
        #expect(check.damage.isEmpty, "\(check.damage)")
    }

    /// A rebuild may be refused, or forgotten: the next walk asks for it again, although it meets a stretch that is known.
    @Test func aLostBatchThatNobodyDealtWithIsToldAgain() throws {
        let fixture = try VolumeFixture()
        let volume = try fixture.open()
        let batches = try committed(volume)
        try damage(3, in: fixture)
        for _ in 0..<3 {
            let scrubber = volume.makeScrubber()
            var lost: [ScrubDamage] = []
            while true {
                let step = try scrubber.step(byteCount: 1 << 20)
                lost += step.damage.filter { $0.remedy == .rebuildLog }
                if step.isAtEnd { break }
            }
            #expect(lost.count == 1 && lost.first?.kind == .batch, "\(lost)")
        }
        try scrub(volume)
        #expect(volume.isLogDamaged && volume.logTail == batches[2].position)
        #expect(try scrub(volume).damage.isEmpty)
        try volume.close()
    }

    /// The segment still tells of a batch at which the log was cut: opening the volume makes the cut again.
    @Test func aLogThatWasCutStaysCutOverReopening() throws {
        let fixture = try VolumeFixture()
        let volume = try fixture.open()
        let batches = try committed(volume)
        try damage(3, in: fixture)
        let scrubber = volume.makeScrubber()
        while true {
            let step = try scrubber.step(byteCount: 1)
            if let lost = step.damage.first(where: { $0.remedy == .rebuildLog }) {
                try volume.noteLostBatch(at: #require(lost.location))
                break
            }
            try #require(!step.isAtEnd)
        }
        #expect(volume.isLogDamaged && volume.logTail == batches[2].position)
        try volume.close()
        let again = try fixture.open()
        #expect(again.isLogDamaged && again.logTail == batches[2].position)
        #expect(again.attestedTail == batches.last?.position)
        for batch in batches[3...] { try again.appendGroup(payloads: [], batch: batch) }
        try again.syncLog()
        try again.noteLogRebuilt()
        #expect(!again.isLogDamaged && again.logTail == batches.last?.position)
        try again.close()
    }

    @Test func aBatchThatTheLogNoLongerNeedsDamagesNoLog() throws {
        let fixture = try VolumeFixture()
        let volume = try fixture.open()
        let batches = try committed(volume)
        try volume.trimLog(base: batches[8].position)
        try damage(3, in: fixture)
        let found = try scrub(volume).damage
        #expect(found.contains { $0.kind == .spentRecord && $0.remedy == .mended }, "\(found)")
        try volume.close()
        let again = try fixture.open()
        #expect(!again.isLogDamaged)
        #expect(again.logBase == batches[8].position && again.logTail == batches.last?.position)
        #expect(try scrub(again).damage.isEmpty)
        try again.close()
    }

    /// While a log is rebuilt, a scrub may find that it has lost more.
    @Test func aLogThatLostMoreWhileItWasRebuiltIsNotRebuilt() throws {
        let fixture = try VolumeFixture()
        let volume = try fixture.open()
        let batches = try committed(volume)
        try damage(5, in: fixture)
        // Cuts the log at the lost batch.
        try scrub(volume)
        #expect(volume.isLogDamaged && volume.logTail == batches[4].position)
        // The end of a rebuild that began before.
        let error = #expect(throws: VolumeError.self) { try volume.noteLogRebuilt() }
        #expect(error?.code == .corrupt)
        #expect(volume.isLogDamaged && volume.attestedTail == batches.last?.position)
        try volume.appendGroup(payloads: [], batch: batches[5])
        #expect(throws: VolumeError.self) { try volume.noteLogRebuilt() }
        for batch in batches[6...] { try volume.appendGroup(payloads: [], batch: batch) }
        try volume.syncLog()
        try volume.noteLogRebuilt()
        #expect(!volume.isLogDamaged && volume.attestedTail == nil)
        try volume.close()
    }

    /// Where payloads are lost of which nobody can tell, the volume has to be compared with the catalog, also by the process
    /// after the one that found it.
    @Test(arguments: [false, true], [false, true])
    func aVolumeThatMustBeComparedClaimsNothing(isSegmentGone: Bool, isKnownInMemory: Bool) throws {
        let fixture = try VolumeFixture()
        var volume: BlobVolume? = try fixture.open()
        do {
            let volume = try #require(volume)
            for number in 0..<6 { try volume.appendBulk(payload(number, count: 900_000)) }
            try volume.syncBulk()
            try volume.commit()
            volume.setComplete(through: 1)
            try volume.commit()
            let sealed = "segments/" + (try #require(try fixture.segments().first { $0.hasSuffix(".bulk") }))
            if isSegmentGone {
                try FileManager.default.removeItem(atPath: fixture.path(sealed))
            } else {
                let size = try fixture.bytes(sealed).count
                // The trailer, the header of the footer, and that of the first record.
                try fixture.flip(sealed, at: UInt64(size - 30))
                try fixture.flip(sealed, at: UInt64(size - 64 - 4096 + 20))
                try fixture.flip(sealed, at: 4096 + 20)
            }
            // Somebody has said so, and it is not on the disk yet.
            if isKnownInMemory { volume.setComplete(through: 0) }
            let scrubber = volume.makeScrubber()
            var found: [ScrubDamage] = []
            while true {
                let step = try scrubber.step(byteCount: 1 << 20)
                found += step.damage
                if step.isAtEnd { break }
            }
            #expect(found.contains { $0.remedy == .compare }, "\(found)")
            #expect(volume.completeSequence == 0)
        }
        // Without being closed.
        volume = nil
        let again = try fixture.open()
        #expect(again.completeSequence == 0)
        try again.close()
    }

    @Test func theCursorOfEveryStepIsAPlaceToGoOnFrom() throws {
        let fixture = try VolumeFixture()
        let records = try filled(fixture)
        let names = try fixture.segments()
        let volume = try fixture.open()
        var generator = SeededGenerator(seed: 7)
        for name in names {
            let size = try fixture.bytes("segments/" + name).count
            for _ in 0..<3 {
                try fixture.flip(
                    "segments/" + name,
                    at: UInt64.random(in: 0..<UInt64(size), using: &generator)
                )
            }
        }
        let found = try scrub(volume, records, step: 1, restarting: true).damage
        #expect(!found.isEmpty)
        let rest = try scrub(volume, records).damage
        #expect(rest.isEmpty, "\(rest)")
        for record in records { #expect(try volume.read(record) == record.bytes) }
        try volume.close()
    }

    @Test func recordsThatAreAppendedMeanwhileDisturbNothing() throws {
        let fixture = try VolumeFixture()
        _ = try filled(fixture)
        let volume = try fixture.open()
        let scrubber = volume.makeScrubber()
        var seed = 1000
        while true {
            let step = try scrubber.step(byteCount: 1)
            #expect(step.damage.isEmpty, "\(step.damage)")
            if step.isAtEnd { break }
            seed += 1
            try volume.commit([payload(seed, count: 900)])
            if seed % 10 == 0 { try volume.appendBulk(payload(seed + 5000, count: 300_000)) }
        }
        #expect(try scrub(volume).damage.isEmpty)
        try volume.close()
    }

    @Test func aSegmentThatSomebodyRemovedIsMissedAndItsPayloadsAreNoLongerCountedOn() throws {
        let fixture = try VolumeFixture()
        let more = (300..<306).map { payload($0, count: 900_000) }
        let records = try filled(fixture) + more
        let volume = try fixture.open()
        // The first one is sealed by that.
        for record in more { try volume.appendBulk(record) }
        try volume.syncBulk()
        let bulk = try #require(try fixture.segments().first { $0.hasSuffix(".bulk") })
        try FileManager.default.removeItem(atPath: fixture.path("segments/" + bulk))
        let found = try scrub(volume, records).damage
        #expect(found.contains { $0.remedy == .compare })
        for record in records { #expect(try volume.read(record) == record.bytes) }
        #expect(try scrub(volume).damage.isEmpty)
        try volume.close()
    }

    @Test func anEmptiedVolumeFails() throws {
        let fixture = try VolumeFixture()
        _ = try filled(fixture)
        let volume = try fixture.open()
        for name in ["volume.json", "volume.json.2", "segments"] {
            try FileManager.default.removeItem(atPath: fixture.path(name))
        }
        #expect(throws: VolumeError.self) { try scrub(volume) }
        #expect(volume.hasFailed)
        #expect(!FileManager.default.fileExists(atPath: fixture.path("volume.json")))
    }

    /// What a read found and had repaired while the walk went on is not found once more.
    @Test func whatIsRepairedBeforeTheStepEndsIsNotReported() async throws {
        let fixture = try VolumeFixture()
        let records = (0..<6).map { payload(800 + $0, count: 900_000) }
        let disk = FaultyDisk(try fixture.directory.disk())
        let volume = try BlobVolume.open(disk, options: fixture.options)
        for record in records { try volume.appendBulk(record) }
        try volume.syncBulk()
        let first = try #require(try fixture.segments().first { $0.hasSuffix(".bulk") })
        try fixture.flip("segments/" + first, at: 4096 + 500_000)
        // What is read up to the first window, which ends behind the damaged record: it was looked at when the second is asked for.
        let gate = FaultGate()
        defer { gate.open() }
        disk.add(
            FaultRule(.hold(gate), on: [.read], nameContains: first, skipCount: 6, hitCount: nil)
        )
        let step = Task.detached { try volume.makeScrubber().step(byteCount: 64 << 20) }
        #expect(await gate.holding())
        disk.removeAllRules()
        for record in records { try volume.replaceDamaged(record) }
        gate.open()
        let damage = try await step.value.damage
        #expect(damage.isEmpty, "\(damage)")
        for record in records { #expect(try volume.read(record) == record.bytes) }
        try volume.close()
    }

    /// The walk seals the damaged open segment, and the next group takes the prepared one before the walk comes to it.
    @Test(arguments: [false, true])
    func aDamagedSpareThatIsTakenMeanwhileIsMendedInTheSameWalk(isTakenMeanwhile: Bool) throws {
        let fixture = try VolumeFixture()
        _ = try filled(fixture)
        let open = try #require(fixture.segments().last { $0.hasSuffix(".log") })
        for name in ["segments/\(open)", "segments/spare"] {
            let size = try #require(try fixture.snapshot()[name]).count
            try fixture.flip(name, at: UInt64(size) - 100)
        }
        let volume = try fixture.open()
        let number = try #require(volume.openLogNumber)
        let scrubber = volume.makeScrubber()
        var found: [ScrubDamage] = []
        var isTaken = false
        while true {
            let step = try scrubber.step(byteCount: 1)
            found += step.damage
            if isTakenMeanwhile, !isTaken, volume.openLogNumber != number {
                try volume.appendGroup(payloads: [payload(300, count: 70)], batch: nil)
                isTaken = true
                #expect(try #require(volume.openLogNumber) > scrubber.lastSegment)
            }
            if step.isAtEnd { break }
        }
        #expect(isTaken == isTakenMeanwhile)
        #expect(found.filter { $0.kind == .padding && $0.remedy == .mended }.count == 2, "\(found)")
        #expect(try scrub(volume).damage.isEmpty)
        try volume.close()
    }

    @Test func aDiskThatGivesOnlyErrorsEndsTheWalk() throws {
        let fixture = try VolumeFixture()
        _ = try filled(fixture)
        let faulty = FaultyDisk(try fixture.directory.disk())
        let volume = try BlobVolume.open(faulty, options: fixture.options)
        let rule = faulty.add(FaultRule(.inputOutputError, on: [.read], hitCount: nil))
        #expect(throws: VolumeError.self) { try scrub(volume) }
        faulty.remove(rule: rule)
        #expect(try scrub(volume).damage.isEmpty)
        try volume.close()
    }
}
