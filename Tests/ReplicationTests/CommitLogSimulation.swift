import StoreModel
import StoreTestKit

@testable import Replication

/// The machine over simulated volumes: a driver that performs its actions step by step in an order given by a
/// seed, faults between any two steps, and a checker that knows everything that was ever acknowledged or
/// shown.
///
/// A value: copy it to go on from one state in several ways.
struct CommitLogSimulation {
    struct Violation: Error, CustomStringConvertible {
        let description: String
        /// Something that was acknowledged or shown is gone, was replaced or is on less than a quorum;
        /// otherwise the machine stands still or breaks its own rules.
        var breaksPromise = false
    }

    enum Way: CaseIterable {
        case reset, copy, rebuilt, change, advance, startOver, raisedEpoch, cutTail, lateCompletion,
            blockedHead, rot, severalRotten
    }

    enum Work {
        case record(VolumeLogRecord)
        case reset(LogPosition)
        case copy(from: VolumeID, after: LogPlace, through: UInt64)
        case append(LogPosition)
        case advance(LogPosition)
        case rebuilt
    }

    struct Task {
        let incarnation: UInt64
        let work: Work

        var text: String {
            guard case .record(let record) = work else { return "\(work)" }
            let memberships = record.memberships.map { "\($0.version) since \($0.since)" }.joined(
                separator: ", "
            )
            return "promise \(record.promise) votes from \(record.votesFrom) members \(memberships)"
        }
    }

    struct Completion {
        enum Kind {
            case record, reset, advance, rebuilt
            case copy(through: UInt64, unreadable: Bool)
            case append(through: UInt64)
        }

        let volume: Int
        let incarnation: UInt64
        let kind: Kind
    }

    let quorum: QuorumConfiguration
    let weaknesses: CommitLogMachine.Weaknesses
    var random: SeededGenerator
    var volumes: [SimulatedVolume]
    var machine: CommitLogMachine?
    /// Reachable in this generation; a failed volume stays in it.
    var reachable: [Int] = []
    var isDown: [Bool]
    var queues: [[Task]]
    /// Appended and not synced yet: what to answer after the sync.
    var unanswered: [(incarnation: UInt64, through: UInt64)?]
    var completions: [Completion] = []
    /// The batches of the running writer.
    var proposed: [UInt64: SimulatedBatch] = [:]
    /// What was acknowledged or shown, by sequence; index 0 is the origin.
    var truth: [LogPosition] = [.origin]
    /// Volumes that lost something and were not seen voting since.
    var impaired: [Int] = []
    /// Volumes with a hole in their log that were not seen voting since.
    var rotten: [Int] = []
    var serial: UInt64 = 0
    var steps = 0
    var wasReady = false
    var mustStartOver = false
    var notes: [(position: LogPosition, notedAt: UInt64)] = []
    /// Rare ways that were taken, by the name of the way.
    var ways: [Way: Int] = [:]
    var trace: [String] = []
    var keepsTrace = false

    init(
        seed: UInt64,
        quorum: QuorumConfiguration = .standard,
        spareCount: Int = 0,
        weaknesses: CommitLogMachine.Weaknesses = []
    ) {
        self.quorum = quorum
        self.weaknesses = weaknesses
        random = SeededGenerator(seed: seed)
        let ids = (1...UInt64(quorum.replicaCount + spareCount)).map { VolumeID(high: 0, low: $0) }
        let members = Array(ids.prefix(quorum.replicaCount))
        volumes = ids.map { id in
            SimulatedVolume(id: id, record: members.contains(id) ? .founding(members: members) : .replacement)
        }
        isDown = ids.map { _ in false }
        queues = ids.map { _ in [] }
        unanswered = ids.map { _ in nil }
    }

    mutating func went(_ way: Way) { ways[way, default: 0] += 1 }

    mutating func note(_ text: @autoclosure () -> String) {
        if keepsTrace { trace.append("\(steps): " + text()) }
    }

    func index(_ id: VolumeID) -> Int { Int(id.low) - 1 }

    // MARK: Generations

    mutating func start(on reachable: [Int]) throws {
        note("start on \(reachable.map { $0 + 1 })")
        self.reachable = reachable
        machine = CommitLogMachine(quorum: quorum, weaknesses: weaknesses)
        proposed = [:]
        wasReady = false
        mustStartOver = false
        notes = []
        for volume in volumes.indices {
            isDown[volume] = !reachable.contains(volume)
            queues[volume] = []
            unanswered[volume] = nil
        }
        completions = []
        for volume in reachable.shuffled(using: &random) {
            let report = volumes[volume].report()
            note(
                "  \(volume + 1): \(report.record.promise) from \(report.record.votesFrom)"
                    + " \(report.outline.base)-\(report.outline.tail) \(report.fault ?? "")"
            )
            try perform(machine?.join(report))
        }
        try perform(machine?.begin())
    }

    /// The process ends: of what is under way on each volume a random part has happened.
    mutating func crash(losingPower: Bool) {
        note("crash, power \(losingPower ? "cut" : "kept")")
        for volume in volumes.indices {
            for _ in 0..<random.below(queues[volume].count + 1) {
                _ = try? work(on: volume, answering: false)
            }
            if losingPower { cutPower(volume) }
            queues[volume] = []
            unanswered[volume] = nil
        }
        completions = []
        machine = nil
    }

    mutating func cutPower(_ volume: Int) {
        var generator = random
        volumes[volume].cutPower(&generator)
        random = generator
    }

    // MARK: The driver

    mutating func perform(_ actions: [CommitLogMachine.Action]?) throws {
        for action in actions ?? [] {
            switch action {
            case .writeRecord(let id, let incarnation, let record):
                queues[index(id)].append(Task(incarnation: incarnation, work: .record(record)))
            case .resetLog(let id, let incarnation, let base):
                queues[index(id)].append(Task(incarnation: incarnation, work: .reset(base)))
            case .copyBatches(let id, let incarnation, let source, let after, let through):
                let work = Work.copy(from: source, after: after, through: through)
                queues[index(id)].append(Task(incarnation: incarnation, work: work))
            case .append(let id, let incarnation, let position):
                queues[index(id)].append(Task(incarnation: incarnation, work: .append(position)))
            case .advanceBase(let id, let incarnation, let base):
                queues[index(id)].append(Task(incarnation: incarnation, work: .advance(base)))
            case .noteRebuilt(let id, let incarnation):
                queues[index(id)].append(Task(incarnation: incarnation, work: .rebuilt))
            case .proposeStart(let proposal):
                if machine?.upcoming.place == proposal.place { try propose(proposal) }
            case .ready(let epoch):
                note("ready in epoch \(epoch)")
                try show()
            case .committed(let through):
                note("committed \(through)")
                if wasReady { try acknowledge(through: through) }
            case .startOver(let reason):
                note("start over: \(reason)")
                went(.startOver)
                mustStartOver = true
            case .deposed(let reason):
                throw Violation(description: "deposed: \(reason)")
            }
        }
    }

    mutating func propose(_ proposal: CommitLogMachine.LogProposal, replacing change: (Int, Int)? = nil)
        throws
    {
        serial += 1
        let hash = Digest(
            words: (serial, proposal.epoch, proposal.sequence, proposal.predecessor.hash.words.0)
        )
        let position = LogPosition(epoch: proposal.epoch, sequence: proposal.sequence, hash: hash)
        proposed[proposal.sequence] = SimulatedBatch(
            position: position,
            predecessor: proposal.predecessor,
            commitIndex: proposal.commitIndex
        )
        if let change,
            let membership = try machine?.membership(
                replacing: volumes[change.0].id,
                with: volumes[change.1].id
            )
        {
            went(.change)
            note("propose \(position): \(change.0 + 1) leaves, \(change.1 + 1) joins")
            try perform(machine?.propose(position, membership: membership))
        } else {
            note("propose \(position)")
            if let started = machine?.startedEpoch, started != 0, started != proposal.epoch {
                went(.raisedEpoch)
            }
            try perform(machine?.propose(position))
        }
    }

    /// One step of the volume's writer thread.
    mutating func work(on volume: Int, answering: Bool = true) throws {
        if let (incarnation, through) = unanswered[volume] {
            if case .append = queues[volume].first?.work, random.oneIn(2) {
            } else {
                volumes[volume].sync()
                unanswered[volume] = nil
                if answering { answer(volume, incarnation, .append(through: through)) }
                return
            }
        }
        guard let task = queues[volume].first else { return }
        note("  \(volume + 1) \(task.text)")
        switch task.work {
        case .record(let record):
            volumes[volume].write(record)
            finish(volume, task, .record, answering)
        case .reset(let base):
            went(.reset)
            volumes[volume].reset(to: base)
            finish(volume, task, .reset, answering)
        case .advance(let base):
            went(.advance)
            volumes[volume].advanceBase(to: base)
            finish(volume, task, .advance, answering)
        case .rebuilt:
            went(.rebuilt)
            volumes[volume].noteRebuilt()
            finish(volume, task, .rebuilt, answering)
        case .append(let position):
            guard let batch = proposed[position.sequence], batch.position == position,
                position.sequence >= machine?.retainedFrom ?? 0
            else { throw Violation(description: "\(position) is not retained") }
            try append(batch, to: volume)
            queues[volume].removeFirst()
            unanswered[volume] = (task.incarnation, position.sequence)
        case .copy(let source, let after, let through):
            try copy(task, to: volume, from: index(source), after: after, through: through, answering)
        }
    }

    private mutating func append(_ batch: SimulatedBatch, to volume: Int) throws {
        if batch.position.epoch > volumes[volume].record.promise, !weaknesses.contains(.noPromise) {
            throw Violation(description: "\(batch.position) was sent to \(volume + 1) without its promise")
        }
        if volumes[volume].visible.tail != batch.predecessor { went(.cutTail) }
        if !volumes[volume].append(batch), !weaknesses.contains(.noChain) {
            throw Violation(description: "\(batch.position) has no predecessor on \(volume + 1)")
        }
    }

    /// One batch per step.
    private mutating func copy(
        _ task: Task,
        to volume: Int,
        from source: Int,
        after: LogPlace,
        through: UInt64,
        _ answering: Bool
    ) throws {
        guard after.sequence < through, let batch = volumes[source].visible.batch(after.sequence + 1),
            LogPlace(batch.predecessor) == after
        else {
            volumes[volume].sync()
            return finish(
                volume,
                task,
                .copy(through: after.sequence, unreadable: after.sequence < through),
                answering
            )
        }
        went(.copy)
        try append(batch, to: volume)
        let rest = Work.copy(from: volumes[source].id, after: LogPlace(batch.position), through: through)
        queues[volume][0] = Task(incarnation: task.incarnation, work: rest)
    }

    private mutating func finish(_ volume: Int, _ task: Task, _ kind: Completion.Kind, _ answering: Bool) {
        queues[volume].removeFirst()
        if answering { answer(volume, task.incarnation, kind) }
    }

    private mutating func answer(_ volume: Int, _ incarnation: UInt64, _ kind: Completion.Kind) {
        completions.append(Completion(volume: volume, incarnation: incarnation, kind: kind))
    }

    /// Delivers one completion: the oldest of a random volume.
    mutating func deliver() throws {
        guard !completions.isEmpty else { return }
        let volume = completions[random.below(completions.count)].volume
        guard let place = completions.firstIndex(where: { $0.volume == volume }) else { return }
        let completion = completions.remove(at: place)
        let id = volumes[volume].id
        let incarnation = completion.incarnation
        if machine?.volumes.first(where: { $0.id == id })?.incarnation != incarnation {
            went(.lateCompletion)
        }
        switch completion.kind {
        case .record: try perform(machine?.recordWritten(id, incarnation: incarnation))
        case .reset: try perform(machine?.logReset(id, incarnation: incarnation))
        case .advance: try perform(machine?.baseAdvanced(id, incarnation: incarnation))
        case .rebuilt: try perform(machine?.rebuiltNoted(id, incarnation: incarnation))
        case .copy(let through, let unreadable):
            try perform(
                machine?.copyEnded(
                    id,
                    incarnation: incarnation,
                    through: through,
                    isSourceUnreadable: unreadable
                )
            )
        case .append(let through):
            try perform(machine?.appended(id, incarnation: incarnation, through: through))
        }
    }

    // MARK: Failures while running

    /// The volume fails: some of what is under way still happens, some is reported as done much later though
    /// it went to files that are not used any more.
    mutating func fail(_ volume: Int) throws {
        note("fail \(volume + 1)")
        for _ in 0..<random.below(queues[volume].count + 1) { try work(on: volume) }
        for task in queues[volume] where random.oneIn(2) {
            if case .append(let position) = task.work {
                answer(volume, task.incarnation, .append(through: position.sequence))
            }
        }
        if let late = unanswered[volume], random.oneIn(2) {
            answer(volume, late.incarnation, .append(through: late.through))
        }
        queues[volume] = []
        unanswered[volume] = nil
        if random.oneIn(2) { cutPower(volume) }
        isDown[volume] = true
        try perform(machine?.fail(volumes[volume].id, reason: "a simulated failure"))
    }

    mutating func rejoin(_ volume: Int) throws {
        note("rejoin \(volume + 1)")
        isDown[volume] = false
        if !reachable.contains(volume) { reachable.append(volume) }
        let report = volumes[volume].report()
        try perform(machine?.join(report))
    }

    /// Takes from one volume what it has acknowledged, within what the quorum tolerates.
    mutating func impair(_ volume: Int) {
        guard impaired.contains(volume) || impaired.count < quorum.lossTolerance else { return }
        // The only whole log is needed.
        guard rotten.isEmpty || rotten.contains(volume) else { return }
        if !impaired.contains(volume) { impaired.append(volume) }
        var generator = random
        if generator.oneIn(3) { volumes[volume].wipe() } else { volumes[volume].damage(&generator) }
        random = generator
        let (damage, tail) = (volumes[volume].damage, volumes[volume].durable.tail)
        note("impair \(volume + 1): \(damage ?? "no sign but the log"), tail \(tail)")
    }

    /// Makes a hole in the log of a volume, as long as another one is whole and ends nowhere before the rest.
    mutating func rot(_ volume: Int) {
        guard !impaired.contains(volume), volumes.indices.contains(where: { guards($0, volume) }) else {
            return
        }
        var generator = random
        let hasRotted = volumes[volume].rot(&generator)
        random = generator
        guard hasRotted else { return }
        went(.rot)
        if !rotten.contains(volume) { rotten.append(volume) }
        if rotten.count > quorum.lossTolerance { went(.severalRotten) }
        let tail = volumes[volume].durable.tail
        note("rot \(volume + 1): tail \(tail)")
    }

    /// Whether one volume keeps the store when another one rots.
    private func guards(_ index: Int, _ volume: Int) -> Bool {
        let guardian = volumes[index]
        guard index != volume, !impaired.contains(index), !rotten.contains(index), guardian.isWhole else {
            return false
        }
        let members = guardian.record.memberships(in: guardian.durable.outline).last?.members ?? []
        // A log that is being continued, in the place of its last batches even, has neither its old end for sure nor its new one.
        let tail = guardian.durable.tail
        guard guardian.visible.tail == tail else { return false }
        return members.contains(guardian.id) && members.contains(volumes[volume].id)
            && volumes.allSatisfy { other in
                !other.visible.tail.isLater(than: tail) && !(other.attestedTail?.isLater(than: tail) ?? false)
            }
    }
}
