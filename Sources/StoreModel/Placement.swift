internal import Glibc

/// Which volumes hold the copies of a chunk: weighted rendezvous hashing.
///
/// Every (chunk, volume) pair has a score; the N best volumes hold the copies. Adding or removing a volume moves
/// only the chunks that gain or lose it. With as many volumes as replicas the answer is all of them.
/// Source: Thaler and Ravishankar, "Using name-based mappings to increase hit rates" (1998); weights by the
/// logarithm method (Schindelhauer and Schomaker, 2005).
package struct Placement: Sendable {
    package struct Member: Hashable, Sendable {
        package let volume: VolumeID
        /// Relative share of the chunks; greater than zero.
        package let weight: Double
        /// Copies of one chunk avoid sharing a failure domain where they can.
        package let failureDomain: String

        package init(volume: VolumeID, weight: Double = 1, failureDomain: String) {
            precondition(weight > 0 && weight.isFinite, "A placement weight is a positive number.")
            self.volume = volume
            self.weight = weight
            self.failureDomain = failureDomain
        }
    }

    package let members: [Member]
    package let replicaCount: Int

    package init(members: [Member], replicaCount: Int) {
        precondition(replicaCount >= 1, "A chunk needs at least one replica.")
        self.members = members.sorted { $0.volume < $1.volume }
        self.replicaCount = replicaCount
    }

    /// The volumes for a chunk, best first; fewer than `replicaCount` only when there are fewer volumes.
    /// - Parameter without: volumes that are passed over for this chunk.
    package func volumes(for chunk: Digest, without: Set<VolumeID> = []) -> [VolumeID] {
        guard without.isEmpty else {
            let others = members.filter { !without.contains($0.volume) }
            return Placement(members: others, replicaCount: replicaCount).volumes(for: chunk)
        }
        if members.count <= replicaCount && Set(members.map(\.failureDomain)).count == members.count {
            return members.map { ($0.volume, score(of: chunk, on: $0)) }.sorted(by: isBetter).map(\.0)
        }
        let ranked = members.map { ($0, score(of: chunk, on: $0)) }
            .sorted { isBetter(($0.0.volume, $0.1), ($1.0.volume, $1.1)) }
        var chosen: [VolumeID] = []
        var domains: Set<String> = []
        var deferred: [VolumeID] = []
        for (member, _) in ranked where chosen.count < replicaCount {
            if domains.insert(member.failureDomain).inserted {
                chosen.append(member.volume)
            } else {
                deferred.append(member.volume)
            }
        }
        chosen += deferred.prefix(replicaCount - chosen.count)
        return chosen
    }

    private func isBetter(_ left: (VolumeID, Double), _ right: (VolumeID, Double)) -> Bool {
        left.1 == right.1 ? left.0 < right.0 : left.1 > right.1
    }

    private func score(of chunk: Digest, on member: Member) -> Double {
        var bits = Self.mix(chunk.words.0 ^ member.volume.high)
        bits = Self.mix(bits ^ chunk.words.1 ^ member.volume.low)
        // 53 bits, moved off zero so that the logarithm is finite.
        let uniform = (Double(bits >> 11) + 0.5) * 0x1p-53
        return -member.weight / log(uniform)
    }

    /// The finaliser of SplitMix64: every input bit changes about half of the output bits.
    private static func mix(_ value: UInt64) -> UInt64 {
        var bits = value &+ 0x9E37_79B9_7F4A_7C15
        bits = (bits ^ bits >> 30) &* 0xBF58_476D_1CE4_E5B9
        bits = (bits ^ bits >> 27) &* 0x94D0_49BB_1331_11EB
        return bits ^ bits >> 31
    }
}
