import BlobVolume
import StoreModel
import Testing

@Suite struct PayloadImageTests {
    @Test(
        "Volumes that share a payload's image, and those that find no memory for one, hold the same records"
    )
    func images() throws {
        let fixtures = [try VolumeFixture(), try VolumeFixture()]
        let volumes = try fixtures.map { try $0.open() }
        // More of them alive than there is memory for images; of sizes around a page's and a block's border.
        let sizes = [1, 4096 - 104, 4096, 65_536, 65_537, 300_000, 1_000_001, 131_073]
        let records = sizes.enumerated().map { payload(300 + $0.offset, count: $0.element) }
        // Some are laid out before anybody writes them, as far as there is memory.
        for record in records.suffix(5) { record.prepareForBulk() }
        for volume in volumes {
            for record in records { try volume.appendBulk(record) }
            try volume.syncBulk()
        }
        // Another record of the same bytes has an image of its own, or none.
        let again = records.map { PayloadRecord(digest: $0.digest, bytes: $0.bytes) }
        for volume in volumes {
            for record in again { #expect(try volume.read(record) == record.bytes) }
            for record in again { try volume.verify(record.digest, strict: true) }
            try volume.close()
        }
        for fixture in fixtures {
            #expect(try fixture.check().damage.isEmpty)
            let reopened = try fixture.open()
            for record in again { #expect(try reopened.read(record) == record.bytes) }
            try reopened.close()
        }
    }
}
