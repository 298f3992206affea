internal import Catalog
internal import Replication
internal import StoreModel

// The part of an audit that found nothing, as a document of the space job. Key: "audit/clean". Body, little-endian: format
// version (1, 1 byte) · when the audit began (8) · version of the volumes' layout (8) · phase (1), sequence (8), space (1), key (counted)

/// Up to where an audit that garbage collection waits for has found everything, from its beginning: what makes one that was
/// interrupted go on, also in another process, and end the hold all the same.
///
/// What the first part has seen can have become untrue until the rest is done. It counts because
/// 1. the catalog is the same: whoever builds it anew removes this document in the commit that puts collection on hold;
/// 2. chunks belong where they belonged: another layout, and the audit begins anew;
/// 3. no volume has lost what was seen on it: at the end every volume is there and whole. A volume that lost payloads has
///    taken back that it is whole, durably, and is so again only after it was compared with everything alive; one that lost a
///    copy has a finding, and none of these since the audit began may be without a repair.
/// What was committed since the audit began is in its rest, or was written to a quorum by this catalog.
struct CleanAuditPart: Hashable, Sendable {
    static let key = [UInt8]("audit/clean".utf8)
    private static let version: UInt8 = 1

    /// Which audit it is a part of.
    let startedAt: Timestamp
    let layoutVersion: UInt64
    let cursor: AuditCursor

    init(startedAt: Timestamp, layoutVersion: UInt64, cursor: AuditCursor) {
        self.startedAt = startedAt
        self.layoutVersion = layoutVersion
        self.cursor = cursor
    }

    var body: [UInt8] {
        var writer = ByteWriter()
        writer.write(Self.version)
        writer.write(startedAt.milliseconds)
        writer.write(layoutVersion)
        cursor.write(to: &writer)
        return writer.bytes
    }

    /// nil: it can't be read, and proves nothing.
    init?(_ document: DocumentRow) {
        var reader = ByteReader(document.body)
        guard (try? reader.read(UInt8.self)) == Self.version,
            let startedAt = try? reader.read(Int64.self),
            let layoutVersion = try? reader.read(UInt64.self), let cursor = try? AuditCursor(from: &reader),
            (try? reader.finish()) != nil
        else { return nil }
        self.init(
            startedAt: Timestamp(milliseconds: startedAt),
            layoutVersion: layoutVersion,
            cursor: cursor
        )
    }
}

extension AuditCursor {
    func write(to writer: inout ByteWriter) {
        writer.write(phase.rawValue)
        writer.write(sequence)
        writer.write(space)
        writer.write(counted: key)
    }

    init(from reader: inout ByteReader) throws(ByteReader.Failure) {
        self.init()
        guard let phase = Phase(rawValue: try reader.read(UInt8.self)) else {
            throw ByteReader.Failure("an unknown phase")
        }
        self.phase = phase
        sequence = try reader.read(UInt64.self)
        space = try reader.read(UInt8.self)
        key = try reader.readCounted()
    }
}
