import Catalog
import ContentHashing
import ObjectService
import StoreModel
import Testing

/// Bytes that don't repeat, the same for the same seed on every machine.
func noise(_ count: Int, seed: UInt64 = 1) -> [UInt8] {
    var state = seed &* 0x9E37_79B9_7F4A_7C15 | 1
    return [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
        let raw = UnsafeMutableRawBufferPointer(buffer)
        var offset = 0
        while offset < count {
            state ^= state << 13
            state ^= state >> 7
            state ^= state << 17
            if offset + 8 <= count {
                raw.storeBytes(of: state.littleEndian, toByteOffset: offset, as: UInt64.self)
            } else {
                for index in offset..<count { raw[index] = UInt8(truncatingIfNeeded: state >> 8) }
            }
            offset += 8
        }
        filled = count
    }
}

/// A store over `InMemoryStorage` with one bucket.
struct Fixture {
    let storage: InMemoryStorage
    let store: ObjectStore
    let bucket: BucketName
    let key: ObjectKey

    /// Chunks of 16 KiB and nodes of four entries: trees grow high from little data.
    static var smallLimits: PipelineLimits {
        var limits = PipelineLimits()
        limits.smallSizeMax = 1 << 10
        limits.chunkSizes = ContentChunker.Sizes(min: 2 << 10, target: 8 << 10, max: 32 << 10)
        limits.partSizeMin = 5 << 10
        limits.manifest = ManifestBuilder.Limits(inlineEntryCountMax: 2, nodeEntryCountMax: 4)
        return limits
    }

    init(
        limits: PipelineLimits = .standard,
        versioning: VersioningState = .enabled,
        storage: InMemoryStorage = InMemoryStorage()
    ) async throws {
        self.storage = storage
        store = ObjectStore(storage: storage, limits: limits)
        bucket = try BucketName("models")
        key = try ObjectKey("weights/model.safetensors")
        _ = try await store.createBucket(bucket, versioning: versioning)
    }

    func address(_ selector: VersionSelector = .newest) -> VersionAddress {
        VersionAddress(bucket: bucket, key: key, selector: selector)
    }

    func put(
        _ bytes: [UInt8],
        pieceSize: Int = 1 << 20,
        expecting: BodyExpectation = .none,
        conditions: Conditions = .none
    ) async throws -> VersionRow {
        let request = PutRequest(bucket: bucket, key: key, conditions: conditions, expectation: expecting)
        return try await store.put(request, body: BufferByteSource(bytes, pieceSize: pieceSize))
    }

    func get(_ selector: VersionSelector = .newest, range: RequestedRange = .whole) async throws -> [UInt8] {
        let reader = try await store.get(address(selector), range: range)
        var bytes: [UInt8] = []
        while let piece = try await reader.next() { bytes += piece }
        return bytes
    }

    func chunks(of row: VersionRow) async throws -> [ChunkReference] {
        var cursor = ManifestCursor(
            row.manifest,
            size: row.size,
            range: ByteRange(wholeOf: row.size),
            storage: storage
        )
        var chunks: [ChunkReference] = []
        while let slice = try await cursor.next() { chunks.append(slice.chunk) }
        return chunks
    }
}

/// Asserts that something fails with a code of the store.
func expectFailure<Value>(
    _ code: StoreError.Code,
    sourceLocation: SourceLocation = #_sourceLocation,
    _ body: () async throws -> Value
) async {
    do {
        _ = try await body()
        Issue.record("It should have failed with \(code).", sourceLocation: sourceLocation)
    } catch let error as StoreError {
        #expect(error.code == code, "\(error)", sourceLocation: sourceLocation)
    } catch {
        Issue.record("Another error than the store's: \(error)", sourceLocation: sourceLocation)
    }
}
