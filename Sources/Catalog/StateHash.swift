internal import ContentHashing
internal import StoreModel

/// A digest of every live row of the catalog, whatever their order: the wrapping sum of the rows' XXH3-128.
///
/// Incremental: a row that is added adds its hash, one that is removed subtracts it. Every commit batch
/// carries the hash after it, so an index that has drifted from the log is found at the next batch. It finds
/// faults, not malice.
package struct StateHash: Hashable, Sendable, BitwiseCopyable, CustomStringConvertible {
    package private(set) var high: UInt64
    package private(set) var low: UInt64

    /// Of the empty catalog; in a commit batch also "not known".
    package static let zero = StateHash(high: 0, low: 0)

    package init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }

    /// Of one row as the codec encodes it.
    package init(ofRow bytes: [UInt8]) {
        (high, low) = bytes.withUnsafeBytes { BlockChecksum.xxh3Wide($0) }
    }

    package init(of row: VersionRow) { self.init(ofRow: RowCodec.encode(row)) }
    package init(of row: BucketRow) { self.init(ofRow: RowCodec.encode(row)) }
    package init(of row: DocumentRow) { self.init(ofRow: RowCodec.encode(row)) }

    package static func + (left: StateHash, right: StateHash) -> StateHash {
        StateHash(high: left.high &+ right.high, low: left.low &+ right.low)
    }

    package static func - (left: StateHash, right: StateHash) -> StateHash {
        StateHash(high: left.high &- right.high, low: left.low &- right.low)
    }

    package static func += (left: inout StateHash, right: StateHash) { left = left + right }
    package static func -= (left: inout StateHash, right: StateHash) { left = left - right }

    package var description: String {
        Hex.encode(withUnsafeBytes(of: (high.bigEndian, low.bigEndian)) { [UInt8]($0) })
    }
}
