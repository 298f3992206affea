package import StoreModel

/// A time in ISO 8601, as S3's documents and policies write it.
/// https://docs.aws.amazon.com/AmazonS3/latest/API/API_Types_Amazon_Simple_Storage_Service.html
package struct ISOTime: Hashable, Sendable, Comparable {
    package let timestamp: Timestamp

    package init(_ timestamp: Timestamp) { self.timestamp = timestamp }

    private static let secondsPerDay: Int64 = 86_400

    /// Parses `2012-12-31`, `2012-12-31T00:00:00Z`, with a fraction of any length, with an offset `+01:00`, or the
    /// compact form `20121231T000000Z`; nil for anything else, and for dates that no calendar has.
    package init?(_ text: some StringProtocol) {
        var scanner = DigitScanner([UInt8](text.utf8))
        guard let year = scanner.number(digits: 4) else { return nil }
        let isExtended = scanner.skip("-")
        guard let month = scanner.number(digits: 2), !isExtended || scanner.skip("-"),
            let day = scanner.number(digits: 2),
            let midnight = CivilTime(year: Int(year), month: Int(month), day: Int(day))
        else { return nil }
        var seconds = midnight.timestamp.milliseconds / 1000
        var milliseconds: Int64 = 0
        if !scanner.isAtEnd {
            guard scanner.skip("T") || scanner.skip(" "),
                let hour = scanner.number(digits: 2), !isExtended || scanner.skip(":"),
                let minute = scanner.number(digits: 2)
            else { return nil }
            var second: Int64 = 0
            if isExtended ? scanner.skip(":") : scanner.nextIsDigit {
                guard let value = scanner.number(digits: 2) else { return nil }
                second = value
                if scanner.skip(".") {
                    guard let fraction = scanner.fraction() else { return nil }
                    milliseconds = fraction
                }
            }
            guard hour < 24, minute < 60, second <= 60, let offset = scanner.zone() else { return nil }
            seconds += hour * 3600 + minute * 60 + second - offset
        }
        guard scanner.isAtEnd else { return nil }
        timestamp = Timestamp(milliseconds: seconds * 1000 + milliseconds)
    }

    /// `2012-12-31T00:00:00.000Z`: whole seconds, so that a listing shows what Last-Modified shows.
    package var text: String {
        let (date, second) = civil
        let time = [second / 3600, second / 60 % 60, second % 60].map { Self.padded($0, 2) }
        return "\(date.text)T\(time.joined(separator: ":")).000Z"
    }

    /// `2012-12-31T00:00:00Z`.
    package var textWithoutFraction: String { String(text.dropLast(5)) + "Z" }

    package var isMidnight: Bool {
        timestamp.milliseconds % (Self.secondsPerDay * 1000) == 0
    }

    /// Year, month, day, and the second of the day.
    package var civil: (date: CivilDate, second: Int64) {
        let seconds = Self.floorDivision(timestamp.milliseconds, 1000)
        let days = Self.floorDivision(seconds, Self.secondsPerDay)
        return (CivilDate(days: days), seconds - days * Self.secondsPerDay)
    }

    package static func < (left: ISOTime, right: ISOTime) -> Bool { left.timestamp < right.timestamp }

    static func padded(_ value: Int64, _ width: Int) -> String {
        let digits = String(value)
        return String(repeating: "0", count: max(0, width - digits.count)) + digits
    }

    static func floorDivision(_ value: Int64, _ divisor: Int64) -> Int64 {
        let quotient = value / divisor
        return value % divisor < 0 ? quotient - 1 : quotient
    }
}

/// A day of the Gregorian calendar.
package struct CivilDate: Hashable, Sendable {
    package let year: Int64
    package let month: Int64
    package let day: Int64

    /// - Parameter days: since 1970-01-01.
    init(days: Int64) {
        let shifted = days + 719_468
        let era = ISOTime.floorDivision(shifted, 146_097)
        let dayOfEra = shifted - era * 146_097
        let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let monthIndex = (5 * dayOfYear + 2) / 153
        day = dayOfYear - (153 * monthIndex + 2) / 5 + 1
        month = monthIndex < 10 ? monthIndex + 3 : monthIndex - 9
        year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0)
    }

    /// `2012-12-31`.
    package var text: String {
        "\(ISOTime.padded(year, 4))-\(ISOTime.padded(month, 2))-\(ISOTime.padded(day, 2))"
    }
}

/// Reads digits and marks from the front of a text.
private struct DigitScanner {
    private let bytes: [UInt8]
    private var position = 0

    init(_ bytes: [UInt8]) { self.bytes = bytes }

    var isAtEnd: Bool { position == bytes.count }

    var nextIsDigit: Bool { digit(at: position) != nil }

    private func digit(at index: Int) -> Int64? {
        guard index < bytes.count, (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(bytes[index]) else {
            return nil
        }
        return Int64(bytes[index] - UInt8(ascii: "0"))
    }

    mutating func number(digits: Int) -> Int64? {
        var value: Int64 = 0
        for index in position..<position + digits {
            guard let digit = digit(at: index) else { return nil }
            value = value * 10 + digit
        }
        position += digits
        return value
    }

    mutating func skip(_ mark: Character) -> Bool {
        guard position < bytes.count, bytes[position] == mark.asciiValue else { return false }
        position += 1
        return true
    }

    /// Milliseconds; further digits are passed over.
    mutating func fraction() -> Int64? {
        guard nextIsDigit else { return nil }
        var value: Int64 = 0
        var weight: Int64 = 100
        while let digit = digit(at: position) {
            value += digit * weight
            weight /= 10
            position += 1
        }
        return value
    }

    /// Seconds east of Greenwich; without a zone it is UTC.
    mutating func zone() -> Int64? {
        if isAtEnd || skip("Z") { return 0 }
        let sign: Int64 = skip("-") ? -1 : 1
        guard sign == -1 || skip("+"), let hours = number(digits: 2) else { return nil }
        _ = skip(":")
        guard let minutes = number(digits: 2), hours < 24, minutes < 60 else { return nil }
        return sign * (hours * 3600 + minutes * 60)
    }
}
