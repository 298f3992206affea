internal import NIOCore

/// The response to one request. Used by one task.
///
/// A response that its handler does not finish, or that gets fewer bytes than its head said, cuts the connection: the
/// client must never take it for complete.
package final class ResponseWriter {
    private enum Phase {
        case fresh
        case started(ResponseFraming)
        case ended
    }

    /// Bytes of the body that travel in one buffer.
    private static let sliceSizeMax = 128 << 10
    /// Longer pieces of it go to the socket at once.
    private static let shortSizeMax = 64 << 10

    private let connection: Connection
    private let request: GatewayRequest
    private let body: RequestBody
    private var phase = Phase.fresh
    private var keepsAlive = false
    /// The head, until the first bytes of the body go with it.
    private var pending = ByteBuffer()
    /// A piece of the body that was put here, until it is sent.
    private var placed = ByteBuffer()
    /// What is left free in front of a short first piece: the head goes there.
    private static let headRoom = 1 << 10
    /// The status that was sent; nil before.
    package private(set) var status: Int?
    /// Body bytes that were handed over for sending.
    package private(set) var bodyCount: UInt64 = 0

    init(_ connection: Connection, for request: GatewayRequest, body: RequestBody) {
        self.connection = connection
        self.request = request
        self.body = body
    }

    package var hasStarted: Bool { status != nil }

    var hasEnded: Bool {
        if case .ended = phase { return true }
        return false
    }

    /// Tells a client that has asked for it that its request is still being worked on; may be used beside the writer's
    /// task, until the response begins.
    package var lifeSigns: LifeSigns { LifeSigns(connection: connection) }

    /// https://www.rfc-editor.org/rfc/rfc2518#section-10.1
    package struct LifeSigns: Sendable {
        fileprivate let connection: Connection

        package func give() {
            let line = connection.allocator.buffer(string: "HTTP/1.1 102 Processing\r\n\r\n")
            connection.send([.bytes(line)], size: line.readableBytes)
        }
    }

    /// A whole response. Its length is that of `body`, unless the head gives one for a response without a body.
    package func send(_ head: ResponseHead, body bytes: [UInt8] = []) {
        var head = head
        if head.contentLength == nil || !bytes.isEmpty { head.contentLength = UInt64(bytes.count) }
        start(head, reserving: bytes.count)
        if case .started(.length) = phase {
            pending.writeBytes(bytes)
            bodyCount = UInt64(bytes.count)
        }
        finish()
    }

    /// Begins a response whose body follows piece by piece.
    package func start(_ head: ResponseHead) { start(head, reserving: 0) }

    private func start(_ head: ResponseHead, reserving count: Int) {
        switch phase {
        case .fresh: break
        case .started: preconditionFailure("A request has one response.")
        case .ended: return
        }
        let framing = head.framing(method: request.method, isVersion10: request.isVersion10)
        phase = .started(framing)
        status = head.status
        // A client that waits for `100 Continue` may or may not send its body after another answer.
        // https://www.rfc-editor.org/rfc/rfc9110#section-10.1.1
        keepsAlive =
            request.keepsAlive && framing != .untilClose && !body.isWaitedFor && !connection.isDraining
            && connection.canSkipBody(of: request)
        pending = connection.allocator.buffer(capacity: 768 + count)
        head.write(
            to: &pending,
            framing: framing,
            keepsAlive: keepsAlive,
            isVersion10: request.isVersion10,
            serverName: connection.serverName
        )
    }

    /// Sends a piece of the body; returns when there is room for the next.
    /// - Throws: when the client is gone.
    package func write(_ bytes: [UInt8]) async throws(TransportProblem) {
        guard let framing = try framing(of: bytes.count) else { return }
        if framing == .chunked { pending.writeString(String(bytes.count, radix: 16) + "\r\n") }
        guard bytes.count > Self.shortSizeMax else {
            var buffer = pending
            pending = ByteBuffer()
            buffer.writeBytes(bytes)
            if framing == .chunked { buffer.writeString("\r\n") }
            connection.send([.bytes(buffer)], size: buffer.readableBytes)
            return try await connection.waitForRoom()
        }
        try await writeSlices(of: bytes)
        if framing == .chunked { pending.writeString("\r\n") }
    }

    /// Counts a piece of the body; nil when there is nothing to send of it.
    private func framing(of count: Int) throws(TransportProblem) -> ResponseFraming? {
        // What was cut stays cut: whoever still writes learns that nobody reads.
        if case .ended = phase { throw Connection.lost }
        guard case .started(let framing) = phase else {
            if status == nil, hasEnded { throw TransportProblem(.connectionLost, "The connection was cut.") }
            preconditionFailure("A body follows its head.")
        }
        guard count > 0, framing != .none else { return nil }
        bodyCount += UInt64(count)
        if case .length(let length) = framing, bodyCount > length {
            abort()
            throw TransportProblem(.malformed, "The response is longer than its head says.")
        }
        return framing
    }

    // MARK: Pieces that are put where they are sent from

    /// Lets `fill` write a piece of the body; it is the next that `writePlaced` or `sendPlaced` sends when `fill` says that
    /// it is good.
    package func place(_ count: Int, _ fill: (UnsafeMutableRawBufferPointer) -> Bool) -> Bool {
        let room = hasStarted || count > Self.shortSizeMax ? 0 : Self.headRoom
        var buffer = connection.allocator.buffer(capacity: room + count)
        buffer.moveWriterIndex(to: room)
        buffer.moveReaderIndex(to: room)
        var isGood = false
        buffer.writeWithUnsafeMutableBytes(minimumWritableBytes: count) { free in
            isGood = fill(UnsafeMutableRawBufferPointer(rebasing: free[..<count]))
            return isGood ? count : 0
        }
        guard isGood else { return false }
        placed = buffer
        return true
    }

    /// A whole response whose body was put here.
    package func sendPlaced(_ head: ResponseHead) {
        var head = head
        let count = placed.readableBytes
        head.contentLength = UInt64(count)
        start(head)
        if case .started(.length) = phase {
            bodyCount = UInt64(count)
            pending = takePlaced()
        }
        finish()
    }

    /// Sends the piece that was put here; returns when there is room for the next.
    /// - Throws: as `write`.
    package func writePlaced() async throws(TransportProblem) {
        guard let framing = try framing(of: placed.readableBytes) else { return }
        if framing == .chunked { pending.writeString(String(placed.readableBytes, radix: 16) + "\r\n") }
        connection.sendAtOnce(takePlaced())
        if framing == .chunked { pending.writeString("\r\n") }
        try await connection.waitForRoom()
    }

    /// The piece that was put here, behind what goes before it.
    private func takePlaced() -> ByteBuffer {
        var buffer = placed
        placed = ByteBuffer()
        let count = pending.readableBytes
        if count <= buffer.readerIndex {
            buffer.setBuffer(pending, at: buffer.readerIndex - count)
            buffer.moveReaderIndex(to: buffer.readerIndex - count)
        } else {
            connection.send([.bytes(pending)], size: count)
        }
        pending = ByteBuffer()
        return buffer
    }

    /// A long piece goes in slices: what was just copied is still in the processor's cache when the system copies it
    /// again.
    private func writeSlices(of bytes: [UInt8]) async throws(TransportProblem) {
        if pending.readableBytes > 0 { connection.send([.bytes(pending)], size: pending.readableBytes) }
        pending = ByteBuffer()
        var start = 0
        while start < bytes.count {
            let end = min(start + Self.sliceSizeMax, bytes.count)
            var buffer = connection.allocator.buffer(capacity: end - start)
            buffer.writeBytes(bytes[start..<end])
            connection.sendAtOnce(buffer)
            start = end
            try await connection.waitForRoom()
        }
    }

    /// Ends the response.
    package func finish() {
        guard case .started(let framing) = phase else { return }
        if case .length(let length) = framing, bodyCount != length { return abort() }
        phase = .ended
        if framing == .chunked { pending.writeString("0\r\n\r\n") }
        let last = pending
        pending = ByteBuffer()
        let items: [Connection.Outbound] =
            last.readableBytes > 0
            ? [.bytes(last), .end(keepsAlive: keepsAlive)] : [.end(keepsAlive: keepsAlive)]
        connection.send(items, size: last.readableBytes)
    }

    /// Cuts the connection: after a bad block, or when the body can't be completed.
    package func abort() {
        if case .ended = phase { return }
        phase = .ended
        connection.send([.abort], size: 0)
    }
}
