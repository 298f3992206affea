internal import BlobVolume
internal import Catalog
package import StoreModel

/// Where an audit of the copies goes on.
package struct AuditCursor: Hashable, Sendable {
    package enum Phase: UInt8, Sendable { case versions = 0, documents, snapshots, done }

    package var phase = Phase.versions
    /// Of the last version that was looked at.
    package var sequence: UInt64 = 0
    package var space: UInt8 = 0
    package var key: [UInt8] = []

    package static let start = AuditCursor()
    package init() {}
}

/// What one page of an audit came to.
package struct AuditPage: Sendable {
    package var payloadCount: UInt64 = 0
    package var chunkCount: UInt64 = 0
    package var goodCopyCount: UInt64 = 0
    package var findings: [Finding] = []
    /// Manifest nodes that no volume has good bytes of.
    package var lostNodes: [Digest] = []
}

/// Chunks that an audit has looked at, in bounded memory; what is forgotten is looked at again.
package struct AuditMemory: Sendable {
    private static let countMax = 1 << 20
    private var words: Set<UInt64> = []

    package init() {}

    mutating func insert(_ digest: Digest) -> Bool {
        if words.count >= Self.countMax { words.removeAll(keepingCapacity: true) }
        return words.insert(digest.words.3).inserted
    }
}

/// The redundancy audit: every chunk and manifest node of every version, of every document's payload (parts of uploads),
/// and of the catalog's snapshots has its copies, and has them where they belong.
///
/// It asks the indexes; that these tell the truth about the bytes is what the scrub of the volumes proves.
extension Replicator {
    /// Looks at one page.
    package func audit(_ cursor: inout AuditCursor, _ memory: inout AuditMemory) async throws -> AuditPage {
        var page = AuditPage()
        var chunks: [Digest] = []
        let payloads = try await nextPayloads(&cursor)
        for payload in payloads {
            page.payloadCount += 1
            try await collect(payload, &chunks, &memory, &page)
        }
        if cursor.phase == .done { page.findings += try await staleVolumes() }
        page.chunkCount = UInt64(chunks.count)
        var suspects: [Digest] = []
        for chunk in chunks {
            let (good, hasProblem) = look(at: chunk)
            if hasProblem { suspects.append(chunk) } else { page.goodCopyCount += UInt64(good) }
        }
        guard !suspects.isEmpty else { return page }
        // What was committed a moment ago may be on its way to the slowest volume.
        await quiesce(within: .seconds(2))
        for chunk in suspects { note(chunk, &page) }
        return page
    }

    /// How long an audit waits for volumes to be caught up, and how it tries: so often in a row without that anything comes of
    /// it, with such pauses.
    private static let staleLimits: (whole: Duration, vainCount: Int, pause: Duration) = (
        .seconds(60), 4, .milliseconds(500)
    )

    /// Volumes that lack records which were committed when this was asked, and still do when they were caught up for it. The
    /// background work may be pausing after attempts that failed, for longer than an audit has time; what it pauses for may be
    /// over. A volume that is new and being filled is no finding: `status` tells of it.
    private func staleVolumes() async throws -> [Finding] {
        let newest = pipeline.withState { $0.machine.committedSequence }
        let stale = laggingVolumes().filter { isStale($0, newest) }
        guard !stale.isEmpty else { return [] }
        let reasons = try await catchUpForAudit(stale, newest)
        return stale.filter { isStale($0, newest) }.map { index in
            let reached = volumes.slots[index].replica?.completeSequence ?? 0
            return Finding(
                chunk: nil,
                volume: volumes.slots[index].id,
                kind: .stale,
                foundBy: .audit,
                foundAt: clock.now(),
                detail: "it has everything up to batch \(reached), the newest was \(newest)",
                outcome: .failed(
                    reasons[index] ?? "it is being caught up; 'holdfast status' shows when it is whole"
                )
            )
        }
    }

    private func isStale(_ index: Int, _ newest: UInt64) -> Bool {
        guard !mustBeFilled(index), let replica = volumes.usableReplica(index) else { return false }
        return replica.completeSequence < newest && laggingVolumes().contains(index)
    }

    /// Catches volumes up, side by side, until none lacks anything, nothing comes of it, or the time is over.
    /// - Returns: why nothing came of it, by volume.
    private func catchUpForAudit(_ stale: [Int], _ newest: UInt64) async throws -> [Int: String] {
        try await withThrowingTaskGroup(of: (index: Int, reason: String?)?.self) { group in
            for index in stale {
                group.addTask { (index, try await self.catchUpForAudit(index, newest)) }
            }
            group.addTask {
                try await self.clock.sleep(for: Self.staleLimits.whole)
                return nil
            }
            defer { group.cancelAll() }
            var reasons: [Int: String] = [:]
            for _ in stale {
                guard let ended = try await group.next(), let ended else { break }
                reasons[ended.index] = ended.reason
            }
            return reasons
        }
    }

    private func catchUpForAudit(_ index: Int, _ newest: UInt64) async throws -> String? {
        var vainCount = 0
        var reached = volumes.slots[index].replica?.completeSequence
        while isStale(index, newest) {
            volumes.slots[index].replica?.recheckRoom()
            if case .incomplete(let copied, _, let reasons) = await catchUp(index), isStale(index, newest) {
                let now = volumes.slots[index].replica?.completeSequence
                vainCount = copied > 0 || now != reached ? 0 : vainCount + 1
                reached = now
                if vainCount == Self.staleLimits.vainCount { return reasons.first }
            }
            try await clock.sleep(for: Self.staleLimits.pause)
        }
        return nil
    }

    private func look(at chunk: Digest) -> (good: Int, hasProblem: Bool) {
        let places = placementIndices(for: chunk)
        let good = places.count { volumes.usableReplica($0)?.presence(of: chunk) ?? .absent != .absent }
        return (good, good < places.count || !strays(of: chunk, places).isEmpty)
    }

    private func strays(of chunk: Digest, _ places: [Int]) -> [Int] {
        guard places.count < volumes.slots.count else { return [] }
        return volumes.slots.indices.filter { index in
            !places.contains(index) && volumes.usableReplica(index)?.presence(of: chunk) ?? .absent != .absent
        }
    }

    private func note(_ chunk: Digest, _ page: inout AuditPage) {
        let places = placementIndices(for: chunk)
        for index in places {
            let kind: Finding.Kind
            if let replica = volumes.usableReplica(index) {
                guard replica.presence(of: chunk) == .absent else {
                    page.goodCopyCount += 1
                    continue
                }
                kind = .missing
            } else {
                kind = .unreadable
            }
            var finding = Finding(
                chunk: chunk,
                volume: volumes.slots[index].id,
                kind: kind,
                foundBy: .audit,
                foundAt: clock.now()
            )
            if kind == .missing {
                queueRepair(finding)
            } else {
                finding.outcome = .failed(volumes.problem(at: index) ?? "the volume is not usable")
            }
            page.findings.append(finding)
        }
        for index in strays(of: chunk, places) {
            page.findings.append(
                Finding(
                    chunk: chunk,
                    volume: volumes.slots[index].id,
                    kind: .misplaced,
                    foundBy: .audit,
                    foundAt: clock.now(),
                    // Too many copies endanger nothing; whoever moves copies takes them away.
                    outcome: .mended
                )
            )
        }
    }

    // MARK: What refers to chunks

    private func nextPayloads(_ cursor: inout AuditCursor) async throws -> [ManifestReference] {
        switch cursor.phase {
        case .versions:
            let after = cursor.sequence
            let rows = try await readCatalog { try $0.versions(afterSequence: after, limit: 128) }
            if let last = rows.last {
                cursor.sequence = last.id.sequence
            } else {
                cursor.phase = .documents
                cursor.space = DocumentSpace.allCases.first?.rawValue ?? 0
            }
            return rows.flatMap(\.payloads).map(\.manifest)
        case .documents:
            guard let space = DocumentSpace(rawValue: cursor.space) else {
                cursor.phase = .snapshots
                return []
            }
            let after = cursor.key.isEmpty ? nil : cursor.key
            let rows = try await readCatalog { try $0.documents(space, after: after, limit: 128) }
            if let last = rows.last {
                cursor.key = last.key
            } else {
                cursor.key = []
                let next = DocumentSpace.allCases.drop { $0 != space }.dropFirst().first
                cursor.space = next?.rawValue ?? 0
                if next == nil { cursor.phase = .snapshots }
            }
            return rows.compactMap(\.payload).map(\.manifest)
        case .snapshots:
            cursor.phase = .done
            return catalog.applied.snapshots.map(\.manifest)
        case .done:
            return []
        }
    }

    /// - Returns: nil when it is lost: what is below it is not looked at then.
    private func node(_ digest: Digest, _ page: inout AuditPage) async throws -> ManifestNode? {
        do {
            return try ManifestNode(decoding: try await readInBackground(digest, range: nil))
        } catch let error as StoreError where error.code == .dataUnavailable {
        }
        // Those that are missing are found as every other payload is.
        for index in placementIndices(for: digest)
        where volumes.usableReplica(index)?.presence(of: digest) ?? .absent != .absent {
            let finding = Finding(
                chunk: digest,
                volume: volumes.slots[index].id,
                kind: .corrupt,
                foundBy: .audit,
                foundAt: clock.now()
            )
            queueRepair(finding)
            page.findings.append(finding)
        }
        guard await isRescued(digest) else { return nil }
        return try ManifestNode(decoding: try await readInBackground(digest, range: nil))
    }

    private func collect(
        _ manifest: ManifestReference,
        _ chunks: inout [Digest],
        _ memory: inout AuditMemory,
        _ page: inout AuditPage
    ) async throws {
        switch manifest {
        case .inline(let entries):
            for entry in entries where memory.insert(entry.digest) { chunks.append(entry.digest) }
        case .tree(let root, _, _, _):
            var stack = [root]
            while let digest = stack.popLast() {
                guard memory.insert(digest) else { continue }
                chunks.append(digest)
                guard let node = try await node(digest, &page) else {
                    page.lostNodes.append(digest)
                    continue
                }
                for entry in node.entries {
                    if node.height > 0 {
                        stack.append(entry.digest)
                    } else if memory.insert(entry.digest) {
                        chunks.append(entry.digest)
                    }
                }
            }
        }
    }
}
