import Glibc
import Logging
import Observability
import Testing

@Suite struct MetricsTests {
    @Test func metricsAreRenderedAsPrometheusReadsThem() async {
        let registry = MetricsRegistry()
        let requests = registry.counters("requests_total", help: "Requests.", labels: ["api", "code"])
        requests["GetObject", "200"].add()
        requests["GetObject", "200"].add()
        requests["Put\"\\\n", "500"].add(7)
        registry.gauges("in_flight", help: "Now.")[].add(3)
        let times = registry.histograms("seconds", help: "Time.", bounds: [1_000_000, 1_000_000_000])
        times[].record(nanoseconds: 1_000_000)
        times[].record(nanoseconds: 1_000_001)
        times[].record(nanoseconds: 2_000_000_000)
        registry.collect {
            [MetricSample("free_bytes", help: "Free.", labels: [("volume", "a")], value: 1.5)]
        }
        let text = await registry.render()
        #expect(
            text == """
                # HELP requests_total Requests.
                # TYPE requests_total counter
                requests_total{api="GetObject",code="200"} 2
                requests_total{api="Put\\"\\\\\\n",code="500"} 7
                # HELP in_flight Now.
                # TYPE in_flight gauge
                in_flight 3
                # HELP seconds Time.
                # TYPE seconds histogram
                seconds_bucket{le="0.001"} 1
                seconds_bucket{le="1"} 2
                seconds_bucket{le="+Inf"} 3
                seconds_sum 2.002000001
                seconds_count 3
                # HELP free_bytes Free.
                # TYPE free_bytes gauge
                free_bytes{volume="a"} 1.5

                """
        )
    }

    @Test func labelsDoNotGrowWithoutBound() async {
        let registry = MetricsRegistry()
        let family = registry.counters("c", help: "C.", labels: ["key"])
        for index in 0..<5000 { family["\(index)"].add() }
        let lines = await registry.render().split(separator: "\n")
        #expect(lines.count < 2100)
        #expect(lines.contains { $0.hasPrefix("c{key=\"other\"} ") })
    }

    @Test func requestIDsAreSixteenDigitsAndDiffer() {
        let ids = RequestIDs(startingAt: .max)
        let made = (0..<10_000).map { _ in ids.make() }
        #expect(Set(made).count == made.count)
        #expect(made.allSatisfy { $0.utf8.count == 16 && $0.allSatisfy { "0123456789ABCDEF".contains($0) } })
    }

    @Test func aLogMessageIsOneLineOfJSON() throws {
        var ends: [Int32] = [0, 0]
        #expect(pipe(&ends) == 0)
        defer {
            close(ends[0])
            close(ends[1])
        }
        let sink = LineSink(descriptor: ends[1])
        var logger = Logger(label: "part") { label in
            JSONLogHandler(label: label, sink: sink) { "then" }
        }
        logger[metadataKey: "requestId"] = "1A"
        logger.debug("Not seen.")
        logger.error("It\n\"failed\".", metadata: ["key": "a\u{1}"])
        var bytes = [UInt8](repeating: 0, count: 1000)
        let count = read(ends[0], &bytes, bytes.count)
        #expect(
            String(decoding: bytes[..<count], as: UTF8.self)
                == #"{"time":"then","level":"error","part":"part","message":"It\n\"failed\".","key":"a\u0001","#
                + #""requestId":"1A"}"# + "\n"
        )
    }
}
