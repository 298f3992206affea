internal import CPosix
internal import Glibc
internal import Synchronization

/// A directory of the operating system's file system as a `Disk`.
///
/// Every name is resolved relative to a descriptor that is held from the start (openat and its family), so a mount
/// that appears or vanishes on the path later never redirects a write. Symbolic links are not followed.
package final class PosixDisk: Disk {
    private let directory: OwnedDescriptor
    private let directBuffer = DirectBuffer()
    package let label: String

    /// Holds the directory at `path`, which must exist.
    package init(path: String) throws(DiskError) {
        let descriptor = Glibc.open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else { throw DiskError.system("open", path) }
        directory = OwnedDescriptor(descriptor)
        label = path
    }

    package func open(_ name: String, _ mode: DiskOpenMode) throws(DiskError) -> any DiskFile {
        try openPosix(name, mode)
    }

    private func openPosix(_ name: String, _ mode: DiskOpenMode) throws(DiskError) -> PosixFile {
        let flags =
            switch mode {
            case .read: O_RDONLY
            case .update: O_RDWR
            case .create: O_RDWR | O_CREAT | O_EXCL
            }
        let descriptor = try openDescriptor(name, flags)
        return PosixFile(OwnedDescriptor(descriptor), path: path(of: name), directBuffer)
    }

    package func exists(_ name: String) throws(DiskError) -> Bool {
        check(name)
        var status = stat()
        if fstatat(directory.value, name, &status, AT_SYMLINK_NOFOLLOW) == 0 { return true }
        guard errno == ENOENT else { throw DiskError.system("fstatat", path(of: name)) }
        return false
    }

    package func list(_ directory: String) throws(DiskError) -> [String] {
        let descriptor = try openDescriptor(directory.isEmpty ? "." : directory, O_RDONLY | O_DIRECTORY)
        guard let stream = fdopendir(descriptor) else {
            let error = DiskError.system("fdopendir", path(of: directory))
            Glibc.close(descriptor)
            throw error
        }
        defer { closedir(stream) }
        var names: [String] = []
        while true {
            errno = 0
            guard let entry = readdir(stream) else { break }
            let name = withUnsafePointer(to: &entry.pointee.d_name) { pointer in
                pointer.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
            }
            if name != "." && name != ".." { names.append(name) }
        }
        guard errno == 0 else { throw DiskError.system("readdir", path(of: directory)) }
        return names
    }

    /// Files and directories are for this user alone, whatever the umask: they hold what clients need a key for.
    package func makeDirectory(_ name: String) throws(DiskError) {
        check(name)
        guard mkdirat(directory.value, name, 0o700) != 0 else { return }
        guard errno == EEXIST else { throw DiskError.system("mkdirat", path(of: name)) }
        // Something is there: it must be a directory.
        Glibc.close(try openDescriptor(name, O_RDONLY | O_DIRECTORY))
    }

    package func rename(_ source: String, to destination: String) throws(DiskError) {
        check(source)
        check(destination)
        guard renameat(directory.value, source, directory.value, destination) == 0 else {
            throw DiskError.system("renameat", path(of: destination))
        }
    }

    package func remove(_ name: String) throws(DiskError) {
        check(name)
        guard unlinkat(directory.value, name, 0) == 0 else {
            throw DiskError.system("unlinkat", path(of: name))
        }
    }

    package func syncDirectory(_ name: String) throws(DiskError) {
        let opened = OwnedDescriptor(try openDescriptor(name.isEmpty ? "." : name, O_RDONLY | O_DIRECTORY))
        guard fsync(opened.value) == 0 else { throw DiskError.system("fsync", path(of: name)) }
    }

    package func lock(_ name: String, content: [UInt8]) throws(DiskError) -> any DiskLock {
        let descriptor = try openDescriptor(name, O_RDWR | O_CREAT)
        let file = PosixFile(OwnedDescriptor(descriptor), path: path(of: name), directBuffer)
        try take(holdfast_lock, descriptor, file, name)
        try file.truncate(to: 0)
        do throws(DiskError) {
            try file.write(content, at: 0)
        } catch {
            // A full disk still has its lock; only the note of who holds it is missing.
            guard error.code == .full else { throw error }
        }
        return PosixLock(file: file, descriptor: descriptor, names: true)
    }

    /// Takes a lock that others who only read may hold as well, and that keeps out who writes. Changes nothing.
    /// - Throws: as `lock`.
    package func lockForReading(_ name: String) throws(DiskError) -> any DiskLock {
        let descriptor = try openDescriptor(name, O_RDONLY)
        let file = PosixFile(OwnedDescriptor(descriptor), path: path(of: name), directBuffer)
        try take(holdfast_lock_shared, descriptor, file, name)
        return PosixLock(file: file, descriptor: descriptor, names: false)
    }

    private func take(
        _ call: (Int32) -> Int32,
        _ descriptor: Int32,
        _ file: PosixFile,
        _ name: String
    ) throws(DiskError) {
        var attempt = 0
        while call(descriptor) != 0 {
            guard errno == EWOULDBLOCK else { throw DiskError.system("flock", path(of: name)) }
            var holder = [UInt8](repeating: 0, count: 256)
            let count =
                (try? holder.withUnsafeMutableBytes { buffer in try file.read(into: buffer, at: 0) }) ?? 0
            attempt += 1
            if count == 0 && attempt < lockAttemptCount {
                // The holder is about to write who it is, or to let go.
                usleep(lockAttemptMicroseconds)
                continue
            }
            throw DiskError(
                .locked,
                call: "flock",
                path: path(of: name),
                number: EWOULDBLOCK,
                detail: String(decoding: holder[..<count], as: UTF8.self)
            )
        }
    }

    package func space() throws(DiskError) -> DiskSpace {
        var status = statvfs()
        guard fstatvfs(directory.value, &status) == 0 else { throw DiskError.system("fstatvfs", label) }
        let unit = UInt64(status.f_frsize)
        return DiskSpace(
            freeBytes: UInt64(status.f_bavail) * unit,
            totalBytes: UInt64(status.f_blocks) * unit
        )
    }

    package func deviceID() throws(DiskError) -> UInt64 {
        var status = stat()
        guard fstat(directory.value, &status) == 0 else { throw DiskError.system("fstat", label) }
        return UInt64(status.st_dev)
    }

    package func modificationTime(of name: String) -> Int64? {
        check(name)
        var status = stat()
        guard fstatat(directory.value, name, &status, AT_SYMLINK_NOFOLLOW) == 0 else { return nil }
        return Int64(status.st_mtim.tv_sec) * 1000 + Int64(status.st_mtim.tv_nsec) / 1_000_000
    }

    private func openDescriptor(_ name: String, _ flags: Int32) throws(DiskError) -> Int32 {
        check(name)
        while true {
            let descriptor = holdfast_open_at(directory.value, name, flags, 0o600)
            if descriptor >= 0 { return descriptor }
            guard errno == EINTR else { throw DiskError.system("openat", path(of: name)) }
        }
    }

    private func path(of name: String) -> String { name.isEmpty ? label : "\(label)/\(name)" }

    private func check(_ name: String) {
        precondition(
            !name.hasPrefix("/") && !name.split(separator: "/").contains("..") && !name.utf8.contains(0),
            "A name is relative to the disk's directory and stays inside it."
        )
    }
}

/// A descriptor that is closed when the last holder lets go.
final class OwnedDescriptor: Sendable {
    let value: Int32

    init(_ value: Int32) { self.value = value }

    deinit { Glibc.close(value) }
}

private final class PosixLock: DiskLock {
    private let held: Mutex<PosixFile?>
    private let descriptor: Int32
    /// The file tells who holds it.
    private let names: Bool

    init(file: PosixFile, descriptor: Int32, names: Bool) {
        held = Mutex(file)
        self.descriptor = descriptor
        self.names = names
    }

    func release() {
        held.withLock { file in
            guard let locked = file else { return }
            if names { try? locked.truncate(to: 0) }
            _ = holdfast_unlock(descriptor)
            file = nil
        }
    }
}

private final class PosixFile: DiskFile {
    private let owned: Mutex<OwnedDescriptor?>
    private let bypass = Mutex<DirectWriter?>(nil)
    private let direct: DirectWrites
    private let directReads = DirectReads()
    private let path: String

    init(_ descriptor: OwnedDescriptor, path: String, _ directBuffer: DirectBuffer) {
        owned = Mutex(descriptor)
        direct = DirectWrites(directBuffer)
        self.path = path
    }

    /// Retained for the length of one call, so that a `close` beside it never frees the number for another file.
    private func descriptor(_ call: String) throws(DiskError) -> OwnedDescriptor {
        guard let descriptor = owned.withLock({ $0 }) else {
            throw DiskError(.inputOutput, call: call, path: path, number: EBADF, detail: "the file is closed")
        }
        return descriptor
    }

    func read(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(DiskError) -> Int {
        let opened = try descriptor("pread")
        guard let base = buffer.baseAddress else { return 0 }
        var done = 0
        while done < buffer.count {
            let position = try place(offset, plus: done, "pread")
            let count = pread(opened.value, base + done, buffer.count - done, position)
            if count == 0 { break }
            if count > 0 {
                done += count
            } else if errno != EINTR {
                throw DiskError.system("pread", path)
            }
        }
        return done
    }

    func readDirect(into buffer: UnsafeMutableRawBufferPointer, at offset: UInt64) throws(DiskError) -> Int {
        let opened = try descriptor("pread")
        let done = try directReads.read(
            into: buffer,
            at: try place(offset, plus: 0, "pread"),
            descriptor: opened.value,
            path: path
        )
        if let done { return done }
        return try read(into: buffer, at: offset)
    }

    func readDirect(
        into memory: inout ReadMemory,
        from start: Int,
        byteCount: Int,
        at offset: UInt64,
        aheadByteCount: UInt64
    ) throws(DiskError) -> Int {
        let opened = try descriptor("pread")
        let done = try directReads.read(
            into: &memory,
            from: start,
            byteCount: byteCount,
            at: try place(offset, plus: 0, "pread"),
            aheadByteCount: Int(clamping: aheadByteCount),
            descriptor: opened.value,
            path: path
        )
        if let done { return done }
        return try read(into: memory.bytes.slice(start, byteCount), at: offset)
    }

    func readCached(
        into buffer: UnsafeMutableRawBufferPointer,
        _ rest: UnsafeMutableRawBufferPointer,
        at offset: UInt64
    ) -> Int? {
        guard let opened = try? descriptor("preadv2"), let position = off_t(exactly: offset)
        else { return nil }
        let count = holdfast_read_cached(
            opened.value,
            buffer.baseAddress,
            UInt(buffer.count),
            rest.baseAddress,
            UInt(rest.count),
            position
        )
        return count > 0 ? count : nil
    }

    func write(_ pieces: [UnsafeRawBufferPointer], at offset: UInt64) throws(DiskError) {
        let opened = try descriptor("pwritev")
        if try writeDirectly(pieces, at: offset) { return }
        var vectors: [iovec] = []
        vectors.reserveCapacity(pieces.count)
        for piece in pieces where !piece.isEmpty {
            vectors.append(
                iovec(iov_base: UnsafeMutableRawPointer(mutating: piece.baseAddress), iov_len: piece.count)
            )
        }
        var next = 0
        var done = 0
        while next < vectors.count {
            let position = try place(offset, plus: done, "pwritev")
            let count = vectors.withUnsafeBufferPointer { all -> Int in
                let batch = UnsafeBufferPointer(rebasing: all[next..<min(all.count, next + vectorCountMax)])
                return pwritev(opened.value, batch.baseAddress, Int32(batch.count), position)
            }
            if count < 0 {
                guard errno == EINTR else { throw DiskError.system("pwritev", path) }
                continue
            }
            guard count > 0 else {
                throw DiskError(.inputOutput, call: "pwritev", path: path, detail: "nothing was written")
            }
            done += count
            vectors.skip(count, from: &next)
        }
    }

    func bypassCache(zeroedFrom: UInt64) {
        guard let opened = try? descriptor("open") else { return }
        bypass.withLock { $0 = DirectWriter(opened.value, zeroedFrom: zeroedFrom) }
    }

    /// - Returns: false when the write is to go through the page cache.
    private func writeDirectly(
        _ pieces: [UnsafeRawBufferPointer],
        at offset: UInt64
    ) throws(DiskError) -> Bool {
        _ = try place(offset, plus: pieces.reduce(0) { $0 + $1.count }, "pwritev")
        let outcome = bypass.withLock { direct -> Result<Bool, DirectWriter.Failure> in
            guard direct != nil else { return .success(false) }
            do throws(DirectWriter.Failure) {
                try direct?.write(pieces, at: offset)
                return .success(true)
            } catch {
                // The system does not write this file that way: it is written as others are.
                guard error.isRefused else { return .failure(error) }
                direct = nil
                return .success(false)
            }
        }
        switch outcome {
        case .success(let isWritten): return isWritten
        case .failure(let failure): throw DiskError.system(failure.call, path, number: failure.number)
        }
    }

    func writeDirect(_ pieces: [UnsafeRawBufferPointer], at offset: UInt64) throws(DiskError) {
        let opened = try descriptor("pwrite")
        let start = try place(offset, plus: 0, "pwrite")
        let done = try direct.write(pieces, at: start, descriptor: opened.value, path: path)
        var skipped = 0
        var rest: [UnsafeRawBufferPointer] = []
        for piece in pieces {
            let count = min(piece.count, done - skipped)
            skipped += count
            if count < piece.count { rest.append(UnsafeRawBufferPointer(rebasing: piece[count...])) }
        }
        if !rest.isEmpty { try write(rest, at: offset + UInt64(done)) }
    }

    func sync() throws(DiskError) {
        let opened = try descriptor("fdatasync")
        guard fdatasync(opened.value) == 0 else { throw DiskError.system("fdatasync", path) }
    }

    func startWriteback(offset: UInt64, length: UInt64) throws(DiskError) {
        let opened = try descriptor("sync_file_range")
        let start = try place(offset, plus: 0, "sync_file_range")
        guard holdfast_start_writeback(opened.value, start, off_t(clamping: length)) == 0 else {
            throw DiskError.system("sync_file_range", path)
        }
    }

    func truncate(to size: UInt64) throws(DiskError) {
        bypass.withLock { $0 = nil }
        let opened = try descriptor("ftruncate")
        let length = try place(size, plus: 0, "ftruncate")
        while ftruncate(opened.value, length) != 0 {
            guard errno == EINTR else { throw DiskError.system("ftruncate", path) }
        }
    }

    func punchHole(offset: UInt64, length: UInt64) throws(DiskError) {
        let opened = try descriptor("fallocate")
        let start = try place(offset, plus: 0, "fallocate")
        while holdfast_punch_hole(opened.value, start, off_t(clamping: length)) != 0 {
            guard errno == EINTR else { throw DiskError.system("fallocate", path) }
        }
    }

    func size() throws(DiskError) -> UInt64 { UInt64(clamping: try status().st_size) }

    func allocatedSize() throws(DiskError) -> UInt64 { UInt64(clamping: try status().st_blocks) * 512 }

    func close() {
        bypass.withLock { $0 = nil }
        direct.close()
        directReads.close()
        owned.withLock { $0 = nil }
    }

    private func status() throws(DiskError) -> stat {
        let opened = try descriptor("fstat")
        var status = stat()
        guard fstat(opened.value, &status) == 0 else { throw DiskError.system("fstat", path) }
        return status
    }

    private func place(_ offset: UInt64, plus done: Int, _ call: String) throws(DiskError) -> off_t {
        guard let position = off_t(exactly: offset), position <= off_t.max - off_t(done) else {
            throw DiskError(
                .inputOutput,
                call: call,
                path: path,
                number: EINVAL,
                detail: "offset \(offset) is too large"
            )
        }
        return position + off_t(done)
    }
}

/// How often, and after what pauses, a lock without the name of its holder is looked at again.
private let lockAttemptCount = 50
private let lockAttemptMicroseconds: UInt32 = 2000

/// What the kernel takes in one call (IOV_MAX).
private let vectorCountMax = 1024

extension DiskError {
    /// The error that errno names after a failed call.
    package static func system(_ call: String, _ path: String) -> DiskError {
        system(call, path, number: errno)
    }

    static func system(_ call: String, _ path: String, number: Int32) -> DiskError {
        let code: Code =
            switch number {
            case ENOENT: .notFound
            case EEXIST: .exists
            case ENOSPC, EDQUOT: .full
            case EROFS: .readOnly
            case EACCES, EPERM: .permission
            case EISDIR: .isDirectory
            default: .inputOutput
            }
        return DiskError(
            code,
            call: call,
            path: path,
            number: number,
            detail: String(cString: strerror(number))
        )
    }
}
