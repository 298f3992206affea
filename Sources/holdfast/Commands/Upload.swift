internal import ArgumentParser
internal import StoreModel

struct Upload: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "See and end uploads in parts that were begun and not completed.",
        discussion: """
            Their parts take space and can't be seen by 'holdfast ls'. A put that fails ends its own; one that is \
            killed leaves it.
            """,
        subcommands: [UploadList.self, UploadAbort.self]
    )
}

struct UploadList: NetworkCommand {
    static let configuration = CommandConfiguration(
        commandName: "ls",
        abstract: "List the uploads that are under way.",
        discussion: """
              holdfast upload ls models
              holdfast upload ls models/llama/
            """
    )

    @Argument(help: "BUCKET or BUCKET/PREFIX.")
    var address: String

    @OptionGroup(title: "Over the network") var remote: EndpointOptions

    @OptionGroup(title: "Everywhere") var options: GlobalOptions

    var onlyReads: Bool { true }

    func execute(_ output: Output) async throws {
        let place = try ObjectAddress(address)
        let uploads = try await withSession { try await $0.uploads(bucket: place.bucket, prefix: place.rest) }
        var list = try ListOutput(output, header: ["bucket": place.bucket.description], name: "uploads")
        try list.append(uploads) { upload in
            "\(upload.uploadID)  \(upload.startedAt.readable)  \(HumanFormat.visible(upload.key))"
        }
        try list.finish(isComplete: true)
    }
}

struct UploadAbort: NetworkCommand {
    static let configuration = CommandConfiguration(
        commandName: "abort",
        abstract: "End an upload and remove its parts.",
        discussion: """
            Whoever still sends parts of it is refused. Objects are not touched.

              holdfast upload abort models/llama/weights.safetensors ID
              holdfast upload abort models/llama/weights.safetensors --all
            """
    )

    @Argument(help: "BUCKET/KEY")
    var address: String

    @Argument(help: "The upload, as 'holdfast upload ls' shows it.")
    var upload: String?

    @Flag(name: .long, help: "All uploads of this key.")
    var all = false

    @OptionGroup(title: "Over the network") var remote: EndpointOptions

    @OptionGroup(title: "Everywhere") var options: GlobalOptions

    private struct Report: Encodable {
        let bucket: String
        let key: String
        let aborted: [String]
    }

    func validate() throws {
        guard all == (upload == nil) else { throw ValidationError("Name one upload, or give --all.") }
    }

    func execute(_ output: Output) async throws {
        let place = try ObjectAddress(address)
        let key = try place.key()
        let aborted = try await withSession { session in
            var names = [String]()
            if let upload { names = [upload] }
            if all {
                names = try await session.uploads(bucket: place.bucket, prefix: key.description)
                    .filter { $0.key == key.description }.map(\.uploadID)
            }
            for name in names { try await session.abortUpload(bucket: place.bucket, key: key, id: name) }
            return names
        }
        let report = Report(bucket: place.bucket.description, key: key.description, aborted: aborted)
        try output.result(report) {
            [
                "Ended \(HumanFormat.count(aborted.count, "upload")) of \(HumanFormat.visible(place.description))"
            ]
        }
    }
}
