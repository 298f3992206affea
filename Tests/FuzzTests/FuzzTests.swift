import Foundation
import StoreTestKit
import Testing

/// Every parser of bytes that the store did not make: good inputs, changed at random. Nothing may trap, whatever comes in
/// pieces must give what the whole gives, and what can be written again must come back.
///
/// `HOLDFAST_FUZZ_ROUNDS` is how many inputs each parser gets (default: 1,500), `HOLDFAST_SEED` repeats a seed. With
/// `HOLDFAST_FUZZ_LAST=FILE` each input is written to that file before it is tried: after a trap it holds the culprit.
/// ops/fuzz sets all of them.
@Suite(.serialized) struct FuzzTests {
    private static let rounds =
        ProcessInfo.processInfo.environment["HOLDFAST_FUZZ_ROUNDS"].flatMap { Int($0) } ?? 1500
    private static let lastInput = ProcessInfo.processInfo.environment["HOLDFAST_FUZZ_LAST"]

    private func residentBytes() -> Int {
        guard let text = try? String(contentsOfFile: "/proc/self/statm", encoding: .utf8) else { return 0 }
        return (text.split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? 0) * 4096
    }

    @Test(arguments: FuzzTarget.all) func nothingTrapsAndWhatIsReadComesBack(target: FuzzTarget) throws {
        let corpus = try target.corpus()
        try #require(!corpus.isEmpty)
        for seed in TestSeeds.seeds(fixed: 1, fresh: 1) {
            var mutator = Mutator(seed: seed, words: target.words)
            for input in corpus { try attempt(target, input, seed, &mutator) }
            let before = residentBytes()
            for _ in 0..<Self.rounds { try attempt(target, mutator.next(of: corpus), seed, &mutator) }
            // Only ops/fuzz runs these tests alone, where what grew is theirs.
            if Self.lastInput != nil {
                #expect(residentBytes() - before < 256 << 20, "\(target.name), seed \(seed)")
            }
        }
    }

    private func attempt(_ target: FuzzTarget, _ input: [UInt8], _ seed: UInt64, _ mutator: inout Mutator)
        throws
    {
        if let path = Self.lastInput { try Data(input).write(to: URL(fileURLWithPath: path)) }
        do {
            try target.take(input, &mutator)
        } catch let failure as FuzzFailure {
            Issue.record(
                "HOLDFAST_SEED=\(seed) \(target.name): \(failure)\n\(Data(input).base64EncodedString())"
            )
        } catch {
            // The input was refused.
        }
    }

    /// Good inputs are taken: a corpus that nothing accepts would look at nothing but the first check.
    @Test(arguments: FuzzTarget.all) func theSamplesAreGood(target: FuzzTarget) throws {
        var mutator = Mutator(seed: 1, words: [])
        for sample in try target.samples() { try target.take(sample, &mutator) }
    }

    /// `HOLDFAST_WRITE_FIXTURE=fuzz`: writes the samples that are made here into the corpus, for other tools.
    @Test(.enabled(if: ProcessInfo.processInfo.environment["HOLDFAST_WRITE_FIXTURE"] == "fuzz"))
    func theCorpusIsWritten() throws {
        for target in FuzzTarget.all {
            try FileManager.default.createDirectory(at: target.directory, withIntermediateDirectories: true)
            for (number, sample) in try target.samples().enumerated() {
                try Data(sample).write(to: target.directory.appendingPathComponent("sample-\(number)"))
            }
        }
    }
}
