import BlobVolume
import ContentHashing
import StoreModel
import Testing

/// The volume in `fixtures/volumes/v1` was written once by the first version of the format and never changes. It has
/// a bulk segment, sealed log segments and an open one, two epochs, a trimmed log, an empty payload, and a record that
/// was damaged, quarantined, replaced and buried.
@Suite struct FrozenVolumeTests {
    private func copy() throws -> VolumeFixture {
        let source = try PosixDisk(path: fixturePath)
        let fixture = try VolumeFixture()
        var files: [String: [UInt8]] = [:]
        for folder in ["", "segments", "quarantine"] {
            for name in try source.list(folder) where name != "segments" && name != "quarantine" {
                let path = folder.isEmpty ? name : folder + "/" + name
                let file = try source.open(path, .read)
                files[path] = try file.read(count: Int(file.size()), at: 0)
            }
        }
        try fixture.restore(files)
        return fixture
    }

    private var fixturePath: String {
        let parts = #filePath.split(separator: "/").dropLast(3)
        return "/" + parts.joined(separator: "/") + "/fixtures/volumes/v1"
    }

    @Test func aVolumeOfTheFirstFormatIsReadWholeAndTakesMore() throws {
        let fixture = try copy()
        #expect(try fixture.check().damage.isEmpty)
        var volume = try fixture.open()
        #expect(volume.openReport.damage.isEmpty)
        #expect(volume.openReport.identityFaults.isEmpty)
        #expect(volume.openReport.wasClosedCleanly)
        #expect(volume.openReport.recordCount == 10)
        #expect(volume.storeID.description == "a0a1a2a3-a4a5-a6a7-a8a9-aaabacadaeaf")
        #expect(volume.identity.promise == 2)
        #expect(volume.identity.logSet.version == 3)
        #expect(
            volume.identity.failed == [
                VolumeID(high: 7, low: 8): PeerFailure(epoch: 1, reason: "fdatasync: \"EIO\"")
            ]
        )
        for index in 0..<8 {
            let record = payload(index, count: 600)
            #expect(try volume.read(record) == record.bytes)
        }
        let replaced = payload(100, count: 3000)
        try volume.verify(replaced.digest, strict: true)
        #expect(volume.presence(of: payload(50, count: 0).digest) == .synced)
        #expect(volume.logBase.sequence == 2)
        #expect(volume.logTail.description == "2.9#f0fcc66d")
        #expect(volume.knownCommitIndex == 8)
        #expect(volume.completeSequence == 8)
        #expect(try volume.readBatch(sequence: 5).position.epoch == 2)
        let next = try volume.commit([payload(200)], epoch: 2)
        try volume.close()
        volume = try fixture.open()
        #expect(volume.logTail == next.position)
        #expect(volume.openReport.recordCount == 11)
        try volume.close()
        #expect(try fixture.check().damage.isEmpty)
    }
}
