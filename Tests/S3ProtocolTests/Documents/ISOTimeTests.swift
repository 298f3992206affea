import S3Protocol
import StoreModel
import StoreTestKit
import Testing

@Suite struct ISOTimeTests {
    @Test(
        arguments: [
            ("1970-01-01", 0), ("1970-01-01T00:00:00Z", 0), ("1970-01-02T00:00:00.000Z", 86_400_000),
            ("2012-12-31T23:59:59.999Z", 1_356_998_399_999), ("2000-02-29T00:00:00Z", 951_782_400_000),
            ("2024-02-29T12:00:00+01:00", 1_709_204_400_000), ("2024-02-29T12:00:00-0130", 1_709_213_400_000),
            ("20151229T000000Z", 1_451_347_200_000), ("1969-12-31T23:59:59Z", -1000),
            ("2026-01-01T00:00:00.1234567Z", 1_767_225_600_123), ("0001-01-01", -62_135_596_800_000),
            ("9999-12-31T23:59:59Z", 253_402_300_799_000), ("2020-01-01 00:00", 1_577_836_800_000),
        ] as [(String, Int64)]
    )
    func timesAreRead(text: String, milliseconds: Int64) {
        #expect(ISOTime(text)?.timestamp.milliseconds == milliseconds)
    }

    @Test(arguments: [
        "", "2020", "2020-1-1", "2020-13-01", "2020-00-01", "2020-02-30", "2021-02-29", "1900-02-29",
        "2020-01-01T",
        "2020-01-01T24:00:00Z", "2020-01-01T00:60:00Z", "2020-01-01T00:00:61Z", "2020-01-01T00:00:00.Z",
        "2020-01-01T00:00:00ZZ", "2020-01-01x", "2020-01-01T00:00:00+25:00", "-020-01-01", "+2020-01-01",
        "２０２０-01-01", "0000-01-01", "99999-01-01", "2020-01-01T00:00:00.99999999999999999999999999999999x",
    ])
    func whatIsNoTimeIsRefused(text: String) {
        #expect(ISOTime(text) == nil)
    }

    @Test(arguments: TestSeeds.seeds(fixed: 4, fresh: 2))
    func whatIsWrittenIsReadAgain(seed: UInt64) {
        var generator = StoreTestKit.SeededGenerator(seed: seed)
        for _ in 0..<500 {
            let seconds = Int64.random(in: -62_135_596_800...253_402_300_799, using: &generator)
            let time = ISOTime(Timestamp(milliseconds: seconds * 1000))
            #expect(ISOTime(time.text) == time, "seed \(seed), \(time.text)")
            #expect(ISOTime(time.textWithoutFraction) == time, "seed \(seed)")
        }
    }

    @Test func timesAreShownInWholeSeconds() {
        #expect(ISOTime(Timestamp(milliseconds: 1_356_998_399_999)).text == "2012-12-31T23:59:59.000Z")
        #expect(HTTPDate.format(Timestamp(milliseconds: 0)) == "Thu, 01 Jan 1970 00:00:00 GMT")
        #expect(HTTPDate.format(Timestamp(milliseconds: -1)) == "Wed, 31 Dec 1969 23:59:59 GMT")
    }
}
