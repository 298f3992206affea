internal import AdminGateway
internal import Mirroring

// Mirrors of a store that a server holds.
extension AdminSocketClient {
    func mirrors() async throws -> [MirrorDocument] {
        let list: MirrorListDocument = try await get("mirrors")
        return list.mirrors
    }

    func addMirror(_ mirror: NewMirror) async throws -> MirrorDocument {
        let settings = mirror.settings
        let texts: [String: String?] = [
            "name": mirror.name, "endpoint": settings.endpoint.description, "region": settings.region,
            "bucket": settings.bucket, "prefix": settings.prefix, "storageClass": settings.storageClass,
            "encryption": settings.encryption, "encryptionKey": settings.encryptionKey,
            "rules": mirror.rules.joined(separator: "\n"), "partSize": "\(settings.partSize)",
            "concurrency": "\(settings.concurrency)", "bytesPerSecond": "\(settings.bytesPerSecond)",
            "requestsPerSecond": "\(settings.requestsPerSecond)", "accessKey": mirror.credentials.accessKey,
            "secretKey": mirror.credentials.secret, "sessionToken": mirror.credentials.sessionToken,
        ]
        let flags = [
            "isVirtualHost": settings.isVirtualHost, "allowsLinkLocal": settings.allowsLinkLocal,
            "allowsPrivate": settings.allowsPrivate, "isUnsigned": !settings.signsBodies,
            "isPaused": mirror.isPaused,
        ]
        var members: [String: MirrorMember?] = texts.mapValues { $0.map { .text($0) } }
        for (name, flag) in flags { members[name] = .flag(flag) }
        return try await call("POST", "mirrors", members)
    }

    func pauseMirror(_ name: String, _ isPaused: Bool) async throws -> MirrorDocument {
        try await call("POST", "mirrors/\(Self.escaped(name))/\(isPaused ? "pause" : "resume")")
    }

    func setMirrorCredentials(
        _ name: String,
        _ credentials: MirrorCredentials
    ) async throws -> MirrorDocument {
        try await call(
            "PUT",
            "mirrors/\(Self.escaped(name))/credentials",
            [
                "accessKey": credentials.accessKey, "secretKey": credentials.secret,
                "sessionToken": credentials.sessionToken,
            ]
        )
    }

    func retryMirror(_ name: String) async throws -> MirrorRetryDocument {
        try await call("POST", "mirrors/\(Self.escaped(name))/retry")
    }

    func mirrorFailures(_ name: String) async throws -> [MirrorFailureDocument] {
        let list: MirrorFailureListDocument = try await get("mirrors/\(Self.escaped(name))/failures")
        return list.failures
    }

    func verifyMirror(_ name: String, isDeep: Bool) async throws -> MirrorAuditDocument {
        try await call("POST", "mirrors/\(Self.escaped(name))/verify", ["isDeep": isDeep])
    }

    func mirrorDifferences(_ name: String, _ query: MirrorDifferenceQuery) async throws
        -> MirrorDifferencePageDocument
    {
        var items = ["deep=\(query.isDeep)"]
        if let bucket = query.bucket { items.append("bucket=" + Self.escaped(bucket)) }
        if !query.prefix.isEmpty { items.append("prefix=" + Self.escaped(query.prefix)) }
        if let after = query.after { items.append("after=" + Self.escaped(after)) }
        return try await get("mirrors/\(Self.escaped(name))/differences?" + items.joined(separator: "&"))
    }

    private func acknowledgementPath(_ bucket: String) -> String { "mirror-ack/" + Self.escaped(bucket) }

    func mirrorAcknowledgement(bucket: String) async throws -> MirrorAcknowledgementDocument {
        try await get(acknowledgementPath(bucket))
    }

    func setMirrorAcknowledgement(
        bucket: String,
        _ rules: MirrorAcknowledgementRules
    ) async throws -> MirrorAcknowledgementDocument {
        try await post(acknowledgementPath(bucket), rules, method: "PUT")
    }

    func removeMirrorAcknowledgement(bucket: String) async throws -> MirrorAcknowledgementDocument {
        try await call("DELETE", acknowledgementPath(bucket))
    }

    func mirrorAudits() async throws -> MirrorAuditListDocument { try await get("mirror-audits") }

    func changeMirrorAudit(_ action: ScrubAction, _ mirror: String?, isDeep: Bool) async throws
        -> MirrorAuditListDocument
    {
        // A server that knows no deep audits on demand says so.
        var body: [String: MirrorMember] = [:]
        if let mirror { body["mirror"] = .text(mirror) }
        if isDeep { body["deep"] = .flag(true) }
        return try await call("POST", "mirror-audits/\(action.rawValue)", body)
    }

    func runMirrorAudits() async throws -> Bool { false }

    func removeMirror(_ name: String) async throws {
        let _: RemovedMirrorDocument = try await call("DELETE", "mirrors/" + Self.escaped(name))
    }
}

/// A text or a flag.
private enum MirrorMember: Encodable {
    case text(String)
    case flag(Bool)

    func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        switch self {
        case .text(let text): try container.encode(text)
        case .flag(let flag): try container.encode(flag)
        }
    }
}
