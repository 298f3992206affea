import Foundation
import StoreModel
import StoreTestKit
import Testing

@testable import Replication

/// Whole engines in simulated worlds, by seed. What they go through and what is checked stands in `EngineSimulation`.
///
/// The order of sets and dictionaries must be the same in each run, which a process decides when it starts: these tests run in
/// one of their own.
@Suite(.serialized) struct EngineSimulationTests {
    private static let environment = ProcessInfo.processInfo.environment
    private static let isDeterministic = environment["SWIFT_DETERMINISTIC_HASHING"] != nil
    private static let isReplay = environment["HOLDFAST_SEED"] != nil

    private static func say(_ text: String) { FileHandle.standardError.write(Data((text + "\n").utf8)) }

    @Test(.disabled(if: isDeterministic), .timeLimit(.minutes(10)))
    func simulationsInAProcessOfTheirOwn() async throws {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/proc/self/exe")
        process.arguments = ["--testing-library", "swift-testing", "--filter", "EngineSimulationTests"]
        process.environment = Self.environment.merging(["SWIFT_DETERMINISTIC_HASHING": "1"]) { $1 }
        let path = FileManager.default.temporaryDirectory.appendingPathComponent(
            "simulation-\(UUID().uuidString)"
        )
        defer { try? FileManager.default.removeItem(at: path) }
        #expect(FileManager.default.createFile(atPath: path.path, contents: nil))
        let output = try FileHandle(forWritingTo: path)
        process.standardOutput = output
        process.standardError = output
        let status = await withCheckedContinuation { continuation in
            process.terminationHandler = { continuation.resume(returning: $0.terminationStatus) }
            do {
                try process.run()
            } catch {
                continuation.resume(returning: -1)
            }
        }
        let text = try String(contentsOf: path, encoding: .utf8)
        for line in text.split(separator: "\n") where line.hasPrefix("simulation:") { Self.say(String(line)) }
        #expect(status == 0, "\(text.suffix(20_000))")
        #expect(text.contains("simulation: "), "no simulation was run: \(text.suffix(2000))")
    }

    @Test(.enabled(if: isDeterministic), .timeLimit(.minutes(600)))
    func wholeEnginesSurviveWhatTheBudgetAllows() async throws {
        CoverageMark.startCounting()
        var harms: [String: Int] = [:]
        var (calls, answers, crashes, events) = (0, 0, 0, 0)
        let seeds = TestSeeds.seeds(fixed: 24, fresh: 6)
        let start = ContinuousClock.now
        for seed in seeds {
            if seed > 1 << 20 { Self.say("simulation: HOLDFAST_SEED=\(seed)") }
            let outcome = await EngineSimulation.run(seed: seed)
            for failure in outcome.failures {
                Self.say("simulation: HOLDFAST_SEED=\(seed) fails: \(failure)")
                Issue.record("ops/simulate --seed \(seed): \(failure)")
            }
            harms.merge(outcome.harms) { $0 + $1 }
            calls += outcome.callCount
            answers += outcome.answeredCount
            crashes += outcome.crashCount
            events += outcome.eventCount
        }
        Self.say(
            "simulation: \(seeds.count) seeds, \(calls) calls, \(answers) answered, \(crashes) power cuts, "
                + "\(events) events in \(ContinuousClock.now - start)"
        )
        Self.say("simulation: harm \(harms.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value)" })")
        let reached = CoverageMark.reached
        Self.say("simulation: marks \(CoverageMark.allCases.map { "\($0) \(reached[$0] ?? 0)" })")
        guard !Self.isReplay else { return }
        // To what chance rarely leads, `EngineSimulation+Stories` does.
        #expect(CoverageMark.allCases.filter { reached[$0] == nil } == [])
        #expect(answers > 10 * seeds.count)
    }

    @Test(.enabled(if: isDeterministic), .timeLimit(.minutes(10)), arguments: TestSeeds.seeds(fixed: 3))
    func aSeedTakesTheSameCourseEachTime(_ seed: UInt64) async {
        let first = await EngineSimulation.run(seed: seed)
        let second = await EngineSimulation.run(seed: seed)
        Self.say("simulation: seed \(seed) has the trace \(String(first.trace, radix: 16))")
        #expect(first.trace == second.trace)
        #expect(first.eventCount == second.eventCount)
        #expect(first.failures == second.failures)
    }

    @Test(.enabled(if: isDeterministic)) func seedsDiffer() async {
        let traces = [await EngineSimulation.run(seed: 1).trace, await EngineSimulation.run(seed: 2).trace]
        #expect(traces[0] != traces[1])
    }

    @Test func historiesAreJudged() {
        typealias Call = KeyHistory.Call
        func judge(_ calls: [Call]) -> Bool? {
            var history = KeyHistory()
            for call in calls { history.add(call) }
            return history.isLinearizable
        }
        #expect(
            judge([Call(start: 1, end: 2, action: .write(1)), Call(start: 3, end: 4, action: .read(1))])
                == true
        )
        // An acknowledged write that is not there.
        #expect(
            judge([Call(start: 1, end: 2, action: .write(1)), Call(start: 3, end: 4, action: .read(0))])
                == false
        )
        // One that nobody answered may come late, or never.
        let open = Call(start: 1, end: nil, action: .write(1))
        #expect(
            judge([open, Call(start: 2, end: 3, action: .read(0)), Call(start: 4, end: 5, action: .read(1))])
                == true
        )
        #expect(
            judge([open, Call(start: 2, end: 3, action: .read(1)), Call(start: 4, end: 5, action: .read(0))])
                == false
        )
        // Two updates of the same state: one is lost.
        #expect(
            judge([
                Call(start: 1, end: 2, action: .write(1)),
                Call(start: 3, end: 6, action: .replace(1, by: 2)),
                Call(start: 4, end: 5, action: .replace(1, by: 3)),
            ]) == false
        )
        // Two that found nothing.
        #expect(
            judge([Call(start: 1, end: 4, action: .create(1)), Call(start: 2, end: 3, action: .create(2))])
                == false
        )
        #expect(
            judge([
                Call(start: 1, end: 4, action: .create(1)),
                Call(start: 2, end: 3, action: .somethingWasThere),
            ]) == true
        )
    }
}
