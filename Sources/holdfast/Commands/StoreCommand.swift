internal import AdminGateway
internal import ArgumentParser
internal import Foundation
internal import StoreModel

/// A command that takes the global options. It does its work in `execute`.
protocol StoreCommand: AsyncParsableCommand {
    var options: GlobalOptions { get }
    /// What to do in place of this command while a server holds the store.
    var adviceWhileServed: ServerAdvice.Way { get }
    /// It changes nothing: it works on a store that lies on a read-only file system.
    var onlyReads: Bool { get }
    func execute(_ output: Output) async throws
}

/// A command that may ask a server in place of a store's directory.
protocol NetworkCommand: StoreCommand {
    var remote: EndpointOptions { get }
}

extension NetworkCommand {
    var adviceWhileServed: ServerAdvice.Way { .ask }

    /// - Throws: where a server is named and what is asked for is not to be had over the network.
    func refuseEndpoint(_ what: String) throws {
        guard let endpoint = remote.endpointText(unlessStore: options.store) else { return }
        throw CommandError(
            .usage,
            "'\(CommandPath.of(Self.self)) \(what)' works on a store's directory, not over the network "
                + "(\(quoted(endpoint))).",
            advice: "Run it on the store's machine with --store DIR."
        )
    }

    /// Opens the store, or turns to the server that `--endpoint` names, and runs `body`.
    func withSession<Value>(_ body: (any ObjectSession) async throws -> Value) async throws -> Value {
        guard let target = try remote.target(unlessStore: options.store) else {
            return try await withSession(options.location) { try await body($0) }
        }
        let session = try RemoteSession(target)
        defer { session.close() }
        return try await body(session)
    }
}

extension StoreCommand {
    var adviceWhileServed: ServerAdvice.Way { .stop }
    var onlyReads: Bool { false }

    mutating func run() async throws {
        do {
            try await execute(Output(isJSON: options.json, isQuiet: options.quiet))
        } catch let error as StoreError where error.code == .storeInUse {
            throw await ServerAdvice.improve(error, storePath: options.storePath, adviceWhileServed)
        } catch let error as StoreError where error.code == .storeNotFound && !(self is any NetworkCommand) {
            guard let endpoint = EndpointOptions.environmentEndpoint(unlessStore: nil) else { throw error }
            throw StoreError(
                error.code,
                error.message,
                advice: "'\(CommandPath.of(Self.self))' works on a store's directory, named by --store or "
                    + "HOLDFAST_STORE, and does not ask the server of HOLDFAST_ENDPOINT (\(quoted(endpoint))).",
                cause: error.cause
            )
        }
    }

    /// Runs `body` with the server that holds the store, or opens the store for it when there is none.
    func withAdministration<Value>(
        _ body: (any Administration) async throws -> Value
    ) async throws -> Value {
        let location = options.location
        let end = ContinuousClock.now + location.lockTimeout
        while true {
            if let server = AdminSocketClient(storePath: location.path) { return try await body(server) }
            do {
                let atOnce = StoreLocation(path: location.path, lockTimeout: .zero)
                return try await withSession(atOnce) { try await body($0.administration) }
            } catch let error as StoreError where error.code == .storeInUse {
                // Another command, or a server that does not listen yet.
                guard ContinuousClock.now < end else { throw error }
                try await Task.sleep(for: .milliseconds(50))
            }
        }
    }

    /// Opens the store in its directory, runs `body`, closes the store.
    func withLocalSession<Value>(_ body: (StoreSession) async throws -> Value) async throws -> Value {
        try await withSession(options.location, body)
    }

    func withSession<Value>(
        _ location: StoreLocation,
        _ body: (StoreSession) async throws -> Value
    ) async throws -> Value {
        var location = location
        location.mayReadOnly = onlyReads
        let session = try await StoreSession.open(location)
        let value: Value
        do {
            value = try await body(session)
        } catch {
            // The first error is the one that tells.
            try? await session.close()
            throw error
        }
        try await session.close()
        let output = Output(isJSON: options.json, isQuiet: options.quiet)
        for line in session.damageMet() { output.warning(line) }
        return value
    }
}

/// How a command is called: "holdfast scrub status".
enum CommandPath {
    static func of(_ command: any ParsableCommand.Type) -> String {
        find(command, below: Holdfast.self)?.joined(separator: " ") ?? name(command)
    }

    private static func find(
        _ command: any ParsableCommand.Type,
        below parent: any ParsableCommand.Type
    ) -> [String]? {
        if command == parent { return [name(parent)] }
        for child in parent.configuration.subcommands {
            if let path = find(command, below: child) { return [name(parent)] + path }
        }
        return nil
    }

    private static func name(_ command: any ParsableCommand.Type) -> String { command._commandName }
}

/// `--version ID`: a version id as `log` shows it, or "null".
struct VersionOption: ParsableArguments {
    @Option(
        name: .customLong("version"),
        help: ArgumentHelp("A version, as 'holdfast log' shows it (default: the newest).", valueName: "id")
    )
    var text: String?

    func choice() throws -> VersionChoice {
        guard let text else { return .newest }
        if text == "null" { return .null }
        guard let id = VersionID(text) else {
            throw StoreError(
                .noSuchVersion,
                "\(quoted(text)) is not a version id: one has 26 characters out of 0-9 and a-v.",
                advice: "'holdfast log BUCKET/KEY' shows the versions."
            )
        }
        return .id(id)
    }
}

extension VersionReport {
    /// "models/tiny/weights.safetensors", safe to show.
    var address: String { HumanFormat.visible("\(bucket)/\(key)") }

    /// The version id as S3 names it.
    var versionName: String { isNull ? "null" : id == .unknown ? "unknown" : id.description }
}
