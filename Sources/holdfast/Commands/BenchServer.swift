internal import ArgumentParser
internal import CurlTransport
internal import Foundation
internal import S3Client
internal import StoreModel

struct BenchServer: NetworkCommand {
    static let configuration = CommandConfiguration(
        commandName: "server",
        abstract: "Drive an S3 server, this one or another.",
        discussion: """
            Works in a bucket of its own, which it makes and removes, or under a prefix of its own in --bucket. \
            A call that fails is counted and not made again. The loader's processor time counts too where both \
            run on one machine: compare ratios.

              holdfast bench server --endpoint http://127.0.0.1:9000 --mix put --size 4K
              holdfast bench server --endpoint http://127.0.0.1:9000 --mix get=90,put=10 --size 4K --size 1M
              holdfast bench server --endpoint http://127.0.0.1:9000 --mix multipart --size 1G --part-size 64M
            """
    )

    @Option(
        name: .long,
        help: ArgumentHelp(
            "Calls and how often: put, get, head, list, multipart; get=90,put=10. Repeated: one after the other "
                + "(default: each by itself).",
            valueName: "mix"
        )
    )
    var mix: [String] = []

    @Option(
        name: .long,
        help: ArgumentHelp("Bytes of one object; repeated: by chance (default: 4K).", valueName: "bytes")
    )
    var size: [ByteCount] = []

    @Option(name: .long, help: ArgumentHelp("Calls at a time.", valueName: "n"))
    var concurrency = 32

    @Option(name: .long, help: ArgumentHelp("How long each mix runs.", valueName: "seconds"))
    var seconds = 10

    @Option(name: .long, help: ArgumentHelp("End a mix after so many calls.", valueName: "n"))
    var count: Int?

    @Option(
        name: .long,
        help: ArgumentHelp("Objects to read and list (default: 1000, 1 GiB at most).", valueName: "n")
    )
    var objects: Int?

    @Option(name: .long, help: ArgumentHelp("Bytes of one part.", valueName: "bytes"))
    var partSize: ByteCount = ByteCount(16 << 20)

    @Option(
        name: .long,
        help: ArgumentHelp("A bucket that is there (default: a new one).", valueName: "name")
    )
    var bucket: String?

    @Flag(name: .long, help: "Compare every byte that is read, not only how many come.")
    var verify = false

    @OptionGroup(title: "Over the network") var remote: EndpointOptions
    @OptionGroup(title: "Everywhere") var options: GlobalOptions

    func validate() throws {
        guard (1...4096).contains(concurrency) else {
            throw ValidationError("--concurrency \(concurrency): give 1 to 4096.")
        }
        guard (1...86_400).contains(seconds) else {
            throw ValidationError("--seconds \(seconds): give 1 to 86400.")
        }
        for (name, number) in [("count", count), ("objects", objects)] {
            if let number, !(1...100_000_000).contains(number) {
                throw ValidationError("--\(name) \(number): give 1 or more.")
            }
        }
        guard (Limits.partSizeMin...Limits.partSizeMax).contains(partSize.value) else {
            throw ValidationError("--part-size \(partSize.value): S3 takes parts of 5M to 5G.")
        }
        for text in mix where OperationMix(text) == nil {
            throw ValidationError(
                "--mix \(text): give put, get, head, list or multipart, or shares as get=90,put=10."
            )
        }
    }

    func execute(_ output: Output) async throws {
        guard let target = try remote.target(unlessStore: options.store) else {
            throw CommandError(
                .usage,
                "There is no server to measure.",
                advice:
                    "Name it with --endpoint URL, or give one of the benchmarks that 'holdfast bench --help' lists."
            )
        }
        let transport = try target.transport(transferCount: concurrency * 4)
        defer { transport.shutdown() }
        let client = S3Client(
            S3ClientConfiguration(endpoint: target.endpoint),
            credentials: target.credentials,
            transport: transport
        )
        let figures = try await RemoteErrors.translate { try await measure(client, output) }
        let report = ServerBenchReport(
            endpoint: target.endpoint.description,
            concurrency: concurrency,
            sizes: sizes.map(\.value),
            figures: figures
        )
        try output.result(report) { report.lines }
        let failed = figures.reduce(0) { $0 + $1.failed }
        if failed > 0 {
            throw CommandError(.partlyDone, "\(HumanFormat.count(failed, "call")) failed.")
        }
    }

    private var sizes: [ByteCount] { size.isEmpty ? [ByteCount(4096)] : size }

    private func isThere(_ bucket: String, _ client: S3Client) async throws -> Bool {
        do {
            _ = try await client.headBucket(bucket)
            return true
        } catch let error as S3ClientError where error.isNotFound {
            return false
        }
    }

    private func measure(_ client: S3Client, _ output: Output) async throws -> [ServerBenchFigure] {
        let number = UInt64.random(in: 1..<(1 << 24))
        let name = bucket ?? "holdfast-bench-\(number)"
        if bucket == nil {
            try await client.createBucket(name)
        } else if try await !isThere(name, client) {
            throw StoreError(.noSuchBucket, "There is no bucket \(quoted(name)).")
        }
        let largest = sizes.map(\.value).max() ?? 0
        var plan = ServerBenchmark.Plan(
            mix: OperationMix.standard[0],
            sizes: sizes.map(\.value),
            concurrency: concurrency,
            duration: .seconds(seconds),
            countMax: count,
            objectCount: objects ?? Int(max(1, min(1000, (1 << 30) / max(1, largest)))),
            partSize: partSize.value,
            verifies: verify,
            seed: number
        )
        let mixes = mix.isEmpty ? OperationMix.standard : mix.compactMap { OperationMix($0) }
        let prefix = "holdfast-bench-\(number)/"
        var figures: [ServerBenchFigure] = []
        var failure: (any Error)?
        do {
            if mixes.contains(where: \.reads) {
                output.remark("Storing \(HumanFormat.count(plan.objectCount, "object")).")
                try await ServerBenchmark(client: client, bucket: name, prefix: prefix, plan: plan).prepare()
            }
            for (index, mix) in mixes.enumerated() {
                plan.mix = mix
                output.remark("Measuring \(mix.description) for \(seconds) s.")
                // Each mix writes keys of its own; all read the same.
                let isReader = mix.reads
                let benchmark = ServerBenchmark(
                    client: client,
                    bucket: name,
                    prefix: isReader ? prefix : "\(prefix)\(index)/",
                    plan: plan
                )
                let (tallies, usage) = try await benchmark.run()
                figures += ServerBenchFigure.all(mix, tallies, usage)
            }
        } catch {
            failure = error
        }
        let benchmark = ServerBenchmark(client: client, bucket: name, prefix: prefix, plan: plan)
        // What was stored goes also when the measurement was interrupted.
        let cleaning = Task {
            try await benchmark.cleanUp()
            if bucket == nil { try await client.deleteBucket(name) }
        }
        output.remark("Removing what was stored.")
        if case .failure(let error) = await cleaning.result {
            output.warning("Not everything could be removed from bucket \(name), prefix \(prefix): \(error)")
        }
        if let failure { throw failure }
        return figures
    }
}

extension OperationMix {
    /// Each kind of call by itself.
    static var standard: [OperationMix] {
        ServerBenchmark.Operation.allCases.compactMap { OperationMix($0.rawValue) }
    }
}

/// What one kind of call in one mix came to.
struct ServerBenchFigure: Encodable, Sendable {
    let mix: String
    let operation: String
    let calls: UInt64
    let callsPerSecond: Double
    let bytesPerSecond: Double
    /// Milliseconds.
    let latency: LatencyReport
    let failed: Int
    let failures: [String: Int]
    /// The loader's, of the whole mix.
    let usage: UsageReport

    static func all(
        _ mix: OperationMix,
        _ tallies: [ServerBenchmark.Operation: ServerBenchmark.Tally],
        _ usage: ProcessUsage
    ) -> [ServerBenchFigure] {
        mix.shares.compactMap { share in
            guard let tally = tallies[share.operation] else { return nil }
            let seconds = max(usage.wallSeconds, 1e-9)
            return ServerBenchFigure(
                mix: mix.description,
                operation: share.operation.rawValue,
                calls: tally.latency.count,
                callsPerSecond: Double(tally.latency.count) / seconds,
                bytesPerSecond: Double(tally.bytes) / seconds,
                latency: LatencyReport(tally.latency),
                failed: tally.failures.values.reduce(0, +),
                failures: tally.failures,
                usage: UsageReport(usage)
            )
        }
    }
}

struct ServerBenchReport: Encodable, Sendable {
    let endpoint: String
    let concurrency: Int
    let sizes: [UInt64]
    let figures: [ServerBenchFigure]

    var lines: [String] {
        let rows = figures.map { figure in
            [
                figure.mix == figure.operation ? figure.operation : "\(figure.operation) of \(figure.mix)",
                "\(figure.calls)",
                "\(Int(figure.callsPerSecond.rounded()))/s",
                figure.bytesPerSecond > 0
                    ? "\(HumanFormat.oneDecimal(figure.bytesPerSecond / 1e6)) MB/s" : "",
                "\(HumanFormat.oneDecimal(figure.latency.p50)) ms",
                "\(HumanFormat.oneDecimal(figure.latency.p99)) ms",
                "\(HumanFormat.oneDecimal(figure.latency.maximum)) ms",
                "\(figure.failed)",
            ]
        }
        let header = ["calls", "made", "rate", "bytes", "p50", "p99", "slowest", "failed"]
        let kinds = figures.flatMap { figure in
            figure.failures.sorted { $0.key < $1.key }.map { "\(figure.operation): \($0.key) \($0.value)×" }
        }
        return HumanFormat.table(rows, header: header, alignedRight: [1, 2, 3, 4, 5, 6, 7]) + kinds + [
            "",
            "\(HumanFormat.visible(endpoint)), \(HumanFormat.count(concurrency, "call")) at a time, objects of "
                + sizes.map { HumanFormat.size($0) }.joined(separator: ", "),
        ]
    }
}
