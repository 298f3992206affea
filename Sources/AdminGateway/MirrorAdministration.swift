package import Catalog
package import Mirroring
internal import S3Protocol
package import StoreModel

/// What an administrator can ask of mirrors.
package protocol MirrorAdministration: Sendable {
    func mirrors() async throws -> [MirrorDocument]
    func addMirror(_ mirror: NewMirror) async throws -> MirrorDocument
    func pauseMirror(_ name: String, _ isPaused: Bool) async throws -> MirrorDocument
    func setMirrorCredentials(_ name: String, _ credentials: MirrorCredentials) async throws -> MirrorDocument
    func retryMirror(_ name: String) async throws -> MirrorRetryDocument
    /// What was given up, the oldest first.
    func mirrorFailures(_ name: String) async throws -> [MirrorFailureDocument]
    /// - Parameter isDeep: asks for each object's version and SHA-256.
    func verifyMirror(_ name: String, isDeep: Bool) async throws -> MirrorAuditDocument
    /// A page of what is not the same, of what waits to be sent as well.
    func mirrorDifferences(_ name: String, _ query: MirrorDifferenceQuery) async throws
        -> MirrorDifferencePageDocument
    func removeMirror(_ name: String) async throws
}

/// A mirror to be added.
package struct NewMirror: Sendable {
    package var name: String
    package var settings: MirrorSettings
    /// As `MirrorRule(text:)` reads them; none: everything.
    package var rules: [String]
    package var credentials: MirrorCredentials
    package var isPaused: Bool

    package init(
        name: String,
        settings: MirrorSettings,
        rules: [String],
        credentials: MirrorCredentials,
        isPaused: Bool
    ) {
        self.name = name
        self.settings = settings
        self.rules = rules
        self.credentials = credentials
        self.isPaused = isPaused
    }
}

/// A mirror as it stands. Its credentials are never shown.
package struct MirrorDocument: Codable, Hashable, Sendable {
    package var name: String
    package var endpoint: String
    package var bucket: String
    package var prefix: String?
    package var rules: [String]
    /// "starting", "working", "idle", "paused", "waiting" (for the backend), "elsewhere", "stopped" or "unusable" (the key that
    /// opens its credentials is lost).
    package var state: String
    /// "closed", "open" or "half-open".
    package var breaker: String
    /// Whether the backend keeps versions: then it has the history, else the newest version of each key. Absent while
    /// nobody has asked it.
    package var keepsVersions: Bool?
    package var isUpToDate: Bool
    /// Whether versions from before the mirror are still being queued.
    package var isFillingUp: Bool
    package var pending: UInt64
    package var pendingBytes: UInt64
    /// Of the oldest new one that waits.
    package var lagSeconds: Double
    /// Versions from before the mirror that are queued, and how long they have waited.
    package var backfillPending: UInt64
    package var backfillLagSeconds: Double
    package var failed: UInt64
    package var mirrored: UInt64
    package var sentBytes: UInt64
    package var errors: UInt64
    package var lastError: String?
    package var lastErrorAt: String?
    package var lastSuccessAt: String?
    /// Whether it goes slowly now because clients ask for something; absent: no.
    package var isYielding: Bool?
    /// The comparison with the store: the one that runs, or the last one.
    package var audit: MirrorAuditJobDocument?
}

package struct MirrorListDocument: Codable, Hashable, Sendable {
    package var mirrors: [MirrorDocument]
    package init(mirrors: [MirrorDocument]) { self.mirrors = mirrors }
}

package struct MirrorRetryDocument: Codable, Hashable, Sendable {
    package var queued: Int
    /// Newer versions are in the mirror's history already; their place is taken.
    package var kept: Int
}

/// A version that was given up.
package struct MirrorFailureDocument: Codable, Hashable, Sendable {
    package var bucket: String
    package var key: String
    package var version: String
    /// "made", "changed" or "removed".
    package var change: String
    package var reason: String
    package var attempts: UInt32
    package var at: String
    /// Whether later versions of the key wait for it.
    package var holdsKey: Bool
}

package struct MirrorFailureListDocument: Codable, Hashable, Sendable {
    package var failures: [MirrorFailureDocument]
    package init(failures: [MirrorFailureDocument]) { self.failures = failures }
}

package struct MirrorAuditDocument: Codable, Hashable, Sendable {
    package struct Difference: Codable, Hashable, Sendable {
        /// "missing", "different", "extra" or "stale".
        package var kind: String
        package var key: String
        package var version: String?
        package var detail: String
    }

    package var checked: UInt64
    package var waiting: UInt64
    package var missing: UInt64
    package var different: UInt64
    package var extra: UInt64
    package var stale: UInt64
    /// The first thousand.
    package var differences: [Difference]

    package var isClean: Bool { missing + different + extra + stale == 0 }
}

package struct RemovedMirrorDocument: Codable, Hashable, Sendable {
    package var removedMirror: String
    package init(removedMirror: String) { self.removedMirror = removedMirror }
}

extension StoreAdministration {
    func service() throws(StoreError) -> MirrorService {
        guard let mirrorService else { throw StoreError(.internalFault, "There are no mirrors here.") }
        return mirrorService
    }

    package func mirrors() async throws -> [MirrorDocument] {
        let now = SystemClock().now()
        let audits = try await mirrorAuditor?.mirrorAudits().audits ?? []
        let known = try await service().status().map { status in
            var document = MirrorDocument(status, now: now)
            document.audit = audits.first { $0.mirror == document.name }
            return document
        }
        return try await known + service().unusable().map { MirrorDocument($0) }
    }

    private func document(_ name: MirrorName) async throws -> MirrorDocument {
        let service = try service()
        let row = try await service.directory.mirror(name)
        return MirrorDocument(try await service.status(of: row), now: SystemClock().now())
    }

    package func addMirror(_ mirror: NewMirror) async throws -> MirrorDocument {
        let name = try MirrorName(mirror.name)
        let rules = try mirror.rules.map { text throws(StoreError) in try MirrorRule(text: text) }
        _ = try await service().directory.add(
            name,
            mirror.settings,
            rules: rules.isEmpty ? [MirrorRule()] : rules,
            mirror.credentials,
            isPaused: mirror.isPaused
        )
        return try await document(name)
    }

    package func pauseMirror(_ name: String, _ isPaused: Bool) async throws -> MirrorDocument {
        let name = try MirrorName(name)
        try await service().directory.setPaused(name, isPaused)
        return try await document(name)
    }

    package func setMirrorCredentials(
        _ name: String,
        _ credentials: MirrorCredentials
    ) async throws -> MirrorDocument {
        let name = try MirrorName(name)
        try await service().directory.setCredentials(name, credentials)
        return try await document(name)
    }

    package func retryMirror(_ name: String) async throws -> MirrorRetryDocument {
        let (name, service) = (try MirrorName(name), try service())
        let result = try await service.directory.retry(name)
        service.nudge(try await service.directory.mirror(name).id)
        return MirrorRetryDocument(queued: result.queued, kept: result.kept)
    }

    package func mirrorFailures(_ name: String) async throws -> [MirrorFailureDocument] {
        let directory = try service().directory
        let row = try await directory.mirror(try MirrorName(name))
        return try await directory.deadLetters(row, limit: Limits.listPageSizeMax).map(
            MirrorFailureDocument.init
        )
    }

    package func verifyMirror(_ name: String, isDeep: Bool) async throws -> MirrorAuditDocument {
        var scope = MirrorAudit.Scope()
        scope.isDeep = isDeep
        return try await compare(name, scope) { MirrorAuditDocument(try await $0.run()) }
    }

    /// Compares a mirror with the store; what its backend doesn't do becomes an error of the store's.
    func compare<Value: Sendable>(
        _ name: String,
        _ scope: MirrorAudit.Scope,
        _ body: (MirrorAudit) async throws -> Value
    ) async throws -> Value {
        let service = try service()
        let row = try await service.directory.mirror(try MirrorName(name))
        guard let route = try await service.directory.route(row.id) else {
            throw StoreError(.noSuchSetting, "The mirror \(quoted(name)) was just removed.")
        }
        do {
            let backend = try service.backend(of: row)
            return try await body(
                MirrorAudit(service.directory.store, backend, row, route, scope: scope)
            )
        } catch let failure as MirrorFailure {
            throw StoreError(failure, name)
        }
    }

    package func removeMirror(_ name: String) async throws {
        try await service().directory.remove(try MirrorName(name))
    }
}

extension StoreError {
    /// What a backend did not do, as the store's error.
    package init(_ failure: MirrorFailure, _ name: String) {
        let code: Code =
            switch failure.kind {
            case .noBucket: .noSuchBucket
            case .denied, .untrusted: .accessDenied
            case .full: .storeFull
            case .mismatch: .badDigest
            default: .overloaded
            }
        self.init(code, "The backend of the mirror \(quoted(name)): \(failure.message)", cause: failure)
    }
}

extension MirrorRule {
    /// `BUCKET`, `BUCKET/PREFIX`, either with `#TAG=VALUE` behind it; a bucket may have `*` and `?`.
    package init(text: String) throws(StoreError) {
        let parts = text.split(separator: "#", maxSplits: 1, omittingEmptySubsequences: false)
        var tag: NamedValue?
        if parts.count == 2 {
            guard let split = parts[1].firstIndex(of: "="), split != parts[1].startIndex else {
                throw StoreError(
                    .invalidArgument,
                    "The rule \(quoted(text)) has a tag without a value: BUCKET#TAG=VALUE."
                )
            }
            tag = NamedValue(String(parts[1][..<split]), String(parts[1][parts[1].index(after: split)...]))
        }
        let slash = parts[0].firstIndex(of: "/") ?? parts[0].endIndex
        let bucket = parts[0][..<slash]
        guard !bucket.isEmpty, bucket.utf8.count <= 63, text.utf8.count <= 2000 else {
            throw StoreError(
                .invalidArgument,
                "The rule \(quoted(text)) names no bucket: BUCKET[/PREFIX][#TAG=VALUE]."
            )
        }
        self.init(
            bucketPattern: String(bucket),
            keyPrefix: Array(parts[0][slash...].dropFirst().utf8),
            tag: tag
        )
    }

    package var text: String {
        let prefix = keyPrefix.isEmpty ? "" : "/" + String(decoding: keyPrefix, as: UTF8.self)
        return bucketPattern + prefix + (tag.map { "#\($0.name)=\($0.value)" } ?? "")
    }
}

extension MirrorDocument {
    static let unusable = "unusable"

    /// Of one that is declared and not there.
    init(_ mirror: UnusableMirror) {
        let settings = mirror.settings
        self.init(
            name: mirror.name.description,
            endpoint: settings.endpoint.description,
            bucket: settings.bucket,
            prefix: settings.prefix.isEmpty ? nil : settings.prefix,
            rules: mirror.rules.map(\.text),
            state: Self.unusable,
            breaker: CircuitBreaker.State.closed.rawValue,
            isUpToDate: false,
            isFillingUp: false,
            pending: 0,
            pendingBytes: 0,
            lagSeconds: 0,
            backfillPending: 0,
            backfillLagSeconds: 0,
            failed: 0,
            mirrored: 0,
            sentBytes: 0,
            errors: 0,
            lastError: mirror.reason
        )
    }

    init(_ status: MirrorStatus, now: Timestamp) {
        let settings = status.row.settings
        // A worker that has ended knows no more about it.
        let isPaused = status.row.isPaused && status.worker.activity == .stopped
        self.init(
            name: status.row.name.description,
            endpoint: settings.endpoint.description,
            bucket: settings.bucket,
            prefix: settings.prefix.isEmpty ? nil : settings.prefix,
            rules: status.rules.map(\.text),
            state: status.problem == nil
                ? (isPaused ? .paused : status.worker.activity).rawValue : Self.unusable,
            breaker: status.worker.breaker.rawValue,
            keepsVersions: status.worker.keepsVersions,
            isUpToDate: status.isUpToDate,
            isFillingUp: status.isFillingUp,
            pending: status.pendingCount,
            pendingBytes: status.pendingBytes,
            lagSeconds: status.lag(at: now),
            backfillPending: status.beforeCount,
            backfillLagSeconds: status.backfillLag(at: now),
            failed: status.deadCount,
            mirrored: status.worker.doneCount,
            sentBytes: status.worker.sentBytes,
            errors: status.worker.failureCount,
            lastError: status.problem ?? status.worker.lastFailure,
            lastErrorAt: status.worker.lastFailureAt.map { ISO8601.format($0) },
            lastSuccessAt: status.worker.lastSuccessAt.map { ISO8601.format($0) },
            isYielding: status.worker.isYielding ? true : nil
        )
    }
}

extension MirrorFailureDocument {
    init(_ letter: DeadLetter) {
        let change =
            switch letter.task.change {
            case .made: "made"
            case .changed: "changed"
            case .removed: "removed"
            }
        self.init(
            bucket: letter.task.bucketName.description,
            key: letter.task.key.description,
            version: letter.task.version.description,
            change: change,
            reason: letter.reason,
            attempts: letter.attemptCount,
            at: ISO8601.format(letter.time),
            holdsKey: letter.holdsKey
        )
    }
}

extension MirrorAuditDocument {
    init(_ report: MirrorAuditReport) {
        self.init(
            checked: report.checkedCount,
            waiting: report.waitingCount,
            missing: report.counts[.missing] ?? 0,
            different: report.counts[.different] ?? 0,
            extra: report.counts[.extra] ?? 0,
            stale: report.counts[.stale] ?? 0,
            differences: report.differences.map {
                Difference(
                    kind: $0.kind.rawValue,
                    key: $0.key,
                    version: $0.version?.description,
                    detail: $0.detail
                )
            }
        )
    }
}
