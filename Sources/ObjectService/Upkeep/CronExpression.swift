package import StoreModel

/// A schedule in five fields: minute, hour, day of the month, month, day of the week.
///
/// Fields are lists of numbers, names (JAN…DEC, SUN…SAT), ranges and steps (`*/15`, `8-18/2`, `MON-FRI`). 7 is Sunday too.
/// When both days are restricted, one of them is enough, as in every cron. `@hourly`, `@daily`, `@weekly`, `@monthly`
/// and `@yearly` are what they say.
///
/// Times are of the wall clock. A minute that comes twice (clocks go back) counts the first time only; one that is left
/// out (clocks go forward) counts at the moment of the change. So a daily schedule is due once on every day.
package struct CronExpression: Hashable, Sendable, CustomStringConvertible {
    package struct Failure: Error, Hashable, Sendable, CustomStringConvertible {
        package let description: String
    }

    package let description: String
    private let minutes: UInt64
    private let hours: UInt64
    private let days: UInt64
    private let months: UInt64
    private let weekdays: UInt64
    private let isDayRestricted: Bool
    private let isWeekdayRestricted: Bool

    private static let monthNames = [
        "JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC",
    ]
    private static let weekdayNames = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"]
    private static let shorthands = [
        "@hourly": "0 * * * *", "@daily": "0 0 * * *", "@weekly": "0 0 * * 0", "@monthly": "0 0 1 * *",
        "@yearly": "0 0 1 1 *",
    ]

    package init(_ text: String) throws(Failure) {
        let fields = (Self.shorthands[text] ?? text).split { $0 == " " || $0 == "\t" }.map { $0.uppercased() }
        guard fields.count == 5 else {
            throw Failure(
                description: "\(quoted(text)): a schedule has five fields, this has \(fields.count)"
            )
        }
        minutes = try Self.set(fields[0], 0...59, [], base: 0, "minute")
        hours = try Self.set(fields[1], 0...23, [], base: 0, "hour")
        days = try Self.set(fields[2], 1...31, [], base: 0, "day of the month")
        months = try Self.set(fields[3], 1...12, Self.monthNames, base: 1, "month")
        let week = try Self.set(fields[4], 0...7, Self.weekdayNames, base: 0, "day of the week")
        weekdays = (week | (week >> 7 & 1)) & 0x7F
        isDayRestricted = !fields[2].hasPrefix("*")
        isWeekdayRestricted = !fields[4].hasPrefix("*")
        description = text
    }

    private static func set(
        _ field: String,
        _ range: ClosedRange<Int>,
        _ names: [String],
        base: Int,
        _ name: String
    ) throws(Failure) -> UInt64 {
        func fail(_ part: Substring) -> Failure {
            Failure(
                description:
                    "\(quoted(String(part))) is no \(name): give \(range.lowerBound) to \(range.upperBound)"
            )
        }
        func number(_ text: Substring) -> Int? {
            if let index = names.firstIndex(of: String(text)) { return index + base }
            guard !text.isEmpty, text.utf8.allSatisfy({ $0 >= 48 && $0 <= 57 }), text.count <= 3,
                let value = Int(text), range.contains(value)
            else { return nil }
            return value
        }
        var bits: UInt64 = 0
        for part in field.split(separator: ",", omittingEmptySubsequences: false) {
            let pieces = part.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false)
            var bounds: (Int, Int)
            if pieces[0] == "*" {
                bounds = (range.lowerBound, range.upperBound)
            } else {
                let ends = pieces[0].split(separator: "-", maxSplits: 1, omittingEmptySubsequences: false)
                guard let first = number(ends[0]) else { throw fail(part) }
                // "5/10" is from 5 on, every 10th.
                bounds = (first, pieces.count == 2 ? range.upperBound : first)
                if ends.count == 2 {
                    guard let last = number(ends[1]), first <= last else { throw fail(part) }
                    bounds = (first, last)
                }
            }
            var step = 1
            if pieces.count == 2 {
                guard let value = Int(pieces[1]), value >= 1, value <= range.upperBound else {
                    throw fail(part)
                }
                step = value
            }
            for value in stride(from: bounds.0, through: bounds.1, by: step) { bits |= 1 << UInt64(value) }
        }
        return bits
    }

    // MARK: When

    /// Whether a day of the calendar is one of those meant.
    private func matches(_ date: CivilDate) -> Bool {
        guard months >> UInt64(date.month) & 1 == 1 else { return false }
        let isDay = days >> UInt64(date.day) & 1 == 1
        let isWeekday = weekdays >> UInt64(date.weekday) & 1 == 1
        return isDayRestricted && isWeekdayRestricted ? isDay || isWeekday : isDay && isWeekday
    }

    /// The first moment after another that the schedule means; nil when there is none (the 30th of February).
    /// - Parameter offset: seconds by which the wall clock is ahead of UTC at a moment (seconds since 1970).
    package func next(after moment: Timestamp, offset: (Int64) -> Int64) -> Timestamp? {
        let after = moment.milliseconds.flooredDivision(by: 1000)
        let first = (after + offset(after)).flooredDivision(by: 86_400)
        // The 29th of February may be away for eight years.
        for day in (first - 1)...(first + 366 * 9) where matches(CivilDate(daysSince1970: day)) {
            for minute in 0..<1440
            where hours >> UInt64(minute / 60) & 1 == 1 && minutes >> UInt64(minute % 60) & 1 == 1 {
                let found = Self.moment(ofWall: day * 86_400 + Int64(minute) * 60, offset)
                if found > after { return Timestamp(milliseconds: found * 1000) }
            }
        }
        return nil
    }

    /// The moment at which the wall clock shows a time, given as seconds of a UTC clock that shows the same.
    private static func moment(ofWall wall: Int64, _ offset: (Int64) -> Int64) -> Int64 {
        // No zone is further from UTC than a day, and none changes twice within two.
        let (before, behind) = (offset(wall - 86_400), offset(wall + 86_400))
        let candidates = [wall - before, wall - behind].filter { $0 + offset($0) == wall }
        if let first = candidates.min() { return first }
        // The wall clock leaves it out: the moment of the change, which lies between the two.
        var (low, high) = (min(wall - before, wall - behind) - 1, max(wall - before, wall - behind))
        while high - low > 1 {
            let middle = low + (high - low) / 2
            if offset(middle) == before { low = middle } else { high = middle }
        }
        return high
    }
}

/// A day of the Gregorian calendar.
struct CivilDate: Hashable {
    let year: Int64
    let month: Int
    let day: Int
    /// 0 is Sunday.
    let weekday: Int

    /// http://howardhinnant.github.io/date_algorithms.html, civil_from_days.
    init(daysSince1970 days: Int64) {
        let shifted = days + 719_468
        let era = shifted.flooredDivision(by: 146_097)
        let dayOfEra = shifted - era * 146_097
        let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let shiftedMonth = (5 * dayOfYear + 2) / 153
        day = Int(dayOfYear - (153 * shiftedMonth + 2) / 5 + 1)
        month = Int(shiftedMonth < 10 ? shiftedMonth + 3 : shiftedMonth - 9)
        year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0)
        weekday = Int((days + 4) - (days + 4).flooredDivision(by: 7) * 7)
    }
}

extension Int64 {
    fileprivate func flooredDivision(by divisor: Int64) -> Int64 {
        let quotient = self / divisor
        return self % divisor < 0 ? quotient - 1 : quotient
    }
}
