package import Catalog
package import StoreModel
internal import Synchronization

/// A bucket with its settings, as they were when it was read.
package final class BucketConfiguration: Sendable {
    package let bucket: BucketRow
    /// By name.
    package let settings: [String: [UInt8]]
    /// Of `.bucketSetting`, when it was read: equal generations, equal settings.
    package let generation: UInt64

    init(_ bucket: BucketRow, _ settings: [String: [UInt8]], generation: UInt64) {
        self.bucket = bucket
        self.settings = settings
        self.generation = generation
    }
}

extension ObjectStore {
    /// A bucket and its settings, from memory where nothing has changed.
    /// - Throws: `.noSuchBucket`.
    package func bucketConfiguration(_ name: BucketName) async throws -> BucketConfiguration {
        // The generation first: what changes after it is read again.
        let generation = storage.generations.generation(of: .bucketSetting)
        if let known = bucketCache.configuration(of: name, generation) { return known }
        let configuration = try await readCatalog { reader in
            let row = try reader.existingBucket(name)
            let prefix = BucketSettingKey.prefix(row.id)
            var settings: [String: [UInt8]] = [:]
            for document in try reader.documents(.bucketSetting, prefix: prefix, limit: .max) {
                settings[BucketSettingKey.name(of: document.key)] = document.body
            }
            return BucketConfiguration(row, settings, generation: generation)
        }
        bucketCache.keep(configuration)
        return configuration
    }

    /// - Returns: nil when the bucket doesn't have the setting.
    package func bucketSetting(bucket: BucketName, name: String) async throws -> [UInt8]? {
        try await bucketConfiguration(bucket).settings[name]
    }

    package func putBucketSetting(bucket: BucketName, name: String, body: [UInt8]) async throws {
        try await setBucketSettings(bucket: bucket, [BucketSetting(name: name, body: body)])
    }

    /// Removes a setting; no error when the bucket doesn't have it.
    package func removeBucketSetting(bucket: BucketName, name: String) async throws {
        try await setBucketSettings(bucket: bucket, [BucketSetting(name: name, body: nil)])
    }

    /// Changes several settings at once.
    package func setBucketSettings(bucket: BucketName, _ settings: [BucketSetting]) async throws {
        _ = try await commit(.setBucketSettings(bucket, settings), operation: nil)
    }
}

/// Configurations of one generation.
final class BucketCache: Sendable {
    private struct State {
        var generation: UInt64 = 0
        var configurations: [BucketName: BucketConfiguration] = [:]
    }

    private static let countMax = 1024
    private let state = Mutex(State())

    func configuration(of name: BucketName, _ generation: UInt64) -> BucketConfiguration? {
        state.withLock { $0.generation == generation ? $0.configurations[name] : nil }
    }

    func keep(_ configuration: BucketConfiguration) {
        state.withLock { state in
            guard configuration.generation >= state.generation else { return }
            if configuration.generation > state.generation || state.configurations.count >= Self.countMax {
                state = State(generation: configuration.generation)
            }
            state.configurations[configuration.bucket.name] = configuration
        }
    }
}
