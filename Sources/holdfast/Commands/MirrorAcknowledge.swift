internal import AdminGateway
internal import ArgumentParser

struct MirrorAcknowledge: StoreCommand {
    static let configuration = CommandConfiguration(
        commandName: "ack",
        abstract: "Let a bucket's writes be acknowledged only when mirrors have them.",
        discussion: """
            PutObject, POST forms, CopyObject, CompleteMultipartUpload, 'holdfast put' and 'holdfast cp' then end when \
            every named mirror whose rules take the version has it. The version is stored first. When it is not mirrored \
            in time, or at once when the mirror is paused or its backend does not work, the answer is 503 \
            ServiceUnavailable with Retry-After (exit code 15 of 'holdfast put'): the version stays and will be \
            mirrored. Who repeats the request waits for the same version, and makes no second one. Objects that are \
            encrypted with a client's key (SSE-C) are refused where such a mirror takes them: it can't have them.

              holdfast mirror ack models --mirror offsite --timeout 30
              holdfast mirror ack models            what is set
              holdfast mirror ack models --off
            """
    )

    @Argument(help: "The bucket.") var bucket: String

    @Option(
        name: .customLong("mirror"),
        help: ArgumentHelp("A mirror that must have it; several are allowed.", valueName: "name")
    )
    var mirrors: [String] = []

    @Option(
        name: .long,
        help: ArgumentHelp("How long a client waits: 0.1 to 300, 30 if not given.", valueName: "seconds")
    )
    var timeout: Double?

    @Flag(name: .long, help: "Acknowledge as soon as the store has it.")
    var off = false

    @OptionGroup(title: "Everywhere") var options: GlobalOptions

    func validate() throws {
        guard !off || mirrors.isEmpty else { throw ValidationError("Give --mirror or --off, not both.") }
        guard timeout == nil || !mirrors.isEmpty else {
            throw ValidationError("A timeout goes with --mirror.")
        }
    }

    func execute(_ output: Output) async throws {
        let rules = MirrorAcknowledgementRules(mirrors: mirrors, timeoutSeconds: timeout)
        let document = try await withAdministration { administration in
            if off { return try await administration.removeMirrorAcknowledgement(bucket: bucket) }
            if rules.mirrors.isEmpty {
                return try await administration.mirrorAcknowledgement(bucket: bucket)
            }
            return try await administration.setMirrorAcknowledgement(bucket: bucket, rules)
        }
        try output.result(document) { [document.line] }
    }
}

extension MirrorAcknowledgementDocument {
    fileprivate var line: String {
        let name = HumanFormat.visible(bucket)
        guard let rules else { return "\(name) acknowledges writes when the store has them" }
        let mirrors = rules.mirrors.map { HumanFormat.visible($0) }.joined(separator: ", ")
        return "\(name) acknowledges writes when the store and \(mirrors) have them; a client waits "
            + "\(rules.timeoutSeconds ?? 0) s at most"
    }
}
