internal import Catalog
internal import Logging
package import StoreModel

/// When a store that is open takes snapshots of its catalog: a log that only grows would make every rebuild longer, and
/// would keep its segments for ever.
///
/// A failure is not one of the store: the log stays as long as it is, and the next look tries again.
package struct SnapshotSchedule: Sendable {
    /// Batches after which one is due.
    package var batchCount = Limits.snapshotBatchCount
    /// The age after which one is due when anything was committed since.
    package var ageMax = Limits.snapshotAgeMax
    /// Between two looks.
    package var probeInterval = Limits.snapshotProbeInterval

    package init() {}
}

extension Replicator {
    /// The newest snapshot that the log notes.
    package struct SnapshotState: Sendable, Hashable {
        /// nil: none was taken yet.
        package let takenAt: Timestamp?
        package let rowCount: UInt64
        /// What a rebuild would replay.
        package let batchesSince: UInt64
    }

    package var snapshotState: SnapshotState {
        let applied = catalog.applied
        let last = applied.snapshots.first
        let reached = last?.position.sequence ?? 0
        return SnapshotState(
            takenAt: last?.createdAt,
            rowCount: last?.rowCount ?? 0,
            batchesSince: applied.position.sequence - min(reached, applied.position.sequence)
        )
    }

    /// Looks from time to time whether a snapshot is due, until it is cancelled.
    func maintainSnapshots() async {
        while !Task.isCancelled, !pipeline.isStopped {
            do { try await clock.sleep(for: snapshots.probeInterval) } catch { return }
            let state = snapshotState
            // The note of a snapshot is a batch itself: it alone makes no other one due.
            if state.batchesSince > 1, isOld(state) || state.batchesSince >= snapshots.batchCount {
                await trySnapshot()
            }
        }
    }

    private func isOld(_ state: SnapshotState) -> Bool {
        guard let takenAt = state.takenAt else { return false }
        return Duration.milliseconds(clock.now().milliseconds - takenAt.milliseconds) >= snapshots.ageMax
    }

    /// Takes a snapshot when the log has grown long since the last one.
    package func takeSnapshotIfDue() async {
        if snapshotState.batchesSince >= snapshots.batchCount { await trySnapshot() }
    }

    private func trySnapshot() async {
        do {
            _ = try await takeSnapshot()
        } catch {
            logger.warning("The catalog snapshot could not be written.", metadata: ["error": "\(error)"])
        }
    }
}
