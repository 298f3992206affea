internal import BlobVolume
internal import Catalog
package import Replication
package import StoreModel

/// The replicated store as the storage of the use cases.
extension Replicator: ReplicatedStorage {
    package typealias Receipt = ChunkWrite

    package var durableCopyCount: Int { quorum.writeQuorum }

    package func write(_ digest: Digest, bytes: [UInt8], waitsForCommit: Bool) async throws -> ChunkWrite {
        try await clientLoad.run {
            try await write(PayloadRecord(digest: digest, bytes: bytes), waitsForCommit: waitsForCommit)
        }
    }

    package func read(_ digest: Digest, length: Int, range: Range<Int>) async throws -> [UInt8] {
        try await clientLoad.run { try await read(digest, range: range) }
    }

    package func readInMemory(
        _ digest: Digest,
        length: Int,
        range: Range<Int>,
        into target: UnsafeMutableRawBufferPointer
    ) -> Bool {
        guard readCached(digest, length: length, range: range, into: target) else { return false }
        clientLoad.note()
        return true
    }

    package func replicaStates(of digests: [Digest], check: ReplicaCheck) async throws -> [[ReplicaState]] {
        let closeness: CopyCheck =
            switch check {
            case .presence: .presence
            case .blocks: .blocks
            case .strict: .strict
            }
        var states: [[ReplicaState]] = []
        for digest in digests {
            states.append(
                await copies(of: digest, check: closeness).map { index, state, verifiedAt in
                    ReplicaState(
                        volume: volumes.slots[index].id,
                        label: volumes.slots[index].label,
                        condition: ReplicaState.Condition(state),
                        verifiedAt: verifiedAt
                    )
                }
            )
        }
        return states
    }

    package func repairNow(_ digest: Digest) async throws -> RepairOutcome {
        var repaired: [VolumeID] = []
        var failed: [VolumeID] = []
        var goodCount = 0
        for (index, state, _) in await copies(of: digest, check: .strict) {
            let volume = volumes.slots[index].id
            switch state {
            case .present: goodCount += 1
            case .missing, .damaged:
                if await repair(digest, on: volume).isRepaired {
                    repaired.append(volume)
                } else {
                    failed.append(volume)
                }
            case .unreachable: failed.append(volume)
            }
        }
        guard goodCount + repaired.count > 0 else {
            throw StoreError(.dataUnavailable, "No replica has good bytes of chunk \(digest).")
        }
        return RepairOutcome(repaired: repaired, failed: failed)
    }

    package func status() async throws -> StorageStatus {
        let status = replicatorStatus()
        let usable = status.volumes.count { $0.problem == nil }
        let snapshot = snapshotState
        return StorageStatus(
            store: status.storeID,
            quorum: status.quorum,
            volumes: status.volumes.map { StorageStatus.Volume($0, committed: status.committed) },
            committed: status.position,
            repairsPending: status.repairs.waiting,
            canRead: usable > 0,
            canWrite: status.obstacle == nil && !isReadOnly
                && status.volumes.count { $0.problem == nil && !$0.isFull } >= status.quorum.writeQuorum,
            snapshot: CatalogSnapshotStatus(
                takenAt: snapshot.takenAt,
                rowCount: snapshot.rowCount,
                batchesSince: snapshot.batchesSince
            )
        )
    }
}

extension ManifestHold: StorageHold {}

extension Replicator {
    package func hold() -> (any StorageHold)? { newHold() }

    package func physicalBytes(of digest: Digest, length: UInt64) -> UInt64 {
        volumes.present.reduce(0) { sum, index in
            sum + (volumes.usableReplica(index)?.recordBytes(of: digest, length: length) ?? 0)
        }
    }
    package func checkRoom(for byteCount: UInt64?) throws { try checkHeadroom(for: byteCount) }
}

extension ReplicaState.Condition {
    fileprivate init(_ state: Replicator.CopyState) {
        switch state {
        case .present: self = .present
        case .missing: self = .missing
        case .damaged(let reason): self = .damaged(reason)
        case .unreachable(let reason): self = .unreachable(reason)
        }
    }
}

extension StorageStatus.Volume {
    fileprivate init(_ volume: ReplicatorStatus.Volume, committed: UInt64) {
        let condition: Condition
        if let problem = volume.problem {
            condition = .failed(problem)
        } else if volume.isFull {
            condition = .full
        } else if volume.mustBeFilled {
            condition = .catchingUp(missing: max(1, committed - min(committed, volume.completeSequence)))
        } else if volume.completeSequence < committed {
            condition = .catchingUp(missing: committed - volume.completeSequence)
        } else {
            // Every payload is there; its part of the commit log counts as well.
            switch volume.role {
            case .voting, .spare: condition = .healthy
            case .catchingUp, .waiting: condition = .catchingUp(missing: 1)
            case .damaged(let reason), .failed(let reason): condition = .failed("its commit log: \(reason)")
            case .absent: condition = .failed("it takes no part in the commit log")
            }
        }
        let carriesLog: Bool
        switch volume.role {
        case .voting, .catchingUp: carriesLog = true
        case .damaged, .failed, .absent, .spare, .waiting: carriesLog = false
        }
        self.init(
            id: volume.id,
            label: volume.label,
            condition: condition,
            carriesLog: carriesLog,
            payloadBytes: volume.space?.payloadBytes ?? 0,
            fileBytes: volume.space?.fileBytes ?? 0,
            freeBytes: volume.space?.freeBytes ?? 0,
            totalBytes: volume.space?.totalBytes ?? 0
        )
    }
}
