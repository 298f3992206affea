import StoreTestKit
import Testing

/// The commit log's rules without the machine: random writer generations over volumes that keep what reached
/// them. A violation is a batch that was acknowledged, or shown to a reader, and is missing from what a later
/// writer serves. Each rule can be switched off to see that it is needed.
struct CommitLogModel {
    enum Rule: CaseIterable { case promise, choose, chain, start, attest }

    struct Entry: Hashable {
        let epoch: Int
        let value: Int
    }

    struct Volume {
        var promise = 0
        var log: [Entry] = []
        /// Where the log ended before batches in front of its end were lost: what the volume votes for until it has been
        /// given everything again.
        var attested: End?

        var end: End { End(epoch: log.last?.epoch ?? 0, count: log.count) }

        /// Takes from the log what stands behind a place in front of its last batch.
        mutating func rot(_ random: inout SeededGenerator) {
            guard log.count > 1 else { return }
            attested = attested ?? end
            log.removeSubrange(random.below(log.count - 1)...)
        }
    }

    struct End: Hashable, Comparable {
        let epoch: Int
        let count: Int

        static func < (left: End, right: End) -> Bool {
            (left.epoch, left.count) < (right.epoch, right.count)
        }
    }

    static let volumeCount = 3
    static let writeQuorum = 2

    private let off: Set<Rule>
    private var random: SeededGenerator
    private var volumes = [Volume](repeating: Volume(), count: volumeCount)
    private var promised: Set<Int> = []
    private var serial = 0

    private let rots: Bool

    init(seed: UInt64, without off: Set<Rule> = [], rots: Bool = false) {
        self.off = off
        self.rots = rots
        random = SeededGenerator(seed: seed)
    }

    /// Seven generations; what was lost, or nothing.
    mutating func run() -> Set<Int> {
        for _ in 0..<7 {
            for volume in volumes.indices where rots && random.oneIn(5) { volumes[volume].rot(&random) }
            let count = random.pick([Self.writeQuorum, Self.writeQuorum, Self.volumeCount])
            let reachable = Array((0..<Self.volumeCount).shuffled(using: &random).prefix(count)).sorted()
            guard let recovered = recover(reachable) else { continue }
            let epoch = recovered.epoch
            var log = recovered.log
            let served = Set(log.map(\.value))
            if !off.contains(.start), append(epoch, reachable, &log) < Self.writeQuorum { continue }
            let lost = promised.subtracting(served)
            if !lost.isEmpty { return lost }
            promised.formUnion(served)
            for _ in 0..<random.below(4) {
                // A batch without quorum blocks the head.
                guard append(epoch, reachable, &log) >= Self.writeQuorum else { break }
                promised.formUnion(log.map(\.value))
            }
        }
        return []
    }

    /// Nil when the writer crashed on the way, or has no log to choose.
    private mutating func recover(_ reachable: [Int]) -> (epoch: Int, log: [Entry])? {
        let seen = reachable.map {
            off.contains(.promise) ? volumes[$0].log.last?.epoch ?? 0 : volumes[$0].promise
        }
        let epoch = 1 + (seen.max() ?? 0)
        for volume in reachable.shuffled(using: &random) {
            if random.oneIn(5) { return nil }
            volumes[volume].promise = epoch
        }
        let ignoresEpoch = off.contains(.choose)
        let whole = reachable.map { volumes[$0] }.filter { $0.attested == nil }
        let best = whole.max { left, right in
            ignoresEpoch ? left.log.count < right.log.count : left.end < right.end
        }
        guard let best else { return nil }
        let attested = reachable.compactMap { volumes[$0].attested }
        if !off.contains(.attest), attested.contains(where: { $0 > best.end }) { return nil }
        for volume in reachable.shuffled(using: &random) {
            let common = zip(volumes[volume].log, best.log).prefix { $0 == $1 }.count
            if !off.contains(.chain) { volumes[volume].log.removeSubrange(common...) }
            while volumes[volume].log.count < best.log.count {
                if random.below(100) < 15 { return nil }
                volumes[volume].log.append(best.log[volumes[volume].log.count])
            }
        }
        return (epoch, best.log)
    }

    /// Writes one batch to the volumes it reaches, each after its predecessor only. Returns on how many it
    /// now is.
    private mutating func append(_ epoch: Int, _ reachable: [Int], _ log: inout [Entry]) -> Int {
        serial += 1
        log.append(Entry(epoch: epoch, value: serial))
        var reached = 0
        for volume in reachable.shuffled(using: &random) where random.below(100) >= 35 {
            volumes[volume].log += log.dropFirst(volumes[volume].log.count)
            // It has everything again, and from here on what it is given counts.
            volumes[volume].attested = nil
            reached += 1
        }
        return reached
    }
}

@Suite struct CommitLogModelTests {
    @Test func `With all rules nothing that was acknowledged or shown is lost`() {
        for seed in TestSeeds.seeds(fixed: 4000, fresh: 500) {
            var model = CommitLogModel(seed: seed)
            #expect(model.run().isEmpty, "HOLDFAST_SEED=\(seed)")
            var rotting = CommitLogModel(seed: seed, rots: true)
            #expect(rotting.run().isEmpty, "HOLDFAST_SEED=\(seed), rotting")
        }
    }

    @Test(arguments: CommitLogModel.Rule.allCases)
    func `Without one of the rules something is lost`(rule: CommitLogModel.Rule) {
        let found = (0..<4000).contains { seed in
            var model = CommitLogModel(seed: UInt64(seed), without: [rule], rots: rule == .attest)
            return !model.run().isEmpty
        }
        #expect(found, "rule \(rule)")
    }
}
