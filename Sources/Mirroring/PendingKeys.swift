internal import Catalog
internal import StoreModel

/// The keys of a bucket that tasks of a mirror are about, for somebody who asks about one key after the other: the queue is
/// read when it is first asked about, and after that only what has come behind. Used by one task.
///
/// A task that has ended meanwhile is still among them: whoever asks takes it for waiting, and looks again another time.
/// Kept are hashes, so that a long queue costs little.
final class PendingKeys {
    private static let pageSize = 1000

    private let store: any MirrorStore
    private let prefix: [UInt8]
    private let bucket: BucketID
    private var hashes: Set<Int> = []
    /// Tasks below were read.
    private var from: UInt64 = 0
    private(set) var readCount = 0

    init(_ store: any MirrorStore, _ mirror: MirrorID, _ bucket: BucketID) {
        self.store = store
        self.bucket = bucket
        prefix = MirrorKey.under(MirrorKey.pendingPrefix, mirror)
    }

    /// - Parameter key: its bytes in the store.
    func contains(_ key: [UInt8]) async throws -> Bool {
        let hash = key.hashValue
        if hashes.contains(hash) { return true }
        while true {
            let (start, prefix, bucket) = (from, prefix, bucket)
            let (count, last, found) = try await store.read { reader in
                let page = try reader.documents(
                    .outbox,
                    prefix: prefix,
                    from: prefix + MirrorKey.bytes(start),
                    limit: Self.pageSize
                )
                var found: [Int] = []
                var last: UInt64?
                for document in page {
                    let task = try MirrorTask(document)
                    last = task.sequence
                    if task.bucket == bucket { found.append(task.key.bytes.hashValue) }
                }
                return (page.count, last, found)
            }
            readCount += count
            hashes.formUnion(found)
            if let last { from = last &+ 1 }
            if count < Self.pageSize { return hashes.contains(hash) }
        }
    }
}
