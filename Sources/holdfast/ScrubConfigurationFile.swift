internal import HoldfastNode
internal import ObjectService
internal import Replication
internal import StoreModel

/// The section `scrub` of the server's configuration file:
///
///     scrub: {volumes: "17 1 * * SUN", audit: "17 1 * * WED", timeZone: Europe/Berlin, jitterMinutes: 360,
///             bytesPerSecond: 16000000, operationsPerSecond: 100, unlimitedWhenIdle: true}
///
/// A schedule "never" is none.
struct ScrubConfigurationFile: Decodable {
    var volumes: String?
    var audit: String?
    var timeZone: String?
    var jitterMinutes: Int?
    var bytesPerSecond: Int?
    var operationsPerSecond: Int?
    var unlimitedWhenIdle: Bool?

    static let entries = [
        "volumes", "audit", "timeZone", "jitterMinutes", "bytesPerSecond", "operationsPerSecond",
        "unlimitedWhenIdle",
    ]

    func apply(to configuration: inout ScrubConfiguration) throws {
        var schedule = ScrubSchedule()
        if let volumes { schedule.volumes = try Self.schedule(volumes, "volumes") }
        if let audit { schedule.audit = try Self.schedule(audit, "audit") }
        if let timeZone {
            schedule.timeZone = timeZone
            schedule.offset = try ScrubConfiguration.offsets(of: timeZone)
        }
        if let minutes = try Self.check(jitterMinutes, "jitterMinutes", 0...10_080) {
            schedule.jitter = .seconds(minutes * 60)
        }
        if let rate = try Self.check(bytesPerSecond, "bytesPerSecond", 65_536...1_000_000_000_000) {
            configuration.rates.bytesPerSecond = Double(rate)
        }
        if let rate = try Self.check(operationsPerSecond, "operationsPerSecond", 1...1_000_000) {
            configuration.rates.operationsPerSecond = Double(rate)
        }
        if let unlimitedWhenIdle { configuration.rates.isUnlimitedWhenIdle = unlimitedWhenIdle }
        configuration.schedule = schedule
    }

    private static func schedule(_ text: String, _ name: String) throws -> CronExpression? {
        if text == "never" { return nil }
        do throws(CronExpression.Failure) {
            return try CronExpression(text)
        } catch {
            throw CommandError(.usage, "scrub.\(name): \(error).", advice: "Five fields, or never.")
        }
    }

    private static func check(_ value: Int?, _ name: String, _ range: ClosedRange<Int>) throws -> Int? {
        guard let value else { return nil }
        guard range.contains(value) else {
            throw CommandError(
                .usage,
                "scrub.\(name) \(value): give \(range.lowerBound) to \(range.upperBound)."
            )
        }
        return value
    }
}
