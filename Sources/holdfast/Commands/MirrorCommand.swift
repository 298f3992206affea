internal import AdminGateway
internal import ArgumentParser
internal import Foundation
internal import Mirroring
internal import S3Client
internal import StoreModel

struct MirrorCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "mirror",
        abstract: "Keep copies of versions in S3-compatible backends, and bring them back.",
        discussion: """
            A mirror gets every version that its rules take, after the store has it; no client waits for a \
            mirror, unless its bucket is told to ('holdfast mirror ack'). In the backend an object has the key PREFIX BUCKET/KEY and its bytes as they are, with \
            x-amz-meta-holdfast-version, -sha256 and -time. A bucket with versioning keeps the history, \
            another one the newest version of each key. A server works on its mirrors by itself; without one \
            'holdfast mirror run' does.

            Objects that are encrypted with the store's key are sent as plaintext, over TLS, under the \
            encryption that the backend gives them (--encryption). Objects encrypted with a client's key \
            can't be mirrored; 'holdfast mirror failures' names them.

            HOLDFAST_MIRROR_CA_FILE names a PEM file that is trusted in place of the system's authorities.
            """,
        subcommands: [
            MirrorAdd.self, MirrorListing.self, MirrorStatusCommand.self, MirrorPause.self, MirrorResume.self,
            MirrorRetry.self, MirrorFailures.self, MirrorCredentialsCommand.self, MirrorVerify.self,
            MirrorDiff.self, MirrorAuditCommand.self, MirrorRestoreCommand.self, MirrorRemove.self,
            MirrorRun.self, MirrorAcknowledge.self,
        ]
    )
}

/// Where a backend is.
struct BackendOptions: ParsableArguments {
    @Option(name: .long, help: ArgumentHelp("https://HOST[:PORT] or http://HOST:PORT.", valueName: "url"))
    var endpoint: String

    @Option(name: .long, help: "The region that requests are signed for.")
    var region = "us-east-1"

    @Option(
        name: .long,
        help: ArgumentHelp("The bucket of the backend; it must be there.", valueName: "name")
    )
    var bucket: String

    @Option(name: .long, help: ArgumentHelp("In front of every key, with its slash.", valueName: "text"))
    var prefix = ""

    @Option(
        name: .long,
        help: ArgumentHelp(
            "A file like ~/.aws/credentials, of which the first section counts, or with --profile another one.",
            valueName: "path"
        )
    )
    var credentialsFile: String

    @Option(name: .long, help: ArgumentHelp("The section of the credentials file.", valueName: "name"))
    var profile: String?

    @Flag(name: .long, help: "Address the bucket by host name (https://BUCKET.HOST/).")
    var virtualHost = false

    @Flag(name: .long, help: "Allow an address of the local link, where clouds keep credentials.")
    var allowLinkLocal = false

    @Flag(name: .long, help: "Allow a public name to lead to a private or loopback address.")
    var allowPrivate = false

    func settings() throws -> MirrorSettings {
        var settings = MirrorSettings(endpoint: try MirrorEndpoint(endpoint), bucket: bucket)
        settings.region = region
        settings.prefix = prefix
        settings.isVirtualHost = virtualHost
        settings.allowsLinkLocal = allowLinkLocal
        settings.allowsPrivate = allowPrivate
        try settings.check()
        return settings
    }

    func credentials() throws -> MirrorCredentials {
        try MirrorCredentials(file: credentialsFile, profile: profile)
    }
}

extension MirrorCredentials {
    /// Out of a file of the form that AWS's tools use.
    /// - Parameter profile: nil: its first section.
    init(file path: String, profile: String?) throws {
        do {
            let found = try CredentialsFile.read(path, profile: profile)
            self.init(accessKey: found.accessKey, secret: found.secret, sessionToken: found.token)
        } catch {
            let isThere = FileManager.default.isReadableFile(atPath: path)
            throw CommandError(isThere ? .usage : .fileUnreadable, error.message)
        }
    }
}

struct MirrorAdd: StoreCommand {
    static let configuration = CommandConfiguration(
        commandName: "add",
        abstract: "Add a mirror; what is in the store already is sent as well, oldest first.",
        discussion: """
            Rules are BUCKET, BUCKET/PREFIX, each with #TAG=VALUE behind it if only versions with that tag \
            count; a bucket may have * and ?. Without a rule everything is mirrored.

              holdfast mirror add offsite --endpoint https://s3.example.org --bucket backups \\
                --credentials-file ~/.aws/credentials --rule 'models-*' --rule 'data/final/#keep=yes'
            """
    )

    @Argument(help: "Its name.")
    var name: String

    @OptionGroup(title: "The backend") var backend: BackendOptions

    @Option(
        name: .customLong("rule"),
        help: ArgumentHelp("What is mirrored; several are allowed.", valueName: "rule")
    )
    var rules: [String] = []

    @Option(name: .long, help: ArgumentHelp("The storage class of what is sent.", valueName: "name"))
    var storageClass = ""

    @Option(
        name: .long,
        help: ArgumentHelp("Encryption in the backend: AES256 or aws:kms.", valueName: "name")
    )
    var encryption = ""

    @Option(name: .long, help: ArgumentHelp("The key for aws:kms.", valueName: "id"))
    var encryptionKey = ""

    @Option(
        name: .long,
        help: ArgumentHelp(
            "Larger objects go in parts of so many MiB, or in those of 5 to 16 MiB that they came in.",
            valueName: "mib"
        )
    )
    var partSize = 8

    @Option(name: .long, help: ArgumentHelp("Objects that are sent at the same time.", valueName: "count"))
    var concurrency = 16

    @Option(name: .long, help: ArgumentHelp("At most so many bytes a second.", valueName: "bytes"))
    var bytesPerSecond: UInt64 = 0

    @Option(name: .long, help: ArgumentHelp("At most so many requests a second.", valueName: "count"))
    var requestsPerSecond: UInt32 = 0

    @Flag(name: .long, help: "Don't sign bodies; with https only the head is signed.")
    var unsigned = false

    @Flag(name: .long, help: "Queue, but don't send before 'holdfast mirror resume'.")
    var paused = false

    @OptionGroup(title: "Everywhere") var options: GlobalOptions

    func execute(_ output: Output) async throws {
        var settings = try backend.settings()
        settings.storageClass = storageClass
        settings.encryption = encryption
        settings.encryptionKey = encryptionKey
        settings.partSize = (1...1024).contains(partSize) ? partSize << 20 : 0
        settings.concurrency = concurrency
        settings.bytesPerSecond = bytesPerSecond
        settings.requestsPerSecond = requestsPerSecond
        settings.signsBodies = !unsigned
        try settings.check()
        let new = NewMirror(
            name: name,
            settings: settings,
            rules: rules,
            credentials: try backend.credentials(),
            isPaused: paused
        )
        let mirror = try await withAdministration { try await $0.addMirror(new) }
        try output.result(mirror) { ["Added mirror \(mirror.name) to \(mirror.endpoint)/\(mirror.bucket)"] }
        if !settings.endpoint.isSecure {
            output.remark("The endpoint is plain HTTP: objects travel in the clear.")
        }
    }
}

struct MirrorListing: StoreCommand {
    static let configuration = CommandConfiguration(commandName: "ls", abstract: "List the mirrors.")

    @OptionGroup(title: "Everywhere") var options: GlobalOptions

    func execute(_ output: Output) async throws {
        let mirrors = try await withAdministration { try await $0.mirrors() }
        try output.result(MirrorListDocument(mirrors: mirrors)) {
            HumanFormat.table(
                mirrors.map { mirror in
                    [
                        mirror.name,
                        HumanFormat.visible("\(mirror.endpoint)/\(mirror.bucket)/\(mirror.prefix ?? "")"),
                        mirror.state,
                        HumanFormat.visible(mirror.rules.joined(separator: " ")),
                    ]
                },
                header: ["MIRROR", "BACKEND", "STATE", "RULES"]
            )
        }
    }
}

struct MirrorStatusCommand: StoreCommand {
    static let configuration = CommandConfiguration(
        commandName: "status",
        abstract: "Show how far mirrors are; with --wait, wait until they have everything."
    )

    @Argument(help: "One mirror (default: all).")
    var name: String?

    @Flag(name: .long, help: "Wait until everything is mirrored. Exit code 5 when the time is over before.")
    var wait = false

    @Option(name: .long, help: ArgumentHelp("How long --wait waits.", valueName: "seconds"))
    var timeout = 3600.0

    @OptionGroup(title: "Everywhere") var options: GlobalOptions

    func execute(_ output: Output) async throws {
        let end = ContinuousClock.now + .seconds(min(max(timeout, 0), 1e6))
        while true {
            let mirrors = try await selected()
            if !wait || mirrors.allSatisfy(\.isUpToDate) || ContinuousClock.now >= end {
                try output.result(MirrorListDocument(mirrors: mirrors)) { mirrors.flatMap(\.lines) }
                guard !wait || mirrors.allSatisfy(\.isUpToDate) else {
                    throw StoreError(.deadlineExceeded, "Not everything was mirrored in time.")
                }
                return
            }
            // What was given up doesn't come by waiting.
            if mirrors.allSatisfy({ $0.isUpToDate || ($0.pending == 0 && $0.failed > 0) }) {
                throw StoreError(
                    .conflict,
                    "Versions were given up: 'holdfast mirror failures' tells why, 'retry' tries again."
                )
            }
            try await Task.sleep(for: .milliseconds(100))
        }
    }

    private func selected() async throws -> [MirrorDocument] {
        let mirrors = try await withAdministration { try await $0.mirrors() }
        guard let name else { return mirrors }
        guard let mirror = mirrors.first(where: { $0.name == name }) else {
            throw StoreError(.noSuchSetting, "There is no mirror \(quoted(name)).")
        }
        return [mirror]
    }
}

extension MirrorDocument {
    fileprivate var lines: [String] {
        let history =
            switch keepsVersions {
            case true?: "keeps the history"
            case false?: "keeps the newest version of each key only"
            case nil: "not asked yet"
            }
        var lines = [
            "\(name)  \(isUpToDate ? "up to date" : "behind")  (\(state)\(isYielding == true ? ", yields to clients" : ""), breaker \(breaker); backend \(history))",
            "  waiting   \(HumanFormat.count(pending, "change")), \(HumanFormat.size(pendingBytes))"
                + (isFillingUp ? ", more to be queued" : ""),
            "  lag       \(HumanFormat.duration(seconds: lagSeconds))",
            "  given up  \(failed)",
        ]
        if let audit {
            let found = audit.missing + audit.different + audit.extra
            lines.append(
                "  audit     \(audit.state), \(HumanFormat.count(found, "difference")); last completed "
                    + "\(audit.lastPassEndedAt ?? "never"), next \(audit.nextRunAt ?? "-")"
            )
        }
        if backfillLagSeconds > 0 {
            lines.append(
                "  back-fill \(HumanFormat.count(backfillPending, "version")) queued, "
                    + "since \(HumanFormat.duration(seconds: backfillLagSeconds))"
            )
        }
        if let lastError {
            lines.append("  last error \(lastErrorAt ?? "")  \(HumanFormat.visible(lastError))")
        }
        return lines
    }
}

struct MirrorPause: StoreCommand {
    static let configuration = CommandConfiguration(
        commandName: "pause",
        abstract: "Stop sending; versions go on being queued."
    )
    @Argument(help: "The mirror.") var name: String
    @OptionGroup(title: "Everywhere") var options: GlobalOptions

    func execute(_ output: Output) async throws {
        let mirror = try await withAdministration { try await $0.pauseMirror(name, true) }
        try output.result(mirror) { ["Paused \(mirror.name)"] }
    }
}

struct MirrorResume: StoreCommand {
    static let configuration = CommandConfiguration(commandName: "resume", abstract: "Go on sending.")
    @Argument(help: "The mirror.") var name: String
    @OptionGroup(title: "Everywhere") var options: GlobalOptions

    func execute(_ output: Output) async throws {
        let mirror = try await withAdministration { try await $0.pauseMirror(name, false) }
        try output.result(mirror) { ["Resumed \(mirror.name)"] }
    }
}

struct MirrorRetry: StoreCommand {
    static let configuration = CommandConfiguration(
        commandName: "retry",
        abstract: "Try again what was given up, and ask the backend at once."
    )
    @Argument(help: "The mirror.") var name: String
    @OptionGroup(title: "Everywhere") var options: GlobalOptions

    func execute(_ output: Output) async throws {
        let report = try await withAdministration { try await $0.retryMirror(name) }
        try output.result(report) {
            var lines = ["Queued \(HumanFormat.count(report.queued, "change")) again"]
            if report.kept > 0 {
                lines.append("\(report.kept) stay: newer versions of their keys are in the mirror already")
            }
            return lines
        }
    }
}

struct MirrorFailures: StoreCommand {
    static let configuration = CommandConfiguration(
        commandName: "failures",
        abstract: "List what was given up, with the reasons; at most 1000."
    )
    @Argument(help: "The mirror.") var name: String
    @OptionGroup(title: "Everywhere") var options: GlobalOptions

    func execute(_ output: Output) async throws {
        let failures = try await withAdministration { try await $0.mirrorFailures(name) }
        try output.result(MirrorFailureListDocument(failures: failures)) {
            failures.map { failure in
                HumanFormat.visible("\(failure.bucket)/\(failure.key)") + "  \(failure.version)  "
                    + HumanFormat.visible(failure.reason)
            }
        }
    }
}

struct MirrorCredentialsCommand: StoreCommand {
    static let configuration = CommandConfiguration(
        commandName: "credentials",
        abstract: "Give a mirror other credentials; the backend is asked again at once."
    )
    @Argument(help: "The mirror.") var name: String

    @Option(name: .long, help: ArgumentHelp("A file like ~/.aws/credentials.", valueName: "path"))
    var credentialsFile: String

    @Option(name: .long, help: ArgumentHelp("Its section.", valueName: "name"))
    var profile: String?

    @OptionGroup(title: "Everywhere") var options: GlobalOptions

    func execute(_ output: Output) async throws {
        let credentials = try MirrorCredentials(file: credentialsFile, profile: profile)
        let mirror = try await withAdministration { try await $0.setMirrorCredentials(name, credentials) }
        try output.result(mirror) { ["\(mirror.name) has new credentials"] }
    }
}

struct MirrorRemove: StoreCommand {
    static let configuration = CommandConfiguration(
        commandName: "rm",
        abstract: "Remove a mirror and what waits for it; what is in the backend stays."
    )
    @Argument(help: "The mirror.") var name: String
    @OptionGroup(title: "Everywhere") var options: GlobalOptions

    func execute(_ output: Output) async throws {
        try await withAdministration { try await $0.removeMirror(name) }
        try output.result(RemovedMirrorDocument(removedMirror: name)) {
            ["Removed mirror \(HumanFormat.visible(name))"]
        }
    }
}
