import BlobVolume
import Catalog
import ContentHashing
import Foundation
import HoldfastNode
import ObjectService
import Replication
import StoreModel
import Testing

/// A whole store as the first version with attributes and documents wrote it: rows of format 2, settings of a bucket,
/// an object that was put in parts, an upload that is under way. It must open, read and be written for ever.
///
/// `HOLDFAST_WRITE_FIXTURE=2 swift test --filter FrozenUploadsTests` writes it anew, which is right only for a new
/// format in a new folder.
@Suite struct FrozenUploadsTests {
    private static let fixture = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
        .deletingLastPathComponent().deletingLastPathComponent().appendingPathComponent("fixtures/stores/v2")
        .path

    private static var options: LocalStore.Options {
        var volume = VolumeOptions()
        volume.logSegmentSizeMin = 64 << 10
        volume.logSegmentSizeMax = 64 << 10
        volume.reserveBytes = 1 << 20
        var options = LocalStore.Options()
        options.volume = volume
        return options
    }

    private struct Names {
        let bucket: BucketName
        let parts: ObjectKey
        let locked: ObjectKey
        let open: ObjectKey

        init() throws {
            bucket = try BucketName("frozen")
            parts = try ObjectKey("in parts")
            locked = try ObjectKey("locked")
            open = try ObjectKey("under way")
        }
    }

    private static let body = [UInt8](repeating: 9, count: 3000)

    private func expectFixture(in store: LocalStore) async throws {
        let (objects, names) = (store.objects, try Names())
        let configuration = try await objects.bucketConfiguration(names.bucket)
        #expect(configuration.settings == ["cors": [1, 2, 3]])
        #expect(configuration.bucket.owner == "me")
        let row = try await objects.head(VersionAddress(bucket: names.bucket, key: names.parts))
        let reader = try objects.read(row)
        var bytes: [UInt8] = []
        while let piece = try await reader.next() { bytes += piece }
        #expect(bytes == Self.body)
        let parts = try #require(try await objects.parts(of: row))
        #expect(parts.map(\.number) == [7] && parts.map(\.size) == [3000])
        #expect(row.checksums.others.map(\.name) == ["CRC32C"])
        #expect(row.attributes.checksumType == .fullObject)
        let locked = try await objects.head(VersionAddress(bucket: names.bucket, key: names.locked))
        #expect(locked.attributes.owner == "you" && locked.attributes.legalHold == true)
        #expect(locked.attributes.accessControlList == [4, 5])
        let uploads = try await objects.listUploads(UploadListRequest(bucket: names.bucket)).uploads
        #expect(uploads.map(\.key) == [names.open])
        let upload = try #require(uploads.first)
        let address = UploadAddress(bucket: names.bucket, key: names.open, id: upload.id)
        #expect(try await objects.listParts(of: address).parts.map(\.number) == [1])
        #expect(try await objects.document(.account, Array("a".utf8))?.body == Array("b".utf8))
        #expect(try await objects.verify(repair: false).isHealthy)
    }

    private func copyOfFixture() throws -> String {
        let copy = FileManager.default.temporaryDirectory.path + "/holdfast-frozen-\(UUID().uuidString)"
        try FileManager.default.copyItem(atPath: Self.fixture, toPath: copy)
        return copy
    }

    @Test func theStoreOpensIsReadAndItsUploadGoesOn() async throws {
        let path = try copyOfFixture()
        defer { try? FileManager.default.removeItem(atPath: path) }
        let store = try await LocalStore.open(path, Self.options)
        try await expectFixture(in: store)
        let names = try Names()
        let upload = try #require(
            try await store.objects.listUploads(UploadListRequest(bucket: names.bucket)).uploads.first
        )
        let address = UploadAddress(bucket: names.bucket, key: names.open, id: upload.id)
        let parts = try await store.objects.listParts(of: address).parts
        let row = try await store.objects.complete(
            CompleteRequest(
                upload: address,
                parts: parts.map { ListedPart(number: $0.number, etag: $0.etag.hex) }
            )
        )
        #expect(row.size == 3000)
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

    @Test(.enabled(if: ProcessInfo.processInfo.environment["HOLDFAST_WRITE_FIXTURE"] == "2"))
    func theFixtureIsWritten() async throws {
        _ = try await LocalStore.create(Self.fixture, options: Self.options.volume)
        let store = try await LocalStore.open(Self.fixture, Self.options)
        let (objects, names) = (store.objects, try Names())
        _ = try await objects.createBucket(names.bucket, owner: "me")
        try await objects.putBucketSetting(bucket: names.bucket, name: "cors", body: [1, 2, 3])
        let upload = try await objects.createUpload(
            CreateUploadRequest(
                bucket: names.bucket,
                key: names.parts,
                checksum: UploadChecksum(algorithm: .crc32c, type: .fullObject)
            )
        )
        let address = UploadAddress(bucket: names.bucket, key: names.parts, id: upload.id)
        let part = try await objects.putPart(
            PutPartRequest(upload: address, number: 7),
            body: BufferByteSource(Self.body)
        )
        _ = try await objects.complete(
            CompleteRequest(upload: address, parts: [ListedPart(number: 7, etag: part.etag.hex)])
        )
        var attributes = VersionAttributes.none
        attributes.owner = "you"
        attributes.legalHold = true
        attributes.accessControlList = [4, 5]
        _ = try await objects.put(
            PutRequest(bucket: names.bucket, key: names.locked, attributes: attributes),
            body: BufferByteSource([1])
        )
        let open = try await objects.createUpload(CreateUploadRequest(bucket: names.bucket, key: names.open))
        _ = try await objects.putPart(
            PutPartRequest(
                upload: UploadAddress(bucket: names.bucket, key: names.open, id: open.id),
                number: 1
            ),
            body: BufferByteSource(Self.body)
        )
        try await objects.write(documents: [
            DocumentWrite(space: .account, key: Array("a".utf8), body: Array("b".utf8))
        ])
        _ = try await store.replicator.takeSnapshot()
        try await objects.write(documents: [
            DocumentWrite(space: .job, key: Array("after the snapshot".utf8), body: [1])
        ])
        try await expectFixture(in: store)
        try await store.close()
    }
}
