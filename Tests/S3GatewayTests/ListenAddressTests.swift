import S3Gateway
import Testing

@Suite struct ListenAddressTests {
    @Test func addressesAreRead() {
        #expect(ListenAddress("127.0.0.1:9000") == .network(host: "127.0.0.1", port: 9000))
        #expect(ListenAddress("[::1]:80") == .network(host: "::1", port: 80))
        #expect(ListenAddress(":443") == .network(host: "0.0.0.0", port: 443))
        #expect(ListenAddress("unix:/run/holdfast.sock") == .unix(path: "/run/holdfast.sock"))
        #expect(ListenAddress("[::1]:80")?.description == "[::1]:80")
    }

    @Test(arguments: ["", "host", "host:", "host:70000", "host:-1", "::1:80", "unix:"])
    func othersAreRefused(_ text: String) {
        #expect(ListenAddress(text) == nil)
    }
}
