import Catalog
import ContentHashing
import ObjectService
import StoreModel
import Synchronization
import Testing

@Suite struct VerifyTests {
    @Test func aHealthyStoreHasNoFindings() async throws {
        let fixture = try await Fixture(limits: Fixture.smallLimits)
        let row = try await fixture.put(noise(200_000))
        _ = try await fixture.put([1, 2, 3])
        _ = try await fixture.store.delete(fixture.address())
        let report = try await fixture.store.verify(repair: false)
        #expect(report.isHealthy && report.findings.isEmpty)
        #expect((report.bucketCount, report.versionCount, report.deleteMarkerCount) == (1, 2, 1))
        #expect(report.versionBytes == 200_003)
        let payloads = fixture.storage.state.withLock { $0.volumes[0].count }
        #expect(report.payloadCount == UInt64(payloads))
        #expect(report.goodReplicaCount == UInt64(payloads * 3))
        #expect(report.payloadCount > UInt64(try await fixture.chunks(of: row).count))
    }

    @Test func aSharedPayloadIsReadOnceAndReportedForEveryVersion() async throws {
        let fixture = try await Fixture(limits: Fixture.smallLimits)
        let row = try await fixture.put(noise(50_000))
        let copy = CopyCommand(source: fixture.address(), bucket: fixture.bucket, key: try ObjectKey("copy"))
        _ = try await fixture.store.copy(copy)
        let digest = try await fixture.chunks(of: row)[1].digest
        fixture.storage.damage(digest, on: [2])
        let report = try await fixture.store.verify(repair: false)
        #expect(report.payloadCount == UInt64(fixture.storage.state.withLock { $0.volumes[0].count }))
        #expect(report.findingCount == 2 && !report.isHealthy)
        #expect(Set(report.findings.map(\.key.description)) == ["copy", fixture.key.description])
        #expect(report.findings.allSatisfy { $0.outcome == .repairable })
        guard case .replica(let state, let found) = report.findings[0].kind else {
            Issue.record("The finding should be about a replica.")
            return
        }
        #expect(found == digest)
        #expect(state.volume == InMemoryStorage.volumeIDs[2])
    }

    @Test func repairsAreMadeAndReported() async throws {
        let fixture = try await Fixture(limits: Fixture.smallLimits)
        let bytes = noise(200_000)
        let row = try await fixture.put(bytes)
        guard case .tree(let root, _, _, _) = row.manifest else {
            Issue.record("The manifest should be a tree.")
            return
        }
        let chunks = try await fixture.chunks(of: row)
        fixture.storage.damage(chunks[3].digest, on: [0])
        fixture.storage.lose(chunks[4].digest, on: [0, 1])
        fixture.storage.damage(root, on: [1])
        let report = try await fixture.store.verify(VerifyScope(bucket: fixture.bucket), repair: true)
        #expect(report.findingCount == 4 && report.repairedCount == 4 && report.isHealthy)
        let again = try await fixture.store.verify(repair: false)
        #expect(again.findings.isEmpty)
        #expect(try await fixture.get() == bytes)
    }

    @Test func whatIsLostIsNamedAndTheRestIsStillVerified() async throws {
        let fixture = try await Fixture(limits: Fixture.smallLimits)
        let lost = try await fixture.put(noise(200_000))
        fixture.storage.damage(try await fixture.chunks(of: lost)[2].digest)
        let good = try await fixture.put(noise(3000, seed: 7))
        let bad = try await fixture.put(noise(200_000, seed: 8))
        guard case .tree(let root, _, _, _) = bad.manifest else {
            Issue.record("The manifest should be a tree.")
            return
        }
        fixture.storage.lose(root, on: [0, 1, 2])
        let report = try await fixture.store.verify(repair: true)
        #expect(report.versionCount == 3)
        #expect(report.lostVersionCount == 2)
        #expect(Set(report.findings.map(\.version)) == [lost.id, bad.id])
        #expect(report.findings.allSatisfy { $0.outcome == .lost })
        #expect(try await fixture.get(.id(good.id)) == noise(3000, seed: 7))
    }

    @Test func onlyWhatIsInScopeIsRead() async throws {
        let fixture = try await Fixture()
        _ = try await fixture.put([1])
        for index in 0..<5 {
            let request = PutRequest(bucket: fixture.bucket, key: try ObjectKey("other/\(index)"))
            _ = try await fixture.store.put(request, body: BufferByteSource([UInt8(index), 9]))
        }
        let scope = VerifyScope(bucket: fixture.bucket, prefix: [UInt8]("other/".utf8))
        let report = try await fixture.store.verify(scope, repair: false)
        #expect(report.versionCount == 5)
        let missing = VerifyScope(bucket: try BucketName("missing"))
        await expectFailure(.noSuchBucket) { try await fixture.store.verify(missing, repair: false) }
    }

    @Test func aFullSetOfSeenDigestsForgetsAndNeverLies() {
        var seen = SeenDigests(countMax: 10)
        let digests = (0..<95).map { SHA256Hasher.hash([UInt8($0)]) }
        let newCount = digests.count { seen.insert($0) }
        #expect(newCount == 95)
        #expect(seen.wasEmptied)
        let isNew = seen.insert(digests[94])
        #expect(!isNew)
    }
}
