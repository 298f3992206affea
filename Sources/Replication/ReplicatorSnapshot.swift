internal import BlobVolume
package import Catalog
internal import ContentHashing
internal import Logging
internal import StoreModel
internal import Synchronization

/// Snapshots of the catalog, stored as chunks on the replicas and noted in the commit log. With two generations on a
/// quorum the log may start after the older one.
extension Replicator {
    /// Writes a snapshot of everything committed, makes it durable on the replicas and notes it in the log.
    /// - Throws: `StoreError`; the store goes on as before then.
    package func takeSnapshot() async throws -> SnapshotNote {
        _ = try await currentCatalog()
        let catalog = self.catalog
        let handoff = BlockHandoff<SnapshotSummary>()
        let thread = WorkerThread(name: "hf-snapshot", costMax: 1)
        thread.submit {
            handoff.finish(Result { try catalog.exportSnapshot { try handoff.offer($0) } })
            thread.stop()
        }
        var builder = ManifestBuilder()
        var receipts: [ChunkWrite] = []
        do {
            while let block = await handoff.next() {
                let digest = SHA256Hasher.hash(block)
                receipts.append(try await storeBlock(digest, block))
                for node in builder.append(ChunkReference(digest: digest, length: UInt32(block.count))) {
                    receipts.append(try await storeBlock(node.digest, node.bytes))
                }
            }
        } catch {
            handoff.abandon()
            throw error
        }
        let summary = try handoff.result()
        let (manifest, nodes) = builder.finish()
        for node in nodes { receipts.append(try await storeBlock(node.digest, node.bytes)) }
        let note = SnapshotNote(
            position: summary.state.position,
            stateHash: summary.state.stateHash,
            rowCount: summary.rowCount,
            manifest: manifest,
            createdAt: clock.now()
        )
        try await check(note)
        try await commitNote(note, receipts)
        return note
    }

    /// Reads a snapshot back before the log may rely on it: every block has a write quorum of copies whose SHA-256 is
    /// right, and together they are the rows that the note names.
    private func check(_ note: SnapshotNote) async throws {
        var reader = SnapshotReader()
        var summary: SnapshotSummary?
        for digest in try await blocks(of: note) {
            let good = await copies(of: digest, check: .strict).count { $0.state == .present }
            guard good >= quorum.writeQuorum else {
                throw StoreError(
                    .notEnoughReplicas,
                    "Block \(digest) of a catalog snapshot has \(good) good copies of \(quorum.writeQuorum)."
                )
            }
            let block = try await read(digest, range: nil)
            do throws(CatalogError) {
                if case .end(let end) = try reader.read(block) { summary = end }
            } catch {
                throw StoreError(.storeDamaged, "A catalog snapshot reads back wrong.", cause: error)
            }
        }
        guard let summary, summary.state.stateHash == note.stateHash, summary.state.position == note.position
        else {
            throw StoreError(
                .storeDamaged,
                "A catalog snapshot reads back as another state than was written."
            )
        }
    }

    private func storeBlock(_ digest: Digest, _ bytes: [UInt8]) async throws -> ChunkWrite {
        try await write(PayloadRecord(digest: digest, bytes: bytes), waitsForCommit: false)
    }

    private func commitNote(_ note: SnapshotNote, _ receipts: [ChunkWrite]) async throws {
        let synced = try await syncBulk(for: receipts)
        var holders = volumes.usableMask
        for receipt in receipts {
            holders = holders.intersection(receipt.holders)
            if receipt.needsBulkSync { holders = holders.intersection(synced) }
        }
        let incomplete = VolumeMask.of(volumes.present).subtracting(holders)
        let knownAt = receipts.map(\.knownAt).min() ?? .now
        let position = try await withCheckedThrowingContinuation { continuation in
            pipeline.submit(
                CommitPipeline.SystemRequest(
                    mutations: { _ in
                        let mutations = [CatalogMutation.noteSnapshot(note)]
                        return .success(
                            .init(
                                mutations: mutations,
                                membership: nil,
                                incomplete: incomplete,
                                knownAt: knownAt
                            )
                        )
                    },
                    pins: receipts.map(\.pin),
                    answer: { continuation.resume(with: $0.mapError { $0 as any Error }) }
                )
            )
        }
        let ids = holders.indices.map { volumes.slots[$0].id }
        pipeline.handle(endsAction: false) {
            $0.noteSnapshot(at: note.position, notedAt: position.sequence, holders: ids)
        }
        CoverageMark.reach(.snapshotStored)
        logger.info(
            "A catalog snapshot was stored.",
            metadata: ["rows": "\(note.rowCount)", "position": "\(note.position)", "volumes": "\(ids.count)"]
        )
    }

    /// Fills the empty index from the snapshot that a note names.
    func importSnapshot(_ note: SnapshotNote) async throws {
        let digests = try await blocks(of: note)
        let catalog = self.catalog
        let remaining = Mutex(digests[...])
        let summary = try await withCheckedThrowingContinuation {
            (continuation: CheckedContinuation<SnapshotSummary, any Error>) in
            let thread = WorkerThread(name: "hf-snapshot", costMax: 1)
            thread.submit {
                continuation.resume(
                    with: Result {
                        try catalog.importSnapshot {
                            guard let digest = remaining.withLock({ $0.popFirst() }) else { return nil }
                            return try self.readBlocking(digest)
                        }
                    }
                )
                thread.stop()
            }
        }
        guard summary.state.stateHash == note.stateHash, summary.state.position == note.position else {
            throw StoreError(
                .storeDamaged,
                "The catalog snapshot at \(note.position) does not have the state that the log notes for it."
            )
        }
        CoverageMark.reach(.snapshotImported)
    }

    private func blocks(of note: SnapshotNote) async throws -> [Digest] {
        switch note.manifest {
        case .inline(let chunks): chunks.map(\.digest)
        case .tree(let root, _, _, _): try await leaves(of: root)
        }
    }

    private func leaves(of root: Digest) async throws -> [Digest] {
        let node = try ManifestNode(decoding: try await read(root, range: nil))
        guard node.height > 0 else { return node.entries.map(\.digest) }
        var digests: [Digest] = []
        for entry in node.entries { digests += try await leaves(of: entry.digest) }
        return digests
    }

    /// For a thread that must block: tries the replicas one after the other.
    private func readBlocking(_ digest: Digest) throws -> [UInt8] {
        for index in placementIndices(for: digest) + volumes.present {
            guard let replica = volumes.usableReplica(index) else { continue }
            let signal = BlockingSignal()
            let answer = Mutex<[UInt8]?>(nil)
            replica.read(digest, range: nil) { result in
                answer.withLock { $0 = try? result.get() }
                signal.signal()
            }
            guard signal.wait(for: Limits.readDeadline), let bytes = answer.withLock({ $0 }) else { continue }
            return bytes
        }
        throw StoreError(.dataUnavailable, "No volume has good bytes of catalog snapshot block \(digest).")
    }
}
