/// Every bound of the store, in one place, with its reason.
package enum Limits {
    /// Largest object: 5 TiB, as S3's single-object limit at the time of writing is reached with room.
    package static let objectSizeMax: UInt64 = 5 << 40
    /// Chunk bounds of content-defined chunking. Below the minimum a cut point is not looked for; at the maximum one
    /// is forced, which bounds the memory of one chunk in flight.
    package static let chunkSizeMin = 256 << 10
    package static let chunkSizeTarget = 1 << 20
    package static let chunkSizeMax = 4 << 20
    /// Payloads up to this size ride in the group commit of the log segment; larger ones go to the bulk segment,
    /// so that a big upload does not sit on a small one's fsync.
    package static let logPayloadSizeMax = 128 << 10
    /// User metadata of one object, names and values together, as S3: 2 KiB.
    package static let userMetadataSizeMax = 2 << 10
    package static let tagCountMax = 10
    /// Keys on one listing page, as S3.
    package static let listPageSizeMax = 1000
    /// One commit batch: bounds the memory of a group and the time of its fsync.
    package static let batchByteCountMax = 4 << 20
    package static let batchEntryCountMax = 512
    /// Batches that are durable but not yet applied to the catalog's index: beyond, commits wait.
    package static let unappliedBatchCountMax = 64
    /// Chunks in flight for one upload or download: with the largest chunk this is 16 MiB.
    package static let chunksInFlightMax = 4
    /// Chunks of all uploads together that are hashed and written at the same time: enough to keep the cores busy;
    /// with chunks of the target size 8 MiB.
    package static let uploadPermitCount = 8
    /// A download reads at most so much of a chunk at a time: chunks may be four times as long.
    package static let readPieceSizeMax = 1 << 20
    /// Pieces that all downloads together may have read ahead beyond the one that each may.
    package static let readAheadShareCount = 6
    /// Reader threads of one volume. A hung volume costs these threads and no others.
    package static let readerThreadsPerVolume = 2
    /// Threads that read the catalog's index, and reads that may wait for them.
    package static let catalogReaderThreadCount = 2
    package static let catalogReadsWaitingMax = 4096
    /// Batches of the commit log after which closing the store writes a new snapshot of the catalog: bounds how long
    /// a rebuild replays.
    package static let snapshotBatchCount: UInt64 = 50_000
    /// Entries of one manifest node (about 40 bytes each).
    package static let manifestNodeEntryCountMax = 512
    /// Manifests up to this many chunks stand in the version's row; larger ones become a tree of nodes.
    package static let inlineManifestEntryCountMax = 16
    /// Damaged or missing copies waiting for repair; what does not fit is found again by the next audit.
    package static let repairQueueCountMax = 65_536
    /// How long a write waits for its quorum before its outcome is reported as unknown.
    package static let commitDeadline: Duration = .seconds(30)
    /// How long one read of one chunk from one replica may take before the next replica is asked as well, when
    /// there is no latency history yet.
    package static let hedgeDelayInitial: Duration = .milliseconds(250)
    /// How long an upload of the same content relies on a copy that was found good.
    package static let verificationAgeMax: Duration = .seconds(300)
    /// The longest that a read waits for one replica before the next one is asked as well.
    package static let hedgeDelayMax: Duration = .seconds(1)
    /// A volume whose running call has taken this long is asked last.
    package static let hangSuspicion: Duration = .seconds(1)
    /// After so long a volume gets no repairs any more until the call has ended.
    package static let hangCertainty: Duration = .seconds(10)
    /// How long one chunk's read may take over all replicas.
    package static let readDeadline: Duration = .seconds(30)
}
