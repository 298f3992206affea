import AdminGateway
import BlobVolume
import Catalog
import Foundation
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
        // Without the mirror's name (a length of 4 bytes), the number of holders (4), and what is left (1).
        let old = [1] + row.body.dropFirst().dropLast(9)
        #expect(try FindingRow(DocumentRow(space: .finding, key: row.key, body: old)) == row)
        let second = [2] + row.body.dropFirst().dropLast(1)
        #expect(try FindingRow(DocumentRow(space: .finding, key: row.key, body: second)) == row)
        #expect(throws: StoreError.self) {
            try FindingRow(DocumentRow(space: .finding, key: row.key, body: [4] + row.body.dropFirst()))
        }
    }

    @Test func whatIsLeftAroundALossIsReadAsItWasWritten() throws {
        var row = row(.unrepairable, mirror: nil)
        var account = LossAccount()
        account.neededCount = 300
        for (index, state) in [LossAccount.Version.State.lost, .damaged, .whole, .listed].enumerated() {
            account.add(
                LossAccount.Version(
                    bucket: "models",
                    key: "a/b ü",
                    id: "\(index)",
                    isNewest: index == 0,
                    size: UInt64(index) << 33,
                    state: state,
                    mirrors: index == 2 ? ["offsite", "other"] : []
                )
            )
        }
        account.copies = [
            LossAccount.Copy(
                volume: VolumeID(high: 1, low: 2),
                verifiedAt: Timestamp(milliseconds: 9),
                problem: nil
            ),
            LossAccount.Copy(volume: VolumeID(high: 1, low: 3), verifiedAt: nil, problem: "missing"),
        ]
        row.account = account
        #expect(try FindingRow(DocumentRow(space: .finding, key: row.key, body: row.body)) == row)
        for count in 0..<row.body.count {
            let cut = DocumentRow(space: .finding, key: row.key, body: Array(row.body.prefix(count)))
            #expect(throws: StoreError.self) { try FindingRow(cut) }
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

    @Test func aDeepAuditIsReadAsItWasWrittenAndOthersAreAsTheyWere() throws {
        var job = MirrorAuditJob(MirrorID(rawValue: 7))
        job.restart(at: Timestamp(milliseconds: 1000))
        #expect(job.body.first == 1)
        job.restart(at: Timestamp(milliseconds: 2000), isDeep: true)
        #expect(job.body.first == 2)
        #expect(try MirrorAuditJob(DocumentRow(space: .job, key: job.key, body: job.body)) == job)
        for count in 0..<job.body.count {
            let cut = DocumentRow(space: .job, key: job.key, body: Array(job.body.prefix(count)))
            #expect(throws: StoreError.self) { try MirrorAuditJob(cut) }
        }
        job.restart(at: Timestamp(milliseconds: 3000))
        #expect(!job.isDeep)
    }

    @Test func aJobThatCannotBeReadIsNotBegunAnewInSilence() async throws {
        let path = FileManager.default.temporaryDirectory.path + "/holdfast-audits-\(UUID().uuidString)"
        defer { try? FileManager.default.removeItem(atPath: path) }
        var options = LocalStore.Options()
        options.volume.logSegmentSizeMin = 256 << 10
        options.volume.logSegmentSizeMax = 1 << 20
        options.volume.reserveBytes = 1 << 20
        _ = try await LocalStore.create(path, options: options.volume)
        let store = try await LocalStore.open(path, options)
        func add(_ name: String) async throws -> MirrorRow {
            try await store.mirrors.directory.add(
                try MirrorName(name),
                MirrorSettings(endpoint: try MirrorEndpoint("https://s3.example.org"), bucket: name),
                rules: [MirrorRule()],
                MirrorCredentials(accessKey: "key", secret: "secret")
            )
        }
        let (later, damaged) = (try await add("later"), try await add("damaged"))
        var job = MirrorAuditJob(later.id)
        job.restart(at: Timestamp(milliseconds: 1000))
        let body = [200] + job.body.dropFirst()
        let bad = MirrorAuditJob(damaged.id)
        try await store.objects.write(documents: [
            DocumentWrite(space: .job, key: job.key, body: body),
            DocumentWrite(space: .job, key: bad.key, body: [1, 2, 3]),
        ])
        let audits = store.mirrorAudits
        let shown = try await audits.mirrorAudits().audits
        #expect(shown.map(\.mirror) == ["damaged", "later"] && shown.map(\.state) == ["failed", "failed"])
        #expect(shown[1].message?.contains("format 200") == true && shown[1].nextRunAt == nil)
        #expect(shown[0].message?.contains("can't be read") == true && shown[0].nextRunAt != nil)
        for action in [ScrubAction.start, .pause, .resume, .cancel] {
            for name in [later.name, nil] {
                let error = await #expect(throws: StoreError.self) { try await audits.change(action, name) }
                #expect(error?.code == .unsupportedFormat && error?.message.contains("later") == true)
            }
        }
        let rows = try await store.objects.documents(.job, prefix: MirrorAuditJob.prefix)
        #expect(rows.first { $0.key == job.key }?.body == body)
        // What is damaged was told of, and is begun anew when somebody wants it.
        try await audits.change(.start, damaged.name, isDeep: true)
        #expect(try await audits.mirrorAudits().audits.map(\.state) == ["running", "failed"])
        // One that is under way is not made another one.
        try await audits.change(.cancel, damaged.name)
        try await audits.change(.start, damaged.name)
        let error = await #expect(throws: StoreError.self) {
            try await audits.change(.start, damaged.name, isDeep: true)
        }
        #expect(error?.code == .conflict)
        try await store.close()
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
