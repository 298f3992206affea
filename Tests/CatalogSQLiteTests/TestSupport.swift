import Catalog
import CatalogSQLite
import Foundation
import StoreModel
import Synchronization

/// SplitMix64: the same numbers for the same seed.
final class SeededNumbers: RandomSource, RandomNumberGenerator {
    private let state: Mutex<UInt64>

    init(seed: UInt64) { state = Mutex(seed) }

    func next() -> UInt64 {
        state.withLock { state in
            state &+= 0x9E37_79B9_7F4A_7C15
            var bits = state
            bits = (bits ^ bits >> 30) &* 0xBF58_476D_1CE4_E5B9
            bits = (bits ^ bits >> 27) &* 0x94D0_49BB_1331_11EB
            return bits ^ bits >> 31
        }
    }

    func below(_ bound: Int) -> Int { Int(next() % UInt64(bound)) }
    func chance(_ oneIn: Int) -> Bool { below(oneIn) == 0 }
    func element<Element>(_ list: [Element]) -> Element { list[below(list.count)] }
}

/// A directory that is removed with the value.
final class TemporaryDirectory: Sendable {
    let path: String

    init() throws {
        path = NSTemporaryDirectory() + "catalog-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }

    func file(_ name: String) -> String { path + "/" + name }
}

/// A decider with an index behind it, and a log between them that lags as it likes.
final class Pipeline {
    let random: SeededNumbers
    private(set) var store: any CatalogStore
    private(set) var decider: CatalogDecider
    private(set) var batches: [AppliedBatch] = []
    private(set) var appliedCount = 0
    private var open: [Decision] = []
    var now = Timestamp(milliseconds: 1_000_000)
    private var position = LogPosition.origin

    init(_ store: any CatalogStore, seed: UInt64) throws {
        self.store = store
        random = SeededNumbers(seed: seed)
        decider = CatalogDecider(applied: store.applied, buckets: try store.buckets())
        position = store.applied.position
    }

    func decide(
        _ command: CatalogCommand,
        operation: OperationID? = nil
    ) throws(DecisionFailure) -> Decision {
        let decision = try decider.decide(
            command,
            operation: operation ?? UniqueID(high: random.next(), low: random.next()),
            now: now,
            random: random,
            reader: store
        )
        if decision.entry != nil { open.append(decision) }
        return decision
    }

    /// Makes a batch of what was decided since the last one.
    func closeBatch() throws {
        guard let last = open.last else { return }
        let body = CatalogEntryCodec.encode(open.compactMap(\.entry))
        let next = LogPosition(
            epoch: 1,
            sequence: position.sequence + 1,
            hash: Digest(words: (random.next(), random.next(), 0, 0))
        )
        batches.append(
            AppliedBatch(
                position: next,
                predecessor: position,
                stateHash: last.stateHash,
                timestamp: last.timestamp,
                entries: try CatalogEntryCodec.decode(body)
            )
        )
        position = next
        open = []
    }

    /// Applies up to `count` batches; the decider isn't told.
    func apply(_ count: Int) throws {
        let end = min(batches.count, appliedCount + count)
        try store.apply(Array(batches[appliedCount..<end]))
        appliedCount = end
    }

    func note() { decider.noteApplied(through: store.applied.lastVersionSequence) }

    func settle() throws {
        try closeBatch()
        try apply(batches.count)
        note()
    }

    func replaceStore(_ make: () throws -> any CatalogStore) throws {
        try store.close()
        store = try make()
    }

    /// Decides and applies at once.
    @discardableResult
    func run(_ command: CatalogCommand) throws -> CatalogOutcome {
        let outcome = try decide(command).outcome
        try settle()
        return outcome
    }
}

func content(_ number: UInt64) -> ObjectContent {
    ObjectContent(
        size: number % 10_000,
        etag: "etag-\(number)",
        checksums: ObjectChecksums(sha256: Digest(words: (number, 1, 2, 3))),
        manifest: .inline([
            ChunkReference(digest: Digest(words: (number, 1, 2, 3)), length: UInt32(number % 10_000))
        ])
    )
}

func put(
    _ bucket: String,
    _ key: String,
    _ number: UInt64 = 1,
    conditions: Conditions = .none
) throws -> CatalogCommand {
    .putObject(
        PutCommand(
            bucket: try BucketName(bucket),
            key: try ObjectKey(key),
            content: content(number),
            metadata: ObjectMetadata(
                contentType: "text/plain",
                userMetadata: [NamedValue("number", "\(number)")]
            ),
            conditions: conditions
        )
    )
}

func code(_ body: () throws -> Void) -> StoreError.Code? {
    do {
        try body()
        return nil
    } catch let error as DecisionFailure {
        return error.error.code
    } catch let error as StoreError {
        return error.code
    } catch let error as CatalogError {
        return error.storeError.code
    } catch {
        return .internalFault
    }
}
