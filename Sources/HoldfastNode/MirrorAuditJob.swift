package import Catalog
package import Mirroring
package import ObjectService
package import StoreModel

// The state of a mirror's audit as a document of the space job. Key: "mirror/audit/" and the mirror's number (8 bytes,
// big-endian). Body, little-endian: format version (1, 1 byte) · state (1, as of scrubs) · started, updated, ended at (8
// each, 0: not yet) · where it goes on: 1, bucket (text), key (counted), or 0 · counts: checked, waiting, missing,
// different, extra, queued again (8 each) · start of the last pass that was completed, and its end (8 each, 0: none) ·
// passes completed (8) · message (text). Format version 2, written for an audit that was started as a deep one only, ends
// with 1 (1 byte). So a program that knows no such audits reads all others.

/// The audit of one mirror: where it is, and what came of it.
package struct MirrorAuditJob: Hashable, Sendable {
    package let mirror: MirrorID
    package var state = ScrubJob.State.idle
    package var startedAt: Timestamp?
    package var updatedAt: Timestamp?
    package var endedAt: Timestamp?
    package var position: MirrorPosition?
    package var checkedCount: UInt64 = 0
    package var waitingCount: UInt64 = 0
    package var missingCount: UInt64 = 0
    package var differentCount: UInt64 = 0
    package var extraCount: UInt64 = 0
    package var requeuedCount: UInt64 = 0
    package var lastPassStartedAt: Timestamp?
    package var lastPassEndedAt: Timestamp?
    package var passCount: UInt64 = 0
    package var message = ""
    /// It was started as one that asks for each object's version and SHA-256, whatever the schedule says.
    package var isDeep = false

    package init(_ mirror: MirrorID) { self.mirror = mirror }

    package var isActive: Bool { state == .running || state == .paused }
    package var foundCount: UInt64 { missingCount + differentCount + extraCount }

    mutating func restart(at now: Timestamp, isDeep: Bool = false) {
        var fresh = MirrorAuditJob(mirror)
        fresh.isDeep = isDeep
        fresh.lastPassStartedAt = lastPassStartedAt
        fresh.lastPassEndedAt = lastPassEndedAt
        fresh.passCount = passCount
        fresh.state = .running
        fresh.startedAt = now
        fresh.updatedAt = now
        self = fresh
    }

    // MARK: Document

    static let prefix = [UInt8]("mirror/audit/".utf8)
    private static let version: UInt8 = 1
    private static let deepVersion: UInt8 = 2

    var key: [UInt8] { MirrorKey.under(Self.prefix, mirror) }

    var body: [UInt8] {
        var writer = ByteWriter()
        writer.write(isDeep ? Self.deepVersion : Self.version)
        writer.write(state.rawValue)
        for time in [startedAt, updatedAt, endedAt] { writer.write(time?.milliseconds ?? 0) }
        writer.write(UInt8(position == nil ? 0 : 1))
        if let position {
            writer.write(text: position.bucket.description)
            writer.write(counted: position.key)
        }
        for count in [
            checkedCount, waitingCount, missingCount, differentCount, extraCount, requeuedCount,
        ] { writer.write(count) }
        for time in [lastPassStartedAt, lastPassEndedAt] { writer.write(time?.milliseconds ?? 0) }
        writer.write(passCount)
        writer.write(text: String(message.prefix(1024)))
        if isDeep { writer.write(UInt8(1)) }
        return writer.bytes
    }

    init(_ document: DocumentRow) throws(StoreError) {
        if let version = document.body.first, version > Self.deepVersion {
            throw StoreError(
                .unsupportedFormat,
                "The state of a mirror's audit has format \(version); this program reads up to \(Self.deepVersion).",
                advice: "Use the version of holdfast that wrote it, or a newer one."
            )
        }
        do throws(ByteReader.Failure) {
            guard let id = MirrorKey.id(of: document.key, under: Self.prefix) else {
                throw ByteReader.Failure("an unknown key")
            }
            mirror = id
            var reader = ByteReader(document.body)
            let version = try reader.read(UInt8.self)
            guard version == Self.version || version == Self.deepVersion else {
                throw ByteReader.Failure("format \(version)")
            }
            guard let state = ScrubJob.State(rawValue: try reader.read(UInt8.self)) else {
                throw ByteReader.Failure("an unknown state")
            }
            self.state = state
            startedAt = try reader.readTime()
            updatedAt = try reader.readTime()
            endedAt = try reader.readTime()
            if try reader.read(UInt8.self) == 1 {
                let name = try reader.readText()
                let key = try reader.readCounted()
                guard let bucket = try? BucketName(name) else {
                    throw ByteReader.Failure("a position in no bucket")
                }
                position = MirrorPosition(bucket: bucket, key: key)
            }
            checkedCount = try reader.read(UInt64.self)
            waitingCount = try reader.read(UInt64.self)
            missingCount = try reader.read(UInt64.self)
            differentCount = try reader.read(UInt64.self)
            extraCount = try reader.read(UInt64.self)
            requeuedCount = try reader.read(UInt64.self)
            lastPassStartedAt = try reader.readTime()
            lastPassEndedAt = try reader.readTime()
            passCount = try reader.read(UInt64.self)
            message = try reader.readText()
            if version == Self.deepVersion {
                guard try reader.read(UInt8.self) == 1 else { throw ByteReader.Failure("an unknown depth") }
                isDeep = true
            }
            try reader.finish()
        } catch {
            throw StoreError(.storeDamaged, "The state of a mirror's audit can't be read: \(error).")
        }
    }
}
