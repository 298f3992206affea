internal import AdminGateway
internal import ArgumentParser

struct DiskUsage: StoreCommand {
    static let configuration = CommandConfiguration(
        commandName: "du",
        abstract: "Show what the volumes' space is used for.",
        discussion: """
            For each volume, measured on its file system: live chunks; dead ones whose space garbage collection can \
            give back; damaged originals in quarantine; the commit log, footers and prepared room; what is free.

              holdfast du
              holdfast du --json
            """
    )

    @OptionGroup(title: "Everywhere") var options: GlobalOptions

    func execute(_ output: Output) async throws {
        let report = try await withAdministration { try await $0.volumeUsage() }
        try output.result(report) {
            HumanFormat.table(
                report.volumes.map { volume in
                    if let problem = volume.problem {
                        return [
                            HumanFormat.visible(volume.path), HumanFormat.visible(problem), "", "", "", "",
                        ]
                    }
                    return [
                        HumanFormat.visible(volume.path), HumanFormat.size(volume.liveBytes),
                        HumanFormat.size(volume.reclaimableBytes), HumanFormat.size(volume.quarantineBytes),
                        HumanFormat.size(volume.logBytes), HumanFormat.size(volume.freeBytes),
                    ]
                },
                header: ["VOLUME", "LIVE", "DEAD", "QUARANTINE", "LOG", "FREE"]
            )
        }
    }
}
