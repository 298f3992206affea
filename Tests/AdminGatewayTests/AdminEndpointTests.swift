import AdminGateway
import Testing

@Suite struct AdminEndpointTests {
    private func route(_ method: String, _ path: String) -> Result<(AdminEndpoint, String?), AdminRefusal> {
        do throws(AdminRefusal) {
            let (endpoint, argument) = try AdminEndpoint.route(method: method, path: path)
            return .success((endpoint, argument))
        } catch {
            return .failure(error)
        }
    }

    @Test func everyEndpointIsFoundByItsTemplate() throws {
        for endpoint in AdminEndpoint.allCases {
            let path = endpoint.template.split(separator: "/").map { $0.hasPrefix("{") ? "some%20one" : $0 }
            let (found, argument) = try route(endpoint.method, "/" + path.joined(separator: "/")).get()
            #expect(found == endpoint)
            #expect(argument == (endpoint.template.contains("{") ? "some one" : nil))
        }
    }

    @Test func anEncodedSlashStaysInItsSegment() throws {
        let (endpoint, argument) = try route("DELETE", "/admin/v1/accounts/a%2Fb").get()
        #expect(endpoint == .removeAccount)
        #expect(argument == "a/b")
    }

    @Test(arguments: [
        "/admin/v1", "/admin/v1/", "/admin/v2/status", "/admin/v1/status/", "/admin/v1//status",
        "/Admin/v1/status",
        "/admin/v1/accounts/", "/admin/v1/keys/a/b", "/admin/v1/accounts/%zz", "/admin/v1/accounts/%ff", "*",
        "/",
        "/admin/v1/../v1/status",
    ])
    func otherPathsAreNotFound(path: String) {
        guard case .failure(let refusal) = route("GET", path) else {
            Issue.record("\(path) was found")
            return
        }
        #expect(refusal.status == 404)
    }

    @Test func aWrongMethodIsToldTheRightOnes() {
        guard case .failure(let refusal) = route("PUT", "/admin/v1/accounts") else {
            Issue.record("It was found.")
            return
        }
        #expect(refusal.status == 405)
        #expect(refusal.allowedMethods == ["GET", "POST"])
    }

    @Test func onlyTheDescriptionIsForEverybody() {
        #expect(AdminEndpoint.allCases.filter(\.isPublic) == [.document])
    }
}

@Suite struct AdminRequestBodyTests {
    private func body(_ text: String) throws(AdminRefusal) -> AdminRequestBody {
        try AdminRequestBody([UInt8](text.utf8), allowed: ["name", "keepsOld"])
    }

    @Test func membersAreTextsAndFlags() throws {
        let body = try body(#"{"name": "r\u00e9 \"x\"", "keepsOld": true}"#)
        #expect(try body.text("name") == "ré \"x\"")
        #expect(try body.flag("keepsOld"))
    }

    @Test(arguments: ["", "{}", #"{"name": null, "keepsOld": null}"#])
    func whatIsAbsentHasItsDefault(text: String) throws {
        let body = try body(text)
        #expect(try body.text("name") == nil)
        #expect(try !body.flag("keepsOld"))
    }

    @Test(arguments: [
        "x", "[]", "null", "\"a\"", #"{"name": 1}"#, #"{"name": ["a"]}"#, #"{"name": "a""#,
        #"{"other": "a"}"#,
        #"{"name": {"a": "b"}}"#, String(repeating: "[", count: 60_000),
        String(repeating: #"{"name":"#, count: 8000),
    ])
    func whatIsNoSuchObjectIsRefused(text: String) {
        #expect(throws: AdminRefusal.self) { try body(text) }
    }

    @Test func aMemberOfTheWrongKindIsRefused() throws {
        let body = try body(#"{"name": true, "keepsOld": "yes"}"#)
        #expect(throws: AdminRefusal.self) { try body.text("name") }
        #expect(throws: AdminRefusal.self) { try body.flag("keepsOld") }
    }
}
