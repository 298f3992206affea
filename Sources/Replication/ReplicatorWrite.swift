package import BlobVolume
package import StoreModel
internal import Synchronization

/// The receipt of one written chunk: goes into the commit that refers to it.
package struct ChunkWrite: Sendable {
    package let digest: Digest
    package let length: Int
    /// Set for a small payload that rides in the group commit: it is nowhere yet.
    let deferred: PayloadRecord?
    /// Volumes that should hold a copy.
    let placement: VolumeMask
    /// The roster by which that was so.
    let placementVersion: UInt64
    /// Before volumes were asked what they have.
    let knownAt: LossMoment
    /// Where good copies stand; volumes that are slower than the quorum come in later.
    let copies: ChunkCopies
    let pin: ChunkPin
    /// Volumes where a good copy stands now: durable, or appended to the bulk segment and synced by the commit.
    var holders: VolumeMask { copies.holders }
    /// Whether the commit must sync bulk segments before it may refer to this chunk.
    let needsBulkSync: Bool
    /// Whether the store had the bytes already.
    package let isDuplicate: Bool
}

/// For as long as it lives garbage collection leaves a chunk alone. Only receipts and batches hold it: nothing that a timer
/// keeps.
final class ChunkPin: Sendable {
    private let gate: GarbageGate
    private let fingerprint: UInt64

    init(_ digest: Digest, in gate: GarbageGate) {
        self.gate = gate
        fingerprint = digest.words.0
        gate.pin(fingerprint)
    }

    deinit { gate.unpin(fingerprint) }
}

/// The volumes that have a good copy of a chunk, while more of them may get one.
final class ChunkCopies: Sendable {
    private let mask = Mutex(VolumeMask())

    var holders: VolumeMask { mask.withLock { $0 } }
    func insert(_ index: Int) { mask.withLock { $0.insert(index) } }
}

extension Replicator {
    /// Bytes that may wait for a slow volume before an upload waits for it as well.
    private static let laggardBytesMax = 4 << 20
    /// How long an upload waits for a volume that is slower than the quorum.
    private static let laggardPatience: Duration = .seconds(2)

    /// Writes one chunk to its replicas, or finds that the store has it.
    ///
    /// A small chunk is only noted: it rides in the group commit. A large one is appended to the bulk segments; on
    /// return at least W replicas have it, and the commit makes it durable. A copy that is already there counts
    /// only where it verifies now; a damaged or missing one is written again: an upload heals.
    /// - Throws: `StoreError` with `.notEnoughReplicas` or `.storeFull`, naming the volumes.
    /// - Parameter waitsForCommit: whether a small payload may stay in memory until the commit; false for the many
    ///   small payloads of one large object.
    package func write(_ payload: PayloadRecord, waitsForCommit: Bool = true) async throws -> ChunkWrite {
        clientTurns.wrappingAdd(1, ordering: .relaxed)
        let roster = volumes.roster
        let indices = roster.placementIndices(for: payload.digest)
        let placement = VolumeMask.of(indices)
        // Before anybody is asked whether it has it: what is found from here on stays.
        let pin = ChunkPin(payload.digest, in: pipeline.gate)
        let knownAt = LossMoment.now
        let copies = ChunkCopies()
        var holders = VolumeMask()
        var hasUnsynced = false
        for index in indices {
            guard let replica = volumes.usableReplica(index) else { continue }
            switch replica.presence(of: payload.digest) {
            case .absent:
                continue
            case .unsynced:
                // A small payload that is in flight is written again: its own group may never commit.
                guard payload.bytes.count > Limits.logPayloadSizeMax,
                    await isConfirmed(payload.digest, on: replica)
                else { continue }
                holders.insert(index)
                hasUnsynced = true
            case .synced:
                if await isGood(payload, on: replica, index) { holders.insert(index) }
            }
        }
        for index in holders.indices { copies.insert(index) }
        let isDuplicate = holders.count >= quorum.writeQuorum
        let targets = VolumeMask.of(indices.filter { volumes.acceptsPayloads($0) }).subtracting(holders)
        guard holders.union(targets).count >= quorum.writeQuorum else {
            throw volumes.shortage(of: indices, needed: quorum.writeQuorum, for: "a write")
        }
        if payload.bytes.count <= Limits.logPayloadSizeMax {
            if waitsForCommit, placement == pipeline.logMask {
                return ChunkWrite(
                    digest: payload.digest,
                    length: payload.bytes.count,
                    deferred: targets.isEmpty ? nil : payload,
                    placement: placement,
                    placementVersion: roster.version,
                    knownAt: knownAt,
                    copies: copies,
                    pin: pin,
                    needsBulkSync: false,
                    isDuplicate: isDuplicate
                )
            }
            try await fanOut(payload, to: targets, copies) { replica, completion in
                replica.appendGroup(ReplicaGroup(payloads: [payload], batch: nil)) {
                    completion($0.map { _ in })
                }
            }
            return ChunkWrite(
                digest: payload.digest,
                length: payload.bytes.count,
                deferred: nil,
                placement: placement,
                placementVersion: roster.version,
                knownAt: knownAt,
                copies: copies,
                pin: pin,
                needsBulkSync: false,
                isDuplicate: isDuplicate
            )
        }
        try await fanOut(payload, to: targets, copies) { replica, completion in
            replica.appendBulk(payload, completion: completion)
        }
        return ChunkWrite(
            digest: payload.digest,
            length: payload.bytes.count,
            deferred: nil,
            placement: placement,
            placementVersion: roster.version,
            knownAt: knownAt,
            copies: copies,
            pin: pin,
            needsBulkSync: hasUnsynced || !targets.isEmpty,
            isDuplicate: isDuplicate
        )
    }

    /// Whether it is this payload that a volume's index has, and not one whose digest begins alike.
    private func isConfirmed(_ digest: Digest, on replica: any Replica) async -> Bool {
        let result: Result<RecordPresence, VolumeError> = await withCheckedContinuation { continuation in
            let once = OnceContinuation(continuation)
            timers.schedule(after: Self.laggardPatience, whileWanted: { once.isWaiting }) {
                once.resume(returning: .failure(.noAnswer(from: replica.label, within: Self.laggardPatience)))
            }
            replica.confirmPresence(of: digest) { once.resume(returning: $0) }
        }
        return (try? result.get()).map { $0 != .absent } ?? false
    }

    /// Whether the copy that a volume has verifies now, or did a short while ago.
    private func isGood(_ payload: PayloadRecord, on replica: any Replica, _ index: Int) async -> Bool {
        if verified.contains(payload.digest, on: index, now: clock.now()) { return true }
        let result: Result<Void, VolumeError> = await withCheckedContinuation { continuation in
            let once = OnceContinuation(continuation)
            timers.schedule(after: Self.laggardPatience, whileWanted: { once.isWaiting }) {
                once.resume(returning: .failure(.noAnswer(from: replica.label, within: Self.laggardPatience)))
            }
            replica.verify(payload.digest, strict: false) { once.resume(returning: $0) }
        }
        switch result {
        case .success:
            verified.insert(payload.digest, on: index, at: clock.now())
            return true
        case .failure(let error):
            note(error, of: payload.digest, on: index, foundBy: .write)
            return false
        }
    }

    /// Sends to all targets and returns once the quorum has it; waits a little longer for a volume
    /// that lags, so that memory stays bounded and redundancy whole in the normal case.
    private func fanOut(
        _ payload: PayloadRecord,
        to targets: VolumeMask,
        _ copies: ChunkCopies,
        _ send: (any Replica, @escaping ReplicaCompletion<Void>) -> Void
    ) async throws {
        guard !targets.isEmpty else { return }
        let holders = copies.holders
        let needed = quorum.writeQuorum - holders.count
        let volumes = self.volumes
        let wait = QuorumWait(
            calls: targets,
            isEnough: { $0.count >= needed },
            mayLeave: { outstanding in
                outstanding.indices.allSatisfy {
                    (volumes.usableReplica($0)?.waitingBulkBytes ?? 0) <= Self.laggardBytesMax
                }
            }
        )
        for index in targets.indices {
            guard let replica = volumes.usableReplica(index) else {
                wait.completed(index, .failure(unusable(index)))
                continue
            }
            send(replica) { [self] result in
                switch result {
                case .success: copies.insert(index)
                case .failure(let error): note(error, of: payload.digest, on: index, foundBy: .write)
                }
                wait.completed(index, result)
            }
        }
        timers.schedule(after: Self.laggardPatience, whileWanted: { wait.isWaiting }) {
            wait.loseInterestInLaggards()
        }
        timers.schedule(after: Limits.commitDeadline, whileWanted: { wait.isWaiting }) { wait.giveUp() }
        let outcome = await wait.outcome()
        guard outcome.succeeded.count >= needed else {
            throw self.volumes.failure(
                of: outcome.errors,
                silent: outcome.outstanding,
                "Chunk \(payload.digest) reached \(outcome.succeeded.count + holders.count) of the "
                    + "\(quorum.writeQuorum) replicas that a write needs; nothing became visible."
            )
        }
    }
}
