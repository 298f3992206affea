internal import Glibc
internal import NIOCore

// What the event loop is doing for a connection:
//
//     idle ──bytes──▶ head ──its end──▶ body ──its end──▶ answering ──response ended──▶ idle
//                       │                │ response ended first
//                       │                ▼
//                       │            discarding ──body's end──▶ idle
//                       ▼ bad head, timeout
//     lingering ◀── the last response: sent, output closed; input is dropped until the client closes or time is over

/// A connection's bytes, on its event loop: parses requests, delivers them, writes responses, watches the clock.
final class ConnectionHandler: ChannelDuplexHandler {
    typealias InboundIn = ByteBuffer
    typealias OutboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private enum Phase {
        case idle, head, body, answering, discarding, lingering
    }

    /// What every request of this connection is told about it.
    struct Peer {
        var isSecure: Bool
        var remoteAddress: String
    }

    private let limits: ServerLimits
    private let peer: Peer
    private let responder: any RequestResponder
    private let refusal: TransportProblem?
    private let serverName: String
    private var connection: Connection?
    private var context: ChannelHandlerContext?
    private var parser: MessageParser
    private var pending = ByteBuffer()
    private var piece: [UInt8] = []
    private var arrivedHead: GatewayRequest?
    private var phase = Phase.idle
    private var phaseStart = NIODeadline.now()
    private var isBodyBacklogged = false
    private var isReadPending = false
    private var isInputClosed = false
    private var waitsForContinue = false
    /// The body can't be read to its end, so there is no next request.
    private var isBodyBroken = false
    /// A response ended while its bytes still wait for the socket: the next request is not looked at before.
    private var isNextBlocked = false
    private var discardedCount: UInt64 = 0
    private var receiving = ProgressWatch()
    private var sending = ProgressWatch()
    private var sentCount: Int64 = 0
    private var ticks: RepeatedTask?

    /// - Parameter refusal: answered to whatever comes, when the server has no room for the connection.
    init(
        peer: Peer,
        responder: any RequestResponder,
        limits: ServerLimits,
        serverName: String,
        refusal: TransportProblem?
    ) {
        self.peer = peer
        self.responder = responder
        self.limits = limits
        self.serverName = serverName
        self.refusal = refusal
        parser = MessageParser(limits: limits)
    }

    func attach(_ connection: Connection) { self.connection = connection }

    // MARK: Life of the channel

    func handlerAdded(context: ChannelHandlerContext) {
        self.context = context
        let handler = NIOLoopBound(self, eventLoop: context.eventLoop)
        let tick = TimeAmount(limits.tick)
        ticks = context.eventLoop.scheduleRepeatedTask(initialDelay: tick, delay: tick) { _ in
            handler.value.tick()
        }
    }

    func handlerRemoved(context: ChannelHandlerContext) { end() }

    func channelActive(context: ChannelHandlerContext) {
        enter(.idle)
        context.fireChannelActive()
        if let refusal { answer(refusal) }
    }

    func channelInactive(context: ChannelHandlerContext) {
        end()
        context.fireChannelInactive()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        // Resets, broken pipes, TLS faults: the connection is of no use any more.
        context.close(promise: nil)
    }

    private func end() {
        ticks?.cancel()
        ticks = nil
        context = nil
        connection?.didClose()
        connection = nil
        piece = []
        pending = ByteBuffer()
    }

    private func enter(_ phase: Phase) {
        self.phase = phase
        phaseStart = .now()
        receiving.restart(at: phaseStart)
    }

    // MARK: Bytes that come

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard phase != .lingering else { return }
        var bytes = unwrapInboundIn(data)
        if pending.readableBytes == 0 { pending = bytes } else { pending.writeBuffer(&bytes) }
        pump()
        keepLittle()
    }

    /// What is left of a read must not hold the whole buffer of that read, which is used again when it is free.
    private func keepLittle() {
        if pending.readableBytes == 0 {
            pending = ByteBuffer()
        } else if let context {
            pending = context.channel.allocator.buffer(buffer: pending)
        }
    }

    func read(context: ChannelHandlerContext) {
        if isBodyBacklogged && (phase == .body)
            || phase == .answering && pending.readableBytes >= limits.pipelineBacklogMax
        {
            isReadPending = true
        } else {
            context.read()
        }
    }

    private func resumeReading() {
        guard isReadPending else { return }
        isReadPending = false
        context?.read()
    }

    func bodyBacklogShrank() {
        isBodyBacklogged = false
        receiving.restart(at: .now())
        resumeReading()
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if case .some(ChannelEvent.inputClosed) = event as? ChannelEvent {
            inputClosed()
        }
        context.fireUserInboundEventTriggered(event)
    }

    /// The client sends no more. An answer that is under way is still sent: it may only have closed its half.
    private func inputClosed() {
        isInputClosed = true
        switch phase {
        case .idle, .head, .discarding, .lingering: context?.close(promise: nil)
        case .body: failBody(TransportProblem(.bodyTruncated, "The body ended before its declared end."))
        case .answering: connection?.noteInputClosed()
        }
    }

    /// Parses as far as it may, then delivers what came, at once.
    private func pump() {
        var isComplete = false
        do throws(TransportProblem) {
            parsing: while phase != .answering && phase != .lingering {
                switch try parser.parse(&pending, body: &piece) {
                case .needsMore:
                    receiving.count += Int64(clamping: piece.count)
                    if phase == .idle, parser.isInsideHead { enter(.head) }
                    break parsing
                case .head(let request): begin(request)
                case .complete:
                    if phase == .discarding {
                        piece.removeAll(keepingCapacity: true)
                        startNext()
                    } else {
                        isComplete = true
                        enter(.answering)
                    }
                }
            }
        } catch {
            return fail(error)
        }
        if phase == .discarding { return discardPiece() }
        deliver(isComplete: isComplete)
    }

    private func begin(_ request: GatewayRequest) {
        var request = request
        request.isSecure = peer.isSecure
        request.remoteAddress = peer.remoteAddress
        arrivedHead = request
        waitsForContinue = request.expectsContinue
        enter(.body)
        if case .length(let length) = request.framing {
            piece.reserveCapacity(Int(min(length, UInt64(2 * limits.bodyPieceSize))))
        }
    }

    private func deliver(isComplete: Bool) {
        let isPieceDue = isComplete || piece.count >= limits.bodyPieceSize
        guard isPieceDue || arrivedHead != nil else { return }
        var arrival = Connection.Arrival(head: arrivedHead, isComplete: isComplete)
        arrivedHead = nil
        if isPieceDue, !piece.isEmpty {
            arrival.piece = piece
            piece = []
            if let remaining = parser.remainingBodyCount, remaining > 0 {
                piece.reserveCapacity(Int(min(remaining, UInt64(2 * limits.bodyPieceSize))))
            }
        }
        isBodyBacklogged = connection?.deliver(arrival) ?? true
    }

    private func discardPiece() {
        discardedCount += UInt64(piece.count)
        piece.removeAll(keepingCapacity: true)
        if discardedCount > limits.discardedBodySizeMax { context?.close(promise: nil) }
    }

    /// A head that is no head is answered here; a body that ends badly is told to its handler.
    private func fail(_ problem: TransportProblem) {
        switch phase {
        case .idle, .head: answer(problem)
        case .body: failBody(problem)
        case .discarding, .answering, .lingering: context?.close(promise: nil)
        }
    }

    private func failBody(_ problem: TransportProblem) {
        enter(.answering)
        isBodyBroken = true
        piece = []
        let head = arrivedHead
        arrivedHead = nil
        isBodyBacklogged = false
        _ = connection?.deliver(Connection.Arrival(head: head, problem: problem))
        resumeReading()
    }

    // MARK: Bytes that go

    /// Sent even when the body is empty or there already, where it could be left out: after an answer that came
    /// without it on a connection that is kept, the AWS command line takes the next answer's status line for a
    /// header, finds no length, and waits for the connection to end.
    /// https://www.rfc-editor.org/rfc/rfc9110#section-10.1.1
    func sendContinue() {
        guard let context, phase == .body || phase == .answering, waitsForContinue else { return }
        waitsForContinue = false
        receiving.restart(at: .now())
        write(context.channel.allocator.buffer(string: "HTTP/1.1 100 Continue\r\n\r\n"), context)
        context.flush()
    }

    private func write(_ buffer: ByteBuffer, _ context: ChannelHandlerContext) {
        sentCount += Int64(buffer.readableBytes)
        context.write(wrapOutboundOut(buffer), promise: nil)
    }

    func flushOutbox() {
        guard let connection, let context else { return }
        var ending: Connection.Outbound?
        for item in connection.takeOutbox() {
            switch item {
            case .bytes(let buffer):
                // After an answer has begun nobody is told to go on.
                waitsForContinue = false
                write(buffer, context)
            case .end, .abort: ending = item
            }
        }
        context.flush()
        switch ending {
        case .end(let keepsAlive): responseEnded(keepsAlive: keepsAlive)
        case .abort: cut()
        case .bytes, nil: break
        }
        connection.writabilityChanged(context.channel.isWritable)
    }

    func channelWritabilityChanged(context: ChannelHandlerContext) {
        connection?.writabilityChanged(context.channel.isWritable)
        if isNextBlocked, context.channel.isWritable {
            isNextBlocked = false
            startNext()
            pump()
            keepLittle()
        }
        context.fireChannelWritabilityChanged()
    }

    private func responseEnded(keepsAlive: Bool) {
        guard keepsAlive, !isBodyBroken, let context else { return linger() }
        connection?.forgetBody()
        isBodyBacklogged = false
        piece = []
        guard parser.isComplete else {
            discardedCount = 0
            enter(.discarding)
            return resumeReading()
        }
        guard context.channel.isWritable else {
            isNextBlocked = true
            return
        }
        startNext()
        pump()
        keepLittle()
    }

    private func startNext() {
        parser.next()
        enter(.idle)
        if isInputClosed && pending.readableBytes == 0 { context?.close(promise: nil) }
        closeIfIdle()
        resumeReading()
    }

    func closeIfIdle() {
        if phase == .idle, pending.readableBytes == 0, connection?.isDraining == true {
            context?.close(promise: nil)
        }
    }

    /// Answers a request that no handler sees.
    private func answer(_ problem: TransportProblem) {
        guard let context else { return }
        let (head, body) = responder.answer(to: problem)
        var buffer = context.channel.allocator.buffer(capacity: 512 + body.count)
        var complete = head
        complete.contentLength = UInt64(body.count)
        complete.write(
            to: &buffer,
            framing: .length(UInt64(body.count)),
            keepsAlive: false,
            isVersion10: false,
            serverName: serverName
        )
        buffer.writeBytes(body)
        write(buffer, context)
        context.flush()
        linger()
    }

    /// Closes the output and drops what still comes: a connection that is closed with unread input is reset, and the
    /// client might never see the answer. https://www.rfc-editor.org/rfc/rfc9112#section-9.6
    private func linger() {
        guard let context, phase != .lingering else { return }
        enter(.lingering)
        pending = ByteBuffer()
        piece = []
        if isInputClosed {
            context.close(promise: nil)
        } else {
            context.close(mode: .output, promise: nil)
            isBodyBacklogged = false
            resumeReading()
        }
    }

    /// Ends the connection with a reset, so that nobody takes what was sent for complete.
    private func cut() {
        guard let context else { return }
        let channel = context.channel
        if let provider = channel as? any SocketOptionProvider {
            // On this event loop the option is set before the call returns.
            _ = provider.setSoLinger(Glibc.linger(l_onoff: 1, l_linger: 0))
        }
        channel.close(mode: .all, promise: nil)
    }

    // MARK: The clock

    private func tick() {
        guard let context else { return }
        let now = NIODeadline.now()
        let age = now - phaseStart
        switch phase {
        case .idle: if age > TimeAmount(limits.idleTimeout) { context.close(promise: nil) }
        case .head:
            if age > TimeAmount(limits.headTimeout) {
                answer(TransportProblem(.headTimeout, "The request's head took too long."))
            }
        case .body:
            if isBodyBacklogged || waitsForContinue {
                receiving.restart(at: now)
            } else if receiving.isTooSlow(at: now, limits) {
                failBody(TransportProblem(.bodyTooSlow, "The body came too slowly."))
            }
        case .discarding: if age > TimeAmount(limits.headTimeout) { context.close(promise: nil) }
        case .lingering:
            if age > TimeAmount(limits.lingerTimeout), unsentCount(context) == 0 {
                context.close(promise: nil)
            }
        case .answering: break
        }
        watchSending(context, now)
    }

    private func unsentCount(_ context: ChannelHandlerContext) -> Int {
        (try? context.channel.syncOptions?.getOption(.bufferedWritableBytes)) ?? 0
    }

    /// A client that does not read its response holds memory and a task.
    private func watchSending(_ context: ChannelHandlerContext, _ now: NIODeadline) {
        let unsent = unsentCount(context)
        guard unsent > 0 else { return sending.restart(at: now) }
        sending.advance(to: sentCount - Int64(unsent))
        if sending.isTooSlow(at: now, limits) { cut() }
    }
}

/// Whether bytes move at the least rate.
private struct ProgressWatch {
    /// Bytes since the window began.
    var count: Int64 = 0
    private var total: Int64 = 0
    private var start = NIODeadline.now()

    mutating func restart(at now: NIODeadline) {
        start = now
        count = 0
    }

    mutating func advance(to newTotal: Int64) {
        count += max(0, newTotal - total)
        total = newTotal
    }

    /// Looks at a whole window, and begins the next.
    mutating func isTooSlow(at now: NIODeadline, _ limits: ServerLimits) -> Bool {
        let window = TimeAmount(limits.rateWindow)
        guard now - start >= window else { return false }
        let least = max(1, Double(limits.rateMin) * Double(window.nanoseconds) / 1_000_000_000)
        defer { restart(at: now) }
        return Double(count) < least
    }
}
