internal import Foundation
internal import ObjectService
internal import StoreModel
internal import Synchronization

/// A local file or named pipe on its way into the store.
///
/// What goes wrong with it is said as an error about a local file: the store and its disks are fine.
final class FileSource: ByteSource {
    private let bytes: any ByteSource
    private let path: String
    private let progress: Progress
    private let count = Mutex<UInt64>(0)

    /// Of a regular file. One without bytes may be one that the kernel makes up (/proc): what it has shows when it is
    /// read.
    let size: UInt64?

    private init(_ bytes: any ByteSource, size: UInt64?, path: String, progress: Progress) {
        self.bytes = bytes
        self.size = size == 0 ? nil : size
        self.path = path
        self.progress = progress
    }

    /// - Throws: `CancellationError` when the process was asked to stop while nobody wrote to a pipe.
    static func open(_ path: String, progress: Progress) async throws -> FileSource {
        try await Blocking.run { try LocalFile.checkReadable(path) }
        do {
            if let pipe = try await PipeSource.open(path) {
                return FileSource(pipe, size: nil, path: path, progress: progress)
            }
            let file = try await FileByteSource.open(path: path)
            return FileSource(file, size: file.size, path: path, progress: progress)
        } catch let error as StoreError {
            throw CommandError(.fileUnreadable, error.message, advice: error.advice)
        }
    }

    func next() async throws -> [UInt8]? {
        do {
            guard let piece = try await bytes.next() else { return nil }
            let total = count.withLock { count in
                count += UInt64(piece.count)
                return count
            }
            // Before the store sees more than was declared.
            if let size, total > size { throw changed }
            progress.advance(by: piece.count)
            return piece
        } catch let error as StoreError where error.code == .conflict {
            throw changed
        } catch let error as StoreError {
            throw CommandError(.localInputOutput, error.message, advice: error.advice)
        }
    }

    private var changed: CommandError {
        CommandError(
            .fileChanged,
            "\(quoted(path)) changed while it was being read; nothing was stored.",
            advice: "Run the command again when no one writes to the file."
        )
    }
}

/// A named pipe on its way into the store. Waiting for a writer ends with the first signal, as does waiting for what
/// it writes.
private final class PipeSource: ByteSource, Sendable {
    private static let pieceSize = 256 << 10

    private let pipe: LocalFile

    private init(_ pipe: LocalFile) { self.pipe = pipe }

    /// Waits for the first bytes. Nil where the path is no pipe.
    static func open(_ path: String) async throws -> PipeSource? {
        try await Blocking.run {
            let file = try LocalFile.openForReading(path)
            guard try file.facts().kind == .pipe else { return nil }
            guard file.waitUntilReadable() else { throw CancellationError() }
            return PipeSource(file)
        }
    }

    func next() async throws -> [UInt8]? {
        try Task.checkCancellation()
        let (pipe, count) = (pipe, Self.pieceSize)
        let piece = try await Blocking.run { try pipe.read(upTo: count) }
        return piece.isEmpty ? nil : piece
    }
}

/// Standard input on its way into the store, from wherever it stands.
final class StandardInputSource: ByteSource {
    private static let pieceSize = 1 << 20

    private let before: LocalFile.Facts
    private let progress: Progress
    private let count = Mutex<UInt64>(0)
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
        // What the kernel makes up (/proc) has no size before it is read.
        size = isInside && before.size > 0 ? before.size - UInt64(position) : nil
    }

    func next() async throws -> [UInt8]? {
        try Task.checkCancellation()
        let piece = try await Blocking.run { try LocalFile.standardInput.read(upTo: Self.pieceSize) }
        progress.advance(by: piece.count)
        let total = count.withLock { count in
            count += UInt64(piece.count)
            return count
        }
        let isLonger = size.map { total > $0 } ?? false
        let isAtEnd = piece.isEmpty && before.kind == .regular
        let isOther = isAtEnd ? isChanged(try LocalFile.standardInput.facts()) : false
        if isLonger || isOther {
            throw CommandError(
                .fileChanged,
                "Standard input changed while it was being read; nothing was stored."
            )
        }
        return piece.isEmpty ? nil : piece
    }

    /// The times of what the kernel makes up (/proc) tell nothing.
    private func isChanged(_ after: LocalFile.Facts) -> Bool {
        (before.size > 0 || after.size > 0) && after != before
    }
}
