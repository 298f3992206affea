package import StoreModel

/// One part of an object that was put in parts.
package struct ObjectPart: Hashable, Sendable {
    package let number: UInt16
    package let size: UInt64
    package let etag: MD5Digest
    /// In S3's text form, in the algorithm of the object's checksum.
    package let checksum: String?

    package init(number: UInt16, size: UInt64, etag: MD5Digest, checksum: String?) {
        self.number = number
        self.size = size
        self.etag = etag
        self.checksum = checksum
    }
}

/// The parts of an object, in their order.
///
/// Bytes: number of parts (2); each: number (2), size (8), ETag (16), checksum: length (1) and text. Little-endian.
package enum PartListCodec {
    package static func encode(_ parts: [ObjectPart]) -> [UInt8] {
        var writer = ByteWriter(capacity: 2 + parts.count * 36)
        writer.write(UInt16(clamping: parts.count))
        for part in parts {
            writer.write(part.number)
            writer.write(part.size)
            writer.write(raw: part.etag.bytes)
            let checksum = Array((part.checksum ?? "").utf8.prefix(Int(UInt8.max)))
            writer.write(UInt8(checksum.count))
            writer.write(raw: checksum)
        }
        return writer.bytes
    }

    package static func decode(_ bytes: some Collection<UInt8>) throws(ByteReader.Failure) -> [ObjectPart] {
        var reader = ByteReader([UInt8](bytes))
        let count = Int(try reader.read(UInt16.self))
        var parts: [ObjectPart] = []
        parts.reserveCapacity(min(count, reader.remaining / 27))
        for _ in 0..<count {
            let number = try reader.read(UInt16.self)
            let size = try reader.read(UInt64.self)
            let etag = try reader.readMD5()
            let length = Int(try reader.read(UInt8.self))
            let text = try reader.read(count: length)
            guard let checksum = String(validating: text, as: UTF8.self) else {
                throw ByteReader.Failure("a checksum is not text")
            }
            parts.append(
                ObjectPart(
                    number: number,
                    size: size,
                    etag: etag,
                    checksum: checksum.isEmpty ? nil : checksum
                )
            )
        }
        try reader.finish()
        return parts
    }
}

/// Where the list of an object's parts stands: in the row when it is short, else in a payload of its own.
package enum PartListReference: Hashable, Sendable {
    /// Lists up to this size stand in the row.
    package static let inlineSizeMax = 2 << 10

    case inline([UInt8])
    case stored(PayloadReference)

    init?(_ bytes: [UInt8]) {
        var reader = ByteReader(bytes)
        switch try? reader.read(UInt8.self) {
        case 0:
            self = .inline([UInt8](bytes.dropFirst()))
        case 1:
            guard let size = try? reader.read(UInt64.self), let manifest = try? reader.readManifest(),
                reader.remaining == 0
            else { return nil }
            self = .stored(PayloadReference(manifest: manifest, size: size))
        default: return nil
        }
    }

    var bytes: [UInt8] {
        var writer = ByteWriter()
        switch self {
        case .inline(let list):
            writer.write(UInt8(0))
            writer.write(raw: list)
        case .stored(let payload):
            writer.write(UInt8(1))
            writer.write(payload.size)
            writer.write(payload.manifest)
        }
        return writer.bytes
    }
}
