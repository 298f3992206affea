internal import Foundation
package import S3Gateway
internal import StoreModel

/// Whether a server could listen on an address now: asked before a store is made for it.
package enum AddressCheck {
    /// - Throws: `StoreError` with `.inputOutput` and the reason. Nil of a socket in a file: the server judges that.
    package static func run(_ address: ListenAddress) throws {
        guard case .network(let host, let port) = address else { return }
        var hints = addrinfo()
        hints.ai_flags = AI_PASSIVE
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        var found: UnsafeMutablePointer<addrinfo>?
        let answer = getaddrinfo(host, String(port), &hints, &found)
        guard answer == 0, let first = found else {
            throw refusal(address, String(cString: gai_strerror(answer)))
        }
        defer { freeaddrinfo(found) }
        let descriptor = socket(first.pointee.ai_family, Int32(SOCK_STREAM.rawValue), 0)
        guard descriptor >= 0 else { throw refusal(address, String(cString: strerror(errno))) }
        defer { close(descriptor) }
        var yes: Int32 = 1
        setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &yes, socklen_t(MemoryLayout<Int32>.size))
        // Two may bind with that option set; only one may listen.
        guard bind(descriptor, first.pointee.ai_addr, first.pointee.ai_addrlen) == 0,
            listen(descriptor, 1) == 0
        else { throw refusal(address, String(cString: strerror(errno))) }
    }

    private static func refusal(_ address: ListenAddress, _ reason: String) -> StoreError {
        StoreError(
            .inputOutput,
            "The server can't listen on \(address): \(reason).",
            advice: "Is the address free, and allowed? No store was made."
        )
    }
}
