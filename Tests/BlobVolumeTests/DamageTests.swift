import BlobVolume
import ContentHashing
import StoreModel
import Testing

@Suite struct DamageTests {
    private let log = "segments/00000001.log"

    /// Where the zeros at the end of a log segment begin, in units of 64 bytes. The last record may reach further: it
    /// ends in zeros itself.
    private func usedByteCount(_ bytes: [UInt8]) -> Int {
        let last = bytes.lastIndex { $0 != 0 } ?? 0
        return (last + 64) / 64 * 64
    }

    @Test func aBatchThatTheLogNoLongerHasIsNoLoss() throws {
        let fixture = try VolumeFixture()
        let volume = try fixture.open()
        _ = try volume.commit([payload(1, count: 100)])
        // Looked at before the log let it go: what comes after it counts on.
        try volume.noteLostBatch(at: RecordLocation(segment: 9_999, unit: 1))
        #expect(!volume.isLogDamaged && volume.attestedTail == nil)
        let last = try volume.commit([payload(2, count: 100)])
        try volume.close()
        let reopened = try fixture.open()
        #expect(!reopened.isLogDamaged && reopened.attestedTail == nil)
        #expect(reopened.logTail == last.position)
        try reopened.close()
    }

    @Test func aFlippedByteAnywhereInTheLogCostsAtMostItsRecordAndNeverGoesUnnoticed() throws {
        let fixture = try VolumeFixture()
        let records = (1...3).map { payload($0, count: 150) }
        var volume = try fixture.open()
        for record in records { try volume.commit([record]) }
        try volume.close()
        let clean = try fixture.snapshot()
        let bytes = try #require(clean[log])
        var unnoticed = 0
        for offset in Array(0..<64) + Array(4096..<usedByteCount(bytes)) {
            try fixture.restore(clean)
            try fixture.flip(log, at: UInt64(offset), 0x20)
            volume = try fixture.open()
            var readable = 0
            for record in records {
                if let read = try? volume.read(record) {
                    #expect(read == record.bytes, "byte \(offset)")
                    readable += 1
                }
            }
            #expect(readable >= 2, "byte \(offset)")
            let tail = volume.logTail.sequence
            #expect(tail == 3 || volume.isLogDamaged, "byte \(offset): the log ends at \(tail)")
            if readable == 3 && tail == 3 && volume.openReport.damage.isEmpty { unnoticed += 1 }
            #expect(volume.openReport.tornByteCount == 0, "byte \(offset): damage was taken for a torn tail")
            try volume.close()
        }
        // Padding: behind the payload (150 + 104 of 256 bytes: 2) and behind the batch (115 + 64 + 104: 37).
        #expect(unnoticed <= 3 * (2 + 37))
    }

    @Test func damageOfTheLastBatchIsReportedAndRemembered() throws {
        let fixture = try VolumeFixture()
        var volume = try fixture.open()
        let first = try volume.commit()
        let second = try volume.commit()
        try volume.close()
        let at = try #require(place(of: second.position.hash.bytes, in: fixture.bytes(log)))
        try fixture.flip(log, at: UInt64(at))
        volume = try fixture.open()
        #expect(volume.logTail == first.position)
        #expect(volume.isLogDamaged)
        // Another batch may have stood where the records are lost.
        #expect(volume.attestedTail == nil)
        #expect(volume.openReport.damage.count == 1)
        #expect(volume.openReport.damage.first?.quarantineName != nil)
        try volume.close()
        volume = try fixture.open()
        #expect(volume.isLogDamaged)
        try volume.appendGroup(payloads: [], batch: second)
        try volume.syncLog()
        #expect(volume.isLogDamaged)
        try volume.noteLogRebuilt()
        try volume.close()
        volume = try fixture.open()
        #expect(!volume.isLogDamaged)
        #expect(volume.logTail == second.position)
        #expect(try volume.readBatch(sequence: 2) == second)
        try volume.close()
    }

    /// A hole in front of the last batch, after a clean close, a kill, and a kill in the middle of a write.
    @Test func aDamagedLogKnowsWhereItEndedWhenNothingCanHaveStoodBehindThat() throws {
        let fixture = try VolumeFixture()
        var volume = try fixture.open()
        try volume.updateIdentity { $0.promise = 1 }
        var batches: [CommitBatch] = []
        for index in 0..<4 { batches.append(try volume.commit([payload(index)], commitIndex: UInt64(index))) }
        try volume.syncLog()
        let killed = try fixture.snapshot()
        try volume.close()
        let closed = try fixture.snapshot()
        let used = usedByteCount(try #require(closed[log]))
        let at = UInt64(try #require(place(of: batches[1].encode(), in: fixture.bytes(log))) + 60)
        for (state, torn) in [(closed, false), (closed, true), (killed, false), (killed, true)] {
            try fixture.restore(state)
            try fixture.flip(log, at: at)
            if torn { try fixture.flip(log, at: UInt64(used + 64)) }
            // Without the watermark of a clean close the flipped zero may be what is left of a batch.
            let isCertain = !torn || state == closed
            for _ in 0..<2 {
                volume = try fixture.open()
                #expect(volume.isLogDamaged && volume.logTail == batches[0].position)
                #expect(volume.attestedTail == (isCertain ? batches[3].position : nil))
                try volume.close()
            }
            // Half a rebuild changes nothing about it; the end of one does.
            volume = try fixture.open()
            try volume.appendGroup(payloads: [], batch: batches[1])
            try volume.close()
            volume = try fixture.open()
            #expect(volume.attestedTail == (isCertain ? batches[3].position : nil))
            for batch in batches[2...] { try volume.appendGroup(payloads: [], batch: batch) }
            try volume.syncLog()
            try volume.noteLogRebuilt()
            try volume.close()
            volume = try fixture.open()
            #expect(!volume.isLogDamaged && volume.attestedTail == nil)
            #expect(volume.logTail == batches[3].position)
            try volume.close()
        }
    }

    @Test func aLogThatHadLostSomethingBeforeAttestsNothing() throws {
        let fixture = try VolumeFixture()
        var volume = try fixture.open()
        let batches = try (0..<3).map { _ in try volume.commit() }
        try volume.updateIdentity {
            $0.promise = 1
            $0.votesFromEpoch = batches[2].position.epoch
            $0.votesFromSequence = batches[2].position.sequence + 1
        }
        try volume.close()
        let at = try #require(place(of: batches[1].encode(), in: fixture.bytes(log)))
        try fixture.flip(log, at: UInt64(at + 60))
        volume = try fixture.open()
        #expect(volume.isLogDamaged && volume.attestedTail == nil)
        try volume.close()
    }

    @Test func aLostBatchInTheMiddleEndsTheLogInFrontOfIt() throws {
        let fixture = try VolumeFixture()
        let records = (1...4).map { payload($0) }
        var volume = try fixture.open()
        var batches: [CommitBatch] = []
        for (index, record) in records.enumerated() {
            batches.append(try volume.commit([record], commitIndex: UInt64(index)))
        }
        try volume.close()
        let at = try #require(place(of: batches[1].encode(), in: fixture.bytes(log)))
        try fixture.flip(log, at: UInt64(at + 60))
        volume = try fixture.open()
        #expect(volume.logTail == batches[0].position)
        #expect(volume.knownCommitIndex == 3)
        #expect(volume.isLogDamaged)
        for record in records { #expect(try volume.read(record) == record.bytes) }
        try volume.close()
        #expect(try !fixture.check().damage.isEmpty)
    }

    /// The crash leaves any prefix of an unsynced group, in front of zeros.
    @Test func aTornGroupIsCutWholeAtEveryByte() throws {
        let fixture = try VolumeFixture()
        let old = payload(1, count: 100)
        let new = [payload(2, count: 90), payload(3, count: 10)]
        var volume = try fixture.open()
        try volume.commit([old])
        try volume.updateIdentity { $0.promise = 1 }
        let before = try fixture.snapshot()
        let next = batch(after: volume.logTail)
        try volume.appendGroup(payloads: new, batch: next)
        let after = try fixture.bytes(log)
        try volume.close()
        let start = usedByteCount(try #require(before[log]))
        let end = usedByteCount(after)
        var whole = 0
        for cut in start...end {
            var torn = before
            torn[log] = [UInt8](after[..<cut]) + [UInt8](try #require(before[log])[cut...])
            try fixture.restore(torn)
            volume = try fixture.open()
            #expect(try volume.read(old) == old.bytes)
            let present = new.filter { volume.presence(of: $0.digest) != .absent }.count
            let isThere = volume.logTail == next.position
            #expect(present == (isThere ? 2 : 0), "cut at \(cut): \(present) payloads")
            if isThere { whole += 1 }
            #expect(volume.openReport.damage.isEmpty, "cut at \(cut)")
            #expect(!volume.isLogDamaged)
            // What was cut never comes back behind what is written in its place.
            let other = try volume.commit([payload(4, count: 5)])
            try volume.close()
            volume = try fixture.open()
            #expect(volume.logTail == other.position)
            #expect(volume.openReport.tornByteCount == 0)
            try volume.close()
        }
        #expect(whole >= 1 && whole < 64)
        #expect(try fixture.check().problems.isEmpty)
    }

    /// The crash leaves any one sector of an unsynced group out, or only one in.
    @Test(arguments: [false, true])
    func aGroupWithLostSectorsIsCutWhole(keepsOnlyOne: Bool) throws {
        let fixture = try VolumeFixture()
        var volume = try fixture.open()
        try volume.commit([payload(1)])
        try volume.updateIdentity { $0.promise = 1 }
        let before = try fixture.snapshot()
        let tail = volume.logTail
        let new = [payload(2, count: 2000), payload(3, count: 700), payload(4, count: 3000)]
        try volume.appendGroup(payloads: new, batch: batch(after: tail))
        try volume.appendGroup(payloads: [payload(5)], batch: nil)
        let after = try fixture.bytes(log)
        try volume.close()
        let old = try #require(before[log])
        for sector in usedByteCount(old) / 512...usedByteCount(after) / 512 {
            let range = sector * 512..<(sector + 1) * 512
            var mixed = keepsOnlyOne ? old : after
            mixed.replaceSubrange(range, with: (keepsOnlyOne ? after : old)[range])
            var torn = before
            torn[log] = mixed
            try fixture.restore(torn)
            volume = try fixture.open()
            let present = new.filter { volume.presence(of: $0.digest) != .absent }.count
            #expect(present == (volume.logTail == tail ? 0 : 3))
            #expect(volume.openReport.damage.isEmpty && !volume.isLogDamaged)
            try volume.close()
            #expect(try fixture.check().problems.isEmpty)
        }
    }

    @Test func aTornBulkTailIsCutAndWhatWasSyncedStays() throws {
        let fixture = try VolumeFixture()
        let bulk = "segments/00000001.bulk"
        let old = payload(1, count: 200_000)
        let new = payload(2, count: 200_000)
        var volume = try fixture.open()
        try volume.appendBulk(old)
        try volume.syncBulk()
        try volume.commit()
        let before = try fixture.bytes(bulk).count
        try volume.appendBulk(new)
        let snapshot = try fixture.snapshot()
        try volume.close()
        let all = try #require(snapshot[bulk])
        for size in [before + 1, before + 95, before + 96, before + 5000, all.count - 4096] {
            for isZeroFilled in [false, true] {
                var torn = snapshot
                torn[bulk] =
                    [UInt8](all[..<size])
                    + (isZeroFilled ? [UInt8](repeating: 0, count: all.count - size) : [])
                try fixture.restore(torn)
                volume = try fixture.open()
                #expect(volume.presence(of: new.digest) == .absent)
                #expect(try volume.read(old) == old.bytes)
                #expect(volume.openReport.tornByteCount > 0 || size == before)
                #expect(volume.openReport.damage.isEmpty)
                try volume.appendBulk(new)
                try volume.syncBulk()
                try volume.close()
                #expect(try fixture.check().problems.isEmpty)
            }
        }
    }

    @Test func damageInASealedSegmentCostsOneRecordAndIsFoundOnRead() throws {
        let fixture = try VolumeFixture()
        let records = (0..<60).map { payload($0, count: 2000) }
        var volume = try fixture.open()
        for record in records { try volume.commit([record]) }
        try volume.close()
        let clean = try fixture.snapshot()
        let bytes = try #require(clean[log])
        let victim = records[5]
        let start = try #require(place(of: Array(victim.bytes.prefix(64)), in: bytes))
        // The record's header, its table, and its payload's first and last byte.
        for offset in [start - 104, start - 60, start - 8, start, start + 1999] {
            try fixture.restore(clean)
            try fixture.flip(log, at: UInt64(offset))
            volume = try fixture.open()
            for record in records where record.digest != victim.digest {
                #expect(try volume.read(record) == record.bytes)
            }
            #expect { try volume.read(victim) } throws: { ($0 as? VolumeError)?.code == .corrupt }
            #expect(volume.positions(after: 0).count == 60)
            try volume.close()
            #expect(try fixture.check(deep: false).damage.count >= 1)
        }
    }

    @Test func aDamagedFooterOrTrailerCostsNothingButTheWalk() throws {
        let fixture = try VolumeFixture()
        let records = (0..<60).map { payload($0, count: 2000) }
        var volume = try fixture.open()
        for record in records { try volume.commit([record]) }
        try volume.close()
        let clean = try fixture.snapshot()
        let count = try #require(clean[log]).count
        let trailer = try #require(clean[log]).suffix(64)
        let footer = trailer.dropFirst(8).prefix(4).reversed().reduce(0) { $0 << 8 | Int($1) } * 64
        for offset in [
            footer, footer + 4, footer + 40, footer + 100, footer + 400, count - 64, count - 50, count - 1,
        ] {
            try fixture.restore(clean)
            try fixture.flip(log, at: UInt64(offset))
            volume = try fixture.open()
            for record in records { #expect(try volume.read(record) == record.bytes) }
            #expect(volume.positions(after: 0).count == 60)
            #expect(!volume.isLogDamaged)
            #expect(volume.openReport.damage.count == 1, "byte \(offset) of \(footer)..<\(count)")
            var seen = 0
            try volume.forEachPayload { _, _ in seen += 1 }
            #expect(seen == 60)
            try volume.close()
            #expect(try fixture.check().damage.count >= 1)
        }
    }

    @Test func zerosWhereSyncedRecordsStoodAreDamage() throws {
        let fixture = try VolumeFixture()
        var volume = try fixture.open()
        let kept = payload(1)
        try volume.commit([kept])
        let end = usedByteCount(try fixture.bytes(log))
        try volume.commit([payload(2)])
        try volume.close()
        let zeros = [UInt8](repeating: 0, count: 8192)
        try fixture.overwrite(log, zeros, at: UInt64(end))
        volume = try fixture.open()
        #expect(volume.openReport.damage.count == 1)
        #expect(volume.isLogDamaged)
        #expect(try volume.read(kept) == kept.bytes)
        #expect(volume.logTail.sequence == 1)
        try volume.close()
    }

    @Test func aMissingSegmentIsDamage() throws {
        let fixture = try VolumeFixture()
        var volume = try fixture.open()
        try volume.appendBulk(payload(1, count: 200_000))
        try volume.syncBulk()
        try volume.commit()
        try volume.close()
        try fixture.directory.disk().remove("segments/00000001.bulk")
        volume = try fixture.open()
        #expect(volume.openReport.damage.count == 1)
        try volume.close()
    }

    @Test func aRecordFromAnotherPlaceOrVolumeIsNone() throws {
        let fixture = try VolumeFixture()
        let record = payload(1, count: 100)
        do {
            let volume = try fixture.open()
            try volume.commit([record])
        }
        // The same bytes once more, further on: as if blocks of an earlier life had come back.
        let bytes = try fixture.bytes(log)
        let end = usedByteCount(bytes)
        try fixture.overwrite(log, [UInt8](bytes[4096..<end]), at: UInt64(end + 64))
        let volume = try fixture.open()
        #expect(volume.openReport.recordCount == 1)
        #expect(volume.openReport.tornByteCount > 0)
        #expect(volume.logTail.sequence == 1)
        try volume.commit([payload(2)])
        try volume.close()
        #expect(try fixture.check().problems.isEmpty)
    }
}
