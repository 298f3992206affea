import Replication
import StoreModel
import StoreTestKit

struct SimulatedBatch: Hashable {
    let position: LogPosition
    let predecessor: LogPosition
    let commitIndex: UInt64
}

/// A log volume in memory. What was appended and not fdatasynced is lost by a power cut, from a random place
/// on, and kept by the end of the process.
struct SimulatedVolume {
    struct Log {
        var base = LogPosition.origin
        var batches: [SimulatedBatch] = []

        var tail: LogPosition { batches.last?.position ?? base }

        var outline: LogOutline { LogOutline(base: base, positions: batches.map(\.position)) }

        func index(after position: LogPosition) -> Int? {
            if position == base { return 0 }
            return batches.firstIndex { $0.position == position }.map { $0 + 1 }
        }

        func batch(_ sequence: UInt64) -> SimulatedBatch? {
            guard sequence > base.sequence, sequence <= tail.sequence else { return nil }
            return batches[Int(sequence - base.sequence) - 1]
        }

        /// Cuts what stands after the predecessor. False when the predecessor is not in the log.
        mutating func append(_ batch: SimulatedBatch) -> Bool {
            guard let index = index(after: batch.predecessor) else { return false }
            batches.removeSubrange(index...)
            batches.append(batch)
            return true
        }
    }

    let id: VolumeID
    var record: VolumeLogRecord
    private(set) var durable = Log()
    private(set) var visible = Log()
    private var unsynced: [SimulatedBatch] = []
    /// Set while the volume lacks what it acknowledged: by what it would notice itself.
    private(set) var damage: String?
    private var strayCommitIndex: UInt64 = 0
    /// Only while damaged: where the log ended, when that is certain.
    private(set) var attestedTail: LogPosition?

    init(id: VolumeID, record: VolumeLogRecord) {
        self.id = id
        self.record = record
    }

    mutating func append(_ batch: SimulatedBatch) -> Bool {
        guard visible.append(batch) else { return false }
        unsynced.append(batch)
        return true
    }

    mutating func sync() {
        durable = visible
        unsynced = []
    }

    mutating func cutPower(_ random: inout SeededGenerator) {
        let kept = random.below(unsynced.count + 1)
        for batch in unsynced.prefix(kept) { _ = durable.append(batch) }
        visible = durable
        unsynced = []
    }

    mutating func write(_ newRecord: VolumeLogRecord) {
        // From here on the volume's own signs of damage may go: the record has taken their place.
        if newRecord.votesFrom > record.votesFrom, attestedTail == nil {
            damage = nil
            strayCommitIndex = 0
        }
        record = newRecord
    }

    mutating func noteRebuilt() {
        damage = nil
        attestedTail = nil
        strayCommitIndex = 0
    }

    mutating func reset(to base: LogPosition) {
        visible = Log(base: base)
        sync()
    }

    mutating func advanceBase(to base: LogPosition) {
        sync()
        guard let index = visible.index(after: base) else { return }
        visible.batches.removeSubrange(..<index)
        visible.base = base
        sync()
    }

    /// Loses the end of the log, from a random batch on.
    mutating func damage(_ random: inout SeededGenerator) {
        sync()
        let kept = random.below(visible.batches.count + 1)
        let lost = visible.batches[kept...]
        visible.batches.removeSubrange(kept...)
        sync()
        strayCommitIndex = max(strayCommitIndex, lost.map(\.commitIndex).max() ?? 0)
        if strayCommitIndex <= visible.tail.sequence || random.oneIn(2) {
            damage = "a bad record below the synced watermark"
        }
    }

    /// Loses batches in front of the last one: a hole that is seen, and an end that is certain.
    /// - Returns: false when the log is too short for that.
    mutating func rot(_ random: inout SeededGenerator) -> Bool {
        sync()
        guard visible.batches.count > 1 else { return false }
        let tail = visible.tail
        let knownCommitIndex = max(strayCommitIndex, visible.batches.map(\.commitIndex).max() ?? 0)
        if damage == nil, record.promise >= tail.epoch, knownCommitIndex <= tail.sequence,
            LogPlace(tail) >= record.votesFrom
        {
            attestedTail = tail
        }
        visible.batches.removeSubrange(random.below(visible.batches.count - 1)...)
        sync()
        strayCommitIndex = knownCommitIndex
        damage = damage ?? "a bad record in front of the last one"
        return true
    }

    /// Whether it has everything that it acknowledged.
    var isWhole: Bool { damage == nil && record.promise > 0 && LogPlace(durable.tail) >= record.votesFrom }

    /// The directory is made anew.
    mutating func wipe() {
        self = SimulatedVolume(id: id, record: .replacement)
    }

    /// Tails are fdatasynced first.
    mutating func report() -> VolumeLogReport {
        sync()
        return VolumeLogReport(
            volume: id,
            record: record,
            outline: durable.outline,
            knownCommitIndex: max(strayCommitIndex, durable.batches.map(\.commitIndex).max() ?? 0),
            damage: damage,
            attestedTail: attestedTail
        )
    }
}
