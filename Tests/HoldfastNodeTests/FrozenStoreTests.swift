import BlobVolume
import Catalog
import ContentHashing
import Foundation
import HoldfastNode
import ObjectService
import StoreModel
import Testing

/// A whole store as the first version of every format wrote it: segments, commit log, catalog rows. It must open, read
/// and be written for ever.
///
/// `HOLDFAST_WRITE_FIXTURE=1 swift test --filter FrozenStoreTests` writes it anew, which is right only for a new
/// format in a new folder.
@Suite struct FrozenStoreTests {
    private static let fixture = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
        .deletingLastPathComponent().deletingLastPathComponent().appendingPathComponent("fixtures/stores/v1")
        .path

    private static var volumeOptions: VolumeOptions {
        var options = VolumeOptions()
        options.logSegmentSizeMin = 64 << 10
        options.logSegmentSizeMax = 64 << 10
        options.reserveBytes = 1 << 20
        return options
    }

    private static var options: LocalStore.Options {
        var options = LocalStore.Options()
        options.volume = volumeOptions
        return options
    }

    /// The objects of the fixture: content by key, oldest version first; nil is a delete marker.
    private static let history: [(key: String, versions: [[UInt8]?])] = [
        ("empty", [[]]),
        ("small", [Array("one".utf8), Array("two".utf8)]),
        ("deleted", [Array("gone".utf8), nil]),
        ("path/with spaces/ü", [[UInt8](repeating: 7, count: 20_000)]),
    ]

    private func copyOfFixture() throws -> String {
        let copy = FileManager.default.temporaryDirectory.path + "/holdfast-frozen-\(UUID().uuidString)"
        try FileManager.default.copyItem(atPath: Self.fixture, toPath: copy)
        return copy
    }

    private func contents(of store: LocalStore, bucket: BucketName, key: ObjectKey) async throws -> [[UInt8]?]
    {
        let history = try await store.objects.history(bucket: bucket, key: key, before: nil, limit: 100)
        var contents: [[UInt8]?] = []
        for version in history.reversed() {
            guard !version.isDeleteMarker else {
                contents.append(nil)
                continue
            }
            let reader = try await store.objects.get(
                VersionAddress(bucket: bucket, key: key, selector: .id(version.id)),
                range: .whole
            )
            var bytes: [UInt8] = []
            while let piece = try await reader.next() { bytes += piece }
            #expect(SHA256Hasher.hash(bytes) == version.checksums.sha256)
            contents.append(bytes)
        }
        return contents
    }

    private func expectFixture(in store: LocalStore) async throws {
        let bucket = try BucketName("frozen")
        for (key, versions) in Self.history {
            #expect(
                try await contents(of: store, bucket: bucket, key: try ObjectKey(key)) == versions,
                "key \(key)"
            )
        }
    }

    @Test func theStoreOfTheFirstFormatOpensIsReadAndWritten() async throws {
        let path = try copyOfFixture()
        defer { try? FileManager.default.removeItem(atPath: path) }
        var store = try await LocalStore.open(path, Self.options)
        try await expectFixture(in: store)
        _ = try await store.objects.put(
            PutRequest(bucket: try BucketName("frozen"), key: try ObjectKey("new")),
            body: BufferByteSource(Array("added".utf8))
        )
        try await store.close()
        store = try await LocalStore.open(path, Self.options)
        try await expectFixture(in: store)
        let added = try await contents(of: store, bucket: try BucketName("frozen"), key: try ObjectKey("new"))
        #expect(added == [Array("added".utf8)])
        try await store.close()
    }

    @Test func itsCatalogIsRebuiltFromTheReplicasAlone() async throws {
        let path = try copyOfFixture()
        defer { try? FileManager.default.removeItem(atPath: path) }
        var options = Self.options
        options.rebuildsCatalog = true
        let store = try await LocalStore.open(path, options)
        #expect(store.openReport.didRebuildCatalog)
        try await expectFixture(in: store)
        try await store.close()
    }

    @Test(.enabled(if: ProcessInfo.processInfo.environment["HOLDFAST_WRITE_FIXTURE"] != nil))
    func theFixtureIsWritten() async throws {
        _ = try await LocalStore.create(Self.fixture, options: Self.volumeOptions)
        let store = try await LocalStore.open(Self.fixture, Self.options)
        let bucket = try BucketName("frozen")
        _ = try await store.objects.createBucket(bucket)
        for (key, versions) in Self.history {
            for content in versions {
                if let content {
                    _ = try await store.objects.put(
                        PutRequest(bucket: bucket, key: try ObjectKey(key)),
                        body: BufferByteSource(content)
                    )
                } else {
                    _ = try await store.objects.delete(
                        VersionAddress(bucket: bucket, key: try ObjectKey(key))
                    )
                }
            }
        }
        try await expectFixture(in: store)
        try await store.close()
    }
}
