internal import ContentHashing
internal import Glibc
package import StoreModel

/// What a check of a volume found.
package struct VolumeCheckReport: Sendable {
    package struct Problem: Sendable, CustomStringConvertible {
        package enum Severity: Sendable {
            /// Nothing is lost: what a crash leaves and the next opening tidies up, or what was dealt with already.
            case note
            case damage
        }

        package let severity: Severity
        package let location: RecordLocation?
        package let digest: Digest?
        package let message: String

        package var description: String {
            var text = severity == .note ? "note: " : "damage: "
            text += message
            if let location { text += " at \(location)" }
            if let digest { text += ", record \(digest)" }
            return text
        }
    }

    package internal(set) var problems: [Problem] = []
    package internal(set) var identity: VolumeIdentity?
    package internal(set) var segmentCount = 0
    package internal(set) var recordCount = 0
    package internal(set) var payloadByteCount: UInt64 = 0
    package internal(set) var logBase = LogPosition.origin
    package internal(set) var logTail = LogPosition.origin

    package var damage: [Problem] { problems.filter { $0.severity == .damage } }
}

/// Checks a volume that nobody uses: identity, segment headers, every record, footers against records, the chain of
/// the commit log, the watermarks. Changes nothing but the lock file.
package enum VolumeCheck {
    /// - Parameter deep: Compute the SHA-256 of every payload, and look at padding, rather than only at checksums.
    /// - Throws: `.locked`, `.identityMissing`, `.corrupt` when no copy of the identity is readable,
    ///   `.unsupportedFormat`, `.inputOutput` when a directory or a file can't be read at all.
    package static func run(_ disk: any Disk, deep: Bool) throws(VolumeError) -> VolumeCheckReport {
        var run = CheckRun(disk: disk, deep: deep, loaded: try IdentityFile.load(from: disk))
        let lock = try run.takeLock()
        defer { lock?.release() }
        return try run.run()
    }
}

private struct CheckRun {
    private let disk: any Disk
    private let deep: Bool
    private let identityFile: IdentityFile
    private let tag: UInt64
    private var report = VolumeCheckReport()
    private var chain = CommitChain()
    private var syncedLog: RecordLocation
    private var syncedBulk: RecordLocation
    /// Places that a repair has marked as dead; what is wrong there is dealt with.
    private var dead: Set<RecordLocation> = []
    /// How long what is no record was when it was dealt with, where that is told.
    private var spentHoles: [RecordLocation: UInt64] = [:]

    init(disk: any Disk, deep: Bool, loaded: IdentityFile.Loaded) {
        self.disk = disk
        self.deep = deep
        identityFile = loaded.file
        let identity = loaded.file.identity
        tag = RecordFormat.tag(store: identity.storeID, volume: identity.volumeID)
        syncedLog = loaded.file.memory.watermarks.log
        syncedBulk = loaded.file.memory.watermarks.bulk
        report.identity = identity
        if let floor = loaded.file.memory.logFloor { chain.reset(base: floor.position) }
        for fault in loaded.faults { add(.damage, "\(fault.name) is not usable: \(fault.reason)") }
        if loaded.file.memory.isLogDamaged {
            add(.damage, "the commit log has lost batches and was not rebuilt since")
            let attested = loaded.file.memory.attestedTail.map {
                "the log ended at \($0): the volume votes for that, and opening the store rebuilds it from a volume whose log"
                    + " is whole up to there"
            }
            add(
                .note,
                attested
                    ?? "it is not known where the log ended: the volume has no vote until the others have rebuilt it"
            )
        }
        if let reason = loaded.file.memory.failureReason { add(.damage, "the volume failed: \(reason)") }
    }

    mutating func takeLock() throws(VolumeError) -> (any DiskLock)? {
        do throws(DiskError) {
            return try disk.lock("lock", content: [UInt8](String(getpid()).utf8))
        } catch {
            guard error.code != .locked else {
                throw VolumeError(
                    .locked,
                    "The volume is in use by process \(error.detail).",
                    path: disk.label,
                    cause: error
                )
            }
            add(.note, "the volume could not be locked (\(error)); what follows may be in motion")
            return nil
        }
    }

    mutating func run() throws(VolumeError) -> VolumeCheckReport {
        let names: [String]
        do throws(DiskError) {
            names = try disk.list("segments")
            let quarantined = try disk.list("quarantine")
            if !quarantined.isEmpty { add(.note, "\(quarantined.count) damaged pieces are in quarantine") }
        } catch {
            throw VolumeError(.inputOutput, "The volume can't be listed.", path: disk.label, cause: error)
        }
        let segments = names.compactMap { SegmentFiles.parse($0) }.sorted { $0.number < $1.number }
        let logs = segments.filter { $0.kind == .log }
        let bulks = segments.filter { $0.kind == .bulk }
        for segment in logs { try collectTombstones(segment.number) }
        for segment in logs { try check(segment.number, .log, isLast: segment.number == logs.last?.number) }
        for segment in bulks {
            try check(segment.number, .bulk, isLast: segment.number == bulks.last?.number)
        }
        for mark in [syncedLog, syncedBulk] where mark.segment != 0 {
            if segments.contains(where: { $0.number == mark.segment }) { continue }
            add(.damage, "a segment is missing", RecordLocation(segment: mark.segment, unit: 0))
        }
        if chain.isDamaged { add(.damage, "the commit log has a hole behind \(chain.tail)") }
        report.logBase = chain.base
        report.logTail = chain.tail
        report.segmentCount = segments.count
        return report
    }

    private mutating func add(
        _ severity: VolumeCheckReport.Problem.Severity,
        _ message: String,
        _ location: RecordLocation? = nil,
        _ digest: Digest? = nil
    ) {
        report.problems.append(
            .init(severity: severity, location: location, digest: digest, message: message)
        )
    }

    private func open(_ number: UInt32, _ kind: SegmentKind) throws(VolumeError) -> (SegmentReader, UInt64) {
        do throws(DiskError) {
            let file = try disk.open(SegmentFiles.name(number, kind), .read)
            let reader = SegmentReader(file: file, number: number, kind: kind, tag: tag, path: disk.label)
            return (reader, try file.size())
        } catch {
            throw VolumeError(
                .inputOutput,
                "Segment \(number) can't be opened.",
                path: disk.label,
                cause: error
            )
        }
    }

    private func limit(_ reader: SegmentReader, _ fileByteCount: UInt64) -> UInt64 {
        let frozenEnd = identityFile.memory.frozen.first { $0.number == reader.number }?.end
        return min(frozenEnd ?? .max, fileByteCount, UInt64(UInt32.max) * RecordFormat.unit)
    }

    private mutating func collectTombstones(_ number: UInt32) throws(VolumeError) {
        let (reader, fileByteCount) = try open(number, .log)
        let contents: SegmentContents
        if let footer = try reader.footer(fileByteCount: fileByteCount) {
            contents = footer
        } else {
            let scan = try SegmentScanner(reader, limit: limit(reader, fileByteCount)).run()
            for item in scan.items {
                if case .closer(let closer) = item.content { note(closer.section) }
            }
            contents = scan.footer ?? SegmentSettlement(scan, reader: reader).contents
        }
        note(contents.section)
        for tombstone in contents.tombstones {
            dead.insert(tombstone.location)
            guard let byteCount = tombstone.holeByteCount, byteCount > 0 else { continue }
            spentHoles[tombstone.location] = max(spentHoles[tombstone.location] ?? 0, byteCount)
        }
    }

    private mutating func note(_ section: VolumeSection) {
        syncedLog = max(syncedLog, section.syncedLog)
        syncedBulk = max(syncedBulk, section.syncedBulk)
    }

    private mutating func check(_ number: UInt32, _ kind: SegmentKind, isLast: Bool) throws(VolumeError) {
        let (reader, fileByteCount) = try open(number, kind)
        try checkHeader(reader)
        let trailer = try reader.trailer(fileByteCount: fileByteCount)
        let footer = try reader.footer(fileByteCount: fileByteCount)
        let isFrozen = identityFile.memory.frozen.contains { $0.number == number }
        let isHistory = !isLast || isFrozen || footer != nil
        // A sealed segment is walked up to its footer, which is compared with what the walk finds.
        let walkEnd = footer == nil ? limit(reader, fileByteCount) : trailer?.footer.offset ?? fileByteCount
        var scan = try SegmentScanner(reader, limit: walkEnd, footerStart: trailer?.footer.offset).run()
        if footer == nil, let left = identityFile.memory.frozen.first(where: { $0.number == number }) {
            scan.noteLostEnd(synced: left.end)
        }
        let mark = kind == .log ? syncedLog : syncedBulk
        let synced = isHistory || mark.segment > number ? .max : mark.segment == number ? mark.offset : 0
        let settlement = try SegmentSettlement(scan, reader: reader, synced: synced, discardsUnsynced: false)
        for damage in settlement.damage {
            let known = footer?.chain.contains {
                $0.kind == .hole && $0.unit == reader.location(damage.start).unit
            }
            // Of a dead record it doesn't matter what is left.
            let location = reader.location(damage.start)
            let isDead =
                dead.contains(location)
                && spentHoles[location].map { $0 >= damage.end - damage.start } ?? true
            let severity: VolumeCheckReport.Problem.Severity = known == true || isDead ? .note : .damage
            add(severity, damage.reason, reader.location(damage.start), damage.digest)
        }
        if settlement.end < scan.end {
            let location = reader.location(RecordFormat.roundedUp(settlement.end, to: RecordFormat.unit))
            add(.note, "\(scan.end - settlement.end) bytes of an unfinished write", location)
        }
        if let footer {
            compare(footer, settlement.contents, reader)
        } else if !isLast && !isFrozen && settlement.damage.isEmpty {
            add(.damage, "the footer or the trailer is missing", reader.location(0))
        }
        if kind == .log {
            chain.take(
                footer ?? settlement.contents,
                segment: number,
                floor: identityFile.memory.logFloor
            )
        }
        try checkRecords(settlement.contents, reader)
    }

    private mutating func checkHeader(_ reader: SegmentReader) throws(VolumeError) {
        let identity = identityFile.identity
        let header = SegmentHeader(
            number: reader.number,
            kind: reader.kind,
            store: identity.storeID,
            volume: identity.volumeID
        )
        let bytes: [UInt8]
        do throws(DiskError) {
            bytes = try reader.file.read(count: Int(RecordFormat.segmentHeaderByteCount), at: 0)
        } catch {
            throw reader.inputOutput(error, at: reader.location(0))
        }
        switch header.check(bytes) {
        case .valid: break
        case .unsupported(let what): throw VolumeError(.unsupportedFormat, what + ".", path: disk.label)
        case .damaged:
            // The crash came between naming the segment and writing its header: there are no records.
            let isFresh = bytes.allSatisfy { $0 == 0 }
            add(isFresh ? .note : .damage, "the segment's header is damaged or missing", reader.location(0))
        }
        if deep, bytes.dropFirst(64).contains(where: { $0 != 0 }) {
            add(.damage, "bytes behind the segment's header are not zero", reader.location(0))
        }
    }

    private mutating func compare(
        _ footer: SegmentContents,
        _ walked: SegmentContents,
        _ reader: SegmentReader
    ) {
        // Records that are dead may be holes by now.
        func isAlive(_ entry: SegmentContents.Entry) -> Bool {
            !dead.contains(RecordLocation(segment: reader.number, unit: entry.unit))
        }
        guard
            footer.entries.filter(isAlive) != walked.entries.filter(isAlive)
                || footer.tombstones != walked.tombstones
                || footer.chain.filter({ $0.kind != .hole }) != walked.chain.filter({ $0.kind != .hole })
        else { return }
        let places = Set(walked.entries.map(\.unit))
        for entry in footer.entries where !places.contains(entry.unit) {
            let location = RecordLocation(segment: reader.number, unit: entry.unit)
            if dead.contains(location) { continue }
            add(.damage, "a record that the footer names is not there", location, entry.digest)
        }
        add(.note, "the footer and the records of the segment differ", reader.location(0))
    }

    private mutating func checkRecords(_ contents: SegmentContents, _ reader: SegmentReader)
        throws(VolumeError)
    {
        for entry in contents.entries {
            let location = RecordLocation(segment: reader.number, unit: entry.unit)
            if dead.contains(location) { continue }
            report.recordCount += 1
            report.payloadByteCount += UInt64(entry.byteCount)
            do throws(VolumeError) {
                if deep {
                    let (header, _) = try reader.strictRecord(at: location)
                    if try !reader.hasZeroPadding(header, at: location) {
                        add(.damage, "the padding behind a record is not zero", location, entry.digest)
                    }
                } else {
                    _ = try reader.record(at: location)
                }
            } catch {
                add(.damage, error.message, location, entry.digest)
            }
        }
    }
}
