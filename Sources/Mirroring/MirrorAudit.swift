package import Catalog
package import StoreModel

/// Something in which a mirror and the store are not the same.
package struct MirrorDifference: Hashable, Sendable {
    package enum Kind: String, Hashable, Sendable, CaseIterable {
        /// It should be in the backend and isn't.
        case missing
        /// It is there with other bytes or another description.
        case different
        /// The backend has something that the store doesn't have.
        case extra
        /// The backend has an older version of the key in the place of the newest one.
        case stale
    }

    package let kind: Kind
    package let bucket: BucketName
    /// As in the backend.
    package let key: String
    /// nil: the store doesn't have it.
    package let row: VersionRow?
    /// What the store's own account says: what waits to be sent is a difference that is known.
    package let standing: MirrorStanding?
    package let detail: String

    package var version: VersionID? { row?.id }
}

/// What a comparison came to, of a page or of everything.
package struct MirrorAuditReport: Sendable {
    package static let listedCountMax = 1000

    package fileprivate(set) var checkedCount: UInt64 = 0
    /// Versions that still wait for being mirrored, or were given up: no difference that anybody doesn't know.
    package fileprivate(set) var waitingCount: UInt64 = 0
    /// Asked of the backend, about.
    package fileprivate(set) var requestCount: UInt64 = 0
    package fileprivate(set) var counts: [MirrorDifference.Kind: UInt64] = [:]
    /// Of a page all, of everything the first ones.
    package fileprivate(set) var differences: [MirrorDifference] = []

    package init() {}

    package var isClean: Bool { counts.isEmpty }

    fileprivate mutating func add(_ difference: MirrorDifference) {
        counts[difference.kind, default: 0] += 1
        differences.append(difference)
    }

    fileprivate mutating func add(_ page: MirrorAuditReport) {
        checkedCount += page.checkedCount
        waitingCount += page.waitingCount
        requestCount += page.requestCount
        counts.merge(page.counts) { $0 + $1 }
        differences += page.differences.prefix(Self.listedCountMax - differences.count)
    }
}

/// Where a comparison goes on: behind a key of a bucket, or before its first one.
package struct MirrorPosition: Hashable, Sendable {
    package let bucket: BucketName
    /// Empty: nothing of the bucket was compared yet.
    package let key: [UInt8]

    package init(bucket: BucketName, key: [UInt8] = []) {
        self.bucket = bucket
        self.key = key
    }

    /// BUCKET/KEY.
    package init(text: String) throws(StoreError) {
        let parts = text.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false)
        bucket = try BucketName(String(parts[0]))
        key = parts.count == 2 ? Array(parts[1].utf8) : []
    }

    package var text: String { "\(bucket)/" + String(decoding: key, as: UTF8.self) }
}

/// Compares a mirror with the store, key by key.
///
/// 1. Both sides are listed in the same order, so memory holds a page of each and the versions of one key.
/// 2. The sides are not read at the same moment: what seems to differ is read once more on both sides before it counts.
/// 3. A page ends behind a key; whoever has its position goes on there, in another process as well.
package struct MirrorAudit: Sendable {
    package struct Scope: Sendable {
        /// nil: all that the rules name.
        package var bucket: BucketName?
        package var prefix: [UInt8] = []
        /// Each object is asked for its version and SHA-256 as well.
        package var isDeep = false
        /// What still waits, or was given up, is listed as well, not only counted.
        package var listsWaiting = false

        package init() {}
    }

    private let store: any MirrorStore
    private let backend: any MirrorBackend
    private let row: MirrorRow
    private let route: MirrorRoute
    private let scope: Scope

    package init(
        _ store: any MirrorStore,
        _ backend: any MirrorBackend,
        _ row: MirrorRow,
        _ route: MirrorRoute,
        scope: Scope
    ) {
        self.store = store
        self.backend = backend
        self.row = row
        self.route = route
        self.scope = scope
    }

    package init(
        _ store: any MirrorStore,
        _ backend: any MirrorBackend,
        _ row: MirrorRow,
        _ route: MirrorRoute,
        isDeep: Bool
    ) {
        var scope = Scope()
        scope.isDeep = isDeep
        self.init(store, backend, row, route, scope: scope)
    }

    /// Everything.
    package func run() async throws -> MirrorAuditReport {
        var report = MirrorAuditReport()
        var position: MirrorPosition?
        repeat {
            let (page, next) = try await page(after: position)
            report.add(page)
            position = next
        } while position != nil
        return report
    }

    /// - Returns: what was found in the next so many keys, and where it goes on; nil: that was all.
    package func page(
        after position: MirrorPosition?,
        keyCountMax: Int = 1000
    ) async throws -> (report: MirrorAuditReport, next: MirrorPosition?) {
        var report = MirrorAuditReport()
        let keepsVersions = try await backend.keepsVersions()
        report.requestCount += 1
        var left = keyCountMax
        let buckets = try await store.read { try $0.buckets() }.sorted { $0.name < $1.name }
        for bucket in buckets {
            if let wanted = scope.bucket, wanted != bucket.name { continue }
            if let position, bucket.name < position.bucket { continue }
            guard route.rules.contains(where: { $0.matches(bucketName: bucket.name) }) else { continue }
            let start = position.flatMap { $0.bucket == bucket.name && !$0.key.isEmpty ? $0.key : nil }
            let reached = try await compare(bucket, after: start, keepsVersions, &left, &report)
            if let reached { return (report, reached) }
        }
        return (report, nil)
    }

    /// - Returns: where it stopped; nil at the end of the bucket.
    private func compare(
        _ bucket: BucketRow,
        after start: [UInt8]?,
        _ keepsVersions: Bool,
        _ left: inout Int,
        _ report: inout MirrorAuditReport
    ) async throws -> MirrorPosition? {
        let place = place(of: bucket)
        let pending = PendingKeys(store, row.id, bucket.id)
        var ours = StoreKeys(store, bucket, prefix: scope.prefix, after: start)
        var theirs = BackendKeys(
            backend,
            prefix: place + String(decoding: scope.prefix, as: UTF8.self),
            keepsVersions,
            after: start.map { place + String(decoding: $0, as: UTF8.self) }
        )
        defer { report.requestCount += theirs.pageCount }
        var reached = MirrorPosition(bucket: bucket.name, key: start ?? [])
        var mine = try await ours.next()
        var other = try await theirs.next()
        while mine != nil || other != nil {
            try Task.checkCancellation()
            guard left > 0, report.differences.count < MirrorAuditReport.listedCountMax else {
                return reached
            }
            left -= 1
            let myKey = mine.map { row.settings.key(bucket.name, $0.key) }
            let order = Self.order(myKey, other?.key)
            let key = order == .theirsFirst ? other?.key : myKey
            guard let key else { break }
            try await check(
                key,
                order == .theirsFirst ? [] : mine?.rows ?? [],
                order == .mineFirst ? [] : other?.entries ?? [],
                bucket,
                keepsVersions,
                pending,
                &report
            )
            reached = MirrorPosition(bucket: bucket.name, key: Array(key.utf8.dropFirst(place.utf8.count)))
            if order != .theirsFirst { mine = try await ours.next() }
            if order != .mineFirst { other = try await theirs.next() }
        }
        return nil
    }

    private enum Order { case mineFirst, theirsFirst, same }

    private static func order(_ mine: String?, _ theirs: String?) -> Order {
        guard let mine else { return .theirsFirst }
        guard let theirs, mine != theirs else { return theirs == nil ? .mineFirst : .same }
        return mine.utf8.lexicographicallyPrecedes(theirs.utf8) ? .mineFirst : .theirsFirst
    }

    // MARK: One key

    private struct KeyReport {
        var checkedCount: UInt64 = 0
        var requestCount: UInt64 = 0
        var differences: [MirrorDifference] = []
    }

    private func check(
        _ key: String,
        _ rows: [VersionRow],
        _ entries: [MirrorListed],
        _ bucket: BucketRow,
        _ keepsVersions: Bool,
        _ pending: PendingKeys,
        _ report: inout MirrorAuditReport
    ) async throws {
        var found = try await evaluate(key, rows, entries, bucket, keepsVersions, pending)
        if !found.differences.isEmpty {
            let requestCount = found.requestCount
            found = try await again(key, bucket, keepsVersions, pending)
            found.requestCount += requestCount + 1
        }
        report.checkedCount += found.checkedCount
        report.requestCount += found.requestCount
        for difference in found.differences {
            // Kept back behind one that was given up, or on its way.
            let isKnown = difference.standing == .waiting || difference.standing == .givenUp
            if isKnown { report.waitingCount += 1 }
            if !isKnown || scope.listsWaiting { report.add(difference) }
        }
    }

    /// One key, as both sides have it now.
    /// - Returns: what differs; nothing of what is on its way.
    package func differences(of key: ObjectKey, in bucket: BucketRow) async throws -> [MirrorDifference] {
        let found = try await again(
            row.settings.key(bucket.name, key),
            bucket,
            try await backend.keepsVersions(),
            PendingKeys(store, row.id, bucket.id)
        )
        return found.differences
    }

    /// In front of the bucket's keys in the backend.
    private func place(of bucket: BucketRow) -> String { row.settings.prefix + bucket.name.description + "/" }

    private func again(
        _ key: String,
        _ bucket: BucketRow,
        _ keepsVersions: Bool,
        _ pending: PendingKeys
    ) async throws -> KeyReport {
        let place = place(of: bucket)
        let name = Array(key.utf8.dropFirst(place.utf8.count))
        var theirs = BackendKeys(backend, prefix: key, keepsVersions)
        let entries = try await theirs.next().flatMap { $0.key == key ? $0.entries : nil } ?? []
        var ours = StoreKeys(store, bucket, prefix: name, after: nil)
        let rows = try await ours.next().flatMap { $0.key.bytes == name ? $0.rows : nil } ?? []
        return try await evaluate(key, rows, entries, bucket, keepsVersions, pending)
    }

    private func evaluate(
        _ key: String,
        _ rows: [VersionRow],
        _ entries: [MirrorListed],
        _ bucket: BucketRow,
        _ keepsVersions: Bool,
        _ pending: PendingKeys
    ) async throws -> KeyReport {
        var found = KeyReport()
        var rest = entries
        var wanted = rows.filter { route.matches(bucket: bucket.name, row: $0) }
        if !keepsVersions {
            wanted = wanted.first.map { $0.isDeleteMarker || $0.id != rows.first?.id ? [] : [$0] } ?? []
        }
        for version in wanted {
            found.checkedCount += 1
            let noted = try await store.document(.outbox, MirrorKey.mirrored(row.id, version.id))
            let id = noted.map { String(decoding: $0.body, as: UTF8.self) }
            let index = rest.firstIndex { entry in
                keepsVersions ? entry.versionID != nil && entry.versionID == id : !entry.isDeleteMarker
            }
            let problem: (kind: MirrorDifference.Kind, detail: String)?
            if let index {
                problem = try await difference(version, rest.remove(at: index), key, keepsVersions, &found)
            } else if version.isDeleteMarker
                && (route.asksForTags || entries.isEmpty && noted == nil)
            {
                // A delete marker that never had anything to hide in a mirror of tagged objects isn't there.
                problem = nil
            } else if version.id == wanted.first?.id, !entries.isEmpty {
                problem = (.stale, "the newest version isn't there, an older one is")
            } else {
                problem = (.missing, "it isn't there")
            }
            if let problem {
                found.differences.append(
                    MirrorDifference(
                        kind: problem.kind,
                        bucket: bucket.name,
                        key: key,
                        row: version,
                        standing: try await standing(of: version),
                        detail: problem.detail
                    )
                )
            }
        }
        guard !rest.isEmpty else { return found }
        // What waits to be removed is not extra.
        let isWaiting = try await pending.contains(Array(key.utf8.dropFirst(place(of: bucket).utf8.count)))
        for entry in rest {
            found.differences.append(
                MirrorDifference(
                    kind: .extra,
                    bucket: bucket.name,
                    key: key,
                    row: nil,
                    standing: isWaiting ? .waiting : nil,
                    detail: entry.isDeleteMarker ? "a delete marker" : "\(entry.size) bytes"
                )
            )
        }
        return found
    }

    private func difference(
        _ version: VersionRow,
        _ entry: MirrorListed,
        _ key: String,
        _ keepsVersions: Bool,
        _ found: inout KeyReport
    ) async throws -> (MirrorDifference.Kind, String)? {
        guard version.isDeleteMarker == entry.isDeleteMarker else {
            return (.different, "one side is a delete marker")
        }
        if version.isDeleteMarker { return nil }
        var head: MirrorHead?
        if scope.isDeep || !keepsVersions {
            found.requestCount += 1
            head = try await backend.head(key, version: keepsVersions ? entry.versionID : nil)
            guard let head else { return (.missing, "it was listed and isn't there") }
            guard let there = head.properties.holdfastVersion else {
                return (.different, "no mirror has put it there")
            }
            guard there == version.id else {
                return there < version.id
                    ? (.stale, "it is the older version \(there)") : (.different, "it is another version")
            }
        }
        guard version.size == entry.size else {
            return (.different, "it has \(entry.size) bytes, not \(version.size)")
        }
        if row.settings.etagIsMD5, MirrorTransfer.isMD5(entry.etag), let md5 = version.checksums.md5,
            entry.etag != md5.hex
        {
            return (.different, "its ETag is \(entry.etag), not \(md5.hex)")
        }
        if let head, let sha256 = version.sha256, head.properties.holdfastSHA256 != sha256 {
            return (.different, "its SHA-256 is another one")
        }
        return nil
    }

    /// nil: by the store's account the mirror has it.
    private func standing(of version: VersionRow) async throws -> MirrorStanding? {
        let id = row.id
        let standing = try await store.read { try MirrorStanding(of: version, in: id, $0) }
        return standing == .mirrored ? nil : standing
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
    private let prefix: [UInt8]
    private var page: ArraySlice<VersionRow> = []
    private var marker: VersionListMarker?
    private var isAtEnd = false

    init(_ store: any MirrorStore, _ bucket: BucketRow, prefix: [UInt8], after: [UInt8]?) {
        self.store = store
        self.bucket = bucket
        self.prefix = prefix
        marker = after.map { VersionListMarker(key: $0) }
    }

    mutating func next() async throws -> (key: ObjectKey, rows: [VersionRow])? {
        var rows: [VersionRow] = []
        while true {
            if page.isEmpty {
                guard !isAtEnd else { break }
                let (bucket, prefix, marker) = (bucket.id, prefix, marker)
                let read = try await store.read { reader in
                    try reader.listVersions(
                        VersionListRequest(bucket: bucket, prefix: prefix, startAfter: marker)
                    )
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
    private(set) var pageCount: UInt64 = 0
    private var page: ArraySlice<MirrorListed> = []
    private var marker: MirrorListPage.Marker?
    private var isAtEnd = false
    /// Keys up to it are left out here as well: there are servers that begin anew after a key that they don't have.
    private let after: String?

    /// - Parameter after: keys up to this one are left out.
    init(_ backend: any MirrorBackend, prefix: String, _ keepsVersions: Bool, after: String? = nil) {
        self.backend = backend
        self.prefix = prefix
        self.keepsVersions = keepsVersions
        self.after = after
        marker = after.map { MirrorListPage.Marker(key: $0, versionID: nil, isKey: true) }
    }

    mutating func next() async throws -> Key? {
        var key: Key?
        while true {
            if page.isEmpty {
                guard !isAtEnd else { break }
                pageCount += 1
                let read =
                    keepsVersions
                    ? try await backend.listVersions(prefix: prefix, after: marker, limit: 1000)
                    : try await backend.list(prefix: prefix, after: marker, limit: 1000)
                page = read.entries.filter { isBehind($0.key) }[...]
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

    private func isBehind(_ key: String) -> Bool {
        guard let after else { return true }
        return after.utf8.lexicographicallyPrecedes(key.utf8)
    }
}
