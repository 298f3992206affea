internal import AdminGateway
internal import ArgumentParser
internal import StoreModel

struct Garbage: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "gc",
        abstract: "Give back the space of what nothing refers to any more.",
        subcommands: [GarbageRun.self, GarbageStatus.self]
    )
}

struct GarbageRun: StoreCommand {
    static let configuration = CommandConfiguration(
        commandName: "run",
        abstract: "Run garbage collection now.",
        discussion: """
            Walks all versions, uploads in parts and catalog snapshots, and takes away the chunks that none of \
            them names. With a server running it happens there, beside its clients; without one here, and \
            the command ends with the run. --dry-run changes nothing and says what would be freed, and what stays and why.

              holdfast gc run --dry-run
              holdfast gc run --wait
            """
    )

    @Flag(name: .long, help: "Change nothing; say what would be freed.")
    var dryRun = false

    @Flag(name: .long, help: "Wait for the end of the run.")
    var wait = false

    @Option(
        name: .long,
        help: ArgumentHelp(
            "How young a chunk may be and stay although nothing names it.",
            valueName: "seconds"
        )
    )
    var grace: Int?

    @OptionGroup(title: "Everywhere") var options: GlobalOptions

    func validate() throws {
        if let grace, !(0...31_536_000).contains(grace) {
            throw ValidationError("--grace takes 0 to 31536000 seconds.")
        }
    }

    func execute(_ output: Output) async throws {
        let report = try await withAdministration { administration in
            let request = GarbageRequest(isDryRun: dryRun, graceSeconds: grace)
            var document = try await administration.startGarbageCollection(request)
            // Without a server the run lives no longer than this command.
            let mustWait = wait || dryRun || !(administration is AdminSocketClient)
            while mustWait, document.isRunning {
                try await Task.sleep(for: .milliseconds(50))
                document = try await administration.garbageStatus()
            }
            return document
        }
        try output.result(report) { GarbageLines.lines(for: report) }
        guard !report.isRunning, let run = report.run, run.outcome != "done" else { return }
        throw StoreError(
            .internalFault,
            "The run came to no end: \(run.problem ?? run.outcome)",
            advice: "Nothing that is needed was touched; run it again."
        )
    }
}

struct GarbageStatus: StoreCommand {
    static let configuration = CommandConfiguration(
        commandName: "status",
        abstract: "Show the run that is under way, or the last one."
    )

    @OptionGroup(title: "Everywhere") var options: GlobalOptions

    func execute(_ output: Output) async throws {
        let report = try await withAdministration { try await $0.garbageStatus() }
        try output.result(report) { GarbageLines.lines(for: report) }
    }
}

enum GarbageLines {
    static func lines(for report: GarbageDocument) -> [String] {
        var lines: [String] = []
        if let hold = report.hold { lines.append("On hold: \(HumanFormat.visible(hold))") }
        guard let run = report.run else { return lines + ["Garbage was never collected"] }
        let phase = run.phase.map { " (\($0))" } ?? ""
        lines.append(
            "\(run.dryRun ? "Dry run" : "Run") of \(run.startedAt): \(run.outcome)\(phase)"
                + (run.problem.map { ": \(HumanFormat.visible($0))" } ?? "")
        )
        guard !run.volumes.isEmpty else {
            return lines + ["Freed \(HumanFormat.size(run.freedBytes))"]
        }
        lines.append(
            "In use: \(HumanFormat.count(run.livePayloads, "chunk")), named by "
                + "\(HumanFormat.count(run.versions, "version")) and \(HumanFormat.count(run.documents, "document"))"
        )
        for volume in run.volumes {
            lines.append("  \(HumanFormat.visible(volume.path))")
            if let problem = volume.problem { lines.append("    problem: \(HumanFormat.visible(problem))") }
            lines.append(
                "    \(run.dryRun ? "would free" : "condemned")  "
                    + (run.dryRun
                        ? amount(volume.unreferencedRecords - volume.pinnedRecords, volume.unreferencedBytes)
                        : amount(volume.condemnedRecords, volume.condemnedBytes))
                    + ": no version, part or snapshot names them"
            )
            if volume.youngRecords > 0 {
                lines.append(
                    "    keeps       \(amount(volume.youngRecords, volume.youngBytes)): named by nothing, but too young"
                )
            }
            if volume.pinnedRecords > 0 {
                lines.append(
                    "    keeps       \(HumanFormat.count(UInt64(volume.pinnedRecords), "chunk")): asked for by an upload"
                )
            }
            if volume.surplusRecords > 0 {
                lines.append(
                    "    surplus     \(amount(volume.surplusRecords, volume.surplusBytes)): "
                        + "\(run.dryRun ? "would go" : "gone"), all volumes where they belong have good copies"
                )
            }
            if volume.strayRecords > 0 {
                lines.append(
                    "    keeps       \(amount(volume.strayRecords, volume.strayBytes)): belong elsewhere, but are young, "
                        + "asked for, or not yet good everywhere there"
                )
            }
            if run.dryRun { continue }
            lines.append(
                "    freed       \(HumanFormat.size(volume.punchedBytes)) as holes, "
                    + "\(HumanFormat.size(volume.removedBytes)) in "
                    + "\(HumanFormat.count(UInt64(volume.removedSegments), "segment")); "
                    + "moved \(HumanFormat.size(volume.movedBytes))"
            )
            if volume.quarantineDropped > 0 {
                lines.append("    quarantine  dropped the \(volume.quarantineDropped) oldest pieces")
            }
            if volume.skippedSegments > 0 {
                lines.append(
                    "    left alone  \(volume.skippedSegments) damaged segments; see 'holdfast verify'"
                )
            }
        }
        return lines
    }

    private static func amount(_ records: Int, _ bytes: UInt64) -> String {
        "\(HumanFormat.count(UInt64(max(0, records)), "chunk")) (\(HumanFormat.size(bytes)))"
    }
}
