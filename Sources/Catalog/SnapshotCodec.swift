internal import ContentHashing
internal import StoreModel

// A snapshot is a sequence of blocks, each at most `SnapshotCodec.blockSizeMax` bytes. Integers are
// little-endian.
//
//   0   4  magic "HFCS"
//   4   1  format major: 2; 1 is read as well (another one is refused)
//   5   1  format minor: 0 (unknown minors may be read)
//   6   1  kind: 1 head, 2 rows, 3 end
//   7   1  zero
//   8   8  number of the block, from 0
//  16   4  length of the payload
//  20   …  payload
//   …   8  XXH3-64 of everything before it
//
// Head: applied state (length in 32 bits, bytes); number of buckets (8); number of versions (8); number of
//       documents (8; not in format 1).
// Rows: number of rows (4); each row: length in 32 bits, bytes. Buckets come first, by number; then versions,
//       by sequence; then documents, by space and key. That is one order for one state, so equal catalogs have
//       equal snapshots.
// End:  number of blocks before it (8); state hash of the rows (16), which must be the applied state's.

/// The byte form of catalog snapshots.
package enum SnapshotCodec {
    /// A block of rows is closed when it has this many bytes; one row more may be on top, and a row is far
    /// smaller.
    package static let blockSizeTarget = 1 << 20
    /// What a reader accepts.
    package static let blockSizeMax = 2 << 20

    fileprivate static let magic: [UInt8] = Array("HFCS".utf8)
    fileprivate static let major: UInt8 = 2
    fileprivate static let majorMin: UInt8 = 1
    fileprivate static let minor: UInt8 = 0
    fileprivate static let headerSize = 20
    fileprivate static let checksumSize = 8

    fileprivate enum Kind: UInt8 { case head = 1, rows, end }

    fileprivate static func block(_ kind: Kind, number: UInt64, payload: [UInt8]) -> [UInt8] {
        var writer = ByteWriter(capacity: headerSize + payload.count + checksumSize)
        writer.write(raw: magic)
        writer.write(major)
        writer.write(minor)
        writer.write(kind.rawValue)
        writer.write(UInt8(0))
        writer.write(number)
        writer.write(UInt32(payload.count))
        writer.write(raw: payload)
        writer.write(BlockChecksum.xxh3(writer.bytes))
        return writer.bytes
    }

    fileprivate static func open(
        _ block: [UInt8],
        number: UInt64
    ) throws -> (Kind, ArraySlice<UInt8>, major: UInt8) {
        guard block.count >= headerSize + checksumSize, block.count <= blockSizeMax, block.starts(with: magic)
        else { throw CatalogError(.damaged, "Block \(number) of a snapshot isn't one.") }
        var tail = ByteReader(block.suffix(checksumSize))
        guard try tail.read(UInt64.self) == BlockChecksum.xxh3(block.dropLast(checksumSize)) else {
            throw CatalogError(.damaged, "Block \(number) of a snapshot has a wrong checksum.")
        }
        guard (majorMin...major).contains(block[4]) else {
            throw CatalogError(
                .unsupportedFormat,
                "A snapshot of format \(block[4]).\(block[5]); this program reads \(majorMin) to \(major)."
            )
        }
        var reader = ByteReader(block[6..<headerSize])
        guard let kind = Kind(rawValue: try reader.read(UInt8.self)), try reader.read(UInt8.self) == 0 else {
            throw CatalogError(.unsupportedFormat, "Block \(number) of a snapshot is of an unknown kind.")
        }
        let found = try reader.read(UInt64.self)
        guard found == number else {
            throw CatalogError(.damaged, "Block \(found) of a snapshot where \(number) should be.")
        }
        let payload = block[headerSize..<block.count - checksumSize]
        guard Int(try reader.read(UInt32.self)) == payload.count else {
            throw CatalogError(.damaged, "Block \(number) of a snapshot has another length than it says.")
        }
        return (kind, payload, block[4])
    }
}

/// Makes the blocks of a snapshot from its rows, which are added in order.
package struct SnapshotWriter {
    private let state: AppliedState
    private let bucketCount: UInt64
    private let versionCount: UInt64
    private let documentCount: UInt64
    private var blockCount: UInt64 = 0
    private var rows = ByteWriter(capacity: SnapshotCodec.blockSizeTarget + 4096)
    private var rowsInBlock: UInt32 = 0
    private var rowCount: UInt64 = 0
    private var hash = StateHash.zero
    private let sink: ([UInt8]) throws -> Void

    /// Writes the head.
    package init(
        state: AppliedState,
        bucketCount: UInt64,
        versionCount: UInt64,
        documentCount: UInt64 = 0,
        sink: @escaping ([UInt8]) throws -> Void
    ) throws {
        self.state = state
        self.bucketCount = bucketCount
        self.versionCount = versionCount
        self.documentCount = documentCount
        self.sink = sink
        var writer = ByteWriter()
        writer.write(counted: AppliedStateCodec.encode(state))
        writer.write(bucketCount)
        writer.write(versionCount)
        writer.write(documentCount)
        try put(.head, writer.bytes)
    }

    /// Adds an encoded row.
    package mutating func add(row: [UInt8]) throws {
        rows.write(counted: row)
        rowsInBlock += 1
        rowCount += 1
        hash += StateHash(ofRow: row)
        if rows.bytes.count >= SnapshotCodec.blockSizeTarget { try flush() }
    }

    /// Writes the end.
    /// - Throws: `CatalogError` with `.damaged` when the rows aren't the state's.
    package mutating func finish() throws -> SnapshotSummary {
        try flush()
        let expected = bucketCount + versionCount + documentCount
        guard rowCount == expected, hash == state.stateHash else {
            throw CatalogError(
                .damaged,
                "The rows (\(rowCount), hash \(hash)) aren't those of the state (\(expected),"
                    + " hash \(state.stateHash))."
            )
        }
        var writer = ByteWriter()
        writer.write(blockCount)
        writer.write(hash)
        try put(.end, writer.bytes)
        return SnapshotSummary(
            state: state,
            bucketCount: bucketCount,
            versionCount: versionCount,
            documentCount: documentCount,
            blockCount: blockCount
        )
    }

    private mutating func flush() throws {
        guard rowsInBlock > 0 else { return }
        var writer = ByteWriter(capacity: rows.bytes.count + 4)
        writer.write(rowsInBlock)
        writer.write(raw: rows.bytes)
        try put(.rows, writer.bytes)
        rows = ByteWriter(capacity: SnapshotCodec.blockSizeTarget + 4096)
        rowsInBlock = 0
    }

    private mutating func put(_ kind: SnapshotCodec.Kind, _ payload: [UInt8]) throws {
        try sink(SnapshotCodec.block(kind, number: blockCount, payload: payload))
        blockCount += 1
    }
}

/// Reads the blocks of a snapshot, in order, and checks that they are all there and belong together.
package struct SnapshotReader {
    /// What a block held.
    package enum Part: Sendable {
        case head(AppliedState)
        case rows([Row])
        case end(SnapshotSummary)
    }

    package enum Row: Sendable {
        case bucket(BucketRow)
        case version(VersionRow)
        case document(DocumentRow)
    }

    private struct Head {
        let state: AppliedState
        let bucketCount: UInt64
        let versionCount: UInt64
        let documentCount: UInt64
    }

    private var blockNumber: UInt64 = 0
    private var head: Head?
    private var bucketCount: UInt64 = 0
    private var versionCount: UInt64 = 0
    private var documentCount: UInt64 = 0
    private var lastDocument: DocumentName?
    private var lastBucket: BucketID?
    private var lastSequence: UInt64 = 0
    private var hash = StateHash.zero
    private var isFinished = false

    package init() {}

    /// Takes the next block.
    /// - Throws: `CatalogError` with `.damaged` or `.unsupportedFormat`.
    package mutating func read(_ block: [UInt8]) throws(CatalogError) -> Part {
        do {
            guard !isFinished else { throw CatalogError(.damaged, "A snapshot goes on after its end.") }
            let (kind, payload, major) = try SnapshotCodec.open(block, number: blockNumber)
            guard (kind == .head) == (blockNumber == 0) else {
                throw CatalogError(.damaged, "The head of a snapshot isn't its first block.")
            }
            blockNumber += 1
            switch kind {
            case .head: return try readHead(payload, major)
            case .rows: return try readRows(payload)
            case .end: return try readEnd(payload)
            }
        } catch let error as CatalogError {
            throw error
        } catch {
            throw CatalogError(.damaged, "Block \(blockNumber) of a snapshot can't be read: \(error).")
        }
    }

    private mutating func readHead(_ payload: ArraySlice<UInt8>, _ major: UInt8) throws -> Part {
        var reader = ByteReader(payload)
        let state = try AppliedStateCodec.decode(try reader.readCounted())
        let buckets = try reader.read(UInt64.self)
        let versions = try reader.read(UInt64.self)
        let documents = major > 1 ? try reader.read(UInt64.self) : 0
        head = Head(
            state: state,
            bucketCount: buckets,
            versionCount: versions,
            documentCount: documents
        )
        try reader.finish()
        return .head(state)
    }

    private mutating func readRows(_ payload: ArraySlice<UInt8>) throws -> Part {
        var reader = ByteReader(payload)
        let count = try reader.read(UInt32.self)
        var rows: [Row] = []
        for _ in 0..<count {
            let bytes = try reader.readCounted()
            hash += StateHash(ofRow: bytes)
            rows.append(try readRow(bytes))
        }
        try reader.finish()
        return .rows(rows)
    }

    private mutating func readRow(_ bytes: [UInt8]) throws -> Row {
        if RowCodec.isVersion(bytes) {
            let row = try RowCodec.decodeVersion(bytes)
            guard row.id.sequence > lastSequence, documentCount == 0 else {
                throw CatalogError(.damaged, "The versions of a snapshot are out of order.")
            }
            lastSequence = row.id.sequence
            versionCount += 1
            return .version(row)
        }
        if RowCodec.isDocument(bytes) {
            let row = try RowCodec.decodeDocument(bytes)
            guard lastDocument.map({ $0 < row.name }) ?? true else {
                throw CatalogError(.damaged, "The documents of a snapshot are out of order.")
            }
            lastDocument = row.name
            documentCount += 1
            return .document(row)
        }
        let row = try RowCodec.decodeBucket(bytes)
        guard versionCount == 0, documentCount == 0, lastBucket.map({ $0 < row.id }) ?? true else {
            throw CatalogError(.damaged, "The buckets of a snapshot are out of order.")
        }
        lastBucket = row.id
        bucketCount += 1
        return .bucket(row)
    }

    private mutating func readEnd(_ payload: ArraySlice<UInt8>) throws -> Part {
        var reader = ByteReader(payload)
        let blocks = try reader.read(UInt64.self)
        let endHash = try reader.readStateHash()
        try reader.finish()
        guard let head, blocks == blockNumber - 1, head.bucketCount == bucketCount,
            head.versionCount == versionCount, head.documentCount == documentCount, endHash == hash,
            head.state.stateHash == hash
        else { throw CatalogError(.damaged, "A snapshot's rows aren't the ones that it announces.") }
        isFinished = true
        return .end(
            SnapshotSummary(
                state: head.state,
                bucketCount: bucketCount,
                versionCount: versionCount,
                documentCount: documentCount,
                blockCount: blockNumber
            )
        )
    }
}
