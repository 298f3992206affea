internal import BlobVolume
package import Catalog
package import StoreModel

extension Replicator {
    /// Makes the chunks durable, decides the command and commits it.
    ///
    /// Answers once the commit and everything it refers to is durable on W replicas, and so is everything before it.
    /// - Throws: `StoreError`: the reason for which nothing happened, or `.outcomeUnknown`.
    package func commit(
        _ command: CatalogCommand,
        operation: OperationID,
        chunks: [ChunkWrite]
    ) async throws -> CatalogOutcome {
        let synced = try await syncBulk(for: chunks)
        return try await withCheckedThrowingContinuation { continuation in
            pipeline.submit(
                CommitPipeline.Request(
                    command: command,
                    operation: operation,
                    chunks: chunks,
                    synced: synced,
                    submittedAt: clock.monotonicNanoseconds(),
                    answer: { continuation.resume(with: $0.mapError { $0 as any Error }) }
                )
            )
        }
    }

    /// Makes bulk segments durable on as many replicas as each chunk needs. All volumes that should have a chunk are
    /// asked: what a slow one appends before its sync counts, should one of the others fail.
    /// - Returns: the volumes whose bulk segments were synced.
    func syncBulk(for chunks: [ChunkWrite]) async throws -> VolumeMask {
        let unsynced = chunks.filter(\.needsBulkSync)
        let involved = unsynced.reduce(VolumeMask()) { $0.union($1.placement) }
        guard !involved.isEmpty else { return involved }
        let needed = quorum.writeQuorum
        let copies = unsynced.map { ($0.copies, $0.knownAt) }
        let isEnough: @Sendable (VolumeMask) -> Bool = { [volumes] succeeded in
            succeeded.count >= needed
                && copies.allSatisfy { copies, knownAt in
                    volumes.stillHolding(copies.holders.intersection(succeeded), since: knownAt).count
                        >= needed
                }
        }
        let wait = QuorumWait(calls: involved, isEnough: isEnough)
        for index in involved.indices {
            guard let replica = volumes.usableReplica(index) else {
                wait.completed(index, .failure(unusable(index)))
                continue
            }
            replica.syncBulk { [self] result in
                if case .failure(let error) = result, replica.failure != nil,
                    volumes.slots[index].replica === replica
                {
                    fail(index, reason: error.description)
                }
                wait.completed(index, result)
            }
        }
        timers.schedule(after: Limits.commitDeadline, whileWanted: { wait.isWaiting }) { wait.giveUp() }
        let outcome = await wait.outcome()
        guard isEnough(outcome.succeeded) else {
            throw volumes.failure(
                of: outcome.errors,
                silent: outcome.outstanding,
                "The chunks of the upload are durable on fewer than \(needed) replicas; nothing became visible."
            )
        }
        return outcome.succeeded
    }
}
