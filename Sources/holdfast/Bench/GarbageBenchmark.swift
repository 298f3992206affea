internal import Catalog
internal import ObjectService
internal import Replication
internal import StoreModel

extension EngineBenchmarks {
    /// One run over so many dead chunks in each volume, and a hundredth as many that are alive.
    mutating func collecting(chunkCount: Int) async throws -> BenchFigure {
        let prefix = "gc/"
        try await fill(size: 64, count: max(1, chunkCount / 100), prefix: "gc-kept/")
        try await fill(size: 64, count: chunkCount, prefix: prefix)
        try await removeAll(prefix)
        var options = GarbageOptions()
        options.grace = .zero
        try await bench.settle()
        let (report, usage) = try await bench.collectGarbage(options)
        // Snapshots of the catalog and the like may be among them.
        let buried = report.volumes.map(\.buriedCount).min() ?? 0
        guard buried >= chunkCount else {
            throw StoreError(.internalFault, "\(buried) of \(chunkCount) dead chunks were collected.")
        }
        var figure = BenchFigure(
            name: "collect \(chunkCount) dead chunks on each of \(report.volumes.count) volumes",
            unit: .seconds,
            value: usage.wallSeconds,
            target: .valueAtMost(30 * max(1, Double(chunkCount) / 1e6))
        )
        figure.usage = UsageReport(usage)
        figure.operations = buried
        figure.details = [
            "freedBytes": Double(report.freedBytes), "walks": Double(report.passCount),
            "liveChunks": Double(report.liveCount),
        ]
        return figure
    }

    /// Removes every version under a prefix for good.
    private func removeAll(_ prefix: String) async throws {
        let (objects, bucket) = (bench.objects, bench.bucket)
        var marker: VersionListMarker?
        repeat {
            let page = try await objects.listVersions(
                bucket: bucket,
                prefix: [UInt8](prefix.utf8),
                startAfter: marker
            )
            let targets = page.versions.map { DeleteTarget(key: $0.row.key, selector: .id($0.row.id)) }
            for result in try await objects.deleteMany(targets, in: bucket) { _ = try result.get() }
            marker = page.next
        } while marker != nil
    }
}
