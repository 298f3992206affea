package import ObjectService
package import S3Protocol

/// A request and the way to answer it: what a handler is given. Used by one task.
package final class Exchange {
    package let request: VerifiedRequest
    package let body: RequestBody
    private let writer: ResponseWriter
    private let commonHeaders: [HeaderField]

    init(
        _ request: VerifiedRequest,
        body: RequestBody,
        writer: ResponseWriter,
        commonHeaders: [HeaderField]
    ) {
        self.request = request
        self.body = body
        self.writer = writer
        self.commonHeaders = commonHeaders
    }

    package var headers: HeaderList { request.headers }
    package var query: QueryItems { request.query }

    /// A whole response. `contentLength` is for HEAD, which tells the length of a body that is not sent.
    package func send(
        _ status: Int = 200,
        _ headers: [HeaderField] = [],
        body: [UInt8] = [],
        contentLength: UInt64? = nil
    ) {
        writer.send(
            ResponseHead(status: status, headers: headers + commonHeaders, contentLength: contentLength),
            body: body
        )
    }

    /// An XML document.
    package func send(_ status: Int = 200, _ headers: [HeaderField] = [], document: some XMLResponse) {
        send(status, headers + [HeaderField("Content-Type", "application/xml")], body: document.xmlBytes)
    }

    /// Begins a response whose body follows by `write` and `finish`.
    package func start(_ status: Int, _ headers: [HeaderField], contentLength: UInt64?) {
        writer.start(
            ResponseHead(status: status, headers: headers + commonHeaders, contentLength: contentLength)
        )
    }

    /// A whole response of this one piece, which may have been put into this exchange as into a room.
    package func send(_ status: Int, _ headers: [HeaderField], piece: ObjectPiece) {
        switch piece {
        case .bytes(let bytes): send(status, headers, body: bytes)
        case .placed:
            writer.sendPlaced(
                ResponseHead(status: status, headers: headers + commonHeaders, contentLength: nil)
            )
        }
    }

    package func write(_ piece: [UInt8]) async throws { try await writer.write(piece) }

    package func write(_ piece: ObjectPiece) async throws {
        switch piece {
        case .bytes(let bytes): try await writer.write(bytes)
        case .placed: try await writer.writePlaced()
        }
    }

    package func finish() { writer.finish() }

    /// The body as a small document.
    /// - Throws: `MaxMessageLengthExceeded` when it is longer, `XAmzContentSHA256Mismatch` when it is not what was
    ///   signed, `BadDigest` when it is not what Content-MD5 says.
    /// - Parameter checksums: nil: those of the headers.
    package func document(
        sizeMax: Int = 1 << 20,
        checksums: ChecksumHeaders? = nil
    ) async throws -> [UInt8] {
        try await DocumentBody.read(self, sizeMax: sizeMax, checksums: checksums)
    }
}

/// What is put here is sent from here.
extension Exchange: PieceRoom {
    package func place(_ count: Int, _ fill: (UnsafeMutableRawBufferPointer) -> Bool) -> Bool {
        writer.place(count, fill)
    }
}
