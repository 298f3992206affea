internal import Synchronization

/// A value that is computed when the metrics are asked for.
package struct MetricSample: Sendable {
    package enum Kind: String, Sendable {
        case counter, gauge
    }

    package let name: String
    package let help: String
    package let kind: Kind
    package let labels: [(name: String, value: String)]
    package let value: Double

    package init(
        _ name: String,
        help: String,
        kind: Kind = .gauge,
        labels: [(name: String, value: String)] = [],
        value: Double
    ) {
        self.name = name
        self.help = help
        self.kind = kind
        self.labels = labels
        self.value = value
    }
}

/// All metrics of a process, rendered in the text format of Prometheus.
/// https://prometheus.io/docs/instrumenting/exposition_formats/
package final class MetricsRegistry: Sendable {
    private struct State {
        var counters: [Family<Counter>] = []
        var gauges: [Family<Gauge>] = []
        var histograms: [Family<Histogram>] = []
        var collectors: [@Sendable () async -> [MetricSample]] = []
    }

    private let state = Mutex(State())

    package init() {}

    package func counters(_ name: String, help: String, labels: [String] = []) -> Family<Counter> {
        let family = Family(name: name, help: help, labelNames: labels) { Counter() }
        state.withLock { $0.counters.append(family) }
        return family
    }

    package func gauges(_ name: String, help: String, labels: [String] = []) -> Family<Gauge> {
        let family = Family(name: name, help: help, labelNames: labels) { Gauge() }
        state.withLock { $0.gauges.append(family) }
        return family
    }

    package func histograms(
        _ name: String,
        help: String,
        labels: [String] = [],
        bounds: [UInt64] = Histogram.latencyBounds
    ) -> Family<Histogram> {
        let family = Family(name: name, help: help, labelNames: labels) { Histogram(bounds: bounds) }
        state.withLock { $0.histograms.append(family) }
        return family
    }

    /// Adds values that are computed for each rendering.
    package func collect(_ collector: @escaping @Sendable () async -> [MetricSample]) {
        state.withLock { $0.collectors.append(collector) }
    }

    package func render() async -> String {
        let (counters, gauges, histograms, collectors) = state.withLock {
            ($0.counters, $0.gauges, $0.histograms, $0.collectors)
        }
        var text = ExpositionText()
        for family in counters {
            text.begin(family.name, family.help, "counter")
            for (labels, metric) in family.all {
                text.line(family.name, zip(family.labelNames, labels).map { $0 }, "\(metric.value)")
            }
        }
        for family in gauges {
            text.begin(family.name, family.help, "gauge")
            for (labels, metric) in family.all {
                text.line(family.name, zip(family.labelNames, labels).map { $0 }, "\(metric.value)")
            }
        }
        for family in histograms {
            text.begin(family.name, family.help, "histogram")
            for (labels, metric) in family.all {
                text.histogram(family.name, zip(family.labelNames, labels).map { $0 }, metric)
            }
        }
        var samples: [MetricSample] = []
        for collector in collectors { samples += await collector() }
        var begun: Set<String> = []
        for sample in samples.sorted(by: { $0.name < $1.name }) {
            if begun.insert(sample.name).inserted {
                text.begin(sample.name, sample.help, sample.kind.rawValue)
            }
            text.line(
                sample.name,
                sample.labels.map { ($0.name, $0.value) },
                ExpositionText.number(sample.value)
            )
        }
        return text.lines
    }
}

private struct ExpositionText {
    var lines = ""

    mutating func begin(_ name: String, _ help: String, _ kind: String) {
        lines += "# HELP \(name) \(help)\n# TYPE \(name) \(kind)\n"
    }

    mutating func line(_ name: String, _ labels: [(String, String)], _ value: String) {
        lines += name
        if !labels.isEmpty {
            lines += "{" + labels.map { "\($0.0)=\"\(Self.escaped($0.1))\"" }.joined(separator: ",") + "}"
        }
        lines += " \(value)\n"
    }

    mutating func histogram(_ name: String, _ labels: [(String, String)], _ metric: Histogram) {
        let snapshot = metric.snapshot
        var sum: UInt64 = 0
        for (bound, count) in zip(metric.bounds, snapshot.counts) {
            sum += count
            line("\(name)_bucket", labels + [("le", Self.number(Double(bound) / 1e9))], "\(sum)")
        }
        line("\(name)_bucket", labels + [("le", "+Inf")], "\(snapshot.count)")
        line("\(name)_sum", labels, Self.number(Double(snapshot.totalNanoseconds) / 1e9))
        line("\(name)_count", labels, "\(snapshot.count)")
    }

    static func number(_ value: Double) -> String {
        value.rounded() == value && abs(value) < 1e15 ? "\(Int64(value))" : "\(value)"
    }

    private static func escaped(_ text: String) -> String {
        var result = ""
        for character in text {
            switch character {
            case "\\": result += "\\\\"
            case "\"": result += "\\\""
            case "\n": result += "\\n"
            default: result.append(character)
            }
        }
        return result
    }
}
