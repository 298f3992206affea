import CurlTransport
import StoreTestKit
import Synchronization
import Testing

/// Where connections may go is asked of addresses, not of names.
@Suite struct AddressTests {
    @Test(arguments: [
        ("93.184.216.34", NetworkAddress.Place.everywhere), ("8.8.8.8", .everywhere),
        ("172.32.0.1", .everywhere),
        ("172.15.255.255", .everywhere), ("2606:4700::1111", .everywhere), ("64:ff9b::8.8.8.8", .everywhere),
        ("10.0.0.1", .privateNetwork), ("172.16.0.1", .privateNetwork), ("172.31.255.255", .privateNetwork),
        ("192.168.1.1", .privateNetwork), ("100.64.0.1", .privateNetwork), ("198.18.0.1", .privateNetwork),
        ("fd12:3456::1", .privateNetwork), ("fec0::1", .privateNetwork), ("::ffff:10.0.0.1", .privateNetwork),
        ("64:ff9b::10.0.0.1", .privateNetwork), ("2002:a00:1::", .privateNetwork),
        ("2001:0:4136:e378:8000:63bf:f5ff:fffe", .privateNetwork),
        ("2001:db8::5efe:10.0.0.1", .privateNetwork),
        ("127.0.0.1", .loopback), ("127.255.255.254", .loopback), ("::1", .loopback), ("127.1", .loopback),
        ("2130706433", .loopback), ("0x7F000001", .loopback), ("0177.0.0.1", .loopback),
        ("::ffff:127.0.0.1", .loopback), ("::127.0.0.1", .loopback), ("::ffff:0:127.0.0.1", .loopback),
        ("64:ff9b::7f00:1", .loopback), ("2002:7f00:1::1", .loopback), ("[::1]", .loopback),
        ("127.0.0.1.", .loopback),
        ("169.254.169.254", .special), ("0.0.0.0", .special), ("0.1.2.3", .special), ("::", .special),
        ("100.100.100.200", .special), ("192.0.0.192", .special), ("168.63.129.16", .special),
        ("224.0.0.1", .special), ("255.255.255.255", .special), ("fe80::1", .special),
        ("fe80::1%eth0", .special),
        ("ff02::1", .special), ("fd00:ec2::254", .special), ("fd20:ce::254", .special),
        ("::ffff:169.254.169.254", .special), ("64:ff9b::a9fe:a9fe", .special),
        ("64:ff9b:1::8.8.8.8", .special),
        ("2002:a9fe:a9fe::", .special), ("fe80::5efe:8.8.8.8", .special),
    ])
    func everyFormOfAnAddressIsThePlaceItLeadsTo(text: String, place: NetworkAddress.Place) throws {
        let address = try #require(NetworkAddress(text))
        #expect(address.place == place, "\(text)")
        #expect(NetworkAddress(address.description) == address)
    }

    @Test func whatIsNoAddressIsAName() {
        for text in [
            "", "localhost", "a.b", "1.2.3.4.5", "1.2.3.256", "256.1", "0xg", "08", "::1::", "1:2",
            "1:2:3:4:5:6:7:8:9", "::g", "1..2", "+1", "-1", "1.2.3.4294967296",
        ] {
            #expect(NetworkAddress(text) == nil, "\(text)")
        }
        #expect(NetworkAddress(bytes: [1, 2, 3]) == nil)
        #expect(NetworkAddress(bytes: [127, 0, 0, 1]) == NetworkAddress("127.1"))
    }

    private static func request(_ host: String, _ server: RawServer, _ rule: AddressRule) throws
        -> HTTPClientRequest
    {
        HTTPClientRequest(
            method: "GET",
            origin: try HTTPOrigin(.http, host: host, port: server.port),
            target: "/",
            addresses: rule
        )
    }

    @Test func aNameThatLeadsToAForbiddenPlaceIsNotConnectedTo() async throws {
        let server = try RawServer { connection in
            while connection.readHead() != nil { connection.answer(body: "x") }
        }
        defer { server.stop() }
        for address in ["127.0.0.1", "[::ffff:127.0.0.1]", "[::1]", "169.254.169.254", "10.1.2.3"] {
            let transport = try TransferTests.transport {
                $0.knownAddresses = ["backend.example.org:\(server.port):\(address)"]
            }
            let request = try Self.request("backend.example.org", server, AddressRule())
            let error = await #expect(throws: TransportError.self) {
                _ = try await TransferTests.get(transport, request)
            }
            #expect(error?.code == .addressRefused && error?.requestMayHaveArrived == false)
            #expect(error?.isTransient == false)
        }
        // As a host, without any name.
        let transport = try TransferTests.transport()
        for host in ["127.0.0.1", "2130706433", "localhost", "[::ffff:127.0.0.1]"] {
            let request = try Self.request(
                host,
                server,
                AddressRule(allowsPrivate: true, allowsSpecial: true)
            )
            let error = await #expect(throws: TransportError.self) {
                _ = try await TransferTests.get(transport, request)
            }
            #expect(error?.code == .addressRefused, "\(host)")
        }
        #expect(server.connectionCount == 0, "not even a connection was made")
        let allowed = try Self.request("127.0.0.1", server, AddressRule(allowsLoopback: true))
        #expect(try await TransferTests.get(transport, allowed).0 == 200)
    }

    @Test func aKeptConnectionIsNoWayAroundTheRule() async throws {
        let requests = Mutex(0)
        let server = try RawServer { connection in
            while connection.readHead() != nil {
                requests.withLock { $0 += 1 }
                connection.answer(body: "x")
            }
        }
        defer { server.stop() }
        let transport = try TransferTests.transport {
            $0.knownAddresses = ["backend.example.org:\(server.port):127.0.0.1"]
        }
        let free = try Self.request("backend.example.org", server, .everything)
        #expect(try await TransferTests.get(transport, free).0 == 200)
        let bound = try Self.request("backend.example.org", server, AddressRule())
        let error = await #expect(throws: TransportError.self) {
            _ = try await TransferTests.get(transport, bound)
        }
        #expect(error?.code == .addressRefused)
        #expect(requests.withLock { $0 } == 1, "the request did not get through")
    }

    @Test func oneForbiddenAddressOfANameDoesNotKeepTheOthersFromBeingUsed() async throws {
        let server = try RawServer { connection in
            while connection.readHead() != nil { connection.answer(body: "x") }
        }
        defer { server.stop() }
        let transport = try TransferTests.transport {
            $0.knownAddresses = ["backend.example.org:\(server.port):169.254.169.254,127.0.0.1"]
        }
        let request = try Self.request("backend.example.org", server, AddressRule(allowsLoopback: true))
        #expect(try await TransferTests.get(transport, request).0 == 200)
    }
}
