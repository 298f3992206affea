package import Catalog
internal import StoreModel

/// Tasks of one mirror that are in memory: which of them may be started.
///
/// There are two classes: what is new, and what was there before the mirror (`boundary` and below). What is new goes
/// first; of four tasks that are started one is from before, as long as there are some of both.
///
/// 1. Of one key at most one task runs, and always the one with the lowest sequence that isn't done: order per key,
///    whatever the classes.
/// 2. A task that has to wait for another attempt holds back its own key and no other.
/// 3. At most `countMax` tasks are in memory, of one key at most `perKeyMax`; what is left out of a key is read again
///    (`scanFrom`) when there is room.
/// 4. Keys that are held (a task of theirs was given up for now) have no tasks here.
/// 5. A new task comes here behind the ones of its key from before; the loop sees to that.
package struct TaskWindow: Sendable {
    package enum Sort: Hashable, Sendable { case new, before }

    package struct Name: Hashable, Sendable {
        let bucket: BucketID
        let key: ObjectKey

        package init(_ task: MirrorTask) {
            bucket = task.bucket
            key = task.key
        }

        package init(of version: VersionRow) {
            bucket = version.bucket
            key = version.key
        }
    }

    private struct Lane {
        var tasks: [MirrorTask] = []
        /// The class whose place its task takes; of one from before that has left its place: new.
        var running: Sort?
        /// The first of its tasks that were left out.
        var leftOutFrom: UInt64?
        var notBefore: UInt64 = 0

        /// A task that was put in between: after the one that runs.
        mutating func insert(_ task: MirrorTask) {
            let fixed = running == nil ? 0 : 1
            let index = tasks.dropFirst(fixed).firstIndex { $0.sequence > task.sequence }
            tasks.insert(task, at: index ?? tasks.endIndex)
        }
    }

    private struct Queue {
        private var names: [Name] = []
        private var head = 0

        mutating func append(_ name: Name) { names.append(name) }

        mutating func popFirst() -> Name? {
            guard head < names.count else {
                names.removeAll(keepingCapacity: true)
                head = 0
                return nil
            }
            head += 1
            let name = names[head - 1]
            if head > 1024, head * 2 > names.count {
                names.removeFirst(head)
                head = 0
            }
            return name
        }
    }

    package static let perKeyMaxDefault = 128

    /// New tasks that are started for one from before.
    private static let newInARowMax = 3

    private let countMax: Int
    private let perKeyMax: Int
    /// Tasks below were there before the mirror.
    package let boundary: UInt64
    private var lanes: [Name: Lane] = [:]
    private var readyNew = Queue()
    private var readyBefore = Queue()
    private var newInARow = 0
    private var delayed: [(name: Name, notBefore: UInt64)] = []
    private var held: Set<Name> = []
    private var sequences: Set<UInt64> = []
    private var beforeCount = 0
    /// Tasks from before that run, without those that wait for their ends to be written.
    package private(set) var runningBeforeCount = 0
    /// The next new task to be read has at least this sequence.
    package private(set) var scanFrom: UInt64
    /// The same of the tasks from before.
    package private(set) var scanBeforeFrom: UInt64 = 0
    /// How often something was to be read again.
    package private(set) var rescanCount: UInt64 = 0

    package init(countMax: Int = 4096, perKeyMax: Int = perKeyMaxDefault, boundary: UInt64 = 0) {
        self.countMax = countMax
        self.perKeyMax = perKeyMax
        self.boundary = boundary
        scanFrom = boundary
    }

    private func sort(_ task: MirrorTask) -> Sort { task.sequence < boundary ? .before : .new }

    package var count: Int { sequences.count }

    package func count(of sort: Sort) -> Int { sort == .before ? beforeCount : sequences.count - beforeCount }

    /// Where there are two classes, half of the room is for each.
    private func countMax(of sort: Sort) -> Int { boundary == 0 ? countMax : countMax / 2 }

    package func wantsMore(_ sort: Sort = .new) -> Bool { count(of: sort) <= countMax(of: sort) / 2 }
    package func room(_ sort: Sort = .new) -> Int { max(0, countMax(of: sort) - count(of: sort)) }
    package var heldKeyCount: Int { held.count }
    package func isHeld(_ name: Name) -> Bool { held.contains(name) }
    package var isEmpty: Bool { sequences.isEmpty }
    /// When the first of those that wait may be started.
    package var nextDelayEnd: UInt64? { delayed.map(\.notBefore).min() }

    // MARK: In

    /// Takes tasks of a class that were read, in order.
    package mutating func add(_ tasks: [MirrorTask]) {
        for task in tasks {
            advance(behind: task)
            let name = Name(task)
            guard mayBeAdded(task, name) else { continue }
            // What stands behind something that was left out is left out as well.
            guard lanes[name]?.leftOutFrom.map({ task.sequence < $0 }) ?? true,
                lanes[name]?.tasks.count ?? 0 < perKeyMax
            else {
                leaveOut(task)
                continue
            }
            insert(task, name)
        }
    }

    /// Takes tasks from before that a new one of their key waits for. They are read again in their turn, as done.
    package mutating func addAhead(_ tasks: [MirrorTask]) {
        for task in tasks {
            let name = Name(task)
            if mayBeAdded(task, name) { insert(task, name) }
        }
    }

    /// The task is read again when what stands here of its key is done.
    package mutating func leaveOut(_ task: MirrorTask) {
        advance(behind: task)
        let name = Name(task)
        guard var lane = lanes[name] else { return }
        lane.leftOutFrom = min(lane.leftOutFrom ?? .max, task.sequence)
        lanes[name] = lane
    }

    /// The task waits for something that isn't here.
    package mutating func skip(_ task: MirrorTask) { advance(behind: task) }

    private mutating func advance(behind task: MirrorTask) {
        switch sort(task) {
        case .new: scanFrom = max(scanFrom, task.sequence &+ 1)
        case .before: scanBeforeFrom = max(scanBeforeFrom, task.sequence &+ 1)
        }
    }

    private func mayBeAdded(_ task: MirrorTask, _ name: Name) -> Bool {
        !held.contains(name) && !sequences.contains(task.sequence)
    }

    private mutating func insert(_ task: MirrorTask, _ name: Name) {
        var lane = lanes[name] ?? Lane()
        let oldSort = lane.tasks.isEmpty ? nil : sort(of: lane)
        sequences.insert(task.sequence)
        if sort(task) == .before { beforeCount += 1 }
        lane.insert(task)
        lanes[name] = lane
        // A key that something new waits for goes with the new ones.
        if lane.running == nil, oldSort != sort(of: lane) { makeReady(name) }
    }

    /// Of all tasks of a key: new, as soon as one of them is.
    private func sort(of lane: Lane) -> Sort { lane.tasks.last.map { sort($0) } ?? .before }

    private mutating func makeReady(_ name: Name) {
        guard let lane = lanes[name], !lane.tasks.isEmpty else { return }
        switch sort(of: lane) {
        case .new: readyNew.append(name)
        case .before: readyBefore.append(name)
        }
    }

    /// Reads from the beginning again: tasks were put in between, or left out.
    package mutating func rescan() {
        rescanCount += 1
        (scanFrom, scanBeforeFrom) = (boundary, 0)
        for name in lanes.keys { lanes[name]?.leftOutFrom = nil }
    }

    /// Reads new tasks again from this one on.
    package mutating func rescan(from sequence: UInt64) {
        rescanCount += 1
        if sequence < boundary {
            scanBeforeFrom = min(scanBeforeFrom, sequence)
            scanFrom = boundary
        } else {
            scanFrom = min(scanFrom, sequence)
        }
    }

    /// Whether something was left out.
    package var hasLeftOut: Bool { lanes.values.contains { $0.leftOutFrom != nil } }

    // MARK: Out

    /// The next task to be started.
    /// - Parameter beforeMax: how many from before may run at a time.
    package mutating func next(at now: UInt64, beforeMax: Int = .max) -> MirrorTask? {
        if !delayed.isEmpty {
            for entry in delayed where entry.notBefore <= now { makeReady(entry.name) }
            delayed.removeAll { $0.notBefore <= now }
        }
        let mayTakeBefore = runningBeforeCount < beforeMax
        if mayTakeBefore, newInARow >= Self.newInARowMax, let task = take(.before, now) { return task }
        if let task = take(.new, now) { return task }
        return mayTakeBefore ? take(.before, now) : nil
    }

    private mutating func take(_ sort: Sort, _ now: UInt64) -> MirrorTask? {
        while let name = sort == .new ? readyNew.popFirst() : readyBefore.popFirst() {
            // It may stand here twice, or have changed its class.
            guard let lane = lanes[name], lane.running == nil, lane.notBefore <= now,
                let task = lane.tasks.first, self.sort(of: lane) == sort
            else { continue }
            lanes[name]?.running = sort
            if sort == .before { runningBeforeCount += 1 }
            newInARow = sort == .new ? newInARow + 1 : 0
            return task
        }
        return nil
    }

    /// A task was carried out and waits for its end to be written: another one from before may be started, of another key.
    package mutating func freePlace(of task: MirrorTask) {
        let name = Name(task)
        guard lanes[name]?.running == .before else { return }
        lanes[name]?.running = .new
        runningBeforeCount -= 1
    }

    private mutating func stop(_ lane: inout Lane) {
        if lane.running == .before { runningBeforeCount -= 1 }
        lane.running = nil
    }

    private mutating func forget(_ task: MirrorTask) {
        guard sequences.remove(task.sequence) != nil, sort(task) == .before else { return }
        beforeCount -= 1
    }

    /// The task is done (or given up without holding its key): the next one of its key may come.
    package mutating func finish(_ task: MirrorTask) {
        forget(task)
        let name = Name(task)
        guard var lane = lanes[name] else { return }
        stop(&lane)
        lane.notBefore = 0
        lane.tasks.removeAll { $0.sequence == task.sequence }
        guard lane.tasks.isEmpty else {
            lanes[name] = lane
            return makeReady(name)
        }
        lanes[name] = nil
        if let sequence = lane.leftOutFrom { rescan(from: sequence) }
    }

    /// The task is to be tried again.
    package mutating func delay(_ task: MirrorTask, until notBefore: UInt64) {
        let name = Name(task)
        guard var lane = lanes[name] else { return }
        stop(&lane)
        lane.notBefore = notBefore
        lanes[name] = lane
        delayed.append((name, notBefore))
    }

    /// The key is left alone until `release`.
    package mutating func hold(_ name: Name) {
        held.insert(name)
        guard var lane = lanes.removeValue(forKey: name) else { return }
        stop(&lane)
        for task in lane.tasks { forget(task) }
    }

    package mutating func releaseAll() {
        held = []
        rescan()
    }
}
