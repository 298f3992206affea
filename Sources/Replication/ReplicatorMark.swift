internal import Catalog
internal import StoreModel

extension Replicator {
    /// Those of some payloads that nothing in the catalog refers to, no snapshot, no upload in parts and no download
    /// under way.
    ///
    /// Walks over the whole catalog, as a run of garbage collection does and in the same order; what is uploaded meanwhile
    /// is not waited for. So that is no leave to take good bytes away.
    /// - Throws: `StoreError`: `.dataUnavailable` when a manifest can't be read: what it lists is not known.
    func unneeded(among digests: Set<Digest>, _ options: GarbageOptions) async throws -> Set<Digest> {
        var unneeded: Set<Digest> = []
        var lower: UInt64 = 0
        while true {
            let live = try await mark(from: lower, options, isRun: false)
            for digest in digests where live.covers(digest.words.0) && !live.contains(digest.words.0) {
                unneeded.insert(digest)
            }
            guard live.upper < .max else { return unneeded }
            lower = live.upper + 1
        }
    }

    /// Walks everything that may refer to a payload, in the order that ReplicatorGarbage.swift explains.
    /// - Parameter isRun: whether the run of garbage collection that is under way tells of it.
    func mark(
        from lower: UInt64,
        _ options: GarbageOptions,
        isRun: Bool = true
    ) async throws -> LiveSet {
        var live = LiveSet(from: lower, byteCountMax: options.markByteCountMax)
        var walk = MarkWalk()
        var versionCount: UInt64 = 0
        var documentCount: UInt64 = 0
        for space in DocumentSpace.allCases {
            var last: [UInt8]?
            while true {
                let start = ContinuousClock.now
                let after = last
                let page = try await readCatalog { reader in
                    try reader.documents(space, after: after, limit: Self.markPageSize)
                }
                for row in page {
                    documentCount += 1
                    if let payload = row.payload { try await mark(payload.manifest, &walk, &live) }
                }
                try await rest(after: ContinuousClock.now - start, options)
                guard let end = page.last else { break }
                last = end.key
            }
        }
        var cursor: UInt64 = 0
        while true {
            let start = ContinuousClock.now
            let after = cursor
            let page = try await readCatalog { reader in
                try reader.versions(afterSequence: after, limit: Self.markPageSize)
            }
            for row in page {
                versionCount += 1
                for payload in row.payloads { try await mark(payload.manifest, &walk, &live) }
            }
            try await rest(after: ContinuousClock.now - start, options)
            guard let end = page.last else { break }
            cursor = end.id.sequence
        }
        try await pipeline.awaitApplied()
        for note in catalog.applied.snapshots { try await mark(note.manifest, &walk, &live) }
        try await markHolds(&walk, &live, options)
        guard isRun else { return live }
        let sequence = catalog.applied.lastVersionSequence
        garbage.update { report in
            report.sequence = sequence
            report.versionCount = versionCount
            report.documentCount = documentCount
        }
        return live
    }

    private static let markPageSize = 256
    /// How long a run waits for a download that has begun to say what it reads.
    private static let holdPatience: Duration = .seconds(30)

    /// What downloads and ends of uploads go on from, which may be deleted already.
    private func markHolds(
        _ walk: inout MarkWalk,
        _ live: inout LiveSet,
        _ options: GarbageOptions
    ) async throws {
        // Who has a version's row and does not say so yet, does in a moment.
        if options.settleTime > .zero { try await clock.sleep(for: options.settleTime) }
        let end = ContinuousClock.now + Self.holdPatience
        for hold in pipeline.gate.unresolvedHolds {
            while pipeline.gate.isUnresolved(hold) {
                guard ContinuousClock.now < end else {
                    throw StoreError(.deadlineExceeded, "A download did not say in time what it reads.")
                }
                try await clock.sleep(for: .milliseconds(10))
            }
        }
        for manifest in pipeline.gate.heldManifests {
            do {
                try await mark(manifest, &walk, &live)
            } catch let error as StoreError where error.code == .dataUnavailable {
                // Of a version that nothing but the download knows: it will meet the same error.
            }
        }
    }

    private func mark(
        _ manifest: ManifestReference,
        _ walk: inout MarkWalk,
        _ live: inout LiveSet
    ) async throws {
        switch manifest {
        case .inline(let chunks):
            for chunk in chunks { live.insert(chunk.digest.words.0) }
        case .tree(let root, _, _, _):
            guard walk.isNew(root) else { return }
            var stack = [root]
            while let digest = stack.popLast() {
                live.insert(digest.words.0)
                let node = try ManifestNode(decoding: try await readInBackground(digest, range: nil))
                for entry in node.entries {
                    if node.height == 0 {
                        live.insert(entry.digest.words.0)
                    } else {
                        stack.append(entry.digest)
                    }
                }
                try Task.checkCancellation()
            }
        }
    }
}

/// Trees that one walk has been through: versions share them. Whole digests, because leaving a tree out loses it.
struct MarkWalk {
    private static let rootCountMax = 65_536
    private var roots: Set<Digest> = []

    mutating func isNew(_ root: Digest) -> Bool {
        if roots.count >= Self.rootCountMax { roots.removeAll(keepingCapacity: true) }
        return roots.insert(root).inserted
    }
}
