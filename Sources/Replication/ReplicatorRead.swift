internal import BlobVolume
internal import ContentHashing
internal import Logging
package import StoreModel
internal import Synchronization

extension Replicator {
    /// Reads verified bytes of one chunk: the healthiest replica first, the next one on damage or slowness. Copies
    /// that turn out damaged or missing are queued for repair.
    /// - Parameter range: within the chunk; nil means all of it.
    /// - Throws: `StoreError` with `.dataUnavailable` when no replica has good bytes, `.deadlineExceeded`.
    package func read(_ digest: Digest, range: Range<Int>?) async throws -> [UInt8] {
        clientTurns.wrappingAdd(1, ordering: .relaxed)
        return try await readInBackground(digest, range: range)
    }

    /// The same of what the system has in memory, without waiting for anything, to where it is wanted.
    /// - Parameter target: has the length of the range.
    /// - Returns: false when it is not there, or when `read` has something to find out about it; then `target` holds nothing
    ///   of use.
    package func readCached(
        _ digest: Digest,
        length: Int,
        range: Range<Int>,
        into target: UnsafeMutableRawBufferPointer
    ) -> Bool {
        let placement = placementIndices(for: digest)
        let first = firstCopy(of: digest, isSmall: length <= Limits.logPayloadSizeMax)
        guard readCached(digest, range, placement, first, into: target) else { return false }
        clientTurns.wrappingAdd(1, ordering: .relaxed)
        return true
    }

    /// The same for work of the store's own, which makes room for clients and not for itself.
    func readInBackground(_ digest: Digest, range: Range<Int>?) async throws -> [UInt8] {
        let indices = placementIndices(for: digest)
        let isSmall = range.map { $0.upperBound <= Limits.logPayloadSizeMax } ?? false
        let first = firstCopy(of: digest, isSmall: isSmall)
        if isSmall, let range, let bytes = cachedBytes(digest, range, indices, first) { return bytes }
        let isTrial = disksAsked.wrappingAdd(1, ordering: .relaxed).newValue % Limits.readsPerTrial == 0
        let turn = ReadTurn(first: first, isTrial: isTrial)
        let candidates = readCandidates(for: digest, placement: indices, turn)
        guard !candidates.isEmpty else { throw noCopyError(digest, indices, failures: []) }
        do {
            let answer = try await ReadRace.run(
                digest: digest,
                range: range,
                candidates: candidates,
                timers: timers
            ) { [self] failure in noteReadFailure(failure, of: digest) }
            for failure in answer.failures { noteReadFailure(failure, of: digest) }
            return answer.bytes
        } catch let error as ReadRace.NoGoodCopy {
            for failure in error.failures { noteReadFailure(failure, of: digest) }
            if let bytes = await readStray(digest, range, but: indices, tried: error.failures) {
                return bytes
            }
            throw noCopyError(digest, indices, failures: error.failures)
        }
    }

    /// Which copy is read first. Small payloads take turns. A large one keeps to one copy for a while, another one for
    /// each digest: three copies in the system's memory would need three times the memory and three readings from the
    /// disks until everything is there. Over many reads every copy gets its turn.
    private func firstCopy(of digest: Digest, isSmall: Bool) -> Int {
        let turn = nextReadTurn()
        let own = Int(truncatingIfNeeded: digest.words.0 >> 32)
        return isSmall ? turn : own &+ (turn &>> Limits.readTurnShift)
    }

    struct ReadTurn {
        /// Counts on from read to read; among equally fast copies it chooses the first.
        let first: Int
        /// A volume that was slow is asked first, once: who is never asked is never seen to be fast again, nor to be so slow
        /// that it has to be reported.
        let isTrial: Bool
    }

    /// The last resort: copies where the chunk does not belong (any more).
    private func readStray(
        _ digest: Digest,
        _ range: Range<Int>?,
        but placement: [Int],
        tried: [ReadRace.Failure]
    )
        async -> [UInt8]?
    {
        for replica in strayHolders(of: digest, but: placement) {
            guard !tried.contains(where: { $0.replica.id == replica.id }) else { continue }
            if case .success(let bytes) = await timers.call(
                replica,
                { $0.read(digest, range: range, completion: $1) }
            ) {
                return bytes
            }
        }
        return nil
    }

    /// Replicas that have the chunk by their index, best first: equally fast ones take turns.
    private func readCandidates(for digest: Digest, placement: [Int], _ turn: ReadTurn)
        -> [any Replica]
    {
        var holders: [(replica: any Replica, mean: Double)] = []
        var isElsewhere = false
        for index in placement {
            guard let replica = volumes.usableReplica(index) else {
                isElsewhere = true
                continue
            }
            if replica.presence(of: digest) == .absent {
                isElsewhere = true
                // On a volume that is being filled it is no finding: the walk brings it.
                if !mustBeFilled(index) { noteAbsence(of: digest, on: index, foundBy: .read) }
            } else {
                holders.append((replica, rank(replica)))
            }
        }
        // Copies at places where the chunk belonged before: asked after those where it belongs now.
        let others = isElsewhere ? strayHolders(of: digest, but: placement) : []
        if holders.isEmpty, others.isEmpty {
            // A volume that can't be written any more may still be read: what verifies is good.
            return volumes.slots.compactMap(\.replica).filter {
                $0.failure != nil && $0.presence(of: digest) != .absent
            }
        }
        return ordered(holders, turn) + others
    }

    /// Usable volumes that have a chunk although it does not belong there, the fastest first.
    private func strayHolders(of digest: Digest, but placement: [Int]) -> [any Replica] {
        var holders: [(replica: any Replica, mean: Double)] = []
        for index in volumes.present where !placement.contains(index) {
            guard let replica = volumes.usableReplica(index), replica.presence(of: digest) != .absent
            else { continue }
            holders.append((replica, rank(replica)))
        }
        return holders.sorted { $0.mean < $1.mean }.map(\.replica)
    }

    func ordered(_ holders: [(replica: any Replica, mean: Double)], _ turn: ReadTurn) -> [any Replica] {
        guard holders.count > 1 else { return holders.map(\.replica) }
        let best = holders.map(\.mean).min() ?? 0
        let first = Int(UInt(bitPattern: turn.first) % UInt(holders.count))
        let turned = holders[first...] + holders[..<first]
        let fast = turned.filter { $0.mean <= best * 2 + 200_000 }.map(\.replica)
        let slow = holders.filter { $0.mean > best * 2 + 200_000 }.sorted { $0.mean < $1.mean }
        let eligibleCount = slow.count { $0.mean < Self.suspectRank }
        if turn.isTrial, eligibleCount > 0 {
            var rest = slow
            let tried = rest.remove(at: Int(UInt(bitPattern: turn.first) % UInt(eligibleCount)))
            return [tried.replica] + fast + rest.map(\.replica)
        }
        return fast + slow.map(\.replica)
    }

    /// What the system has in memory is read where the caller runs: a thread of the volume, a hedge and a deadline cost a
    /// small payload ten times as much. Only where nothing else is to be done: every copy is where it should be. The
    /// replica is the one that the race would begin with, which meets whatever is wrong with its copy.
    private func readCached(
        _ digest: Digest,
        _ range: Range<Int>,
        _ placement: [Int],
        _ turn: Int,
        into target: UnsafeMutableRawBufferPointer
    ) -> Bool {
        guard !placement.isEmpty else { return false }
        let start = Int(UInt(bitPattern: turn) % UInt(placement.count))
        var first = placement[start]
        let suspects = volumes.suspects
        if suspects.contains(first) {
            let order = placement[start...] + placement[..<start]
            first = order.first { !suspects.contains($0) } ?? first
        }
        var chosen: (any Replica)?
        for index in placement {
            guard let replica = volumes.usableReplica(index), replica.presence(of: digest) != .absent
            else { return false }
            if index == first { chosen = replica }
        }
        return chosen?.readCached(digest, range: range, into: target) ?? false
    }

    private func cachedBytes(_ digest: Digest, _ range: Range<Int>, _ placement: [Int], _ turn: Int)
        -> [UInt8]?
    {
        guard range.count <= Limits.logPayloadSizeMax else { return nil }
        let bytes = [UInt8](unsafeUninitializedCapacity: range.count) { buffer, initialized in
            let room = UnsafeMutableRawBufferPointer(buffer)
            let target = UnsafeMutableRawBufferPointer(rebasing: room[..<range.count])
            if readCached(digest, range, placement, turn, into: target) { initialized = range.count }
        }
        return bytes.isEmpty ? nil : bytes
    }

    /// What a suspect volume's mean is raised by, in nanoseconds.
    private static let suspectRank = 1e12

    /// The mean latency in nanoseconds; a volume that seems to hang comes last.
    func rank(_ replica: any Replica) -> Double {
        if replica.busyDuration > Limits.hangSuspicion { return .greatestFiniteMagnitude }
        if let index = volumes.index(of: replica.id), volumes.isTripped(index) {
            return .greatestFiniteMagnitude
        }
        let mean = replica.latency.mean ?? 0
        // Behind every healthy one, and in front of those that hang.
        guard let index = volumes.index(of: replica.id), volumes.suspects.contains(index) else { return mean }
        return mean + Self.suspectRank
    }

    private func noteReadFailure(_ failure: ReadRace.Failure, of digest: Digest) {
        guard let index = volumes.index(of: failure.replica.id) else { return }
        note(failure.error, of: digest, on: index, foundBy: .read)
    }

    private func noCopyError(_ digest: Digest, _ indices: [Int], failures: [ReadRace.Failure]) -> StoreError {
        var reasons = failures.map { "\($0.replica.label): \($0.error)" }
        for index in indices {
            if let problem = volumes.problem(at: index) {
                reasons.append("\(volumes.slots[index].label): \(problem)")
            } else if !failures.contains(where: { $0.replica.id == volumes.slots[index].id }) {
                reasons.append("\(volumes.slots[index].label): no copy")
            }
        }
        return StoreError(
            .dataUnavailable,
            "No replica has good bytes of chunk \(digest). \(reasons.joined(separator: "; ")).",
            advice: "Bring the volumes back that are missing; damaged originals are kept in quarantine."
        )
    }

    // MARK: What reads and writes find

    /// Records what an error says about a copy or a volume.
    func note(_ error: VolumeError, of digest: Digest, on index: Int, foundBy source: Finding.Source) {
        verified.remove(digest, on: index)
        switch error.code {
        case .failed:
            noteBroken(index, error)
        case .full:
            // The volume is behind; it is caught up when it has room again.
            break
        case .notFound:
            // A surplus copy that garbage collection has just taken away is not missed.
            guard placementIndices(for: digest).contains(index) else { return }
            noteAbsence(of: digest, on: index, foundBy: source)
        case .overloaded:
            // It says something about the volume's queue; about the copy only when that was to be written.
            if source == .write { noteMissing(digest, on: index, foundBy: source) }
        case .closed:
            break
        case .corrupt:
            add(.corrupt, digest, index, source)
        default:
            if volumes.usableReplica(index) == nil {
                fail(index, reason: error.description)
            } else {
                add(.unreadable, digest, index, source)
            }
        }
    }

    func noteMissing(_ digest: Digest, on index: Int, foundBy source: Finding.Source) {
        add(.missing, digest, index, source)
    }

    private func add(_ kind: Finding.Kind, _ digest: Digest, _ index: Int, _ source: Finding.Source) {
        queueRepair(
            Finding(
                chunk: digest,
                volume: volumes.slots[index].id,
                kind: kind,
                foundBy: source,
                foundAt: clock.now()
            )
        )
    }

    /// Queues a copy for repair, the more urgent the fewer others are left.
    /// - Returns: false when the queue had no room.
    @discardableResult
    package func queueRepair(_ finding: Finding) -> Bool {
        guard let chunk = finding.chunk else { return true }
        let waiting = repairs.volumes(of: chunk)
        let good = placementIndices(for: chunk).count { index in
            let id = volumes.slots[index].id
            guard id != finding.volume, !waiting.contains(id), let replica = volumes.usableReplica(index)
            else {
                return false
            }
            return replica.presence(of: chunk) != .absent
        }
        return repairs.add(finding, goodCopies: good)
    }

    // MARK: Repair

    /// Works on the repair queue until the task is cancelled or the replicator closes.
    package func runRepairs() async {
        while !Task.isCancelled, let (item, finding) = await repairs.next() {
            let outcome = await repair(item.chunk, on: item.volume)
            repairs.finish(item, outcome)
            if outcome.isRepaired { continue }
            logger.warning(
                "A copy could not be repaired.",
                metadata: [
                    "chunk": "\(item.chunk)", "volume": "\(item.volume)", "kind": "\(finding.kind.rawValue)",
                    "outcome": "\(outcome)",
                ]
            )
        }
    }

    /// Gives a volume a good copy of a chunk. Only bytes whose SHA-256 is the chunk's name are written.
    package func repair(_ digest: Digest, on volume: VolumeID) async -> Finding.Outcome {
        guard !isReadOnly else { return .failed("the store is on a read-only file system") }
        guard let index = volumes.index(of: volume), let target = volumes.usableReplica(index) else {
            return .failed("the volume is not usable")
        }
        guard target.busyDuration < Limits.hangCertainty else { return .failed("the volume hangs") }
        guard volumes.slots[index].role != .readOnly || target.presence(of: digest) != .absent else {
            return .failed("the volume is read-only")
        }
        let others = volumes.present.filter { $0 != index }
        let preferred = placementIndices(for: digest).filter { $0 != index }
        var badSources: [(index: Int, error: VolumeError)] = []
        for source in preferred + others.filter({ !preferred.contains($0) }) {
            guard let replica = volumes.usableReplica(source), replica.presence(of: digest) != .absent
            else { continue }
            let bytes: [UInt8]
            switch await timers.call(replica, { $0.read(digest, range: nil, completion: $1) }) {
            case .success(let read): bytes = read
            case .failure(let error):
                badSources.append((source, error))
                continue
            }
            guard SHA256Hasher.hash(bytes) == digest else {
                badSources.append((source, VolumeError(.corrupt, "Other bytes.", path: replica.label)))
                continue
            }
            // Noted only now that there are good bytes: copies that are all bad would be queued for ever.
            for (index, error) in badSources { note(error, of: digest, on: index, foundBy: .read) }
            let payload = PayloadRecord(digest: digest, bytes: bytes)
            return await write(payload, to: index, target, from: volumes.slots[source].id)
        }
        // The copy itself may be good after all: what was found missing may have been written meanwhile.
        if case .success = await timers.call(target, { $0.verify(digest, strict: true, completion: $1) }) {
            return .repaired(from: volume, verifiedAt: clock.now())
        }
        let source = rescue.withLock { $0 }
        guard let found = await source?.payload(digest, alsoLost: { [repairs] in repairs.waitingChunks }),
            SHA256Hasher.hash(found.bytes) == digest
        else { return .unrepairable }
        let payload = PayloadRecord(digest: digest, bytes: found.bytes)
        let outcome = await write(payload, to: index, target, from: volume)
        guard case .repaired(_, let time) = outcome else { return outcome }
        return .rescued(from: found.source, verifiedAt: time)
    }

    /// Brings a payload back that no volume has any more, to one volume; the others get theirs by its findings.
    func isRescued(_ digest: Digest) async -> Bool {
        for index in placementIndices(for: digest)
        where await repair(digest, on: volumes.slots[index].id).isRepaired { return true }
        return false
    }

    /// Writes a good copy and reads it back: what was repaired is known to be good, not thought to be.
    private func write(
        _ payload: PayloadRecord,
        to index: Int,
        _ target: any Replica,
        from source: VolumeID
    ) async -> Finding.Outcome {
        if case .failure(let error) = await timers.call(target, { $0.repair(payload, completion: $1) }) {
            noteBroken(index, error)
            return .failed(error.description)
        }
        if case .failure(let error) = await timers.call(
            target,
            { $0.verify(payload.digest, strict: true, completion: $1) }
        ) {
            return .failed("the new copy does not verify: \(error.description)")
        }
        verified.insert(payload.digest, on: index, at: clock.now())
        // What is cancelled has been done all the same.
        try? await repairBudget.spend(bytes: UInt64(payload.bytes.count) * 2, operations: 2)
        return .repaired(from: source, verifiedAt: clock.now())
    }

    func unusable(_ index: Int) -> VolumeError {
        VolumeError(
            .failed,
            volumes.problem(at: index) ?? "The volume is not usable.",
            path: volumes.slots[index].label
        )
    }
}
