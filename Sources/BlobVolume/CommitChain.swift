internal import StoreModel

/// The commit log of one volume as its records tell it, in the order in which they were written.
///
/// #### Invariants
/// 1. `entries` is a chain: each names the one before it as its predecessor, the first names `base`. Sequences
///    therefore have no holes.
/// 2. A batch whose predecessor stands earlier in the log cuts what came after that predecessor.
/// 3. A batch that was fsynced here and can't be read any more makes the log damaged, until the log has a batch that
///    is as late as the latest one lost, or is reset.
struct CommitChain: Sendable {
    struct Entry: Sendable {
        let position: LogPosition
        let location: RecordLocation
    }

    private(set) var base = LogPosition.origin
    private(set) var entries: [Entry] = []
    /// Records were lost since the last batch; one of them may have been a batch.
    private var isUncertain = false
    /// The latest batch that was met behind a hole.
    private var lost: LogPosition?
    /// Where the log ended when it was written last, whether what leads there can still be read or not. Nil when
    /// records behind it are lost: one of them may have been a batch.
    private(set) var writtenTail: LogPosition?
    /// Where the log ended before it was cut at a batch that was found to be lost; nil when it has got there again.
    private(set) var cutTail: LogPosition?

    var tail: LogPosition { entries.last?.position ?? base }
    var isDamaged: Bool { isUncertain || lost != nil }

    /// How many entries stay when a batch with this predecessor comes, or nil when it can't follow here.
    func keptCount(before predecessor: LogPosition) -> Int? {
        if predecessor == tail { return entries.count }
        if predecessor == base { return 0 }
        guard let index = index(of: predecessor.sequence), entries[index].position == predecessor else {
            return nil
        }
        return index + 1
    }

    /// Takes a batch; false when its predecessor is not here, which leaves the chain as it was.
    mutating func append(_ position: LogPosition, predecessor: LogPosition, at location: RecordLocation)
        -> Bool
    {
        guard let kept = keptCount(before: predecessor) else { return false }
        entries.removeSubrange(kept...)
        entries.append(Entry(position: position, location: location))
        isUncertain = false
        if let latest = lost, !latest.isLater(than: position) { lost = nil }
        if let latest = cutTail, !latest.isLater(than: position) { cutTail = nil }
        return true
    }

    /// A batch that is readable but has no place in the chain: what it followed is lost.
    mutating func noteUnreachable(_ position: LogPosition) {
        guard lost.map({ position.isLater(than: $0) }) ?? true else { return }
        lost = position
    }

    /// Records between the last batch and the next are lost, although they were fsynced.
    mutating func noteLostRecords() {
        isUncertain = true
        writtenTail = nil
    }

    /// The log was written up to here; what comes in the order of the writes after it has told otherwise.
    mutating func noteWritten(_ position: LogPosition) { writtenTail = position }

    /// The log went on behind a hole with records that count no more.
    mutating func noteContinuation() { isUncertain = false }

    mutating func reset(base: LogPosition) {
        self = CommitChain()
        self.base = base
        writtenTail = base
    }

    /// Drops the batches up to `base`; false when it is not in the log.
    mutating func trim(base: LogPosition) -> Bool {
        guard base != self.base else { return true }
        guard let index = index(of: base.sequence), entries[index].position == base else { return false }
        entries.removeSubrange(...index)
        self.base = base
        return true
    }

    /// The batch at a place can't be read any more: the log ends in front of it until its peers have given it again.
    /// - Returns: false when the log has no batch there, and nothing was changed.
    mutating func cut(at location: RecordLocation) -> Bool {
        guard let index = entries.firstIndex(where: { $0.location == location }) else { return false }
        noteUnreachable(tail)
        if cutTail.map({ tail.isLater(than: $0) }) ?? true { cutTail = tail }
        entries.removeSubrange(index...)
        return true
    }

    func entry(sequence: UInt64) -> Entry? { index(of: sequence).map { entries[$0] } }

    func positions(after sequence: UInt64) -> [LogPosition] {
        guard let first = entries.first?.position.sequence else { return [] }
        guard sequence >= first else { return entries.map(\.position) }
        return entries.dropFirst(Int(clamping: sequence - first) &+ 1).map(\.position)
    }

    private func index(of sequence: UInt64) -> Int? {
        guard let first = entries.first?.position.sequence, sequence >= first,
            sequence - first < UInt64(entries.count)
        else { return nil }
        return Int(sequence - first)
    }
}
