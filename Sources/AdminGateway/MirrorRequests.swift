internal import Mirroring
internal import S3Protocol
internal import StoreModel

/// The body of a request that adds a mirror, and back: texts and flags.
package enum MirrorRequest {
    static let members: Set<String> = [
        "name", "endpoint", "region", "bucket", "prefix", "rules", "accessKey", "secretKey", "sessionToken",
        "storageClass", "encryption", "encryptionKey", "partSize", "concurrency", "bytesPerSecond",
        "requestsPerSecond", "isVirtualHost", "allowsLinkLocal", "allowsPrivate", "isUnsigned", "isPaused",
    ]

    static func parse(_ body: AdminRequestBody) throws -> NewMirror {
        var settings = MirrorSettings(
            endpoint: try MirrorEndpoint(try required("endpoint", body)),
            bucket: try required("bucket", body)
        )
        settings.region = try body.text("region") ?? settings.region
        settings.prefix = try body.text("prefix") ?? ""
        settings.storageClass = try body.text("storageClass") ?? ""
        settings.encryption = try body.text("encryption") ?? ""
        settings.encryptionKey = try body.text("encryptionKey") ?? ""
        settings.isVirtualHost = try body.flag("isVirtualHost")
        settings.allowsLinkLocal = try body.flag("allowsLinkLocal")
        settings.allowsPrivate = try body.flag("allowsPrivate")
        settings.signsBodies = try !body.flag("isUnsigned")
        settings.partSize = try number("partSize", body) ?? settings.partSize
        settings.concurrency = try number("concurrency", body) ?? settings.concurrency
        settings.bytesPerSecond = try number("bytesPerSecond", body) ?? 0
        settings.requestsPerSecond = try number("requestsPerSecond", body) ?? 0
        return NewMirror(
            name: try required("name", body),
            settings: settings,
            rules: (try body.text("rules") ?? "").split(separator: "\n").map(String.init),
            credentials: try credentials(body),
            isPaused: try body.flag("isPaused")
        )
    }

    static func credentials(_ body: AdminRequestBody) throws -> MirrorCredentials {
        MirrorCredentials(
            accessKey: try required("accessKey", body),
            secret: try required("secretKey", body),
            sessionToken: try body.text("sessionToken")
        )
    }

    private static func required(_ name: String, _ body: AdminRequestBody) throws(AdminRefusal) -> String {
        guard let text = try body.text(name) else {
            throw AdminRefusal(400, "invalidArgument", "The member \(quoted(name)) is missing.")
        }
        return text
    }

    private static func number<Number: FixedWidthInteger>(
        _ name: String,
        _ body: AdminRequestBody
    ) throws(AdminRefusal) -> Number? {
        guard let text = try body.text(name) else { return nil }
        guard let number = Number(text), number >= 0 else {
            throw AdminRefusal(
                400,
                "invalidArgument",
                "The member \(quoted(name)) must be a number in a text."
            )
        }
        return number
    }
}

extension AdminResponder {
    func mirror(
        _ endpoint: AdminEndpoint,
        _ name: String,
        query: String?,
        _ bytes: [UInt8],
        _ administration: any Administration
    ) async throws -> (status: Int, body: [UInt8], name: String) {
        switch endpoint {
        case .addMirror:
            let new = try MirrorRequest.parse(try AdminRequestBody(bytes, allowed: MirrorRequest.members))
            return (201, try AdminJSON.encode(try await administration.addMirror(new)), new.name)
        case .removeMirror:
            try await administration.removeMirror(name)
            return (200, try AdminJSON.encode(RemovedMirrorDocument(removedMirror: name)), name)
        case .pauseMirror:
            return (200, try AdminJSON.encode(try await administration.pauseMirror(name, true)), name)
        case .resumeMirror:
            return (200, try AdminJSON.encode(try await administration.pauseMirror(name, false)), name)
        case .retryMirror:
            return (200, try AdminJSON.encode(try await administration.retryMirror(name)), name)
        case .setMirrorCredentials:
            let body = try AdminRequestBody(bytes, allowed: ["accessKey", "secretKey", "sessionToken"])
            let changed = try await administration.setMirrorCredentials(
                name,
                try MirrorRequest.credentials(body)
            )
            return (200, try AdminJSON.encode(changed), name)
        case .verifyMirror:
            let body = try AdminRequestBody(bytes, allowed: ["isDeep"])
            let report = try await administration.verifyMirror(name, isDeep: try body.flag("isDeep"))
            return (200, try AdminJSON.encode(report), name)
        case .mirrorFailures:
            let list = MirrorFailureListDocument(failures: try await administration.mirrorFailures(name))
            return (200, try AdminJSON.encode(list), name)
        default:
            let list = MirrorListDocument(mirrors: try await administration.mirrors())
            return (200, try AdminJSON.encode(list), name)
        }
    }
}
