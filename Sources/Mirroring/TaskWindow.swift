package import Catalog
internal import StoreModel

/// Tasks of one mirror that are in memory: which of them may be started.
///
/// 1. Of one key at most one task runs, and always the one with the lowest sequence that isn't done: order per key.
/// 2. A task that has to wait for another attempt holds back its own key and no other.
/// 3. At most `countMax` tasks are in memory, of one key at most `perKeyMax`; what is left out of a key is read again
///    (`scanFrom`) when there is room.
/// 4. Keys that are held (a task of theirs was given up for now) have no tasks here.
package struct TaskWindow: Sendable {
    package struct Name: Hashable, Sendable {
        let bucket: BucketID
        let key: ObjectKey

        package init(_ task: MirrorTask) {
            bucket = task.bucket
            key = task.key
        }
    }

    private struct Lane {
        var tasks: [MirrorTask] = []
        var isRunning = false
        /// Some of its tasks were left out.
        var hasMore = false

        /// A task that was put in between: after the one that runs.
        mutating func insert(_ task: MirrorTask) {
            let fixed = isRunning ? 1 : 0
            let index = tasks.dropFirst(fixed).firstIndex { $0.sequence > task.sequence }
            tasks.insert(task, at: index ?? tasks.endIndex)
        }
    }

    private let countMax: Int
    private let perKeyMax: Int
    private var lanes: [Name: Lane] = [:]
    private var ready: [Name] = []
    private var readyHead = 0
    private var delayed: [(name: Name, notBefore: UInt64)] = []
    private var held: Set<Name> = []
    private var sequences: Set<UInt64> = []
    /// The next task to be read has at least this sequence.
    package private(set) var scanFrom: UInt64 = 0

    package init(countMax: Int = 4096, perKeyMax: Int = 128) {
        self.countMax = countMax
        self.perKeyMax = perKeyMax
    }

    package var count: Int { sequences.count }
    package var wantsMore: Bool { sequences.count <= countMax / 2 }
    package var room: Int { countMax - sequences.count }
    package var heldKeyCount: Int { held.count }
    package var isEmpty: Bool { sequences.isEmpty }
    /// When the first of those that wait may be started.
    package var nextDelayEnd: UInt64? { delayed.map(\.notBefore).min() }

    /// Takes tasks that were read, in order.
    package mutating func add(_ tasks: [MirrorTask]) {
        for task in tasks {
            scanFrom = max(scanFrom, task.sequence &+ 1)
            let name = Name(task)
            guard !held.contains(name), !sequences.contains(task.sequence) else { continue }
            var lane = lanes[name] ?? Lane()
            // What stands behind something that was left out is left out as well.
            guard !lane.hasMore, lane.tasks.count < perKeyMax else {
                lane.hasMore = true
                lanes[name] = lane
                continue
            }
            let wasEmpty = lane.tasks.isEmpty
            sequences.insert(task.sequence)
            lane.insert(task)
            lanes[name] = lane
            if wasEmpty, !lane.isRunning { ready.append(name) }
        }
    }

    /// Reads from the beginning again: tasks were put in between, or left out.
    package mutating func rescan() {
        scanFrom = 0
        for name in lanes.keys { lanes[name]?.hasMore = false }
    }

    /// Whether something was left out.
    package var hasLeftOut: Bool { lanes.values.contains { $0.hasMore } }

    /// The next task to be started.
    package mutating func next(at now: UInt64) -> MirrorTask? {
        if !delayed.isEmpty {
            for entry in delayed where entry.notBefore <= now { ready.append(entry.name) }
            delayed.removeAll { $0.notBefore <= now }
        }
        while readyHead < ready.count {
            let name = ready[readyHead]
            readyHead += 1
            if readyHead > 1024, readyHead * 2 > ready.count {
                ready.removeFirst(readyHead)
                readyHead = 0
            }
            guard let lane = lanes[name], !lane.isRunning, let task = lane.tasks.first else { continue }
            lanes[name]?.isRunning = true
            return task
        }
        ready.removeAll(keepingCapacity: true)
        readyHead = 0
        return nil
    }

    /// The task is done (or given up without holding its key): the next one of its key may come.
    package mutating func finish(_ task: MirrorTask) {
        sequences.remove(task.sequence)
        let name = Name(task)
        guard var lane = lanes[name] else { return }
        lane.isRunning = false
        lane.tasks.removeAll { $0.sequence == task.sequence }
        if !lane.tasks.isEmpty {
            ready.append(name)
        } else if lane.hasMore {
            scanFrom = 0
            lane.hasMore = false
        }
        lanes[name] = lane.tasks.isEmpty ? nil : lane
    }

    /// The task is to be tried again.
    package mutating func delay(_ task: MirrorTask, until notBefore: UInt64) {
        let name = Name(task)
        lanes[name]?.isRunning = false
        delayed.append((name, notBefore))
    }

    /// The key is left alone until `release`.
    package mutating func hold(_ name: Name) {
        held.insert(name)
        guard let lane = lanes.removeValue(forKey: name) else { return }
        for task in lane.tasks { sequences.remove(task.sequence) }
    }

    package mutating func releaseAll() {
        held = []
        rescan()
    }
}
