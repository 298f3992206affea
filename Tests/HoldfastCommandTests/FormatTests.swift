import StoreModel
import Testing
import holdfast

@Suite struct HumanFormatTests {
    @Test func sizesAreExactBelowAKibibyteAndHaveOneDecimalAbove() {
        #expect(HumanFormat.size(0) == "0 B")
        #expect(HumanFormat.size(1023) == "1023 B")
        #expect(HumanFormat.size(1024) == "1.0 KiB")
        #expect(HumanFormat.size(1536) == "1.5 KiB")
        #expect(HumanFormat.size(1 << 20) == "1.0 MiB")
        #expect(HumanFormat.size((1 << 20) - 1) == "1.0 MiB")
        #expect(HumanFormat.size(5 << 40) == "5.0 TiB")
        #expect(HumanFormat.size(.max) == "16.0 EiB")
    }

    @Test func durationsGrowToHours() {
        #expect(HumanFormat.duration(seconds: 7.4) == "0:07")
        #expect(HumanFormat.duration(seconds: 750) == "12:30")
        #expect(HumanFormat.duration(seconds: 11_045) == "3:04:05")
        #expect(HumanFormat.duration(seconds: .infinity) == "2400:00:00")
    }

    @Test func timesAreTheCalendarsOwn() {
        #expect(Timestamp(milliseconds: 0).internetDateTime == "1970-01-01T00:00:00.000Z")
        #expect(Timestamp(milliseconds: 951_827_696_789).internetDateTime == "2000-02-29T12:34:56.789Z")
        #expect(Timestamp(milliseconds: 4_107_542_400_007).internetDateTime == "2100-03-01T00:00:00.007Z")
        #expect(Timestamp(milliseconds: -1).internetDateTime == "1969-12-31T23:59:59.999Z")
        #expect(Timestamp(milliseconds: 1_772_368_200_000).readable == "2026-03-01 12:30:00Z")
    }

    @Test func tablesAlignTheirColumns() {
        let lines = HumanFormat.table(
            [["a", "1"], ["long", "22"]],
            header: ["name", "n"],
            alignedRight: [1]
        )
        #expect(lines == ["name   n", "a      1", "long  22"])
    }

    @Test func controlCharactersAreShownAndNotSent() {
        #expect(HumanFormat.visible("a\u{1B}[31m\n\u{9B}é") == "a\\u{1B}[31m\\n\\u{009B}é")
    }

    @Test func countsAgreeWithTheirNouns() {
        #expect(HumanFormat.count(1, "copy") == "1 copy")
        #expect(HumanFormat.count(2, "copy") == "2 copies")
        #expect(HumanFormat.count(0, "object") == "0 objects")
    }
}

@Suite struct ExitStatusTests {
    @Test func everyKindOfErrorHasItsDocumentedCode() {
        let expected: [(StoreError.Code, Int32)] = [
            (.invalidBucketName, 2), (.keyTooLong, 2), (.noSuchKey, 3), (.noSuchVersion, 3),
            (.storeNotFound, 3),
            (.preconditionFailed, 4), (.bucketNotEmpty, 4), (.notEnoughReplicas, 5), (.dataUnavailable, 6),
            (.storeInUse, 7), (.storeFull, 8), (.outcomeUnknown, 9), (.unsupportedFormat, 10),
            (.inputOutput, 13), (.notMirrored, 15), (.accessDenied, 16), (.serverUnreachable, 17),
            (.internalFault, 1),
        ]
        for (code, number) in expected { #expect(ExitStatus(code).rawValue == number, "\(code)") }
    }

    @Test func aReportCarriesTheCodeTheMessageAndWhatToDo() {
        let report = ErrorReport(StoreError(.noSuchBucket, "There is no bucket."))
        #expect(report.code == "noSuchBucket")
        #expect(report.exitCode == 3)
        #expect(report.advice?.contains("holdfast bucket create") == true)
        #expect(ErrorReport(CommandError(.fileNotFound, "x")).exitCode == 11)
        #expect(ErrorReport(CancellationError()).exitCode == 130)
    }
}
