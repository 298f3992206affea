import Catalog
import ContentHashing
import ObjectService
import StoreModel
import StoreTestKit
import Synchronization
import Testing

/// What `measureSpace` says, against sets that are counted by hand.
@Suite struct SpaceTests {
    /// A store with two buckets, shared content, history, an upload under way.
    private struct World {
        let fixture: Fixture
        let other: BucketName

        static func make() async throws -> World {
            let fixture = try await Fixture(limits: Fixture.smallLimits)
            let other = try BucketName("other")
            _ = try await fixture.store.createBucket(other, versioning: .off)
            return World(fixture: fixture, other: other)
        }

        func put(_ key: String, _ bytes: [UInt8], in bucket: BucketName? = nil) async throws -> VersionRow {
            let request = PutRequest(bucket: bucket ?? fixture.bucket, key: try ObjectKey(key))
            return try await fixture.store.put(request, body: BufferByteSource(bytes))
        }

        func measure(
            _ prefix: String = "",
            exact: Bool = false,
            version: VersionSelector? = nil,
            by grouping: SpaceGrouping? = nil,
            rows: Int = 1000,
            memory: Int = SpaceReport.memoryStandard
        ) async throws -> SpaceReport {
            try await fixture.store.measureSpace(
                SpaceScope(
                    bucket: fixture.bucket,
                    prefix: [UInt8](prefix.utf8),
                    isExact: exact,
                    version: version
                ),
                by: grouping,
                rowCountMax: rows,
                memory: memory
            )
        }

        /// Payloads of versions with their lengths, nodes of manifests among them: the model.
        func payloads(_ rows: [VersionRow]) async throws -> [Digest: UInt64] {
            var found: [Digest: UInt64] = [:]
            for row in rows {
                for payload in row.payloads { try await add(payload.manifest, to: &found) }
            }
            return found
        }

        func add(_ manifest: ManifestReference, to found: inout [Digest: UInt64]) async throws {
            switch manifest {
            case .inline(let chunks): for chunk in chunks { found[chunk.digest] = UInt64(chunk.length) }
            case .tree(let root, _, let length, _):
                var stack = [(root, length)]
                while let (digest, length) = stack.popLast() {
                    found[digest] = UInt64(length)
                    let bytes = try await fixture.storage.read(
                        digest,
                        length: Int(length),
                        range: 0..<Int(length)
                    )
                    let node = try ManifestNode(decoding: bytes)
                    for entry in node.entries {
                        if node.height > 0 {
                            stack.append((entry.digest, entry.payloadLength))
                        } else {
                            found[entry.digest] = UInt64(entry.payloadLength)
                        }
                    }
                }
            }
        }
    }

    private func expect(
        _ figures: SpaceFigures,
        _ own: [Digest: UInt64],
        outside: [Digest: UInt64],
        logical: UInt64,
        _ note: Comment? = nil
    ) {
        let stored = own.values.reduce(0, +)
        let unique = own.filter { outside[$0.key] == nil }.values.reduce(0, +)
        #expect(figures.logicalBytes == logical, note)
        #expect(figures.payloadCount == UInt64(own.count), note)
        #expect(figures.storedBytes == stored, note)
        #expect(figures.uniqueBytes == unique, note)
        #expect(figures.sharedBytes == stored - unique, note)
        // Three volumes, each with a copy of everything.
        #expect(figures.physicalBytes == 3 * stored, note)
        #expect(figures.freedBytes == 3 * unique, note)
    }

    @Test func byHand() async throws {
        // One chunk each: 100, 200, 300 bytes, and one of them in two buckets.
        let world = try await World.make()
        let (a, b, c) = (noise(100, seed: 1), noise(200, seed: 2), noise(300, seed: 3))
        _ = try await world.put("x/a", a)
        _ = try await world.put("x/a", b)
        _ = try await world.put("x/b", b)
        _ = try await world.put("y/c", c)
        _ = try await world.put("c", c, in: world.other)
        let everything = try await world.fixture.store.measureSpace(SpaceScope(), by: .bucket)
        #expect(everything.total.logicalBytes == 100 + 200 + 200 + 300 + 300)
        #expect(everything.total.storedBytes == 600)
        #expect(everything.total.uniqueBytes == 600)
        #expect(everything.total.physicalBytes == 1800)
        #expect(everything.rows.map(\.name) == [.bucket(world.fixture.bucket), .bucket(world.other)])
        #expect(everything.rows.map(\.figures.storedBytes) == [600, 300])
        #expect(everything.rows.map(\.figures.uniqueBytes) == [300, 0])
        #expect(everything.rows.map(\.figures.sharedBytes) == [300, 300])
        let objects = try await world.measure(by: .object)
        #expect(objects.total.uniqueBytes == 300)
        #expect(objects.total.sharedBytes == 300)
        #expect(objects.rows.map(\.figures.storedBytes) == [300, 200, 300])
        #expect(objects.rows.map(\.figures.uniqueBytes) == [100, 0, 0])
        let prefixes = try await world.measure(by: .prefix)
        #expect(prefixes.rows.map(\.name) == [.prefix(Array("x/".utf8)), .prefix(Array("y/".utf8))])
        #expect(prefixes.rows.map(\.figures.uniqueBytes) == [300, 0])
        let object = try await world.measure("x/a", exact: true, by: .version)
        #expect(object.total.logicalBytes == 300)
        #expect(object.total.uniqueBytes == 100)
        #expect(object.rows.map(\.figures.storedBytes) == [200, 100])
        #expect(object.rows.map(\.figures.uniqueBytes) == [0, 100])
        let newest = try await world.measure("x/a", version: .newest)
        #expect(newest.total.storedBytes == 200)
        #expect(newest.total.uniqueBytes == 0)
        #expect(newest.rows.isEmpty)
    }

    @Test func whatGoesIsWhatIsUnique() async throws {
        let world = try await World.make()
        let common = noise(150_000, seed: 10)
        var rows: [String: [VersionRow]] = [:]
        for (key, bytes) in [
            ("a/1", common), ("a/1", noise(90_000, seed: 11) + common), ("a/2", noise(60_000, seed: 12)),
            ("b/1", common + noise(40_000, seed: 13)), ("b/2", noise(60_000, seed: 12)), ("top", [7]),
        ] {
            rows[key, default: []].append(try await world.put(key, bytes))
        }
        let foreign = [
            try await world.put("f", common, in: world.other),
            try await world.put("g", [1, 2], in: world.other),
        ]
        let all = rows.values.flatMap { $0 } + foreign
        // A small table takes several walks and says the same.
        for memory in [SpaceReport.memoryStandard, 1] {
            for key in rows.keys.sorted() {
                let own = rows[key] ?? []
                let report = try await world.measure(key, exact: true, memory: memory)
                expect(
                    report.total,
                    try await world.payloads(own),
                    outside: try await world.payloads(
                        all.filter { row in !own.contains { $0.id == row.id } }
                    ),
                    logical: own.reduce(0) { $0 + $1.size },
                    "\(key)"
                )
            }
            let byVersion = try await world.measure("a/", by: .version, memory: memory)
            #expect(byVersion.rows.count == 3)
            for row in byVersion.rows {
                guard case .version(_, let id, _) = row.name else {
                    Issue.record("\(row.name)")
                    continue
                }
                let own = all.filter { $0.id == id }
                expect(
                    row.figures,
                    try await world.payloads(own),
                    outside: try await world.payloads(all.filter { $0.id != id }),
                    logical: own.reduce(0) { $0 + $1.size },
                    "\(id)"
                )
            }
        }
        // What a deletion leaves is what was there without what was unique.
        let before = try await world.fixture.store.measureSpace(SpaceScope()).total
        let gone = try await world.measure("a/").total
        for row in (rows["a/1"] ?? []) + (rows["a/2"] ?? []) {
            let address = VersionAddress(
                bucket: world.fixture.bucket,
                key: row.key,
                selector: .id(row.id)
            )
            _ = try await world.fixture.store.delete(address)
        }
        let after = try await world.fixture.store.measureSpace(SpaceScope()).total
        #expect(after.storedBytes == before.storedBytes - gone.uniqueBytes)
        #expect(gone.uniqueBytes > 0 && gone.sharedBytes > 0)
    }

    @Test func manySmallChunksTakeSeveralWalksAndFewRows() async throws {
        let world = try await World.make()
        var stored: UInt64 = 0
        for number in 0..<1500 {
            let count = 40 + number % 7
            _ = try await world.put("k\(1000 + number)", noise(count, seed: UInt64(number) + 100))
            stored += UInt64(count)
        }
        let report = try await world.measure(by: .object, rows: 10, memory: 1)
        #expect(report.passCount > 1)
        #expect(report.total.storedBytes == stored)
        #expect(report.total.uniqueBytes == stored)
        #expect(report.total.versionCount == 1500)
        #expect(report.rows.count == 11)
        #expect(report.rows.last?.name == .others)
        #expect(report.rows.reduce(0) { $0 + $1.figures.storedBytes } == stored)
        #expect(report.rows.last?.figures.versionCount == 1490)
    }

    @Test func partsMarkersAndSnapshotsCount() async throws {
        let world = try await World.make()
        let shared = noise(20_000, seed: 50)
        let version = try await world.put("k", shared)
        _ = try await world.fixture.store.delete(
            VersionAddress(bucket: world.fixture.bucket, key: version.key)
        )
        let upload = try await world.fixture.store.createUpload(
            CreateUploadRequest(bucket: world.fixture.bucket, key: version.key)
        )
        let address = UploadAddress(bucket: world.fixture.bucket, key: upload.key, id: upload.id)
        let extra = noise(10_000, seed: 51)
        for (number, bytes) in [(1, shared), (2, extra)] {
            _ = try await world.fixture.store.putPart(
                PutPartRequest(upload: address, number: number),
                body: BufferByteSource(bytes)
            )
        }
        let whole = try await world.measure("k", exact: true, by: .version)
        #expect(whole.total.partCount == 2)
        #expect(whole.total.versionCount == 1)
        #expect(whole.total.deleteMarkerCount == 1)
        #expect(whole.total.logicalBytes == 50_000)
        #expect(whole.total.uniqueBytes == whole.total.storedBytes)
        #expect(whole.rows.last?.name == .uploads)
        // The version alone frees nothing: a part has the same bytes.
        let alone = try await world.measure("k", version: .id(version.id))
        #expect(alone.total.uniqueBytes == 0)
        #expect(alone.total.logicalBytes == 20_000)
        world.fixture.storage.snapshots.withLock { $0 = [version.manifest] }
        let held = try await world.measure("k", exact: true)
        let named = try await world.payloads([version])
        #expect(held.total.sharedBytes == named.values.reduce(0, +))
    }

    @Test func whatIsNotThereIsSaid() async throws {
        let world = try await World.make()
        await expectFailure(.noSuchKey) { try await world.measure("none", exact: true) }
        _ = try await world.put("k", [1])
        let unknown = VersionID(sequence: 1 << 40, nonce: 1)
        await expectFailure(.noSuchVersion) { try await world.measure("k", version: .id(unknown)) }
        await expectFailure(.noSuchBucket) {
            try await world.fixture.store.measureSpace(SpaceScope(bucket: try BucketName("nobody")))
        }
        await expectFailure(.invalidArgument) {
            try await world.fixture.store.measureSpace(SpaceScope(), by: .object)
        }
        #expect(try await world.measure("nothing/").total == SpaceFigures())
    }
}
