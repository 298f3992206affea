internal import CPosix
package import Encryption
internal import Foundation
internal import ObjectService
package import StoreModel
internal import Synchronization

/// `master.key` in the store's directory: the keys that open what is encrypted. MasterKeyRing.swift has the format.
///
/// 1. Only its owner may read it; a file that others may read is refused.
/// 2. It is written whole or not at all, and a key is on disk before anything is sealed with it.
/// 3. A symbolic link is followed: the file may be kept on another disk, as a mounted secret for example.
package struct MasterKeyFile: MasterKeyStorage {
    package static let fileName = "master.key"

    package let path: String

    package init(storeDirectory: String) { path = storeDirectory + "/" + Self.fileName }

    /// A copy of such a file elsewhere.
    package init(copy: String) { path = copy }

    package func load() throws(StoreError) -> MasterKeyRing? {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)
        guard descriptor >= 0 else {
            if errno == ENOENT { return nil }
            throw unusable("it can't be opened: \(String(cString: strerror(errno)))")
        }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
            throw unusable("it is not a file")
        }
        guard status.st_mode & 0o077 == 0 else {
            throw unusable("others may read it", advice: "Make it private with: chmod 600 \(path)")
        }
        var bytes = [UInt8](repeating: 0, count: MasterKeyRing.fileByteCountMax + 1)
        defer { wipe(&bytes) }
        var count = 0
        while count < bytes.count {
            let done = bytes.withUnsafeMutableBytes { buffer in
                let rest = UnsafeMutableRawBufferPointer(rebasing: buffer[count...])
                return read(descriptor, rest.baseAddress, rest.count)
            }
            if done < 0, errno == EINTR { continue }
            guard done >= 0 else { throw unusable("it can't be read: \(String(cString: strerror(errno)))") }
            if done == 0 { break }
            count += done
        }
        do throws(EncryptionError) {
            return try MasterKeyRing(text: [UInt8](bytes[..<count]))
        } catch {
            throw unusable(error.message)
        }
    }

    package func create(_ ring: MasterKeyRing) throws(StoreError) { try write(ring, mayReplace: false) }

    package func replace(_ ring: MasterKeyRing) throws(StoreError) { try write(ring, mayReplace: true) }

    /// One writer at a time: they share the temporary name. Other processes are kept away by the store's lock.
    private static let writing = Mutex(())

    private func write(_ ring: MasterKeyRing, mayReplace: Bool) throws(StoreError) {
        try Self.writing.withLock { _ throws(StoreError) in
            try writeAlone(ring, mayReplace: mayReplace)
        }
    }

    private func writeAlone(_ ring: MasterKeyRing, mayReplace: Bool) throws(StoreError) {
        // A link keeps pointing where it does: what is replaced is the file behind it.
        let target = mayReplace ? resolved() : path
        let temporary = target + ".new"
        unlink(temporary)
        let descriptor = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw unwritable("open") }
        defer { close(descriptor) }
        var bytes = ring.text()
        defer { wipe(&bytes) }
        var count = 0
        while count < bytes.count {
            let done = bytes.withUnsafeBytes { buffer in
                Glibc.write(descriptor, buffer.baseAddress?.advanced(by: count), buffer.count - count)
            }
            if done < 0, errno == EINTR { continue }
            guard done > 0 else { throw unwritable("write", removing: temporary) }
            count += done
        }
        guard fsync(descriptor) == 0 else { throw unwritable("fsync", removing: temporary) }
        if mayReplace {
            guard rename(temporary, target) == 0 else { throw unwritable("rename", removing: temporary) }
        } else {
            // Unlike rename, link never replaces.
            guard link(temporary, target) == 0 else {
                guard errno == EEXIST else { throw unwritable("link", removing: temporary) }
                unlink(temporary)
                throw StoreError(.conflict, "There is a master key in \(path) already.")
            }
            unlink(temporary)
        }
        try syncDirectory(of: target)
    }

    private func resolved() -> String {
        guard let real = realpath(path, nil) else { return path }
        defer { free(real) }
        return String(cString: real)
    }

    private func syncDirectory(of file: String) throws(StoreError) {
        let parent = file.lastIndex(of: "/").map { String(file[..<$0]) } ?? "."
        let descriptor = open(parent.isEmpty ? "/" : parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else { throw unwritable("open") }
        defer { close(descriptor) }
        guard fsync(descriptor) == 0 else { throw unwritable("fsync") }
    }

    private func unusable(_ why: String, advice: String? = nil) -> StoreError {
        StoreError(
            .masterKeyUnavailable,
            "The master key in \(path) can't be used: \(why).",
            advice: advice
                ?? "Put your copy of the file back, with mode 600. Only encrypted objects and access"
                + " keys need it."
        )
    }

    private func unwritable(_ call: String, removing temporary: String? = nil) -> StoreError {
        let reason = String(cString: strerror(errno))
        if let temporary { unlink(temporary) }
        return StoreError(
            .inputOutput,
            "The master key in \(path) can't be written: \(call): \(reason).",
            advice: "Nothing was encrypted with it."
        )
    }
}
