internal import Catalog
internal import StoreModel

/// How an object that is too large for one request is cut into parts.
struct MirrorCut: Hashable, Sendable {
    /// More parts than this only where the settings make as many: some backends take no more.
    static let sourcePartCountMax = 1000

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
    /// - Returns: nil when they are of several sizes, or too small, too large or too many to be sent as they are.
    init?(source parts: [ObjectPart], size: UInt64, _ settings: MirrorSettings) {
        let ownPartSize = settings.partSize(for: size)
        let ownCount = (size + ownPartSize - 1) / ownPartSize
        guard let first = parts.first, let last = parts.last, settings.sourcePartSizes.contains(first.size),
            parts.count <= Self.sourcePartCountMax || UInt64(parts.count) <= ownCount,
            parts.dropLast().allSatisfy({ $0.size == first.size }), (1...first.size).contains(last.size)
        else { return nil }
        // No overflow: there are at most 65,535 of at most 64 MiB.
        guard UInt64(parts.count - 1) * first.size + last.size == size else { return nil }
        partSize = first.size
        md5s = parts.map(\.etag)
    }
}
