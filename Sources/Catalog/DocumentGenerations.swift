internal import Synchronization

/// Counts, for each space, the changes that caches must see.
///
/// Who keeps documents in memory asks for the generation first, then reads the catalog, and keeps what it read for
/// as long as the generation is the same. The count goes up when a change is applied to the index, and once more
/// before the change is answered: whoever asks after the answer gets a new generation, and a read that follows
/// waits for what is committed. Changes of buckets count for `.bucketSetting`.
package final class DocumentGenerations: Sendable {
    private let counts = Mutex<[DocumentSpace: UInt64]>([:])

    package init() {}

    package func generation(of space: DocumentSpace) -> UInt64 {
        counts.withLock { $0[space, default: 0] }
    }

    package func advance(_ spaces: some Collection<DocumentSpace> & Sendable) {
        guard !spaces.isEmpty else { return }
        counts.withLock { counts in
            for space in spaces { counts[space, default: 0] += 1 }
        }
    }
}

extension CatalogMutation {
    /// The space whose generation the change advances.
    package var space: DocumentSpace? {
        switch self {
        case .putBucket, .removeBucket: .bucketSetting
        case .putDocument(let row): row.space
        case .removeDocument(let name): name.space
        case .putVersion, .removeVersion, .noteSnapshot, .setLogSet, .epochStart: nil
        }
    }

    /// Payloads that the row that is put refers to.
    package var payloads: [PayloadReference] {
        switch self {
        case .putVersion(let row): row.payloads
        case .putDocument(let row): row.payload.map { [$0] } ?? []
        case .noteSnapshot(let note): [PayloadReference(manifest: note.manifest, size: 0)]
        case .putBucket, .removeBucket, .removeVersion, .setLogSet, .epochStart, .removeDocument: []
        }
    }
}

extension CatalogCommand {
    /// The spaces whose generations the command may advance.
    package var spaces: Set<DocumentSpace> {
        switch self {
        case .createBucket, .deleteBucket, .setVersioning, .setBucketSettings: [.bucketSetting]
        case .documents(let writes): Set(writes.lazy.filter { $0.change != .keep }.map(\.space))
        case .putObject(let put): Set(put.documents.map(\.space))
        case .copy(let copy): Set(copy.documents.map(\.space))
        case .deleteObject, .deleteVersion, .restore, .setTags, .setAttributes: []
        }
    }
}
