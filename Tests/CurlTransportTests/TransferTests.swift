import CurlTransport
import Foundation
import StoreTestKit
import Synchronization
import Testing

@Suite struct TransferTests {
    static func request(
        _ server: RawServer,
        _ method: String = "GET",
        _ target: String = "/",
        fields: [HTTPField] = []
    ) throws -> HTTPClientRequest {
        HTTPClientRequest(
            method: method,
            origin: try HTTPOrigin(.http, host: "127.0.0.1", port: server.port),
            target: target,
            fields: fields
        )
    }

    static func transport(
        _ change: (inout TransportConfiguration) -> Void = { _ in }
    ) throws -> CurlTransport {
        var configuration = TransportConfiguration()
        configuration.timeouts.firstByte = .seconds(30)
        change(&configuration)
        return try CurlTransport(configuration)
    }

    static func get(_ transport: CurlTransport, _ request: HTTPClientRequest) async throws -> (Int, String) {
        try await transport.perform(request) { response in
            (response.head.status, String(decoding: try await response.collect(upTo: 1 << 20), as: UTF8.self))
        }
    }

    private func code(_ body: () async throws -> Void) async -> TransportError.Code? {
        do {
            try await body()
            return nil
        } catch let error as TransportError {
            return error.code
        } catch {
            Issue.record("another error: \(error)")
            return nil
        }
    }

    @Test func oneConnectionServesManyRequestsAndTargetsAreSentAsTheyStand() async throws {
        let heads = Mutex<[String]>([])
        let server = try RawServer { connection in
            while let head = connection.readHead() {
                heads.withLock { $0.append(head) }
                connection.answer(headers: ["X-Name:  two  words ", "x-empty:"], body: "hello")
            }
        }
        defer { server.stop() }
        let transport = try Self.transport()
        for index in 0..<50 {
            let statistics = try await transport.perform(
                try Self.request(
                    server,
                    "GET",
                    "/a//b/../c%2F?x=\(index)&y",
                    fields: [HTTPField("X-Empty", "")]
                )
            ) { response in
                #expect(response.head.status == 200)
                #expect(response.head.first("x-name") == "two  words")
                #expect(response.head.first("x-empty") == "")
                let body = try await response.collect(upTo: 5)
                #expect(body == [UInt8]("hello".utf8))
                return response.statistics
            }
            #expect(statistics?.isReusedConnection == (index > 0))
            #expect(statistics?.bytesReceived == 5)
            #expect(statistics?.version == "1.1")
        }
        #expect(server.connectionCount == 1)
        let first = try #require(heads.withLock { $0.first })
        #expect(first.hasPrefix("GET /a//b/../c%2F?x=0&y HTTP/1.1\r\n"))
        #expect(header("x-empty", in: first) == nil || header("x-empty", in: first) == "")
        #expect(first.lowercased().contains("x-empty:"))
        #expect(header("host", in: first) == "127.0.0.1:\(server.port)")
    }

    @Test func aHeadAnswerHasALengthAndNoBody() async throws {
        let server = try RawServer { connection in
            while connection.readHead() != nil {
                connection.write("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n")
            }
        }
        defer { server.stop() }
        let transport = try Self.transport()
        for _ in 0..<2 {
            try await transport.perform(try Self.request(server, "HEAD")) { response in
                #expect(response.head.first("content-length") == "7")
                let rest = try await response.next()
                #expect(rest == nil)
            }
        }
        #expect(server.connectionCount == 1)
    }

    @Test func aLargeBodyIsAskedForBeforeItIsSent() async throws {
        let body = [UInt8]((0..<(5 << 20)).lazy.map { UInt8(truncatingIfNeeded: $0 &* 31 >> 3) })
        let received = Mutex<[UInt8]>([])
        let server = try RawServer { connection in
            guard let head = connection.readHead() else { return }
            #expect(header("expect", in: head) == "100-continue")
            connection.write("HTTP/1.1 100 Continue\r\nX-Early: 1\r\n\r\n")
            let bytes = connection.read(Int(header("content-length", in: head) ?? "") ?? 0)
            received.withLock { $0 = bytes }
            connection.answer(headers: ["ETag: x"])
        }
        defer { server.stop() }
        var rest = body[...]
        try await Self.transport().perform(
            try Self.request(server, "PUT"),
            body: .stream(length: UInt64(body.count)) {
                defer { rest = rest.dropFirst(100_001) }
                return rest.isEmpty ? nil : [UInt8](rest.prefix(100_001))
            }
        ) { response in
            #expect(response.head.status == 200)
            #expect(response.head.first("x-early") == nil)
            let tail = try await response.next()
            #expect(tail == nil)
            #expect(response.statistics?.bytesSent == UInt64(body.count))
        }
        #expect(received.withLock { $0 } == body)
    }

    @Test func aRefusalBeforeTheBodyEndsTheSource() async throws {
        let server = try RawServer { connection in
            _ = connection.readHead()
            connection.answer("403 Forbidden", headers: ["Connection: close"], body: "no")
        }
        defer { server.stop() }
        var pieceCount = 0
        let status = try await Self.transport().perform(
            try Self.request(server, "PUT"),
            body: .stream(length: 1 << 30) {
                pieceCount += 1
                return [UInt8](repeating: 7, count: 1 << 20)
            }
        ) { response in
            let body = try await response.collect(upTo: 10)
            #expect(body == [UInt8]("no".utf8))
            return response.head.status
        }
        #expect(status == 403)
        // What fits the buffer, and the piece that is held back.
        #expect(pieceCount <= 8)
    }

    @Test func aReaderThatDoesNotReadHoldsTheServerBack() async throws {
        let total = 64 << 20
        let writtenBeforeBlocking = Mutex<Int?>(nil)
        let server = try RawServer { connection in
            _ = connection.readHead()
            connection.write("HTTP/1.1 200 OK\r\nContent-Length: \(total)\r\n\r\n")
            let block = [UInt8](repeating: 1, count: 1 << 18)
            var written = connection.writeUntilBlocked(block, upTo: total)
            writtenBeforeBlocking.withLock { $0 = written }
            while written < total, connection.write([UInt8](block.prefix(total - written))) {
                written += min(block.count, total - written)
            }
        }
        defer { server.stop() }
        let count = try await Self.transport().perform(try Self.request(server)) { response in
            while writtenBeforeBlocking.withLock({ $0 == nil }) {
                try await Task.sleep(for: .milliseconds(20))
            }
            var count = 0
            while let bytes = try await response.next() {
                #expect(bytes.count <= (1 << 20) + (16 << 10))
                count += bytes.count
            }
            return count
        }
        #expect(count == total)
        let written = try #require(writtenBeforeBlocking.withLock { $0 })
        #expect(written < 32 << 20)
    }

    @Test func aServerThatDoesNotReadHoldsTheSourceBack() async throws {
        let total = 64 << 20
        let given = Mutex(0)
        let givenBeforeReading = Mutex(0)
        let server = try RawServer { connection in
            _ = connection.readHead()
            connection.write("HTTP/1.1 100 Continue\r\n\r\n")
            var last = -1
            // Until the source stands still.
            while true {
                Thread.sleep(forTimeInterval: 0.3)
                let now = given.withLock { $0 }
                if now == last { break }
                last = now
            }
            givenBeforeReading.withLock { $0 = last }
            let count = connection.read(total).count
            connection.answer(body: "\(count)")
        }
        defer { server.stop() }
        let answer = try await Self.transport().perform(
            try Self.request(server, "PUT"),
            body: .stream(length: UInt64(total)) {
                let before = given.withLock { given in
                    defer { given += 1 << 20 }
                    return given
                }
                return before < total ? [UInt8](repeating: 2, count: 1 << 20) : nil
            }
        ) { String(decoding: try await $0.collect(upTo: 100), as: UTF8.self) }
        #expect(answer == "\(total)")
        #expect(givenBeforeReading.withLock { $0 } < 32 << 20)
    }

    @Test func aRedirectIsAnAnswer() async throws {
        let server = try RawServer { connection in
            while connection.readHead() != nil {
                connection.answer(
                    "307 Temporary Redirect",
                    headers: ["Location: http://127.0.0.1:1/elsewhere"]
                )
            }
        }
        defer { server.stop() }
        try await Self.transport().perform(try Self.request(server)) { response in
            #expect(response.head.status == 307)
            #expect(response.head.location == "http://127.0.0.1:1/elsewhere")
        }
    }

    @Test func brokenAnswersAreErrors() async throws {
        let answers: [(String, TransportError.Code)] = [
            ("", .connectionLost),
            ("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", .connectionLost),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", .connectionLost),
            ("SSH-2.0-OpenSSH_9.2\r\n", .protocolViolation),
            ("HTTP/1.1 200 OK\r\nContent-Length: ninety\r\n\r\n", .protocolViolation),
        ]
        let transport = try Self.transport()
        for (answer, expected) in answers {
            let server = try RawServer { connection in
                _ = connection.readHead()
                connection.write(answer)
            }
            let code = await code { _ = try await Self.get(transport, try Self.request(server)) }
            #expect(code == expected, "\(answer)")
            server.stop()
        }
    }

    @Test func headsWithoutEndAreRefused() async throws {
        let transport = try Self.transport()
        for line in ["X-Long: " + String(repeating: "x", count: 5000) + "\r\n", "X: y\r\n"] {
            let server = try RawServer { connection in
                _ = connection.readHead()
                connection.write("HTTP/1.1 200 OK\r\n")
                while connection.write(line) {}
            }
            let code = await code { _ = try await Self.get(transport, try Self.request(server)) }
            #expect(code == .protocolViolation)
            server.stop()
        }
    }

    @Test func aConnectionThatIsResetEndsAnUpload() async throws {
        let server = try RawServer { connection in
            _ = connection.readHead()
            connection.write("HTTP/1.1 100 Continue\r\n\r\n")
            _ = connection.read(2 << 20)
            connection.reset()
        }
        defer { server.stop() }
        let code = await code {
            try await Self.transport().perform(
                try Self.request(server, "PUT"),
                body: .stream(length: 1 << 40) { [UInt8](repeating: 0, count: 1 << 18) }
            ) { _ in }
        }
        #expect(code == .connectionLost)
    }

    @Test func nobodyIsWaitedForWithoutEnd() async throws {
        let server = try RawServer { connection in
            guard let head = connection.readHead() else { return }
            if head.hasPrefix("GET /slow") {
                connection.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nx")
            }
            _ = connection.drain()
        }
        defer { server.stop() }
        let transport = try Self.transport()
        func run(_ target: String, _ timeouts: TransportTimeouts) async throws -> TransportError.Code? {
            var request = try Self.request(server, "GET", target)
            request.timeouts = timeouts
            let prepared = request
            return await code { _ = try await Self.get(transport, prepared) }
        }
        #expect(
            try await run("/hang", TransportTimeouts(firstByte: .milliseconds(300))) == .firstByteTimedOut
        )
        let slow = try await run("/slow", TransportTimeouts(slowness: .milliseconds(300)))
        #expect(slow == .tooSlow)
        let late = try await run("/hang", TransportTimeouts(total: .milliseconds(300)))
        #expect(late == .timedOut)
    }

    @Test func whatCannotBeReachedSaysThatNothingWasSent() async throws {
        let server = try RawServer { _ in }
        let request = try Self.request(server)
        server.stop()
        let transport = try Self.transport()
        // The listener's descriptor stays open: nobody else gets the port, and nobody answers on it.
        do {
            _ = try await Self.get(transport, request)
            Issue.record("there was an answer")
        } catch let error as TransportError {
            #expect(error.code == .connectFailed)
            #expect(!error.requestMayHaveArrived && error.isTransient)
        }
        let unknown = HTTPClientRequest(
            method: "GET",
            origin: try HTTPOrigin(.http, host: "holdfast-no-such-host.invalid"),
            target: "/"
        )
        let code = await code { _ = try await Self.get(transport, unknown) }
        #expect(code == .nameNotResolved)
    }

    @Test func aCancelledTaskEndsItsTransfer() async throws {
        let isRequested = Mutex(false)
        let isClosed = Mutex(false)
        let server = try RawServer { connection in
            _ = connection.readHead()
            isRequested.withLock { $0 = true }
            _ = connection.drain()
            isClosed.withLock { $0 = true }
        }
        defer { server.stop() }
        let transport = try Self.transport()
        let request = try Self.request(server)
        let task = Task { try await Self.get(transport, request) }
        while !isRequested.withLock({ $0 }) { try await Task.sleep(for: .milliseconds(5)) }
        task.cancel()
        let error = await #expect(throws: TransportError.self) { try await task.value }
        #expect(error?.code == .cancelled)
        while !isClosed.withLock({ $0 }) { try await Task.sleep(for: .milliseconds(5)) }
    }

    @Test(arguments: [[10, 10], [10, 100], []]) func aBodyOfAnotherLengthNeverArrivesWhole(pieces: [Int])
        async throws
    {
        let received = Mutex<Int?>(nil)
        let server = try RawServer { connection in
            guard connection.readHead() != nil else { return }
            let count = connection.drain()
            received.withLock { $0 = count }
        }
        defer { server.stop() }
        var rest = pieces[...]
        let request = try Self.request(server, "PUT")
        let code = await code {
            try await Self.transport().perform(
                request,
                body: .stream(length: 50) { rest.popFirst().map { [UInt8](repeating: 1, count: $0) } }
            ) { _ in }
        }
        #expect(code == .bodyLengthMismatch)
        if server.connectionCount > 0 {
            while received.withLock({ $0 == nil }) { try await Task.sleep(for: .milliseconds(5)) }
            #expect(received.withLock { $0 ?? 0 } < 50)
        }
    }

    @Test func whatWouldBecomeAnotherRequestIsRefused() async throws {
        let transport = try Self.transport()
        let server = try RawServer { _ in }
        defer { server.stop() }
        let bad = [
            try Self.request(server, "GET", "/", fields: [HTTPField("x", "a\r\nHost: b")]),
            try Self.request(server, "GET", "/", fields: [HTTPField("x y", "a")]),
            try Self.request(server, "GET", "/", fields: [HTTPField("", "a")]),
            try Self.request(server, "GET", "/ HTTP/1.1\r\n"), try Self.request(server, "GET", "x"),
            try Self.request(server, "GET\r\n", "/"), try Self.request(server, "GET", "/a#b"),
        ]
        for request in bad {
            let code = await code { _ = try await Self.get(transport, request) }
            #expect(code == .invalidRequest)
        }
        #expect(server.connectionCount == 0)
    }

    @Test func aHostHasABoundedNumberOfConnectionsAndAHangingOneKeepsNobodyElse() async throws {
        // Requests that are being answered: a server learns late that a connection was closed, but no client sends on a
        // fourth one before an answer has left.
        let inHand = Mutex((now: 0, most: 0))
        let server = try RawServer { connection in
            while connection.readHead() != nil {
                inHand.withLock { $0 = ($0.now + 1, max($0.most, $0.now + 1)) }
                usleep(1000)
                inHand.withLock { $0.now -= 1 }
                connection.answer(body: "x")
            }
        }
        let hanging = try RawServer { connection in
            _ = connection.readHead()
            _ = connection.drain()
        }
        defer {
            server.stop()
            hanging.stop()
        }
        let transport = try Self.transport {
            $0.transferCountPerHostMax = 3
            $0.transferCountMax = 6
        }
        let (good, bad) = (try Self.request(server), try Self.request(hanging))
        await withTaskGroup(of: Void.self) { group in
            for _ in 0..<20 { group.addTask { _ = try? await Self.get(transport, bad) } }
            while hanging.connectionCount < 3 { try? await Task.sleep(for: .milliseconds(5)) }
            await withTaskGroup(of: Bool.self) { others in
                for _ in 0..<60 { others.addTask { (try? await Self.get(transport, good))?.0 == 200 } }
                for await isGood in others { #expect(isGood) }
            }
            // Nothing of it has ended, so each connection that was ever accepted is still there.
            #expect(hanging.connectionCount == 3)
            group.cancelAll()
        }
        #expect((1...3).contains(inHand.withLock { $0.most }))
    }

    @Test func aTransportThatIsShutDownEndsWhatRuns() async throws {
        let server = try RawServer { connection in
            _ = connection.readHead()
            _ = connection.drain()
        }
        defer { server.stop() }
        let transport = try Self.transport()
        let request = try Self.request(server)
        let task = Task { try await Self.get(transport, request) }
        while server.connectionCount == 0 { try await Task.sleep(for: .milliseconds(5)) }
        transport.shutdown()
        let error = await #expect(throws: TransportError.self) { try await task.value }
        #expect(error?.code == .shutDown)
        let code = await code { _ = try await Self.get(transport, request) }
        #expect(code == .shutDown)
    }

    @Test func thousandsOfTransfersLeaveNothingBehind() async throws {
        let server = try RawServer { connection in
            var count = 0
            while let head = connection.readHead() {
                count += 1
                if head.hasPrefix("GET /cut") {
                    connection.write("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx")
                    return
                }
                if head.hasPrefix("GET /reset") { return connection.reset() }
                let length = Int(header("content-length", in: head) ?? "") ?? 0
                _ = connection.read(length)
                connection.answer(body: String(repeating: "b", count: 1000))
            }
        }
        defer { server.stop() }
        func descriptors() throws -> Int {
            try FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd").count
        }
        func residentKiB() throws -> Int {
            let text = try String(contentsOfFile: "/proc/self/status", encoding: .utf8)
            let line = text.split(separator: "\n").first { $0.hasPrefix("VmRSS:") } ?? ""
            return Int(line.split(separator: " ").dropFirst().first ?? "") ?? 0
        }
        let transport = try Self.transport()
        let targets = ["/", "/", "/cut", "/", "/reset", "/", "/"]
        let requests = try targets.map { try Self.request(server, "GET", $0) }
        let put = try Self.request(server, "PUT")
        let answered = Counter()
        func run(_ count: Int) async {
            await withTaskGroup(of: Void.self) { group in
                for worker in 0..<8 {
                    group.addTask {
                        for index in 0..<count / 8 {
                            if index % 5 == 0 {
                                _ = try? await transport.perform(
                                    put,
                                    body: .bytes([UInt8](repeating: 1, count: 10_000))
                                ) {
                                    try await $0.collect(upTo: 2000)
                                }
                            } else {
                                let answer = try? await Self.get(
                                    transport,
                                    requests[(index + worker) % requests.count]
                                )
                                if answer?.0 == 200 { answered.value.withLock { $0 += 1 } }
                            }
                        }
                    }
                }
            }
        }
        await run(1000)
        #expect(answered.value.withLock { $0 } >= 500)
        let (descriptorsBefore, residentBefore) = (try descriptors(), try residentKiB())
        await run(4000)
        // Other tests run beside this one: a leak would be hundreds of descriptors and tens of MiB.
        let (descriptorsAfter, residentAfter) = (try descriptors(), try residentKiB())
        #expect(descriptorsAfter < descriptorsBefore + 150)
        #expect(residentAfter < residentBefore + (64 << 10))
    }
}

private final class Counter: Sendable {
    let value = Mutex(0)
}
