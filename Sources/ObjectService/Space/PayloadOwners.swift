/// Whose the payloads of one stretch of all fingerprints are: 16 bytes each, in bounded memory.
///
/// Rows are numbers. A row is added to without a pause: what belongs to it comes before the next row begins, so that the
/// number of the last one that named a payload is enough to tell whether a row names it for the first time.
///
/// Fingerprints stand for digests: two payloads that agree in eight bytes count as one.
struct PayloadOwners {
    /// What naming a payload changed.
    struct Change {
        /// Nobody had named it.
        var isNew = false
        /// The row had not.
        var isNewToRow = false
        /// The row that had it for itself until now.
        var lostBy: UInt32?
    }

    private static let several = UInt32.max
    private static let outside = UInt32.max
    private static let slotCountMin = 1024

    private var fingerprints: [UInt64]
    private var owners: [UInt32]
    private var lasts: [UInt32]
    private(set) var count = 0
    private let slotCountMax: Int
    let stretch: ClosedRange<UInt64>

    /// - Parameter byteCountMax: of the tables.
    init(_ stretch: ClosedRange<UInt64>, byteCountMax: Int) {
        self.stretch = stretch
        slotCountMax = max(Self.slotCountMin, byteCountMax / 16)
        fingerprints = Array(repeating: 0, count: Self.slotCountMin)
        owners = Array(repeating: Self.several, count: Self.slotCountMin)
        lasts = Array(repeating: 0, count: Self.slotCountMin)
    }

    /// A row names a payload.
    /// - Returns: nil when there is no more room: the stretch is too long.
    mutating func add(_ fingerprint: UInt64, to row: UInt32) -> Change? {
        let fingerprint = max(1, fingerprint)
        guard stretch.contains(fingerprint) else { return Change() }
        if (count + 1) * 10 >= fingerprints.count * 7 {
            guard fingerprints.count * 2 <= slotCountMax else { return nil }
            grow()
        }
        let slot = find(fingerprint)
        guard fingerprints[slot] != 0 else {
            fingerprints[slot] = fingerprint
            owners[slot] = row
            lasts[slot] = row
            count += 1
            return Change(isNew: true, isNewToRow: true)
        }
        guard lasts[slot] != row else { return Change() }
        lasts[slot] = row
        return Change(isNewToRow: true, lostBy: release(slot))
    }

    /// Somebody who is no row names a payload.
    /// - Returns: nil when no row has it, or it is known already.
    mutating func addOutside(_ fingerprint: UInt64) -> Change? {
        let fingerprint = max(1, fingerprint)
        guard stretch.contains(fingerprint) else { return nil }
        let slot = find(fingerprint)
        guard fingerprints[slot] != 0, lasts[slot] != Self.outside else { return nil }
        lasts[slot] = Self.outside
        return Change(lostBy: release(slot))
    }

    private mutating func release(_ slot: Int) -> UInt32? {
        guard owners[slot] != Self.several else { return nil }
        defer { owners[slot] = Self.several }
        return owners[slot]
    }

    private mutating func grow() {
        let old = (fingerprints, owners, lasts)
        let slotCount = fingerprints.count * 2
        fingerprints = Array(repeating: 0, count: slotCount)
        owners = Array(repeating: Self.several, count: slotCount)
        lasts = Array(repeating: 0, count: slotCount)
        for index in old.0.indices where old.0[index] != 0 {
            let slot = find(old.0[index])
            fingerprints[slot] = old.0[index]
            owners[slot] = old.1[index]
            lasts[slot] = old.2[index]
        }
    }

    /// Where a fingerprint stands, or would.
    private func find(_ fingerprint: UInt64) -> Int {
        fingerprints.withUnsafeBufferPointer { slots in
            let mixed = fingerprint &* 0x9E37_79B9_7F4A_7C15
            var slot = Int((mixed ^ mixed >> 29).multipliedFullWidth(by: UInt64(slots.count)).high)
            while slots[slot] != 0, slots[slot] != fingerprint {
                slot = slot + 1 == slots.count ? 0 : slot + 1
            }
            return slot
        }
    }
}
