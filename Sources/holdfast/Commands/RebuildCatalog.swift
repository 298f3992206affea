internal import ArgumentParser
internal import StoreModel

struct RebuildCatalog: StoreCommand {
    static let configuration = CommandConfiguration(
        abstract: "Build the catalog anew from the volumes.",
        discussion: """
            The commit log on the volumes is the truth, the catalog its index. A missing or damaged catalog \
            is rebuilt by itself when a store opens; this command does it because you say so.
            """
    )

    @OptionGroup(title: "Everywhere") var options: GlobalOptions

    func execute(_ output: Output) async throws {
        let report = try await StoreAssembly.rebuildCatalog(options.location)
        try output.result(report) { [report.message] }
    }
}
