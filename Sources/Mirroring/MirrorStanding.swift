package import Catalog
internal import StoreModel

/// How a mirror and a version stand to each other, by what is noted in the catalog.
package enum MirrorStanding: String, Hashable, Sendable {
    /// No rule of the mirror takes it.
    case notTaken
    case waiting
    case givenUp
    /// The backend has it, compared with what was sent.
    case mirrored
    /// The backend keeps the newest version only, and this is an older one.
    case overtaken
}

extension MirrorDirectory {
    package func standing(of version: VersionRow, in mirror: MirrorRow) async throws -> MirrorStanding {
        try await store.read { try MirrorStanding(of: version, in: mirror.id, $0) }
    }
}

extension MirrorStanding {
    package init(of version: VersionRow, in mirror: MirrorID, _ reader: any CatalogReader) throws {
        let sequence = version.id.sequence
        if try reader.document(.outbox, MirrorKey.pending(mirror, sequence)) != nil {
            self = .waiting
        } else if try reader.document(.outbox, MirrorKey.dead(mirror, sequence)) != nil {
            self = .givenUp
        } else if let noted = try reader.document(.outbox, MirrorKey.mirrored(mirror, version.id)),
            !noted.body.isEmpty
        {
            self = .mirrored
        } else {
            self = try Self.unnoted(version, mirror, reader)
        }
    }

    private static func unnoted(_ version: VersionRow, _ mirror: MirrorID, _ reader: any CatalogReader) throws
        -> MirrorStanding
    {
        guard let document = try reader.document(.setting, MirrorKey.route(mirror)),
            let bucket = try reader.bucket(id: version.bucket),
            try MirrorRoute(document).matches(bucket: bucket.name, row: version)
        else { return .notTaken }
        if let state = try reader.document(.outbox, MirrorKey.backfill(mirror)) {
            let backfill = try MirrorBackfill(state)
            let sequence = version.id.sequence
            if sequence > backfill.cursor, sequence < backfill.end { return .waiting }
        }
        let newest = try reader.version(bucket: version.bucket, key: version.key, selector: .newest)
        return newest?.id == version.id ? .mirrored : .overtaken
    }
}
