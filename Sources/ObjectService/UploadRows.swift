internal import Catalog
internal import ContentHashing
internal import StoreModel

// Key of an upload: bucket (8, big-endian), key of the object, a zero byte, which no key holds, and the upload's
// identity (16). So the order of the documents is that of S3's listing: by key, then by age.
// Key of a part: the upload's, then the part's number (2, big-endian).
//
// Body of an upload: format (1) = 1; checksum algorithm and type (1 each; 0 = none); initiator: text; and, counted,
//   a version row that holds what the object will be.
// Body of a part: format (1) = 1; uploaded at (8); MD5 (16); checksum algorithm (1; 0 = none) and, counted, its
//   bytes; bytes of the part (8) where they aren't the payload's. The document's payload is the part as it is
//   stored: of an encrypted upload, sealed.

enum UploadKey {
    static func bucket(_ bucket: BucketID) -> [UInt8] {
        withUnsafeBytes(of: bucket.rawValue.bigEndian) { [UInt8]($0) }
    }

    /// The first that an upload of the key can have.
    static func uploads(_ bucket: BucketID, _ key: [UInt8]) -> [UInt8] { self.bucket(bucket) + key + [0] }

    static func upload(_ bucket: BucketID, _ key: ObjectKey, _ id: UploadID) -> [UInt8] {
        uploads(bucket, key.bytes) + id.operation.bytes
    }

    static func part(_ upload: [UInt8], _ number: Int) -> [UInt8] {
        upload + withUnsafeBytes(of: UInt16(truncatingIfNeeded: number).bigEndian) { [UInt8]($0) }
    }

    /// The upload that a part belongs to.
    static func upload(ofPart key: [UInt8]) -> [UInt8] { Array(key.dropLast(2)) }

    static func id(of key: [UInt8]) -> UploadID? {
        var reader = ByteReader(key.suffix(16))
        return (try? reader.readUniqueID()).map { UploadID($0) }
    }

    /// The object's key, of an upload's.
    static func objectKey(of key: [UInt8]) -> [UInt8] { Array(key.dropFirst(8).dropLast(17)) }
}

extension MultipartUpload {
    private static let format: UInt8 = 1

    var documentKey: [UInt8] { UploadKey.upload(bucket, key, id) }

    var body: [UInt8] {
        var writer = ByteWriter(capacity: 256)
        writer.write(Self.format)
        writer.write(checksum?.algorithm.rawValue ?? 0)
        writer.write(checksum?.type.rawValue ?? 0)
        writer.write(text: initiator ?? "")
        let row = VersionRow(
            bucket: bucket,
            key: key,
            id: VersionID(sequence: 0, nonce: 0),
            isNull: false,
            kind: .object,
            createdAt: startedAt,
            content: .nothing,
            metadata: metadata,
            tags: tags,
            attributes: attributes,
            operation: id.operation
        )
        writer.write(counted: RowCodec.encode(row))
        return writer.bytes
    }

    init(_ document: DocumentRow) throws(StoreError) {
        do {
            var reader = ByteReader(document.body)
            try reader.expect(format: Self.format)
            let algorithm = try reader.read(UInt8.self)
            let type = try reader.read(UInt8.self)
            let initiator = try reader.readText()
            let row = try RowCodec.decodeVersion(try reader.readCounted())
            try reader.finish()
            var checksum: UploadChecksum?
            if algorithm != 0 {
                guard let algorithm = ChecksumAlgorithm(rawValue: algorithm),
                    let type = ChecksumType(rawValue: type)
                else { throw ByteReader.Failure("unknown checksum") }
                checksum = UploadChecksum(algorithm: algorithm, type: type)
            }
            self.init(
                id: UploadID(row.operation),
                bucket: row.bucket,
                key: row.key,
                startedAt: row.createdAt,
                metadata: row.metadata,
                tags: row.tags,
                attributes: row.attributes,
                checksum: checksum,
                initiator: initiator.isEmpty ? nil : initiator
            )
        } catch {
            throw StoreError(.storeDamaged, "A multipart upload's row can't be read: \(error).")
        }
    }
}

extension UploadedPart {
    private static let format: UInt8 = 1

    var body: [UInt8] {
        var writer = ByteWriter(capacity: 64)
        writer.write(Self.format)
        writer.write(uploadedAt.milliseconds)
        writer.write(raw: etag.bytes)
        writer.write(checksum?.algorithm.rawValue ?? 0)
        if let checksum { writer.write(counted: checksum.bytes) }
        if size != payload.size { writer.write(size) }
        return writer.bytes
    }

    init(_ document: DocumentRow) throws(StoreError) {
        do {
            guard let payload = document.payload else { throw ByteReader.Failure("it has no payload") }
            var reader = ByteReader(document.body)
            try reader.expect(format: Self.format)
            let uploadedAt = Timestamp(milliseconds: try reader.read(Int64.self))
            let slice = try reader.read(count: MD5Digest.byteCount)
            guard let etag = slice.withUnsafeBytes({ MD5Digest(bytes: $0) }) else {
                throw ByteReader.Failure("no MD5")
            }
            var checksum: Checksum?
            let raw = try reader.read(UInt8.self)
            if raw != 0 {
                guard let algorithm = ChecksumAlgorithm(rawValue: raw),
                    let value = Checksum(algorithm, bytes: try reader.readCounted())
                else { throw ByteReader.Failure("unknown checksum") }
                checksum = value
            }
            let size = reader.remaining > 0 ? try reader.read(UInt64.self) : payload.size
            try reader.finish()
            let number = document.key.suffix(2).reduce(0) { $0 << 8 | Int($1) }
            self.init(
                number: number,
                size: size,
                etag: etag,
                uploadedAt: uploadedAt,
                checksum: checksum,
                payload: payload
            )
        } catch {
            throw StoreError(.storeDamaged, "A part's row can't be read: \(error).")
        }
    }
}

extension ByteReader {
    fileprivate mutating func expect(format: UInt8) throws(Failure) {
        let found = try read(UInt8.self)
        guard found == format else { throw Failure("format \(found); this program knows \(format)") }
    }
}
