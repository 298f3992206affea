internal import StoreModel

// Body of a commit batch. Integers are little-endian.
//
//   0   1  format: 1
//   1   4  number of entries
//   then each entry:
//       16  operation
//        8  sequence (0: an entry of the log itself)
//        2  number of mutations
//       then each mutation: 1 type, 4 length, that many bytes:
//          1 bucket row      2 bucket number (8)      3 version row
//          4 bucket number (8), sequence (8), nonce (8), key (text)
//          5 snapshot note   6 log set: version (8), count (2), identifiers (16 each)   7 epoch (8)
//          8 document row    9 space (1), key (counted)
//   Snapshot note: position (48), state hash (16), rows (8), created at (8), manifest as in a version row.
//
// The batch around it carries its digest; lengths are checked all the same.

/// The byte form of what commit batches carry.
package enum CatalogEntryCodec {
    private static let format: UInt8 = 1
    /// The least an entry takes: an operation, a sequence and a count.
    private static let entrySizeMin = 26

    private enum MutationType: UInt8 {
        case putBucket = 1, removeBucket, putVersion, removeVersion, noteSnapshot, setLogSet, epochStart
        case putDocument, removeDocument
    }

    package static func encode(_ entries: [CatalogEntry]) -> [UInt8] {
        var writer = ByteWriter(capacity: 16 + entries.count * 384)
        writer.write(format)
        precondition(entries.count <= UInt32.max, "A batch has fewer entries.")
        writer.write(UInt32(entries.count))
        for entry in entries {
            writer.write(entry.operation)
            writer.write(entry.sequence)
            precondition(entry.mutations.count <= UInt16.max, "One decision makes few mutations.")
            writer.write(UInt16(entry.mutations.count))
            for mutation in entry.mutations {
                let (type, payload) = encode(mutation)
                writer.write(type.rawValue)
                writer.write(counted: payload)
            }
        }
        return writer.bytes
    }

    /// The bytes that one entry adds to a batch: what a batch is closed by.
    package static func encodedSize(of entry: CatalogEntry) -> Int {
        entry.mutations.reduce(entrySizeMin) { $0 + 5 + encode($1).1.count }
    }

    /// - Throws: `CatalogError` with `.unsupportedFormat` for what a newer program wrote, `.damaged`
    ///   otherwise.
    package static func decode(_ bytes: [UInt8]) throws(CatalogError) -> [CatalogEntry] {
        var reader = ByteReader(bytes)
        do {
            let found = try reader.read(UInt8.self)
            guard found == format else {
                throw CatalogError(
                    .unsupportedFormat,
                    "A commit batch of format \(found); this program knows \(format)."
                )
            }
            let count = try reader.read(UInt32.self)
            var entries: [CatalogEntry] = []
            entries.reserveCapacity(min(Int(count), reader.remaining / entrySizeMin))
            for _ in 0..<count { entries.append(try decodeEntry(&reader)) }
            try reader.finish()
            return entries
        } catch let error as CatalogError {
            throw error
        } catch {
            throw CatalogError(.damaged, "A commit batch can't be read: \(error).")
        }
    }

    private static func decodeEntry(_ reader: inout ByteReader) throws -> CatalogEntry {
        let operation = try reader.readUniqueID()
        let sequence = try reader.readOrdinal()
        let count = try reader.read(UInt16.self)
        var mutations: [CatalogMutation] = []
        for _ in 0..<count {
            let type = try reader.read(UInt8.self)
            mutations.append(try decode(type: type, try reader.readCounted()))
        }
        return CatalogEntry(operation: operation, sequence: sequence, mutations: mutations)
    }

    private static func encode(_ mutation: CatalogMutation) -> (MutationType, [UInt8]) {
        var writer = ByteWriter(capacity: 64)
        switch mutation {
        case .putBucket(let row):
            return (.putBucket, RowCodec.encode(row))
        case .removeBucket(let id):
            writer.write(id.rawValue)
            return (.removeBucket, writer.bytes)
        case .putVersion(let row):
            return (.putVersion, RowCodec.encode(row))
        case .removeVersion(let bucket, let key, let id):
            writer.write(bucket.rawValue)
            writer.write(id.sequence)
            writer.write(id.nonce)
            writer.write(counted: key.bytes)
            return (.removeVersion, writer.bytes)
        case .noteSnapshot(let note):
            writer.write(note)
            return (.noteSnapshot, writer.bytes)
        case .setLogSet(let note):
            writer.write(note)
            return (.setLogSet, writer.bytes)
        case .epochStart(let epoch):
            writer.write(epoch)
            return (.epochStart, writer.bytes)
        case .putDocument(let row):
            return (.putDocument, RowCodec.encode(row))
        case .removeDocument(let name):
            writer.write(name.space.rawValue)
            writer.write(counted: name.key)
            return (.removeDocument, writer.bytes)
        }
    }

    private static func decode(type: UInt8, _ payload: [UInt8]) throws -> CatalogMutation {
        guard let type = MutationType(rawValue: type) else {
            throw CatalogError(.unsupportedFormat, "Mutation type \(type): written by a newer program.")
        }
        var reader = ByteReader(payload)
        let mutation: CatalogMutation
        switch type {
        case .putBucket: return .putBucket(try RowCodec.decodeBucket(payload))
        case .putVersion: return .putVersion(try RowCodec.decodeVersion(payload))
        case .putDocument: return .putDocument(try RowCodec.decodeDocument(payload))
        case .removeBucket: mutation = .removeBucket(BucketID(rawValue: try reader.readOrdinal()))
        case .removeVersion:
            let bucket = BucketID(rawValue: try reader.readOrdinal())
            let id = try reader.readVersionID()
            mutation = .removeVersion(bucket: bucket, key: try reader.readKey(), id: id)
        case .noteSnapshot: mutation = .noteSnapshot(try reader.readSnapshotNote())
        case .setLogSet: mutation = .setLogSet(try reader.readLogSet())
        case .epochStart: mutation = .epochStart(epoch: try reader.read(UInt64.self))
        case .removeDocument:
            let raw = try reader.read(UInt8.self)
            guard let space = DocumentSpace(rawValue: raw) else {
                throw CatalogError(.unsupportedFormat, "Document space \(raw): written by a newer program.")
            }
            mutation = .removeDocument(DocumentName(space, try reader.readCounted()))
        }
        try reader.finish()
        return mutation
    }
}

extension ByteWriter {
    mutating func write(_ note: SnapshotNote) {
        write(note.position)
        write(note.stateHash)
        write(note.rowCount)
        write(note.createdAt.milliseconds)
        write(note.manifest)
    }

    mutating func write(_ note: LogSetNote) {
        precondition(note.members.count <= UInt16.max, "A log set has few members.")
        write(note.version)
        write(UInt16(note.members.count))
        for member in note.members { write(member) }
    }
}

extension ByteReader {
    mutating func readSnapshotNote() throws(Failure) -> SnapshotNote {
        let position = try readPosition()
        let stateHash = try readStateHash()
        let rowCount = try read(UInt64.self)
        let createdAt = Timestamp(milliseconds: try read(Int64.self))
        return SnapshotNote(
            position: position,
            stateHash: stateHash,
            rowCount: rowCount,
            manifest: try readManifest(),
            createdAt: createdAt
        )
    }

    mutating func readLogSet() throws(Failure) -> LogSetNote {
        let version = try read(UInt64.self)
        let count = try read(UInt16.self)
        var members: [VolumeID] = []
        for _ in 0..<count { members.append(try readUniqueID()) }
        return LogSetNote(version: version, members: members)
    }
}
