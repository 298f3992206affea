internal import Catalog
package import Logging
package import ObjectService
package import Observability
internal import S3Protocol
internal import ServiceLifecycle
package import StoreModel
internal import Synchronization

/// Applies the lifecycle rules of all buckets, over and over, in the background.
///
/// 1. It deletes as a client would, with the same checks: what is locked stays, and what was overwritten since it was
///    looked at stays.
/// 2. It does so many actions a second and no more, so that clients keep the store.
/// 3. What it did last and what it does now can be seen (`state`, and in the metrics). Nothing of that has to survive
///    a restart: the next pass finds what is left to do.
package final class LifecycleWorker: Service {
    package struct Configuration: Sendable {
        /// What rules call a day; shorter in tests only.
        package var dayLength = Duration.seconds(86_400)
        /// From the end of a pass to the next.
        package var pause = Duration.seconds(3600)
        package var actionsPerSecondMax = 500

        package init() {}

        /// Days of another length; passes come no rarer than they pass.
        package init(dayLength: Duration) {
            self.dayLength = max(dayLength, .milliseconds(1))
            pause = min(pause, self.dayLength)
        }
    }

    /// What the worker has done since it was started.
    package struct State: Sendable {
        package var isRunning = false
        package var passCount: UInt64 = 0
        package var lastPassStartedAt: Timestamp?
        package var lastPassEndedAt: Timestamp?
        /// The bucket that is being looked at.
        package var bucket: BucketName?
        package var examinedCount: UInt64 = 0
        package var expiredCount: UInt64 = 0
        package var noncurrentCount: UInt64 = 0
        package var markerCount: UInt64 = 0
        package var uploadCount: UInt64 = 0
        /// Actions that were refused or did not succeed: the next pass tries again.
        package var failureCount: UInt64 = 0
        package var lastFailure: String?
    }

    private let objects: ObjectStore
    private let configuration: Configuration
    private let clock: any StoreClock
    private let logger: Logger
    private let current = Mutex(State())

    package init(
        _ objects: ObjectStore,
        configuration: Configuration = Configuration(),
        clock: any StoreClock = SystemClock(),
        logger: Logger
    ) {
        self.objects = objects
        self.configuration = configuration
        self.clock = clock
        self.logger = logger
    }

    package var state: State { current.withLock { $0 } }

    package func run() async throws {
        await cancelWhenGracefulShutdown { await self.repeatPasses() }
    }

    private func repeatPasses() async {
        while !Task.isCancelled {
            await pass()
            do { try await clock.sleep(for: configuration.pause) } catch { return }
        }
    }

    /// Looks at every bucket once.
    package func pass() async {
        current.withLock { state in
            state.isRunning = true
            state.lastPassStartedAt = clock.now()
        }
        do {
            for bucket in try await objects.buckets() {
                try Task.checkCancellation()
                do {
                    try await apply(in: bucket.name)
                } catch let error as StoreError where error.code != .cancelled {
                    note(error, bucket.name)
                } catch let error as S3Error {
                    note(error, bucket.name)
                }
            }
        } catch {
            if !(error is CancellationError) { note(error, nil) }
        }
        current.withLock { state in
            state.isRunning = false
            state.bucket = nil
            state.passCount += 1
            state.lastPassEndedAt = clock.now()
        }
    }

    private func note(_ error: any Error, _ bucket: BucketName?) {
        current.withLock { state in
            state.failureCount += 1
            state.lastFailure = "\(bucket.map { "\($0): " } ?? "")\(error)"
        }
        logger.warning(
            "The lifecycle of a bucket could not be applied.",
            metadata: ["bucket": "\(bucket?.description ?? "")", "error": "\(error)"]
        )
    }

    // MARK: One bucket

    private func apply(in name: BucketName) async throws {
        let body = try await objects.bucketSetting(bucket: name, name: BucketSettingName.lifecycle)
        guard let body, !body.isEmpty else { return }
        current.withLock { $0.bucket = name }
        let rules = try LifecycleConfiguration(body: body)
        let evaluation = LifecycleEvaluation(rules, now: clock.now(), dayLength: configuration.dayLength)
        try await applyToVersions(in: name, evaluation)
        if rules.rules.contains(where: { $0.isEnabled && $0.abortUploadsAfterDays != nil }) {
            try await applyToUploads(in: name, evaluation)
        }
    }

    private func applyToVersions(in name: BucketName, _ evaluation: LifecycleEvaluation) async throws {
        var history = LifecycleHistory()
        var due = DueVersions()
        var marker: VersionListMarker?
        repeat {
            try Task.checkCancellation()
            let page = try await objects.listVersions(bucket: name, startAfter: marker)
            current.withLock { $0.examinedCount += UInt64(page.versions.count) }
            for version in page.versions {
                if let known = history.push(version) { due.add(known, evaluation, at: clock.now()) }
            }
            marker = page.next
            if marker == nil, let known = history.finish() { due.add(known, evaluation, at: clock.now()) }
            while let batch = due.next(atMost: configuration.actionsPerSecondMax) {
                try await remove(batch, in: name)
            }
        } while marker != nil
    }

    private func remove(_ batch: [DueVersions.Entry], in name: BucketName) async throws {
        let start = clock.monotonicNanoseconds()
        let results = try await objects.deleteMany(batch.map(\.target), in: name)
        current.withLock { state in
            for (entry, result) in zip(batch, results) {
                switch result {
                case .success: state.count(entry.action)
                // Someone else was faster, or wrote the key anew.
                case .failure(let error) where Self.isOvertaken(error): break
                case .failure(let error):
                    state.failureCount += 1
                    state.lastFailure = "\(name): \(error)"
                }
            }
        }
        try await rest(after: batch.count, since: start)
    }

    private static func isOvertaken(_ error: StoreError) -> Bool {
        [.noSuchKey, .noSuchVersion, .preconditionFailed, .noSuchUpload].contains(error.code)
    }

    /// Waits until so many actions are within the budget.
    private func rest(after count: Int, since start: UInt64) async throws {
        let nanoseconds =
            UInt64(clamping: count) * 1_000_000_000 / UInt64(max(1, configuration.actionsPerSecondMax))
        let passed = clock.monotonicNanoseconds() &- start
        guard passed < nanoseconds else { return }
        try await clock.sleep(for: .nanoseconds(Int64(clamping: nanoseconds - passed)))
    }

    private func applyToUploads(in name: BucketName, _ evaluation: LifecycleEvaluation) async throws {
        var marker: UploadMarker?
        repeat {
            try Task.checkCancellation()
            let page = try await objects.listUploads(UploadListRequest(bucket: name, startAfter: marker))
            for upload in page.uploads {
                let key = ObjectKeyText(bytes: upload.key.bytes)
                guard evaluation.abortingRule(key: key, initiatedAt: upload.startedAt) != nil else {
                    continue
                }
                let start = clock.monotonicNanoseconds()
                do {
                    try await objects.abort(UploadAddress(bucket: name, key: upload.key, id: upload.id))
                    current.withLock { $0.uploadCount += 1 }
                } catch let error as StoreError where Self.isOvertaken(error) {
                }
                try await rest(after: 1, since: start)
            }
            marker = page.next
        } while marker != nil
    }
}

extension LifecycleWorker.State {
    fileprivate mutating func count(_ action: LifecycleAction) {
        switch action {
        case .expire: expiredCount += 1
        case .removeNoncurrent: noncurrentCount += 1
        case .removeDeleteMarker: markerCount += 1
        }
    }
}

/// Versions whose time has come, with what is to be done.
struct DueVersions {
    struct Entry {
        let target: DeleteTarget
        let action: LifecycleAction
    }

    private var entries: [Entry] = []

    mutating func add(
        _ known: (row: VersionRow, facts: LifecycleVersion),
        _ evaluation: LifecycleEvaluation,
        at now: Timestamp
    ) {
        guard let action = evaluation.action(for: known.facts) else { return }
        let row = known.row
        switch action {
        case .expire:
            // Only as long as it is the object that was looked at.
            let conditions = Conditions(ifMatch: .oneOf([row.etag]), ifLastModified: row.createdAt)
            entries.append(Entry(target: DeleteTarget(key: row.key, conditions: conditions), action: action))
        case .removeNoncurrent, .removeDeleteMarker:
            // What is locked stays until a pass after the lock's end.
            guard !row.isLocked(at: now, bypassesGovernance: false) else { return }
            entries.append(Entry(target: DeleteTarget(key: row.key, selector: .id(row.id)), action: action))
        }
    }

    /// - Returns: nil when there is nothing left.
    mutating func next(atMost count: Int) -> [Entry]? {
        guard !entries.isEmpty else { return nil }
        let batch = entries.prefix(min(max(1, count), Limits.deleteCountMax))
        entries.removeFirst(batch.count)
        return Array(batch)
    }
}

// MARK: Metrics

extension LifecycleWorker {
    package func samples() -> [MetricSample] {
        let state = state
        let actions: [(String, UInt64)] = [
            ("expire", state.expiredCount), ("remove_noncurrent", state.noncurrentCount),
            ("remove_marker", state.markerCount), ("abort_upload", state.uploadCount),
        ]
        var samples = actions.map { name, count in
            MetricSample(
                "holdfast_lifecycle_actions_total",
                help: "What lifecycle rules did.",
                kind: .counter,
                labels: [("action", name)],
                value: Double(count)
            )
        }
        samples.append(
            MetricSample(
                "holdfast_lifecycle_failures_total",
                help: "Actions of lifecycle rules that were refused or failed; each pass tries again.",
                kind: .counter,
                value: Double(state.failureCount)
            )
        )
        samples.append(
            MetricSample(
                "holdfast_lifecycle_examined_versions_total",
                help: "Versions that lifecycle rules were asked about.",
                kind: .counter,
                value: Double(state.examinedCount)
            )
        )
        samples.append(
            MetricSample(
                "holdfast_lifecycle_running",
                help: "Whether a pass is under way.",
                value: state.isRunning ? 1 : 0
            )
        )
        if let ended = state.lastPassEndedAt {
            samples.append(
                MetricSample(
                    "holdfast_lifecycle_last_pass_seconds",
                    help: "When the last pass ended, in seconds since 1970.",
                    value: Double(ended.milliseconds) / 1000
                )
            )
        }
        return samples
    }
}
