package import BlobVolume
internal import Logging
internal import StoreModel

/// Volumes that were absent when the store was opened (a mount that came late, a cable) and appear while it is open.
extension Replicator {
    /// Opens an absent volume if it is there by now; the error says why it is not.
    package typealias VolumeOpener = @Sendable (_ index: Int) async -> Result<any Replica, VolumeError>

    /// Looks now and then whether an absent volume has appeared, and lets it take part: its log joins as that of a
    /// volume that lagged, then it is caught up. It never counts before that.
    func awaitArrival(_ index: Int) async {
        guard let opener, volumes.slots[index].replica == nil else { return }
        while !Task.isCancelled, !pipeline.isStopped {
            do { try await clock.sleep(for: arrivalProbeInterval) } catch { return }
            switch await opener(index) {
            case .success(let replica): return await take(replica, at: index)
            case .failure(let error): volumes.noteAbsence(of: index, error.description)
            }
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
