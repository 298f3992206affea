/// The fingerprints of payloads that something refers to, of one stretch of all fingerprints: 8 bytes each.
///
/// How many there are is not known before: when the table would grow beyond its bound, the stretch is cut in half and
/// what lies behind it is left to the next pass. Memory is bounded whatever the store holds; a store of more than the
/// bound takes several walks.
struct LiveSet: ~Copyable {
    private var slots: [UInt64]
    private(set) var count = 0
    private let slotCountMax: Int
    let lower: UInt64
    /// The last fingerprint of the stretch.
    private(set) var upper = UInt64.max

    private static let slotCountMin = 1024

    /// - Parameter byteCountMax: of the table.
    init(from lower: UInt64, byteCountMax: Int) {
        self.lower = lower
        slotCountMax = max(Self.slotCountMin, byteCountMax / 8)
        slots = [UInt64](repeating: 0, count: Self.slotCountMin)
    }

    func covers(_ fingerprint: UInt64) -> Bool { fingerprint >= lower && fingerprint <= upper }

    /// Whether it may not be taken away: it is in the set. 0, which marks empty slots, always is.
    func contains(_ fingerprint: UInt64) -> Bool {
        if fingerprint == 0 { return true }
        return slots.withUnsafeBufferPointer { slots in
            var slot = Self.home(fingerprint, slots.count)
            while slots[slot] != 0 {
                if slots[slot] == fingerprint { return true }
                slot = slot + 1 == slots.count ? 0 : slot + 1
            }
            return false
        }
    }

    mutating func insert(_ fingerprint: UInt64) {
        guard fingerprint != 0, covers(fingerprint) else { return }
        if Self.place(fingerprint, in: &slots) { count += 1 }
        if count * 10 >= slots.count * 7 { grow() }
    }

    private mutating func grow() {
        while count * 10 >= slots.count * 7 {
            if slots.count * 2 <= slotCountMax {
                rebuild(slotCount: slots.count * 2)
            } else {
                upper = lower + (upper - lower) / 2
                rebuild(slotCount: slots.count)
            }
        }
    }

    private mutating func rebuild(slotCount: Int) {
        let old = slots
        slots = [UInt64](repeating: 0, count: slotCount)
        count = 0
        for fingerprint in old where fingerprint != 0 && covers(fingerprint) {
            if Self.place(fingerprint, in: &slots) { count += 1 }
        }
    }

    /// - Returns: whether it is new.
    private static func place(_ fingerprint: UInt64, in slots: inout [UInt64]) -> Bool {
        slots.withUnsafeMutableBufferPointer { slots in
            var slot = home(fingerprint, slots.count)
            while slots[slot] != 0 {
                if slots[slot] == fingerprint { return false }
                slot = slot + 1 == slots.count ? 0 : slot + 1
            }
            slots[slot] = fingerprint
            return true
        }
    }

    /// Fingerprints of one stretch agree in their upper bits: all bits are mixed.
    private static func home(_ fingerprint: UInt64, _ slotCount: Int) -> Int {
        let mixed = fingerprint &* 0x9E37_79B9_7F4A_7C15
        return Int((mixed ^ mixed >> 29).multipliedFullWidth(by: UInt64(slotCount)).high)
    }
}
