internal import BlobVolume
internal import StoreModel
internal import Synchronization

/// Groups of one volume that share an fsync: a volume with several of them in its queue writes them one behind the other
/// and syncs once, which is how it gets back to the others.
///
/// Invariants:
/// 1. A group is acknowledged only after an fsync that began after it was written.
/// 2. A group is left unsynced only while another one waits in the queue behind it: that one's job syncs both, or its
///    being dropped tells both callers.
final class SharedSync: Sendable {
    struct Written: Sendable {
        let outcome: GroupOutcome
        let completion: ReplicaCompletion<GroupOutcome>
    }

    /// Groups in the queue. One that is only just being queued may not be counted yet: then the group before it is
    /// synced alone.
    private let waitingCount = Atomic<Int>(0)
    private let written = Mutex<[Written]>([])

    /// A volume that keeps up has one group behind the one that it writes; it syncs each one, so that the callers of the
    /// first don't wait for the second.
    private static let waitingCountMin = 2
    private static let sharedCountMax = 16

    func noteQueued() { waitingCount.wrappingAdd(1, ordering: .sequentiallyConsistent) }

    /// A group has left the queue.
    func noteTaken() { waitingCount.wrappingSubtract(1, ordering: .sequentiallyConsistent) }

    /// Adds a group that was written.
    /// - Returns: whether its job is to sync now; otherwise one that waits behind it does.
    func add(_ group: Written) -> Bool {
        let count = written.withLock { written in
            written.append(group)
            return written.count
        }
        return count >= Self.sharedCountMax
            || waitingCount.load(ordering: .sequentiallyConsistent) < Self.waitingCountMin
    }

    /// All that is to be told of the next fsync.
    func takeAll() -> [Written] {
        written.withLock { written in
            defer { written = [] }
            return written
        }
    }
}
