internal import Synchronization

/// A number that only grows.
package final class Counter: Sendable {
    private let count = Atomic<UInt64>(0)

    package init() {}

    package func add(_ amount: UInt64 = 1) { count.wrappingAdd(amount, ordering: .relaxed) }

    package var value: UInt64 { count.load(ordering: .relaxed) }
}

/// A number that goes up and down.
package final class Gauge: Sendable {
    private let level = Atomic<Int>(0)

    package init() {}

    package func add(_ amount: Int) { level.wrappingAdd(amount, ordering: .relaxed) }
    package func set(_ newValue: Int) { level.store(newValue, ordering: .relaxed) }

    package var value: Int { level.load(ordering: .relaxed) }
}

/// Durations, counted by upper bound.
package final class Histogram: Sendable {
    /// Upper bounds in nanoseconds, ascending: from 100 µs, a small read from memory, to a minute.
    package static let latencyBounds: [UInt64] = [
        100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000, 10_000_000, 25_000_000, 50_000_000,
        100_000_000, 250_000_000, 500_000_000, 1_000_000_000, 2_500_000_000, 5_000_000_000, 10_000_000_000,
        60_000_000_000,
    ]

    private struct State {
        var counts: [UInt64]
        var total: UInt64 = 0
        var count: UInt64 = 0
    }

    package struct Snapshot: Sendable {
        /// By bound; the last one is for what is above all.
        package let counts: [UInt64]
        package let totalNanoseconds: UInt64
        package let count: UInt64
    }

    package let bounds: [UInt64]
    private let state: Mutex<State>

    package init(bounds: [UInt64] = latencyBounds) {
        self.bounds = bounds
        state = Mutex(State(counts: [UInt64](repeating: 0, count: bounds.count + 1)))
    }

    package func record(nanoseconds: UInt64) {
        let index = bounds.firstIndex { nanoseconds <= $0 } ?? bounds.count
        state.withLock { state in
            state.counts[index] &+= 1
            state.total &+= nanoseconds
            state.count &+= 1
        }
    }

    package var snapshot: Snapshot {
        state.withLock { Snapshot(counts: $0.counts, totalNanoseconds: $0.total, count: $0.count) }
    }
}

/// Metrics of one name that differ in their labels. The number of different labels is bounded: what comes beyond is
/// counted under `other`.
package final class Family<Metric: Sendable>: Sendable {
    package let name: String
    package let help: String
    package let labelNames: [String]
    private let make: @Sendable () -> Metric
    private let metrics: Mutex<[[String]: Metric]> = Mutex([:])
    private let countMax = 2000

    init(name: String, help: String, labelNames: [String], make: @escaping @Sendable () -> Metric) {
        self.name = name
        self.help = help
        self.labelNames = labelNames
        self.make = make
    }

    /// The metric with these label values, in the order of the label names.
    package subscript(_ labels: String...) -> Metric {
        metrics.withLock { metrics in
            if let metric = metrics[labels] { return metric }
            let key =
                metrics.count < countMax ? labels : [String](repeating: "other", count: labelNames.count)
            if let metric = metrics[key] { return metric }
            let metric = make()
            metrics[key] = metric
            return metric
        }
    }

    var all: [(labels: [String], metric: Metric)] {
        metrics.withLock { metrics in metrics.map { ($0.key, $0.value) } }
            .sorted { $0.labels.lexicographicallyPrecedes($1.labels) }
    }
}
