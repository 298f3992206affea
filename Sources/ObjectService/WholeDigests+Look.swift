internal import Catalog
internal import Replication
internal import StoreModel

// How far all versions were looked at, as a document of the space job. Key: "digests-seen". Body, little-endian: format
// version (1, 1 byte) · the last sequence that was looked at (8)

/// Where the look at all versions stands.
struct DigestLook: Hashable, Sendable {
    /// Versions up to this sequence have their SHA-256, or a task, or can't have any.
    var seen: UInt64
    /// The same, as it is written down.
    private(set) var kept: UInt64

    static let name = DocumentName(.job, [UInt8]("digests-seen".utf8))
    private static let version: UInt8 = 1

    /// - Parameter document: what is written down; where it can't be read, all is looked at again.
    init(_ document: DocumentRow?) {
        var reader = ByteReader(document?.body ?? [])
        let version = try? reader.read(UInt8.self)
        let sequence = try? reader.read(UInt64.self)
        seen = version == Self.version && reader.remaining == 0 ? sequence ?? 0 : 0
        kept = seen
    }

    /// To be written down.
    mutating func keep() -> DocumentWrite {
        kept = seen
        var writer = ByteWriter(capacity: 9)
        writer.write(Self.version)
        writer.write(seen)
        return DocumentWrite(space: Self.name.space, key: Self.name.key, body: writer.bytes)
    }
}

// Versions that nobody has made a task for: copies and restores of what had no SHA-256 yet, and what is older than tasks.
// Sequences only grow, so a look at each version in turn meets them all, the new ones soon after they were made.
extension WholeDigests {
    /// Rows that are read at a time.
    private static let pageSize = 256
    /// Without something to do, the place is written down after so many sequences: a new process looks at as many again.
    private static let keptAfter: UInt64 = 10_000

    /// Looks at the next versions, and makes tasks of those whose SHA-256 is to be found.
    /// - Returns: how many tasks that were; nil when there was nothing to look at.
    func lookFurther() async throws -> Int? {
        var place = try await placeOfLook()
        let (last, tasks, count) = try await objects.readCatalog { [place] reader in
            let page = try reader.versions(afterSequence: place.seen, limit: Self.pageSize)
            var tasks: [OperationID: DigestTask] = [:]
            for row in page where row.mayFindSHA256 {
                let key = DigestTask.key(of: row.operation)
                // One that failed before waits for its time.
                guard try reader.document(.job, key) == nil else { continue }
                tasks[row.operation] = DigestTask(
                    operation: row.operation,
                    bucket: row.bucket,
                    key: row.key
                )
            }
            return (page.last?.id.sequence, tasks, page.count)
        }
        guard let last else { return nil }
        place.seen = last
        var writes = tasks.values.map(\.write)
        if !writes.isEmpty || place.seen - place.kept >= Self.keptAfter { writes.append(place.keep()) }
        if !writes.isEmpty { try await objects.write(documents: writes) }
        look = place
        try await budget.spend(bytes: 0, operations: UInt64(count))
        return tasks.count
    }

    private func placeOfLook() async throws -> DigestLook {
        if let look { return look }
        return DigestLook(try await objects.document(DigestLook.name.space, DigestLook.name.key))
    }
}
