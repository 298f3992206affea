internal import AdminGateway
internal import StoreModel

/// One thing that the doctor looked at, and what it means.
struct DoctorLine: Encodable, Sendable, Hashable {
    enum Verdict: String, Encodable, Sendable, Comparable {
        case fine, warning, problem

        static func < (left: Verdict, right: Verdict) -> Bool { left.rank < right.rank }

        private var rank: Int {
            switch self {
            case .fine: 0
            case .warning: 1
            case .problem: 2
            }
        }
    }

    var subject: String
    var verdict: Verdict
    var text: String
    var advice: String?
}

/// From facts to plain words. Pure: what it says of a store can be tested without one.
struct DoctorDiagnosis {
    private let facts: DoctorFacts
    private(set) var lines: [DoctorLine] = []

    init(_ facts: DoctorFacts) {
        self.facts = facts
        noteStore()
        noteRedundancy()
        for volume in facts.volumes { note(volume) }
        noteDevices()
        noteMasterKey()
        noteCatalog()
        noteHost()
    }

    var worst: DoctorLine.Verdict { lines.map(\.verdict).max() ?? .fine }

    private mutating func add(
        _ subject: String,
        _ verdict: DoctorLine.Verdict,
        _ text: String,
        advice: String? = nil
    ) {
        lines.append(DoctorLine(subject: subject, verdict: verdict, text: text, advice: advice))
    }

    // MARK: The store

    private mutating func noteStore() {
        if let problem = facts.problem {
            add("store", .problem, problem.message, advice: problem.advice)
        } else if let server = facts.server {
            add("store", .fine, "A server holds it, process \(server.processID), version \(server.version).")
        } else {
            add("store", .fine, "It opens. No server holds it.")
        }
        if let server = facts.server, server.version != facts.program {
            add(
                "version",
                .warning,
                "The server is version \(server.version), this program \(facts.program).",
                advice: "Restart the server when it suits."
            )
        }
        if let directory = facts.directory, directory.mode & 0o022 != 0 {
            add(
                "permissions",
                .warning,
                "Others may write in the store's directory (mode \(Self.octal(directory.mode))).",
                advice: "chmod go-w \(facts.store)"
            )
        }
    }

    private mutating func noteRedundancy() {
        guard let status = facts.status else { return }
        if !status.isWritable {
            add(
                "quorum",
                .problem,
                "Nothing can be written: fewer than \(status.writeQuorum) volumes take writes.",
                advice: "Bring back the volumes named below."
            )
        }
        if !status.isReadable {
            add("quorum", .problem, "Nothing can be read.", advice: "Bring back the volumes named below.")
        }
        for volume in status.volumes where volume.state != "healthy" {
            let isBehind = volume.state == "behind"
            add(
                "volume",
                isBehind ? .warning : .problem,
                "\(volume.path) is \(volume.state)" + (volume.reason.map { ": \($0)" } ?? "."),
                advice: isBehind
                    ? "It catches up by itself while the store is open." : "ops/README.md, \"A disk died\"."
            )
        }
        if status.copiesWaitingForRepair > 0 {
            add("repair", .warning, "\(status.copiesWaitingForRepair) copies wait for repair.")
        }
        if status.isFullyRedundant {
            add("redundancy", .fine, "Every volume has everything; nothing waits for repair.")
        }
    }

    // MARK: Volumes

    /// File systems whose content does not survive a restart.
    private static let volatile: Set<String> = ["tmpfs", "ramfs"]
    /// File systems on other machines, or of which an fsync promises little.
    private static let remote: Set<String> = ["nfs", "nfs4", "cifs", "smb3", "fuse", "9p", "overlay"]

    private mutating func note(_ volume: VolumeFacts) {
        if let problem = volume.problem {
            add("volume", .problem, "\(volume.path) can't be looked at: \(problem)")
            return
        }
        guard volume.hasIdentity else {
            add(
                "volume",
                .problem,
                "\(volume.path) holds no volume: the disk may not be mounted.",
                advice: "Mount it. If the disk is new: holdfast volume replace \(volume.path)"
            )
            return
        }
        noteFileSystem(volume)
        noteSpace(volume)
        if facts.user != 0, volume.owner != facts.user {
            add(
                "volume",
                .warning,
                "\(volume.path) belongs to user \(volume.owner), not to user \(facts.user)."
            )
        }
        guard !volume.quarantined.isEmpty else { return }
        let bytes = volume.quarantined.reduce(0) { $0 + $1.byteCount }
        add(
            "quarantine",
            .warning,
            "\(volume.path) has set \(HumanFormat.count(volume.quarantined.count, "damaged record")) aside, "
                + "\(HumanFormat.size(bytes)).",
            advice: "Several on one volume within a week: look at the disk (smartctl, the kernel's log)."
        )
    }

    private mutating func noteFileSystem(_ volume: VolumeFacts) {
        if volume.isReadOnly {
            add(
                "volume",
                .problem,
                "\(volume.mountPoint) is mounted read-only.",
                advice: "The kernel does that after errors of the disk: see its log (dmesg)."
            )
        }
        if Self.volatile.contains(volume.fileSystem) {
            add(
                "volume",
                .problem,
                "\(volume.path) is on \(volume.fileSystem): it is gone after a restart.",
                advice: "Put it on a disk."
            )
        } else if Self.remote.contains(volume.fileSystem) {
            add(
                "volume",
                .warning,
                "\(volume.path) is on \(volume.fileSystem), where fsync may promise less than on a local disk."
            )
        }
    }

    private mutating func noteSpace(_ volume: VolumeFacts) {
        if let verdict = Self.shortage(volume.freeBytes, of: volume.totalBytes) {
            add(
                "space",
                verdict,
                "\(volume.path) has \(HumanFormat.size(volume.freeBytes)) free of "
                    + "\(HumanFormat.size(volume.totalBytes)).",
                advice: "Grow the file system, or remove versions: ops/README.md, \"A disk is full\"."
            )
        }
        if let verdict = Self.shortage(volume.freeFiles, of: volume.totalFiles) {
            add(
                "space",
                verdict,
                "The file system of \(volume.path) has \(volume.freeFiles) of \(volume.totalFiles) inodes left."
            )
        }
    }

    private static func shortage(_ free: UInt64, of total: UInt64) -> DoctorLine.Verdict? {
        guard total > 0 else { return nil }
        if free < total / 50 { return .problem }
        return free < total / 10 ? .warning : nil
    }

    private mutating func noteDevices() {
        guard let configuration = facts.configuration else { return }
        let devices = Dictionary(grouping: facts.volumes.filter { $0.problem == nil }, by: \.device)
        guard let most = devices.values.map(\.count).max(), most > 1 else { return }
        let isLossFatal = most > configuration.replicas - configuration.writeQuorum
        add(
            "devices",
            .warning,
            "\(most) volumes are on one device"
                + (isLossFatal ? ": the store would not survive its loss." : "."),
            advice: "Put each volume on a disk of its own."
        )
    }

    // MARK: The rest

    private mutating func noteMasterKey() {
        let key = facts.masterKey
        if key.isThere {
            if let mode = key.mode, mode & 0o077 != 0 {
                add(
                    "master key",
                    .problem,
                    "Others may read master.key (mode \(Self.octal(mode))): it is refused.",
                    advice: "chmod 600 \(facts.store)/master.key"
                )
            } else {
                add(
                    "master key",
                    .fine,
                    "It is there and private. Keep a copy away from the store: 'holdfast key backup'."
                )
            }
        } else if let count = key.accessKeys, count > 0 {
            add(
                "master key",
                .problem,
                "master.key is missing, and \(HumanFormat.count(count, "access key")) can't be used without it.",
                advice: "Put your copy back: 'holdfast key restore FILE'."
            )
        }
    }

    private mutating func noteCatalog() {
        guard let catalog = facts.status?.catalog else { return }
        let isLong = catalog.batchesSinceSnapshot > 2 * Limits.snapshotBatchCount
        add(
            "catalog",
            isLong ? .warning : .fine,
            (catalog.snapshotTakenAt.map { "The newest snapshot is of \($0)" } ?? "There is no snapshot yet")
                + "; a rebuild would replay \(HumanFormat.count(catalog.batchesSinceSnapshot, "batch")).",
            advice: isLong ? "The log of the server may tell why no snapshot could be written." : nil
        )
    }

    private mutating func noteHost() {
        let host = facts.host
        if host.openFilesMax < 4096 {
            add(
                "host",
                .warning,
                "A process may open \(host.openFilesMax) files only.",
                advice: "LimitNOFILE=65536 in the service's unit, or ulimit -n."
            )
        }
        if host.availableMemoryBytes < 256 << 20 {
            add(
                "host",
                .warning,
                "Only \(HumanFormat.size(host.availableMemoryBytes)) of memory are available."
            )
        }
        if host.isClockSynchronised == false {
            add(
                "clock",
                .warning,
                "The kernel says that the clock is not synchronised.",
                advice:
                    "Signatures of clients are refused when clocks differ by 15 minutes: run chrony or timesyncd."
            )
        }
        if let created = facts.configuration?.createdAt, facts.now < created {
            add("clock", .problem, "The clock stands before the time at which the store was made.")
        }
    }

    private static func octal(_ mode: UInt32) -> String { String(mode & 0o7777, radix: 8) }
}
