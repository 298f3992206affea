import Catalog
import ContentHashing
import ObjectService
import StoreModel
import StoreTestKit
import Synchronization
import Testing

/// Reads for which something long is done.
@Suite struct RescueTests {
    /// A mirror that has everything and gives nothing.
    private final class Slow: ContentRescue {
        private let asked = Mutex<[ByteRange]>([])
        var ranges: [ByteRange] { asked.withLock { $0 } }

        func isThere() async -> Bool { true }
        func holders(of version: VersionRow) async -> [String] { ["offsite", "other"] }
        func bytes(
            of version: VersionRow,
            _ range: ByteRange,
            from mirror: String?,
            where isGood: @Sendable ([UInt8]) -> Bool
        ) async -> RescuedBytes? {
            asked.withLock { $0.append(range) }
            try? await Task.sleep(for: .seconds(3600))
            return nil
        }
    }

    /// A version of whose bytes no volume has something.
    private static func lost(_ row: VersionRow, _ size: UInt64, _ manifest: ManifestReference) -> VersionRow {
        VersionRow(
            bucket: row.bucket,
            key: row.key,
            id: row.id,
            isNull: row.isNull,
            kind: .object,
            createdAt: row.createdAt,
            content: ObjectContent(
                size: size,
                etag: row.etag,
                checksums: ObjectChecksums(),
                manifest: manifest
            ),
            operation: row.operation
        )
    }

    @Test func whoLeavesEndsTheRescueOfAChunk() async throws {
        let fixture = try await MirrorFixture()
        let chunks = (1...3).map { ChunkReference(digest: SHA256Hasher.hash([9, $0]), length: 1 << 18) }
        let row = Self.lost(try await fixture.put("a", [1]), 3 << 18, .inline(chunks))
        let slow = Slow()
        fixture.objects.rescue = slow
        let left = Left()
        let objects = fixture.objects
        func read(_ isLeft: @escaping @Sendable () -> Bool) -> Task<[UInt8]?, any Error> {
            Task { try await objects.read(row, isLeft: isLeft).next() }
        }
        // Each asks for its first chunk once.
        func isAsked(times: Int) async throws {
            while slow.ranges.count(where: { $0.offset == 0 }) < times {
                try await Task.sleep(for: .milliseconds(5))
            }
        }
        let leaving = read { left.value }
        try await isAsked(times: 1)
        let isOver = Left()
        let staying = Task {
            defer { isOver.leave() }
            return try await objects.read(row, isLeft: { false }).next()
        }
        try await isAsked(times: 2)
        left.leave()
        await #expect(throws: CancellationError.self) { try await leaving.value }
        #expect(!isOver.value)
        staying.cancel()
        await #expect(throws: CancellationError.self) { try await staying.value }
        try await fixture.close()
    }

    @Test func whoLeavesEndsTheRescueOfAManifest() async throws {
        let fixture = try await MirrorFixture()
        let row = Self.lost(
            try await fixture.put("a", [1]),
            100 << 20,
            .tree(root: SHA256Hasher.hash([9, 9]), depth: 0, nodeLength: 4096, chunkCount: 100)
        )
        let slow = Slow()
        let objects = fixture.objects
        objects.rescue = slow
        func read(_ isLeft: @escaping @Sendable () -> Bool) -> Task<[UInt8]?, any Error> {
            Task { try await objects.read(row, isLeft: isLeft).next() }
        }
        let left = Left()
        // The first one has the turn; the second waits for it.
        let first = read { left.value }
        while slow.ranges.isEmpty { try await Task.sleep(for: .milliseconds(5)) }
        let second = read { false }
        let third = read { left.value }
        // A connection that breaks cancels the request.
        second.cancel()
        await #expect(throws: CancellationError.self) { try await second.value }
        // A client that only closes its side is noticed as well, whether it has the turn or waits for it.
        left.leave()
        await #expect(throws: CancellationError.self) { try await first.value }
        await #expect(throws: CancellationError.self) { try await third.value }
        // No other mirror was asked for them, and the turn is free again.
        #expect(slow.ranges.count <= 2)
        #expect(slow.ranges.allSatisfy { $0.length == 8 << 20 && $0.offset == 0 })
        let count = slow.ranges.count
        let last = read { false }
        while slow.ranges.count == count { try await Task.sleep(for: .milliseconds(5)) }
        last.cancel()
        await #expect(throws: CancellationError.self) { try await last.value }
        try await fixture.close()
    }

    private final class Left: Sendable {
        private let state = Atomic(false)
        var value: Bool { state.load(ordering: .relaxed) }
        func leave() { state.store(true, ordering: .relaxed) }
    }
}
