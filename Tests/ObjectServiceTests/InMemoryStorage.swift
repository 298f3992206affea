import Catalog
import ContentHashing
import ObjectService
import StoreModel
import Synchronization

/// Three volumes and a catalog in memory, with faults that tests ask for. It checks what its callers promise.
final class InMemoryStorage: ReplicatedStorage {
    struct Receipt: Sendable {
        let digest: Digest
        /// The payload while it waits for the commit.
        let waiting: [UInt8]?
    }

    struct State {
        var volumes: [[Digest: [UInt8]]] = [[:], [:], [:]]
        var catalog = MemoryCatalog()
        var decider = CatalogDecider(applied: .empty, buckets: [])
        var writesRunning = 0
        var writesRunningMax = 0
        var writeCount = 0
        var writtenBytes = 0
        var newBytes = 0
        var nodeCount = 0
        var readsRunning = 0
        var readsRunningMax = 0
        var readCount = 0
        var commitCount = 0
        var receiptCountLast = 0
        /// The write with this number fails, counted from 1.
        var failingWrite: Int?
        var repaired: [Digest] = []
        /// What is given without waiting.
        var inMemory: Set<Digest> = []
        var memoryReads: [Range<Int>] = []
    }

    let state = Mutex(State())
    let generations = DocumentGenerations()
    let durableCopyCount = 2
    /// Lets other tasks run in the middle of every call, so that calls really overlap.
    private let yieldCount: Int

    init(yieldCount: Int = 3) { self.yieldCount = yieldCount }

    static let volumeIDs = (1...3).map { VolumeID(high: 0, low: UInt64($0)) }

    func write(_ digest: Digest, bytes: [UInt8], waitsForCommit: Bool) async throws -> Receipt {
        state.withLock { state in
            state.writesRunning += 1
            state.writesRunningMax = max(state.writesRunningMax, state.writesRunning)
            if !waitsForCommit { state.nodeCount += 1 }
        }
        defer { state.withLock { $0.writesRunning -= 1 } }
        for _ in 0..<yieldCount { await Task.yield() }
        try Task.checkCancellation()
        precondition(SHA256Hasher.hash(bytes) == digest, "A payload is named by its SHA-256.")
        precondition(!bytes.isEmpty && bytes.count <= Limits.chunkSizeMax, "A payload has a chunk's size.")
        return try state.withLock { state in
            state.writeCount += 1
            if state.writeCount == state.failingWrite {
                throw StoreError(.notEnoughReplicas, "The write was made to fail.")
            }
            state.writtenBytes += bytes.count
            if waitsForCommit, bytes.count <= Limits.logPayloadSizeMax {
                return Receipt(digest: digest, waiting: bytes)
            }
            Self.store(digest, bytes, &state)
            return Receipt(digest: digest, waiting: nil)
        }
    }

    func commit(
        _ command: CatalogCommand,
        operation: OperationID,
        chunks: [Receipt]
    ) async throws -> CatalogOutcome {
        await Task.yield()
        return try state.withLock { state in
            for receipt in chunks {
                if let bytes = receipt.waiting { Self.store(receipt.digest, bytes, &state) }
                precondition(
                    state.volumes[0][receipt.digest] != nil,
                    "A receipt stands for a stored payload."
                )
            }
            state.receiptCountLast = chunks.count
            do {
                let decision = try state.decider.decide(
                    command,
                    operation: operation,
                    now: Timestamp(milliseconds: Int64(state.commitCount)),
                    random: SystemRandom(),
                    reader: state.catalog
                )
                if let entry = decision.entry {
                    state.catalog.apply(entry)
                    state.decider.noteApplied(through: entry.sequence)
                }
                state.commitCount += 1
                return decision.outcome
            } catch let failure as DecisionFailure {
                throw failure.error
            }
        }
    }

    private static func store(_ digest: Digest, _ bytes: [UInt8], _ state: inout State) {
        if state.volumes[0][digest] == nil { state.newBytes += bytes.count }
        for index in state.volumes.indices { state.volumes[index][digest] = bytes }
    }

    func read(_ digest: Digest, length: Int, range: Range<Int>) async throws -> [UInt8] {
        state.withLock { state in
            state.readCount += 1
            state.readsRunning += 1
            state.readsRunningMax = max(state.readsRunningMax, state.readsRunning)
        }
        defer { state.withLock { $0.readsRunning -= 1 } }
        for _ in 0..<yieldCount { await Task.yield() }
        try Task.checkCancellation()
        let good = state.withLock { state in
            state.volumes.lazy.compactMap { $0[digest] }.first { SHA256Hasher.hash($0) == digest }
        }
        guard let good else { throw StoreError(.dataUnavailable, "No volume has \(digest).") }
        precondition(good.count == length && range.upperBound <= length, "A range lies within its payload.")
        return [UInt8](good[range])
    }

    func readInMemory(
        _ digest: Digest,
        length: Int,
        range: Range<Int>,
        into target: UnsafeMutableRawBufferPointer
    ) -> Bool {
        let bytes: [UInt8]? = state.withLock { state in
            guard state.inMemory.contains(digest), let bytes = state.volumes[0][digest] else { return nil }
            state.memoryReads.append(range)
            return [UInt8](bytes[range])
        }
        guard let bytes else { return false }
        target.copyBytes(from: bytes)
        return true
    }

    func currentCatalog() async throws -> any CatalogReader { state.withLock { $0.catalog } }

    func replicaStates(of digests: [Digest], check: ReplicaCheck) async throws -> [[ReplicaState]] {
        state.withLock { state in
            digests.map { digest in
                zip(Self.volumeIDs, state.volumes).map { id, payloads in
                    ReplicaState(
                        volume: id,
                        label: "volume \(id.low)",
                        condition: Self.condition(of: digest, payloads[digest], check),
                        verifiedAt: nil
                    )
                }
            }
        }
    }

    private static func condition(
        of digest: Digest,
        _ bytes: [UInt8]?,
        _ check: ReplicaCheck
    ) -> ReplicaState.Condition {
        guard let bytes else { return .missing }
        if check == .presence || SHA256Hasher.hash(bytes) == digest { return .present }
        return .damaged("other bytes")
    }

    func repairNow(_ digest: Digest) async throws -> RepairOutcome {
        try state.withLock { state in
            guard
                let good = state.volumes.compactMap({ $0[digest] }).first(where: {
                    SHA256Hasher.hash($0) == digest
                })
            else { throw StoreError(.dataUnavailable, "No volume has \(digest).") }
            var repaired: [VolumeID] = []
            for index in state.volumes.indices where state.volumes[index][digest] != good {
                state.volumes[index][digest] = good
                repaired.append(Self.volumeIDs[index])
            }
            state.repaired.append(digest)
            return RepairOutcome(repaired: repaired, failed: [])
        }
    }

    func status() async throws -> StorageStatus {
        StorageStatus(
            store: StoreID(high: 0, low: 1),
            quorum: .standard,
            volumes: [],
            committed: .origin,
            repairsPending: 0,
            canRead: true,
            canWrite: true
        )
    }

    /// Plain: what a record adds is not there.
    func physicalBytes(of digest: Digest, length: UInt64) -> UInt64 {
        state.withLock { state in UInt64(state.volumes.count { $0[digest] != nil }) * length }
    }

    /// What a test says that snapshots name.
    let snapshots = Mutex<[ManifestReference]>([])
    var snapshotManifests: [ManifestReference] { snapshots.withLock { $0 } }

    // MARK: Faults

    /// Flips one bit of a payload on some volumes.
    func damage(_ digest: Digest, on volumes: [Int] = [0, 1, 2]) {
        state.withLock { state in
            for index in volumes { state.volumes[index][digest]?[0] ^= 1 }
        }
    }

    func lose(_ digest: Digest, on volumes: [Int]) {
        state.withLock { state in
            for index in volumes { state.volumes[index][digest] = nil }
        }
    }
}
