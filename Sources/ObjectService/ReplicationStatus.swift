package import Catalog
package import StoreModel
internal import Synchronization

/// Whether the mirrors have a version.
/// https://docs.aws.amazon.com/AmazonS3/latest/userguide/replication-status.html
package enum ReplicationStatus: String, Hashable, Sendable {
    case pending = "PENDING"
    case completed = "COMPLETED"
    case failed = "FAILED"
}

/// The rules of all mirrors, as they were at one generation of the settings.
final class MirrorRoutes: Sendable {
    private let known = Mutex<(generation: UInt64, routes: [MirrorRoute])?>(nil)

    func routes(_ generation: UInt64, _ load: () async throws -> [MirrorRoute]) async throws -> [MirrorRoute]
    {
        if let known = known.withLock({ $0 }), known.generation == generation { return known.routes }
        let routes = try await load()
        known.withLock { $0 = (generation, routes) }
        return routes
    }
}

extension ObjectStore {
    /// - Returns: nil when no mirror takes the version.
    package func replicationStatus(of row: VersionRow, in bucket: BucketName) async throws
        -> ReplicationStatus?
    {
        let routes = try await mirrorRoutes.routes(documentGeneration(of: .setting)) {
            try await readCatalog { reader in try MirrorRoute.all(in: reader) }
        }
        let taking = routes.filter { $0.matches(bucket: bucket, row: row) }
        guard !taking.isEmpty else { return nil }
        return try await readCatalog { reader in
            var isPending = false
            for route in taking {
                let sequence = row.id.sequence
                if try reader.document(.outbox, MirrorKey.dead(route.id, sequence)) != nil { return .failed }
                if try reader.document(.outbox, MirrorKey.pending(route.id, sequence)) != nil {
                    isPending = true
                } else if let state = try reader.document(.outbox, MirrorKey.backfill(route.id)) {
                    let backfill = try MirrorBackfill(state)
                    if sequence > backfill.cursor, sequence < backfill.end { isPending = true }
                }
            }
            return isPending ? .pending : .completed
        }
    }
}
