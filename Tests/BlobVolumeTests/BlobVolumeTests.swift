import BlobVolume
import ContentHashing
import StoreModel
import Testing

@Suite struct BlobVolumeTests {
    @Test(arguments: [0, 1, 63, 1000, 65_535, 65_536, 65_537, 128 << 10])
    func aSmallPayloadComesBackBeforeAndAfterReopening(count: Int) throws {
        let fixture = try VolumeFixture(options: VolumeOptions())
        let record = payload(1, count: count)
        var volume = try fixture.open()
        #expect(volume.presence(of: record.digest) == .absent)
        try volume.appendGroup(payloads: [record], batch: nil)
        #expect(volume.presence(of: record.digest) == .unsynced)
        try volume.syncLog()
        #expect(volume.presence(of: record.digest) == .synced)
        #expect(try volume.read(record) == record.bytes)
        try volume.close()
        volume = try fixture.open()
        #expect(volume.openReport.wasClosedCleanly)
        #expect(volume.openReport.damage.isEmpty)
        #expect(volume.presence(of: record.digest) == .synced)
        #expect(try volume.read(record) == record.bytes)
        #expect(try volume.byteCount(of: record.digest) == count)
        try volume.close()
    }

    @Test(arguments: [200_000, 1 << 20, 4 << 20])
    func aLargePayloadComesBackInAnyRange(count: Int) throws {
        let fixture = try VolumeFixture()
        let record = payload(1, count: count)
        var volume = try fixture.open()
        try volume.appendBulk(record)
        #expect(volume.presence(of: record.digest) == .unsynced)
        try volume.syncBulk()
        #expect(volume.presence(of: record.digest) == .synced)
        for isReopened in [false, true] {
            if isReopened {
                try volume.close()
                volume = try fixture.open()
            }
            let ranges = [
                0..<count, 0..<0, 0..<1, 65_535..<65_537, 65_536..<131_072, count - 1..<count, count..<count,
            ]
            for range in ranges {
                #expect(try volume.read(record.digest, range: range) == [UInt8](record.bytes[range]))
            }
        }
        try volume.close()
    }

    @Test func recordsInSealedSegmentsAreFoundByTheirFooters() throws {
        let fixture = try VolumeFixture()
        var volume = try fixture.open()
        let small = (0..<200).map { payload($0, count: 1500) }
        let large = (1000..<1030).map { payload($0, count: 300_000) }
        for record in small { try volume.commit([record]) }
        for record in large { try volume.appendBulk(record) }
        try volume.syncBulk()
        try volume.close()
        #expect(try fixture.segments().count > 6)
        volume = try fixture.open()
        #expect(volume.openReport.recordCount == 230)
        #expect(volume.openReport.scannedSegmentCount == 2)
        #expect(volume.openReport.damage.isEmpty)
        for record in small + large {
            #expect(try volume.read(record) == record.bytes)
            try volume.verify(record.digest, strict: true)
        }
        #expect(volume.positions(after: 0).count == 200)
        #expect(try volume.readBatch(sequence: 1).predecessor == .origin)
        var seen: [Digest: Int] = [:]
        try volume.forEachPayload { seen[$0] = $1 }
        #expect(seen.count == 230)
        #expect(seen[large[3].digest] == 300_000)
        #expect(volume.space.payloadBytes == UInt64(200 * 1500 + 30 * 300_000))
        try volume.close()
    }

    @Test func theLogKeepsItsChainOverReopening() throws {
        let fixture = try VolumeFixture()
        var volume = try fixture.open()
        var batches: [CommitBatch] = []
        for index in 0..<5 { batches.append(try volume.commit([payload(index)], commitIndex: UInt64(index))) }
        volume.setComplete(through: 4)
        batches.append(try volume.commit(commitIndex: 5))
        try volume.close()
        volume = try fixture.open()
        #expect(volume.logBase == .origin)
        #expect(volume.logTail == batches[5].position)
        #expect(volume.knownCommitIndex == 5)
        #expect(volume.completeSequence == 4)
        #expect(volume.positions(after: 0) == batches.map(\.position))
        #expect(volume.positions(after: 4) == [batches[4].position, batches[5].position])
        #expect(volume.positions(after: 6).isEmpty)
        #expect(try volume.readBatch(sequence: 3) == batches[2])
        #expect(throws: VolumeError.self) { try volume.readBatch(sequence: 7) }
        try volume.close()
    }

    @Test func theCompleteWatermarkJumpsOverWhatIsKnownBeyondAGap() throws {
        let fixture = try VolumeFixture()
        let volume = try fixture.open()
        for sequence: UInt64 in [1, 3, 4, 5, 7, 9] {
            volume.advanceComplete(to: sequence, unlessLostSince: .now)
        }
        #expect(volume.completeSequence == 1)
        volume.setComplete(through: 2)
        #expect(volume.completeSequence == 5)
        volume.setComplete(through: 8)
        #expect(volume.completeSequence == 9)
        volume.advanceComplete(to: 4, unlessLostSince: .now)
        #expect(volume.completeSequence == 9)
        // Many gaps: the last ones are not remembered, and nothing is taken for known because of that.
        for sequence in stride(from: UInt64(11), to: 2011, by: 2) {
            volume.advanceComplete(to: sequence, unlessLostSince: .now)
        }
        for sequence in stride(from: UInt64(10), to: 2010, by: 2) {
            volume.setComplete(through: sequence)
            #expect((sequence...sequence + 1).contains(volume.completeSequence))
        }
        try volume.close()
    }

    @Test func aCompleteWatermarkThatWasLoweredForgetsWhatWasBeyondIt() throws {
        let fixture = try VolumeFixture()
        let volume = try fixture.open()
        for _ in 0..<4 { try volume.commit() }
        for sequence: UInt64 in [1, 3] { volume.advanceComplete(to: sequence, unlessLostSince: .now) }
        volume.setComplete(through: 0)
        // Batches that were here when it was lowered may be what was damaged.
        for sequence: UInt64 in [3, 4, 5] { volume.advanceComplete(to: sequence, unlessLostSince: .now) }
        volume.setComplete(through: 2)
        #expect(volume.completeSequence == 2)
        volume.setComplete(through: 4)
        #expect(volume.completeSequence == 5)
        try volume.close()
    }

    @Test func whatWasKnownBeforeALossCountsNoMore() throws {
        let fixture = try VolumeFixture()
        var volume = try fixture.open()
        for _ in 0..<4 { try volume.commit() }
        let before = LossMoment.now
        volume.advanceComplete(to: 1, unlessLostSince: before)
        #expect(volume.completeSequence == 1)
        volume.setComplete(through: 0)
        volume.advanceComplete(to: 1, unlessLostSince: before)
        // Of a batch that came after the loss, with what was known of its content before.
        volume.advanceComplete(to: 5, unlessLostSince: before)
        #expect(!volume.setComplete(through: 4, unlessLostSince: before))
        #expect(volume.completeSequence == 0)
        let after = LossMoment.now
        #expect(volume.setComplete(through: 4, unlessLostSince: after))
        #expect(volume.completeSequence == 4)
        volume.advanceComplete(to: 5, unlessLostSince: after)
        #expect(volume.completeSequence == 5)
        try volume.close()
        // Nor of a volume that was opened again: it may have come back without something.
        volume = try fixture.open()
        volume.advanceComplete(to: 6, unlessLostSince: after)
        #expect(volume.completeSequence == 5)
        volume.advanceComplete(to: 6, unlessLostSince: .now)
        #expect(volume.completeSequence == 6)
        try volume.close()
    }

    @Test func aBatchThatFollowsAnEarlierOneCutsTheLaterOnes() throws {
        let fixture = try VolumeFixture()
        var volume = try fixture.open()
        let first = try volume.commit()
        let second = try volume.commit()
        try volume.commit()
        let other = batch(after: second.position, epoch: 2)
        try volume.appendGroup(payloads: [], batch: other)
        try volume.syncLog()
        for isReopened in [false, true] {
            if isReopened {
                try volume.close()
                volume = try fixture.open()
            }
            #expect(volume.positions(after: 0) == [first.position, second.position, other.position])
            #expect(!volume.isLogDamaged)
        }
        let stranger = batch(after: LogPosition(epoch: 1, sequence: 3, hash: .zero))
        #expect { try volume.appendGroup(payloads: [], batch: stranger) } throws: {
            ($0 as? VolumeError)?.code == .notSuccessor
        }
        #expect(volume.logTail == other.position)
        try volume.close()
    }

    @Test func aResetDropsTheLogAndKeepsThePayloads() throws {
        let fixture = try VolumeFixture()
        var volume = try fixture.open()
        let record = payload(1)
        try volume.commit([record])
        try volume.commit()
        let base = LogPosition(epoch: 7, sequence: 90, hash: SHA256Hasher.hash([1]))
        try volume.resetLog(base: base)
        let next = batch(after: base, epoch: 7)
        try volume.appendGroup(payloads: [], batch: next)
        try volume.syncLog()
        for isReopened in [false, true] {
            if isReopened {
                try volume.close()
                volume = try fixture.open()
            }
            #expect(volume.logBase == base)
            #expect(volume.positions(after: 0) == [next.position])
            #expect(try volume.read(record) == record.bytes)
        }
        try volume.close()
    }

    @Test func aTrimDropsTheStartOfTheLog() throws {
        let fixture = try VolumeFixture()
        var volume = try fixture.open()
        let batches = try (0..<4).map { _ in try volume.commit() }
        try volume.trimLog(base: batches[1].position)
        for isReopened in [false, true] {
            if isReopened {
                try volume.close()
                volume = try fixture.open()
            }
            #expect(volume.logBase == batches[1].position)
            #expect(volume.positions(after: 0) == [batches[2].position, batches[3].position])
        }
        #expect(throws: VolumeError.self) { try volume.trimLog(base: batches[0].position) }
        try volume.close()
    }

    @Test func anIdentityChangeIsDurableInBothCopies() throws {
        let fixture = try VolumeFixture()
        let peer = VolumeID(high: 9, low: 9)
        var volume = try fixture.open()
        try volume.updateIdentity { identity in
            identity.promise = 12
            identity.logSet = LogSet(version: 2, members: [peer])
            identity.failed[peer] = PeerFailure(epoch: 5, reason: "fsync: \"Input/output error\"\n\\")
        }
        try volume.close()
        #expect(try fixture.bytes("volume.json") == fixture.bytes("volume.json.2"))
        volume = try fixture.open()
        #expect(volume.identity.promise == 12)
        #expect(volume.identity.logSet == LogSet(version: 2, members: [peer]))
        #expect(
            volume.identity.failed == [
                peer: PeerFailure(epoch: 5, reason: "fsync: \"Input/output error\"\n\\")
            ]
        )
        #expect(volume.identity.quorum == .standard)
        try volume.close()
    }

    @Test func aVolumeThatWasNotClosedKeepsWhatWasWritten() throws {
        let fixture = try VolumeFixture()
        let small = payload(1)
        let large = payload(2, count: 300_000)
        do {
            let volume = try fixture.open()
            try volume.appendBulk(large)
            try volume.syncBulk()
            try volume.commit([small])
        }
        let volume = try fixture.open()
        #expect(!volume.openReport.wasClosedCleanly)
        #expect(volume.openReport.damage.isEmpty)
        #expect(volume.openReport.tornByteCount == 0)
        #expect(try volume.read(small) == small.bytes)
        #expect(try volume.read(large) == large.bytes)
        #expect(volume.logTail.sequence == 1)
        try volume.close()
    }
}
