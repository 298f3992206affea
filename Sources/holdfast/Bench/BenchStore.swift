internal import BlobVolume
internal import Foundation
internal import HoldfastNode
internal import ObjectService
internal import Replication
internal import StoreModel

/// A store that exists for the length of a benchmark, in a directory of its own.
final class BenchStore {
    static let bucketName = "bench"

    let path: String
    let bucket: BucketName
    private(set) var store: LocalStore

    var objects: ObjectStore { store.objects }
    /// Where the replicas are: the limits are measured beside them, on the same disks.
    let volumeDirectories: [String]

    private init(path: String, bucket: BucketName, store: LocalStore) {
        self.path = path
        self.bucket = bucket
        self.store = store
        volumeDirectories = store.configuration.volumes.map {
            $0.path.hasPrefix("/") ? $0.path : "\(path)/\($0.path)"
        }
    }

    /// Makes a directory in `parent`, a store in it, runs `body` and removes the directory, however `body` ends.
    static func with<Value>(
        in parent: String,
        _ body: (BenchStore) async throws -> Value
    ) async throws -> Value {
        try await directory(in: parent) { path in
            let location = "\(path)/store"
            _ = try await LocalStore.create(location)
            let bench = BenchStore(
                path: location,
                bucket: try BucketName(bucketName),
                store: try await LocalStore.open(location)
            )
            do {
                _ = try await bench.objects.createBucket(bench.bucket)
                let value = try await body(bench)
                try await bench.store.close()
                return value
            } catch {
                // The first error is the one that tells.
                _ = try? await bench.store.close()
                throw error
            }
        }
    }

    /// Makes a directory in `parent`, and removes it with all that is in it when `body` ends.
    static func directory<Value>(in parent: String, _ body: (String) async throws -> Value) async throws
        -> Value
    {
        var template = [CChar]("\(parent)/holdfast-bench-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else {
            throw StoreError(
                .inputOutput,
                "No directory can be made in \(quoted(parent)): \(String(cString: strerror(errno))).",
                advice: "Name another place with --directory."
            )
        }
        let path = template.withUnsafeBytes { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
        defer { try? FileManager.default.removeItem(atPath: path) }
        return try await body(path)
    }

    /// Closes the store and opens it again.
    /// - Returns: what opening found, and the seconds that it took.
    func reopen(rebuildingCatalog: Bool = false) async throws -> (
        report: LocalStore.OpenReport, seconds: Double
    ) {
        try await store.close()
        var options = LocalStore.Options()
        options.rebuildsCatalog = rebuildingCatalog
        let start = ContinuousClock.now
        store = try await LocalStore.open(path, options)
        return (store.openReport, Double((ContinuousClock.now - start).nanoseconds) / 1e9)
    }

    /// Sizes of the newest commit batches, in bytes, and how many there have been.
    var batches: (sizes: [Int], count: Int) {
        (store.replicator.recentBatchSizes, store.replicator.replicatorStatus().batchCount)
    }

    var indexBytes: Int {
        store.replicator.replicatorStatus().volumes.reduce(0) { $0 + ($1.space?.indexBytes ?? 0) }
    }

    /// Writes a snapshot of the catalog, as the store does by itself from time to time.
    func takeSnapshot() async throws { _ = try await store.replicator.takeSnapshot() }

    /// One run of garbage collection, and what it took.
    func collectGarbage(_ options: GarbageOptions) async throws -> (GarbageReport, ProcessUsage) {
        let end = ContinuousClock.now + .seconds(120)
        // What the last uploads have pinned goes a moment later.
        while store.replicator.pinnedChunkCount > 0, ContinuousClock.now < end {
            try await SystemClock().sleep(for: .milliseconds(20))
        }
        ProcessUsage.resetPeak()
        let before = ProcessUsage.now()
        let report = try await store.replicator.collectGarbage(options)
        return (report, ProcessUsage.now().since(before))
    }

    /// Waits until all that is committed is in the catalog's index.
    func settle() async throws { _ = try await store.replicator.currentCatalog() }
}
