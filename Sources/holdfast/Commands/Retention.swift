internal import AdminGateway
internal import ArgumentParser

struct Retention: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Say which noncurrent versions a bucket keeps.",
        discussion: """
            A noncurrent version is kept when at least one rule keeps it. Current versions are always kept, and so is what \
            is locked or under a legal hold. A server applies the policies regularly.
            """,
        subcommands: [RetentionSet.self, RetentionShow.self, RetentionRemove.self, RetentionApply.self]
    )
}

struct RetentionSet: StoreCommand {
    static let configuration = CommandConfiguration(
        commandName: "set",
        abstract: "Set a bucket's policy.",
        discussion: """
              holdfast retention set models --keep-last 3 --keep-tagged release --keep-younger-than 2592000
              holdfast retention apply models --dry-run
            """
    )

    @Argument(help: "The bucket.") var bucket: String

    @Option(
        name: .long,
        help: ArgumentHelp("Keep the newest noncurrent versions of each key.", valueName: "count")
    )
    var keepLast: Int?

    @Option(
        name: .long,
        help: ArgumentHelp("Keep what became noncurrent less long ago.", valueName: "seconds")
    )
    var keepYoungerThan: Int?

    @Option(
        name: .long,
        help: ArgumentHelp("Keep what has a tag; may be repeated.", valueName: "name[=value]")
    )
    var keepTagged: [String] = []

    @OptionGroup(title: "Everywhere") var options: GlobalOptions

    func execute(_ output: Output) async throws {
        let rules = RetentionRules(
            keepLast: keepLast,
            keepYoungerThanSeconds: keepYoungerThan,
            keepTagged: keepTagged.isEmpty ? nil : keepTagged
        )
        let document = try await withAdministration { try await $0.setRetention(bucket: bucket, rules) }
        try output.result(document) { RetentionLines.lines(for: document) }
    }
}

struct RetentionShow: StoreCommand {
    static let configuration = CommandConfiguration(commandName: "show", abstract: "Show a bucket's policy.")

    @Argument(help: "The bucket.") var bucket: String
    @OptionGroup(title: "Everywhere") var options: GlobalOptions

    func execute(_ output: Output) async throws {
        let document = try await withAdministration { try await $0.retention(bucket: bucket) }
        try output.result(document) { RetentionLines.lines(for: document) }
    }
}

struct RetentionRemove: StoreCommand {
    static let configuration = CommandConfiguration(
        commandName: "rm",
        abstract: "Remove a bucket's policy: it keeps every version again."
    )

    @Argument(help: "The bucket.") var bucket: String
    @OptionGroup(title: "Everywhere") var options: GlobalOptions

    func execute(_ output: Output) async throws {
        let document = try await withAdministration { try await $0.removeRetention(bucket: bucket) }
        try output.result(document) { RetentionLines.lines(for: document) }
    }
}

struct RetentionApply: StoreCommand {
    static let configuration = CommandConfiguration(
        commandName: "apply",
        abstract: "Drop now what a bucket's policy does not keep, and say why.",
        discussion: """
            Every version is listed with the reason for which it is kept or dropped. --dry-run drops nothing. The space \
            is given back by garbage collection ('holdfast gc').
            """
    )

    @Argument(help: "The bucket.") var bucket: String
    @Flag(name: .long, help: "Drop nothing; say what would be dropped.") var dryRun = false
    @OptionGroup(title: "Everywhere") var options: GlobalOptions

    func execute(_ output: Output) async throws {
        let run = try await withAdministration { try await $0.applyRetention(bucket: bucket, dryRun: dryRun) }
        try output.result(run) {
            var lines = HumanFormat.table(
                run.versions.map { version in
                    [
                        version.kept ? "keep" : "drop", HumanFormat.visible(version.key), version.versionID,
                        HumanFormat.visible(version.reason),
                    ]
                }
            )
            let unlisted = run.examined - UInt64(run.versions.count)
            if unlisted > 0 { lines.append("and \(HumanFormat.count(unlisted, "version")) more") }
            lines.append(
                "\(run.dryRun ? "Would drop" : "Dropped") \(HumanFormat.count(run.dropped, "version")) "
                    + "(\(HumanFormat.size(run.droppedBytes))), kept \(run.kept)"
                    + (run.refused > 0 ? "; \(run.refused) changed meanwhile and stay" : "")
            )
            return lines
        }
    }
}

enum RetentionLines {
    static func lines(for document: RetentionDocument) -> [String] {
        guard let rules = document.rules else {
            return ["\(HumanFormat.visible(document.bucket)) keeps every version"]
        }
        var lines = [
            "\(HumanFormat.visible(document.bucket)) keeps current versions, and noncurrent ones that"
        ]
        if let last = rules.keepLast { lines.append("  are among the newest \(last) of their key") }
        if let seconds = rules.keepYoungerThanSeconds {
            lines.append("  became noncurrent less than \(seconds) s ago")
        }
        for tag in rules.keepTagged ?? [] { lines.append("  have the tag \(HumanFormat.visible(tag))") }
        return lines
    }
}
