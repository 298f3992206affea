import Glibc
import S3Gateway
import Testing

/// The bounds of the transport: what is too much, too long, too slow.
@Suite struct LimitTests {
    private static let close = "Connection: close\r\n"

    @Test func tooManyHeadersAreRefused() async throws {
        try await ServerFixture.run({ $0.headerCountMax = 10 }) { fixture in
            let ten = (0..<8).map { "X-\($0): y\r\n" }.joined()
            try await fixture.expect(200, for: "GET / HTTP/1.1\r\nHost: a\r\n\(ten)\(Self.close)\r\n")
            let eleven = (0..<10).map { "X-\($0): y\r\n" }.joined()
            try await fixture.expect(431, for: "GET / HTTP/1.1\r\nHost: a\r\n\(eleven)\(Self.close)\r\n")
        }
    }

    @Test func aHeadThatIsTooLongIsRefused() async throws {
        try await ServerFixture.run { fixture in
            let value = String(repeating: "x", count: 70_000)
            let answer = try await fixture.exchange("GET / HTTP/1.1\r\nHost: a\r\nX: \(value)\r\n\r\n")
            #expect(answer?.status == 431)
            // A head without an end, as long as the client likes.
            let endless = try await fixture.client { client in
                try client.send("GET / HTTP/1.1\r\nHost: a\r\nX: " + String(repeating: "x", count: 70_000))
                return RawResponse(try client.receiveAll())
            }
            #expect(endless?.status == 431)
        }
    }

    @Test func aTargetThatIsTooLongIsRefused() async throws {
        try await ServerFixture.run { fixture in
            for count in [20_000, 100_000] {
                let path = "/" + String(repeating: "x", count: count)
                let answer = try await fixture.exchange("GET \(path) HTTP/1.1\r\nHost: a\r\n\r\n")
                #expect(answer?.status == 414)
            }
        }
    }

    @Test func anotherVersionIsRefused() async throws {
        try await ServerFixture.run { fixture in
            try await fixture.expect(505, for: "GET / HTTP/2.0\r\nHost: a\r\n\r\n")
            try await fixture.expect(505, for: "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        }
    }

    @Test func aBodyThatIsTooLongIsRefused() async throws {
        try await ServerFixture.run({ $0.bodySizeMax = 10 }) { fixture in
            let head = "PUT /echo HTTP/1.1\r\nHost: a\r\n"
            try await fixture.expect(413, for: head + "Content-Length: 11\r\n\r\nhello world")
            let chunked = head + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"
            try await fixture.expect(413, for: chunked)
            let fitting = head + "Content-Length: 10\r\n\(Self.close)\r\nhelloworld"
            let answer = try await fixture.exchange(fitting)
            #expect(answer?.text == "helloworld")
        }
    }

    @Test func aConnectionTooManyIsAnsweredWith503() async throws {
        try await ServerFixture.run({ $0.connectionCountMax = 2 }) { fixture in
            try await fixture.client { first in
                try first.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                _ = try first.receive(until: "hello")
                let second = try RawClient(port: fixture.port)
                try second.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                _ = try second.receive(until: "hello")
                let third = try RawClient(port: fixture.port)
                let answer = RawResponse(try third.receiveAll())
                #expect(answer?.status == 503)
            }
            try await eventually { fixture.server.connectionCount == 0 }
            try await fixture.expect(200, for: "GET / HTTP/1.0\r\n\r\n")
        }
    }

    // MARK: Time

    @Test func anIdleConnectionIsClosed() async throws {
        try await ServerFixture.run({ $0.idleTimeout = .milliseconds(30) }) { fixture in
            let bytes = try await fixture.client { client in
                try client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                _ = try client.receive(until: "hello")
                return try client.receiveAll()
            }
            #expect(bytes.isEmpty)
        }
    }

    @Test func aHeadThatDoesNotEndIsTimedOut() async throws {
        try await ServerFixture.run({ $0.headTimeout = .milliseconds(30) }) { fixture in
            let answer = try await fixture.client { client in
                try client.send("GET / HTTP/1.1\r\nHost: a\r\nX: ")
                return RawResponse(try client.receiveAll())
            }
            #expect(answer?.status == 408)
        }
    }

    @Test func aBodyThatComesTooSlowlyIsRefused() async throws {
        try await ServerFixture.run({
            $0.rateMin = 1 << 20
            $0.rateWindow = .milliseconds(40)
        }) { fixture in
            let answer = try await fixture.client { client in
                try client.send("PUT /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nabc")
                return RawResponse(try client.receiveAll())
            }
            #expect(answer?.status == 408)
            #expect(fixture.responder.seen.problems == [.bodyTooSlow])
        }
    }

    @Test func aResponseThatIsNotReadIsGivenUp() async throws {
        try await ServerFixture.run({
            $0.rateMin = 1 << 20
            $0.rateWindow = .milliseconds(40)
        }) { fixture in
            try await fixture.client(receiveBufferSize: 4096) { client in
                try client.send("GET /bytes/1000000000 HTTP/1.1\r\nHost: a\r\n\r\n")
                // Nothing is received until the server has had enough.
                while fixture.responder.seen.problems.isEmpty { usleep(1000) }
            }
            #expect(fixture.responder.seen.problems == [.connectionLost])
        }
    }

    @Test func aHandlerThatTakesItsTimeIsNoSlowClient() async throws {
        try await ServerFixture.run({
            $0.idleTimeout = .milliseconds(20)
            $0.headTimeout = .milliseconds(20)
            $0.rateWindow = .milliseconds(20)
        }) { fixture in
            let answer = try await fixture.client { client in
                try client.send("GET /late HTTP/1.1\r\nHost: a\r\n\(Self.close)\r\n")
                usleep(100_000)
                fixture.responder.open()
                return RawResponse(try client.receiveAll())
            }
            #expect(answer?.text == "late")
        }
    }

    // MARK: Memory

    @Test func aHandlerThatDoesNotReadHoldsTheClientBack() async throws {
        try await ServerFixture.run { fixture in
            let sent = try await fixture.client { client in
                try client.send("PUT /late HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n")
                var sent = 0
                let piece = [UInt8](repeating: 120, count: 64 << 10)
                client.setSendTimeout(milliseconds: 200)
                while sent < 200 << 20 {
                    do { try client.send(piece) } catch { break }
                    sent += piece.count
                }
                return sent
            }
            // What fits the buffers of both sockets, and half a megabyte in the server.
            #expect(sent < 64 << 20)
        }
    }
}
