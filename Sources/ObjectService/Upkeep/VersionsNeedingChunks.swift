internal import Catalog
internal import Replication
package import StoreModel

/// Who needs chunks: "bucket/key version", the names of the mirrors that have these versions, and what is left around
/// each chunk.
package struct ChunkNeeds: Sendable {
    package fileprivate(set) var names: [Digest: [String]] = [:]
    package fileprivate(set) var holders: [Digest: [String]] = [:]
    package fileprivate(set) var accounts: [Digest: LossAccount] = [:]
    /// Keys of which a version needs one of the chunks.
    fileprivate var keys: [Place: Set<Digest>] = [:]
    /// Of names and accounts together.
    private var byteCount = 0

    struct Place: Hashable {
        let bucket: BucketID
        let name: String
        let key: ObjectKey
    }
}

extension ChunkNeeds {
    /// Keys whose other versions are looked at.
    fileprivate static let keyCountMax = 256

    /// - Parameter mirrors: those that can bring the chunk back.
    mutating func note(
        _ chunk: Digest,
        _ version: LossAccount.Version,
        _ place: Place,
        _ mirrors: [String]
    ) {
        let name = "\(version.bucket)/\(version.key) \(version.id)"
        let isFirst = names[chunk] == nil
        // Who needs it is told of every chunk, however many there are.
        if isFirst || names[chunk, default: []].count < FindingRow.namesMax && takeRoom(name.utf8.count) {
            names[chunk, default: []].append(name)
        }
        for mirror in mirrors where !holders[chunk, default: []].contains(mirror) {
            holders[chunk, default: []].append(mirror)
        }
        accounts[chunk, default: LossAccount()].neededCount += 1
        add(version, to: chunk)
        if keys[place] != nil || keys.count < Self.keyCountMax { keys[place, default: []].insert(chunk) }
    }

    /// Another version of a key that needs these chunks.
    fileprivate mutating func note(sibling version: LossAccount.Version, of chunks: Set<Digest>) {
        for chunk in chunks { add(version, to: chunk) }
    }

    private mutating func add(_ version: LossAccount.Version, to chunk: Digest) {
        guard accounts[chunk]?.hasRoom(for: version) ?? false, takeRoom(version.byteCount) else { return }
        accounts[chunk]?.add(version)
    }

    private mutating func takeRoom(_ count: Int) -> Bool {
        guard byteCount + count <= Limits.lossAccountsByteCountMax else { return false }
        byteCount += count
        return true
    }
}

extension ObjectStore {
    /// The versions that need one of these chunks, and what else there is of their keys.
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
                        let version = await account(of: listed, in: bucket, .lost)
                        // Of what is encrypted here a mirror has the plaintext, which brings no chunk back.
                        let isPlain = listed.row.attributes.encryption == nil
                        let place = ChunkNeeds.Place(
                            bucket: bucket.id,
                            name: "\(bucket.name)",
                            key: listed.row.key
                        )
                        for chunk in found {
                            needs.note(chunk, version, place, isPlain ? version.mirrors : [])
                        }
                    }
                }
                marker = page.next
            } while marker != nil
        }
        try await lookAtSiblings(&needs, of: chunks, storage)
        for chunk in chunks where needs.accounts[chunk] != nil {
            needs.accounts[chunk]?.copies = try await storage.replicaStates(of: [chunk], check: .strict)
                .joined().map { LossAccount.Copy($0) }
        }
        return needs
    }

    private func account(
        of listed: ListedVersion,
        in bucket: BucketRow,
        _ state: LossAccount.Version.State
    ) async -> LossAccount.Version {
        LossAccount.Version(
            bucket: "\(bucket.name)",
            key: "\(listed.row.key)",
            id: "\(listed.row.id)",
            isNewest: listed.isNewest,
            size: listed.row.size,
            state: state,
            mirrors: await rescue?.holders(of: listed.row) ?? []
        )
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

    // MARK: Other versions of the same keys

    /// Versions of one key that are looked at: the newest.
    private static var siblingsMax: Int { 16 }

    private func lookAtSiblings<Storage: ReplicatedStorage>(
        _ needs: inout ChunkNeeds,
        of lost: Set<Digest>,
        _ storage: Storage
    ) async throws {
        var memory = ReadMemory()
        for (place, chunks) in needs.keys {
            let request = VersionListRequest(bucket: place.bucket, prefix: place.key.bytes)
            let page = try await readCatalog { try $0.listVersions(request) }
            var count = 0
            // A key stands in front of those that it is a prefix of.
            for listed in page.versions.prefix(while: { $0.row.key == place.key })
            where listed.row.kind == .object && count < Self.siblingsMax {
                try Task.checkCancellation()
                let id = "\(listed.row.id)"
                let isKnown = chunks.contains { chunk in
                    needs.accounts[chunk]?.versions.contains {
                        $0.state == .lost && $0.bucket == place.name && $0.id == id
                    } ?? false
                }
                if isKnown { continue }
                count += 1
                let state = try await state(of: listed.row, lost, &memory, storage)
                needs.note(
                    sibling: LossAccount.Version(
                        bucket: place.name,
                        key: "\(listed.row.key)",
                        id: id,
                        isNewest: listed.isNewest,
                        size: listed.row.size,
                        state: state,
                        mirrors: await rescue?.holders(of: listed.row) ?? []
                    ),
                    of: chunks
                )
            }
        }
    }

    /// Whether every byte of a version is there: read, as long as there is room for reading.
    private func state<Storage: ReplicatedStorage>(
        of row: VersionRow,
        _ lost: Set<Digest>,
        _ memory: inout ReadMemory,
        _ storage: Storage
    ) async throws -> LossAccount.Version.State {
        var state = LossAccount.Version.State.whole
        for payload in row.payloads {
            var cursor = ManifestCursor(
                payload.manifest,
                size: payload.size,
                range: ByteRange(wholeOf: payload.size),
                storage: storage
            )
            do {
                while let slice = try await cursor.next() {
                    let chunk = slice.chunk
                    guard !lost.contains(chunk.digest) else { return .damaged }
                    switch try await memory.look(at: chunk, storage) {
                    case .whole: break
                    case .listed: state = .listed
                    case .damaged, .lost: return .damaged
                    }
                }
            } catch let error as StoreError where [.dataUnavailable, .storeDamaged].contains(error.code) {
                return .damaged
            }
        }
        return state
    }
}

/// What was read already, so that what versions share is read once; bounded, in bytes that are read and in entries.
private struct ReadMemory {
    private static let byteCountMax: UInt64 = 4 << 30
    private static let entryCountMax = 65_536

    private var known: [Digest: LossAccount.Version.State] = [:]
    private var byteCount: UInt64 = 0

    mutating func look<Storage: ReplicatedStorage>(
        at chunk: ChunkReference,
        _ storage: Storage
    ) async throws -> LossAccount.Version.State {
        if let state = known[chunk.digest] { return state }
        let state = try await read(chunk, storage)
        if known.count >= Self.entryCountMax { known = [:] }
        known[chunk.digest] = state
        return state
    }

    private mutating func read<Storage: ReplicatedStorage>(
        _ chunk: ChunkReference,
        _ storage: Storage
    ) async throws -> LossAccount.Version.State {
        let length = Int(chunk.length)
        guard byteCount + UInt64(length) <= Self.byteCountMax else {
            let states = try await storage.replicaStates(of: [chunk.digest], check: .presence)
            return states.joined().contains { $0.condition == .present } ? .listed : .damaged
        }
        byteCount += UInt64(length)
        do {
            _ = try await ClientLoad.inBackground {
                try await storage.read(chunk.digest, length: length, range: 0..<length)
            }
            return .whole
        } catch let error as StoreError where error.code == .dataUnavailable {
            return .damaged
        }
    }
}

extension LossAccount.Copy {
    fileprivate init(_ state: ReplicaState) {
        volume = state.volume
        verifiedAt = state.condition == .present ? state.verifiedAt : nil
        switch state.condition {
        case .present: problem = nil
        case .missing: problem = "missing"
        case .damaged(let reason): problem = "damaged: \(reason)"
        case .unreachable(let reason): problem = "can't be asked: \(reason)"
        }
    }
}
