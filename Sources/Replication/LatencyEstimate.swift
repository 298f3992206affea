/// A replica's recent read latencies: the mean that chooses the replica, the tail that decides when to hedge.
package struct LatencyEstimate: Sendable {
    private static let sampleCount = 64

    /// Exponentially weighted mean, in nanoseconds; nil before the first sample.
    package private(set) var mean: Double?
    private var samples: [UInt64] = []
    private var next = 0

    package init() {}

    package mutating func record(_ duration: Duration) {
        let (seconds, attoseconds) = duration.components
        let nanoseconds =
            UInt64(clamping: seconds) &* 1_000_000_000 &+ UInt64(clamping: attoseconds / 1_000_000_000)
        mean = (mean ?? Double(nanoseconds)) * 0.9 + Double(nanoseconds) * 0.1
        if samples.count < Self.sampleCount {
            samples.append(nanoseconds)
        } else {
            samples[next] = nanoseconds
            next = (next + 1) % Self.sampleCount
        }
    }

    /// The slowest of the recent reads; nil with too few of them to say.
    package var recentTail: Duration? {
        guard samples.count >= 16, let slowest = samples.max() else { return nil }
        return .nanoseconds(Int64(clamping: slowest))
    }

    /// What nine of ten recent reads don't exceed; with few of them the mean, for one slow read may be all there is: who is
    /// slow is asked last.
    package var usual: Duration? {
        if samples.count >= 16 { return percentile(90) }
        return mean.map { .nanoseconds(Int64($0)) }
    }

    /// The latency that so many of a hundred recent samples don't exceed; nil without samples.
    package func percentile(_ percent: Int) -> Duration? {
        guard !samples.isEmpty else { return nil }
        let sorted = samples.sorted()
        let rank = min(sorted.count - 1, sorted.count * percent / 100)
        return .nanoseconds(Int64(clamping: sorted[rank]))
    }
}
