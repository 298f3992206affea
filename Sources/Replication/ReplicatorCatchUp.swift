internal import BlobVolume
internal import Catalog
internal import Logging
internal import StoreModel
internal import Synchronization

/// Bringing a volume that was away, or is new, to where every payload that should be on it is on it.
///
/// A volume's *complete* watermark says up to which commit it has every payload. Catching up walks the commits after
/// it, looks each chunk up in the volume's index, and copies what is missing, verified, from the others. A volume
/// whose watermark lies before the start of the log is compared with the whole catalog instead. Only when the
/// watermark has reached the newest commit is the volume healthy: "complete" is a measured empty difference.
extension Replicator {
    /// How the catching up of one volume ended.
    package enum CatchUpOutcome: Sendable, Hashable {
        case complete(copied: Int)
        /// Copies are still missing; the reasons of the first few.
        case incomplete(copied: Int, missing: Int, reasons: [String])
    }

    /// Background work of a store that is open: repairs, and catching up whenever a volume lags.
    package func runMaintenance() async {
        await withTaskGroup(of: Void.self) { group in
            for _ in 0..<Limits.repairWorkerCount { group.addTask { await self.runRepairs() } }
            if !isReadOnly {
                group.addTask { await self.keepLayoutAligned() }
                group.addTask { await self.keepLogSet() }
                group.addTask { await self.noteAges() }
                group.addTask { await self.maintainSnapshots() }
            }
            group.addTask { await self.watchHealth() }
            // Volumes that are added later get their share as soon as they are seen.
            var started = 0
            while !Task.isCancelled, !pipeline.isStopped {
                for index in started..<max(started, volumes.slots.count) {
                    group.addTask { await self.runCatchUp(index) }
                    group.addTask { await self.watch(index) }
                }
                started = volumes.slots.count
                do { try await clock.sleep(for: .milliseconds(50)) } catch { break }
            }
        }
    }

    /// A layout that was not in line with the volumes when the store was opened is brought in line.
    private func keepLayoutAligned() async {
        while !Task.isCancelled, !pipeline.isStopped {
            do {
                return try await alignLayout()
            } catch {
                logger.warning(
                    "The layout of the volumes can't be written yet.",
                    metadata: ["error": "\(error)"]
                )
            }
            do { try await clock.sleep(for: .seconds(1)) } catch { return }
        }
    }

    /// One volume's share of the work: a volume that hangs holds up no other's catching up.
    private func runCatchUp(_ index: Int) async {
        var pause = Self.catchUpPauseMin
        while !Task.isCancelled, !pipeline.isStopped, !volumes.slots[index].isRemoved {
            volumes.slots[index].replica?.recheckRoom()
            if volumes.forgivable.contains(index) { await readmit(index) }
            if laggingVolumes().contains(index) {
                if case .complete = await catchUp(index) {
                    pause = Self.catchUpPauseMin
                } else {
                    pause = min(pause * 2, .seconds(30))
                }
            } else {
                pause = .milliseconds(250)
            }
            do { try await clock.sleep(for: pause) } catch { return }
        }
    }

    private static let catchUpPauseMin: Duration = .milliseconds(50)

    /// Volumes that are usable but not known to have everything.
    package func laggingVolumes() -> [Int] {
        let committed = pipeline.committedSequence
        return volumes.present.filter { index in
            guard let replica = volumes.usableReplica(index) else { return false }
            if mustBeFilled(index) { return true }
            // What is on its way to it right now is no lag: under load the slowest volume always has something.
            let next = Self.sequence(behind: replica)
            return next <= committed && !pipeline.isOnItsWay(next, to: index)
                && replica.completeSequence < next
        }
    }

    /// The first sequence of which a volume may lack something; the highest when there can be none.
    private static func sequence(behind replica: any Replica) -> UInt64 {
        let (next, isOver) = replica.completeSequence.addingReportingOverflow(1)
        return isOver ? .max : next
    }

    /// Copies what a volume lacks. Who comes while somebody else is at it waits, and looks again.
    package func catchUp(_ index: Int) async -> CatchUpOutcome {
        while !catchingUp.withLock({ $0.insert(index).inserted }) {
            do {
                try await clock.sleep(for: .milliseconds(20))
            } catch {
                return .incomplete(copied: 0, missing: 0, reasons: ["It is being caught up."])
            }
        }
        defer { catchingUp.withLock { _ = $0.remove(index) } }
        return await catchUpAlone(index)
    }

    private func catchUpAlone(_ index: Int) async -> CatchUpOutcome {
        var progress = CatchUpProgress()
        guard !isReadOnly else {
            let reason = "the store is on a read-only file system"
            return .incomplete(copied: 0, missing: 0, reasons: [reason])
        }
        guard let replica = volumes.usableReplica(index) else {
            return .incomplete(copied: 0, missing: 0, reasons: [volumes.problem(at: index) ?? "not usable"])
        }
        do {
            if mustBeFilled(index) || replica.completeSequence < pipeline.baseSequence {
                try await fill(index, replica, &progress)
            }
            guard !mustBeFilled(index), replica.completeSequence >= pipeline.baseSequence else {
                return .incomplete(
                    copied: progress.copied,
                    missing: progress.missing,
                    reasons: progress.reasons
                )
            }
            var next = Self.sequence(behind: replica)
            while !Task.isCancelled, volumes.usableReplica(index) != nil {
                // Commits may have moved the watermark meanwhile.
                next = max(next, Self.sequence(behind: replica))
                // From where it gets the batches as they are made, their acknowledgements move the watermark.
                guard next <= pipeline.committedSequence, !pipeline.isOnItsWay(next, to: index) else { break }
                let moment = LossMoment.now
                let batches = try await pipeline.batches(
                    next...lastBatch(from: next, to: index),
                    byteCount: Self.batchByteCountMax
                )
                let last = next + UInt64(batches.count) - 1
                switch try await copyTogether(batches, to: index, replica, &progress) {
                case .all: break
                case .some(let absent):
                    try await copyOneByOne(batches, absent, to: index, replica, &progress)
                }
                // A chunk that can't be had holds back the watermark, not the copies of what comes after it.
                if progress.missing == 0 {
                    try await syncIfNeeded(replica, &progress)
                    for sequence in next...last {
                        replica.advanceComplete(to: sequence, unlessLostSince: moment)
                    }
                }
                next = last + 1
            }
            try await syncIfNeeded(replica, &progress)
            if progress.missing > 0, !Task.isCancelled {
                // A batch may refer to what is dead by now, and nowhere any more: what counts is what is alive.
                var again = CatchUpProgress()
                again.copied = progress.copied
                try await fill(index, replica, &again)
                progress = again
            }
        } catch {
            progress.miss("\(error)")
        }
        if progress.copied > 0 || progress.missing > 0 {
            logger.info(
                "Catching up a volume.",
                metadata: [
                    "volume": "\(replica.label)", "copied": "\(progress.copied)",
                    "missing": "\(progress.missing)",
                ]
            )
        }
        guard progress.missing == 0, !laggingVolumes().contains(index) else {
            return .incomplete(copied: progress.copied, missing: progress.missing, reasons: progress.reasons)
        }
        return .complete(copied: progress.copied)
    }

    /// Batches after which what was copied is made durable, and the watermark moves.
    private static let batchCountMax: UInt64 = 64
    private static let batchByteCountMax = 1 << 20

    /// The end of the stretch of batches from `first` on that is looked at next: committed, and not on their way.
    private func lastBatch(from first: UInt64, to index: Int) -> UInt64 {
        let end = min(
            first.addingReportingOverflow(Self.batchCountMax - 1).partialValue,
            pipeline.committedSequence
        )
        var last = first
        while last < end, !pipeline.isOnItsWay(last + 1, to: index) { last += 1 }
        return last
    }

    /// What became of the chunks of some batches.
    private enum CopiedTogether {
        /// All are there.
        case all
        /// Something could not be had, which may be needed or not. All that was not there is named.
        case some(absent: Set<Digest>)
    }

    /// Copies what a volume lacks of some batches, several chunks at a time.
    private func copyTogether(
        _ batches: [CommitBatch],
        to index: Int,
        _ replica: any Replica,
        _ progress: inout CatchUpProgress
    ) async throws -> CopiedTogether {
        var copied = CatchUpProgress()
        var readBack = ReadBack(isWanted: false)
        var hasUnsynced = false
        var missed: Set<Digest> = []
        try await pass(index, replica, isAudit: false, &readBack, &copied) { visit in
            var waiting: [Digest] = []
            func look() async throws {
                let wanted = waiting
                waiting = []
                let found = try await timers.call(replica) { $0.confirmPresence(of: wanted, completion: $1) }
                    .get()
                hasUnsynced = hasUnsynced || found.contains(.unsynced)
                let absent = zip(wanted, found).filter { $0.1 == .absent }.map(\.0)
                missed.formUnion(absent)
                if !absent.isEmpty { try await visit(.chunks(absent), "") }
            }
            for batch in batches {
                for entry in try CatalogEntryCodec.decode(batch.body) {
                    for payload in entry.mutations.flatMap(\.payloads) {
                        try await visitChunks(of: payload.manifest, "") { item, owner in
                            guard case .chunks(let digests) = item else {
                                return try await visit(item, owner)
                            }
                            for digest in digests where placementIndices(for: digest).contains(index) {
                                waiting.append(digest)
                                if waiting.count == Self.confirmCountMax { try await look() }
                            }
                        }
                    }
                }
            }
            if !waiting.isEmpty { try await look() }
        }
        if copied.copied > 0 { CoverageMark.reach(.caughtUp) }
        progress.copied += copied.copied
        progress.hasUnsynced = progress.hasUnsynced || copied.hasUnsynced || hasUnsynced
        return copied.missing == 0 ? .all : .some(absent: missed)
    }

    /// Copies that a volume is asked for at once: on a disk that turns, a fraction of a second.
    private static let confirmCountMax = 16

    /// Copies what a volume lacks of some batches, and finds out of what can't be had whether anything needs it.
    ///
    /// A row that is gone says nothing of its chunks: another may have taken them over, in a batch that counts as whole. So
    /// a chunk is left out only when no volume has it, as it is with what was collected. Where one has it, it is missed; then
    /// the walk over all that is alive tells whether it is needed.
    /// - Parameter absent: what was not there when it was looked for a moment ago, whatever the index says.
    private func copyOneByOne(
        _ batches: [CommitBatch],
        _ absent: Set<Digest>,
        to index: Int,
        _ replica: any Replica,
        _ progress: inout CatchUpProgress
    ) async throws {
        for batch in batches {
            try Task.checkCancellation()
            for entry in try CatalogEntryCodec.decode(batch.body) {
                for mutation in entry.mutations where !mutation.payloads.isEmpty {
                    let lacking = lacking(mutation, absent, on: index, replica)
                    if let lacking {
                        if lacking.isEmpty { continue }
                        if lacking.allSatisfy(isNowhere), try await !isNeeded(mutation) { continue }
                    }
                    var own = CatchUpProgress()
                    for payload in mutation.payloads {
                        try await copyMissing(of: payload.manifest, to: index, replica, &own)
                    }
                    if own.missing > 0, own.missed.count == own.missing, own.missed.allSatisfy(isNowhere),
                        try await !isNeeded(mutation)
                    {
                        own.missing = 0
                    }
                    progress.add(own)
                }
            }
        }
    }

    /// Whether no volume that is usable has a chunk.
    private func isNowhere(_ digest: Digest) -> Bool {
        volumes.present.allSatisfy { volumes.usableReplica($0)?.presence(of: digest) ?? .absent == .absent }
    }

    /// Chunks of what a mutation put that a volume doesn't have, or not durably; nil for a tree, which would have to be read.
    private func lacking(
        _ mutation: CatalogMutation,
        _ absent: Set<Digest>,
        on index: Int,
        _ replica: any Replica
    ) -> [Digest]? {
        var lacking: [Digest] = []
        for payload in mutation.payloads {
            guard case .inline(let chunks) = payload.manifest else { return nil }
            for chunk in chunks
            where placementIndices(for: chunk.digest).contains(index)
                && (absent.contains(chunk.digest) || replica.presence(of: chunk.digest) != .synced)
            {
                lacking.append(chunk.digest)
            }
        }
        return lacking
    }

    /// Whether what a mutation once put is still there.
    private func isNeeded(_ mutation: CatalogMutation) async throws -> Bool {
        let catalog = self.catalog
        return try await readCatalog { reader in
            switch mutation {
            case .putVersion(let row):
                let present = try reader.version(bucket: row.bucket, key: row.key, selector: .id(row.id))
                return present?.payloads == row.payloads
            case .putDocument(let row): return try reader.document(row.space, row.key)?.payload == row.payload
            case .noteSnapshot(let note): return catalog.applied.snapshots.contains(note)
            default: return false
            }
        }
    }

    struct CatchUpProgress: Sendable {
        var copied = 0
        var missing = 0
        var reasons: [String] = []
        var hasUnsynced = false
        /// Chunks among what is missing, as far as they are known by name.
        private(set) var missed: [Digest] = []

        private static let reasonCountMax = 5
        private static let missedCountMax = 1024

        mutating func miss(_ reason: String, _ chunk: Digest? = nil) {
            missing += 1
            if reasons.count < Self.reasonCountMax { reasons.append(reason) }
            if let chunk, missed.count < Self.missedCountMax { missed.append(chunk) }
        }

        /// Takes over what came of a part; its reasons only where something is missing.
        mutating func add(_ part: CatchUpProgress) {
            copied += part.copied
            hasUnsynced = hasUnsynced || part.hasUnsynced
            missing += part.missing
            if part.missing > 0 { reasons += part.reasons.prefix(Self.reasonCountMax - reasons.count) }
        }
    }

    func syncIfNeeded(_ replica: any Replica, _ progress: inout CatchUpProgress) async throws {
        guard progress.hasUnsynced else { return }
        try await timers.call(replica) { $0.syncBulk(completion: $1) }.get()
        progress.hasUnsynced = false
    }

    private func copyMissing(
        of manifest: ManifestReference,
        to index: Int,
        _ replica: any Replica,
        _ progress: inout CatchUpProgress
    ) async throws {
        switch manifest {
        case .inline(let chunks):
            for chunk in chunks { await copy(chunk.digest, to: index, replica, &progress) }
        case .tree(let root, _, _, _):
            try await copyTree(root, to: index, replica, &progress)
        }
    }

    private func copyTree(
        _ root: Digest,
        to index: Int,
        _ replica: any Replica,
        _ progress: inout CatchUpProgress
    ) async throws {
        var stack = [root]
        while let digest = stack.popLast() {
            await copy(digest, to: index, replica, &progress)
            let node: ManifestNode
            do {
                node = try ManifestNode(decoding: try await readInBackground(digest, range: nil))
            } catch let error as StoreError where error.code == .dataUnavailable {
                progress.miss("\(error)", digest)
                continue
            }
            for entry in node.entries {
                if node.height == 0 {
                    await copy(entry.digest, to: index, replica, &progress)
                } else {
                    stack.append(entry.digest)
                }
            }
        }
    }

    private func copy(
        _ digest: Digest,
        to index: Int,
        _ replica: any Replica,
        _ progress: inout CatchUpProgress
    ) async {
        guard placementIndices(for: digest).contains(index) else { return }
        if replica.presence(of: digest) != .absent {
            switch await timers.call(replica, { $0.confirmPresence(of: digest, completion: $1) }) {
            case .success(.synced): return
            case .success(.unsynced):
                progress.hasUnsynced = true
                return
            case .success(.absent): break
            case .failure(let error):
                progress.miss("chunk \(digest): \(error)", digest)
                return
            }
        }
        switch await repair(digest, on: replica.id) {
        case .repaired, .rescued, .mended:
            CoverageMark.reach(.caughtUp)
            progress.copied += 1
        case .unrepairable: progress.miss("chunk \(digest): no volume has good bytes", digest)
        case .failed(let reason): progress.miss("chunk \(digest): \(reason)", digest)
        case .pending: progress.miss("chunk \(digest): pending", digest)
        }
    }

    /// Returns when nothing is on its way to a volume any more, or the deadline has passed.
    package func quiesce(within deadline: Duration) async {
        pipeline.applyNow()
        let end = ContinuousClock.now + deadline
        while pipeline.isBusy, ContinuousClock.now < end {
            do { try await clock.sleep(for: .milliseconds(1)) } catch { return }
        }
    }

    /// Catches every volume up and empties the repair queue; returns what could not be done.
    package func settle() async -> [String] {
        var reasons: [String] = []
        for index in laggingVolumes() {
            if case .incomplete(_, _, let missing) = await catchUp(index) {
                reasons += missing.map { "\(volumes.slots[index].label): \($0)" }
            }
        }
        settleLateCopies(isLast: true)
        await repairs.awaitIdle()
        return reasons
    }
}
