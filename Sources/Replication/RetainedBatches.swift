internal import BlobVolume
internal import StoreModel

/// The batches that the machine may still ask for, oldest first, with their small payloads.
///
/// A volume that falls a moment behind the quorum gets each batch whole, only later. Without its payloads it would have to
/// be caught up by reading them back from the others, which costs many times what sending them costs.
///
/// Invariants:
/// 1. Sequences follow each other without a gap.
/// 2. Payloads stay until the callers are answered; from then on until every usable volume that gets some was sent the
///    batch, and at most `Limits.laggardPayloadByteCountMax` of them in all.
/// 3. What was known of a volume's copies when a batch was built holds for that incarnation of the volume: one that was
///    away may have come back without what was not synced, and then has nothing whole because of these batches. The same
///    holds for a volume that was found to have lost something since: it is told when it was looked at what it has.
struct RetainedBatches: Sendable {
    private struct Entry: Sendable {
        let commit: CommitBatch
        /// Volumes that lack something the batch refers to.
        var incomplete: VolumeMask
        /// When it was looked at what the volumes have.
        let knownAt: LossMoment
        var payloads: [(targets: VolumeMask, record: PayloadRecord)]
        let hasPayloads: Bool
        /// Volumes that get some of them and were not sent the batch.
        var unsent: VolumeMask
        /// Of the payloads, once the callers are answered.
        var laggardByteCount = 0
        var isAnswered = false
    }

    private var entries: [Entry] = []
    private var laggardByteCount = 0
    /// Of the volumes that batches were sent to.
    private var incarnations: [Int: UInt64] = [:]

    mutating func append(_ commit: CommitBatch, _ contents: CommitPipeline.BatchContents) {
        let unsent = contents.payloads.reduce(VolumeMask()) { $0.union($1.targets) }
        entries.append(
            Entry(
                commit: commit,
                incomplete: contents.incomplete,
                knownAt: contents.knownAt,
                payloads: contents.payloads,
                hasPayloads: !contents.payloads.isEmpty,
                unsent: unsent
            )
        )
    }

    /// What a volume is sent of a batch. When it has all that the batch refers to then, also the moment since which it must
    /// have lost nothing for that.
    mutating func send(_ position: LogPosition, to index: Int, incarnation: UInt64, usable: VolumeMask) -> (
        group: ReplicaGroup, wholeSince: LossMoment?
    )? {
        guard let place = place(of: position) else { return nil }
        noteIncarnation(incarnation, of: index)
        var payloads: [PayloadRecord] = []
        payloads.reserveCapacity(entries[place].payloads.count)
        for (targets, record) in entries[place].payloads where targets.contains(index) {
            payloads.append(record)
        }
        let isWhole =
            !entries[place].incomplete.contains(index)
            && !(entries[place].hasPayloads && entries[place].payloads.isEmpty)
        entries[place].unsent.remove(index)
        if entries[place].isAnswered { release(place, usable) }
        let group = ReplicaGroup(payloads: payloads, batch: entries[place].commit)
        return (group, isWhole ? entries[place].knownAt : nil)
    }

    /// The callers of a batch are answered: its payloads stay for volumes that lag, and no longer.
    mutating func noteAnswered(_ position: LogPosition, usable: VolumeMask) {
        guard let place = place(of: position), !entries[place].isAnswered else { return }
        entries[place].isAnswered = true
        entries[place].laggardByteCount = entries[place].payloads.reduce(0) { $0 + $1.record.bytes.count }
        laggardByteCount += entries[place].laggardByteCount
        release(place, usable)
    }

    /// Drops what the machine does not ask for any more.
    mutating func removeAll(before sequence: UInt64) {
        guard let first = entries.first, first.commit.position.sequence < sequence else { return }
        let count = min(Int(sequence - first.commit.position.sequence), entries.count)
        for entry in entries.prefix(count) { laggardByteCount -= entry.laggardByteCount }
        entries.removeFirst(count)
    }

    private mutating func noteIncarnation(_ incarnation: UInt64, of index: Int) {
        guard let known = incarnations.updateValue(incarnation, forKey: index), known != incarnation else {
            return
        }
        for place in entries.indices { entries[place].incomplete.insert(index) }
    }

    private mutating func release(_ place: Int, _ usable: VolumeMask) {
        guard
            entries[place].unsent.intersection(usable).isEmpty
                || laggardByteCount > Limits.laggardPayloadByteCountMax
        else { return }
        laggardByteCount -= entries[place].laggardByteCount
        entries[place].laggardByteCount = 0
        entries[place].payloads = []
    }

    private func place(of position: LogPosition) -> Int? {
        guard let first = entries.first, position.sequence >= first.commit.position.sequence else {
            return nil
        }
        let place = Int(position.sequence - first.commit.position.sequence)
        guard place < entries.count, entries[place].commit.position == position else { return nil }
        return place
    }
}
