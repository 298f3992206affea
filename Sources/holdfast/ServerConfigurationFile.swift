internal import Catalog
internal import Foundation
internal import HoldfastNode
internal import Logging
internal import S3Gateway
internal import S3Protocol
internal import StoreModel
internal import Yams

/// The configuration file of `serve`. Every entry may be missing; one that is unknown is an error, because it is most
/// likely a typing error in one that matters.
///
///     store: /srv/holdfast
///     listen: ["0.0.0.0:9000", "[::]:9000"]
///     operations: 127.0.0.1:9001
///     region: us-east-1
///     domains: [s3.example.org]
///     tls: {certificate: /etc/holdfast/chain.pem, key: /etc/holdfast/key.pem}
///     root: {accessKey: …, secretKey: …}
///     log: {level: info, access: /var/log/holdfast/access.jsonl}
///     newBuckets: {ownership: BucketOwnerEnforced, blockPublicAccess: true, versioning: off}
///     plainClientKeys: fromLoopback
///     allowVersion2Forms: true
///     limits: {connections: 4096, idleSeconds: 75, headSeconds: 20, drainSeconds: 25, drainLeadSeconds: 1,
///              bytesPerSecondMin: 1024}
///     gc: {…}                                   GarbageConfigurationFile.swift
///     mirror: {…}                               MirrorConfigurationFile.swift
///     retention: {everySeconds: 3600, deletesPerSecond: 500}
struct ServerConfigurationFile: Decodable {
    struct TLS: Decodable {
        var certificate: String
        var key: String
    }

    struct Root: Decodable {
        var accessKey: String
        var secretKey: String
    }

    struct Log: Decodable {
        var level: String?
        var access: String?
    }

    struct Limits: Decodable {
        var connections: Int?
        var idleSeconds: Int?
        var headSeconds: Int?
        var drainSeconds: Int?
        var drainLeadSeconds: Int?
        var bytesPerSecondMin: Int?
    }

    struct NewBuckets: Decodable {
        var ownership: String?
        var blockPublicAccess: Bool?
        /// off or enabled.
        var versioning: String?
    }

    var store: String?
    var listen: [String]?
    var operations: String?
    var region: String?
    var domains: [String]?
    var tls: TLS?
    var root: Root?
    var log: Log?
    var newBuckets: NewBuckets?
    /// From where keys of clients (SSE-C) are taken without TLS: never, fromLoopback, always.
    var plainClientKeys: String?
    /// Whether upload forms that are signed with HMAC-SHA-1 are taken.
    var allowVersion2Forms: Bool?
    var limits: Limits?
    var scrub: ScrubConfigurationFile?
    var gc: GarbageConfigurationFile?
    var retention: RetentionConfigurationFile?
    var mirror: MirrorConfigurationFile?

    private static let entries: [String: [String]] = [
        "": [
            "store", "listen", "operations", "region", "domains", "tls", "root", "log", "newBuckets",
            "plainClientKeys", "allowVersion2Forms", "limits", "scrub", "gc", "retention",
            "mirror",
        ],
        "scrub": ScrubConfigurationFile.entries,
        "gc": GarbageConfigurationFile.entries,
        "retention": RetentionConfigurationFile.entries,
        "mirror": MirrorConfigurationFile.entries,
        "tls": ["certificate", "key"],
        "root": ["accessKey", "secretKey"],
        "log": ["level", "access"],
        "newBuckets": ["ownership", "blockPublicAccess", "versioning"],
        "limits": [
            "connections", "idleSeconds", "headSeconds", "drainSeconds", "drainLeadSeconds",
            "bytesPerSecondMin",
        ],
    ]

    static func read(_ path: String) throws -> ServerConfigurationFile {
        guard let data = FileManager.default.contents(atPath: path) else {
            throw CommandError(.fileUnreadable, "The configuration file \(quoted(path)) can't be read.")
        }
        do {
            let text = String(decoding: data, as: UTF8.self)
            guard let node = try Yams.compose(yaml: text) else { return ServerConfigurationFile() }
            try checkEntries(node, path: "", file: path)
            for name in entries.keys where !name.isEmpty {
                if let inner = node[name] { try checkEntries(inner, path: name, file: path) }
            }
            var found = try YAMLDecoder().decode(ServerConfigurationFile.self, from: text)
            found.mirror = try node["mirror"].map { try MirrorConfigurationFile($0, file: path) }
            return found
        } catch let error as CommandError {
            throw error
        } catch {
            throw CommandError(
                .usage,
                "The configuration file \(quoted(path)) is not right: \(Self.place(of: error))."
            )
        }
    }

    /// What is wrong and where. Never what stands there: it may be a secret, and the message goes into logs.
    private static func place(of error: any Error) -> String {
        func text(_ what: String, _ mark: Mark) -> String {
            "\(what) in line \(mark.line), column \(mark.column)"
        }
        switch error {
        case YamlError.scanner(_, _, let mark, _), YamlError.parser(_, _, let mark, _):
            return text("it is no YAML", mark)
        case YamlError.composer(_, _, let mark, _): return text("an alias has no anchor", mark)
        case is YamlError: return "it is no YAML"
        case DecodingError.typeMismatch(_, let context), DecodingError.valueNotFound(_, let context),
            DecodingError.keyNotFound(_, let context), DecodingError.dataCorrupted(let context):
            let names = context.codingPath.map(\.stringValue).joined(separator: ".")
            return "the value of \(quoted(names)) is missing, or not of its kind"
        default: return "it can't be decoded"
        }
    }

    private static func checkEntries(_ node: Node, path: String, file: String) throws {
        guard let mapping = node.mapping else {
            throw CommandError(.usage, "\(quoted(file)): \(path.isEmpty ? "the file" : path) is no mapping.")
        }
        for (key, _) in mapping {
            let name = key.string ?? ""
            guard entries[path]?.contains(name) == true else {
                throw CommandError(
                    .usage,
                    "\(quoted(file)): there is no entry \(quoted(path.isEmpty ? name : path + "." + name)).",
                    advice: "Entries: \(entries[path]?.joined(separator: ", ") ?? "")."
                )
            }
        }
    }

    init() {}

    func configuration() throws -> ServerConfiguration {
        var configuration = ServerConfiguration()
        if let listen { configuration.addresses = try listen.map { try Serve.address($0, "listen") } }
        if let operations { configuration.operationsAddress = try Serve.address(operations, "operations") }
        if let region { configuration.service.region = region }
        if let domains { configuration.service.domains = domains }
        if let tls { configuration.tls = .init(certificatePath: tls.certificate, keyPath: tls.key) }
        if let root {
            configuration.rootCredential = try Serve.credential(root.accessKey, root.secretKey, "root")
        }
        configuration.accessLogPath = log?.access
        if let text = log?.level {
            guard let level = Logger.Level(rawValue: text) else {
                throw CommandError(
                    .usage,
                    "log.level \(quoted(text)): trace, debug, info, notice, warning, error or critical."
                )
            }
            configuration.logLevel = level
        }
        try newBuckets?.apply(to: &configuration.service.newBuckets)
        if let plainClientKeys {
            guard let value = PlainClientKeys(rawValue: plainClientKeys) else {
                throw CommandError(
                    .usage,
                    "plainClientKeys \(quoted(plainClientKeys)): never, fromLoopback or always."
                )
            }
            configuration.service.plainClientKeys = value
        }
        if let allowVersion2Forms { configuration.service.allowsVersion2Forms = allowVersion2Forms }
        try limits?.apply(to: &configuration.limits)
        try scrub?.apply(to: &configuration.scrub)
        try gc?.apply(to: &configuration.garbage)
        try gc?.apply(to: &configuration.volume)
        mirror?.apply(to: &configuration.mirrors)
        try retention?.apply(to: &configuration.retention)
        return configuration
    }
}

extension ServerConfigurationFile.NewBuckets {
    fileprivate func apply(to settings: inout S3Service.NewBuckets) throws {
        if let ownership {
            guard let value = ObjectOwnership(rawValue: ownership) else {
                throw CommandError(
                    .usage,
                    "newBuckets.ownership \(quoted(ownership)): BucketOwnerEnforced, BucketOwnerPreferred or "
                        + "ObjectWriter."
                )
            }
            settings.ownership = value
        }
        if let versioning {
            guard ["off", "enabled"].contains(versioning) else {
                throw CommandError(.usage, "newBuckets.versioning \(quoted(versioning)): off or enabled.")
            }
            settings.versioning = versioning == "enabled" ? .enabled : .off
        }
        if let blockPublicAccess { settings.publicAccess = blockPublicAccess ? .everything : .nothing }
    }
}

extension ServerConfigurationFile.Limits {
    fileprivate func apply(to limits: inout ServerLimits) throws {
        func check(_ value: Int?, _ name: String, _ range: ClosedRange<Int>, _ set: (Int) -> Void) throws {
            guard let value else { return }
            guard range.contains(value) else {
                throw CommandError(
                    .usage,
                    "limits.\(name) \(value): give \(range.lowerBound) to \(range.upperBound)."
                )
            }
            set(value)
        }
        try check(connections, "connections", 1...1_000_000) { limits.connectionCountMax = $0 }
        try check(idleSeconds, "idleSeconds", 1...86_400) { limits.idleTimeout = .seconds($0) }
        try check(headSeconds, "headSeconds", 1...3600) { limits.headTimeout = .seconds($0) }
        try check(drainSeconds, "drainSeconds", 0...3600) { limits.drainDeadline = .seconds($0) }
        try check(drainLeadSeconds, "drainLeadSeconds", 0...3600) { limits.drainLead = .seconds($0) }
        try check(bytesPerSecondMin, "bytesPerSecondMin", 0...1_000_000_000) { limits.rateMin = $0 }
    }
}
