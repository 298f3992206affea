internal import BlobVolume
internal import StoreModel

/// Batches that wait before they go to a volume which does not get their small payloads.
///
/// The next opening may choose the log of any volume that votes, or of one that only follows: a batch is then committed
/// although nobody ever heard of it. Its small payloads stand nowhere but in the groups that carried it. So a volume gets a
/// batch either together with them, or after a quorum has both: never a batch whose payloads may die with the power.
///
/// Who waits: volumes that belong to no log set (chunks in the group of a batch belong on the members), and members that had
/// no room when the batch was built. What comes after such a batch waits behind it, because a log takes batches in order.
///
/// What is left: a member that finds out while it writes a group that its disk is full takes the batch alone (`batchOnly`), and
/// the power fails before another member has the group.
///
/// A batch goes out at once when it could not be committed otherwise: with a full volume and a failed one, what is left has to
/// do. It is then thin, and its callers are told that nobody knows what became of it. A volume that only hangs has not failed:
/// beside one the wait ends after `holdPatience`, so that deletes go on.
extension CommitPipeline {
    private static let holdPatience: UInt64 = 2_000_000_000

    struct HeldAppend: Sendable {
        let position: LogPosition
        let incarnation: UInt64
        let work: Work
    }

    /// Holds an append back, or prepares it.
    func holdOrSend(
        _ index: Int,
        _ incarnation: UInt64,
        _ position: LogPosition,
        _ state: inout State
    ) -> Work? {
        let waits = !state.held[index].isEmpty || mustWait(position, index, state)
        let work = prepareAppend(index, incarnation, position, &state)
        guard waits else {
            state.actionsInFlight += 1
            return work
        }
        state.held[index].append(HeldAppend(position: position, incarnation: incarnation, work: work))
        state.heldCount += 1
        return nil
    }

    /// Sends what need not wait any longer, in the order of the log.
    func releaseHeld(_ state: inout State, _ work: inout [Work]) {
        guard state.heldCount > 0 else { return }
        for index in state.held.indices {
            while let first = state.held[index].first, !mustWait(first.position, index, state) {
                state.held[index].removeFirst()
                state.heldCount -= 1
                let id = volumes.slots[index].id
                if state.machine.isCurrent(id, first.incarnation) {
                    state.actionsInFlight += 1
                    work.append(first.work)
                } else if !state.machine.isSuperseded(id, first.incarnation) {
                    // Of a life of the volume that has ended.
                    state.noteNotOnItsWay(first.position, to: index)
                }
            }
        }
    }

    /// A volume failed: what waits for it, or is on its way to it, does not get there in this life of it.
    func dropHeld(_ index: Int, _ state: inout State) {
        state.heldCount -= state.held[index].count
        state.held[index] = []
        state.onTheirWay[index] = []
    }

    /// Whether a batch is not known to be on a quorum with its payloads, does not bring them to this volume, and can be
    /// committed without it.
    private func mustWait(_ position: LogPosition, _ index: Int, _ state: borrowing State) -> Bool {
        guard let place = state.place(of: position) else { return false }
        let holders = state.batches[place].payloadHolders
        guard state.batches[place].hasPayloads, !state.batches[place].isCommitted, !holders.contains(index),
            clock.monotonicNanoseconds() < state.batches[place].builtAt &+ Self.holdPatience
        else { return false }
        return state.machine.isQuorumCounting { id in
            volumes.index(of: id).map { holders.contains($0) } ?? false
        }
    }
}
