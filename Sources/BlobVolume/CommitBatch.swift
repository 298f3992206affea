internal import ContentHashing
package import StoreModel

// One batch of the commit log, as bytes. All integers are little-endian.
//
//   offset  size  field
//        0     4  magic "HFCB"
//        4     2  format major: another one is refused
//        6     2  format minor: informational
//        8     8  epoch
//       16     8  sequence
//       24     8  predecessor: epoch
//       32     8  predecessor: sequence, always one less than `sequence`
//       40    32  predecessor: hash
//       72     8  commit index: every batch up to this sequence was on a write quorum when this one was written
//       80     8  timestamp, milliseconds since 1970 (signed)
//       88     8  state hash of the catalog after this batch, high word (both words 0: not known)
//       96     8  state hash, low word
//      104     4  length of the body
//      108     4  zero
//      112     …  body: opaque here
//
// The batch's hash is the SHA-256 of all of these bytes: equal hashes mean equal batches and, by induction, equal
// logs up to there.

/// One batch of the commit log: what one group commit made durable, chained to its predecessor by hash.
///
/// Immutable, and valid by construction: the position's hash is the hash of the encoded bytes.
package struct CommitBatch: Sendable, Hashable {
    /// The catalog's state after a batch, order-free; 0, 0 when the writer didn't know it.
    package struct StateHash: Hashable, Sendable, BitwiseCopyable {
        package let high: UInt64
        package let low: UInt64

        package init(high: UInt64, low: UInt64) {
            self.high = high
            self.low = low
        }

        package static let unknown = StateHash(high: 0, low: 0)
    }

    package static let headerByteCount = 112
    private static let magic: UInt32 = 0x4243_4648  // "HFCB"
    private static let formatMajor: UInt16 = 1
    private static let formatMinor: UInt16 = 0

    package let position: LogPosition
    package let predecessor: LogPosition
    /// Every batch up to this sequence was on a write quorum when this one was written.
    package let commitIndex: UInt64
    package let stateHash: StateHash
    package let timestamp: Timestamp
    package let body: [UInt8]

    /// Makes the batch that directly follows `predecessor`.
    package init(
        epoch: UInt64,
        predecessor: LogPosition,
        commitIndex: UInt64,
        stateHash: StateHash = .unknown,
        timestamp: Timestamp,
        body: [UInt8]
    ) {
        precondition(epoch >= predecessor.epoch, "Epochs never go back along the commit log.")
        precondition(predecessor.sequence < UInt64.max, "The sequence of the commit log is used up.")
        precondition(body.count <= Int(UInt32.max), "The body of a commit batch has at most 4 GiB.")
        let sequence = predecessor.sequence + 1
        precondition(commitIndex < sequence, "A batch can't know that it is committed itself.")
        self.predecessor = predecessor
        self.commitIndex = commitIndex
        self.stateHash = stateHash
        self.timestamp = timestamp
        self.body = body
        let header = Self.header(
            epoch: epoch,
            predecessor: predecessor,
            commitIndex: commitIndex,
            stateHash: stateHash,
            timestamp: timestamp,
            bodyByteCount: body.count
        )
        position = LogPosition(
            epoch: epoch,
            sequence: sequence,
            hash: Self.hash(header: header, body: body[...])
        )
    }

    /// Length of `encode()`.
    package var encodedByteCount: Int { Self.headerByteCount + body.count }

    /// The bytes in front of the body.
    package func encodeHeader() -> [UInt8] {
        Self.header(
            epoch: position.epoch,
            predecessor: predecessor,
            commitIndex: commitIndex,
            stateHash: stateHash,
            timestamp: timestamp,
            bodyByteCount: body.count
        )
    }

    /// The batch's binary form; see the table at the top of the file.
    package func encode() -> [UInt8] {
        var bytes = encodeHeader()
        bytes.reserveCapacity(encodedByteCount)
        bytes.append(contentsOf: body)
        return bytes
    }

    /// Reads what `encode` wrote, and nothing else: the bytes must end where the batch ends.
    /// - Throws: `ByteReader.Failure` for bytes that no writer of this format makes.
    package init(decoding bytes: [UInt8]) throws(ByteReader.Failure) {
        var reader = ByteReader(bytes)
        guard try reader.read(UInt32.self) == Self.magic else {
            throw ByteReader.Failure("not a commit batch")
        }
        let major = try reader.read(UInt16.self)
        guard major == Self.formatMajor else {
            throw ByteReader.Failure(
                "commit batch of format \(major); this version reads \(Self.formatMajor)"
            )
        }
        _ = try reader.read(UInt16.self)
        let epoch = try reader.read(UInt64.self)
        let sequence = try reader.read(UInt64.self)
        predecessor = try reader.readPosition()
        commitIndex = try reader.read(UInt64.self)
        timestamp = Timestamp(milliseconds: try reader.read(Int64.self))
        stateHash = StateHash(high: try reader.read(UInt64.self), low: try reader.read(UInt64.self))
        let bodyByteCount = try reader.read(UInt32.self)
        let reserved = try reader.read(UInt32.self)
        guard reserved == 0, Int(bodyByteCount) == reader.remaining else {
            throw ByteReader.Failure(
                "commit batch with a body of \(bodyByteCount) bytes, \(reader.remaining) there"
            )
        }
        guard sequence > 0, predecessor.sequence == sequence - 1, predecessor.epoch <= epoch else {
            throw ByteReader.Failure("commit batch \(epoch).\(sequence) can't follow \(predecessor)")
        }
        guard commitIndex < sequence else {
            throw ByteReader.Failure("commit batch \(epoch).\(sequence) with commit index \(commitIndex)")
        }
        body = [UInt8](try reader.read(count: Int(bodyByteCount)))
        position = LogPosition(epoch: epoch, sequence: sequence, hash: SHA256Hasher.hash(bytes))
    }

    private static func header(
        epoch: UInt64,
        predecessor: LogPosition,
        commitIndex: UInt64,
        stateHash: StateHash,
        timestamp: Timestamp,
        bodyByteCount: Int
    ) -> [UInt8] {
        var writer = ByteWriter(capacity: headerByteCount)
        writer.write(magic)
        writer.write(formatMajor)
        writer.write(formatMinor)
        writer.write(epoch)
        writer.write(predecessor.sequence + 1)
        writer.write(predecessor)
        writer.write(commitIndex)
        writer.write(timestamp.milliseconds)
        writer.write(stateHash.high)
        writer.write(stateHash.low)
        writer.write(UInt32(bodyByteCount))
        writer.write(UInt32(0))
        return writer.bytes
    }

    private static func hash(header: [UInt8], body: ArraySlice<UInt8>) -> Digest {
        var hasher = SHA256Hasher()
        header.withUnsafeBytes { hasher.update($0) }
        body.withUnsafeBytes { hasher.update($0) }
        return hasher.finish()
    }

    package static func == (left: CommitBatch, right: CommitBatch) -> Bool { left.position == right.position }

    package func hash(into hasher: inout Hasher) { hasher.combine(position) }
}
