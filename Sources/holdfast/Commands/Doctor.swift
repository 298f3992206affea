internal import AdminGateway
internal import ArgumentParser
internal import Foundation
internal import HoldfastNode
internal import S3Protocol
internal import StoreModel

struct Doctor: StoreCommand {
    static let configuration = CommandConfiguration(
        abstract: "Look at everything an operator needs, say what is wrong, and gather it in one file.",
        discussion: """
            Looks at the store, its volumes, their file systems and the machine, also when the store can't \
            be opened or a server holds it, and changes nothing. What was found is written to a tar file \
            that can be given to others: it holds no secret, no content, and no name of a bucket, an object \
            or an account. Paths of the store and its volumes stand in it.

              holdfast doctor
              holdfast doctor --check --no-archive || mail -s 'holdfast' operator
            """
    )

    @Option(
        name: .long,
        help: ArgumentHelp("The archive (default: holdfast-doctor-TIME.tar here).", valueName: "file"),
        completion: .file()
    )
    var output: String?

    @Flag(name: .long, help: "Print the diagnosis only.")
    var noArchive = false

    @Flag(name: .long, help: "Exit with 5 when there is a problem.")
    var check = false

    @OptionGroup(title: "Everywhere") var options: GlobalOptions

    func validate() throws {
        guard output == nil || !noArchive else {
            throw ValidationError("--output goes without --no-archive.")
        }
    }

    private struct Report: Encodable {
        let verdict: DoctorLine.Verdict
        let diagnosis: [DoctorLine]
        let archive: String?
    }

    func execute(_ output: Output) async throws {
        let facts = await collect()
        let diagnosis = DoctorDiagnosis(facts)
        let archive = noArchive ? nil : try write(facts, diagnosis)
        let report = Report(verdict: diagnosis.worst, diagnosis: diagnosis.lines, archive: archive)
        try output.result(report) {
            Self.text(diagnosis) + (archive.map { ["Written to \(HumanFormat.visible($0))"] } ?? [])
        }
        guard check, diagnosis.worst == .problem else { return }
        throw CommandError(.unhealthy, "The store has problems.", advice: "The diagnosis above names them.")
    }

    // MARK: Looking

    private func collect() async -> DoctorFacts {
        let now = SystemClock().now()
        let path = options.storePath
        var facts = DoctorFacts(
            program: Version.number,
            takenAt: ISO8601.format(now),
            now: now.milliseconds,
            user: geteuid(),
            host: DoctorCollection.host(),
            store: path,
            directory: DoctorCollection.directory(path),
            masterKey: DoctorCollection.masterKey(path),
            volumes: []
        )
        do {
            let configuration = try StoreDirectory.readConfiguration(path)
            let paths = configuration.volumes.map { $0.path.hasPrefix("/") ? $0.path : "\(path)/\($0.path)" }
            facts.configuration = DoctorFacts.Configuration(
                storeID: configuration.storeID.description,
                replicas: configuration.quorum.replicaCount,
                writeQuorum: configuration.quorum.writeQuorum,
                createdAt: configuration.createdAt.milliseconds,
                volumes: paths
            )
            for volume in paths { facts.volumes.append(await DoctorCollection.volume(volume)) }
            try await ask(&facts)
        } catch {
            facts.problem = Self.problem(error)
        }
        return facts
    }

    /// What only an open store knows.
    private func ask(_ facts: inout DoctorFacts) async throws {
        facts.server = try await AdminSocketClient(storePath: options.storePath)?.version()
        (facts.status, facts.masterKey.accessKeys) = try await withAdministration { store in
            (try await store.status(), try await store.accounts().reduce(0) { $0 + $1.keys })
        }
    }

    private static func problem(_ error: any Error) -> DoctorFacts.Problem {
        guard let error = error as? StoreError else {
            return DoctorFacts.Problem(code: "internalFault", message: "\(error)", advice: nil)
        }
        return DoctorFacts.Problem(
            code: error.code.description,
            message: error.message,
            advice: error.advice
        )
    }

    // MARK: Telling

    private static func text(_ diagnosis: DoctorDiagnosis) -> [String] {
        diagnosis.lines.sorted { $0.verdict > $1.verdict }.flatMap { line in
            let mark =
                switch line.verdict {
                case .fine: "ok      "
                case .warning: "WARNING "
                case .problem: "PROBLEM "
                }
            let first = "\(mark) \(line.subject): \(HumanFormat.visible(line.text))"
            return [first] + (line.advice.map { ["         \(HumanFormat.visible($0))"] } ?? [])
        }
    }

    private static func create(_ path: String) -> Int32 {
        open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
    }

    private func write(_ facts: DoctorFacts, _ diagnosis: DoctorDiagnosis) throws -> String {
        var archive = TarArchive(modified: facts.now / 1000)
        let text = Self.text(diagnosis).joined(separator: "\n") + "\n"
        archive.add("holdfast-doctor/diagnosis.txt", [UInt8](text.utf8))
        let json = try JSONOutput.document(facts) + "\n"
        archive.add("holdfast-doctor/facts.json", [UInt8](json.utf8))
        let stamp = facts.takenAt.filter { $0.isNumber }.prefix(14)
        var path = output ?? "holdfast-doctor-\(stamp).tar"
        var descriptor = Self.create(path)
        // A second one within a second.
        for number in 2...99 where descriptor < 0 && errno == EEXIST && output == nil {
            path = "holdfast-doctor-\(stamp)-\(number).tar"
            descriptor = Self.create(path)
        }
        guard descriptor >= 0 else { throw systemError(.fileUnwritable, path, errno) }
        defer { close(descriptor) }
        try LocalFile.writeAll(archive.finished()[...], to: descriptor, named: path)
        return path
    }
}
