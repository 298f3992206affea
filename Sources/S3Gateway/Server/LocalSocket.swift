internal import Glibc
internal import NIOCore

/// A socket in a directory, for clients of the same machine and user.
///
/// 1. The socket is private from the moment when it has a name: its mode is set before it is bound.
/// 2. A path may be longer than a socket's address has room for (108 bytes): the directory is then reached through its
///    descriptor. https://man7.org/linux/man-pages/man7/unix.7.html
/// 3. What the mode lets in is not enough: the kernel tells the user of each client, and others are refused.
package struct LocalSocket: Sendable {
    package let path: String
    /// Bound, not yet listening; whoever serves it closes it.
    let descriptor: CInt
    /// Users that are served.
    let userIDs: Set<UInt32>
    private let identity: FileIdentity

    private struct FileIdentity: Hashable {
        let device: UInt64
        let inode: UInt64
    }

    /// What a system call said.
    package struct Failure: Error, CustomStringConvertible {
        package let call: String
        package let errorNumber: CInt

        init(_ call: String) {
            self.call = call
            errorNumber = errno
        }

        package var description: String { "\(call): \(String(cString: strerror(errorNumber)))" }
    }

    /// Makes a socket that only this process's user and root may use. One that a dead process left is replaced: the
    /// caller makes sure that no living one has it.
    package init(directory: String, name: String) throws(Failure) {
        path = directory + "/" + name
        var status = stat()
        if lstat(path, &status) == 0, status.st_mode & S_IFMT == S_IFSOCK {
            guard unlink(path) == 0 else { throw Failure("unlink") }
        }
        let descriptor = Glibc.socket(AF_UNIX, Self.streamType, 0)
        guard descriptor >= 0 else { throw Failure("socket") }
        do throws(Failure) {
            guard fchmod(descriptor, 0o600) == 0 else { throw Failure("fchmod") }
            try Self.withAddress(directory, name) { address, length throws(Failure) in
                guard bind(descriptor, address, length) == 0 else { throw Failure("bind") }
            }
            guard lstat(path, &status) == 0 else { throw Failure("lstat") }
        } catch {
            close(descriptor)
            throw error
        }
        self.descriptor = descriptor
        userIDs = [geteuid(), 0]
        identity = FileIdentity(device: UInt64(status.st_dev), inode: UInt64(status.st_ino))
    }

    /// Takes the socket's name away, unless it is another socket's by now.
    package func remove() {
        var status = stat()
        guard lstat(path, &status) == 0,
            identity == FileIdentity(device: UInt64(status.st_dev), inode: UInt64(status.st_ino))
        else { return }
        unlink(path)
    }

    /// Connects to a socket that another process listens on.
    /// - Returns: a descriptor, which does not block; the caller closes it.
    package static func connect(directory: String, name: String) throws(Failure) -> CInt {
        let descriptor = Glibc.socket(AF_UNIX, streamType, 0)
        guard descriptor >= 0 else { throw Failure("socket") }
        do throws(Failure) {
            try withAddress(directory, name) { address, length throws(Failure) in
                guard Glibc.connect(descriptor, address, length) == 0 else { throw Failure("connect") }
            }
        } catch {
            close(descriptor)
            throw error
        }
        return descriptor
    }

    private static let streamType =
        CInt(SOCK_STREAM.rawValue) | CInt(SOCK_CLOEXEC.rawValue)
        | CInt(SOCK_NONBLOCK.rawValue)

    private static func withAddress(
        _ directory: String,
        _ name: String,
        _ body: (UnsafePointer<sockaddr>, socklen_t) throws(Failure) -> Void
    ) throws(Failure) {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let capacity = MemoryLayout.size(ofValue: address.sun_path)
        var bytes = [UInt8]("\(directory)/\(name)".utf8)
        var folder: CInt = -1
        defer { if folder >= 0 { close(folder) } }
        // One byte is for the end of the text.
        if bytes.count >= capacity {
            folder = open(directory, O_DIRECTORY | O_CLOEXEC)
            guard folder >= 0 else { throw Failure("open") }
            bytes = [UInt8]("/proc/self/fd/\(folder)/\(name)".utf8)
        }
        guard bytes.count < capacity else {
            errno = ENAMETOOLONG
            throw Failure("bind")
        }
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
        var failure: Failure?
        withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { pointer in
                do throws(Failure) {
                    try body(pointer, socklen_t(MemoryLayout<sockaddr_un>.size))
                } catch {
                    failure = error
                }
            }
        }
        if let failure { throw failure }
    }
}

/// The other end of a local socket, as the kernel knows it: the fields of `struct ucred`, in its order.
struct PeerCredentials: Sendable {
    var processID: Int32 = 0
    var userID: UInt32 = 0
    var groupID: UInt32 = 0

    /// How it stands in logs.
    var description: String { "uid=\(userID) pid=\(processID)" }

    static func ask(_ channel: any Channel) -> EventLoopFuture<PeerCredentials> {
        guard let provider = channel as? any SocketOptionProvider else {
            return channel.eventLoop.makeFailedFuture(ChannelError.operationUnsupported)
        }
        return provider.unsafeGetSocketOption(
            level: NIOBSDSocket.OptionLevel.socket,
            name: NIOBSDSocket.Option(rawValue: SO_PEERCRED)
        )
    }
}
