import Catalog
import CatalogSQLite
import StoreModel
import Testing

@Suite struct SnapshotTests {
    private final class Blocks {
        var list: [[UInt8]] = []
        var next = 0

        func take() -> [UInt8]? {
            guard next < list.count else { return nil }
            defer { next += 1 }
            return list[next]
        }
    }

    private func filled(_ path: String) throws -> Pipeline {
        let pipeline = try Pipeline(try SQLiteCatalog(path: path), seed: 5)
        for (name, versioning) in [("aaa", VersioningState.enabled), ("bbb", .off), ("ccc", .suspended)] {
            let name = try BucketName(name)
            _ = try pipeline.decide(.createBucket(name, versioning: versioning, owner: "me"))
            for number in 0..<200 {
                let key = try ObjectKey("key-\(pipeline.random.below(60))")
                if pipeline.random.chance(5) {
                    _ = try pipeline.decide(.deleteObject(bucket: name, key: key, conditions: .none))
                } else {
                    _ = try pipeline.decide(try put(name.description, key.description, UInt64(number)))
                }
            }
        }
        try pipeline.settle()
        return pipeline
    }

    private func snapshot(_ store: any CatalogStore) throws -> (Blocks, SnapshotSummary) {
        let blocks = Blocks()
        let summary = try store.exportSnapshot { blocks.list.append($0) }
        return (blocks, summary)
    }

    @Test func aSnapshotMakesTheSameCatalogAndTheLogGoesOnAfterIt() throws {
        let directory = try TemporaryDirectory()
        let pipeline = try filled(directory.file("catalog.sqlite"))
        let log = CatalogEntry.system(
            [
                .epochStart(epoch: 2),
                .setLogSet(LogSetNote(version: 1, members: [UniqueID(high: 1, low: 2)])),
            ],
            operation: UniqueID(high: 0, low: 1)
        )
        let position = LogPosition(
            epoch: 2,
            sequence: pipeline.store.applied.position.sequence + 1,
            hash: .zero
        )
        try pipeline.store.apply([
            AppliedBatch(
                position: position,
                predecessor: pipeline.store.applied.position,
                stateHash: pipeline.decider.stateHash,
                timestamp: pipeline.decider.lastTimestamp,
                entries: [log]
            )
        ])
        let (blocks, summary) = try snapshot(pipeline.store)
        #expect(summary.state == pipeline.store.applied)
        let copy = try SQLiteCatalog(path: directory.file("copy.sqlite"))
        #expect(try copy.importSnapshot(from: blocks.take) == summary)
        #expect(copy.applied == pipeline.store.applied)
        #expect(copy.applied.logSet?.version == 1)
        try copy.verify()
        let (again, _) = try snapshot(copy)
        #expect(again.list == blocks.list)
        for name in ["aaa", "bbb", "ccc"] {
            let bucket = try #require(try copy.bucket(named: try BucketName(name))).id
            let request = VersionListRequest(bucket: bucket)
            #expect(try copy.listVersions(request) == pipeline.store.listVersions(request))
            #expect(try copy.usage(of: bucket) == pipeline.store.usage(of: bucket))
        }
        let next = try Pipeline(copy, seed: 9)
        try next.run(try put("aaa", "after"))
        try copy.verify()
        try copy.close()
        let reopened = try SQLiteCatalog(path: directory.file("copy.sqlite"))
        #expect(reopened.applied.stateHash == next.decider.stateHash)
        try reopened.close()
        try pipeline.store.close()
    }

    @Test func aBadSnapshotLeavesAnEmptyIndex() throws {
        let directory = try TemporaryDirectory()
        let pipeline = try filled(directory.file("catalog.sqlite"))
        let (blocks, summary) = try snapshot(pipeline.store)
        try pipeline.store.close()
        let copy = try SQLiteCatalog(path: directory.file("copy.sqlite"))
        #expect(blocks.list.count == 3)
        for number in blocks.list.indices {
            let bad = Blocks()
            bad.list = blocks.list
            bad.list[number][bad.list[number].count / 2] ^= 4
            #expect(throws: CatalogError.self) { try copy.importSnapshot(from: bad.take) }
            #expect(copy.applied == .empty)
            try copy.verify()
            let cut = Blocks()
            cut.list = Array(blocks.list[..<number])
            #expect(throws: CatalogError.self) { try copy.importSnapshot(from: cut.take) }
            #expect(copy.applied == .empty)
        }
        #expect(try copy.importSnapshot(from: blocks.take) == summary)
        #expect(throws: CatalogError.self) { try copy.importSnapshot(from: { nil }) }
        try copy.verify()
        try copy.reset()
        #expect(copy.applied == .empty)
        #expect(try copy.buckets().isEmpty)
        try copy.verify()
        try copy.apply(pipeline.batches)
        #expect(copy.applied.stateHash == pipeline.decider.stateHash)
        try copy.verify()
        try copy.close()
    }

    @Test func theLastTwoSnapshotNotesAreKept() throws {
        let directory = try TemporaryDirectory()
        let store = try SQLiteCatalog(path: directory.file("catalog.sqlite"))
        var position = LogPosition.origin
        for number in 1...3 {
            let note = SnapshotNote(
                position: position,
                stateHash: .zero,
                rowCount: UInt64(number),
                manifest: .inline([]),
                createdAt: Timestamp(milliseconds: 0)
            )
            let next = LogPosition(epoch: 1, sequence: UInt64(number), hash: .zero)
            let entry = CatalogEntry.system([.noteSnapshot(note)], operation: UniqueID(high: 0, low: 0))
            try store.apply([
                AppliedBatch(
                    position: next,
                    predecessor: position,
                    stateHash: .zero,
                    timestamp: Timestamp(milliseconds: 5),
                    entries: [entry]
                )
            ])
            position = next
        }
        #expect(store.applied.snapshots.map(\.rowCount) == [3, 2])
        #expect(store.applied.lastVersionSequence == 0)
        try store.close()
        let reopened = try SQLiteCatalog(path: directory.file("catalog.sqlite"))
        #expect(reopened.applied.snapshots.map(\.rowCount) == [3, 2])
        try reopened.close()
    }
}
