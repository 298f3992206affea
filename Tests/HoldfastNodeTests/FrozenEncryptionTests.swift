import BlobVolume
import Catalog
import Encryption
import Foundation
import HoldfastNode
import ObjectService
import StoreModel
import Testing

/// A whole store with encrypted objects as the first version that had them wrote it: a master key file, a data key sealed under
/// it and one sealed under a client's key, frames. It must open and be read for ever.
///
/// `HOLDFAST_WRITE_FIXTURE=3 swift test --filter FrozenEncryptionTests` writes it anew, which is right only for a new
/// format in a new folder.
@Suite struct FrozenEncryptionTests {
    private static let fixture = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
        .deletingLastPathComponent().deletingLastPathComponent().appendingPathComponent("fixtures/stores/v3")
        .path

    private static var options: LocalStore.Options {
        var options = LocalStore.Options()
        options.volume.logSegmentSizeMin = 64 << 10
        options.volume.logSegmentSizeMax = 64 << 10
        options.volume.reserveBytes = 1 << 20
        return options
    }

    private static let body = (0..<3000).map { UInt8($0 % 251) }

    private func clientKey() throws -> EncryptionKey {
        try #require(EncryptionKey([UInt8](repeating: 0x42, count: 32)))
    }

    private func address(_ key: String) throws -> VersionAddress {
        VersionAddress(bucket: try BucketName("frozen"), key: try ObjectKey(key), selector: .newest)
    }

    private func read(_ key: String, _ clientKey: EncryptionKey?, in store: LocalStore) async throws
        -> [UInt8]
    {
        let reader = try await store.objects.get(try address(key), range: .whole, clientKey: clientKey)
        var bytes: [UInt8] = []
        while let piece = try await reader.next() { bytes += piece }
        return bytes
    }

    private func expectFixture(in store: LocalStore) async throws {
        #expect(try await read("by the store", nil, in: store) == Self.body)
        #expect(try await read("by the client", try clientKey(), in: store) == Self.body)
        #expect(try await read("in the open", nil, in: store) == Self.body)
        await expectFailure(.encryptionKeyMissing) { try await read("by the client", nil, in: store) }
        #expect(try await store.objects.verify(repair: false).isHealthy)
    }

    private func copyOfFixture() throws -> String {
        let copy = FileManager.default.temporaryDirectory.path + "/holdfast-frozen-\(UUID().uuidString)"
        try FileManager.default.copyItem(atPath: Self.fixture, toPath: copy)
        // Version control keeps no permissions, and a key that others may read is refused.
        try FileManager.default.setAttributes(
            [.posixPermissions: 0o600],
            ofItemAtPath: copy + "/" + MasterKeyFile.fileName
        )
        return copy
    }

    @Test(arguments: [false, true]) func theStoreOpensIsReadAndWritten(rebuilds: Bool) async throws {
        let path = try copyOfFixture()
        defer { try? FileManager.default.removeItem(atPath: path) }
        var options = Self.options
        options.rebuildsCatalog = rebuilds
        var store = try await LocalStore.open(path, options)
        #expect(store.openReport.didRebuildCatalog == rebuilds)
        try await expectFixture(in: store)
        try await put("new", .storeKey, in: store)
        try await store.close()
        store = try await LocalStore.open(path, Self.options)
        try await expectFixture(in: store)
        #expect(try await read("new", nil, in: store) == Self.body)
        try await store.close()
    }

    private func put(_ key: String, _ encryption: EncryptionChoice, in store: LocalStore) async throws {
        let request = PutRequest(
            bucket: try BucketName("frozen"),
            key: try ObjectKey(key),
            encryption: encryption
        )
        _ = try await store.objects.put(request, body: BufferByteSource(Self.body))
    }

    @Test(.enabled(if: ProcessInfo.processInfo.environment["HOLDFAST_WRITE_FIXTURE"] == "3"))
    func theFixtureIsWritten() async throws {
        _ = try await LocalStore.create(Self.fixture, options: Self.options.volume)
        let store = try await LocalStore.open(Self.fixture, Self.options)
        _ = try await store.objects.createBucket(try BucketName("frozen"))
        try await put("by the store", .storeKey, in: store)
        try await put("by the client", .clientKey(try clientKey()), in: store)
        try await put("in the open", .none, in: store)
        try await expectFixture(in: store)
        try await store.close()
    }
}
