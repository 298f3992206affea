import Catalog
import StoreModel
import Testing

@Suite struct SnapshotCodecTests {
    private func snapshot(rows: Int) throws -> (blocks: [[UInt8]], summary: SnapshotSummary) {
        let bucket = RowCodec.encode(try Samples.bucket())
        var versions: [[UInt8]] = []
        for number in 0..<rows {
            let row = VersionRow(
                bucket: BucketID(rawValue: 5),
                key: try ObjectKey(String(repeating: "k", count: 900) + "\(number)"),
                id: VersionID(sequence: UInt64(number) + 6, nonce: 1),
                isNull: false,
                kind: .object,
                createdAt: Timestamp(milliseconds: 1),
                content: ObjectContent(
                    size: 1,
                    etag: "e",
                    checksums: ObjectChecksums(),
                    manifest: .inline([])
                ),
                operation: Samples.operation
            )
            versions.append(RowCodec.encode(row))
        }
        let documents = [
            RowCodec.encode(DocumentRow(space: .account, key: [2], body: [1])),
            RowCodec.encode(Samples.document()),
        ]
        var state = Samples.state()
        state.stateHash = ([bucket] + versions + documents).reduce(.zero) { $0 + StateHash(ofRow: $1) }
        let blocks = Blocks()
        var writer = try SnapshotWriter(
            state: state,
            bucketCount: 1,
            versionCount: UInt64(rows),
            documentCount: 2
        ) { blocks.list.append($0) }
        try writer.add(row: bucket)
        for row in versions + documents { try writer.add(row: row) }
        let summary = try writer.finish()
        return (blocks.list, summary)
    }

    private final class Blocks { var list: [[UInt8]] = [] }

    private func read(_ blocks: [[UInt8]]) throws -> (rows: Int, summary: SnapshotSummary?) {
        var reader = SnapshotReader()
        var rows = 0
        var summary: SnapshotSummary?
        for block in blocks {
            switch try reader.read(block) {
            case .head: break
            case .rows(let list): rows += list.count
            case .end(let end): summary = end
            }
        }
        return (rows, summary)
    }

    @Test func blocksAreBoundedAndComeBack() throws {
        let (blocks, summary) = try snapshot(rows: 3000)
        #expect(blocks.count == 5)
        #expect(blocks.allSatisfy { $0.count <= SnapshotCodec.blockSizeMax })
        let found = try read(blocks)
        #expect(found.rows == 3003)
        #expect(found.summary == summary)
    }

    @Test func anEmptyCatalogHasASnapshotToo() throws {
        let blocks = Blocks()
        var writer = try SnapshotWriter(state: .empty, bucketCount: 0, versionCount: 0) {
            blocks.list.append($0)
        }
        let summary = try writer.finish()
        #expect(try read(blocks.list).summary == summary)
    }

    @Test func everyFlippedBitAndEveryCutIsRefused() throws {
        let (blocks, _) = try snapshot(rows: 2)
        for (number, block) in blocks.enumerated() {
            for index in block.indices {
                var damaged = blocks
                damaged[number][index] ^= 1 << UInt8(index % 8)
                #expect(throws: CatalogError.self) { try read(damaged) }
                damaged[number] = [UInt8](block[..<index])
                #expect(throws: CatalogError.self) { try read(damaged) }
            }
        }
    }

    @Test func missingRepeatedAndSwappedBlocksAreRefused() throws {
        let (blocks, _) = try snapshot(rows: 3000)
        for index in blocks.indices.dropLast() {
            var list = blocks
            list.remove(at: index)
            #expect(throws: CatalogError.self) { try read(list) }
            list = blocks
            list.insert(blocks[index], at: index)
            #expect(throws: CatalogError.self) { try read(list) }
            list = blocks
            list.swapAt(index, index + 1)
            #expect(throws: CatalogError.self) { try read(list) }
        }
        #expect(try read(blocks.dropLast()).summary == nil)
    }

    @Test func rowsThatAreNotTheStatesAreNotWritten() throws {
        var writer = try SnapshotWriter(state: Samples.state(), bucketCount: 1, versionCount: 0) { _ in }
        try writer.add(row: RowCodec.encode(try Samples.bucket()))
        #expect(throws: CatalogError.self) { try writer.finish() }
    }
}
