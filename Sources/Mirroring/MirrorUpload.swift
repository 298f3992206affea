internal import Catalog
internal import StoreModel

/// An upload in parts that is under way in a backend: format version 1 (1), part size (8), version (16), its id there.
struct MirrorUpload: Hashable, Sendable {
    let uploadID: String
    let partSize: UInt64
    let version: VersionID

    private static let format: UInt8 = 1

    static func load(
        _ id: MirrorID,
        _ sequence: UInt64,
        from store: any MirrorStore
    ) async throws -> MirrorUpload? {
        guard let row = try await store.document(.outbox, MirrorKey.upload(id, sequence)) else { return nil }
        return try? MirrorUpload(row)
    }

    init(uploadID: String, partSize: UInt64, version: VersionID) {
        self.uploadID = uploadID
        self.partSize = partSize
        self.version = version
    }

    private init(_ row: DocumentRow) throws(ByteReader.Failure) {
        var reader = ByteReader(row.body)
        let format = try reader.read(UInt8.self)
        guard format == Self.format else { throw ByteReader.Failure("it has format \(format)") }
        partSize = try reader.read(UInt64.self)
        version = VersionID(sequence: try reader.read(UInt64.self), nonce: try reader.read(UInt64.self))
        uploadID = try reader.readText()
        try reader.finish()
        guard partSize > 0 else { throw ByteReader.Failure("parts without bytes") }
    }

    func creation(_ id: MirrorID, _ sequence: UInt64) -> DocumentWrite {
        var writer = ByteWriter(capacity: 128)
        writer.write(Self.format)
        writer.write(partSize)
        writer.write(version.sequence)
        writer.write(version.nonce)
        writer.write(text: uploadID)
        return DocumentWrite(space: .outbox, key: MirrorKey.upload(id, sequence), body: writer.bytes)
    }

    func removal(_ id: MirrorID, _ sequence: UInt64) -> DocumentWrite {
        DocumentWrite(space: .outbox, key: MirrorKey.upload(id, sequence), body: nil)
    }
}
