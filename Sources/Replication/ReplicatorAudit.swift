internal import BlobVolume
internal import StoreModel
internal import Synchronization

/// Looking, without changing anything, whether everything alive has its copies: what is asked before a volume is removed,
/// and of one volume by `volume check`.
extension Replicator {
    /// What a walk over everything alive found.
    package struct RedundancyAudit: Sendable, Hashable {
        package var chunks: UInt64 = 0
        /// Chunks with fewer durable copies on the volumes that remain than there should be.
        package var thin: UInt64 = 0
        /// Chunks of which no volume that remains has a good copy.
        package var lost: UInt64 = 0
        /// Whose they are, the first few.
        package var examples: [String] = []
    }

    private static let exampleCountMax = 10
    private static let auditWidth = 8
    private static let seenCountMax = 65_536
    private static let lookCount = 4

    /// Counts the copies of everything alive on the volumes other than one.
    package func audit(without index: Int) async throws -> RedundancyAudit {
        var audit = RedundancyAudit()
        var seen: Set<Digest> = []
        try await walkLive { item, owner in
            switch item {
            case .versions: break
            case .unreadable:
                audit.lost += 1
                Self.note(owner, in: &audit.examples)
            case .chunks(let digests):
                if seen.count > Self.seenCountMax { seen = [] }
                let new = digests.filter { seen.insert($0).inserted }
                audit.chunks += UInt64(new.count)
                for count in await copyCounts(of: new, without: index) where count.isThin {
                    if count.isLost { audit.lost += 1 } else { audit.thin += 1 }
                    Self.note(owner, in: &audit.examples)
                }
            }
        }
        return audit
    }

    private static func note(_ owner: String, in examples: inout [String]) {
        guard examples.count < exampleCountMax, !examples.contains(owner) else { return }
        examples.append(owner)
    }

    private struct CopyCount: Sendable {
        let isThin: Bool
        let isLost: Bool
    }

    private func copyCounts(of digests: [Digest], without index: Int) async -> [CopyCount] {
        await withTaskGroup(of: CopyCount.self) { group in
            var counts: [CopyCount] = []
            var rest = digests[...]
            for digest in rest.prefix(Self.auditWidth) {
                group.addTask { await self.copyCount(of: digest, without: index) }
            }
            rest = rest.dropFirst(Self.auditWidth)
            for await count in group {
                counts.append(count)
                if let digest = rest.popFirst() {
                    group.addTask { await self.copyCount(of: digest, without: index) }
                }
            }
            return counts
        }
    }

    private func copyCount(of digest: Digest, without index: Int) async -> CopyCount {
        var durable = 0
        for look in 1...Self.lookCount {
            durable = 0
            for place in placementIndices(for: digest) where place != index {
                guard let replica = volumes.usableReplica(place), replica.presence(of: digest) != .absent,
                    case .success(.synced) = await timers.call(
                        replica,
                        { $0.confirmPresence(of: digest, completion: $1) }
                    )
                else { continue }
                durable += 1
            }
            if durable >= quorum.replicaCount { return CopyCount(isThin: false, isLost: false) }
            // The last copy of what was just written may be on its way.
            if look < Self.lookCount { try? await clock.sleep(for: .milliseconds(50)) }
        }
        for place in volumes.present where place != index {
            guard let replica = volumes.usableReplica(place), replica.presence(of: digest) != .absent,
                case .success = await timers.call(
                    replica,
                    { $0.verify(digest, strict: false, completion: $1) }
                )
            else { continue }
            return CopyCount(isThin: true, isLost: false)
        }
        return CopyCount(isThin: true, isLost: true)
    }

    /// What looking at one volume's copies found.
    package struct VolumeFindings: Sendable, Hashable {
        package var expected: UInt64 = 0
        package var missing: UInt64 = 0
        package var damaged: UInt64 = 0
        package var problems: [String] = []
    }

    /// Verifies every copy that belongs on a volume. Changes nothing.
    /// - Parameter strict: computes the SHA-256 of each again, instead of the checksums of its blocks.
    package func check(_ index: Int, strict: Bool) async throws -> VolumeFindings {
        var findings = VolumeFindings()
        var seen: Set<Digest> = []
        try await walkLive { item, owner in
            guard case .chunks(let digests) = item else { return }
            if seen.count > Self.seenCountMax { seen = [] }
            for digest in digests where seen.insert(digest).inserted {
                guard placementIndices(for: digest).contains(index) else { continue }
                findings.expected += 1
                let state = await copyState(of: digest, on: index, check: strict ? .strict : .blocks)
                let problem: String
                switch state {
                case .present: continue
                case .missing:
                    findings.missing += 1
                    problem = "missing"
                case .damaged(let reason):
                    findings.damaged += 1
                    problem = reason
                case .unreachable(let reason):
                    findings.missing += 1
                    problem = reason
                }
                if findings.problems.count < Self.exampleCountMax {
                    findings.problems.append("\(owner): chunk \(digest): \(problem)")
                }
            }
        }
        return findings
    }
}
