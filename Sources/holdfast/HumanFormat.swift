package import StoreModel

/// Text for people: sizes, rates, times, tables.
package enum HumanFormat {
    /// "1.4 GiB"; exact below 1 KiB.
    package static func size(_ byteCount: UInt64) -> String {
        let units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"]
        var value = Double(byteCount)
        var unit = 0
        while value >= 1023.95 && unit < units.count - 1 {
            value /= 1024
            unit += 1
        }
        return unit == 0 ? "\(byteCount) B" : "\(oneDecimal(value)) \(units[unit])"
    }

    package static func rate(bytesPerSecond: Double) -> String {
        size(UInt64(max(0, min(bytesPerSecond, 1e18)))) + "/s"
    }

    /// "0:07", "12:30", "3:04:05".
    package static func duration(seconds: Double) -> String {
        let total = Int(max(0, min(seconds, 8_640_000)).rounded())
        let (hours, minutes, rest) = (total / 3600, total / 60 % 60, total % 60)
        return hours > 0
            ? "\(hours):\(twoDigits(minutes)):\(twoDigits(rest))" : "\(minutes):\(twoDigits(rest))"
    }

    /// "1 object", "2 objects".
    package static func count(_ number: some BinaryInteger, _ noun: String) -> String {
        let endsInY = noun.hasSuffix("y") && !noun.hasSuffix("ey")
        let plural = endsInY ? "\(noun.dropLast())ies" : noun.hasSuffix("ch") ? "\(noun)es" : "\(noun)s"
        return "\(number) \(number == 1 ? noun : plural)"
    }

    /// Text that is safe to show: control characters are escaped, so that a key can't write to the terminal.
    package static func visible(_ text: String) -> String {
        var shown = ""
        for scalar in text.unicodeScalars {
            let isControl = scalar.value < 0x20 || (0x7F..<0xA0).contains(scalar.value)
            if isControl {
                shown += scalar.escaped(asASCII: true)
            } else {
                shown.unicodeScalars.append(scalar)
            }
        }
        return shown
    }

    /// Columns padded to their widest cell; the last one is not padded.
    /// - Parameter alignedRight: indexes of columns that hold numbers.
    package static func table(
        _ rows: [[String]],
        header: [String]? = nil,
        alignedRight: Set<Int> = []
    ) -> [String] {
        let all = (header.map { [$0] } ?? []) + rows
        var widths: [Int] = []
        for row in all {
            for (column, cell) in row.enumerated() {
                if column == widths.count { widths.append(0) }
                widths[column] = max(widths[column], cell.count)
            }
        }
        return all.map { row in
            row.enumerated().map { column, cell in
                let padding = String(repeating: " ", count: widths[column] - cell.count)
                if alignedRight.contains(column) { return padding + cell }
                return column == row.count - 1 ? cell : cell + padding
            }.joined(separator: "  ")
        }
    }

    package static func oneDecimal(_ value: Double) -> String {
        let tenths = Int((value * 10).rounded())
        return "\(tenths / 10).\(tenths % 10)"
    }

    static func twoDigits(_ value: some BinaryInteger) -> String { value < 10 ? "0\(value)" : "\(value)" }
}

extension Timestamp {
    /// "2026-03-01T12:30:00.123Z": what JSON output shows.
    package var internetDateTime: String {
        let (date, time, millisecond) = parts
        let padded = String(repeating: "0", count: millisecond < 10 ? 2 : millisecond < 100 ? 1 : 0)
        return "\(date)T\(time).\(padded)\(millisecond)Z"
    }

    /// "2026-03-01 12:30:00Z": what people see.
    package var readable: String { "\(parts.date) \(parts.time)Z" }

    private var parts: (date: String, time: String, millisecond: Int64) {
        let millisecond = milliseconds - Int64((Double(milliseconds) / 1000).rounded(.down)) * 1000
        let seconds = (milliseconds - millisecond) / 1000
        let secondOfDay = (seconds % 86_400 + 86_400) % 86_400
        let (year, month, day) = Self.civilDate(daysSinceEpoch: (seconds - secondOfDay) / 86_400)
        let two: (Int64) -> String = { HumanFormat.twoDigits($0) }
        let time = "\(two(secondOfDay / 3600)):\(two(secondOfDay / 60 % 60)):\(two(secondOfDay % 60))"
        return ("\(year)-\(two(month))-\(two(day))", time, millisecond)
    }

    /// The proleptic Gregorian calendar, by 400-year cycles that begin on 1 March.
    private static func civilDate(daysSinceEpoch: Int64) -> (year: Int64, month: Int64, day: Int64) {
        let shifted = daysSinceEpoch + 719_468
        let cycle = (shifted >= 0 ? shifted : shifted - 146_096) / 146_097
        let dayOfCycle = shifted - cycle * 146_097
        let yearOfCycle =
            (dayOfCycle - dayOfCycle / 1460 + dayOfCycle / 36_524 - dayOfCycle / 146_096) / 365
        let dayOfYear = dayOfCycle - (365 * yearOfCycle + yearOfCycle / 4 - yearOfCycle / 100)
        let monthFromMarch = (5 * dayOfYear + 2) / 153
        let month = monthFromMarch < 10 ? monthFromMarch + 3 : monthFromMarch - 9
        let day = dayOfYear - (153 * monthFromMarch + 2) / 5 + 1
        return (yearOfCycle + cycle * 400 + (month <= 2 ? 1 : 0), month, day)
    }
}
