internal import AdminGateway
internal import Foundation
package import Logging
internal import Mirroring
package import ObjectService
internal import Observability
package import S3Gateway
internal import S3Protocol
internal import ServiceLifecycle
internal import StoreModel

/// A store and the servers in front of it: the one place where they are put together.
package final class ServerAssembly: Sendable {
    /// What the servers say when they are ready.
    package struct Ready: Sendable {
        package let addresses: [ListenAddress]
        package let operationsAddress: ListenAddress?
        /// A root key that was made because none was configured or stored: shown once.
        package let newRootCredential: AccessCredential?
    }

    private let store: LocalStore
    private let configuration: ServerConfiguration
    private let logger: Logger
    private let certificate: TLSCertificate?
    private let admin: AdminAssembly
    private let group: ServiceGroup

    /// - Throws: `StoreError` with `.invalidArgument` for a certificate that can't be used, `.inputOutput` for an access
    ///   log that can't be opened, and what establishing the root account throws.
    package static func make(
        _ store: LocalStore,
        _ configuration: ServerConfiguration,
        logger: Logger,
        onReady: @escaping @Sendable (Ready) -> Void
    ) async throws -> ServerAssembly {
        let directory = AccountDirectory(store.objects)
        let newRoot = try await directory.establishRoot(configuration.rootCredential)
        try await store.declare(configuration.mirrors, logger)
        return try ServerAssembly(store, directory, newRoot, configuration, logger, onReady)
    }

    private init(
        _ store: LocalStore,
        _ directory: AccountDirectory,
        _ newRoot: AccessCredential?,
        _ configuration: ServerConfiguration,
        _ logger: Logger,
        _ onReady: @escaping @Sendable (Ready) -> Void
    ) throws {
        self.store = store
        self.configuration = configuration
        self.logger = logger
        certificate = try Self.certificate(configuration.tls)
        let registry = MetricsRegistry()
        let drain = DrainFlag()
        let health = StoreHealth(store.objects, drain: drain)
        registry.collect { await health.samples() }
        registry.collect { ProcessSamples.samples() }
        let volumeCare = store.volumeCare
        registry.collect { await volumeCare.samples() }
        let accessLog = try Self.accessLog(configuration.accessLogPath)
        let credentials = AccountCredentials(directory)
        let bucketLogs = BucketLogs(
            store.objects,
            configuration: configuration.bucketLogs,
            logger: logger
        )
        registry.collect { bucketLogs.samples() }
        let service = S3Service(
            store.objects,
            credentials: credentials,
            configuration: configuration.service,
            metrics: ServiceMetrics(registry),
            accessLog: accessLog,
            bucketLogs: bucketLogs,
            logger: logger,
            audit: AdminAssembly.auditLogger()
        )
        let addresses = ReadyAddresses(
            newRoot,
            hasOperations: configuration.operationsAddress != nil,
            onReady
        )
        var server = S3Server.Configuration(addresses: configuration.addresses, limits: configuration.limits)
        server.certificate = certificate
        let s3 = S3Server(
            server,
            responder: service,
            logger: logger,
            onReady: {
                drain.listen()
                addresses.serve($0)
            },
            onDrain: { drain.raise() }
        )
        registry.collect {
            [
                MetricSample(
                    "holdfast_connections",
                    help: "Open client connections.",
                    value: Double(s3.connectionCount)
                )
            ]
        }
        admin = AdminAssembly(store, credentials, configuration, addresses, logger)
        var services: [any Service] = []
        let lifecycle = LifecycleWorker(
            store.objects,
            configuration: configuration.lifecycle,
            logger: logger
        )
        registry.collect { lifecycle.samples() }
        registry.collect { await store.mirrors.samples() }
        registry.collect { await store.mirrorAudits.samples() }
        let scrubs = ScrubService(store, configuration.scrub)
        registry.collect { await scrubs.samples() }
        let digests = DigestService(store: store)
        registry.collect { await digests.samples() }
        services += [
            lifecycle, bucketLogs, scrubs, digests,
            MirrorRunner(mirrors: store.mirrors, accounts: store.accounts, audits: store.mirrorAudits),
        ]
        store.garbage.options = configuration.garbage.options
        let garbage = store.garbage
        registry.collect { garbage.samples() }
        let retention = RetentionService(store.objects, schedule: configuration.retention, logger: logger)
        registry.collect { retention.samples() }
        services.append(retention)
        services.append(GarbageService(schedule: configuration.garbage, runner: garbage, logger: logger))
        if let accessLog { services.append(LogFlusher(sink: accessLog)) }
        if let address = configuration.operationsAddress {
            services.append(
                Self.operations(at: address, health, registry, admin.responder, logger, addresses)
            )
        }
        if let server = admin.server { services.append(server) }
        // Stopped in reverse: the operations face tells until the end that the process is not ready.
        services.append(s3)
        group = ServiceGroup(services: services, logger: logger)
    }

    /// Serves until `stop()`; then requests in flight end, within bounds.
    package func run() async throws {
        defer { admin.end() }
        try await group.run()
    }

    package func stop() async { await group.triggerGracefulShutdown() }

    /// Reads the certificate again. On failure the old one stays in use.
    package func reload() {
        guard let certificate else { return }
        do {
            try certificate.reload()
            logger.info("The certificate was read again.")
        } catch {
            logger.error("The certificate can't be read; the old one stays.", metadata: ["error": "\(error)"])
        }
    }

    private static func operations(
        at address: ListenAddress,
        _ health: StoreHealth,
        _ registry: MetricsRegistry,
        _ admin: AdminResponder,
        _ logger: Logger,
        _ addresses: ReadyAddresses
    ) -> S3Server {
        var limits = ServerLimits.standard
        limits.connectionCountMax = 256
        limits.drainLead = .zero
        limits.drainDeadline = .seconds(2)
        var configuration = S3Server.Configuration(addresses: [address], limits: limits)
        configuration.loopCount = 1
        return S3Server(
            configuration,
            responder: OperationsResponder(health: health, metrics: registry, next: admin),
            logger: logger,
            onReady: { addresses.operate($0) }
        )
    }

    private static func certificate(_ files: ServerConfiguration.TLSFiles?) throws -> TLSCertificate? {
        guard let files else { return nil }
        do {
            return try TLSCertificate(certificatePath: files.certificatePath, keyPath: files.keyPath)
        } catch {
            throw StoreError(
                .invalidArgument,
                "The certificate \(quoted(files.certificatePath)) with the key \(quoted(files.keyPath)) can't be used.",
                advice: "Both are PEM files; the chain begins with the server's own certificate.",
                cause: error
            )
        }
    }

    private static func accessLog(_ path: String?) throws -> LineSink? {
        guard let path else { return nil }
        let flushSize = 64 << 10
        if path == "-" { return LineSink(descriptor: STDOUT_FILENO, flushSize: flushSize) }
        guard let sink = LineSink(appendingTo: path, flushSize: flushSize) else {
            throw StoreError(
                .inputOutput,
                "The access log \(quoted(path)) can't be opened: \(String(cString: strerror(errno)))."
            )
        }
        return sink
    }

    /// A logger that writes JSON lines to standard error.
    package static func standardErrorLogger(level: Logger.Level) -> Logger {
        let sink = LineSink(descriptor: STDERR_FILENO)
        let clock = SystemClock()
        return Logger(label: "holdfast") { label in
            JSONLogHandler(label: label, sink: sink, level: level) { ISO8601.format(clock.now()) }
        }
    }
}

/// Writes what waits in the access log, at intervals and at the end.
private struct LogFlusher: Service {
    let sink: LineSink

    func run() async throws {
        await cancelWhenGracefulShutdown { await sink.flushRegularly() }
    }
}
