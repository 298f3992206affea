internal import AdminGateway

/// What the doctor looked at: all of it goes into the archive, so no secret, no name of a bucket, an object or an
/// account may stand here.
struct DoctorFacts: Encodable, Sendable {
    /// An error without what it was about.
    struct Problem: Encodable, Sendable {
        var code: String
        var message: String
        var advice: String?
    }

    struct Configuration: Encodable, Sendable {
        var storeID: String
        var replicas: Int
        var writeQuorum: Int
        /// Milliseconds since 1970.
        var createdAt: Int64
        var volumes: [String]
    }

    struct Directory: Encodable, Sendable {
        /// Permission bits.
        var mode: UInt32
        var owner: UInt32
    }

    struct MasterKey: Encodable, Sendable {
        var isThere: Bool
        /// Permission bits of the file; absent when there is none.
        var mode: UInt32?
        /// Access keys whose secrets it opens; absent when the store could not be asked.
        var accessKeys: Int?
    }

    var program: String
    /// RFC 3339.
    var takenAt: String
    /// Milliseconds since 1970.
    var now: Int64
    var user: UInt32
    var host: HostFacts
    var store: String
    var directory: Directory?
    var configuration: Configuration?
    /// Why the configuration or the store can't be used.
    var problem: Problem?
    /// The server that holds the store, when one does.
    var server: VersionDocument?
    var status: StatusDocument?
    var masterKey: MasterKey
    var volumes: [VolumeFacts]
}

/// The machine.
struct HostFacts: Encodable, Sendable {
    var system: String
    var distribution: String
    var processors: Int
    var memoryBytes: UInt64
    var availableMemoryBytes: UInt64
    var openFilesMax: UInt64
    /// nil: the kernel does not say.
    var isClockSynchronised: Bool?
}

/// A volume's directory as the file system shows it.
struct VolumeFacts: Encodable, Sendable {
    struct FileEntry: Encodable, Sendable {
        var name: String
        var byteCount: UInt64
    }

    var path: String
    /// Why it can't be looked at; the rest is empty then.
    var problem: String?
    var fileSystem = ""
    var mountPoint = ""
    var isReadOnly = false
    var device: UInt64 = 0
    var owner: UInt32 = 0
    var freeBytes: UInt64 = 0
    var totalBytes: UInt64 = 0
    var freeFiles: UInt64 = 0
    var totalFiles: UInt64 = 0
    var hasIdentity = false
    var segments: [FileEntry] = []
    var quarantined: [FileEntry] = []
}
