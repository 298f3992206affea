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
    /// Small payloads that are kept for a volume which lags behind the quorum that answered for them: a tenth of a second
    /// of small puts. What does not fit it gets by catching up.
    package static let laggardPayloadByteCountMax = 16 << 20
    /// Decisions after which the catalog's index is told although nobody waits for it: enough that a page of the index
    /// that many of them touch is written once; few enough that a reader who comes then waits a few milliseconds.
    package static let applyGroupEntryCount = 256
    /// Rows of newest versions that are kept in memory for reads: some seven thousand.
    package static let newestVersionByteCountMax = 8 << 20
    /// Chunks in flight for one upload or download: with chunks of the target size 6 MiB, with the largest ones 24 MiB.
    /// Enough that a long chunk does not keep the disks idle behind it.
    package static let chunksInFlightMax = 6
    /// Chunks of all uploads together that are hashed and written at the same time: enough to keep the cores busy;
    /// with chunks of the target size 5 MiB.
    package static let uploadPermitCount = 5
    /// Large payloads that wait for one volume: all that uploads may have in flight, with the largest chunks. What a
    /// volume that falls behind the others still holds counts too; beyond, it is caught up later.
    package static let bulkQueueByteCountMax = uploadPermitCount * chunkSizeMax
    /// Large payloads that stand in memory as volumes write them, at the same time: with the largest chunk 12 MiB.
    package static let payloadImageCountMax = 3
    /// A download reads at most so much of a chunk at a time, from a disk or from the system's memory. A quarter of it would
    /// stay in the processor's cache until it is sent, and costs a third more: by what each piece costs besides. Twice as
    /// much costs no less, and memory.
    package static let readPieceSizeMax = 512 << 10
    /// Pieces that all downloads together may have read ahead beyond the one that each may.
    package static let readAheadShareCount = 6
    /// After two to this power reads the large payloads are read from the next of their copies.
    package static let readTurnShift = 14
    /// One of so many reads begins with a volume that was slower than the others: less than one of a hundred, so that the 99th
    /// percentile does not show it.
    package static let readsPerTrial = 128
    /// Reader threads of one volume. A hung volume costs these threads and no others.
    package static let readerThreadsPerVolume = 2
    /// Threads that read the catalog's index, and reads that may wait for them.
    package static let catalogReaderThreadCount = 2
    package static let catalogReadsWaitingMax = 4096
    /// Batches of the commit log after which a new snapshot of the catalog is written: bounds how long a rebuild
    /// replays.
    package static let snapshotBatchCount: UInt64 = 50_000
    /// A snapshot so old is renewed when anything was committed since, and how often is looked whether one is due.
    package static let snapshotAgeMax: Duration = .seconds(24 * 3600)
    package static let snapshotProbeInterval: Duration = .seconds(60)
    /// Entries of one manifest node (about 40 bytes each).
    package static let manifestNodeEntryCountMax = 512
    /// Manifests up to this many chunks stand in the version's row; larger ones become a tree of nodes.
    package static let inlineManifestEntryCountMax = 16
    /// Damaged or missing copies waiting for repair; what does not fit is found again by the next audit.
    package static let repairQueueCountMax = 65_536
    /// Repairs at the same time: a slow volume does not hold up those of the others.
    package static let repairWorkerCount = 2
    /// Findings that are kept; beyond, the oldest closed ones make room.
    package static let findingCountMax = 10_000
    /// Their documents together: a few findings of which much is told make room as many small ones do.
    package static let findingByteCountMax = 32 << 20
    /// The versions that are named around one lost chunk; all of them are counted.
    package static let lossAccountByteCountMax = 16 << 10
    /// What is named around all lost chunks that are looked at together, beside one version for each of them.
    package static let lossAccountsByteCountMax = 4 << 20
    /// Key and body of one document. A body holds the longest setting that S3 knows; a snapshot's block holds a row.
    package static let documentKeySizeMax = 2 << 10
    package static let documentBodySizeMax = 512 << 10
    /// All attributes of a version together: an access control list of 100 grants, a list of parts, keys.
    package static let attributeSizeMax = 32 << 10
    /// Parts of one upload, and the size of each but the last.
    /// https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
    package static let partCountMax = 10_000
    package static let partSizeMin: UInt64 = 5 << 20
    package static let partSizeMax: UInt64 = 5 << 30
    /// Keys of one request that deletes many, as S3.
    package static let deleteCountMax = 1000
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
    /// Pause between two looks for a volume that was absent when the store was opened.
    package static let arrivalProbeInterval: Duration = .seconds(5)
    /// Pause between two looks whether a volume is still where it should be.
    package static let inspectionInterval: Duration = .seconds(2)
    /// After a volume has vanished the next look for it may wait so long: one that comes and goes is not opened all day.
    package static let arrivalProbeIntervalMax: Duration = .seconds(60)
    /// What copying in the background may take from the disks while clients are busy, in bytes a second.
    package static let moveRateUnderLoad: UInt64 = 32 << 20
    /// Chunks of one volume that are copied at the same time in the background: with the largest ones 32 MiB.
    package static let movesInFlightMax = 8
    /// Copied bytes after which a volume's bulk segment is synced: what a crash makes to be copied again.
    package static let moveSyncByteCount = 256 << 20
    /// Copied bytes after which those of a new volume are made durable and read back, beside the copying.
    package static let readBackByteCount = 32 << 20
    /// What the opening of a volume that is only read may write, in memory: an epoch, cut tails, a snapshot.
    package static let overlayByteCountMax: UInt64 = 256 << 20
    /// How long opening waits for a volume's identity, which is two small files.
    package static let identityDeadline: Duration = .seconds(10)
    /// How long opening waits for one volume: a full tail is walked in a few seconds. One that takes longer hangs.
    package static let volumeOpenDeadline: Duration = .seconds(60)
    /// How long one chunk's read may take over all replicas.
    package static let readDeadline: Duration = .seconds(30)
}
