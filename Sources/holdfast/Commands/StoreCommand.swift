internal import AdminGateway
internal import ArgumentParser
internal import Foundation
internal import StoreModel

/// A command that takes the global options. It does its work in `execute`.
protocol StoreCommand: AsyncParsableCommand {
    var options: GlobalOptions { get }
    func execute(_ output: Output) async throws
}

extension StoreCommand {
    mutating func run() async throws {
        do {
            try await execute(Output(isJSON: options.json, isQuiet: options.quiet))
        } catch let error as StoreError where error.code == .storeInUse {
            throw await ServerAdvice.improve(error, storePath: options.storePath)
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

    /// Opens the store, runs `body`, closes the store.
    func withSession<Value>(_ body: (StoreSession) async throws -> Value) async throws -> Value {
        try await withSession(options.location, body)
    }

    private func withSession<Value>(
        _ location: StoreLocation,
        _ body: (StoreSession) async throws -> Value
    ) async throws -> Value {
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
    var versionName: String { isNull ? "null" : id.description }
}
