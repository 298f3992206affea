package import StoreModel

/// The dates of HTTP headers: `Sun, 06 Nov 1994 08:49:37 GMT`.
/// https://www.rfc-editor.org/rfc/rfc9110#name-date-time-formats
package enum HTTPDate {
    private static let weekdays = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"]
    private static let months = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ]

    package static func format(_ timestamp: Timestamp) -> String {
        let time = CivilTime(timestamp)
        var text = DigitText()
        text.append(weekdays[time.weekday])
        text.append(", ")
        text.append(time.day, digits: 2)
        text.append(" ")
        text.append(months[time.month - 1])
        text.append(" ")
        text.append(time.year, digits: 4)
        text.append(" ")
        text.append(time.hour, digits: 2)
        text.append(":")
        text.append(time.minute, digits: 2)
        text.append(":")
        text.append(time.second, digits: 2)
        text.append(" GMT")
        return text.string
    }

    /// Takes the three forms that RFC 9110 asks for, and UTC written as an offset, as mail has it.
    package static func parse(_ text: String) -> Timestamp? {
        guard text.utf8.count <= 64 else { return nil }
        var fields = text.split(omittingEmptySubsequences: true) { $0 == " " || $0 == "," }[...]
        guard let weekday = fields.popFirst(), isWeekday(weekday), let second = fields.first else {
            return nil
        }
        if fields.count == 4, months.contains(where: { $0 == second }) { return asctime(fields) }
        if second.utf8.contains(UInt8(ascii: "-")) {
            guard fields.count == 3, isUTC(fields[fields.endIndex - 1]) else { return nil }
            let parts = second.split(separator: "-", omittingEmptySubsequences: false)
            guard parts.count == 3, let year = number(parts[2], digits: 2...4) else { return nil }
            // A year of two digits that seems to be more than 50 years ahead is one of the last century.
            let full = parts[2].count == 2 ? (year < 70 ? 2000 + year : 1900 + year) : year
            return moment(year: full, parts[1], day: parts[0], clock: fields[fields.startIndex + 1])
        }
        guard fields.count == 5, isUTC(fields[fields.endIndex - 1]) else { return nil }
        let start = fields.startIndex
        guard let year = number(fields[start + 2], digits: 4...4) else { return nil }
        return moment(year: year, fields[start + 1], day: second, clock: fields[start + 3])
    }

    /// `Nov  6 08:49:37 1994`
    private static func asctime(_ fields: ArraySlice<Substring>) -> Timestamp? {
        let start = fields.startIndex
        guard let year = number(fields[start + 3], digits: 4...4) else { return nil }
        return moment(year: year, fields[start], day: fields[start + 1], clock: fields[start + 2])
    }

    private static func moment(
        year: Int,
        _ monthName: Substring,
        day: Substring,
        clock: Substring
    ) -> Timestamp? {
        let parts = clock.split(separator: ":", omittingEmptySubsequences: false)
        guard let month = months.firstIndex(where: { $0 == monthName }), let day = number(day, digits: 1...2),
            parts.count == 3, let hour = number(parts[0], digits: 2...2),
            let minute = number(parts[1], digits: 2...2), let second = number(parts[2], digits: 2...2)
        else { return nil }
        return CivilTime(
            year: year,
            month: month + 1,
            day: day,
            hour: hour,
            minute: minute,
            second: second
        )?.timestamp
    }

    private static func isWeekday(_ text: Substring) -> Bool {
        text.utf8.count <= 9 && weekdays.contains { text.hasPrefix($0) }
    }

    private static func isUTC(_ text: Substring) -> Bool {
        text == "GMT" || text == "UTC" || text == "+0000" || text == "-0000"
    }

    private static func number(_ text: Substring, digits: ClosedRange<Int>) -> Int? {
        guard digits.contains(text.utf8.count) else { return nil }
        return ASCIIText.decimal(text).map { Int($0) }
    }
}

/// The dates of XML documents (`2006-02-03T16:45:09.000Z`) and of signatures (`20060203T164509Z`).
package enum ISO8601 {
    package static func format(_ timestamp: Timestamp) -> String {
        let time = CivilTime(timestamp)
        var text = DigitText()
        text.append(time.year, digits: 4)
        text.append("-")
        text.append(time.month, digits: 2)
        text.append("-")
        text.append(time.day, digits: 2)
        text.append("T")
        text.append(time.hour, digits: 2)
        text.append(":")
        text.append(time.minute, digits: 2)
        text.append(":")
        text.append(time.second, digits: 2)
        text.append(".")
        text.append(time.millisecond, digits: 3)
        text.append("Z")
        return text.string
    }

    package static func formatBasic(_ timestamp: Timestamp) -> String {
        let time = CivilTime(timestamp)
        var text = DigitText()
        text.append(time.year, digits: 4)
        text.append(time.month, digits: 2)
        text.append(time.day, digits: 2)
        text.append("T")
        text.append(time.hour, digits: 2)
        text.append(time.minute, digits: 2)
        text.append(time.second, digits: 2)
        text.append("Z")
        return text.string
    }

    /// Exactly `yyyyMMdd'T'HHmmss'Z'`.
    package static func parseBasic(_ text: String) -> Timestamp? {
        var scanner = DigitScanner(text)
        guard let year = scanner.number(digits: 4), let month = scanner.number(digits: 2),
            let day = scanner.number(digits: 2), scanner.skip("T"), let hour = scanner.number(digits: 2),
            let minute = scanner.number(digits: 2), let second = scanner.number(digits: 2), scanner.skip("Z"),
            scanner.isAtEnd
        else { return nil }
        return CivilTime(year: year, month: month, day: day, hour: hour, minute: minute, second: second)?
            .timestamp
    }

    /// `2006-02-03`, `2006-02-03T16:45:09Z`, with a fraction of any length, with an offset as in `+01:00`.
    package static func parse(_ text: String) -> Timestamp? {
        guard text.utf8.count <= 48 else { return nil }
        var scanner = DigitScanner(text)
        guard let year = scanner.number(digits: 4), scanner.skip("-"), let month = scanner.number(digits: 2),
            scanner.skip("-"), let day = scanner.number(digits: 2)
        else { return nil }
        if scanner.isAtEnd { return CivilTime(year: year, month: month, day: day)?.timestamp }
        guard scanner.skip("T") || scanner.skip(" "), let hour = scanner.number(digits: 2), scanner.skip(":"),
            let minute = scanner.number(digits: 2), scanner.skip(":"), let second = scanner.number(digits: 2)
        else { return nil }
        var millisecond = 0
        if scanner.skip(".") {
            guard let fraction = scanner.milliseconds() else { return nil }
            millisecond = fraction
        }
        let time = CivilTime(
            year: year,
            month: month,
            day: day,
            hour: hour,
            minute: minute,
            second: second,
            millisecond: millisecond
        )
        guard let time, let offset = scanner.offsetMinutes(), scanner.isAtEnd else { return nil }
        return Timestamp(milliseconds: time.timestamp.milliseconds - Int64(offset) * 60_000)
    }
}

/// Numbers with a fixed count of digits, and text, appended to bytes.
private struct DigitText {
    private var bytes: [UInt8] = []

    init() { bytes.reserveCapacity(32) }

    mutating func append(_ text: String) { bytes.append(contentsOf: text.utf8) }

    mutating func append(_ number: Int, digits: Int) {
        var divisor = [1, 10, 100, 1000][digits - 1]
        while divisor > 0 {
            bytes.append(UInt8(ascii: "0") + UInt8(number / divisor % 10))
            divisor /= 10
        }
    }

    var string: String { String(decoding: bytes, as: UTF8.self) }
}

private struct DigitScanner {
    private let bytes: [UInt8]
    private var position = 0

    init(_ text: String) { bytes = [UInt8](text.utf8) }

    var isAtEnd: Bool { position == bytes.count }

    private var next: UInt8? { position < bytes.count ? bytes[position] : nil }

    mutating func skip(_ character: Unicode.Scalar) -> Bool {
        guard let next, UInt32(next) == character.value else { return false }
        position += 1
        return true
    }

    mutating func number(digits: Int) -> Int? {
        var value = 0
        for _ in 0..<digits {
            guard let next, ASCIIText.isDigit(next) else { return nil }
            value = value * 10 + Int(next - UInt8(ascii: "0"))
            position += 1
        }
        return value
    }

    /// A fraction of a second; digits beyond the third do not count.
    mutating func milliseconds() -> Int? {
        var value = 0
        var count = 0
        while let next, ASCIIText.isDigit(next) {
            if count < 3 { value = value * 10 + Int(next - UInt8(ascii: "0")) }
            count += 1
            position += 1
        }
        guard count > 0 else { return nil }
        return count == 1 ? value * 100 : count == 2 ? value * 10 : value
    }

    /// What UTC is behind; nothing at all means UTC.
    mutating func offsetMinutes() -> Int? {
        if isAtEnd || skip("Z") { return 0 }
        let isWest = skip("-")
        guard isWest || skip("+"), let hours = number(digits: 2), hours <= 18 else { return nil }
        _ = skip(":")
        guard let minutes = number(digits: 2), minutes <= 59 else { return nil }
        return (hours * 60 + minutes) * (isWest ? -1 : 1)
    }
}
