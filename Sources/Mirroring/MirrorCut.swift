internal import Catalog
internal import StoreModel

/// How an object that is too large for one request is cut into parts.
struct MirrorCut: Hashable, Sendable {
    /// Of parts that clients have sent: smaller ones many backends refuse, larger ones are too much to hold.
    static let sourcePartSizes: ClosedRange<UInt64> = 5 << 20...16 << 20

    /// Of all parts but the last, which may be smaller.
    let partSize: UInt64
    /// Of every part, when they are those that the object came in: nobody has to compute them again, parts that are there
    /// needn't be read to know them again, and the backend's ETag is the store's. Else empty.
    let md5s: [MD5Digest]

    init(partSize: UInt64) {
        self.partSize = partSize
        md5s = []
    }

    /// The parts that an object came in.
    /// - Returns: nil when they are of several sizes, or too small or too large to be sent as they are.
    init?(source parts: [ObjectPart], size: UInt64) {
        guard let first = parts.first, let last = parts.last, Self.sourcePartSizes.contains(first.size),
            parts.dropLast().allSatisfy({ $0.size == first.size }), (1...first.size).contains(last.size)
        else { return nil }
        // No overflow: there are at most 65,535 of at most 16 MiB.
        guard UInt64(parts.count - 1) * first.size + last.size == size else { return nil }
        partSize = first.size
        md5s = parts.map(\.etag)
    }
}
