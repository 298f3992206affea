internal import BlobVolume
internal import StoreModel
internal import Synchronization

/// Reading back what was copied to a new volume, while more is copied: the audit at the end of the same job then reads only
/// what was not copied by it.
///
/// 1. A copy counts only when it was read and compared after the sync that made it durable.
/// 2. One that is not good, or could not be read, is left to the audit, which reads it again and mends it.
/// 3. Nothing is remembered beyond the job: the next one reads everything.
extension Replicator {
    /// What a job has copied to a new volume: read from there when it is durable, beside the copying, so that the audit of
    /// the same job need not read it once more.
    struct ReadBack {
        let isWanted: Bool
        /// Copied, and not known to be durable.
        var waiting: [(digest: Digest, byteCount: Int)] = []
        var waitingByteCount = 0
        var isRunning = false
        /// Read from the volume after they were made durable, and good.
        var good: Set<Digest> = []

        /// Beyond, the audit reads again.
        static let goodCountMax = 1 << 19
        /// Of one task.
        static let taskCountMax = 4096

        /// Whether what is copied now will be read back.
        var takesMore: Bool { isWanted && good.count + waiting.count < Self.goodCountMax }

        mutating func add(_ digest: Digest, _ byteCount: Int) {
            guard takesMore else { return }
            waiting.append((digest, byteCount))
            waitingByteCount += byteCount
        }

        mutating func take() -> [(digest: Digest, byteCount: Int)] {
            let taken = Array(waiting.prefix(Self.taskCountMax))
            waiting.removeFirst(taken.count)
            waitingByteCount -= taken.reduce(0) { $0 + $1.byteCount }
            isRunning = true
            return taken
        }

        mutating func end(_ digests: [Digest]) {
            isRunning = false
            if good.count + digests.count <= Self.goodCountMax { good.formUnion(digests) }
        }
    }

    /// Makes durable what was copied, and reads it from the volume: one task at a time, beside the copying.
    func startReadBack(
        _ readBack: inout ReadBack,
        _ index: Int,
        _ replica: any Replica,
        isLast: Bool,
        _ tasks: inout ThrowingTaskGroup<MoveResult, any Error>
    ) {
        guard !readBack.isRunning, !readBack.waiting.isEmpty,
            isLast || readBack.waitingByteCount >= Limits.readBackByteCount
        else { return }
        let copies = readBack.take()
        tasks.addTask { .readBack(await self.readBack(copies, on: index, replica)) }
    }

    /// - Returns: those that are durable and good; what is not is left to the audit.
    private func readBack(
        _ copies: [(digest: Digest, byteCount: Int)],
        on index: Int,
        _ replica: any Replica
    ) async -> [Digest] {
        guard case .success = await timers.call(replica, { $0.syncBulk(completion: $1) }) else { return [] }
        return await withTaskGroup(of: Digest?.self) { group in
            var good: [Digest] = []
            var rest = copies[...]
            func start() {
                guard !Task.isCancelled, volumes.usableReplica(index) != nil,
                    let copy = rest.popFirst()
                else { return }
                group.addTask { await self.readBack(copy.digest, copy.byteCount, on: index, replica) }
            }
            for _ in 0..<Limits.readerThreadsPerVolume { start() }
            for await digest in group {
                if let digest { good.append(digest) }
                start()
            }
            return good
        }
    }

    private func readBack(_ digest: Digest, _ byteCount: Int, on index: Int, _ replica: any Replica) async
        -> Digest?
    {
        do {
            try await pace.take(byteCount, clientTurns: clientTurns.load(ordering: .relaxed))
        } catch {
            return nil
        }
        guard
            case .success = await timers.call(
                replica,
                { $0.verifyOnDisk(digest, byteCount: byteCount, completion: $1) }
            ),
            replica.presence(of: digest) == .synced
        else { return nil }
        verified.insert(digest, on: index, at: clock.now())
        return digest
    }
}
