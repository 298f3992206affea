package import StoreModel

// Byte form of rows. Integers are little-endian; "text" is a 32-bit length and that many bytes of UTF-8; a
// digest is 32 bytes; an identifier 16, most significant first. There is one encoding for a row, so that its
// hash names it.
//
// Bucket row                               Version row
//   0   1  0x42                              0   1  0x56
//   1   1  format of the row: 1              1   1  format of the row: 2 with attributes, else 1
//   2   1  versioning (VersioningState)      2   2  flags, below
//   3   1  flags: 1 = has an owner           4   8  bucket
//   4   8  number                           12   8  version: sequence
//  12   8  created at (ms)                  20   8  version: nonce
//  20   …  name: text                       28   8  created at (ms)
//   …   …  owner: text, if flagged          36   8  size
//                                           44  16  operation
//                                           60   …  key: text
//                                            …   …  ETag: text
//                                            …   …  the parts that the flags name, in their order
//                                            …   …  manifest
//
// Flags of a version row, and the part each one announces:
//     1  null version
//     2  delete marker
//     4  SHA-256: digest
//     8  MD5: 16 bytes
//    16  other checksums: pairs
//    32  content type: text
//    64  other headers: pairs
//   128  user metadata: pairs
//   256  tags: pairs
//   512  restored from: sequence, nonce
//  1024  attributes (format 2 has this flag, format 1 doesn't): count in 16 bits, then tag (1 byte) and counted
//        bytes each, in the order of the tags
//
// Document row
//   0   1  0x44
//   1   1  format of the row: 1
//   2   1  space (DocumentSpace)
//   3   1  flags: 1 = refers to a payload
//   4   …  key: counted bytes
//   …   …  body: counted bytes
//   …   …  payload, if flagged: size (8), manifest
//
// Pairs: count in 16 bits, then name and value as text. A flagged list isn't empty.
// Manifest: one byte 0, count in 16 bits, then (digest, length in 32 bits) each; or
//           one byte 1, root digest, depth (1 byte), node length (32 bits), chunk count (64 bits).

/// The byte form of buckets, versions and documents, in the commit log, the index and snapshots alike.
package enum RowCodec {
    fileprivate static let bucketTag: UInt8 = 0x42
    fileprivate static let versionTag: UInt8 = 0x56
    fileprivate static let documentTag: UInt8 = 0x44
    fileprivate static let rowFormat: UInt8 = 1
    fileprivate static let attributeFormat: UInt8 = 2

    fileprivate struct Flags: OptionSet {
        let rawValue: UInt16
        static let null = Flags(rawValue: 1)
        static let marker = Flags(rawValue: 2)
        static let sha256 = Flags(rawValue: 4)
        static let md5 = Flags(rawValue: 8)
        static let otherChecksums = Flags(rawValue: 16)
        static let contentType = Flags(rawValue: 32)
        static let otherHeaders = Flags(rawValue: 64)
        static let userMetadata = Flags(rawValue: 128)
        static let tags = Flags(rawValue: 256)
        static let restored = Flags(rawValue: 512)
        static let attributes = Flags(rawValue: 1024)
        /// Of format 1.
        static let first = Flags(rawValue: 1023)
    }

    package static func encode(_ row: BucketRow) -> [UInt8] {
        var writer = ByteWriter(capacity: 96)
        writer.write(bucketTag)
        writer.write(rowFormat)
        writer.write(row.versioning.rawValue)
        writer.write(UInt8(row.owner == nil ? 0 : 1))
        writer.write(row.id.rawValue)
        writer.write(row.createdAt.milliseconds)
        writer.write(text: row.name.description)
        if let owner = row.owner { writer.write(text: owner) }
        return writer.bytes
    }

    package static func encode(_ row: VersionRow) -> [UInt8] {
        var writer = ByteWriter(capacity: 320)
        writer.write(versionTag)
        writer.write(row.attributes.isEmpty ? rowFormat : attributeFormat)
        writer.write(flags(of: row).rawValue)
        writer.write(row.bucket.rawValue)
        writer.write(row.id.sequence)
        writer.write(row.id.nonce)
        writer.write(row.createdAt.milliseconds)
        writer.write(row.size)
        writer.write(row.operation)
        writer.write(counted: row.key.bytes)
        writer.write(text: row.etag)
        if let digest = row.checksums.sha256 { writer.write(digest) }
        if let digest = row.checksums.md5 { writer.write(raw: digest.bytes) }
        if !row.checksums.others.isEmpty { writer.write(pairs: row.checksums.others) }
        if let type = row.contentType { writer.write(text: type) }
        if !row.otherHeaders.isEmpty { writer.write(pairs: row.otherHeaders) }
        if !row.userMetadata.isEmpty { writer.write(pairs: row.userMetadata) }
        if !row.tags.isEmpty { writer.write(pairs: row.tags) }
        if let source = row.restoredFrom {
            writer.write(source.sequence)
            writer.write(source.nonce)
        }
        if !row.attributes.isEmpty { writer.write(row.attributes) }
        writer.write(row.manifest)
        return writer.bytes
    }

    package static func encode(_ row: DocumentRow) -> [UInt8] {
        var writer = ByteWriter(capacity: 64 + row.key.count + row.body.count)
        writer.write(documentTag)
        writer.write(rowFormat)
        writer.write(row.space.rawValue)
        writer.write(UInt8(row.payload == nil ? 0 : 1))
        writer.write(counted: row.key)
        writer.write(counted: row.body)
        if let payload = row.payload {
            writer.write(payload.size)
            writer.write(payload.manifest)
        }
        return writer.bytes
    }

    package static func decodeDocument(_ bytes: [UInt8]) throws(ByteReader.Failure) -> DocumentRow {
        var reader = ByteReader(bytes)
        try reader.expect(tag: documentTag, format: rowFormat, what: "document row")
        let raw = try reader.read(UInt8.self)
        guard let space = DocumentSpace(rawValue: raw) else {
            throw ByteReader.Failure("unknown document space \(raw)")
        }
        let flags = try reader.read(UInt8.self)
        guard flags <= 1 else { throw ByteReader.Failure("unknown flags \(flags) of a document row") }
        let key = try reader.readCounted()
        let body = try reader.readCounted()
        var payload: PayloadReference?
        if flags == 1 {
            let size = try reader.read(UInt64.self)
            payload = PayloadReference(manifest: try reader.readManifest(), size: size)
        }
        try reader.finish()
        return DocumentRow(space: space, key: key, body: body, payload: payload)
    }

    package static func decodeBucket(_ bytes: [UInt8]) throws(ByteReader.Failure) -> BucketRow {
        var reader = ByteReader(bytes)
        try reader.expect(tag: bucketTag, format: rowFormat, what: "bucket row")
        guard let versioning = VersioningState(rawValue: try reader.read(UInt8.self)) else {
            throw ByteReader.Failure("unknown versioning state")
        }
        let flags = try reader.read(UInt8.self)
        guard flags <= 1 else { throw ByteReader.Failure("unknown flags \(flags) of a bucket row") }
        let id = BucketID(rawValue: try reader.readOrdinal())
        let createdAt = Timestamp(milliseconds: try reader.read(Int64.self))
        let text = try reader.readText()
        let name: BucketName
        do { name = try BucketName(text) } catch { throw ByteReader.Failure(error.message) }
        let owner: String? = flags == 1 ? try reader.readText() : nil
        try reader.finish()
        return BucketRow(id: id, name: name, createdAt: createdAt, versioning: versioning, owner: owner)
    }

    package static func decodeVersion(_ bytes: [UInt8]) throws(ByteReader.Failure) -> VersionRow {
        var reader = ByteReader(bytes)
        guard try reader.read(UInt8.self) == versionTag else { throw ByteReader.Failure("not a version row") }
        let format = try reader.read(UInt8.self)
        guard format == rowFormat || format == attributeFormat else {
            throw ByteReader.Failure(
                "a version row of format \(format); this program knows \(rowFormat) and \(attributeFormat)"
            )
        }
        let flags = Flags(rawValue: try reader.read(UInt16.self))
        let known = format == rowFormat ? flags : flags.subtracting(.attributes)
        guard known.isSubset(of: .first), format == rowFormat || flags.contains(.attributes) else {
            throw ByteReader.Failure("unknown flags \(flags.rawValue) of a version row of format \(format)")
        }
        let bucket = BucketID(rawValue: try reader.readOrdinal())
        let id = try reader.readVersionID()
        let createdAt = Timestamp(milliseconds: try reader.read(Int64.self))
        let size = try reader.read(UInt64.self)
        let operation = try reader.readUniqueID()
        let key = try reader.readKey()
        let etag = try reader.readText()
        var checksums = ObjectChecksums()
        if flags.contains(.sha256) { checksums.sha256 = try reader.readDigest() }
        if flags.contains(.md5) { checksums.md5 = try reader.readMD5() }
        if flags.contains(.otherChecksums) { checksums.others = try reader.readPairs() }
        var metadata = ObjectMetadata()
        if flags.contains(.contentType) { metadata.contentType = try reader.readText() }
        if flags.contains(.otherHeaders) { metadata.otherHeaders = try reader.readPairs() }
        if flags.contains(.userMetadata) { metadata.userMetadata = try reader.readPairs() }
        let tags = flags.contains(.tags) ? try reader.readPairs() : []
        let restoredFrom = flags.contains(.restored) ? try reader.readVersionID() : nil
        let attributes = flags.contains(.attributes) ? try reader.readAttributes() : .none
        let manifest = try reader.readManifest()
        try reader.finish()
        return VersionRow(
            bucket: bucket,
            key: key,
            id: id,
            isNull: flags.contains(.null),
            kind: flags.contains(.marker) ? .deleteMarker : .object,
            createdAt: createdAt,
            content: ObjectContent(size: size, etag: etag, checksums: checksums, manifest: manifest),
            metadata: metadata,
            tags: tags,
            attributes: attributes,
            operation: operation,
            restoredFrom: restoredFrom
        )
    }

    /// Whether bytes look like a version row rather than a bucket row.
    package static func isVersion(_ bytes: [UInt8]) -> Bool { bytes.first == versionTag }
    package static func isDocument(_ bytes: [UInt8]) -> Bool { bytes.first == documentTag }

    private static func flags(of row: VersionRow) -> Flags {
        var flags: Flags = []
        if row.isNull { flags.insert(.null) }
        if row.isDeleteMarker { flags.insert(.marker) }
        if row.checksums.sha256 != nil { flags.insert(.sha256) }
        if row.checksums.md5 != nil { flags.insert(.md5) }
        if !row.checksums.others.isEmpty { flags.insert(.otherChecksums) }
        if row.contentType != nil { flags.insert(.contentType) }
        if !row.otherHeaders.isEmpty { flags.insert(.otherHeaders) }
        if !row.userMetadata.isEmpty { flags.insert(.userMetadata) }
        if !row.tags.isEmpty { flags.insert(.tags) }
        if row.restoredFrom != nil { flags.insert(.restored) }
        if !row.attributes.isEmpty { flags.insert(.attributes) }
        return flags
    }
}

extension ByteWriter {
    mutating func write(pairs: [NamedValue]) {
        precondition(
            pairs.count <= UInt16.max,
            "A row has at most 65,535 pairs of one sort: checked when decided."
        )
        write(UInt16(pairs.count))
        for pair in pairs {
            write(text: pair.name)
            write(text: pair.value)
        }
    }

    mutating func write(_ attributes: VersionAttributes) {
        write(UInt16(attributes.list.count))
        for attribute in attributes.list {
            write(attribute.tag)
            write(counted: attribute.bytes)
        }
    }

    mutating func write(_ manifest: ManifestReference) {
        switch manifest {
        case .inline(let chunks):
            precondition(chunks.count <= UInt16.max, "An inline manifest is short: checked when decided.")
            write(UInt8(0))
            write(UInt16(chunks.count))
            for chunk in chunks {
                write(chunk.digest)
                write(chunk.length)
            }
        case .tree(let root, let depth, let nodeLength, let chunkCount):
            write(UInt8(1))
            write(root)
            write(depth)
            write(nodeLength)
            write(chunkCount)
        }
    }

    mutating func write(_ hash: StateHash) {
        write(hash.high)
        write(hash.low)
    }
}

extension ByteReader {
    mutating func expect(tag: UInt8, format: UInt8, what: String) throws(Failure) {
        guard try read(UInt8.self) == tag else { throw Failure("not a \(what)") }
        let found = try read(UInt8.self)
        guard found == format else {
            throw Failure("a \(what) of format \(found); this program knows \(format)")
        }
    }

    /// A sequence or a number of a bucket: 63 bits, so that a database's signed integers hold it.
    mutating func readOrdinal() throws(Failure) -> UInt64 {
        let value = try read(UInt64.self)
        guard value <= UInt64(Int64.max) else { throw Failure("an ordinal of 64 bits") }
        return value
    }

    mutating func readVersionID() throws(Failure) -> VersionID {
        let sequence = try readOrdinal()
        return VersionID(sequence: sequence, nonce: try read(UInt64.self))
    }

    mutating func readKey() throws(Failure) -> ObjectKey {
        let bytes = try readCounted()
        do { return try ObjectKey(bytes: bytes) } catch { throw Failure(error.message) }
    }

    mutating func readMD5() throws(Failure) -> MD5Digest {
        let slice = try read(count: MD5Digest.byteCount)
        guard let digest = slice.withUnsafeBytes({ MD5Digest(bytes: $0) }) else {
            throw Failure("short digest")
        }
        return digest
    }

    mutating func readPairs() throws(Failure) -> [NamedValue] {
        let count = try read(UInt16.self)
        guard count > 0 else { throw Failure("an empty list where one was announced") }
        var pairs: [NamedValue] = []
        for _ in 0..<count {
            let name = try readText()
            pairs.append(NamedValue(name, try readText()))
        }
        return pairs
    }

    mutating func readAttributes() throws(Failure) -> VersionAttributes {
        let count = try read(UInt16.self)
        guard count > 0 else { throw Failure("no attributes where some were announced") }
        var list: [VersionAttribute] = []
        for _ in 0..<count {
            let tag = try read(UInt8.self)
            guard list.last.map({ $0.tag < tag }) ?? true else { throw Failure("attributes out of order") }
            list.append(VersionAttribute(tag: tag, bytes: try readCounted()))
        }
        return VersionAttributes(ordered: list)
    }

    mutating func readManifest() throws(Failure) -> ManifestReference {
        switch try read(UInt8.self) {
        case 0:
            let count = try read(UInt16.self)
            var chunks: [ChunkReference] = []
            for _ in 0..<count {
                let digest = try readDigest()
                chunks.append(ChunkReference(digest: digest, length: try read(UInt32.self)))
            }
            return .inline(chunks)
        case 1:
            let root = try readDigest()
            let depth = try read(UInt8.self)
            let nodeLength = try read(UInt32.self)
            return .tree(root: root, depth: depth, nodeLength: nodeLength, chunkCount: try read(UInt64.self))
        case let kind:
            throw Failure("unknown kind \(kind) of manifest")
        }
    }

    mutating func readStateHash() throws(Failure) -> StateHash {
        let high = try read(UInt64.self)
        return StateHash(high: high, low: try read(UInt64.self))
    }
}
