internal import ArgumentParser
internal import StoreModel

struct Verify: StoreCommand {
    static let configuration = CommandConfiguration(
        abstract: "Verify every copy of everything, and repair what is bad.",
        discussion: """
            Reads every copy of every chunk of every version on every volume and compares it with its \
            SHA-256. Damaged and missing copies are made good from a verified one; the damaged original \
            goes to the volume's quarantine. The SHA-256 of objects that came in parts is computed where a \
            server has not done so yet. Exit code 6 when something could not be repaired, or would \
            need repair under --no-repair; 5 when all that is open are copies that can't be reached.

              holdfast verify
              holdfast verify models/llama/
              holdfast verify --no-repair --json
            """
    )

    @Argument(help: "BUCKET or BUCKET/PREFIX (default: everything).")
    var address: String?

    @Flag(name: .long, inversion: .prefixedNo, help: "Make damaged and missing copies good.")
    var repair = true

    @OptionGroup(title: "Everywhere") var options: GlobalOptions

    var adviceWhileServed: ServerAdvice.Way { .instead("holdfast scrub start --wait") }
    var onlyReads: Bool { !repair }

    func execute(_ output: Output) async throws {
        let place = try address.map { try ObjectAddress($0) }
        let progress = Progress("verified", total: nil, output: output)
        defer { progress.finish() }
        let report = try await withLocalSession { session in
            try await session.verify(bucket: place?.bucket, prefix: place?.rest ?? "", repairing: repair) {
                progress.advance(to: $0)
            }
        }
        progress.finish()
        try output.result(report) { Self.lines(for: report) }
        guard !report.isComplete else { return }
        guard !report.isOnlyUnreachable else {
            throw StoreError(
                .notEnoughReplicas,
                "\(HumanFormat.count(report.findingCount - report.repairedCount, "copy")) could not be reached; "
                    + "what was reached is good.",
                advice: "'holdfast status' shows the volumes that are away. Bring them back, or replace them."
            )
        }
        throw CommandError(
            .damagedData,
            report.versionsLost > 0
                ? "\(HumanFormat.count(report.versionsLost, "version")) can't be read as a whole any more."
                : "Not every chunk has all its copies.",
            advice: repair ? "'holdfast status' shows the volumes." : "'holdfast verify' repairs what it can."
        )
    }

    private static func lines(for report: VerificationReport) -> [String] {
        let found = report.copiesDamaged + report.copiesMissing + report.copiesUnreachable
        var lines = [
            "Verified \(HumanFormat.count(report.versions, "version")): "
                + "\(HumanFormat.count(report.chunks, "chunk")) (\(HumanFormat.size(report.chunkBytes))), "
                + "\(HumanFormat.count(report.copiesGood, "good copy"))"
        ]
        if found > 0 {
            lines.append(
                "Found \(report.copiesDamaged) damaged, \(report.copiesMissing) missing, "
                    + "\(report.copiesUnreachable) unreachable; repaired \(report.repairedCount)"
            )
        }
        if report.sha256Found > 0 {
            let count = HumanFormat.count(report.sha256Found, "object")
            lines.append("Found the SHA-256 of \(count) that came in parts")
        }
        lines += report.findings.map { CheckLines.line(for: $0) }
        let unlisted = report.findingCount - UInt64(report.findings.count)
        if unlisted > 0 { lines.append("  and \(unlisted) more") }
        lines.append(
            report.isComplete
                ? "Every chunk has all its copies, verified" : "NOT every chunk has all its copies"
        )
        return lines
    }
}

/// How findings are shown.
enum CheckLines {
    static func line(for finding: FindingReport) -> String {
        let place = finding.volume.map { "\($0): " } ?? ""
        return HumanFormat.visible(
            "  \(place)\(finding.subject): \(finding.problem) (\(finding.outcome))"
        )
    }
}
