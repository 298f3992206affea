package import StoreModel

/// How a volume is opened. The sizes are for tests and small volumes; the defaults are for the product.
package struct VolumeOptions: Sendable {
    /// Refuse a volume of another store.
    package var expectedStore: StoreID?
    /// Refuse another volume.
    package var expectedVolume: VolumeID?
    /// Free space that payloads leave alone, so that deletes still find room for their commit records.
    package var reserveBytes: UInt64 = 64 << 20
    /// Free space below which new uploads are refused before their body, so that those under way can end: the soft
    /// watermark. `reserveBytes` is the hard one.
    package var softReserveBytes: UInt64 = 96 << 20
    package var quarantine = QuarantineBounds()
    /// Log segments start at this size and double, so that a new store is made quickly.
    package var logSegmentSizeMin: UInt64 = 8 << 20
    /// Bounds how much is zeroed ahead of what is written, which is disk and processor time of the writes meanwhile.
    package var logSegmentSizeMax: UInt64 = 64 << 20
    /// Payload records of one log segment: bounds what is held in memory for its footer.
    package var logSegmentRecordCountMax = 131_072
    package var bulkSegmentSizeMax: UInt64 = 1 << 30
    /// Bulk bytes after which their writeback is started, so that the fsync at the end finds little to do.
    package var writebackStep: UInt64 = 8 << 20
    /// Prepare the next log segment on a thread of its own. False: by the writer, when it takes the last one.
    package var preparesSpareInBackground = true
    /// Drop everything behind the synced watermarks and go on in new segments: for a volume that failed, as its peers
    /// or its supervisor remember it.
    package var discardUnsynced = false
    /// What the order of the index in memory follows from; nil: chance, so that nobody can choose payloads that collide.
    package var indexSeed: UInt64?
    /// With `discardUnsynced`: the last batch that the volume is known to have synced. What stands up to it in the log is
    /// kept, and the log is not damaged by what is dropped behind it.
    package var acknowledged: AcknowledgedBatch?

    package init() {}
}

/// What opening a volume found and did.
package struct VolumeOpenReport: Sendable {
    /// Records, or parts of a segment, that were fsynced once and are damaged now.
    package struct Damage: Sendable {
        package let location: RecordLocation
        package let byteCount: UInt64
        /// Of the record, where its header is good.
        package let digest: Digest?
        package let reason: String
        /// The copy of the original bytes in the volume's quarantine directory.
        package var quarantineName: String?
    }

    package var damage: [Damage] = []
    /// Why a copy of the identity was not used and is written again.
    package var identityFaults: [String] = []
    /// Bytes of unfinished writes that were cut off the ends of the log and of the bulk segment.
    package var tornByteCount: UInt64 = 0
    /// Valid but unsynced bytes that `discardUnsynced`, or a failure remembered in the volume, dropped.
    package var discardedByteCount: UInt64 = 0
    package var recordCount = 0
    package var segmentCount = 0
    /// Segments that had to be walked through because they have no footer (at most one of each kind in health).
    package var scannedSegmentCount = 0
    package var wasClosedCleanly = false
    package var seconds = 0.0

    package init() {}
}

/// How much a volume holds and how much it may take.
package struct VolumeSpace: Sendable {
    /// Payload bytes of live records.
    package var payloadBytes: UInt64
    package var recordCount: Int
    /// Sizes of the segment files.
    package var fileBytes: UInt64
    package var freeBytes: UInt64
    package var totalBytes: UInt64
    package var reserveBytes: UInt64
    /// Payload appends are refused; reads and groups without payloads go on.
    package var isFull: Bool
    /// Memory of the index.
    package var indexBytes: Int
    /// What live payload records take, with headers and padding.
    package var liveBytes: UInt64 = 0
    /// The same of dead ones in segments that are still there: given back already where a hole was made.
    package var deadBytes: UInt64 = 0
    /// Below so much free space uploads that bring bytes are refused before their body.
    package var softReserveBytes: UInt64 = 0
}
