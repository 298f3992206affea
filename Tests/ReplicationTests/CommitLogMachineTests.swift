import StoreModel
import StoreTestKit
import Testing

@testable import Replication

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
    private func settle(
        _ machine: inout CommitLogMachine,
        _ first: [Action],
        silent: [Int] = [],
        skipsStale: Bool = false
    ) throws -> [Action] {
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
            case .proposeStart(let proposal) where skipsStale:
                open += (try? machine.propose(position(proposal.epoch, proposal.sequence))) ?? []
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

    // MARK: What can't be

    /// Reports that no volume can truthfully give, and what is said of them.
    private func impossible(_ volume: Int) -> [(says: String, report: VolumeLogReport)] {
        let high = VolumeLogReport.numberMax + 1
        let log = (1...3).map { position(2, UInt64($0)) }
        func report(
            promise: UInt64 = 2,
            votesFrom: LogPlace = .origin,
            memberships: [LogMembership]? = nil,
            base: LogPosition = .origin,
            log: [LogPosition] = [],
            known: UInt64 = 0,
            complete: UInt64 = 0,
            attested: LogPosition? = nil
        ) -> VolumeLogReport {
            VolumeLogReport(
                volume: ids[volume],
                record: VolumeLogRecord(
                    promise: promise,
                    votesFrom: votesFrom,
                    memberships: memberships ?? [LogMembership(version: 1, members: ids)]
                ),
                outline: LogOutline(base: base, positions: log),
                knownCommitIndex: known,
                completeSequence: complete,
                damage: attested == nil ? nil : "a hole",
                attestedTail: attested
            )
        }
        func since(_ epoch: UInt64, _ sequence: UInt64, _ members: [VolumeID]) -> LogMembership {
            LogMembership(version: 2, members: members, since: LogPlace(epoch: epoch, sequence: sequence))
        }
        let first = LogMembership(version: 1, members: ids)
        return [
            ("promise", report(promise: .max)),
            ("promise", report(promise: high, log: log)),
            ("commit index", report(log: log, known: .max)),
            ("watermark", report(log: log, complete: high)),
            ("base", report(base: position(2, .max))),
            ("base", report(promise: .max, base: position(.max, .max))),
            ("base", report(base: position(0, 7))),
            ("base", report(base: position(2, 0))),
            ("end", report(promise: .max, log: [position(.max, 1)])),
            ("end", report(log: [position(0, 1)])),
            ("attested end", report(log: log, attested: position(2, high))),
            ("attests an end of epoch 9", report(log: log, attested: position(9, 3))),
            ("votes from", report(votesFrom: LogPlace(epoch: 3, sequence: 1), log: log)),
            ("votes from", report(votesFrom: LogPlace(epoch: 2, sequence: .max), log: log)),
            ("no members", report(memberships: [], log: log)),
            ("not a set", report(memberships: [LogMembership(version: 1, members: [])], log: log)),
            ("not a set", report(memberships: [first, since(2, 2, [ids[volume]])], log: log)),
            ("not a set", report(memberships: [first, since(2, 2, [ids[0], ids[0]])], log: log)),
            ("changed at 7.2", report(memberships: [first, since(7, 2, ids)], log: log)),
            ("out of order", report(memberships: [since(2, 2, ids), first], log: log)),
            ("out of order", report(memberships: [first, since(2, 2, ids), since(2, 2, ids)], log: log)),
        ]
    }

    private func refusal(_ machine: CommitLogMachine, of volume: Int) -> String? {
        for listed in machine.status.volumes where listed.volume == ids[volume] {
            if case .failed(let reason) = listed.role { return reason }
        }
        return nil
    }

    @Test func `What no volume can say is refused as that volume's failure, and the others open`() throws {
        let log = (1...3).map { position(2, UInt64($0)) }
        for (says, nonsense) in impossible(2) {
            for order in [[0, 1, 2], [2, 0, 1], [0, 2, 1]] {
                var machine = CommitLogMachine(quorum: .standard)
                for volume in order {
                    _ = machine.join(
                        volume == 2 ? nonsense : report(volume, promise: 2, log: log, known: 2)
                    )
                }
                let actions = try settle(&machine, machine.begin())
                #expect(machine.isReady, "\(says)")
                #expect(machine.committedSequence == 4 && machine.currentEpoch == 3, "\(says)")
                #expect(refusal(machine, of: 2)?.contains(says) == true, "\(says): \(machine.status)")
                let touched = actions.filter {
                    switch $0 {
                    case .writeRecord(ids[2], _, _), .resetLog(ids[2], _, _), .append(ids[2], _, _),
                        .copyBatches(ids[2], _, _, _, _), .noteRebuilt(ids[2], _), .advanceBase(ids[2], _, _):
                        true
                    default: false
                    }
                }
                #expect(touched.isEmpty, "\(says): \(touched)")
                // A truthful report later, and it takes part.
                _ = try settle(&machine, machine.join(report(2, promise: 2, log: log, known: 2)))
                #expect(machine.status.volumes.allSatisfy { $0.role == .voting }, "\(says)")
            }
        }
    }

    @Test func `What no volume can say makes no quorum and deposes nobody`() throws {
        let log = (1...3).map { position(2, UInt64($0)) }
        for (says, nonsense) in impossible(2) {
            var machine = CommitLogMachine(quorum: .standard)
            _ = machine.join(report(0, promise: 2, log: log, known: 2))
            _ = machine.join(nonsense)
            #expect(machine.begin().isEmpty, "\(says)")
            #expect(machine.status.missing == [ids[1], ids[2]], "\(says)")
            _ = try settle(&machine, machine.join(report(1, promise: 2, log: log, known: 2)))
            #expect(machine.isReady, "\(says)")
            // Again, while it serves, and while a volume is up that says so all at once.
            _ = try settle(&machine, machine.join(report(2, promise: 2, log: log, known: 2)))
            #expect(machine.join(nonsense).isEmpty, "\(says)")
            #expect(machine.isReady && machine.nextPlace != nil, "\(says)")
            #expect(refusal(machine, of: 2) != nil, "\(says)")
        }
    }

    @Test func `A log that is longer than what it attests is being rebuilt, and votes`() throws {
        let log = (1...6).map { position(1, UInt64($0)) }
        let machine = try started([
            report(0, log: Array(log.prefix(5)), known: 4, damage: "a hole", attested: log[3]),
            report(1, log: log, known: 5),
        ])
        #expect(machine.isReady)
        #expect(machine.committedSequence == 7)
    }

    /// Numbers from the edges in every field, in every state: nothing traps, and what is asked for comes to its end.
    @Test(arguments: TestSeeds.seeds(fixed: 400, fresh: 40)) func `Reports of nonsense end nothing`(
        _ seed: UInt64
    ) throws {
        var generator = SeededGenerator(seed: seed)
        let edges: [UInt64] = [0, 1, 1, 2, 2, 3, 4, 1 << 62, (1 << 62) + 1, .max - 1, .max]
        func number() -> UInt64 { generator.oneIn(4) ? generator.pick(edges) : UInt64(generator.below(5)) }
        func anyPosition() -> LogPosition { position(number(), number()) }
        func nonsense(_ volume: Int) -> VolumeLogReport {
            let base = generator.oneIn(2) ? .origin : anyPosition()
            var log: [LogPosition] = []
            for _ in 0..<generator.below(4) {
                let last = log.last ?? base
                log.append(position(max(last.epoch, number()), last.sequence &+ 1))
            }
            let memberships = (0..<generator.below(3)).map { _ in
                LogMembership(
                    version: number(),
                    members: (0..<generator.below(4)).map { _ in generator.pick(ids) },
                    since: generator.oneIn(2) ? .origin : LogPlace(epoch: number(), sequence: number())
                )
            }
            return VolumeLogReport(
                volume: ids[volume],
                record: VolumeLogRecord(
                    promise: number(),
                    votesFrom: generator.oneIn(2) ? .origin : LogPlace(epoch: number(), sequence: number()),
                    memberships: generator.oneIn(2) ? [LogMembership(version: 1, members: ids)] : memberships
                ),
                outline: LogOutline(base: base, positions: log),
                knownCommitIndex: number(),
                completeSequence: number(),
                damage: generator.oneIn(3) ? "a hole" : nil,
                attestedTail: generator.oneIn(3) ? anyPosition() : nil
            )
        }
        var machine = CommitLogMachine(quorum: .standard)
        var asked = 0
        for _ in 0..<20 {
            let volume = generator.below(3)
            let actions: [Action] =
                switch generator.below(6) {
                case 0: machine.begin()
                case 1: machine.fail(ids[volume], reason: "fails")
                case 2: machine.join(report(volume, promise: 1 + UInt64(generator.below(3))))
                default: machine.join(nonsense(volume))
                }
            asked += try settle(
                &machine,
                actions,
                silent: generator.oneIn(4) ? [volume] : [],
                skipsStale: true
            ).count
            if let place = machine.nextPlace {
                let sent = try machine.propose(position(place.epoch, place.sequence))
                asked += try settle(&machine, sent, skipsStale: true).count
            }
            _ = machine.status
        }
        #expect(asked < 10_000)
    }
}
