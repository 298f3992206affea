internal import ArgumentParser
internal import StoreModel

struct Copy: NetworkCommand {
    static let configuration = CommandConfiguration(
        commandName: "cp",
        abstract: "Copy an object within the store, without moving bytes.",
        discussion: """
            The copy has the same content, type, metadata and tags. To BUCKET or BUCKET/ it keeps its key.

              holdfast cp models/tiny/weights.safetensors models/tiny/released.safetensors
              holdfast cp models/tiny/weights.safetensors archive --version ID
            """
    )

    @Argument(help: "BUCKET/KEY to copy.")
    var source: String

    @Argument(help: "BUCKET/KEY to copy to.")
    var target: String

    @OptionGroup var version: VersionOption

    @OptionGroup(title: "Over the network") var remote: EndpointOptions

    @OptionGroup(title: "Everywhere") var options: GlobalOptions

    func execute(_ output: Output) async throws {
        let (from, to) = (try ObjectAddress(source), try ObjectAddress(target))
        let sourceKey = try from.key()
        let targetKey = to.rest.isEmpty ? sourceKey : try to.key()
        let choice = try version.choice()
        let copy = try await withSession { session in
            try await session.copy(from: (from.bucket, sourceKey), choice, to: (to.bucket, targetKey))
        }
        try output.result(PutReport(version: copy, isStored: true)) {
            ["Copied to \(copy.address), \(HumanFormat.size(copy.size)), version \(copy.versionName)"]
        }
    }
}
