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
    /// - Parameter part: what it had found clean.
    private func interruptAudit(_ disk: StoreOnDisk, _ part: CleanAuditPart? = nil) async throws {
        var job = ScrubJob(.audit)
        job.state = .running
        job.startedAt = Timestamp(milliseconds: 1)
        job.auditCursor.phase = .snapshots
        job.recordCount = 1000
        try await disk.objects.write(documents: [
            DocumentWrite(space: .job, key: job.key, body: job.body),
            DocumentWrite(space: .job, key: CleanAuditPart.key, body: part?.body),
        ])
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

    private func cleanPart(
        _ disk: StoreOnDisk,
        layoutVersion: UInt64? = nil,
        startedAt: Timestamp? = nil
    ) -> CleanAuditPart {
        var cursor = AuditCursor.start
        cursor.phase = .snapshots
        let version = layoutVersion ?? disk.store.replicator.layout.version
        return CleanAuditPart(
            startedAt: startedAt ?? Timestamp(milliseconds: 1),
            layoutVersion: version,
            cursor: cursor
        )
    }

    @Test func anAuditThatWasCleanSoFarGoesOnAndEndsTheHold() async throws {
        let disk = try await filled()
        try await disk.store.garbage.begin(didRebuildCatalog: true)
        try await interruptAudit(disk, cleanPart(disk))
        try await disk.reopen()
        let job = try await audited(disk)
        #expect(job.state == .completed && job.recordCount >= 1000)
        #expect(disk.store.replicator.garbage.hold == nil)
        #expect(try await disk.objects.documents(.job, prefix: CleanAuditPart.key).isEmpty)
        try await disk.store.close()
    }

    @Test(arguments: ["another catalog", "another layout", "not known which catalog"])
    func whatWasCleanInAnotherStoreThanThisIsLookedAtAgain(_ change: String) async throws {
        let disk = try await filled()
        try await disk.store.garbage.begin(didRebuildCatalog: true)
        let version = disk.store.replicator.layout.version + (change == "another layout" ? 1 : 0)
        try await interruptAudit(disk, cleanPart(disk, layoutVersion: version))
        // The hold stands already.
        if change == "another catalog" { try await disk.store.garbage.begin(didRebuildCatalog: true) }
        try await disk.reopen()
        if change == "not known which catalog" { disk.store.scrubs.distrustCleanPart() }
        let job = try await audited(disk)
        #expect(job.state == .completed && (3..<1000).contains(job.recordCount))
        #expect(disk.store.replicator.garbage.hold == nil)
        try await disk.store.close()
    }

    @Test(arguments: [false, true]) func whatWasLostSinceKeepsTheHold(isUnrepairable: Bool) async throws {
        let disk = try await filled()
        try await disk.store.garbage.begin(didRebuildCatalog: true)
        try await interruptAudit(disk, cleanPart(disk))
        try await disk.reopen()
        if isUnrepairable {
            disk.store.findings.note(finding(1, .unrepairable))
        } else {
            // It does not come back before the audit is over.
            disk.store.replicator.volumes.slots[2].replica?.close(deadline: .seconds(5))
            try await disk.put("k9", content(9), .none)
        }
        let job = try await audited(disk)
        #expect(job.recordCount >= 1000)
        #expect(disk.store.replicator.garbage.hold != nil)
        #expect(try await disk.objects.documents(.job, prefix: CleanAuditPart.key).isEmpty)
        if isUnrepairable {
            // A whole one ends it.
            try await disk.store.scrubs.start([.audit])
            #expect(try await audited(disk).state == .completed)
            #expect(disk.store.replicator.garbage.hold == nil)
        }
        try await disk.store.close()
    }

    @Test func anAuditWritesDownHowFarItWasClean() async throws {
        let disk = try await filled()
        try await disk.store.garbage.begin(didRebuildCatalog: true)
        let scrubs = disk.store.scrubs
        // After the first page its budget is used up for a long time.
        scrubs.budget.set(
            WorkBudget.Rates(bytesPerSecond: 1, operationsPerSecond: 1, isUnlimitedWhenIdle: false)
        )
        try await scrubs.start([.audit])
        let run = Task { try await scrubs.runToEnd() }
        let end = ContinuousClock.now + .seconds(30)
        while try await scrubs.jobs().last?.recordCount == 0, ContinuousClock.now < end {
            try await Task.sleep(for: .milliseconds(10))
        }
        run.cancel()
        _ = await run.result
        let documents = try await disk.objects.documents(.job, prefix: CleanAuditPart.key)
        let part = try #require(documents.first.flatMap(CleanAuditPart.init))
        #expect(part.cursor.sequence > 0 && part.layoutVersion == disk.store.replicator.layout.version)
        try await disk.reopen()
        #expect(try await audited(disk).state == .completed)
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

    @Test func theStateOfALaterFormatIsKeptAndSaid() async throws {
        let disk = try await filled()
        let volume = try #require(disk.store.replicator.volumes.slots.first)
        let known = ScrubJob(.volume(volume.id))
        let later: [UInt8] = [200] + known.body.dropFirst()
        try await disk.objects.write(documents: [DocumentWrite(space: .job, key: known.key, body: later)])
        try await disk.reopen()
        let scrubs = disk.store.scrubs
        let jobs = try await scrubs.jobs()
        let job = try #require(jobs.first { $0.subject == known.subject })
        #expect(job.state == .failed && job.isOfLaterFormat && job.message.contains("format 200"))
        #expect(scrubs.schedule.next(job) == nil)
        for change in [scrubs.start, scrubs.pause, scrubs.resume, scrubs.cancel] {
            await #expect {
                try await change(jobs.map(\.subject))
            } throws: {
                ($0 as? StoreError)?.code == .unsupportedFormat
            }
        }
        // None of the others was started by what was refused, and each can be.
        #expect(try await scrubs.jobs().allSatisfy { !$0.isActive })
        try await scrubs.start([.audit])
        try await scrubs.runToEnd()
        #expect(try await scrubs.jobs().last?.state == .completed)
        try await disk.reopen()
        let documents = try await disk.objects.documents(.job, prefix: ScrubJob.prefix)
        #expect(documents.first { $0.key == known.key }?.body == later)
        try await disk.store.close()
    }

    @Test func aStateThatIsDamagedIsSaidAndBegunAnewWhenAsked() async throws {
        let disk = try await filled()
        let known = ScrubJob(.audit)
        let damaged = Array(known.body.dropLast(3))
        try await disk.objects.write(documents: [DocumentWrite(space: .job, key: known.key, body: damaged)])
        try await disk.reopen()
        let scrubs = disk.store.scrubs
        let job = try #require(try await scrubs.jobs().last)
        #expect(job.subject == .audit && job.state == .failed && job.message.contains("can't be read"))
        #expect(scrubs.schedule.next(job) != nil)
        try await scrubs.start([.audit])
        #expect(try await audited(disk).state == .completed)
        try await disk.reopen()
        let read = try #require(try await disk.store.scrubs.jobs().last)
        #expect(read.state == .completed && read.message.isEmpty)
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

    // MARK: What nobody has any more

    /// Chunks that are damaged on all volumes: of a part of an open upload, of a version, and of nothing.
    private func damaged(_ disk: StoreOnDisk) async throws -> [String: Digest] {
        let gone = try ObjectKey("gone")
        let row = try await disk.objects.put(
            PutRequest(bucket: disk.bucket, key: gone),
            body: Pieces(content(21))
        )
        _ = try await disk.objects.delete(
            VersionAddress(bucket: disk.bucket, key: gone, selector: .id(row.id))
        )
        let key = try ObjectKey("open")
        let upload = try await disk.objects.createUpload(CreateUploadRequest(bucket: disk.bucket, key: key))
        let address = UploadAddress(bucket: disk.bucket, key: key, id: upload.id)
        _ = try await disk.objects.putPart(
            PutPartRequest(upload: address, number: 1),
            body: Pieces(content(22))
        )
        let labels = disk.store.replicator.volumes.slots.map(\.label)
        let harmed = [content(1), content(21), content(22)]
        try await disk.reopen {
            for label in labels {
                for bytes in harmed { try flip(Array(bytes[1000..<1100]), below: label) }
            }
        }
        let names = harmed.map { SHA256Hasher.hash($0) }
        return ["version": names[0], "nothing": names[1], "upload": names[2]]
    }

    private func outcomes(_ disk: StoreOnDisk) async throws -> [Digest: [Finding.Outcome]] {
        let subjects = disk.store.replicator.volumes.slots.map { ScrubSubject.volume($0.id) }
        try await disk.store.scrubs.start(subjects)
        try await disk.store.scrubs.runToEnd()
        return Dictionary(grouping: try await all(disk.store.findings)) { $0.finding.chunk ?? .zero }
            .mapValues { $0.map(\.finding.outcome) }
    }

    @Test func onlyWhatNothingNeedsIsGarbage() async throws {
        let disk = try await filled()
        let chunks = try await damaged(disk)
        let found = try await outcomes(disk)
        #expect(found[chunks["version"] ?? .zero] == [.unrepairable, .unrepairable, .unrepairable])
        #expect(found[chunks["upload"] ?? .zero] == [.unrepairable, .unrepairable, .unrepairable])
        #expect(found[chunks["nothing"] ?? .zero] == [.mended, .mended, .mended])
        let jobs = try await disk.store.scrubs.jobs()
        #expect(jobs.reduce(0) { $0 + $1.unrepairableCount } == 6)
        #expect(jobs.reduce(0) { $0 + $1.repairedCount } == 3)
        try await disk.store.close()
    }

    @Test func whatMayBeNeededAfterAllIsNoGarbage() async throws {
        let disk = try await filled()
        try await disk.store.garbage.begin(didRebuildCatalog: true)
        let chunks = try await damaged(disk)
        let found = try await outcomes(disk)
        #expect(disk.store.replicator.garbage.hold != nil)
        #expect(found[chunks["nothing"] ?? .zero] == [.unrepairable, .unrepairable, .unrepairable])
        try await disk.store.close()
    }

    // MARK: Bounds of the ledger

    private func finding(_ number: UInt64, _ outcome: Finding.Outcome) -> Finding {
        Finding(
            chunk: SHA256Hasher.hash(Array("\(number)".utf8)),
            volume: VolumeID(high: 1, low: 1),
            kind: .corrupt,
            foundBy: .scrub,
            foundAt: Timestamp(milliseconds: Int64(1000 + number)),
            detail: String(repeating: "d", count: 500),
            outcome: outcome
        )
    }

    /// Needs of many chunks, each of many versions with long keys.
    private func fatNeeds(_ chunks: [Digest], versionCount: Int) throws -> ChunkNeeds {
        var needs = ChunkNeeds()
        for number in 0..<versionCount {
            let key = try ObjectKey(bytes: [UInt8](repeating: 0x6b, count: 1000) + Array("\(number)".utf8))
            let version = LossAccount.Version(
                bucket: "models",
                key: "\(key)",
                id: "\(number)",
                isNewest: true,
                size: 1,
                state: .lost,
                mirrors: (0..<16).map { "mirror-\($0)" }
            )
            let place = ChunkNeeds.Place(bucket: BucketID(rawValue: 1), name: "models", key: key)
            for chunk in chunks { needs.note(chunk, version, place, version.mirrors) }
        }
        return needs
    }

    @Test func whatIsToldOfLossesIsBoundedInBytes() throws {
        let findings = (0..<256 as Range<UInt64>).map { finding($0, .unrepairable) }
        let chunks = findings.compactMap(\.chunk)
        let needs = try fatNeeds(chunks, versionCount: 140)
        var rows: [UniqueID: FindingRow] = [:]
        for (number, finding) in findings.enumerated() {
            let chunk = chunks[number]
            var row = FindingRow(id: UniqueID(high: 1, low: UInt64(number)), finding)
            row.names = try #require(needs.names[chunk])
            row.holders = try #require(needs.holders[chunk])
            row.account = needs.accounts[chunk]
            #expect(row.account?.neededCount == 140 && !row.names.isEmpty)
            #expect(row.body.count < 128 << 10)
            #expect(try FindingRow(DocumentRow(space: .finding, key: row.key, body: row.body)) == row)
            rows[row.id] = row
        }
        // One name of each stands beside the bound.
        let all = rows.values.reduce(0) { $0 + $1.body.count }
        #expect(all < Limits.lossAccountsByteCountMax + 256 * 5000)
        #expect(rows.values.contains { $0.account?.versions.count ?? 0 > 1 })
        var written = 0
        while !rows.isEmpty {
            let batch = FindingLedger.batch(of: rows)
            #expect(!batch.isEmpty && batch.reduce(0) { $0 + $1.body.count } <= 1 << 20)
            for (row, body) in batch {
                #expect(body == row.body)
                rows[row.id] = nil
            }
            written += batch.count
            guard !batch.isEmpty else { break }
        }
        #expect(written == 256)
    }

    @Test func theLedgerMakesRoomByBytesToo() async throws {
        let disk = try await StoreOnDisk()
        // The store's own takes no part: it has looked already.
        let end = ContinuousClock.now + .seconds(30)
        while !disk.store.findings.isLoaded, ContinuousClock.now < end {
            try await Task.sleep(for: .milliseconds(10))
        }
        var ledger = FindingLedger(disk.objects, byteCountMax: 100_000)
        for number in 0..<5 as Range<UInt64> { ledger.note(finding(number, .pending)) }
        for number in 5..<300 as Range<UInt64> { ledger.note(finding(number, .unrepairable)) }
        try await ledger.flush()
        let rows = try await all(ledger)
        #expect(rows.reduce(0) { $0 + $1.body.count } <= 100_000)
        #expect(rows.count { $0.isOpen } == 5)
        // The newest stay.
        #expect(rows.last?.finding == finding(299, .unrepairable))
        // One that takes them over knows what there is.
        ledger = FindingLedger(disk.objects, byteCountMax: 5000)
        #expect(try await ledger.load().count == 5)
        try await ledger.flush()
        let left = try await all(ledger)
        #expect(left.count == 5 && left.allSatisfy(\.isOpen))
        try await disk.store.close()
    }

    private func all(_ ledger: FindingLedger) async throws -> [FindingRow] {
        var query = FindingLedger.Query()
        query.limit = 1000
        return try await ledger.find(query)
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
