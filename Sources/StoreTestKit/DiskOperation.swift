/// The calls of the disk seam, as faults and counters name them.
package enum DiskOperation: String, Sendable, Hashable, CaseIterable {
    case open, create, exists, list, makeDirectory, rename, remove, syncDirectory, lock, space
    case read, write, sync, startWriteback, truncate, punch, size

    /// The calls that change something, or make it durable: the points at which a crash makes a difference.
    package static let changing: Set<DiskOperation> = [
        .create, .makeDirectory, .rename, .remove, .syncDirectory, .lock, .write, .sync, .truncate, .punch,
    ]
}

/// One call as it was made, for messages: which point of a crash loop is this?
package struct DiskCall: Sendable, Hashable, CustomStringConvertible {
    package let operation: DiskOperation
    package let name: String
    package var offset: UInt64?
    package var length: Int?

    package var description: String {
        var text = "\(operation.rawValue) \(name)"
        if let offset { text += " at \(offset)" }
        if let length { text += ", \(length) bytes" }
        return text
    }
}
