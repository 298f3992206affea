internal import BlobVolume
internal import Catalog
internal import ContentHashing
internal import Logging
package import StoreModel
internal import Synchronization

/// How far the filling of a volume has come.
package struct FillProgress: Sendable, Hashable {
    package enum Phase: String, Sendable {
        case copying, auditing, done, stopped
    }

    package var phase = Phase.copying
    /// Chunks that belong on the volume, as far as the walk has come.
    package var expected: UInt64 = 0
    /// Those of them that it had.
    package var held: UInt64 = 0
    package var copied: UInt64 = 0
    package var copiedBytes: UInt64 = 0
    package var missing: UInt64 = 0
    /// Versions walked over, of as many as there are.
    package var versions: UInt64 = 0
}

/// Comparing a volume with everything that is alive, and copying what it lacks: several chunks at a time, verified, within
/// the budget. The walk goes over every version, every document with payloads (parts of uploads) and the snapshots.
///
/// Invariants:
/// 1. Only bytes whose SHA-256 is the chunk's name are written.
/// 2. Nothing is taken away anywhere: a chunk has at all times at least as many copies as before.
/// 3. A volume is whole only after a walk that found nothing missing; one that is new, only after a walk that found every
///    copy on it read and verified as well: by that walk, or in the same job after the copy had been made durable.
/// 4. Batches that were built by an older layout are out before the walk begins, and the watermark stands at 0 meanwhile:
///    no acknowledgement moves it past what the walk has not seen.
/// 5. What was copied is not copied again: after a crash the walk begins anew and finds it.
extension Replicator {
    /// Compares a volume with everything alive and copies what is missing.
    func fill(_ index: Int, _ replica: any Replica, _ progress: inout CatchUpProgress) async throws {
        CoverageMark.reach(.volumeFilled)
        let mustBeFilled = mustBeFilled(index)
        let layout = layout
        let isNew = mustBeFilled && layout[replica.id]?.isNew ?? true
        if mustBeFilled {
            try await settleBatches(on: index)
            replica.setComplete(through: 0)
        }
        _ = try await currentCatalog()
        let reached = pipeline.appliedSequence
        note(replica.id) { $0 = FillProgress() }
        defer { note(replica.id) { if $0.phase != .done { $0.phase = .stopped } } }
        var isAudit = false
        var passCount = 0
        var readBack = ReadBack(isWanted: isNew)
        while true {
            let before = progress.copied
            let moment = LossMoment.now
            try await pass(index, replica, isAudit: isAudit, &readBack, &progress) { visit in
                try await walkLive(visit)
            }
            guard progress.missing == 0, !Task.isCancelled, volumes.usableReplica(index) != nil else {
                return
            }
            try await syncIfNeeded(replica, &progress)
            passCount += 1
            // What a scrub found to be lost during the walk, the walk may not have seen.
            if progress.copied == before, isAudit || !isNew,
                replica.setComplete(through: reached, unlessLostSince: moment)
            {
                break
            }
            // What needed copies again and again is not whole; the next round begins anew.
            guard passCount < Self.passCountMax else { return progress.miss("its copies don't stay good") }
            isAudit = isNew
            note(replica.id) { now in
                now = FillProgress(
                    phase: .auditing,
                    copied: now.copied,
                    copiedBytes: now.copiedBytes
                )
            }
        }
        note(replica.id) { $0.phase = .done }
        guard mustBeFilled else { return }
        let id = replica.id
        try await changeLayout { $0.filled(id, at: layout.version) }
        logger.info(
            "A volume holds everything that belongs on it.",
            metadata: ["volume": "\(replica.label)", "copied": "\(progress.copied)"]
        )
    }

    private static let passCountMax = 6

    private func note(_ id: VolumeID, _ change: (inout FillProgress) -> Void) {
        fills.withLock { change(&$0[id, default: FillProgress()]) }
    }

    /// Counts what was copied for a filling; what is copied to catch up is none.
    private func tally(_ id: VolumeID, _ change: (inout FillProgress) -> Void) {
        fills.withLock { fills in
            guard var now = fills[id], now.phase == .copying || now.phase == .auditing else { return }
            change(&now)
            fills[id] = now
        }
    }

    /// How far the filling of each volume has come, or how the last one ended.
    package var fillProgress: [VolumeID: FillProgress] { fills.withLock { $0 } }

    /// Returns when nothing that was built before this call is on its way to a volume any more.
    private func settleBatches(on index: Int) async throws {
        let barrier = try await commitNothing().sequence
        while pipeline.withState({ $0.onTheirWay[index].contains { $0 <= barrier } }) {
            try Task.checkCancellation()
            guard volumes.usableReplica(index) != nil else {
                throw StoreError(.notEnoughReplicas, "It failed.")
            }
            try await clock.sleep(for: .milliseconds(2))
        }
    }

    // MARK: One walk

    /// The copying of one walk: results as they come in.
    private struct Copying {
        var inFlight = 0
        var group: [PayloadRecord] = []
        var groupByteCount = 0
        var unsyncedByteCount: UInt64 = 0
    }

    /// Copies what a volume lacks of what a walk comes by.
    func pass(
        _ index: Int,
        _ replica: any Replica,
        isAudit: Bool,
        _ readBack: inout ReadBack,
        _ progress: inout CatchUpProgress,
        _ walk: ((LiveItem, _ owner: String) async throws -> Void) async throws -> Void
    ) async throws {
        var seen: Set<Digest> = []
        let id = replica.id
        try await withThrowingTaskGroup(of: MoveResult.self) { tasks in
            var copying = Copying()
            try await walk { item, _ in
                switch item {
                case .unreadable(let digest, let reason):
                    progress.miss("chunk \(digest): \(reason)")
                    tally(id) { $0.missing += 1 }
                case .versions(let count):
                    tally(id) { $0.versions += UInt64(count) }
                case .chunks(let digests):
                    if seen.count > Self.seenCountMax { seen = [] }
                    for digest in digests where seen.insert(digest).inserted {
                        guard placementIndices(for: digest).contains(index) else { continue }
                        tally(id) { $0.expected += 1 }
                        if isAudit, readBack.good.contains(digest), replica.presence(of: digest) == .synced {
                            tally(id) { $0.held += 1 }
                            continue
                        }
                        while copying.inFlight >= Limits.movesInFlightMax, let result = try await tasks.next()
                        {
                            try await take(result, index, replica, &copying, &readBack, &progress)
                        }
                        guard !Task.isCancelled, volumes.usableReplica(index) != nil else {
                            throw StoreError(.cancelled, "The volume went out of use, or the store closes.")
                        }
                        copying.inFlight += 1
                        tasks.addTask { await self.move(digest, to: index, replica, isAudit: isAudit) }
                        startReadBack(&readBack, index, replica, isLast: false, &tasks)
                    }
                }
            }
            while copying.inFlight > 0, let result = try await tasks.next() {
                try await take(result, index, replica, &copying, &readBack, &progress)
            }
            await append(&copying.group, to: index, replica, &readBack, &progress)
            while readBack.isRunning || !readBack.waiting.isEmpty {
                guard !Task.isCancelled, volumes.usableReplica(index) != nil else {
                    throw StoreError(.cancelled, "The volume went out of use, or the store closes.")
                }
                startReadBack(&readBack, index, replica, isLast: true, &tasks)
                guard let result = try await tasks.next() else { break }
                try await take(result, index, replica, &copying, &readBack, &progress)
            }
        }
    }

    private static let seenCountMax = 65_536

    private func take(
        _ result: MoveResult,
        _ index: Int,
        _ replica: any Replica,
        _ copying: inout Copying,
        _ readBack: inout ReadBack,
        _ progress: inout CatchUpProgress
    ) async throws {
        let id = replica.id
        if case .readBack(let good) = result { return readBack.end(good) }
        copying.inFlight -= 1
        switch result {
        case .readBack: break
        case .held(let isSynced):
            if !isSynced { progress.hasUnsynced = true }
            tally(id) { $0.held += 1 }
        case .copied(let digest, let byteCount):
            progress.hasUnsynced = true
            progress.copied += 1
            copying.unsyncedByteCount += UInt64(byteCount)
            readBack.add(digest, byteCount)
            noteCopied(id, byteCount)
        case .mended:
            progress.copied += 1
            noteCopied(id, 0)
        case .small(let payload):
            copying.group.append(payload)
            copying.groupByteCount += payload.bytes.count
            if copying.groupByteCount >= Self.groupByteCount {
                await append(&copying.group, to: index, replica, &readBack, &progress)
                copying.groupByteCount = 0
            }
        case .missed(let reason):
            progress.miss(reason)
            tally(id) { $0.missing += 1 }
        }
        // Where it is read back, that syncs.
        if copying.unsyncedByteCount >= Limits.moveSyncByteCount, !readBack.takesMore {
            copying.unsyncedByteCount = 0
            try await syncIfNeeded(replica, &progress)
        }
    }

    enum LiveItem: Sendable {
        case chunks([Digest])
        /// A part of a manifest that no volume has.
        case unreadable(Digest, String)
        /// So many versions are done.
        case versions(Int)
    }

    /// Everything that is alive: what each version, each document and each snapshot of the catalog refers to.
    /// - Parameter visit: is also told whose chunks they are.
    func walkLive(_ visit: (LiveItem, _ owner: String) async throws -> Void) async throws {
        var cursor: UInt64 = 0
        while true {
            try Task.checkCancellation()
            let after = cursor
            let page = try await readCatalog { try $0.versions(afterSequence: after, limit: 256) }
            guard let last = page.last else { break }
            for row in page {
                for payload in row.payloads {
                    try await visitChunks(of: payload.manifest, "\(row.key)", visit)
                }
            }
            try await visit(.versions(page.count), "")
            cursor = last.id.sequence
        }
        for space in DocumentSpace.allCases {
            var last: [UInt8]?
            while true {
                try Task.checkCancellation()
                let after = last
                let page = try await readCatalog { try $0.documents(space, after: after, limit: 256) }
                guard let end = page.last else { break }
                for payload in page.compactMap(\.payload) {
                    try await visitChunks(of: payload.manifest, "a part of an upload", visit)
                }
                last = end.key
            }
        }
        for note in catalog.applied.snapshots {
            try await visitChunks(of: note.manifest, "a snapshot of the catalog", visit)
        }
    }

    func visitChunks(
        of manifest: ManifestReference,
        _ owner: String,
        _ visit: (LiveItem, String) async throws -> Void
    ) async throws {
        switch manifest {
        case .inline(let chunks):
            if !chunks.isEmpty { try await visit(.chunks(chunks.map(\.digest)), owner) }
        case .tree(let root, _, _, _):
            var stack = [root]
            while let digest = stack.popLast() {
                try await visit(.chunks([digest]), owner)
                let node: ManifestNode
                do {
                    node = try ManifestNode(decoding: try await readInBackground(digest, range: nil))
                } catch let error as StoreError where error.code == .dataUnavailable {
                    try await visit(.unreadable(digest, error.message), owner)
                    continue
                }
                if node.height == 0 {
                    try await visit(.chunks(node.entries.map(\.digest)), owner)
                } else {
                    stack += node.entries.map(\.digest)
                }
            }
        }
    }

    // MARK: Copies

    enum MoveResult: Sendable {
        case held(isSynced: Bool)
        case copied(Digest, Int)
        /// Repaired in place.
        case mended
        /// To be appended with others.
        case small(PayloadRecord)
        case missed(String)
        /// Copies that are durable and were read again.
        case readBack([Digest])
    }

    private static let groupByteCount = 1 << 20

    private func noteCopied(_ id: VolumeID, _ byteCount: Int) {
        tally(id) {
            $0.copied += 1
            $0.copiedBytes += UInt64(byteCount)
        }
    }

    /// Makes one chunk be on a volume, except that a small one is handed back.
    private func move(_ digest: Digest, to index: Int, _ target: any Replica, isAudit: Bool) async
        -> MoveResult
    {
        if target.presence(of: digest) != .absent {
            let found = await timers.call(target) { $0.confirmPresence(of: digest, completion: $1) }
            switch found {
            case .success(.absent): break
            case .success(let presence):
                guard isAudit else { return .held(isSynced: presence == .synced) }
                if case .success = await timers.call(
                    target,
                    { $0.verify(digest, strict: false, completion: $1) }
                ) {
                    return .held(isSynced: presence == .synced)
                }
                return await mend(digest, on: target)
            case .failure(let error): return .missed("chunk \(digest): \(error)")
            }
        }
        guard let bytes = await goodBytes(of: digest, but: index) else {
            // The last resort looks more closely, and says why.
            return await mend(digest, on: target)
        }
        do {
            try await pace.take(bytes.count, clientTurns: clientTurns.load(ordering: .relaxed))
        } catch {
            return .missed("chunk \(digest): cancelled")
        }
        let payload = PayloadRecord(digest: digest, bytes: bytes)
        guard bytes.count > Limits.logPayloadSizeMax else { return .small(payload) }
        // Here, where several are at it: one thread writes them all.
        payload.prepareForBulk()
        return await append(payload, to: index, target)
    }

    private func mend(_ digest: Digest, on target: any Replica) async -> MoveResult {
        switch await repair(digest, on: target.id) {
        case .repaired, .rescued, .mended: .mended
        case .unrepairable: .missed("chunk \(digest): no volume has good bytes")
        case .failed(let reason): .missed("chunk \(digest): \(reason)")
        case .pending: .missed("chunk \(digest): pending")
        }
    }

    /// Reads a chunk from the volumes that have it, the fastest first; nil unless its bytes are what its name says.
    private func goodBytes(of digest: Digest, but target: Int) async -> [UInt8]? {
        let sources = volumes.present.compactMap { index -> (replica: any Replica, mean: Double)? in
            guard index != target, let replica = volumes.usableReplica(index),
                replica.presence(of: digest) != .absent
            else { return nil }
            return (replica, rank(replica))
        }
        // Equally fast ones take turns, for some chunks each: what stands side by side is read so.
        for source in ordered(sources, ReadTurn(first: nextReadTurn() >> 6, isTrial: false)) {
            guard
                case .success(let bytes) = await timers.call(
                    source,
                    { $0.read(digest, range: nil, completion: $1) }
                ),
                SHA256Hasher.hash(bytes) == digest
            else { continue }
            return bytes
        }
        return nil
    }

    private func append(_ payload: PayloadRecord, to index: Int, _ target: any Replica) async -> MoveResult {
        var refused: VolumeError?
        for _ in 0..<Self.queueAttemptCount {
            switch await timers.call(target, { $0.appendBulkIfAbsent(payload, completion: $1) }) {
            case .success: return .copied(payload.digest, payload.bytes.count)
            case .failure(let error):
                noteBroken(index, error)
                guard error.code == .overloaded, target.waitingBulkBytes > 0 else {
                    return .missed("chunk \(payload.digest): \(error)")
                }
                refused = error
            }
            // Its queue is full of what clients write: they go first.
            do { try await clock.sleep(for: .milliseconds(25)) } catch { break }
        }
        return .missed("chunk \(payload.digest): \(refused.map { "\($0)" } ?? "cancelled")")
    }

    private static let queueAttemptCount = 200

    private func append(
        _ group: inout [PayloadRecord],
        to index: Int,
        _ target: any Replica,
        _ readBack: inout ReadBack,
        _ progress: inout CatchUpProgress
    ) async {
        guard !group.isEmpty else { return }
        let payloads = group
        group = []
        var records = ReplicaGroup(payloads: payloads, batch: nil)
        records.leavesOutPresent = true
        let request = records
        let result = await timers.call(target) { $0.appendGroup(request, completion: $1) }
        switch result {
        case .success:
            progress.copied += payloads.count
            for payload in payloads {
                readBack.add(payload.digest, payload.bytes.count)
                noteCopied(target.id, payload.bytes.count)
            }
        case .failure(let error):
            noteBroken(index, error)
            progress.miss("\(payloads.count) small chunks: \(error)")
            tally(target.id) { $0.missing += UInt64(payloads.count) }
        }
    }
}
