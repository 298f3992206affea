internal import ContentHashing
internal import StoreModel

// The footer of a sealed segment is its last record (type footer). Its payload, little-endian:
//
//   offset  size  field
//        0     4  number of payload entries (p)
//        4     4  number of chain events (c)
//        8     4  number of tombstones (t)
//       12     4  zero
//       16    64  section: what the volume knew when it sealed the segment
//       80  40×p  payload entries, by offset: digest (32), offset / 64 (4), length (4)
//        … 128×c  chain events, by offset: kind (1: 2 commitBatch, 5 logReset, 6 logTrim, 0 hole), zero (3),
//                 offset / 64 (4), commit index or length of the hole (8), position (48), predecessor (48),
//                 zero (16)
//        …  40×t  tombstones: digest (32), segment (4), offset / 64 (4)
//
// Behind the record, and at the very end of the file, stands the trailer:
//
//   offset  size  field
//        0     4  magic "HFTR"
//        4     4  segment number
//        8     4  offset of the footer record / 64
//       12     4  zero
//       16     8  tag of the volume
//       24    32  zero
//       56     8  XXH3 of bytes 0 ..< 56

/// What one segment holds, as its footer or a scan of its records tells it.
struct SegmentContents: Sendable, Equatable {
    struct Entry: Sendable, Equatable {
        let digest: Digest
        let unit: UInt32
        let byteCount: UInt32
    }

    struct Tombstone: Sendable, Equatable {
        let digest: Digest
        let location: RecordLocation
    }

    struct ChainEvent: Sendable, Equatable {
        enum Kind: UInt8 {
            case hole = 0
            case batch = 2
            case reset = 5
            case trim = 6
        }

        let kind: Kind
        let unit: UInt32
        /// Of a batch: its commit index. Of a hole: its length in bytes.
        let number: UInt64
        let position: LogPosition
        let predecessor: LogPosition

        static func hole(unit: UInt32, byteCount: UInt64) -> ChainEvent {
            ChainEvent(kind: .hole, unit: unit, number: byteCount, position: .origin, predecessor: .origin)
        }
    }

    var entries: [Entry] = []
    var chain: [ChainEvent] = []
    var tombstones: [Tombstone] = []
    var section = VolumeSection()

    private static let headByteCount = 16 + RecordFormat.sectionByteCount
    private static let entryByteCount = 40
    private static let chainByteCount = 128

    /// The payload at a place; entries stand in the order of their places.
    func entry(at unit: UInt32) -> Entry? {
        var (low, high) = (0, entries.count)
        while low < high {
            let middle = (low + high) / 2
            if entries[middle].unit < unit { low = middle + 1 } else { high = middle }
        }
        return low < entries.count && entries[low].unit == unit ? entries[low] : nil
    }

    /// Length of `encodeFooter()`.
    var footerByteCount: Int {
        Self.headByteCount + entries.count * Self.entryByteCount + chain.count * Self.chainByteCount
            + tombstones.count * RecordFormat.tombstoneByteCount
    }

    func encodeFooter() -> [UInt8] {
        [UInt8](unsafeUninitializedCapacity: footerByteCount) { buffer, count in
            let bytes = UnsafeMutableRawBufferPointer(buffer)
            bytes.initializeMemory(as: UInt8.self, repeating: 0)
            bytes.storeBytes(of: UInt32(entries.count).littleEndian, toByteOffset: 0, as: UInt32.self)
            bytes.storeBytes(of: UInt32(chain.count).littleEndian, toByteOffset: 4, as: UInt32.self)
            bytes.storeBytes(of: UInt32(tombstones.count).littleEndian, toByteOffset: 8, as: UInt32.self)
            section.write(to: bytes.slice(16, RecordFormat.sectionByteCount))
            var offset = Self.headByteCount
            for entry in entries {
                entry.digest.write(to: bytes.slice(offset, 32))
                bytes.storeBytes(of: entry.unit.littleEndian, toByteOffset: offset + 32, as: UInt32.self)
                bytes.storeBytes(of: entry.byteCount.littleEndian, toByteOffset: offset + 36, as: UInt32.self)
                offset += Self.entryByteCount
            }
            for event in chain {
                bytes[offset] = event.kind.rawValue
                bytes.storeBytes(of: event.unit.littleEndian, toByteOffset: offset + 4, as: UInt32.self)
                bytes.storeBytes(of: event.number.littleEndian, toByteOffset: offset + 8, as: UInt64.self)
                event.position.write(to: bytes.slice(offset + 16, RecordFormat.positionByteCount))
                event.predecessor.write(to: bytes.slice(offset + 64, RecordFormat.positionByteCount))
                offset += Self.chainByteCount
            }
            for tombstone in tombstones {
                tombstone.write(to: bytes.slice(offset, RecordFormat.tombstoneByteCount))
                offset += RecordFormat.tombstoneByteCount
            }
            count = footerByteCount
        }
    }

    init() {}

    /// Reads a footer's payload, or returns nil when its counts don't fit its length.
    init?(footer bytes: UnsafeRawBufferPointer) {
        guard bytes.count >= Self.headByteCount,
            let section = VolumeSection(endOf: bytes.slice(0, Self.headByteCount))
        else { return nil }
        let entryCount = Int(bytes.uint32(0))
        let chainCount = Int(bytes.uint32(4))
        let tombstoneCount = Int(bytes.uint32(8))
        let wanted =
            Self.headByteCount + entryCount * Self.entryByteCount + chainCount * Self.chainByteCount
            + tombstoneCount * RecordFormat.tombstoneByteCount
        guard wanted == bytes.count else { return nil }
        self.section = section
        var offset = Self.headByteCount
        entries.reserveCapacity(entryCount)
        for _ in 0..<entryCount {
            guard let digest = Digest(bytes: bytes.slice(offset, 32)) else { return nil }
            entries.append(
                Entry(digest: digest, unit: bytes.uint32(offset + 32), byteCount: bytes.uint32(offset + 36))
            )
            offset += Self.entryByteCount
        }
        chain.reserveCapacity(chainCount)
        for _ in 0..<chainCount {
            guard let kind = ChainEvent.Kind(rawValue: bytes[offset]) else { return nil }
            chain.append(
                ChainEvent(
                    kind: kind,
                    unit: bytes.uint32(offset + 4),
                    number: bytes.uint64(offset + 8),
                    position: LogPosition(reading: bytes.slice(offset + 16, RecordFormat.positionByteCount)),
                    predecessor: LogPosition(
                        reading: bytes.slice(offset + 64, RecordFormat.positionByteCount)
                    )
                )
            )
            offset += Self.chainByteCount
        }
        for _ in 0..<tombstoneCount {
            guard let tombstone = Tombstone(bytes.slice(offset, RecordFormat.tombstoneByteCount)) else {
                return nil
            }
            tombstones.append(tombstone)
            offset += RecordFormat.tombstoneByteCount
        }
    }
}

extension SegmentContents.Tombstone {
    /// Of bytes that are no record, in a segment that gets no footer: so many from there on were dealt with.
    init(hole location: RecordLocation, byteCount: UInt64) {
        digest = Digest(words: (0, 0, 0, byteCount))
        self.location = location
    }

    /// How many bytes from its place on are told to be no record; 0 when that is not said, nil when it is a record's.
    var holeByteCount: UInt64? {
        let words = digest.words
        return words.0 == 0 && words.1 == 0 && words.2 == 0 ? words.3 : nil
    }

    init?(_ bytes: UnsafeRawBufferPointer) {
        guard bytes.count >= RecordFormat.tombstoneByteCount, let digest = Digest(bytes: bytes) else {
            return nil
        }
        self.digest = digest
        location = RecordLocation(segment: bytes.uint32(32), unit: bytes.uint32(36))
    }

    /// Reads the payload of a record of tombstones; nil when it is malformed.
    static func list(_ bytes: UnsafeRawBufferPointer) -> [SegmentContents.Tombstone]? {
        let size = RecordFormat.tombstoneByteCount
        guard bytes.count.isMultiple(of: size),
            (1...RecordFormat.tombstoneCountMax).contains(bytes.count / size)
        else { return nil }
        var list: [SegmentContents.Tombstone] = []
        list.reserveCapacity(bytes.count / size)
        for start in stride(from: 0, to: bytes.count, by: size) {
            guard let tombstone = Self(bytes.slice(start, size)) else { return nil }
            list.append(tombstone)
        }
        return list
    }

    func write(to bytes: UnsafeMutableRawBufferPointer) {
        digest.write(to: bytes)
        bytes.storeBytes(of: location.segment.littleEndian, toByteOffset: 32, as: UInt32.self)
        bytes.storeBytes(of: location.unit.littleEndian, toByteOffset: 36, as: UInt32.self)
    }
}

/// The last 64 bytes of a sealed segment: where its footer stands.
struct SegmentTrailer: Sendable, Equatable {
    static let byteCount: UInt64 = 64
    private static let magic: UInt32 = 0x5254_4648  // "HFTR"

    let footer: RecordLocation

    func encode(tag: UInt64) -> [UInt8] {
        var writer = ByteWriter(capacity: 64)
        writer.write(Self.magic)
        writer.write(footer.segment)
        writer.write(footer.unit)
        writer.write(UInt32(0))
        writer.write(tag)
        for _ in 0..<4 { writer.write(UInt64(0)) }
        writer.write(BlockChecksum.xxh3(writer.bytes))
        return writer.bytes
    }

    init(footer: RecordLocation) { self.footer = footer }

    /// Reads a trailer of the segment, or returns nil when these bytes are none.
    init?(_ bytes: [UInt8], segment: UInt32, tag: UInt64) {
        guard bytes.count == Int(Self.byteCount) else { return nil }
        let trailer = bytes.withUnsafeBytes { raw -> SegmentTrailer? in
            guard raw.uint32(0) == Self.magic, raw.uint32(4) == segment, raw.uint64(16) == tag,
                raw.uint64(56) == BlockChecksum.xxh3(raw.slice(0, 56))
            else { return nil }
            return SegmentTrailer(footer: RecordLocation(segment: segment, unit: raw.uint32(8)))
        }
        guard let trailer else { return nil }
        self = trailer
    }
}

extension LogPosition {
    /// Reads 48 bytes: epoch, sequence, hash.
    init(reading bytes: UnsafeRawBufferPointer) {
        precondition(bytes.count >= RecordFormat.positionByteCount, "A log position has 48 bytes.")
        let hash = Digest(bytes: bytes.slice(16, Digest.byteCount)) ?? .zero
        self.init(epoch: bytes.uint64(0), sequence: bytes.uint64(8), hash: hash)
    }

    func write(to bytes: UnsafeMutableRawBufferPointer) {
        bytes.storeBytes(of: epoch.littleEndian, toByteOffset: 0, as: UInt64.self)
        bytes.storeBytes(of: sequence.littleEndian, toByteOffset: 8, as: UInt64.self)
        hash.write(to: bytes.slice(16, Digest.byteCount))
    }
}

extension UnsafeMutableRawBufferPointer {
    func slice(_ start: Int, _ count: Int) -> UnsafeMutableRawBufferPointer {
        UnsafeMutableRawBufferPointer(rebasing: self[start..<start + count])
    }
}
