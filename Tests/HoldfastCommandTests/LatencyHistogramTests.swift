import Testing

@testable import holdfast

@Suite("LatencyHistogram")
struct LatencyHistogramTests {
    @Test("Percentiles are within 4 % above the true value, over all magnitudes")
    func percentiles() {
        for scale in [1, 1_000, 1_000_000, 1_000_000_000] as [UInt64] {
            var histogram = LatencyHistogram()
            for value in 1...1000 as ClosedRange<UInt64> { histogram.record(nanoseconds: value * scale) }
            for (share, exact) in [(0.0, 1), (0.5, 500), (0.9, 900), (0.99, 990), (1.0, 1000)]
                as [(Double, UInt64)]
            {
                let value = histogram.nanoseconds(atShare: share)
                #expect(
                    value >= exact * scale && Double(value) <= Double(exact * scale) * 1.04,
                    "\(share) \(scale)"
                )
            }
            #expect(
                histogram.maximum == 1000 * scale && histogram.minimum == scale && histogram.count == 1000
            )
            #expect(abs(histogram.mean / Double(scale) - 500.5) < 0.001)
        }
    }

    @Test("The ends of the range have buckets")
    func extremes() {
        var histogram = LatencyHistogram()
        #expect(histogram.p50 == 0 && histogram.mean == 0)
        for value in [0, 31, 32, 33, 63, 64, 65, UInt64.max - 1, .max] {
            histogram.record(nanoseconds: value)
        }
        #expect(histogram.nanoseconds(atShare: 0) == 0)
        #expect(histogram.nanoseconds(atShare: 1) == .max)
        #expect(histogram.p50 == 63)
    }

    @Test("Merging is the same as recording into one")
    func merge() {
        var (left, right, both) = (LatencyHistogram(), LatencyHistogram(), LatencyHistogram())
        for value in 0..<500 as Range<UInt64> {
            if value % 3 == 0 {
                left.record(nanoseconds: value * value)
            } else {
                right.record(nanoseconds: value * value)
            }
            both.record(nanoseconds: value * value)
        }
        left.merge(right)
        #expect(left == both)
    }

    @Test("Usage grows with work, and the peak can be reset")
    func usage() {
        let (sum, usage) = ProcessUsage.measure { (0..<2_000_000).reduce(0) { $0 ^ $1 &* 31 } }
        #expect(sum != 1 && usage.wallSeconds > 0 && usage.processorSeconds >= 0)
        #expect(ProcessUsage.now().peakResidentBytes > 1 << 20)
    }

    @Test("The floors run in small, and say which directory is not there")
    func floors() throws {
        let floor = try LimitsBenchmark.groupCommitFloor(
            directories: ["/tmp", "/tmp"],
            batchByteCounts: [4096, 100, 8192]
        )
        #expect(floor.roundCount == 3 && floor.byteCount == 12_388 && floor.latency.count == 3)
        let written = try LimitsBenchmark.sequentialWrite(
            directories: ["/tmp"],
            byteCount: 3 << 20
        )
        #expect(written.bytesPerSecond > 0)
        let error = #expect(throws: (any Error).self) {
            try LimitsBenchmark.sequentialWrite(directories: ["/tmp/no-such-directory-here"], byteCount: 1)
        }
        #expect("\(String(describing: error))".contains("/tmp/no-such-directory-here"))
    }
}
