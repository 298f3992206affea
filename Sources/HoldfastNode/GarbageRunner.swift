package import AdminGateway
internal import BlobVolume
internal import Catalog
internal import Logging
internal import ObjectService
internal import Observability
package import Replication
internal import S3Gateway
internal import S3Protocol
internal import ServiceLifecycle
internal import StoreModel
internal import Synchronization

/// Garbage collection of one store: on demand and on schedule, its state kept in the catalog.
///
/// Document `gc/hold` (space setting): garbage collection is on hold, and why. Its body: format 1 (1 byte), then the
/// reason as text. It is there from a rebuild of the catalog until `verify` or an audit of the redundancy found everything.
/// Before it is committed, the note of the rebuild in the store's directory stands for it (StoreDirectory.swift).
/// Document `gc/last` (space job): format 1 (1 byte), outcome (1: 0 running, 1 done, 2 failed, 3 interrupted), start (8),
/// end (8; 0 while it runs), bytes freed (8), records condemned (8), little-endian. A run that is "running" when the store
/// is opened was cut short.
package final class GarbageRunner: GarbageAdministration {
    private let replicator: Replicator
    private let logger: Logger
    private let clock: any StoreClock
    private let task = Mutex<Task<Void, Never>?>(nil)
    private let configured = Mutex(GarbageOptions())

    private static let holdKey = Array("gc/hold".utf8)
    private static let lastKey = Array("gc/last".utf8)

    init(_ replicator: Replicator, logger: Logger, clock: any StoreClock = SystemClock()) {
        self.replicator = replicator
        self.logger = logger
        self.clock = clock
    }

    /// What a run does unless it is told otherwise.
    package var options: GarbageOptions {
        get { configured.withLock { $0 } }
        set { configured.withLock { $0 = newValue } }
    }

    // MARK: Runs

    /// Runs to the end.
    package func run(_ options: GarbageOptions) async throws -> GarbageReport {
        if options.isDryRun { return try await replicator.collectGarbage(options) }
        let startedAt = clock.now()
        try await note(outcome: .running, startedAt, nil)
        do {
            let report = try await replicator.collectGarbage(options)
            try await note(outcome: .done, startedAt, report)
            return report
        } catch {
            // Where this can't be written any more, the next opening reads "running" and knows as much.
            try? await note(outcome: .failed, startedAt, replicator.garbage.last)
            throw error
        }
    }

    package func startGarbageCollection(_ request: GarbageRequest) async throws -> GarbageDocument {
        var options = options
        options.isDryRun = request.isDryRun
        options.workShare = 1
        if let seconds = request.graceSeconds { options.grace = .seconds(seconds) }
        if let hold = replicator.garbage.hold, !request.isDryRun {
            throw StoreError(
                .conflict,
                "Garbage collection is on hold: \(hold)",
                advice: GarbageCollector.holdAdvice
            )
        }
        guard replicator.garbage.current == nil else {
            throw StoreError(.conflict, "A run of garbage collection is under way.")
        }
        let chosen = options
        let started = Task { [self] in
            do {
                _ = try await run(chosen)
            } catch {
                logger.warning("Garbage collection failed.", metadata: ["error": "\(error)"])
            }
        }
        task.withLock { $0 = started }
        // Until it shows, within bounds.
        for _ in 0..<200 where replicator.garbage.current == nil && !started.isCancelled {
            try await clock.sleep(for: .milliseconds(5))
            if let last = replicator.garbage.last, last.startedAt >= clock.now() { break }
        }
        return try await garbageStatus()
    }

    func cancel() { task.withLock { $0?.cancel() } }

    private func note(
        outcome: GarbageReport.Outcome,
        _ startedAt: Timestamp,
        _ report: GarbageReport?
    ) async throws {
        var writer = ByteWriter(capacity: 34)
        writer.write(UInt8(1))
        let codes: [GarbageReport.Outcome] = [.running, .done, .failed, .interrupted]
        writer.write(UInt8(codes.firstIndex(of: outcome) ?? 0))
        writer.write(UInt64(bitPattern: startedAt.milliseconds))
        writer.write(UInt64(bitPattern: report?.endedAt?.milliseconds ?? 0))
        writer.write(report?.freedBytes ?? 0)
        writer.write(UInt64(report?.volumes.reduce(0) { $0 + $1.buriedCount } ?? 0))
        try await put(.job, Self.lastKey, writer.bytes)
    }

    private func put(_ space: DocumentSpace, _ key: [UInt8], _ body: [UInt8]?) async throws {
        try await put([DocumentWrite(space: space, key: key, body: body)])
    }

    private func put(_ documents: [DocumentWrite]) async throws {
        _ = try await replicator.commit(
            .documents(documents),
            operation: OperationID.random(from: SystemRandom()),
            chunks: []
        )
    }

    /// The last run as it is written down: of this process or of an earlier one.
    private func noted() async throws -> GarbageDocument.Run? {
        let row = try await replicator.readCatalog { try $0.document(.job, Self.lastKey) }
        guard let row else { return nil }
        do {
            var reader = ByteReader(row.body)
            guard try reader.read(UInt8.self) == 1 else { return nil }
            let codes = ["interrupted", "done", "failed", "interrupted"]
            let code = Int(try reader.read(UInt8.self))
            let start = Timestamp(milliseconds: Int64(bitPattern: try reader.read(UInt64.self)))
            let end = Int64(bitPattern: try reader.read(UInt64.self))
            let freed = try reader.read(UInt64.self)
            return GarbageDocument.Run(
                outcome: code < codes.count ? codes[code] : "unknown",
                dryRun: false,
                phase: nil,
                startedAt: ISO8601.format(start),
                endedAt: end == 0 ? nil : ISO8601.format(Timestamp(milliseconds: end)),
                problem: nil,
                versions: 0,
                documents: 0,
                livePayloads: 0,
                passes: 0,
                freedBytes: freed,
                volumes: []
            )
        } catch {
            return nil
        }
    }

    // MARK: The hold

    /// Called when the store is open: reads the hold, or makes one when the catalog was built anew.
    func begin(didRebuildCatalog: Bool) async throws {
        let (row, hasVersions) = try await replicator.readCatalog { reader in
            (
                try reader.document(.setting, Self.holdKey),
                !(try reader.versions(afterSequence: 0, limit: 1)).isEmpty
            )
        }
        // What an audit has found clean was in another catalog.
        let forgotten = DocumentWrite(space: .job, key: Scrubs.cleanPartKey, body: nil)
        if let row {
            replicator.garbage.hold = String(decoding: row.body.dropFirst(), as: UTF8.self)
            if didRebuildCatalog { try await put([forgotten]) }
            return
        }
        guard didRebuildCatalog, hasVersions else { return }
        let reason =
            "The catalog was built anew on \(ISO8601.format(clock.now())), and not everything was verified since."
        // Here first: when it can't be written, this process collects nothing all the same.
        replicator.garbage.hold = reason
        let hold = DocumentWrite(space: .setting, key: Self.holdKey, body: [1] + Array(reason.utf8))
        try await put([hold, forgotten])
    }

    /// Everything was verified and is there.
    package func endHold() async throws {
        guard replicator.garbage.hold != nil else { return }
        try await put(.setting, Self.holdKey, nil)
        replicator.garbage.hold = nil
    }

    // MARK: What is told

    package func garbageStatus() async throws -> GarbageDocument {
        let garbage = replicator.garbage
        let current = garbage.current
        let report = current ?? garbage.last
        var run = report.map(Self.document)
        if run == nil { run = try await noted() }
        return GarbageDocument(isRunning: current != nil, hold: garbage.hold, run: run)
    }

    package func volumeUsage() async throws -> VolumeUsageListDocument {
        var volumes: [VolumeUsageDocument] = []
        for (label, result) in await replicator.volumeUsage() {
            let (usage, problem): (VolumeUsage, String?) =
                switch result {
                case .success(let usage): (usage, nil)
                case .failure(let error): (VolumeUsage(), error.description)
                }
            volumes.append(
                VolumeUsageDocument(
                    path: label,
                    liveBytes: usage.liveBytes,
                    reclaimableBytes: usage.reclaimableBytes,
                    quarantineBytes: usage.quarantineBytes,
                    logBytes: usage.logBytes,
                    freeBytes: usage.freeBytes,
                    totalBytes: usage.totalBytes,
                    liveRecords: usage.liveRecordCount,
                    segments: usage.segmentCount,
                    problem: problem
                )
            )
        }
        return VolumeUsageListDocument(volumes: volumes)
    }

    private static func document(_ report: GarbageReport) -> GarbageDocument.Run {
        GarbageDocument.Run(
            outcome: report.outcome.rawValue,
            dryRun: report.isDryRun,
            phase: report.phase.isEmpty ? nil : report.phase,
            startedAt: ISO8601.format(report.startedAt),
            endedAt: report.endedAt.map { ISO8601.format($0) },
            problem: report.problem,
            versions: report.versionCount,
            documents: report.documentCount,
            livePayloads: report.liveCount,
            passes: report.passCount,
            freedBytes: report.freedBytes,
            volumes: report.volumes.map { volume in
                GarbageDocument.Volume(
                    path: volume.label,
                    unreferencedRecords: volume.deadCount,
                    unreferencedBytes: volume.deadBytes,
                    youngRecords: volume.youngCount,
                    youngBytes: volume.youngBytes,
                    pinnedRecords: volume.savedCount,
                    condemnedRecords: volume.buriedCount,
                    condemnedBytes: volume.buriedBytes,
                    surplusRecords: volume.surplusCount,
                    surplusBytes: volume.surplusBytes,
                    strayRecords: volume.strayCount,
                    strayBytes: volume.strayBytes,
                    punchedBytes: volume.reclaimed.punchedBytes,
                    removedSegments: volume.reclaimed.removedSegmentCount,
                    removedBytes: volume.reclaimed.removedFileBytes,
                    movedBytes: volume.reclaimed.movedBytes,
                    skippedSegments: volume.reclaimed.skippedSegmentCount,
                    quarantineDropped: volume.quarantineDropped.count,
                    problem: volume.problem
                )
            }
        )
    }
}

/// Runs garbage collection again and again beside the servers.
struct GarbageService: Service {
    /// When and how: the section `gc` of the configuration.
    let schedule: GarbageSchedule
    let runner: GarbageRunner
    let logger: Logger

    func run() async throws {
        guard let interval = schedule.interval else { return try await gracefulShutdown() }
        var options = runner.options
        options.workShare = schedule.workShare
        let chosen = options
        await cancelWhenGracefulShutdown {
            let clock = SystemClock()
            while !Task.isCancelled {
                do { try await clock.sleep(for: interval) } catch { return }
                do {
                    _ = try await runner.run(chosen)
                } catch let error as StoreError where error.code == .conflict {
                    logger.notice(
                        "Garbage collection was left out.",
                        metadata: ["reason": "\(error.message)"]
                    )
                } catch {
                    logger.warning(
                        "Garbage collection failed; the next run tries again.",
                        metadata: ["error": "\(error)"]
                    )
                }
            }
        }
    }
}

/// When garbage is collected beside the servers, and what it may take.
package struct GarbageSchedule: Sendable {
    /// From the end of a run to the next; nil: only on demand.
    package var interval: Duration? = .seconds(6 * 3600)
    package var workShare = 0.25
    package var options = GarbageOptions()

    package init() {}
}

extension GarbageRunner {
    func samples() -> [MetricSample] {
        let totals = replicator.garbage.totals
        let counters: [(String, String, UInt64)] = [
            ("holdfast_gc_runs_total", "Runs of garbage collection that ended.", totals.runs),
            (
                "holdfast_gc_failures_total", "Runs of garbage collection that failed or were cut short.",
                totals.failures
            ),
            (
                "holdfast_gc_condemned_records_total",
                "Payload records that were condemned, over all volumes.", totals.buriedRecords
            ),
            ("holdfast_gc_condemned_bytes_total", "Bytes of those records.", totals.buriedBytes),
            (
                "holdfast_gc_surplus_records_total",
                "Surplus copies that were taken away: their chunks belong on other volumes and are good there.",
                totals.surplusRecords
            ),
            ("holdfast_gc_surplus_bytes_total", "Bytes of those records.", totals.surplusBytes),
            ("holdfast_gc_punched_bytes_total", "Bytes given back as holes.", totals.punchedBytes),
            (
                "holdfast_gc_removed_bytes_total", "Bytes of segments that were removed.",
                totals.removedFileBytes
            ),
            (
                "holdfast_gc_moved_bytes_total", "Live bytes that were copied by compaction.",
                totals.movedBytes
            ),
            (
                "holdfast_quarantine_dropped_total", "Damaged originals dropped from full quarantines.",
                totals.quarantineDropped
            ),
        ]
        var samples = counters.map { name, help, value in
            MetricSample(name, help: help, kind: .counter, value: Double(value))
        }
        samples.append(
            MetricSample(
                "holdfast_gc_running",
                help: "Whether a run of garbage collection is under way.",
                value: replicator.garbage.current == nil ? 0 : 1
            )
        )
        samples.append(
            MetricSample(
                "holdfast_gc_on_hold",
                help: "Whether garbage collection waits for everything to be verified.",
                value: replicator.garbage.hold == nil ? 0 : 1
            )
        )
        return samples
    }
}
