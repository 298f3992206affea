/// A place in the commit log: the batch that stands there, named by epoch, sequence and hash.
///
/// Positions are ordered by (epoch, sequence); the hash tells two batches of the same place apart. `origin` is the
/// place before the first batch.
package struct LogPosition: Hashable, Sendable, BitwiseCopyable {
    package let epoch: UInt64
    package let sequence: UInt64
    package let hash: Digest

    package init(epoch: UInt64, sequence: UInt64, hash: Digest) {
        self.epoch = epoch
        self.sequence = sequence
        self.hash = hash
    }

    package static let origin = LogPosition(epoch: 0, sequence: 0, hash: .zero)

    /// Whether this position is later: the rule by which a starting writer chooses a log.
    package func isLater(than other: LogPosition) -> Bool {
        (epoch, sequence) > (other.epoch, other.sequence)
    }
}

extension LogPosition: CustomStringConvertible {
    package var description: String { "\(epoch).\(sequence)#\(hash.hex.prefix(8))" }
}
