package import Catalog
package import StoreModel

/// What an audit has found out about one version.
package struct MirrorDifference: Hashable, Sendable {
    package enum Kind: String, Hashable, Sendable {
        /// It should be in the backend and isn't.
        case missing
        /// It is there with other bytes or another description.
        case different
        /// The backend has something that the store doesn't have.
        case extra
    }

    package let kind: Kind
    /// As in the backend.
    package let key: String
    package let version: VersionID?
    package let detail: String
}

package struct MirrorAuditReport: Sendable {
    package static let listedCountMax = 1000

    package fileprivate(set) var checkedCount: UInt64 = 0
    /// Versions that still wait for being mirrored, or were given up: no difference that anybody doesn't know.
    package fileprivate(set) var waitingCount: UInt64 = 0
    package fileprivate(set) var counts: [MirrorDifference.Kind: UInt64] = [:]
    /// The first ones.
    package fileprivate(set) var differences: [MirrorDifference] = []

    package init() {}

    package var isClean: Bool { counts.isEmpty }

    fileprivate mutating func add(
        _ kind: MirrorDifference.Kind,
        _ key: String,
        _ version: VersionID?,
        _ detail: String
    ) {
        counts[kind, default: 0] += 1
        guard differences.count < Self.listedCountMax else { return }
        differences.append(MirrorDifference(kind: kind, key: key, version: version, detail: detail))
    }
}

/// Compares a mirror with the store, key by key: both sides are listed in the same order, so memory holds a page of each
/// and the versions of one key.
package struct MirrorAudit: Sendable {
    private struct Expected {
        let key: String
        /// Newest first.
        let rows: [VersionRow]
    }

    private let store: any MirrorStore
    private let backend: any MirrorBackend
    private let row: MirrorRow
    private let route: MirrorRoute
    private let isDeep: Bool

    /// - Parameter isDeep: each object is asked for its version and SHA-256 as well.
    package init(
        _ store: any MirrorStore,
        _ backend: any MirrorBackend,
        _ row: MirrorRow,
        _ route: MirrorRoute,
        isDeep: Bool
    ) {
        self.store = store
        self.backend = backend
        self.row = row
        self.route = route
        self.isDeep = isDeep
    }

    package func run() async throws -> MirrorAuditReport {
        var report = MirrorAuditReport()
        let keepsVersions = try await backend.keepsVersions()
        let buckets = try await store.read { try $0.buckets() }
        for bucket in buckets {
            guard route.rules.contains(where: { $0.matches(bucketName: bucket.name) }) else { continue }
            try await compare(bucket, keepsVersions, &report)
        }
        return report
    }

    private func compare(_ bucket: BucketRow, _ keepsVersions: Bool, _ report: inout MirrorAuditReport)
        async throws
    {
        var ours = StoreKeys(store, bucket)
        var theirs = BackendKeys(
            backend,
            prefix: row.settings.prefix + bucket.name.description + "/",
            keepsVersions
        )
        var mine = try await ours.next()
        var other = try await theirs.next()
        while mine != nil || other != nil {
            try Task.checkCancellation()
            let myKey = mine.map { row.settings.key(bucket.name, $0.key) }
            switch Self.order(myKey, other?.key) {
            case .mineFirst:
                if let mine { try await compare(mine.rows, [], myKey ?? "", bucket, keepsVersions, &report) }
                mine = try await ours.next()
            case .theirsFirst:
                if let other { noteExtra(other, &report) }
                other = try await theirs.next()
            case .same:
                if let mine, let other {
                    try await compare(mine.rows, other.entries, other.key, bucket, keepsVersions, &report)
                }
                mine = try await ours.next()
                other = try await theirs.next()
            }
        }
    }

    private enum Order { case mineFirst, theirsFirst, same }

    private static func order(_ mine: String?, _ theirs: String?) -> Order {
        guard let mine else { return .theirsFirst }
        guard let theirs, mine != theirs else { return theirs == nil ? .mineFirst : .same }
        return mine.utf8.lexicographicallyPrecedes(theirs.utf8) ? .mineFirst : .theirsFirst
    }

    private func noteExtra(_ other: BackendKeys.Key, _ report: inout MirrorAuditReport) {
        for entry in other.entries {
            report.add(
                .extra,
                other.key,
                nil,
                entry.isDeleteMarker ? "a delete marker" : "\(entry.size) bytes"
            )
        }
    }

    // MARK: One key

    private func compare(
        _ rows: [VersionRow],
        _ entries: [MirrorListed],
        _ key: String,
        _ bucket: BucketRow,
        _ keepsVersions: Bool,
        _ report: inout MirrorAuditReport
    ) async throws {
        var rest = entries
        var wanted = rows.filter { route.matches(bucket: bucket.name, row: $0) }
        if !keepsVersions {
            wanted = wanted.first.map { $0.isDeleteMarker || $0.id != rows.first?.id ? [] : [$0] } ?? []
        }
        for version in wanted {
            report.checkedCount += 1
            let noted = try await store.document(.outbox, MirrorKey.mirrored(row.id, version.id))
            let id = noted.map { String(decoding: $0.body, as: UTF8.self) }
            let index = rest.firstIndex { entry in
                keepsVersions ? entry.versionID != nil && entry.versionID == id : !entry.isDeleteMarker
            }
            if let index {
                let entry = rest.remove(at: index)
                if let problem = try await difference(version, entry, key, keepsVersions) {
                    try await note(.different, version, key, problem, &report)
                }
            } else {
                // A delete marker that never had anything to hide in a mirror of tagged objects isn't there.
                guard !(version.isDeleteMarker && (route.asksForTags || entries.isEmpty && noted == nil))
                else { continue }
                try await note(.missing, version, key, "it isn't there", &report)
            }
        }
        // What waits to be removed is not extra.
        let isWaiting = try await rest.isEmpty ? false : hasPending(rows, bucket)
        for entry in rest where !isWaiting {
            report.add(.extra, key, nil, entry.isDeleteMarker ? "a delete marker" : "\(entry.size) bytes")
        }
    }

    private func difference(
        _ version: VersionRow,
        _ entry: MirrorListed,
        _ key: String,
        _ keepsVersions: Bool
    ) async throws -> String? {
        guard version.isDeleteMarker == entry.isDeleteMarker else { return "one side is a delete marker" }
        if version.isDeleteMarker { return nil }
        guard version.size == entry.size else { return "it has \(entry.size) bytes, not \(version.size)" }
        if row.settings.etagIsMD5, MirrorTransfer.isMD5(entry.etag), let md5 = version.checksums.md5,
            entry.etag != md5.hex
        {
            return "its ETag is \(entry.etag), not \(md5.hex)"
        }
        guard isDeep || !keepsVersions else { return nil }
        guard let head = try await backend.head(key, version: keepsVersions ? entry.versionID : nil) else {
            return "it was listed and isn't there"
        }
        guard head.properties.holdfastVersion == version.id else { return "it is another version" }
        if let sha256 = version.checksums.sha256, head.properties.holdfastSHA256 != sha256 {
            return "its SHA-256 is another one"
        }
        return nil
    }

    private func note(
        _ kind: MirrorDifference.Kind,
        _ version: VersionRow,
        _ key: String,
        _ detail: String,
        _ report: inout MirrorAuditReport
    ) async throws {
        let id = row.id
        let isKnown = try await store.read { reader in
            for key in [MirrorKey.pending(id, version.id.sequence), MirrorKey.dead(id, version.id.sequence)]
            where try reader.document(.outbox, key) != nil { return true }
            guard let state = try reader.document(.outbox, MirrorKey.backfill(id)) else { return false }
            let backfill = try MirrorBackfill(state)
            return version.id.sequence > backfill.cursor && version.id.sequence < backfill.end
        }
        // Kept back behind one that was given up, or changed while the lists were read.
        if isKnown {
            report.waitingCount += 1
        } else {
            report.add(kind, key, version.id, detail)
        }
    }

    private func hasPending(_ rows: [VersionRow], _ bucket: BucketRow) async throws -> Bool {
        let prefix = MirrorKey.under(MirrorKey.pendingPrefix, row.id)
        let key = rows.first?.key
        return try await store.read { reader in
            var found = false
            try reader.forEachDocument(.outbox, prefix: prefix) { document in
                let task = try MirrorTask(document)
                found = task.bucket == bucket.id && task.key == key
                return !found
            }
            return found
        }
    }
}

extension MirrorRule {
    fileprivate func matches(bucketName: BucketName) -> Bool {
        guard let key = try? ObjectKey(bytes: keyPrefix.isEmpty ? [0x61] : keyPrefix) else { return true }
        return matches(bucket: bucketName, key: key)
    }
}

/// The keys of a bucket with their versions, newest first.
private struct StoreKeys {
    private let store: any MirrorStore
    private let bucket: BucketRow
    private var page: ArraySlice<VersionRow> = []
    private var marker: VersionListMarker?
    private var isAtEnd = false

    init(_ store: any MirrorStore, _ bucket: BucketRow) {
        self.store = store
        self.bucket = bucket
    }

    mutating func next() async throws -> (key: ObjectKey, rows: [VersionRow])? {
        var rows: [VersionRow] = []
        while true {
            if page.isEmpty {
                guard !isAtEnd else { break }
                let (bucket, marker) = (bucket.id, marker)
                let read = try await store.read { reader in
                    try reader.listVersions(VersionListRequest(bucket: bucket, startAfter: marker))
                }
                page = read.versions.map(\.row)[...]
                self.marker = read.next
                isAtEnd = read.next == nil
                continue
            }
            guard let first = page.first, rows.isEmpty || rows[0].key == first.key else { break }
            rows.append(first)
            page.removeFirst()
        }
        return rows.first.map { ($0.key, rows) }
    }
}

/// The keys of a backend with their versions, newest first.
struct BackendKeys {
    struct Key {
        let key: String
        var entries: [MirrorListed]
    }

    private let backend: any MirrorBackend
    private let prefix: String
    private let keepsVersions: Bool
    private var page: ArraySlice<MirrorListed> = []
    private var marker: MirrorListPage.Marker?
    private var isAtEnd = false

    init(_ backend: any MirrorBackend, prefix: String, _ keepsVersions: Bool) {
        self.backend = backend
        self.prefix = prefix
        self.keepsVersions = keepsVersions
    }

    mutating func next() async throws -> Key? {
        var key: Key?
        while true {
            if page.isEmpty {
                guard !isAtEnd else { break }
                let read =
                    keepsVersions
                    ? try await backend.listVersions(prefix: prefix, after: marker, limit: 1000)
                    : try await backend.list(prefix: prefix, after: marker, limit: 1000)
                page = read.entries[...]
                marker = read.next
                isAtEnd = read.next == nil
                continue
            }
            guard let first = page.first, key == nil || key?.key == first.key else { break }
            if key == nil { key = Key(key: first.key, entries: []) }
            key?.entries.append(first)
            page.removeFirst()
        }
        return key
    }
}
