internal import BlobVolume
internal import Catalog
internal import ContentHashing
internal import HoldfastNode
internal import ObjectService
internal import StoreModel

/// The engine's benchmarks, each with the limits that belong to it.
struct EngineBenchmarks {
    let bench: BenchStore
    /// Bytes and keys of one run differ from those of the next on the same store.
    private var nextSalt: UInt64 = 1

    init(_ bench: BenchStore) { self.bench = bench }

    // MARK: Puts

    /// Puts new objects and measures the group commit's floor with the batch sizes that were seen.
    /// - Parameter measuresFloor: false for objects that don't ride in the group commit.
    mutating func smallPuts(size: Int, count: Int, concurrency: Int) async throws -> BenchFigure {
        let before = bench.batches.count
        let load = try await put(size: UInt64(size), count: count, concurrency: concurrency)
        let (sizes, total) = bench.batches
        let batchCount = max(1, total - before)
        let floor = try LimitsBenchmark.groupCommitFloor(
            directories: bench.volumeDirectories,
            batchByteCounts: Array(Self.newest(sizes, batchCount, total).prefix(Self.floorRoundCountMax))
        )
        let perBatch = Double(count) / Double(batchCount)
        var figure = BenchFigure(
            name: "put \(HumanFormat.size(UInt64(size))), \(concurrency) at a time",
            unit: .operationsPerSecond,
            value: load.operationsPerSecond,
            limitName: "group-commit floor, same batch sizes",
            limit: floor.roundsPerSecond * perBatch,
            target: .shareAtLeast(0.7)
        )
        if concurrency == 1 {
            figure.unit = .milliseconds
            figure.value = load.latency.mean / 1e6
            figure.limitName = "one parallel fdatasync round"
            figure.limit = floor.latency.mean / 1e6
            figure.target = .shareAtMost(3)
        }
        figure.take(load)
        figure.details = [
            "batches": Double(batchCount), "putsPerBatch": perBatch,
            "floorRoundsPerSecond": floor.roundsPerSecond,
            "floorRoundMilliseconds": floor.latency.mean / 1e6, "putsPerSecond": load.operationsPerSecond,
        ]
        return figure
    }

    private static let floorRoundCountMax = 4096

    /// The sizes of the last batches; `recent` is a ring that may have turned.
    private static func newest(_ recent: [Int], _ count: Int, _ total: Int) -> [Int] {
        guard count < recent.count else { return recent }
        let end = total % recent.count
        // A ring that has not turned ends at its end.
        let inOrder = total <= recent.count ? recent : Array(recent[end...] + recent[..<end])
        return Array(inOrder.suffix(count))
    }

    /// Puts large objects; the limit is what disk and processor can do, whichever is less.
    mutating func largePuts(size: UInt64, count: Int, concurrency: Int) async throws -> BenchFigure {
        let disk = try LimitsBenchmark.sequentialWrite(
            directories: bench.volumeDirectories,
            byteCount: Int(clamping: min(size * UInt64(count), 1 << 30))
        )
        let processor = try Self.processorLimits()
        let load = try await put(size: size, count: count, concurrency: concurrency)
        let isDisk = disk.bytesPerSecond < processor.upload
        var figure = BenchFigure(
            name: "put \(HumanFormat.size(size))" + (concurrency > 1 ? ", \(concurrency) at a time" : ""),
            unit: .bytesPerSecond,
            // The fastest counts where there is one at a time, as it does for the disk.
            value: concurrency == 1
                ? Double(size) / (Double(load.latency.minimum) / 1e9) : load.bytesPerSecond,
            limitName: isDisk
                ? "disk: three copies" : "processor: MD5, SHA-256 twice, cut points on all cores",
            limit: min(disk.bytesPerSecond, processor.upload),
            target: .shareAtLeast(0.8)
        )
        figure.take(load)
        figure.details = [
            "diskBytesPerSecond": disk.bytesPerSecond, "processorBytesPerSecond": processor.upload,
            "meanBytesPerSecond": load.bytesPerSecond,
        ]
        return figure
    }

    /// A size decides which limit a put has.
    mutating func puts(size: UInt64, count: Int, concurrency: Int) async throws -> BenchFigure {
        if size <= UInt64(Limits.logPayloadSizeMax) {
            return try await smallPuts(size: Int(size), count: count, concurrency: concurrency)
        }
        return try await largePuts(size: size, count: count, concurrency: concurrency)
    }

    /// Stores objects and says nothing of it.
    mutating func fill(size: UInt64, count: Int, prefix: String, concurrency: Int = 256) async throws {
        _ = try await put(size: size, count: count, concurrency: concurrency, prefix: prefix)
        try await bench.settle()
    }

    @discardableResult
    private mutating func put(
        size: UInt64,
        count: Int,
        concurrency: Int,
        prefix: String? = nil
    ) async throws -> LoadResult {
        let prefix = prefix ?? "put-\(nextSalt)/"
        let content = BenchContent(salt: nextSalt << 48)
        nextSalt += 1
        let (objects, bucket) = (bench.objects, bench.bucket)
        return try await BenchLoad.run(count: count, concurrency: concurrency) { index in
            let request = PutRequest(bucket: bucket, key: try Self.key(prefix, index))
            _ = try await objects.put(request, body: BenchSource(content, object: index, size: size))
            return size
        }
    }

    /// Keys sort as their numbers do.
    static func key(_ prefix: String, _ index: Int) throws -> ObjectKey {
        let digits = String(index)
        return try ObjectKey(prefix + String(repeating: "0", count: max(0, 9 - digits.utf8.count)) + digits)
    }

    // MARK: Gets

    /// Reads objects that `fill` stored under this prefix, whole.
    func gets(prefix: String, size: UInt64, objectCount: Int, count: Int, concurrency: Int) async throws
        -> BenchFigure
    {
        let (objects, bucket) = (bench.objects, bench.bucket)
        let isSmall = size <= UInt64(Limits.logPayloadSizeMax)
        let processor = try Self.processorLimits()
        let load = try await BenchLoad.run(count: count, concurrency: concurrency) { index in
            // A stride that shares no divisor with most counts: neighbours in time are not neighbours on disk.
            let key = try Self.key(prefix, index &* 7919 % objectCount)
            return try await Self.read(key, bucket, objects)
        }
        var figure = BenchFigure(
            name: "get \(HumanFormat.size(size)), verified, \(concurrency) at a time",
            unit: isSmall ? .operationsPerSecond : .bytesPerSecond,
            value: isSmall ? load.operationsPerSecond : load.bytesPerSecond
        )
        if !isSmall {
            figure.limitName = "one core's XXH3 after one copy"
            figure.limit = 1 / (1 / processor.xxh3 + 1 / processor.memoryCopy)
            figure.target = .valueAtLeast(1.5e9)
        }
        figure.take(load)
        return figure
    }

    static func read(_ key: ObjectKey, _ bucket: BucketName, _ objects: ObjectStore) async throws -> UInt64 {
        let reader = try await objects.get(VersionAddress(bucket: bucket, key: key))
        while try await reader.next() != nil {}
        return reader.deliveredCount
    }

    // MARK: Listings, opening, memory

    /// Reads pages of a listing that begin anywhere among `keyCount` keys under `prefix`.
    func listPages(prefix: String, keyCount: Int, count: Int) async throws -> BenchFigure {
        let (objects, bucket) = (bench.objects, bench.bucket)
        let pageSize = Limits.listPageSizeMax
        let load = try await BenchLoad.run(count: count, concurrency: 1) { index in
            let start = index &* 7919 &* pageSize % max(1, keyCount - pageSize)
            let request = ListRequest(
                bucket: bucket,
                prefix: [UInt8](prefix.utf8),
                startAfter: try Self.key(prefix, start).bytes
            )
            let page = try await objects.list(request)
            precondition(
                page.objects.count == min(pageSize, max(0, keyCount - 1 - start)),
                "The page is whole."
            )
            return UInt64(page.objects.count)
        }
        var figure = BenchFigure(
            name: "page of \(pageSize) out of \(keyCount) keys, slowest of 100",
            unit: .milliseconds,
            value: Double(load.latency.p99) / 1e6,
            target: .valueAtMost(20)
        )
        figure.take(load)
        figure.bytes = nil
        return figure
    }

    /// Closes the store and opens it.
    func opening() async throws -> BenchFigure {
        ProcessUsage.resetPeak()
        let before = ProcessUsage.now()
        let (report, seconds) = try await bench.reopen()
        let volumes = report.volumes.compactMap(\.report)
        let records = volumes.map(\.recordCount).max() ?? 0
        var figure = BenchFigure(
            name: "open the store with \(records) records in each volume",
            unit: .seconds,
            value: seconds,
            target: .valueAtMost(2)
        )
        figure.usage = UsageReport(ProcessUsage.now().since(before))
        figure.details = [
            "records": Double(records), "slowestVolumeSeconds": volumes.map(\.seconds).max() ?? 0,
            "indexBytesOfAllVolumes": Double(bench.indexBytes),
        ]
        return figure
    }

    /// Throws the catalog's index away and builds it anew: from the commit log, and from a snapshot.
    func rebuilding(versionCount: Int) async throws -> [BenchFigure] {
        var figures = [try await rebuilding("the commit log", versionCount)]
        let start = ContinuousClock.now
        let before = ProcessUsage.now()
        try await bench.takeSnapshot()
        var snapshot = BenchFigure(
            name: "write a snapshot of \(versionCount) versions and read it back",
            unit: .seconds,
            value: Double((ContinuousClock.now - start).nanoseconds) / 1e9
        )
        snapshot.usage = UsageReport(ProcessUsage.now().since(before))
        figures.append(snapshot)
        figures.append(try await rebuilding("a snapshot", versionCount))
        return figures
    }

    private func rebuilding(_ source: String, _ versionCount: Int) async throws -> BenchFigure {
        try await bench.settle()
        ProcessUsage.resetPeak()
        let before = ProcessUsage.now()
        let (_, seconds) = try await bench.reopen(rebuildingCatalog: true)
        var figure = BenchFigure(
            name: "rebuild the catalog of \(versionCount) versions from \(source)",
            unit: .seconds,
            value: seconds,
            target: .valueAtMost(60)
        )
        figure.usage = UsageReport(ProcessUsage.now().since(before))
        return figure
    }

    /// Uploads and downloads of large objects at the same time: how much memory they take.
    mutating func mixedMemory(objectSize: UInt64, count: Int, concurrency: Int) async throws -> BenchFigure {
        let prefix = "memory-\(nextSalt)/"
        try await fill(size: objectSize, count: 4, prefix: prefix, concurrency: 2)
        let content = BenchContent(salt: nextSalt << 48)
        nextSalt += 1
        let (objects, bucket) = (bench.objects, bench.bucket)
        let load = try await BenchLoad.run(count: count, concurrency: concurrency) { index in
            if index.isMultiple(of: 2) {
                return try await Self.read(try Self.key(prefix, index / 2 % 4), bucket, objects)
            }
            let request = PutRequest(bucket: bucket, key: try Self.key(prefix + "new/", index))
            _ = try await objects.put(request, body: BenchSource(content, object: index, size: objectSize))
            return objectSize
        }
        var figure = BenchFigure(
            name: "peak memory, \(concurrency) puts and gets of \(HumanFormat.size(objectSize)) at a time",
            unit: .bytes,
            value: Double(load.usage.peakResidentBytes),
            target: .valueAtMost(150e6)
        )
        figure.take(load)
        return figure
    }

    // MARK: Limits

    static func processorLimits() throws(StoreError) -> ProcessorLimits {
        try LimitsBenchmark.processorLimits(seconds: 0.3, cutPoints: searchCutPoints)
    }

    private static func searchCutPoints(_ block: UnsafeRawBufferPointer) {
        var chunker = ContentChunker()
        var rest = block
        while let end = chunker.endOfChunk(in: rest) { rest = UnsafeRawBufferPointer(rebasing: rest[end...]) }
    }

    /// What the machine can do, without the engine.
    static func limits(directories: [String], byteCount: Int) throws(StoreError) -> [BenchFigure] {
        let one = try LimitsBenchmark.groupCommitFloor(
            directories: directories,
            batchByteCounts: [Int](repeating: 5 << 10, count: 1000)
        )
        let many = try LimitsBenchmark.groupCommitFloor(
            directories: directories,
            batchByteCounts: [Int](repeating: 32 * 5 << 10, count: 500)
        )
        let disk = try LimitsBenchmark.sequentialWrite(directories: directories, byteCount: byteCount)
        let processor = try processorLimits()
        func rate(_ name: String, _ value: Double) -> BenchFigure {
            BenchFigure(name: name, unit: .bytesPerSecond, value: value)
        }
        func rounds(_ name: String, _ floor: LimitsBenchmark.FloorResult) -> BenchFigure {
            var figure = BenchFigure(name: name, unit: .operationsPerSecond, value: floor.roundsPerSecond)
            figure.latency = LatencyReport(floor.latency)
            figure.usage = UsageReport(floor.usage)
            return figure
        }
        var sequential = rate(
            "three copies of \(HumanFormat.size(UInt64(byteCount))), one fdatasync each",
            disk.bytesPerSecond
        )
        sequential.usage = UsageReport(disk.usage)
        return [
            rounds("rounds of three parallel 5 KiB fdatasyncs", one),
            rounds("rounds of three parallel 160 KiB fdatasyncs", many),
            sequential,
            rate("MD5, one core", processor.md5), rate("SHA-256, one core", processor.sha256),
            rate("XXH3, one core", processor.xxh3), rate("cut points, one core", processor.cutPoints),
            rate("memory copy, one core", processor.memoryCopy),
            rate("an upload's hashing, all cores", processor.upload),
        ]
    }
}

extension BenchFigure {
    fileprivate mutating func take(_ load: LoadResult) {
        operations = load.operations
        bytes = load.bytes
        latency = LatencyReport(load.latency)
        usage = UsageReport(load.usage)
    }
}
