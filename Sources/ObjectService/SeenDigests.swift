package import StoreModel

/// Which digests came by already, in bounded memory.
///
/// Keeps 8 bytes of each: the words of a SHA-256 are uniform, so that two of a million digests agree in 8 bytes once
/// in forty million runs. When it is full it forgets everything: work is then done again, but never left out.
package struct SeenDigests: Sendable {
    /// With the room that a hash table leaves free about 16 MiB.
    package static let countMaxStandard = 1 << 20

    private let countMax: Int
    private var words: Set<UInt64> = []
    /// Whether it was full at some time.
    package private(set) var wasEmptied = false

    package init(countMax: Int) {
        precondition(countMax > 0, "A set of seen digests has room for one.")
        self.countMax = countMax
    }

    /// - Returns: whether the digest is new.
    package mutating func insert(_ digest: Digest) -> Bool {
        if words.count == countMax {
            words.removeAll(keepingCapacity: true)
            wasEmptied = true
        }
        return words.insert(digest.words.3).inserted
    }
}
