import Foundation
import StoreModel
import Testing

@testable import ObjectService

@Suite struct CronTests {
    private func time(_ text: String) throws -> Timestamp {
        let date = try #require(ISO8601DateFormatter().date(from: text))
        return Timestamp(milliseconds: Int64(date.timeIntervalSince1970) * 1000)
    }

    private func offsets(_ name: String) throws -> (Int64) -> Int64 {
        let zone = try #require(TimeZone(identifier: name))
        return { Int64(zone.secondsFromGMT(for: Date(timeIntervalSince1970: Double($0)))) }
    }

    private func next(_ cron: String, after: String, zone: String = "UTC") throws -> String? {
        let found = try CronExpression(cron).next(after: try time(after), offset: try offsets(zone))
        return found.map {
            ISO8601DateFormatter().string(from: Date(timeIntervalSince1970: Double($0.milliseconds / 1000)))
        }
    }

    @Test(arguments: [
        ("* * * * *", "2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z"),
        ("0 0 * * *", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"),
        ("*/15 * * * *", "2026-01-01T00:46:00Z", "2026-01-01T01:00:00Z"),
        ("5/20 * * * *", "2026-01-01T00:26:00Z", "2026-01-01T00:45:00Z"),
        ("30 8-18/5 * * *", "2026-01-01T08:30:00Z", "2026-01-01T13:30:00Z"),
        ("0 12 * * MON-FRI", "2026-01-02T12:00:00Z", "2026-01-05T12:00:00Z"),
        ("0 12 * * 7", "2026-01-01T12:00:00Z", "2026-01-04T12:00:00Z"),
        ("0 12 * * sun,wed", "2026-01-04T12:00:00Z", "2026-01-07T12:00:00Z"),
        ("0 0 31 * *", "2026-01-31T00:00:00Z", "2026-03-31T00:00:00Z"),
        ("0 0 1 JAN,jul *", "2026-01-01T00:00:00Z", "2026-07-01T00:00:00Z"),
        ("0 0 29 2 *", "2026-01-01T00:00:00Z", "2028-02-29T00:00:00Z"),
        ("0 0 29 2 *", "2096-02-29T00:00:00Z", "2104-02-29T00:00:00Z"),
        // Both days restricted: one of them is enough.
        ("0 0 13 * 5", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"),
        ("0 0 13 * 5", "2026-01-10T00:00:00Z", "2026-01-13T00:00:00Z"),
        ("@weekly", "2026-01-01T00:00:00Z", "2026-01-04T00:00:00Z"),
        ("59 23 31 12 *", "2026-12-31T23:59:00Z", "2027-12-31T23:59:00Z"),
    ])
    func theNextTimeIsTheFirstThatIsMeant(_ cron: String, _ after: String, _ expected: String) throws {
        #expect(try next(cron, after: after) == expected)
    }

    @Test func the30thOfFebruaryNeverComes() throws {
        #expect(try next("0 0 30 2 *", after: "2026-01-01T00:00:00Z") == nil)
    }

    @Test func aTimeThatTheClockLeavesOutIsTheMomentOfTheChange() throws {
        // 2026-03-29 in Berlin: 02:00 becomes 03:00, at 01:00 UTC.
        #expect(
            try next("30 2 * * *", after: "2026-03-28T12:00:00Z", zone: "Europe/Berlin")
                == "2026-03-29T01:00:00Z"
        )
        #expect(
            try next("30 2 * * *", after: "2026-03-29T01:00:00Z", zone: "Europe/Berlin")
                == "2026-03-30T00:30:00Z"
        )
    }

    @Test func aTimeThatComesTwiceCountsTheFirstTime() throws {
        // 2026-10-25 in Berlin: 03:00 becomes 02:00, at 01:00 UTC.
        #expect(
            try next("30 2 * * *", after: "2026-10-24T12:00:00Z", zone: "Europe/Berlin")
                == "2026-10-25T00:30:00Z"
        )
        #expect(
            try next("30 2 * * *", after: "2026-10-25T00:30:00Z", zone: "Europe/Berlin")
                == "2026-10-26T01:30:00Z"
        )
    }

    /// Against a clock that is asked minute by minute.
    @Test(arguments: ["Europe/Berlin", "Australia/Lord_Howe", "America/St_Johns", "UTC"])
    func everyMinuteOfAYearAgreesWithALookAtTheClock(_ zone: String) throws {
        let offset = try offsets(zone)
        let cron = try CronExpression("13 */6 * * *")
        var at = try time("2026-01-01T00:00:00Z")
        var expected: [Int64] = []
        var seenWall: Set<Int64> = []
        let end = at.milliseconds / 1000 + 366 * 86_400
        for second in stride(from: at.milliseconds / 1000 + 60, to: end, by: 60) {
            let wall = second + offset(second)
            guard wall / 60 % 60 == 13, wall / 3600 % 24 % 6 == 0, seenWall.insert(wall).inserted else {
                continue
            }
            expected.append(second)
        }
        var found: [Int64] = []
        while let next = cron.next(after: at, offset: offset), next.milliseconds / 1000 < end {
            found.append(next.milliseconds / 1000)
            at = next
        }
        #expect(found == expected)
    }

    @Test(arguments: [
        "", "* * * *", "* * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * 32 * *", "* * * 13 *",
        "* * * FOO *",
        "* * * * 8", "5-1 * * * *", "*/0 * * * *", "*/x * * * *", "1,,2 * * * *", "- * * * *", "1- * * * *",
        "+1 * * * *",
        "* * * * MON-", "99999999999999999999 * * * *", "@never", "*/60 * * * *",
    ])
    func whatIsNoScheduleIsRefused(_ text: String) {
        #expect(throws: CronExpression.Failure.self) { try CronExpression(text) }
    }
}
