internal import AdminGateway

extension AdminSocketClient {
    func space(_ request: SpaceRequest) async throws -> SpaceDocument {
        var items = ["prefix=" + Self.escaped(request.prefix), "exact=\(request.isExact)"]
        if let bucket = request.bucket { items.append("bucket=" + Self.escaped(bucket)) }
        if let version = request.version { items.append("version=" + Self.escaped(version)) }
        if let grouping = request.grouping { items.append("by=" + Self.escaped(grouping)) }
        if let limit = request.rowCountMax { items.append("limit=\(limit)") }
        return try await get("space?" + items.joined(separator: "&"))
    }
}
