internal import Synchronization

/// What the calling task and the loop's thread share of one transfer: a bounded buffer each way, the head of the
/// answer, and the outcome.
///
/// 1. One task uses it, one call at a time, so at most one continuation waits.
/// 2. The loop never waits for the task: it pauses the transfer. The task pauses by waiting for room or for bytes.
/// 3. The outcome is set once. After it nothing changes but what the task still takes out of the buffer.
/// 4. A continuation that waits is resumed by the loop at the end of the turn that gave it what it waits for, or by
///    the outcome; so it is resumed once.
final class Exchange: Sendable {
    enum UploadStep {
        case bytes(Int)
        case pause
        case end
    }

    private enum Wait {
        case room, head, bytes
    }

    private struct State {
        // The way out.
        var pieces: [[UInt8]] = []
        var pieceIndex = 0
        var pieceOffset = 0
        var waitingByteCount = 0
        var isUploadComplete: Bool
        /// Given whole: kept until the end, so that it can be sent again.
        let isWhole: Bool
        // The way back.
        var head: HTTPResponseHead?
        var received: [UInt8] = []
        var isReceivePaused = false
        var isSendPaused = false
        var outcome: Result<TransferStatistics, TransportError>?
        // Whoever waits.
        var wait: Wait?
        var continuation: CheckedContinuation<Void, Never>?

        func isReady(_ wait: Wait, roomMax: Int) -> Bool {
            if outcome != nil { return true }
            return switch wait {
            case .room: waitingByteCount < roomMax || head != nil
            case .head: head != nil
            case .bytes: !received.isEmpty
            }
        }
    }

    let bufferSize: Int
    private let state: Mutex<State>

    init(body: HTTPRequestBody, bufferSize: Int) {
        self.bufferSize = bufferSize
        switch body {
        case .none: state = Mutex(State(isUploadComplete: true, isWhole: true))
        case .bytes(let bytes):
            state = Mutex(
                State(pieces: [bytes], waitingByteCount: bytes.count, isUploadComplete: true, isWhole: true)
            )
        case .stream: state = Mutex(State(isUploadComplete: false, isWhole: false))
        }
    }

    // MARK: The loop's side

    /// Moves bytes of the body into the network's buffer.
    func read(into room: UnsafeMutableRawBufferPointer) -> UploadStep {
        state.withLock { state in
            var count = 0
            while count < room.count, state.pieceIndex < state.pieces.count {
                let taken = state.pieces[state.pieceIndex].withUnsafeBytes { bytes -> Int in
                    let length = min(bytes.count - state.pieceOffset, room.count - count)
                    let source = UnsafeRawBufferPointer(
                        rebasing: bytes[state.pieceOffset..<state.pieceOffset + length]
                    )
                    UnsafeMutableRawBufferPointer(rebasing: room[count..<count + length]).copyMemory(
                        from: source
                    )
                    return length
                }
                count += taken
                state.pieceOffset += taken
                if state.pieceOffset == state.pieces[state.pieceIndex].count { Self.advance(&state) }
            }
            state.waitingByteCount -= count
            if count > 0 { return .bytes(count) }
            if state.isUploadComplete { return .end }
            state.isSendPaused = true
            return .pause
        }
    }

    private static func advance(_ state: inout State) {
        state.pieceIndex += 1
        state.pieceOffset = 0
        guard !state.isWhole, state.pieceIndex == state.pieces.count else { return }
        state.pieces.removeAll(keepingCapacity: true)
        state.pieceIndex = 0
    }

    /// Whether the body can be read from its beginning again.
    func rewind() -> Bool {
        state.withLock { state in
            guard state.isWhole else { return false }
            state.pieceIndex = 0
            state.pieceOffset = 0
            state.waitingByteCount = state.pieces.reduce(0) { $0 + $1.count }
            return true
        }
    }

    func take(_ head: HTTPResponseHead) { state.withLock { $0.head = head } }

    /// - Returns: false when there is no room: the bytes are to be brought again after `isReceiving` was asked.
    func receive(_ bytes: UnsafeRawBufferPointer) -> Bool {
        state.withLock { state in
            guard state.received.count < bufferSize else {
                state.isReceivePaused = true
                return false
            }
            state.received.append(contentsOf: bytes)
            return true
        }
    }

    /// What may go on, now that the task did something; the loop unpauses the transfer by it.
    func resumable() -> (send: Bool, receive: Bool) {
        state.withLock { state in
            let send =
                state.isSendPaused && (state.pieceIndex < state.pieces.count || state.isUploadComplete)
            let receive = state.isReceivePaused && state.received.count < bufferSize
            if send { state.isSendPaused = false }
            if receive { state.isReceivePaused = false }
            return (send, receive)
        }
    }

    /// Whether this side holds the transfer back.
    var isHeldBack: Bool { state.withLock { $0.isSendPaused || $0.isReceivePaused } }

    /// Resumes the task when it has what it waits for.
    func signal() {
        let continuation = state.withLock { state -> CheckedContinuation<Void, Never>? in
            guard let wait = state.wait, state.isReady(wait, roomMax: bufferSize) else { return nil }
            return Self.takeContinuation(&state)
        }
        continuation?.resume()
    }

    func end(_ outcome: Result<TransferStatistics, TransportError>) {
        let continuation = state.withLock { state -> CheckedContinuation<Void, Never>? in
            guard state.outcome == nil else { return nil }
            state.outcome = outcome
            state.pieces = []
            state.pieceIndex = 0
            state.pieceOffset = 0
            // Half a body is of no use; a whole one waits for its reader.
            if case .failure = outcome { state.received = [] }
            return Self.takeContinuation(&state)
        }
        continuation?.resume()
    }

    private static func takeContinuation(_ state: inout State) -> CheckedContinuation<Void, Never>? {
        state.wait = nil
        defer { state.continuation = nil }
        return state.continuation
    }

    // MARK: The task's side

    var hasEnded: Bool { state.withLock { $0.outcome != nil } }

    private func wait(for wait: Wait) async {
        await withCheckedContinuation { continuation in
            let isReady = state.withLock { state in
                if state.isReady(wait, roomMax: bufferSize) { return true }
                state.wait = wait
                state.continuation = continuation
                return false
            }
            if isReady { continuation.resume() }
        }
    }

    /// Waits for room for the next piece of the body.
    /// - Returns: false when no more of it is wanted: the answer has begun, or the transfer has ended.
    func waitForRoom() async -> Bool {
        await wait(for: .room)
        return state.withLock { $0.outcome == nil && $0.head == nil }
    }

    /// - Returns: whether the transfer was waiting for it: the loop must be told.
    func send(_ piece: [UInt8], isLast: Bool) -> Bool {
        state.withLock { state in
            guard state.outcome == nil else { return false }
            if !piece.isEmpty {
                state.pieces.append(piece)
                state.waitingByteCount += piece.count
            }
            if isLast { state.isUploadComplete = true }
            return state.isSendPaused
        }
    }

    func head() async throws -> HTTPResponseHead {
        await wait(for: .head)
        return try state.withLock { state in
            // An answer that began stands, although the rest of it may be missing: the body tells.
            if let head = state.head { return head }
            guard case .failure(let error)? = state.outcome else {
                throw TransportError(.internalFault, "The transfer has ended without an answer.")
            }
            throw error
        }
    }

    /// What has come since the last call, or nil at the end of a whole body.
    /// - Returns: also whether the transfer was waiting for room: the loop must be told.
    func nextPiece() async throws -> (bytes: [UInt8], wasFull: Bool)? {
        await wait(for: .bytes)
        return try state.withLock { state in
            if !state.received.isEmpty {
                var piece: [UInt8] = []
                swap(&piece, &state.received)
                return (piece, state.isReceivePaused)
            }
            if case .failure(let error)? = state.outcome { throw error }
            return nil
        }
    }

    /// Of a transfer that has ended well.
    var statistics: TransferStatistics? {
        state.withLock { state in
            guard case .success(let statistics)? = state.outcome else { return nil }
            return statistics
        }
    }
}
