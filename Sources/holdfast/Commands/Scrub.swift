internal import AdminGateway
internal import ArgumentParser
internal import StoreModel

struct Scrub: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Read every copy of everything, find what is damaged or missing, repair it.",
        discussion: """
            A volume's scrub reads every byte of its files; the audit looks whether every chunk of every \
            version has all its copies. What is found is repaired from a verified copy and written down: \
            'holdfast scrub findings'. A server scrubs by itself (section scrub of its configuration); \
            without one, the command does the work and waits for it.

              holdfast scrub start --wait
              holdfast scrub start --volume /mnt/a --kind volume
              holdfast scrub findings --kind corruptPayload --json

            Exit codes of 'start --wait': 0 nothing was found, 14 all that was found is repaired, 6 something \
            can't be repaired, 5 a scrub could not be done, or a repair not yet, 12 paused or cancelled.
            """,
        subcommands: [
            ScrubStart.self, ScrubStatus.self, ScrubPause.self, ScrubResume.self, ScrubCancel.self,
            ScrubScheduleCommand.self, ScrubFindings.self,
        ]
    )
}

/// Which scrubs are meant.
struct ScrubChoice: ParsableArguments {
    @Option(name: .long, help: ArgumentHelp("Only this volume: its directory or id.", valueName: "volume"))
    var volume: String?

    @Option(name: .long, help: ArgumentHelp("volume, audit or all.", valueName: "kind"))
    var kind = "all"

    func validate() throws {
        guard ["volume", "audit", "all"].contains(kind) else {
            throw ValidationError("--kind is volume, audit or all.")
        }
        guard kind != "audit" || volume == nil else { throw ValidationError("The audit is of all volumes.") }
    }

    func covers(_ job: ScrubJobDocument) -> Bool {
        if job.kind == "audit" { return kind == "audit" || kind == "all" && volume == nil }
        guard kind != "audit" else { return false }
        guard let volume else { return true }
        return job.volume == volume || job.volumeID == volume || job.volume?.hasSuffix("/" + volume) == true
    }
}

/// What the commands that let scrubs run have in common.
struct ScrubRun: ParsableArguments {
    @OptionGroup var choice: ScrubChoice

    @Flag(name: .long, help: "Wait for the end; without a server that is always so.")
    var wait = false

    func perform(_ action: ScrubAction, _ command: some StoreCommand, _ output: Output) async throws {
        let (status, isDone) = try await command.withAdministration { administration in
            var status = try await administration.changeScrub(
                action,
                kind: choice.kind,
                volume: choice.volume
            )
            let isHere = try await administration.runScrubs()
            if isHere { status = try await administration.scrubStatus() }
            return (status, isHere)
        }
        try await ScrubResult.finish(status, isDone: isDone, waits: wait, command, choice, output)
    }
}

/// What the commands that hold scrubs have in common.
extension ScrubChoice {
    fileprivate func perform(_ action: ScrubAction, _ command: some StoreCommand, _ output: Output)
        async throws
    {
        let status = try await command.withAdministration {
            try await $0.changeScrub(action, kind: kind, volume: volume)
        }
        try output.result(status) { ScrubResult.lines(status) }
    }
}

struct ScrubStart: StoreCommand {
    static let configuration = CommandConfiguration(
        commandName: "start",
        abstract: "Start scrubs; one that was interrupted goes on where it was."
    )

    @OptionGroup var run: ScrubRun
    @OptionGroup(title: "Everywhere") var options: GlobalOptions

    func execute(_ output: Output) async throws { try await run.perform(.start, self, output) }
}

struct ScrubResume: StoreCommand {
    static let configuration = CommandConfiguration(
        commandName: "resume",
        abstract: "Let paused scrubs go on."
    )

    @OptionGroup var run: ScrubRun
    @OptionGroup(title: "Everywhere") var options: GlobalOptions

    func execute(_ output: Output) async throws { try await run.perform(.resume, self, output) }
}

struct ScrubPause: StoreCommand {
    static let configuration = CommandConfiguration(
        commandName: "pause",
        abstract: "Hold scrubs where they are."
    )

    @OptionGroup var choice: ScrubChoice
    @OptionGroup(title: "Everywhere") var options: GlobalOptions

    func execute(_ output: Output) async throws { try await choice.perform(.pause, self, output) }
}

struct ScrubCancel: StoreCommand {
    static let configuration = CommandConfiguration(
        commandName: "cancel",
        abstract: "Give scrubs up; what they have asked for is repaired all the same."
    )

    @OptionGroup var choice: ScrubChoice
    @OptionGroup(title: "Everywhere") var options: GlobalOptions

    func execute(_ output: Output) async throws { try await choice.perform(.cancel, self, output) }
}

struct ScrubStatus: StoreCommand {
    static let configuration = CommandConfiguration(commandName: "status", abstract: "Show where scrubs are.")

    @OptionGroup(title: "Everywhere") var options: GlobalOptions

    func execute(_ output: Output) async throws {
        let status = try await withAdministration { try await $0.scrubStatus() }
        try output.result(status) { ScrubResult.lines(status) }
    }
}

struct ScrubScheduleCommand: StoreCommand {
    static let configuration = CommandConfiguration(
        commandName: "schedule",
        abstract: "Show when scrubs start by themselves.",
        discussion: "Schedules are in the server's configuration; without a server the standard is shown."
    )

    @OptionGroup(title: "Everywhere") var options: GlobalOptions

    func execute(_ output: Output) async throws {
        let status = try await withAdministration { try await $0.scrubStatus() }
        try output.result(status) {
            [
                "Volumes \(status.volumeSchedule ?? "never"), audit \(status.auditSchedule ?? "never"), "
                    + "time zone \(status.timeZone), up to \(status.jitterSeconds) s later"
            ]
                + HumanFormat.table(
                    status.jobs.map { [$0.title, $0.nextRunAt ?? "never"] },
                    header: ["SCRUB", "NEXT"]
                )
        }
    }
}

struct ScrubFindings: StoreCommand {
    static let configuration = CommandConfiguration(
        commandName: "findings",
        abstract: "List what was found wrong and what became of it, oldest first."
    )

    @Option(name: .long, help: ArgumentHelp("Only these kinds, separated by commas.", valueName: "kinds"))
    var kind: String?

    @Option(name: .long, help: ArgumentHelp("Only this volume's: its directory or id.", valueName: "volume"))
    var volume: String?

    @Option(name: .long, help: ArgumentHelp("Only what is wrong with this mirror.", valueName: "name"))
    var mirror: String?

    @Flag(name: .long, help: "Only what is not dealt with yet.")
    var open = false

    @Flag(name: .long, help: "Only what is.")
    var closed = false

    @Option(
        name: .long,
        help: ArgumentHelp("The id of the last finding of the page before.", valueName: "id")
    )
    var after: String?

    @Option(name: .long, help: ArgumentHelp("Findings on a page, 1 to 1000.", valueName: "number"))
    var limit = 100

    @OptionGroup(title: "Everywhere") var options: GlobalOptions

    func validate() throws {
        guard !(open && closed) else {
            throw ValidationError("Give --open or --closed, or neither for both.")
        }
        guard (1...1000).contains(limit) else { throw ValidationError("--limit is 1 to 1000.") }
    }

    func execute(_ output: Output) async throws {
        var query = FindingQueryDocument()
        query.kinds = kind.map { $0.split(separator: ",").map(String.init) } ?? []
        query.volume = volume
        query.mirror = mirror
        query.isOpen = open ? true : closed ? false : nil
        query.after = after
        query.limit = limit
        let request = query
        let list = try await withAdministration { try await $0.findings(request) }
        try output.result(list) {
            HumanFormat.table(
                list.findings.map { finding in
                    [
                        finding.foundAt, finding.kind, HumanFormat.visible(finding.volume ?? "-"),
                        finding.finder, finding.ending, HumanFormat.visible(finding.subject),
                    ]
                },
                header: ["FOUND", "KIND", "VOLUME", "BY", "OUTCOME", "WHAT"]
            ) + LossReport.lines(list.findings)
        }
        if let next = list.next { output.remark("More: --after \(next)") }
    }
}

extension FindingDocument {
    fileprivate var finder: String {
        switch (foundBy, mirror) {
        case ("mirrorAudit", let name?): "audit of mirror \(name)"
        case ("mirroring", let name?): "mirror \(name)"
        default: foundBy
        }
    }

    fileprivate var ending: String {
        if let repairedFrom, repairedFrom.hasPrefix("mirror ") { return "\(outcome) from \(repairedFrom)" }
        guard outcome == "unrepairable", !heldBy.isEmpty else { return outcome }
        return "unrepairable; mirror \(heldBy.joined(separator: ", ")) has it"
    }

    fileprivate var subject: String {
        neededBy.first ?? chunk.map { "chunk " + $0.prefix(16) } ?? detail ?? ""
    }
}

/// What is left around chunks that can't be repaired, for people: each chunk once, by its newest finding.
private enum LossReport {
    static func lines(_ findings: [FindingDocument]) -> [String] {
        var order: [String] = []
        var newest: [String: FindingDocument] = [:]
        for finding in findings where finding.outcome == "unrepairable" && finding.versions != nil {
            guard let chunk = finding.chunk else { continue }
            if newest[chunk] == nil { order.append(chunk) }
            newest[chunk] = finding
        }
        return order.flatMap { chunk in newest[chunk].map(lines) ?? [] }
    }

    private static func lines(_ finding: FindingDocument) -> [String] {
        let versions = finding.versions ?? []
        let needed = versions.count { $0.state == "lost" }
        let rest = UInt64(clamping: Int(clamping: finding.neededCount ?? 0) - needed)
        var lines = ["", "Chunk \((finding.chunk ?? "").prefix(16)) can't be repaired:"]
        lines += HumanFormat.table(
            versions.map { version in
                [
                    "  " + version.meaning, HumanFormat.visible("\(version.bucket)/\(version.key)"),
                    version.versionID, version.isNewest ? "newest" : "", HumanFormat.size(version.size),
                    version.mirrors.isEmpty
                        ? "" : HumanFormat.visible("mirror " + version.mirrors.joined(separator: ", ")),
                ]
            },
            header: ["  STATE", "KEY", "VERSION", "", "SIZE", "ALSO ON"]
        )
        if rest > 0 { lines.append("  and \(rest) more versions that need it") }
        for copy in finding.copies ?? [] {
            let state =
                copy.isGood ? "good bytes\(copy.verifiedAt.map { ", read \($0)" } ?? "")" : copy.problem
            lines.append("  copy on " + HumanFormat.visible("\(copy.volume): \(state ?? "no good bytes")"))
        }
        return lines
    }
}

extension FindingVersionDocument {
    fileprivate var meaning: String {
        switch state {
        case "lost": "needs it"
        case "damaged": "damaged elsewhere"
        case "whole": "whole"
        default: "there, not read"
        }
    }
}

extension ScrubJobDocument {
    fileprivate var title: String { volume.map { HumanFormat.visible($0) } ?? "audit of all copies" }
    fileprivate var isActive: Bool { state == "running" || state == "paused" }
}

/// How scrubs end, for people and as exit codes.
private enum ScrubResult {
    static func finish(
        _ begun: ScrubStatusDocument,
        isDone: Bool,
        waits: Bool,
        _ command: some StoreCommand,
        _ choice: ScrubChoice,
        _ output: Output
    ) async throws {
        var status = begun
        if !isDone, waits {
            while status.jobs.contains(where: { choice.covers($0) && $0.state == "running" }) {
                try await Task.sleep(for: .milliseconds(200))
                status = try await command.withAdministration { try await $0.scrubStatus() }
            }
        }
        let shown = status
        try output.result(shown) { lines(shown) }
        guard isDone || waits else { return }
        try check(shown.jobs.filter { choice.covers($0) })
    }

    private static func check(_ jobs: [ScrubJobDocument]) throws {
        let unrepairable = jobs.reduce(0) { $0 + $1.unrepairable }
        let found = jobs.reduce(0) { $0 + $1.found }
        let repaired = jobs.reduce(0) { $0 + $1.repaired }
        if unrepairable > 0 {
            throw CommandError(
                .damagedData,
                "\(unrepairable) of \(found) findings can't be repaired: no volume has good bytes.",
                advice: "'holdfast scrub findings --closed' names the versions that need them."
            )
        }
        if let failed = jobs.first(where: { $0.state == "failed" }) {
            throw CommandError(.unhealthy, "A scrub could not be done: \(failed.message ?? "").")
        }
        if jobs.contains(where: { $0.state != "completed" }) {
            throw CommandError(
                .partlyDone,
                "Not every scrub came to its end.",
                advice: "'holdfast scrub status'"
            )
        }
        if repaired < found {
            throw CommandError(
                .unhealthy,
                "\(found - repaired) of \(found) findings could not be repaired yet.",
                advice: "'holdfast scrub findings' tells why."
            )
        }
        if found > 0 { throw ExitCode(ExitStatus.repaired.rawValue) }
    }

    static func lines(_ status: ScrubStatusDocument) -> [String] {
        HumanFormat.table(
            status.jobs.map { job in
                let share = job.totalBytes == 0 ? "" : "\(min(100, job.bytes * 100 / job.totalBytes)) %"
                return [
                    job.title, job.state, share, "\(job.records)", "\(job.found)", "\(job.repaired)",
                    "\(job.unrepairable + job.failed)", job.lastPassEndedAt ?? "never",
                ]
            },
            header: [
                "SCRUB", "STATE", "READ", "RECORDS", "FOUND", "REPAIRED", "NOT REPAIRED", "LAST COMPLETED",
            ]
        ) + status.jobs.compactMap { job in job.message.map { HumanFormat.visible("\(job.title): \($0)") } }
    }
}
