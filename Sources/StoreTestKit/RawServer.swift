internal import Foundation
internal import Glibc
internal import Synchronization

/// A server of bare sockets that does to each connection what a test says, a thread for each.
package final class RawServer: Sendable {
    package let port: UInt16
    private let listener: Int32
    private let acceptedCount = Mutex(0)

    package init(_ script: @escaping @Sendable (RawConnection) -> Void) throws {
        let listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var one: Int32 = 1
        setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, socklen_t(MemoryLayout<Int32>.size))
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let status = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { generic in
                guard bind(listener, generic, length) == 0, listen(listener, 512) == 0 else {
                    return Int32(-1)
                }
                return getsockname(listener, generic, &length)
            }
        }
        guard status == 0 else { throw CocoaError(.fileReadUnknown) }
        self.listener = listener
        port = UInt16(bigEndian: address.sin_port)
        Thread.detachNewThread { [self] in
            while true {
                let descriptor = accept(listener, nil, nil)
                guard descriptor >= 0 else { return }
                let index = acceptedCount.withLock { count in
                    count += 1
                    return count - 1
                }
                Thread.detachNewThread {
                    let connection = RawConnection(descriptor, index: index)
                    script(connection)
                    connection.close()
                }
            }
        }
    }

    package var connectionCount: Int { acceptedCount.withLock { $0 } }

    package func stop() { shutdown(listener, Int32(SHUT_RDWR)) }
}

package final class RawConnection: @unchecked Sendable {
    // One thread uses it: that of its script.
    package let index: Int
    private let descriptor: Int32
    private var isOpen = true
    private var buffer: [UInt8] = []

    init(_ descriptor: Int32, index: Int) {
        self.descriptor = descriptor
        self.index = index
    }

    private func fill() -> Bool {
        var bytes = [UInt8](repeating: 0, count: 65_536)
        let count = recv(descriptor, &bytes, bytes.count, 0)
        guard count > 0 else { return false }
        buffer += bytes[..<count]
        return true
    }

    /// The head of a request, or nil at the end of the connection.
    package func readHead() -> String? {
        let mark = [UInt8]("\r\n\r\n".utf8)
        while true {
            if let end = buffer.indices.first(where: { buffer[$0...].starts(with: mark) }) {
                let head = String(decoding: buffer[..<end], as: UTF8.self)
                buffer.removeFirst(end + mark.count)
                return head
            }
            guard fill() else { return nil }
        }
    }

    /// So many bytes of a body, or fewer at the end of the connection.
    package func read(_ count: Int) -> [UInt8] {
        while buffer.count < count, fill() {}
        let bytes = [UInt8](buffer.prefix(count))
        buffer.removeFirst(bytes.count)
        return bytes
    }

    /// Reads until the other side closes.
    package func drain() -> Int {
        var count = buffer.count
        buffer = []
        while fill() {
            count += buffer.count
            buffer = []
        }
        return count
    }

    /// - Returns: false when the other side is gone.
    @discardableResult
    package func write(_ text: String) -> Bool { write([UInt8](text.utf8)) }

    @discardableResult
    package func write(_ bytes: [UInt8]) -> Bool {
        var rest = bytes[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes {
                send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
            }
            guard count > 0 else { return false }
            rest = rest.dropFirst(count)
        }
        return true
    }

    /// Writes until the other side takes no more for a while.
    package func writeUntilBlocked(_ bytes: [UInt8], upTo limit: Int) -> Int {
        var total = 0
        while total < limit {
            var poller = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
            guard poll(&poller, 1, 700) > 0 else { break }
            let count = bytes.withUnsafeBytes {
                send(
                    descriptor,
                    $0.baseAddress,
                    min($0.count, limit - total),
                    Int32(MSG_NOSIGNAL | MSG_DONTWAIT)
                )
            }
            guard count > 0 else { continue }
            total += count
        }
        return total
    }

    package func answer(_ status: String = "200 OK", headers: [String] = [], body: String = "") {
        let lines = ["HTTP/1.1 \(status)", "Content-Length: \(body.utf8.count)"] + headers
        write(lines.joined(separator: "\r\n") + "\r\n\r\n" + body)
    }

    /// The next read of the other side fails.
    package func reset() {
        var linger = Glibc.linger(l_onoff: 1, l_linger: 0)
        setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &linger, socklen_t(MemoryLayout<Glibc.linger>.size))
        close()
    }

    package func close() {
        guard isOpen else { return }
        isOpen = false
        Glibc.close(descriptor)
    }
}

/// A field of a head that was read.
package func header(_ name: String, in head: String) -> String? {
    for line in head.components(separatedBy: "\r\n").dropFirst() {
        let parts = line.split(separator: ":", maxSplits: 1)
        if parts.count == 2, parts[0].lowercased() == name {
            return parts[1].trimmingCharacters(in: .whitespaces)
        }
    }
    return nil
}
