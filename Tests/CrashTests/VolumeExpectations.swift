import BlobVolume
import StoreModel
import StoreTestKit

/// Compares a volume that was opened again with the model of what it had acknowledged.
final class VolumeExpectations {
    let model: VolumeModel
    /// What differs, in words.
    private(set) var problems: [String] = []

    /// The volume may have given up payloads that were synced, and batches when it says that its log is damaged.
    private let allowsLoss: Bool

    init(_ model: VolumeModel, allowsLoss: Bool = false) {
        self.model = model
        self.allowsLoss = allowsLoss
    }

    /// Opens what a crash left, checks it, goes on writing, and checks again after another power cut.
    static func check(_ image: DiskImage, _ model: VolumeModel, allowsLoss: Bool = false) -> [String] {
        do {
            let expectations = VolumeExpectations(model, allowsLoss: allowsLoss)
            let disk = CrashDisk(image, label: "after the crash")
            if !model.isFormatted && !expectations.hasFormatted(disk) {
                try BlobVolume.format(
                    disk,
                    identity: VolumeWorkload.identity,
                    options: VolumeWorkload.options
                )
            }
            let volume = try BlobVolume.open(disk, options: VolumeWorkload.options)
            expectations.compare(volume)
            try expectations.goOn(volume, disk)
            return expectations.problems
        } catch {
            return ["\(error)"]
        }
    }

    private func hasFormatted(_ disk: CrashDisk) -> Bool {
        guard let volume = try? BlobVolume.open(disk, options: VolumeWorkload.options) else { return false }
        try? volume.close()
        return true
    }

    // MARK: What is there

    private func compare(_ volume: BlobVolume) {
        comparePayloads(volume)
        compareGroups(volume)
        compareLog(volume)
        let promises = [model.promise] + (model.pendingPromise.map { [$0] } ?? [])
        expect(
            promises.contains(volume.identity.promise),
            "promise \(volume.identity.promise), not one of \(promises)"
        )
        expect(
            volume.completeSequence <= model.complete,
            "complete through \(volume.completeSequence): never said"
        )
        expect(!volume.isLogDamaged || allowsLoss, "the log counts as damaged")
        expect(volume.failure == nil, "failed when opened: \(String(describing: volume.failure))")
        let report = volume.openReport
        for damage in report.damage {
            let isExpected = damage.digest.map(model.damaged.contains) ?? false
            expect(isExpected, "damage reported: \(damage)")
        }
    }

    private func comparePayloads(_ volume: BlobVolume) {
        for (digest, bytes) in model.payloads {
            let presence = volume.presence(of: digest)
            expect(presence != .unsynced, "\(digest.hex.prefix(8)) is unsynced after opening")
            // A tombstone may be given up with the tail that it stood in.
            expect(
                presence == .absent || !model.gone.contains(digest) || allowsLoss,
                "\(digest.hex.prefix(8)) came back"
            )
            if presence == .absent {
                expect(
                    !model.synced.contains(digest) || allowsLoss,
                    "\(digest.hex.prefix(8)), \(bytes.count) bytes, was synced and is lost"
                )
                continue
            }
            do {
                let read = try volume.read(digest, range: 0..<bytes.count)
                expect(read == bytes, "\(digest.hex.prefix(8)) reads as other bytes")
                try volume.verify(digest, strict: true)
            } catch let error {
                let isExpected = error.code == .corrupt && model.damaged.contains(digest)
                expect(isExpected, "\(digest.hex.prefix(8)), \(bytes.count) bytes: \(error)")
            }
        }
    }

    private func compareGroups(_ volume: BlobVolume) {
        for (index, group) in model.groups.enumerated() where !group.digests.isEmpty {
            let digests = group.digests.filter { !model.dying.contains($0) && !model.gone.contains($0) }
            if digests.isEmpty { continue }
            let presentCount = digests.count { volume.presence(of: $0) != .absent }
            expect(
                presentCount == 0 || presentCount == digests.count,
                "group \(index) is there in part: \(presentCount) of \(group.digests.count) payloads"
            )
            guard let batch = group.batch, model.pendingBase == nil, batch.position.isLater(than: model.base),
                batch.position.isLater(than: volume.logBase)
            else { continue }
            let hasBatch = volume.positions(after: 0).contains(batch.position)
            expect(hasBatch == (presentCount > 0), "group \(index): payloads and batch disagree")
        }
    }

    private func compareLog(_ volume: BlobVolume) {
        let positions = volume.positions(after: 0)
        if let pendingBase = model.pendingBase, volume.logBase == pendingBase {
            expect(
                positions.isEmpty && volume.logTail == pendingBase,
                "batches survived a reset: \(positions)"
            )
            return
        }
        if let trimmed = model.pendingTrim, volume.logBase == trimmed {
            var model = model
            let count = (model.chain.firstIndex { $0.position == trimmed } ?? -1) + 1
            model.chain.removeFirst(count)
            model.syncedChainCount = max(0, model.syncedChainCount - count)
            model.base = trimmed
            model.pendingTrim = nil
            let trimmedLog = VolumeExpectations(model, allowsLoss: allowsLoss)
            trimmedLog.compareLog(volume)
            problems += trimmedLog.problems
            return
        }
        expect(volume.logBase == model.base, "the log starts after \(volume.logBase), not \(model.base)")
        let attempted = model.chain.map(\.position)
        expect(attempted.starts(with: positions), "the log \(positions) is not a beginning of \(attempted)")
        expect(
            positions.count >= model.syncedChainCount || (allowsLoss && volume.isLogDamaged),
            "\(positions.count) batches of \(model.syncedChainCount) synced"
        )
        expect(volume.logTail == positions.last ?? model.base, "the tail is \(volume.logTail)")
        let known = model.chain.prefix(model.syncedChainCount).map(\.commitIndex).max() ?? 0
        expect(volume.knownCommitIndex >= known, "commit index \(volume.knownCommitIndex) of \(known)")
        for (position, batch) in zip(positions, model.chain) {
            do {
                let read = try volume.readBatch(sequence: position.sequence)
                expect(read == batch && read.body == batch.body, "batch \(position) reads as another")
            } catch {
                problems.append("batch \(position): \(error)")
            }
        }
    }

    // MARK: Going on

    /// A volume that was recovered is a volume like any other: it takes writes, and keeps them over a power cut.
    private func goOn(_ volume: BlobVolume, _ disk: CrashDisk) throws {
        let next = VolumeWorkload(resuming: model, as: volume, seed: 77)
        let steps: [VolumeStep] = [
            .group([700, 20_000], hasBatch: true), .syncLog, .bulk(150_000), .syncBulk,
        ]
        try next.run(steps, on: disk, medium: disk)
        let cut = disk.crash(.dropped)
        let reopened = try BlobVolume.open(cut, options: VolumeWorkload.options)
        let again = VolumeExpectations(next.model, allowsLoss: allowsLoss)
        again.compare(reopened)
        try reopened.close()
        try again.inspect(cut)
        problems += again.problems.map { "after going on and a power cut: " + $0 }
    }

    /// The check of a volume at rest finds nothing but what was damaged on purpose.
    private func inspect(_ disk: CrashDisk) throws {
        for problem in try VolumeCheck.run(disk, deep: true).damage {
            let isExpected = problem.digest.map(model.damaged.contains) ?? allowsLoss
            expect(isExpected, "the check finds \(problem)")
        }
    }

    private func expect(_ condition: Bool, _ problem: @autoclosure () -> String) {
        if !condition { problems.append(problem()) }
    }
}
