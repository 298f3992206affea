internal import ArgumentParser
internal import StoreModel

struct Check: StoreCommand {
    static let configuration = CommandConfiguration(
        commandName: "fsck",
        abstract: "Check the volumes' files, without changing anything.",
        discussion: """
            Reads identity files, segments, records, index footers and the commit log of every volume and \
            lists what does not fit together. It needs no catalog and repairs nothing: 'holdfast verify' \
            does. Exit code 6 when something is wrong, 5 when all that is wrong is that volumes are not there.

              holdfast fsck
              holdfast fsck --deep
            """
    )

    @Flag(name: .long, help: "Recompute every SHA-256, not only the checksums.")
    var deep = false

    @OptionGroup(title: "Everywhere") var options: GlobalOptions

    func execute(_ output: Output) async throws {
        let report = try await StoreAssembly.check(options.location, isDeep: deep)
        try output.result(report) {
            report.findings.map { CheckLines.line(for: $0) } + [
                "Checked \(HumanFormat.count(report.records, "record")) (\(HumanFormat.size(report.bytes))): "
                    + (report.isClean ? "clean" : HumanFormat.count(report.findings.count, "problem"))
            ]
        }
        guard !report.isClean else { return }
        guard report.deniedCount == 0 || report.absentCount + report.deniedCount < report.findings.count
        else {
            throw StoreError(
                .fileAccessDenied,
                "\(HumanFormat.count(report.deniedCount, "volume")) may not be read by this user.",
                advice: "Run the command as the user that the store belongs to."
            )
        }
        guard report.absentCount < report.findings.count else {
            throw StoreError(
                .notEnoughReplicas,
                "\(HumanFormat.count(report.absentCount, "volume")) not there; the others are good.",
                advice: "Bring it back, or put an empty one in its place: holdfast volume replace DIR"
            )
        }
        throw CommandError(
            .damagedData,
            "\(HumanFormat.count(report.findings.count, "problem")) found.",
            advice: "'holdfast verify' repairs what other copies can make good."
        )
    }
}
