import Catalog
import ContentHashing
import ObjectService
import StoreModel
import Synchronization
import Testing

@Suite struct RoundTripTests {
    @Test(arguments: [
        0, 1, 255, 64 << 10, 128 << 10, (128 << 10) + 1, 256 << 10, 1 << 20, (4 << 20) - 1, 4 << 20,
        (4 << 20) + 1,
        20 << 20,
    ])
    func whatGoesInComesOut(size: Int) async throws {
        let fixture = try await Fixture()
        let bytes = noise(size)
        let row = try await fixture.put(bytes)
        #expect(row.size == UInt64(size))
        #expect(row.checksums.sha256 == SHA256Hasher.hash(bytes))
        #expect(row.etag == bytes.withUnsafeBytes { MD5Hasher.hash($0) }.hex)
        let read = try await fixture.get()
        #expect(read == bytes)
        let lengths = try await fixture.chunks(of: row).map { Int($0.length) }
        #expect(lengths.reduce(0, +) == size)
        #expect(lengths.count <= 1 + size / Limits.chunkSizeMin)
    }

    @Test(arguments: [1, 777, 4096, 100_000, 1 << 20])
    func piecesOfAnySizeGiveTheSameObject(pieceSize: Int) async throws {
        let fixture = try await Fixture(limits: Fixture.smallLimits)
        let bytes = noise(300_000)
        let whole = try await fixture.put(bytes, pieceSize: bytes.count)
        let stored = fixture.storage.state.withLock { $0.newBytes }
        let pieces = try await fixture.put(bytes, pieceSize: pieceSize)
        #expect(pieces.content == whole.content)
        #expect(fixture.storage.state.withLock { $0.newBytes } == stored)
    }

    @Test func emptyPiecesAreAllowed() async throws {
        let fixture = try await Fixture()
        let source = ScriptedSource([.bytes([]), .bytes([1]), .bytes([]), .bytes([2, 3]), .bytes([])])
        let request = PutRequest(bucket: fixture.bucket, key: fixture.key)
        #expect(try await fixture.store.put(request, body: source).size == 3)
        #expect(try await fixture.get() == [1, 2, 3])
    }

    @Test func aSmallObjectIsOnePayloadWithoutAnythingElse() async throws {
        let fixture = try await Fixture()
        _ = try await fixture.put(noise(4096))
        let (writes, commits) = fixture.storage.state.withLock { ($0.writeCount, $0.commitCount) }
        #expect(writes == 1)
        // The bucket's and the object's.
        #expect(commits == 2)
    }

    @Test func aSecondVersionWithASmallEditStoresLittleMore() async throws {
        let fixture = try await Fixture()
        var bytes = noise(20 << 20)
        _ = try await fixture.put(bytes)
        let before = fixture.storage.state.withLock { $0.newBytes }
        bytes.insert(contentsOf: [1, 2, 3, 4, 5], at: 10 << 20)
        let row = try await fixture.put(bytes)
        let added = fixture.storage.state.withLock { $0.newBytes } - before
        #expect(added < 6 << 20)
        #expect(try await fixture.get(.id(row.id)) == bytes)
    }

    @Test func metadataTagsAndHeadersAreKept() async throws {
        let fixture = try await Fixture()
        let metadata = ObjectMetadata(
            contentType: "application/octet-stream",
            otherHeaders: [NamedValue("cache-control", "no-store")],
            userMetadata: [NamedValue("step", "9000")]
        )
        let tags = [NamedValue("stage", "prod")]
        let request = PutRequest(bucket: fixture.bucket, key: fixture.key, metadata: metadata, tags: tags)
        _ = try await fixture.store.put(request, body: BufferByteSource([1]))
        let row = try await fixture.store.head(fixture.address())
        #expect(row.metadata == metadata)
        #expect(row.tags == tags)
        let retagged = try await fixture.store.setTags(of: fixture.address(), to: [])
        #expect(retagged.id == row.id)
        #expect(try await fixture.store.head(fixture.address()).tags.isEmpty)
    }
}

/// A source that does what a test says, step by step.
final class ScriptedSource: ByteSource {
    enum Step {
        case bytes([UInt8])
        case failure(any Error)
        /// Stays in the call until the task is cancelled.
        case forever
    }

    private var steps: ArraySlice<Step>
    private let reached: (@Sendable () -> Void)?

    init(_ steps: [Step], whenForever reached: (@Sendable () -> Void)? = nil) {
        self.steps = steps[...]
        self.reached = reached
    }

    func next() async throws -> [UInt8]? {
        switch steps.popFirst() {
        case .bytes(let bytes): return bytes
        case .failure(let error): throw error
        case .forever:
            reached?()
            while true {
                try Task.checkCancellation()
                await Task.yield()
            }
        case nil: return nil
        }
    }
}
