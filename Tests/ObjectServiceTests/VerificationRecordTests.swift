import Catalog
import Replication
import StoreModel
import Testing

@testable import ObjectService

@Suite struct VerificationRecordTests {
    private func row(_ key: String, at milliseconds: Int64) throws -> VersionRow {
        VersionRow(
            bucket: BucketID(rawValue: 1),
            key: try ObjectKey(key),
            id: VersionID(sequence: 1, nonce: 1),
            isNull: false,
            kind: .object,
            createdAt: Timestamp(milliseconds: milliseconds),
            content: .nothing,
            operation: OperationID(high: 1, low: 1)
        )
    }

    @Test func itCoversWhatWasThereBeforeItBegan() throws {
        let bucket = try BucketName("models")
        let record = VerificationRecord(
            scope: VerifyScope(bucket: bucket, prefix: [UInt8]("a/".utf8)),
            startedAt: Timestamp(milliseconds: 1000),
            endedAt: Timestamp(milliseconds: 2000),
            volumes: [InMemoryStorage.volumeIDs[0]]
        )
        #expect(record.covers(try row("a/b", at: 999), in: bucket))
        #expect(!record.covers(try row("a/b", at: 1000), in: bucket))
        #expect(!record.covers(try row("b", at: 1), in: bucket))
        #expect(!record.covers(try row("a/b", at: 1), in: try BucketName("other")))
    }

    @Test(arguments: [nil, "models"], ["", "a/b", "\u{1F600}/", "//"])
    func itIsReadAsItWasWritten(bucket: String?, prefix: String) throws {
        let record = VerificationRecord(
            scope: VerifyScope(bucket: try bucket.map { try BucketName($0) }, prefix: [UInt8](prefix.utf8)),
            startedAt: Timestamp(milliseconds: 1000),
            endedAt: Timestamp(milliseconds: 2000),
            volumes: Set(InMemoryStorage.volumeIDs)
        )
        let row = DocumentRow(space: .job, key: record.key, body: record.body)
        #expect(try VerificationRecord(row) == record)
        for cut in record.body.indices {
            let short = DocumentRow(space: .job, key: record.key, body: Array(record.body[..<cut]))
            #expect(throws: StoreError.self) { try VerificationRecord(short) }
        }
    }

    @Test func recordsAreBounded() async throws {
        let fixture = try await Fixture(limits: Fixture.smallLimits)
        _ = try await fixture.put(noise(20_000))
        let key = [UInt8](fixture.key.description.utf8)
        for length in 0..<VerificationRecord.countMax + 5 {
            let prefix = length < key.count ? Array(key[..<length]) : []
            let record = VerificationRecord(
                scope: VerifyScope(bucket: fixture.bucket, prefix: prefix + [UInt8(length)]),
                startedAt: Timestamp(milliseconds: 1),
                endedAt: Timestamp(milliseconds: Int64(length)),
                volumes: [InMemoryStorage.volumeIDs[0]]
            )
            try await fixture.store.keep(record)
        }
        _ = try await fixture.store.verify(repair: false)
        let kept = try await fixture.store.documents(.job, prefix: VerificationRecord.prefix)
            .map { try VerificationRecord($0) }
        #expect(kept.count == VerificationRecord.countMax)
        // The oldest made room; the last run, of everything, is there.
        #expect(kept.contains { $0.scope == .everything && $0.volumes == Set(InMemoryStorage.volumeIDs) })
        #expect(!kept.contains { $0.endedAt < Timestamp(milliseconds: 5) })
    }
}
