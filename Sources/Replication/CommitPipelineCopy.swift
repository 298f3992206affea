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
}

extension CommitPipeline {
    /// Copies the next batch, with the small payloads that the target lacks: a batch that may be shown should not
    /// stand on one copy of its bytes.
    func copyNext(_ copy: BatchCopy) {
        guard copy.done < copy.through else {
            finish(copy, isSourceUnreadable: false)
            return
        }
        guard let source = volumes.usableReplica(copy.source) else {
            finish(copy, isSourceUnreadable: true)
            return
        }
        let answer = OnceAnswer<CommitBatch> { [self] result in
            switch result {
            case .failure:
                finish(copy, isSourceUnreadable: true)
            case .success(let batch):
                gather(smallPayloads(of: batch, missingOn: copy.target), [], batch, copy)
            }
        }
        expire(answer, source)
        source.readBatch(sequence: copy.done + 1) { answer.give($0) }
    }

    private func smallPayloads(of batch: CommitBatch, missingOn target: Int) -> [Digest] {
        guard let replica = volumes.usableReplica(target), volumes.acceptsPayloads(target),
            let entries = try? CatalogEntryCodec.decode(batch.body)
        else { return [] }
        var digests: [Digest] = []
        for entry in entries {
            for payload in entry.mutations.flatMap(\.payloads) {
                guard case .inline(let chunks) = payload.manifest else { continue }
                for chunk in chunks where chunk.length <= Limits.logPayloadSizeMax {
                    if replica.presence(of: chunk.digest) == .absent { digests.append(chunk.digest) }
                }
            }
        }
        return digests
    }

    /// Reads the payloads one after the other from whichever volume has them, then appends all as one group.
    private func gather(
        _ digests: [Digest],
        _ payloads: [PayloadRecord],
        _ batch: CommitBatch,
        _ copy: BatchCopy
    ) {
        guard let digest = digests.last else {
            append(batch, payloads, copy)
            return
        }
        let sources = [copy.source] + volumes.present.filter { $0 != copy.source && $0 != copy.target }
        let holder = sources.lazy.compactMap { self.volumes.usableReplica($0) }
            .first { $0.presence(of: digest) != .absent }
        guard let holder else {
            gather(digests.dropLast(), payloads, batch, copy)
            return
        }
        let answer = OnceAnswer<[UInt8]> { [self] result in
            var gathered = payloads
            if case .success(let bytes) = result, SHA256Hasher.hash(bytes) == digest {
                gathered.append(PayloadRecord(digest: digest, bytes: bytes))
            }
            gather(digests.dropLast(), gathered, batch, copy)
        }
        expire(answer, holder)
        holder.read(digest, range: nil) { answer.give($0) }
    }

    /// A source that hangs is given up, so that its target does not hang with it.
    private func expire<Value>(_ answer: OnceAnswer<Value>, _ source: any Replica) {
        timers.schedule(after: Limits.readDeadline, whileWanted: { answer.isWaiting }) {
            answer.give(.failure(.noAnswer(from: source.label, within: Limits.readDeadline)))
        }
    }

    private func append(_ batch: CommitBatch, _ payloads: [PayloadRecord], _ copy: BatchCopy) {
        guard let target = volumes.usableReplica(copy.target) else {
            failTarget(copy, nil, volumes.problem(at: copy.target) ?? "not usable")
            return
        }
        target.appendGroup(ReplicaGroup(payloads: payloads, batch: batch)) { [self] result in
            switch result {
            case .success:
                var next = copy
                next.done = batch.position.sequence
                copyNext(next)
            case .failure(let error) where error.code == .full && !payloads.isEmpty:
                append(batch, [], copy)
            case .failure(let error):
                failTarget(copy, target, error.description)
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
