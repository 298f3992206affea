internal import ContentHashing
internal import Glibc
internal import StoreModel

/// Reads and checks single records of one segment file. Trusts nothing that it reads.
struct SegmentReader: Sendable {
    let file: any DiskFile
    let number: UInt32
    let kind: SegmentKind
    let tag: UInt64
    /// For messages.
    let path: String

    func location(_ offset: UInt64) -> RecordLocation { RecordLocation(segment: number, offset: offset) }

    func error(_ code: VolumeError.Code, _ message: String, at location: RecordLocation) -> VolumeError {
        VolumeError(code, message, path: path, location: location)
    }

    func inputOutput(_ cause: DiskError, at location: RecordLocation) -> VolumeError {
        VolumeError(.inputOutput, "A read failed.", path: path, location: location, cause: cause)
    }

    /// Reads the header at a place, with what stands behind it up to `byteCount`.
    /// - Throws: `.corrupt` when there is no valid header, `.unsupportedFormat`, `.inputOutput`.
    func head(at location: RecordLocation, byteCount: Int) throws(VolumeError) -> (RecordHeader, [UInt8]) {
        let bytes: [UInt8]
        do throws(DiskError) {
            bytes = try file.read(count: max(byteCount, RecordFormat.headerByteCount), at: location.offset)
        } catch {
            throw inputOutput(error, at: location)
        }
        switch bytes.withUnsafeBytes({ RecordHeader.parse($0, at: location, tag: tag) }) {
        case .valid(let header): return (header, bytes)
        case .invalid: throw self.error(.corrupt, "The header of a record is damaged.", at: location)
        case .unsupported(let what):
            throw self.error(.unsupportedFormat, "A newer version wrote this: \(what).", at: location)
        }
    }

    /// Reads a range of the payload; every 64 KiB block that it touches is compared with its checksum.
    /// - Parameter start: The header, and the bytes from the record's start that are read already.
    func payload(
        _ range: Range<Int>,
        of header: RecordHeader,
        at location: RecordLocation,
        start: [UInt8]
    ) throws(VolumeError) -> [UInt8] {
        precondition(
            range.lowerBound >= 0 && range.upperBound <= header.payloadByteCount,
            "A range lies inside its payload."
        )
        let table = try blockTable(of: header, at: location, start: start)
        if range.isEmpty { return [] }
        let (firstBlock, whole) = Self.blocks(of: range, in: header)
        var bytes: [UInt8]
        let headByteCount = header.headByteCount
        if headByteCount + whole.upperBound <= start.count {
            bytes = [UInt8](start[(headByteCount + whole.lowerBound)..<(headByteCount + whole.upperBound)])
        } else {
            bytes = try readBytes(
                whole.count,
                at: location.offset + UInt64(headByteCount + whole.lowerBound),
                location
            )
        }
        try check(bytes, from: firstBlock, table: table, at: location)
        Self.cut(&bytes, of: whole, to: range)
        return bytes
    }

    /// Reads a range of a payload from what the system has in memory to where it is wanted, each block compared with its
    /// checksum as soon as it was copied, while the processor still has it at hand.
    /// - Parameter target: has the length of the range. What it holds is of no use unless all went well.
    /// - Returns: false when not all of it is in memory, or when anything is not as it should be.
    func readCached(
        _ range: Range<Int>,
        of digest: Digest,
        at location: RecordLocation,
        into target: UnsafeMutableRawBufferPointer
    ) -> Bool {
        precondition(target.count == range.count, "A target has the length of its range.")
        return withUnsafeTemporaryAllocation(byteCount: Self.cachedHeadByteCount, alignment: 16) { room in
            guard let count = file.readCached(into: room, at: location.offset),
                let header = cachedHeader(UnsafeRawBufferPointer(room).slice(0, count), digest, location),
                range.lowerBound >= 0, !range.isEmpty, range.upperBound <= header.payloadByteCount
            else { return false }
            let table = UnsafeRawBufferPointer(room)[RecordFormat.headerByteCount..<header.headByteCount]
            return readCachedBlocks(
                range,
                of: header,
                UnsafeRawBufferPointer(rebasing: table),
                at: location,
                into: target
            )
        }
    }

    /// The same for all of a payload of this length, which is read together with its header.
    func readCachedWhole(
        of digest: Digest,
        at location: RecordLocation,
        into target: UnsafeMutableRawBufferPointer
    ) -> Bool {
        let headByteCount = RecordFormat.headByteCount(target.count)
        return withUnsafeTemporaryAllocation(byteCount: headByteCount, alignment: 16) { room in
            let count = file.readCached(into: room, target, at: location.offset)
            let head = UnsafeRawBufferPointer(room)
            guard count == headByteCount + target.count,
                let header = cachedHeader(head, digest, location), header.payloadByteCount == target.count
            else { return false }
            let table = head.slice(RecordFormat.headerByteCount, headByteCount - RecordFormat.headerByteCount)
            return Self.badBlock(of: UnsafeRawBufferPointer(target), table) == nil
        }
    }

    /// The header and, behind it, the good block table of a payload's record; nil when it is anything else.
    private func cachedHeader(
        _ head: UnsafeRawBufferPointer,
        _ digest: Digest,
        _ location: RecordLocation
    ) -> RecordHeader? {
        guard case .valid(let header) = RecordHeader.parse(head, at: location, tag: tag),
            header.type == .payload, header.digest == digest, header.headByteCount <= head.count,
            BlockChecksum.xxh3(
                UnsafeRawBufferPointer(rebasing: head[RecordFormat.headerByteCount..<header.headByteCount])
            ) == header.tableChecksum
        else { return nil }
        return header
    }

    private func readCachedBlocks(
        _ range: Range<Int>,
        of header: RecordHeader,
        _ table: UnsafeRawBufferPointer,
        at location: RecordLocation,
        into target: UnsafeMutableRawBufferPointer
    ) -> Bool {
        let block = RecordFormat.blockByteCount
        let start = location.offset + UInt64(header.headByteCount)
        func isGood(_ part: UnsafeMutableRawBufferPointer, _ index: Int) -> Bool {
            file.readCached(into: part, at: start + UInt64(index * block)) == part.count
                && BlockChecksum.xxh3(UnsafeRawBufferPointer(part)) == table.uint64(index * 8)
        }
        var position = range.lowerBound
        while position < range.upperBound {
            let index = position / block
            let whole = index * block..<min(header.payloadByteCount, (index + 1) * block)
            let wanted = position..<min(whole.upperBound, range.upperBound)
            let part = target.slice(position - range.lowerBound, wanted.count)
            if wanted == whole {
                guard isGood(part, index) else { return false }
            } else {
                // A block is checked whole: where less of it is wanted, aside.
                let isCopied = withUnsafeTemporaryAllocation(byteCount: whole.count, alignment: 16) { aside in
                    guard isGood(aside, index) else { return false }
                    part.copyMemory(
                        from: UnsafeRawBufferPointer(aside.slice(position - whole.lowerBound, wanted.count))
                    )
                    return true
                }
                guard isCopied else { return false }
            }
            position = wanted.upperBound
        }
        return true
    }

    /// The blocks that a range touches, as a range of the payload: what is compared with checksums.
    private static func blocks(of range: Range<Int>, in header: RecordHeader) -> (
        first: Int, whole: Range<Int>
    ) {
        let block = RecordFormat.blockByteCount
        let first = range.lowerBound / block
        let end = min(header.payloadByteCount, (range.upperBound + block - 1) / block * block)
        return (first, first * block..<end)
    }

    private static func cut(_ bytes: inout [UInt8], of whole: Range<Int>, to range: Range<Int>) {
        if whole.upperBound > range.upperBound { bytes.removeLast(whole.upperBound - range.upperBound) }
        if range.lowerBound > whole.lowerBound { bytes.removeFirst(range.lowerBound - whole.lowerBound) }
    }

    /// Whether a payload's record of a bulk segment, read past the page cache, is good: its header names the payload, and every
    /// block has its checksum.
    /// - Parameter memory: has room for the record.
    /// - Returns: false when that can't be told so: of another kind of segment, or of a record of another length.
    /// - Throws: `.corrupt`, `.inputOutput`: what the disk has is not good, whatever the page cache has.
    func isGoodOnDisk(
        _ digest: Digest,
        _ byteCount: Int,
        at location: RecordLocation,
        through memory: ReadMemory
    ) throws(VolumeError) -> Bool {
        let wanted = Int(RecordFormat.recordByteCount(byteCount, .bulk))
        guard kind == .bulk, wanted <= memory.bytes.count else { return false }
        let buffer = memory.bytes.slice(0, wanted)
        let count: Int
        do throws(DiskError) {
            count = try file.readDirect(into: buffer, at: location.offset)
        } catch {
            throw inputOutput(error, at: location)
        }
        guard count == wanted else { return false }
        let bytes = UnsafeRawBufferPointer(buffer)
        guard case .valid(let header) = RecordHeader.parse(bytes, at: location, tag: tag) else {
            throw error(.corrupt, "The header of the record is damaged.", at: location)
        }
        guard header.type == .payload, header.digest == digest, header.payloadByteCount == byteCount
        else { return false }
        let table = bytes.slice(
            RecordFormat.headerByteCount,
            header.headByteCount - RecordFormat.headerByteCount
        )
        guard BlockChecksum.xxh3(table) == header.tableChecksum else {
            throw error(.corrupt, "The block table is damaged.", at: location)
        }
        if let bad = Self.badBlock(of: bytes.slice(header.headByteCount, byteCount), table) {
            throw error(.corrupt, "Block \(bad) of the record is damaged.", at: location)
        }
        return true
    }

    /// The first block of a stretch whose checksum is another than the table says, which begins with that of the first one.
    static func badBlock(of payload: UnsafeRawBufferPointer, _ table: UnsafeRawBufferPointer) -> Int? {
        let block = RecordFormat.blockByteCount
        return (0..<RecordFormat.blockCount(payload.count)).first { index in
            let part = payload.slice(index * block, min(block, payload.count - index * block))
            return BlockChecksum.xxh3(part) != table.uint64(index * 8)
        }
    }

    /// Header and table of any chunk.
    private static let cachedHeadByteCount = 1024

    /// Reads the whole payload of a record of any type.
    func record(at location: RecordLocation) throws(VolumeError) -> (RecordHeader, [UInt8]) {
        let (header, start) = try head(at: location, byteCount: 4096)
        return (header, try payload(0..<header.payloadByteCount, of: header, at: location, start: start))
    }

    /// Reads a record whole and compares the SHA-256 of its content with its name.
    @discardableResult
    func strictRecord(at location: RecordLocation) throws(VolumeError) -> (RecordHeader, [UInt8]) {
        let (header, bytes) = try record(at: location)
        let sectionByteCount = header.type.isCloser ? RecordFormat.sectionByteCount : 0
        guard bytes.count >= sectionByteCount else {
            throw error(.corrupt, "A record of type \(header.type) is too short.", at: location)
        }
        let digest = bytes.withUnsafeBytes { SHA256Hasher.hash($0.slice(0, bytes.count - sectionByteCount)) }
        guard digest == header.digest else {
            throw error(.corrupt, "The content of record \(header.digest) has another SHA-256.", at: location)
        }
        return (header, bytes)
    }

    /// Whether the bytes between a record's payload and the next record are zero, as they were written.
    func hasZeroPadding(_ header: RecordHeader, at location: RecordLocation) throws(VolumeError) -> Bool {
        let used = header.headByteCount + header.payloadByteCount
        do throws(DiskError) {
            let count = Int(header.recordByteCount(kind)) - used
            let bytes = try file.read(count: count, at: location.offset + UInt64(used))
            return bytes.allSatisfy { $0 == 0 }
        } catch {
            throw inputOutput(error, at: location)
        }
    }

    private func blockTable(
        of header: RecordHeader,
        at location: RecordLocation,
        start: [UInt8]
    ) throws(VolumeError) -> ArraySlice<UInt8> {
        let range = RecordFormat.headerByteCount..<header.headByteCount
        let table: ArraySlice<UInt8>
        if range.upperBound <= start.count {
            table = start[range]
        } else {
            table = try readBytes(range.count, at: location.offset + UInt64(range.lowerBound), location)[...]
        }
        guard BlockChecksum.xxh3(table) == header.tableChecksum else {
            throw error(.corrupt, "The block table of record \(header.digest) is damaged.", at: location)
        }
        return table
    }

    private func readBytes(_ count: Int, at offset: UInt64, _ location: RecordLocation) throws(VolumeError)
        -> [UInt8]
    {
        // A length is believed only as far as the file goes, where believing it would allocate much.
        if count > RecordFormat.trustedByteCountMax {
            let size: UInt64
            do throws(DiskError) {
                size = try file.size()
            } catch {
                throw inputOutput(error, at: location)
            }
            guard offset <= size, UInt64(count) <= size - offset else {
                throw error(.corrupt, "The segment ends inside of a record.", at: location)
            }
        }
        var failure: DiskError?
        var done = 0
        let bytes = [UInt8](unsafeUninitializedCapacity: count) { buffer, initialized in
            do throws(DiskError) {
                done = try file.read(into: UnsafeMutableRawBufferPointer(buffer), at: offset)
            } catch {
                failure = error
            }
            initialized = done
        }
        if let failure { throw inputOutput(failure, at: location) }
        guard done == count else {
            throw error(.corrupt, "The segment ends inside of a record.", at: location)
        }
        return bytes
    }

    private func check(
        _ bytes: [UInt8],
        from firstBlock: Int,
        table: ArraySlice<UInt8>,
        at location: RecordLocation
    ) throws(VolumeError) {
        let bad = table.withUnsafeBytes { sums in
            bytes.withUnsafeBytes {
                Self.badBlock(of: $0, UnsafeRawBufferPointer(rebasing: sums[(firstBlock * 8)...]))
            }
        }
        guard let bad else { return }
        throw error(.corrupt, "Block \(firstBlock + bad) of a record is damaged.", at: location)
    }
}

/// A window over a file for sequential reading without a system call for each record.
final class ScanWindow {
    private let file: any DiskFile
    let limit: UInt64
    private let buffer: UnsafeMutableRawBufferPointer
    private var start: UInt64 = 0
    private var count = 0

    static let byteCount = 1 << 20

    init(_ file: any DiskFile, limit: UInt64) {
        self.file = file
        self.limit = limit
        buffer = .allocate(byteCount: Self.byteCount, alignment: 64)
    }

    deinit { buffer.deallocate() }

    /// The bytes at a place, up to `wanted` of them; fewer at the limit. Valid until the next call.
    func view(at offset: UInt64, _ wanted: Int) throws(DiskError) -> UnsafeRawBufferPointer {
        precondition(wanted <= Self.byteCount, "The window is too small.")
        guard offset < limit else { return UnsafeRawBufferPointer(rebasing: buffer[..<0]) }
        let available = min(UInt64(wanted), limit - offset)
        if offset < start || offset + available > start + UInt64(count) {
            let fill = Int(min(UInt64(Self.byteCount), limit - offset))
            count = 0
            count = try file.read(into: buffer.slice(0, fill), at: offset)
            start = offset
        }
        let from = Int(offset - start)
        return UnsafeRawBufferPointer(rebasing: buffer[from..<min(count, from + Int(available))])
    }
}

extension UnsafeRawBufferPointer {
    /// Whether every byte is zero. memcmp against itself, one byte on, runs at memory speed in any build.
    var isZero: Bool {
        guard let base = baseAddress, count > 0 else { return true }
        return self[0] == 0 && memcmp(base, base + 1, count - 1) == 0
    }
}
