internal import StoreModel
internal import Synchronization

/// Damaged and missing copies that wait for repair: bounded, each copy once. Chunks with the fewest good copies come
/// first, among equals the one that was found first.
///
/// What does not fit is dropped and counted; the next audit finds it again.
final class RepairQueue: Sendable {
    struct Item: Hashable, Sendable {
        let chunk: Digest
        let volume: VolumeID
    }

    private struct Line {
        var order: [Item] = []
        var head = 0

        mutating func popFirst() -> Item? {
            guard head < order.count else { return nil }
            defer {
                head += 1
                if head == order.count || head > 4096 {
                    order.removeFirst(head)
                    head = 0
                }
            }
            return order[head]
        }
    }

    private struct Waiting {
        var finding: Finding
        var level: Int
        var isRunning = false
    }

    private struct State {
        /// By the number of good copies that are left, up to `levelCount`.
        var lines = [Line](repeating: Line(), count: RepairQueue.levelCount)
        /// Waiting and running.
        var items: [Item: Waiting] = [:]
        /// Volumes by chunk, of the same items.
        var volumes: [Digest: [VolumeID]] = [:]
        var runningCount = 0
        var recent: [Finding] = []
        var counts = RepairCounts()
        var idleWorkers: [CheckedContinuation<Void, Never>] = []
        var idleWaiters: [CheckedContinuation<Void, Never>] = []
        var isClosed = false
        var observer: (@Sendable (Finding) -> Void)?
    }

    static let levelCount = 4
    private static let recentFindingCountMax = 1000

    private let state = Mutex(State())

    /// Told of every finding when it is queued, and again when it has its outcome. Must not block.
    func observe(_ observer: @escaping @Sendable (Finding) -> Void) {
        state.withLock { $0.observer = observer }
    }

    /// Passes on a finding that needs no repair from here.
    func report(_ finding: Finding) { state.withLock { $0.observer }?(finding) }

    /// Queues a copy for repair; one that is already waiting is not queued twice.
    /// - Parameter goodCopies: copies of the chunk that are thought to be good, this one and others that wait not
    ///   counted.
    /// - Returns: false when it was dropped.
    @discardableResult
    func add(_ finding: Finding, goodCopies: Int = levelCount) -> Bool {
        guard let chunk = finding.chunk else { return true }
        let item = Item(chunk: chunk, volume: finding.volume)
        let (wakeUp, observer, isTaken) = state.withLock {
            state -> (CheckedContinuation<Void, Never>?, (@Sendable (Finding) -> Void)?, Bool) in
            guard !state.isClosed else { return (nil, nil, false) }
            guard state.items[item] == nil else { return (nil, state.observer, true) }
            guard state.items.count < Limits.repairQueueCountMax else {
                state.counts.dropped += 1
                return (nil, state.observer, false)
            }
            let level = min(max(goodCopies, 0), Self.levelCount - 1)
            state.items[item] = Waiting(finding: finding, level: level)
            state.lines[level].order.append(item)
            // The others of the chunk are in more danger than they were thought to be.
            for volume in state.volumes[chunk, default: []] {
                let other = Item(chunk: chunk, volume: volume)
                guard let waiting = state.items[other], !waiting.isRunning, waiting.level > level else {
                    continue
                }
                state.items[other]?.level = level
                state.lines[level].order.append(other)
            }
            state.volumes[chunk, default: []].append(finding.volume)
            return (state.idleWorkers.popLast(), state.observer, true)
        }
        observer?(finding)
        wakeUp?.resume()
        return isTaken
    }

    /// The next item; waits while there is none, returns nil once closed.
    func next() async -> (Item, Finding)? {
        while true {
            let taken = state.withLock { state -> (item: (Item, Finding)?, isClosed: Bool) in
                (Self.take(&state), state.isClosed)
            }
            if let item = taken.item { return item }
            if taken.isClosed || Task.isCancelled { return nil }
            await withCheckedContinuation { (continuation: CheckedContinuation<Void, Never>) in
                let resumeNow = state.withLock { state in
                    if state.isClosed || state.lines.contains(where: { $0.head < $0.order.count }) {
                        return true
                    }
                    state.idleWorkers.append(continuation)
                    return false
                }
                if resumeNow { continuation.resume() }
            }
        }
    }

    private static func take(_ state: inout State) -> (Item, Finding)? {
        for level in state.lines.indices {
            while let item = state.lines[level].popFirst() {
                // It may stand in a line of more urgent ones as well, or be done.
                guard let waiting = state.items[item], !waiting.isRunning, waiting.level == level else {
                    continue
                }
                state.items[item]?.isRunning = true
                state.runningCount += 1
                return (item, waiting.finding)
            }
        }
        return nil
    }

    func finish(_ item: Item, _ outcome: Finding.Outcome) {
        let (waiters, observer, closed) = state.withLock {
            state -> ([CheckedContinuation<Void, Never>], (@Sendable (Finding) -> Void)?, Finding?) in
            state.runningCount -= 1
            let closed = Self.close(item, outcome, &state)
            guard state.items.isEmpty else { return ([], state.observer, closed) }
            defer { state.idleWaiters = [] }
            return (state.idleWaiters, state.observer, closed)
        }
        if let closed { observer?(closed) }
        for waiter in waiters { waiter.resume() }
    }

    private static func close(_ item: Item, _ outcome: Finding.Outcome, _ state: inout State) -> Finding? {
        switch outcome {
        case .repaired, .rescued, .mended:
            CoverageMark.reach(.repaired)
            state.counts.repaired += 1
        case .unrepairable: state.counts.unrepairable += 1
        case .failed: state.counts.failed += 1
        case .pending: break
        }
        guard var finding = state.items.removeValue(forKey: item)?.finding else { return nil }
        state.volumes[item.chunk]?.removeAll { $0 == item.volume }
        if state.volumes[item.chunk]?.isEmpty == true { state.volumes[item.chunk] = nil }
        finding.outcome = outcome
        state.recent.append(finding)
        if state.recent.count > recentFindingCountMax { state.recent.removeFirst() }
        return finding
    }

    /// Returns when nothing waits or runs.
    func awaitIdle() async {
        await withCheckedContinuation { (continuation: CheckedContinuation<Void, Never>) in
            let resumeNow = state.withLock { state in
                if state.items.isEmpty || state.isClosed { return true }
                state.idleWaiters.append(continuation)
                return false
            }
            if resumeNow { continuation.resume() }
        }
    }

    func close() {
        let waiters = state.withLock { state in
            state.isClosed = true
            defer {
                state.idleWorkers = []
                state.idleWaiters = []
            }
            return state.idleWaiters + state.idleWorkers
        }
        for waiter in waiters { waiter.resume() }
    }

    /// Volumes of a chunk whose copies wait for repair.
    func volumes(of chunk: Digest) -> [VolumeID] { state.withLock { $0.volumes[chunk] ?? [] } }

    /// Chunks of which some copy waits for repair.
    var waitingChunks: Set<Digest> { state.withLock { Set($0.volumes.keys) } }

    func isWaiting(_ chunk: Digest, on volume: VolumeID) -> Bool {
        state.withLock { $0.items[Item(chunk: chunk, volume: volume)] != nil }
    }

    var counts: RepairCounts {
        state.withLock { state in
            var counts = state.counts
            counts.waiting = state.items.count
            return counts
        }
    }

    var recentFindings: [Finding] { state.withLock { $0.recent } }
}

/// How the repairs of this run went.
package struct RepairCounts: Sendable, Hashable {
    package var waiting = 0
    package var repaired = 0
    package var failed = 0
    package var unrepairable = 0
    package var dropped = 0
}
