package import StoreModel

/// Something that was found wrong with a copy, and what became of it.
package struct Finding: Sendable, Hashable {
    package enum Kind: String, Sendable {
        /// The copy should be there and is not.
        case missing
        /// The bytes are not those that were written.
        case corrupt
        /// The volume answers with an error.
        case unreadable
    }

    package enum Source: String, Sendable {
        case read, verify, catchUp, write
    }

    package enum Outcome: Sendable, Hashable {
        case pending
        /// A verified copy from this volume was written and made durable.
        case repaired(from: VolumeID)
        /// No volume holds good bytes of this chunk.
        case unrepairable
        /// The repair failed for another reason; the next audit finds the damage again.
        case failed(String)
    }

    package let chunk: Digest
    package let volume: VolumeID
    package let kind: Kind
    package let foundBy: Source
    package let foundAt: Timestamp
    package var outcome: Outcome
}
