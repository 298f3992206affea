internal import ContentHashing
internal import StoreModel

/// Lays records out for one vectored write: heads, tables and padding in one buffer of its own, payload bytes where
/// the caller has them.
struct GroupWriter {
    private let segment: UInt32
    private let kind: SegmentKind
    private let tag: UInt64
    private let start: UInt64
    private var buffer: [UInt8] = []
    private var pieces: [Piece] = []
    /// Bytes laid out so far.
    private(set) var byteCount: UInt64 = 0

    private enum Piece {
        case own(Range<Int>)
        case payload(UnsafeRawBufferPointer)
    }

    /// - Parameter headByteCount: an estimate of what the buffer will hold.
    init(
        segment: UInt32,
        kind: SegmentKind,
        tag: UInt64,
        at start: UInt64,
        headByteCount: Int,
        recordCount: Int
    ) {
        self.segment = segment
        self.kind = kind
        self.tag = tag
        self.start = start
        buffer.reserveCapacity(headByteCount)
        pieces.reserveCapacity(2 * recordCount + 2)
    }

    /// Adds a record whose payload stays where it is. The pointer must stay valid until `write` has returned.
    /// - Returns: where the record will stand.
    mutating func add(_ type: RecordType, _ digest: Digest, payload: UnsafeRawBufferPointer) -> RecordLocation
    {
        let location = RecordLocation(segment: segment, offset: start + byteCount)
        let headStart = buffer.count
        addHead(type, digest, byteCount: payload.count, at: location) { index, block in
            BlockChecksum.xxh3(payload.slice(index * block, min(block, payload.count - index * block)))
        }
        own(headStart..<buffer.count)
        pieces.append(.payload(payload))
        pad(after: payload.count)
        return location
    }

    /// Adds a payload of a bulk segment. The image must be kept until `write` has returned.
    mutating func add(_ digest: Digest, _ image: PayloadImage.Content) -> RecordLocation {
        let location = RecordLocation(segment: segment, offset: start + byteCount)
        let headStart = buffer.count
        addHead(.payload, digest, byteCount: image.payloadByteCount, at: location) { index, _ in
            image.checksums[index]
        }
        // The pages that the head reaches into are this volume's own, the others everybody's.
        let headByteCount = buffer.count - headStart
        let ownEnd = min(
            image.memory.count,
            Int(RecordFormat.roundedUp(UInt64(headByteCount), to: SegmentKind.bulk.alignment))
        )
        buffer.append(contentsOf: image.memory[headByteCount..<ownEnd])
        own(headStart..<buffer.count)
        pieces.append(.payload(UnsafeRawBufferPointer(rebasing: image.memory[ownEnd...])))
        byteCount += UInt64(image.memory.count)
        return location
    }

    /// Adds a record whose payload is `prefix`, then `body` (which stays where it is), then `suffix`.
    mutating func add(
        _ type: RecordType,
        _ digest: Digest,
        prefix: [UInt8],
        body: UnsafeRawBufferPointer,
        suffix: [UInt8]
    ) -> RecordLocation {
        let location = RecordLocation(segment: segment, offset: start + byteCount)
        let headStart = buffer.count
        let total = prefix.count + body.count + suffix.count
        addHead(type, digest, byteCount: total, at: location) { index, block in
            Self.checksum(index * block..<min(total, (index + 1) * block), prefix, body, suffix)
        }
        buffer.append(contentsOf: prefix)
        own(headStart..<buffer.count)
        if !body.isEmpty { pieces.append(.payload(body)) }
        let suffixStart = buffer.count
        buffer.append(contentsOf: suffix)
        own(suffixStart..<buffer.count)
        pad(after: total)
        return location
    }

    /// Writes everything with one vectored write.
    /// - Parameter isDirect: past the page cache, where that is possible.
    func write(to file: any DiskFile, isDirect: Bool = false) throws(DiskError) {
        try buffer.withUnsafeBufferPointer { own throws(DiskError) in
            let own = UnsafeRawBufferPointer(own)
            let all = pieces.map { piece in
                switch piece {
                case .own(let range): UnsafeRawBufferPointer(rebasing: own[range])
                case .payload(let bytes): bytes
                }
            }
            if isDirect {
                try file.writeDirect(all, at: start)
            } else {
                try file.write(all, at: start)
            }
        }
    }

    private mutating func addHead(
        _ type: RecordType,
        _ digest: Digest,
        byteCount: Int,
        at location: RecordLocation,
        checksum: (_ index: Int, _ blockByteCount: Int) -> UInt64
    ) {
        let headStart = buffer.count
        let headByteCount = RecordFormat.headByteCount(byteCount)
        buffer.append(contentsOf: repeatElement(0, count: headByteCount))
        buffer.withUnsafeMutableBytes { buffer in
            let head = buffer.slice(headStart, headByteCount)
            for index in 0..<RecordFormat.blockCount(byteCount) {
                let value = checksum(index, RecordFormat.blockByteCount).littleEndian
                head.storeBytes(
                    of: value,
                    toByteOffset: RecordFormat.headerByteCount + 8 * index,
                    as: UInt64.self
                )
            }
            let table = UnsafeRawBufferPointer(rebasing: head[RecordFormat.headerByteCount...])
            RecordHeader(
                type: type,
                payloadByteCount: byteCount,
                digest: digest,
                tableChecksum: BlockChecksum.xxh3(table)
            ).write(to: head, at: location, tag: tag)
        }
    }

    private mutating func pad(after payloadByteCount: Int) {
        let used = RecordFormat.headByteCount(payloadByteCount) + payloadByteCount
        let recordByteCount = RecordFormat.recordByteCount(payloadByteCount, kind)
        let padStart = buffer.count
        buffer.append(contentsOf: repeatElement(0, count: Int(recordByteCount) - used))
        own(padStart..<buffer.count)
        byteCount += recordByteCount
    }

    /// Adds a stretch of the buffer, joined with the one before where they touch.
    private mutating func own(_ range: Range<Int>) {
        guard !range.isEmpty else { return }
        if case .own(let last)? = pieces.last, last.upperBound == range.lowerBound {
            pieces[pieces.count - 1] = .own(last.lowerBound..<range.upperBound)
        } else {
            pieces.append(.own(range))
        }
    }

    /// The checksum of a block that may reach over the borders of the three parts.
    private static func checksum(
        _ range: Range<Int>,
        _ prefix: [UInt8],
        _ body: UnsafeRawBufferPointer,
        _ suffix: [UInt8]
    ) -> UInt64 {
        let bodyEnd = prefix.count + body.count
        if range.lowerBound >= prefix.count && range.upperBound <= bodyEnd {
            return BlockChecksum.xxh3(body.slice(range.lowerBound - prefix.count, range.count))
        }
        var bytes: [UInt8] = []
        bytes.reserveCapacity(range.count)
        bytes.append(contentsOf: prefix[range.clamped(to: 0..<prefix.count)])
        let inBody = range.clamped(to: prefix.count..<bodyEnd)
        bytes.append(contentsOf: body.slice(inBody.lowerBound - prefix.count, inBody.count))
        let inSuffix = range.clamped(to: bodyEnd..<bodyEnd + suffix.count)
        bytes.append(contentsOf: suffix[(inSuffix.lowerBound - bodyEnd)..<(inSuffix.upperBound - bodyEnd)])
        return BlockChecksum.xxh3(bytes)
    }
}
