internal import ArgumentParser
internal import StoreModel

struct Copy: NetworkCommand {
    static let configuration = CommandConfiguration(
        commandName: "cp",
        abstract: "Copy an object within the store, without moving bytes.",
        discussion: """
            The copy has the same content, type, metadata and tags. To BUCKET, or BUCKET/ it keeps its key; to an \
            address that ends with a slash the last part of its key completes the new one.

              holdfast cp models/tiny/weights.safetensors models/tiny/released.safetensors
              holdfast cp models/tiny/weights.safetensors archive --version ID
              holdfast cp models/tiny/weights.safetensors archive/2026/
            """
    )

    @Argument(help: "BUCKET/KEY to copy.")
    var source: String

    @Argument(help: "BUCKET/KEY to copy to.")
    var target: String

    @OptionGroup var version: VersionOption

    @Flag(name: .long, help: "The addresses are whole keys, even when they end with a slash.")
    var exact = false

    @OptionGroup(title: "Over the network") var remote: EndpointOptions

    @OptionGroup(title: "Everywhere") var options: GlobalOptions

    func execute(_ output: Output) async throws {
        let (from, to) = (try ObjectAddress(source), try ObjectAddress(target))
        let sourceKey = try from.key()
        let targetKey = try key(of: to, from: sourceKey)
        let choice = try version.choice()
        guard choice.isNamed || (from.bucket, sourceKey) != (to.bucket, targetKey) else {
            throw CommandError(
                .usage,
                "\(quoted(source)) would be copied onto itself, and nothing would change.",
                advice: "For an older version to become the newest: holdfast restore \(source) --version ID"
            )
        }
        let copy = try await withSession { session in
            try await session.copy(from: (from.bucket, sourceKey), choice, to: (to.bucket, targetKey))
        }
        try output.result(PutReport(version: copy, isStored: true)) {
            ["Copied to \(copy.address), \(HumanFormat.size(copy.size)), version \(copy.versionName)"]
        }
    }

    private func key(of target: ObjectAddress, from source: ObjectKey) throws -> ObjectKey {
        if target.rest.isEmpty { return source }
        guard target.isPrefix, !exact else { return try target.key() }
        let name = String(decoding: source.lastComponent, as: UTF8.self)
        guard !name.isEmpty else {
            throw CommandError(
                .usage,
                "\(quoted(self.target)) is not a whole key, and \(quoted(self.source)) has no name to complete it.",
                advice: "Write BUCKET/KEY; for a key that ends with a slash add --exact."
            )
        }
        return try ObjectKey(target.rest + name)
    }
}
