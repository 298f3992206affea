internal import Catalog
internal import Logging
internal import StoreModel
internal import Synchronization

/// What a worker's loop knows. Used by one task.
///
/// ```
/// settings ─▶ lease ─▶ probe ─▶ (backfill, read tasks, start tasks)* ─▶ take what comes back
/// ```
struct MirrorLoop {
    enum Event: Sendable {
        case tick
        case probed(Result<Bool, any Error>, generation: Int)
        case performed(MirrorTask, Result<Ending, any Error>)
        case ended([(ending: Ending, error: (any Error)?)])
    }

    /// A task that was carried out, whose end is to be written.
    struct Ending: Sendable {
        let task: MirrorTask
        let outcome: MirrorOutcome
        /// There may be a row of an upload in parts.
        let mayHaveUpload: Bool

        func writes(_ id: MirrorID) -> [DocumentWrite] {
            let upload = MirrorKey.upload(id, task.sequence)
            var writes = outcome.writes.filter { $0.key != upload }
            let pending = MirrorKey.pending(id, task.sequence)
            for key in mayHaveUpload || writes.count < outcome.writes.count ? [pending, upload] : [pending] {
                writes.append(DocumentWrite(space: .outbox, key: key, body: nil))
            }
            return writes
        }
    }

    struct Attempts {
        var count = 0
        /// Failures that count against the task: MirrorLoop+Events.swift.
        var counted = 0
        /// How many tasks, and how many probes, had succeeded when it last failed, or was first started.
        var tasksBefore: UInt64 = 0
        var probesBefore: UInt64 = 0
    }

    /// Tasks that may wait for their ends to be written.
    private static let endingCountMax = 64

    /// Reading of the tasks of a class.
    struct Scan {
        var isAtEnd = false
        var generation: UInt64?
    }

    /// What belongs to one set of settings.
    struct Setup: Sendable {
        let row: MirrorRow
        let route: MirrorRoute
        let backend: any MirrorBackend
        let proof: MetadataProof
        let pace: MirrorPace
    }

    let worker: MirrorWorker
    let untilIdle: Bool
    let memory: MemoryGate
    /// Objects whose digest is looked for at a time: who reads for it has some MiB ahead that `memory` knows nothing of.
    let searches = MemoryGate(2)
    var breaker: CircuitBreaker
    var budget = RetryBudget()
    var window: TaskWindow
    var setup: Setup?
    var setupGeneration = 0
    var settingGeneration: UInt64?
    var keepsVersions: Bool?
    var isProbing = false
    var isTicking = false
    /// Tasks that were started and whose ends aren't written.
    var running: Set<UInt64> = []
    /// Carried out, oldest first: their ends are written together, as soon as those before them are.
    var ended: [Ending] = []
    /// How many ends are being written.
    var writingCount = 0
    var attempts: [UInt64: Attempts] = [:]
    /// Tasks up to here may have been tried by a worker before this one: of the new ones, and of those from before.
    var doubtfulBelow: UInt64 = .max
    var doubtfulBeforeBelow: UInt64 = .max
    var taskSuccessCount: UInt64 = 0
    var probeSuccessCount: UInt64 = 0
    /// Tasks that have failed since one succeeded, of which nobody knows whose fault it is.
    var failing: Set<UInt64> = []
    /// A task fails and the backend seems to work: a probe tells, and nothing waits for it.
    var wantsProbe = false
    var hasLease = false
    var renewAt: UInt64 = 0
    var backfill: MirrorBackfill?
    var newScan = Scan()
    var beforeScan = Scan()
    var rescans: UInt64 = 0
    /// Keys of which nothing from before is left.
    var clearKeys: Set<TaskWindow.Name> = []
    /// Up to where versions from before were put ahead of a new task of their key.
    var aheadUpTo: [TaskWindow.Name: UInt64] = [:]
    /// The first new task that waits for the back-fill to be done, and the keys of all that do: what comes later of these
    /// waits as well, whatever the back-fill has come to since.
    var blockedFrom: UInt64?
    var blockedKeys: Set<TaskWindow.Name> = []
    var mayReadAgain = true
    var nudges: UInt64 = 0
    var lastProgress: UInt64
    /// After trouble with the store or the settings nothing is tried before.
    var restsUntil: UInt64 = 0

    init(_ worker: MirrorWorker, untilIdle: Bool) {
        self.worker = worker
        self.untilIdle = untilIdle
        memory = MemoryGate(worker.limits.memory)
        breaker = worker.limits.breaker
        window = TaskWindow(countMax: worker.limits.window)
        lastProgress = worker.clock.monotonicNanoseconds()
        nudges = worker.nudgeCount
    }

    var now: UInt64 { worker.clock.monotonicNanoseconds() }

    // MARK: One turn

    /// - Returns: false when the worker is to end.
    mutating func turn(_ group: inout TaskGroup<Event>) async throws -> Bool {
        writeEnds(&group)
        guard now >= restsUntil else { return mayGoOn }
        guard try await refreshSettings() else { return false }
        guard let setup else { return mayGoOn }
        if worker.nudgeCount != nudges {
            let count = worker.nudgeCount
            window.releaseAll()
            try await readHeldKeys()
            breaker.allowProbe()
            attempts = [:]
            (newScan, beforeScan) = (Scan(), Scan())
            // What was given up and is tried again stands before what is newer of its key.
            (clearKeys, aheadUpTo) = ([], [:])
            try await noteDoubt()
            // Only now: what can't be read is read again in the next turn, before anything is sent.
            nudges = count
        }
        if setup.row.isPaused {
            show(.paused)
            return !untilIdle || !running.isEmpty
        }
        guard try await keepLease() else {
            show(.elsewhere)
            return mayGoOn
        }
        startProbe(setup, &group)
        guard let keepsVersions, breaker.isClosed else {
            show(.waiting)
            return mayGoOn
        }
        try await fillBackfill(setup)
        try await readTasks(setup, keepsVersions)
        start(setup, keepsVersions, &group)
        let isAtEnd = newScan.isAtEnd && beforeScan.isAtEnd && blockedFrom == nil
        let isIdle = running.isEmpty && window.isEmpty && isAtEnd && backfill?.isDone != false
        show(isIdle ? .idle : .working)
        if isIdle, untilIdle { return false }
        return mayGoOn
    }

    /// Without an end in sight somebody who waits is told.
    private var mayGoOn: Bool {
        !untilIdle || !running.isEmpty || now &- lastProgress < worker.limits.giveUp.nanoseconds
    }

    private func show(_ activity: MirrorWorkerState.Activity) {
        let (breaker, count, keeps, tasks) = (breaker, running.count, keepsVersions, window.count)
        worker.change { state in
            state.activity = activity
            state.breaker = breaker.state
            state.breakerOpenCount = breaker.openCount
            state.runningCount = count
            state.taskCount = tasks
            state.keepsVersions = keeps
        }
    }

    /// - Returns: nil when the worker is to end.
    mutating func wait(_ group: inout TaskGroup<Event>) async -> Event? {
        if !isTicking {
            isTicking = true
            let (clock, pause) = (worker.clock, worker.limits.pause)
            group.addTask {
                try? await clock.sleep(for: pause)
                return .tick
            }
        }
        return await group.next()
    }

    // MARK: Settings and lease

    /// - Returns: false when the mirror was removed.
    private mutating func refreshSettings() async throws -> Bool {
        let generation = worker.store.generation(of: .setting)
        guard generation != settingGeneration else { return true }
        let (name, id) = (worker.name, worker.id)
        let found = try await worker.store.read { reader -> (MirrorRow, MirrorRoute)? in
            guard let row = try reader.document(.setting, MirrorRow.key(name)),
                let route = try reader.document(.setting, MirrorKey.route(id))
            else { return nil }
            return (try MirrorRow(row), try MirrorRoute(route))
        }
        guard let (row, route) = found, row.id == id else { return false }
        settingGeneration = generation
        guard row != setup?.row || route != setup?.route else { return true }
        let mustAsk = setup?.row.settings != row.settings || setup?.row.credentials != row.credentials
        do {
            let bytes = try worker.store.open(
                row.credentials,
                context: MirrorCredentials.context(id)
            )
            let credentials: MirrorCredentials
            do {
                credentials = try MirrorCredentials(bytes: bytes)
            } catch {
                throw StoreError(.storeDamaged, "The credentials of the mirror \(name) can't be read.")
            }
            let backend =
                mustAsk ? try worker.make(row.settings, credentials) : setup?.backend
            guard let backend else { return true }
            setup = Setup(
                row: row,
                route: route,
                backend: backend,
                proof: mustAsk ? MetadataProof() : setup?.proof ?? MetadataProof(),
                pace: MirrorPace(
                    row.settings,
                    clock: worker.clock,
                    lease: worker.lease,
                    yield: worker.yield
                )
            )
            guard mustAsk else { return true }
            setupGeneration += 1
            // Another place, or other keys: what was known of the backend is no longer known.
            keepsVersions = nil
            breaker = worker.limits.breaker
            isProbing = false
        } catch let error as StoreError {
            settingGeneration = nil
            throw error
        }
        return true
    }

    private mutating func keepLease() async throws -> Bool {
        guard now >= renewAt else { return hasLease }
        // What was begun under a lease that is lost ends before there is a new one: no task runs twice.
        guard hasLease || running.isEmpty else { return false }
        let time = now
        let lease = worker.lease
        let wall = worker.clock.now()
        let clock = worker.clock
        guard
            try await lease.take(
                worker.store,
                now: wall,
                monotonic: time,
                later: { clock.monotonicNanoseconds() },
                isHeld: hasLease
            )
        else {
            (hasLease, renewAt) = (false, time &+ 1_000_000_000)
            return false
        }
        if !hasLease { try await begin() }
        (hasLease, renewAt) = (true, time &+ MirrorLease.duration.nanoseconds / 3)
        return true
    }

    /// Whatever another worker left.
    private mutating func begin() async throws {
        let id = worker.id
        backfill = try await worker.store.document(.outbox, MirrorKey.backfill(id)).map {
            try MirrorBackfill($0)
        }
        window = TaskWindow(countMax: worker.limits.window, boundary: backfill?.end ?? 0)
        (attempts, failing, clearKeys, aheadUpTo) = ([:], [], [], [:])
        (newScan, beforeScan, blockedFrom, blockedKeys) = (Scan(), Scan(), nil, [])
        try await readHeldKeys()
        (doubtfulBelow, doubtfulBeforeBelow) = (0, 0)
        try await noteDoubt()
    }

    /// Tasks that are there now may have been tried before: of the new ones those that fit into a window, without the
    /// keys that are held; all of those from before, of which few are queued at a time.
    private mutating func noteDoubt() async throws {
        let prefix = MirrorKey.under(MirrorKey.pendingPrefix, worker.id)
        let (window, countMax) = (window, worker.limits.window)
        let (before, new) = try await worker.store.read { reader in
            var (before, new) = (UInt64(0), UInt64(0))
            var (count, countByKey) = (0, [TaskWindow.Name: Int]())
            try reader.forEachDocument(.outbox, prefix: prefix) { row in
                let task = try MirrorTask(row)
                guard task.sequence >= window.boundary else {
                    before = task.sequence &+ 1
                    return true
                }
                let name = TaskWindow.Name(task)
                guard !window.isHeld(name), countByKey[name, default: 0] < TaskWindow.perKeyMaxDefault else {
                    return true
                }
                countByKey[name, default: 0] += 1
                count += 1
                new = task.sequence &+ 1
                return count < countMax
            }
            return (before, new)
        }
        doubtfulBelow = max(doubtfulBelow, new)
        doubtfulBeforeBelow = max(doubtfulBeforeBelow, before)
    }

    private mutating func readHeldKeys() async throws {
        let prefix = MirrorKey.under(MirrorKey.deadPrefix, worker.id)
        let (held, count) = try await worker.store.read { reader in
            var held: [TaskWindow.Name: VersionID] = [:]
            var count: UInt64 = 0
            try reader.forEachDocument(.outbox, prefix: prefix) { row in
                let letter = try DeadLetter(row)
                count += 1
                let name = TaskWindow.Name(letter.task)
                if letter.holdsKey, held[name] == nil { held[name] = letter.task.version }
                return true
            }
            return (held, count)
        }
        for name in held.keys { window.hold(name) }
        worker.held.withLock { $0 = held }
        worker.change { $0.deadCount = count }
    }

    // MARK: Probe

    private mutating func startProbe(_ setup: Setup, _ group: inout TaskGroup<Event>) {
        guard !isProbing else { return }
        guard breaker.isClosed ? keepsVersions == nil || wantsProbe : breaker.takeProbe(at: now) else {
            return
        }
        (isProbing, wantsProbe) = (true, false)
        let generation = setupGeneration
        group.addTask {
            do {
                try await setup.pace.request()
                return .probed(.success(try await setup.backend.keepsVersions()), generation: generation)
            } catch {
                return .probed(.failure(error), generation: generation)
            }
        }
    }

    // MARK: Tasks

    /// Queues some of the versions that were there before the mirror.
    private mutating func fillBackfill(_ setup: Setup) async throws {
        guard let state = backfill, !state.isDone, window.count(of: .before) < worker.limits.window / 4 else {
            return
        }
        let (limit, id) = (worker.limits.backfillPageSize, worker.id)
        let (tasks, cursor) = try await worker.store.read { reader in
            let rows = try reader.versions(afterSequence: state.cursor, limit: limit)
            var names: [BucketID: BucketName] = [:]
            for bucket in try reader.buckets() { names[bucket.id] = bucket.name }
            var tasks: [MirrorTask] = []
            for row in rows where row.id.sequence < state.end {
                // What went ahead of something new is queued or done.
                guard let bucket = names[row.bucket], setup.route.matches(bucket: bucket, row: row),
                    try reader.document(.outbox, MirrorKey.pending(id, row.id.sequence)) == nil,
                    try reader.document(.outbox, MirrorKey.mirrored(id, row.id)) == nil,
                    try reader.document(.outbox, MirrorKey.dead(id, row.id.sequence)) == nil
                else { continue }
                tasks.append(Self.task(before: row, bucket, id))
            }
            let last = rows.count < limit ? state.end : min(rows.last?.id.sequence ?? state.end, state.end)
            return (tasks, last)
        }
        let next = MirrorBackfill(cursor: cursor, end: state.end)
        var writes = tasks.map { DocumentWrite(space: .outbox, key: $0.pendingRow.key, body: $0.body) }
        writes.append(
            DocumentWrite(
                space: .outbox,
                key: MirrorKey.backfill(id),
                expectation: .equals(state.body),
                body: next.body
            )
        )
        writes.append(worker.lease.proof)
        let counted = worker.pending.mark()
        try await worker.store.write(writes)
        backfill = next
        worker.pending.noteAdded(tasks, since: counted)
        beforeScan = Scan()
        lastProgress = now
    }

    private mutating func start(_ setup: Setup, _ keepsVersions: Bool, _ group: inout TaskGroup<Event>) {
        let concurrency = setup.row.settings.concurrency
        // Something new finds room whatever is under way.
        let beforeMax = max(1, concurrency * 3 / 4)
        while mayStart(concurrency), let task = window.next(at: now, beforeMax: beforeMax) {
            running.insert(task.sequence)
            let doubtfulBelow = task.sequence < window.boundary ? doubtfulBeforeBelow : doubtfulBelow
            let isDoubtful =
                task.isQueuedAgain || task.sequence < doubtfulBelow || attempts[task.sequence] != nil
            if attempts[task.sequence] == nil {
                attempts[task.sequence] = Attempts(
                    tasksBefore: taskSuccessCount,
                    probesBefore: probeSuccessCount
                )
            }
            let transfer = MirrorTransfer(
                store: worker.store,
                backend: setup.backend,
                proof: setup.proof,
                id: worker.id,
                settings: setup.row.settings,
                route: setup.route,
                keepsVersions: keepsVersions,
                memory: memory,
                searches: searches,
                pace: setup.pace
            )
            group.addTask {
                do {
                    let outcome = try await transfer.perform(task, isDoubtful: isDoubtful)
                    let isInParts = outcome.bytes > transfer.settings.partSize(for: outcome.bytes)
                    let ending = Ending(task: task, outcome: outcome, mayHaveUpload: isDoubtful || isInParts)
                    return .performed(task, .success(ending))
                } catch {
                    return .performed(task, .failure(error))
                }
            }
        }
    }

    /// A task that waits for its end to be written keeps no new one from the backend, up to a bound.
    private func mayStart(_ concurrency: Int) -> Bool {
        let endingCount = ended.count + writingCount
        return running.count - endingCount < concurrency && endingCount < Self.endingCountMax
    }

    /// Writes the ends of all tasks that were carried out, in one decision, while no others are being written. What is lost of
    /// them is carried out again: whoever does looks first.
    private mutating func writeEnds(_ group: inout TaskGroup<Event>) {
        guard writingCount == 0, !ended.isEmpty else { return }
        let endings = ended
        (ended, writingCount) = ([], endings.count)
        let worker = worker
        group.addTask { .ended(await Self.write(endings, worker)) }
    }

    /// - Returns: of each whether it was written.
    private static func write(_ endings: [Ending], _ worker: MirrorWorker) async
        -> [(ending: Ending, error: (any Error)?)]
    {
        for ending in endings { worker.pending.noteEnding(ending.task) }
        do {
            try await worker.store.write(endings.flatMap { $0.writes(worker.id) } + [worker.lease.proof])
            return endings.map { ($0, nil) }
        } catch {
            for ending in endings { worker.pending.noteNotEnded(ending.task) }
            guard endings.count > 1, let refusal = error as? StoreError, !refusal.code.isOfTheMoment else {
                return endings.map { ($0, error) }
            }
        }
        // It is about one of them, and nobody knows which: that one alone fails.
        var outcomes: [(ending: Ending, error: (any Error)?)] = []
        for (index, ending) in endings.enumerated() {
            let outcome = await write([ending], worker)
            outcomes += outcome
            // Trouble of the moment is not waited for by each of them.
            if let error = outcome.first?.error, (error as? StoreError)?.code.isOfTheMoment ?? true {
                return outcomes + endings[(index + 1)...].map { ($0, error) }
            }
        }
        return outcomes
    }
}
