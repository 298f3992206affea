internal import ArgumentParser
internal import StoreModel

struct List: NetworkCommand {
    static let configuration = CommandConfiguration(
        commandName: "ls",
        abstract: "List buckets, or the objects in one.",
        discussion: """
            Without an address: the buckets. With BUCKET or BUCKET/PREFIX: the objects whose keys begin so; \
            what lies behind the next slash is shown as one line, unless --recursive.

              holdfast ls
              holdfast ls models/llama/
              holdfast ls --recursive models
              holdfast ls --versions models/llama/
            """
    )

    @Argument(help: "BUCKET or BUCKET/PREFIX.")
    var address: String?

    @Flag(name: [.short, .long], help: "All keys, whatever slashes they have.")
    var recursive = false

    @Flag(name: .long, help: "All versions and delete markers, newest first for each key.")
    var versions = false

    @Option(name: .long, help: ArgumentHelp("Stop after so many lines.", valueName: "count"))
    var limit: Int?

    @OptionGroup(title: "Over the network") var remote: EndpointOptions

    @OptionGroup(title: "Everywhere") var options: GlobalOptions

    var onlyReads: Bool { true }

    func validate() throws {
        if let limit, limit < 1 { throw ValidationError("--limit \(limit): give 1 or more.") }
        if address == nil && (recursive || versions) {
            throw ValidationError("--recursive and --versions need a bucket.")
        }
    }

    func execute(_ output: Output) async throws {
        guard let address else { return try await BucketList.show(self, output) }
        let place = try ObjectAddress(address)
        try await withSession { session in
            var list: ListOutput?
            var remaining = limit ?? Int.max
            var continuation: ListingContinuation?
            var isCut = false
            do {
                repeat {
                    try Task.checkCancellation()
                    let page = try await nextPage(of: place, after: continuation, in: session)
                    if list == nil { list = try start(place, output) }
                    let shown = [ListingEntry](page.entries.prefix(remaining))
                    remaining -= shown.count
                    isCut = shown.count < page.entries.count
                    try list?.append(shown) { line(for: $0) }
                    continuation = page.continuation
                } while continuation != nil && remaining > 0
            } catch {
                try list?.finish(isComplete: false)
                throw error
            }
            try list?.finish(isComplete: continuation == nil && !isCut)
        }
    }

    private func nextPage(
        of place: ObjectAddress,
        after continuation: ListingContinuation?,
        in session: any ObjectSession
    ) async throws -> ListingPage {
        if versions {
            return try await session.versions(
                bucket: place.bucket,
                prefix: place.rest,
                continuation: continuation
            )
        }
        return try await session.list(
            bucket: place.bucket,
            prefix: place.rest,
            isRecursive: recursive,
            continuation: continuation
        )
    }

    private func start(_ place: ObjectAddress, _ output: Output) throws -> ListOutput {
        try ListOutput(
            output,
            header: ["bucket": place.bucket.description, "prefix": place.rest],
            name: "entries"
        )
    }

    private func line(for entry: ListingEntry) -> String {
        switch entry {
        case .prefix(let prefix):
            return "\(Self.pad("", to: 20))  \(Self.padLeft("", to: 10))  \(HumanFormat.visible(prefix))"
        case .object(let version):
            let size = version.kind == .deleteMarker ? "deleted" : HumanFormat.size(version.size)
            let id = versions ? "  \(Self.pad(version.versionName, to: 26))" : ""
            return "\(version.createdAt.readable)  \(Self.padLeft(size, to: 10))\(id)  "
                + HumanFormat.visible(version.key.description)
        }
    }

    private static func pad(_ text: String, to width: Int) -> String {
        text + String(repeating: " ", count: max(0, width - text.count))
    }

    private static func padLeft(_ text: String, to width: Int) -> String {
        String(repeating: " ", count: max(0, width - text.count)) + text
    }
}

/// The list of buckets, which `ls` and `bucket ls` share.
enum BucketList {
    private struct Report: Encodable { let buckets: [BucketReport] }

    static func show(_ command: some NetworkCommand, _ output: Output) async throws {
        let buckets = try await command.withSession { try await $0.buckets() }
        try output.result(Report(buckets: buckets)) {
            if buckets.isEmpty { output.remark("No buckets yet: 'holdfast bucket create NAME' makes one.") }
            return HumanFormat.table(
                buckets.map { [$0.createdAt.readable, "versioning \($0.versioning)", $0.name] }
            )
        }
    }
}
