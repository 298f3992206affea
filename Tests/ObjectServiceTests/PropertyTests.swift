import Catalog
import ContentHashing
import ObjectService
import StoreModel
import Testing

/// Settings of buckets, attributes of versions, checksums and expectations of bodies, deletes of many.
@Suite struct PropertyTests {
    @Test func settingsAreReadFromMemoryAndNeverStale() async throws {
        let fixture = try await Fixture()
        let store = fixture.store
        #expect(try await store.bucketSetting(bucket: fixture.bucket, name: "cors") == nil)
        try await store.putBucketSetting(bucket: fixture.bucket, name: "cors", body: [1])
        #expect(try await store.bucketSetting(bucket: fixture.bucket, name: "cors") == [1])
        let first = try await store.bucketConfiguration(fixture.bucket)
        #expect(try await store.bucketConfiguration(fixture.bucket) === first)
        _ = try await fixture.put([1])
        #expect(try await store.bucketConfiguration(fixture.bucket) === first)
        for number in UInt8(0)..<50 {
            try await store.putBucketSetting(bucket: fixture.bucket, name: "cors", body: [number])
            #expect(try await store.bucketSetting(bucket: fixture.bucket, name: "cors") == [number])
        }
        try await store.removeBucketSetting(bucket: fixture.bucket, name: "cors")
        #expect(try await store.bucketConfiguration(fixture.bucket).settings.isEmpty)
        _ = try await store.setVersioning(of: fixture.bucket, to: .suspended)
        #expect(try await store.bucketConfiguration(fixture.bucket).bucket.versioning == .suspended)
        try await store.deleteVersions(of: fixture)
        try await store.deleteBucket(fixture.bucket)
        await expectFailure(.noSuchBucket) { try await store.bucketConfiguration(fixture.bucket) }
        _ = try await store.createBucket(
            fixture.bucket,
            settings: [BucketSetting(name: "acl", body: [7])]
        )
        #expect(try await store.bucketConfiguration(fixture.bucket).settings == ["acl": [7]])
    }

    @Test func documentsAreSeenAtOnceAndAdvanceTheirGeneration() async throws {
        let fixture = try await Fixture()
        let before = fixture.store.documentGeneration(of: .account)
        let write = DocumentWrite(space: .account, key: [1], expectation: .absent, body: [1])
        try await fixture.store.write(documents: [write])
        #expect(fixture.store.documentGeneration(of: .account) > before)
        await expectFailure(.conflict) { try await fixture.store.write(documents: [write]) }
        #expect(try await fixture.store.document(.account, [1])?.body == [1])
        #expect(try await fixture.store.documents(.account).count == 1)
    }

    @Test func whatATrailerSaysIsCheckedAtTheEnd() async throws {
        let fixture = try await Fixture(limits: Fixture.smallLimits)
        for size in [10, 50_000] {
            let bytes = noise(size)
            for algorithm in ChecksumAlgorithm.allCases {
                let right = Checksummer.checksum(algorithm, of: bytes)
                func put(_ expected: BodyExpectation) async throws -> VersionRow {
                    try await fixture.store.put(
                        PutRequest(
                            bucket: fixture.bucket,
                            key: fixture.key,
                            expectationAtEnd: { expected },
                            checksum: algorithm
                        ),
                        body: BufferByteSource(bytes)
                    )
                }
                let row = try await put(BodyExpectation(checksum: right))
                #expect(row.checksums.others == [NamedValue(algorithm.name, right.base64)])
                let count = try await fixture.store.history(bucket: fixture.bucket, key: fixture.key).count
                let wrong = Checksummer.checksum(algorithm, of: [1, 2])
                await expectFailure(.badDigest) { try await put(BodyExpectation(checksum: wrong)) }
                await expectFailure(.payloadHashMismatch) {
                    try await put(BodyExpectation(signedSHA256: .zero))
                }
                let after = try await fixture.store.history(bucket: fixture.bucket, key: fixture.key).count
                #expect(after == count)
            }
        }
    }

    @Test func aTrailerThatFailsFailsThePut() async throws {
        let fixture = try await Fixture()
        let request = PutRequest(
            bucket: fixture.bucket,
            key: fixture.key,
            expectationAtEnd: { throw StoreError(.invalidArgument, "No trailer came.") }
        )
        await expectFailure(.invalidArgument) {
            try await fixture.store.put(request, body: BufferByteSource([1]))
        }
        await expectFailure(.noSuchKey) { try await fixture.get() }
    }

    @Test func attributesArePutAndChangedWithoutANewVersion() async throws {
        let fixture = try await Fixture()
        var attributes = VersionAttributes.none
        attributes.owner = "you"
        attributes.storageClass = "STANDARD"
        let row = try await fixture.store.put(
            PutRequest(bucket: fixture.bucket, key: fixture.key, attributes: attributes),
            body: BufferByteSource([1])
        )
        #expect(row.attributes == attributes)
        let changed = try await fixture.store.setAttributes(
            of: fixture.address(),
            [AttributeChange(.accessControlList, [5]), AttributeChange(.storageClass, nil)]
        )
        #expect(changed.id == row.id)
        #expect(try await fixture.store.head(fixture.address()).attributes.accessControlList == [5])
        #expect(changed.attributes.storageClass == nil && changed.attributes.owner == "you")
        let page = try await fixture.store.list(ListRequest(bucket: fixture.bucket))
        #expect(page.objects.map(\.owner) == ["you"])
        #expect(try await fixture.store.partRange(1, of: changed).range.length == 1)
        await expectFailure(.invalidRange) { try await fixture.store.partRange(2, of: changed) }
        let hold = [AttributeChange(.legalHold, [1])]
        _ = try await fixture.store.setAttributes(of: fixture.address(), hold)
        await expectFailure(.objectLocked) {
            try await fixture.store.delete(fixture.address(.id(row.id)), bypassesGovernance: true)
        }
    }

    @Test func manyAreDeletedEachAsIfAlone() async throws {
        let fixture = try await Fixture()
        var targets: [DeleteTarget] = []
        for number in 0..<100 {
            let key = try ObjectKey("key-\(number)")
            if number % 2 == 0 {
                _ = try await fixture.store.put(
                    PutRequest(bucket: fixture.bucket, key: key),
                    body: BufferByteSource([1])
                )
            }
            let conditions = number % 10 == 3 ? Conditions(ifMatch: .any) : .none
            targets.append(DeleteTarget(key: key, conditions: conditions))
        }
        let results = try await fixture.store.deleteMany(targets, in: fixture.bucket)
        #expect(results.count == 100)
        for (number, result) in results.enumerated() {
            switch result {
            case .success(let deleted):
                #expect(number % 10 != 3)
                #expect(deleted.marker?.key == targets[number].key)
            case .failure(let error):
                #expect(number % 10 == 3 && error.code == .noSuchKey)
            }
        }
        #expect(try await fixture.store.list(ListRequest(bucket: fixture.bucket)).objects.isEmpty)
        let other = try BucketName("other")
        await expectFailure(.noSuchBucket) { try await fixture.store.deleteMany(targets, in: other) }
        let tooMany = Array(repeating: targets[0], count: 1001)
        await expectFailure(.invalidArgument) {
            try await fixture.store.deleteMany(tooMany, in: fixture.bucket)
        }
    }
}

extension ObjectStore {
    fileprivate func deleteVersions(of fixture: Fixture) async throws {
        for row in try await history(bucket: fixture.bucket, key: fixture.key) {
            _ = try await delete(fixture.address(.id(row.id)))
        }
    }
}
