internal import Catalog
internal import ContentHashing
internal import StoreModel

// Head:  sequence (8), nonce (8), flags (1), created at (8), size (8), ETag (text), the parts that the flags
// name, checksum (8). Flags: 1 null version; 2 owner: text; 4 further checksums: their type (1; 0 = none), their
// number (1), their algorithms (text each).
// Usage: objects (8), their bytes (8), versions (8), their bytes (8), delete markers (8),
// checksum (8). The checksum is the XXH3-64 of the bucket (8), the key (none for usage) and everything before
// it.

/// The byte forms of what the index derives from rows.
enum HeadCodec {
    static func encode(_ head: ObjectHead, bucket: BucketID) -> [UInt8] {
        var writer = ByteWriter(capacity: 96)
        writer.write(head.id.sequence)
        writer.write(head.id.nonce)
        let hasChecksums = head.checksumType != nil || !head.checksumAlgorithms.isEmpty
        let flags = (head.isNull ? 1 : 0) | (head.owner == nil ? 0 : 2) | (hasChecksums ? 4 : 0)
        writer.write(UInt8(flags))
        writer.write(head.createdAt.milliseconds)
        writer.write(head.size)
        writer.write(text: head.etag)
        if let owner = head.owner { writer.write(text: owner) }
        if hasChecksums {
            writer.write(head.checksumType?.rawValue ?? 0)
            let algorithms = head.checksumAlgorithms.prefix(Int(UInt8.max))
            writer.write(UInt8(algorithms.count))
            for algorithm in algorithms { writer.write(text: algorithm) }
        }
        writer.write(checksum(of: writer.bytes[...], bucket: bucket, key: head.key.bytes))
        return writer.bytes
    }

    static func decode(_ bytes: [UInt8], bucket: BucketID, key: [UInt8]) throws -> ObjectHead {
        do {
            var reader = ByteReader(try verified(bytes, bucket: bucket, key: key))
            let sequence = try reader.read(UInt64.self)
            let nonce = try reader.read(UInt64.self)
            let flags = try reader.read(UInt8.self)
            let createdAt = Timestamp(milliseconds: try reader.read(Int64.self))
            let size = try reader.read(UInt64.self)
            let etag = try reader.readText()
            let owner: String? = flags & 2 == 0 ? nil : try reader.readText()
            var algorithms: [String] = []
            var type: ChecksumType?
            if flags & 4 != 0 {
                type = ChecksumType(rawValue: try reader.read(UInt8.self))
                let count = try reader.read(UInt8.self)
                for _ in 0..<count { algorithms.append(try reader.readText()) }
            }
            try reader.finish()
            return ObjectHead(
                key: try ObjectKey(bytes: key),
                id: VersionID(sequence: sequence, nonce: nonce),
                isNull: flags & 1 == 1,
                size: size,
                etag: etag,
                createdAt: createdAt,
                owner: owner,
                checksumAlgorithms: algorithms,
                checksumType: type
            )
        } catch {
            throw CatalogError(.damaged, "The head of \(quoted(key)) can't be read: \(error).", cause: error)
        }
    }

    static func encode(_ usage: BucketUsage, bucket: BucketID) -> [UInt8] {
        var writer = ByteWriter(capacity: 48)
        writer.write(usage.objectCount)
        writer.write(usage.objectBytes)
        writer.write(usage.versionCount)
        writer.write(usage.versionBytes)
        writer.write(usage.deleteMarkerCount)
        writer.write(checksum(of: writer.bytes[...], bucket: bucket, key: []))
        return writer.bytes
    }

    static func decodeUsage(_ bytes: [UInt8], bucket: BucketID) throws -> BucketUsage {
        do {
            var reader = ByteReader(try verified(bytes, bucket: bucket, key: []))
            var usage = BucketUsage()
            usage.objectCount = try reader.read(UInt64.self)
            usage.objectBytes = try reader.read(UInt64.self)
            usage.versionCount = try reader.read(UInt64.self)
            usage.versionBytes = try reader.read(UInt64.self)
            usage.deleteMarkerCount = try reader.read(UInt64.self)
            try reader.finish()
            return usage
        } catch {
            throw CatalogError(
                .damaged,
                "The usage of bucket \(bucket.rawValue) can't be read: \(error).",
                cause: error
            )
        }
    }

    private static func verified(_ bytes: [UInt8], bucket: BucketID, key: [UInt8]) throws -> ArraySlice<UInt8>
    {
        var tail = ByteReader(bytes.suffix(8))
        let body = bytes.dropLast(8)
        guard try tail.read(UInt64.self) == checksum(of: body, bucket: bucket, key: key) else {
            throw ByteReader.Failure("wrong checksum")
        }
        return body
    }

    private static func checksum(of body: ArraySlice<UInt8>, bucket: BucketID, key: [UInt8]) -> UInt64 {
        var writer = ByteWriter(capacity: 8 + key.count + body.count)
        writer.write(bucket.rawValue)
        writer.write(raw: key)
        writer.write(raw: body)
        return BlockChecksum.xxh3(writer.bytes)
    }
}
