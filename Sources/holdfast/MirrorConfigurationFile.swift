internal import AdminGateway
internal import Catalog
internal import HoldfastNode
internal import Mirroring
internal import ObjectService
internal import StoreModel
internal import Yams

/// The section `mirror` of the server's configuration file:
///
///     mirror:
///       audit: "17 3 * * TUE"                   or never
///       auditDeep: true                         asks for each object's version and SHA-256
///       timeZone: Europe/Berlin
///       jitterMinutes: 360
///       auditRequestsPerSecond: 20
///       requestsPerSecondBesideClients: 200     of each mirror, while clients ask for something
///       bytesPerSecondBesideClients: 32000000
///       mirrors:
///         - name: offsite
///           endpoint: https://s3.example.org
///           bucket: backups
///           credentialsFile: /etc/holdfast/offsite.credentials
///           rules: ["models-*", "data/final/#keep=yes"]
///
/// Each mirror may also have region, prefix, profile, storageClass, encryption, encryptionKey, partSizeMiB, concurrency,
/// bytesPerSecond, requestsPerSecond, virtualHost, allowLinkLocal, allowPrivate, unsigned, and an audit and auditDeep of its own.
/// What is wrong is told with its line; values are not shown, they may be secrets.
struct MirrorConfigurationFile: Decodable {
    static let entries = [
        "audit", "auditDeep", "timeZone", "jitterMinutes", "auditRequestsPerSecond",
        "requestsPerSecondBesideClients", "bytesPerSecondBesideClients", "mirrors",
    ]
    private static let mirrorEntries = [
        "name", "endpoint", "region", "bucket", "prefix", "credentialsFile", "profile", "rules",
        "storageClass",
        "encryption", "encryptionKey", "partSizeMiB", "concurrency", "bytesPerSecond", "requestsPerSecond",
        "virtualHost", "allowLinkLocal", "allowPrivate", "unsigned", "audit", "auditDeep",
    ]

    private var configuration = MirrorConfiguration()

    /// The section is read from its nodes, which know their lines.
    init(from decoder: any Decoder) throws {}

    init(_ node: Node, file: String) throws {
        let section = Section(node, file: file, name: "mirror")
        var schedule = MirrorAuditSchedule(since: Timestamp(milliseconds: 0))
        if let audit = try section.text("audit") {
            schedule.standard = try section.schedule(audit, "audit")
        }
        schedule.isDeep = try section.flag("auditDeep")
        if let zone = try section.text("timeZone") {
            schedule.terms.timeZone = zone
            schedule.terms.offset = try section.located("timeZone") {
                try ScrubConfiguration.offsets(of: zone)
            }
        }
        if let minutes = try section.number("jitterMinutes", 0...10_080) {
            schedule.terms.jitter = .seconds(minutes * 60)
        }
        configuration.auditRequestsPerSecond = try section.number("auditRequestsPerSecond", 1...1_000_000)
            .map { Double($0) }
        configuration.requestsPerSecondBesideClients =
            try section.number("requestsPerSecondBesideClients", 1...1_000_000).map { Double($0) }
        configuration.bytesPerSecondBesideClients =
            try section.number("bytesPerSecondBesideClients", 65_536...1_000_000_000_000).map { Double($0) }
        if let list = node["mirrors"] {
            guard let sequence = list.sequence else { throw section.wrong("mirrors", "it is no list") }
            for element in sequence {
                let mirror = Section(element, file: file, name: "mirror.mirrors")
                try mirror.check(Self.mirrorEntries)
                let declared = try Self.mirror(mirror)
                guard !configuration.mirrors.contains(where: { $0.name == declared.name }) else {
                    throw mirror.wrong("name", "there are two of that name")
                }
                configuration.mirrors.append(declared)
                if element["auditDeep"] != nil {
                    schedule.ownDepth[declared.name.description] = try mirror.flag("auditDeep")
                }
                if let audit = try mirror.text("audit") {
                    schedule.own[declared.name.description] = .some(try mirror.schedule(audit, "audit"))
                }
            }
        }
        configuration.schedule = schedule
    }

    func apply(to target: inout MirrorConfiguration) { target = configuration }

    private static func mirror(_ section: Section) throws -> DeclaredMirror {
        let name = try section.required("name")
        let endpoint = try section.required("endpoint")
        let bucket = try section.required("bucket")
        let credentialsFile = try section.required("credentialsFile")
        var settings = try section.located("endpoint") {
            MirrorSettings(endpoint: try MirrorEndpoint(endpoint), bucket: bucket)
        }
        settings.region = try section.text("region") ?? settings.region
        settings.prefix = try section.text("prefix") ?? ""
        settings.storageClass = try section.text("storageClass") ?? ""
        settings.encryption = try section.text("encryption") ?? ""
        settings.encryptionKey = try section.text("encryptionKey") ?? ""
        if let size = try section.number("partSizeMiB", 5...64) { settings.partSize = size << 20 }
        settings.concurrency = try section.number("concurrency", 1...64) ?? settings.concurrency
        settings.bytesPerSecond = UInt64(try section.number("bytesPerSecond", 0...1_000_000_000_000) ?? 0)
        settings.requestsPerSecond = UInt32(try section.number("requestsPerSecond", 0...1_000_000) ?? 0)
        settings.isVirtualHost = try section.flag("virtualHost")
        settings.allowsLinkLocal = try section.flag("allowLinkLocal")
        settings.allowsPrivate = try section.flag("allowPrivate")
        settings.signsBodies = try !section.flag("unsigned")
        let complete = settings
        try section.located(nil) { try complete.check() }
        let profile = try section.text("profile")
        let rules = try section.texts("rules")
        return DeclaredMirror(
            name: try section.located("name") { try MirrorName(name) },
            settings: complete,
            rules: rules.isEmpty
                ? [MirrorRule()]
                : try section.located("rules") { try rules.map { try MirrorRule(text: $0) } },
            credentials: try section.located("credentialsFile") {
                try MirrorCredentials(file: credentialsFile, profile: profile)
            },
            place: section.place(nil)
        )
    }
}

/// A mapping of the file, whose entries are told with their lines when they are wrong.
private struct Section {
    private let node: Node
    private let file: String
    private let name: String

    init(_ node: Node, file: String, name: String) {
        self.node = node
        self.file = file
        self.name = name
    }

    func place(_ entry: String?) -> String {
        let line = (entry.flatMap { node[$0] } ?? node).mark?.line
        return "\(quoted(file))" + (line.map { ", line \($0)" } ?? "") + ": " + name
            + (entry.map { "." + $0 } ?? "")
    }

    func wrong(_ entry: String?, _ what: String, advice: String? = nil) -> CommandError {
        CommandError(.usage, "\(place(entry)): \(what).", advice: advice)
    }

    /// Entries that are unknown are most likely typing errors.
    func check(_ entries: [String]) throws {
        guard let mapping = node.mapping else { throw wrong(nil, "it is no mapping") }
        for (key, _) in mapping {
            let found = key.string ?? ""
            guard entries.contains(found) else {
                let line = key.mark.map { ", line \($0.line)" } ?? ""
                throw CommandError(
                    .usage,
                    "\(quoted(file))\(line): there is no entry \(quoted(name + "." + found)).",
                    advice: "Entries: \(entries.joined(separator: ", "))."
                )
            }
        }
    }

    func text(_ entry: String) throws -> String? {
        guard let value = node[entry] else { return nil }
        guard let text = value.string else { throw wrong(entry, "it is no text") }
        return text
    }

    func required(_ entry: String) throws -> String {
        guard let text = try text(entry), !text.isEmpty else {
            throw wrong(nil, "the entry \(entry) is missing")
        }
        return text
    }

    func texts(_ entry: String) throws -> [String] {
        guard let value = node[entry] else { return [] }
        guard let sequence = value.sequence else { throw wrong(entry, "it is no list") }
        return try sequence.map { element in
            guard let text = element.string else { throw wrong(entry, "it is no list of texts") }
            return text
        }
    }

    func number(_ entry: String, _ range: ClosedRange<Int>) throws -> Int? {
        guard let value = node[entry] else { return nil }
        guard let number = value.int, range.contains(number) else {
            throw wrong(entry, "give \(range.lowerBound) to \(range.upperBound)")
        }
        return number
    }

    func flag(_ entry: String) throws -> Bool {
        guard let value = node[entry] else { return false }
        guard let flag = value.bool else { throw wrong(entry, "true or false") }
        return flag
    }

    func schedule(_ text: String, _ entry: String) throws -> CronExpression? {
        if text == "never" { return nil }
        do throws(CronExpression.Failure) {
            return try CronExpression(text)
        } catch {
            throw wrong(entry, "\(error)", advice: "Five fields, or never.")
        }
    }

    func located<Value>(_ entry: String?, _ body: () throws -> Value) throws -> Value {
        do {
            return try body()
        } catch let error as StoreError {
            throw CommandError(.usage, "\(place(entry)): \(error.message)", advice: error.advice)
        } catch let error as CommandError {
            throw CommandError(error.code, "\(place(entry)): \(error.message)", advice: error.advice)
        }
    }
}
