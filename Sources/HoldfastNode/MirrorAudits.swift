package import AdminGateway
internal import Catalog
package import Mirroring
package import ObjectService
package import Replication
internal import S3Protocol
package import StoreModel
internal import Synchronization

/// When mirrors are compared with the store by themselves.
package struct MirrorAuditSchedule: Sendable {
    /// Of every mirror that has none of its own; nil: never.
    package var standard = try? CronExpression("17 3 * * 2")
    /// By the mirror's name; nil: never.
    package var own: [String: CronExpression?] = [:]
    /// Whether audits ask for each object's version and SHA-256, one request each: of every mirror that says nothing itself.
    package var isDeep = false
    package var ownDepth: [String: Bool] = [:]
    /// Time zone, jitter, and since when; its own schedules don't count.
    package var terms: ScrubSchedule

    package init(since: Timestamp) { terms = ScrubSchedule(since: since) }

    package func expression(_ name: MirrorName) -> CronExpression? {
        own[name.description] ?? standard
    }

    package func isDeep(_ name: MirrorName) -> Bool { ownDepth[name.description] ?? isDeep }

    func next(_ row: MirrorRow, _ job: MirrorAuditJob) -> Timestamp? {
        terms.next(expression(row.name), share: row.id.rawValue, startedAt: job.startedAt)
    }
}

/// The audits of a store's mirrors: started by schedule or by command, paused, resumed, cancelled, and run; and the
/// findings of mirrors in the ledger.
///
/// 1. A job's state is a document, written with every page: who opens the store after a crash goes on from there.
/// 2. What is missing or different is queued again, and its finding stays open until the mirror has it, compared once
///    more. Nothing is ever removed from a mirror.
/// 3. A finding that a later pass doesn't meet any more is closed by it.
/// 4. A job that a newer program wrote stays as it is: the audits of that mirror don't run, and say so. One that is damaged
///    is begun anew, and says so.
package final class MirrorAudits: Sendable {
    private struct State {
        var jobs: [MirrorID: MirrorAuditJob] = [:]
        /// Written by a newer program.
        var later: [MirrorID: StoreError] = [:]
        var isLoaded = false
        var active: Set<MirrorID> = []
    }

    /// What was queued again, until the mirror has it.
    private struct Requeued {
        let difference: MirrorDifference
        let finding: Finding
    }

    private static let pageKeyCount = 250
    private static let failureCountMax = 5
    private static let settleDeadline: Duration = .seconds(600)
    private static let requeuedCountMax = 10_000
    private static let letterCountMax = 1000

    private let objects: ObjectStore
    private let service: MirrorService
    private let ledger: FindingLedger
    private let clock: any StoreClock
    package let budget: WorkBudget
    private let state = Mutex(State())
    /// Jobs are written one after the other, each as it is then: the last one written is the last one decided.
    private let writing = ChunkPermits(count: 1)
    private let plan: Mutex<MirrorAuditSchedule>

    package init(
        _ objects: ObjectStore,
        _ service: MirrorService,
        _ ledger: FindingLedger,
        load: ClientLoad,
        clock: any StoreClock = SystemClock()
    ) {
        self.objects = objects
        self.service = service
        self.ledger = ledger
        self.clock = clock
        // A backend may charge for each request: slowly, also when nobody else is there.
        let rates = WorkBudget.Rates(
            bytesPerSecond: 16_000_000,
            operationsPerSecond: 20,
            isUnlimitedWhenIdle: false
        )
        budget = WorkBudget(rates, load: load, clock: clock)
        plan = Mutex(MirrorAuditSchedule(since: clock.now()))
    }

    package var schedule: MirrorAuditSchedule {
        get { plan.withLock { $0 } }
        set { plan.withLock { $0 = newValue } }
    }

    // MARK: Asking and changing

    /// Every mirror's, in the order of their names.
    package func jobs() async throws -> [(row: MirrorRow, job: MirrorAuditJob)] {
        try await load()
        return try await service.directory.mirrors().map { ($0, job($0.id)) }
    }

    private func load() async throws {
        if state.withLock({ $0.isLoaded }) { return }
        // What is open already is not noted once more.
        while !ledger.isLoaded { try await clock.sleep(for: .milliseconds(10)) }
        let rows = try await objects.documents(.job, prefix: MirrorAuditJob.prefix)
        let known = Set(try await service.directory.mirrors().map(\.id))
        var gone: [DocumentWrite] = []
        var jobs: [MirrorID: MirrorAuditJob] = [:]
        var later: [MirrorID: StoreError] = [:]
        for row in rows {
            guard let id = MirrorKey.id(of: row.key, under: MirrorAuditJob.prefix) else { continue }
            guard known.contains(id) else {
                gone.append(DocumentWrite(space: .job, key: row.key, body: nil))
                continue
            }
            do throws(StoreError) {
                jobs[id] = try MirrorAuditJob(row)
            } catch {
                var job = MirrorAuditJob(id)
                (job.state, job.message) = (.failed, error.message)
                jobs[id] = job
                if error.code == .unsupportedFormat { later[id] = error }
            }
        }
        if !gone.isEmpty { try await objects.write(documents: gone) }
        let (found, refused) = (jobs, later)
        state.withLock { state in
            guard !state.isLoaded else { return }
            state.jobs = found
            state.later = refused
            state.isLoaded = true
        }
    }

    private func job(_ id: MirrorID) -> MirrorAuditJob {
        state.withLock { $0.jobs[id] } ?? MirrorAuditJob(id)
    }

    /// Why nothing may be done about an audit: a newer program has written where it is.
    private func refusal(_ id: MirrorID) -> StoreError? { state.withLock { $0.later[id] } }

    /// - Parameters:
    ///   - name: nil: all of them.
    ///   - isDeep: of a start: asks for each object's version and SHA-256 this time, whatever the schedule says.
    package func change(_ action: ScrubAction, _ name: MirrorName?, isDeep: Bool = false) async throws {
        try await load()
        let rows: [MirrorRow]
        if let name {
            rows = [try await service.directory.mirror(name)]
        } else {
            rows = try await service.directory.mirrors()
        }
        let refused = rows.compactMap { row in refusal(row.id).map { (row.name, $0) } }
        if let (name, error) = refused.first {
            throw StoreError(error.code, "The mirror \(name): \(error.message)", advice: error.advice)
        }
        if action == .start, isDeep,
            let row = rows.first(where: { job($0.id).isActive && !isDeepNow($0) })
        {
            throw StoreError(
                .conflict,
                "An audit of the mirror \(row.name) is under way that asks for no SHA-256.",
                advice: "Wait for its end, or 'holdfast mirror audit cancel \(row.name)'."
            )
        }
        try await change(rows.map(\.id)) { job, now in
            switch action {
            case .start: if !job.isActive { job.restart(at: now, isDeep: isDeep) }
            case .pause: if job.state == .running { job.state = .paused }
            case .resume: if job.state == .paused { job.state = .running }
            case .cancel:
                if job.isActive {
                    job.state = .cancelled
                    job.endedAt = now
                }
            }
        }
    }

    /// Whether the audit that runs, or was the last one, asks for each object's version and SHA-256.
    private func isDeepNow(_ row: MirrorRow) -> Bool { job(row.id).isDeep || schedule.isDeep(row.name) }

    private func change(_ ids: [MirrorID], _ body: (inout MirrorAuditJob, Timestamp) -> Void) async throws {
        try await load()
        guard !ids.isEmpty else { return }
        let now = clock.now()
        state.withLock { state in
            for id in ids {
                var job = state.jobs[id] ?? MirrorAuditJob(id)
                body(&job, now)
                job.updatedAt = now
                state.jobs[id] = job
            }
        }
        await writing.acquire()
        defer { writing.release() }
        let documents = ids.map { id in
            let job = job(id)
            return DocumentWrite(space: .job, key: job.key, body: job.body)
        }
        try await objects.write(documents: documents)
    }

    // MARK: Running

    /// Runs what is to be run until the task is cancelled, and starts what is due.
    package func run() async {
        await withDiscardingTaskGroup { group in
            var generation: (UInt64, UInt64)?
            while !Task.isCancelled {
                if let jobs = try? await jobs() {
                    let (schedule, now) = (schedule, clock.now())
                    for (row, job) in jobs where !job.isActive && refusal(row.id) == nil {
                        guard let next = schedule.next(row, job), next <= now else { continue }
                        try? await change(.start, row.name)
                    }
                    for row in takeRunnable(jobs.map(\.row)) {
                        group.addTask { await self.run(row, isAlone: false) }
                    }
                }
                let found = (
                    objects.documentGeneration(of: .outbox), objects.documentGeneration(of: .setting)
                )
                if found != generation ?? (.max, .max) {
                    generation = found
                    try? await noteFailures()
                }
                do { try await clock.sleep(for: .seconds(1)) } catch { break }
            }
            group.cancelAll()
        }
    }

    private func takeRunnable(_ rows: [MirrorRow]) -> [MirrorRow] {
        state.withLock { state in
            let runnable = rows.filter { row in
                state.jobs[row.id]?.state == .running && !state.active.contains(row.id)
            }
            state.active.formUnion(runnable.map(\.id))
            return runnable
        }
    }

    /// Runs the jobs that are to be run to their end, here, and sends what they queue again.
    package func runToEnd() async throws {
        let rows = takeRunnable(try await jobs().map(\.row))
        await withTaskGroup(of: Void.self) { group in
            for row in rows { group.addTask { await self.run(row, isAlone: true) } }
        }
        try Task.checkCancellation()
        try await noteFailures()
        try await ledger.flush()
    }

    private func run(_ row: MirrorRow, isAlone: Bool) async {
        defer { state.withLock { _ = $0.active.remove(row.id) } }
        var failureCount = 0
        while job(row.id).state == .running {
            let position = job(row.id).position
            do {
                try await audit(row, isAlone: isAlone)
                return
            } catch is CancellationError {
                // Stopped with its process: it goes on from here.
                return
            } catch {
                // A pass of hours may meet many an outage: those without a step in between count.
                failureCount = job(row.id).position == position ? failureCount + 1 : 1
                let message = (error as? MirrorFailure)?.message ?? "\(error)"
                let isOver = failureCount >= (isAlone ? 2 : Self.failureCountMax)
                try? await change([row.id]) { job, now in
                    job.message = message
                    guard isOver, job.state == .running else { return }
                    job.state = .failed
                    job.endedAt = now
                }
                do { try await clock.sleep(for: .seconds(isAlone ? 1 : 1 << failureCount)) } catch { return }
            }
        }
    }

    private func audit(_ row: MirrorRow, isAlone: Bool) async throws {
        guard let route = try await service.directory.route(row.id) else { return }
        let backend = try service.backend(of: row)
        let keepsVersions = try await backend.keepsVersions()
        let audit = MirrorAudit(
            service.directory.store,
            backend,
            row,
            route,
            isDeep: isDeepNow(row)
        )
        var requeued: [Requeued] = []
        let startedAt = job(row.id).startedAt
        while true {
            try Task.checkCancellation()
            let before = job(row.id)
            // One that was cancelled and started anew is another one.
            guard before.state == .running, before.startedAt == startedAt else { return }
            let (page, next) = try await audit.page(after: before.position, keyCountMax: Self.pageKeyCount)
            var queuedCount: UInt64 = 0
            for difference in page.differences {
                guard let item = try await take(difference, row, keepsVersions) else { continue }
                queuedCount += 1
                if requeued.count < Self.requeuedCountMax { requeued.append(item) }
            }
            if queuedCount > 0 { service.nudge(row.id) }
            let count = queuedCount
            try await change([row.id]) { job, _ in
                guard job.startedAt == startedAt else { return }
                job.position = next
                job.message = ""
                job.checkedCount += page.checkedCount
                job.waitingCount += page.waitingCount
                job.missingCount += page.counts[.missing] ?? 0
                job.differentCount += (page.counts[.different] ?? 0) + (page.counts[.stale] ?? 0)
                job.extraCount += page.counts[.extra] ?? 0
                job.requeuedCount += count
            }
            try await budget.spend(bytes: page.checkedCount * 256, operations: page.requestCount)
            if next == nil { break }
        }
        if isAlone, !requeued.isEmpty { try await service.runUntilIdle(row.name) }
        try await settle(requeued, audit, row)
        let ended = job(row.id)
        guard ended.state == .running, ended.startedAt == startedAt else { return }
        closeWhatIsGone(row, since: startedAt)
        try await change([row.id]) { job, now in
            guard job.state == .running, job.startedAt == startedAt else { return }
            job.state = .completed
            job.endedAt = now
            job.lastPassStartedAt = job.startedAt
            job.lastPassEndedAt = now
            job.passCount += 1
        }
    }

    // MARK: Findings

    /// Notes a difference, and queues the version again where that helps.
    private func take(_ difference: MirrorDifference, _ row: MirrorRow, _ keepsVersions: Bool) async throws
        -> Requeued?
    {
        let kind: Finding.Kind =
            switch difference.kind {
            case .missing: .missing
            case .different, .stale: .different
            case .extra: .extra
            }
        let version = difference.version.map { " \($0)" } ?? ""
        var finding = Finding(
            chunk: nil,
            volume: Finding.noVolume,
            kind: kind,
            foundBy: .mirrorAudit,
            foundAt: clock.now(),
            detail: "\(difference.key)\(version): \(difference.detail)"
        )
        finding.mirror = row.name.description
        ledger.note(finding)
        guard let version = difference.row else { return nil }
        let isQueued = try await service.directory.requeue(
            version,
            of: difference.bucket,
            for: row.id,
            keepsVersions: keepsVersions
        )
        guard !isQueued else { return Requeued(difference: difference, finding: finding) }
        finding.outcome = .failed(
            "newer versions of the key are in the mirror's history already; the place of this one is taken"
        )
        ledger.note(finding)
        return nil
    }

    /// Waits until the mirror has what was queued again, within bounds, and compares it once more.
    private func settle(_ requeued: [Requeued], _ audit: MirrorAudit, _ row: MirrorRow) async throws {
        let end = ContinuousClock.now + Self.settleDeadline
        for item in requeued {
            guard let version = item.difference.row else { continue }
            var standing = try await service.directory.standing(of: version, in: row)
            while standing == .waiting {
                // What is not there in time stays open; the next pass looks again.
                guard ContinuousClock.now < end, job(row.id).state == .running,
                    try await service.directory.mirror(row.name).isPaused == false
                else { return }
                try await clock.sleep(for: .milliseconds(100))
                standing = try await service.directory.standing(of: version, in: row)
            }
            var finding = item.finding
            finding.outcome = .mended
            if standing == .givenUp {
                finding.outcome = .failed("it was sent again, and given up")
            } else if standing == .mirrored {
                let bucket = try await objects.readCatalog { try $0.bucket(id: version.bucket) }
                guard let bucket else { continue }
                let still = try await audit.differences(of: version.key, in: bucket).first {
                    $0.version == version.id
                }
                if let still { finding.outcome = .failed("it was sent again, and still: \(still.detail)") }
            }
            ledger.note(finding)
        }
    }

    private func closeWhatIsGone(_ row: MirrorRow, since start: Timestamp?) {
        guard let start else { return }
        for open in ledger.open(ofMirror: row.name.description)
        where open.finding.foundBy == .mirrorAudit && open.lastSeenAt < start {
            var finding = open.finding
            finding.outcome = .mended
            ledger.note(finding)
        }
    }

    /// What was found of mirrors that are gone can't be put right any more.
    private func closeWhatIsNobodys(besides names: Set<String>) {
        for var finding in ledger.openOfMirrors() where finding.mirror.map({ !names.contains($0) }) ?? false {
            finding.outcome = .failed("the mirror was removed")
            ledger.note(finding)
        }
    }

    /// What was given up stands in the ledger as long as it is.
    package func noteFailures() async throws {
        try await load()
        let rows = try await service.directory.mirrors()
        closeWhatIsNobodys(besides: Set(rows.map(\.name.description)))
        for row in rows {
            let letters = try await service.directory.deadLetters(row, limit: Self.letterCountMax)
            var open: [String: Finding] = [:]
            for found in ledger.open(ofMirror: row.name.description) where found.finding.foundBy == .mirroring
            {
                open[found.finding.detail] = found.finding
            }
            for letter in letters {
                let detail =
                    "\(letter.task.bucketName)/\(letter.task.key) \(letter.task.version): \(letter.reason)"
                var finding = Finding(
                    chunk: nil,
                    volume: Finding.noVolume,
                    kind: .givenUp,
                    foundBy: .mirroring,
                    foundAt: letter.time,
                    detail: String(detail.prefix(500))
                )
                finding.mirror = row.name.description
                if open.removeValue(forKey: finding.detail) == nil { ledger.note(finding) }
            }
            // Tried again, or removed with its version; a list that was cut says nothing of the rest.
            guard letters.count < Self.letterCountMax else { continue }
            for var finding in open.values {
                finding.outcome = .mended
                ledger.note(finding)
            }
        }
    }
}

extension MirrorAudits: MirrorAuditAdministration {
    package func mirrorAudits() async throws -> MirrorAuditListDocument {
        let schedule = schedule
        return MirrorAuditListDocument(
            audits: try await jobs().map { row, job in
                MirrorAuditJobDocument(
                    mirror: row.name.description,
                    state: job.state.name,
                    schedule: schedule.expression(row.name)?.description,
                    isDeep: isDeepNow(row),
                    nextRunAt: job.isActive || refusal(row.id) != nil
                        ? nil : schedule.next(row, job).map { ISO8601.format($0) },
                    position: job.position?.text,
                    startedAt: job.startedAt.map { ISO8601.format($0) },
                    endedAt: job.endedAt.map { ISO8601.format($0) },
                    checked: job.checkedCount,
                    waiting: job.waitingCount,
                    missing: job.missingCount,
                    different: job.differentCount,
                    extra: job.extraCount,
                    queuedAgain: job.requeuedCount,
                    lastPassStartedAt: job.lastPassStartedAt.map { ISO8601.format($0) },
                    lastPassEndedAt: job.lastPassEndedAt.map { ISO8601.format($0) },
                    passes: job.passCount,
                    message: job.message.isEmpty ? nil : job.message
                )
            }
        )
    }

    package func changeMirrorAudit(_ action: ScrubAction, _ mirror: String?, isDeep: Bool) async throws
        -> MirrorAuditListDocument
    {
        try await change(
            action,
            try mirror.map { name throws(StoreError) in try MirrorName(name) },
            isDeep: isDeep
        )
        return try await mirrorAudits()
    }

    package func runMirrorAudits() async throws -> Bool {
        try await runToEnd()
        return true
    }
}
