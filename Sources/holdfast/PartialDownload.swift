internal import ContentHashing
internal import Foundation
internal import StoreModel

/// A download that is not whole yet: `.NAME.holdfast-partial` beside the target, and `.NAME.holdfast-state`,
/// which says of which version the bytes are.
///
/// Invariants:
/// 1. The target's name only ever holds a whole, verified, fsynced object: it is replaced by rename(2).
/// 2. Bytes of an earlier attempt are used only when they belong to the same version and SHA-256, and each
///    of their chunks hashes to its digest now; where chunks are not known the whole is verified at its end. Where
///    nothing is known to compare the whole with, only bytes that were written since the machine was started are
///    used: the kernel has them as they were written, and a power cut has lost none.
/// 3. One process works on a partial file: it is locked with flock(2).
struct PartialDownload: ~Copyable {
    /// What `.NAME.holdfast-state` holds.
    private struct State: Codable, Equatable {
        var formatVersion = 1
        var versionID: String
        var size: UInt64
        var sha256: String?
        /// Of a version whose id is not known.
        var etag: String?
        /// When there is nothing to verify the whole with: the start of the machine in which its bytes were written.
        var boot: String?

        func isSameVersion(as other: State) -> Bool {
            var other = other
            other.boot = boot
            // That of an object in parts may have been found meanwhile; the whole is compared with it then.
            if sha256 == nil || other.sha256 == nil { other.sha256 = sha256 }
            return self == other
        }
    }

    private static let partialSuffix = ".holdfast-partial"
    private static let stateSuffix = ".holdfast-state"

    private let directory: LocalDirectory
    private let name: String
    private let partialName: String
    private let stateName: String
    private let file: LocalFile
    private let version: VersionReport
    private var check: ContentCheck
    /// Whether what an earlier attempt left was written since the machine was started.
    let isOfThisBoot: Bool
    /// Verified bytes in the file, or such that are verified with the whole.
    var length: UInt64 { check.length }

    /// Writes behind the bytes that are there.
    struct Writer {
        fileprivate let file: LocalFile
        fileprivate let check: ContentCheck

        func append(_ bytes: [UInt8]) async throws {
            check.update(bytes)
            let file = file
            try await Blocking.run { try file.write(bytes[...]) }
        }
    }

    var writer: Writer { Writer(file: file, check: check) }

    /// Whether the bytes are those of the version; asked after the last one.
    var isWhole: Bool { check.isWhole }

    /// Opens what an earlier attempt left, or starts anew.
    static func open(
        of version: VersionReport,
        in directory: LocalDirectory,
        name: String
    ) throws -> PartialDownload {
        // The suffix must fit too: a long name is shortened to its digest.
        let base =
            name.utf8.count <= 200 ? name : String(SHA256Hasher.hash([UInt8](name.utf8)).hex.prefix(32))
        let partialName = ".\(base)\(partialSuffix)"
        let stateName = ".\(base)\(stateSuffix)"
        let file = try directory.file(partialName, flags: O_RDWR | O_CREAT)
        guard flock(file.descriptor, LOCK_EX | LOCK_NB) == 0 else {
            throw CommandError(
                .downloadBusy,
                "Another process is downloading to \(quoted(file.name)).",
                advice: "Wait for it to end."
            )
        }
        let wanted = State(
            versionID: version.id.description,
            size: version.size,
            sha256: version.sha256?.hex,
            etag: version.id == .unknown ? version.etag : nil,
            boot: version.isVerifiable ? nil : bootID()
        )
        let found = readState(stateName, in: directory)
        let isKept =
            found?.isSameVersion(as: wanted) == true && (version.isVerifiable || found?.boot == wanted.boot)
        if !isKept {
            try file.truncate(to: 0)
            let text = try JSONOutput.document(wanted)
            directory.remove(stateName)
            try directory.file(stateName, flags: O_WRONLY | O_CREAT | O_EXCL).write([UInt8](text.utf8)[...])
        }
        return PartialDownload(
            directory: directory,
            name: name,
            partialName: partialName,
            stateName: stateName,
            file: file,
            version: version,
            isOfThisBoot: wanted.boot != nil
        )
    }

    private static func bootID() -> String? {
        guard let file = try? LocalFile.openForReading("/proc/sys/kernel/random/boot_id"),
            let bytes = try? file.read(upTo: 64, at: 0), !bytes.isEmpty
        else { return nil }
        return String(decoding: bytes, as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines)
    }

    private init(
        directory: LocalDirectory,
        name: String,
        partialName: String,
        stateName: String,
        file: LocalFile,
        version: VersionReport,
        isOfThisBoot: Bool
    ) {
        self.directory = directory
        self.name = name
        self.partialName = partialName
        self.stateName = stateName
        self.file = file
        self.version = version
        self.isOfThisBoot = isOfThisBoot
        check = ContentCheck(version)
    }

    /// Whether a file of that name would be taken for an unfinished download.
    static func isReserved(_ name: String) -> Bool {
        name.hasPrefix(".") && (name.hasSuffix(partialSuffix) || name.hasSuffix(stateSuffix))
    }

    /// What an earlier attempt left, not verified yet.
    func availableSize() throws -> UInt64 { try file.facts().size }

    /// Re-hashes the bytes that are there, chunk by chunk, and keeps those before the first that differs.
    mutating func keepVerifiedBytes(
        chunks: [(digest: Digest, length: UInt64)],
        progress: Progress
    ) async throws {
        let available = try file.facts().size
        for chunk in chunks {
            try Task.checkCancellation()
            guard length + chunk.length <= available else { break }
            let (offset, count, file) = (length, Int(chunk.length), file)
            let bytes = try await Blocking.run { try file.read(upTo: count, at: offset) }
            guard bytes.count == count, SHA256Hasher.hash(bytes) == chunk.digest else { break }
            check.update(bytes)
            progress.skip(chunk.length)
        }
        try file.truncate(to: length)
    }

    /// Throws away what is there.
    mutating func restart() throws {
        check = ContentCheck(version)
        try file.truncate(to: 0)
    }

    /// Goes on behind the bytes that are there; whether they are right is seen at the end.
    mutating func keepBytesToBeVerified(progress: Progress) async throws {
        let available = min(try file.facts().size, version.size)
        while length < available {
            try Task.checkCancellation()
            let (offset, count, file) = (length, Int(min(available - length, 1 << 20)), file)
            let bytes = try await Blocking.run { try file.read(upTo: count, at: offset) }
            guard !bytes.isEmpty else { break }
            check.update(bytes)
            progress.skip(UInt64(bytes.count))
        }
        try file.truncate(to: length)
    }

    /// Makes the whole, verified file durable under its name.
    /// - Throws: `CommandError` with `.damagedData` when the bytes are not the object's; nothing is left
    ///   then.
    consuming func commit() async throws {
        guard check.isWhole else {
            let (digest, size) = (check.digest, length)
            directory.remove(partialName)
            directory.remove(stateName)
            throw CommandError(
                .damagedData,
                "The downloaded bytes are not those of version \(version.id) "
                    + "(\(size) of \(version.size) bytes, SHA-256 \(digest)); the file was not made.",
                advice: "Run the command again; if it happens again, 'holdfast verify' tells more."
            )
        }
        let (file, directory, partialName, stateName, name) = (file, directory, partialName, stateName, name)
        try await Blocking.run {
            try file.synchronize()
            try directory.rename(partialName, to: name)
            directory.remove(stateName)
            try directory.synchronize()
        }
    }

    private static func readState(_ name: String, in directory: LocalDirectory) -> State? {
        guard let file = try? directory.file(name, flags: O_RDONLY),
            let bytes = try? file.read(upTo: 4096, at: 0)
        else { return nil }
        return try? JSONDecoder().decode(State.self, from: Data(bytes))
    }
}
