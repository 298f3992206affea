internal import BlobVolume
internal import StoreModel
internal import Synchronization

/// Copies that a read missed on a volume that did not have every commit at that moment: what was just put may be on its
/// way to the slowest volume, and what a volume is behind with is brought by whoever catches it up. Neither is damage.
///
/// Each is looked for again until the volume has reached what was committed when it was missed; what is absent then is
/// missing. Bounded in number and in time: what does not fit is found by the next audit, and after `patience` the copy is
/// missing, however far behind the volume is.
final class LateCopies: Sendable {
    struct Copy: Hashable, Sendable {
        let chunk: Digest
        let index: Int
    }

    private struct Wait {
        /// Everything up to here was committed when the copy was missed.
        let sequence: UInt64
        let since: UInt64
    }

    private struct State {
        var waiting: [Copy: Wait] = [:]
        var isWatched = false
    }

    static let interval: Duration = .milliseconds(250)
    private static let patience: UInt64 = 30_000_000_000
    private static let countMax = 4096

    private let state = Mutex(State())

    /// - Returns: whether somebody has to begin to look for them.
    func add(_ copy: Copy, committed sequence: UInt64, now: UInt64) -> Bool {
        state.withLock { state in
            guard state.waiting[copy] == nil, state.waiting.count < Self.countMax else { return false }
            state.waiting[copy] = Wait(sequence: sequence, since: now)
            defer { state.isWatched = true }
            return !state.isWatched
        }
    }

    var count: Int { state.withLock { $0.waiting.count } }

    /// Takes those out of which it can be told now whether they are missing.
    /// - Parameters:
    ///   - reached: what a volume has everything up to.
    ///   - isLast: takes all of them.
    func take(now: UInt64, isLast: Bool, reached: (_ index: Int) -> UInt64) -> [Copy] {
        state.withLock { state in
            let ripe = state.waiting.filter { copy, wait in
                isLast || reached(copy.index) >= wait.sequence || now > wait.since + Self.patience
            }
            for copy in ripe.keys { state.waiting[copy] = nil }
            return ripe.keys.sorted { ($0.chunk, $0.index) < ($1.chunk, $1.index) }
        }
    }

    /// Whoever looks has looked.
    /// - Returns: whether there is something to be looked for still.
    func goOn() -> Bool {
        state.withLock { state in
            state.isWatched = !state.waiting.isEmpty
            return state.isWatched
        }
    }
}

extension Replicator {
    /// A volume does not have a copy that it should have: a finding, or one that may be on its way.
    func noteAbsence(of digest: Digest, on index: Int, foundBy source: Finding.Source) {
        let committed = pipeline.committedMark.load(ordering: .acquiring)
        guard source == .read, let replica = volumes.usableReplica(index),
            replica.completeSequence < committed
        else { return noteMissing(digest, on: index, foundBy: source) }
        let copy = LateCopies.Copy(chunk: digest, index: index)
        guard late.add(copy, committed: committed, now: clock.monotonicNanoseconds()) else { return }
        watchLateCopies()
    }

    private func watchLateCopies() {
        timers.schedule(after: LateCopies.interval) { [weak self] in
            guard let self else { return }
            settleLateCopies(isLast: false)
            if late.goOn(), !pipeline.hasStopped.load(ordering: .acquiring) { watchLateCopies() }
        }
    }

    /// Those that are absent still although their volume has caught up are missing.
    /// - Parameter isLast: whether nothing is waited for any more.
    func settleLateCopies(isLast: Bool) {
        let ripe = late.take(now: clock.monotonicNanoseconds(), isLast: isLast) { index in
            volumes.usableReplica(index)?.completeSequence ?? .max
        }
        for copy in ripe where placementIndices(for: copy.chunk).contains(copy.index) {
            guard let replica = volumes.usableReplica(copy.index), !mustBeFilled(copy.index),
                replica.presence(of: copy.chunk) == .absent
            else { continue }
            noteMissing(copy.chunk, on: copy.index, foundBy: .read)
        }
    }
}
