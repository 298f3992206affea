package import Catalog
package import StoreModel

/// Bytes that no local copy has any more, from a mirror.
package struct MirrorRescue: Sendable {
    private let service: MirrorService

    package init(_ service: MirrorService) { self.service = service }

    /// A stretch of a version's content.
    /// - Returns: nil when no mirror has it. The caller compares it with what it should be.
    package func bytes(of version: VersionRow, _ range: ByteRange) async -> [UInt8]? {
        guard let rows = try? await service.directory.mirrors() else { return nil }
        for row in rows {
            if let bytes = try? await bytes(of: version, range, row), UInt64(bytes.count) == range.length {
                return bytes
            }
        }
        return nil
    }

    private func bytes(of version: VersionRow, _ range: ByteRange, _ row: MirrorRow) async throws -> [UInt8]?
    {
        let store = service.directory.store
        let name = try await store.read { try $0.bucket(id: version.bucket)?.name }
        guard let name else { return nil }
        let backend = try service.backend(of: row)
        let key = row.settings.key(name, version.key)
        let noted = try await store.document(.outbox, MirrorKey.mirrored(row.id, version.id))
        let id = noted.map { String(decoding: $0.body, as: UTF8.self) }
        if let id, !id.isEmpty { return try await backend.get(key, version: id, range) }
        guard let head = try await backend.head(key, version: nil),
            head.properties.holdfastVersion == version.id
        else { return nil }
        return try await backend.get(key, version: nil, range)
    }
}
