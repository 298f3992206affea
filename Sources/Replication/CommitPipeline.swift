internal import BlobVolume
internal import Catalog
internal import Logging
internal import StoreModel
internal import Synchronization

/// Group commit: decides commands in order, puts them into batches of the commit log, sends each batch with its small
/// payloads to the log volumes, and answers the callers once the log says that a quorum has it.
///
/// ```
/// submit ─▶ waiting ─▶ decided (in a batch, pending) ─▶ committed (on a quorum) ─▶ applied (in the index)
///                                                            └─▶ caller answered
/// ```
///
/// Invariants:
/// 1. Batches are built one after the other under the lock; the machine orders them, and a batch is built only while
///    the machine offers a place for it.
/// 2. A caller is answered with success only when its batch is committed and each small payload in it is durable on
///    W replicas. An answer that rests on a pending decision waits for that decision's batch.
/// 3. The index gets batches in order and only after they are committed. At most `Limits.unappliedBatchCountMax`
///    wait for it; beyond, no batch is built.
/// 4. What is decided under the lock is carried out in the order of the decisions, by one thread at a time: batches
///    reach the queue of a volume in the order of the log.
/// 5. Nothing here blocks: waiting is done by threads of the volumes and of the applier.
final class CommitPipeline: Sendable {
    struct Request: Sendable {
        let command: CatalogCommand
        let operation: OperationID
        let chunks: [ChunkWrite]
        /// Volumes whose bulk segments were synced for this request.
        let synced: VolumeMask
        let submittedAt: UInt64
        let answer: @Sendable (Result<CatalogOutcome, StoreError>) -> Void
    }

    /// An entry of the log itself: a snapshot note, a change of membership.
    struct SystemRequest: Sendable {
        let mutations: @Sendable (_ machine: borrowing CommitLogMachine) -> Result<SystemEntry, StoreError>
        var submittedAt: UInt64 = 0
        let answer: @Sendable (Result<LogPosition, StoreError>) -> Void
    }

    struct SystemEntry: Sendable {
        var mutations: [CatalogMutation]
        var membership: LogMembership?
        /// Volumes that lack something the mutations refer to.
        var incomplete = VolumeMask()
    }

    struct Waiter: Sendable {
        let answer: @Sendable (Result<CatalogOutcome, StoreError>) -> Void
        let result: Result<CatalogOutcome, StoreError>
    }

    struct Batch: Sendable {
        let commit: CommitBatch
        var applied: AppliedBatch
        /// The last decision in it; 0 when it has none.
        let lastDecision: UInt64
        /// Small payloads by the volumes that get them, until the batch is committed.
        var payloads: [(targets: VolumeMask, record: PayloadRecord)]
        let hasPayloads: Bool
        /// Volumes that lack something the batch refers to.
        var incomplete: VolumeMask
        var acknowledged = VolumeMask()
        var outstanding = VolumeMask()
        var isCommitted = false
        var waiters: [Waiter]
        var systemAnswer: (@Sendable (Result<LogPosition, StoreError>) -> Void)?
        let builtAt: UInt64

        var hasNoWaiters: Bool { waiters.isEmpty && systemAnswer == nil }
    }

    struct State: ~Copyable {
        var machine: CommitLogMachine
        var decider: CatalogDecider?
        var waiting: [Request] = []
        var waitingHead = 0
        var systemWaiting: [SystemRequest] = []
        /// Batches whose callers were not all answered yet, by sequence, in order.
        var batches: [Batch] = []
        /// Batches that the machine may still ask for, oldest first.
        var retained: [CommitBatch] = []
        var committedSequence: UInt64 = 0
        var appliedSequence: UInt64 = 0
        var toApply: [(batch: AppliedBatch, lastDecision: UInt64)] = []
        var isApplying = false
        var barriers: [(sequence: UInt64, continuation: CheckedContinuation<Void, any Error>)] = []
        /// Set once the pipeline can't go on: the log was deposed, the index failed, or the store closes.
        var stopReason: StoreError?
        /// The store closes: what volumes refuse from now on is no failure of theirs.
        var isClosing = false
        var openWaiter: (@Sendable (Result<Void, StoreError>) -> Void)?
        /// Actions of the machine that have not ended.
        var actionsInFlight = 0
        /// Members of the log set that this process has.
        var logMask = VolumeMask()
        var batchSizes = BatchSizes()
        var isSweeping = false
        /// What is to be done outside the lock, in the order in which it was decided.
        var outbox: [Work] = []
        var isDraining = false
    }

    let state: Mutex<State>
    let volumes: VolumeSet
    let quorum: QuorumConfiguration
    let catalog: any CatalogStore
    let clock: any StoreClock
    let random: any RandomSource
    let timers: any Timers
    let logger: Logger
    let applier: WorkerThread
    /// Told of a volume whose write or fsync failed.
    let onVolumeFailure = Mutex<(@Sendable (Int, String) -> Void)?>(nil)

    init(
        volumes: VolumeSet,
        quorum: QuorumConfiguration,
        catalog: any CatalogStore,
        clock: any StoreClock,
        random: any RandomSource,
        timers: any Timers,
        logger: Logger
    ) {
        self.volumes = volumes
        self.quorum = quorum
        self.catalog = catalog
        self.clock = clock
        self.random = random
        self.timers = timers
        self.logger = logger
        state = Mutex(State(machine: CommitLogMachine(quorum: quorum)))
        applier = WorkerThread(name: "hf-apply", costMax: 16)
    }

    /// Changes the state under the lock; what follows from it is carried out afterwards, in order.
    func decide(_ body: (inout State) -> [Work]) {
        state.withLock { state in state.outbox += body(&state) }
        drain()
    }

    private func drain() {
        var isFirst = true
        while true {
            let work = state.withLock { state -> [Work] in
                if isFirst, state.isDraining { return [] }
                defer { state.outbox = [] }
                state.isDraining = !state.outbox.isEmpty
                return state.outbox
            }
            guard !work.isEmpty else { break }
            isFirst = false
            // The volumes first: their I/O runs while callers are answered.
            perform(work.filter { !$0.isAnswer })
            perform(work.filter(\.isAnswer))
        }
        // Whoever ended the last action while this thread was draining could not tell that it was the last.
        if !isFirst { checkOpening() }
    }

    /// The volumes that carry the log, as far as they are known to this process.
    var logMask: VolumeMask { state.withLock { $0.logMask } }
    var epoch: UInt64 { state.withLock { $0.machine.currentEpoch } }
    var committedSequence: UInt64 { state.withLock { $0.machine.committedSequence } }
    var appliedSequence: UInt64 { state.withLock { $0.appliedSequence } }
    /// Volumes that have durably promised the present epoch.
    var promisedVolumes: [VolumeID] {
        state.withLock { state in
            state.machine.volumes.filter { $0.isUp && $0.record.promise >= state.machine.currentEpoch }.map(
                \.id
            )
        }
    }
    /// The batches after this sequence can be read from some volume.
    var baseSequence: UInt64 { state.withLock { $0.machine.lowestBase } }

    /// Whether something that the log asked for is still under way.
    var isBusy: Bool {
        state.withLock { state in
            state.stopReason == nil
                && (state.actionsInFlight > 0 || state.isApplying || !state.toApply.isEmpty)
        }
    }

    /// A volume failed: it takes no further part, and nobody waits for its answers.
    func volumeFailed(_ index: Int) {
        let id = volumes.slots[index].id
        let reason = volumes.problem(at: index) ?? "failed"
        decide { state in
            for batch in state.batches.indices { state.batches[batch].outstanding.remove(index) }
            var work: [Work] = []
            settleBatches(&state, &work)
            return work
        }
        handle(endsAction: false) { $0.fail(id, reason: reason) }
    }

    // MARK: Submitting

    /// Queues a command; its answer comes when it is committed, refused, or the deadline has passed.
    func submit(_ request: Request) {
        let (refusal, mustPump): (StoreError?, Bool) = state.withLock { state in
            if let reason = state.stopReason { return (reason, false) }
            state.waiting.append(request)
            // When as many batches are under way as may be, the end of one of them takes the request along.
            let inFlight = state.batches.count { !$0.isCommitted }
            return (
                nil, inFlight < Self.batchesInFlightMax || !state.isSweeping || !state.machine.hasQuorumUp
            )
        }
        if let refusal {
            request.answer(.failure(refusal))
        } else if mustPump {
            pump()
        }
    }

    func submit(_ request: SystemRequest) {
        let refusal: StoreError? = state.withLock { state in
            if let reason = state.stopReason { return reason }
            var request = request
            request.submittedAt = clock.monotonicNanoseconds()
            state.systemWaiting.append(request)
            return nil
        }
        if let refusal { request.answer(.failure(refusal)) } else { pump() }
    }

    /// Builds batches while there are requests and the log takes them; then does what the log asks for.
    func pump() {
        decide { state in buildBatches(&state) }
        startSweeping()
    }

    func buildBatches(_ state: inout State) -> [Work] {
        guard state.stopReason == nil, state.decider != nil else { return [] }
        guard state.machine.hasQuorumUp else { return refuseAll(&state) }
        guard state.toApply.count < Limits.unappliedBatchCountMax else { return [] }
        var work: [Work] = []
        while let actions = buildSystemBatch(&state, &work) ?? buildBatch(&state, &work) {
            work += prepare(actions, &state)
        }
        return work
    }

    /// With too few log volumes left nothing can be committed before the store is opened again (a failed volume stays
    /// failed): whoever waits is told at once.
    private func refuseAll(_ state: inout State) -> [Work] {
        guard
            !state.batches.isEmpty || state.waitingHead < state.waiting.count || !state.systemWaiting.isEmpty
        else { return [] }
        let error = volumes.lostQuorum(of: state.logMask.indices, needed: quorum.writeQuorum)
        var work: [Work] = []
        for index in state.batches.indices where !state.batches[index].isCommitted {
            work += Self.unknownAnswers(state.batches[index], because: error.message)
            state.batches[index].waiters = []
            state.batches[index].systemAnswer = nil
        }
        work += refuseWaiting(&state, error)
        return work
    }

    /// Answers everything that is in no batch.
    func refuseWaiting(_ state: inout State, _ error: StoreError) -> [Work] {
        let requests = state.waiting[state.waitingHead...]
        var work: [Work] = requests.map { request in .answer { request.answer(.failure(error)) } }
        work += state.systemWaiting.map { request in .answer { request.answer(.failure(error)) } }
        state.waiting = []
        state.waitingHead = 0
        state.systemWaiting = []
        return work
    }

    private func buildSystemBatch(
        _ state: inout State,
        _ work: inout [Work]
    ) -> [CommitLogMachine.Action]? {
        guard let place = state.machine.nextPlace else { return nil }
        while !state.systemWaiting.isEmpty {
            let request = state.systemWaiting.removeFirst()
            switch request.mutations(state.machine) {
            case .failure(let error):
                work.append(.answer { request.answer(.failure(error)) })
            case .success(let entry):
                return propose(
                    place,
                    entries: [.system(entry.mutations, operation: OperationID.random(from: random))],
                    contents: BatchContents(
                        incomplete: entry.incomplete,
                        systemAnswer: request.answer,
                        membership: entry.membership
                    ),
                    &state
                )
            }
        }
        return nil
    }

    /// What a batch carries beside its entries.
    struct BatchContents {
        var payloads: [(targets: VolumeMask, record: PayloadRecord)] = []
        var incomplete = VolumeMask()
        var waiters: [Waiter] = []
        var systemAnswer: (@Sendable (Result<LogPosition, StoreError>) -> Void)?
        var membership: LogMembership?
        var lastDecision: UInt64 = 0
    }

    private func buildBatch(_ state: inout State, _ work: inout [Work]) -> [CommitLogMachine.Action]? {
        guard state.waitingHead < state.waiting.count, let place = state.machine.nextPlace else { return nil }
        guard state.batches.count(where: { !$0.isCommitted }) < Self.batchesInFlightMax else { return nil }
        var entries: [CatalogEntry] = []
        var contents = BatchContents()
        var byteCount = 0
        while state.waitingHead < state.waiting.count, entries.count < Limits.batchEntryCountMax,
            byteCount < Limits.batchByteCountMax
        {
            let request = state.waiting[state.waitingHead]
            state.waitingHead += 1
            if let shortage = shortage(of: request) {
                work.append(.answer { request.answer(.failure(shortage)) })
                continue
            }
            let (entry, result, dependsOn) = decide(request, &state)
            if let entry {
                entries.append(entry)
                contents.lastDecision = entry.sequence
                contents.waiters.append(Waiter(answer: request.answer, result: result))
                byteCount += 512
                for chunk in request.chunks {
                    let held = chunk.holders.intersection(
                        chunk.needsBulkSync ? request.synced : chunk.holders
                    )
                    guard let payload = chunk.deferred else {
                        contents.incomplete = contents.incomplete.union(chunk.placement.subtracting(held))
                        continue
                    }
                    contents.payloads.append((chunk.placement.subtracting(held), payload))
                    byteCount += payload.bytes.count
                }
            } else if dependsOn != nil, !contents.waiters.isEmpty {
                contents.waiters.append(Waiter(answer: request.answer, result: result))
            } else if dependsOn != nil, let last = state.batches.indices.last,
                !state.batches[last].isCommitted
            {
                state.batches[last].waiters.append(Waiter(answer: request.answer, result: result))
            } else {
                work.append(.answer { request.answer(result) })
            }
        }
        if state.waitingHead == state.waiting.count || state.waitingHead >= 1024 {
            state.waiting.removeFirst(state.waitingHead)
            state.waitingHead = 0
        }
        guard !entries.isEmpty else { return nil }
        return propose(place, entries: entries, contents: contents, &state)
    }

    /// Batches that are being written at a time: while one is synced the next one gathers its requests. With two, the
    /// batches are a third smaller and the processor, which is what is short, does more for each put.
    private static let batchesInFlightMax = 1

    /// Why a request can't be committed now: a chunk it refers to has lost too many of its copies since it was written.
    private func shortage(of request: Request) -> StoreError? {
        let usable = volumes.usableMask
        for chunk in request.chunks {
            var held = chunk.holders.intersection(usable)
            if chunk.needsBulkSync { held = held.intersection(request.synced) }
            if chunk.deferred != nil {
                for index in chunk.placement.subtracting(held).indices where volumes.acceptsPayloads(index) {
                    held.insert(index)
                }
            }
            if held.count < quorum.writeQuorum {
                return volumes.shortage(
                    of: chunk.placement.indices,
                    needed: quorum.writeQuorum,
                    for: "a write"
                )
            }
        }
        return nil
    }

    private func decide(
        _ request: Request,
        _ state: inout State
    ) -> (CatalogEntry?, Result<CatalogOutcome, StoreError>, dependsOn: UInt64?) {
        do throws(DecisionFailure) {
            let decision = try state.decider?.decide(
                request.command,
                operation: request.operation,
                now: clock.now(),
                random: random,
                reader: catalog
            )
            guard let decision else {
                return (nil, .failure(StoreError(.catalogUnavailable, "The catalog is not open.")), nil)
            }
            return (decision.entry, .success(decision.outcome), decision.dependsOn)
        } catch {
            return (nil, .failure(error.error), error.dependsOn)
        }
    }

    func propose(
        _ place: CommitLogMachine.LogProposal,
        entries: [CatalogEntry],
        contents: BatchContents,
        _ state: inout State
    ) -> [CommitLogMachine.Action] {
        let hash = state.decider.map { StateHash(high: $0.stateHash.high, low: $0.stateHash.low) } ?? .zero
        let commit = CommitBatch(
            epoch: place.epoch,
            predecessor: place.predecessor,
            commitIndex: place.commitIndex,
            stateHash: CommitBatch.StateHash(high: hash.high, low: hash.low),
            timestamp: max(clock.now(), state.decider?.lastTimestamp ?? clock.now()),
            body: CatalogEntryCodec.encode(entries)
        )
        let applied = AppliedBatch(
            position: commit.position,
            predecessor: commit.predecessor,
            stateHash: hash,
            timestamp: commit.timestamp,
            entries: entries
        )
        state.batches.append(
            Batch(
                commit: commit,
                applied: applied,
                lastDecision: contents.lastDecision,
                payloads: contents.payloads,
                hasPayloads: !contents.payloads.isEmpty,
                incomplete: contents.incomplete,
                waiters: contents.waiters,
                systemAnswer: contents.systemAnswer,
                builtAt: clock.monotonicNanoseconds()
            )
        )
        state.retained.append(commit)
        state.batchSizes.record(
            commit.encodedByteCount + contents.payloads.reduce(0) { $0 + $1.record.bytes.count }
        )
        do {
            if let membership = contents.membership {
                return try state.machine.propose(commit.position, membership: membership)
            }
            return try state.machine.propose(commit.position)
        } catch {
            preconditionFailure("The commit log refused the place that it offered: \(error)")
        }
    }
}

/// Sizes of the last batches, in bytes: what the group-commit floor is measured with.
struct BatchSizes: Sendable {
    private static let countMax = 4096
    private(set) var recent: [Int] = []
    private var next = 0
    private(set) var total = 0

    mutating func record(_ size: Int) {
        total += 1
        if recent.count < Self.countMax {
            recent.append(size)
        } else {
            recent[next] = size
            next = (next + 1) % Self.countMax
        }
    }
}
