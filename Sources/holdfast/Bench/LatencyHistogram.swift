/// Durations, counted in buckets whose width grows with the value: about 3 % of it, from nanoseconds to
/// centuries, in a fixed 15 KiB.
///
/// Values up to 63 have a bucket each. Above, every power of two is cut into 32 equal buckets.
struct LatencyHistogram: Sendable, Equatable {
    private static let subBucketBits = 5
    private static let bucketCount = (64 - subBucketBits + 1) << subBucketBits

    private var counts = [UInt64](repeating: 0, count: bucketCount)
    private(set) var count: UInt64 = 0
    private(set) var minimum: UInt64 = .max
    private(set) var maximum: UInt64 = 0
    private var sum: Double = 0

    /// Mean in nanoseconds; 0 when empty.
    var mean: Double { count == 0 ? 0 : sum / Double(count) }

    mutating func record(nanoseconds value: UInt64) {
        counts[Self.bucket(of: value)] += 1
        count += 1
        sum += Double(value)
        minimum = min(minimum, value)
        maximum = max(maximum, value)
    }

    mutating func merge(_ other: LatencyHistogram) {
        for index in counts.indices { counts[index] += other.counts[index] }
        count += other.count
        sum += other.sum
        minimum = min(minimum, other.minimum)
        maximum = max(maximum, other.maximum)
    }

    /// The smallest recorded value, to the width of a bucket and never too low, that this share of the
    /// values does not exceed; 0 when empty.
    /// - Parameter share: From 0 to 1: 0.99 is p99.
    func nanoseconds(atShare share: Double) -> UInt64 {
        precondition((0...1).contains(share), "A share is from 0 to 1.")
        guard count > 0 else { return 0 }
        let rank = max(1, min(count, UInt64((share * Double(count)).rounded(.up))))
        var seen: UInt64 = 0
        for (index, bucketCount) in counts.enumerated() {
            seen += bucketCount
            if seen >= rank { return min(maximum, max(minimum, Self.highestValue(inBucket: index))) }
        }
        return maximum
    }

    var p50: UInt64 { nanoseconds(atShare: 0.5) }
    var p90: UInt64 { nanoseconds(atShare: 0.9) }
    var p99: UInt64 { nanoseconds(atShare: 0.99) }

    private static func bucket(of value: UInt64) -> Int {
        let magnitude = UInt64.bitWidth - 1 - value.leadingZeroBitCount
        guard magnitude > subBucketBits else { return Int(value) }
        let shift = magnitude - subBucketBits
        return shift << subBucketBits + Int(value >> UInt64(shift))
    }

    private static func highestValue(inBucket index: Int) -> UInt64 {
        guard index >= 2 << subBucketBits else { return UInt64(index) }
        let shift = index >> subBucketBits - 1
        let mantissa = UInt64(index - shift << subBucketBits)
        return mantissa << UInt64(shift) | (1 << UInt64(shift) - 1)
    }
}
