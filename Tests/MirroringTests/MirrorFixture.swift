import BlobVolume
import Catalog
import Encryption
import Foundation
import HoldfastNode
import Logging
import Mirroring
import ObjectService
import Replication
import StoreModel
import StoreTestKit

/// A store in a directory of its own, with a mirror into a `StrictS3Backend`.
final class MirrorFixture {
    let path: String
    private(set) var store: LocalStore
    let backend: StrictS3Backend
    let clock = HurriedClock()
    let random: SeededRandom
    let bucket: BucketName
    let mirror: MirrorName
    var limits = MirrorWorkerLimits()

    static var options: LocalStore.Options {
        var options = LocalStore.Options()
        options.volume.logSegmentSizeMin = 256 << 10
        options.volume.logSegmentSizeMax = 1 << 20
        options.volume.reserveBytes = 1 << 20
        return options
    }

    init(keepsVersions: Bool = true, seed: UInt64 = 1, versioning: VersioningState = .enabled) async throws {
        path = FileManager.default.temporaryDirectory.path + "/holdfast-mirror-\(UUID().uuidString)"
        _ = try await LocalStore.create(path, options: Self.options.volume)
        store = try await LocalStore.open(path, Self.options)
        backend = StrictS3Backend(keepsVersions: keepsVersions, seed: seed)
        random = SeededRandom(seed: seed)
        bucket = try BucketName("models")
        mirror = try MirrorName("offsite")
        _ = try await store.objects.createBucket(bucket, versioning: versioning)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    var objects: ObjectStore { store.objects }
    var directory: MirrorDirectory {
        MirrorDirectory(MirroredStore(objects: objects), clock: clock, random: SystemRandom())
    }

    func close() async throws { try await store.close() }

    func reopen(rebuilding: Bool = false) async throws {
        try await store.close()
        var options = Self.options
        options.rebuildsCatalog = rebuilding
        store = try await LocalStore.open(path, options)
    }

    @discardableResult
    func add(rules: [MirrorRule] = [MirrorRule()], partSize: Int = 5 << 20) async throws -> MirrorRow {
        var settings = MirrorSettings(endpoint: try MirrorEndpoint("https://s3.example.org"), bucket: "b")
        settings.partSize = partSize
        settings.concurrency = 8
        return try await directory.add(
            mirror,
            settings,
            rules: rules,
            MirrorCredentials(accessKey: "key", secret: "secret")
        )
    }

    /// - Parameter store: as the mirrors see it.
    func service(_ store: (any MirrorStore)? = nil) -> MirrorService {
        MirrorService(
            store.map { MirrorDirectory($0, clock: clock, random: SystemRandom()) } ?? directory,
            make: { [backend] _, _ in backend },
            isAlone: true,
            load: self.store.replicator.clientLoad,
            limits: limits,
            logger: Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() })
        )
    }

    /// Works until nothing is left.
    @discardableResult
    func drain(_ store: (any MirrorStore)? = nil) async throws -> MirrorStatus {
        let service = service(store)
        try await service.runUntilIdle()
        return try await service.status(of: try await directory.mirror(mirror))
    }

    @discardableResult
    func put(_ key: String, _ bytes: [UInt8], tags: [NamedValue] = []) async throws -> VersionRow {
        try await objects.put(
            PutRequest(bucket: bucket, key: try ObjectKey(key), tags: tags),
            body: BufferByteSource(bytes)
        )
    }

    /// Sends the parts of an upload.
    /// - Returns: what completes it.
    func sendParts(
        _ key: String,
        _ parts: [[UInt8]],
        encryption: EncryptionChoice = .none,
        type: String = "text/plain"
    ) async throws -> CompleteRequest {
        var clientKey: EncryptionKey?
        if case .clientKey(let key) = encryption { clientKey = key }
        let key = try ObjectKey(key)
        let upload = try await objects.createUpload(
            CreateUploadRequest(
                bucket: bucket,
                key: key,
                metadata: ObjectMetadata(contentType: type),
                encryption: encryption
            )
        )
        let address = UploadAddress(bucket: bucket, key: key, id: upload.id)
        var listed: [ListedPart] = []
        for (index, bytes) in parts.enumerated() {
            let part = try await objects.putPart(
                PutPartRequest(upload: address, number: index + 1, clientKey: clientKey),
                body: BufferByteSource(bytes)
            )
            listed.append(ListedPart(number: index + 1, etag: part.etag.hex))
        }
        return CompleteRequest(upload: address, parts: listed)
    }

    func address(_ key: String, _ selector: VersionSelector = .newest) throws -> VersionAddress {
        VersionAddress(bucket: bucket, key: try ObjectKey(key), selector: selector)
    }

    func delete(_ key: String, _ selector: VersionSelector = .newest) async throws {
        _ = try await objects.delete(try address(key, selector))
    }

    /// The tasks that wait, oldest first.
    func tasks() async throws -> [MirrorTask] {
        try await objects.documents(.outbox, prefix: MirrorKey.pendingPrefix).map { try MirrorTask($0) }
    }

    /// What the backend's history of a key must be: of each version, or nil for a delete marker, the bytes' count and id.
    func expectedHistory(_ key: String) async throws -> [VersionID?] {
        try await objects.history(bucket: bucket, key: try ObjectKey(key)).reversed().map {
            $0.isDeleteMarker ? nil : $0.id
        }
    }

    func mirroredHistory(_ key: String) -> [VersionID?] {
        backend.history("models/" + key).map { $0.isMarker ? nil : $0.properties.holdfastVersion }
    }
}

/// A store that does as another one, but for what a test changes.
protocol ForwardingStore: MirrorStore {
    var store: MirroredStore { get }
}

extension ForwardingStore {
    func read<Value: Sendable>(
        _ body: @escaping @Sendable (any CatalogReader) throws -> Value
    ) async throws -> Value { try await store.read(body) }
    func write(_ documents: [DocumentWrite]) async throws { try await store.write(documents) }
    func generation(of space: DocumentSpace) -> UInt64 { store.generation(of: space) }
    func bytes(of version: VersionRow, _ range: ByteRange) async throws -> [UInt8] {
        try await store.bytes(of: version, range)
    }
    func parts(of version: VersionRow) async throws -> [ObjectPart]? { try await store.parts(of: version) }
    func sha256(
        of version: VersionRow,
        isHurried: @escaping @Sendable () -> Bool,
        spend: @Sendable (_ byteCount: UInt64, _ mayWait: Bool) async throws -> Void
    ) async throws -> Digest {
        try await store.sha256(of: version, isHurried: isHurried, spend: spend)
    }
    func needsClientKey(_ version: VersionRow) throws -> Bool { try store.needsClientKey(version) }
    func seal(_ secret: [UInt8], context: String) async throws -> SealedSecret {
        try await store.seal(secret, context: context)
    }
    func isSealedWithNewestKey(_ secret: SealedSecret) throws -> Bool {
        try store.isSealedWithNewestKey(secret)
    }
    func open(_ secret: SealedSecret, context: String) throws -> [UInt8] {
        try store.open(secret, context: context)
    }
}

func noise(_ count: Int, _ seed: UInt64) -> [UInt8] {
    let random = SeededRandom(seed: seed)
    var bytes: [UInt8] = []
    bytes.reserveCapacity(count + 8)
    while bytes.count < count { withUnsafeBytes(of: random.next()) { bytes.append(contentsOf: $0) } }
    return Array(bytes.prefix(count))
}
