internal import S3Protocol
internal import StoreModel

/// The audit of one mirror: the comparison of it with the store, by schedule or on demand.
package struct MirrorAuditJobDocument: Codable, Hashable, Sendable {
    package var mirror: String
    /// "idle", "running", "paused", "completed", "cancelled" or "failed".
    package var state: String
    /// A cron expression; absent: never.
    package var schedule: String?
    /// Whether each object is asked for its version and SHA-256: by schedule, or because this audit was started so.
    package var isDeep: Bool
    /// When it starts by itself, in a server.
    package var nextRunAt: String?
    /// Where it goes on: BUCKET/KEY.
    package var position: String?
    package var startedAt: String?
    package var endedAt: String?
    package var checked: UInt64
    /// Still to be sent, or given up: no difference that nobody knows of.
    package var waiting: UInt64
    package var missing: UInt64
    package var different: UInt64
    package var extra: UInt64
    package var queuedAgain: UInt64
    package var lastPassStartedAt: String?
    package var lastPassEndedAt: String?
    package var passes: UInt64
    package var message: String?

    package init(
        mirror: String,
        state: String,
        schedule: String?,
        isDeep: Bool,
        nextRunAt: String?,
        position: String?,
        startedAt: String?,
        endedAt: String?,
        checked: UInt64,
        waiting: UInt64,
        missing: UInt64,
        different: UInt64,
        extra: UInt64,
        queuedAgain: UInt64,
        lastPassStartedAt: String?,
        lastPassEndedAt: String?,
        passes: UInt64,
        message: String?
    ) {
        self.mirror = mirror
        self.state = state
        self.schedule = schedule
        self.isDeep = isDeep
        self.nextRunAt = nextRunAt
        self.position = position
        self.startedAt = startedAt
        self.endedAt = endedAt
        self.checked = checked
        self.waiting = waiting
        self.missing = missing
        self.different = different
        self.extra = extra
        self.queuedAgain = queuedAgain
        self.lastPassStartedAt = lastPassStartedAt
        self.lastPassEndedAt = lastPassEndedAt
        self.passes = passes
        self.message = message
    }
}

package struct MirrorAuditListDocument: Codable, Hashable, Sendable {
    package var audits: [MirrorAuditJobDocument]
    package init(audits: [MirrorAuditJobDocument]) { self.audits = audits }
}

/// What an administrator can ask about the audits of mirrors.
package protocol MirrorAuditAdministration: Sendable {
    func mirrorAudits() async throws -> MirrorAuditListDocument
    /// - Parameters:
    ///   - mirror: nil: all of them.
    ///   - isDeep: of a start: asks for each object's version and SHA-256.
    func changeMirrorAudit(_ action: ScrubAction, _ mirror: String?, isDeep: Bool) async throws
        -> MirrorAuditListDocument
    /// Runs what is started, in this process.
    /// - Returns: false when a server does that by itself.
    func runMirrorAudits() async throws -> Bool
}

extension StoreAdministration {
    private func auditor() throws(StoreError) -> any MirrorAuditAdministration {
        guard let mirrorAuditor else { throw StoreError(.internalFault, "There are no mirrors here.") }
        return mirrorAuditor
    }

    package func mirrorAudits() async throws -> MirrorAuditListDocument { try await auditor().mirrorAudits() }

    package func changeMirrorAudit(_ action: ScrubAction, _ mirror: String?, isDeep: Bool) async throws
        -> MirrorAuditListDocument
    {
        try await auditor().changeMirrorAudit(action, mirror, isDeep: isDeep)
    }

    package func runMirrorAudits() async throws -> Bool { try await auditor().runMirrorAudits() }
}

extension AdminResponder {
    func performMirrorAudit(_ argument: String, _ bytes: [UInt8]) async throws -> [UInt8] {
        guard let action = ScrubAction(rawValue: argument) else {
            throw AdminRefusal(404, "noSuchPath", "\(quoted(argument)): start, pause, resume or cancel.")
        }
        let body = try AdminRequestBody(bytes, allowed: action == .start ? ["mirror", "deep"] : ["mirror"])
        return try AdminJSON.encode(
            try await administration.changeMirrorAudit(
                action,
                try body.text("mirror"),
                isDeep: try body.flag("deep")
            )
        )
    }

    func mirrorDifferences(_ name: String, _ query: String?) async throws -> [UInt8] {
        let items = try QueryItems(decoding: query)
        var request = MirrorDifferenceQuery()
        request.bucket = try items.single("bucket")
        request.prefix = try items.single("prefix") ?? ""
        request.after = try items.single("after")
        switch try items.single("deep") {
        case nil, "false": break
        case "true": request.isDeep = true
        default: throw AdminRefusal(400, "invalidArgument", "deep is true or false.")
        }
        return try AdminJSON.encode(try await administration.mirrorDifferences(name, request))
    }
}
