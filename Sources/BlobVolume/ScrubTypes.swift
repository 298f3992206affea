package import StoreModel

/// Where a scrub of a volume goes on: the segment's number and the offset in it.
package struct ScrubCursor: Hashable, Sendable, Comparable {
    package var segment: UInt32
    package var offset: UInt64

    package static let start = ScrubCursor(segment: 0, offset: 0)

    package init(segment: UInt32, offset: UInt64) {
        self.segment = segment
        self.offset = offset
    }

    package static func < (left: ScrubCursor, right: ScrubCursor) -> Bool {
        (left.segment, left.offset) < (right.segment, right.offset)
    }
}

/// Something that a scrub found wrong with a volume's files, and what has to be done about it.
package struct ScrubDamage: Sendable, CustomStringConvertible {
    package enum Kind: String, Sendable {
        /// The bytes of a payload, or its block table, are not those that were written.
        case payload
        /// The header of a payload's record.
        case header
        /// A batch of the commit log that is still needed.
        case batch
        /// A record of the log that is not needed any more, or that a footer tells all about.
        case spentRecord
        case segmentHeader
        /// A footer or a trailer.
        case footer
        /// Bytes that no checksum covers and that nobody reads: they were written as zeros.
        case padding
        /// The index in memory and the segment's records differ.
        case index
        /// A copy of the volume's identity (`volume.json`).
        case identity
        /// The disk gave an error.
        case unreadable
    }

    package enum Remedy: Sendable, Hashable {
        /// Put a good copy of the payload in the place of this one.
        case replace
        /// Rebuild the commit log of this volume from its peers.
        case rebuildLog
        /// It is not known which payloads are lost: compare the volume with the catalog.
        case compare
        /// The volume has put it right by itself; nothing was lost.
        case mended
        /// It could not be put right.
        case failed(String)
    }

    package let kind: Kind
    package let location: RecordLocation?
    package let digest: Digest?
    package let message: String
    package internal(set) var remedy: Remedy

    package var description: String {
        var text = message
        if let location { text += " at \(location)" }
        if let digest { text += ", record \(digest)" }
        return text
    }
}

/// What one step of a scrub did.
package struct ScrubStep: Sendable {
    package internal(set) var byteCount: UInt64 = 0
    package internal(set) var readCount: UInt64 = 0
    package internal(set) var recordCount: UInt64 = 0
    package internal(set) var damage: [ScrubDamage] = []
    /// Where a scrub that is begun anew, perhaps by another process, goes on without leaving anything out.
    package internal(set) var cursor = ScrubCursor.start
    package internal(set) var isAtEnd = false
}
