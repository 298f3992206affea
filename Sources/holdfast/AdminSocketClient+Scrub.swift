internal import AdminGateway

extension AdminSocketClient {
    func scrubStatus() async throws -> ScrubStatusDocument { try await get("scrub") }

    func changeScrub(_ action: ScrubAction, kind: String, volume: String?) async throws -> ScrubStatusDocument
    {
        try await call("POST", "scrub/\(action.rawValue)", ["kind": kind, "volume": volume])
    }

    func findings(_ query: FindingQueryDocument) async throws -> FindingListDocument {
        var items = ["limit=\(query.limit)"]
        if !query.kinds.isEmpty { items.append("kind=" + Self.escaped(query.kinds.joined(separator: ","))) }
        if let volume = query.volume { items.append("volume=" + Self.escaped(volume)) }
        if let mirror = query.mirror { items.append("mirror=" + Self.escaped(mirror)) }
        if let isOpen = query.isOpen { items.append("state=" + (isOpen ? "open" : "closed")) }
        if let after = query.after { items.append("after=" + Self.escaped(after)) }
        return try await get("findings?" + items.joined(separator: "&"))
    }

    func runScrubs() async throws -> Bool { false }
}
