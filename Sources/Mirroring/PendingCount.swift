internal import Catalog
internal import StoreModel
internal import Synchronization

/// How many tasks wait for a mirror, and how many bytes: counted once, then kept in step, so that a status is at hand
/// whatever the length of the queue.
final class PendingCount: Sendable {
    struct Total: Hashable, Sendable {
        var count: UInt64 = 0
        var bytes: UInt64 = 0
        /// Of them, versions from before the mirror.
        var beforeCount: UInt64 = 0
        /// Of the first new one: when it was decided.
        var oldest: Timestamp?
    }

    private struct State {
        var total = Total()
        /// Tasks below are in the total.
        var countedBelow: UInt64 = 0
        var isCounting = false
        /// Tasks below were there before the mirror.
        var boundary: UInt64 = 0
        /// Tasks whose end is being written, and whether they are in the total: their rows may be gone already, and nobody has
        /// been told yet.
        var ending: [UInt64: Bool] = [:]
        /// Ended while a page is being read.
        var endedMeanwhile: Set<UInt64> = []
        var era: UInt64 = 0

        mutating func startAnew() {
            era += 1
            (total, countedBelow) = (Total(), 0)
            for sequence in ending.keys { ending[sequence] = false }
        }

        mutating func count(_ task: MirrorTask) {
            total.count += 1
            total.bytes += task.size
            if task.sequence < boundary { total.beforeCount += 1 }
        }
    }

    private static let pageSize = 1000
    private let state = Mutex(State())

    /// To be called before the end of a task is written; then either `noteEnded` or `noteNotEnded`.
    func noteEnding(_ task: MirrorTask) {
        state.withLock { state in
            // Its row is there: what is below was counted with it.
            state.ending[task.sequence] = task.sequence < state.countedBelow
        }
    }

    func noteNotEnded(_ task: MirrorTask) {
        state.withLock { state in state.ending[task.sequence] = nil }
    }

    func noteEnded(_ task: MirrorTask) {
        state.withLock { state in
            let isCounted = state.ending.removeValue(forKey: task.sequence) ?? false
            if state.isCounting { state.endedMeanwhile.insert(task.sequence) }
            guard isCounted else { return }
            state.total.count -= min(1, state.total.count)
            state.total.bytes -= min(task.size, state.total.bytes)
            if task.sequence < state.boundary { state.total.beforeCount -= min(1, state.total.beforeCount) }
        }
    }

    /// How far was counted, before tasks are put in between.
    struct Mark: Sendable {
        fileprivate let era: UInt64
        fileprivate let countedBelow: UInt64
    }

    func mark() -> Mark { state.withLock { Mark(era: $0.era, countedBelow: $0.countedBelow) } }

    /// Tasks were put in between by the worker.
    /// - Parameter mark: from before they were written.
    func noteAdded(_ tasks: [MirrorTask], since mark: Mark) {
        state.withLock { state in
            let certain = state.era == mark.era ? mark.countedBelow : 0
            let isDoubtful = tasks.contains { $0.sequence >= certain && $0.sequence < state.countedBelow }
            guard !state.isCounting, !isDoubtful else {
                // Nobody knows whether a page had them.
                return state.startAnew()
            }
            for task in tasks where task.sequence < state.countedBelow { state.count(task) }
        }
    }

    /// Tasks were put in between: count anew.
    func reset() {
        state.withLock { $0.startAnew() }
    }

    /// - Parameter boundary: tasks below were there before the mirror.
    func total(_ id: MirrorID, _ store: any MirrorStore, boundary: UInt64) async throws -> Total {
        state.withLock { state in
            guard state.boundary != boundary else { return }
            state.startAnew()
            state.boundary = boundary
        }
        let prefix = MirrorKey.under(MirrorKey.pendingPrefix, id)
        while true {
            let begun = state.withLock { state -> (UInt64, UInt64)? in
                guard !state.isCounting else { return nil }
                state.isCounting = true
                return (state.countedBelow, state.era)
            }
            // Someone else is counting: what is known so far has to do.
            guard let (from, era) = begun else { break }
            let page: [MirrorTask]
            do {
                page = try await store.read { reader in
                    try reader.documents(
                        .outbox,
                        prefix: prefix,
                        from: prefix + MirrorKey.bytes(from),
                        limit: Self.pageSize
                    ).map { try MirrorTask($0) }
                }
            } catch {
                state.withLock { ($0.isCounting, $0.endedMeanwhile) = (false, []) }
                throw error
            }
            let isAtEnd = state.withLock { state in
                defer { (state.isCounting, state.endedMeanwhile) = (false, []) }
                guard state.era == era else { return false }
                for task in page where !state.endedMeanwhile.contains(task.sequence) {
                    state.count(task)
                    if state.ending[task.sequence] != nil { state.ending[task.sequence] = true }
                }
                if let last = page.last { state.countedBelow = last.sequence &+ 1 }
                return page.count < Self.pageSize
            }
            if isAtEnd { break }
        }
        var total = state.withLock { $0.total }
        let first = try await store.read { reader in
            try reader.documents(.outbox, prefix: prefix, from: prefix + MirrorKey.bytes(boundary), limit: 1)
                .first
                .map { try MirrorTask($0) }
        }
        total.oldest = first?.time
        return total
    }
}
