package import BlobVolume
internal import Logging
package import StoreModel

/// Volumes that were absent when the store was opened (a mount that came late, a cable) and appear while it is open, and
/// those that vanish: unmounted, their directory removed, another volume in their place.
///
/// ```
///            the opener found it                          nothing, or another volume, stands at its path
///   absent ─────────────────────▶ there, log being read ─▶ there ─────────────────────────────────────▶ absent
/// ```
///
/// Invariants:
/// 1. A volume's files are opened relative to the directory that was opened with it: what is written while nobody has
///    noticed that it vanished goes where the rest of the volume is, or fails. Nothing is ever made at its bare path:
///    opening reads the identity before it makes as much as a lock file.
/// 2. A volume that vanished is closed; when it comes back it is opened without what is not known to be synced, joins the
///    log with a fresh report, and is caught up.
extension Replicator {
    /// Opens an absent volume if it is there by now; the error says why it is not.
    package typealias VolumeOpener = @Sendable (_ index: Int) async -> Result<any Replica, VolumeError>

    /// Looks at a volume's path: nil when it is the volume, or nothing is known. `.identityMissing` and
    /// `.identityMismatch` say that it has vanished.
    package typealias VolumeInspector = @Sendable (_ volume: VolumeID) async -> VolumeError?

    /// Looks after the coming and going of one volume.
    func watch(_ index: Int) async {
        var pause = arrivalProbeInterval
        while !Task.isCancelled, !pipeline.isStopped {
            let slot = volumes.slots[index]
            guard !slot.isRemoved else { return }
            if slot.replica == nil {
                if await tryArrival(index) { continue }
                do { try await clock.sleep(for: pause) } catch { return }
                continue
            }
            // One that has a problem is looked at more often: the problem may be that it is gone.
            let interval =
                volumes.problem(at: index) == nil
                ? inspectionInterval : min(inspectionInterval, .milliseconds(500))
            do { try await clock.sleep(for: interval) } catch { return }
            if await inspect(index) { pause = min(pause * 2, Limits.arrivalProbeIntervalMax) }
        }
    }

    /// Whether a volume is where it should be; one that is not leaves until it comes back.
    /// - Returns: whether it has vanished just now.
    @discardableResult
    package func inspect(_ index: Int) async -> Bool {
        let slot = volumes.slots[index]
        guard let inspector, slot.replica != nil, let error = await inspector(slot.id),
            error.code == .identityMissing || error.code == .identityMismatch,
            !pipeline.isClosing
        else { return false }
        depart(index, "it has vanished: \(error.message)")
        return true
    }

    private func depart(_ index: Int, _ reason: String) {
        let slot = volumes.slots[index]
        guard let replica = volumes.depart(index, reason) else { return }
        logger.error(
            "A volume has vanished; the store goes on without it.",
            metadata: ["volume": "\(slot.label)", "reason": "\(reason)"]
        )
        pipeline.volumeFailed(index)
        // What it had in the page cache may be lost: its peers remember that it is opened without that.
        let failure = PeerFailure(epoch: pipeline.epoch, reason: reason)
        for peer in volumes.present where peer != index {
            volumes.usableReplica(peer)?.recordFailure(of: slot.id, failure) { _ in }
        }
        closeAside(replica)
    }

    /// Lets an absent volume take part, if it is there: its log joins as that of a volume that lagged, then it is caught
    /// up. It never counts before that.
    private func tryArrival(_ index: Int) async -> Bool {
        guard let opener else { return false }
        switch await opener(index) {
        case .success(let replica):
            await take(replica, at: index)
            return true
        case .failure(let error):
            volumes.noteAbsence(of: index, error.description)
            return false
        }
    }

    private func take(_ replica: any Replica, at index: Int) async {
        // Out, though not for good, until its log is known.
        _ = volumes.markFailed(index, "It has just appeared; its log is being read.")
        guard !Task.isCancelled, !pipeline.isStopped, volumes.admit(replica, at: index) else {
            replica.close(deadline: .seconds(5))
            return
        }
        logger.info("A volume that was absent has appeared.", metadata: ["volume": "\(replica.label)"])
        await readmit(index)
    }
}
