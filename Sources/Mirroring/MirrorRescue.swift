package import Catalog
package import StoreModel
internal import Synchronization

/// Bytes that no local copy has any more, from a mirror.
package final class MirrorRescue: Sendable {
    /// A backend that did not answer is left alone for so long: scrubs ask for one chunk after the other.
    private static let rest: Duration = .seconds(10)

    private let service: MirrorService
    private let resting = Mutex<[MirrorID: ContinuousClock.Instant]>([:])

    package init(_ service: MirrorService) { self.service = service }

    package func isThere() async -> Bool {
        guard let rows = try? await service.directory.mirrors() else { return false }
        return !rows.isEmpty
    }

    /// A stretch of a version's content, from the first mirror whose bytes are good.
    /// - Parameter only: the name of the only mirror to be asked.
    /// - Returns: nil when no mirror has it.
    package func bytes(
        of version: VersionRow,
        _ range: ByteRange,
        from only: String?,
        where isGood: @Sendable ([UInt8]) -> Bool
    ) async -> (bytes: [UInt8], mirror: String)? {
        guard let rows = try? await service.directory.mirrors() else { return nil }
        for row in rows where (only ?? row.name.description) == row.name.description && !isResting(row.id) {
            do {
                guard let bytes = try await bytes(of: version, range, row),
                    UInt64(bytes.count) == range.length, isGood(bytes)
                else { continue }
                return (bytes, row.name.description)
            } catch let failure as MirrorFailure where failure.scope != .task {
                resting.withLock { $0[row.id] = .now + Self.rest }
            } catch {
                continue
            }
        }
        return nil
    }

    private func isResting(_ id: MirrorID) -> Bool {
        resting.withLock { resting in
            guard let end = resting[id] else { return false }
            if ContinuousClock.now < end { return true }
            resting[id] = nil
            return false
        }
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

    /// The mirrors that have a version, by what is noted here.
    package func holders(of version: VersionRow) async -> [String] {
        guard !version.isDeleteMarker, let rows = try? await service.directory.mirrors() else { return [] }
        var names: [String] = []
        for row in rows where (try? await service.directory.standing(of: version, in: row)) == .mirrored {
            names.append(row.name.description)
        }
        return names
    }
}
