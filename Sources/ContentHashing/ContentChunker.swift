internal import StoreModel

/// Finds the places where a stream of bytes is cut into chunks, by the bytes alone: an insertion moves the cuts
/// around it and leaves the others, so that versions of an object share most of their chunks.
///
/// A rolling "gear" hash (Xia et al., "FastCDC", USENIX ATC 2016) sees the last 64 bytes: every byte shifts the hash
/// left by one bit and adds a constant of its value, so after 64 bytes nothing older is left. A chunk may end where
/// the hash is below a threshold. Cut points are normalised: up to the normal size the threshold is a quarter of
/// what would give the target size, past it four times as much, so that most sizes lie near the target.
///
/// 1. Where a chunk ends depends on its own bytes and on nothing else: not on the sizes of the pieces in which they
///    arrive, not on the processor.
/// 2. No chunk but the last is smaller than the minimum; none is larger than the maximum.
/// 3. Table, thresholds and sizes are frozen for a version number. Another rule is another version: it is never
///    wrong, but nothing that was stored before is found again, and all of it is stored once more.
package struct ContentChunker: Sendable {
    /// The rule in force.
    package static let version = 1

    /// The sizes that make a rule; anything but `standard` is for tests.
    package struct Sizes: Hashable, Sendable {
        package let min: Int
        package let target: Int
        package let max: Int

        package static let standard = Sizes(
            min: Limits.chunkSizeMin,
            target: Limits.chunkSizeTarget,
            max: Limits.chunkSizeMax
        )

        package init(min: Int, target: Int, max: Int) {
            precondition(min >= gearWindow, "A chunk is at least as long as the window of the hash.")
            precondition(
                min < target / 16 * 13 && target < max,
                "Chunk sizes ascend: minimum, target, maximum."
            )
            self.min = min
            self.target = target
            self.max = max
        }
    }

    private let sizes: Sizes
    /// Where the threshold changes. With a threshold of target/4 past it, a mean of about the target comes out.
    private let sizeNormal: Int
    private let thresholdBelowNormal: UInt64
    private let thresholdAboveNormal: UInt64
    /// Bytes of the current chunk that went by.
    private var length = 0
    private var hash: UInt64 = 0

    package init(_ sizes: Sizes = .standard) {
        self.sizes = sizes
        sizeNormal = sizes.target / 16 * 13
        thresholdBelowNormal = UInt64.max / (4 * UInt64(sizes.target))
        thresholdAboveNormal = UInt64.max / (UInt64(sizes.target) / 4)
    }

    /// Takes in the next bytes of the stream up to the end of the current chunk.
    /// - Returns: how many of `bytes` belong to the chunk that ends here, the rest is to be passed in again; or nil
    ///   when all of them belong to the current chunk and it goes on.
    package mutating func endOfChunk(in bytes: UnsafeRawBufferPointer) -> Int? {
        var offset = 0
        // A cut is looked for behind a byte, so the first byte that may end a chunk has the index min - 1.
        let windowStart = sizes.min - gearWindow
        while offset < bytes.count {
            let rest = bytes.count - offset
            if length < windowStart {
                advance(&offset, by: min(windowStart - length, rest))
            } else if length < sizes.min - 1 {
                let count = min(sizes.min - 1 - length, rest)
                gear(UnsafeRawBufferPointer(rebasing: bytes[offset..<offset + count]), hash: &hash)
                advance(&offset, by: count)
            } else if length == sizes.max - 1 {
                startNextChunk()
                return offset + 1
            } else {
                let belowNormal = length < sizeNormal - 1
                let count = min((belowNormal ? sizeNormal : sizes.max) - 1 - length, rest)
                let window = UnsafeRawBufferPointer(rebasing: bytes[offset..<offset + count])
                let threshold = belowNormal ? thresholdBelowNormal : thresholdAboveNormal
                if let end = gearFind(below: threshold, in: window, hash: &hash) {
                    startNextChunk()
                    return offset + end
                }
                advance(&offset, by: count)
            }
        }
        return nil
    }

    private mutating func advance(_ offset: inout Int, by count: Int) {
        offset += count
        length += count
    }

    private mutating func startNextChunk() {
        length = 0
        hash = 0
    }

    /// The constants of the 256 byte values, for the test that freezes them.
    package static var gearConstants: [UInt64] { gearTable }
}

/// Bytes that the hash depends on: one for every bit.
private let gearWindow = UInt64.bitWidth

/// Constants of the byte values, version 1: the first 256 outputs of SplitMix64 (Steele, Lea, Flood 2014) from the
/// seed 0x486F6C6466617374, the ASCII bytes of "Holdfast".
private let gearTable: [UInt64] = {
    var state: UInt64 = 0x486F_6C64_6661_7374
    return (0..<256).map { _ in
        state &+= 0x9E37_79B9_7F4A_7C15
        var bits = state
        bits = (bits ^ bits >> 30) &* 0xBF58_476D_1CE4_E5B9
        bits = (bits ^ bits >> 27) &* 0x94D0_49BB_1331_11EB
        return bits ^ bits >> 31
    }
}()

/// Rolls the hash over `bytes` without looking for a cut.
private func gear(_ bytes: UnsafeRawBufferPointer, hash: inout UInt64) {
    for byte in bytes { hash = hash << 1 &+ gearTable[Int(byte)] }
}

/// Rolls the hash over `bytes` until it is below the threshold.
/// - Returns: the number of bytes up to and with the one behind which it is, or nil.
private func gearFind(below threshold: UInt64, in bytes: UnsafeRawBufferPointer, hash: inout UInt64) -> Int? {
    guard let base = bytes.baseAddress else { return nil }
    let count = bytes.count
    return gearTable.withUnsafeBufferPointer { table in
        // The pointer is not nil: the table has 256 entries, and a byte never indexes past them.
        guard let table = table.baseAddress else { return nil }
        var offset = 0
        while count - offset >= gearLaneCount * gearLaneSizeMin {
            let laneSize = min((count - offset) / gearLaneCount, gearLaneSizeMax)
            guard let next = gearLanes(base + offset, laneSize, table, threshold, hash) else {
                // One of the lanes has a hit: the first one is in this block, found again in order.
                break
            }
            hash = next
            offset += gearLaneCount * laneSize
        }
        var current = hash
        while offset < count {
            current = current << 1 &+ table[Int(base.load(fromByteOffset: offset, as: UInt8.self))]
            offset += 1
            if current < threshold {
                hash = current
                return offset
            }
        }
        hash = current
        return nil
    }
}

/// One hash waits for itself: each step needs the one before. Four lanes, each a quarter of a block, fill the
/// processor; the hash at the start of a lane follows from the 64 bytes in front of it.
private let gearLaneCount = 4
/// Shorter lanes would spend much of their time on those 64 bytes.
private let gearLaneSizeMin = 512
/// Longer lanes would make the second look at a block with a hit long.
private let gearLaneSizeMax = 4096

/// Rolls over a block of four lanes of `laneSize` (at least 64) bytes from `block` on.
/// - Returns: the hash behind the block, or nil when some hash in it is below the threshold.
@inline(__always)
private func gearLanes(
    _ block: UnsafeRawPointer,
    _ laneSize: Int,
    _ table: UnsafePointer<UInt64>,
    _ threshold: UInt64,
    _ hash: UInt64
) -> UInt64? {
    let bytes = block.assumingMemoryBound(to: UInt8.self)
    let (lane1, lane2, lane3) = (bytes + laneSize, bytes + 2 * laneSize, bytes + 3 * laneSize)
    var (hash0, hash1, hash2, hash3): (UInt64, UInt64, UInt64, UInt64) = (hash, 0, 0, 0)
    for index in -gearWindow..<0 {
        hash1 = hash1 << 1 &+ table[Int(lane1[index])]
        hash2 = hash2 << 1 &+ table[Int(lane2[index])]
        hash3 = hash3 << 1 &+ table[Int(lane3[index])]
    }
    var index = 0
    while index < laneSize {
        hash0 = hash0 << 1 &+ table[Int(bytes[index])]
        hash1 = hash1 << 1 &+ table[Int(lane1[index])]
        hash2 = hash2 << 1 &+ table[Int(lane2[index])]
        hash3 = hash3 << 1 &+ table[Int(lane3[index])]
        if hash0 < threshold || hash1 < threshold || hash2 < threshold || hash3 < threshold { return nil }
        index &+= 1
    }
    return hash3
}
