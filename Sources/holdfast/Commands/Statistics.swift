internal import ArgumentParser
internal import StoreModel

struct Statistics: NetworkCommand {
    static let configuration = CommandConfiguration(
        commandName: "stat",
        abstract: "Show all about an object: size, hashes, chunks, and where each copy is.",
        discussion: """
              holdfast stat models/tiny/weights.safetensors
              holdfast stat --chunks models/tiny/weights.safetensors
              holdfast stat --verify models/tiny/weights.safetensors

            Copies are shown as the volumes' indexes know them, with the time since which nothing was found wrong: \
            that of the last scrub of the volume, or run of 'holdfast verify', that has read them. With --verify \
            each is read now and compared with its SHA-256; nothing is repaired ('holdfast verify BUCKET/KEY' \
            does that).
            """
    )

    @Argument(help: "BUCKET/KEY")
    var address: String

    @OptionGroup var version: VersionOption

    @Flag(name: .long, help: "Show every chunk; --json alone shows the first 1,000.")
    var chunks = false

    @Flag(name: .long, help: "Read every copy now and verify it.")
    var verify = false

    @OptionGroup(title: "Over the network") var remote: EndpointOptions

    @OptionGroup(title: "Everywhere") var options: GlobalOptions

    var onlyReads: Bool { true }

    private static let chunkCountStandard = 1000

    func execute(_ output: Output) async throws {
        let place = try ObjectAddress(address)
        let key = try place.key()
        if chunks || verify { try refuseEndpoint(verify ? "--verify" : "--chunks") }
        let report = try await withSession { session in
            try await session.statistics(
                bucket: place.bucket,
                key: key,
                try version.choice(),
                chunkLimit: chunks ? Int.max : Self.chunkCountStandard,
                verifying: verify
            )
        }
        try output.result(report) { lines(for: report) }
    }

    private func lines(for report: StatisticsReport) -> [String] {
        let version = report.version
        var facts = [
            ["object", version.address],
            ["version", version.versionName],
            ["stored", version.createdAt.readable],
            ["size", "\(HumanFormat.size(version.size)) (\(version.size) bytes)"],
            ["sha256", version.sha256?.hex ?? Self.unknownSHA256(version)],
            ["etag", version.etag],
        ]
        if let type = version.contentType { facts.append(["type", HumanFormat.visible(type)]) }
        for pair in version.userMetadata ?? [] {
            facts.append(["meta", HumanFormat.visible("\(pair.name)=\(pair.value)")])
        }
        for pair in version.tags ?? [] {
            facts.append(["tag", HumanFormat.visible("\(pair.name)=\(pair.value)")])
        }
        let unique = report.uniqueBytes.map { ", \(HumanFormat.size($0)) without repeats" } ?? ""
        if let count = report.chunkCount { facts.append(["chunks", "\(count)\(unique)"]) }
        if let count = report.copiesNotPresent, count > 0 {
            facts.append(["not present", "\(count) copies"])
        }
        return HumanFormat.table(facts) + copies(of: report) + (chunks ? chunkLines(of: report) : [])
    }

    private static func unknownSHA256(_ version: VersionReport) -> String {
        version.isEncrypted
            ? "not kept: the object is encrypted"
            : "not known (of an object in parts a server, or 'holdfast verify', finds it)"
    }

    /// One line for each volume: how many chunks it has, in which state, and when the one was verified that was not
    /// verified for longest.
    private func copies(of report: StatisticsReport) -> [String] {
        struct Count {
            var states: [String: Int] = [:]
            var oldest: ReplicaReport?
            var unverifiedCount = 0
        }
        var counts: [String: Count] = [:]
        for replica in (report.chunks ?? []).flatMap(\.replicas) {
            var count = counts[replica.volume, default: Count()]
            count.states[replica.state, default: 0] += 1
            if replica.state == "present" {
                // ISO 8601 in UTC: the order of text is that of time.
                if let time = replica.verifiedAt {
                    if time < count.oldest?.verifiedAt ?? "~" { count.oldest = replica }
                } else {
                    count.unverifiedCount += 1
                }
            }
            counts[replica.volume] = count
        }
        return HumanFormat.table(
            counts.sorted { $0.key < $1.key }.map { volume, count in
                let states = count.states.sorted { $0.key < $1.key }.map { "\($0.value) \($0.key)" }
                return [
                    "  \(volume)", states.joined(separator: ", "),
                    Self.verification(count.oldest, count.unverifiedCount),
                ]
            }
        )
    }

    private static func verification(_ oldest: ReplicaReport?, _ unverifiedCount: Int) -> String {
        guard let oldest, let time = oldest.verifiedAt else {
            return unverifiedCount > 0 ? "not verified since stored (see --verify)" : ""
        }
        let by = oldest.verifiedBy.map { $0 == "read" ? "" : " by \($0)" } ?? ""
        let rest = unverifiedCount > 0 ? ", \(unverifiedCount) not since stored" : ""
        return "verified \(time)\(by)\(rest)"
    }

    private func chunkLines(of report: StatisticsReport) -> [String] {
        let rows = (report.chunks ?? []).map { chunk in
            [
                "\(chunk.offset)", "\(chunk.length)", chunk.sha256,
                chunk.replicas.map { "\($0.volume):\($0.state)" }.joined(separator: " "),
            ]
        }
        return [""]
            + HumanFormat.table(rows, header: ["offset", "bytes", "sha256", "copies"], alignedRight: [0, 1])
    }
}
