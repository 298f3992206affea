import StoreModel
import StoreTestKit

@testable import Replication

/// What must hold, and how runs go.
extension CommitLogSimulation {
    /// A reader is shown the newest state: it must have everything that was acknowledged or shown before.
    mutating func show() throws {
        wasReady = true
        guard let machine else { return }
        let committed = machine.committedSequence
        guard committed >= UInt64(truth.count - 1) else {
            throw Violation(
                description: "\(truth.count - 1) was acknowledged or shown; now the end is \(committed)",
                breaksPromise: true
            )
        }
        if committed == 0 { return }
        let holder = machine.volumes(holding: committed).first { !isDown[index($0)] }
        guard let holder else {
            throw Violation(description: "ready, and no volume has the log up to \(committed)")
        }
        let log = volumes[index(holder)].visible
        guard log.base.sequence < UInt64(truth.count), truth[Int(log.base.sequence)] == log.base else {
            throw Violation(description: "the base \(log.base) of \(holder) was never committed")
        }
        for batch in log.batches where batch.position.sequence <= committed { try add(batch.position) }
        try checkCopies(at: committed)
    }

    mutating func acknowledge(through: UInt64) throws {
        while UInt64(truth.count) <= through {
            guard let batch = proposed[UInt64(truth.count)] else {
                throw Violation(description: "committed \(truth.count), which was never proposed")
            }
            guard batch.predecessor == truth.last else {
                throw Violation(
                    description: "\(batch.position) does not follow \(truth[truth.count - 1])",
                    breaksPromise: true
                )
            }
            truth.append(batch.position)
        }
        try checkCopies(at: through)
    }

    private mutating func add(_ position: LogPosition) throws {
        let index = Int(position.sequence)
        if index == truth.count { return truth.append(position) }
        guard index < truth.count, truth[index] == position else {
            throw Violation(
                description:
                    "\(position) is shown in place of \(index < truth.count ? "\(truth[index])" : "nothing")",
                breaksPromise: true
            )
        }
    }

    /// A quorum has the batch durably, in fact.
    private func checkCopies(at sequence: UInt64) throws {
        guard let machine else { return }
        guard sequence < UInt64(truth.count) else {
            throw Violation(description: "\(sequence) counts as committed, but is in no log that is served")
        }
        for membership in machine.activeMemberships where sequence > 0 {
            let copies = membership.members.count { id in
                let log = volumes[index(id)].durable
                return log.batch(sequence)?.position == truth[Int(sequence)] || log.base.sequence >= sequence
            }
            guard copies >= quorum.writeQuorum else {
                throw Violation(
                    description: "committed \(sequence) is on \(copies) volumes of \(membership.members)",
                    breaksPromise: true
                )
            }
        }
    }

    /// Volumes that vote hold the chain up to what the machine says.
    mutating func checkVoters() throws {
        guard let machine, machine.isReady else { return }
        for entry in machine.status.volumes where entry.role == .voting {
            let volume = index(entry.volume)
            impaired.removeAll { $0 == volume }
            rotten.removeAll { $0 == volume }
            let sequence = min(entry.durableSequence, UInt64(truth.count - 1))
            let log = volumes[volume].durable
            let held = sequence == log.base.sequence ? log.base : log.batch(sequence)?.position
            guard held == truth[Int(sequence)] || log.base.sequence > sequence else {
                throw Violation(description: "\(volume + 1) votes, but does not hold \(truth[Int(sequence)])")
            }
        }
        let members = Set(machine.activeMemberships.flatMap(\.members).map { index($0) })
        if !machine.isChangingMembers { impaired.removeAll { !members.contains($0) } }
    }

    // MARK: Steps

    /// One step of the driver, without a fault. False when there was nothing to do.
    mutating func step() throws -> Bool {
        steps += 1
        if mustStartOver {
            // The driver waits for what is under way.
            for volume in volumes.indices {
                while !queues[volume].isEmpty || unanswered[volume] != nil {
                    try work(on: volume, answering: false)
                }
            }
            try start(on: reachable.filter { !isDown[$0] })
            return true
        }
        let busy = volumes.indices.filter { !isDown[$0] && (!queues[$0].isEmpty || unanswered[$0] != nil) }
        if !completions.isEmpty, busy.isEmpty || random.oneIn(2) {
            try deliver()
        } else if !busy.isEmpty {
            try work(on: random.pick(busy))
        } else {
            return false
        }
        return true
    }

    mutating func propose() throws {
        if let proposal = machine?.nextPlace {
            try propose(proposal)
        } else if machine?.isReady == true {
            went(.blockedHead)
        }
    }

    /// Until nothing is left to do.
    mutating func run(limit: Int = 5000) throws {
        for _ in 0..<limit {
            guard try step() else { return try checkVoters() }
        }
        throw Violation(description: "no end after \(limit) steps")
    }

    /// With everything reachable and no faults the machine gets ready and commits.
    mutating func checkLiveness(on reachable: [Int]? = nil) throws {
        try start(on: reachable ?? Array(volumes.indices))
        try run()
        for _ in 0..<3 {
            let before = truth.count
            try propose()
            try run()
            guard truth.count > before else {
                throw Violation(description: "no commit: \(machine?.status.obstacle ?? "no obstacle")")
            }
        }
    }

    // MARK: Random runs

    /// Faults that a random run may use, each to the number of steps between two of them on average; 0 is
    /// never.
    struct Plan {
        var generations = 6
        var stepsMax = 120
        var failure = 60
        var impairment = 0
        var change = 0
        var snapshot = 0
        var rot = 0
    }

    mutating func run(_ plan: Plan) throws {
        for _ in 0..<plan.generations {
            var count = 1 + random.below(volumes.count)
            if random.oneIn(2) { count = max(count, quorum.writeQuorum) }
            try start(on: Array(volumes.indices.shuffled(using: &random).prefix(count)).sorted())
            // Some end among the promises.
            for _ in 0..<(random.oneIn(3) ? random.below(8) : random.below(plan.stepsMax)) {
                if !(try step()) || random.oneIn(4) { try propose() }
                try disturb(plan)
                if random.oneIn(8) { try checkVoters() }
            }
            crash(losingPower: random.oneIn(2))
            // Writers that ended after their first promise: they got no quorum and wrote nothing.
            let volume = random.below(volumes.count)
            if random.oneIn(3), volumes[volume].record.promise > 0 { volumes[volume].record.promise += 2 }
            // The end of the process, and then a power cut before anything was synced.
            if random.oneIn(4) { for volume in volumes.indices { cutPower(volume) } }
            if plan.impairment > 0, random.oneIn(2) { impair(random.below(volumes.count)) }
            if plan.rot > 0 { for volume in volumes.indices where random.oneIn(plan.rot) { rot(volume) } }
        }
        try checkLiveness()
    }

    private mutating func disturb(_ plan: Plan) throws {
        let volume = random.below(volumes.count)
        if plan.failure > 0, random.oneIn(plan.failure), !isDown[volume] { try fail(volume) }
        if plan.failure > 0, random.oneIn(plan.failure / 2), isDown[volume] {
            if plan.impairment > 0, random.oneIn(plan.impairment) { impair(volume) }
            if plan.rot > 0, random.oneIn(plan.rot) { rot(volume) }
            try rejoin(volume)
        }
        guard let machine, let proposal = machine.nextPlace else { return }
        if plan.change > 0, random.oneIn(plan.change), let members = machine.activeMemberships.last?.members {
            let others = volumes.indices.filter { !members.contains(volumes[$0].id) }
            let leaving = index(random.pick(members))
            let joining = random.pick(others)
            if (try? machine.membership(replacing: volumes[leaving].id, with: volumes[joining].id)) != nil {
                try propose(proposal, replacing: (leaving, joining))
            }
        }
        if plan.snapshot > 0, random.oneIn(plan.snapshot), truth.count > 2, wasReady {
            let position = truth[truth.count - 1 - random.below(2)]
            if position.sequence > notes.last?.position.sequence ?? 0, let place = self.machine?.nextPlace {
                notes.append((position, place.sequence))
                try propose(place)
            }
        }
        for note in notes.suffix(2) {
            let holders = machine.status.volumes.filter { $0.role == .voting }.map(\.volume)
            try perform(
                self.machine?.noteSnapshot(at: note.position, notedAt: note.notedAt, holders: holders)
            )
        }
    }
}
