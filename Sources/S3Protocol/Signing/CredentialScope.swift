package import StoreModel

/// What a signing key is good for: one day, one region, one service.
package struct CredentialScope: Hashable, Sendable {
    package static let terminator = "aws4_request"

    /// `yyyyMMdd`
    package let day: String
    package let region: String
    package let service: String

    package init(day: String, region: String, service: String) {
        self.day = day
        self.region = region
        self.service = service
    }

    package init(_ timestamp: Timestamp, region: String, service: String = "s3") {
        self.init(
            day: String(ISO8601.formatBasic(timestamp).prefix(8)),
            region: region,
            service: service
        )
    }

    package var text: String { "\(day)/\(region)/\(service)/\(Self.terminator)" }
}

/// The credential of a signature: `AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request`.
package struct SigningCredential: Hashable, Sendable {
    package let accessKey: String
    package let scope: CredentialScope

    package init(accessKey: String, scope: CredentialScope) {
        self.accessKey = accessKey
        self.scope = scope
    }

    /// Nil when there are fewer than five parts, an empty one, a day that is none, or another terminator. Access keys
    /// may hold slashes, so the parts are counted from the end.
    init?(_ text: String) {
        guard text.utf8.count <= 512 else { return nil }
        let parts = ASCIIText.split(text[...], at: "/")
        guard parts.count >= 5, parts[parts.count - 1] == CredentialScope.terminator else { return nil }
        let day = parts[parts.count - 4]
        let region = parts[parts.count - 3]
        let service = parts[parts.count - 2]
        let tail =
            day.utf8.count + region.utf8.count + service.utf8.count
            + CredentialScope.terminator.utf8.count + 4
        guard day.utf8.count == 8, ASCIIText.decimal(day) != nil, !region.isEmpty, !service.isEmpty,
            text.utf8.count > tail
        else { return nil }
        accessKey = String(decoding: text.utf8.dropLast(tail), as: UTF8.self)
        scope = CredentialScope(day: String(day), region: String(region), service: String(service))
    }

    package var text: String { "\(accessKey)/\(scope.text)" }
}
