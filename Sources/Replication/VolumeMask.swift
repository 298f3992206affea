/// A set of volumes, as bits over the replicator's list of volumes.
package struct VolumeMask: Sendable, Hashable, BitwiseCopyable {
    package private(set) var bits: UInt64 = 0

    package init() {}

    static let all = VolumeMask(bits: .max)

    package mutating func insert(_ index: Int) { bits |= 1 << UInt64(index) }
    package mutating func remove(_ index: Int) { bits &= ~(1 << UInt64(index)) }
    package func contains(_ index: Int) -> Bool { bits & (1 << UInt64(index)) != 0 }
    package var count: Int { bits.nonzeroBitCount }
    package var isEmpty: Bool { bits == 0 }
    package func intersection(_ other: VolumeMask) -> VolumeMask { VolumeMask(bits: bits & other.bits) }
    package func union(_ other: VolumeMask) -> VolumeMask { VolumeMask(bits: bits | other.bits) }
    package func subtracting(_ other: VolumeMask) -> VolumeMask { VolumeMask(bits: bits & ~other.bits) }

    init(bits: UInt64) { self.bits = bits }

    static func of(_ indices: some Sequence<Int>) -> VolumeMask {
        var mask = VolumeMask()
        for index in indices { mask.insert(index) }
        return mask
    }

    /// The members, in rising order.
    var indices: [Int] {
        var indices: [Int] = []
        indices.reserveCapacity(count)
        var rest = bits
        while rest != 0 {
            indices.append(rest.trailingZeroBitCount)
            rest &= rest - 1
        }
        return indices
    }
}
