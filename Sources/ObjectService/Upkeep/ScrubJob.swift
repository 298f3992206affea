package import BlobVolume
internal import Catalog
package import Replication
package import StoreModel

// A scrub's state as a document of the space job. Key: "scrub/volume/" and the volume's id (16 bytes), or "scrub/audit".
// Body, little-endian: format version (1, 1 byte) · state (1) · started, updated, ended at (8 each, 0: not yet) ·
// cursor: segment (4), offset (8) · last segment (4) · audit cursor: phase (1), sequence (8), space (1), key (counted) ·
// counts: bytes, bytes in all, records, found, repaired, unrepairable, failed (8 each) · start of the last pass that was
// completed, and its end (8 each, 0: none) · passes completed (8) · message (text)

/// What a scrub looks at.
package enum ScrubSubject: Hashable, Sendable, Comparable {
    /// Every byte of one volume.
    case volume(VolumeID)
    /// Every chunk's copies.
    case audit

    package static func < (left: ScrubSubject, right: ScrubSubject) -> Bool {
        switch (left, right) {
        case (.volume(let left), .volume(let right)): left < right
        case (.volume, .audit): true
        case (.audit, _): false
        }
    }
}

/// One scrub: where it is, and what came of it.
package struct ScrubJob: Hashable, Sendable {
    package enum State: UInt8, Hashable, Sendable {
        case idle = 0, running, paused, completed, cancelled, failed

        package var name: String {
            switch self {
            case .idle: "idle"
            case .running: "running"
            case .paused: "paused"
            case .completed: "completed"
            case .cancelled: "cancelled"
            case .failed: "failed"
            }
        }
    }

    package let subject: ScrubSubject
    package var state = State.idle
    package var startedAt: Timestamp?
    package var updatedAt: Timestamp?
    package var endedAt: Timestamp?
    package var cursor = ScrubCursor.start
    package var lastSegment: UInt32 = 0
    package var auditCursor = AuditCursor.start
    package var byteCount: UInt64 = 0
    package var totalByteCount: UInt64 = 0
    package var recordCount: UInt64 = 0
    package var foundCount: UInt64 = 0
    package var repairedCount: UInt64 = 0
    package var unrepairableCount: UInt64 = 0
    package var failedCount: UInt64 = 0
    /// Of the last pass that came to its end: what is on the volume since before that was verified by it.
    package var lastPassStartedAt: Timestamp?
    package var lastPassEndedAt: Timestamp?
    package var passCount: UInt64 = 0
    package var message = ""
    /// Its document was written by a later version of the program: nothing is done with it here, and it is not written over.
    package private(set) var isOfLaterFormat = false

    package init(_ subject: ScrubSubject) { self.subject = subject }

    /// What stands for a job whose document can't be read. One that is damaged may be started anew.
    private init(_ subject: ScrubSubject, unreadable problem: StoreError) {
        self.subject = subject
        state = .failed
        message = problem.description
        isOfLaterFormat = problem.code == .unsupportedFormat
    }

    package var isActive: Bool { state == .running || state == .paused }

    /// Begins anew; what was known of passes that were completed stays.
    mutating func restart(at now: Timestamp) {
        var fresh = ScrubJob(subject)
        fresh.lastPassStartedAt = lastPassStartedAt
        fresh.lastPassEndedAt = lastPassEndedAt
        fresh.passCount = passCount
        fresh.state = .running
        fresh.startedAt = now
        fresh.updatedAt = now
        self = fresh
    }

    mutating func count(_ outcome: Finding.Outcome) {
        switch outcome {
        case .pending: break
        case .repaired, .rescued, .mended: repairedCount += 1
        case .unrepairable: unrepairableCount += 1
        case .failed: failedCount += 1
        }
    }

    /// So many of what could not be repaired turned out to be nobody's, and are gone.
    mutating func noteMended(_ count: UInt64) {
        let count = min(count, unrepairableCount)
        unrepairableCount -= count
        repairedCount += count
    }

    // MARK: Document

    static let prefix = [UInt8]("scrub/".utf8)
    private static let volumePrefix = [UInt8]("scrub/volume/".utf8)
    private static let auditKey = [UInt8]("scrub/audit".utf8)
    private static let version: UInt8 = 1

    var key: [UInt8] {
        switch subject {
        case .volume(let id): Self.volumePrefix + id.bytes
        case .audit: Self.auditKey
        }
    }

    var body: [UInt8] {
        var writer = ByteWriter()
        writer.write(Self.version)
        writer.write(state.rawValue)
        for time in [startedAt, updatedAt, endedAt] { writer.write(time?.milliseconds ?? 0) }
        writer.write(cursor.segment)
        writer.write(cursor.offset)
        writer.write(lastSegment)
        auditCursor.write(to: &writer)
        for count in [
            byteCount, totalByteCount, recordCount, foundCount, repairedCount, unrepairableCount, failedCount,
        ] { writer.write(count) }
        for time in [lastPassStartedAt, lastPassEndedAt] { writer.write(time?.milliseconds ?? 0) }
        writer.write(passCount)
        writer.write(text: String(message.prefix(1024)))
        return writer.bytes
    }

    /// The job of a document, with what is wrong with the document. No job where it can't be told whose it is.
    static func read(_ document: DocumentRow) -> (job: ScrubJob?, problem: StoreError?) {
        do {
            return (try ScrubJob(document), nil)
        } catch {
            return ((try? subject(ofKey: document.key)).map { ScrubJob($0, unreadable: error) }, error)
        }
    }

    private static func subject(ofKey key: [UInt8]) throws(ByteReader.Failure) -> ScrubSubject {
        if key == auditKey { return .audit }
        guard key.starts(with: volumePrefix) else { throw ByteReader.Failure("an unknown key") }
        var reader = ByteReader(key[volumePrefix.count...])
        let id = try reader.readUniqueID()
        try reader.finish()
        return .volume(id)
    }

    init(_ document: DocumentRow) throws(StoreError) {
        if let version = document.body.first, version > Self.version {
            throw StoreError(
                .unsupportedFormat,
                "The state of a scrub has format \(version); this program reads \(Self.version)."
            )
        }
        do throws(ByteReader.Failure) {
            subject = try Self.subject(ofKey: document.key)
            var reader = ByteReader(document.body)
            _ = try reader.read(UInt8.self)
            guard let state = State(rawValue: try reader.read(UInt8.self)) else {
                throw ByteReader.Failure("an unknown state")
            }
            self.state = state
            startedAt = try reader.readTime()
            updatedAt = try reader.readTime()
            endedAt = try reader.readTime()
            cursor.segment = try reader.read(UInt32.self)
            cursor.offset = try reader.read(UInt64.self)
            lastSegment = try reader.read(UInt32.self)
            auditCursor = try AuditCursor(from: &reader)
            byteCount = try reader.read(UInt64.self)
            totalByteCount = try reader.read(UInt64.self)
            recordCount = try reader.read(UInt64.self)
            foundCount = try reader.read(UInt64.self)
            repairedCount = try reader.read(UInt64.self)
            unrepairableCount = try reader.read(UInt64.self)
            failedCount = try reader.read(UInt64.self)
            lastPassStartedAt = try reader.readTime()
            lastPassEndedAt = try reader.readTime()
            passCount = try reader.read(UInt64.self)
            message = try reader.readText()
            try reader.finish()
            guard cursor.offset % 64 == 0 else { throw ByteReader.Failure("a cursor between two records") }
        } catch {
            throw StoreError(.storeDamaged, "The state of a scrub can't be read: \(error).")
        }
    }
}

extension ByteReader {
    /// A time of a job or a finding; 0 stands for none.
    package mutating func readTime() throws(Failure) -> Timestamp? {
        let value = try read(Int64.self)
        return value == 0 ? nil : Timestamp(milliseconds: value)
    }
}
