internal import NIOCore
internal import Synchronization

/// One connection between its event loop, where bytes come and go, and its task, where requests are answered.
///
/// Invariants:
/// 1. Requests are answered one at a time, in order: a head is delivered only after the response before it ended.
/// 2. Everything that is kept here is bounded by `ServerLimits`: one head, the body backlog, the write backlog.
/// 3. Whoever waits is resumed when the channel closes; so a task that waits needs no cancellation of its own.
/// 4. Continuations are resumed outside the lock.
final class Connection: Sendable {
    /// What the task hands to the event loop, in order.
    enum Outbound {
        case bytes(ByteBuffer)
        /// The response has ended; the connection goes on, or not.
        case end(keepsAlive: Bool)
        /// The response can't be ended: the client must notice.
        case abort
    }

    private struct State {
        var head: GatewayRequest?
        var pieces: [[UInt8]] = []
        var backlog = 0
        var isBodyComplete = false
        var bodyProblem: TransportProblem?
        var isReadingHeld = false
        /// Whether the task is between taking a head and ending its response.
        var isResponding = false

        var outbox: [Outbound] = []
        var outboxSize = 0
        var isFlushScheduled = false
        var isWritable = true

        var isDraining = false
        var isInputClosed = false
        var isClosed = false

        var headWaiter: CheckedContinuation<GatewayRequest?, Never>?
        var bodyWaiter: CheckedContinuation<Void, Never>?
        var roomWaiter: CheckedContinuation<Void, Never>?
        var closeWaiter: CheckedContinuation<Void, Never>?
    }

    let limits: ServerLimits
    let serverName: String
    let allocator: ByteBufferAllocator
    /// Where requests of this connection are answered.
    let executor: LoopExecutor
    private let channel: any Channel
    private let handler: NIOLoopBound<ConnectionHandler>
    private let state = Mutex(State())

    /// On the channel's event loop.
    init(_ channel: any Channel, handler: ConnectionHandler, limits: ServerLimits, serverName: String) {
        self.channel = channel
        self.limits = limits
        self.serverName = serverName
        allocator = channel.allocator
        executor = LoopExecutor(channel.eventLoop)
        self.handler = NIOLoopBound(handler, eventLoop: channel.eventLoop)
    }

    var isDraining: Bool { state.withLock { $0.isDraining } }

    /// Whether the client will send no more: most have gone then. Those that only closed their half get their answers, but
    /// nothing that costs much is done for them.
    var hasLeft: Bool { state.withLock { $0.isInputClosed || $0.isClosed } }

    /// Closes the connection now, whatever is under way.
    func close() { channel.close(mode: .all, promise: nil) }

    /// Lets the request that is under way end, and no other begin.
    func noteDraining() { state.withLock { $0.isDraining = true } }

    func closeIfIdle() { onLoop { $0.closeIfIdle() } }

    /// Returns when the channel is closed.
    func closed() async {
        await withCheckedContinuation { continuation in
            let isClosed = state.withLock { state in
                if !state.isClosed { state.closeWaiter = continuation }
                return state.isClosed
            }
            if isClosed { continuation.resume() }
        }
    }

    private func onLoop(_ body: @escaping @Sendable (ConnectionHandler) -> Void) {
        let handler = self.handler
        channel.eventLoop.execute { body(handler.value) }
    }
}

// MARK: The task's side: what comes in

extension Connection {
    /// The next request, or nil when there will be none.
    func nextRequest() async -> GatewayRequest? {
        await withCheckedContinuation { continuation in
            let answer: GatewayRequest?? = state.withLock { state in
                if state.isClosed { return .some(nil) }
                guard let head = state.head else {
                    state.headWaiter = continuation
                    return .none
                }
                state.head = nil
                state.isResponding = true
                return head
            }
            if let answer { continuation.resume(returning: answer) }
        }
    }

    /// The next piece of the body of the request that is being answered; nil at its end.
    func nextPiece() async throws(TransportProblem) -> [UInt8]? {
        while true {
            switch takePiece() {
            case .piece(let piece): return piece
            case .end: return nil
            case .problem(let problem): throw problem
            case .nothingYet: await waitForBody()
            }
        }
    }

    private enum Taken {
        case piece([UInt8])
        case end
        case problem(TransportProblem)
        case nothingYet
    }

    private func takePiece() -> Taken {
        let (taken, mustRead): (Taken, Bool) = state.withLock { state in
            guard state.isResponding else { return (.end, false) }
            if let problem = state.bodyProblem { return (.problem(problem), false) }
            if state.isClosed { return (.problem(Self.lost), false) }
            guard !state.pieces.isEmpty else { return (state.isBodyComplete ? .end : .nothingYet, false) }
            let piece = state.pieces.removeFirst()
            state.backlog -= piece.count
            let mustRead = state.isReadingHeld && state.backlog < limits.bodyBacklogMax
            if mustRead { state.isReadingHeld = false }
            return (.piece(piece), mustRead)
        }
        if mustRead { onLoop { $0.bodyBacklogShrank() } }
        return taken
    }

    private func waitForBody() async {
        await withCheckedContinuation { continuation in
            let mustWait = state.withLock { state in
                guard state.pieces.isEmpty, !state.isBodyComplete, state.bodyProblem == nil, !state.isClosed
                else { return false }
                state.bodyWaiter = continuation
                return true
            }
            if !mustWait { continuation.resume() }
        }
    }

    /// Whether the whole body has come, or its rest is short enough to be read and dropped.
    func canSkipBody(of request: GatewayRequest) -> Bool {
        if request.framing == .none { return true }
        return state.withLock { state in
            if state.bodyProblem != nil { return false }
            if state.isBodyComplete { return true }
            guard case .length(let length) = request.framing else { return false }
            return length <= limits.discardedBodySizeMax
        }
    }

    func sendContinue() { onLoop { $0.sendContinue() } }

    static let lost = TransportProblem(.connectionLost, "The client closed the connection.")
}

// MARK: The task's side: what goes out

extension Connection {
    /// Hands bytes to the event loop, without waiting.
    func send(_ items: [Outbound], size: Int) {
        let mustSchedule = state.withLock { state in
            guard !state.isClosed else { return false }
            for item in items {
                state.outbox.append(item)
                switch item {
                case .bytes: break
                case .end, .abort: state.isResponding = false
                }
            }
            state.outboxSize += size
            defer { state.isFlushScheduled = true }
            return !state.isFlushScheduled
        }
        if mustSchedule { onLoop { $0.flushOutbox() } }
    }

    /// Like `send`, and on the event loop itself the bytes go to the socket now, with all that was handed over before.
    func sendAtOnce(_ buffer: ByteBuffer) {
        guard channel.eventLoop.inEventLoop else {
            return send([.bytes(buffer)], size: buffer.readableBytes)
        }
        let isOpen = state.withLock { state in
            guard !state.isClosed else { return false }
            state.outbox.append(.bytes(buffer))
            state.outboxSize += buffer.readableBytes
            return true
        }
        if isOpen { handler.value.flushOutbox() }
    }

    /// Returns when there is room for more bytes.
    func waitForRoom() async throws(TransportProblem) {
        await withCheckedContinuation { continuation in
            let mustWait = state.withLock { state in
                guard !state.isClosed, !state.isWritable || state.outboxSize > limits.writeBacklogHigh
                else { return false }
                state.roomWaiter = continuation
                return true
            }
            if !mustWait { continuation.resume() }
        }
        if state.withLock({ $0.isClosed }) { throw Self.lost }
    }
}

// MARK: The event loop's side

extension Connection {
    /// What one read of the socket brought.
    struct Arrival {
        var head: GatewayRequest?
        var piece: [UInt8]?
        var isComplete = false
        var problem: TransportProblem?
    }

    /// - Returns: whether the socket shall not be read for now.
    func deliver(_ arrival: Arrival) -> Bool {
        var headWaiter: CheckedContinuation<GatewayRequest?, Never>?
        var bodyWaiter: CheckedContinuation<Void, Never>?
        let isHeld = state.withLock { state in
            if let piece = arrival.piece, !piece.isEmpty {
                state.backlog += piece.count
                state.pieces.append(piece)
                if state.backlog >= limits.bodyBacklogMax { state.isReadingHeld = true }
            }
            if arrival.isComplete { state.isBodyComplete = true }
            if let problem = arrival.problem { state.bodyProblem = problem }
            if let head = arrival.head {
                headWaiter = state.headWaiter.take()
                if headWaiter == nil { state.head = head } else { state.isResponding = true }
            } else {
                bodyWaiter = state.bodyWaiter.take()
            }
            return state.isReadingHeld
        }
        headWaiter?.resume(returning: arrival.head)
        bodyWaiter?.resume()
        return isHeld
    }

    /// The response has ended: what is left of its request's body is not wanted.
    func forgetBody() {
        state.withLock { state in
            state.pieces.removeAll()
            state.backlog = 0
            state.isBodyComplete = false
            state.bodyProblem = nil
            state.isReadingHeld = false
        }
    }

    func takeOutbox() -> [Outbound] {
        state.withLock { state in
            state.isFlushScheduled = false
            state.outboxSize = 0
            defer { state.outbox.removeAll(keepingCapacity: state.outbox.capacity <= 16) }
            return state.outbox
        }
    }

    func writabilityChanged(_ isWritable: Bool) {
        let waiter: CheckedContinuation<Void, Never>? = state.withLock { state in
            state.isWritable = isWritable
            return isWritable ? state.roomWaiter.take() : nil
        }
        waiter?.resume()
    }

    func noteInputClosed() { state.withLock { $0.isInputClosed = true } }

    func didClose() {
        let waiters = state.withLock { state in
            state.isClosed = true
            state.outbox.removeAll()
            defer {
                state.headWaiter = nil
                state.bodyWaiter = nil
                state.roomWaiter = nil
                state.closeWaiter = nil
            }
            return (state.headWaiter, state.bodyWaiter, state.roomWaiter, state.closeWaiter)
        }
        waiters.0?.resume(returning: nil)
        waiters.1?.resume()
        waiters.2?.resume()
        waiters.3?.resume()
    }
}
