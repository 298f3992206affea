internal import ContentHashing
internal import StoreModel

// The bytes of a segment file. All integers are little-endian; all checksums are XXH3 (64 bits).
//
// A segment is `segments/NNNNNNNN.log` or `.bulk` (eight digits or more; numbers are never used again):
//
//   offset  size  field
//        0     4  magic "HFSG"
//        4     2  format major: another one is refused
//        6     2  format minor
//        8     4  segment number, as in the name
//       12     1  kind: 1 log, 2 bulk
//       13     3  zero
//       16    16  store id
//       32    16  volume id
//       48     8  zero
//       56     8  checksum of bytes 0 ..< 56
//       64        zero up to 4,096, where the records begin
//
// A record stands at a multiple of 64 bytes (log) or 4,096 bytes (bulk):
//
//   offset  size  field
//        0     4  magic "HFRC"
//        4     1  type (RecordType): an unknown one is refused
//        5     1  format of the record: 1
//        6     2  zero
//        8     4  length of the payload
//       12     4  zero
//       16     4  segment number        \  a record that was written to the wrong place, or is left over from an
//       20     4  offset / 64            | earlier life of the blocks, is none
//       24     8  tag of the volume     /
//       32    32  SHA-256 of the payload; of a commit batch: its hash, which leaves the section out
//       64     8  checksum of the block table
//       72    16  zero
//       88     8  checksum of bytes 0 ..< 88
//       96   8×n  block table: checksum of each 64 KiB of payload
//        …     …  payload
//        …     …  zeros up to the next multiple of 64 (log) or 4,096 (bulk)
//
// In a log segment records form groups. A group ends with its closer: a commitBatch, mark, logReset or logTrim,
// whose payload ends with the section, which says what this volume knew when it wrote the group:
//
//   offset  size  field
//        0     4  start of the group / 64
//        4     4  records in the group, with the closer
//        8     4  log: segment number         \  everything before this place was fsynced
//       12     4  log: offset / 64            /
//       16     4  bulk: segment number        \  the same for bulk segments; 0, 0 when there is none
//       20     4  bulk: offset / 64           /
//       24     8  complete watermark: every payload of commits up to this sequence is here
//       32     8  highest commit index that this volume has seen
//       40    24  zero
//
// Payloads by type: payload: the bytes. commitBatch: the batch (CommitBatch.swift), section. mark: section.
// tombstone: digest (32), segment (4), offset / 64 (4): the record there is dead. tombstones: the same, 1 to 8,192 times
// (written since volume format 2; a program that does not know it refuses the record by its type). A digest whose first 24
// bytes are zeros stands for bytes that are no record, in a segment that gets no footer: they were dealt with. Its last 8
// bytes, big-endian, say how many they are; older programs wrote 0 there, which says nothing. logReset and logTrim:
// epoch (8), sequence (8), hash (32), section. footer: SegmentFooter.swift.
//
// Space of dead records is given back in sealed segments only, after their tombstones are durable: whole pages of the
// payload become a hole; the header stays, so that a walk steps over it. A segment without anything that is needed is removed; then volume.json says where the log begins (IdentityFile.swift).

enum RecordType: UInt8, Sendable {
    case payload = 1
    case commitBatch = 2
    /// Closes a group that has no batch.
    case mark = 3
    case tombstone = 4
    /// Drops every batch of the log; the log then starts after the position named.
    case logReset = 5
    /// Drops the batches up to a position of the log.
    case logTrim = 6
    case footer = 7
    /// Many tombstones in one record: what garbage collection writes.
    case tombstones = 8

    var isCloser: Bool {
        switch self {
        case .commitBatch, .mark, .logReset, .logTrim: true
        case .payload, .tombstone, .tombstones, .footer: false
        }
    }
}

enum SegmentKind: UInt8, Sendable {
    case log = 1
    case bulk = 2

    var alignment: UInt64 {
        switch self {
        case .log: RecordFormat.unit
        case .bulk: 4096
        }
    }

    var fileExtension: String {
        switch self {
        case .log: "log"
        case .bulk: "bulk"
        }
    }
}

enum RecordFormat {
    static let unit: UInt64 = 64
    static let headerByteCount = 96
    static let blockByteCount = 64 << 10
    static let sectionByteCount = 64
    static let positionByteCount = 48
    static let tombstoneByteCount = 40
    /// Of one record: keeps it at 320 KiB.
    static let tombstoneCountMax = 8192
    /// Bounds what a damaged length can make a reader allocate. Well above the largest chunk and batch.
    static let payloadByteCountMax = 64 << 20
    /// Lengths up to this, the largest chunk, are allocated without asking for the size of the file first.
    static let trustedByteCountMax = 4 << 20
    /// A footer indexes a whole segment.
    static let footerByteCountMax = 256 << 20
    static let segmentHeaderByteCount: UInt64 = 4096
    static let magic: UInt32 = 0x4352_4648  // "HFRC"
    static let segmentMagic: UInt32 = 0x4753_4648  // "HFSG"
    static let formatMajor: UInt16 = 1
    static let formatMinor: UInt16 = 0
    static let recordFormat: UInt8 = 1

    static func blockCount(_ payloadByteCount: Int) -> Int {
        (payloadByteCount + blockByteCount - 1) / blockByteCount
    }

    /// Header and block table.
    static func headByteCount(_ payloadByteCount: Int) -> Int {
        headerByteCount + 8 * blockCount(payloadByteCount)
    }

    /// The whole record with its padding.
    static func recordByteCount(_ payloadByteCount: Int, _ kind: SegmentKind) -> UInt64 {
        roundedUp(UInt64(headByteCount(payloadByteCount) + payloadByteCount), to: kind.alignment)
    }

    static func roundedUp(_ value: UInt64, to alignment: UInt64) -> UInt64 {
        (value + alignment - 1) / alignment * alignment
    }

    /// Binds records to one volume of one store.
    static func tag(store: StoreID, volume: VolumeID) -> UInt64 {
        BlockChecksum.xxh3(store.bytes + volume.bytes)
    }
}

/// The fixed part of a record.
struct RecordHeader: Sendable {
    let type: RecordType
    let payloadByteCount: Int
    let digest: Digest
    let tableChecksum: UInt64

    var headByteCount: Int { RecordFormat.headByteCount(payloadByteCount) }

    func recordByteCount(_ kind: SegmentKind) -> UInt64 {
        RecordFormat.recordByteCount(payloadByteCount, kind)
    }

    /// Writes the 96 bytes to the start of `buffer`.
    func write(to buffer: UnsafeMutableRawBufferPointer, at location: RecordLocation, tag: UInt64) {
        let header = UnsafeMutableRawBufferPointer(rebasing: buffer[..<RecordFormat.headerByteCount])
        header.initializeMemory(as: UInt8.self, repeating: 0)
        header.storeBytes(of: RecordFormat.magic.littleEndian, as: UInt32.self)
        header[4] = type.rawValue
        header[5] = RecordFormat.recordFormat
        header.storeBytes(of: UInt32(payloadByteCount).littleEndian, toByteOffset: 8, as: UInt32.self)
        header.storeBytes(of: location.segment.littleEndian, toByteOffset: 16, as: UInt32.self)
        header.storeBytes(of: location.unit.littleEndian, toByteOffset: 20, as: UInt32.self)
        header.storeBytes(of: tag.littleEndian, toByteOffset: 24, as: UInt64.self)
        digest.write(to: UnsafeMutableRawBufferPointer(rebasing: header[32..<64]))
        header.storeBytes(of: tableChecksum.littleEndian, toByteOffset: 64, as: UInt64.self)
        let checksum = BlockChecksum.xxh3(UnsafeRawBufferPointer(rebasing: header[..<88]))
        header.storeBytes(of: checksum.littleEndian, toByteOffset: 88, as: UInt64.self)
    }

    enum Parsed {
        case valid(RecordHeader)
        case invalid
        /// The checksum holds, but a newer version wrote it.
        case unsupported(String)
    }

    /// Reads a header that must belong to `location`. Looks at the first 96 bytes; fewer are invalid.
    static func parse(_ bytes: UnsafeRawBufferPointer, at location: RecordLocation, tag: UInt64) -> Parsed {
        guard bytes.count >= RecordFormat.headerByteCount, bytes.uint32(0) == RecordFormat.magic,
            bytes.uint64(88) == BlockChecksum.xxh3(UnsafeRawBufferPointer(rebasing: bytes[..<88])),
            bytes.uint32(16) == location.segment, bytes.uint32(20) == location.unit, bytes.uint64(24) == tag,
            let digest = Digest(bytes: UnsafeRawBufferPointer(rebasing: bytes[32..<64]))
        else { return .invalid }
        guard bytes[5] == RecordFormat.recordFormat else { return .unsupported("record format \(bytes[5])") }
        guard let type = RecordType(rawValue: bytes[4]) else {
            return .unsupported("record type \(bytes[4])")
        }
        let count = Int(bytes.uint32(8))
        let countMax = type == .footer ? RecordFormat.footerByteCountMax : RecordFormat.payloadByteCountMax
        guard count <= countMax else { return .invalid }
        return .valid(
            RecordHeader(
                type: type,
                payloadByteCount: count,
                digest: digest,
                tableChecksum: bytes.uint64(64)
            )
        )
    }
}

/// What a volume knew when it wrote a group; see the table at the top of the file.
struct VolumeSection: Sendable, Equatable {
    var groupStart: UInt32 = 0
    var recordCount: UInt32 = 0
    /// Everything before this place of the log, and in log segments of lower numbers, was fsynced.
    var syncedLog = RecordLocation(segment: 0, unit: 0)
    var syncedBulk = RecordLocation(segment: 0, unit: 0)
    var complete: UInt64 = 0
    var knownCommitIndex: UInt64 = 0

    func write(to buffer: UnsafeMutableRawBufferPointer) {
        precondition(buffer.count >= RecordFormat.sectionByteCount, "A section has 64 bytes.")
        buffer.storeBytes(of: groupStart.littleEndian, toByteOffset: 0, as: UInt32.self)
        buffer.storeBytes(of: recordCount.littleEndian, toByteOffset: 4, as: UInt32.self)
        buffer.storeBytes(of: syncedLog.segment.littleEndian, toByteOffset: 8, as: UInt32.self)
        buffer.storeBytes(of: syncedLog.unit.littleEndian, toByteOffset: 12, as: UInt32.self)
        buffer.storeBytes(of: syncedBulk.segment.littleEndian, toByteOffset: 16, as: UInt32.self)
        buffer.storeBytes(of: syncedBulk.unit.littleEndian, toByteOffset: 20, as: UInt32.self)
        buffer.storeBytes(of: complete.littleEndian, toByteOffset: 24, as: UInt64.self)
        buffer.storeBytes(of: knownCommitIndex.littleEndian, toByteOffset: 32, as: UInt64.self)
    }

    init() {}

    /// Reads the section at the end of a closer's payload, or nil when the payload is too short.
    init?(endOf payload: UnsafeRawBufferPointer) {
        guard payload.count >= RecordFormat.sectionByteCount else { return nil }
        let bytes = UnsafeRawBufferPointer(
            rebasing: payload[(payload.count - RecordFormat.sectionByteCount)...]
        )
        groupStart = bytes.uint32(0)
        recordCount = bytes.uint32(4)
        syncedLog = RecordLocation(segment: bytes.uint32(8), unit: bytes.uint32(12))
        syncedBulk = RecordLocation(segment: bytes.uint32(16), unit: bytes.uint32(20))
        complete = bytes.uint64(24)
        knownCommitIndex = bytes.uint64(32)
    }
}

/// The first 64 bytes of a segment file.
struct SegmentHeader: Sendable, Equatable {
    let number: UInt32
    let kind: SegmentKind
    let store: StoreID
    let volume: VolumeID

    func encode() -> [UInt8] {
        var writer = ByteWriter(capacity: 64)
        writer.write(RecordFormat.segmentMagic)
        writer.write(RecordFormat.formatMajor)
        writer.write(RecordFormat.formatMinor)
        writer.write(number)
        writer.write(kind.rawValue)
        writer.write(raw: [0, 0, 0])
        writer.write(store)
        writer.write(volume)
        writer.write(UInt64(0))
        writer.write(BlockChecksum.xxh3(writer.bytes))
        return writer.bytes
    }

    enum Checked: Equatable {
        case valid
        case damaged
        case unsupported(String)
    }

    /// Compares the first bytes of a segment with what should stand there.
    func check(_ bytes: [UInt8]) -> Checked {
        guard bytes.count >= 64 else { return .damaged }
        let (magic, major, checksum, computed) = bytes.withUnsafeBytes { raw in
            let covered = UnsafeRawBufferPointer(rebasing: raw[..<56])
            return (raw.uint32(0), raw.uint16(4), raw.uint64(56), BlockChecksum.xxh3(covered))
        }
        guard magic == RecordFormat.segmentMagic, checksum == computed else { return .damaged }
        guard major == RecordFormat.formatMajor else {
            return .unsupported(
                "segment \(number) has format \(major); this version reads \(RecordFormat.formatMajor)"
            )
        }
        // The minor version may differ; everything else must be what the volume and the name say.
        let expected = encode()
        return bytes[8..<56] == expected[8..<56] ? .valid : .damaged
    }
}

extension UnsafeRawBufferPointer {
    // Bounds are checked by the slices' owners in debug and in release: `loadUnaligned` traps outside of the buffer.
    func uint16(_ offset: Int) -> UInt16 {
        UInt16(littleEndian: loadUnaligned(fromByteOffset: offset, as: UInt16.self))
    }

    func uint32(_ offset: Int) -> UInt32 {
        UInt32(littleEndian: loadUnaligned(fromByteOffset: offset, as: UInt32.self))
    }

    func uint64(_ offset: Int) -> UInt64 {
        UInt64(littleEndian: loadUnaligned(fromByteOffset: offset, as: UInt64.self))
    }

    func slice(_ start: Int, _ count: Int) -> UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(rebasing: self[start..<start + count])
    }
}
