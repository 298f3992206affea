internal import Catalog
internal import StoreModel
internal import Synchronization

/// The newest versions of keys that were read of late: a read of a popular object asks no index and no thread.
///
/// A reader must see everything that was answered before it began, so:
/// 1. *Forgotten in time.* A commit makes its keys forgotten after the committed sequence has passed it, and before it
///    is answered or applied to the index: nobody has seen the new version until then, and from then on nobody gets the
///    old one.
/// 2. *Not put back.* A reader who finds nothing takes a ticket, then waits until the index has everything that is
///    committed, then reads. What it read is kept only if no commit has touched a key of the ticket's slot meanwhile. A
///    commit that came before the ticket is in what was read, since the committed sequence had passed it.
/// 3. *Bounded.* Two generations of half of `Limits.newestVersionByteCountMax`; what was not read for one to two
///    generations is gone.
final class NewestVersions: Sendable {
    /// What the index said of a key.
    struct Found: Sendable {
        let bucket: BucketRow?
        /// May be a delete marker.
        let version: VersionRow?
    }

    /// When a look at the index began.
    struct Ticket: Sendable {
        fileprivate let place: Place
        fileprivate let touchCount: UInt64
        fileprivate let bucketChangeCount: UInt64
    }

    fileprivate struct Place: Sendable {
        let shard: Int
        let slot: Int

        init(of key: ObjectKey) {
            // Two bytes of a seeded hash: whoever picks keys can't pick their places.
            let hash = UInt(bitPattern: key.hashValue)
            shard = Int(hash % UInt(NewestVersions.shardCount))
            slot = Int(hash / UInt(NewestVersions.shardCount) % UInt(Shard.slotCount))
        }
    }

    private struct Name: Hashable {
        let bucket: BucketID
        let key: ObjectKey
    }

    private final class Shard: Sendable {
        static let slotCount = 64

        struct State {
            var young: [Name: VersionRow] = [:]
            var old: [Name: VersionRow] = [:]
            var youngByteCount = 0
            /// How often a commit has touched a key of each slot.
            var touchCounts = [UInt64](repeating: 0, count: Shard.slotCount)

            mutating func insert(_ row: VersionRow, _ name: Name, byteCountMax: Int) {
                let byteCount = NewestVersions.byteCount(of: row)
                guard byteCount <= byteCountMax else { return }
                if youngByteCount + byteCount > byteCountMax {
                    old = young
                    young = [:]
                    youngByteCount = 0
                }
                if young.updateValue(row, forKey: name) == nil { youngByteCount += byteCount }
            }
        }

        let state = Mutex(State())
    }

    private struct Buckets {
        var rows: [BucketName: BucketRow] = [:]
        var changeCount: UInt64 = 0
    }

    fileprivate static let shardCount = 16
    private static let bucketCountMax = 1024

    private let shards = (0..<shardCount).map { _ in Shard() }
    private let buckets = Mutex(Buckets())
    private let byteCountMax: Int

    init(byteCountMax: Int = Limits.newestVersionByteCountMax) {
        self.byteCountMax = byteCountMax / (2 * Self.shardCount)
    }

    /// What is known of a key without asking the index.
    func find(_ key: ObjectKey, in bucket: BucketName) -> Found? {
        guard let row = buckets.withLock({ $0.rows[bucket] }) else { return nil }
        let name = Name(bucket: row.id, key: key)
        let version = shards[Place(of: key).shard].state.withLock { state -> VersionRow? in
            if let row = state.young[name] { return row }
            guard let row = state.old.removeValue(forKey: name) else { return nil }
            state.insert(row, name, byteCountMax: byteCountMax)
            return row
        }
        return version.map { Found(bucket: row, version: $0) }
    }

    /// To be taken before the look at the index.
    func ticket(for key: ObjectKey) -> Ticket {
        let place = Place(of: key)
        return Ticket(
            place: place,
            touchCount: shards[place.shard].state.withLock { $0.touchCounts[place.slot] },
            bucketChangeCount: buckets.withLock { $0.changeCount }
        )
    }

    /// Keeps what the index said, unless that may be old by now.
    func keep(_ found: Found, _ ticket: Ticket) {
        guard let bucket = found.bucket, let version = found.version else { return }
        buckets.withLock { buckets in
            guard buckets.changeCount == ticket.bucketChangeCount else { return }
            if buckets.rows.count >= Self.bucketCountMax { buckets.rows = [:] }
            buckets.rows[bucket.name] = bucket
        }
        shards[ticket.place.shard].state.withLock { state in
            guard state.touchCounts[ticket.place.slot] == ticket.touchCount else { return }
            state.insert(
                version,
                Name(bucket: version.bucket, key: version.key),
                byteCountMax: byteCountMax
            )
        }
    }

    /// A batch is committed: what it touches is forgotten.
    func forget(_ entries: [CatalogEntry]) {
        for entry in entries {
            for mutation in entry.mutations {
                switch mutation {
                case .putVersion(let row): forget(row.key, in: row.bucket)
                case .removeVersion(let bucket, let key, _): forget(key, in: bucket)
                case .putBucket, .removeBucket:
                    buckets.withLock { buckets in
                        buckets.rows = [:]
                        buckets.changeCount += 1
                    }
                default: continue
                }
            }
        }
    }

    private func forget(_ key: ObjectKey, in bucket: BucketID) {
        let place = Place(of: key)
        let name = Name(bucket: bucket, key: key)
        shards[place.shard].state.withLock { state in
            state.touchCounts[place.slot] += 1
            if let row = state.young.removeValue(forKey: name) {
                state.youngByteCount -= Self.byteCount(of: row)
            }
            state.old[name] = nil
        }
    }

    /// About what a row takes in memory.
    fileprivate static func byteCount(of row: VersionRow) -> Int {
        var total = 1024 + 2 * row.key.bytes.count + row.content.etag.utf8.count
        for pair in row.otherHeaders + row.userMetadata + row.tags + row.checksums.others {
            total += 64 + pair.name.utf8.count + pair.value.utf8.count
        }
        if case .inline(let chunks) = row.manifest { total += 40 * chunks.count }
        return total + (row.contentType?.utf8.count ?? 0)
    }
}
