internal import Dispatch
internal import Foundation
internal import StoreModel

/// Runs blocking calls on threads of their own, so that a slow disk or an idle pipe holds up no one else.
enum Blocking {
    private static let queue = DispatchQueue(label: "holdfast.files", attributes: .concurrent)

    static func run<Value: Sendable>(_ body: @escaping @Sendable () throws -> Value) async throws -> Value {
        try await withCheckedThrowingContinuation { continuation in
            queue.async { continuation.resume(with: Result(catching: body)) }
        }
    }
}

/// An open local file. The descriptor is closed with the last reference.
final class LocalFile: Sendable {
    struct Facts: Sendable, Equatable {
        enum Kind: Sendable { case regular, directory, pipe, other }
        let kind: Kind
        let size: UInt64
        let modifiedNanoseconds: Int64

        init(_ status: stat) {
            kind =
                switch status.st_mode & S_IFMT {
                case S_IFREG: .regular
                case S_IFDIR: .directory
                case S_IFIFO: .pipe
                default: .other
                }
            size = UInt64(clamping: status.st_size)
            modifiedNanoseconds =
                Int64(status.st_mtim.tv_sec) &* 1_000_000_000 &+ Int64(status.st_mtim.tv_nsec)
        }
    }

    /// As it is shown to people.
    let name: String
    let descriptor: Int32
    private let closesDescriptor: Bool

    init(adopting descriptor: Int32, name: String) {
        self.descriptor = descriptor
        self.name = name
        closesDescriptor = true
    }

    private init(borrowing descriptor: Int32, name: String) {
        self.descriptor = descriptor
        self.name = name
        closesDescriptor = false
    }

    deinit { if closesDescriptor { close(descriptor) } }

    static let standardInput = LocalFile(borrowing: STDIN_FILENO, name: "standard input")
    static let standardOutput = LocalFile(borrowing: STDOUT_FILENO, name: "standard output")

    /// Opens a regular file for reading.
    static func openForReading(_ path: String) throws -> LocalFile {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK)
        guard descriptor >= 0 else { throw systemError(.fileUnreadable, path, errno) }
        let file = LocalFile(adopting: descriptor, name: path)
        try check(try file.facts().kind, path: path)
        return file
    }

    /// Looks whether there is a file, or a pipe, that may be read, without opening it: opening a pipe would
    /// start the other side.
    static func checkReadable(_ path: String) throws {
        var status = stat()
        guard stat(path, &status) == 0 else { throw systemError(.fileUnreadable, path, errno) }
        try check(Facts(status).kind, path: path)
        guard faccessat(AT_FDCWD, path, R_OK, AT_EACCESS) == 0 else {
            throw systemError(.fileUnreadable, path, errno)
        }
    }

    /// Looks whether a log can be written to the end of a file, which is made where it is missing.
    static func checkAppendable(_ path: String) throws {
        let descriptor = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0o640)
        // A pipe that nobody reads yet is none of this one's business.
        guard descriptor >= 0 || errno == ENXIO else { throw systemError(.fileUnwritable, path, errno) }
        if descriptor >= 0 { close(descriptor) }
    }

    private static func check(_ kind: Facts.Kind, path: String) throws {
        switch kind {
        case .regular, .pipe: return
        case .directory:
            throw CommandError(.isDirectory, "\(quoted(path)) is a directory, and a file is meant here.")
        case .other:
            throw CommandError(
                .notARegularFile,
                "\(quoted(path)) is neither a regular file nor a pipe.",
                advice: "Read it with: holdfast put - BUCKET/KEY < \(path)"
            )
        }
    }

    func facts() throws -> Facts {
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw systemError(.fileUnreadable, name, errno) }
        return Facts(status)
    }

    /// Reads until `count` bytes are there or the file ends.
    /// - Throws: `CancellationError` when the process was asked to stop while a pipe gave nothing.
    func read(upTo count: Int) throws -> [UInt8] {
        var failure: Int32 = 0
        var isStopped = false
        let bytes = [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
            while filled < count {
                if !waitUntilReadable() {
                    isStopped = true
                    return
                }
                let rest = UnsafeMutableRawBufferPointer(
                    rebasing: UnsafeMutableRawBufferPointer(buffer)[filled...]
                )
                let result = Glibc.read(descriptor, rest.baseAddress, rest.count)
                if result < 0 && (errno == EINTR || errno == EAGAIN) { continue }
                if result < 0 { failure = errno }
                if result <= 0 { return }
                filled += result
            }
        }
        if failure != 0 { throw systemError(.fileUnreadable, name, failure) }
        if isStopped { throw CancellationError() }
        return bytes
    }

    /// Reads at an offset, until `count` bytes are there or the file ends.
    func read(upTo count: Int, at offset: UInt64) throws -> [UInt8] {
        var failure: Int32 = 0
        let bytes = [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
            while filled < count {
                let rest = UnsafeMutableRawBufferPointer(
                    rebasing: UnsafeMutableRawBufferPointer(buffer)[filled...]
                )
                let result = pread(descriptor, rest.baseAddress, rest.count, off_t(offset) + off_t(filled))
                if result < 0 && errno == EINTR { continue }
                if result < 0 { failure = errno }
                if result <= 0 { return }
                filled += result
            }
        }
        if failure != 0 { throw systemError(.fileUnreadable, name, failure) }
        return bytes
    }

    func write(_ bytes: ArraySlice<UInt8>) throws { try Self.writeAll(bytes, to: descriptor, named: name) }

    static func writeAll(_ bytes: ArraySlice<UInt8>, to descriptor: Int32, named name: String) throws {
        try bytes.withUnsafeBytes { buffer in
            var written = 0
            while written < buffer.count {
                let result = Glibc.write(
                    descriptor,
                    buffer.baseAddress?.advanced(by: written),
                    buffer.count - written
                )
                if result >= 0 {
                    written += result
                } else if errno == EAGAIN {
                    var wanted = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
                    poll(&wanted, 1, 200)
                } else if errno != EINTR {
                    throw errno == EPIPE
                        ? CommandError(.brokenPipe, "The reader of \(name) went away.")
                        : systemError(.fileUnwritable, name, errno)
                }
            }
        }
    }

    /// The next write begins at the file's start.
    func rewind() throws {
        guard lseek(descriptor, 0, SEEK_SET) == 0 else { throw systemError(.fileUnwritable, name, errno) }
    }

    func truncate(to size: UInt64) throws {
        guard ftruncate(descriptor, off_t(size)) == 0, lseek(descriptor, off_t(size), SEEK_SET) >= 0 else {
            throw systemError(.fileUnwritable, name, errno)
        }
    }

    func synchronize() throws {
        guard fsync(descriptor) == 0 else { throw systemError(.localInputOutput, name, errno) }
    }

    /// Waits for data on a pipe or terminal, or for the end of it, in steps, so that a signal is noticed.
    func waitUntilReadable() -> Bool {
        while true {
            if Interruption.isRequested { return false }
            var wanted = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
            if poll(&wanted, 1, 200) != 0 { return true }
        }
    }
}

/// A command error for a failed system call, with the code that says more where errno tells more.
func systemError(_ code: CommandError.Code, _ name: String, _ number: Int32) -> CommandError {
    let reason = String(cString: strerror(number))
    switch number {
    case ENOENT: return CommandError(.fileNotFound, "\(quoted(name)): there is no such file or directory.")
    case EISDIR:
        return CommandError(.isDirectory, "\(quoted(name)) is a directory, and a file is meant here.")
    case ENOTDIR:
        return CommandError(.notADirectory, "\(quoted(name)): a part of the path is not a directory.")
    case EACCES, EPERM:
        let verb = code == .fileUnreadable ? "read" : "write"
        return CommandError(code, "\(quoted(name)): this user may not \(verb) it (\(reason)).")
    case ENOSPC, EDQUOT:
        return CommandError(
            code,
            "\(quoted(name)): no space left here.",
            advice: "Free some space and run the command again."
        )
    default: return CommandError(code, "\(quoted(name)): \(reason).")
    }
}
