import Catalog
import ContentHashing
import ObjectService
import StoreModel
import Synchronization
import Testing

/// Uploads in parts, from their start to the object and its parts.
@Suite struct MultipartTests {
    private func upload(
        _ fixture: Fixture,
        key: ObjectKey? = nil,
        checksum: UploadChecksum? = nil
    ) async throws -> UploadAddress {
        let key = key ?? fixture.key
        let upload = try await fixture.store.createUpload(
            CreateUploadRequest(
                bucket: fixture.bucket,
                key: key,
                metadata: ObjectMetadata(contentType: "x/y", userMetadata: [NamedValue("a", "b")]),
                tags: [NamedValue("t", "1")],
                checksum: checksum,
                initiator: "someone"
            )
        )
        return UploadAddress(bucket: fixture.bucket, key: key, id: upload.id)
    }

    private func put(
        _ bytes: [UInt8],
        as number: Int,
        of address: UploadAddress,
        _ fixture: Fixture
    ) async throws -> UploadedPart {
        try await fixture.store.putPart(
            PutPartRequest(upload: address, number: number),
            body: BufferByteSource(bytes)
        )
    }

    private func listed(_ parts: [UploadedPart]) -> [ListedPart] {
        parts.map { ListedPart(number: $0.number, etag: $0.etag.hex, checksum: $0.checksum) }
    }

    private func documentCount(_ fixture: Fixture) -> Int {
        fixture.storage.state.withLock { $0.catalog.documentRows.keys.count { $0.space != .job } }
    }

    @Test func partsBecomeAnObject() async throws {
        let fixture = try await Fixture(limits: Fixture.smallLimits)
        let address = try await upload(fixture)
        let bodies = [noise(60_000, seed: 1), noise(7_000, seed: 2), noise(100, seed: 3)]
        // Out of order, with gaps in the numbers, and one part replaced.
        let third = try await put(bodies[2], as: 9999, of: address, fixture)
        _ = try await put(noise(9_000, seed: 9), as: 2, of: address, fixture)
        let second = try await put(bodies[1], as: 2, of: address, fixture)
        let first = try await put(bodies[0], as: 1, of: address, fixture)
        #expect(first.etag == bodies[0].withUnsafeBytes { MD5Hasher.hash($0) })
        await expectFailure(.noSuchKey) { try await fixture.get() }
        let page = try await fixture.store.listParts(of: address)
        #expect(page.parts == [first, second, third] && page.next == nil)
        #expect(page.upload.initiator == "someone")
        let row = try await fixture.store.complete(
            CompleteRequest(upload: address, parts: listed([first, second, third]), size: 67_100)
        )
        #expect(try await fixture.get() == bodies[0] + bodies[1] + bodies[2])
        let digests = [first, second, third].flatMap(\.etag.bytes)
        #expect(row.etag == digests.withUnsafeBytes { MD5Hasher.hash($0) }.hex + "-3")
        #expect(row.contentType == "x/y" && row.tags == [NamedValue("t", "1")])
        #expect(row.userMetadata == [NamedValue("a", "b")])
        #expect(documentCount(fixture) == 0)
        await expectFailure(.noSuchUpload) { try await fixture.store.listParts(of: address) }
        await expectFailure(.noSuchUpload) { try await put([1], as: 1, of: address, fixture) }
        await expectFailure(.noSuchUpload) { try await fixture.store.abort(address) }
        let parts = try #require(try await fixture.store.parts(of: row))
        #expect(parts.map(\.number) == [1, 2, 9999])
        let range = try await fixture.store.partRange(2, of: row)
        #expect(range.range.offset == 60_000 && range.range.length == 7_000 && range.count == 3)
        #expect(try await fixture.get(range: .from(60_000, length: 7_000)) == bodies[1])
        await expectFailure(.invalidRange) { try await fixture.store.partRange(3, of: row) }
        #expect(try await fixture.store.verify(repair: false).isHealthy)
    }

    @Test func aRepeatedCompleteGetsTheSameVersion() async throws {
        let fixture = try await Fixture(limits: Fixture.smallLimits)
        let address = try await upload(fixture)
        let part = try await put(noise(100), as: 1, of: address, fixture)
        let request = CompleteRequest(
            upload: address,
            parts: listed([part]),
            conditions: Conditions(ifNoneMatch: .any)
        )
        let row = try await fixture.store.complete(request)
        #expect(try await fixture.store.complete(request) == row)
        // Newer versions don't hide it.
        _ = try await fixture.put([1])
        #expect(try await fixture.store.complete(request) == row)
        var other = request
        other.parts = [ListedPart(number: 1, etag: String(repeating: "0", count: 32))]
        await expectFailure(.noSuchUpload) { try await fixture.store.complete(other) }
        #expect(try await fixture.store.history(bucket: fixture.bucket, key: fixture.key).count == 2)
    }

    @Test func concurrentCompletesMakeOneVersion() async throws {
        let fixture = try await Fixture(limits: Fixture.smallLimits)
        let address = try await upload(fixture)
        let part = try await put(noise(20_000), as: 1, of: address, fixture)
        let request = CompleteRequest(upload: address, parts: listed([part]))
        let rows = try await withThrowingTaskGroup(of: VersionRow.self) { group in
            for _ in 0..<8 { group.addTask { try await fixture.store.complete(request) } }
            return try await group.reduce(into: []) { $0.append($1) }
        }
        #expect(Set(rows.map(\.id)).count == 1)
        #expect(try await fixture.store.history(bucket: fixture.bucket, key: fixture.key).count == 1)
    }

    private func succeeds(_ body: () async throws -> Void) async -> Bool {
        do {
            try await body()
            return true
        } catch {
            return false
        }
    }

    @Test func abortAndCompleteRaceToOneOutcome() async throws {
        for _ in 0..<20 {
            let fixture = try await Fixture(limits: Fixture.smallLimits)
            let address = try await upload(fixture)
            let part = try await put(noise(2_000), as: 1, of: address, fixture)
            let request = CompleteRequest(upload: address, parts: listed([part]))
            async let abort = succeeds { try await fixture.store.abort(address) }
            async let complete = succeeds { _ = try await fixture.store.complete(request) }
            let (isAborted, isCompleted) = await (abort, complete)
            #expect(isAborted != isCompleted)
            let history = try await fixture.store.history(bucket: fixture.bucket, key: fixture.key)
            #expect(history.count == (isCompleted ? 1 : 0))
            #expect(documentCount(fixture) == 0)
        }
    }

    @Test func whatTheClientListsMustBeThere() async throws {
        let fixture = try await Fixture(limits: Fixture.smallLimits)
        let address = try await upload(fixture)
        let small = try await put(noise(100), as: 1, of: address, fixture)
        let large = try await put(noise(6_000), as: 2, of: address, fixture)
        func complete(_ parts: [ListedPart], size: UInt64? = nil) async throws -> VersionRow {
            try await fixture.store.complete(CompleteRequest(upload: address, parts: parts, size: size))
        }
        let (first, second) = (listed([small])[0], listed([large])[0])
        await expectFailure(.entityTooSmall) { try await complete([first, second]) }
        await expectFailure(.invalidPartOrder) { try await complete([second, first]) }
        await expectFailure(.invalidPartOrder) { try await complete([second, second]) }
        await expectFailure(.invalidPart) { try await complete([ListedPart(number: 3, etag: second.etag)]) }
        await expectFailure(.invalidPart) { try await complete([ListedPart(number: 2, etag: first.etag)]) }
        await expectFailure(.invalidPart) { try await complete([ListedPart(number: 2, etag: "x")]) }
        await expectFailure(.invalidArgument) { try await complete([]) }
        await expectFailure(.invalidArgument) { try await complete([second], size: 7_000) }
        let many = (1...10_001).map { ListedPart(number: $0, etag: second.etag) }
        await expectFailure(.invalidArgument) { try await complete(many) }
        for number in [0, -1, 10_001] {
            await expectFailure(.invalidArgument) { try await put([1], as: number, of: address, fixture) }
        }
        // Upper case is the same ETag; the last part may be short, and the only one is the last.
        let row = try await complete([ListedPart(number: 2, etag: second.etag.uppercased())])
        #expect(row.size == 6_000)
    }

    @Test func aRefusedConditionLeavesTheUpload() async throws {
        let fixture = try await Fixture(limits: Fixture.smallLimits)
        _ = try await fixture.put([1])
        let address = try await upload(fixture)
        let part = try await put(noise(100), as: 1, of: address, fixture)
        var request = CompleteRequest(
            upload: address,
            parts: listed([part]),
            conditions: Conditions(ifNoneMatch: .any)
        )
        await expectFailure(.preconditionFailed) { try await fixture.store.complete(request) }
        #expect(try await fixture.store.upload(address).id == address.id)
        request.conditions = Conditions(ifMatch: .any)
        #expect(try await fixture.store.complete(request).size == 100)
    }

    @Test func checksumsOfPartsComeToTheObjects() async throws {
        let bodies = [noise(10_000, seed: 1), noise(30_000, seed: 2), noise(77, seed: 3)]
        let cases: [(ChecksumAlgorithm, ChecksumType)] = [
            (.crc32, .fullObject), (.crc32c, .fullObject), (.crc64nvme, .fullObject), (.crc32c, .composite),
            (.sha1, .composite), (.sha256, .composite),
        ]
        for (algorithm, type) in cases {
            let fixture = try await Fixture(limits: Fixture.smallLimits)
            let address = try await upload(
                fixture,
                checksum: UploadChecksum(algorithm: algorithm, type: type)
            )
            var parts: [UploadedPart] = []
            for (index, body) in bodies.enumerated() {
                let right = Checksummer.checksum(algorithm, of: body)
                let wrong = Checksummer.checksum(algorithm, of: [1])
                for (expected, isRight) in [(wrong, false), (right, true)] {
                    let request = PutPartRequest(
                        upload: address,
                        number: index + 1,
                        expectationAtEnd: { BodyExpectation(checksum: expected) }
                    )
                    guard isRight else {
                        await expectFailure(.badDigest) {
                            try await fixture.store.putPart(request, body: BufferByteSource(body))
                        }
                        continue
                    }
                    parts.append(try await fixture.store.putPart(request, body: BufferByteSource(body)))
                    #expect(parts.last?.checksum == right)
                }
            }
            let expected: ObjectChecksum? =
                type == .fullObject
                ? ObjectChecksum(fullObject: Checksummer.checksum(algorithm, of: Array(bodies.joined())))
                : ObjectChecksum(compositeOf: parts.compactMap(\.checksum))
            let wrong = Checksummer.checksum(algorithm, of: [9])
            await expectFailure(.badDigest) {
                try await fixture.store.complete(
                    CompleteRequest(
                        upload: address,
                        parts: listed(parts),
                        checksum: ObjectChecksum(fullObject: wrong)
                    )
                )
            }
            let row = try await fixture.store.complete(
                CompleteRequest(upload: address, parts: listed(parts), checksum: expected)
            )
            #expect(row.checksums.others == [NamedValue(algorithm.name, try #require(expected).text)])
            #expect(row.attributes.checksumType == type)
            let kept = try await fixture.store.parts(of: row)?.map(\.checksum)
            #expect(kept == parts.map { $0.checksum?.base64 })
            await expectFailure(.noSuchUpload) {
                try await fixture.store.putPart(
                    PutPartRequest(upload: address, number: 1, checksum: .sha1),
                    body: BufferByteSource([1])
                )
            }
        }
    }

    @Test func aLongListOfPartsIsAPayloadOfItsOwn() async throws {
        let fixture = try await Fixture(limits: Fixture.smallLimits)
        let address = try await upload(fixture)
        var parts: [UploadedPart] = []
        for number in 1...120 {
            parts.append(
                try await put(noise(5 << 10, seed: UInt64(number)), as: number, of: address, fixture)
            )
        }
        let row = try await fixture.store.complete(CompleteRequest(upload: address, parts: listed(parts)))
        guard case .stored(let list) = row.attributes.partList else {
            Issue.record("The list should stand outside the row.")
            return
        }
        #expect(try await fixture.store.parts(of: row)?.map(\.number) == (1...120).map { UInt16($0) })
        #expect(try await fixture.store.partRange(120, of: row).range.offset == UInt64(119 * (5 << 10)))
        #expect(documentCount(fixture) == 0)
        // It is verified and repaired like the object's own bytes, and a copy has it as well.
        guard case .inline(let chunks) = list.manifest else { return }
        fixture.storage.lose(chunks[0].digest, on: [1])
        let report = try await fixture.store.verify(repair: true)
        #expect(report.repairedCount == 1 && report.isHealthy)
        let stat = try await fixture.store.stat(fixture.address())
        #expect(stat.chunks.last?.digest == chunks[0].digest)
        let copy = try await fixture.store.copy(
            CopyCommand(source: fixture.address(), bucket: fixture.bucket, key: try ObjectKey("copy"))
        )
        #expect(try await fixture.store.parts(of: copy)?.count == 120)
    }

    @Test func aPartIsCopiedFromARange() async throws {
        let fixture = try await Fixture(limits: Fixture.smallLimits)
        let bytes = noise(80_000)
        let source = try await fixture.put(bytes)
        let address = try await upload(fixture, key: try ObjectKey("copy"))
        func copy(
            _ number: Int,
            _ range: ClosedRange<UInt64>?,
            _ conditions: Conditions = .none
        ) async throws -> UploadedPart {
            try await fixture.store.copyPart(
                CopyPartRequest(
                    upload: address,
                    number: number,
                    source: fixture.address(),
                    sourceConditions: conditions,
                    range: range
                )
            )
            .part
        }
        await expectFailure(.invalidRange) { try await copy(1, 79_000...80_000) }
        await expectFailure(.preconditionFailed) {
            try await copy(1, nil, Conditions(ifMatch: .oneOf(["x"])))
        }
        await expectFailure(.preconditionFailed) {
            try await copy(1, nil, Conditions(ifModifiedSince: source.createdAt))
        }
        let parts = [try await copy(1, 1000...60_999), try await copy(2, nil), try await copy(3, 5...5)]
        let row = try await fixture.store.complete(CompleteRequest(upload: address, parts: listed(parts)))
        let reader = try await fixture.store.get(VersionAddress(bucket: fixture.bucket, key: row.key))
        var found: [UInt8] = []
        while let piece = try await reader.next() { found += piece }
        #expect(found == Array(bytes[1000...60_999]) + bytes + [bytes[5]])
    }

    @Test func uploadsAreListedByKeyAndAge() async throws {
        let fixture = try await Fixture(limits: Fixture.smallLimits)
        var made: [(String, UploadID)] = []
        for key in ["b", "a/1", "a/2", "a/2", "a", "a/2/x", "c"] {
            made.append((key, try await upload(fixture, key: try ObjectKey(key)).id))
        }
        let expected = made.sorted { ($0.0, $0.1) < ($1.0, $1.1) }
        func page(_ body: (inout UploadListRequest) -> Void) async throws -> UploadPage {
            var request = UploadListRequest(bucket: fixture.bucket)
            body(&request)
            return try await fixture.store.listUploads(request)
        }
        let whole = try await page { _ in }
        #expect(whole.uploads.map(\.id) == expected.map(\.1) && whole.next == nil)
        for limit in 1...8 {
            var found: [UploadID] = []
            var marker: UploadMarker?
            repeat {
                let next = try await page { request in
                    request.limit = limit
                    request.startAfter = marker
                }
                found += next.uploads.map(\.id)
                marker = next.next
            } while marker != nil
            #expect(found == expected.map(\.1), "limit \(limit)")
        }
        let grouped = try await page { $0.delimiter = Array("/".utf8) }
        #expect(grouped.uploads.map(\.key.description) == ["a", "b", "c"])
        #expect(grouped.commonPrefixes == [Array("a/".utf8)])
        var seen: [String] = []
        var marker: UploadMarker?
        repeat {
            let next = try await page { request in
                request.delimiter = Array("/".utf8)
                request.limit = 1
                request.startAfter = marker
            }
            seen += next.uploads.map(\.key.description)
            seen += next.commonPrefixes.map { String(decoding: $0, as: UTF8.self) }
            marker = next.next
        } while marker != nil
        #expect(seen == ["a", "a/", "b", "c"])
        let under = try await page { request in
            request.prefix = Array("a/".utf8)
            request.delimiter = Array("/".utf8)
        }
        #expect(under.uploads.map(\.key.description) == ["a/1", "a/2", "a/2"])
        #expect(under.commonPrefixes == [Array("a/2/".utf8)])
        let after = try await page { $0.startAfter = UploadMarker(key: Array("a/2".utf8)) }
        #expect(after.uploads.map(\.key.description) == ["a/2/x", "b", "c"])
    }

    @Test func partsAreListedInPages() async throws {
        let fixture = try await Fixture(limits: Fixture.smallLimits)
        let address = try await upload(fixture)
        for number in [3, 300, 7, 10_000] { _ = try await put([1], as: number, of: address, fixture) }
        var last: Int? = 0
        var found: [Int] = []
        while let after = last {
            let page = try await fixture.store.listParts(of: address, after: after, limit: 3)
            found += page.parts.map(\.number)
            last = page.next
        }
        #expect(found == [3, 7, 300, 10_000])
        #expect(try await fixture.store.listParts(of: address, after: 10_000).parts.isEmpty)
        #expect(try await fixture.store.listParts(of: address, limit: 0).next == 0)
    }

    @Test func durabilityOfPartsIsLookedAtWhenTheyArePutTogether() async throws {
        let fixture = try await Fixture(limits: Fixture.smallLimits)
        let address = try await upload(fixture)
        let part = try await put(noise(60_000), as: 1, of: address, fixture)
        let digests = fixture.storage.state.withLock { Array($0.volumes[0].keys) }
        // One copy is left: it is repaired before anything is answered.
        fixture.storage.lose(digests[0], on: [0, 1])
        let request = CompleteRequest(upload: address, parts: listed([part]))
        let row = try await fixture.store.complete(request)
        #expect(fixture.storage.state.withLock { $0.repaired } == [digests[0]])
        #expect(row.size == 60_000)
        let second = try await upload(fixture)
        let lost = try await put(noise(50_000, seed: 5), as: 1, of: second, fixture)
        let known = Set(digests)
        let others = fixture.storage.state.withLock { $0.volumes[0].keys.filter { !known.contains($0) } }
        for digest in others { fixture.storage.lose(digest, on: [0, 1, 2]) }
        await expectFailure(.dataUnavailable) {
            try await fixture.store.complete(CompleteRequest(upload: second, parts: listed([lost])))
        }
        #expect(try await fixture.store.history(bucket: fixture.bucket, key: fixture.key).count == 1)
    }

    @Test func orphansAreSwept() async throws {
        let fixture = try await Fixture(limits: Fixture.smallLimits)
        let kept = try await self.upload(fixture)
        _ = try await put([1], as: 1, of: kept, fixture)
        let others = fixture.storage.state.withLock { Set($0.catalog.documentRows.keys) }
        let ended = try await self.upload(fixture)
        let name = fixture.storage.state.withLock { state in
            state.catalog.documentRows.keys.first { !others.contains($0) }
        }
        for number in 1...70 { _ = try await put([1], as: number, of: ended, fixture) }
        // As after a crash between the end of the upload and the removal of its parts.
        let upload = try #require(name)
        fixture.storage.state.withLock { $0.catalog.documentRows[upload] = nil }
        #expect(try await fixture.store.sweepUploads() == 70)
        #expect(try await fixture.store.sweepUploads() == 0)
        let (bucket, other) = (fixture.bucket, try BucketName("other"))
        _ = try await fixture.store.createBucket(other)
        let orphan = try await fixture.store.createUpload(
            CreateUploadRequest(bucket: other, key: fixture.key)
        )
        let address = UploadAddress(bucket: other, key: fixture.key, id: orphan.id)
        _ = try await put([1], as: 1, of: address, fixture)
        let before = documentCount(fixture)
        try await fixture.store.deleteBucket(other)
        #expect(try await fixture.store.sweepUploads() == 1)
        #expect(try await fixture.store.sweepUploads() == 1)
        #expect(documentCount(fixture) == before - 2)
        #expect(try await fixture.store.listUploads(UploadListRequest(bucket: bucket)).uploads.count == 1)
    }

    @Test func partsAreVerifiedWhileTheirUploadIsUnderWay() async throws {
        let fixture = try await Fixture(limits: Fixture.smallLimits)
        let address = try await upload(fixture)
        _ = try await put(noise(40_000), as: 4, of: address, fixture)
        var report = try await fixture.store.verify(repair: false)
        #expect(report.isHealthy && report.partCount == 1 && report.partBytes == 40_000)
        #expect(report.payloadCount == UInt64(fixture.storage.state.withLock { $0.volumes[0].count }))
        let digest = try #require(fixture.storage.state.withLock { $0.volumes[0].keys.first })
        fixture.storage.damage(digest, on: [1])
        report = try await fixture.store.verify(VerifyScope(bucket: fixture.bucket), repair: false)
        #expect(report.findings.map(\.part) == [4])
        #expect(report.findings.map(\.key) == [fixture.key])
        report = try await fixture.store.verify(repair: true)
        #expect(report.repairedCount == 1)
    }

    @Test func identitiesOfUploadsHaveATextForm() async throws {
        let fixture = try await Fixture(limits: Fixture.smallLimits)
        let address = try await upload(fixture)
        #expect(UploadID(address.id.description) == address.id)
        #expect(UploadID("nonsense") == nil && UploadID("") == nil)
        let unknown = try #require(UploadID(VersionID(sequence: 1, nonce: 2).description))
        await expectFailure(.noSuchUpload) {
            try await fixture.store.upload(
                UploadAddress(bucket: fixture.bucket, key: fixture.key, id: unknown)
            )
        }
        await expectFailure(.noSuchUpload) {
            try await fixture.store.complete(
                CompleteRequest(
                    upload: UploadAddress(bucket: fixture.bucket, key: fixture.key, id: unknown),
                    parts: [ListedPart(number: 1, etag: "x")]
                )
            )
        }
    }
}
