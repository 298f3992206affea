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
/// 3. The index gets batches in order and only after they are committed: in groups, as soon as a reader waits for it
///    or the log has nothing to do. At most `Limits.unappliedBatchCountMax` wait; beyond, no batch is built.
/// 4. What is decided under the lock is carried out in the order of the decisions, by one thread at a time: batches
///    reach the queue of a volume in the order of the log.
/// 5. Nothing here blocks: waiting is done by threads of the volumes and of the applier.
/// 6. No thread of a volume waits for a decision that is being made: its acknowledgement is left where whoever holds
///    the lock looks before it leaves, so that the volume goes on with the batch that stands ready.
/// 7. A request costs its caller one short lock: it is left in the intake, and whoever builds the next batch fetches
///    all that have come. What every request asks for besides (log set, opening, sweeping) stands in atomics.
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
        var pins: [ChunkPin] = []
        var submittedAt: UInt64 = 0
        let answer: @Sendable (Result<LogPosition, StoreError>) -> Void
    }

    struct SystemEntry: Sendable {
        var mutations: [CatalogMutation]
        var membership: LogMembership?
        /// Volumes that lack something the mutations refer to.
        var incomplete = VolumeMask()
        /// When that was looked at.
        var knownAt = LossMoment.now
    }

    struct Waiter: Sendable {
        let answer: @Sendable (Result<CatalogOutcome, StoreError>) -> Void
        let result: Result<CatalogOutcome, StoreError>
    }

    struct Batch: Sendable {
        let commit: CommitBatch
        var applied: AppliedBatch
        /// Requests that it answers.
        let requestCount: Int
        /// The last decision in it; 0 when it has none.
        let lastDecision: UInt64
        let hasPayloads: Bool
        /// Volumes that have all of those payloads once they have the batch.
        let payloadHolders: VolumeMask
        var acknowledged = VolumeMask()
        var outstanding = VolumeMask()
        var isCommitted = false
        var waiters: [Waiter]
        var systemAnswer: (@Sendable (Result<LogPosition, StoreError>) -> Void)?
        /// Keeps what the batch refers to from garbage collection, also when nobody waits for its outcome any more.
        let pins: [ChunkPin]
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
        var retained = RetainedBatches()
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
        /// For each volume the batches that are on their way to it together with all they refer to.
        var onTheirWay: [[UInt64]]
        /// For each volume the appends that wait until a batch is committed, in the order of the log.
        var held: [[HeldAppend]]
        var heldCount = 0
        var batchSizes = BatchSizes()
        /// Requests under way when batches were built of late: rises at once, falls slowly.
        var recentRequestCount = 0
        /// What is to be done outside the lock, in the order in which it was decided.
        var outbox: [Work] = []
        var isDraining = false

        /// Where a batch stands in `batches`; nil once its callers are answered.
        func place(of position: LogPosition) -> Int? {
            batches.lastIndex { $0.commit.position == position }
        }

        /// Nothing of a batch is on its way to a volume any more.
        mutating func noteNotOnItsWay(_ position: LogPosition, to index: Int) {
            onTheirWay[index].removeAll { $0 == position.sequence }
            if let place = place(of: position) { batches[place].outstanding.remove(index) }
        }
    }

    private let state: Mutex<State>
    let intake = Mutex(CommitIntake())
    private let acknowledgements = Mutex<[Acknowledgement]>([])
    private let hasAcknowledgements = Atomic<Bool>(false)
    /// Members of the log set that this process has.
    private let logMaskBits = Atomic<UInt64>(0)
    /// Whether somebody waits for the log to be opened.
    let isOpening = Atomic<Bool>(false)
    let isSweeping = Atomic<Bool>(false)
    /// `stopReason`, `committedSequence` and `appliedSequence` of the state, for readers that need not wait.
    let hasStopped = Atomic<Bool>(false)
    let committedMark = Atomic<UInt64>(0)
    let appliedMark = Atomic<UInt64>(0)
    let volumes: VolumeSet
    let quorum: QuorumConfiguration
    let catalog: any CatalogStore
    let clock: any StoreClock
    let random: any RandomSource
    let timers: any Timers
    let logger: Logger
    let applier: WorkerThread
    let newest = NewestVersions()
    let gate = GarbageGate()
    /// Told of a volume whose write or fsync failed.
    let onVolumeFailure = Mutex<(@Sendable (Int, (any Replica)?, String) -> Void)?>(nil)

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
        state = Mutex(
            State(
                machine: CommitLogMachine(quorum: quorum),
                onTheirWay: Array(repeating: [], count: VolumeSet.countMax),
                held: Array(repeating: [], count: VolumeSet.countMax)
            )
        )
        applier = WorkerThread(name: "hf-apply", costMax: 16)
    }

    /// The state under its lock. What volumes acknowledged meanwhile is taken in afterwards.
    func withState<Value: Sendable>(_ body: (inout State) -> Value) -> Value {
        let value = state.withLock { body(&$0) }
        takeAcknowledgements()
        return value
    }

    /// Changes the state under the lock; what follows from it is carried out afterwards, in order.
    func decide(_ body: (inout State) -> [Work]) {
        carryOut(state.withLock { keepOrder(body(&$0), &$0) })
        takeAcknowledgements()
    }

    /// Leaves an acknowledgement for whoever holds the lock, or takes it in when nobody does.
    func leave(_ acknowledgement: Acknowledgement) {
        acknowledgements.withLock { waiting in
            waiting.append(acknowledgement)
            hasAcknowledgements.store(true, ordering: .releasing)
        }
        takeAcknowledgements()
    }

    /// Called by everybody who left an acknowledgement or has let go of the lock. The fence makes one of the two see
    /// the other: who can't have the lock has left its acknowledgement before the holder looks.
    private func takeAcknowledgements() {
        while true {
            atomicMemoryFence(ordering: .sequentiallyConsistent)
            guard hasAcknowledgements.load(ordering: .acquiring) else { return }
            let decided = state.withLockIfAvailable { state -> [Work] in
                let taken = acknowledgements.withLock { waiting in
                    hasAcknowledgements.store(false, ordering: .releasing)
                    defer { waiting.removeAll(keepingCapacity: true) }
                    return waiting
                }
                var work: [Work] = []
                for acknowledgement in taken { take(acknowledgement, &state, &work) }
                // In the same turn: the next batch is on its way before the callers of this one hear of it.
                if !taken.isEmpty { work += buildBatches(&state) }
                return keepOrder(work, &state)
            }
            guard let decided else { return }
            carryOut(decided)
        }
    }

    /// What the caller is to carry out: nothing when another thread carries out what was decided before, which takes
    /// this along.
    private func keepOrder(_ work: [Work], _ state: inout State) -> [Work] {
        guard !work.isEmpty else { return [] }
        if state.isDraining {
            state.outbox += work
            return []
        }
        state.isDraining = true
        return work
    }

    private func carryOut(_ decided: [Work]) {
        guard !decided.isEmpty else { return }
        var work = decided
        while !work.isEmpty {
            // The volumes first: their I/O runs while callers are answered.
            for item in work where !item.isAnswer { perform(item) }
            for item in work where item.isAnswer { perform(item) }
            work = state.withLock { state in
                defer { state.outbox = [] }
                state.isDraining = !state.outbox.isEmpty
                return state.outbox
            }
        }
        // Whoever ended the last action while this thread was draining could not tell that it was the last.
        checkOpening()
    }

    /// The volumes that carry the log, as far as they are known to this process.
    var logMask: VolumeMask {
        get { VolumeMask(bits: logMaskBits.load(ordering: .acquiring)) }
        // Only under the state's lock.
        set { logMaskBits.store(newValue.bits, ordering: .releasing) }
    }
    var epoch: UInt64 { withState { $0.machine.currentEpoch } }
    /// The last batch that a volume told this writer it has synced.
    func acknowledged(by id: VolumeID) -> AcknowledgedBatch? {
        withState { $0.machine.acknowledged(by: id) }
    }

    var committedSequence: UInt64 { withState { $0.machine.committedSequence } }
    var appliedSequence: UInt64 { withState { $0.appliedSequence } }
    /// Volumes that have durably promised the present epoch.
    var promisedVolumes: [VolumeID] {
        withState { state in
            state.machine.volumes.filter { $0.isUp && $0.record.promise >= state.machine.currentEpoch }.map(
                \.id
            )
        }
    }
    /// The batches after this sequence can be read from some volume.
    var baseSequence: UInt64 { withState { $0.machine.lowestBase } }

    /// Whether a batch is on its way to a volume together with all that it refers to: if it arrives, the volume's
    /// watermark moves by itself.
    func isOnItsWay(_ sequence: UInt64, to index: Int) -> Bool {
        withState { $0.onTheirWay[index].contains(sequence) }
    }

    /// Whether something that the log asked for is still under way.
    var isBusy: Bool {
        withState { state in
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
            dropHeld(index, &state)
            var work: [Work] = []
            settleBatches(&state, &work)
            if state.stopReason == nil { work += prepare(state.machine.fail(id, reason: reason), &state) }
            return work
        }
        checkOpening()
        pump()
    }

    // MARK: Submitting

    /// Queues a command; its answer comes when it is committed, refused, or the deadline has passed.
    func submit(_ request: Request) {
        let (refusal, mustPump) = intake.withLock { $0.take(request) }
        if let refusal {
            request.answer(.failure(refusal))
        } else if mustPump {
            pump()
        }
    }

    func closeIntake(_ reason: StoreError) { intake.withLock { $0.close(reason) } }

    func submit(_ request: SystemRequest) {
        let refusal: StoreError? = withState { state in
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
}
