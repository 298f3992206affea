internal import ArgumentParser
internal import Foundation
internal import HoldfastNode
internal import Logging
internal import ObjectService
internal import S3Client
internal import S3Gateway
internal import StoreModel

struct Serve: StoreCommand {
    static let configuration = CommandConfiguration(
        abstract: "Serve the store as an S3-compatible service.",
        discussion: """
            Makes the store when there is none, listens, and prints one line when it is ready (with --json one \
            JSON document on a line, with the key when one was made). SIGTERM and \
            SIGINT let requests in flight end; a second one ends the process at once. SIGHUP reads the \
            certificate again.

              holdfast serve --listen 127.0.0.1:9000 --operations 127.0.0.1:9001
              holdfast --store /srv/models serve --config /etc/holdfast.yaml
              holdfast serve --listen :443 --tls-certificate chain.pem --tls-key key.pem

            The root key comes from HOLDFAST_ROOT_ACCESS_KEY and HOLDFAST_ROOT_SECRET_KEY, else from the \
            configuration file. Without one, and without a stored one, a random key is made, stored and \
            shown once. Options win over the file, and the environment over the file.

            The operations face answers /livez, /readyz, /readyz/read and /metrics, and the admin API below \
            /admin/v1 to requests that are signed with a root key. 'holdfast status', 'account' and 'key' ask \
            the server through the socket admin.sock in the store's directory. Log lines are JSON on standard \
            error; those of the part "audit" tell who changed accounts and keys.

            Exit codes: 0 stopped cleanly, 2 wrong options or configuration, 5 not enough replicas, 6 damaged, \
            7 another process holds the store, 11 a file can't be read, 13 an address can't be listened on.
            """
    )

    @Option(
        name: .long,
        help: ArgumentHelp(
            "Where the S3 API listens; repeatable (default: 127.0.0.1:9000).",
            valueName: "host:port"
        )
    )
    var listen: [String] = []

    @Option(
        name: .long,
        help: ArgumentHelp("Where health and metrics are (default: nowhere).", valueName: "host:port")
    )
    var operations: String?

    @Option(
        name: .long,
        help: ArgumentHelp("A YAML file with the settings.", valueName: "file"),
        completion: .file()
    )
    var config: String?

    @Option(name: .long, help: ArgumentHelp("The region that requests are signed for.", valueName: "name"))
    var region: String?

    @Option(
        name: .customLong("domain"),
        help: ArgumentHelp(
            "A host name below which buckets have names of their own; repeatable.",
            valueName: "name"
        )
    )
    var domains: [String] = []

    @Option(
        name: .long,
        help: ArgumentHelp("PEM file: the certificate and its chain.", valueName: "file"),
        completion: .file()
    )
    var tlsCertificate: String?

    @Option(
        name: .long,
        help: ArgumentHelp("PEM file: the certificate's key.", valueName: "file"),
        completion: .file()
    )
    var tlsKey: String?

    @Option(
        name: .long,
        help: ArgumentHelp("A JSON line for each request goes here; - is standard output.", valueName: "file")
    )
    var accessLog: String?

    @Option(
        name: .long,
        help: ArgumentHelp(
            "How long a day of lifecycle rules is; for tests (default: 86400).",
            valueName: "seconds"
        )
    )
    var lifecycleDay: Double?

    @Option(
        name: .long,
        help: ArgumentHelp(
            "How often the access logs of buckets are delivered (default: 300).",
            valueName: "seconds"
        )
    )
    var accessLogInterval: Double?

    @OptionGroup(title: "Everywhere") var options: GlobalOptions

    func execute(_ output: Output) async throws {
        let file = try config.map { try ServerConfigurationFile.read($0) }
        let configuration = try configuration(file)
        var path = options.storePath
        if options.store == nil, let store = file?.store { path = store }
        let location = StoreLocation(path: path, lockTimeout: options.location.lockTimeout)
        if let log = configuration.accessLogPath, log != "-" { try LocalFile.checkAppendable(log) }
        let logger = ServerAssembly.standardErrorLogger(level: configuration.logLevel)
        try await createIfAbsent(location, configuration, output)
        let store = try await StoreAssembly.openStore(location, configuration.volume, logger: logger)
        do {
            try await serve(store, configuration, logger, output)
        } catch {
            _ = try? await store.close()
            throw error
        }
        try await store.close()
        output.remark("Stopped.")
    }

    private func createIfAbsent(
        _ location: StoreLocation,
        _ configuration: ServerConfiguration,
        _ output: Output
    ) async throws {
        guard !FileManager.default.fileExists(atPath: location.path + "/" + StoreConfiguration.fileName)
        else {
            return
        }
        // A store's directory whose store.json is lost is no place for a new store.
        for name in ["catalog", MasterKeyFile.fileName, StoreConfiguration.fileName + ".damaged"]
        where FileManager.default.fileExists(atPath: location.path + "/" + name) {
            throw StoreError(
                .storeDamaged,
                "\(location.path) has \(name) but no \(StoreConfiguration.fileName): it was a store's directory.",
                advice: "Make it again from the volumes: holdfast init --recover, with --volume for each."
            )
        }
        for address in configuration.addresses + [configuration.operationsAddress].compactMap({ $0 }) {
            try AddressCheck.run(address)
        }
        let report = try await StoreAssembly.create(
            at: location,
            volumes: [],
            replicas: nil,
            writeQuorum: nil
        )
        output.remark("Made a store in \(HumanFormat.visible(report.store)).")
    }

    private func serve(
        _ store: LocalStore,
        _ configuration: ServerConfiguration,
        _ logger: Logger,
        _ output: Output
    ) async throws {
        let assembly: ServerAssembly
        assembly = try await ServerAssembly.make(store, configuration, logger: logger) { ready in
            Self.announce(ready, output)
        }
        let stops = Interruption.gentleStops()
        let hangups = Interruption.hangups()
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask {
                for await _ in stops { await assembly.stop() }
            }
            group.addTask {
                for await _ in hangups { assembly.reload() }
            }
            do {
                try await assembly.run()
            } catch let error as StoreError {
                throw error
            } catch {
                throw StoreError(
                    .inputOutput,
                    "The server can't go on: \(error).",
                    advice: "Is the address free, and allowed?"
                )
            }
            group.cancelAll()
        }
    }

    private static func announce(_ ready: ServerAssembly.Ready, _ output: Output) {
        if output.isJSON {
            let report = ServingReport(
                addresses: ready.addresses.map(\.description),
                operations: ready.operationsAddress?.description,
                rootAccessKey: ready.newRootCredential.map { "\($0.id)" },
                rootSecretKey: ready.newRootCredential.map { "\($0.secret.reveal())" }
            )
            if let text = try? JSONOutput.element(report) { try? output.line(text) }
            return
        }
        if let root = ready.newRootCredential {
            output.notice("Root access key: \(root.id)")
            output.notice("Root secret key: \(root.secret.reveal())")
            output.notice("They are shown this once. 'holdfast key' manages keys.")
        }
        let addresses = ready.addresses.map(\.description).joined(separator: ", ")
        let operations = ready.operationsAddress.map { ", operations on \($0)" } ?? ""
        try? output.line("Ready: S3 on \(addresses)\(operations)")
    }

    // MARK: Configuration

    private func configuration(_ file: ServerConfigurationFile?) throws -> ServerConfiguration {
        var configuration = try file?.configuration() ?? ServerConfiguration()
        if !listen.isEmpty { configuration.addresses = try listen.map { try Self.address($0, "--listen") } }
        if let operations { configuration.operationsAddress = try Self.address(operations, "--operations") }
        if let region {
            configuration.service.region = region
        }
        guard S3Endpoint.isRegion(configuration.service.region) else {
            throw CommandError(
                .usage,
                "The region \(quoted(configuration.service.region)) is no name of one: give letters, digits and hyphens."
            )
        }
        if !domains.isEmpty { configuration.service.domains = domains }
        if let lifecycleDay {
            guard (0.001...86_400).contains(lifecycleDay) else {
                throw CommandError(.usage, "--lifecycle-day \(lifecycleDay): give 0.001 to 86400 seconds.")
            }
            configuration.lifecycle = .init(dayLength: .seconds(lifecycleDay))
        }
        if let accessLogInterval {
            guard (0.1...86_400).contains(accessLogInterval) else {
                throw CommandError(
                    .usage,
                    "--access-log-interval \(accessLogInterval): give 0.1 to 86400 seconds."
                )
            }
            configuration.bucketLogs.interval = .seconds(accessLogInterval)
        }
        if let accessLog { configuration.accessLogPath = accessLog }
        switch (tlsCertificate, tlsKey) {
        case (nil, nil): break
        case (let certificate?, let key?):
            configuration.tls = .init(certificatePath: certificate, keyPath: key)
        default: throw CommandError(.usage, "--tls-certificate and --tls-key belong together.")
        }
        if let root = try Self.rootCredential(ProcessInfo.processInfo.environment) {
            configuration.rootCredential = root
        }
        try Self.refuseWellKnownSecret(configuration)
        configuration.programVersion = Version.number
        return configuration
    }

    static func address(_ text: String, _ option: String) throws -> ListenAddress {
        guard let address = ListenAddress(text) else {
            throw CommandError(
                .usage,
                "\(option) \(quoted(text)): give HOST:PORT, [V6]:PORT or unix:PATH."
            )
        }
        return address
    }

    private static func rootCredential(_ environment: [String: String]) throws -> AccessCredential? {
        let accessKey = environment["HOLDFAST_ROOT_ACCESS_KEY"].flatMap { $0.isEmpty ? nil : $0 }
        let secret = environment["HOLDFAST_ROOT_SECRET_KEY"].flatMap { $0.isEmpty ? nil : $0 }
        guard accessKey != nil || secret != nil else { return nil }
        return try credential(accessKey, secret, "HOLDFAST_ROOT_ACCESS_KEY and HOLDFAST_ROOT_SECRET_KEY")
    }

    static func credential(_ accessKey: String?, _ secret: String?, _ source: String) throws
        -> AccessCredential
    {
        guard let id = accessKey.flatMap({ AccessKeyID($0) }),
            let secret = secret.flatMap({ AccessSecret($0) })
        else {
            throw CommandError(
                .usage,
                "\(source): the access key has 3 to 128 letters, digits, dots, hyphens or underscores, "
                    + "the secret 8 to 128 printable characters."
            )
        }
        return AccessCredential(id: id, secret: secret)
    }

    /// A secret that anyone tries first must not be reachable by others.
    private static func refuseWellKnownSecret(_ configuration: ServerConfiguration) throws {
        guard let root = configuration.rootCredential, root.secret.isWellKnown else { return }
        let isLocal = configuration.addresses.allSatisfy { address in
            switch address {
            case .unix: true
            case .network(let host, _): host.hasPrefix("127.") || host == "localhost" || host == "::1"
            }
        }
        guard isLocal else {
            throw CommandError(.usage, "The root secret is one that everybody knows; choose another one.")
        }
    }
}
