/// How many copies there are and how many make a write durable. Parsed, so it can't be a configuration that
/// loses writes: W of N with N/2 < W ≤ N.
package struct QuorumConfiguration: Hashable, Sendable {
    package static let replicaCountMax = 7

    /// N: copies of every chunk, and volumes that carry the commit log.
    package let replicaCount: Int
    /// W: copies that are fsynced before a write is acknowledged.
    package let writeQuorum: Int

    package static let standard = QuorumConfiguration(replicaCount: 3, writeQuorum: 2)

    private init(replicaCount: Int, writeQuorum: Int) {
        self.replicaCount = replicaCount
        self.writeQuorum = writeQuorum
    }

    /// - Parameter writeQuorum: nil means a majority.
    /// - Throws: `StoreError` with `.invalidArgument` when two write quorums could miss each other.
    package init(replicaCount: Int, writeQuorum: Int?) throws(StoreError) {
        guard (1...Self.replicaCountMax).contains(replicaCount) else {
            throw StoreError(
                .invalidArgument,
                "\(replicaCount) replicas: from 1 to \(Self.replicaCountMax) are supported."
            )
        }
        let quorum = writeQuorum ?? replicaCount / 2 + 1
        guard quorum > replicaCount / 2, quorum <= replicaCount else {
            throw StoreError(
                .invalidArgument,
                "Write quorum \(quorum) of \(replicaCount) replicas: it must be more than half and at most all."
            )
        }
        self.init(replicaCount: replicaCount, writeQuorum: quorum)
    }

    /// Copies that may be lost without losing an acknowledged write: N - W.
    package var lossTolerance: Int { replicaCount - writeQuorum }
    /// Volumes that together must hold every acknowledged write: N - W + 1.
    package var readQuorum: Int { replicaCount - writeQuorum + 1 }
}
