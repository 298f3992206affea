/// The socket of a server in the directory of the store that it holds.
package enum ServerSocket {
    package static let name = "admin.sock"
}
