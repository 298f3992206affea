internal import ContentHashing
internal import StoreModel

/// Takes apart a body in aws-chunked pieces as its bytes come, in whatever portions.
/// https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html
/// https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming-trailers.html
///
///     size(hex) [;chunk-signature=…] CRLF bytes CRLF     … any number
///     0 [;chunk-signature=…] CRLF
///     [name:value CRLF …] [x-amz-trailer-signature:… CRLF] CRLF
///
/// 1. What comes out does not depend on how the input is split.
/// 2. Bytes come out before the signature of their chunk is known: nothing may be made visible before `finish`
///    returned.
/// 3. Memory is bounded: one line, and the trailers.
/// 4. An error is final: every later call throws it again.
package struct AWSChunkedDecoder: ~Copyable, Sendable {
    /// Chunks that are not the last one: smaller ones would cost a line and a hash for nearly nothing.
    package static let chunkSizeMin: UInt64 = 8192
    private static let lineLengthMax = 1024
    private static let trailerCountMax = 16
    private static let trailerLengthMax = 8192
    /// 2^60 bytes: more than any object, and sums of sizes can't overflow.
    private static let sizeDigitsMax = 15

    private enum State {
        case size
        case data(remaining: UInt64)
        case lineEnd
        case trailers
        case finalLineEnd
        case end
        case failed(S3Error)
    }

    private let isSigned: Bool
    private let hasTrailer: Bool
    private let announced: Set<String>
    private let decodedLength: UInt64
    private var signing: ChunkSigning?
    private var state = State.size
    private var line: [UInt8] = []
    private var hasher = SHA256Hasher()
    private var expected: Digest?
    private var received: UInt64 = 0
    private var previousSize: UInt64?
    private var trailers = HeaderList()
    private var trailerText: [UInt8] = []
    private var trailerLength = 0

    /// - Parameters:
    ///   - decodedLength: what `x-amz-decoded-content-length` declares.
    ///   - signing: from the verified signature of the request; needed for signed chunks.
    ///   - announced: the names of `x-amz-trailer`.
    /// - Throws: `AccessDenied` when chunks are to be signed and there is nothing to check them with.
    package init(
        signed: Bool,
        trailer: Bool,
        decodedLength: UInt64,
        signing: ChunkSigning?,
        announced: [String] = []
    ) throws(S3Error) {
        guard !signed || signing != nil else {
            throw S3Error(.accessDenied, "A body of signed chunks needs a signed request.")
        }
        isSigned = signed
        hasTrailer = trailer
        self.announced = Set(announced.map { ASCIIText.lowercased($0) })
        self.decodedLength = decodedLength
        self.signing = signed ? signing : nil
    }

    /// A decoder for the body of a request whose head was verified.
    package init(
        _ payload: PayloadMode,
        headers: HeaderList,
        signing: ChunkSigning?
    ) throws(S3Error) {
        guard case .streaming(let signed, let trailer) = payload else {
            throw S3Error(.invalidRequest, "The body is not in aws-chunked pieces.")
        }
        guard let text = try headers.single("x-amz-decoded-content-length") else {
            throw S3Error(.missingContentLength)
        }
        guard let length = ASCIIText.decimal(text) else {
            throw .invalidArgument(
                "The decoded content length is not a number.",
                name: "x-amz-decoded-content-length",
                value: text
            )
        }
        let announced = headers.all("x-amz-trailer").flatMap { $0.split(separator: ",") }.map {
            String(ASCIIText.trimmedSlice($0))
        }
        guard announced.count <= Self.trailerCountMax else {
            throw S3Error(.malformedTrailer, "Too many trailers were announced.")
        }
        try self.init(
            signed: signed,
            trailer: trailer,
            decodedLength: length,
            signing: signing,
            announced: announced.filter { !$0.isEmpty }
        )
    }

    package var isComplete: Bool {
        if case .end = state { return true }
        return false
    }

    /// Takes in the next bytes of the body.
    /// - Returns: which parts of `input` are content of the object, in order.
    package mutating func push(_ input: UnsafeRawBufferPointer) throws(S3Error) -> [Range<Int>] {
        if case .failed(let error) = state { throw error }
        var content: [Range<Int>] = []
        var position = 0
        do throws(S3Error) {
            while position < input.count {
                if case .data(let remaining) = state {
                    let count = Int(min(remaining, UInt64(input.count - position)))
                    let bytes = UnsafeRawBufferPointer(rebasing: input[position..<position + count])
                    if isSigned { hasher.update(bytes) }
                    content.append(position..<position + count)
                    position += count
                    try advance(remaining: remaining - UInt64(count))
                } else {
                    try take(input[position])
                    position += 1
                }
            }
        } catch {
            state = .failed(error)
            throw error
        }
        return content
    }

    /// The same with a copy of the content.
    package mutating func push(_ input: some Sequence<UInt8>) throws(S3Error) -> [UInt8] {
        let bytes = [UInt8](input)
        var content: [UInt8] = []
        let ranges = try bytes.span.bytes.withUnsafeBytes { (buffer) throws(S3Error) in
            try push(buffer)
        }
        for range in ranges { content.append(contentsOf: bytes[range]) }
        return content
    }

    /// To be called at the end of the body.
    /// - Returns: the trailing headers.
    /// - Throws: `IncompleteBody` when something is missing.
    package mutating func finish() throws(S3Error) -> HeaderList {
        switch state {
        // The last line end says nothing, and some clients leave it out.
        case .end:
            return trailers
        case .finalLineEnd where line.isEmpty || line == [UInt8(ascii: "\r")]:
            return trailers
        case .failed(let error):
            throw error
        default:
            let error = S3Error(.incompleteBody, "The body ended within its chunks.")
            state = .failed(error)
            throw error
        }
    }

    // MARK: Chunks

    private mutating func advance(remaining: UInt64) throws(S3Error) {
        state = .data(remaining: remaining)
        guard remaining == 0 else { return }
        try checkChunk()
        state = .lineEnd
    }

    private mutating func checkChunk() throws(S3Error) {
        guard isSigned else { return }
        let hash = hasher.current()
        hasher = SHA256Hasher()
        guard let signature = signing?.chunk(hash), let expected, ConstantTime.equal(signature, expected)
        else {
            throw S3Error(.signatureDoesNotMatch)
        }
    }

    /// One byte outside the content.
    private mutating func take(_ byte: UInt8) throws(S3Error) {
        if case .end = state { throw malformed("there are bytes behind its end") }
        guard byte == UInt8(ascii: "\n") else {
            guard line.count < Self.lineLengthMax else { throw malformed("a line is too long") }
            line.append(byte)
            return
        }
        let hasReturn = line.last == UInt8(ascii: "\r")
        if hasReturn { line.removeLast() }
        let text = line
        line.removeAll(keepingCapacity: true)
        switch state {
        case .size:
            guard hasReturn else { throw malformed("a line does not end with CRLF") }
            try takeSize(text)
        case .lineEnd:
            guard hasReturn, text.isEmpty else { throw malformed("a chunk is longer than it says") }
            state = .size
        case .finalLineEnd:
            guard hasReturn, text.isEmpty else { throw malformed("there are bytes behind its end") }
            state = .end
        case .trailers:
            try takeTrailer(text)
        case .data, .end, .failed:
            throw malformed("it has a line where none can be")
        }
    }

    /// `400;chunk-signature=…`
    private mutating func takeSize(_ line: [UInt8]) throws(S3Error) {
        let digits = line.prefix { $0 != UInt8(ascii: ";") }
        guard !digits.isEmpty, digits.count <= Self.sizeDigitsMax else { throw malformed("a size is wrong") }
        var size: UInt64 = 0
        for digit in digits {
            guard let nibble = PercentCoding.nibble(digit) else { throw malformed("a size is wrong") }
            size = size << 4 | UInt64(nibble)
        }
        expected = nil
        if isSigned {
            guard let signature = Self.signature(in: line.dropFirst(digits.count)) else {
                throw malformed("a chunk has no signature")
            }
            expected = signature
        }
        if size > 0, let previousSize, previousSize < Self.chunkSizeMin {
            throw S3Error(.invalidChunkSize, details: [("BadChunkSize", "\(previousSize)")])
        }
        previousSize = size
        guard size <= decodedLength, received <= decodedLength - size else { throw wrongLength }
        received += size
        if size > 0 {
            state = .data(remaining: size)
            return
        }
        guard received == decodedLength else { throw wrongLength }
        try checkChunk()
        state = hasTrailer ? .trailers : .finalLineEnd
    }

    private static let signaturePrefix = [UInt8](";chunk-signature=".utf8)

    private static func signature(in text: ArraySlice<UInt8>) -> Digest? {
        guard text.starts(with: signaturePrefix) else { return nil }
        return Hexadecimal.digest(String(decoding: text.dropFirst(signaturePrefix.count), as: UTF8.self))
    }

    // MARK: Trailers

    /// A line of the trailer; the empty one ends it. Some clients end the lines before the signature with an LF of
    /// their own, which makes an empty line there: only the signature ends a signed trailer.
    private mutating func takeTrailer(_ line: [UInt8]) throws(S3Error) {
        guard !line.isEmpty else {
            if isSigned && !announced.isEmpty { return }
            try checkTrailers()
            state = .end
            return
        }
        trailerLength += line.count
        guard let text = String(validating: line, as: UTF8.self), trailerLength <= Self.trailerLengthMax,
            let colon = text.utf8.firstIndex(of: UInt8(ascii: ":"))
        else { throw S3Error(.malformedTrailer) }
        let name = ASCIIText.trimmed(ASCIIText.lowercased(String(text[..<colon])))
        let value = ASCIIText.trimmed(String(text[text.utf8.index(after: colon)...]))
        if isSigned && name == "x-amz-trailer-signature" {
            try checkTrailers()
            guard let expected = Hexadecimal.digest(value),
                let signature = signing?.trailer(SHA256Hasher.hash(trailerText)),
                ConstantTime.equal(signature, expected)
            else { throw S3Error(.signatureDoesNotMatch) }
            state = .finalLineEnd
            return
        }
        guard announced.contains(name), !trailers.contains(name),
            trailers.fields.count < Self.trailerCountMax
        else { throw S3Error(.malformedTrailer) }
        trailers.append(name, value)
        trailerText += [UInt8]("\(name):\(value)\n".utf8)
    }

    private func checkTrailers() throws(S3Error) {
        guard trailers.fields.count == announced.count else {
            throw S3Error(.malformedTrailer, "A trailer that was announced is missing.")
        }
    }

    private var wrongLength: S3Error {
        S3Error(
            .incompleteBody,
            "The body has another length than the x-amz-decoded-content-length header says."
        )
    }

    private func malformed(_ reason: String) -> S3Error {
        S3Error(.invalidRequest, "The aws-chunked body is malformed: \(reason).")
    }
}
