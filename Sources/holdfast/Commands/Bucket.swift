internal import ArgumentParser
internal import StoreModel

struct Bucket: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Make, remove and list buckets, and choose whether they keep versions.",
        subcommands: [BucketCreate.self, BucketRemove.self, BucketListing.self, BucketVersioningCommand.self]
    )
}

/// Whether a bucket keeps versions, as the command line writes it.
enum BucketVersioning: String, ExpressibleByArgument, CaseIterable, Sendable {
    case enabled, suspended, off
}

struct BucketCreate: NetworkCommand {
    static let configuration = CommandConfiguration(
        commandName: "create",
        abstract: "Make a bucket.",
        discussion: """
            Names follow the S3 rules: 3 to 63 lower-case letters, digits, dots and hyphens.

              holdfast bucket create models
              holdfast bucket create scratch --versioning off
            """
    )

    @Argument(help: "The name.")
    var name: String

    @Option(name: .long, help: "Whether versions are kept.")
    var versioning: BucketVersioning = .enabled

    @OptionGroup(title: "Over the network") var remote: EndpointOptions

    @OptionGroup(title: "Everywhere") var options: GlobalOptions

    func execute(_ output: Output) async throws {
        let name = try BucketName(name)
        let bucket = try await withSession {
            try await $0.createBucket(name, versioning: versioning)
        }
        try output.result(bucket) { ["Made bucket \(bucket.name), versioning \(bucket.versioning)"] }
    }
}

struct BucketRemove: NetworkCommand {
    static let configuration = CommandConfiguration(
        commandName: "rm",
        abstract: "Remove an empty bucket."
    )

    private struct Report: Encodable { let removedBucket: String }

    @Argument(help: "The name.")
    var name: String

    @OptionGroup(title: "Over the network") var remote: EndpointOptions

    @OptionGroup(title: "Everywhere") var options: GlobalOptions

    func execute(_ output: Output) async throws {
        let name = try BucketName(name)
        try await withSession { try await $0.deleteBucket(name) }
        try output.result(Report(removedBucket: name.description)) { ["Removed bucket \(name)"] }
    }
}

struct BucketListing: NetworkCommand {
    static let configuration = CommandConfiguration(commandName: "ls", abstract: "List the buckets.")

    @OptionGroup(title: "Over the network") var remote: EndpointOptions

    @OptionGroup(title: "Everywhere") var options: GlobalOptions

    func execute(_ output: Output) async throws { try await BucketList.show(self, output) }
}

struct BucketVersioningCommand: NetworkCommand {
    static let configuration = CommandConfiguration(
        commandName: "versioning",
        abstract: "Choose whether a bucket keeps versions.",
        discussion: """
            Suspended: versions that are there stay, new objects replace each other. A bucket that once kept \
            versions can't go back to off.

              holdfast bucket versioning models suspended
            """
    )

    @Argument(help: "The bucket.")
    var name: String

    @Argument(help: "enabled or suspended.")
    var versioning: BucketVersioning

    @OptionGroup(title: "Over the network") var remote: EndpointOptions

    @OptionGroup(title: "Everywhere") var options: GlobalOptions

    func execute(_ output: Output) async throws {
        let name = try BucketName(name)
        let bucket = try await withSession { try await $0.setVersioning(name, to: versioning) }
        try output.result(bucket) { ["Bucket \(bucket.name): versioning \(bucket.versioning)"] }
    }
}
