import BlobVolume
import Catalog
import ContentHashing
import Encryption
import Foundation
import Replication
import StoreModel
import Testing

@testable import HoldfastNode
@testable import ObjectService

/// What upkeep takes up again when a store is opened after its process ended in the middle.
@Suite(.timeLimit(.minutes(3))) struct UpkeepTests {
    private func content(_ seed: UInt8) -> [UInt8] {
        (0..<200_000).map { UInt8(truncatingIfNeeded: $0 &* 7) ^ seed }
    }

    private func filled() async throws -> StoreOnDisk {
        let disk = try await StoreOnDisk()
        for number in 0..<3 as Range<UInt8> { try await disk.put("k\(number)", content(number), .none) }
        return disk
    }

    /// An audit as a process has left it that ended while it looked at documents.
    private func interruptAudit(_ disk: StoreOnDisk) async throws {
        var job = ScrubJob(.audit)
        job.state = .running
        job.startedAt = Timestamp(milliseconds: 1)
        job.auditCursor.phase = .snapshots
        job.recordCount = 1000
        try await disk.objects.write(documents: [DocumentWrite(space: .job, key: job.key, body: job.body)])
    }

    private func audited(_ disk: StoreOnDisk) async throws -> ScrubJob {
        try await disk.store.scrubs.runToEnd()
        return try #require(try await disk.store.scrubs.jobs().first { $0.subject == .audit })
    }

    @Test func anAuditThatWasInterruptedEndsTheHoldAllTheSame() async throws {
        let disk = try await filled()
        try await disk.store.garbage.begin(didRebuildCatalog: true)
        try await interruptAudit(disk)
        try await disk.reopen()
        #expect(disk.store.replicator.garbage.hold != nil)
        let job = try await audited(disk)
        #expect(job.state == .completed)
        // It has looked at everything, whatever was looked at before.
        #expect((3..<1000).contains(job.recordCount))
        #expect(disk.store.replicator.garbage.hold == nil)
        try await disk.reopen()
        #expect(disk.store.replicator.garbage.hold == nil)
        try await disk.store.close()
    }

    @Test func anAuditThatNobodyWaitsForGoesOnWhereItWas() async throws {
        let disk = try await filled()
        try await interruptAudit(disk)
        try await disk.reopen()
        let job = try await audited(disk)
        #expect(job.state == .completed && job.recordCount >= 1000)
        try await disk.store.close()
    }

    /// What was found and not yet repaired stands in the ledger: the queue of repairs is made from it.
    @Test func copiesThatWaitedForRepairAreRepairedByTheNextProcess() async throws {
        let disk = try await filled()
        let bytes = content(1)
        let volume = try #require(disk.store.replicator.volumes.slots.first)
        let finding = Finding(
            chunk: SHA256Hasher.hash(bytes),
            volume: volume.id,
            kind: .corrupt,
            foundBy: .scrub,
            foundAt: Timestamp(milliseconds: 1_700_000_000_000)
        )
        let row = FindingRow(id: UniqueID(high: 1, low: 1), finding)
        #expect(row.isOpen)
        try await disk.objects.write(documents: [DocumentWrite(space: .finding, key: row.key, body: row.body)]
        )
        try await disk.reopen { try flip(Array(bytes[1000..<1100]), below: volume.label) }
        let end = ContinuousClock.now + .seconds(60)
        var closed: FindingRow?
        while closed == nil, ContinuousClock.now < end {
            try await disk.store.findings.flush()
            closed = try await disk.store.findings.find(FindingLedger.Query()).first {
                $0.id == row.id && !$0.isOpen
            }
            try await Task.sleep(for: .milliseconds(20))
        }
        guard case .repaired(let source, _) = try #require(closed).finding.outcome else {
            Issue.record("\(String(describing: closed))")
            return
        }
        #expect(source != volume.id)
        #expect(try await disk.objects.verify(repair: false).findingCount == 0)
        try await disk.store.close()
    }

    private func flip(_ needle: [UInt8], below path: String) throws {
        for name in try FileManager.default.contentsOfDirectory(atPath: path + "/segments") {
            let url = URL(fileURLWithPath: path + "/segments/" + name)
            var data = try Data(contentsOf: url)
            guard let place = data.range(of: Data(needle))?.lowerBound else { continue }
            data[place] ^= 8
            let file = try FileHandle(forWritingTo: url)
            try file.seek(toOffset: UInt64(place))
            try file.write(contentsOf: data[place...place])
            return try file.close()
        }
        Issue.record("no segment has the bytes")
    }
}
