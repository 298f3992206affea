internal import AdminGateway

extension AdminSocketClient {
    private func path(_ bucket: String) -> String { "retention/" + Self.escaped(bucket) }

    func retention(bucket: String) async throws -> RetentionDocument { try await get(path(bucket)) }

    func setRetention(bucket: String, _ rules: RetentionRules) async throws -> RetentionDocument {
        try await post(path(bucket), rules, method: "PUT")
    }

    func removeRetention(bucket: String) async throws -> RetentionDocument {
        try await call("DELETE", path(bucket))
    }

    func applyRetention(bucket: String, dryRun: Bool) async throws -> RetentionRunDocument {
        try await post(path(bucket) + "/apply", ["dryRun": dryRun])
    }
}
