internal import StoreModel
internal import Synchronization

/// Damaged and missing copies that wait for repair: bounded, each copy once, first found first served.
///
/// What does not fit is dropped and counted; the next audit finds it again.
final class RepairQueue: Sendable {
    struct Item: Hashable, Sendable {
        let chunk: Digest
        let volume: VolumeID
    }

    private struct State {
        var order: [Item] = []
        var head = 0
        /// Waiting and running, by item: the finding that goes with it.
        var findings: [Item: Finding] = [:]
        var running = 0
        var recent: [Finding] = []
        var counts = RepairCounts()
        var idleWorkers: [CheckedContinuation<Void, Never>] = []
        var idleWaiters: [CheckedContinuation<Void, Never>] = []
        var isClosed = false
    }

    private static let recentFindingCountMax = 1000

    private let state = Mutex(State())

    /// Queues a copy for repair; one that is already waiting is not queued twice.
    func add(_ finding: Finding) {
        let item = Item(chunk: finding.chunk, volume: finding.volume)
        let wakeUp = state.withLock { state -> CheckedContinuation<Void, Never>? in
            guard !state.isClosed, state.findings[item] == nil else { return nil }
            guard state.findings.count < Limits.repairQueueCountMax else {
                state.counts.dropped += 1
                return nil
            }
            state.findings[item] = finding
            state.order.append(item)
            return state.idleWorkers.popLast()
        }
        wakeUp?.resume()
    }

    /// The next item; waits while there is none, returns nil once closed.
    func next() async -> (Item, Finding)? {
        while true {
            let taken = state.withLock { state -> (item: (Item, Finding)?, isClosed: Bool) in
                while state.head < state.order.count {
                    let item = state.order[state.head]
                    state.head += 1
                    if state.head == state.order.count {
                        state.order.removeAll(keepingCapacity: true)
                        state.head = 0
                    }
                    if let finding = state.findings[item] {
                        state.running += 1
                        return ((item, finding), false)
                    }
                }
                return (nil, state.isClosed)
            }
            if let item = taken.item { return item }
            if taken.isClosed { return nil }
            await withCheckedContinuation { (continuation: CheckedContinuation<Void, Never>) in
                let resumeNow = state.withLock { state in
                    if state.isClosed || state.head < state.order.count { return true }
                    state.idleWorkers.append(continuation)
                    return false
                }
                if resumeNow { continuation.resume() }
            }
        }
    }

    func finish(_ item: Item, _ outcome: Finding.Outcome) {
        let waiters = state.withLock { state -> [CheckedContinuation<Void, Never>] in
            state.running -= 1
            if var finding = state.findings.removeValue(forKey: item) {
                finding.outcome = outcome
                state.recent.append(finding)
                if state.recent.count > Self.recentFindingCountMax { state.recent.removeFirst() }
            }
            switch outcome {
            case .repaired: state.counts.repaired += 1
            case .unrepairable: state.counts.unrepairable += 1
            case .failed: state.counts.failed += 1
            case .pending: break
            }
            guard state.findings.isEmpty else { return [] }
            defer { state.idleWaiters = [] }
            return state.idleWaiters
        }
        for waiter in waiters { waiter.resume() }
    }

    /// Returns when nothing waits or runs.
    func awaitIdle() async {
        await withCheckedContinuation { (continuation: CheckedContinuation<Void, Never>) in
            let resumeNow = state.withLock { state in
                if state.findings.isEmpty || state.isClosed { return true }
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

    var counts: RepairCounts {
        state.withLock { state in
            var counts = state.counts
            counts.waiting = state.findings.count
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
