internal import ArgumentParser
internal import Foundation
internal import StoreModel

struct BenchLimits: StoreCommand {
    static let configuration = CommandConfiguration(
        commandName: "limits",
        abstract: "What disk and processor can do, by raw calls, without the store."
    )

    @Option(name: .long, help: ArgumentHelp("Bytes of each sequential copy.", valueName: "bytes"))
    var size: ByteCount = ByteCount(1 << 30)

    @OptionGroup var place: BenchOptions
    @OptionGroup(title: "Everywhere") var options: GlobalOptions

    func execute(_ output: Output) async throws {
        let figures = try await BenchStore.directory(in: place.directory) { path in
            try await Blocking.run {
                try EngineBenchmarks.limits(
                    directories: [String](repeating: path, count: QuorumConfiguration.standard.replicaCount),
                    byteCount: Int(clamping: max(1, size.value))
                )
            }
        }
        try BenchPrinting.print(figures, place, output)
    }
}

struct BenchPut: BenchCommand {
    static let configuration = CommandConfiguration(
        commandName: "put",
        abstract: "Put new objects.",
        discussion: """
            The limit of small objects is the group commit's floor with the same batch sizes: as many bytes \
            appended to three zeroed logs with one parallel fdatasync round. The limit of large ones is what \
            the disk can write three times, or what the processor can hash.
            """
    )

    @OptionGroup var load: LoadOptions
    @OptionGroup var place: BenchOptions
    @OptionGroup(title: "Everywhere") var options: GlobalOptions

    func measure(_ benchmarks: inout EngineBenchmarks, _ output: Output) async throws -> [BenchFigure] {
        [try await benchmarks.puts(size: load.size.value, count: load.count, concurrency: load.concurrency)]
    }
}

struct BenchGet: BenchCommand {
    static let configuration = CommandConfiguration(
        commandName: "get",
        abstract: "Read objects back, every byte verified.",
        discussion: "Stores --objects objects first and then reads --count times."
    )

    @OptionGroup var load: LoadOptions

    @Option(
        name: .long,
        help: ArgumentHelp("Objects to read from (default: --count, 1000 at most).", valueName: "n")
    )
    var objects: Int?

    @OptionGroup var place: BenchOptions
    @OptionGroup(title: "Everywhere") var options: GlobalOptions

    func measure(_ benchmarks: inout EngineBenchmarks, _ output: Output) async throws -> [BenchFigure] {
        let objectCount = max(1, objects ?? min(load.count, 1000))
        try await benchmarks.fill(size: load.size.value, count: objectCount, prefix: "get/", concurrency: 32)
        let figure = try await benchmarks.gets(
            prefix: "get/",
            size: load.size.value,
            objectCount: objectCount,
            count: load.count,
            concurrency: load.concurrency
        )
        return [figure]
    }
}

struct BenchList: BenchCommand {
    static let configuration = CommandConfiguration(
        commandName: "list",
        abstract: "List pages of 1000 keys that begin anywhere."
    )

    @Option(name: .long, help: ArgumentHelp("Keys to list from.", valueName: "n"))
    var keys = 1_000_000

    @Option(name: .long, help: ArgumentHelp("Pages to read.", valueName: "n"))
    var count = 500

    @OptionGroup var place: BenchOptions
    @OptionGroup(title: "Everywhere") var options: GlobalOptions

    func measure(_ benchmarks: inout EngineBenchmarks, _ output: Output) async throws -> [BenchFigure] {
        output.remark("Making \(keys) keys.")
        try await benchmarks.fill(size: 0, count: max(1, keys), prefix: "list/")
        return [try await benchmarks.listPages(prefix: "list/", keyCount: max(1, keys), count: max(1, count))]
    }
}

struct BenchRebuild: BenchCommand {
    static let configuration = CommandConfiguration(
        commandName: "rebuild",
        abstract: "Build the catalog's index anew from the replicas."
    )

    @Option(name: .long, help: ArgumentHelp("Versions in the store.", valueName: "n"))
    var versions = 100_000

    @OptionGroup var place: BenchOptions
    @OptionGroup(title: "Everywhere") var options: GlobalOptions

    func measure(_ benchmarks: inout EngineBenchmarks, _ output: Output) async throws -> [BenchFigure] {
        output.remark("Storing \(versions) objects.")
        try await benchmarks.fill(size: 64, count: max(1, versions), prefix: "rebuild/")
        return try await benchmarks.rebuilding(versionCount: max(1, versions))
    }
}

struct BenchOpen: BenchCommand {
    static let configuration = CommandConfiguration(
        commandName: "open",
        abstract: "Open a store that holds many records."
    )

    @Option(name: .long, help: ArgumentHelp("Records in each volume.", valueName: "n"))
    var records = 100_000

    @OptionGroup var place: BenchOptions
    @OptionGroup(title: "Everywhere") var options: GlobalOptions

    func measure(_ benchmarks: inout EngineBenchmarks, _ output: Output) async throws -> [BenchFigure] {
        output.remark("Storing \(records) objects.")
        try await benchmarks.fill(size: 64, count: max(1, records), prefix: "open/")
        return [try await benchmarks.opening()]
    }
}

struct BenchGarbage: BenchCommand {
    static let configuration = CommandConfiguration(
        commandName: "gc",
        abstract: "Collect dead chunks: mark, sweep, and the space given back.",
        discussion: """
            Stores --chunks small objects and a hundredth as many that stay, removes the former for good, and measures one             run of garbage collection over all three volumes.

              holdfast bench gc --chunks 1000000
            """
    )

    @Option(name: .long, help: ArgumentHelp("Dead chunks in each volume.", valueName: "n"))
    var chunks = 100_000

    @OptionGroup var place: BenchOptions
    @OptionGroup(title: "Everywhere") var options: GlobalOptions

    func measure(_ benchmarks: inout EngineBenchmarks, _ output: Output) async throws -> [BenchFigure] {
        output.remark("Storing and removing \(chunks) objects.")
        return [try await benchmarks.collecting(chunkCount: max(1, chunks))]
    }
}

struct BenchMemory: BenchCommand {
    static let configuration = CommandConfiguration(
        commandName: "memory",
        abstract: "Peak memory of puts and gets of large objects at the same time, with many records stored."
    )

    @Option(name: .long, help: ArgumentHelp("Records that are stored before.", valueName: "n"))
    var records = 100_000

    @Option(name: .long, help: ArgumentHelp("Bytes of one large object.", valueName: "bytes"))
    var size: ByteCount = ByteCount(256 << 20)

    @Option(name: .long, help: ArgumentHelp("Calls at a time.", valueName: "n"))
    var concurrency = 32

    @OptionGroup var place: BenchOptions
    @OptionGroup(title: "Everywhere") var options: GlobalOptions

    func measure(_ benchmarks: inout EngineBenchmarks, _ output: Output) async throws -> [BenchFigure] {
        output.remark("Storing \(records) objects.")
        try await benchmarks.fill(size: 4096, count: max(1, records), prefix: "records/", concurrency: 32)
        let concurrency = max(1, min(concurrency, 4096))
        let figure = try await benchmarks.mixedMemory(
            objectSize: max(1, size.value),
            count: concurrency,
            concurrency: concurrency
        )
        return [figure]
    }
}

struct BenchAll: BenchCommand {
    static let configuration = CommandConfiguration(
        commandName: "all",
        abstract: "Everything: limits, puts, gets, listing, opening, memory.",
        discussion: """
            Takes a few minutes and about 30 GiB on the disk. --scale 0.01 looks whether it works; its \
            figures say little.
            """
    )

    @Option(name: .long, help: ArgumentHelp("How much is done, as a share of the whole.", valueName: "share"))
    var scale = 1.0

    @OptionGroup var place: BenchOptions
    @OptionGroup(title: "Everywhere") var options: GlobalOptions

    func validate() throws {
        guard scale > 0, scale <= 100 else {
            throw ValidationError("--scale \(scale): more than 0, at most 100.")
        }
    }

    func measure(_ benchmarks: inout EngineBenchmarks, _ output: Output) async throws -> [BenchFigure] {
        func scaled(_ count: Int, atLeast least: Int = 1) -> Int { max(least, Int(Double(count) * scale)) }
        let large = UInt64(scaled(1 << 30, atLeast: 1 << 20))
        let records = scaled(100_000)
        let keys = scaled(1_000_000)
        var figures: [BenchFigure] = []
        output.remark("Limits.")
        figures += try EngineBenchmarks.limits(
            directories: benchmarks.bench.volumeDirectories,
            byteCount: Int(clamping: large)
        )
        output.remark("Small objects.")
        figures.append(
            try await benchmarks.smallPuts(size: 4096, count: scaled(5000, atLeast: 10), concurrency: 1)
        )
        figures.append(try await benchmarks.smallPuts(size: 4096, count: records, concurrency: 32))
        try await benchmarks.fill(size: 4096, count: scaled(20_000), prefix: "small/", concurrency: 32)
        figures.append(
            try await benchmarks.gets(
                prefix: "small/",
                size: 4096,
                objectCount: scaled(20_000),
                count: scaled(100_000),
                concurrency: 32
            )
        )
        output.remark("Memory.")
        figures.append(try await benchmarks.mixedMemory(objectSize: large / 4, count: 32, concurrency: 32))
        output.remark("Large objects.")
        figures.append(try await benchmarks.largePuts(size: large, count: 3, concurrency: 1))
        try await benchmarks.fill(size: large, count: 1, prefix: "large/", concurrency: 1)
        figures.append(
            try await benchmarks.gets(prefix: "large/", size: large, objectCount: 1, count: 3, concurrency: 1)
        )
        output.remark("Opening.")
        figures.append(try await benchmarks.opening())
        output.remark("Listing: making \(keys) keys.")
        try await benchmarks.fill(size: 0, count: keys, prefix: "list/")
        figures.append(
            try await benchmarks.listPages(prefix: "list/", keyCount: keys, count: scaled(500, atLeast: 3))
        )
        return figures
    }
}
