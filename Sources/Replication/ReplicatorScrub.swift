package import BlobVolume
internal import Logging
package import StoreModel
internal import Synchronization

/// Bytes of a chunk or of a manifest's node that came from elsewhere.
package struct RescuedPayload: Sendable {
    package let bytes: [UInt8]
    /// In words, as in "mirror offsite".
    package let source: String

    package init(bytes: [UInt8], source: String) {
        self.bytes = bytes
        self.source = source
    }
}

/// Where good bytes may still be when no volume has them: a mirror.
package protocol RescueSource: Sendable {
    /// The bytes of a chunk, or of a manifest's node; whatever they are, they are compared with its name.
    /// - Parameter alsoLost: what else waits for repair: whoever walks over the catalog for one looks for all of them.
    func payload(_ digest: Digest, alsoLost: @Sendable () -> Set<Digest>) async -> RescuedPayload?
}

/// Scrubs as replication sees them: what a volume found out about its files becomes findings and repairs.
extension Replicator {
    package func setRescueSource(_ source: (any RescueSource)?) { rescue.withLock { $0 = source } }

    /// Told of every finding when it is made, and again when it has its outcome. Must not block.
    package func observeFindings(_ observer: @escaping @Sendable (Finding) -> Void) {
        repairs.observe(observer)
    }

    /// Tells whoever observes.
    package func report(_ finding: Finding) { repairs.report(finding) }

    package func isWaitingForRepair(_ chunk: Digest, on volume: VolumeID) -> Bool {
        repairs.isWaiting(chunk, on: volume)
    }

    package var repairCounts: RepairCounts { repairs.counts }

    /// A walk over a volume's files.
    /// - Throws: `StoreError` with `.notEnoughReplicas` when the volume is not usable.
    package func makeScrubber(
        of volume: VolumeID,
        from cursor: ScrubCursor,
        through last: UInt32?
    ) throws(StoreError) -> VolumeScrubber {
        guard let index = volumes.index(of: volume), let replica = volumes.usableReplica(index),
            let scrubber = replica.makeScrubber(from: cursor, through: last)
        else { throw outOfUse(volume) }
        return scrubber
    }

    /// One step, on a thread of the volume's own; what it found is queued for repair or reported.
    /// - Returns: the step, and the findings that are settled by `settleFindings`.
    package func scrubStep(
        _ scrubber: VolumeScrubber,
        of volume: VolumeID,
        byteCount: UInt64
    ) async throws -> (step: ScrubStep, findings: [Finding], unsettled: [UnsettledFinding]) {
        guard let index = volumes.index(of: volume), let replica = volumes.usableReplica(index) else {
            throw outOfUse(volume)
        }
        let step: ScrubStep
        switch await timers.call(replica, { $0.scrub(scrubber, byteCount: byteCount, completion: $1) }) {
        case .success(let done): step = done
        case .failure(let error):
            noteBroken(index, error)
            throw StoreError(
                error.code == .closed ? .cancelled : .inputOutput,
                "\(volumes.slots[index].label): \(error.message)",
                advice: "'holdfast status' shows the volumes."
            )
        }
        var findings: [Finding] = []
        var unsettled: [UnsettledFinding] = []
        for damage in step.damage {
            let finding = take(damage, on: index)
            findings.append(finding)
            switch damage.remedy {
            case .compare: unsettled.append(UnsettledFinding(finding: finding, lostBatch: nil))
            case .rebuildLog: unsettled.append(UnsettledFinding(finding: finding, lostBatch: damage.location))
            case .replace, .mended, .failed: break
            }
        }
        return (step, findings, unsettled)
    }

    /// What opening a volume has put right, as findings; they are reported.
    package func reportOpening(of volume: VolumeID) -> [Finding] {
        guard let index = volumes.index(of: volume), let replica = volumes.usableReplica(index) else {
            return []
        }
        return replica.mendedAtOpening.map { take($0, on: index) }
    }

    private func take(_ damage: ScrubDamage, on index: Int) -> Finding {
        var finding = Finding(
            chunk: damage.remedy == .replace ? damage.digest : nil,
            volume: volumes.slots[index].id,
            kind: Finding.Kind(damage.kind),
            foundBy: .scrub,
            foundAt: clock.now(),
            detail: damage.location.map { "\($0): \(damage.message)" } ?? damage.message
        )
        switch damage.remedy {
        case .replace:
            if let chunk = damage.digest { verified.remove(chunk, on: index) }
            queueRepair(finding)
            return finding
        case .mended: finding.outcome = .mended
        case .failed(let reason): finding.outcome = .failed(reason)
        case .compare, .rebuildLog: break
        }
        repairs.report(finding)
        return finding
    }

    /// A finding whose remedy is more than a copy.
    package struct UnsettledFinding: Sendable {
        package let finding: Finding
        /// Set when the volume's log has to be rebuilt.
        package let lostBatch: RecordLocation?
    }

    /// Rebuilds the log of a volume from its peers, and compares the volume with the catalog, as its findings ask for;
    /// waits until the volume is whole again, within bounds, and reports what became of them.
    package func settle(_ unsettled: [UnsettledFinding], of volume: VolumeID, within deadline: Duration) async
        -> [Finding]
    {
        guard !unsettled.isEmpty, let index = volumes.index(of: volume) else { return [] }
        var problem: String?
        // The earliest first: the log is cut there.
        let batches = unsettled.compactMap(\.lostBatch).sorted()
        let end = ContinuousClock.now + deadline
        // Another volume may be out for the same reason, or lag for a moment; the next walk finds the batch again.
        let patience = min(end, ContinuousClock.now + .seconds(10))
        while !batches.isEmpty, !hasPeersForRebuild(index), !Task.isCancelled, ContinuousClock.now < patience
        {
            do { try await clock.sleep(for: .milliseconds(20)) } catch { continue }
        }
        if let replica = volumes.usableReplica(index) {
            if !batches.isEmpty { problem = await rebuildLog(index, replica, batches) }
            replica.setComplete(through: 0)
        }
        while problem == nil, !isWhole(index) {
            guard !Task.isCancelled, ContinuousClock.now < end else {
                problem = volumes.problem(at: index) ?? "the volume is still behind; it goes on by itself"
                break
            }
            do { try await clock.sleep(for: .milliseconds(20)) } catch { continue }
        }
        return unsettled.map { item in
            var finding = item.finding
            finding.outcome = problem.map { .failed($0) } ?? .mended
            repairs.report(finding)
            return finding
        }
    }

    /// Buries damaged records of chunks that nothing refers to and no volume has good bytes of: no loss, but garbage.
    ///
    /// That is what becomes of garbage that was collected when the log is lost that its tombstones stand in: the records are
    /// in the index again, with holes for bytes. Whether nothing needs them is asked without holding up uploads: who puts
    /// such content meanwhile finds the copy damaged and writes another, which stays.
    /// - Returns: those that are gone; none while garbage collection is on hold, because the catalog may not know everything.
    /// - Throws: as a run of garbage collection.
    package func buryUnneeded(_ chunks: Set<Digest>, on volume: VolumeID) async throws -> Set<Digest> {
        guard !isReadOnly, garbage.hold == nil, !chunks.isEmpty, let index = volumes.index(of: volume),
            let replica = sweptReplica(index)
        else { return [] }
        var options = GarbageOptions()
        options.workShare = Self.backgroundShare
        let unneeded = try await unneeded(among: chunks, options)
        guard garbage.hold == nil else { return [] }
        var buried: Set<Digest> = []
        for chunk in unneeded.sorted() {
            try Task.checkCancellation()
            do {
                let isGone = try await step(replica) { volume throws(VolumeError) in
                    try volume.buryDamaged(chunk)
                }
                guard isGone else { continue }
            } catch is VolumeError {
                // What was buried so far is gone, and told of.
                break
            }
            verified.remove(chunk, on: index)
            buried.insert(chunk)
        }
        return buried
    }

    /// Of the time, for walks over the catalog beside clients.
    private static let backgroundShare = 0.5

    /// Whether the log can do without this volume.
    private func hasPeersForRebuild(_ index: Int) -> Bool {
        volumes.slots.indices.count { $0 != index && isWhole($0) } >= quorum.writeQuorum
    }

    /// - Returns: why it can't be done now.
    private func rebuildLog(_ index: Int, _ replica: any Replica, _ batches: [RecordLocation]) async
        -> String?
    {
        guard hasPeersForRebuild(index) else {
            return "its log can't be rebuilt while other volumes are not whole"
        }
        for location in batches {
            if case .failure(let error) = await timers.call(
                replica,
                { $0.noteLostBatch(at: location, completion: $1) }
            ) {
                // Whether it is noted is not known: what the volume acknowledges from now on must not count.
                fail(index, reason: "Damage of its commit log can't be noted: \(error)")
                return error.description
            }
        }
        // Out for a moment; it comes back as a volume whose log has to be filled from the others.
        fail(index, reason: "Batches of its commit log are damaged; the log is rebuilt.")
        return nil
    }

    /// Whether a volume has every payload and its part of the log.
    func isWhole(_ index: Int) -> Bool {
        guard volumes.usableReplica(index) != nil, !laggingVolumes().contains(index) else { return false }
        let id = volumes.slots[index].id
        let log = pipeline.withState { $0.machine.status }
        switch log.volumes.first(where: { $0.volume == id })?.role {
        case .voting, .spare: return true
        default: return false
        }
    }

    private func outOfUse(_ volume: VolumeID) -> StoreError {
        let index = volumes.index(of: volume)
        let label = index.map { volumes.slots[$0].label } ?? volume.description
        return StoreError(
            .notEnoughReplicas,
            "\(label) is not usable: \(index.flatMap { volumes.problem(at: $0) } ?? "it is not of this store").",
            advice: "Bring the volume back, or replace it: holdfast volume replace."
        )
    }
}

extension Finding.Kind {
    package init(_ kind: ScrubDamage.Kind) {
        switch kind {
        case .payload: self = .corrupt
        case .header: self = .corruptHeader
        case .batch: self = .corruptLog
        case .spentRecord, .segmentHeader, .footer, .identity: self = .corruptFooter
        case .padding: self = .padding
        case .index: self = .index
        case .unreadable: self = .unreadable
        }
    }
}
