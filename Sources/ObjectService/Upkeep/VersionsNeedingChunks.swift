internal import Catalog
package import StoreModel

/// Who needs chunks: "bucket/key version", and the names of the mirrors that have these versions.
package struct ChunkNeeds: Sendable {
    package fileprivate(set) var names: [Digest: [String]] = [:]
    package fileprivate(set) var holders: [Digest: [String]] = [:]
}

extension ChunkNeeds {
    fileprivate mutating func note(_ chunk: Digest, _ name: String, _ mirrors: [String]) {
        if names[chunk, default: []].count < FindingRow.namesMax { names[chunk, default: []].append(name) }
        for mirror in mirrors where !holders[chunk, default: []].contains(mirror) {
            holders[chunk, default: []].append(mirror)
        }
    }
}

extension ObjectStore {
    /// The versions that need one of these chunks.
    ///
    /// Walks over the whole catalog: for a handful of chunks that are lost, not for every finding.
    package func versions(needing chunks: Set<Digest>) async throws -> ChunkNeeds {
        try await versions(needing: chunks, storage)
    }

    private func versions<Storage: ReplicatedStorage>(
        needing chunks: Set<Digest>,
        _ storage: Storage
    ) async throws -> ChunkNeeds {
        var needs = ChunkNeeds()
        let rescue = rescue
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
                        let found = try await needed(by: payload, of: chunks, storage)
                        guard !found.isEmpty else { continue }
                        // Of what is encrypted here a mirror has the plaintext, which brings no chunk back.
                        let isPlain = listed.row.attributes.encryption == nil
                        let holders = isPlain ? await rescue?.holders(of: listed.row) ?? [] : []
                        let name = "\(bucket.name)/\(listed.row.key) \(listed.row.id)"
                        for chunk in found { needs.note(chunk, name, holders) }
                    }
                }
                marker = page.next
            } while marker != nil
        }
        return needs
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
