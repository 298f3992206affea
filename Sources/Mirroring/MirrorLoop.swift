internal import Catalog
internal import Logging
internal import StoreModel

/// What a worker's loop knows. Used by one task.
///
/// ```
/// settings ─▶ lease ─▶ probe ─▶ (backfill, read tasks, start tasks)* ─▶ take what comes back
/// ```
struct MirrorLoop {
    enum Event: Sendable {
        case tick
        case probed(Result<Bool, any Error>, generation: Int)
        case performed(MirrorTask, Result<MirrorOutcome, any Error>)
    }

    struct Attempts {
        var count = 0
        /// Failures between which the backend did something else.
        var counted = 0
        /// When it last failed, or was first started.
        var successesBefore: UInt64 = 0
    }

    /// What belongs to one set of settings.
    struct Setup: Sendable {
        let row: MirrorRow
        let route: MirrorRoute
        let backend: any MirrorBackend
        let pace: MirrorPace
    }

    let worker: MirrorWorker
    let untilIdle: Bool
    let memory: MemoryGate
    var breaker: CircuitBreaker
    var budget = RetryBudget()
    var window: TaskWindow
    var setup: Setup?
    var setupGeneration = 0
    var settingGeneration: UInt64?
    var keepsVersions: Bool?
    var isProbing = false
    var isTicking = false
    var running: Set<UInt64> = []
    var attempts: [UInt64: Attempts] = [:]
    /// Tasks up to here may have been tried by a worker before this one.
    var doubtfulBelow: UInt64 = .max
    var successCount: UInt64 = 0
    var hasLease = false
    var renewAt: UInt64 = 0
    var backfill: MirrorBackfill?
    var readGeneration: UInt64?
    var isAtEnd = false
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

    private var now: UInt64 { worker.clock.monotonicNanoseconds() }

    // MARK: One turn

    /// - Returns: false when the worker is to end.
    mutating func turn(_ group: inout TaskGroup<Event>) async throws -> Bool {
        guard now >= restsUntil else { return mayGoOn }
        guard try await refreshSettings() else { return false }
        guard let setup else { return mayGoOn }
        if worker.nudgeCount != nudges {
            nudges = worker.nudgeCount
            window.releaseAll()
            try await readHeldKeys()
            breaker.allowProbe()
            attempts = [:]
            isAtEnd = false
            try await noteDoubt()
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
        try await readTasks()
        start(setup, keepsVersions, &group)
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
        let (breaker, count, keeps) = (breaker, running.count, keepsVersions)
        worker.change { state in
            state.activity = activity
            state.breaker = breaker.state
            state.breakerOpenCount = breaker.openCount
            state.runningCount = count
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
                pace: MirrorPace(row.settings, clock: worker.clock)
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
        guard !hasLease || now >= renewAt else { return true }
        let isNew = !hasLease
        hasLease = try await worker.lease.take(worker.store, now: worker.clock.now())
        renewAt = now &+ MirrorLease.duration.nanoseconds / 3
        guard hasLease else { return false }
        if isNew { try await begin() }
        return true
    }

    /// Whatever another worker left.
    private mutating func begin() async throws {
        let id = worker.id
        backfill = try await worker.store.document(.outbox, MirrorKey.backfill(id)).map {
            try MirrorBackfill($0)
        }
        doubtfulBelow = 0
        try await noteDoubt()
        window = TaskWindow(countMax: worker.limits.window)
        attempts = [:]
        isAtEnd = false
        readGeneration = nil
        try await readHeldKeys()
    }

    /// Tasks that are there now may have been tried before: the first ones of the queue, as many as a window holds.
    private mutating func noteDoubt() async throws {
        let prefix = MirrorKey.under(MirrorKey.pendingPrefix, worker.id)
        let count = worker.limits.window
        let last = try await worker.store.read { reader in
            let rows = try reader.documents(.outbox, prefix: prefix, limit: count)
            return rows.last.flatMap { MirrorKey.sequence(of: $0.key) }
        }
        doubtfulBelow = max(doubtfulBelow, last.map { $0 &+ 1 } ?? 0)
    }

    private mutating func readHeldKeys() async throws {
        let prefix = MirrorKey.under(MirrorKey.deadPrefix, worker.id)
        let (held, count) = try await worker.store.read { reader in
            var held: [TaskWindow.Name] = []
            var count: UInt64 = 0
            try reader.forEachDocument(.outbox, prefix: prefix) { row in
                let letter = try DeadLetter(row)
                count += 1
                if letter.holdsKey { held.append(TaskWindow.Name(letter.task)) }
                return true
            }
            return (held, count)
        }
        for name in held { window.hold(name) }
        worker.change { $0.deadCount = count }
    }

    // MARK: Probe

    private mutating func startProbe(_ setup: Setup, _ group: inout TaskGroup<Event>) {
        guard !isProbing else { return }
        guard breaker.isClosed ? keepsVersions == nil : breaker.takeProbe(at: now) else { return }
        isProbing = true
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
        guard let state = backfill, !state.isDone, window.count < worker.limits.window / 4 else { return }
        let (limit, id) = (worker.limits.backfillPageSize, worker.id)
        let (tasks, cursor) = try await worker.store.read { reader in
            let rows = try reader.versions(afterSequence: state.cursor, limit: limit)
            var names: [BucketID: BucketName] = [:]
            for bucket in try reader.buckets() { names[bucket.id] = bucket.name }
            var tasks: [MirrorTask] = []
            for row in rows where row.id.sequence < state.end {
                guard let bucket = names[row.bucket], setup.route.matches(bucket: bucket, row: row) else {
                    continue
                }
                tasks.append(
                    MirrorTask(
                        mirror: id,
                        sequence: row.id.sequence,
                        change: .made,
                        bucketName: bucket,
                        row: row,
                        time: row.createdAt
                    )
                )
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
        try await worker.store.write(writes)
        backfill = next
        worker.pending.reset()
        isAtEnd = false
        lastProgress = now
    }

    private mutating func readTasks() async throws {
        guard window.wantsMore else { return }
        if isAtEnd {
            guard mayReadAgain, worker.store.generation(of: .outbox) != readGeneration else { return }
        }
        mayReadAgain = false
        let generation = worker.store.generation(of: .outbox)
        let prefix = MirrorKey.under(MirrorKey.pendingPrefix, worker.id)
        let from = prefix + MirrorKey.bytes(window.scanFrom)
        // What was there before comes first: a version must not stand in front of an older one of its key.
        let end = backfill.map { $0.isDone ? UInt64.max : $0.cursor } ?? .max
        let limit = min(worker.limits.pageSize, window.room)
        let page = try await worker.store.read { reader in
            try reader.documents(.outbox, prefix: prefix, from: from, limit: limit).map { try MirrorTask($0) }
        }
        let wanted = page.filter { $0.sequence <= end }
        window.add(wanted)
        isAtEnd = wanted.count < limit
        readGeneration = generation
    }

    private mutating func start(_ setup: Setup, _ keepsVersions: Bool, _ group: inout TaskGroup<Event>) {
        while running.count < setup.row.settings.concurrency, let task = window.next(at: now) {
            running.insert(task.sequence)
            let isDoubtful = task.sequence < doubtfulBelow || attempts[task.sequence] != nil
            if attempts[task.sequence] == nil {
                attempts[task.sequence] = Attempts(successesBefore: successCount)
            }
            let transfer = MirrorTransfer(
                store: worker.store,
                backend: setup.backend,
                id: worker.id,
                settings: setup.row.settings,
                route: setup.route,
                keepsVersions: keepsVersions,
                memory: memory,
                pace: setup.pace
            )
            let (store, proof, id) = (worker.store, worker.lease.proof, worker.id)
            group.addTask {
                do {
                    let outcome = try await transfer.perform(task, isDoubtful: isDoubtful)
                    var writes = outcome.writes.filter { $0.key != MirrorKey.upload(id, task.sequence) }
                    writes.append(
                        DocumentWrite(space: .outbox, key: MirrorKey.pending(id, task.sequence), body: nil)
                    )
                    if task.change == .made || isDoubtful {
                        writes.append(
                            DocumentWrite(space: .outbox, key: MirrorKey.upload(id, task.sequence), body: nil)
                        )
                    }
                    try await store.write(writes + [proof])
                    return .performed(task, .success(outcome))
                } catch {
                    return .performed(task, .failure(error))
                }
            }
        }
    }
}
