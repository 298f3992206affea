import CurlTransport
import Testing

@Suite struct HTTPOriginTests {
    @Test(arguments: [
        ("https://s3.example.org", "https://s3.example.org", ""),
        ("HTTP://Example.ORG:9000/", "http://example.org:9000", "/"),
        ("https://example.org:443/base?x", "https://example.org", "/base?x"),
        ("http://[::1]:80", "http://[::1]", ""),
        ("http://[::1]:8333/a", "http://[::1]:8333", "/a"),
        ("http://127.0.0.1:1", "http://127.0.0.1:1", ""),
    ])
    func aURLIsAnOriginAndARest(url: String, origin: String, rest: String) throws {
        let parsed = try HTTPOrigin.parse(url)
        #expect(parsed.origin.description == origin)
        #expect(parsed.rest == rest)
    }

    @Test(arguments: [
        "", "example.org", "ftp://example.org", "file:///etc/passwd", "http://", "http:///x",
        "https://user:secret@example.org", "https://key@example.org/", "http://example.org:", "http://a:0",
        "http://a:65536", "http://a:-1", "http://a:8x", "http://exa mple.org", "http://a\r\nb", "http://[::1",
        "http://[zz]", "http://a%2f", "http://ä",
    ])
    func anythingElseIsRefused(url: String) {
        #expect(throws: TransportError.self) { try HTTPOrigin.parse(url) }
    }
}
