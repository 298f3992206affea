package import Catalog
package import Logging
package import Replication
package import StoreModel
internal import Synchronization

/// A mirror as it stands.
package struct MirrorStatus: Sendable {
    package let row: MirrorRow
    package let rules: [MirrorRule]
    package let worker: MirrorWorkerState
    package let pendingCount: UInt64
    package let pendingBytes: UInt64
    /// Of what is new.
    package let oldestPending: Timestamp?
    /// Versions from before the mirror that are queued; more follow while it is filling up.
    package let beforeCount: UInt64
    package let deadCount: UInt64
    /// Versions from before the mirror are not all queued yet.
    package let isFillingUp: Bool
    /// Why nobody can work on it, whatever the backend does: its credentials can't be opened.
    package let problem: String?

    /// How long what is new has waited at most.
    package func lag(at now: Timestamp) -> Double { Self.seconds(from: oldestPending, to: now) }

    /// How long versions from before the mirror have waited for it, if some are left.
    package func backfillLag(at now: Timestamp) -> Double {
        isFillingUp || beforeCount > 0 ? Self.seconds(from: row.createdAt, to: now) : 0
    }

    private static func seconds(from start: Timestamp?, to now: Timestamp) -> Double {
        start.map { Double(max(0, now.milliseconds - $0.milliseconds)) / 1000 } ?? 0
    }

    /// Everything that should be there is there, as far as the mirror's own account goes.
    package var isUpToDate: Bool { pendingCount == 0 && deadCount == 0 && !isFillingUp }
}

/// A mirror that the configuration declares and that can't be made.
package struct UnusableMirror: Sendable {
    package let name: MirrorName
    package let settings: MirrorSettings
    package let rules: [MirrorRule]
    package let reason: String

    package init(name: MirrorName, settings: MirrorSettings, rules: [MirrorRule], reason: String) {
        self.name = name
        self.settings = settings
        self.rules = rules
        self.reason = reason
    }
}

/// The workers of all mirrors: one each, started and ended as mirrors come and go.
package final class MirrorService: Sendable {
    package let directory: MirrorDirectory
    private let make: MirrorBackendMaker
    private let limits: Mutex<MirrorWorkerLimits>
    private let load: ClientLoad
    private let isAlone: Bool
    private let logger: Logger
    private let workers = Mutex<[MirrorID: MirrorWorker]>([:])
    private let refused = Mutex<[UnusableMirror]>([])

    /// - Parameters:
    ///   - isAlone: whether no other process can work on these mirrors: the store is locked.
    ///   - load: of the clients to whom mirrors yield.
    package init(
        _ directory: MirrorDirectory,
        make: @escaping MirrorBackendMaker,
        isAlone: Bool,
        load: ClientLoad = ClientLoad(),
        limits: MirrorWorkerLimits = MirrorWorkerLimits(),
        logger: Logger
    ) {
        self.directory = directory
        self.make = make
        self.limits = Mutex(limits)
        self.load = load
        self.isAlone = isAlone
        self.logger = logger
    }

    /// What each mirror does beside clients; of those that are worked on already, from their next start on.
    package var besideClients: WorkBudget.Rates {
        get { limits.withLock { $0.besideClients } }
        set { limits.withLock { $0.besideClients = newValue } }
    }

    /// A backend of a mirror, for reading.
    package func backend(of row: MirrorRow) throws -> any MirrorBackend {
        try make(row.settings, try directory.credentials(of: row))
    }

    /// Works until the task is cancelled.
    package func run() async {
        _ = try? await directory.sweep()
        _ = try? await directory.sealAnew()
        await withDiscardingTaskGroup { group in
            var generation: UInt64?
            while !Task.isCancelled {
                let found = directory.store.generation(of: .setting)
                if found != generation, let rows = try? await directory.mirrors() {
                    generation = found
                    for row in rows {
                        guard let worker = begin(row) else { continue }
                        group.addTask { await worker.run() }
                    }
                }
                do { try await directory.clock.sleep(for: .milliseconds(200)) } catch { break }
            }
            group.cancelAll()
        }
    }

    /// Works on all mirrors, or one, until nothing is left that could be done now.
    package func runUntilIdle(_ name: MirrorName? = nil) async throws {
        try await directory.sweep()
        // Without its keys a mirror says so itself.
        _ = try? await directory.sealAnew()
        let rows = try await directory.mirrors().filter { name == nil || $0.name == name }
        await withDiscardingTaskGroup { group in
            for row in rows {
                guard let worker = begin(row) else { continue }
                group.addTask { await worker.runUntilIdle() }
            }
        }
    }

    private func begin(_ row: MirrorRow) -> MirrorWorker? {
        let limits = limits.withLock { $0 }
        return workers.withLock { workers in
            guard workers[row.id]?.state.activity ?? .stopped == .stopped else { return nil }
            let worker = MirrorWorker(
                row,
                store: directory.store,
                make: make,
                clock: directory.clock,
                random: directory.random,
                isAlone: isAlone,
                load: load,
                limits: limits,
                logger: logger
            )
            workers[row.id] = worker
            return worker
        }
    }

    func worker(_ id: MirrorID) -> MirrorWorker? { workers.withLock { $0[id] } }

    /// Tasks were put in between, or something has changed out there.
    package func nudge(_ id: MirrorID) { worker(id)?.nudge() }

    /// Keeps a declared mirror that can't be made, so that a status shows it.
    package func note(_ mirror: UnusableMirror) { refused.withLock { $0.append(mirror) } }

    /// Declared mirrors that couldn't be made, as far as nobody has made them since.
    package func unusable() async throws -> [UnusableMirror] {
        let known = Set(try await directory.mirrors().map(\.name))
        return refused.withLock { $0.filter { !known.contains($0.name) } }
    }

    // MARK: Status

    package func status() async throws -> [MirrorStatus] {
        var list: [MirrorStatus] = []
        let rows = try await directory.mirrors()
        let known = Set(rows.map(\.id))
        workers.withLock { workers in workers = workers.filter { known.contains($0.key) } }
        for row in rows { list.append(try await status(of: row)) }
        return list
    }

    package func status(of row: MirrorRow) async throws -> MirrorStatus {
        let store = directory.store
        let worker = worker(row.id)
        let backfill = try await store.document(.outbox, MirrorKey.backfill(row.id)).map {
            try MirrorBackfill($0)
        }
        let pending = worker?.pending ?? PendingCount()
        let total = try await pending.total(row.id, store, boundary: backfill?.end ?? 0)
        let dead = try await deadCount(row.id)
        return MirrorStatus(
            row: row,
            rules: try await directory.route(row.id)?.rules ?? [],
            worker: worker?.state ?? MirrorWorkerState(stopped: row.isPaused),
            pendingCount: total.count,
            pendingBytes: total.bytes,
            oldestPending: total.oldest,
            beforeCount: total.beforeCount,
            deadCount: dead,
            isFillingUp: backfill?.isDone == false,
            problem: problem(of: row)
        )
    }

    private func problem(of row: MirrorRow) -> String? {
        do {
            _ = try directory.credentials(of: row)
            return nil
        } catch {
            return (error as? StoreError)?.message ?? "\(error)"
        }
    }

    private func deadCount(_ id: MirrorID) async throws -> UInt64 {
        let prefix = MirrorKey.under(MirrorKey.deadPrefix, id)
        return try await directory.store.read { reader in
            var count: UInt64 = 0
            try reader.forEachDocument(.outbox, prefix: prefix) { _ in
                count += 1
                return true
            }
            return count
        }
    }
}

extension MirrorWorkerState {
    init(stopped isPaused: Bool) { activity = isPaused ? .paused : .stopped }
}
