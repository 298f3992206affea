internal import AdminGateway
internal import ArgumentParser
internal import StoreModel

struct DiskUsage: StoreCommand {
    static let configuration = CommandConfiguration(
        commandName: "du",
        abstract: "Show what the volumes' space is used for, and by whom.",
        discussion: """
            Alone: for each volume, measured on its file system: live chunks; dead ones whose space garbage collection \
            can give back; damaged originals in quarantine; the commit log, footers and prepared room; what is free.

            With an address or --by: of the versions there, all of their history,
              LOGICAL   their sizes as clients see them, each version counted
              UNIQUE    the chunks that only they name, each once: what one copy is rid of when they go
              SHARED    the chunks that something else names too
              PHYSICAL  the records of all copies on all volumes
              FREES     of those, what garbage collection gives back when they go
            BUCKET/PREFIX is all keys that begin like it; with --exact it is one key.

              holdfast du
              holdfast du --by bucket
              holdfast du models/llama/ --by object
              holdfast du models/llama/weights.safetensors --exact --by version
              holdfast du models/llama/weights.safetensors --version ID --json
            """
    )

    @Argument(help: "BUCKET or BUCKET/PREFIX; the default is the whole store.") var address: String?

    @Flag(name: .long, help: "The address is one whole key.") var exact = false

    @OptionGroup var version: VersionOption

    @Option(
        name: .long,
        help: ArgumentHelp("A line for each bucket, prefix, object or version.", valueName: "what")
    )
    var by: Grouping?

    @Option(
        name: .long,
        help: ArgumentHelp("Lines at most (default: 1,000); the rest is summed up.", valueName: "count")
    )
    var limit: Int?

    @OptionGroup(title: "Everywhere") var options: GlobalOptions

    var onlyReads: Bool { true }

    enum Grouping: String, ExpressibleByArgument, CaseIterable {
        case bucket, prefix, object, version
    }

    func validate() throws {
        if let limit, !(1...10_000).contains(limit) {
            throw ValidationError("--limit takes 1 to 10000.")
        }
        if address == nil, exact || version.text != nil {
            throw ValidationError("--exact and --version need BUCKET/KEY.")
        }
        if address == nil, let by, by != .bucket {
            throw ValidationError("--by \(by.rawValue) needs a bucket.")
        }
    }

    func execute(_ output: Output) async throws {
        guard address != nil || by != nil else { return try await showVolumes(output) }
        var request = SpaceRequest()
        if let address {
            let place = try ObjectAddress(address)
            if exact || version.text != nil { _ = try place.key() }
            request.bucket = place.bucket.description
            request.prefix = place.rest
        }
        // Says itself what is no version id.
        _ = try version.choice()
        request.isExact = exact || version.text != nil
        request.version = version.text
        request.grouping = by?.rawValue
        request.rowCountMax = limit
        let chosen = request
        let report = try await withAdministration { try await $0.space(chosen) }
        try output.result(report) { SpaceLines.lines(for: report, address) }
    }

    private func showVolumes(_ output: Output) async throws {
        let report = try await withAdministration { try await $0.volumeUsage() }
        try output.result(report) {
            HumanFormat.table(
                report.volumes.map { volume in
                    if let problem = volume.problem {
                        return [
                            HumanFormat.visible(volume.path), HumanFormat.visible(problem), "", "", "", "",
                        ]
                    }
                    return [
                        HumanFormat.visible(volume.path), HumanFormat.size(volume.liveBytes),
                        HumanFormat.size(volume.reclaimableBytes), HumanFormat.size(volume.quarantineBytes),
                        HumanFormat.size(volume.logBytes), HumanFormat.size(volume.freeBytes),
                    ]
                },
                header: ["VOLUME", "LIVE", "DEAD", "QUARANTINE", "LOG", "FREE"]
            )
        }
    }
}

enum SpaceLines {
    static func lines(for report: SpaceDocument, _ address: String?) -> [String] {
        let rows = report.rows.map { cells($0.space, name(of: $0)) }
        let total = cells(report.total, HumanFormat.visible(address ?? "everything"))
        var lines = HumanFormat.table(
            rows + [total],
            header: ["LOGICAL", "UNIQUE", "SHARED", "PHYSICAL", "FREES", "VERSIONS", "NAME"],
            alignedRight: [0, 1, 2, 3, 4, 5]
        )
        if report.unreadableNodes > 0 {
            lines.append(
                "Not all is counted: \(HumanFormat.count(report.unreadableNodes, "manifest node")) can't be read; "
                    + "see 'holdfast verify'"
            )
        }
        for path in report.volumesNotAsked {
            lines.append("The copies on \(HumanFormat.visible(path)) are not counted: it is not there")
        }
        return lines
    }

    private static func name(of row: SpaceRowDocument) -> String {
        switch row.kind {
        case "uploads", "others": "(\(row.name))"
        default: HumanFormat.visible(row.name) + (row.versionID.map { " \($0)" } ?? "")
        }
    }

    private static func cells(_ space: SpaceFiguresDocument, _ name: String) -> [String] {
        [
            HumanFormat.size(space.logicalBytes), HumanFormat.size(space.uniqueBytes),
            HumanFormat.size(space.sharedBytes), HumanFormat.size(space.physicalBytes),
            HumanFormat.size(space.freedBytes), "\(space.versions)", name,
        ]
    }
}
