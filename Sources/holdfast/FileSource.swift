internal import ContentHashing
internal import Foundation
internal import ObjectService
internal import StoreModel

/// A local file or named pipe on its way into the store.
///
/// What goes wrong with it is said as an error about a local file: the store and its disks are fine.
final class FileSource: ByteSource {
    private let bytes: FileByteSource
    private let path: String
    private let progress: Progress

    /// Of a regular file.
    var size: UInt64? { bytes.size }

    private init(_ bytes: FileByteSource, path: String, progress: Progress) {
        self.bytes = bytes
        self.path = path
        self.progress = progress
    }

    static func open(_ path: String, progress: Progress) async throws -> FileSource {
        try await Blocking.run { try LocalFile.checkReadable(path) }
        do {
            return FileSource(try await FileByteSource.open(path: path), path: path, progress: progress)
        } catch let error as StoreError {
            throw CommandError(.fileUnreadable, error.message, advice: error.advice)
        }
    }

    func next() async throws -> [UInt8]? {
        do {
            let piece = try await bytes.next()
            progress.advance(by: piece?.count ?? 0)
            return piece
        } catch let error as StoreError where error.code == .conflict {
            throw CommandError(
                .fileChanged,
                "\(quoted(path)) changed while it was being read; nothing was stored.",
                advice: "Run the command again when no one writes to the file."
            )
        } catch let error as StoreError {
            throw CommandError(.localInputOutput, error.message, advice: error.advice)
        }
    }
}

/// Standard input on its way into the store, from wherever it stands.
final class StandardInputSource: ByteSource {
    private static let pieceSize = 1 << 20

    private let before: LocalFile.Facts
    private let progress: Progress
    /// What is left of a regular file; nil for pipes and terminals.
    let size: UInt64?

    init(progress: Progress) throws {
        self.progress = progress
        before = try LocalFile.standardInput.facts()
        guard before.kind != .directory else {
            throw CommandError(.isDirectory, "Standard input is a directory, and a file is meant here.")
        }
        let position = lseek(STDIN_FILENO, 0, SEEK_CUR)
        let isInside = before.kind == .regular && position >= 0 && UInt64(position) <= before.size
        size = isInside ? before.size - UInt64(position) : nil
    }

    func next() async throws -> [UInt8]? {
        try Task.checkCancellation()
        let piece = try await Blocking.run { try LocalFile.standardInput.read(upTo: Self.pieceSize) }
        progress.advance(by: piece.count)
        if piece.isEmpty, before.kind == .regular, try LocalFile.standardInput.facts() != before {
            throw CommandError(
                .fileChanged,
                "Standard input changed while it was being read; nothing was stored."
            )
        }
        return piece.isEmpty ? nil : piece
    }
}

/// The SHA-256 of whole local files.
enum FileDigest {
    private static let pieceSize = 1 << 20

    static func of(_ file: LocalFile) async throws -> Digest {
        var hasher = SHA256Hasher()
        var offset: UInt64 = 0
        while true {
            try Task.checkCancellation()
            let position = offset
            let piece = try await Blocking.run { try file.read(upTo: pieceSize, at: position) }
            guard !piece.isEmpty else { return hasher.finish() }
            piece.withUnsafeBytes { hasher.update($0) }
            offset += UInt64(piece.count)
        }
    }
}
