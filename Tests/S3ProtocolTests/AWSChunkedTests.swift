import ContentHashing
import S3Protocol
import StoreModel
import Testing

@Suite struct AWSChunkedTests {
    static let now = Timestamp(milliseconds: 1_369_353_600_000)
    static let content = [UInt8](repeating: UInt8(ascii: "a"), count: 66_560)

    private static func signing(_ vectorName: String) throws -> ChunkSigning {
        let vector = try SignatureVector.named(vectorName)
        let verified = try SignatureVerifier(region: "us-east-1").verify(
            try RequestAuthentication(vector.head),
            head: vector.head,
            secret: vector.secret,
            now: vector.timestamp
        )
        return try #require(verified.chunkSigning)
    }

    private static func decoder(_ signing: ChunkSigning?, trailer: Bool, length: UInt64 = 66_560) throws
        -> AWSChunkedDecoder
    {
        try AWSChunkedDecoder(
            signed: signing != nil,
            trailer: trailer,
            decodedLength: length,
            signing: signing,
            announced: trailer ? ["x-amz-checksum-crc32c"] : []
        )
    }

    /// What a decoder makes of a body that comes in pieces of the given sizes.
    private static func decode(
        _ body: [UInt8],
        _ make: @autoclosure () throws -> AWSChunkedDecoder,
        pieces: () -> Int
    ) throws -> (content: [UInt8], trailers: HeaderList) {
        var decoder = try make()
        var content: [UInt8] = []
        var position = 0
        while position < body.count {
            let end = min(body.count, position + max(1, pieces()))
            content += try decoder.push(body[position..<end])
            position = end
        }
        return (content, try decoder.finish())
    }

    private static func whole(_ body: [UInt8], _ make: @autoclosure () throws -> AWSChunkedDecoder) throws
        -> [UInt8]
    {
        try decode(body, make()) { Int.max / 2 }.content
    }

    /// https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html
    @Test func theExampleOfTheDocumentationVerifies() throws {
        let signing = try Self.signing("S3 documentation: chunked upload")
        let signatures = [
            "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
            "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
            "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
        ]
        var encoder = AWSChunkedEncoder(signing: signing)
        var body = encoder.chunk([UInt8](Self.content.prefix(65_536)))
        body += encoder.chunk([UInt8](Self.content.suffix(1024)))
        body += encoder.end()
        for signature in signatures { #expect(String(decoding: body, as: UTF8.self).contains(signature)) }
        #expect(body.count == 66_824)
        #expect(
            AWSChunkedEncoder.encodedLength(decodedLength: 66_560, chunkSize: 65_536, signed: true) == 66_824
        )
        #expect(try Self.whole(body, Self.decoder(signing, trailer: false)) == Self.content)
    }

    /// https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming-trailers.html
    @Test func theExampleWithATrailerVerifies() throws {
        let signing = try Self.signing("S3 documentation: chunked upload with trailer")
        let signatures = [
            "b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2",
            "1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7",
            "2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992",
            "d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435",
        ]
        var encoder = AWSChunkedEncoder(signing: signing)
        var body = encoder.chunk([UInt8](Self.content.prefix(65_536)))
        body += encoder.chunk([UInt8](Self.content.suffix(1024)))
        let end = encoder.end(trailers: [("x-amz-checksum-crc32c", "sOO8/Q==")])
        for signature in signatures {
            #expect(String(decoding: body + end, as: UTF8.self).contains(signature))
        }
        let length = AWSChunkedEncoder.encodedLength(
            decodedLength: 66_560,
            chunkSize: 65_536,
            signed: true,
            trailerLengths: ["x-amz-checksum-crc32c:sOO8/Q==".utf8.count]
        )
        #expect(body.count + end.count == length)
        // Some clients end the trailer's lines with an LF in front of the CRLF.
        let text = String(decoding: end, as: UTF8.self)
        for variant in [text, text.replacing("sOO8/Q==\r\n", with: "sOO8/Q==\n\r\n")] {
            let (content, trailers) = try Self.decode(
                body + [UInt8](variant.utf8),
                Self.decoder(signing, trailer: true)
            ) { 1000 }
            #expect(content == Self.content)
            #expect(trailers.first("x-amz-checksum-crc32c") == "sOO8/Q==")
        }
        let tampered = text.replacing("sOO8/Q==", with: "sOO8/A==")
        #expect(throws: S3Error.self) {
            try Self.whole(body + [UInt8](tampered.utf8), Self.decoder(signing, trailer: true))
        }
    }

    private struct Sample {
        let body: [UInt8]
        let content: [UInt8]
        let signing: ChunkSigning?
        let trailer: Bool
    }

    /// A body of random chunks in one of the four modes.
    private static func sample(_ generator: inout SeededGenerator, signed: Bool, trailer: Bool) throws
        -> Sample
    {
        let signing = signed ? try signing("S3 documentation: chunked upload") : nil
        var encoder = AWSChunkedEncoder(signing: signing)
        var body: [UInt8] = []
        var content: [UInt8] = []
        let count = Int.random(in: 0...3, using: &generator)
        for index in 0..<count {
            let size =
                index == count - 1
                ? Int.random(in: 1...20_000, using: &generator)
                : 8192 + Int.random(in: 0...100, using: &generator)
            let chunk = (0..<size).map { _ in UInt8.random(in: 9...14, using: &generator) }
            content += chunk
            body += encoder.chunk(chunk)
        }
        body += encoder.end(trailers: trailer ? [("x-amz-checksum-crc32c", "sOO8/Q==")] : nil)
        return Sample(body: body, content: content, signing: signing, trailer: trailer)
    }

    @Test(arguments: [(true, false), (true, true), (false, true), (false, false)])
    func everySplitOfTheInputGivesTheSame(_ signed: Bool, _ trailer: Bool) throws {
        var generator = SeededGenerator(seed: 7)
        for _ in 0..<15 {
            let sample = try Self.sample(&generator, signed: signed, trailer: trailer)
            for largest in [1, 3, 64, 5000] {
                let (content, trailers) = try Self.decode(
                    sample.body,
                    Self.decoder(
                        sample.signing,
                        trailer: trailer,
                        length: UInt64(sample.content.count)
                    )
                ) {
                    Int.random(in: 1...largest, using: &generator)
                }
                #expect(content == sample.content)
                #expect(trailers.fields.count == (trailer ? 1 : 0))
            }
        }
    }

    @Test func aTruncatedBodyIsNeverComplete() throws {
        var generator = SeededGenerator(seed: 8)
        for (signed, trailer) in [(true, false), (true, true), (false, true)] {
            let sample = try Self.sample(&generator, signed: signed, trailer: trailer)
            // All but the line end behind everything, which some clients leave out.
            let lengths = (0..<60).map { _ in Int.random(in: 0..<(sample.body.count - 2), using: &generator) }
            for length in lengths + [sample.body.count - 3, 0] {
                #expect(throws: S3Error.self) {
                    try Self.whole(
                        [UInt8](sample.body.prefix(length)),
                        Self.decoder(
                            sample.signing,
                            trailer: trailer,
                            length: UInt64(sample.content.count)
                        )
                    )
                }
            }
        }
    }

    @Test func everyFlippedByteOfASignedBodyIsNoticed() throws {
        var generator = SeededGenerator(seed: 9)
        for trailer in [false, true] {
            let sample = try Self.sample(&generator, signed: true, trailer: trailer)
            for _ in 0..<200 {
                var body = sample.body
                let index = Int.random(in: 0..<(body.count - 2), using: &generator)
                body[index] ^= UInt8.random(in: 1...255, using: &generator)
                // Digits and names of either case are the same.
                if let content = try? Self.whole(
                    body,
                    Self.decoder(
                        sample.signing,
                        trailer: trailer,
                        length: UInt64(sample.content.count)
                    )
                ) {
                    #expect(content == sample.content)
                }
            }
        }
    }

    private func code(_ text: String, length: UInt64, trailer: Bool = false) -> S3ErrorCode? {
        refusal {
            _ = try Self.whole([UInt8](text.utf8), Self.decoder(nil, trailer: trailer, length: length))
        }?.code
    }

    @Test func sizesAreChecked() {
        #expect(code("3\r\nabc\r\n0\r\n\r\n", length: 3) == nil)
        #expect(code("3;ext=1\r\nabc\r\n0\r\n\r\n", length: 3) == nil)
        #expect(code("3\r\nabc\r\n0\r\n\r\n", length: 4) == .incompleteBody)
        #expect(code("3\r\nabc\r\n0\r\n\r\n", length: 2) == .incompleteBody)
        #expect(code("ffffffffffffffff\r\n", length: 3) == .invalidRequest)
        #expect(code("fffffffffffffff\r\n", length: UInt64.max) == .incompleteBody)
        #expect(code("-3\r\nabc\r\n0\r\n\r\n", length: 3) == .invalidRequest)
        #expect(code("+3\r\nabc\r\n0\r\n\r\n", length: 3) == .invalidRequest)
        #expect(code("0x3\r\nabc\r\n0\r\n\r\n", length: 3) == .invalidRequest)
        #expect(code("\r\nabc\r\n0\r\n\r\n", length: 3) == .invalidRequest)
        #expect(code("3\nabc\r\n0\r\n\r\n", length: 3) == .invalidRequest)
        #expect(code("3\r\nabcd\r\n0\r\n\r\n", length: 3) == .invalidRequest)
        #expect(code("3\r\nabc\r\n0\r\n\r\nmore", length: 3) == .invalidRequest)
        #expect(code("3\r\nabc\r\n0\r\nmore", length: 3) == .incompleteBody)
        #expect(code("", length: 0) == .incompleteBody)
        #expect(code("0\r\n\r\n", length: 0) == nil)
        #expect(code("1;" + String(repeating: "x", count: 2000), length: 3) == .invalidRequest)
    }

    @Test func onlyTheLastChunkMayBeSmall() {
        #expect(code("1\r\na\r\n1\r\nb\r\n0\r\n\r\n", length: 2) == .invalidChunkSize)
    }

    @Test func trailersAreThoseThatWereAnnounced() {
        let start = "1\r\na\r\n0\r\n"
        let good = "x-amz-checksum-crc32c:sOO8/Q==\r\n"
        #expect(code(start + good + "\r\n", length: 1, trailer: true) == nil)
        #expect(code(start + "\r\n", length: 1, trailer: true) == .malformedTrailer)
        #expect(code(start + good + good + "\r\n", length: 1, trailer: true) == .malformedTrailer)
        #expect(code(start + "x-other:1\r\n\r\n", length: 1, trailer: true) == .malformedTrailer)
        #expect(code(start + "no colon\r\n\r\n", length: 1, trailer: true) == .malformedTrailer)
        #expect(
            code(start + String(repeating: "y", count: 9000), length: 1, trailer: true) == .invalidRequest
        )
        #expect(code(start + good, length: 1, trailer: true) == .incompleteBody)
    }

    @Test func anErrorIsFinal() throws {
        var decoder = try Self.decoder(nil, trailer: false, length: 3)
        #expect(throws: S3Error.self) { try decoder.push([UInt8]("zz\r\n".utf8)) }
        #expect(throws: S3Error.self) { try decoder.push([UInt8]("3\r\nabc\r\n0\r\n\r\n".utf8)) }
        #expect(throws: S3Error.self) { try decoder.finish() }
        let isComplete = decoder.isComplete
        #expect(!isComplete)
    }

    @Test func theHeadMustSayHowLongTheContentIs() {
        func code(_ headers: [(name: String, value: String)]) -> S3ErrorCode? {
            refusal {
                _ = try AWSChunkedDecoder(
                    .streaming(signed: false, trailer: true),
                    headers: HeaderList(headers),
                    signing: nil
                )
            }?.code
        }
        #expect(code([]) == .missingContentLength)
        #expect(code([("x-amz-decoded-content-length", "-1")]) == .invalidArgument)
        #expect(code([("x-amz-decoded-content-length", "99999999999999999999")]) == .invalidArgument)
        #expect(
            code([("x-amz-decoded-content-length", "1"), ("x-amz-decoded-content-length", "2")])
                == .invalidRequest
        )
        let many = (0..<20).map { "x-\($0)" }.joined(separator: ",")
        #expect(code([("x-amz-decoded-content-length", "1"), ("x-amz-trailer", many)]) == .malformedTrailer)
        #expect(code([("x-amz-decoded-content-length", "1")]) == nil)
        #expect(
            refusal {
                _ = try AWSChunkedDecoder(signed: true, trailer: false, decodedLength: 1, signing: nil)
            }?.code == .accessDenied
        )
    }
}
