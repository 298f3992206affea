import Catalog
import Mirroring
import Replication
import StoreModel
import Testing

@testable import HoldfastNode
@testable import ObjectService

/// What audits of mirrors leave behind, and when they start.
@Suite struct MirrorAuditTests {
    private static let outcomes: [Finding.Outcome] = [
        .pending, .mended, .unrepairable, .failed("a reason"),
        .repaired(from: VolumeID(high: 1, low: 2), verifiedAt: Timestamp(milliseconds: 3)),
        .rescued(from: "mirror offsite", verifiedAt: Timestamp(milliseconds: 4)),
    ]

    private func row(_ outcome: Finding.Outcome, mirror: String?) -> FindingRow {
        var finding = Finding(
            chunk: nil,
            volume: Finding.noVolume,
            kind: .different,
            foundBy: .mirrorAudit,
            foundAt: Timestamp(milliseconds: 1000),
            detail: "models/k: it has 1 byte",
            outcome: outcome
        )
        finding.mirror = mirror
        return FindingRow(id: UniqueID(high: 5, low: 6), finding)
    }

    @Test(arguments: outcomes)
    func findingsAreReadAsTheyWereWritten(_ outcome: Finding.Outcome) throws {
        var row = row(outcome, mirror: "offsite")
        row.names = ["models/k 1"]
        row.holders = ["offsite", "other"]
        #expect(try FindingRow(DocumentRow(space: .finding, key: row.key, body: row.body)) == row)
    }

    @Test func findingsOfTheFirstFormatAreRead() throws {
        let row = row(.unrepairable, mirror: nil)
        // Without the mirror's name (a length of 4 bytes) and the number of holders (4).
        let old = [1] + row.body.dropFirst().dropLast(8)
        #expect(try FindingRow(DocumentRow(space: .finding, key: row.key, body: old)) == row)
        #expect(throws: StoreError.self) {
            try FindingRow(DocumentRow(space: .finding, key: row.key, body: [3] + row.body.dropFirst()))
        }
    }

    @Test func anAuditIsReadAsItWasWritten() throws {
        var job = MirrorAuditJob(MirrorID(rawValue: 7))
        job.restart(at: Timestamp(milliseconds: 1000))
        job.position = MirrorPosition(bucket: try BucketName("models"), key: Array("a/b ü".utf8))
        (job.checkedCount, job.missingCount, job.requeuedCount) = (1, 2, 3)
        (job.lastPassEndedAt, job.passCount, job.message) = (Timestamp(milliseconds: 9), 4, "no answer")
        #expect(try MirrorAuditJob(DocumentRow(space: .job, key: job.key, body: job.body)) == job)
        #expect(try MirrorPosition(text: try #require(job.position).text) == job.position)
        for count in 0..<job.body.count {
            let cut = DocumentRow(space: .job, key: job.key, body: Array(job.body.prefix(count)))
            #expect(throws: StoreError.self) { try MirrorAuditJob(cut) }
        }
    }

    @Test func eachMirrorHasTheStandardScheduleOrItsOwn() throws {
        var schedule = MirrorAuditSchedule(since: Timestamp(milliseconds: 0))
        schedule.standard = try CronExpression("0 3 * * *")
        schedule.own = ["hourly": try CronExpression("0 * * * *"), "never": nil]
        schedule.terms.jitter = .zero
        func next(_ name: String, startedAt: Int64?) throws -> Int64? {
            schedule.terms.next(
                schedule.expression(try MirrorName(name)),
                share: 1,
                startedAt: startedAt.map { Timestamp(milliseconds: $0) }
            )?.milliseconds
        }
        let hour: Int64 = 3_600_000
        #expect(try next("other", startedAt: nil) == 3 * hour)
        #expect(try next("other", startedAt: 3 * hour) == 27 * hour)
        #expect(try next("hourly", startedAt: 3 * hour) == 4 * hour)
        #expect(try next("never", startedAt: nil) == nil)
    }
}
