internal import ContentHashing
internal import CurlTransport
internal import S3Protocol
package import StoreModel

/// The body of an upload.
package enum S3Body {
    /// - Parameter sha256: of them, where it is known: it is not computed again for the signature.
    case bytes([UInt8], sha256: Digest? = nil)
    /// - Parameters:
    ///   - sha256: of the whole, where it is known: then it is signed.
    ///   - isReplayable: whether `open` gives the same bytes again: a request whose signature was corrected is
    ///     repeated only then.
    ///   - open: makes a source of all bytes from the first on.
    case stream(
        length: UInt64,
        sha256: Digest? = nil,
        isReplayable: Bool = true,
        open: () async throws -> (() async throws -> [UInt8]?)
    )

    package static var empty: S3Body { .bytes([]) }

    package var length: UInt64 {
        switch self {
        case .bytes(let bytes, _): UInt64(bytes.count)
        case .stream(let length, _, _, _): length
        }
    }

    var isReplayable: Bool {
        switch self {
        case .bytes: true
        case .stream(_, _, let isReplayable, _): isReplayable
        }
    }
}

/// How bodies are signed.
package enum S3PayloadSigning: String, Sendable {
    /// With their SHA-256 where it is known or they are in memory; else unsigned over TLS, and in signed chunks over
    /// plain HTTP.
    case automatic
    /// Never unsigned: in signed chunks where the SHA-256 is not known, also over TLS.
    case signed
    /// Over TLS. Plain HTTP is signed as by `automatic`: nothing else guards the bytes there.
    case unsigned
}

/// A body as it goes onto the wire, and the headers that say so.
struct WireBody {
    /// Every chunk of a chunked body but the last: its size is part of the length that is declared before.
    static let chunkSize = 256 << 10

    let mode: PayloadMode
    /// To be set before signing.
    let fields: [(name: String, value: String)]
    private let body: S3Body
    private let trailer: ChecksumAlgorithm?
    private let wireLength: UInt64

    init(_ body: S3Body, signing: S3PayloadSigning, isSecure: Bool, trailer: ChecksumAlgorithm?) {
        self.body = body
        self.trailer = trailer
        mode = Self.mode(body, signing: signing, isSecure: isSecure, hasTrailer: trailer != nil)
        var fields: [(name: String, value: String)] = []
        if case .streaming(let isSigned, _) = mode {
            let encoded = AWSChunkedEncoder.encodedLength(
                decodedLength: Int(clamping: body.length),
                chunkSize: Self.chunkSize,
                signed: isSigned,
                trailerLengths: trailer.map { [Self.trailerLength($0)] }
            )
            wireLength = UInt64(encoded)
            fields.append(("x-amz-decoded-content-length", "\(body.length)"))
            fields.append(("content-encoding", "aws-chunked"))
            if let trailer { fields.append(("x-amz-trailer", trailer.headerName)) }
        } else {
            wireLength = body.length
        }
        self.fields = fields
    }

    private static func mode(
        _ body: S3Body,
        signing: S3PayloadSigning,
        isSecure: Bool,
        hasTrailer: Bool
    ) -> PayloadMode {
        let mayBeUnsigned = isSecure && signing != .signed
        if hasTrailer { return .streaming(signed: !mayBeUnsigned, trailer: true) }
        if mayBeUnsigned && signing == .unsigned { return .unsigned }
        switch body {
        case .bytes(let bytes, let digest): return .signed(digest ?? SHA256Hasher.hash(bytes))
        case .stream(_, let digest?, _, _): return .signed(digest)
        case .stream: return mayBeUnsigned ? .unsigned : .streaming(signed: true, trailer: false)
        }
    }

    /// `name:value` of a checksum, whose Base64 has a fixed length.
    private static func trailerLength(_ algorithm: ChecksumAlgorithm) -> Int {
        algorithm.headerName.utf8.count + 1 + (algorithm.byteCount + 2) / 3 * 4
    }

    /// - Parameter signing: what the signer returned for this request.
    func requestBody(signing: ChunkSigning) async throws -> HTTPRequestBody {
        let next: () async throws -> [UInt8]?
        switch body {
        case .bytes(let bytes, _):
            guard mode.isStreaming else { return .bytes(bytes) }
            var rest: [UInt8]? = bytes
            next = {
                defer { rest = nil }
                return rest
            }
        case .stream(let length, _, _, let open):
            next = try await open()
            guard mode.isStreaming else { return .stream(length: length, next: next) }
        }
        guard case .streaming(let isSigned, _) = mode else { return .none }
        let chunks = ChunkedSource(
            next,
            encoder: AWSChunkedEncoder(signing: isSigned ? signing : nil),
            length: body.length,
            trailer: trailer
        )
        return .stream(length: wireLength, next: { try await chunks.next() })
    }
}

/// Puts a source into aws-chunked pieces of one size. Used by one task.
private final class ChunkedSource {
    private let source: () async throws -> [UInt8]?
    private var encoder: AWSChunkedEncoder
    private let length: UInt64
    private let trailer: ChecksumAlgorithm?
    private var checksum: RunningChecksum?
    private var held: [UInt8] = []
    private var count: UInt64 = 0
    private var isSourceDone = false
    private var isDone = false

    init(
        _ source: @escaping () async throws -> [UInt8]?,
        encoder: AWSChunkedEncoder,
        length: UInt64,
        trailer: ChecksumAlgorithm?
    ) {
        self.source = source
        self.encoder = encoder
        self.length = length
        self.trailer = trailer
        checksum = trailer.map { RunningChecksum($0) }
    }

    func next() async throws -> [UInt8]? {
        guard !isDone else { return nil }
        while !isSourceDone, held.count < WireBody.chunkSize {
            guard let piece = try await source() else {
                isSourceDone = true
                break
            }
            count += UInt64(piece.count)
            guard count <= length else { throw Self.mismatch(length) }
            held += piece
        }
        guard !held.isEmpty else {
            guard count == length else { throw Self.mismatch(length) }
            isDone = true
            return encoder.end(trailers: trailers)
        }
        let chunk = [UInt8](held.prefix(WireBody.chunkSize))
        held.removeFirst(chunk.count)
        checksum?.update(chunk)
        return encoder.chunk(chunk)
    }

    private var trailers: [(name: String, value: String)]? {
        guard let trailer, let checksum else { return nil }
        return [(trailer.headerName, checksum.finish().base64)]
    }

    private static func mismatch(_ length: UInt64) -> TransportError {
        TransportError(
            .bodyLengthMismatch,
            "The body was to have \(length) bytes; its source gave another number."
        )
    }
}

/// A checksum in a class: what can't be copied can't be an optional property that is replaced.
private final class RunningChecksum {
    private let algorithm: ChecksumAlgorithm
    private var checksummer: Checksummer

    init(_ algorithm: ChecksumAlgorithm) {
        self.algorithm = algorithm
        checksummer = Checksummer(algorithm)
    }

    func update(_ bytes: [UInt8]) { bytes.withUnsafeBytes { checksummer.update($0) } }

    func finish() -> Checksum {
        var last = Checksummer(algorithm)
        swap(&last, &checksummer)
        return last.finish()
    }
}
