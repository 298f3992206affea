internal import StoreModel

/// Where the payloads of a volume stand, in memory: open addressing with linear probing over 16-byte entries.
///
/// An entry holds the first eight bytes of the digest and the location; a lookup is confirmed by the header that
/// stands there, so equal fingerprints of different digests cost a read and nothing else. One digest may have several
/// entries.
///
/// #### Invariants
/// 1. Capacity is any number, not a power of two, so that a table stays between 68 % and 85 % full as it grows: 16
///    bytes of entry cost at most 23.5 bytes of memory.
/// 2. The index is split in shards that grow one at a time: growing moves 1/64 of the entries, and only that much
///    memory is held twice.
/// 3. Between an entry's home and its slot there is no empty slot. Removal moves later entries back, so there are no
///    markers of removed entries.
struct LocationIndex: ~Copyable {
    private struct Entry {
        var fingerprint: UInt64
        /// 0 in an empty slot: segments are numbered from 1.
        var segment: UInt32
        var unit: UInt32

        static let empty = Entry(fingerprint: 0, segment: 0, unit: 0)
    }

    private static let shardBits = 6
    private static let shardCapacityMin = 8

    private var shards: [[Entry]]
    private var counts: [Int]
    /// Mixed into the slot so that a client who picks digests can't pick a probe sequence.
    private let seed: UInt64
    private(set) var count = 0

    init(seed: UInt64) {
        self.seed = seed
        shards = Array(repeating: [], count: 1 << Self.shardBits)
        counts = Array(repeating: 0, count: 1 << Self.shardBits)
    }

    static func fingerprint(of digest: Digest) -> UInt64 { digest.words.0 }

    /// Bytes that the tables take.
    var byteCount: Int { shards.reduce(0) { $0 + $1.capacity * MemoryLayout<Entry>.stride } }

    /// Makes room for `additional` entries at once, spread evenly.
    mutating func reserve(_ additional: Int) {
        for shard in shards.indices {
            // Digests spread unevenly by about the square root; a shard that is too small still grows by itself.
            let expected = counts[shard] + additional / shards.count
            let wanted = expected + expected / 4 + 8
            if wanted > shards[shard].count { resize(shard, to: wanted) }
        }
    }

    mutating func insert(_ fingerprint: UInt64, _ location: RecordLocation) {
        precondition(location.segment != 0, "Segment numbers start at 1.")
        let hash = mixed(fingerprint)
        let shard = shardIndex(hash)
        if (counts[shard] + 1) * 20 > shards[shard].count * 17 {
            resize(shard, to: max(Self.shardCapacityMin, shards[shard].count * 5 / 4 + 1))
        }
        let entry = Entry(fingerprint: fingerprint, segment: location.segment, unit: location.unit)
        Self.place(entry, hash: hash, in: &shards[shard])
        counts[shard] += 1
        count += 1
    }

    /// The locations under a fingerprint, newest first.
    func locations(of fingerprint: UInt64) -> [RecordLocation] {
        var found: [RecordLocation] = []
        probe(fingerprint) { _, location in found.append(location) }
        if found.count > 1 { found.sort(by: >) }
        return found
    }

    /// The first of `locations`.
    func newestLocation(of fingerprint: UInt64) -> RecordLocation? {
        var newest: RecordLocation?
        probe(fingerprint) { _, location in newest = newest.map { max($0, location) } ?? location }
        return newest
    }

    /// The newest location under a fingerprint; nil when there is none or there are several.
    func onlyLocation(of fingerprint: UInt64) -> RecordLocation? {
        var only: RecordLocation?
        var matches = 0
        probe(fingerprint) { _, location in
            only = location
            matches += 1
        }
        return matches == 1 ? only : nil
    }

    func contains(_ fingerprint: UInt64, _ location: RecordLocation) -> Bool {
        var isThere = false
        probe(fingerprint) { _, other in isThere = isThere || other == location }
        return isThere
    }

    static let shardCount = 1 << shardBits

    /// The entries of one shard that stand in a segment.
    func entries(shard: Int, segment: UInt32) -> [(fingerprint: UInt64, unit: UInt32)] {
        shards[shard].lazy.filter { $0.segment == segment }.map { ($0.fingerprint, $0.unit) }
    }

    /// - Returns: Whether it was there.
    @discardableResult
    mutating func remove(_ fingerprint: UInt64, _ location: RecordLocation) -> Bool {
        let shard = shardIndex(mixed(fingerprint))
        var slot: Int?
        probe(fingerprint) { index, other in if other == location { slot = index } }
        guard var hole = slot else { return false }
        let capacity = shards[shard].count
        var next = hole
        while true {
            next = next + 1 == capacity ? 0 : next + 1
            let entry = shards[shard][next]
            if entry.segment == 0 { break }
            let home = Self.home(mixed(entry.fingerprint), capacity)
            // The entry may move back when its home is not behind the hole on the way to its slot.
            let fromHome = next >= home ? next - home : next + capacity - home
            let fromHole = next >= hole ? next - hole : next + capacity - hole
            if fromHome >= fromHole {
                shards[shard][hole] = entry
                hole = next
            }
        }
        shards[shard][hole] = .empty
        counts[shard] -= 1
        count -= 1
        return true
    }

    private func probe(_ fingerprint: UInt64, _ body: (Int, RecordLocation) -> Void) {
        let hash = mixed(fingerprint)
        let shard = shardIndex(hash)
        shards[shard].withUnsafeBufferPointer { table in
            guard !table.isEmpty else { return }
            var slot = Self.home(hash, table.count)
            while table[slot].segment != 0 {
                if table[slot].fingerprint == fingerprint {
                    body(slot, RecordLocation(segment: table[slot].segment, unit: table[slot].unit))
                }
                slot = slot + 1 == table.count ? 0 : slot + 1
            }
        }
    }

    private mutating func resize(_ shard: Int, to capacity: Int) {
        var table = [Entry](repeating: .empty, count: capacity)
        for entry in shards[shard] where entry.segment != 0 {
            Self.place(entry, hash: mixed(entry.fingerprint), in: &table)
        }
        shards[shard] = table
    }

    private static func place(_ entry: Entry, hash: UInt64, in table: inout [Entry]) {
        table.withUnsafeMutableBufferPointer { table in
            var slot = home(hash, table.count)
            while table[slot].segment != 0 { slot = slot + 1 == table.count ? 0 : slot + 1 }
            table[slot] = entry
        }
    }

    private func shardIndex(_ hash: UInt64) -> Int { Int(hash & (1 << Self.shardBits - 1)) }

    /// The upper bits of the hash, scaled to the capacity.
    private static func home(_ hash: UInt64, _ capacity: Int) -> Int {
        Int(hash.multipliedFullWidth(by: UInt64(capacity)).high)
    }

    private func mixed(_ fingerprint: UInt64) -> UInt64 {
        var bits = fingerprint ^ seed
        bits = (bits ^ bits >> 32) &* 0xD6E8_FEB8_6659_FD93
        bits = (bits ^ bits >> 32) &* 0xD6E8_FEB8_6659_FD93
        return bits ^ bits >> 32
    }
}
