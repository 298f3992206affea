internal import Catalog
package import StoreModel

extension ObjectStore {
    /// The versions and parts that need one of these chunks: "bucket/key version".
    ///
    /// Walks over the whole catalog: for a handful of chunks that are lost, not for every finding.
    package func versions(needing chunks: Set<Digest>) async throws -> [Digest: [String]] {
        try await versions(needing: chunks, storage)
    }

    private func versions<Storage: ReplicatedStorage>(
        needing chunks: Set<Digest>,
        _ storage: Storage
    ) async throws -> [Digest: [String]] {
        var names: [Digest: [String]] = [:]
        for bucket in try await buckets() {
            var marker: VersionListMarker?
            repeat {
                let page = try await readCatalog { [marker] reader in
                    try reader.listVersions(
                        VersionListRequest(bucket: bucket.id, prefix: [], startAfter: marker)
                    )
                }
                for listed in page.versions {
                    try Task.checkCancellation()
                    for payload in listed.row.payloads {
                        for chunk in try await needed(by: payload, of: chunks, storage) {
                            let name = "\(bucket.name)/\(listed.row.key) \(listed.row.id)"
                            if names[chunk, default: []].count < FindingRow.namesMax {
                                names[chunk, default: []].append(name)
                            }
                        }
                    }
                }
                marker = page.next
            } while marker != nil
        }
        return names
    }

    private func needed<Storage: ReplicatedStorage>(
        by payload: PayloadReference,
        of chunks: Set<Digest>,
        _ storage: Storage
    ) async throws -> Set<Digest> {
        var found: Set<Digest> = []
        if case .tree(let root, _, _, _) = payload.manifest, chunks.contains(root) { found.insert(root) }
        var cursor = ManifestCursor(
            payload.manifest,
            size: payload.size,
            range: ByteRange(wholeOf: payload.size),
            storage: storage,
            notesVisits: true
        )
        do {
            while let slice = try await cursor.next() {
                if chunks.contains(slice.chunk.digest) { found.insert(slice.chunk.digest) }
                for node in cursor.takeVisitedNodes() where chunks.contains(node.digest) {
                    found.insert(node.digest)
                }
            }
        } catch let error as StoreError where [.dataUnavailable, .storeDamaged].contains(error.code) {
            // A node that is lost hides the chunks below it; it is among what is looked for itself.
        }
        return found
    }
}
