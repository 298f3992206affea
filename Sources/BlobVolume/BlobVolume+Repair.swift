package import StoreModel
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
        // An unreadable header may be another digest's, of the same first eight bytes. That one's copy is as bad; what is
        // dropped here is found missing there.
        let found = try places(of: payload.digest)
        let damaged = found.damaged + found.unreadable
        for location in damaged {
            // There is nothing to keep of a segment that is gone.
            guard let reader = try? segmentReader(location.segment) else { continue }
            _ = Quarantine.copy(
                reader,
                at: location.offset,
                byteCount: RecordFormat.recordByteCount(payload.bytes.count, reader.kind),
                to: disk
            )
        }
        if !found.isStored {
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

    /// Marks the damaged records of a payload as dead, durably: of one that nothing refers to and of which no volume has
    /// good bytes. Copies that verify are left alone, and those that the disk doesn't give: one may be good, and nothing is
    /// written in its place here. Nothing is kept of what goes: nobody misses it, and the place may be a hole.
    /// - Returns: whether every record of it that is left is good.
    /// - Throws: `.full`, `.failed`, `.inputOutput`.
    package func buryDamaged(_ digest: Digest) throws(VolumeError) -> Bool {
        try checkUsable()
        let found = try places(of: digest)
        guard !found.damaged.isEmpty else { return found.unreadable.isEmpty }
        // The header stays when space is given back, so that the length is known as a rule.
        let byteCount = (try? byteCount(of: digest)) ?? 0
        try bury(found.damaged.map { .init(digest: digest, location: $0) }, byteCount: byteCount)
        return found.unreadable.isEmpty
    }

    /// Reads every record here that may be this payload's.
    /// - Returns: whether one is good; where those are that are damaged, and those that the disk doesn't give.
    private func places(
        of digest: Digest
    ) throws(VolumeError) -> (isStored: Bool, damaged: [RecordLocation], unreadable: [RecordLocation]) {
        let fingerprint = LocationIndex.fingerprint(of: digest)
        var isStored = false
        var damaged: [RecordLocation] = []
        var unreadable: [RecordLocation] = []
        for location in state.withLock({ $0.index.locations(of: fingerprint) }) {
            do throws(VolumeError) {
                let (header, _) = try segmentReader(location.segment).strictRecord(at: location)
                if header.digest == digest { isStored = true }
            } catch {
                switch error.code {
                case .corrupt: damaged.append(location)
                case .inputOutput: unreadable.append(location)
                default: throw error
                }
            }
        }
        return (isStored, damaged, unreadable)
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
