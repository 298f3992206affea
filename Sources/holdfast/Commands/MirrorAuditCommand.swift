internal import AdminGateway
internal import ArgumentParser
internal import StoreModel

struct MirrorAuditCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "audit",
        abstract:
            "Compare mirrors with the store in the background, by schedule, and send again what is missing.",
        discussion: """
            An audit lists both sides, writes what is missing, different or extra into the ledger of findings \
            ('holdfast scrub findings --mirror NAME'), and queues again what is missing or different. Nothing is removed \
            from a mirror. It goes on after a restart where it was. A server starts audits by itself (section mirror of \
            its configuration); without one, 'start' does the work, sends what it queued, and waits for it.

            Exit codes of 'start --wait': 0 nothing was found, 14 all that was found was sent again, 6 something is \
            not the same, 5 an audit could not be done, 12 paused or cancelled.
            """,
        subcommands: [
            MirrorAuditStart.self, MirrorAuditStatus.self, MirrorAuditPause.self, MirrorAuditResume.self,
            MirrorAuditCancel.self,
        ]
    )
}

struct MirrorAuditStart: StoreCommand {
    static let configuration = CommandConfiguration(
        commandName: "start",
        abstract: "Start an audit; one that was interrupted goes on where it was."
    )
    @Argument(help: "The mirror (default: all).") var name: String?

    @Flag(name: .long, help: "Wait for the end; without a server that is always so.")
    var wait = false

    @Flag(name: .long, help: "Ask for each object's version and SHA-256 this time: one request each.")
    var deep = false

    @OptionGroup(title: "Everywhere") var options: GlobalOptions

    func execute(_ output: Output) async throws {
        var (list, isDone) = try await withAdministration { administration in
            var list = try await administration.changeMirrorAudit(.start, name, isDeep: deep)
            let isHere = try await administration.runMirrorAudits()
            if isHere { list = try await administration.mirrorAudits() }
            return (list, isHere)
        }
        func mine(_ list: MirrorAuditListDocument) -> [MirrorAuditJobDocument] {
            list.audits.filter { name == nil || $0.mirror == name }
        }
        while !isDone, wait {
            isDone = !mine(list).contains { $0.state == "running" }
            guard !isDone else { break }
            try await Task.sleep(for: .milliseconds(200))
            list = try await withAdministration { try await $0.mirrorAudits() }
        }
        let shown = MirrorAuditListDocument(audits: mine(list))
        try output.result(shown) { shown.lines }
        if isDone { try await check(shown.audits) }
    }

    private func check(_ audits: [MirrorAuditJobDocument]) async throws {
        if let failed = audits.first(where: { $0.state == "failed" }) {
            throw CommandError(
                .unhealthy,
                "The audit of the mirror \(failed.mirror) could not be done: \(failed.message ?? "")"
            )
        }
        if audits.contains(where: { $0.state != "completed" }) {
            throw CommandError(.partlyDone, "Not every audit came to its end.")
        }
        let found = audits.reduce(0) { $0 + $1.missing + $1.different + $1.extra }
        guard found > 0 else { return }
        guard audits.allSatisfy({ $0.extra == 0 }), try await !hasOpenFindings(audits) else {
            throw CommandError(
                .damagedData,
                "\(HumanFormat.count(found, "difference")) found, and not all of them put right.",
                advice: "'holdfast scrub findings --mirror NAME' lists them."
            )
        }
        throw ExitCode(ExitStatus.repaired.rawValue)
    }

    /// What was queued again and is not there yet, or was sent and is still another.
    private func hasOpenFindings(_ audits: [MirrorAuditJobDocument]) async throws -> Bool {
        for audit in audits {
            var query = FindingQueryDocument()
            query.mirror = audit.mirror
            query.limit = 1000
            var page: FindingListDocument
            repeat {
                let asked = query
                page = try await withAdministration { try await $0.findings(asked) }
                let isLeft = page.findings.contains { finding in
                    finding.foundBy == "mirrorAudit" && finding.lastSeenAt >= audit.startedAt ?? ""
                        && !["repaired", "mended"].contains(finding.outcome)
                }
                if isLeft { return true }
                query.after = page.next
            } while page.next != nil
        }
        return false
    }
}

struct MirrorAuditStatus: StoreCommand {
    static let configuration = CommandConfiguration(
        commandName: "status",
        abstract: "Show where audits are, and when they start by themselves."
    )
    @OptionGroup(title: "Everywhere") var options: GlobalOptions

    func execute(_ output: Output) async throws {
        let list = try await withAdministration { try await $0.mirrorAudits() }
        try output.result(list) { list.lines }
    }
}

struct MirrorAuditPause: StoreCommand {
    static let configuration = CommandConfiguration(
        commandName: "pause",
        abstract: "Hold audits where they are."
    )
    @Argument(help: "The mirror (default: all).") var name: String?
    @OptionGroup(title: "Everywhere") var options: GlobalOptions

    func execute(_ output: Output) async throws {
        let list = try await withAdministration {
            try await $0.changeMirrorAudit(.pause, name, isDeep: false)
        }
        try output.result(list) { list.lines }
    }
}

struct MirrorAuditResume: StoreCommand {
    static let configuration = CommandConfiguration(
        commandName: "resume",
        abstract: "Let paused audits go on."
    )
    @Argument(help: "The mirror (default: all).") var name: String?
    @OptionGroup(title: "Everywhere") var options: GlobalOptions

    func execute(_ output: Output) async throws {
        let list = try await withAdministration { administration in
            let list = try await administration.changeMirrorAudit(.resume, name, isDeep: false)
            return try await administration.runMirrorAudits() ? administration.mirrorAudits() : list
        }
        try output.result(list) { list.lines }
    }
}

struct MirrorAuditCancel: StoreCommand {
    static let configuration = CommandConfiguration(
        commandName: "cancel",
        abstract: "Give audits up; what they have queued is sent all the same."
    )
    @Argument(help: "The mirror (default: all).") var name: String?
    @OptionGroup(title: "Everywhere") var options: GlobalOptions

    func execute(_ output: Output) async throws {
        let list = try await withAdministration {
            try await $0.changeMirrorAudit(.cancel, name, isDeep: false)
        }
        try output.result(list) { list.lines }
    }
}

extension MirrorAuditListDocument {
    fileprivate var lines: [String] {
        HumanFormat.table(
            audits.map { audit in
                [
                    audit.mirror, audit.state, "\(audit.checked)", "\(audit.missing)", "\(audit.different)",
                    "\(audit.extra)", "\(audit.queuedAgain)", audit.lastPassEndedAt ?? "never",
                    audit.nextRunAt ?? "-",
                ]
            },
            header: [
                "AUDIT", "STATE", "CHECKED", "MISSING", "DIFFERENT", "EXTRA", "QUEUED", "LAST COMPLETED",
                "NEXT",
            ]
        ) + audits.compactMap { audit in audit.message.map { HumanFormat.visible("\(audit.mirror): \($0)") } }
    }
}
