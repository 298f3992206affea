internal import AdminGateway
internal import ArgumentParser
internal import Mirroring
internal import StoreModel

struct MirrorVerify: StoreCommand {
    static let configuration = CommandConfiguration(
        commandName: "verify",
        abstract: "Compare a mirror with the store: what is missing there, different, or too much.",
        discussion: """
            Both sides are listed; sizes and, where both know it, the MD5 are compared. With --deep each object \
            is asked for its version and SHA-256, one request each. What still waits, or was given up, is counted \
            and no difference. Exit code 6 when there are differences.
            """
    )
    @Argument(help: "The mirror.") var name: String

    @Flag(name: .long, help: "Ask for each object's version and SHA-256.")
    var deep = false

    @OptionGroup(title: "Everywhere") var options: GlobalOptions

    func execute(_ output: Output) async throws {
        let report = try await withAdministration { try await $0.verifyMirror(name, isDeep: deep) }
        try output.result(report) {
            report.differences.map { difference in
                "\(difference.kind)  \(HumanFormat.visible(difference.key))  \(difference.version ?? "-")  "
                    + HumanFormat.visible(difference.detail)
            } + [
                "\(HumanFormat.count(report.checked, "version")) checked, \(report.waiting) still waiting: "
                    + "\(report.missing) missing, \(report.different) different, \(report.extra) too much"
            ]
        }
        if !report.isClean { throw ExitCode(ExitStatus.damaged.rawValue) }
    }
}

struct MirrorRestoreCommand: StoreCommand {
    static let configuration = CommandConfiguration(
        commandName: "restore",
        abstract: "Bring back an object, a bucket or everything from a backend alone.",
        discussion: """
            For an empty store, made with 'holdfast init': the backend is all that is needed. A backend bucket with \
            versioning gives back the history, in its order and with its delete markers; another one the newest \
            version of each key. Versions get new ids. Every object is checked against the SHA-256 that the mirror \
            noted. A run that was interrupted goes on where it was. The store must not be served meanwhile.

            Mirror the restored store to another prefix or bucket: its versions are new ones to the old place.

              holdfast mirror restore --endpoint https://s3.example.org --bucket backups \\
                --credentials-file ~/.aws/credentials
              holdfast mirror restore models/llama/weights.safetensors --endpoint …
            """
    )

    @Argument(help: "BUCKET or BUCKET/KEY (default: everything).")
    var what: String?

    @OptionGroup(title: "The backend") var backend: BackendOptions
    @OptionGroup(title: "Everywhere") var options: GlobalOptions

    func execute(_ output: Output) async throws {
        let settings = try backend.settings()
        let credentials = try backend.credentials()
        var bucket: BucketName?
        var key: ObjectKey?
        if let what {
            let parts = what.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false)
            bucket = try BucketName(String(parts[0]))
            if parts.count == 2, !parts[1].isEmpty { key = try ObjectKey(String(parts[1])) }
        }
        let (name, object) = (bucket, key)
        let report: MirrorRestoreReport
        do {
            report = try await withLocalSession { session in
                try await session.restore(from: settings, credentials, bucket: name, key: object)
            }
        } catch let failure as MirrorFailure {
            throw StoreError(failure, "restore")
        }
        try output.result(RestoredDocument(report)) {
            [
                "Restored \(HumanFormat.count(report.versionCount, "version")) and "
                    + "\(HumanFormat.count(report.markerCount, "delete marker")) of "
                    + "\(HumanFormat.count(report.keyCount, "key")), \(HumanFormat.size(report.bytes)); "
                    + "\(report.skippedCount) were there already"
            ]
        }
        guard report.keyCount > 0 else {
            throw StoreError(.noSuchKey, "The backend has nothing of that under this prefix.")
        }
    }
}

struct RestoredDocument: Encodable {
    let keys: UInt64
    let versions: UInt64
    let deleteMarkers: UInt64
    let bytes: UInt64
    let skipped: UInt64
    let foreign: UInt64

    init(_ report: MirrorRestoreReport) {
        keys = report.keyCount
        versions = report.versionCount
        deleteMarkers = report.markerCount
        bytes = report.bytes
        skipped = report.skippedCount
        foreign = report.foreignCount
    }
}

struct MirrorRun: StoreCommand {
    static let configuration = CommandConfiguration(
        commandName: "run",
        abstract: "Work on the mirrors of a store that no server holds.",
        discussion: """
            With --until-idle it ends when nothing is left that could be done now; exit code 5 when versions still \
            wait (the backend did not work for half a minute), 12 when some were given up.
            """
    )

    @Argument(help: "One mirror (default: all); only with --until-idle.")
    var name: String?

    @Flag(name: .long, help: "End when everything is done.")
    var untilIdle = false

    @OptionGroup(title: "Everywhere") var options: GlobalOptions

    func validate() throws {
        guard untilIdle || name == nil else { throw ValidationError("One mirror goes with --until-idle.") }
    }

    func execute(_ output: Output) async throws {
        let only = try name.map { text throws(StoreError) in try MirrorName(text) }
        let mirrors = try await withLocalSession { session in
            if let only { _ = try await session.mirrors.directory.mirror(only) }
            if untilIdle {
                try await session.mirrors.runUntilIdle(only)
            } else {
                await session.mirrors.run()
            }
            return try await session.administration.mirrors().filter { name == nil || $0.name == name }
        }
        try output.result(MirrorListDocument(mirrors: mirrors)) {
            mirrors.map {
                "\($0.name): \($0.mirrored) mirrored, \($0.pending) waiting, \($0.failed) given up"
            }
        }
        if let waiting = mirrors.first(where: { ($0.pending > 0 || $0.isFillingUp) && $0.state != "paused" })
        {
            throw StoreError(
                .overloaded,
                "Changes still wait for the mirror \(waiting.name).",
                advice: waiting.lastError.map { "The last error was: \($0)" }
            )
        }
        if mirrors.contains(where: { $0.failed > 0 }) { throw ExitCode(ExitStatus.partlyDone.rawValue) }
    }
}
