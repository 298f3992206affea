internal import BlobVolume
internal import Catalog
package import Replication
package import StoreModel
internal import Synchronization

/// The scrubs of a store: started, paused, resumed, cancelled, and run.
///
/// 1. A job's state is a document, written when it changes and every few seconds: who opens the store after a crash goes on
///    from the last cursor. What was found and not yet repaired stands in the ledger and is repaired at the next opening.
/// 2. Jobs run in one process at a time, the one that has the store: in a server in the background (`run`), else in
///    the command that waits for them (`runToEnd`).
/// 3. A scrub is completed only when every repair that it asked for has its outcome.
/// 4. A state that can't be read is shown as failed, with the reason, and told once. One of a later format is never written
///    over: whoever goes back to an earlier program finds it there when the later one is used again.
package final class Scrubs: Sendable {
    private struct State {
        var jobs: [ScrubSubject: ScrubJob] = [:]
        var isLoaded = false
        var active: Set<ScrubSubject> = []
        /// Copies that wait for repair, by the scrub that found them.
        var pending: [Copy: Set<ScrubSubject>] = [:]
        /// Of an audit that somebody waits for, and what of that is written down.
        var cleanPart: CleanAuditPart?
        var writtenPart: CleanAuditPart?
        var distrustsCleanPart = false
    }

    private struct Copy: Hashable {
        let chunk: Digest
        let volume: VolumeID
    }

    /// Bytes of one step: between two, the thread is free and the state can change.
    private static let stepByteCount: UInt64 = 4 << 20
    /// Beside clients in smaller pieces: the disk is busy with each for a few milliseconds only.
    private static let busyStepByteCount: UInt64 = 256 << 10
    private static let saveInterval: Duration = .seconds(2)
    private static let pendingCountMax = 2000
    private static let settleDeadline: Duration = .seconds(600)

    private let objects: ObjectStore
    private let replicator: Replicator
    private let ledger: FindingLedger
    package let budget: WorkBudget
    private let tellUnreadable: @Sendable (StoreError) -> Void
    private let state = Mutex(State())
    private let plan = Mutex(ScrubSchedule())
    private let cleanAudit = Mutex<(@Sendable () async throws -> Void)?>(nil)
    private let isCleanAuditAwaited = Mutex<(@Sendable () -> Bool)?>(nil)

    /// - Parameter tellUnreadable: told of each scrub's state that can't be read.
    package init(
        _ objects: ObjectStore,
        _ replicator: Replicator,
        _ ledger: FindingLedger,
        tellUnreadable: @escaping @Sendable (StoreError) -> Void = { _ in }
    ) {
        self.tellUnreadable = tellUnreadable
        self.objects = objects
        self.replicator = replicator
        self.ledger = ledger
        budget = WorkBudget(load: replicator.clientLoad, clock: objects.clock)
    }

    private var now: Timestamp { objects.clock.now() }

    /// Calls `body` when an audit that went from its beginning to its end has found nothing: no copy missing, no manifest that
    /// can't be read, no volume that could not be asked.
    /// - Parameter isAwaited: whether somebody waits for that: an audit that was interrupted then goes on where nothing was found
    ///   up to there (`CleanAuditPart`), and begins anew otherwise.
    package func whenAuditIsClean(
        isAwaited: @escaping @Sendable () -> Bool,
        _ body: @escaping @Sendable () async throws -> Void
    ) {
        isCleanAuditAwaited.withLock { $0 = isAwaited }
        cleanAudit.withLock { $0 = body }
    }

    /// It is not known whether what an audit of an earlier process has found clean was of this catalog.
    package func distrustCleanPart() {
        state.withLock { state in
            state.distrustsCleanPart = true
            state.cleanPart = nil
        }
    }

    /// What says how far an audit has got that found nothing; whoever builds the catalog anew removes it.
    package static var cleanPartKey: [UInt8] { CleanAuditPart.key }

    // MARK: Asking

    /// When volumes are scrubbed and copies audited by themselves, in a server.
    package var schedule: ScrubSchedule {
        get { plan.withLock { $0 } }
        set { plan.withLock { $0 = newValue } }
    }

    /// Those whose time has come.
    package func due(_ jobs: [ScrubJob]) -> [ScrubSubject] {
        let (schedule, now) = (schedule, now)
        return jobs.filter { job in
            guard !job.isActive, let next = schedule.next(job) else { return false }
            return next <= now
        }.map(\.subject)
    }

    /// Every volume's scrub and the audit, in the order of their ids.
    package func jobs() async throws -> [ScrubJob] {
        try await load()
        return state.withLock { $0.jobs.values.sorted { $0.subject < $1.subject } }
    }

    private func load() async throws {
        if isLoaded { return followVolumes() }
        let found = try await objects.documents(.job, prefix: ScrubJob.prefix).map(ScrubJob.read)
        let part = try await objects.documents(.job, prefix: CleanAuditPart.key).first
        if takeLoaded(found.compactMap { $0.job }, part.flatMap(CleanAuditPart.init)) {
            for problem in found.compactMap({ $0.problem }) { tellUnreadable(problem) }
        }
        followVolumes()
    }

    // Not inlined: a lock on either side of an await in one function is more than the compiler bears.

    private var isLoaded: Bool {
        @inline(never) get { state.withLock { $0.isLoaded } }
    }

    /// - Returns: false when somebody else was first.
    @inline(never)
    private func takeLoaded(_ jobs: [ScrubJob], _ part: CleanAuditPart?) -> Bool {
        state.withLock { state in
            guard !state.isLoaded else { return false }
            state.writtenPart = part
            if !state.distrustsCleanPart { state.cleanPart = part }
            for job in jobs { state.jobs[job.subject] = job }
            if state.jobs[.audit] == nil { state.jobs[.audit] = ScrubJob(.audit) }
            state.isLoaded = true
            return true
        }
    }

    private var parts: (clean: CleanAuditPart?, written: CleanAuditPart?) {
        @inline(never) get { state.withLock { ($0.cleanPart, $0.writtenPart) } }
    }

    @inline(never)
    private func noteWritten(_ part: CleanAuditPart?) { state.withLock { $0.writtenPart = part } }

    /// Volumes come and go while the store is open: each has its scrub, and one that is gone has none.
    private func followVolumes() {
        let known = replicator.volumes.slots.filter { !$0.isRemoved }.map { ScrubSubject.volume($0.id) }
        state.withLock { state in
            for subject in known where state.jobs[subject] == nil { state.jobs[subject] = ScrubJob(subject) }
            guard state.jobs.count > known.count + 1 else { return }
            let active = state.active
            state.jobs = state.jobs.filter { subject, _ in
                subject == .audit || known.contains(subject) || active.contains(subject)
            }
        }
    }

    private func job(_ subject: ScrubSubject) -> ScrubJob {
        state.withLock { $0.jobs[subject] } ?? ScrubJob(subject)
    }

    // MARK: Changing

    /// Starts scrubs; one that is running goes on, one that is paused stays so.
    package func start(_ subjects: [ScrubSubject]) async throws {
        try await change(subjects) { job, now in
            if !job.isActive { job.restart(at: now) }
        }
    }

    package func pause(_ subjects: [ScrubSubject]) async throws {
        try await change(subjects) { job, _ in if job.state == .running { job.state = .paused } }
    }

    package func resume(_ subjects: [ScrubSubject]) async throws {
        try await change(subjects) { job, _ in if job.state == .paused { job.state = .running } }
    }

    package func cancel(_ subjects: [ScrubSubject]) async throws {
        try await change(subjects) { job, now in
            guard job.isActive else { return }
            job.state = .cancelled
            job.endedAt = now
        }
    }

    private func change(_ subjects: [ScrubSubject], _ body: (inout ScrubJob, Timestamp) -> Void) async throws
    {
        try await load()
        let now = self.now
        try state.withLock { state in
            for subject in subjects {
                guard let job = state.jobs[subject], job.isOfLaterFormat else { continue }
                throw StoreError(
                    .unsupportedFormat,
                    job.message,
                    advice: "Use the version of holdfast that wrote it, or a newer one; nothing was changed."
                )
            }
            for subject in subjects {
                var job = state.jobs[subject] ?? ScrubJob(subject)
                body(&job, now)
                job.updatedAt = now
                state.jobs[subject] = job
            }
        }
        try await save(subjects)
    }

    private func save(_ subjects: [ScrubSubject]) async throws {
        let jobs = subjects.map { job($0) }
        guard !jobs.isEmpty else { return }
        var writes = jobs.map { DocumentWrite(space: .job, key: $0.key, body: $0.body) }
        let (part, written) = parts
        if part != written {
            writes.append(DocumentWrite(space: .job, key: CleanAuditPart.key, body: part?.body))
        }
        try await objects.write(documents: writes)
        if part != written { noteWritten(part) }
    }

    // MARK: Findings

    /// Told of what became of every finding.
    package func note(_ finding: Finding) {
        guard let chunk = finding.chunk, finding.outcome != .pending else { return }
        state.withLock { state in
            let copy = Copy(chunk: chunk, volume: finding.volume)
            for subject in state.pending.removeValue(forKey: copy) ?? [] {
                state.jobs[subject]?.count(finding.outcome)
            }
        }
    }

    private func take(_ findings: [Finding], _ subject: ScrubSubject) {
        state.withLock { state in
            for finding in findings {
                state.jobs[subject]?.foundCount += 1
                if let chunk = finding.chunk, finding.outcome == .pending {
                    let copy = Copy(chunk: chunk, volume: finding.volume)
                    // Its repair may have come to an end already.
                    state.pending[copy, default: []].insert(subject)
                } else {
                    state.jobs[subject]?.count(finding.outcome)
                }
            }
        }
    }

    /// Waits until so many of a scrub's repairs at most are left.
    private func awaitRepairs(of subject: ScrubSubject, atMost countMax: Int) async throws {
        while true {
            let waiting = state.withLock { state in
                state.pending.filter { $0.value.contains(subject) }.map(\.key)
            }
            guard waiting.count > countMax else { return }
            for copy in waiting where !replicator.isWaitingForRepair(copy.chunk, on: copy.volume) {
                // It was dropped, or done before it was noted here: done again, which finds out.
                let outcome = await replicator.repair(copy.chunk, on: copy.volume)
                state.withLock { state in
                    guard let subjects = state.pending.removeValue(forKey: copy) else { return }
                    for subject in subjects { state.jobs[subject]?.count(outcome) }
                }
            }
            try await objects.clock.sleep(for: .milliseconds(5))
        }
    }

    // MARK: Running

    /// Runs what is to be run until the task is cancelled, and starts what is due.
    package func run() async {
        await withDiscardingTaskGroup { group in
            while !Task.isCancelled {
                if let jobs = try? await jobs() {
                    let wanted = due(jobs)
                    if !wanted.isEmpty { try? await start(wanted) }
                    for subject in takeRunnable() {
                        group.addTask {
                            await self.run(subject)
                            self.state.withLock { _ = $0.active.remove(subject) }
                        }
                    }
                }
                do { try await objects.clock.sleep(for: .milliseconds(100)) } catch { break }
            }
            group.cancelAll()
        }
    }

    private func takeRunnable() -> [ScrubSubject] {
        state.withLock { state in
            let runnable = state.jobs.values.filter { job in
                guard job.state == .running, !state.active.contains(job.subject) else { return false }
                // The audit comes last: what the volumes found out about themselves is missing by then, or repaired.
                return job.subject != .audit
                    || !state.jobs.values.contains { $0.subject != .audit && $0.state == .running }
            }.map(\.subject)
            state.active.formUnion(runnable)
            return runnable
        }
    }

    /// Runs the jobs that are to be run to their end, here.
    package func runToEnd() async throws {
        try await load()
        while true {
            try Task.checkCancellation()
            let runnable = takeRunnable()
            guard !runnable.isEmpty else { return }
            await withTaskGroup(of: Void.self) { group in
                for subject in runnable {
                    group.addTask {
                        await self.run(subject)
                        self.state.withLock { _ = $0.active.remove(subject) }
                    }
                }
            }
        }
    }

    private func run(_ subject: ScrubSubject) async {
        do {
            switch subject {
            case .volume(let id): try await scrub(id)
            case .audit: try await audit()
            }
            guard job(subject).state == .running else { return }
            try await change([subject]) { job, now in
                job.state = .completed
                job.endedAt = now
                job.lastPassStartedAt = job.startedAt
                job.lastPassEndedAt = now
                job.passCount += 1
            }
        } catch let error as StoreError where error.code != .cancelled {
            try? await change([subject]) { job, now in
                guard job.state == .running else { return }
                job.state = .failed
                job.endedAt = now
                job.message = error.description
            }
        } catch {
            // Stopped with its process: it goes on from here.
            try? await save([subject])
        }
    }

    private func scrub(_ id: VolumeID) async throws {
        let subject = ScrubSubject.volume(id)
        let start = job(subject)
        let isNew = start.lastSegment == 0
        let scrubber = try replicator.makeScrubber(
            of: id,
            from: start.cursor,
            through: isNew ? nil : start.lastSegment
        )
        if isNew {
            state.withLock { state in
                state.jobs[subject]?.lastSegment = scrubber.lastSegment
                state.jobs[subject]?.totalByteCount = scrubber.remainingByteCount(from: .start)
            }
            take(replicator.reportOpening(of: id), subject)
        } else {
            // What was found before the process ended and is still to be repaired.
            take(ledger.open(on: id, since: start.startedAt ?? now).filter { $0.chunk != nil }, subject)
            state.withLock { state in
                // They were counted when they were found.
                let open = UInt64(state.pending.values.count { $0.contains(subject) })
                let found = state.jobs[subject]?.foundCount ?? 0
                state.jobs[subject]?.foundCount = max(start.foundCount, found - min(open, found))
            }
        }
        var unsettled: [Replicator.UnsettledFinding] = []
        var lastSave = ContinuousClock.now
        var isAtEnd = false
        while !isAtEnd {
            try Task.checkCancellation()
            guard job(subject).state == .running else {
                // Nobody would ask for it again: the walk that comes next finds these places known.
                take(await replicator.settle(unsettled, of: id, within: Self.settleDeadline), subject)
                return
            }
            let byteCount = budget.isBusy ? Self.busyStepByteCount : Self.stepByteCount
            let done = try await replicator.scrubStep(scrubber, of: id, byteCount: byteCount)
            take(
                done.findings.filter { finding in finding.chunk != nil || finding.outcome != .pending },
                subject
            )
            unsettled += done.unsettled
            // What has to be settled at the end would be forgotten by who goes on from behind it.
            let holdsCursor = !unsettled.isEmpty
            state.withLock { state in
                guard state.jobs[subject] != nil else { return }
                if !holdsCursor { state.jobs[subject]?.cursor = done.step.cursor }
                state.jobs[subject]?.byteCount += done.step.byteCount
                state.jobs[subject]?.recordCount += done.step.recordCount
                state.jobs[subject]?.updatedAt = now
            }
            isAtEnd = done.step.isAtEnd
            try await awaitRepairs(of: subject, atMost: Self.pendingCountMax)
            if ContinuousClock.now - lastSave > Self.saveInterval {
                try? await ledger.flush()
                try await save([subject])
                lastSave = .now
            }
            try await budget.spend(bytes: done.step.byteCount, operations: done.step.readCount)
        }
        try await awaitRepairs(of: subject, atMost: 0)
        take(await replicator.settle(unsettled, of: id, within: Self.settleDeadline), subject)
        let lost = try await nameUnrepairable(on: id, since: start.startedAt)
        try await buryUnneeded(lost, on: id, subject)
    }

    private func audit() async throws {
        let subject = ScrubSubject.audit
        let isAwaited = isCleanAuditAwaited.withLock { $0?() ?? false }
        let layoutVersion = replicator.layout.version
        let (before, startedAt, cleanPart) = state.withLock {
            ($0.jobs[subject]?.auditCursor ?? .start, $0.jobs[subject]?.startedAt, $0.cleanPart)
        }
        var cursor = before
        // Where garbage collection waits for a clean audit, one that goes on from anywhere else would end without having told.
        if before != .start, isAwaited {
            let part = cleanPart.flatMap { part in
                part.layoutVersion == layoutVersion && part.startedAt == startedAt ? part : nil
            }
            cursor = part?.cursor ?? .start
        }
        let goesOn = isAwaited && cursor != .start
        let start = cursor
        state.withLock { state in
            state.jobs[subject]?.auditCursor = start
            if start == .start { state.jobs[subject]?.recordCount = 0 }
            if !goesOn { state.cleanPart = nil }
        }
        var isClean = goesOn || cursor == .start
        var memory = AuditMemory()
        var lastSave = ContinuousClock.now
        while cursor.phase != .done {
            try Task.checkCancellation()
            guard job(subject).state == .running else { return }
            let page = try await replicator.audit(&cursor, &memory)
            for finding in page.findings where finding.outcome != .pending { replicator.report(finding) }
            // A copy too many endangers nothing: it stands in the ledger, and is no loss of redundancy.
            let findings = page.findings.filter { $0.kind != .misplaced }
            take(findings, subject)
            isClean = isClean && findings.isEmpty && page.lostNodes.isEmpty
            let reached = cursor
            var part: CleanAuditPart?
            if isAwaited, isClean, let startedAt {
                part = CleanAuditPart(startedAt: startedAt, layoutVersion: layoutVersion, cursor: reached)
            }
            let cleanPart = part
            state.withLock { state in
                if reached.phase != .done { state.cleanPart = cleanPart }
                state.jobs[subject]?.auditCursor = reached
                state.jobs[subject]?.recordCount += page.chunkCount
                state.jobs[subject]?.updatedAt = now
            }
            try await awaitRepairs(of: subject, atMost: Self.pendingCountMax)
            if ContinuousClock.now - lastSave > Self.saveInterval {
                try await save([subject])
                lastSave = .now
            }
            try await budget.spend(bytes: page.chunkCount * 64, operations: 1)
        }
        try await awaitRepairs(of: subject, atMost: 0)
        for slot in replicator.volumes.slots {
            try await nameUnrepairable(on: slot.id, since: job(subject).startedAt)
        }
        if isClean, goesOn { isClean = try await isStillTrue(since: job(subject).startedAt) }
        if isClean, let tell = cleanAudit.withLock({ $0 }) { try await tell() }
        state.withLock { $0.cleanPart = nil }
    }

    /// Whether what an audit saw before it was interrupted can be relied on (`CleanAuditPart`).
    private func isStillTrue(since moment: Timestamp?) async throws -> Bool {
        guard try await isEverythingWhole() else { return false }
        try await ledger.flush()
        var query = FindingLedger.Query()
        query.limit = Limits.listPageSizeMax
        while true {
            let page = try await ledger.find(query)
            for row in page where row.finding.mirror == nil && row.lastSeenAt >= moment ?? row.lastSeenAt {
                switch row.finding.outcome {
                case .pending, .unrepairable, .failed: return false
                case .repaired, .rescued, .mended: continue
                }
            }
            guard let last = page.last, page.count == query.limit else {
                return try await isEverythingWhole()
            }
            query.after = last.id
        }
    }

    private static let wholeDeadline: UInt64 = 2_000_000_000

    /// Whether every volume has what was committed when this was asked, at once or a moment later: the slowest one is always a
    /// batch behind while clients write.
    private func isEverythingWhole() async throws -> Bool {
        let committed = replicator.replicatorStatus().committed
        let end = objects.clock.monotonicNanoseconds() &+ Self.wholeDeadline
        while true {
            let status = replicator.replicatorStatus()
            if status.wholeCount(through: committed) == status.volumes.count { return true }
            guard objects.clock.monotonicNanoseconds() < end else { return false }
            try await objects.clock.sleep(for: .milliseconds(20))
        }
    }

    // MARK: Who needs what is lost

    /// Chunks that can't be repaired, as the names of the versions that need them.
    /// - Returns: the findings of which no version needs the chunk.
    @discardableResult
    private func nameUnrepairable(on volume: VolumeID, since moment: Timestamp?) async throws -> [FindingRow]
    {
        try await ledger.flush()
        var query = FindingLedger.Query()
        query.volume = volume
        query.isOpen = false
        query.limit = Limits.findingCountMax
        let lost = try await ledger.find(query).filter { row in
            row.finding.outcome == .unrepairable && row.names.isEmpty
                && row.lastSeenAt >= moment ?? row.lastSeenAt
        }
        let chunks = Set(lost.compactMap(\.finding.chunk))
        guard !chunks.isEmpty else { return [] }
        let needs = try await objects.versions(needing: chunks)
        try await ledger.name(needs)
        return lost.filter { row in row.finding.chunk.map { needs.names[$0] == nil } ?? false }
    }

    /// What nothing needs and no volume has is no loss: it is buried where it was found.
    private func buryUnneeded(_ rows: [FindingRow], on volume: VolumeID, _ subject: ScrubSubject) async throws
    {
        guard !rows.isEmpty else { return }
        let buried: Set<Digest>
        do {
            buried = try await replicator.buryUnneeded(Set(rows.compactMap(\.finding.chunk)), on: volume)
        } catch {
            if error is CancellationError { throw error }
            // As when a manifest is lost, too: nobody can tell what it lists. The findings stay what they are, and the next
            // walk asks again.
            return
        }
        guard !buried.isEmpty else { return }
        let mended = rows.filter { row in row.finding.chunk.map(buried.contains) ?? false }
        try await ledger.noteMended(mended)
        // What others have found was not counted here.
        let count = mended.count { $0.finding.foundBy == .scrub }
        state.withLock { $0.jobs[subject]?.noteMended(UInt64(count)) }
    }
}
