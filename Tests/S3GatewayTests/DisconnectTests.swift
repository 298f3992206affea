import S3Gateway
import Testing

/// A client may go away at any time: its request ends, and nothing is left behind.
@Suite struct DisconnectTests {
    @Test func aClientThatGoesAwayInTheHeadLeavesNothing() async throws {
        try await ServerFixture.run { fixture in
            for text in ["", "G", "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nHost: a\r\n\r"] {
                try await fixture.client { client in try client.send(text) }
                try await fixture.client { client in
                    try client.send(text)
                    client.reset()
                }
            }
            try await eventually { fixture.server.connectionCount == 0 }
            #expect(fixture.responder.seen.paths == [])
        }
    }

    @Test func aClientThatGoesAwayInTheBodyEndsIt() async throws {
        try await ServerFixture.run { fixture in
            let heads = [
                "PUT /count HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nabc",
                "PUT /count HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
            ]
            for (index, head) in heads.enumerated() {
                let client = try RawClient(port: fixture.port)
                try client.send(head)
                try await eventually { fixture.responder.seen.paths.count == index + 1 }
                client.reset()
            }
            try await eventually {
                fixture.responder.seen.problems.count == 2 && fixture.server.connectionCount == 0
            }
        }
    }

    @Test func aBodyThatIsCutShortIsTold() async throws {
        try await ServerFixture.run { fixture in
            let answer = try await fixture.client { client in
                try client.send("PUT /count HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nabc")
                client.closeOutput()
                return RawResponse(try client.receiveAll())
            }
            #expect(answer?.status == 400)
            #expect(answer?.text == "bodyTruncated")
            try await eventually { fixture.server.connectionCount == 0 }
        }
    }

    @Test func aClientThatClosesItsHalfGetsItsAnswer() async throws {
        try await ServerFixture.run { fixture in
            let answer = try await fixture.client { client in
                try client.send("GET /late HTTP/1.1\r\nHost: a\r\n\r\n")
                client.closeOutput()
                fixture.responder.open()
                return RawResponse(try client.receiveAll())
            }
            #expect(answer?.text == "late")
            try await eventually { fixture.server.connectionCount == 0 }
        }
    }

    @Test func aResetCancelsTheRequest() async throws {
        try await ServerFixture.run { fixture in
            let client = try RawClient(port: fixture.port)
            try client.send("GET /late HTTP/1.1\r\nHost: a\r\n\r\n")
            try await fixture.responder.waitUntilSeen("/late")
            client.reset()
            try await eventually {
                fixture.responder.seen.cancelledCount == 1 && fixture.server.connectionCount == 0
            }
        }
    }

    @Test func aClientThatGoesAwayInTheAnswerEndsIt() async throws {
        try await ServerFixture.run { fixture in
            try await fixture.client { client in
                try client.send("GET /bytes/1000000000 HTTP/1.1\r\nHost: a\r\n\r\n")
                _ = try client.receive()
            }
            try await eventually {
                fixture.responder.seen.problems == [.connectionLost] && fixture.server.connectionCount == 0
            }
        }
    }

    // MARK: Stopping

    @Test func aServerThatStopsLetsRequestsEnd() async throws {
        try await ServerFixture.run { fixture in
            let idle = try RawClient(port: fixture.port)
            try idle.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            _ = try idle.receive(until: "hello")
            let busy = try RawClient(port: fixture.port)
            try busy.send("GET /late HTTP/1.1\r\nHost: a\r\n\r\n")
            try await fixture.responder.waitUntilSeen("/late")
            fixture.server.stop()
            #expect(try idle.receiveAll().isEmpty)
            fixture.responder.open()
            let answer = RawResponse(try busy.receiveAll())
            #expect(answer?.text == "late")
            #expect(answer?.header("connection") == "close")
            #expect(throws: RawClient.Failure.self) { try RawClient(port: fixture.port) }
        }
    }

    @Test func aServerThatStopsDoesNotWaitForEver() async throws {
        try await ServerFixture.run({ $0.drainDeadline = .milliseconds(50) }) { fixture in
            let client = try RawClient(port: fixture.port)
            try client.send("PUT /count HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nabc")
            try await fixture.responder.waitUntilSeen("/count")
            fixture.server.stop()
            try await eventually { fixture.server.connectionCount == 0 }
            #expect(fixture.responder.seen.problems == [.connectionLost])
        }
    }
}
