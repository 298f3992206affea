import Catalog
import HoldfastNode
import ObjectService
import StoreModel
import StoreTestKit
import Synchronization
import Testing

@testable import Mirroring

/// Objects that came in parts, on their way to a backend.
@Suite struct SourcePartTests {
    /// A store that notes what is read of it, and fails where it is told to.
    private final class WatchedStore: ForwardingStore {
        let store: MirroredStore
        private let willRead: @Sendable (ByteRange) async throws -> Void
        private let losesPartLists: Bool
        private let ranges = Mutex<[ByteRange]>([])

        init(
            _ store: MirroredStore,
            losesPartLists: Bool = false,
            willRead: @escaping @Sendable (ByteRange) async throws -> Void = { _ in }
        ) {
            self.store = store
            self.losesPartLists = losesPartLists
            self.willRead = willRead
        }

        /// Where the pieces that were asked for begin, in order.
        var offsets: [UInt64] { ranges.withLock { $0.map(\.offset).sorted() } }

        func bytes(of version: VersionRow, _ range: ByteRange) async throws -> [UInt8] {
            ranges.withLock { $0.append(range) }
            try await willRead(range)
            return try await store.bytes(of: version, range)
        }

        func parts(of version: VersionRow) async throws -> [ObjectPart]? {
            if losesPartLists { throw StoreError(.dataUnavailable, "No replica has the list.") }
            return try await store.parts(of: version)
        }
    }

    private static let mebibyte = 1 << 20

    private static func fill(
        _ fixture: MirrorFixture,
        _ sizes: [Int],
        encryption: EncryptionChoice = .none
    ) async throws -> (row: VersionRow, bytes: [UInt8]) {
        let parts = sizes.enumerated().map { noise($1, UInt64($0) + 9) }
        let request = try await fixture.sendParts("large", parts, encryption: encryption)
        return (try await fixture.objects.complete(request), parts.flatMap(\.self))
    }

    @Test func anObjectGoesInThePartsThatItCameIn() async throws {
        let fixture = try await MirrorFixture()
        try await fixture.add(partSize: 8 << 20)
        let mebibyte = Self.mebibyte
        let (row, bytes) = try await Self.fill(fixture, [6 * mebibyte, 6 * mebibyte, mebibyte])
        #expect(try await fixture.drain().isUpToDate)
        let history = fixture.backend.history("models/large")
        #expect(history.count == 1 && history.first?.bytes == bytes)
        #expect(history.first?.etag == row.etag && row.etag.hasSuffix("-3"))
        #expect(fixture.backend.partCount == 3)
        // A new worker looks whether an earlier one has sent it, and whether the backend keeps what it is told of its first object.
        #expect(fixture.backend.headCount == 2)
        try await fixture.close()
    }

    @Test func partsThatAreThereAreNotReadAgain() async throws {
        let fixture = try await MirrorFixture()
        try await fixture.add(partSize: 8 << 20)
        let mebibyte = Self.mebibyte
        let (row, bytes) = try await Self.fill(fixture, [6 * mebibyte, 6 * mebibyte, mebibyte])
        let (backend, clock) = (fixture.backend, SystemClock())
        let hasFailed = Mutex(false)
        let end = clock.monotonicNanoseconds() + 60_000_000_000
        let store = WatchedStore(MirroredStore(objects: fixture.objects)) { range in
            guard range.offset == UInt64(12 * mebibyte), !hasFailed.withLock({ $0 }) else { return }
            while backend.partCount < 2, clock.monotonicNanoseconds() < end {
                try await clock.sleep(for: .milliseconds(2))
            }
            hasFailed.withLock { $0 = true }
            throw StoreError(.dataUnavailable, "The last part can't be read at first.")
        }
        #expect(try await fixture.drain(store).isUpToDate)
        #expect(store.offsets == [0, 6, 12, 12].map { UInt64($0 * mebibyte) })
        let history = backend.history("models/large")
        #expect(history.map(\.bytes) == [bytes] && history.first?.etag == row.etag)
        #expect(backend.partCount == 3 && backend.uploadCount == 0)
        try await fixture.close()
    }

    @Test(arguments: ["parts of several sizes", "encrypted", "the list is lost", "too large to hold"])
    func whatCannotGoAsItCameIsCutAnew(why: String) async throws {
        let fixture = try await MirrorFixture()
        try await fixture.add(partSize: 8 << 20)
        let mebibyte = Self.mebibyte
        let sizes =
            switch why {
            case "parts of several sizes": [6 * mebibyte, 7 * mebibyte, mebibyte]
            case "too large to hold": [17 * mebibyte]
            default: [6 * mebibyte, 6 * mebibyte, mebibyte]
            }
        let (row, bytes) = try await Self.fill(
            fixture,
            sizes,
            encryption: why == "encrypted" ? .storeKey : .none
        )
        let store = WatchedStore(
            MirroredStore(objects: fixture.objects),
            losesPartLists: why == "the list is lost"
        )
        #expect(try await fixture.drain(store).isUpToDate)
        let history = fixture.backend.history("models/large")
        #expect(history.map(\.bytes) == [bytes])
        #expect(history.first?.etag != row.etag)
        #expect(store.offsets == stride(from: 0, to: bytes.count, by: 8 * mebibyte).map { UInt64($0) })
        try await fixture.close()
    }

    @Test func onlyPartsOfOneSizeThatABackendTakesAreKept() throws {
        var settings = MirrorSettings(endpoint: try MirrorEndpoint("https://s3.example.org"), bucket: "b")
        func cut(_ sizes: [Int], size: Int? = nil) throws -> MirrorCut? {
            let md5 = try #require(MD5Digest(hex: String(repeating: "5a", count: 16)))
            let parts = sizes.enumerated().map {
                ObjectPart(number: UInt16($0 + 1), size: UInt64($1), etag: md5, checksum: nil)
            }
            return MirrorCut(source: parts, size: UInt64(size ?? sizes.reduce(0, +)), settings)
        }
        let (least, most) = (5 << 20, 16 << 20)
        for good in [[least], [least, 1], [least, least], [most, most, 3]] {
            let found = try #require(try cut(good))
            #expect(found.partSize == UInt64(good[0]) && found.md5s.count == good.count)
        }
        for bad in [
            [], [least - 1], [most + 1], [least, least + 1], [least, 0], [least, least, least - 1, least],
            [least + 1, least, least],
        ] {
            #expect(try cut(bad) == nil)
        }
        #expect(try cut([least, least], size: 2 * least + 1) == nil)
        #expect(try cut([least, least], size: least) == nil)
        // What somebody has set is kept: no larger parts, and not many more.
        let (few, many) = (Array(repeating: least, count: 1000), Array(repeating: least, count: 1001))
        #expect(try cut(few) != nil)
        #expect(try cut(many) == nil)
        settings.partSize = 6 << 20
        #expect(try cut([6 << 20, 1]) != nil)
        #expect(try cut([7 << 20, 1]) == nil)
        settings.partSize = least
        #expect(try cut(many) != nil)
    }
}
