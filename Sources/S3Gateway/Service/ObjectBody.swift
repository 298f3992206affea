internal import ContentHashing
internal import ObjectService
internal import S3Protocol
internal import StoreModel
internal import Synchronization

/// The content of an object or a part on its way in: the body as it is, or taken out of aws-chunked pieces.
final class ObjectBody: ByteSource {
    private let body: RequestBody
    private let checksums: ChecksumHeaders
    private var decoder: DecoderBox?
    /// What the trailer said, for whoever asks at the end.
    private let trailers = TrailerBox()
    /// The declared length of the content; nil when the client does not say.
    let contentLength: UInt64?

    init(_ exchange: Exchange, checksums: ChecksumHeaders) throws(S3Error) {
        body = exchange.body
        self.checksums = checksums
        let request = exchange.request
        if request.payload.isStreaming {
            decoder = DecoderBox(
                try AWSChunkedDecoder(
                    request.payload,
                    headers: request.headers,
                    signing: request.chunkSigning
                )
            )
            contentLength = request.headers.first("x-amz-decoded-content-length").flatMap {
                ASCIIText.decimal($0)
            }
        } else {
            // A request that says nothing of its length has no body by HTTP; S3 asks for the length all the same.
            contentLength = request.headers.contains("content-length") ? body.contentLength : nil
        }
    }

    func next() async throws -> [UInt8]? {
        while let piece = try await body.next() {
            guard let decoder else { return piece }
            let content = try decoder.decoder.push(piece)
            if !content.isEmpty { return content }
        }
        if let decoder, !trailers.isSet { trailers.set(try decoder.decoder.finish()) }
        return nil
    }

    /// What a trailer says the content is; after the end of the body.
    func expectationAtEnd() throws(S3Error) -> BodyExpectation {
        try trailers.expectation(checksums)
    }

    /// The same, for another task.
    var expectationSource: @Sendable () async throws -> BodyExpectation {
        let (trailers, checksums) = (self.trailers, self.checksums)
        return { try trailers.expectation(checksums) }
    }
}

/// A decoder can't be copied, and so not be kept in a variable that may be empty.
private final class DecoderBox {
    var decoder: AWSChunkedDecoder
    init(_ decoder: consuming AWSChunkedDecoder) { self.decoder = decoder }
}

private final class TrailerBox: Sendable {
    private let trailers = Mutex<HeaderList?>(nil)

    var isSet: Bool { trailers.withLock { $0 != nil } }

    func set(_ list: HeaderList) { trailers.withLock { $0 = list } }

    func expectation(_ checksums: ChecksumHeaders) throws(S3Error) -> BodyExpectation {
        guard let list = trailers.withLock({ $0 }) else { return .none }
        return BodyExpectation(checksum: try checksums.trailerChecksum(list))
    }
}
