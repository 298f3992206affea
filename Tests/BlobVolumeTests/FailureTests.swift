import BlobVolume
import ContentHashing
import StoreModel
import Synchronization
import Testing

private func code(_ error: any Error) -> VolumeError.Code? { (error as? VolumeError)?.code }

@Suite struct FailureTests {
    @Test(arguments: ["sync", "write"])
    func aFailedCallOnTheLogIsFinalAndTheFileIsNeverWrittenAgain(call: String) throws {
        let fixture = try VolumeFixture()
        let disk = RiggedDisk(try fixture.directory.disk())
        var volume = try BlobVolume.open(disk, options: fixture.options)
        let kept = payload(1)
        let lost = payload(2)
        let first = try volume.commit([kept])
        disk.fail(call, "00000001.log")
        #expect { try volume.commit([lost]) } throws: { code($0) == .failed }
        disk.heal()
        #expect(volume.failure != nil)
        #expect { try volume.syncLog() } throws: { code($0) == .failed }
        #expect { try volume.commit() } throws: { code($0) == .failed }
        #expect { try volume.appendBulk(payload(3, count: 200_000)) } throws: { code($0) == .failed }
        #expect { try volume.updateIdentity { $0.promise = 9 } } throws: { code($0) == .failed }
        // What was verified may still be read.
        #expect(try volume.read(kept) == kept.bytes)
        try volume.close()

        disk.rigging.withLock { $0.written = [] }
        volume = try BlobVolume.open(disk, options: fixture.options)
        #expect(volume.failure == nil)
        #expect(volume.presence(of: lost.digest) == .absent)
        #expect(volume.logTail == first.position)
        // The watermark was exact: nothing acknowledged was dropped.
        #expect(!volume.isLogDamaged)
        try volume.commit([payload(4)])
        #expect(try volume.read(kept) == kept.bytes)
        try volume.close()
        #expect(disk.rigging.withLock { !$0.written.contains("segments/00000001.log") })
        volume = try BlobVolume.open(disk, options: fixture.options)
        #expect(volume.logTail.sequence == 2)
        #expect(try volume.read(kept) == kept.bytes)
        #expect(volume.presence(of: lost.digest) == .absent)
        try volume.close()
        #expect(try fixture.check().damage.isEmpty)
    }

    /// A footer must not be found, after a crash while sealing, in front of records that never arrived.
    @Test func recordsAreFsyncedBeforeTheFooterThatNamesThemIsWritten() throws {
        let fixture = try VolumeFixture()
        let disk = RiggedDisk(try fixture.directory.disk())
        let volume = try BlobVolume.open(disk, options: fixture.options)
        try volume.appendGroup(payloads: [payload(0, count: 2000)], batch: nil)
        disk.fail("sync", ".log")
        #expect {
            for index in 1..<60 {
                try volume.appendGroup(payloads: [payload(index, count: 2000)], batch: nil)
            }
        } throws: {
            code($0) == .failed
        }
        try volume.close()
        #expect(place(of: [UInt8]("HFTR".utf8), in: try fixture.bytes("segments/00000001.log")) == nil)
    }

    @Test func aFailedFsyncOfBulkDropsWhatWasNotSynced() throws {
        let fixture = try VolumeFixture()
        let disk = RiggedDisk(try fixture.directory.disk())
        var volume = try BlobVolume.open(disk, options: fixture.options)
        let kept = payload(1, count: 200_000)
        let lost = payload(2, count: 200_000)
        try volume.appendBulk(kept)
        try volume.syncBulk()
        try volume.commit()
        try volume.appendBulk(lost)
        disk.fail("sync", ".bulk")
        #expect { try volume.syncBulk() } throws: { code($0) == .failed }
        #expect(volume.presence(of: lost.digest) == .unsynced)
        disk.heal()
        try volume.close()
        volume = try BlobVolume.open(disk, options: fixture.options)
        #expect(volume.openReport.discardedByteCount > 0)
        #expect(volume.presence(of: lost.digest) == .absent)
        #expect(try volume.read(kept) == kept.bytes)
        #expect(volume.logTail.sequence == 1)
        try volume.appendBulk(lost)
        try volume.syncBulk()
        try volume.close()
        #expect(try fixture.segments().filter { $0.hasSuffix(".bulk") }.count == 2)
        volume = try BlobVolume.open(disk, options: fixture.options)
        #expect(try volume.read(lost) == lost.bytes)
        try volume.close()
        #expect(try fixture.check().damage.isEmpty)
    }

    @Test func discardingWithoutExactWatermarksMakesTheLogDamaged() throws {
        let fixture = try VolumeFixture()
        do {
            let volume = try fixture.open()
            try volume.commit([payload(1)])
            try volume.commit([payload(2)])
        }
        let volume = try fixture.open { $0.discardUnsynced = true }
        // The second batch told that the first was synced; nothing told about the second.
        #expect(volume.logTail.sequence == 1)
        #expect(volume.presence(of: payload(2).digest) == .absent)
        #expect(volume.isLogDamaged)
        try volume.commit([payload(3)])
        try volume.close()
        #expect(try fixture.segments().count == 2)
    }

    @Test func whatIsKnownToBeSyncedIsKept() throws {
        for acknowledged in 1...3 {
            let fixture = try VolumeFixture()
            do {
                let volume = try fixture.open()
                for index in 1...3 { try volume.commit([payload(index)]) }
            }
            let volume = try fixture.open {
                $0.discardUnsynced = true
                $0.acknowledged = AcknowledgedBatch(epoch: 1, sequence: UInt64(acknowledged))
            }
            // The third batch told that the second was synced.
            #expect(volume.logTail.sequence == UInt64(max(2, acknowledged)))
            #expect(volume.presence(of: payload(3).digest) == (acknowledged == 3 ? .synced : .absent))
            #expect(!volume.isLogDamaged)
            try volume.close()
            #expect(try fixture.check().damage.isEmpty)
        }
    }

    @Test func aBatchThatIsNotThereTellsNothing() throws {
        let fixture = try VolumeFixture()
        do {
            let volume = try fixture.open()
            for index in 1...2 { try volume.commit([payload(index)]) }
        }
        let volume = try fixture.open {
            $0.discardUnsynced = true
            $0.acknowledged = AcknowledgedBatch(epoch: 7, sequence: 2)
        }
        #expect(volume.logTail.sequence == 1)
        #expect(volume.isLogDamaged)
        try volume.close()
    }

    @Test func aFailedFsyncWhileOpeningIsNotTriedAgain() throws {
        let fixture = try VolumeFixture()
        do {
            let volume = try fixture.open()
            try volume.commit([payload(1)])
            try volume.commit([payload(2)])
        }
        let disk = RiggedDisk(try fixture.directory.disk())
        disk.fail("sync", ".log")
        #expect { try BlobVolume.open(disk, options: fixture.options) } throws: { code($0) == .inputOutput }
        disk.heal()
        let volume = try BlobVolume.open(disk, options: fixture.options)
        #expect(volume.isLogDamaged)
        #expect(volume.logTail.sequence == 1)
        try volume.close()
    }

    @Test func aFullVolumeRefusesPayloadsAndTakesCommits() throws {
        let fixture = try VolumeFixture()
        let disk = RiggedDisk(try fixture.directory.disk())
        let volume = try BlobVolume.open(disk, options: fixture.options)
        let kept = payload(1)
        try volume.commit([kept])
        disk.rigging.withLock { $0.freeBytes = fixture.options.reserveBytes + 100 }
        #expect { try volume.appendBulk(payload(2, count: 5 << 20)) } throws: { code($0) == .full }
        #expect { try volume.appendGroup(payloads: [payload(3)], batch: nil) } throws: { code($0) == .full }
        #expect(volume.space.isFull)
        // A batch that was decided takes its payloads along: the reserve is for it.
        try volume.commit([payload(4)])
        // Far beyond the rest of the open segment: the spare and the reserve are there for this.
        for _ in 0..<400 { try volume.commit() }
        #expect(try volume.read(kept) == kept.bytes)
        disk.rigging.withLock { $0.freeBytes = nil }
        try volume.commit([payload(3)])
        #expect(!volume.space.isFull)
        #expect(volume.failure == nil)
        try volume.close()
        #expect(try fixture.check().problems.isEmpty)
    }

    @Test func noSpaceInTheMiddleOfAWriteLeavesNothingBehind() throws {
        let fixture = try VolumeFixture()
        let disk = RiggedDisk(try fixture.directory.disk())
        var volume = try BlobVolume.open(disk, options: fixture.options)
        try volume.commit([payload(1)])
        try volume.appendBulk(payload(5, count: 200_000))
        try volume.syncBulk()
        let size = try fixture.bytes("segments/00000002.bulk").count
        disk.fail("write", ".bulk", .full)
        #expect { try volume.appendBulk(payload(2, count: 200_000)) } throws: { code($0) == .full }
        #expect(try fixture.bytes("segments/00000002.bulk").count == size)
        disk.heal()
        try volume.commit()
        try volume.appendBulk(payload(2, count: 200_000))
        try volume.syncBulk()
        try volume.close()
        volume = try fixture.open()
        #expect(volume.openReport.damage.isEmpty)
        #expect(volume.openReport.recordCount == 3)
        try volume.close()
        #expect(try fixture.check().problems.isEmpty)
    }

    @Test func aSecondOpenIsRefusedAndNamesTheProcess() throws {
        let fixture = try VolumeFixture()
        let volume = try fixture.open()
        #expect { try fixture.open() } throws: { error in
            code(error) == .locked && "\(error)".contains("process \(processID())")
        }
        #expect { try fixture.check() } throws: { code($0) == .locked }
        try volume.close()
        try fixture.open().close()
    }

    @Test func anEmptyDirectoryIsNeverWrittenTo() throws {
        let directory = TemporaryDirectory()
        let disk = try directory.disk()
        #expect { try BlobVolume.open(disk) } throws: { code($0) == .identityMissing }
        #expect { try VolumeCheck.run(disk, deep: false) } throws: { code($0) == .identityMissing }
        #expect(try disk.list("").isEmpty)
    }

    @Test func aVolumeOfAnotherStoreIsRefused() throws {
        let fixture = try VolumeFixture()
        let other = StoreID(high: 8, low: 8)
        #expect { try fixture.open { $0.expectedStore = other } } throws: { code($0) == .identityMismatch }
        #expect { try fixture.open { $0.expectedVolume = other } } throws: { code($0) == .identityMismatch }
        try fixture.open {
            $0.expectedStore = fixture.storeID
            $0.expectedVolume = fixture.volumeID
        }.close()
        let identity = VolumeIdentity(
            storeID: other,
            volumeID: other,
            logSet: LogSet(version: 1, members: []),
            quorum: .standard,
            createdAt: Timestamp(milliseconds: 0)
        )
        #expect { try BlobVolume.format(fixture.directory.disk(), identity: identity) } throws: {
            code($0) == .alreadyExists
        }
    }

    @Test func oneDamagedCopyOfTheIdentityIsRepairedFromTheOther() throws {
        let fixture = try VolumeFixture()
        var volume = try fixture.open()
        try volume.updateIdentity { $0.promise = 5 }
        try volume.close()
        let clean = try fixture.snapshot()
        let count = try #require(clean["volume.json"]).count
        for name in ["volume.json", "volume.json.2"] {
            for offset in stride(from: 0, to: count, by: 7) {
                try fixture.restore(clean)
                try fixture.flip(name, at: UInt64(offset), 0x01)
                #expect(try fixture.check().damage.count == 1)
                volume = try fixture.open()
                #expect(volume.identity.promise == 5)
                #expect(volume.openReport.identityFaults.count == 1)
                try volume.close()
                #expect(try fixture.bytes("volume.json") == fixture.bytes("volume.json.2"))
            }
        }
        for name in ["volume.json", "volume.json.2"] { try fixture.flip(name, at: 20) }
        #expect { try fixture.open() } throws: { code($0) == .corrupt }
    }

    @Test func anUnknownFormatOrRecordTypeIsRefused() throws {
        let fixture = try VolumeFixture()
        let volume = try fixture.open()
        try volume.commit([payload(1)])
        try volume.close()
        let clean = try fixture.snapshot()
        // A record type of the future: byte 4 of the header, with the checksum that goes with it.
        var header = [UInt8](try #require(clean["segments/00000001.log"])[4096..<4192])
        header[4] = 99
        let sum = BlockChecksum.xxh3(header[..<88])
        header.replaceSubrange(88..<96, with: withUnsafeBytes(of: sum.littleEndian) { [UInt8]($0) })
        try fixture.overwrite("segments/00000001.log", header, at: 4096)
        #expect { try fixture.open() } throws: { code($0) == .unsupportedFormat }
        // A segment of a later major version.
        try fixture.restore(clean)
        var segment = [UInt8](try #require(clean["segments/00000001.log"])[..<64])
        segment[4] = 2
        let segmentSum = BlockChecksum.xxh3(segment[..<56])
        segment.replaceSubrange(56..<64, with: withUnsafeBytes(of: segmentSum.littleEndian) { [UInt8]($0) })
        try fixture.overwrite("segments/00000001.log", segment, at: 0)
        #expect { try fixture.open() } throws: { code($0) == .unsupportedFormat }
        // A volume of a later major version, whose other members may have any form.
        try fixture.restore(clean)
        let covered = "{\n  \"format\": \"holdfast volume\",\n  \"formatMajor\": 3,\n  \"formatMinor\": 0,\n"
        let text = covered + "  \"checksum\": \"\(SHA256Hasher.hash([UInt8](covered.utf8)).hex)\"\n}\n"
        for name in ["volume.json", "volume.json.2"] {
            try fixture.directory.disk().open(name, .update).truncate(to: 0)
            try fixture.overwrite(name, [UInt8](text.utf8), at: 0)
        }
        #expect { try fixture.open() } throws: { code($0) == .unsupportedFormat }
    }

    @Test func aReadErrorIsNotTakenForDamage() throws {
        let fixture = try VolumeFixture()
        let disk = RiggedDisk(try fixture.directory.disk())
        let volume = try BlobVolume.open(disk, options: fixture.options)
        let record = payload(1)
        try volume.commit([record])
        disk.fail("read", ".log")
        #expect { try volume.read(record) } throws: { code($0) == .inputOutput }
        disk.heal()
        #expect(try volume.read(record) == record.bytes)
        try volume.close()
        #expect { try volume.read(record) } throws: { code($0) == .closed }
    }

    @Test(arguments: [1000, 300_000])
    func aDamagedCopyIsReplacedAndTheOriginalKept(count: Int) throws {
        let fixture = try VolumeFixture()
        let record = payload(1, count: count)
        let name = count > 200_000 ? "segments/00000001.bulk" : "segments/00000001.log"
        var volume = try fixture.open()
        if count > 200_000 {
            try volume.appendBulk(record)
            try volume.syncBulk()
            try volume.commit()
        } else {
            try volume.commit([record])
        }
        let at = try #require(place(of: Array(record.bytes.prefix(100)), in: fixture.bytes(name)))
        try fixture.flip(name, at: UInt64(at + count / 2))
        #expect { try volume.verify(record.digest, strict: false) } throws: { code($0) == .corrupt }
        try volume.replaceDamaged(record)
        try volume.replaceDamaged(record)
        let missing = payload(2)
        try volume.replaceDamaged(missing)
        #expect(volume.presence(of: missing.digest) == .synced)
        for isReopened in [false, true] {
            if isReopened {
                try volume.close()
                volume = try fixture.open()
            }
            try volume.verify(record.digest, strict: true)
            #expect(volume.presence(of: record.digest) == .synced)
            #expect(volume.space.recordCount == 2)
            #expect(volume.space.payloadBytes == UInt64(count + 1000))
            var seen = 0
            try volume.forEachPayload { _, _ in seen += 1 }
            #expect(seen == 2)
        }
        try volume.close()
        let kept = try fixture.directory.disk().list("quarantine")
        #expect(kept.count == 1)
        #expect(try fixture.check().damage.isEmpty)
    }
}
