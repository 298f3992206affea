internal import ArgumentParser
internal import StoreModel

struct Volume: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Look after the volumes.",
        subcommands: [VolumeReplace.self]
    )
}

struct VolumeReplace: StoreCommand {
    static let configuration = CommandConfiguration(
        commandName: "replace",
        abstract: "Fill an empty replacement for a lost volume.",
        discussion: """
            DIR is the place of the lost volume, empty or missing (a new disk, mounted). It gets a new \
            identity and a copy of everything that belongs there; it votes again when it is caught up.

              holdfast volume replace /disk2/holdfast
            """
    )

    @Argument(help: "The volume's directory.", completion: .directory)
    var directory: String

    @OptionGroup(title: "Everywhere") var options: GlobalOptions

    func execute(_ output: Output) async throws {
        let report = try await StoreAssembly.replaceVolume(options.location, path: directory)
        try output.result(report) { [report.message] }
    }
}
