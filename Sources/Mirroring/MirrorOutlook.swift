package import Catalog
internal import StoreModel

// For clients that wait until mirrors have what they have put.
extension MirrorService {
    /// Whether mirrors have a version, and whether it is worth waiting where they haven't.
    package func outlook(of version: VersionRow, in names: [String]) async throws -> MirrorOutlook {
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
                breaker: row.flatMap { worker($0.id)?.state.breaker } ?? .closed
            )
            switch one {
            case .there: continue
            case .blocked: return one
            case .waiting: if outlook == .there { outlook = one }
            }
        }
        return outlook
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
    init(
        _ mirror: String,
        _ standing: MirrorStanding,
        isThere: Bool,
        isPaused: Bool,
        breaker: CircuitBreaker.State
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
                reason: "it was given up; 'holdfast mirror failures' tells why, 'retry' tries again"
            )
        case .waiting where isPaused:
            self = .blocked(mirror: mirror, reason: "the mirror is paused, and gets it when it is resumed")
        case .waiting where breaker == .open:
            self = .blocked(mirror: mirror, reason: "its backend does not work now, and gets it when it does")
        case .waiting: self = .waiting(mirror: mirror)
        }
    }
}
