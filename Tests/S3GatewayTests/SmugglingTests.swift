import S3Gateway
import Testing

/// Shapes that two servers may read in two ways: refused, and the connection is closed, so that nothing that follows
/// is taken for a request.
@Suite struct SmugglingTests {
    private static let trap = "GET /trap HTTP/1.1\r\nHost: a\r\n\r\n"

    static let heads: [String] = [
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 4\r\n\r\nabcd",
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcd",
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 4, 4\r\n\r\nabcd",
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: +4\r\n\r\nabcd",
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: -4\r\n\r\nabcd",
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 0x4\r\n\r\nabcd",
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 4 4\r\n\r\nabcd",
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\nabcd",
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\nabcd",
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length : 4\r\n\r\nabcd",
        "POST /echo HTTP/1.1\r\nHost: a\r\nX: a\r\n folded\r\nContent-Length: 4\r\n\r\nabcd",
        "POST /echo HTTP/1.1\r\nHost: a\r\n Content-Length: 4\r\n\r\nabcd",
        "POST /echo HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.1\nHost: a\n\n",
        "GET / HTTP/1.1\r\nHost: a\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: a\u{0}b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX Y: b\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
        "GET /\r\nHost: a\r\n\r\n",
        "GET / a HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET path HTTP/1.1\r\nHost: a\r\n\r\n",
        "G@T / HTTP/1.1\r\nHost: a\r\n\r\n",
        "\r\n\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    ]

    @Test(arguments: heads)
    func aHeadThatCanBeReadInTwoWaysIsRefused(_ head: String) async throws {
        try await ServerFixture.run { fixture in
            let answer = try await fixture.exchange(head + Self.trap)
            #expect(answer?.status == 400)
            #expect(answer?.header("connection") == "close")
            #expect(fixture.responder.seen.paths == [])
        }
    }

    @Test func aCodingThatIsNotChunkedIsNotImplemented() async throws {
        try await ServerFixture.run { fixture in
            for coding in ["gzip, chunked", "identity", "chunked, chunked", "xchunked", "chunked;x=y"] {
                let head = "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \(coding)\r\n\r\n0\r\n\r\n"
                try await fixture.expect(501, for: head + Self.trap)
            }
            #expect(fixture.responder.seen.paths == [])
        }
    }

    static let chunks: [String] = [
        "4\nabcd\r\n0\r\n\r\n",
        "4\r\nabcde\r\n0\r\n\r\n",
        "4\r\nabcd0\r\n\r\n",
        "0x4\r\nabcd\r\n0\r\n\r\n",
        "+4\r\nabcd\r\n0\r\n\r\n",
        "-4\r\nabcd\r\n0\r\n\r\n",
        " 4\r\nabcd\r\n0\r\n\r\n",
        "4 \r\nabcd\r\n0\r\n\r\n",
        "\r\n0\r\n\r\n",
        "g\r\n",
        "10000000000000000\r\n",
        "ffffffffffffffff\r\n",
        "4;a\u{1}b\r\nabcd\r\n0\r\n\r\n",
        "0\r\nbad trailer\r\n\r\n",
        "0\r\n folded: x\r\n\r\n",
        "4;" + String(repeating: "x", count: 2000) + "\r\nabcd\r\n0\r\n\r\n",
    ]

    @Test(arguments: chunks)
    func aChunkThatCanBeReadInTwoWaysIsRefused(_ chunks: String) async throws {
        try await ServerFixture.run { fixture in
            let head = "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
            let answer = try await fixture.exchange(head + chunks + Self.trap)
            #expect(answer?.status == 400)
            #expect(answer?.header("connection") == "close")
            #expect(!fixture.responder.seen.paths.contains("/trap"))
        }
    }

    @Test func theEndOfAChunkedBodyIsItsEnd() async throws {
        try await ServerFixture.run { fixture in
            let head = "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n"
            let body = "4\r\nabcd\r\n3;name=value\r\nefg\r\n0\r\nTrailer: x\r\n\r\n"
            let last = "GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
            let all = try await fixture.client { client in
                try client.send(head + body + last)
                return String(decoding: try client.receiveAll(), as: UTF8.self)
            }
            #expect(all.contains("\r\n\r\nabcdefgHTTP/1.1 200 OK"))
            #expect(all.hasSuffix("hello"))
            #expect(fixture.responder.seen.paths == ["/echo", "/last"])
        }
    }
}
