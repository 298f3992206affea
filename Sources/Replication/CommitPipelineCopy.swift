internal import BlobVolume
internal import Catalog
internal import ContentHashing
internal import StoreModel
internal import Synchronization

/// A run of batches on its way from one volume's log to another's.
struct BatchCopy: Sendable {
    let target: Int
    let source: Int
    let incarnation: UInt64
    /// The last sequence that the target has.
    var done: UInt64
    let through: UInt64

    func advanced(over batches: some Collection<CommitBatch>) -> BatchCopy {
        var next = self
        for batch in batches { next.done = batch.position.sequence }
        return next
    }
}

/// Some batches of such a run, with the small payloads that the target lacks of them.
private struct CopyStep: Sendable {
    private(set) var batches: [CommitBatch] = []
    /// Of each batch those that no batch before it brings.
    private var digests: [[Digest]] = []
    private(set) var wanted: Set<Digest> = []
    private var records: [Digest: PayloadRecord] = [:]
    private var byteCount: UInt64 = 0

    /// Of the payloads together.
    private static let byteCountMax: UInt64 = 4 << 20

    /// - Returns: false when there is no room for it; there always is for the first one.
    mutating func add(_ batch: CommitBatch, lacking chunks: [ChunkReference]) -> Bool {
        var found: Set<Digest> = []
        let new = chunks.filter { !wanted.contains($0.digest) && found.insert($0.digest).inserted }
        let sum = new.reduce(byteCount) { $0 + UInt64($1.length) }
        guard batches.isEmpty || sum <= Self.byteCountMax else { return false }
        byteCount = sum
        batches.append(batch)
        digests.append(new.map(\.digest))
        wanted.formUnion(found)
        return true
    }

    mutating func take(_ record: PayloadRecord) { records[record.digest] = record }

    func group(_ place: Int) -> ReplicaGroup {
        ReplicaGroup(payloads: digests[place].compactMap { records[$0] }, batch: batches[place])
    }
}

/// Payloads that are looked for on one volume after the other.
private struct GatheredPayloads: Sendable {
    private var sources: ArraySlice<Int>
    /// To be asked for where it is looked now.
    private var waiting: ArraySlice<Digest>
    /// Not there: to be asked for at the next one.
    private var left: [Digest] = []

    init(_ digests: [Digest], from sources: [Int]) {
        self.sources = sources[...]
        waiting = digests[...]
    }

    /// Where it is looked now; nil when nothing is left, or nowhere to look.
    var source: Int? { waiting.isEmpty && left.isEmpty ? nil : sources.first }

    mutating func take(_ countMax: Int, where isThere: (Digest) -> Bool) -> [Digest] {
        var taken: [Digest] = []
        while taken.count < countMax, let digest = waiting.popFirst() {
            if isThere(digest) { taken.append(digest) } else { left.append(digest) }
        }
        return taken
    }

    mutating func leave(_ digest: Digest) { left.append(digest) }

    /// To the next volume, with what is left.
    mutating func goOn() {
        sources = sources.dropFirst()
        waiting = left[...] + waiting
        left = []
    }
}

/// What became of the groups of a step, of which several are on their way at a time.
private final class CopyStepEnd: Sendable {
    typealias Failure = (place: Int, error: VolumeError)

    private let state: Mutex<(left: Int, failure: Failure?)>

    init(_ count: Int) { state = Mutex((count, nil)) }

    /// - Returns: with the last one: the first that failed, or nothing.
    func note(_ place: Int, _ result: Result<GroupOutcome, VolumeError>) -> (isEnd: Bool, failure: Failure?) {
        state.withLock { state in
            state.left -= 1
            if case .failure(let error) = result, place < state.failure?.place ?? .max {
                state.failure = (place, error)
            }
            return (state.left == 0, state.failure)
        }
    }
}

extension CommitPipeline {
    /// Batches that are read, and written, at once: with a sync for each of them, a volume would never come after the others
    /// while clients write.
    private static let copyCountMax: UInt64 = 64
    private static let copyByteCountMax = 1 << 20
    /// Payloads that a volume is asked for at once: on a disk that turns, a fraction of a second.
    private static let copyPayloadCountMax = 16

    /// Copies the next batches, with the small payloads that the target lacks: a batch that may be shown should not
    /// stand on one copy of its bytes.
    func copyNext(_ copy: BatchCopy) {
        guard isOfNow(copy) else { return }
        guard copy.done < copy.through else {
            finish(copy, isSourceUnreadable: false)
            return
        }
        guard let source = volumes.usableReplica(copy.source) else {
            finish(copy, isSourceUnreadable: true)
            return
        }
        let answer = OnceAnswer<[CommitBatch]> { [self] result in
            guard case .success(let batches) = result, !batches.isEmpty else {
                return finish(copy, isSourceUnreadable: true)
            }
            var step = CopyStep()
            for batch in batches
            where !step.add(batch, lacking: smallPayloads(of: batch, missingOn: copy.target)) {
                break
            }
            gather(GatheredPayloads(step.wanted.sorted(), from: sources(for: copy)), step, copy)
        }
        expire(answer, source)
        let last = copy.done + min(copy.through - copy.done, Self.copyCountMax)
        source.readBatches(copy.done + 1...last, byteCount: Self.copyByteCountMax) { answer.give($0) }
    }

    private func smallPayloads(of batch: CommitBatch, missingOn target: Int) -> [ChunkReference] {
        guard let replica = volumes.usableReplica(target), volumes.acceptsPayloads(target),
            let entries = try? CatalogEntryCodec.decode(batch.body)
        else { return [] }
        var found: [ChunkReference] = []
        for entry in entries {
            for payload in entry.mutations.flatMap(\.payloads) {
                guard case .inline(let chunks) = payload.manifest else { continue }
                found += chunks.filter {
                    $0.length <= Limits.logPayloadSizeMax && replica.presence(of: $0.digest) == .absent
                }
            }
        }
        return found
    }

    /// Whether the target is still in the life in which the copy was begun: the log of its next one may have gone on, and what
    /// was read for this one would cut it. When not, the copy ends here.
    private func isOfNow(_ copy: BatchCopy) -> Bool {
        let id = volumes.slots[copy.target].id
        if withState({ $0.machine.isCurrent(id, copy.incarnation) }) { return true }
        handle(endsAction: true) { _ in [] }
        return false
    }

    private func sources(for copy: BatchCopy) -> [Int] {
        [copy.source] + volumes.present.filter { $0 != copy.source && $0 != copy.target }
    }

    /// Reads the payloads, some at a time, each from the first volume that gives it; then appends all groups.
    private func gather(_ payloads: GatheredPayloads, _ step: CopyStep, _ copy: BatchCopy) {
        var payloads = payloads
        while let index = payloads.source {
            guard let holder = volumes.usableReplica(index) else {
                payloads.goOn()
                continue
            }
            let wanted = payloads.take(Self.copyPayloadCountMax) { holder.presence(of: $0) != .absent }
            guard !wanted.isEmpty else {
                payloads.goOn()
                continue
            }
            let taken = payloads
            let answer = OnceAnswer<[[UInt8]?]> { [self] result in
                var (payloads, step) = (taken, step)
                let found = (try? result.get()) ?? []
                for (place, digest) in wanted.enumerated() {
                    if place < found.count, let bytes = found[place], SHA256Hasher.hash(bytes) == digest {
                        step.take(PayloadRecord(digest: digest, bytes: bytes))
                    } else {
                        payloads.leave(digest)
                    }
                }
                // One that refuses, or hangs, is asked for nothing more.
                if case .failure = result { payloads.goOn() }
                gather(payloads, step, copy)
            }
            expire(answer, holder)
            return holder.readAll(wanted) { answer.give($0) }
        }
        append(step, copy)
    }

    /// A source that hangs is given up, so that its target does not hang with it.
    private func expire<Value>(_ answer: OnceAnswer<Value>, _ source: any Replica) {
        timers.schedule(after: Limits.readDeadline, whileWanted: { answer.isWaiting }) {
            answer.give(.failure(.noAnswer(from: source.label, within: Limits.readDeadline)))
        }
    }

    /// Sends all groups on their way, in order; those that the volume has not begun with share a sync.
    private func append(_ step: CopyStep, _ copy: BatchCopy) {
        guard isOfNow(copy) else { return }
        guard let target = volumes.usableReplica(copy.target) else {
            failTarget(copy, nil, volumes.problem(at: copy.target) ?? "not usable")
            return
        }
        let end = CopyStepEnd(step.batches.count)
        for place in step.batches.indices {
            target.appendGroup(step.group(place)) { [self] result in
                let (isEnd, failure) = end.note(place, result)
                if isEnd { ended(step, failure, target, copy) }
            }
        }
    }

    private func ended(
        _ step: CopyStep,
        _ failure: CopyStepEnd.Failure?,
        _ target: any Replica,
        _ copy: BatchCopy
    ) {
        // What comes behind one that failed has failed as well: it is no successor of what the log has.
        let next = copy.advanced(over: step.batches.prefix(failure?.place ?? step.batches.count))
        guard let failure else { return copyNext(next) }
        let group = step.group(failure.place)
        guard failure.error.code == .full, let batch = group.batch, !group.payloads.isEmpty else {
            return failTarget(next, target, failure.error.description)
        }
        guard isOfNow(next) else { return }
        target.appendGroup(ReplicaGroup(payloads: [], batch: batch)) { [self] result in
            switch result {
            case .success:
                copyNext(next.advanced(over: [batch]))
            case .failure(let error):
                failTarget(next, target, error.description)
            }
        }
    }

    private func failTarget(_ copy: BatchCopy, _ target: (any Replica)?, _ reason: String) {
        volumeEnded(copy.target, copy.incarnation, target, reason: reason)
    }

    private func finish(_ copy: BatchCopy, isSourceUnreadable: Bool) {
        let id = volumes.slots[copy.target].id
        handle(endsAction: true) { machine in
            machine.copyEnded(
                id,
                incarnation: copy.incarnation,
                through: copy.done,
                isSourceUnreadable: isSourceUnreadable
            )
        }
    }
}
