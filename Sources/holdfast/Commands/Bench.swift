internal import ArgumentParser
internal import Foundation
internal import StoreModel

struct Bench: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Measure the store on this machine, next to what the machine can do.",
        discussion: """
            Each benchmark makes a store of its own in a new directory and removes it afterwards; nothing of \
            yours is touched. Every figure stands beside the limit that was measured in the same run: disks \
            and processors of shared machines change from minute to minute.

              holdfast bench all
              holdfast bench put --size 4096 --count 100000 --concurrency 32
              holdfast bench limits --directory /disk1 --json

            With --endpoint it drives any S3 server ('holdfast help bench server'):

              holdfast bench --endpoint http://127.0.0.1:9000 --mix get=90,put=10
            """,
        subcommands: [
            BenchLimits.self, BenchPut.self, BenchGet.self, BenchList.self, BenchOpen.self,
            BenchRebuild.self, BenchGarbage.self, BenchMemory.self, BenchServer.self, BenchAll.self,
        ],
        defaultSubcommand: BenchServer.self
    )
}

/// Where a benchmark works.
struct BenchOptions: ParsableArguments {
    @Option(
        name: .long,
        help: ArgumentHelp("Where to make the temporary directory (default: here).", valueName: "dir"),
        completion: .directory
    )
    var directory = "."
}

/// How much a benchmark does.
struct LoadOptions: ParsableArguments {
    @Option(
        name: .long,
        help: ArgumentHelp("Bytes of one object; K, M and G are 1024-based.", valueName: "bytes")
    )
    var size: ByteCount = ByteCount(4096)

    @Option(name: .long, help: ArgumentHelp("Objects.", valueName: "n"))
    var count = 10_000

    @Option(name: .long, help: ArgumentHelp("Calls at a time.", valueName: "n"))
    var concurrency = 32

    func validate() throws {
        guard (1...100_000_000).contains(count) else {
            throw ValidationError("--count \(count): give 1 or more.")
        }
        guard (1...4096).contains(concurrency) else {
            throw ValidationError("--concurrency \(concurrency): give 1 to 4096.")
        }
    }
}

/// "4096", "4K", "64M", "1G".
struct ByteCount: ExpressibleByArgument, Sendable {
    let value: UInt64

    init(_ value: UInt64) { self.value = value }

    init?(argument: String) {
        var digits = argument[...]
        var shift: UInt64 = 0
        if let unit = ["K", "M", "G", "T"].firstIndex(of: digits.suffix(1).uppercased()) {
            shift = UInt64(unit + 1) * 10
            digits = digits.dropLast()
        }
        guard let number = UInt64(digits), number <= Limits.objectSizeMax >> shift else { return nil }
        value = number << shift
    }

    var defaultValueDescription: String { "\(value)" }
}

/// A command that measures in a store of its own.
protocol BenchCommand: StoreCommand {
    var place: BenchOptions { get }
    func measure(_ benchmarks: inout EngineBenchmarks, _ output: Output) async throws -> [BenchFigure]
}

extension BenchCommand {
    func execute(_ output: Output) async throws {
        let figures = try await BenchStore.with(in: place.directory) { bench in
            var benchmarks = EngineBenchmarks(bench)
            return try await measure(&benchmarks, output)
        }
        try BenchPrinting.print(figures, place, output)
    }
}

enum BenchPrinting {
    static func print(_ figures: [BenchFigure], _ place: BenchOptions, _ output: Output) throws {
        let report = BenchReport(
            directory: place.directory,
            coreCount: max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN))),
            figures: figures
        )
        try output.result(report) { report.lines }
    }
}
