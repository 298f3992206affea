import Catalog
import Replication
import StoreModel
import Synchronization
import Testing

@testable import ObjectService

@Suite struct DocumentCacheTests {
    private final class Reads: Sendable {
        let count = Atomic(0)
    }

    @Test func whatWasReadIsKeptUntilADocumentOfItsSpaceChanges() async throws {
        let fixture = try await Fixture()
        let cache = DocumentCache<Int>(.finding)
        let reads = Reads()
        func count() async throws -> Int {
            try await fixture.store.cached(cache) { reader in
                reads.count.add(1, ordering: .relaxed)
                return try reader.documents(.finding, limit: 10).count
            }
        }
        #expect(try await count() == 0)
        #expect(try await count() == 0)
        #expect(reads.count.load(ordering: .relaxed) == 1)
        try await fixture.store.write(documents: [DocumentWrite(space: .job, key: [1], body: [1])])
        #expect(try await count() == 0)
        #expect(reads.count.load(ordering: .relaxed) == 1)
        for key in 1...3 as ClosedRange<UInt8> {
            try await fixture.store.write(documents: [DocumentWrite(space: .finding, key: [key], body: [1])])
            #expect(try await count() == Int(key))
        }
        #expect(reads.count.load(ordering: .relaxed) == 4)
    }

    @Test func neitherAStatNorACountOfDigestsReadsAgainWhatHasNotChanged() async throws {
        let fixture = try await Fixture()
        _ = try await fixture.put([1, 2, 3])
        _ = try await fixture.store.stat(fixture.address())
        _ = try await fixture.store.digestTaskCount()
        // Kept: no read is made.
        struct Unread: Error {}
        _ = try await fixture.store.cached(fixture.store.badCopies) { _ in throw Unread() }
        _ = try await fixture.store.cached(fixture.store.digestTasks) { _ in throw Unread() }
    }
}
