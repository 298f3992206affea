package import Catalog
package import StoreModel
internal import Synchronization

// For clients that wait until mirrors have what they have put.
extension MirrorService {
    /// Whether mirrors have a version, and whether it is worth waiting where they haven't.
    /// - Parameter isAwaited: a client waits for it now: then the mirrors don't yield to clients. Who only looks waits for
    ///   nothing.
    package func outlook(
        of version: VersionRow,
        in names: [String],
        isAwaited: Bool
    ) async throws -> MirrorOutlook {
        let found = try await directory.store.read { reader in
            try names.map { name -> (name: String, row: MirrorRow?, standing: MirrorStanding) in
                guard
                    let document = try reader.document(
                        .setting,
                        MirrorKey.backendPrefix + Array(name.utf8)
                    )
                else { return (name, nil, .waiting) }
                let row = try MirrorRow(document)
                return (name, row, try MirrorStanding(ofContentOf: version, in: row.id, reader))
            }
        }
        var outlook = MirrorOutlook.there
        for (name, row, standing) in found {
            let one = MirrorOutlook(
                name,
                standing,
                isThere: row != nil,
                isPaused: row?.isPaused ?? false,
                breaker: row.flatMap { worker($0.id)?.state.breaker } ?? .closed,
                heldBy: row.flatMap { worker($0.id)?.held.withLock { $0[TaskWindow.Name(of: version)] } }
            )
            switch one {
            case .there: continue
            case .blocked: return one
            case .waiting:
                if isAwaited, let row { worker(row.id)?.yield.noteAwaited() }
                if outlook == .there { outlook = one }
            }
        }
        return outlook
    }

    /// The first of some mirrors that takes a key with these tags.
    package func taker(
        of key: ObjectKey,
        tags: [NamedValue],
        in bucket: BucketName,
        among names: [String]
    ) async throws -> String? {
        try await directory.store.read { reader in
            try names.first { name in
                let document = try reader.document(.setting, MirrorKey.backendPrefix + Array(name.utf8))
                guard let row = try document.map({ try MirrorRow($0) }),
                    let route = try reader.document(.setting, MirrorKey.route(row.id))
                else { return false }
                return try MirrorRoute(route).matches(bucket: bucket, key: key, tags: tags)
            }
        }
    }
}

extension MirrorStanding {
    /// How a mirror stands to a version or, where that has been overtaken, to the one that took its place: a client whose
    /// bytes were overwritten before they were sent is told when the bytes that count are safe.
    package init(ofContentOf version: VersionRow, in mirror: MirrorID, _ reader: any CatalogReader) throws {
        try self.init(of: version, in: mirror, reader)
        guard self == .overtaken,
            let newest = try reader.version(bucket: version.bucket, key: version.key, selector: .newest),
            newest.id != version.id
        else { return }
        try self.init(of: newest, in: mirror, reader)
    }
}

extension MirrorOutlook {
    /// A breaker that is half-open is about to know: that is waited for.
    /// - Parameter held: an older version of the key that was given up, where the backend keeps versions: newer ones are sent
    ///   after it and not before.
    init(
        _ mirror: String,
        _ standing: MirrorStanding,
        isThere: Bool,
        isPaused: Bool,
        breaker: CircuitBreaker.State,
        heldBy held: VersionID? = nil
    ) {
        guard isThere else {
            self = .blocked(mirror: mirror, reason: "there is no mirror of that name any more")
            return
        }
        switch standing {
        case .notTaken, .mirrored, .overtaken: self = .there
        case .givenUp:
            self = .blocked(
                mirror: mirror,
                reason: "it was given up there; 'holdfast mirror failures \(mirror)' tells why, and "
                    + "'holdfast mirror retry \(mirror)' has it tried again"
            )
        case .waiting where isPaused:
            self = .blocked(mirror: mirror, reason: "the mirror is paused, and gets it when it is resumed")
        case .waiting where breaker == .open:
            self = .blocked(mirror: mirror, reason: "its backend does not work now, and gets it when it does")
        case .waiting:
            guard let held else {
                self = .waiting(mirror: mirror)
                return
            }
            self = .blocked(
                mirror: mirror,
                reason:
                    "the version \(held) of the key was given up there, and newer ones are sent after it, because "
                    + "the backend keeps their order; 'holdfast mirror retry \(mirror)' has it tried again"
            )
        }
    }
}
