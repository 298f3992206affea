package import AdminGateway
internal import BlobVolume
internal import Foundation
internal import Logging
internal import Mirroring
internal import Observability
internal import S3Gateway
internal import S3Protocol
internal import StoreModel

/// The admin API of a store that is served: signed on the operations port, and on a socket in the store's directory.
struct AdminAssembly {
    /// For the operations face.
    let responder: AdminResponder
    /// Serves the socket; nil when it can't be made, which stops nothing else.
    let server: S3Server?
    private let socket: LocalSocket?

    init(
        _ store: LocalStore,
        _ credentials: any CredentialSource,
        _ configuration: ServerConfiguration,
        _ addresses: ReadyAddresses,
        _ logger: Logger
    ) {
        let administration = StoreAdministration(store)
        let version = configuration.programVersion
        let describe: @Sendable () -> VersionDocument = {
            VersionDocument(
                version: version,
                processID: ProcessInfo.processInfo.processIdentifier,
                addresses: addresses.service.map(\.description)
            )
        }
        let audit = Self.auditLogger()
        responder = AdminResponder(
            administration,
            access: .signed(region: configuration.service.region, credentials),
            version: describe,
            audit: audit,
            logger: logger
        )
        do {
            // The store's lock is held: whoever made a socket that is still there is gone.
            let socket = try LocalSocket(directory: store.path, name: ServerSocket.name)
            self.socket = socket
            server = Self.server(
                socket,
                AdminResponder(
                    administration,
                    access: .local,
                    version: describe,
                    audit: audit,
                    logger: logger
                ),
                logger
            )
        } catch {
            socket = nil
            server = nil
            logger.warning(
                "There is no admin socket; commands on this machine can't ask the server.",
                metadata: ["path": "\(store.path)/\(ServerSocket.name)", "error": "\(error)"]
            )
        }
    }

    /// Called when the server has stopped.
    func end() { socket?.remove() }

    private static func server(_ socket: LocalSocket, _ responder: AdminResponder, _ logger: Logger)
        -> S3Server
    {
        var limits = ServerLimits.standard
        limits.connectionCountMax = 64
        limits.drainLead = .zero
        limits.drainDeadline = .seconds(2)
        var configuration = S3Server.Configuration(addresses: [], limits: limits)
        configuration.localSocket = socket
        configuration.loopCount = 1
        return S3Server(configuration, responder: responder, logger: logger)
    }

    /// Changes are told whatever the level of the other messages is.
    static func auditLogger() -> Logger {
        let sink = LineSink(descriptor: STDERR_FILENO)
        let clock = SystemClock()
        return Logger(label: "audit") { label in
            JSONLogHandler(label: label, sink: sink) { ISO8601.format(clock.now()) }
        }
    }
}

extension StoreAdministration {
    /// - Parameter settle: waits for what is about to change the status, within bounds.
    package init(_ store: LocalStore, settle: @escaping @Sendable () async -> Void = {}) {
        self.init(
            store.objects,
            store.accounts,
            store.volumeCare,
            storePath: store.path,
            formatVersion: "\(VolumeIdentity.formatMajor).\(VolumeIdentity.formatMinor)",
            mirrors: store.mirrors,
            mirrorAuditor: store.mirrorAudits,
            scrubParts: ScrubParts(store.scrubs, store.findings, store.replicator),
            garbage: store.garbage,
            settle: settle
        )
    }
}
