import S3Gateway
import Testing

@Suite struct ConnectionTests {
    private static func get(_ path: String, _ headers: String = "") -> String {
        "GET \(path) HTTP/1.1\r\nHost: a\r\n\(headers)\r\n"
    }

    private static let close = "Connection: close\r\n"

    @Test func aRequestIsAnsweredAndTheConnectionKept() async throws {
        try await ServerFixture.run { fixture in
            try await fixture.client { client in
                for _ in 0..<3 {
                    try client.send(Self.get("/"))
                    let answer = try client.receive(until: "hello")
                    #expect(answer.hasPrefix("HTTP/1.1 200 OK\r\nDate: "))
                    #expect(answer.contains("\r\nServer: Holdfast\r\n"))
                    #expect(answer.contains("\r\nContent-Length: 5\r\n"))
                    #expect(!answer.contains("Connection:"))
                }
            }
        }
    }

    @Test func pipelinedRequestsAreAnsweredInOrder() async throws {
        try await ServerFixture.run { fixture in
            let all = try await fixture.client { client in
                var text = ""
                for index in 0..<200 {
                    text += "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n\(10000 + index)"
                }
                try client.send(text + Self.get("/", Self.close))
                return String(decoding: try client.receiveAll(), as: UTF8.self)
            }
            let answers = all.components(of: "HTTP/1.1 200 OK").dropFirst()
            #expect(answers.count == 201)
            for (index, answer) in answers.dropLast().enumerated() {
                #expect(answer.hasSuffix("\(10000 + index)"))
            }
        }
    }

    @Test func bytesMayComeOneByOne() async throws {
        try await ServerFixture.run { fixture in
            let answer = try await fixture.client { client in
                let text =
                    "\r\nPOST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\(Self.close)\r\n"
                    + "5\r\nhello\r\n1;x\r\n!\r\n0\r\nT: v\r\n\r\n"
                for byte in text.utf8 { try client.send([byte]) }
                return RawResponse(try client.receiveAll())
            }
            #expect(answer?.status == 200)
            #expect(answer?.text == "hello!")
        }
    }

    @Test func anAnswerToHeadHasALengthAndNoBody() async throws {
        try await ServerFixture.run { fixture in
            let all = try await fixture.client { client in
                try client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n" + Self.get("/", Self.close))
                return String(decoding: try client.receiveAll(), as: UTF8.self)
            }
            #expect(all.components(of: "Content-Length: 5").count == 3)
            #expect(all.components(of: "hello").count == 2)
        }
    }

    @Test func version10ClosesUnlessItIsAskedNotTo() async throws {
        try await ServerFixture.run { fixture in
            let plain = try await fixture.exchange("GET / HTTP/1.0\r\n\r\n")
            #expect(plain?.status == 200)
            #expect(plain?.header("connection") == "close")
            let kept = try await fixture.client { client in
                try client.send("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n")
                let first = try client.receive(until: "hello")
                try client.send("GET /chunked HTTP/1.0\r\n\r\n")
                return (first, String(decoding: try client.receiveAll(), as: UTF8.self))
            }
            #expect(kept.0.contains("Connection: keep-alive"))
            #expect(kept.1.hasSuffix("\r\n\r\nonetwo"))
        }
    }

    @Test func anAnswerWithoutALengthComesInChunks() async throws {
        try await ServerFixture.run { fixture in
            let answer = try await fixture.exchange(Self.get("/chunked", Self.close))
            #expect(answer?.header("transfer-encoding") == "chunked")
            #expect(answer?.text == "3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n")
        }
    }

    @Test func anAbsoluteTargetNamesTheHost() async throws {
        try await ServerFixture.run { fixture in
            _ = try await fixture.exchange(
                "GET http://bucket.example/key?list HTTP/1.1\r\nHost: other\r\n\(Self.close)\r\n"
            )
            let head = try #require(fixture.responder.seen.heads.first)
            #expect(head.path == "/key")
            #expect(head.query == "list")
            #expect(head.header("host") == "bucket.example")
        }
    }

    @Test func valuesThatAreNotUnicodeLoseNoByte() async throws {
        try await ServerFixture.run { fixture in
            try await fixture.client { client in
                try client.send([UInt8]("GET / HTTP/1.1\r\nHost: a\r\nX-Text: ".utf8) + [0x61, 0xE9, 0xFF])
                try client.send("\r\n\(Self.close)\r\n")
                _ = try client.receiveAll()
            }
            #expect(fixture.responder.seen.heads.first?.header("x-text") == "aéÿ")
        }
    }

    // MARK: 100-continue

    @Test func aBodyIsAskedForWhenItIsWanted() async throws {
        try await ServerFixture.run { fixture in
            try await fixture.client { client in
                let head =
                    "PUT /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
                for _ in 0..<2 {
                    try client.send(head)
                    #expect(try client.receive(until: "\r\n\r\n") == "HTTP/1.1 100 Continue\r\n\r\n")
                    try client.send("body")
                    #expect(try client.receive(until: "body").hasSuffix("\r\n\r\nbody"))
                }
            }
        }
    }

    /// The AWS command line needs it: it misreads the answer after that of an empty file when it comes without.
    @Test func aBodyThatIsEmptyOrThereAlreadyIsAskedForToo() async throws {
        try await ServerFixture.run { fixture in
            let all = try await fixture.client { client in
                for body in ["", "body", ""] {
                    let head = "PUT /echo HTTP/1.1\r\nHost: a\r\nContent-Length: \(body.utf8.count)\r\n"
                    try client.send("\(head)Expect: 100-continue\r\n\r\n\(body)")
                }
                try client.send(Self.get("/", Self.close))
                return String(decoding: try client.receiveAll(), as: UTF8.self)
            }
            #expect(all.components(of: "HTTP/1.1 200 OK\r\n").count == 5)
            #expect(all.components(of: "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n").count == 4)
        }
    }

    @Test(arguments: [0, 4])
    func aBodyThatIsNotWantedIsNotAskedFor(_ length: Int) async throws {
        try await ServerFixture.run { fixture in
            let answer = try await fixture.exchange(
                "PUT /ignore HTTP/1.1\r\nHost: a\r\nContent-Length: \(length)\r\nExpect: 100-continue\r\n\r\n"
            )
            #expect(answer?.status == 403)
            #expect(answer?.header("connection") == "close")
        }
    }

    @Test func anotherExpectationFails() async throws {
        try await ServerFixture.run { fixture in
            let answer = try await fixture.exchange(
                "PUT /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: miracles\r\n\r\nbody"
            )
            #expect(answer?.status == 417)
        }
    }

    // MARK: Bodies that nobody reads

    @Test func aShortBodyThatIsNotReadIsSkipped() async throws {
        try await ServerFixture.run { fixture in
            let all = try await fixture.client { client in
                let body = String(repeating: "GET /trap HTTP/1.1\r\n\r\n", count: 1000)
                let head = "PUT /ignore HTTP/1.1\r\nHost: a\r\nContent-Length: \(body.utf8.count)\r\n\r\n"
                try client.send(head + body + Self.get("/", Self.close))
                return String(decoding: try client.receiveAll(), as: UTF8.self)
            }
            #expect(all.hasPrefix("HTTP/1.1 403"))
            #expect(all.hasSuffix("hello"))
            #expect(fixture.responder.seen.paths == ["/ignore", "/"])
        }
    }

    @Test func aLongBodyThatIsNotReadEndsTheConnection() async throws {
        try await ServerFixture.run { fixture in
            let answer = try await fixture.client { client in
                try client.send("PUT /ignore HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n")
                try client.send([UInt8](repeating: 120, count: 100_000))
                return RawResponse(try client.receiveAll())
            }
            #expect(answer?.status == 403)
            #expect(answer?.header("connection") == "close")
        }
    }

    // MARK: Faults of a responder

    @Test func anAnswerThatIsNotFinishedCutsTheConnection() async throws {
        try await ServerFixture.run { fixture in
            await #expect(throws: RawClient.Failure.self) {
                _ = try await fixture.client { client in
                    try client.send(Self.get("/fail"))
                    return try client.receiveAll()
                }
            }
        }
    }

    @Test func whatIsSentAfterACutIsDropped() async throws {
        try await ServerFixture.run { fixture in
            await #expect(throws: RawClient.Failure.self) {
                _ = try await fixture.client { client in
                    try client.send(Self.get("/abort"))
                    return try client.receiveAll()
                }
            }
            try await fixture.expect(200, for: Self.get("/", Self.close))
        }
    }

    @Test func aRequestWithoutAnAnswerIsAFaultOfTheServer() async throws {
        try await ServerFixture.run { fixture in
            try await fixture.expect(500, for: Self.get("/silent", Self.close))
        }
    }

    // MARK: Large bodies

    @Test func aLargeUploadArrivesWhole() async throws {
        try await ServerFixture.run { fixture in
            let count = 64 << 20
            let answer = try await fixture.client { client in
                try client.send(
                    "PUT /count HTTP/1.1\r\nHost: a\r\nContent-Length: \(count)\r\n\(Self.close)\r\n"
                )
                let piece = [UInt8](repeating: 120, count: 1 << 20)
                for _ in 0..<64 { try client.send(piece) }
                return RawResponse(try client.receiveAll())
            }
            #expect(answer?.text == "\(count)")
        }
    }

    /// In one answer and in pieces, behind short heads and long ones.
    @Test(
        "Pieces that are put where they are sent from arrive in order",
        arguments: [1, 4096, 49_999, 400_003],
        ["", "?tall", "?chunked"]
    )
    func placedPieces(count: Int, query: String) async throws {
        try await ServerFixture.run { fixture in
            let received = try await fixture.client { client in
                try client.send(Self.get("/placed/\(count)\(query)", Self.close))
                return try client.receiveAll()
            }
            let end = try #require(
                received.indices.first { received[$0...].starts(with: Array("\r\n\r\n".utf8)) }
            )
            let head = String(decoding: received[..<end], as: UTF8.self)
            #expect(head.contains("x-tall") == (query == "?tall"))
            var body = Array(received[(end + 4)...])
            if query == "?chunked", count > 4096 { body = try Self.unchunked(body) }
            #expect(body == (0..<count).map { UInt8($0 % 251) })
        }
    }

    private static func unchunked(_ bytes: [UInt8]) throws -> [UInt8] {
        var (found, rest): ([UInt8], ArraySlice<UInt8>) = ([], bytes[...])
        while true {
            let line = rest.prefix { $0 != 0x0D }
            let size = try #require(Int(String(decoding: line, as: UTF8.self), radix: 16))
            rest = rest.dropFirst(line.count + 2)
            if size == 0 { return found }
            found += rest.prefix(size)
            rest = rest.dropFirst(size + 2)
        }
    }

    @Test func aLargeDownloadArrivesWhole() async throws {
        try await ServerFixture.run { fixture in
            let count = (64 << 20) + 13
            let received = try await fixture.client { client in
                try client.send(Self.get("/bytes/\(count)", Self.close))
                var total = try client.receive(until: "\r\n\r\n").utf8.count
                while true {
                    let bytes = try client.receive()
                    if bytes.isEmpty { break }
                    total += bytes.count
                }
                return total
            }
            #expect(received > count && received < count + 1000)
        }
    }
}

extension String {
    /// The parts between occurrences of a text.
    func components(of separator: String) -> [String] {
        var parts: [String] = []
        var rest = self[...]
        while let range = rest.firstRange(of: separator) {
            parts.append(String(rest[..<range.lowerBound]))
            rest = rest[range.upperBound...]
        }
        return parts + [String(rest)]
    }
}
