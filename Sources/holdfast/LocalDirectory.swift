internal import Foundation
internal import StoreModel

/// An open directory: all names below are looked up relative to its descriptor, one component at a time and
/// never through a symbolic link, so that nothing that happens to the path meanwhile leads elsewhere.
final class LocalDirectory: Sendable {
    /// As it is shown to people.
    let path: String
    private let descriptor: Int32

    private init(adopting descriptor: Int32, path: String) {
        self.descriptor = descriptor
        self.path = path
    }

    deinit { close(descriptor) }

    /// Opens a directory that the user named; symbolic links on the way are the user's own.
    static func open(_ path: String) throws -> LocalDirectory {
        let descriptor = Glibc.open(path.isEmpty ? "." : path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else { throw systemError(.fileUnreadable, path, errno) }
        return LocalDirectory(adopting: descriptor, path: path.isEmpty ? "." : path)
    }

    /// Opens a directory that the user named, and makes it and its parents when they are missing.
    /// - Parameter mode: of those that are made, but for the umask.
    static func openCreating(_ path: String, mode: mode_t = 0o777) throws -> LocalDirectory {
        var made = path.hasPrefix("/") ? "/" : ""
        for component in path.split(separator: "/") {
            made += component
            guard mkdir(made, mode) == 0 || errno == EEXIST || errno == EISDIR else {
                throw systemError(.fileUnwritable, made, errno)
            }
            made += "/"
        }
        return try open(path)
    }

    /// Opens a directory in this one.
    func directory(_ name: String, creating: Bool) throws -> LocalDirectory {
        let shown = "\(path)/\(name)"
        if creating, mkdirat(descriptor, name, 0o777) != 0, errno != EEXIST {
            throw systemError(.fileUnwritable, shown, errno)
        }
        let opened = openat(descriptor, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
        if opened < 0 && (errno == ELOOP || (errno == ENOTDIR && isLink(name))) {
            throw CommandError(
                .notADirectory,
                "\(quoted(shown)) is a symbolic link, and links are not followed here."
            )
        }
        guard opened >= 0 else { throw systemError(.fileUnwritable, shown, errno) }
        return LocalDirectory(adopting: opened, path: shown)
    }

    /// Opens a file in this directory, or makes it.
    /// - Parameter mode: when it is made, but for the umask.
    func file(_ name: String, flags: Int32, mode: mode_t = 0o666) throws -> LocalFile {
        let opened = openat(descriptor, name, flags | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, mode)
        let shown = path == "." ? name : "\(path)/\(name)"
        guard opened >= 0 else { throw systemError(.fileUnwritable, shown, errno) }
        let file = LocalFile(adopting: opened, name: shown)
        switch try file.facts().kind {
        case .regular: return file
        case .directory:
            throw CommandError(.isDirectory, "\(quoted(shown)) is a directory, and a file is meant here.")
        default: throw CommandError(.notARegularFile, "\(quoted(shown)) is not a regular file.")
        }
    }

    /// What stands under a name, itself and not what it links to; nil when nothing does.
    func facts(of name: String) throws -> LocalFile.Facts? {
        var status = stat()
        if fstatat(descriptor, name, &status, AT_SYMLINK_NOFOLLOW) == 0 { return LocalFile.Facts(status) }
        if errno == ENOENT { return nil }
        throw systemError(.fileUnreadable, "\(path)/\(name)", errno)
    }

    /// Whether the name stands for this open file.
    func isNamed(_ file: LocalFile, _ name: String) throws -> Bool {
        var (named, opened) = (stat(), stat())
        guard fstat(file.descriptor, &opened) == 0 else { throw systemError(.fileUnreadable, name, errno) }
        guard fstatat(descriptor, name, &named, AT_SYMLINK_NOFOLLOW) == 0 else { return false }
        return named.st_dev == opened.st_dev && named.st_ino == opened.st_ino
    }

    func isLink(_ name: String) -> Bool {
        var status = stat()
        return fstatat(descriptor, name, &status, AT_SYMLINK_NOFOLLOW) == 0
            && status.st_mode & S_IFMT == S_IFLNK
    }

    func rename(_ old: String, to new: String) throws {
        guard renameat(descriptor, old, descriptor, new) == 0 else {
            throw systemError(.fileUnwritable, "\(path)/\(new)", errno)
        }
    }

    /// Removes a file; one that is not there is fine.
    func remove(_ name: String) { unlinkat(descriptor, name, 0) }

    func synchronize() throws {
        // Some file systems can't sync a directory and say so; there is nothing better to do then.
        guard fsync(descriptor) == 0 || errno == EINVAL else {
            throw systemError(.localInputOutput, path, errno)
        }
    }
}

extension LocalDirectory {
    /// Paths of which several are on one device, grouped by it. What can't be looked at is left out.
    static func sharingDevices(_ paths: [String]) -> [[String]] {
        var groups: [(device: dev_t, paths: [String])] = []
        for path in paths {
            var status = stat()
            guard stat(path, &status) == 0 else { continue }
            if let index = groups.firstIndex(where: { $0.device == status.st_dev }) {
                groups[index].paths.append(path)
            } else {
                groups.append((status.st_dev, [path]))
            }
        }
        return groups.map(\.paths).filter { $0.count > 1 }
    }
}
