import StoreModel
import StoreTestKit
import Testing

@testable import Replication

@Suite struct CommitLogSimulationTests {
    typealias Plan = CommitLogSimulation.Plan

    /// What a seed found, with its way there.
    private func violation(
        seed: UInt64,
        _ plan: Plan,
        quorum: QuorumConfiguration = .standard,
        spareCount: Int = 0,
        weaknesses: CommitLogMachine.Weaknesses = [],
        traced: Bool = false
    ) -> String? {
        var simulation = CommitLogSimulation(
            seed: seed,
            quorum: quorum,
            spareCount: spareCount,
            weaknesses: weaknesses
        )
        simulation.keepsTrace = traced
        do {
            try simulation.run(plan)
            return nil
        } catch {
            return "HOLDFAST_SEED=\(seed): \(error)\n" + simulation.trace.suffix(400).joined(separator: "\n")
        }
    }

    private func explore(
        _ plan: Plan,
        quorum: QuorumConfiguration = .standard,
        spareCount: Int = 0,
        fixed: Int
    ) {
        for seed in TestSeeds.seeds(fixed: fixed, fresh: fixed / 10) {
            guard violation(seed: seed, plan, quorum: quorum, spareCount: spareCount) != nil else { continue }
            let traced = violation(seed: seed, plan, quorum: quorum, spareCount: spareCount, traced: true)
            Issue.record("\(traced ?? "not found again")")
            return
        }
    }

    private let everything = Plan(
        generations: 10,
        failure: 40,
        impairment: 4,
        change: 25,
        snapshot: 12,
        rot: 3
    )

    private var five: QuorumConfiguration {
        get throws { try QuorumConfiguration(replicaCount: 5, writeQuorum: nil) }
    }

    @Test func `Crashes and failures lose nothing`() {
        explore(Plan(), fixed: 200)
    }

    @Test func `Damaged and wiped volumes within the tolerance lose nothing`() {
        explore(Plan(impairment: 3), fixed: 200)
    }

    @Test func `Changes of members lose nothing`() {
        explore(Plan(generations: 8, change: 15), spareCount: 2, fixed: 120)
    }

    @Test func `Snapshots that race with absent volumes lose nothing`() {
        explore(Plan(generations: 8, failure: 40, snapshot: 8), fixed: 120)
    }

    @Test func `Holes in all logs but one lose nothing and keep nothing shut`() {
        explore(Plan(generations: 10, failure: 40, rot: 2), fixed: 200)
    }

    @Test func `Holes, losses, snapshots and changes of members lose nothing`() {
        explore(everything, spareCount: 2, fixed: 120)
    }

    @Test func `Holes in the logs of five volumes lose nothing`() throws {
        let plan = Plan(generations: 8, stepsMax: 200, failure: 30, impairment: 4, snapshot: 12, rot: 2)
        explore(plan, quorum: try five, fixed: 40)
    }

    @Test func `Everything at once loses nothing`() {
        explore(
            Plan(generations: 8, failure: 40, impairment: 3, change: 20, snapshot: 12),
            spareCount: 2,
            fixed: 120
        )
    }

    @Test func `Everything at once on five volumes loses nothing`() throws {
        let plan = Plan(generations: 8, stepsMax: 200, failure: 30, impairment: 3, change: 20, snapshot: 12)
        explore(plan, quorum: try five, spareCount: 2, fixed: 40)
    }

    struct Course: Sendable {
        let seed: UInt64
        let plan: Plan
        var replicaCount = 3
        var spareCount = 0
    }

    /// Courses that once broke a promise or stood still, by the seed that found them.
    @Test(arguments: [
        // A machine that had to start over asked for a start record first, which it then refused.
        Course(seed: 117_412_378_284_175, plan: Plan(generations: 10, failure: 40, rot: 2)),
        // Logs were begun anew at a base in front of the chain's, and nothing could be copied to them.
        Course(
            seed: 813,
            plan: Plan(generations: 8, stepsMax: 200, failure: 30, impairment: 4, snapshot: 12, rot: 2),
            replicaCount: 5
        ),
        Course(
            seed: 1165,
            plan: Plan(generations: 10, failure: 40, impairment: 4, change: 25, snapshot: 12, rot: 3),
            spareCount: 2
        ),
        // The budget was exceeded: a log with an old end that counts, and a new one that is being written, guarded another.
        Course(
            seed: 142_042_457_148_660,
            plan: Plan(generations: 10, failure: 40, impairment: 4, change: 25, snapshot: 12, rot: 3),
            spareCount: 2
        ),
    ])
    func `What was found once stays mended`(_ course: Course) throws {
        let quorum = try QuorumConfiguration(replicaCount: course.replicaCount, writeQuorum: nil)
        #expect(
            violation(
                seed: course.seed,
                course.plan,
                quorum: quorum,
                spareCount: course.spareCount
            ) == nil
        )
    }

    /// Each weakness breaks one rule of the machine; the simulation must notice.
    @Test(arguments: [
        (CommitLogMachine.Weaknesses.noPromise, Plan()),
        (.choosesLongest, Plan()),
        (.noStartRecord, Plan()),
        (.noChain, Plan()),
        (.smallQuorum, Plan()),
        (.takesZombies, Plan(failure: 15)),
        (.trustsDamaged, Plan(impairment: 2)),
        (.unmarkedRebuild, Plan(generations: 12, stepsMax: 60, failure: 30, impairment: 2)),
        (.newMembersOnly, Plan(generations: 12, failure: 30, change: 4)),
        (.ignoresAttested, Plan(generations: 12, failure: 30, rot: 2)),
    ])
    func `Without one of its rules the machine breaks a promise`(
        weakness: CommitLogMachine.Weaknesses,
        plan: Plan
    ) {
        let spareCount = plan.change > 0 ? 2 : 0
        let found = (0..<1000).contains { seed in
            var simulation = CommitLogSimulation(
                seed: UInt64(seed),
                spareCount: spareCount,
                weaknesses: weakness
            )
            do {
                try simulation.run(plan)
                return false
            } catch {
                return (error as? CommitLogSimulation.Violation)?.breaksPromise == true
            }
        }
        #expect(found)
    }

    @Test func `The runs take every rare way`() throws {
        let plan = Plan(
            generations: 16,
            stepsMax: 60,
            failure: 16,
            impairment: 3,
            change: 20,
            snapshot: 8,
            rot: 3
        )
        var ways: [CommitLogSimulation.Way: Int] = [:]
        for seed in 0..<150 {
            var simulation = CommitLogSimulation(seed: UInt64(seed), spareCount: 2)
            try simulation.run(plan)
            ways.merge(simulation.ways) { $0 + $1 }
        }
        for way in CommitLogSimulation.Way.allCases { #expect(ways[way] ?? 0 > 0, "\(way)") }
    }
}
