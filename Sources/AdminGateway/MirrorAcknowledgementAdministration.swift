internal import Catalog
internal import Mirroring
internal import ObjectService
internal import StoreModel

/// What an administrator can say about the mirrors that a bucket's writes wait for.
package protocol MirrorAcknowledgementAdministration: Sendable {
    func mirrorAcknowledgement(bucket: String) async throws -> MirrorAcknowledgementDocument
    func setMirrorAcknowledgement(bucket: String, _ rules: MirrorAcknowledgementRules) async throws
        -> MirrorAcknowledgementDocument
    func removeMirrorAcknowledgement(bucket: String) async throws -> MirrorAcknowledgementDocument
}

package struct MirrorAcknowledgementRules: Codable, Hashable, Sendable {
    /// Names; all of them have to have what their rules take.
    package var mirrors: [String]
    /// How long a client waits at most; absent: 30.
    package var timeoutSeconds: Double?

    package init(mirrors: [String], timeoutSeconds: Double?) {
        self.mirrors = mirrors
        self.timeoutSeconds = timeoutSeconds
    }
}

package struct MirrorAcknowledgementDocument: Codable, Hashable, Sendable {
    package var bucket: String
    /// Absent: writes are acknowledged when the store has them.
    package var rules: MirrorAcknowledgementRules?

    package init(bucket: String, rules: MirrorAcknowledgementRules?) {
        self.bucket = bucket
        self.rules = rules
    }
}

extension StoreAdministration {
    package func mirrorAcknowledgement(bucket: String) async throws -> MirrorAcknowledgementDocument {
        let policy = try await objects.mirrorAcknowledgement(of: try BucketName(bucket))
        return MirrorAcknowledgementDocument(
            bucket: bucket,
            rules: policy.map {
                MirrorAcknowledgementRules(mirrors: $0.mirrors, timeoutSeconds: $0.timeout / .seconds(1))
            }
        )
    }

    package func setMirrorAcknowledgement(
        bucket: String,
        _ rules: MirrorAcknowledgementRules
    ) async throws -> MirrorAcknowledgementDocument {
        let seconds = rules.timeoutSeconds ?? MirrorAcknowledgement.timeoutDefault / .seconds(1)
        let policy = try MirrorAcknowledgement(
            mirrors: rules.mirrors,
            // What is no number of seconds is beyond the bounds, too.
            timeout: (0...86_400).contains(seconds) ? .milliseconds(Int64(seconds * 1000)) : .zero
        )
        let directory = try service().directory
        for name in policy.mirrors { _ = try await directory.mirror(try MirrorName(name)) }
        try await objects.setMirrorAcknowledgement(policy, of: try BucketName(bucket))
        return try await mirrorAcknowledgement(bucket: bucket)
    }

    package func removeMirrorAcknowledgement(bucket: String) async throws -> MirrorAcknowledgementDocument {
        try await objects.setMirrorAcknowledgement(nil, of: try BucketName(bucket))
        return try await mirrorAcknowledgement(bucket: bucket)
    }
}

extension AdminResponder {
    func performMirrorAcknowledgement(
        _ endpoint: AdminEndpoint,
        _ bucket: String,
        _ bytes: [UInt8]
    ) async throws -> [UInt8] {
        switch endpoint {
        case .setMirrorAcknowledgement:
            guard let rules = try? AdminJSON.decode(MirrorAcknowledgementRules.self, from: bytes) else {
                throw AdminRefusal(
                    400,
                    "invalidArgument",
                    "The body has mirrors (texts) and timeoutSeconds (a number)."
                )
            }
            return try AdminJSON.encode(
                await administration.setMirrorAcknowledgement(bucket: bucket, rules)
            )
        case .removeMirrorAcknowledgement:
            return try AdminJSON.encode(await administration.removeMirrorAcknowledgement(bucket: bucket))
        default: return try AdminJSON.encode(await administration.mirrorAcknowledgement(bucket: bucket))
        }
    }
}
