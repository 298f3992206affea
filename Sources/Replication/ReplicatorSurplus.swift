internal import BlobVolume
internal import StoreModel

/// Surplus copies: whole copies of what is alive, on volumes where it does not belong any more, because volumes were added
/// or drained.
///
/// Why nothing alive loses a copy that it needs:
/// 1. A copy is surplus only by proof: in this run, on each of the N volumes where the chunk belongs by one roster, a
///    durable copy was found whose bytes were read and have the chunk's SHA-256. No index and no earlier reading counts.
/// 2. It leaves the index under the gate's lock, and only if then (a) nobody has pinned the chunk since the run began, (b)
///    the roster of the proof is in force, and can't change meanwhile, (c) the volumes of the proof are usable and have
///    the chunk in their indexes. Every withdrawal of any volume happens under that lock: two volumes can't each take
///    the copy away that the other one relies on, not even around a change of the layout.
/// 3. A volume that gains chunks by a later layout is walked under that layout (ReplicatorFill.swift): it finds the copy, or
///    finds it gone and copies it.
/// 4. From there on it is garbage like all other: tombstones first, space later (BlobVolume+Garbage.swift).
extension Replicator {
    /// That a chunk has all the copies that it should have.
    struct SurplusProof: Sendable {
        let version: UInt64
        /// Where it belongs.
        let places: [Int]
    }

    /// Reads every copy that a chunk should have.
    /// - Returns: nil when one is missing, not durable or not good, or the chunk belongs on the volume.
    func surplusProof(of digest: Digest, on index: Int) async -> SurplusProof? {
        let roster = volumes.roster
        let places = roster.placementIndices(for: digest)
        guard !places.contains(index), Set(places).count >= quorum.replicaCount else { return nil }
        for place in places {
            guard let replica = volumes.usableReplica(place), !volumes.isTripped(place),
                case .success(.synced) = await timers.call(
                    replica,
                    { $0.confirmPresence(of: digest, completion: $1) }
                )
            else { return nil }
            if case .failure(let error) = await timers.call(
                replica,
                { $0.verify(digest, strict: true, completion: $1) }
            ) {
                // Found by chance, and repaired like all that is found: the surplus copy is a good source.
                note(error, of: digest, on: place, foundBy: .audit)
                return nil
            }
        }
        guard volumes.placementVersion == roster.version else { return nil }
        return SurplusProof(version: roster.version, places: places)
    }

    /// Whether a proof still holds. Only under the gate's lock, while the placement can't change.
    private func holds(_ proof: SurplusProof, of digest: Digest) -> Bool {
        proof.places.allSatisfy { place in
            volumes.usableReplica(place)?.presence(of: digest) ?? .absent == .synced
        }
    }

    private static let surplusGroupMax = 256
    private static let surplusWidth = 4

    /// Takes away those of the copies on a volume that are surplus.
    func sweepSurplus(
        _ candidates: [GarbageCandidate],
        on index: Int,
        _ replica: any SweptReplica,
        _ options: GarbageOptions
    ) async throws {
        for first in stride(from: 0, to: candidates.count, by: Self.surplusGroupMax) {
            let start = ContinuousClock.now
            let group = candidates[first..<min(first + Self.surplusGroupMax, candidates.count)]
            let proofs = await surplusProofs(of: group, on: index)
            let surplus = group.filter { proofs[$0.digest] != nil }
            let taken =
                options.isDryRun ? surplus : try await takeAway(surplus, proofs, on: index, replica)
            let bytes = taken.reduce(0) { $0 + $1.recordByteCount }
            let allBytes = group.reduce(0) { $0 + $1.recordByteCount }
            garbage.update(index) { report in
                report.surplusCount += taken.count
                report.surplusBytes += bytes
                report.strayCount += group.count - taken.count
                report.strayBytes += allBytes - bytes
            }
            for record in taken where !options.isDryRun { verified.remove(record.digest, on: index) }
            try await rest(after: ContinuousClock.now - start, options)
        }
    }

    private func surplusProofs(
        of candidates: ArraySlice<GarbageCandidate>,
        on index: Int
    ) async -> [Digest: SurplusProof] {
        await withTaskGroup(of: (Digest, SurplusProof?).self) { group in
            var proofs: [Digest: SurplusProof] = [:]
            var rest = Array(Set(candidates.map(\.digest)))[...]
            func start() {
                guard let digest = rest.popFirst(), !Task.isCancelled else { return }
                group.addTask { (digest, await self.surplusProof(of: digest, on: index)) }
            }
            for _ in 0..<Self.surplusWidth { start() }
            for await (digest, proof) in group {
                proofs[digest] = proof
                start()
            }
            return proofs
        }
    }

    /// - Returns: those that are buried.
    func takeAway(
        _ surplus: [GarbageCandidate],
        _ proofs: [Digest: SurplusProof],
        on index: Int,
        _ replica: any SweptReplica
    ) async throws -> [GarbageCandidate] {
        guard !surplus.isEmpty else { return [] }
        let gate = pipeline.gate
        let buried = try await step(replica) { volume throws(VolumeError) -> [GarbageCandidate]? in
            let withdrawn = gate.withdraw(surplus[...]) { free in
                free.filter { record in
                    guard let proof = proofs[record.digest] else { return false }
                    return self.volumes.whilePlaced(as: proof.version) {
                        self.holds(proof, of: record.digest) && !volume.withdraw([record]).isEmpty
                    } ?? false
                }
            }
            guard let withdrawn else { return nil }
            try volume.bury(withdrawn)
            return withdrawn
        }
        guard let buried else { throw Self.gateClosed }
        return buried
    }
}
