internal import CPosix
internal import Glibc
internal import StoreModel

/// A file of a benchmark, by raw calls and nothing in between. Without a name from the start: nothing is left
/// behind, however the benchmark ends.
final class ScratchFile: Sendable {
    private let descriptor: Int32
    private let directory: String
    /// What direct writes write, which must stand at a block's border.
    private let block: Block?

    /// `@unchecked Sendable` holds because the memory is written once, before anybody else sees it.
    private final class Block: @unchecked Sendable {
        let bytes: UnsafeRawBufferPointer

        init(_ content: [UInt8]) {
            let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: content.count, alignment: 4096)
            bytes.copyBytes(from: content)
            self.bytes = UnsafeRawBufferPointer(bytes)
        }

        deinit { bytes.deallocate() }
    }

    /// Whether files here can be written past the page cache.
    static func takesDirectWrites(in directories: [String]) -> Bool {
        let content = [UInt8](repeating: 0, count: 4096)
        return directories.allSatisfy { directory in
            guard let file = try? ScratchFile(directory: directory, isDirect: true, content: content) else {
                return false
            }
            return (try? file.writeBlock(at: 0)) != nil
        }
    }

    /// - Parameters:
    ///   - isDirect: past the page cache, block by block.
    ///   - content: one block for direct writes.
    init(directory: String, isDirect: Bool = false, content: [UInt8] = []) throws(StoreError) {
        self.directory = directory
        block = isDirect ? Block(content) : nil
        // O_TMPFILE, where the file system has it; otherwise a name that is removed at once.
        var descriptor = open(directory, O_RDWR | O_CLOEXEC | Self.temporaryFileFlag, 0o600)
        if descriptor < 0 {
            let path = "\(directory)/.holdfast-bench-\(getpid())-\(UInt32.random(in: 0 ... .max))"
            descriptor = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
            if descriptor >= 0 { unlink(path) }
        }
        guard descriptor >= 0 else { throw Self.failure("open", directory) }
        if isDirect {
            let direct = holdfast_reopen_direct(descriptor)
            let failure = Self.failure("open", directory)
            close(descriptor)
            guard direct >= 0 else { throw failure }
            descriptor = direct
        }
        self.descriptor = descriptor
    }

    deinit { close(descriptor) }

    /// Writes zeros to the whole of the file and syncs: later writes change no metadata.
    func preallocate(byteCount: Int) throws(StoreError) {
        let zeros = [UInt8](repeating: 0, count: min(max(byteCount, 1), 1 << 20))
        var offset = 0
        while offset < byteCount {
            let length = min(zeros.count, byteCount - offset)
            try write(zeros, count: length, at: offset)
            offset += length
        }
        try sync()
    }

    /// Writes the first `count` bytes of `content`.
    func write(_ content: [UInt8], count: Int, at offset: Int) throws(StoreError) {
        precondition(count <= content.count, "The bytes to write are there.")
        var written = 0
        while written < count {
            let result = content.withUnsafeBytes { bytes in
                let rest = bytes.baseAddress?.advanced(by: written)
                return pwrite(descriptor, rest, count - written, off_t(offset + written))
            }
            if result < 0 && errno == EINTR { continue }
            guard result > 0 else { throw Self.failure("pwrite", directory) }
            written += result
        }
    }

    /// Writes the whole block of a file for direct writes.
    func writeBlock(at offset: Int) throws(StoreError) {
        guard let bytes = block?.bytes else { preconditionFailure("A file for direct writes has a block.") }
        var count = 0
        repeat {
            count = pwrite(descriptor, bytes.baseAddress, bytes.count, off_t(offset))
        } while count < 0 && errno == EINTR
        guard count == bytes.count else { throw Self.failure("pwrite", directory) }
    }

    func startWriteback(offset: Int, byteCount: Int) throws(StoreError) {
        guard holdfast_start_writeback(descriptor, off_t(offset), off_t(byteCount)) == 0 else {
            throw Self.failure("sync_file_range", directory)
        }
    }

    func sync() throws(StoreError) {
        guard fdatasync(descriptor) == 0 else { throw Self.failure("fdatasync", directory) }
    }

    /// The value of O_TMPFILE on x86-64 and arm64 alike but for O_DIRECTORY, which the module knows.
    private static let temporaryFileFlag: Int32 = 0o20000000 | O_DIRECTORY

    private static func failure(_ call: String, _ directory: String) -> StoreError {
        let number = errno
        return StoreError(
            number == ENOSPC ? .storeFull : .inputOutput,
            "\(call) in \(directory): \(String(cString: strerror(number))) (errno \(number))."
        )
    }
}
