internal import AdminGateway
internal import ArgumentParser
internal import Foundation
internal import StoreModel

struct Volume: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Look after the volumes.",
        discussion: """
            A volume is named by its path or its id. All of these work on a store that nobody uses and on one that a \
            server holds; there, what moves in the background goes on after the command has ended, unless --wait is given.
            """,
        subcommands: [
            VolumeListing.self, VolumeAdd.self, VolumeDrain.self, VolumeRemove.self, VolumeReplace.self,
            VolumeReadOnly.self, VolumeLogSet.self, VolumeCheckCopies.self,
        ]
    )
}

/// `--wait`
struct WaitOption: ParsableArguments {
    @Flag(name: .long, help: "Wait until it is done, also when a server does it.")
    var wait = false
}

extension StoreCommand {
    /// Makes a change and waits for what follows from it where nobody else would do it: without a server the store is
    /// closed when the command ends.
    func change(
        _ output: Output,
        waits: Bool,
        isDone: @escaping (VolumeListDocument, VolumeChangeDocument) -> Bool,
        _ body: @escaping (any Administration) async throws -> VolumeChangeDocument
    ) async throws {
        let made = try await withAdministration { administration in
            var made = try await body(administration)
            let isServed = administration is AdminSocketClient
            guard made.isUnderWay, waits || !isServed else { return (made, false) }
            output.remark(made.message)
            var list = try await administration.volumes()
            while !isDone(list, made) {
                try Task.checkCancellation()
                if let stuck = Self.obstacle(list, made) { throw stuck }
                try await Task.sleep(for: .milliseconds(100))
                list = try await administration.volumes()
            }
            made.isUnderWay = false
            return (made, true)
        }
        let (report, hasWaited) = made
        try output.result(report) {
            [hasWaited ? "Done." : report.message] + report.remarks
                + (report.isUnderWay ? ["'holdfast volume ls' shows how far it is."] : [])
        }
    }

    /// Why waiting makes no sense: copies are missing that no volume has.
    private static func obstacle(_ list: VolumeListDocument, _ made: VolumeChangeDocument) -> StoreError? {
        for volume in list.volumes {
            guard let progress = volume.progress, progress.phase == "stopped", progress.missing > 0,
                !volume.isWhole
            else { continue }
            return StoreError(
                .dataUnavailable,
                "\(progress.missing) chunks could not be copied to \(quoted(volume.path)).",
                advice:
                    "It is tried again whenever the store is open. 'holdfast verify' shows which objects are concerned."
            )
        }
        return nil
    }
}

struct VolumeListing: StoreCommand {
    static let configuration = CommandConfiguration(
        commandName: "ls",
        abstract: "List the volumes: state, log, space, copies, health, latencies."
    )

    @OptionGroup(title: "Everywhere") var options: GlobalOptions

    func execute(_ output: Output) async throws {
        let list = try await withAdministration { try await $0.volumes() }
        try output.result(list) {
            var lines = HumanFormat.table(
                list.volumes.map(Self.row),
                header: [
                    "VOLUME", "STATE", "LOG", "USED", "FREE", "COPIES", "HEALTH", "READ p50/p99",
                    "SYNC p50/p99",
                    "ERRORS", "",
                ]
            )
            if list.isLogChanging { lines.append("The volumes that carry the log are changing.") }
            return lines
        }
    }

    private static func row(_ volume: VolumeStateDocument) -> [String] {
        [
            HumanFormat.visible(volume.path),
            volume.isDrained ? "drained" : volume.state,
            volume.carriesLog ? "yes" : "no",
            HumanFormat.size(volume.fileBytes),
            HumanFormat.size(volume.freeBytes),
            copies(volume),
            volume.health,
            latencies(volume.readMedianMicroseconds, volume.readTailMicroseconds),
            latencies(volume.syncMedianMicroseconds, volume.syncTailMicroseconds),
            "\(volume.errors)",
            HumanFormat.visible(volume.reason ?? ""),
        ]
    }

    private static func copies(_ volume: VolumeStateDocument) -> String {
        guard let progress = volume.progress, progress.phase == "copying" || progress.phase == "auditing"
        else {
            return "\(volume.records)" + (volume.isWhole ? "" : ", not whole")
        }
        return "\(volume.records), \(progress.phase) \(progress.held + progress.copied)/\(progress.expected)"
    }

    private static func latencies(_ median: UInt64?, _ tail: UInt64?) -> String {
        guard let median, let tail else { return "-" }
        return
            "\(HumanFormat.oneDecimal(Double(median) / 1000))/\(HumanFormat.oneDecimal(Double(tail) / 1000)) ms"
    }
}

struct VolumeAdd: StoreCommand {
    static let configuration = CommandConfiguration(
        commandName: "add",
        abstract: "Make a volume in an empty directory and let it take its share.",
        discussion: """
            New chunks are placed on it at once; those existing chunks that belong on it are copied in the background. \
            Copies at their old places stay.

              holdfast volume add /disk4/holdfast
            """
    )

    @Argument(help: "An empty or missing directory, on a disk of its own.", completion: .directory)
    var directory: String

    @OptionGroup var waiting: WaitOption
    @OptionGroup(title: "Everywhere") var options: GlobalOptions

    func execute(_ output: Output) async throws {
        let path = URL(fileURLWithPath: directory).standardizedFileURL.path
        try await change(output, waits: waiting.wait, isDone: Self.isWhole) {
            try await $0.addVolume(path: path)
        }
    }

    static func isWhole(_ list: VolumeListDocument, _ made: VolumeChangeDocument) -> Bool {
        !list.isLogChanging && list.volumes.contains { $0.id == made.id && $0.isWhole }
    }
}

struct VolumeDrain: StoreCommand {
    static let configuration = CommandConfiguration(
        commandName: "drain",
        abstract: "Move everything off a volume, so that it can be removed.",
        discussion: """
            Refused when the store could not keep all copies, or its log, without it. Nothing is deleted: what is on the \
            volume stays readable until it is removed.

              holdfast volume drain /disk2/holdfast --wait
              holdfast volume drain --cancel /disk2/holdfast
            """
    )

    @Argument(help: "The volume.", completion: .directory)
    var volume: String

    @Flag(name: .long, help: "Take it back.")
    var cancel = false

    @OptionGroup var waiting: WaitOption
    @OptionGroup(title: "Everywhere") var options: GlobalOptions

    func execute(_ output: Output) async throws {
        let cancel = cancel
        try await change(
            output,
            waits: waiting.wait,
            isDone: { list, made in
                list.volumes.contains { $0.id == made.id && (cancel ? $0.isWhole : $0.isDrained) }
            },
            { try await $0.drainVolume(volume, cancels: cancel) }
        )
    }
}

struct VolumeRemove: StoreCommand {
    static let configuration = CommandConfiguration(
        commandName: "remove",
        abstract: "Let go of a volume that is drained.",
        discussion: """
            Everything alive is looked at first: it is refused while any chunk counts on the volume. Its directory is left \
            as it is. With --force a volume that is lost is let go of; it is refused if anything would be lost for good.

              holdfast volume remove /disk2/holdfast
            """
    )

    @Argument(help: "The volume.", completion: .directory)
    var volume: String

    @Flag(name: .long, help: "For a volume that is lost.")
    var force = false

    @OptionGroup var waiting: WaitOption
    @OptionGroup(title: "Everywhere") var options: GlobalOptions

    func execute(_ output: Output) async throws {
        let force = force
        try await change(
            output,
            waits: waiting.wait,
            isDone: { list, _ in
                list.volumes.allSatisfy { $0.state == "absent" || $0.state == "failed" || $0.isWhole }
            },
            { try await $0.removeVolume(volume, force: force) }
        )
    }
}

struct VolumeReplace: StoreCommand {
    static let configuration = CommandConfiguration(
        commandName: "replace",
        abstract: "Fill an empty replacement for a lost volume.",
        discussion: """
            DIR is the place of the lost volume, empty or missing (a new disk, mounted). It gets a new \
            identity and a copy of everything that belongs there; it votes again when it is caught up, and counts as whole \
            when every copy on it was verified.

              holdfast volume replace /disk2/holdfast
              holdfast volume replace /disk2/holdfast --with /disk5/holdfast
            """
    )

    @Argument(help: "The volume's directory.", completion: .directory)
    var directory: String

    @Option(
        name: .customLong("with"),
        help: ArgumentHelp("Another place for the new volume.", valueName: "dir")
    )
    var newDirectory: String?

    @OptionGroup var waiting: WaitOption
    @OptionGroup(title: "Everywhere") var options: GlobalOptions

    func execute(_ output: Output) async throws {
        let newPath = newDirectory.map { URL(fileURLWithPath: $0).standardizedFileURL.path }
        if AdminSocketClient(storePath: options.location.path) != nil {
            return try await change(output, waits: waiting.wait, isDone: VolumeAdd.isWhole) {
                try await $0.replaceVolume(directory, newPath: newPath)
            }
        }
        let report = try await StoreAssembly.replaceVolume(
            options.location,
            path: directory,
            newPath: newPath
        )
        try output.result(report) { [report.message] }
    }
}

struct VolumeReadOnly: StoreCommand {
    static let configuration = CommandConfiguration(
        commandName: "readonly",
        abstract: "Let a volume take no new payloads, or again.",
        discussion: """
            What it has is still read and still counts. If it carries the commit log, small records go on being written \
            there: 'holdfast volume log-set' moves the log away.

              holdfast volume readonly on /disk2/holdfast
            """
    )

    enum Wish: String, ExpressibleByArgument, CaseIterable { case on, off }

    @Argument(help: "on or off.")
    var wish: Wish

    @Argument(help: "The volume.", completion: .directory)
    var volume: String

    @OptionGroup var waiting: WaitOption
    @OptionGroup(title: "Everywhere") var options: GlobalOptions

    func execute(_ output: Output) async throws {
        let isReadOnly = wish == .on
        try await change(output, waits: waiting.wait, isDone: VolumeAdd.isWhole) {
            try await $0.setVolumeReadOnly(volume, isReadOnly)
        }
    }
}

struct VolumeLogSet: StoreCommand {
    static let configuration = CommandConfiguration(
        commandName: "log-set",
        abstract: "Say which volumes carry the commit log.",
        discussion: """
            As many as there are replicas. The log moves one volume at a time, each only when it holds the log.

              holdfast volume log-set /disk1/holdfast /disk2/holdfast /disk4/holdfast
            """
    )

    @Argument(help: "All volumes that are to carry the log.", completion: .directory)
    var volumes: [String]

    @OptionGroup var waiting: WaitOption
    @OptionGroup(title: "Everywhere") var options: GlobalOptions

    func execute(_ output: Output) async throws {
        try await change(
            output,
            waits: waiting.wait,
            isDone: { list, made in
                let wanted = made.id.split(separator: ", ").map(String.init)
                return !list.isLogChanging
                    && Set(list.volumes.filter(\.carriesLog).map(\.id)) == Set(wanted)
            },
            { try await $0.setLogVolumes(volumes) }
        )
    }
}

struct VolumeCheckCopies: StoreCommand {
    static let configuration = CommandConfiguration(
        commandName: "check",
        abstract: "Verify every copy that belongs on a volume.",
        discussion: """
            Looks whether the volume is where it should be, and reads every chunk that belongs on it. Changes nothing. The \
            exit code is 6 when something is missing or damaged.

              holdfast volume check /disk2/holdfast --deep
            """
    )

    @Argument(help: "The volume.", completion: .directory)
    var volume: String

    @Flag(name: .long, help: "Compute every SHA-256 again, instead of the checksums of the blocks.")
    var deep = false

    @OptionGroup(title: "Everywhere") var options: GlobalOptions

    func execute(_ output: Output) async throws {
        let found = try await withAdministration { try await $0.checkVolume(volume, deep: deep) }
        try output.result(found) {
            [
                "\(HumanFormat.visible(found.path)): \(found.expected) copies belong on it, \(found.missing) missing, "
                    + "\(found.damaged) damaged"
            ] + found.problems.map { HumanFormat.visible($0) }
        }
        guard !found.isClean else { return }
        throw StoreError(
            .dataUnavailable,
            "The volume \(quoted(found.path)) is not clean.",
            advice:
                "'holdfast verify' repairs what can be repaired; a volume that is gone: holdfast volume replace."
        )
    }
}
