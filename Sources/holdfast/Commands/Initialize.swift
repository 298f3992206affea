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

            Every volume has a copy of store.json. When the store's directory is lost and its volumes are \
            there, --recover makes it again; name the volumes where they are now:

              holdfast --store /srv/models init --recover --volume /disk1/holdfast --volume /disk2/holdfast \
                  --volume /disk3/holdfast
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

    @Flag(name: .long, help: "Make the directory of a store again out of its volumes.")
    var recover = false

    @OptionGroup(title: "Everywhere") var options: GlobalOptions

    func execute(_ output: Output) async throws {
        if options.store?.isEmpty == true {
            throw CommandError(.usage, "--store is empty: give a directory.")
        }
        guard !recover else { return try await recoverStore(output) }
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

    private func recoverStore(_ output: Output) async throws {
        guard replicas == nil, writeQuorum == nil else {
            throw CommandError(.usage, "--recover takes --replicas and --write-quorum from the volumes.")
        }
        let report = try await StoreAssembly.recover(at: options.location, volumes: volumes)
        try output.result(report) {
            [
                "Made the directory of store \(report.storeID) again in \(HumanFormat.visible(report.store)), "
                    + "as of generation \(report.generation), from \(report.sources.count) copies"
            ] + report.volumes.map { "  volume \(HumanFormat.visible($0))" }
        }
        for remark in report.remarks { output.remark(HumanFormat.visible(remark)) }
        guard !report.hasMasterKey else { return }
        output.remark(
            "master.key is not there: put your copy back with 'holdfast key restore FILE'. Encrypted objects and "
                + "access keys need it; everything else can be read without."
        )
    }
}
