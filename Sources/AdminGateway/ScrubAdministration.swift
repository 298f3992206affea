internal import BlobVolume
package import ObjectService
package import Replication
internal import S3Protocol
internal import StoreModel

/// One scrub: of a volume, or the audit of all copies.
package struct ScrubJobDocument: Codable, Hashable, Sendable {
    /// "volume" or "audit".
    package var kind: String
    /// The volume's path and id.
    package var volume: String?
    package var volumeID: String?
    /// "idle", "running", "paused", "completed", "cancelled" or "failed".
    package var state: String
    package var startedAt: String?
    package var updatedAt: String?
    package var endedAt: String?
    /// Where it goes on.
    package var segment: UInt64
    package var offset: UInt64
    package var bytes: UInt64
    package var totalBytes: UInt64
    package var records: UInt64
    package var found: UInt64
    package var repaired: UInt64
    package var unrepairable: UInt64
    package var failed: UInt64
    package var lastPassStartedAt: String?
    package var lastPassEndedAt: String?
    package var passes: UInt64
    package var message: String?
    /// When it starts by itself, in a server.
    package var nextRunAt: String?
}

package struct ScrubStatusDocument: Codable, Hashable, Sendable {
    package var jobs: [ScrubJobDocument]
    package var repairsWaiting: UInt64
    package var findingsOpen: UInt64
    /// The schedules, as cron expressions; absent: never.
    package var volumeSchedule: String?
    package var auditSchedule: String?
    package var timeZone: String
    package var jitterSeconds: UInt64
}

package struct FindingDocument: Codable, Hashable, Sendable {
    package var id: String
    package var kind: String
    package var foundBy: String
    /// Absent of what is wrong with a mirror.
    package var volume: String?
    package var mirror: String?
    package var chunk: String?
    package var foundAt: String
    package var lastSeenAt: String
    package var seen: UInt64
    /// "open", "repaired", "mended", "unrepairable" or "failed".
    package var outcome: String
    /// A volume, or "mirror NAME".
    package var repairedFrom: String?
    package var verifiedAt: String?
    package var closedAt: String?
    package var reason: String?
    package var detail: String?
    /// "bucket/key version" of what needs the chunk, where that was looked up.
    package var neededBy: [String]
    /// Mirrors that have what needs the chunk, where that was looked up.
    package var heldBy: [String]
    /// Of what can't be repaired: how many versions need the chunk.
    package var neededCount: UInt64?
    /// Those of them that are named, and then other versions of the same keys.
    package var versions: [FindingVersionDocument]?
    /// How the copy of each volume was found when that was looked up.
    package var copies: [FindingCopyDocument]?
}

/// A version beside a chunk that can't be repaired.
package struct FindingVersionDocument: Codable, Hashable, Sendable {
    package var bucket: String
    package var key: String
    package var versionID: String
    package var isNewest: Bool
    package var size: UInt64
    /// "lost": it needs the chunk. "damaged": it needs another one that no volume has. "whole": every byte was read and is
    /// good. "listed": the volumes have all of it by their indexes; it was too large to be read.
    package var state: String
    /// Mirrors that have the version, by the store's records.
    package var mirrors: [String]
}

/// The copy of a chunk on one volume.
package struct FindingCopyDocument: Codable, Hashable, Sendable {
    package var volume: String
    package var isGood: Bool
    package var verifiedAt: String?
    package var problem: String?
}

package struct FindingListDocument: Codable, Hashable, Sendable {
    package var findings: [FindingDocument]
    /// Give it as `after` for the next page.
    package var next: String?
}

package struct FindingQueryDocument: Sendable {
    package var kinds: [String] = []
    package var volume: String?
    package var mirror: String?
    package var isOpen: Bool?
    package var after: String?
    package var limit = 100

    package init() {}
}

package enum ScrubAction: String, Sendable, CaseIterable {
    case start, pause, resume, cancel
}

/// What an administrator can ask about scrubs.
package protocol ScrubAdministration: Sendable {
    func scrubStatus() async throws -> ScrubStatusDocument
    /// - Parameters:
    ///   - kind: "volume", "audit" or "all".
    ///   - volume: path or id of the only one meant.
    func changeScrub(_ action: ScrubAction, kind: String, volume: String?) async throws -> ScrubStatusDocument
    func findings(_ query: FindingQueryDocument) async throws -> FindingListDocument
    /// Runs what is started, in this process.
    /// - Returns: false when a server does that by itself.
    func runScrubs() async throws -> Bool
}

/// The parts of a store that its scrubs are made of.
package struct ScrubParts: Sendable {
    let scrubs: Scrubs
    let ledger: FindingLedger
    let replicator: Replicator

    package init(_ scrubs: Scrubs, _ ledger: FindingLedger, _ replicator: Replicator) {
        self.scrubs = scrubs
        self.ledger = ledger
        self.replicator = replicator
    }

    func status() async throws -> ScrubStatusDocument {
        let schedule = scrubs.schedule
        return ScrubStatusDocument(
            jobs: try await scrubs.jobs().map {
                ScrubJobDocument($0, label(of: $0.subject), schedule.next($0))
            },
            repairsWaiting: UInt64(replicator.repairCounts.waiting),
            findingsOpen: UInt64(ledger.counts.open),
            volumeSchedule: schedule.volumes?.description,
            auditSchedule: schedule.audit?.description,
            timeZone: schedule.timeZone,
            jitterSeconds: UInt64(clamping: schedule.jitter.components.seconds)
        )
    }

    private func label(of subject: ScrubSubject) -> String? {
        guard case .volume(let id) = subject else { return nil }
        return label(of: id)
    }

    private func label(of id: VolumeID) -> String {
        replicator.volumes.slots.first { $0.id == id }?.label ?? id.description
    }

    private func volume(_ name: String) throws(StoreError) -> VolumeID {
        let slot = replicator.volumes.slots.first { slot in
            slot.label == name || slot.id.description == name || slot.label.hasSuffix("/" + name)
        }
        guard let slot else {
            throw StoreError(
                .invalidArgument,
                "\(quoted(name)) is no volume of this store.",
                advice: "'holdfast status' shows them."
            )
        }
        return slot.id
    }

    func change(_ action: ScrubAction, kind: String, volume name: String?) async throws -> ScrubStatusDocument
    {
        var subjects: [ScrubSubject] = []
        if kind == "volume" || kind == "all" {
            let ids = try name.map { [try volume($0)] } ?? replicator.volumes.slots.map(\.id)
            subjects += ids.map { .volume($0) }
        }
        if kind == "audit" || kind == "all" && name == nil { subjects.append(.audit) }
        guard !subjects.isEmpty else {
            throw StoreError(.invalidArgument, "The kind \(quoted(kind)): volume, audit or all.")
        }
        switch action {
        case .start: try await scrubs.start(subjects)
        case .pause: try await scrubs.pause(subjects)
        case .resume: try await scrubs.resume(subjects)
        case .cancel: try await scrubs.cancel(subjects)
        }
        return try await status()
    }

    func findings(_ request: FindingQueryDocument) async throws -> FindingListDocument {
        var query = FindingLedger.Query()
        for name in request.kinds {
            guard let kind = Finding.Kind(rawValue: name) else {
                let names = Finding.Kind.allCases.map(\.rawValue).joined(separator: ", ")
                throw StoreError(.invalidArgument, "The kind \(quoted(name)) of findings: \(names).")
            }
            query.kinds.insert(kind)
        }
        query.volume = try request.volume.map { try volume($0) }
        query.mirror = request.mirror
        query.isOpen = request.isOpen
        if let after = request.after {
            guard let id = UniqueID(after) else {
                throw StoreError(.invalidArgument, "\(quoted(after)) is not the id of a finding.")
            }
            query.after = id
        }
        guard (1...1000).contains(request.limit) else {
            throw StoreError(.invalidArgument, "A page has 1 to 1000 findings, not \(request.limit).")
        }
        query.limit = request.limit
        try await ledger.flush()
        let rows = try await ledger.find(query)
        return FindingListDocument(
            findings: rows.map { FindingDocument($0, label: label(of:)) },
            next: rows.count == query.limit ? rows.last?.id.description : nil
        )
    }
}

extension StoreAdministration {
    private func requireScrubs() throws(StoreError) -> ScrubParts {
        guard let parts = scrubParts else { throw StoreError(.internalFault, "This store has no scrubs.") }
        return parts
    }

    package func scrubStatus() async throws -> ScrubStatusDocument { try await requireScrubs().status() }

    package func changeScrub(_ action: ScrubAction, kind: String, volume: String?) async throws
        -> ScrubStatusDocument
    {
        try await requireScrubs().change(action, kind: kind, volume: volume)
    }

    package func findings(_ query: FindingQueryDocument) async throws -> FindingListDocument {
        try await requireScrubs().findings(query)
    }

    package func runScrubs() async throws -> Bool {
        try await requireScrubs().scrubs.runToEnd()
        return true
    }
}

extension AdminResponder {
    func performScrub(_ argument: String, _ bytes: [UInt8]) async throws -> [UInt8] {
        guard let action = ScrubAction(rawValue: argument) else {
            throw AdminRefusal(404, "noSuchPath", "\(quoted(argument)): start, pause, resume or cancel.")
        }
        let body = try AdminRequestBody(bytes, allowed: ["kind", "volume"])
        let status = try await administration.changeScrub(
            action,
            kind: try body.text("kind") ?? "all",
            volume: try body.text("volume")
        )
        return try AdminJSON.encode(status)
    }

    func listFindings(_ query: String?) async throws -> [UInt8] {
        let items = try QueryItems(decoding: query)
        var request = FindingQueryDocument()
        request.kinds = try items.single("kind").map { $0.split(separator: ",").map(String.init) } ?? []
        request.volume = try items.single("volume")
        request.mirror = try items.single("mirror")
        request.after = try items.single("after")
        switch try items.single("state") {
        case "open": request.isOpen = true
        case "closed": request.isOpen = false
        case nil: break
        default: throw AdminRefusal(400, "invalidArgument", "state is open or closed.")
        }
        if let text = try items.single("limit") {
            guard let limit = Int(text) else {
                throw AdminRefusal(400, "invalidArgument", "\(quoted(text)) is no number.")
            }
            request.limit = limit
        }
        return try AdminJSON.encode(try await administration.findings(request))
    }
}

extension ScrubJobDocument {
    init(_ job: ScrubJob, _ label: String?, _ next: Timestamp?) {
        kind = label == nil ? "audit" : "volume"
        volume = label
        if case .volume(let id) = job.subject { volumeID = id.description }
        state = job.state.name
        startedAt = job.startedAt.map { ISO8601.format($0) }
        updatedAt = job.updatedAt.map { ISO8601.format($0) }
        endedAt = job.endedAt.map { ISO8601.format($0) }
        segment = UInt64(job.cursor.segment)
        offset = job.cursor.offset
        bytes = job.byteCount
        totalBytes = job.totalByteCount
        records = job.recordCount
        found = job.foundCount
        repaired = job.repairedCount
        unrepairable = job.unrepairableCount
        failed = job.failedCount
        lastPassStartedAt = job.lastPassStartedAt.map { ISO8601.format($0) }
        lastPassEndedAt = job.lastPassEndedAt.map { ISO8601.format($0) }
        passes = job.passCount
        message = job.message.isEmpty ? nil : job.message
        nextRunAt = next.map { ISO8601.format($0) }
    }
}

extension FindingDocument {
    init(_ row: FindingRow, label: (VolumeID) -> String) {
        let finding = row.finding
        id = row.id.description
        kind = finding.kind.rawValue
        foundBy = finding.foundBy.rawValue
        volume = finding.mirror == nil ? label(finding.volume) : nil
        mirror = finding.mirror
        chunk = finding.chunk?.hex
        foundAt = ISO8601.format(finding.foundAt)
        lastSeenAt = ISO8601.format(row.lastSeenAt)
        seen = row.seenCount
        outcome = finding.outcome.name
        if case .repaired(let source, let time) = finding.outcome {
            repairedFrom = label(source)
            verifiedAt = ISO8601.format(time)
        }
        if case .rescued(let source, let time) = finding.outcome {
            repairedFrom = source
            verifiedAt = ISO8601.format(time)
        }
        if case .failed(let why) = finding.outcome { reason = why }
        closedAt = row.closedAt.map { ISO8601.format($0) }
        detail = finding.detail.isEmpty ? nil : finding.detail
        neededBy = row.names
        heldBy = row.holders
        guard let account = row.account else { return }
        neededCount = account.neededCount
        versions = account.versions.map { version in
            FindingVersionDocument(
                bucket: version.bucket,
                key: version.key,
                versionID: version.id,
                isNewest: version.isNewest,
                size: version.size,
                state: version.state.name,
                mirrors: version.mirrors
            )
        }
        copies = account.copies.map { copy in
            FindingCopyDocument(
                volume: label(copy.volume),
                isGood: copy.problem == nil,
                verifiedAt: copy.verifiedAt.map { ISO8601.format($0) },
                problem: copy.problem
            )
        }
    }
}
