internal import ContentHashing
internal import Foundation
internal import ObjectService
internal import StoreModel

/// Brings objects out of the store: into a file, by way of a partial file, or onto standard output.
struct Downloader: Sendable {
    let session: StoreSession

    /// Downloads a version into a file.
    /// - Returns: how many bytes an earlier attempt had left, or nil when the file was there already, bit
    ///   for bit.
    func fetch(
        _ version: VersionReport,
        into directory: LocalDirectory,
        name: String,
        progress: Progress
    ) async throws -> UInt64? {
        if try await isUnchanged(version, in: directory, name: name) {
            progress.skip(version.size)
            return nil
        }
        var partial = try PartialDownload.open(of: version, in: directory, name: name)
        let available = try partial.availableSize()
        if available > 0 {
            let chunks = try await session.chunks(of: version, upTo: available)
            try await partial.keepVerifiedBytes(chunks: chunks, progress: progress)
        }
        let resumed = partial.length
        if partial.length < version.size {
            let download = try await session.download(version, from: partial.length)
            while let piece = try await download.next() {
                try Task.checkCancellation()
                try await partial.append(piece)
                progress.advance(by: piece.count)
            }
        }
        try await partial.commit()
        return resumed
    }

    /// Streams a version to standard output. The last piece is held back until the SHA-256 of the whole is
    /// known to be right, so that damage never looks like a clean end.
    func stream(_ version: VersionReport, progress: Progress) async throws {
        var hasher = SHA256Hasher()
        var held: [UInt8] = []
        var size: UInt64 = 0
        let download = try await session.download(version, from: 0)
        while let piece = try await download.next() {
            try Task.checkCancellation()
            piece.withUnsafeBytes { hasher.update($0) }
            size += UInt64(piece.count)
            let ready = held
            held = piece
            try await Blocking.run { try LocalFile.standardOutput.write(ready[...]) }
            progress.advance(by: piece.count)
        }
        let digest = hasher.finish()
        guard size == version.size, version.sha256.map({ $0 == digest }) ?? true else {
            throw CommandError(
                .damagedData,
                "The bytes are not those of version \(version.id): standard output did not get the whole.",
                advice: "'holdfast verify' tells more."
            )
        }
        let last = held
        try await Blocking.run { try LocalFile.standardOutput.write(last[...]) }
    }

    /// Whether the target is there with the same size and SHA-256.
    private func isUnchanged(_ version: VersionReport, in directory: LocalDirectory, name: String)
        async throws -> Bool
    {
        guard let facts = try directory.facts(of: name) else { return false }
        switch facts.kind {
        case .directory:
            throw CommandError(
                .isDirectory,
                "\(quoted("\(directory.path)/\(name)")) is a directory, and a file is meant here.",
                advice: "Name the file in it; for all keys under a prefix, end the address with a slash."
            )
        case .pipe: throw notRegular(directory, name)
        case .other where !directory.isLink(name): throw notRegular(directory, name)
        default: break
        }
        guard facts.kind == .regular, facts.size == version.size, let expected = version.sha256 else {
            return false
        }
        guard let file = try? directory.file(name, flags: O_RDONLY) else { return false }
        return try await FileDigest.of(file) == expected
    }

    private func notRegular(_ directory: LocalDirectory, _ name: String) -> CommandError {
        CommandError(
            .notARegularFile,
            "\(quoted("\(directory.path)/\(name)")) is not a regular file and is not replaced.",
            advice: "To write into it: holdfast get BUCKET/KEY - > FILE"
        )
    }
}
