package import StoreModel

/// Something that was found wrong with a copy or a volume's files, and what became of it.
package struct Finding: Sendable, Hashable {
    package enum Kind: String, Sendable, CaseIterable {
        /// The copy should be there and is not.
        case missing
        /// The bytes of a payload are not those that were written.
        case corrupt = "corruptPayload"
        /// The header of a record, or bytes that are no record any more.
        case corruptHeader
        /// A batch of the commit log.
        case corruptLog
        /// A record of the log that is not needed any more, a segment's header or footer, a copy of the identity: the
        /// volume puts it right by itself.
        case corruptFooter
        /// Bytes that hold no data and were written as zeros.
        case padding
        /// The index in memory names what is not there.
        case index
        /// A copy on a volume where it does not belong.
        case misplaced
        /// A volume that answers and does not have the newest records: it came back and is not caught up yet, or what it
        /// must be given can't be read or has no room. An audit finds it; whoever catches the volume up puts it right.
        case stale
        /// The volume answers with an error.
        case unreadable
        /// A mirror has other bytes, or says something else of them.
        case different
        /// A mirror has what the store doesn't have.
        case extra
        /// A version could not be mirrored and was given up.
        case givenUp
    }

    package enum Source: String, Sendable, CaseIterable {
        case read, verify, catchUp, write, scrub, audit
        /// The comparison of a mirror with the store.
        case mirrorAudit
        /// The work of sending versions to a mirror.
        case mirroring
    }

    package enum Outcome: Sendable, Hashable {
        case pending
        /// A verified copy from this volume was written, made durable, and read back.
        case repaired(from: VolumeID, verifiedAt: Timestamp)
        /// No volume had good bytes; those that were written, made durable and read back came from elsewhere, as in
        /// "mirror offsite".
        case rescued(from: String, verifiedAt: Timestamp)
        /// Put right without a copy: by the volume itself, or nothing was to be done.
        case mended
        /// No volume holds good bytes of this chunk.
        case unrepairable
        /// The repair failed for another reason; the next audit finds the damage again.
        case failed(String)

        package var isRepaired: Bool {
            switch self {
            case .repaired, .rescued, .mended: true
            case .pending, .unrepairable, .failed: false
            }
        }
    }

    /// nil: it is no chunk that is damaged.
    package let chunk: Digest?
    /// `noVolume` of what is wrong with a mirror.
    package let volume: VolumeID
    package let kind: Kind
    package let foundBy: Source
    package let foundAt: Timestamp
    /// Segment and offset, and what was wrong.
    package var detail = ""
    /// The mirror that it is about, by name.
    package var mirror: String?
    package var outcome: Outcome

    package static let noVolume = VolumeID(high: 0, low: 0)

    package init(
        chunk: Digest?,
        volume: VolumeID,
        kind: Kind,
        foundBy: Source,
        foundAt: Timestamp,
        detail: String = "",
        outcome: Outcome = .pending
    ) {
        self.chunk = chunk
        self.volume = volume
        self.kind = kind
        self.foundBy = foundBy
        self.foundAt = foundAt
        self.detail = detail
        self.outcome = outcome
    }
}
