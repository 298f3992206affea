internal import ContentHashing
internal import StoreModel

/// Puts a body into aws-chunked pieces, as a client.
package struct AWSChunkedEncoder: Sendable {
    private var signing: ChunkSigning?

    /// - Parameter signing: what `RequestSigner.sign` returned; nil for chunks without signatures.
    package init(signing: ChunkSigning?) { self.signing = signing }

    /// The line in front of a chunk's bytes; `\r\n` follows them.
    package mutating func header(of bytes: UnsafeRawBufferPointer) -> [UInt8] {
        var line = String(bytes.count, radix: 16)
        if let signature = signing?.chunk(SHA256Hasher.hash(bytes)) {
            line += ";chunk-signature=" + Hexadecimal.text(signature)
        }
        return [UInt8]((line + "\r\n").utf8)
    }

    /// A whole chunk. All chunks but the last must have `AWSChunkedDecoder.chunkSizeMin` bytes; none may be empty.
    package mutating func chunk(_ bytes: [UInt8]) -> [UInt8] {
        bytes.withUnsafeBytes { header(of: $0) } + bytes + lineEnd
    }

    /// The end of the body.
    /// - Parameter trailers: names in lower case, in the order of `x-amz-trailer`; nil without a trailer.
    package mutating func end(trailers: [(name: String, value: String)]? = nil) -> [UInt8] {
        var bytes = header(of: UnsafeRawBufferPointer(start: nil, count: 0))
        guard let trailers else { return bytes + lineEnd }
        var signed: [UInt8] = []
        for trailer in trailers {
            bytes += [UInt8]("\(trailer.name):\(trailer.value)\r\n".utf8)
            signed += [UInt8]("\(trailer.name):\(trailer.value)\n".utf8)
        }
        if !trailers.isEmpty, let signature = signing?.trailer(SHA256Hasher.hash(signed)) {
            bytes += [UInt8]("x-amz-trailer-signature:\(Hexadecimal.text(signature))\r\n".utf8)
        }
        return bytes + lineEnd
    }

    /// The length of the whole body, for `Content-Length`.
    /// - Parameter trailerLengths: of `name:value` each, without the line end; nil without a trailer.
    package static func encodedLength(
        decodedLength: Int,
        chunkSize: Int,
        signed: Bool,
        trailerLengths: [Int]? = nil
    ) -> Int {
        precondition(chunkSize > 0 && decodedLength >= 0, "A body is cut into chunks that have bytes.")
        func line(_ size: Int) -> Int {
            String(size, radix: 16).utf8.count + (signed ? ";chunk-signature=".utf8.count + 64 : 0) + 2
        }
        let full = decodedLength / chunkSize
        let rest = decodedLength % chunkSize
        var length = full * (line(chunkSize) + chunkSize + 2) + (rest > 0 ? line(rest) + rest + 2 : 0)
        length += line(0) + 2
        if let trailerLengths {
            length += trailerLengths.reduce(0) { $0 + $1 + 2 }
            if signed && !trailerLengths.isEmpty { length += "x-amz-trailer-signature:".utf8.count + 64 + 2 }
        }
        return length
    }
}

private let lineEnd: [UInt8] = [0x0D, 0x0A]
