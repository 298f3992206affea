internal import BlobVolume
internal import HoldfastNode
internal import Replication
internal import StoreModel

/// The section `gc` of the configuration file.
///
///     gc: {everySeconds: 21600, sharePercent: 25, graceSeconds: 600, markMiB: 64, compactBelowPercent: 50,
///          quarantineMiB: 1024, quarantineCount: 10000, quarantineDays: 90, softReserveMiB: 96, hardReserveMiB: 64}
///
/// `everySeconds: 0` switches the schedule off; runs on demand stay possible. With less than `softReserveMiB` free on a
/// volume no upload begins there; `hardReserveMiB` is left to deletes and garbage collection by those that have begun too.
struct GarbageConfigurationFile: Decodable {
    static let entries = [
        "everySeconds", "sharePercent", "graceSeconds", "markMiB", "compactBelowPercent", "quarantineMiB",
        "quarantineCount", "quarantineDays", "softReserveMiB", "hardReserveMiB",
    ]

    var everySeconds: Int?
    var sharePercent: Int?
    var graceSeconds: Int?
    var markMiB: Int?
    var compactBelowPercent: Int?
    var quarantineMiB: Int?
    var quarantineCount: Int?
    var quarantineDays: Int?
    var softReserveMiB: Int?
    var hardReserveMiB: Int?

    /// The watermarks of the volumes, which are opened with them.
    /// - Throws: where they are out of range, or the soft one is below the hard one.
    func apply(to options: inout VolumeOptions) throws {
        let hard = hardReserveMiB ?? Int(options.reserveBytes >> 20)
        let soft = softReserveMiB ?? max(hard, Int(options.softReserveBytes >> 20))
        guard (16...1 << 30).contains(hard), (hard...1 << 30).contains(soft) else {
            throw CommandError(
                .usage,
                "gc.softReserveMiB \(soft), gc.hardReserveMiB \(hard): the hard one is at least 16, the soft one no less."
            )
        }
        options.reserveBytes = UInt64(hard) << 20
        options.softReserveBytes = UInt64(soft) << 20
    }

    func apply(to schedule: inout GarbageSchedule) throws {
        func check(_ value: Int?, _ name: String, _ range: ClosedRange<Int>, _ set: (Int) -> Void) throws {
            guard let value else { return }
            guard range.contains(value) else {
                throw CommandError(
                    .usage,
                    "gc.\(name) \(value): give \(range.lowerBound) to \(range.upperBound)."
                )
            }
            set(value)
        }
        try check(everySeconds, "everySeconds", 0...31_536_000) {
            schedule.interval = $0 == 0 ? nil : .seconds($0)
        }
        try check(sharePercent, "sharePercent", 1...100) { schedule.workShare = Double($0) / 100 }
        try check(graceSeconds, "graceSeconds", 0...31_536_000) { schedule.options.grace = .seconds($0) }
        try check(markMiB, "markMiB", 1...65_536) { schedule.options.markByteCountMax = $0 << 20 }
        try check(compactBelowPercent, "compactBelowPercent", 0...95) {
            schedule.options.policy.compactsBelow = Double($0) / 100
        }
        try check(quarantineMiB, "quarantineMiB", 0...1 << 30) {
            schedule.options.quarantine.bytesMax = UInt64($0) << 20
        }
        try check(quarantineCount, "quarantineCount", 0...10_000_000) {
            schedule.options.quarantine.countMax = $0
        }
        try check(quarantineDays, "quarantineDays", 0...36_500) {
            schedule.options.quarantine.ageMax = .seconds($0 * 86_400)
        }
    }
}
