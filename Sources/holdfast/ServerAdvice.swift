internal import AdminGateway
internal import StoreModel

/// What is said when a command needs a store that a server holds.
enum ServerAdvice {
    /// How a command gets what it wants while a server runs.
    enum Way: Sendable {
        /// The same command asks the server.
        case ask
        /// Another command does it there.
        case instead(String)
        /// Not at all.
        case stop
    }

    /// Names the server and what can be done, where the store's own words can only name a process.
    static func improve(_ error: StoreError, storePath: String, _ way: Way) async -> StoreError {
        guard let client = AdminSocketClient(storePath: storePath), let server = try? await client.version()
        else { return error }
        return StoreError(
            .storeInUse,
            "The store \(quoted(storePath)) is served by process \(server.processID).",
            advice: advice(server, way),
            cause: error.cause
        )
    }

    private static func advice(_ server: VersionDocument, _ way: Way) -> String {
        let stop = "stop it first: kill \(server.processID)."
        switch way {
        case .ask:
            let addresses = server.addresses.joined(separator: ", ")
            return "Ask it with --endpoint URL"
                + "\(addresses.isEmpty ? "" : " (it listens on \(addresses))"), or \(stop)"
        case .instead(let command): return "While it runs: \(command). Or \(stop)"
        case .stop:
            return "This needs the store for itself: \(stop) While it runs, all that administers works here: "
                + "status, account, key, volume, scrub, gc, du, retention, mirror, doctor."
        }
    }
}
