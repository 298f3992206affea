internal import FoundationEssentials
internal import S3Protocol
internal import StoreModel

/// Why a request is no request of the admin API.
package struct AdminRefusal: Error, Hashable, Sendable {
    package let status: Int
    package let code: String
    package let message: String
    /// For a path that has other methods.
    package var allowedMethods: [String] = []

    package init(_ status: Int, _ code: String, _ message: String, allowedMethods: [String] = []) {
        self.status = status
        self.code = code
        self.message = message
        self.allowedMethods = allowedMethods
    }
}

/// The paths and methods of the admin API, version 1. `templates` is what openapi.json describes.
package enum AdminEndpoint: String, CaseIterable, Hashable, Sendable {
    case document = "GET /admin/v1/openapi.json"
    case version = "GET /admin/v1/version"
    case status = "GET /admin/v1/status"
    case buckets = "GET /admin/v1/buckets"
    case accounts = "GET /admin/v1/accounts"
    case createAccount = "POST /admin/v1/accounts"
    case removeAccount = "DELETE /admin/v1/accounts/{account}"
    case keys = "GET /admin/v1/keys"
    case createKey = "POST /admin/v1/keys"
    case removeKey = "DELETE /admin/v1/keys/{accessKeyID}"
    case rotateKey = "POST /admin/v1/keys/{accessKeyID}/rotate"
    case masterKeys = "GET /admin/v1/master-key"
    case reloadMasterKeys = "POST /admin/v1/master-key/reload"
    case rotateMasterKey = "POST /admin/v1/master-key/rotate"
    case volumes = "GET /admin/v1/volumes"
    case addVolume = "POST /admin/v1/volumes"
    case drainVolume = "POST /admin/v1/volumes/{volume}/drain"
    case removeVolume = "POST /admin/v1/volumes/{volume}/remove"
    case replaceVolume = "POST /admin/v1/volumes/{volume}/replace"
    case setVolumeReadOnly = "POST /admin/v1/volumes/{volume}/readonly"
    case checkVolume = "POST /admin/v1/volumes/{volume}/check"
    case setLogVolumes = "POST /admin/v1/log-set"
    case mirrors = "GET /admin/v1/mirrors"
    case addMirror = "POST /admin/v1/mirrors"
    case removeMirror = "DELETE /admin/v1/mirrors/{mirror}"
    case pauseMirror = "POST /admin/v1/mirrors/{mirror}/pause"
    case resumeMirror = "POST /admin/v1/mirrors/{mirror}/resume"
    case retryMirror = "POST /admin/v1/mirrors/{mirror}/retry"
    case setMirrorCredentials = "PUT /admin/v1/mirrors/{mirror}/credentials"
    case mirrorFailures = "GET /admin/v1/mirrors/{mirror}/failures"
    case verifyMirror = "POST /admin/v1/mirrors/{mirror}/verify"
    case mirrorDifferences = "GET /admin/v1/mirrors/{mirror}/differences"
    case mirrorAcknowledgement = "GET /admin/v1/mirror-ack/{bucket}"
    case setMirrorAcknowledgement = "PUT /admin/v1/mirror-ack/{bucket}"
    case removeMirrorAcknowledgement = "DELETE /admin/v1/mirror-ack/{bucket}"
    case mirrorAudits = "GET /admin/v1/mirror-audits"
    case mirrorAudit = "POST /admin/v1/mirror-audits/{action}"
    case scrubStatus = "GET /admin/v1/scrub"
    case scrub = "POST /admin/v1/scrub/{action}"
    case findings = "GET /admin/v1/findings"
    case garbage = "GET /admin/v1/gc"
    case runGarbage = "POST /admin/v1/gc/run"
    case volumeUsage = "GET /admin/v1/volume-usage"
    case space = "GET /admin/v1/space"
    case retention = "GET /admin/v1/retention/{bucket}"
    case setRetention = "PUT /admin/v1/retention/{bucket}"
    case removeRetention = "DELETE /admin/v1/retention/{bucket}"
    case applyRetention = "POST /admin/v1/retention/{bucket}/apply"

    package var method: String { String(rawValue.prefix { $0 != " " }) }
    package var template: String { String(rawValue.drop { $0 != " " }.dropFirst()) }

    /// Whether it changes something: such a request stands in the audit log.
    package var isChange: Bool { method != "GET" }

    /// Whether anybody may ask: it says nothing of the store.
    package var isPublic: Bool { self == .document }

    /// Finds the endpoint of a request.
    /// - Parameter path: as received, percent-encoded.
    /// - Returns: the endpoint, and what stands in its path in the place of the braces.
    package static func route(method: String, path: String) throws(AdminRefusal) -> (
        AdminEndpoint, argument: String?
    ) {
        let segments = path.utf8.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
            .map { PercentCoding.decodeText(Substring($0), plusIsSpace: false) }
        var allowed: [String] = []
        for endpoint in allCases {
            guard let argument = endpoint.match(segments) else { continue }
            if endpoint.method == method { return (endpoint, argument.isEmpty ? nil : argument) }
            allowed.append(endpoint.method)
        }
        guard allowed.isEmpty else {
            throw AdminRefusal(
                405,
                "methodNotAllowed",
                "That path does not know the method \(quoted(method)).",
                allowedMethods: allowed
            )
        }
        throw AdminRefusal(
            404,
            "noSuchPath",
            "There is nothing at that path; GET /admin/v1/openapi.json lists them."
        )
    }

    /// - Returns: nil when the path is another one; empty when the template has no argument.
    private func match(_ segments: [String?]) -> String? {
        let wanted = template.split(separator: "/", omittingEmptySubsequences: false)
        guard wanted.count == segments.count else { return nil }
        var argument = ""
        for (pattern, segment) in zip(wanted, segments) {
            guard let segment else { return nil }
            if pattern.hasPrefix("{") {
                guard !segment.isEmpty else { return nil }
                argument = segment
            } else if pattern != segment {
                return nil
            }
        }
        return argument
    }
}

/// The JSON object of a request's body: texts and flags by name.
package struct AdminRequestBody: Sendable {
    package static let byteCountMax = 64 << 10

    private enum Value: Decodable, Sendable {
        case text(String)
        case flag(Bool)
        case none

        init(from decoder: any Decoder) throws {
            let container = try decoder.singleValueContainer()
            if container.decodeNil() {
                self = .none
            } else if let flag = try? container.decode(Bool.self) {
                self = .flag(flag)
            } else {
                self = .text(try container.decode(String.self))
            }
        }
    }

    private let values: [String: Value]

    /// - Parameters:
    ///   - bytes: nothing counts as an object without members.
    ///   - allowed: a member that is not known would be a wish that nobody fulfils.
    package init(_ bytes: [UInt8], allowed: Set<String>) throws(AdminRefusal) {
        guard !bytes.isEmpty else {
            values = [:]
            return
        }
        do {
            values = try JSONDecoder().decode([String: Value].self, from: Data(bytes))
        } catch {
            throw Self.invalid("The body must be a JSON object of texts and flags.")
        }
        for name in values.keys.sorted() where !allowed.contains(name) {
            throw Self.invalid("The member \(quoted(name)) is unknown.")
        }
    }

    package func text(_ name: String) throws(AdminRefusal) -> String? {
        switch values[name] {
        case .text(let text): return text
        case nil, .some(.none): return nil
        case .flag: throw Self.invalid("The member \(quoted(name)) must be a text.")
        }
    }

    package func flag(_ name: String) throws(AdminRefusal) -> Bool {
        switch values[name] {
        case .flag(let flag): return flag
        case nil, .some(.none): return false
        case .text: throw Self.invalid("The member \(quoted(name)) must be true or false.")
        }
    }

    private static func invalid(_ message: String) -> AdminRefusal {
        AdminRefusal(400, "invalidArgument", message)
    }
}
