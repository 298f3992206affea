internal import Catalog
internal import S3Protocol
internal import StoreModel

/// Turns a listing of versions (keys in order, of each key the newest first) into what the rules are asked about: a
/// version's age depends on the one before it, and whether a delete marker is alone on the one behind it. Pages may
/// end anywhere.
struct LifecycleHistory {
    private var waiting: ListedVersion?
    /// Of the key of `waiting`: when the next newer version was made, and how many noncurrent ones are newer.
    private var newer: (madeAt: Timestamp, noncurrentCount: Int)?

    init() {}

    /// Takes the next row of the listing.
    /// - Returns: the row before, about which everything is known now.
    mutating func push(_ next: ListedVersion) -> (row: VersionRow, facts: LifecycleVersion)? {
        let isSameKey = waiting?.row.key == next.row.key
        let result = waiting.map { ($0.row, facts(of: $0.row, hasOlder: isSameKey)) }
        if isSameKey, let waiting {
            newer = (waiting.row.createdAt, newer.map { $0.noncurrentCount + 1 } ?? 0)
        } else {
            newer = nil
        }
        waiting = next
        return result
    }

    /// The last row, after the end of the listing.
    mutating func finish() -> (row: VersionRow, facts: LifecycleVersion)? {
        defer { (waiting, newer) = (nil, nil) }
        return waiting.map { ($0.row, facts(of: $0.row, hasOlder: false)) }
    }

    private func facts(of row: VersionRow, hasOlder: Bool) -> LifecycleVersion {
        LifecycleVersion(
            key: ObjectKeyText(bytes: row.key.bytes),
            size: row.size,
            tags: TagSet(stored: row.tags.map { .init(key: $0.name, value: $0.value) }),
            modifiedAt: row.createdAt,
            isDeleteMarker: row.isDeleteMarker,
            noncurrentSince: newer?.madeAt,
            newerNoncurrentCount: newer?.noncurrentCount ?? 0,
            isAlone: newer == nil && !hasOlder
        )
    }
}
