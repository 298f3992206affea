import Replication
import StoreModel
import Testing

/// The machine by hand: one event, and what it asks for.
@Suite struct CommitLogMachineTests {
    private typealias Action = CommitLogMachine.Action

    private let ids = (1...3).map { VolumeID(high: 0, low: $0) }

    private func position(_ epoch: UInt64, _ sequence: UInt64) -> LogPosition {
        LogPosition(epoch: epoch, sequence: sequence, hash: Digest(words: (epoch, sequence, 1, 1)))
    }

    private func report(
        _ volume: Int,
        promise: UInt64 = 1,
        log: [LogPosition] = [],
        known: UInt64 = 0,
        damage: String? = nil,
        attested: LogPosition? = nil
    ) -> VolumeLogReport {
        var record = VolumeLogRecord.founding(members: ids)
        record.promise = promise
        return VolumeLogReport(
            volume: ids[volume],
            record: record,
            outline: LogOutline(base: .origin, positions: log),
            knownCommitIndex: known,
            damage: damage,
            attestedTail: attested
        )
    }

    /// Answers everything at once until nothing is asked any more; `silent` volumes don't answer.
    private func settle(_ machine: inout CommitLogMachine, _ first: [Action], silent: [Int] = []) throws
        -> [Action]
    {
        var all: [Action] = []
        var open = first
        while !open.isEmpty {
            let action = open.removeFirst()
            all.append(action)
            switch action {
            case .writeRecord(let id, let incarnation, _) where !silent.contains { ids[$0] == id }:
                open += machine.recordWritten(id, incarnation: incarnation)
            case .resetLog(let id, let incarnation, _) where !silent.contains { ids[$0] == id }:
                open += machine.logReset(id, incarnation: incarnation)
            case .copyBatches(let id, let incarnation, _, _, let through)
            where !silent.contains { ids[$0] == id }:
                open += machine.copyEnded(id, incarnation: incarnation, through: through)
            case .append(let id, let incarnation, let position) where !silent.contains { ids[$0] == id }:
                open += machine.appended(id, incarnation: incarnation, through: position.sequence)
            case .noteRebuilt(let id, let incarnation):
                open += machine.rebuiltNoted(id, incarnation: incarnation)
            case .proposeStart(let proposal):
                open += try machine.propose(position(proposal.epoch, proposal.sequence))
            default: break
            }
        }
        return all
    }

    private func started(_ reports: [VolumeLogReport]) throws -> CommitLogMachine {
        var machine = CommitLogMachine(quorum: .standard)
        for report in reports { _ = machine.join(report) }
        let first = machine.begin()
        _ = try settle(&machine, first)
        return machine
    }

    @Test func `Two damaged logs that know their end open with the whole one and are rebuilt from it`() throws
    {
        let log = (1...6).map { position(1, $0) }
        let machine = try started([
            report(0, log: Array(log.prefix(2)), known: 5, damage: "a hole", attested: log[5]),
            report(1, log: Array(log.prefix(4)), known: 5, damage: "a hole", attested: log[4]),
            report(2, log: log, known: 5),
        ])
        #expect(machine.isReady)
        #expect(machine.committedSequence == 7)
        #expect(machine.status.volumes.allSatisfy { $0.role == .voting })
    }

    @Test func `A log that ends before what a damaged one attests is not chosen`() throws {
        let log = (1...6).map { position(1, $0) }
        let damaged = report(0, log: Array(log.prefix(2)), known: 5, damage: "a hole", attested: log[5])
        var machine = try started([damaged, report(1, log: Array(log.prefix(5)), known: 4)])
        #expect(!machine.isReady)
        #expect(machine.status.obstacle?.contains("known to end at \(log[5])") == true)
        #expect(machine.status.volumes.allSatisfy { $0.durableSequence == 0 })
        let later = machine.join(report(2, log: log, known: 5))
        _ = try settle(&machine, later)
        #expect(machine.isReady)
        #expect(machine.committedSequence == 7)
    }

    @Test func `Whole logs that are a quorum open, wherever a damaged one says that it ended`() throws {
        let log = (1...6).map { position(1, $0) }
        let machine = try started([
            report(0, log: Array(log.prefix(2)), known: 5, damage: "a hole", attested: log[5]),
            report(1, log: Array(log.prefix(5)), known: 4),
            report(2, log: Array(log.prefix(5)), known: 5),
        ])
        #expect(machine.isReady)
        #expect(machine.committedSequence == 6)
        #expect(machine.status.volumes.allSatisfy { $0.role == .voting })
    }

    @Test func `Two damaged logs whose ends are not known keep the store shut`() throws {
        let log = (1...6).map { position(1, $0) }
        let damaged = (0...1).map { report($0, log: Array(log.prefix(2)), known: 5, damage: "a hole") }
        #expect(!(try started(damaged + [report(2, log: log, known: 5)])).isReady)
    }

    @Test func `One volume of three gets no promise and the status names the missing ones`() throws {
        var machine = CommitLogMachine(quorum: .standard)
        _ = machine.join(report(0))
        #expect(machine.begin().isEmpty)
        #expect(machine.status.missing == [ids[1], ids[2]])
        #expect(machine.status.obstacle != nil)
        #expect(machine.nextPlace == nil)
        // The second one appears later: the start goes on by itself.
        let later = machine.join(report(1))
        _ = try settle(&machine, later)
        #expect(machine.isReady)
    }

    @Test func `A volume that was absent is behind and keeps its vote`() throws {
        let log = [position(2, 1), position(2, 2), position(2, 3)]
        let machine = try started([report(0, promise: 2, log: log, known: 2), report(2)])
        #expect(machine.isReady)
        #expect(machine.committedSequence == 4)
        #expect(machine.status.volumes.map(\.role) == [.voting, .absent, .voting])
    }

    @Test func `A volume that lost what it knew to be committed does not vote until it is rebuilt`() throws {
        let log = [position(2, 1), position(2, 2), position(2, 3)]
        let damaged = report(2, promise: 2, log: [position(2, 1)], known: 2)
        var machine = CommitLogMachine(quorum: .standard)
        _ = machine.join(report(0, promise: 2, log: log, known: 2))
        _ = machine.join(damaged)
        #expect(machine.begin().isEmpty)
        #expect(machine.status.missing == [ids[1], ids[2]])
        let later = machine.join(report(1, promise: 2, log: log, known: 2))
        let actions = try settle(&machine, later)
        #expect(machine.isReady)
        #expect(machine.status.volumes.map(\.role) == [.voting, .voting, .voting])
        let mark = actions.firstIndex { action in
            guard case .writeRecord(ids[2], _, let record) = action else { return false }
            return record.votesFrom == LogPlace(epoch: 3, sequence: 4)
        }
        let firstCopy = actions.firstIndex { action in
            guard case .copyBatches(ids[2], _, _, _, _) = action else { return false }
            return true
        }
        #expect(try #require(mark) < #require(firstCopy))
    }

    @Test func `A late completion of an earlier incarnation counts for nothing`() throws {
        var machine = try started([report(0), report(1), report(2)])
        let place = try #require(machine.nextPlace)
        let sent = try machine.propose(position(place.epoch, place.sequence))
        #expect(sent.count == 3)
        _ = machine.fail(ids[1], reason: "hangs")
        _ = machine.fail(ids[2], reason: "hangs")
        #expect(machine.appended(ids[0], incarnation: 1, through: place.sequence).isEmpty)
        #expect(machine.appended(ids[1], incarnation: 1, through: place.sequence).isEmpty)
        #expect(machine.committedSequence == place.sequence - 1)
        let before = report(1, promise: 2, log: [position(2, 1)])
        let back = try settle(&machine, machine.join(before))
        #expect(back.contains(.committed(through: place.sequence)))
    }

    @Test func `A blocked head refuses proposals and commits in order when the quorum is back`() throws {
        var machine = try started([report(0), report(1), report(2)])
        _ = machine.fail(ids[1], reason: "lost")
        _ = machine.fail(ids[2], reason: "lost")
        while let place = machine.nextPlace {
            _ = try settle(&machine, machine.propose(position(place.epoch, place.sequence)))
        }
        #expect(machine.tail.sequence == 1 + UInt64(CommitLogMachine.uncommittedCountMax))
        #expect(machine.committedSequence == 1)
        _ = try settle(&machine, machine.join(report(1, promise: 2, log: [position(2, 1)])))
        #expect(machine.committedSequence == machine.tail.sequence)
    }

    @Test func `A promise that a dead writer left is passed by a new epoch`() throws {
        var machine = try started([report(0), report(1)])
        #expect(machine.currentEpoch == 2)
        _ = try settle(&machine, machine.join(report(2, promise: 7)))
        #expect(machine.currentEpoch == 8)
        #expect(machine.tail.epoch == 8)
        #expect(machine.isReady)
        #expect(machine.committedSequence == 2)
    }

    @Test func `Batches of a later writer depose this one`() throws {
        var machine = try started([report(0), report(1)])
        let actions = machine.join(report(2, promise: 9, log: [position(9, 1)]))
        guard case .deposed = actions.first else {
            Issue.record("\(actions)")
            return
        }
        #expect(machine.nextPlace == nil)
    }

    @Test func `A position that is not the next one is refused and changes nothing`() throws {
        var machine = try started([report(0), report(1)])
        let tail = machine.tail
        #expect(throws: CommitLogMachine.Refusal.self) { _ = try machine.propose(position(2, 5)) }
        #expect(machine.tail == tail)
    }

    @Test func `A slow volume is served by copies once its batches are not kept any more`() throws {
        var machine = try started([report(0), report(1), report(2)])
        var toSlow: [Action] = []
        for _ in 0..<200 {
            let place = try #require(machine.nextPlace)
            let actions = try settle(
                &machine,
                machine.propose(position(place.epoch, place.sequence)),
                silent: [2]
            )
            toSlow += actions.filter { if case .append(ids[2], _, _) = $0 { true } else { false } }
        }
        #expect(toSlow.count == CommitLogMachine.appendsInFlightMax)
        #expect(machine.tail.sequence - machine.retainedFrom < UInt64(CommitLogMachine.retainedCountMax))
        let actions = try settle(
            &machine,
            machine.appended(ids[2], incarnation: 1, through: 1 + UInt64(toSlow.count))
        )
        #expect(actions.contains { if case .copyBatches(ids[2], _, _, _, _) = $0 { true } else { false } })
        #expect(machine.status.volumes.allSatisfy { $0.durableSequence == machine.tail.sequence })
    }
}
