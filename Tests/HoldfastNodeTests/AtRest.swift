import BlobVolume
import Catalog
import Encryption
import Foundation
import HoldfastNode
import ObjectService
import StoreModel
import Testing

/// A store in a directory of its own, which goes with it.
final class StoreOnDisk {
    let path: String
    private(set) var store: LocalStore
    let bucket: BucketName

    static var options: LocalStore.Options {
        var options = LocalStore.Options()
        options.volume.logSegmentSizeMin = 256 << 10
        options.volume.logSegmentSizeMax = 1 << 20
        options.volume.reserveBytes = 1 << 20
        return options
    }

    init() async throws {
        path = FileManager.default.temporaryDirectory.path + "/holdfast-at-rest-\(UUID().uuidString)"
        _ = try await LocalStore.create(path, options: Self.options.volume)
        store = try await LocalStore.open(path, Self.options)
        bucket = try BucketName("models")
        _ = try await store.objects.createBucket(bucket, versioning: .enabled)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    var objects: ObjectStore { store.objects }
    var masterKeyPath: String { path + "/" + MasterKeyFile.fileName }

    /// Closes the store, lets `change` happen to its files, opens it again.
    func reopen(_ change: () throws -> Void = {}) async throws {
        try await store.close()
        try change()
        store = try await LocalStore.open(path, Self.options)
    }

    func address(_ key: String) throws -> VersionAddress {
        VersionAddress(bucket: bucket, key: try ObjectKey(key), selector: .newest)
    }

    @discardableResult
    func put(
        _ key: String,
        _ bytes: [UInt8],
        _ encryption: EncryptionChoice,
        pieceSize: Int = 700_001
    ) async throws -> VersionReport {
        let request = PutRequest(bucket: bucket, key: try ObjectKey(key), encryption: encryption)
        let row = try await objects.put(request, body: Pieces(bytes, size: pieceSize))
        return VersionReport(etag: row.etag, size: row.size)
    }

    struct VersionReport {
        let etag: String
        let size: UInt64
    }

    func get(
        _ key: String,
        _ range: RequestedRange = .whole,
        clientKey: EncryptionKey? = nil
    ) async throws -> [UInt8] {
        let reader = try await objects.get(try address(key), range: range, clientKey: clientKey)
        var bytes: [UInt8] = []
        while let piece = try await reader.next() { bytes += piece }
        return bytes
    }

    /// Everything that is in the files of the store's directory, but for the master key.
    func bytesOnDisk() throws -> [[UInt8]] {
        let files = FileManager.default.enumerator(atPath: path)?.allObjects as? [String] ?? []
        return files.filter { $0 != MasterKeyFile.fileName }.compactMap { name in
            FileManager.default.contents(atPath: path + "/" + name).map { [UInt8]($0) }
        }
    }

    func isOnDisk(_ text: [UInt8]) throws -> Bool {
        try bytesOnDisk().contains { Data($0).range(of: Data(text)) != nil }
    }
}

/// A body in pieces.
final class Pieces: ByteSource {
    private var rest: ArraySlice<UInt8>
    private let size: Int

    init(_ bytes: [UInt8], size: Int = 700_001) {
        rest = bytes[...]
        self.size = size
    }

    func next() async throws -> [UInt8]? {
        guard !rest.isEmpty else { return nil }
        defer { rest = rest.dropFirst(size) }
        return [UInt8](rest.prefix(size))
    }
}

/// Asserts that something fails with a code of the store.
@discardableResult
func expectFailure<Value>(
    _ code: StoreError.Code,
    sourceLocation: SourceLocation = #_sourceLocation,
    _ body: () async throws -> Value
) async -> StoreError? {
    do {
        _ = try await body()
        Issue.record("It should have failed with \(code).", sourceLocation: sourceLocation)
    } catch let error as StoreError {
        #expect(error.code == code, "\(error)", sourceLocation: sourceLocation)
        return error
    } catch {
        Issue.record("Another error than the store's: \(error)", sourceLocation: sourceLocation)
    }
    return nil
}
