internal import Catalog
internal import ObjectService
internal import S3Protocol
internal import StoreModel

/// What an administrator can ask about which noncurrent versions a bucket keeps.
package protocol RetentionAdministration: Sendable {
    func retention(bucket: String) async throws -> RetentionDocument
    func setRetention(bucket: String, _ rules: RetentionRules) async throws -> RetentionDocument
    func removeRetention(bucket: String) async throws -> RetentionDocument
    func applyRetention(bucket: String, dryRun: Bool) async throws -> RetentionRunDocument
}

package struct RetentionRules: Codable, Hashable, Sendable {
    package var keepLast: Int?
    package var keepYoungerThanSeconds: Int?
    /// "name" or "name=value".
    package var keepTagged: [String]?

    package init(keepLast: Int?, keepYoungerThanSeconds: Int?, keepTagged: [String]?) {
        self.keepLast = keepLast
        self.keepYoungerThanSeconds = keepYoungerThanSeconds
        self.keepTagged = keepTagged
    }
}

package struct RetentionDocument: Codable, Hashable, Sendable {
    package var bucket: String
    /// Absent: the bucket keeps every version.
    package var rules: RetentionRules?
}

package struct RetentionRunDocument: Codable, Hashable, Sendable {
    package struct Version: Codable, Hashable, Sendable {
        package var key: String
        package var versionID: String
        package var kept: Bool
        package var reason: String
        package var bytes: UInt64
    }

    package var bucket: String
    package var dryRun: Bool
    package var examined: UInt64
    package var kept: UInt64
    package var dropped: UInt64
    package var droppedBytes: UInt64
    /// Not dropped after all: changed meanwhile, or locked.
    package var refused: UInt64
    /// The first ones: `explanationsMax` at most.
    package var versions: [Version]

    package static let explanationsMax = 10_000
}

extension StoreAdministration {
    package func retention(bucket: String) async throws -> RetentionDocument {
        let policy = try await objects.retentionPolicy(of: try BucketName(bucket))
        return RetentionDocument(bucket: bucket, rules: policy.map(RetentionRules.init))
    }

    package func setRetention(bucket: String, _ rules: RetentionRules) async throws -> RetentionDocument {
        try await objects.setRetentionPolicy(try rules.policy(), of: try BucketName(bucket))
        return try await retention(bucket: bucket)
    }

    package func removeRetention(bucket: String) async throws -> RetentionDocument {
        try await objects.setRetentionPolicy(nil, of: try BucketName(bucket))
        return try await retention(bucket: bucket)
    }

    package func applyRetention(bucket: String, dryRun: Bool) async throws -> RetentionRunDocument {
        let name = try BucketName(bucket)
        guard let policy = try await objects.retentionPolicy(of: name) else {
            throw StoreError(
                .noSuchSetting,
                "The bucket \(quoted(bucket)) has no retention policy: it keeps every version.",
                advice: "holdfast retention set \(bucket) --keep-last 3"
            )
        }
        var versions: [RetentionRunDocument.Version] = []
        let outcome = try await objects.applyRetention(policy, to: name, isDryRun: dryRun) { decision in
            guard versions.count < RetentionRunDocument.explanationsMax else { return }
            versions.append(
                RetentionRunDocument.Version(
                    key: String(decoding: decision.version.key.bytes, as: UTF8.self),
                    versionID: decision.version.isNull ? "null" : decision.version.id.description,
                    kept: decision.isKept,
                    reason: decision.reason,
                    bytes: decision.version.size
                )
            )
        }
        return RetentionRunDocument(
            bucket: bucket,
            dryRun: dryRun,
            examined: outcome.examinedCount,
            kept: outcome.keptCount,
            dropped: outcome.droppedCount,
            droppedBytes: outcome.droppedBytes,
            refused: outcome.refusedCount,
            versions: versions
        )
    }
}

extension RetentionRules {
    fileprivate init(_ policy: RetentionPolicy) {
        self.init(
            keepLast: policy.keepLast,
            keepYoungerThanSeconds: policy.keepYoungerThan.map { Int($0.components.seconds) },
            keepTagged: policy.keepTagged.isEmpty
                ? nil : policy.keepTagged.map { tag in tag.name + (tag.value.map { "=" + $0 } ?? "") }
        )
    }

    fileprivate func policy() throws(StoreError) -> RetentionPolicy {
        try RetentionPolicy(
            keepLast: keepLast,
            keepYoungerThan: keepYoungerThanSeconds.map { .seconds($0) },
            keepTagged: (keepTagged ?? []).map { text in
                let parts = text.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
                return .init(String(parts[0]), parts.count > 1 ? String(parts[1]) : nil)
            }
        )
    }
}

extension AdminResponder {
    func performRetention(
        _ endpoint: AdminEndpoint,
        _ bucket: String,
        _ bytes: [UInt8],
        _ administration: any RetentionAdministration
    ) async throws -> [UInt8] {
        switch endpoint {
        case .setRetention:
            guard let rules = try? AdminJSON.decode(RetentionRules.self, from: bytes) else {
                throw AdminRefusal(
                    400,
                    "invalidArgument",
                    "The body has keepLast and keepYoungerThanSeconds (numbers) and keepTagged (texts)."
                )
            }
            return try AdminJSON.encode(await administration.setRetention(bucket: bucket, rules))
        case .removeRetention:
            return try AdminJSON.encode(await administration.removeRetention(bucket: bucket))
        case .applyRetention:
            let body = try AdminRequestBody(bytes, allowed: ["dryRun"])
            let isDryRun = try body.flag("dryRun")
            return try AdminJSON.encode(await administration.applyRetention(bucket: bucket, dryRun: isDryRun))
        default: return try AdminJSON.encode(await administration.retention(bucket: bucket))
        }
    }
}
