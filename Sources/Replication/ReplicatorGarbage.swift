package import BlobVolume
package import Catalog
internal import Logging
internal import StoreModel
internal import Synchronization

/// Garbage collection: mark from the catalog, sweep each volume against what was marked. Copies of what is alive that stand
/// where they don't belong: ReplicatorSurplus.swift.
///
/// Why a mark finds everything that is alive, although the catalog changes while it is walked:
/// 1. The run begins in the gate: from then on whatever anybody pins (every payload that is written or found to be there
///    already, until its commit is through) is kept, whether the walk sees it or not. Only then it waits until everything
///    committed is applied.
/// 2. What is left are references that move without a payload being touched. Documents are walked first, then versions in
///    the order of their sequences, then the snapshots. A copy or a restore gets a higher sequence than any before: the
///    walk has seen the source, or comes by the copy. The end of an upload makes a version of its parts: they were seen
///    as documents, or the version is seen. Whatever is referred to after the walk was referred to at its end, or pinned.
/// 3. Downloads and ends of uploads hold the manifests they go on from; those are walked last.
/// 4. A manifest that can't be read ends the run: what it lists is not known.
///
/// There are no reference counts, and nothing has to be written down about what is condemned beside the tombstones: a
/// run that is cut short at any point leaves whole records, dead ones with tombstones, or holes in those.
extension Replicator {
    /// - Throws: `StoreError`: `.conflict` when a run is under way or garbage collection is on hold, `.dataUnavailable`
    ///   when a manifest can't be read, `.overloaded` when more was uploaded meanwhile than a run keeps track of.
    package func collectGarbage(_ options: GarbageOptions = GarbageOptions()) async throws -> GarbageReport {
        if let hold = garbage.hold, !options.isDryRun {
            throw StoreError(
                .conflict,
                "Garbage collection is on hold: \(hold)",
                advice: GarbageCollector.holdAdvice
            )
        }
        guard pipeline.gate.beginRun() else {
            throw StoreError(.conflict, "A run of garbage collection is under way, or the store closes.")
        }
        defer { pipeline.gate.endRun() }
        var report = GarbageReport()
        report.isDryRun = options.isDryRun
        report.startedAt = clock.now()
        report.volumes = volumes.slots.map { GarbageReport.Volume(id: $0.id, label: $0.label) }
        garbage.begin(report)
        do {
            try await run(options)
            return garbage.end(.done, nil, at: clock.now())
        } catch {
            let isCancelled = error is CancellationError || Task.isCancelled
            let ended = garbage.end(isCancelled ? .interrupted : .failed, "\(error)", at: clock.now())
            logger.warning(
                "Garbage collection did not come to its end; the next run goes on.",
                metadata: ["error": "\(ended.problem ?? "")"]
            )
            throw error
        }
    }

    private func run(_ options: GarbageOptions) async throws {
        // Before the mark: what is written from here on is too young, whatever the mark says.
        let horizons = volumes.slots.indices.map { sweptReplica($0)?.horizon(grace: options.grace) }
        var lower: UInt64 = 0
        while true {
            garbage.update { $0.phase = "mark" }
            let live = try await mark(from: lower, options)
            garbage.update { report in
                report.passCount += 1
                report.liveCount += UInt64(live.count)
                report.phase = "sweep"
            }
            let upper = live.upper
            let shared = SharedLiveSet(live)
            await sweep(shared, horizons, options)
            try Task.checkCancellation()
            guard upper < .max else { break }
            lower = upper + 1
        }
        guard !options.isDryRun else { return }
        garbage.update { $0.phase = "reclaim" }
        await forEachVolume { index, replica in await self.reclaim(index, replica, options) }
        try Task.checkCancellation()
        if try await takeSnapshotForLog(options) {
            await forEachVolume { index, replica in await self.reclaim(index, replica, options) }
        }
    }

    /// What the catalog's snapshots are made of, which no row names.
    package var snapshotManifests: [ManifestReference] { catalog.applied.snapshots.map(\.manifest) }

    /// Keeps what is about to be looked up from garbage collection.
    package func newHold() -> ManifestHold { ManifestHold(pipeline.gate) }

    /// Chunks that uploads under way keep from garbage collection.
    package var pinnedChunkCount: Int { pipeline.gate.pinCount }

    func sweptReplica(_ index: Int) -> (any SweptReplica)? {
        volumes.usableReplica(index) as? any SweptReplica
    }

    private func forEachVolume(_ body: @escaping @Sendable (Int, any SweptReplica) async -> Void) async {
        await withTaskGroup(of: Void.self) { group in
            for index in volumes.slots.indices {
                guard let replica = sweptReplica(index) else {
                    let problem = volumes.problem(at: index) ?? "not usable"
                    garbage.update(index) { $0.problem = problem }
                    continue
                }
                group.addTask { await body(index, replica) }
            }
        }
    }

    /// One blocking step on a volume's own thread. Never given up on: a step that is under way may not be overtaken.
    func step<Value: Sendable>(
        _ replica: any SweptReplica,
        _ body: @escaping @Sendable (BlobVolume) throws(VolumeError) -> Value
    ) async throws -> Value {
        try await withCheckedThrowingContinuation { continuation in
            replica.collect(completion: { continuation.resume(with: $0.mapError { $0 as any Error }) }, body)
        }
    }

    /// Leaves clients their share after so much work.
    func rest(after work: Duration, _ options: GarbageOptions) async throws {
        try Task.checkCancellation()
        guard options.workShare < 1 else { return }
        let share = max(options.workShare, 0.01)
        try await clock.sleep(for: min(work * (1 / share - 1), .seconds(10)))
    }

    /// Notes now and then how far each volume is written: by that a run tells how old a record is.
    func noteAges() async {
        while !Task.isCancelled, !pipeline.isStopped {
            for slot in volumes.slots { (slot.replica as? any SweptReplica)?.noteAge() }
            do { try await clock.sleep(for: .seconds(30)) } catch { return }
        }
    }

    // MARK: Sweep

    /// Live payloads, for threads of several volumes.
    final class SharedLiveSet: Sendable {
        private let live: LiveSet
        init(_ live: consuming LiveSet) { self.live = live }

        /// Whether a run over this set may take it away.
        func isDead(_ digest: Digest) -> Bool {
            let fingerprint = digest.words.0
            return live.covers(fingerprint) && !live.contains(fingerprint)
        }

        /// Whether this set says anything of it.
        func covers(_ digest: Digest) -> Bool { live.covers(digest.words.0) }
    }

    private func sweep(
        _ live: SharedLiveSet,
        _ horizons: [GarbageHorizon?],
        _ options: GarbageOptions
    ) async {
        await forEachVolume { index, replica in
            guard let horizon = horizons[index] else { return }
            do {
                let numbers = try await self.step(replica) { volume throws(VolumeError) in
                    volume.segmentNumbers
                }
                for number in numbers {
                    try await self.sweep(number, index, replica, live, horizon, options)
                }
            } catch {
                self.garbage.update(index) { $0.problem = "\(error)" }
            }
        }
    }

    /// Records that are withdrawn under one lock of the gate: uploads wait for no more.
    private static let withdrawCountMax = 1024

    private func sweep(
        _ number: UInt32,
        _ index: Int,
        _ replica: any SweptReplica,
        _ live: SharedLiveSet,
        _ horizon: GarbageHorizon,
        _ options: GarbageOptions
    ) async throws {
        let gate = pipeline.gate
        let start = ContinuousClock.now
        let roster = volumes.roster
        let mayHaveSurplus = roster.mayHaveSurplus(index)
        let candidates = try await step(replica) { volume throws(VolumeError) in
            try volume.garbageCandidates(in: number, before: .everything) { digest in
                if live.isDead(digest) { return false }
                guard mayHaveSurplus, live.covers(digest) else { return true }
                return roster.placementIndices(for: digest).contains(index)
            }
        }
        guard !candidates.isEmpty else { return try await rest(after: ContinuousClock.now - start, options) }
        let isLog = try await step(replica) { volume throws(VolumeError) in volume.isLogSegment(number) }
        let end = isLog ? horizon.log : horizon.bulk
        let found = candidates.filter { live.isDead($0.digest) }
        let strays = candidates.filter { !live.isDead($0.digest) }
        try await sweepSurplus(strays.filter { $0.location < end }, on: index, replica, options)
        let young = strays.filter { $0.location >= end }
        garbage.update(index) { report in
            report.strayCount += young.count
            report.strayBytes += young.reduce(0) { $0 + $1.recordByteCount }
        }
        let old = found.filter { $0.location < end }
        garbage.update(index) { report in
            report.deadCount += old.count
            report.deadBytes += old.reduce(0) { $0 + $1.recordByteCount }
            report.youngCount += found.count - old.count
            report.youngBytes += found.reduce(0) { $0 + ($1.location < end ? 0 : $1.recordByteCount) }
        }
        if options.isDryRun {
            let savedCount = old.count { gate.isRecent($0.digest.words.0) }
            garbage.update(index) { $0.savedCount += savedCount }
            if savedCount > 0 { CoverageMark.reach(.garbageSaved) }
            return try await rest(after: ContinuousClock.now - start, options)
        }
        var stepStart = start
        for first in stride(from: 0, to: old.count, by: RecordFormatLimits.tombstoneCountMax) {
            let group = old[first..<min(first + RecordFormatLimits.tombstoneCountMax, old.count)]
            let buried = try await step(replica) { volume throws(VolumeError) -> [GarbageCandidate]? in
                var withdrawn: [GarbageCandidate] = []
                var next = group.startIndex
                while next < group.endIndex {
                    let part = group[next..<min(next + Self.withdrawCountMax, group.endIndex)]
                    guard let taken = gate.withdraw(part, { volume.withdraw($0) }) else {
                        // What was taken out already is whole and dead: it is buried, and the run ends.
                        try volume.bury(withdrawn)
                        return nil
                    }
                    withdrawn += taken
                    next = part.endIndex
                }
                try volume.bury(withdrawn)
                return withdrawn
            }
            guard let buried else { throw Self.gateClosed }
            garbage.update(index) { report in
                report.savedCount += group.count - buried.count
                report.buriedCount += buried.count
                CoverageMark.reach(.garbageBuried)
                if group.count > buried.count { CoverageMark.reach(.garbageSaved) }
                report.buriedBytes += buried.reduce(0) { $0 + $1.recordByteCount }
            }
            for record in buried { verified.remove(record.digest, on: index) }
            try await rest(after: ContinuousClock.now - stepStart, options)
            stepStart = .now
        }
    }

    static let gateClosed = StoreError(
        .overloaded,
        "More was uploaded during the run than it can keep track of, or the store closes.",
        advice: "The next run goes on where this one ended."
    )

    // MARK: Space

    private func reclaim(_ index: Int, _ replica: any SweptReplica, _ options: GarbageOptions) async {
        do {
            let policy = options.policy
            var space = ReclaimedSpace()
            do {
                space.sealedSegmentCount = try await step(replica) { volume throws(VolumeError) in
                    try volume.sealForReclaiming(policy, force: volume.isFull || volume.isNearlyFull)
                }
            } catch let error as VolumeError where error.code == .full {
                // What is sealed already gives the room that this takes; the next run seals.
            }
            garbage.update(index) { $0.reclaimed.add(space) }
            // Deletions first: they take no room, and make some for what has to be copied.
            let numbers = try await step(replica) { volume throws(VolumeError) in volume.segmentsByDeath }
            for number in numbers {
                var isUnfinished = true
                while isUnfinished {
                    isUnfinished = false
                    let start = ContinuousClock.now
                    do {
                        let reclaimed = try await step(replica) { volume throws(VolumeError) in
                            try volume.reclaim(number, policy)
                        }
                        isUnfinished = reclaimed.isUnfinished
                        garbage.update(index) { $0.reclaimed.add(reclaimed) }
                    } catch let error as VolumeError where error.code == .full {
                        // This one must be copied and there is no room: others first, the rest in the next run.
                        garbage.update(index) { $0.problem = "\(error)" }
                    }
                    try await rest(after: ContinuousClock.now - start, options)
                }
            }
            let bounds = options.quarantine
            let now = clock.now()
            let dropped = try await step(replica) { volume throws(VolumeError) in
                volume.recheckRoom()
                volume.restoreSpare()
                return volume.trimQuarantine(bounds, now: now)
            }
            noteDropped(dropped, index)
        } catch {
            garbage.update(index) { $0.problem = "\(error)" }
        }
    }

    private func noteDropped(_ names: [String], _ index: Int) {
        guard !names.isEmpty else { return }
        garbage.update(index) { $0.quarantineDropped += names }
        for name in names {
            logger.notice(
                "A damaged original was dropped from the quarantine, which has reached its bounds.",
                metadata: ["volume": "\(volumes.slots[index].label)", "piece": "\(name)"]
            )
        }
    }

    /// Segments of the log stay as long as a batch in them is behind the older of two snapshots.
    private func takeSnapshotForLog(_ options: GarbageOptions) async throws -> Bool {
        let applied = catalog.applied
        let last = applied.snapshots.first?.position.sequence ?? 0
        guard applied.position.sequence >= last + options.snapshotsAfterBatches else { return false }
        garbage.update { $0.phase = "snapshot" }
        do {
            _ = try await takeSnapshot()
        } catch let error as StoreError where error.code == .storeFull || error.code == .notEnoughReplicas {
            logger.notice(
                "The snapshot that lets the log go could not be written.",
                metadata: ["error": "\(error)"]
            )
            return false
        }
        garbage.update { $0.tookSnapshot = true }
        return true
    }
}

extension Replicator {
    /// What the files of each volume take, measured.
    package func volumeUsage() async -> [(label: String, usage: Result<VolumeUsage, VolumeError>)] {
        var usages: [(String, Result<VolumeUsage, VolumeError>)] = []
        for index in volumes.slots.indices {
            let label = volumes.slots[index].label
            guard let replica = sweptReplica(index) else {
                usages.append((label, .failure(unusable(index))))
                continue
            }
            let usage: Result<VolumeUsage, VolumeError> = await withCheckedContinuation { continuation in
                replica.collect(completion: { continuation.resume(returning: $0) }) {
                    volume throws(VolumeError) in
                    try volume.usage()
                }
            }
            usages.append((label, usage))
        }
        return usages
    }
}
