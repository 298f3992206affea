internal import StoreModel
internal import Synchronization

extension BlobVolume {
    /// Puts a good copy in the place of damaged ones: copies the damaged bytes to the quarantine, appends the good
    /// copy, makes it durable, and then marks the damaged places as dead, durably. A payload that is missing is
    /// simply stored; copies that verify are left alone.
    ///
    /// Only from the writer thread.
    /// - Throws: `.full`, `.failed`, `.inputOutput`.
    package func replaceDamaged(_ payload: PayloadRecord) throws(VolumeError) {
        try checkUsable()
        let fingerprint = LocationIndex.fingerprint(of: payload.digest)
        var isStored = false
        var damaged: [RecordLocation] = []
        for location in state.withLock({ $0.index.locations(of: fingerprint) }) {
            do throws(VolumeError) {
                let (header, _) = try segmentReader(location.segment).strictRecord(at: location)
                if header.digest == payload.digest { isStored = true }
            } catch {
                // An unreadable header may be another digest's, of the same first eight bytes. That one's copy is
                // as bad; what is dropped here is found missing there.
                guard error.code == .corrupt || error.code == .inputOutput else { throw error }
                damaged.append(location)
                // There is nothing to keep of a segment that is gone.
                guard let reader = try? segmentReader(location.segment) else { continue }
                _ = Quarantine.copy(
                    reader,
                    at: location.offset,
                    byteCount: RecordFormat.recordByteCount(payload.bytes.count, reader.kind),
                    to: disk
                )
            }
        }
        if !isStored {
            if payload.bytes.count <= Limits.logPayloadSizeMax {
                try appendGroup(payloads: [payload], batch: nil)
                try syncLog()
            } else {
                try appendBulk(payload)
                try syncBulk()
            }
        }
        guard !damaged.isEmpty else { return }
        try bury(damaged.map { .init(digest: payload.digest, location: $0) }, byteCount: payload.bytes.count)
    }

    /// Writes tombstones durably, then takes the places out of the index.
    func bury(_ tombstones: [SegmentContents.Tombstone], byteCount: Int) throws(VolumeError) {
        try withLogWriter { writer throws(VolumeError) in
            try append(Group(tombstones: tombstones, closer: .mark), &writer)
            try syncOpen(\.log, &writer)
        }
        state.withLock { state in
            for tombstone in tombstones {
                let fingerprint = LocationIndex.fingerprint(of: tombstone.digest)
                guard state.index.remove(fingerprint, tombstone.location) else { continue }
                state.payloadByteCount -= min(state.payloadByteCount, UInt64(byteCount))
                state.noteDead(tombstone.location.segment, payloadByteCount: byteCount)
            }
        }
    }
}
