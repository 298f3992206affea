internal import AdminGateway
internal import ArgumentParser
internal import StoreModel

struct Status: StoreCommand {
    static let configuration = CommandConfiguration(
        abstract: "Show volumes, quorum, redundancy and space.",
        discussion: """
            With --check the exit code tells as well: 0 when every volume is healthy and nothing waits for \
            repair, else 5. With --check --quiet nothing else does: nothing is printed unless the store can't \
            be looked at.

              holdfast status
              holdfast status --check --quiet || mail -s 'holdfast' operator
            """
    )

    @Flag(name: .long, help: "Exit with 5 unless everything is healthy.")
    var check = false

    @OptionGroup(title: "Everywhere") var options: GlobalOptions

    var onlyReads: Bool { true }

    func execute(_ output: Output) async throws {
        let report = StatusReport(try await withAdministration { try await $0.status() })
        if check, output.isQuiet, !output.isJSON {
            if Self.isHealthy(report) { return }
            throw ExitCode(ExitStatus(.notEnoughReplicas).rawValue)
        }
        try output.result(report) { Self.lines(for: report) }
        guard check, !Self.isHealthy(report) else { return }
        throw CommandError(
            .unhealthy,
            "The store is not fully healthy.",
            advice: "'holdfast status' shows why."
        )
    }

    private static func isHealthy(_ report: StatusReport) -> Bool {
        report.isFullyRedundant && report.isWritable
    }

    private static func lines(for report: StatusReport) -> [String] {
        let healthy = report.volumes.filter { $0.state == "healthy" }.count
        var lines = HumanFormat.table([
            ["store", HumanFormat.visible(report.store)],
            ["identity", "\(report.storeID), format \(report.formatVersion)"],
            [
                "quorum",
                "\(report.replicas) replicas, \(report.writeQuorum) needed to write; "
                    + "\(healthy) of \(report.volumes.count) volumes healthy",
            ],
            ["writes", report.isWritable ? "possible" : "NOT possible: too few volumes"],
            ["reads", report.isReadable ? "possible" : "NOT possible: too few volumes"],
            ["redundancy", redundancy(report)],
            ["devices", devices(report)],
            [
                "content",
                "\(HumanFormat.count(report.buckets, "bucket")), "
                    + "\(HumanFormat.count(report.objects, "object")), "
                    + HumanFormat.count(report.versions, "version"),
            ],
            [
                "space",
                "logical \(HumanFormat.size(report.logicalBytes)), "
                    + (report.uniqueBytes.map { "unique \(HumanFormat.size($0)), " } ?? "")
                    + "physical \(HumanFormat.size(report.physicalBytes))",
            ],
            ["catalog", catalog(report)],
        ])
        lines += digests(report) + ["volumes"]
        lines += HumanFormat.table(
            report.volumes.map { volume in
                [
                    "  \(HumanFormat.visible(volume.path))",
                    volume.state,
                    "\(HumanFormat.size(volume.fileBytes)) used",
                    volume.freeBytes.map { "\(HumanFormat.size($0)) free" } ?? "",
                    HumanFormat.visible(volume.reason ?? ""),
                ]
            }
        )
        return lines.map { line in
            String(line.reversed().drop { $0 == " " }.reversed())
        }
    }

    private static func digests(_ report: StatusReport) -> [String] {
        guard let count = report.objectsWaitingForSHA256, count > 0 else { return [] }
        let objects = HumanFormat.count(count, "object")
        return ["sha256      still to be found of \(objects) in parts: by a server, or by 'holdfast verify'"]
    }

    private static func devices(_ report: StatusReport) -> String {
        guard let most = report.sharedDevices.max(by: { $0.count < $1.count }) else {
            return "one for each volume"
        }
        let isLossFatal = most.count > report.replicas - report.writeQuorum
        return "SHARED: \(most.count) volumes are on one device"
            + (isLossFatal ? "; the store would not survive its loss" : "")
    }

    private static func catalog(_ report: StatusReport) -> String {
        let batches = HumanFormat.count(report.catalog.batchesSinceSnapshot, "batch")
        guard let takenAt = report.catalog.snapshotTakenAt else {
            return "no snapshot yet, \(batches) in the log"
        }
        return "snapshot of \(takenAt), \(batches) since"
    }

    private static func redundancy(_ report: StatusReport) -> String {
        if report.isFullyRedundant { return "full" }
        let waiting = report.copiesWaitingForRepair
        return waiting == 0 ? "REDUCED" : "REDUCED: \(waiting) copies wait for repair"
    }
}
