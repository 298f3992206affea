internal import NIOCore

// One connection's requests, one at a time:
//
//     betweenMessages ──first byte──▶ head ──empty line──▶ length │ chunkLine ⇄ chunk, chunkEnd ──▶ trailers
//            ▲                                                │                                       │
//            └──────────────── next() ◀── complete ◀──────────┴───────────────────────────────────────┘
//
// After `complete` no byte is looked at until `next()`: a later request is not parsed before the one before it was
// answered, which bounds what a pipelining client can make the server hold.

/// Cuts a connection's bytes into heads and bodies. Body bytes are appended to an array that the caller owns.
struct MessageParser {
    /// What stopped the parsing.
    enum Step {
        case needsMore
        case head(GatewayRequest)
        case complete
    }

    private enum State {
        case betweenMessages
        case head(searchedCount: Int)
        case length(remaining: UInt64)
        case chunkLine
        case chunk(remaining: UInt64)
        case chunkEnd
        case trailers(byteCount: Int)
        case complete
    }

    private var state = State.betweenMessages
    private let limits: ServerLimits
    private let headParser: RequestHeadParser
    private var bodyCount: UInt64 = 0

    init(limits: ServerLimits) {
        self.limits = limits
        headParser = RequestHeadParser(limits: limits)
    }

    /// Whether the first byte of a head has come and its last has not.
    var isInsideHead: Bool {
        if case .head = state { return true }
        return false
    }

    var isComplete: Bool {
        if case .complete = state { return true }
        return false
    }

    /// Body bytes that are still to come; nil when nobody knows.
    var remainingBodyCount: UInt64? {
        switch state {
        case .length(let remaining): remaining
        case .complete: 0
        default: nil
        }
    }

    /// Goes on to the next request of the connection.
    mutating func next() {
        precondition(isComplete, "A message is read to its end before the next.")
        state = .betweenMessages
        bodyCount = 0
    }

    /// Consumes what it can of `buffer`.
    mutating func parse(_ buffer: inout ByteBuffer, body: inout [UInt8]) throws(TransportProblem) -> Step {
        while true {
            switch state {
            case .betweenMessages:
                guard try skipEmptyLines(&buffer) else { return .needsMore }
                state = .head(searchedCount: 0)
            case .head(let searchedCount):
                guard let end = try headEnd(buffer, searchedCount) else { return .needsMore }
                let request = try headParser.parse(buffer.readableBytesUInt8Span.extracting(first: end))
                buffer.moveReaderIndex(forwardBy: end)
                try begin(request.framing)
                return .head(request)
            case .length(let remaining):
                let count = take(&buffer, upTo: remaining, into: &body)
                state = count == remaining ? .complete : .length(remaining: remaining - count)
                if count < remaining { return .needsMore }
            case .chunk(let remaining):
                let count = take(&buffer, upTo: remaining, into: &body)
                state = count == remaining ? .chunkEnd : .chunk(remaining: remaining - count)
                if count < remaining { return .needsMore }
            case .chunkLine:
                guard let size = try chunkSize(&buffer) else { return .needsMore }
                bodyCount += size
                guard bodyCount <= limits.bodySizeMax else { throw bodyTooLarge }
                state = size == 0 ? .trailers(byteCount: 0) : .chunk(remaining: size)
            case .chunkEnd:
                guard buffer.readableBytes >= 2 else { return .needsMore }
                guard buffer.readInteger(as: UInt16.self) == 0x0D0A else {
                    throw malformed("A chunk is longer than announced.")
                }
                state = .chunkLine
            case .trailers(let byteCount):
                guard let count = try skipTrailer(&buffer, byteCount) else { return .needsMore }
                state = count == 0 ? .complete : .trailers(byteCount: byteCount + count)
            case .complete: return .complete
            }
        }
    }

    /// https://www.rfc-editor.org/rfc/rfc9112#section-2.2: an empty line before a request line is ignored. Only so
    /// many of them, though.
    private func skipEmptyLines(_ buffer: inout ByteBuffer) throws(TransportProblem) -> Bool {
        for _ in 0..<4 {
            guard let first = buffer.getInteger(at: buffer.readerIndex, as: UInt8.self) else { return false }
            guard first == UInt8(ascii: "\r") else { return true }
            guard buffer.readableBytes >= 2 else { return false }
            guard buffer.readInteger(as: UInt16.self) == 0x0D0A else {
                throw malformed("A carriage return stands alone.")
            }
        }
        throw malformed("There is no request line.")
    }

    /// The length of the head with its empty line, when it is all there.
    private mutating func headEnd(
        _ buffer: ByteBuffer,
        _ searchedCount: Int
    ) throws(TransportProblem) -> Int? {
        let bytes = buffer.readableBytesUInt8Span
        let countMax = min(bytes.count, limits.headSizeMax)
        var index = max(3, searchedCount)
        while index < countMax {
            // Looks at every fourth byte, as a search for CR LF CR LF may.
            switch bytes[index] {
            case UInt8(ascii: "\n"):
                if bytes[index - 1] == UInt8(ascii: "\r"), bytes[index - 2] == UInt8(ascii: "\n"),
                    bytes[index - 3] == UInt8(ascii: "\r")
                {
                    return index + 1
                }
                // This may be the first of the two.
                index += 2
            case UInt8(ascii: "\r"): index += 1
            default: index += 4
            }
        }
        guard bytes.count < limits.headSizeMax else {
            for index in 0..<min(countMax, limits.targetSizeMax + 64)
            where bytes[index] == UInt8(ascii: "\n") {
                throw TransportProblem(
                    .headersTooLarge,
                    "The request's head has more than \(limits.headSizeMax) bytes."
                )
            }
            throw TransportProblem(
                .targetTooLong,
                "The request target has more than \(limits.targetSizeMax) bytes."
            )
        }
        // A head whose lines end otherwise has no end to wait for.
        for index in max(1, searchedCount)..<max(1, bytes.count, searchedCount)
        where bytes[index] == UInt8(ascii: "\n") && bytes[index - 1] != UInt8(ascii: "\r") {
            throw malformed("A line ends without a carriage return.")
        }
        // Bytes that were skipped are seen again when they may be part of the end.
        state = .head(searchedCount: max(0, bytes.count - 3))
        return nil
    }

    private mutating func begin(_ framing: GatewayRequest.Framing) throws(TransportProblem) {
        switch framing {
        case .none: state = .complete
        case .length(let count):
            guard count <= limits.bodySizeMax else { throw bodyTooLarge }
            state = .length(remaining: count)
        case .chunked: state = .chunkLine
        }
    }

    private func take(_ buffer: inout ByteBuffer, upTo remaining: UInt64, into body: inout [UInt8]) -> UInt64
    {
        let count = Int(min(UInt64(buffer.readableBytes), remaining))
        guard count > 0 else { return 0 }
        body.append(contentsOf: buffer.readableBytesView.prefix(count))
        buffer.moveReaderIndex(forwardBy: count)
        return UInt64(count)
    }

    /// The line before a chunk: hexadecimal digits, and extensions that mean nothing here.
    /// https://www.rfc-editor.org/rfc/rfc9112#section-7.1
    private func chunkSize(_ buffer: inout ByteBuffer) throws(TransportProblem) -> UInt64? {
        guard let end = try lineEnd(buffer, sizeMax: limits.chunkLineSizeMax) else { return nil }
        let size = try chunkSize(buffer.readableBytesUInt8Span.extracting(first: end))
        buffer.moveReaderIndex(forwardBy: end + 2)
        return size
    }

    private func chunkSize(_ line: Span<UInt8>) throws(TransportProblem) -> UInt64 {
        var size: UInt64 = 0
        var index = 0
        while index < line.count, let digit = Self.hexDigit(line[index]) {
            guard index < 15 else { throw malformed("A chunk's length has too many digits.") }
            size = size << 4 | UInt64(digit)
            index += 1
        }
        guard index > 0, index == line.count || line[index] == UInt8(ascii: ";") else {
            throw malformed("A chunk has no length.")
        }
        while index < line.count {
            guard line[index] >= 0x20 && line[index] != 0x7F || line[index] == UInt8(ascii: "\t") else {
                throw malformed("A chunk's extension holds a control character.")
            }
            index += 1
        }
        return size
    }

    /// - Returns: bytes that were skipped, 0 for the empty line at the end, nil when more are needed.
    private func skipTrailer(_ buffer: inout ByteBuffer, _ byteCount: Int) throws(TransportProblem) -> Int? {
        guard let end = try lineEnd(buffer, sizeMax: limits.trailerSizeMax - byteCount) else { return nil }
        if end > 0 { _ = try RequestHeadParser.field(buffer.readableBytesUInt8Span, 0..<end) }
        buffer.moveReaderIndex(forwardBy: end + 2)
        return end == 0 ? 0 : end + 2
    }

    /// Where the first line ends, before its CR LF.
    private func lineEnd(_ buffer: ByteBuffer, sizeMax: Int) throws(TransportProblem) -> Int? {
        let bytes = buffer.readableBytesUInt8Span
        var index = 0
        while index < bytes.count {
            guard index < sizeMax else { throw malformed("A line of the body's framing is too long.") }
            switch bytes[index] {
            case UInt8(ascii: "\n"): throw malformed("A line ends without a carriage return.")
            case UInt8(ascii: "\r"):
                guard index + 1 < bytes.count else { return nil }
                guard bytes[index + 1] == UInt8(ascii: "\n") else {
                    throw malformed("A carriage return stands alone.")
                }
                return index
            default: index += 1
            }
        }
        return nil
    }

    private static func hexDigit(_ byte: UInt8) -> UInt8? {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - UInt8(ascii: "0")
        case UInt8(ascii: "a")...UInt8(ascii: "f"): byte - UInt8(ascii: "a") + 10
        case UInt8(ascii: "A")...UInt8(ascii: "F"): byte - UInt8(ascii: "A") + 10
        default: nil
        }
    }

    private var bodyTooLarge: TransportProblem {
        TransportProblem(.bodyTooLarge, "The body has more than \(limits.bodySizeMax) bytes.")
    }

    private func malformed(_ message: String) -> TransportProblem { TransportProblem(.malformed, message) }
}
