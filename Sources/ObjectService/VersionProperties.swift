package import Catalog
internal import ContentHashing
package import StoreModel

extension ObjectStore {
    /// Changes attributes of a version, which stays the same version.
    /// - Throws: `.objectLocked` when a retention that still holds would be made shorter or weaker.
    package func setAttributes(
        of address: VersionAddress,
        _ changes: [AttributeChange],
        conditions: Conditions = .none,
        bypassesGovernance: Bool = false,
        operation: OperationID? = nil
    ) async throws -> VersionRow {
        let command = CatalogCommand.setAttributes(
            address,
            changes,
            conditions: conditions,
            bypassesGovernance: bypassesGovernance
        )
        return try await commit(command, operation: operation).madeVersion()
    }

    /// The parts that an object was put in; nil when it was put whole.
    package func parts(of version: VersionRow) async throws -> [ObjectPart]? {
        try await version.loadParts(from: storage)
    }

    /// Where a part of an object stands in it, and how many there are. An object that was put whole is its part 1.
    /// - Throws: `.invalidRange` when there is no such part.
    package func partRange(
        _ number: Int,
        of version: VersionRow
    ) async throws -> (range: ByteRange, count: Int) {
        guard let parts = try await parts(of: version) else {
            guard number == 1 else { throw Self.noSuchPart(number) }
            return (ByteRange(wholeOf: version.size), 1)
        }
        var offset: UInt64 = 0
        for part in parts {
            guard Int(part.number) != number else {
                guard part.size > 0 else { return (ByteRange(wholeOf: 0), parts.count) }
                let range = try ByteRange(offset: offset, length: part.size, of: version.size)
                return (range, parts.count)
            }
            offset += part.size
        }
        throw Self.noSuchPart(number)
    }

    private static func noSuchPart(_ number: Int) -> StoreError {
        StoreError(.invalidRange, "The object has no part \(number).")
    }
}

extension VersionRow {
    func loadParts<Storage: ReplicatedStorage>(from storage: Storage) async throws -> [ObjectPart]? {
        switch attributes.partList {
        case nil: return nil
        case .inline(let bytes): return try Self.decode(bytes)
        case .stored(let payload): return try Self.decode(try await bytes(of: payload, storage))
        }
    }

    private static func decode(_ bytes: [UInt8]) throws(StoreError) -> [ObjectPart] {
        do {
            return try PartListCodec.decode(bytes)
        } catch {
            throw StoreError(.storeDamaged, "The list of an object's parts can't be read: \(error).")
        }
    }

    /// A payload as a whole, for short ones.
    private func bytes<Storage: ReplicatedStorage>(
        of payload: PayloadReference,
        _ storage: Storage
    ) async throws -> [UInt8] {
        var cursor = ManifestCursor(
            payload.manifest,
            size: payload.size,
            range: ByteRange(wholeOf: payload.size),
            storage: storage
        )
        var bytes: [UInt8] = []
        while let slice = try await cursor.next() {
            bytes += try await storage.read(
                slice.chunk.digest,
                length: Int(slice.chunk.length),
                range: slice.range
            )
        }
        return bytes
    }
}
