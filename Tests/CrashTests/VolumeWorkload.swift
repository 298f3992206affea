import BlobVolume
import ContentHashing
import StoreModel
import StoreTestKit

/// One call of the engine.
enum VolumeStep: Sendable, CustomStringConvertible {
    case format
    case open
    /// Payload sizes, and whether a batch of the commit log goes with them.
    case group([Int], hasBatch: Bool)
    case syncLog
    case bulk(Int)
    case syncBulk
    case promise(UInt64)
    case setComplete
    /// The log starts anew after a place far ahead of it.
    case resetLog
    /// A bit of a synced payload goes bad on the medium; it is found and repaired.
    case damageAndReplace(inBulk: Bool)
    /// Drops the batches up to the last but so many.
    case trimLog(keeping: Int)
    /// Of every so many payloads all but the first are garbage: they leave the index and get their tombstones.
    case bury(keepingOneIn: Int)
    /// Gives back the space of what is dead, segment by segment.
    case reclaim
    /// What an fsync that failed leads to: the volume is opened again and goes on in new segments.
    case leaveSegments
    case close

    var description: String {
        switch self {
        case .format: "format"
        case .open: "open"
        case .group(let sizes, let hasBatch): "group of \(sizes)\(hasBatch ? " with a batch" : "")"
        case .syncLog: "sync log"
        case .bulk(let size): "bulk of \(size)"
        case .syncBulk: "sync bulk"
        case .promise(let epoch): "promise \(epoch)"
        case .setComplete: "set complete"
        case .resetLog: "reset log"
        case .damageAndReplace(let inBulk): "replace damaged in \(inBulk ? "bulk" : "log")"
        case .trimLog(let count): "trim the log to \(count) batches"
        case .bury(let count): "bury all but one in \(count)"
        case .reclaim: "reclaim"
        case .leaveSegments: "leave segments"
        case .close: "close"
        }
    }
}

/// What a volume must hold, may hold, and must not hold, by what was asked of it and what it acknowledged.
struct VolumeModel {
    struct Group {
        var digests: [Digest]
        var batch: CommitBatch?
        var isSynced = false
    }

    var isFormatted = false
    /// Every payload that was ever handed over.
    var payloads: [Digest: [UInt8]] = [:]
    /// Acknowledged by a sync.
    var synced: Set<Digest> = []
    /// Damaged on the medium, and not yet acknowledged as repaired.
    var damaged: Set<Digest> = []
    /// Cut when the volume was opened: must never come back.
    var gone: Set<Digest> = []
    /// Garbage whose burial was begun: it may be there or not.
    var dying: Set<Digest> = []
    /// A trim that was begun: the volume may show either.
    var pendingTrim: LogPosition?
    /// Digests in the order in which they were appended.
    var inLog: [Digest] = []
    var inBulk: [Digest] = []
    var groups: [Group] = []
    var unsyncedBulk: [Digest] = []
    var hadDamage = false
    /// The chain as appended since `base`, and how much of it was acknowledged.
    var base = LogPosition.origin
    var chain: [CommitBatch] = []
    var syncedChainCount = 0
    /// A reset that was begun: the volume may show either.
    var pendingBase: LogPosition?
    var promise: UInt64 = 1
    var pendingPromise: UInt64?
    var complete: UInt64 = 0
    /// The step that was running, or ran last.
    var step: VolumeStep?

    var tail: LogPosition { chain.last?.position ?? base }
}

/// Runs steps on a volume and keeps the model of what it acknowledged.
final class VolumeWorkload {
    private let random: SeededRandom
    private(set) var model: VolumeModel
    private(set) var volume: BlobVolume?

    static let store = StoreID(high: 1, low: 2)
    static let volumeID = VolumeID(high: 3, low: 4)

    /// Small segments, so that a few steps seal them, and no thread beside the caller's: every run makes the same
    /// calls.
    static var options: VolumeOptions {
        var options = VolumeOptions()
        options.logSegmentSizeMin = 64 << 10
        options.logSegmentSizeMax = 64 << 10
        options.bulkSegmentSizeMax = 512 << 10
        options.writebackStep = 128 << 10
        options.reserveBytes = 0
        options.preparesSpareInBackground = false
        return options
    }

    static var identity: VolumeIdentity {
        VolumeIdentity(
            storeID: store,
            volumeID: volumeID,
            promise: 1,
            logSet: LogSet(version: 1, members: [volumeID]),
            quorum: .standard,
            createdAt: Timestamp(milliseconds: 1_700_000_000_000)
        )
    }

    init(model: VolumeModel = VolumeModel(), seed: UInt64 = 1) {
        self.model = model
        random = SeededRandom(seed: seed)
    }

    /// Goes on with a volume that was opened after a crash: what it holds now was synced by opening it, and what it
    /// does not hold must never come back.
    init(resuming model: VolumeModel, as volume: BlobVolume, seed: UInt64) {
        var next = model
        let positions = Set(volume.positions(after: 0))
        next.base = volume.logBase
        next.chain = model.chain.filter { positions.contains($0.position) }
        next.syncedChainCount = next.chain.count
        next.pendingBase = nil
        next.promise = volume.identity.promise
        next.pendingPromise = nil
        next.isFormatted = true
        next.synced = Set(model.payloads.keys.filter { volume.presence(of: $0) != .absent })
        next.gone = Set(model.payloads.keys).subtracting(next.synced)
        next.dying = []
        next.pendingTrim = nil
        next.groups = model.groups.filter { !next.gone.isSuperset(of: $0.digests) }
        for index in next.groups.indices { next.groups[index].isSynced = true }
        next.unsyncedBulk = []
        self.model = next
        self.volume = volume
        random = SeededRandom(seed: seed)
    }

    /// - Throws: The first error of the engine; `model` then holds what was acknowledged before it.
    func run(_ steps: [VolumeStep], on disk: any Disk, medium: CrashDisk) throws {
        for step in steps {
            model.step = step
            try run(step, disk, medium)
        }
    }

    var step: String { model.step.map { "\($0)" } ?? "no step" }

    /// A volume that failed says so to every writer, and goes on serving what it had acknowledged.
    func problemsAfterFailure() -> [String] {
        // Closing, even without success, ends the use of a volume.
        if case .close = model.step { return [] }
        guard let volume else { return [] }
        var problems: [String] = []
        if volume.failure != nil {
            do {
                try volume.appendGroup(payloads: [payload(10)], batch: nil)
                problems.append("a failed volume took a group")
            } catch {
                if error.code != .failed { problems.append("a failed volume refuses a group with \(error)") }
            }
            do {
                try volume.syncLog()
                problems.append("a failed volume synced")
            } catch {
                if error.code != .failed { problems.append("a failed volume refuses to sync with \(error)") }
            }
        }
        for digest in model.synced where !model.damaged.contains(digest) {
            do {
                let bytes = try volume.read(digest, range: 0..<(model.payloads[digest]?.count ?? 0))
                if bytes != model.payloads[digest] {
                    problems.append("\(digest.hex.prefix(8)) reads as other bytes")
                }
            } catch {
                problems.append("\(digest.hex.prefix(8)): \(error)")
            }
        }
        return problems
    }

    /// Drops the volume as a process that ends does.
    func abandon() { volume = nil }

    private func opened() throws -> BlobVolume {
        guard let volume else { throw HarnessError("the steps open a volume before they use it") }
        return volume
    }

    private func run(_ step: VolumeStep, _ disk: any Disk, _ medium: CrashDisk) throws {
        switch step {
        case .format:
            try BlobVolume.format(disk, identity: Self.identity, options: Self.options)
            model.isFormatted = true
        case .open:
            volume = try BlobVolume.open(disk, options: Self.options)
        case .group(let sizes, let hasBatch):
            try appendGroup(sizes, hasBatch: hasBatch)
        case .syncLog:
            try opened().syncLog()
            noteLogSynced()
        case .bulk(let size):
            let payload = payload(size)
            model.inBulk.append(payload.digest)
            model.unsyncedBulk.append(payload.digest)
            try opened().appendBulk(payload)
        case .syncBulk:
            try opened().syncBulk()
            noteBulkSynced()
        case .promise(let epoch):
            model.pendingPromise = epoch
            try opened().updateIdentity { $0.promise = epoch }
            model.promise = epoch
            model.pendingPromise = nil
        case .setComplete:
            model.complete = model.tail.sequence
            try opened().setComplete(through: model.complete)
        case .resetLog:
            let base = LogPosition(
                epoch: model.tail.epoch + 1,
                sequence: model.tail.sequence + 100,
                hash: SHA256Hasher.hash([1, 2, 3])
            )
            model.pendingBase = base
            try opened().resetLog(base: base)
            noteLogSynced()
            model.base = base
            model.chain = []
            model.syncedChainCount = 0
            model.pendingBase = nil
        case .damageAndReplace(let inBulk):
            try damageAndReplace(inBulk: inBulk, medium)
        case .trimLog(let count):
            let batch = model.chain[model.chain.count - count - 1]
            model.pendingTrim = batch.position
            try opened().trimLog(base: batch.position)
            noteLogSynced()
            model.base = batch.position
            model.chain.removeFirst(model.chain.count - count)
            model.syncedChainCount = model.chain.count
            model.pendingTrim = nil
        case .bury(let count):
            try bury(keepingOneIn: count)
        case .reclaim:
            let volume = try opened()
            _ = try volume.sealForReclaiming(ReclaimPolicy(), force: true)
            noteBulkSynced()
            for number in volume.segmentNumbers { _ = try volume.reclaim(number, ReclaimPolicy()) }
        case .leaveSegments:
            try close()
            var options = Self.options
            options.discardUnsynced = true
            volume = try BlobVolume.open(disk, options: options)
        case .close:
            try close()
        }
    }

    private func close() throws {
        try opened().close()
        noteLogSynced()
        noteBulkSynced()
        volume = nil
    }

    private func bury(keepingOneIn count: Int) throws {
        let order = (model.inLog + model.inBulk).filter { model.synced.contains($0) }
        let dead = Set(order.enumerated().filter { $0.offset % count != 0 }.map(\.element))
        let volume = try opened()
        for number in volume.segmentNumbers {
            let found = try volume.garbageCandidates(in: number, before: volume.presentEnd) {
                !dead.contains($0)
            }
            guard !found.isEmpty else { continue }
            let digests = Set(found.map(\.digest))
            model.dying.formUnion(digests)
            model.synced.subtract(digests)
            try volume.bury(volume.withdraw(found))
            model.gone.formUnion(digests)
        }
    }

    private func appendGroup(_ sizes: [Int], hasBatch: Bool) throws {
        let payloads = sizes.map(payload)
        let batch = hasBatch ? nextBatch() : nil
        model.groups.append(.init(digests: payloads.map(\.digest), batch: batch))
        model.inLog += payloads.map(\.digest)
        if let batch { model.chain.append(batch) }
        try opened().appendGroup(payloads: payloads, batch: batch)
    }

    private func nextBatch() -> CommitBatch {
        CommitBatch(
            epoch: max(1, model.tail.epoch),
            predecessor: model.tail,
            commitIndex: model.syncedChainCount > 0
                ? model.chain[model.syncedChainCount - 1].position.sequence : 0,
            timestamp: Timestamp(milliseconds: Int64(model.tail.sequence)),
            body: bytes(300)
        )
    }

    private func damageAndReplace(inBulk: Bool, _ medium: CrashDisk) throws {
        let candidates = inBulk ? model.inBulk : model.inLog
        guard
            let digest = candidates.first(where: { model.synced.contains($0) && !model.damaged.contains($0) }
            ),
            let bytes = model.payloads[digest], let place = medium.image.find(Array(bytes.prefix(64)))
        else { throw HarnessError("there is a synced payload to damage") }
        medium.flip(place.name, offset: place.offset + 7, bit: 3)
        model.damaged.insert(digest)
        model.hadDamage = true
        let volume = try opened()
        do {
            _ = try volume.read(digest, range: 0..<bytes.count)
            throw HarnessError("damage in \(place) was not noticed")
        } catch let error as VolumeError where error.code == .corrupt {}
        try volume.replaceDamaged(PayloadRecord(digest: digest, bytes: bytes))
        model.damaged.remove(digest)
    }

    private func noteLogSynced() {
        for index in model.groups.indices where !model.groups[index].isSynced {
            model.groups[index].isSynced = true
            model.synced.formUnion(model.groups[index].digests)
        }
        model.syncedChainCount = model.chain.count
    }

    private func noteBulkSynced() {
        model.synced.formUnion(model.unsyncedBulk)
        model.unsyncedBulk = []
    }

    private func payload(_ size: Int) -> PayloadRecord {
        let bytes = bytes(size)
        let digest = SHA256Hasher.hash(bytes)
        model.payloads[digest] = bytes
        return PayloadRecord(digest: digest, bytes: bytes)
    }

    private func bytes(_ count: Int) -> [UInt8] {
        let wordCount = (count + 7) / 8
        var words: [UInt64] = []
        words.reserveCapacity(wordCount)
        for _ in 0..<wordCount { words.append(random.next()) }
        return words.withUnsafeBytes { Array($0.prefix(count)) }
    }
}

/// The harness itself is used in a way that makes no sense, or the engine did something that no error describes.
struct HarnessError: Error, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
}
