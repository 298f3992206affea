internal import ContentHashing
package import StoreModel

/// A node of a manifest tree: the chunks of a stretch of an object, or the nodes below it. Stored as a payload that
/// is named by its SHA-256 like any chunk.
///
///     offset  size  field
///          0     4  magic "HFMN"
///          4     1  format version, 1
///          5     1  height: 0 lists chunks, n lists nodes of height n - 1
///          6     2  entry count, 1 to 4,096
///          8     8  bytes of the object that the node covers: the sum of its entries
///         16     …  entries
///
///     entry of height 0 (36 bytes)         entry of another height (44 bytes)
///          0    32  SHA-256 of the chunk         0    32  SHA-256 of the node
///         32     4  its length                  32     4  its length as a payload
///                                               36     8  bytes of the object that it covers
///
/// Integers are little-endian. Bytes that don't read as this, down to the sum, are refused.
package struct ManifestNode: Hashable, Sendable {
    package static let entryCountMax = 4096
    /// 512 entries a node reach 5 TiB of the smallest chunks with three levels; more levels than this are damage.
    package static let heightMax: UInt8 = 7
    private static let magic = [UInt8]("HFMN".utf8)
    private static let version: UInt8 = 1

    package struct Entry: Hashable, Sendable, BitwiseCopyable {
        package let digest: Digest
        /// Bytes of the payload: of the chunk, or of the encoded node.
        package let payloadLength: UInt32
        /// Bytes of the object under this entry; a chunk's own length.
        package let contentLength: UInt64

        package init(digest: Digest, payloadLength: UInt32, contentLength: UInt64) {
            self.digest = digest
            self.payloadLength = payloadLength
            self.contentLength = contentLength
        }
    }

    package let height: UInt8
    package let entries: [Entry]
    package let contentLength: UInt64

    package init(height: UInt8, entries: [Entry]) {
        precondition(
            (1...Self.entryCountMax).contains(entries.count),
            "A manifest node has 1 to 4,096 entries."
        )
        precondition(height <= Self.heightMax, "A manifest tree has at most eight levels.")
        self.height = height
        self.entries = entries
        contentLength = entries.reduce(0) { $0 + $1.contentLength }
    }

    package func encoded() -> [UInt8] {
        var writer = ByteWriter(capacity: 16 + entries.count * 44)
        writer.write(raw: Self.magic)
        writer.write(Self.version)
        writer.write(height)
        writer.write(UInt16(entries.count))
        writer.write(contentLength)
        for entry in entries {
            writer.write(entry.digest)
            writer.write(entry.payloadLength)
            if height > 0 { writer.write(entry.contentLength) }
        }
        return writer.bytes
    }

    /// - Throws: `StoreError` with `.storeDamaged`, or `.unsupportedFormat` for a newer version.
    package init(decoding bytes: [UInt8]) throws(StoreError) {
        do {
            var reader = ByteReader(bytes)
            guard try reader.read(count: 4).elementsEqual(Self.magic) else {
                throw ByteReader.Failure("it doesn't begin as a manifest node")
            }
            let version = try reader.read(UInt8.self)
            guard version == Self.version else {
                throw StoreError(
                    .unsupportedFormat,
                    "A manifest node has format version \(version); this program reads version \(Self.version).",
                    advice: "Use the version of the program that wrote it, or a newer one."
                )
            }
            self = try Self.decodeBody(&reader)
        } catch let error as StoreError {
            throw error
        } catch {
            throw StoreError(.storeDamaged, "A manifest node can't be read: \(error).")
        }
    }

    private static func decodeBody(_ reader: inout ByteReader) throws(ByteReader.Failure) -> ManifestNode {
        let height = try reader.read(UInt8.self)
        guard height <= heightMax else { throw ByteReader.Failure("height \(height)") }
        let count = Int(try reader.read(UInt16.self))
        let contentLength = try reader.read(UInt64.self)
        let entrySize = height == 0 ? 36 : 44
        guard (1...entryCountMax).contains(count), reader.remaining == count * entrySize else {
            throw ByteReader.Failure("\(count) entries in \(reader.remaining) bytes")
        }
        var entries: [Entry] = []
        entries.reserveCapacity(count)
        var sum: UInt64 = 0
        for _ in 0..<count {
            let digest = try reader.readDigest()
            let payloadLength = try reader.read(UInt32.self)
            let covered = height == 0 ? UInt64(payloadLength) : try reader.read(UInt64.self)
            let (next, overflow) = sum.addingReportingOverflow(covered)
            guard covered > 0, !overflow else { throw ByteReader.Failure("an entry of \(covered) bytes") }
            sum = next
            entries.append(Entry(digest: digest, payloadLength: payloadLength, contentLength: covered))
        }
        guard sum == contentLength else {
            throw ByteReader.Failure("its entries cover \(sum) bytes, not \(contentLength)")
        }
        return ManifestNode(height: height, entries: entries)
    }
}

extension ManifestNode.Entry {
    package init(_ chunk: ChunkReference) {
        self.init(
            digest: chunk.digest,
            payloadLength: chunk.length,
            contentLength: UInt64(chunk.length)
        )
    }
}
