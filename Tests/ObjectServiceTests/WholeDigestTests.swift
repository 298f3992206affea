import Catalog
import ContentHashing
import Encryption
import Replication
import StoreModel
import Testing

@testable import ObjectService

/// The SHA-256 of objects that came in parts, found after the version was made.
@Suite struct WholeDigestTests {
    private func put(
        _ bodies: [[UInt8]],
        key: String? = nil,
        _ fixture: Fixture
    ) async throws -> VersionRow {
        let key = try key.map { try ObjectKey($0) } ?? fixture.key
        let upload = try await fixture.store.createUpload(
            CreateUploadRequest(bucket: fixture.bucket, key: key)
        )
        let address = UploadAddress(bucket: fixture.bucket, key: key, id: upload.id)
        var parts: [ListedPart] = []
        for (index, body) in bodies.enumerated() {
            let part = try await fixture.store.putPart(
                PutPartRequest(upload: address, number: index + 1),
                body: BufferByteSource(body)
            )
            parts.append(ListedPart(number: index + 1, etag: part.etag.hex, checksum: nil))
        }
        return try await fixture.store.complete(CompleteRequest(upload: address, parts: parts))
    }

    private func worker(_ fixture: Fixture) -> WholeDigests {
        WholeDigests(fixture.store, load: ClientLoad())
    }

    private let bodies = [noise(60_000, seed: 1), noise(7_000, seed: 2)]
    private var digest: Digest { SHA256Hasher.hash(bodies[0] + bodies[1]) }

    @Test func itIsFoundAndTheVersionStaysTheSame() async throws {
        let fixture = try await Fixture(limits: Fixture.smallLimits)
        let row = try await put(bodies, fixture)
        #expect(row.sha256 == nil)
        #expect(try await fixture.store.digestTaskCount() == 1)
        let worker = worker(fixture)
        #expect(try await worker.findNext())
        #expect(try await fixture.store.digestTaskCount() == 0)
        #expect(try await !worker.findNext())
        let found = try await fixture.store.head(fixture.address())
        #expect(found.sha256 == digest)
        #expect((found.id, found.etag, found.createdAt) == (row.id, row.etag, row.createdAt))
        #expect(try await fixture.store.history(bucket: fixture.bucket, key: fixture.key).count == 1)
        #expect(worker.counts.foundCount == 1 && worker.counts.byteCount == 67_000)
        // A copy shares the bytes, and what is known of them.
        let copy = CopyCommand(source: fixture.address(), bucket: fixture.bucket, key: try ObjectKey("copy"))
        #expect(try await fixture.store.copy(copy).sha256 == digest)
    }

    @Test func anotherProcessGoesOnWithIt() async throws {
        let fixture = try await Fixture(limits: Fixture.smallLimits)
        _ = try await put(bodies, fixture)
        _ = try await put([noise(30_000, seed: 3)], key: "other", fixture)
        #expect(try await fixture.store.digestTaskCount() == 2)
        #expect(try await worker(fixture).findNext())
        #expect(try await worker(fixture).findNext())
        #expect(try await fixture.store.digestTaskCount() == 0)
        #expect(try await fixture.store.head(fixture.address()).sha256 == digest)
    }

    @Test func copiesAndRestoresFromBeforeItWasFoundGetItWithoutBeingRead() async throws {
        let fixture = try await Fixture(limits: Fixture.smallLimits)
        let row = try await put(bodies, fixture)
        let copy = CopyCommand(source: fixture.address(), bucket: fixture.bucket, key: try ObjectKey("copy"))
        _ = try await fixture.store.copy(copy)
        let restored = try await fixture.store.restore(
            bucket: fixture.bucket,
            key: fixture.key,
            version: row.id
        )
        _ = try await fixture.put([1, 2, 3])
        #expect(try await fixture.store.digestTaskCount() == 1)
        let worker = worker(fixture)
        #expect(try await worker.lookFurther() == 2)
        #expect(try await worker.lookFurther() == nil)
        #expect(try await fixture.store.digestTaskCount() == 3)
        while try await worker.findNext() {}
        #expect(worker.counts.foundCount == 3 && worker.counts.byteCount == 67_000)
        #expect(try await fixture.store.head(fixture.address(.id(row.id))).sha256 == digest)
        #expect(try await fixture.store.head(fixture.address(.id(restored.id))).sha256 == digest)
        let other = VersionAddress(bucket: fixture.bucket, key: copy.key, selector: .newest)
        #expect(try await fixture.store.head(other).sha256 == digest)
        #expect(try await fixture.store.digestTaskCount() == 0)
    }

    @Test func whatIsOlderThanTasksIsMetOnceAndAnotherProcessGoesOnBehindIt() async throws {
        let fixture = try await Fixture(limits: Fixture.smallLimits)
        let row = try await put(bodies, fixture)
        for number in 0..<300 { _ = try await fixture.put([UInt8(truncatingIfNeeded: number)]) }
        try await fixture.store.write(documents: [DigestTask.removal(row.operation)])
        let first = worker(fixture)
        #expect(try await first.lookFurther() == 1)
        // What failed is not begun anew by the look of another process.
        let chunk = try await fixture.chunks(of: row)[1].digest
        fixture.storage.lose(chunk, on: [0, 1, 2])
        while try await first.findNext() {}
        let second = worker(fixture)
        #expect(try await second.lookFurther() == 0)
        #expect(try await second.lookFurther() == nil)
        let document = try #require(try await fixture.store.documents(.job, prefix: DigestTask.prefix).first)
        #expect(try DigestTask(document).attemptCount == 1)
        let kept = try await fixture.store.document(DigestLook.name.space, DigestLook.name.key)
        #expect(DigestLook(kept).seen >= row.id.sequence)
        #expect(DigestLook(nil).seen == 0)
        let damaged = DocumentRow(space: .job, key: DigestLook.name.key, body: [1, 2])
        #expect(DigestLook(damaged).seen == 0)
    }

    @Test func whatIsEncryptedGetsNoTask() async throws {
        let fixture = try await Fixture(limits: Fixture.smallLimits)
        var sealed = VersionAttributes.none
        sealed.encryption = [1]
        let command = PutCommand(
            bucket: fixture.bucket,
            key: fixture.key,
            content: try await put(bodies, fixture).content,
            attributes: sealed
        )
        _ = try await fixture.store.commit(.putObject(command), operation: nil)
        #expect(try await worker(fixture).lookFurther() == 0)
        #expect(try await fixture.store.digestTaskCount() == 1)
    }

    @Test func whatIsGoneOrBuriedUnderNewerVersions() async throws {
        let fixture = try await Fixture(limits: Fixture.smallLimits)
        let row = try await put(bodies, fixture)
        for number in 0..<300 { _ = try await fixture.put([UInt8(truncatingIfNeeded: number)]) }
        #expect(try await worker(fixture).findNext())
        #expect(try await fixture.store.head(fixture.address(.id(row.id))).sha256 == digest)
        let second = try await put(bodies, fixture)
        _ = try await fixture.store.delete(fixture.address(.id(second.id)))
        #expect(try await worker(fixture).findNext())
        #expect(try await fixture.store.digestTaskCount() == 0)
    }

    @Test func whatCanNotBeReadIsTriedAgainLaterAndHoldsNobodyUp() async throws {
        let fixture = try await Fixture(limits: Fixture.smallLimits)
        let row = try await put(bodies, fixture)
        _ = try await put([noise(30_000, seed: 3)], key: "other", fixture)
        let chunk = try await fixture.chunks(of: row)[1].digest
        fixture.storage.lose(chunk, on: [0, 1, 2])
        let worker = worker(fixture)
        while try await worker.findNext() {}
        #expect(worker.counts.failureCount == 1 && worker.counts.foundCount == 1)
        #expect(try await fixture.store.digestTaskCount() == 1)
        let document = try #require(try await fixture.store.documents(.job, prefix: DigestTask.prefix).first)
        let task = try DigestTask(document)
        #expect(task.attemptCount == 1 && task.notBefore != nil && !task.problem.isEmpty)
        #expect(try await fixture.store.head(fixture.address()).sha256 == nil)
    }

    @Test func whatIsOneChunkIsKnownAtOnce() async throws {
        let fixture = try await Fixture(limits: Fixture.smallLimits)
        let body = noise(900, seed: 4)
        #expect(try await put([body], fixture).sha256 == SHA256Hasher.hash(body))
        #expect(try await fixture.store.digestTaskCount() == 0)
    }

    @Test func verifyFindsItToo() async throws {
        let fixture = try await Fixture(limits: Fixture.smallLimits)
        _ = try await put(bodies, fixture)
        #expect(try await fixture.store.verify(repair: false).digestCount == 0)
        #expect(try await fixture.store.head(fixture.address()).sha256 == nil)
        let report = try await fixture.store.verify(repair: true)
        #expect(report.digestCount == 1 && report.isHealthy)
        #expect(try await fixture.store.head(fixture.address()).sha256 == digest)
        #expect(try await fixture.store.digestTaskCount() == 0)
        #expect(try await fixture.store.verify(repair: true).digestCount == 0)
    }

    @Test func aTaskIsReadAsItWasWritten() throws {
        var task = DigestTask(
            operation: OperationID(high: 1, low: 2),
            bucket: BucketID(rawValue: 3),
            key: try ObjectKey("ä/b")
        )
        task.attemptCount = 4
        task.notBefore = Timestamp(milliseconds: 5)
        task.problem = "no"
        let key = DigestTask.key(of: task.operation)
        #expect(try DigestTask(DocumentRow(space: .job, key: key, body: task.body)) == task)
        for cut in task.body.indices {
            let short = DocumentRow(space: .job, key: key, body: Array(task.body[..<cut]))
            #expect(throws: StoreError.self) { try DigestTask(short) }
        }
    }
}
