import Catalog
import ContentHashing
import ObjectService
import StoreModel
import Testing

@Suite struct ManifestTests {
    private static let limits = ManifestBuilder.Limits(inlineEntryCountMax: 2, nodeEntryCountMax: 3)

    private static func chunk(_ index: Int) -> ChunkReference {
        ChunkReference(digest: SHA256Hasher.hash([UInt8](String(index).utf8)), length: UInt32(index + 1))
    }

    @Test(arguments: 0...100)
    func everyNumberOfChunksComesBackInOrder(count: Int) async throws {
        let storage = InMemoryStorage(yieldCount: 0)
        let chunks = (0..<count).map(Self.chunk)
        var builder = ManifestBuilder(Self.limits)
        var nodes: [ManifestBuilder.Finished] = []
        for chunk in chunks { nodes += builder.append(chunk) }
        let (reference, last) = builder.finish()
        nodes += last
        for node in nodes {
            _ = try await storage.write(node.digest, bytes: node.bytes, waitsForCommit: false)
        }
        let size = chunks.reduce(0) { $0 + UInt64($1.length) }
        let whole = ByteRange(wholeOf: size)
        var cursor = ManifestCursor(reference, size: size, range: whole, storage: storage)
        var read: [ChunkReference] = []
        while let slice = try await cursor.next() { read.append(slice.chunk) }
        #expect(read == chunks)

        switch reference {
        case .inline(let inline):
            #expect(count <= 2)
            #expect(inline == chunks && nodes.isEmpty)
        case .tree(_, let depth, _, let chunkCount):
            #expect(count > 2)
            #expect(chunkCount == UInt64(count))
            // The lowest tree that holds them: 3 to the power of its levels.
            var levels = 1
            var capacity = 3
            while capacity < count {
                levels += 1
                capacity *= 3
            }
            #expect(Int(depth) == levels - 1)
        }
    }

    @Test func aNodeReadsAsItWasWritten() throws {
        let leaf = ManifestNode(height: 0, entries: (0..<5).map { ManifestNode.Entry(Self.chunk($0)) })
        #expect(try ManifestNode(decoding: leaf.encoded()) == leaf)
        #expect(leaf.encoded().count == 16 + 5 * 36)
        let entry = ManifestNode.Entry(digest: .zero, payloadLength: 196, contentLength: leaf.contentLength)
        let inner = ManifestNode(height: 1, entries: [entry, entry])
        #expect(try ManifestNode(decoding: inner.encoded()) == inner)
        #expect(inner.encoded().count == 16 + 2 * 44)
    }

    @Test func theFormatOfANodeNeverChanges() {
        let node = ManifestNode(height: 0, entries: [ManifestNode.Entry(Self.chunk(0))])
        #expect(
            Hex.encode(node.encoded())
                == "48464d4e0100010001000000000000005feceb66ffc86f38d952786c6d696c79c2dbc239dd4e91b46729d73a27fb57e9"
                + "01000000"
        )
    }

    @Test func damagedAndHostileNodesAreRefused() throws {
        let node = ManifestNode(
            height: 1,
            entries: [.init(digest: .zero, payloadLength: 1, contentLength: 9)]
        )
        let good = node.encoded()
        for length in 0..<good.count {
            #expect(throws: StoreError.self) { try ManifestNode(decoding: [UInt8](good.prefix(length))) }
        }
        #expect(throws: StoreError.self) { try ManifestNode(decoding: good + [0]) }
        for index in 0..<16 {
            var bad = good
            bad[index] ^= 0x80
            #expect(throws: StoreError.self) { try ManifestNode(decoding: bad) }
        }
        var newer = good
        newer[4] = 2
        #expect { try ManifestNode(decoding: newer) } throws: { error in
            (error as? StoreError)?.code == .unsupportedFormat
        }
    }

    @Test func sumsThatOverflowAreRefused() {
        var writer = ByteWriter()
        writer.write(raw: [UInt8]("HFMN".utf8))
        writer.write(UInt8(1))
        writer.write(UInt8(1))
        writer.write(UInt16(2))
        writer.write(UInt64(1))
        for _ in 0..<2 {
            writer.write(Digest.zero)
            writer.write(UInt32(1))
            writer.write(UInt64(1) << 63)
        }
        #expect(throws: StoreError.self) { try ManifestNode(decoding: writer.bytes) }
    }

    @Test func aTreeThatContradictsItsRowIsRefused() async throws {
        let fixture = try await Fixture(limits: Fixture.smallLimits)
        let row = try await fixture.put(noise(300_000))
        guard case .tree(let root, let depth, let length, let count) = row.manifest else {
            Issue.record("The manifest should be a tree.")
            return
        }
        let deeper = ManifestReference.tree(
            root: root,
            depth: depth + 1,
            nodeLength: length,
            chunkCount: count
        )
        for (manifest, size) in [(deeper, row.size), (row.manifest, row.size + 1), (.inline([]), row.size)] {
            let whole = ByteRange(wholeOf: size)
            var cursor = ManifestCursor(manifest, size: size, range: whole, storage: fixture.storage)
            await expectFailure(.storeDamaged) { try await cursor.next() }
        }
    }
}
