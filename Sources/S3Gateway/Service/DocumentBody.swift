internal import ContentHashing
internal import ObjectService
internal import S3Protocol
internal import StoreModel

/// Reads small bodies whole: XML and JSON documents.
enum DocumentBody {
    /// - Parameter checksums: nil: those of the request's headers.
    static func read(
        _ exchange: Exchange,
        sizeMax: Int,
        checksums: ChecksumHeaders? = nil
    ) async throws -> [UInt8] {
        if let length = exchange.body.contentLength, length > UInt64(sizeMax) { throw tooLong(sizeMax) }
        let checksums = try checksums ?? ChecksumHeaders(exchange.headers)
        let source = try ObjectBody(exchange, checksums: checksums)
        var bytes: [UInt8] = []
        while let piece = try await source.next() {
            guard bytes.count + piece.count <= sizeMax else { throw tooLong(sizeMax) }
            bytes += piece
        }
        let atEnd = try source.expectationAtEnd()
        if case .signed(let digest) = exchange.request.payload, SHA256Hasher.hash(bytes) != digest {
            throw S3Error(.contentSHA256Mismatch)
        }
        if let expected = checksums.contentMD5, bytes.withUnsafeBytes({ MD5Hasher.hash($0) }) != expected {
            throw S3Error(.badDigest)
        }
        for expected in [checksums.checksum, atEnd.checksum].compactMap({ $0 })
        where Checksummer.checksum(expected.algorithm, of: bytes) != expected {
            throw S3Error(
                .badDigest,
                "The \(expected.algorithm.name) you specified did not match the calculated checksum."
            )
        }
        return bytes
    }

    private static func tooLong(_ sizeMax: Int) -> S3Error {
        S3Error(.maxMessageLengthExceeded, details: [("MaxMessageLengthBytes", "\(sizeMax)")])
    }
}
