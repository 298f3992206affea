package import BlobVolume
package import StoreModel
internal import Synchronization

/// A volume of this machine with its own threads: one for the log segment, one for the bulk segment (a big upload
/// does not sit on a small one's fsync), and a few for reads.
package final class LocalReplica: Replica {
    private let volume: BlobVolume
    private let logThread: WorkerThread
    private let bulkThread: WorkerThread
    private let readThreads: [WorkerThread]
    private let scrubThread: WorkerThread
    private let garbageThread: WorkerThread
    /// Where records ended at some moments, oldest first: how old a record is.
    private let ages: Mutex<[(at: ContinuousClock.Instant, end: GarbageHorizon)]>
    private let openedAt: GarbageHorizon
    private let nextReader = Atomic<Int>(0)
    private let latencies = Mutex(LatencyEstimate())
    private let syncLatencies = Mutex(LatencyEstimate())
    private let diskErrors = Atomic<UInt64>(0)
    private let sharedSync = SharedSync()

    /// What is said of a call that finds no room in a queue.
    private let refusal: VolumeError

    package let id: VolumeID
    package let label: String

    /// Takes over an open volume.
    package init(_ volume: BlobVolume, label: String) {
        self.volume = volume
        self.label = label
        id = volume.identity.volumeID
        refusal = VolumeError(
            .overloaded,
            "The volume's queue is full or closed; the replica is treated as lagging.",
            path: label
        )
        // It is not known what the damaged records were: everything is compared again before the volume is whole.
        if !volume.openReport.damage.isEmpty { volume.setComplete(through: 0) }
        openedAt = volume.presentEnd
        ages = Mutex([])
        garbageThread = WorkerThread(name: "hf-gc", costMax: 16)
        logThread = WorkerThread(name: "hf-log", costMax: Self.logQueueBytesMax)
        bulkThread = WorkerThread(name: "hf-bulk", costMax: Limits.bulkQueueByteCountMax)
        scrubThread = WorkerThread(name: "hf-scrub", costMax: 4)
        readThreads = (0..<Limits.readerThreadsPerVolume).map { _ in
            WorkerThread(name: "hf-read", costMax: Self.readQueueCountMax)
        }
    }

    private static let logQueueBytesMax = 32 << 20
    private static let readQueueCountMax = 1024

    package var openReport: VolumeOpenReport { volume.openReport }

    // MARK: Writing

    package func appendGroup(_ group: ReplicaGroup, completion: @escaping ReplicaCompletion<GroupOutcome>) {
        let dropped: @Sendable () -> Void = { [sharedSync, refusal] in
            sharedSync.noteTaken()
            for earlier in sharedSync.takeAll() { earlier.completion(.failure(refusal)) }
            completion(.failure(refusal))
        }
        let isQueued = logThread.submit(cost: group.byteCount, cancelled: dropped) { [self] in
            sharedSync.noteTaken()
            let start = ContinuousClock.now
            do throws(VolumeError) {
                let outcome = try write(group)
                guard sharedSync.add(SharedSync.Written(outcome: outcome, completion: completion)) else {
                    CoverageMark.reach(.sharedSync)
                    return
                }
            } catch {
                note(error)
                completion(.failure(error))
            }
            syncGroups(since: start)
        }
        if isQueued { sharedSync.noteQueued() } else { completion(.failure(refusal)) }
    }

    private func write(_ group: ReplicaGroup) throws(VolumeError) -> GroupOutcome {
        var group = group
        if group.leavesOutPresent {
            group.payloads.removeAll { volume.presence(of: $0.digest) != .absent }
            // What was left out may still have to be synced, which follows.
            if group.payloads.isEmpty, group.batch == nil { return .whole }
        }
        do throws(VolumeError) {
            try volume.appendGroup(payloads: group.payloads, batch: group.batch)
            return .whole
        } catch {
            // In the same job, so that the next batch in the queue finds its predecessor.
            guard error.code == .full, let batch = group.batch, !group.payloads.isEmpty else { throw error }
            try volume.appendGroup(payloads: [], batch: batch)
            CoverageMark.reach(.batchWithoutPayloads)
            return .batchOnly
        }
    }

    /// Syncs what was written, and tells the callers.
    /// - Returns: whether it is synced.
    @discardableResult
    private func syncGroups(since start: ContinuousClock.Instant) -> Bool {
        let groups = sharedSync.takeAll()
        guard !groups.isEmpty else { return true }
        do throws(VolumeError) {
            try volume.syncLog()
            syncLatencies.withLock { $0.record(ContinuousClock.now - start) }
            for group in groups { group.completion(.success(group.outcome)) }
            return true
        } catch {
            note(error)
            for group in groups { group.completion(.failure(error)) }
            return false
        }
    }

    package func appendBulk(_ payload: PayloadRecord, completion: @escaping ReplicaCompletion<Void>) {
        perform(on: bulkThread, cost: payload.bytes.count, completion) { volume throws(VolumeError) in
            try volume.appendBulk(payload)
        }
    }

    package func appendBulkIfAbsent(_ payload: PayloadRecord, completion: @escaping ReplicaCompletion<Void>) {
        perform(on: bulkThread, cost: payload.bytes.count, completion) { volume throws(VolumeError) in
            // All that write large payloads take turns on this thread.
            guard volume.presence(of: payload.digest) == .absent else { return }
            try volume.appendBulk(payload)
        }
    }

    package func syncBulk(completion: @escaping ReplicaCompletion<Void>) {
        perform(on: bulkThread, cost: 1, completion) { volume throws(VolumeError) in try volume.syncBulk() }
    }

    package func repair(_ payload: PayloadRecord, completion: @escaping ReplicaCompletion<Void>) {
        let thread = payload.bytes.count > Limits.logPayloadSizeMax ? bulkThread : logThread
        perform(on: thread, cost: payload.bytes.count, completion) { volume throws(VolumeError) in
            try volume.replaceDamaged(payload)
        }
    }

    package func writeLogRecord(_ record: VolumeLogRecord, completion: @escaping ReplicaCompletion<Void>) {
        perform(on: logThread, cost: 1, completion) { volume throws(VolumeError) in
            try volume.updateIdentity { identity in
                identity.promise = record.promise
                identity.votesFromEpoch = record.votesFrom.epoch
                identity.votesFromSequence = record.votesFrom.sequence
                identity.memberships = record.memberships.map {
                    LogSet(
                        version: $0.version,
                        members: $0.members,
                        sinceEpoch: $0.since.epoch,
                        sinceSequence: $0.since.sequence
                    )
                }
            }
        }
    }

    package func resetLog(base: LogPosition, completion: @escaping ReplicaCompletion<Void>) {
        perform(on: logThread, cost: 1, completion) { volume throws(VolumeError) in
            try volume.resetLog(base: base)
        }
    }

    package func trimLog(base: LogPosition, completion: @escaping ReplicaCompletion<Void>) {
        perform(on: logThread, cost: 1, completion) { volume throws(VolumeError) in
            try volume.trimLog(base: base)
        }
    }

    package func noteLogRebuilt(completion: @escaping ReplicaCompletion<Void>) {
        perform(on: logThread, cost: 1, completion) { volume throws(VolumeError) in
            try volume.noteLogRebuilt()
        }
    }

    package func recordFailure(
        of peer: VolumeID,
        _ failure: PeerFailure,
        completion: @escaping ReplicaCompletion<Void>
    ) {
        perform(on: logThread, cost: 1, completion) { volume throws(VolumeError) in
            try volume.updateIdentity { $0.failed[peer] = failure }
        }
    }

    package func clearFailure(of peer: VolumeID, completion: @escaping ReplicaCompletion<Void>) {
        perform(on: logThread, cost: 1, completion) { volume throws(VolumeError) in
            guard volume.identity.failed[peer] != nil else { return }
            try volume.updateIdentity { $0.failed[peer] = nil }
        }
    }

    package func setComplete(through sequence: UInt64) { volume.setComplete(through: sequence) }

    package func setComplete(through sequence: UInt64, unlessLostSince moment: LossMoment) -> Bool {
        volume.setComplete(through: sequence, unlessLostSince: moment)
    }

    package func advanceComplete(to sequence: UInt64, unlessLostSince moment: LossMoment) {
        volume.advanceComplete(to: sequence, unlessLostSince: moment)
    }

    // MARK: Reading

    package func read(_ digest: Digest, range: Range<Int>?, completion: @escaping ReplicaCompletion<[UInt8]>)
    {
        let start = ContinuousClock.now
        perform(on: reader(), cost: 1, completion) { [self] volume throws(VolumeError) in
            let wanted: Range<Int>
            if let range { wanted = range } else { wanted = 0..<(try volume.byteCount(of: digest)) }
            let bytes = try volume.read(digest, range: wanted)
            latencies.withLock { $0.record(ContinuousClock.now - start) }
            return bytes
        }
    }

    package func readCached(
        _ digest: Digest,
        range: Range<Int>,
        into target: UnsafeMutableRawBufferPointer
    ) -> Bool {
        volume.readCached(digest, range: range, into: target)
    }

    package func verify(_ digest: Digest, strict: Bool, completion: @escaping ReplicaCompletion<Void>) {
        perform(on: reader(), cost: 1, completion) { volume throws(VolumeError) in
            try volume.verify(digest, strict: strict)
        }
    }

    package func verifyOnDisk(
        _ digest: Digest,
        byteCount: Int,
        completion: @escaping ReplicaCompletion<Void>
    ) {
        perform(on: reader(), cost: 1, completion) { volume throws(VolumeError) in
            try volume.verifyOnDisk(digest, byteCount: byteCount)
        }
    }

    package func presence(of digest: Digest) -> RecordPresence { volume.indexedPresence(of: digest) }

    package func recordBytes(of digest: Digest, length: UInt64) -> UInt64 {
        volume.recordBytes(of: digest, length: length)
    }

    package func confirmPresence(of digest: Digest, completion: @escaping ReplicaCompletion<RecordPresence>) {
        perform(on: reader(), cost: 1, completion) { volume throws(VolumeError) in volume.presence(of: digest)
        }
    }

    package func readAll(_ digests: [Digest], completion: @escaping ReplicaCompletion<[[UInt8]?]>) {
        perform(on: reader(), cost: digests.count, completion) { volume throws(VolumeError) in
            digests.map { digest in
                guard let byteCount = try? volume.byteCount(of: digest) else { return nil }
                return try? volume.read(digest, range: 0..<byteCount)
            }
        }
    }

    package func confirmPresence(
        of digests: [Digest],
        completion: @escaping ReplicaCompletion<[RecordPresence]>
    ) {
        perform(on: reader(), cost: digests.count, completion) { volume throws(VolumeError) in
            digests.map { volume.presence(of: $0) }
        }
    }

    package func readBatches(
        _ sequences: ClosedRange<UInt64>,
        byteCount: Int,
        completion: @escaping ReplicaCompletion<[CommitBatch]>
    ) {
        perform(on: reader(), cost: 1, completion) { volume throws(VolumeError) in
            var batches = [try volume.readBatch(sequence: sequences.lowerBound)]
            var left = byteCount - batches[0].body.count
            for sequence in sequences.dropFirst() where left > 0 {
                guard let batch = try? volume.readBatch(sequence: sequence) else { break }
                left -= batch.body.count
                batches.append(batch)
            }
            return batches
        }
    }

    package func readBatch(sequence: UInt64, completion: @escaping ReplicaCompletion<CommitBatch>) {
        perform(on: reader(), cost: 1, completion) { volume throws(VolumeError) in
            try volume.readBatch(sequence: sequence)
        }
    }

    package func logReport(completion: @escaping ReplicaCompletion<ReplicaLogReport>) {
        perform(on: logThread, cost: 1, completion) { [self] volume throws(VolumeError) in
            // What it tells of is synced.
            guard syncGroups(since: .now) else { throw volume.failure ?? refusal }
            let identity = volume.identity
            return ReplicaLogReport(
                record: VolumeLogRecord(
                    promise: identity.promise,
                    votesFrom: LogPlace(epoch: identity.votesFromEpoch, sequence: identity.votesFromSequence),
                    memberships: identity.memberships.map {
                        LogMembership(
                            version: $0.version,
                            members: $0.members,
                            since: LogPlace(epoch: $0.sinceEpoch, sequence: $0.sinceSequence)
                        )
                    }
                ),
                base: volume.logBase,
                positions: volume.positions(after: volume.logBase.sequence),
                knownCommitIndex: volume.knownCommitIndex,
                completeSequence: volume.completeSequence,
                damage: volume.isLogDamaged ? "batches that it had acknowledged are damaged" : nil,
                attestedTail: volume.attestedTail
            )
        }
    }

    // MARK: Scrub

    package func makeScrubber(from cursor: ScrubCursor, through last: UInt32?) -> VolumeScrubber? {
        volume.makeScrubber(from: cursor, through: last)
    }

    package func scrub(
        _ scrubber: VolumeScrubber,
        byteCount: UInt64,
        completion: @escaping ReplicaCompletion<ScrubStep>
    ) {
        perform(on: scrubThread, cost: 1, completion) { _ throws(VolumeError) in
            try scrubber.step(byteCount: byteCount)
        }
    }

    package var mendedAtOpening: [ScrubDamage] { volume.mendedAtOpening }

    package func noteLostBatch(at location: RecordLocation, completion: @escaping ReplicaCompletion<Void>) {
        perform(on: logThread, cost: 1, completion) { volume throws(VolumeError) in
            try volume.noteLostBatch(at: location)
        }
    }

    // MARK: State

    package var completeSequence: UInt64 { volume.completeSequence }

    package func hasLost(since moment: LossMoment) -> Bool { volume.hasLost(since: moment) }
    package var failure: VolumeError? { volume.failure }
    package var hasFailed: Bool { volume.hasFailed }
    package var acceptsPayloads: Bool { !volume.hasFailed && !volume.isFull }
    package var space: VolumeSpace { volume.space }

    package func hasRoom(for byteCount: UInt64?) -> Bool { volume.hasRoom(for: byteCount) }

    package func recheckRoom() {
        guard volume.isFull else { return }
        logThread.submit(cost: 1) { [volume] in volume.recheckRoom() }
    }

    package var waitingBulkBytes: Int { bulkThread.waitingCost }
    package var latency: LatencyEstimate { latencies.withLock { $0 } }
    package var syncLatency: LatencyEstimate { syncLatencies.withLock { $0 } }
    package var errorCount: UInt64 { diskErrors.load(ordering: .relaxed) }

    package func probe(completion: @escaping ReplicaCompletion<Void>) {
        let start = ContinuousClock.now
        perform(on: reader(), cost: 1, completion) { [self] volume throws(VolumeError) in
            try volume.probe()
            latencies.withLock { $0.record(ContinuousClock.now - start) }
        }
    }

    package var busyDuration: Duration {
        ([logThread, bulkThread] + readThreads).map(\.busyDuration).max() ?? .zero
    }

    package func close(deadline: Duration) {
        bulkThread.stop()
        scrubThread.stop()
        for thread in readThreads { thread.stop() }
        garbageThread.stop()
        let closed = BlockingSignal()
        let isQueued = logThread.submit(cost: 1) { [volume] in
            // A volume that can't write down that it was closed is checked in full when it is opened again.
            try? volume.close()
            closed.signal()
        }
        if isQueued { _ = closed.wait(for: deadline) }
        logThread.stop()
    }

    // MARK: Garbage

    package func collect<Value: Sendable>(
        completion: @escaping ReplicaCompletion<Value>,
        _ body: @escaping @Sendable (BlobVolume) throws(VolumeError) -> Value
    ) {
        perform(on: garbageThread, cost: 1, completion, body)
    }

    package func noteAge() {
        let end = volume.presentEnd
        ages.withLock { ages in
            ages.append((.now, end))
            if ages.count > Self.ageCountMax { ages.removeFirst(ages.count - Self.ageCountMax) }
        }
    }

    private static let ageCountMax = 1024

    package func horizon(grace: Duration) -> GarbageHorizon {
        guard grace > .zero else { return volume.presentEnd }
        let limit = ContinuousClock.now - grace
        return ages.withLock { $0.last { $0.at <= limit }?.end } ?? openedAt
    }

    // MARK: Threads

    /// Readers take turns: a read that is stuck holds up only what is queued behind it, and hedging covers that.
    private func reader() -> WorkerThread {
        let turn = nextReader.wrappingAdd(1, ordering: .relaxed).newValue
        return readThreads[Int(UInt(bitPattern: turn) % UInt(readThreads.count))]
    }

    private func perform<Value: Sendable>(
        on thread: WorkerThread,
        cost: Int,
        _ completion: @escaping ReplicaCompletion<Value>,
        _ body: @escaping @Sendable (BlobVolume) throws(VolumeError) -> Value
    ) {
        let isQueued = thread.submit(cost: cost, cancelled: { [refusal] in completion(.failure(refusal)) }) {
            [volume, self] in
            do throws(VolumeError) {
                completion(.success(try body(volume)))
            } catch {
                note(error)
                completion(.failure(error))
            }
        }
        if !isQueued { completion(.failure(refusal)) }
    }

    private func note(_ error: VolumeError) {
        if error.code == .failed || error.code == .inputOutput {
            diskErrors.wrappingAdd(1, ordering: .relaxed)
        }
    }
}
