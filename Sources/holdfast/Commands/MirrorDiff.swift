internal import AdminGateway
internal import ArgumentParser
internal import StoreModel

struct MirrorDiff: StoreCommand {
    static let configuration = CommandConfiguration(
        commandName: "diff",
        abstract: "List what is not the same in a mirror and in the store.",
        discussion: """
            Both sides are listed in the order of keys, page by page, in bounded memory. A version is 'missing' in the \
            mirror, 'different' there (size, MD5, description), 'extra' (the store doesn't have it), or 'stale': the \
            mirror has an older one in the place of the newest. What still waits to be sent, or was given up, is \
            listed as well and says so. --deep asks for each object's version and SHA-256.

            Exit code 0: the same; 6: there are differences, also when they only wait to be sent.

              holdfast mirror diff
              holdfast mirror diff offsite --bucket models --prefix llama/ --json
            """
    )

    @Argument(help: "The mirror (default: all).")
    var name: String?

    @Option(name: .long, help: ArgumentHelp("Only this bucket.", valueName: "bucket"))
    var bucket: String?

    @Option(name: .long, help: ArgumentHelp("Only keys that begin with it.", valueName: "text"))
    var prefix = ""

    @Flag(name: .long, help: "Ask for each object's version and SHA-256.")
    var deep = false

    @OptionGroup(title: "Everywhere") var options: GlobalOptions

    func validate() throws {
        guard prefix.isEmpty || bucket != nil else { throw ValidationError("--prefix goes with --bucket.") }
    }

    func execute(_ output: Output) async throws {
        var query = MirrorDifferenceQuery()
        query.bucket = bucket
        query.prefix = prefix
        query.isDeep = deep
        let first = query
        let (checked, count) = try await withAdministration { administration in
            try await print(administration, first, output)
        }
        output.remark(
            "\(HumanFormat.count(checked, "version")) compared, \(HumanFormat.count(count, "difference"))"
        )
        if count > 0 { throw ExitCode(ExitStatus.damaged.rawValue) }
    }

    private func print(
        _ administration: any Administration,
        _ first: MirrorDifferenceQuery,
        _ output: Output
    ) async throws -> (checked: UInt64, count: UInt64) {
        let names = try await administration.mirrors().map(\.name).filter { name == nil || $0 == name }
        guard !names.isEmpty else {
            throw StoreError(
                .noSuchSetting,
                name.map { "There is no mirror \(quoted($0))." } ?? "There is no mirror."
            )
        }
        var (checked, count): (UInt64, UInt64) = (0, 0)
        var list = try ListOutput(output, header: [:], name: "differences")
        do {
            for name in names {
                var query = first
                repeat {
                    try Task.checkCancellation()
                    let page = try await administration.mirrorDifferences(name, query)
                    try list.append(page.differences) { Self.line($0, hasName: names.count > 1) }
                    checked += page.checked
                    count += UInt64(page.differences.count)
                    query.after = page.next
                } while query.after != nil
            }
        } catch {
            try? list.finish(isComplete: false)
            throw error
        }
        try list.finish(isComplete: true)
        return (checked, count)
    }

    private static func line(_ difference: MirrorDifferenceDocument, hasName: Bool) -> String {
        let standing =
            switch difference.standing {
            case "waiting": " (waits to be sent)"
            case "givenUp": " (was given up)"
            default: ""
            }
        return (hasName ? "\(difference.mirror)  " : "") + difference.kind + "  "
            + HumanFormat.visible(difference.key) + "  \(difference.version ?? "-")  "
            + HumanFormat.visible(difference.detail) + standing
    }
}
