internal import StoreModel

/// One measured number of the engine beside the limit that was measured in the same run.
struct BenchFigure: Encodable, Sendable {
    enum Unit: String, Encodable, Sendable {
        case operationsPerSecond = "operations/s"
        case bytesPerSecond = "bytes/s"
        case milliseconds
        case seconds
        case bytes
    }

    /// Which side of the target is the good one.
    enum Target: Sendable, Hashable {
        /// Engine divided by limit, at least.
        case shareAtLeast(Double)
        /// Engine divided by limit, at most.
        case shareAtMost(Double)
        /// The engine's number itself.
        case valueAtLeast(Double)
        case valueAtMost(Double)
    }

    var name: String
    var unit: Unit
    var value: Double
    /// What the value is measured against, in the same unit.
    var limitName: String?
    var limit: Double?
    var target: Target?
    var operations: Int?
    var bytes: UInt64?
    var latency: LatencyReport?
    var usage: UsageReport?
    /// Further numbers, by name.
    var details: [String: Double] = [:]

    /// Engine divided by limit.
    var share: Double? { limit.map { $0 > 0 ? value / $0 : 0 } }

    /// nil: there is no target.
    var isReached: Bool? {
        switch target {
        case .shareAtLeast(let bound): share.map { $0 >= bound }
        case .shareAtMost(let bound): share.map { $0 <= bound }
        case .valueAtLeast(let bound): value >= bound
        case .valueAtMost(let bound): value <= bound
        case nil: nil
        }
    }

    private enum CodingKeys: String, CodingKey {
        case name, unit, value, limitName, limit, share, target, isReached, operations, bytes, latency, usage,
            details
    }

    func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(name, forKey: .name)
        try container.encode(unit, forKey: .unit)
        try container.encode(value, forKey: .value)
        try container.encodeIfPresent(limitName, forKey: .limitName)
        try container.encodeIfPresent(limit, forKey: .limit)
        try container.encodeIfPresent(share, forKey: .share)
        try container.encodeIfPresent(target.map(targetText), forKey: .target)
        try container.encodeIfPresent(isReached, forKey: .isReached)
        try container.encodeIfPresent(operations, forKey: .operations)
        try container.encodeIfPresent(bytes, forKey: .bytes)
        try container.encodeIfPresent(latency, forKey: .latency)
        try container.encodeIfPresent(usage, forKey: .usage)
        if !details.isEmpty { try container.encode(details, forKey: .details) }
    }

    // MARK: For people

    var cells: [String] {
        [
            name,
            text(value),
            limit.map(text) ?? "",
            share.map { "\(Int(($0 * 100).rounded())) %" } ?? "",
            target.map(targetText) ?? "",
            isReached.map { $0 ? "yes" : "NO" } ?? "",
            latency.map { Self.shortTime($0.p50) } ?? "",
            latency.map { Self.shortTime($0.p99) } ?? "",
            usage.map { HumanFormat.oneDecimal($0.processorSeconds) } ?? "",
            usage.map { HumanFormat.size($0.peakResidentBytes) } ?? "",
        ]
    }

    static let header = [
        "figure", "engine", "limit", "share", "target", "reached", "p50", "p99", "CPU s", "peak memory",
    ]

    private func text(_ value: Double) -> String {
        switch unit {
        case .operationsPerSecond: "\(Int(value.rounded()))/s"
        case .bytesPerSecond: "\(Int((value / 1e6).rounded())) MB/s"
        case .milliseconds: Self.shortTime(value)
        case .seconds: Self.shortTime(value * 1000)
        case .bytes: HumanFormat.size(UInt64(max(0, value)))
        }
    }

    private func targetText(_ target: Target) -> String {
        switch target {
        case .shareAtLeast(let bound): "≥ \(Int((bound * 100).rounded())) %"
        case .shareAtMost(let bound): "≤ \(Int((bound * 100).rounded())) %"
        case .valueAtLeast(let bound): "≥ \(text(bound))"
        case .valueAtMost(let bound): "≤ \(text(bound))"
        }
    }

    private static func shortTime(_ milliseconds: Double) -> String {
        if milliseconds < 1 { return "\(Int((milliseconds * 1000).rounded())) µs" }
        if milliseconds < 1000 { return "\(HumanFormat.oneDecimal(milliseconds)) ms" }
        return "\(HumanFormat.oneDecimal(milliseconds / 1000)) s"
    }
}

/// Percentiles in milliseconds.
struct LatencyReport: Encodable, Sendable {
    var p50: Double
    var p90: Double
    var p99: Double
    var p999: Double
    var maximum: Double
    var mean: Double

    init(_ histogram: LatencyHistogram) {
        p50 = Double(histogram.p50) / 1e6
        p90 = Double(histogram.p90) / 1e6
        p99 = Double(histogram.p99) / 1e6
        p999 = Double(histogram.nanoseconds(atShare: 0.999)) / 1e6
        maximum = Double(histogram.maximum) / 1e6
        mean = histogram.mean / 1e6
    }
}

struct UsageReport: Encodable, Sendable {
    var wallSeconds: Double
    var userSeconds: Double
    var systemSeconds: Double
    var peakResidentBytes: UInt64

    var processorSeconds: Double { userSeconds + systemSeconds }

    init(_ usage: ProcessUsage) {
        wallSeconds = usage.wallSeconds
        userSeconds = usage.userSeconds
        systemSeconds = usage.systemSeconds
        peakResidentBytes = usage.peakResidentBytes
    }
}

/// What one `bench` command prints.
struct BenchReport: Encodable, Sendable {
    var directory: String
    var coreCount: Int
    var figures: [BenchFigure]

    var lines: [String] {
        HumanFormat.table(
            figures.map(\.cells),
            header: BenchFigure.header,
            alignedRight: [1, 2, 3, 6, 7, 8, 9]
        )
        .map { line in String(line.reversed().drop { $0 == " " }.reversed()) }
            + [
                "",
                "in \(HumanFormat.visible(directory)), \(HumanFormat.count(coreCount, "core")); "
                    + "limits were measured in the same run, next to the figure",
            ]
    }
}
