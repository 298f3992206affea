import StoreModel
import StoreTestKit
import Testing

@testable import Replication

/// A short history is cut after every step, and every set of volumes takes over from there.
@Suite struct CommitLogRestartTests {
    private static let sets = [[0, 1], [1, 2], [0, 2], [0], [1], [2], [0, 1, 2]]

    /// Earlier writers: the first volume may be two epochs behind, and a minority may hold what nobody else
    /// has.
    private enum History: CaseIterable { case none, behind, minority }

    private func simulation(_ history: History, seed: UInt64) throws -> CommitLogSimulation {
        var simulation = CommitLogSimulation(seed: seed)
        switch history {
        case .none: break
        case .behind:
            for _ in 0..<2 {
                try simulation.checkLiveness(on: [1, 2])
                simulation.crash(losingPower: true)
            }
        case .minority:
            try simulation.checkLiveness(on: [0, 1, 2])
            try simulation.fail(1)
            try simulation.fail(2)
            try simulation.propose()
            try simulation.propose()
            try simulation.run()
            simulation.crash(losingPower: false)
            try simulation.start(on: [1, 2])
            for _ in 0..<8 { _ = try simulation.step() }
            simulation.crash(losingPower: false)
        }
        return simulation
    }

    /// Takes over on a set; when it is a quorum it must get ready, have everything and commit more.
    private func takeOver(_ simulation: CommitLogSimulation, on set: [Int]) throws {
        var simulation = simulation
        if set.count >= simulation.quorum.writeQuorum {
            try simulation.checkLiveness(on: set)
        } else {
            let promises = simulation.volumes.map(\.record)
            try simulation.start(on: set)
            try simulation.run()
            #expect(simulation.machine?.isReady == false)
            #expect(simulation.machine?.status.missing.count == 2)
            #expect(simulation.volumes.map(\.record) == promises)
        }
        simulation.crash(losingPower: true)
        try simulation.checkLiveness()
    }

    @Test(arguments: History.allCases, [false, true])
    private func `Any quorum takes over after a crash at any step`(history: History, losingPower: Bool) throws
    {
        var running = try simulation(history, seed: history == .none ? 1 : 2)
        try running.start(on: [0, 1, 2])
        for step in 0..<200 {
            var crashed = running
            crashed.crash(losingPower: losingPower)
            // The end of the process, then a power cut before anything was synced.
            if !losingPower, step.isMultiple(of: 2) {
                for volume in crashed.volumes.indices { crashed.cutPower(volume) }
            }
            for set in Self.sets { try takeOver(crashed, on: set) }
            let isBusy = try running.step()
            if !isBusy, running.truth.count > 12 { break }
            if !isBusy || step.isMultiple(of: 5) { try running.propose() }
        }
    }

    /// Two of three have holes; the writer that rebuilds them ends at any step, and the next one begins with what is left.
    @Test(arguments: [false, true])
    func `A crash at any step of a rebuild takes no vote away`(losingPower: Bool) throws {
        var history = CommitLogSimulation(seed: 4)
        try history.checkLiveness(on: [0, 1, 2])
        for _ in 0..<4 {
            try history.propose()
            try history.run()
        }
        history.crash(losingPower: true)
        for volume in [0, 1] { history.rot(volume) }
        #expect(history.rotten == [0, 1])
        // Without the whole log nothing is chosen.
        var without = history
        try without.start(on: [0, 1])
        try without.run()
        #expect(without.machine?.isReady == false)
        for set in [[0, 1, 2], [0, 2], [1, 2]] {
            var running = history
            try running.start(on: set)
            for _ in 0..<120 {
                var crashed = running
                crashed.crash(losingPower: losingPower)
                for next in [[0, 2], [1, 2], [0, 1, 2]] {
                    var second = crashed
                    try second.checkLiveness(on: next)
                    second.crash(losingPower: true)
                    try second.checkLiveness()
                }
                guard try running.step() else { break }
            }
            #expect(running.machine?.isReady == true)
        }
    }

    @Test func `A crash at any step of a take-over leaves enough for the next one`() throws {
        var history = try simulation(.minority, seed: 3)
        try history.start(on: [0, 2])
        for _ in 0..<40 {
            var crashed = history
            crashed.crash(losingPower: true)
            for set in Self.sets where set.count > 1 {
                var second = crashed
                try second.start(on: set)
                for _ in 0..<30 {
                    var again = second
                    again.crash(losingPower: false)
                    for last in Self.sets where last.count == 2 { try takeOver(again, on: last) }
                    guard try second.step() else { break }
                }
            }
            guard try history.step() else { break }
        }
    }
}
