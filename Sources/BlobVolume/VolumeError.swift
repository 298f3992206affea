package import StoreModel

/// What a volume could not do: the reason as a code for the caller's decision, the place, and the cause below.
package struct VolumeError: Error, Sendable, CustomStringConvertible {
    package struct Code: Hashable, Sendable, CustomStringConvertible {
        fileprivate enum Value: String {
            case notFound, corrupt, full, failed, closed, inputOutput, locked, alreadyExists
            case identityMissing, identityMismatch, unsupportedFormat, notSuccessor, tooLarge, overloaded
        }

        fileprivate let value: Value

        /// No such record here.
        package static let notFound = Code(value: .notFound)
        /// Bytes are here but are not what was written.
        package static let corrupt = Code(value: .corrupt)
        /// No room for payloads. A state, not a failure: reads, and groups without payloads, go on.
        package static let full = Code(value: .full)
        /// A write or an fsync failed earlier; nothing but opening the volume again helps.
        package static let failed = Code(value: .failed)
        package static let closed = Code(value: .closed)
        package static let inputOutput = Code(value: .inputOutput)
        /// Another process has the volume; the message names it.
        package static let locked = Code(value: .locked)
        /// A volume is already there.
        package static let alreadyExists = Code(value: .alreadyExists)
        /// The directory holds no volume: perhaps the mount point of a disk that isn't mounted.
        package static let identityMissing = Code(value: .identityMissing)
        /// A volume of another store, or another volume of this one.
        package static let identityMismatch = Code(value: .identityMismatch)
        package static let unsupportedFormat = Code(value: .unsupportedFormat)
        /// The batch's predecessor is not in this volume's log.
        package static let notSuccessor = Code(value: .notSuccessor)
        /// The volume's queue is full, or it did not answer in time: it lags.
        package static let overloaded = Code(value: .overloaded)
        /// A payload or batch beyond what a record may hold.
        package static let tooLarge = Code(value: .tooLarge)

        package var description: String { value.rawValue }
    }

    package let code: Code
    package let message: String
    /// The volume's directory.
    package let path: String
    /// The segment and the offset in it, where there is one.
    package let location: RecordLocation?
    package let cause: DiskError?

    package init(
        _ code: Code,
        _ message: String,
        path: String,
        location: RecordLocation? = nil,
        cause: DiskError? = nil
    ) {
        self.code = code
        self.message = message
        self.path = path
        self.location = location
        self.cause = cause
    }

    /// A volume whose directory can't be opened: there is none, or this user may not.
    package static func unopened(_ path: String, _ cause: DiskError) -> VolumeError {
        cause.code == .permission
            ? VolumeError(.inputOutput, "The directory may not be opened.", path: path, cause: cause)
            : VolumeError(.identityMissing, "The directory can't be opened.", path: path, cause: cause)
    }

    package var description: String {
        var text = "\(code): \(message) [\(path)"
        if let location { text += ", \(location)" }
        text += "]"
        if let cause { text += " (cause: \(cause))" }
        return text
    }
}

/// Where a record stands: the segment's number and the offset in units of 64 bytes.
package struct RecordLocation: Hashable, Sendable, BitwiseCopyable, Comparable, CustomStringConvertible {
    package let segment: UInt32
    package let unit: UInt32

    package init(segment: UInt32, unit: UInt32) {
        self.segment = segment
        self.unit = unit
    }

    /// - Precondition: `offset` is a multiple of 64 below 256 GiB.
    init(segment: UInt32, offset: UInt64) {
        precondition(offset % RecordFormat.unit == 0, "Records stand at multiples of 64 bytes.")
        self.init(segment: segment, unit: UInt32(offset / RecordFormat.unit))
    }

    package var offset: UInt64 { UInt64(unit) * RecordFormat.unit }

    package var description: String { "segment \(segment) offset \(offset)" }

    /// Later is newer, within one kind of segment.
    package static func < (left: RecordLocation, right: RecordLocation) -> Bool {
        (left.segment, left.unit) < (right.segment, right.unit)
    }
}

/// What to store: bytes and their name.
package struct PayloadRecord: Sendable {
    package let digest: Digest
    package let bytes: [UInt8]
    /// What the volumes that get it write alike.
    let image = PayloadImage()

    package init(digest: Digest, bytes: [UInt8]) {
        self.digest = digest
        self.bytes = bytes
    }

    /// Does now, on the caller's thread, what writing a large payload takes but for the write, if there is memory for that.
    package func prepareForBulk() { image.prepare(bytes) }
}

/// Whether a volume has a payload, and whether it would survive a power cut.
package enum RecordPresence: Hashable, Sendable {
    case absent
    /// Written, not yet known to be fsynced.
    case unsynced
    case synced
}
