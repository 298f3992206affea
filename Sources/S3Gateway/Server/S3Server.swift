package import Logging
internal import NIOCore
internal import NIOPosix
internal import NIOSSL
internal import ServiceLifecycle
internal import Synchronization

/// An HTTP/1.1 server for one responder: listens, bounds, keeps connections alive, drains.
///
/// It stands on NIO's channels with one handler of its own, because the general HTTP servers hand over bodies in
/// pieces of a socket read and cost twice as much for a small request; objects want pieces of 256 KiB and more.
///
/// Every connection is served by one task, a child of the service; nothing outlives `run()`.
package final class S3Server: Service {
    package struct Configuration: Sendable {
        package var addresses: [ListenAddress]
        package var limits: ServerLimits
        package var certificate: TLSCertificate?
        /// Served beside the addresses, to its users only.
        package var localSocket: LocalSocket?
        package var serverName = "Holdfast"
        /// Event loops; they only move bytes, the work is done in tasks.
        package var loopCount = System.coreCount

        package init(
            addresses: [ListenAddress],
            limits: ServerLimits = .standard,
            certificate: TLSCertificate? = nil
        ) {
            self.addresses = addresses
            self.limits = limits
            self.certificate = certificate
        }
    }

    private struct Stopping {
        var isRequested = false
        var waiters: [CheckedContinuation<Void, Never>] = []
    }

    private let configuration: Configuration
    private let responder: any RequestResponder
    private let logger: Logger
    private let registry: ConnectionRegistry
    private let onReady: @Sendable ([ListenAddress]) -> Void
    private let onDrain: @Sendable () -> Void
    private let stopping = Mutex(Stopping())

    /// - Parameters:
    ///   - onReady: called once, with the addresses that are listened on.
    ///   - onDrain: called when the server is asked to stop, before it stops accepting: readiness fails from here on.
    package init(
        _ configuration: Configuration,
        responder: any RequestResponder,
        logger: Logger,
        onReady: @escaping @Sendable ([ListenAddress]) -> Void = { _ in },
        onDrain: @escaping @Sendable () -> Void = {}
    ) {
        self.configuration = configuration
        self.responder = responder
        self.logger = logger
        self.onReady = onReady
        self.onDrain = onDrain
        registry = ConnectionRegistry(countMax: configuration.limits.connectionCountMax)
    }

    /// Connections that are open now.
    package var connectionCount: Int { registry.count }

    /// Stops as a graceful shutdown does.
    package func stop() {
        let waiters = stopping.withLock { stopping in
            stopping.isRequested = true
            defer { stopping.waiters = [] }
            return stopping.waiters
        }
        for waiter in waiters { waiter.resume() }
    }

    /// Serves until a graceful shutdown, or until it is cancelled.
    package func run() async throws {
        let group = MultiThreadedEventLoopGroup(numberOfThreads: max(1, configuration.loopCount))
        do {
            try await withTaskCancellationOrGracefulShutdownHandler {
                try await serve(on: group)
            } onCancelOrGracefulShutdown: {
                self.stop()
            }
        } catch {
            try? await group.shutdownGracefully()
            throw error
        }
        try await group.shutdownGracefully()
    }

    private func serve(on group: MultiThreadedEventLoopGroup) async throws {
        let (accepted, continuation) = AsyncStream.makeStream(of: Connection.self)
        var channels: [any Channel] = []
        do {
            for address in configuration.addresses {
                channels.append(try await bind(address, on: group, continuation))
            }
            if let socket = configuration.localSocket {
                channels.append(try await serve(socket, on: group, continuation))
            }
        } catch {
            for channel in channels { try? await channel.close() }
            throw error
        }
        onReady(zip(configuration.addresses, channels).map { $0.bound(to: $1.localAddress?.port) })
        let listeners = channels
        await withDiscardingTaskGroup { tasks in
            tasks.addTask { await self.stopWhenAsked(listeners, continuation) }
            for await connection in accepted {
                tasks.addTask { await self.serve(connection) }
            }
        }
    }

    private func bind(
        _ address: ListenAddress,
        on group: MultiThreadedEventLoopGroup,
        _ accepted: AsyncStream<Connection>.Continuation
    ) async throws -> any Channel {
        let bootstrap = bootstrap(on: group).childChannelInitializer { channel in
            channel.eventLoop.makeCompletedFuture { try self.open(channel, accepted) }
        }
        switch address {
        case .network(let host, let port):
            return try await bootstrap.childChannelOption(.tcpOption(.tcp_nodelay), value: 1)
                .bind(host: host, port: port).get()
        case .unix(let path):
            return try await bootstrap.bind(unixDomainSocketPath: path, cleanupExistingSocketFile: true).get()
        }
    }

    private func serve(
        _ socket: LocalSocket,
        on group: MultiThreadedEventLoopGroup,
        _ accepted: AsyncStream<Connection>.Continuation
    ) async throws -> any Channel {
        try await bootstrap(on: group).childChannelInitializer { channel in
            PeerCredentials.ask(channel).flatMapThrowing { try self.open(channel, accepted, of: $0) }
        }.withBoundSocket(socket.descriptor).get()
    }

    private func bootstrap(on group: MultiThreadedEventLoopGroup) -> ServerBootstrap {
        let limits = configuration.limits
        return ServerBootstrap(group: group)
            .serverChannelOption(.backlog, value: 1024)
            .serverChannelOption(.socketOption(.so_reuseaddr), value: 1)
            .childChannelOption(.allowRemoteHalfClosure, value: true)
            // A second read would nearly always find nothing: a request comes in one.
            .childChannelOption(.maxMessagesPerRead, value: 1)
            .childChannelOption(
                .writeBufferWaterMark,
                value: .init(low: limits.writeBacklogLow, high: limits.writeBacklogHigh)
            )
            .childChannelOption(
                .recvAllocator,
                value: AdaptiveRecvByteBufferAllocator(
                    minimum: limits.readSizeMin,
                    initial: limits.readSizeMin,
                    maximum: limits.readSizeMax
                )
            )
    }

    /// Sets a new connection up, on its event loop.
    private func open(
        _ channel: any Channel,
        _ accepted: AsyncStream<Connection>.Continuation,
        of localPeer: PeerCredentials? = nil
    ) throws {
        var refusal: TransportProblem?
        switch registry.admission() {
        case .admitted: break
        case .overloaded:
            refusal = TransportProblem(.tooManyConnections, "The server has too many connections.")
        case .refused:
            channel.close(promise: nil)
            return
        }
        if let localPeer, configuration.localSocket?.userIDs.contains(localPeer.userID) != true {
            refusal = TransportProblem(.foreignUser, "The socket serves the server's own user and root.")
            logger.warning("A user was refused.", metadata: ["remote": "\(localPeer.description)"])
        }
        if let certificate = configuration.certificate {
            try channel.pipeline.syncOperations.addHandler(NIOSSLServerHandler(context: certificate.current))
        }
        let handler = ConnectionHandler(
            peer: .init(
                isSecure: configuration.certificate != nil,
                remoteAddress: localPeer?.description ?? channel.remoteAddress?.ipAddress ?? ""
            ),
            responder: responder,
            limits: configuration.limits,
            serverName: configuration.serverName,
            refusal: refusal
        )
        let connection = Connection(
            channel,
            handler: handler,
            limits: configuration.limits,
            serverName: configuration.serverName
        )
        handler.attach(connection)
        registry.insert(connection)
        try channel.pipeline.syncOperations.addHandler(handler)
        if case .terminated = accepted.yield(connection) {
            registry.remove(connection)
            channel.close(promise: nil)
        }
    }

    /// One connection, from its first request to its close.
    private func serve(_ connection: Connection) async {
        await withTaskGroup(of: Void.self) { tasks in
            tasks.addTask(executorPreference: connection.executor) {
                await self.answerRequests(of: connection)
            }
            // A client that goes away cancels the request that is under way.
            await connection.closed()
            tasks.cancelAll()
        }
        registry.remove(connection)
    }

    private func answerRequests(of connection: Connection) async {
        while let request = await connection.nextRequest() {
            let body = RequestBody(connection, of: request)
            let writer = ResponseWriter(connection, for: request, body: body)
            await responder.respond(to: request, body: body, writer: writer)
            // A client that went away before its answer began leaves a writer that was aborted: nothing to add.
            if writer.hasEnded { continue }
            if !writer.hasStarted {
                logger.error("A request was left without an answer.", metadata: ["path": "\(request.path)"])
                writer.send(ResponseHead(status: 500, contentLength: 0))
            } else {
                writer.abort()
            }
        }
    }

    // MARK: Stopping

    private func stopRequested() async {
        await withCheckedContinuation { continuation in
            let isRequested = stopping.withLock { stopping in
                if !stopping.isRequested { stopping.waiters.append(continuation) }
                return stopping.isRequested
            }
            if isRequested { continuation.resume() }
        }
    }

    /// Readiness fails, then no more is accepted, then what runs may end, for a bounded time.
    private func stopWhenAsked(
        _ listeners: [any Channel],
        _ accepted: AsyncStream<Connection>.Continuation
    ) async {
        await stopRequested()
        onDrain()
        // A cancelled service does not wait: sleep returns at once.
        try? await Task.sleep(for: configuration.limits.drainLead)
        for listener in listeners { try? await listener.close() }
        registry.drain()
        accepted.finish()
        let end = ContinuousClock.now + configuration.limits.drainDeadline
        while registry.count > 0, ContinuousClock.now < end {
            do { try await Task.sleep(for: .milliseconds(10)) } catch { break }
        }
        if registry.count > 0 {
            logger.warning(
                "Closed connections that did not end in time.",
                metadata: ["count": "\(registry.count)"]
            )
        }
        registry.closeAll()
    }
}

extension ListenAddress {
    fileprivate func bound(to port: Int?) -> ListenAddress {
        guard case .network(let host, _) = self, let port else { return self }
        return .network(host: host, port: port)
    }
}
