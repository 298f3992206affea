internal import Foundation
internal import ObjectService
internal import StoreModel

/// Brings objects out of the store: into a file, by way of a partial file, or onto standard output.
struct Downloader: Sendable {
    let session: any ObjectSession

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
            if let chunks = try await session.chunks(of: version, upTo: available) {
                try await partial.keepVerifiedBytes(chunks: chunks, progress: progress)
            } else if version.isVerifiable || partial.isOfThisBoot {
                try await partial.keepBytesToBeVerified(progress: progress)
            } else {
                try partial.restart()
            }
        }
        let resumed = partial.length
        try await receive(version, &partial, progress)
        guard resumed > 0, !partial.isWhole else {
            try await partial.commit()
            return resumed
        }
        // What the earlier attempt left is not what it was: all of it again.
        try partial.restart()
        try await receive(version, &partial, progress)
        try await partial.commit()
        return 0
    }

    private func receive(
        _ version: VersionReport,
        _ partial: inout PartialDownload,
        _ progress: Progress
    ) async throws {
        guard partial.length < version.size else { return }
        let writer = partial.writer
        try await session.download(version, from: partial.length) { piece in
            try Task.checkCancellation()
            try await writer.append(piece)
            progress.advance(by: piece.count)
        }
    }

    /// Streams a version to standard output. The last piece is held back until the SHA-256 of the whole is
    /// known to be right, so that damage never looks like a clean end.
    func stream(_ version: VersionReport, progress: Progress) async throws {
        let check = ContentCheck(version)
        var held: [UInt8] = []
        try await session.download(version, from: 0) { piece in
            try Task.checkCancellation()
            check.update(piece)
            let ready = held
            held = piece
            try await Blocking.run { try LocalFile.standardOutput.write(ready[...]) }
            progress.advance(by: piece.count)
        }
        guard check.isWhole else {
            throw CommandError(
                .damagedData,
                "The bytes are not those of version \(version.id): standard output did not get the whole.",
                advice: "'holdfast verify' tells more."
            )
        }
        let last = held
        try await Blocking.run { try LocalFile.standardOutput.write(last[...]) }
    }

    /// Whether the target is there with the same bytes.
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
        guard facts.kind == .regular, facts.size == version.size else { return false }
        guard let file = try? directory.file(name, flags: O_RDONLY) else { return false }
        return try await LocalCopy.isEqual(file, version, session)
    }

    private func notRegular(_ directory: LocalDirectory, _ name: String) -> CommandError {
        CommandError(
            .notARegularFile,
            "\(quoted("\(directory.path)/\(name)")) is not a regular file and is not replaced.",
            advice: "To write into it: holdfast get BUCKET/KEY - > FILE"
        )
    }
}
