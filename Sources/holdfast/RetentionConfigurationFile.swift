internal import HoldfastNode

/// The section `retention` of the configuration file; `everySeconds: 0` switches the worker off.
struct RetentionConfigurationFile: Decodable {
    static let entries = ["everySeconds", "deletesPerSecond"]

    var everySeconds: Int?
    var deletesPerSecond: Int?

    func apply(to schedule: inout RetentionSchedule) throws {
        if let everySeconds {
            guard (0...31_536_000).contains(everySeconds) else {
                throw CommandError(.usage, "retention.everySeconds \(everySeconds): give 0 to 31536000.")
            }
            schedule.interval = everySeconds == 0 ? nil : .seconds(everySeconds)
        }
        if let deletesPerSecond {
            guard (1...1_000_000).contains(deletesPerSecond) else {
                throw CommandError(
                    .usage,
                    "retention.deletesPerSecond \(deletesPerSecond): give 1 to 1000000."
                )
            }
            schedule.deletesPerSecond = deletesPerSecond
        }
    }
}
