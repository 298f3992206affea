package import BlobVolume
package import StoreModel
internal import Synchronization

/// What the replicator knows of its volumes and its log: computed, never assumed.
package struct ReplicatorStatus: Sendable {
    package struct Volume: Sendable {
        package let id: VolumeID
        package let label: String
        /// Why it is not usable; nil when it is.
        package let problem: String?
        package let role: CommitLogStatus.Role
        package let isFull: Bool
        /// Every payload of commits up to here is on it.
        package let completeSequence: UInt64
        package let space: VolumeSpace?
        package let waitingBytes: Int
        package let wish: VolumeRole
        /// Chunks belong on it that no walk has found there yet.
        package let mustBeFilled: Bool
        package let isNew: Bool
    }

    package let storeID: StoreID
    package let quorum: QuorumConfiguration
    package let epoch: UInt64
    package let committed: UInt64
    package let applied: UInt64
    package let position: LogPosition
    package let obstacle: String?
    package let volumes: [Volume]
    package let repairs: RepairCounts
    package let findings: [Finding]
    package let batchCount: Int

    /// Volumes that hold every payload of every commit.
    package var wholeCount: Int { wholeCount(through: committed) }

    /// Volumes that hold every payload of every commit up to one.
    package func wholeCount(through sequence: UInt64) -> Int {
        volumes.count { $0.problem == nil && !$0.mustBeFilled && $0.completeSequence >= sequence }
    }
}

extension Replicator {
    package func replicatorStatus() -> ReplicatorStatus {
        let (log, applied, batchCount) = pipeline.withState {
            ($0.machine.status, $0.appliedSequence, $0.batchSizes.total)
        }
        let (slots, layout) = (volumes.slots, layout)
        return ReplicatorStatus(
            storeID: storeID,
            quorum: quorum,
            epoch: log.epoch,
            committed: log.committedSequence,
            applied: applied,
            position: log.tail,
            obstacle: log.obstacle,
            volumes: volumes.present.map { index in
                let slot = slots[index]
                return ReplicatorStatus.Volume(
                    id: slot.id,
                    label: slot.label,
                    problem: volumes.problem(at: index),
                    role: log.volumes.first { $0.volume == slot.id }?.role ?? .absent,
                    isFull: slot.replica.map { $0.failure == nil && !$0.acceptsPayloads } ?? false,
                    completeSequence: slot.replica?.completeSequence ?? 0,
                    space: slot.replica?.space,
                    waitingBytes: slot.replica?.waitingBulkBytes ?? 0,
                    wish: slot.role,
                    mustBeFilled: mustBeFilled(index),
                    isNew: layout[slot.id]?.isNew ?? true
                )
            },
            repairs: repairs.counts,
            findings: repairs.recentFindings,
            batchCount: batchCount
        )
    }

    /// Sizes of the most recent commit batches with their payloads, in bytes.
    package var recentBatchSizes: [Int] { pipeline.withState { $0.batchSizes.recent } }

    /// The state of one copy.
    package enum CopyState: Sendable, Hashable {
        case present
        case missing
        case damaged(String)
        case unreachable(String)
    }

    /// How closely a copy is looked at.
    package enum CopyCheck: Sendable {
        /// The index only.
        case presence
        /// The checksums of its blocks.
        case blocks
        /// Its SHA-256, computed again.
        case strict
    }

    /// Looks at every copy that a chunk should have.
    package func copies(
        of digest: Digest,
        check: CopyCheck
    ) async -> [(volume: Int, state: CopyState, verifiedAt: Timestamp?)] {
        var result: [(Int, CopyState, Timestamp?)] = []
        for index in placementIndices(for: digest) {
            let state = await copyState(of: digest, on: index, check: check)
            result.append((index, state, verified.time(of: digest, on: index)))
        }
        return result
    }

    func copyState(of digest: Digest, on index: Int, check: CopyCheck) async -> CopyState {
        guard let replica = volumes.usableReplica(index) else {
            return .unreachable(volumes.problem(at: index) ?? "not usable")
        }
        guard replica.presence(of: digest) != .absent else { return .missing }
        let strict: Bool
        switch check {
        case .presence: return .present
        case .blocks: strict = false
        case .strict: strict = true
        }
        switch await timers.call(replica, { $0.verify(digest, strict: strict, completion: $1) }) {
        case .success:
            verified.insert(digest, on: index, at: clock.now())
            return .present
        case .failure(let error):
            // Looking changes nothing: whoever asked decides about the repair.
            verified.remove(digest, on: index)
            noteBroken(index, error)
            switch error.code {
            case .notFound: return .missing
            case .corrupt, .inputOutput: return .damaged(error.description)
            default: return .unreachable(error.description)
            }
        }
    }
}
