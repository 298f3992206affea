internal import AdminGateway
internal import StoreModel

/// What is said when a command needs a store that a server holds.
enum ServerAdvice {
    /// Names the server and what can be done, where the store's own words can only name a process.
    static func improve(_ error: StoreError, storePath: String) async -> StoreError {
        guard let client = AdminSocketClient(storePath: storePath), let server = try? await client.version()
        else { return error }
        return StoreError(
            .storeInUse,
            "The store \(quoted(storePath)) is served by process \(server.processID).",
            advice: advice(server),
            cause: error.cause
        )
    }

    static func advice(_ server: VersionDocument) -> String {
        let addresses = server.addresses.joined(separator: ", ")
        return
            "Ask it with --endpoint URL\(addresses.isEmpty ? "" : " (it listens on \(addresses))"), or stop it first: "
            + "kill \(server.processID). While it runs, all that administers works here: status, account, key, volume, scrub, gc, mirror."
    }
}
