internal import ArgumentParser
internal import StoreModel

struct Initialize: StoreCommand {
    static let configuration = CommandConfiguration(
        commandName: "init",
        abstract: "Make a new store.",
        discussion: """
            By default the store has three volumes inside its own directory, which is good for trying it \
            out. For real safety give each volume a disk of its own:

              holdfast init
              holdfast --store /srv/models init --volume /disk1/holdfast --volume /disk2/holdfast \\
                  --volume /disk3/holdfast

            A write is acknowledged when it is fsynced on the write quorum: more than half of the replicas.
            """
    )

    @Option(
        name: .customLong("volume"),
        help: ArgumentHelp(
            "Where a volume goes; repeat it for each (default: three in the store).",
            valueName: "dir"
        ),
        completion: .directory
    )
    var volumes: [String] = []

    @Option(
        name: .long,
        help: ArgumentHelp("Copies of everything (default: 3, or as many as volumes).", valueName: "n")
    )
    var replicas: Int?

    @Option(
        name: .long,
        help: ArgumentHelp("Copies that must be fsynced first (default: a majority).", valueName: "w")
    )
    var writeQuorum: Int?

    @OptionGroup(title: "Everywhere") var options: GlobalOptions

    func execute(_ output: Output) async throws {
        let report = try await StoreAssembly.create(
            at: options.location,
            volumes: volumes,
            replicas: replicas,
            writeQuorum: writeQuorum
        )
        try output.result(report) {
            [
                "Made a store in \(HumanFormat.visible(report.store)): \(report.replicas) replicas, "
                    + "written when \(report.writeQuorum) are fsynced"
            ] + report.volumes.map { "  volume \(HumanFormat.visible($0))" }
        }
        output.remark(
            "Keep a copy of master.key away from the store: encrypted objects and access keys need it."
        )
        output.remark("Next: holdfast bucket create NAME")
    }
}
