internal import Catalog
internal import StoreModel

extension ObjectStore {
    /// Says what a set of versions takes, and what would be freed if it went.
    ///
    /// Walks the set, then everything else. Memory is bounded by `memory` bytes for the payloads of the set and by
    /// `rowCountMax` rows: where the payloads don't fit, the stretch of fingerprints that a walk looks at is cut in half,
    /// and more walks are made. What changes meanwhile may be counted or not.
    /// - Throws: `.noSuchBucket`, `.noSuchKey`, `.noSuchVersion`, `.invalidArgument`.
    package func measureSpace(
        _ scope: SpaceScope,
        by grouping: SpaceGrouping? = nil,
        rowCountMax: Int = SpaceReport.rowCountStandard,
        memory: Int = SpaceReport.memoryStandard
    ) async throws -> SpaceReport {
        if grouping != nil, grouping != .bucket, scope.bucket == nil {
            throw StoreError(.invalidArgument, "Prefixes, objects and versions are listed for one bucket.")
        }
        return try await measureSpace(scope, grouping, rowCountMax, memory, storage)
    }

    private func measureSpace<Storage: ReplicatedStorage>(
        _ scope: SpaceScope,
        _ grouping: SpaceGrouping?,
        _ rowCountMax: Int,
        _ memory: Int,
        _ storage: Storage
    ) async throws -> SpaceReport {
        let place = try await storage.readCatalog { reader in try SpacePlace(scope, reader) }
        var sum = SpaceSum(grouping, rowCountMax: max(1, rowCountMax))
        var lower: UInt64 = 0
        var width = UInt64.max
        while true {
            let (reached, overflows) = lower.addingReportingOverflow(width)
            let upper = overflows ? .max : reached
            var pass = SpacePass(
                place,
                sum,
                PayloadOwners(lower...upper, byteCountMax: memory),
                storage
            )
            guard try await pass.run() else {
                width = (upper - lower) / 2
                continue
            }
            sum = pass.sum
            guard upper < .max else { return sum.report }
            lower = upper + 1
        }
    }
}

extension SpaceReport {
    /// Of the table of payloads: 2.9 million of them in one walk.
    package static let memoryStandard = 64 << 20
    package static let rowCountStandard = 1000
    package static let rowCountMax = 10_000
}

/// A scope with its names looked up.
struct SpacePlace: Sendable {
    let scope: SpaceScope
    let buckets: [BucketRow]
    /// The one version that is asked for.
    let version: VersionRow?

    init(_ scope: SpaceScope, _ reader: any CatalogReader) throws {
        self.scope = scope
        guard let name = scope.bucket else {
            buckets = try reader.buckets()
            version = nil
            return
        }
        let bucket = try reader.existingBucket(name)
        buckets = [bucket]
        guard scope.isExact else {
            version = nil
            return
        }
        let key = try ObjectKey(bytes: scope.prefix)
        guard let selector = scope.version else {
            version = nil
            guard try !reader.log(bucket: bucket.id, key: key, before: nil, limit: 1).isEmpty else {
                throw StoreError(.noSuchKey, "\(quoted("\(name)/\(key)")) has no versions.")
            }
            return
        }
        version = try reader.version(bucket: bucket.id, key: key, selector: selector)
        guard version != nil else {
            throw StoreError(.noSuchVersion, "\(quoted("\(name)/\(key)")) has no such version.")
        }
    }

    func contains(_ row: VersionRow) -> Bool {
        if let version { return row.id == version.id && row.key == version.key }
        guard scope.bucket != nil else { return true }
        return buckets[0].id == row.bucket && scope.contains(row.key.bytes)
    }

    /// Whether the payload of a document is of the scope: a part of an upload to one of its keys.
    func contains(_ row: DocumentRow) -> Bool {
        guard row.space == .part, version == nil else { return false }
        guard scope.bucket != nil else { return true }
        return row.key.starts(with: UploadKey.bucket(buckets[0].id))
            && scope.contains(UploadKey.objectKey(of: UploadKey.upload(ofPart: row.key)))
    }
}

/// What the walks before came to.
struct SpaceSum {
    private(set) var report = SpaceReport()
    let grouping: SpaceGrouping?
    private let rowCountMax: Int
    private var numbers: [SpaceReport.Row.Name: UInt32] = [:]
    private var rows: [SpaceReport.Row] = []

    init(_ grouping: SpaceGrouping?, rowCountMax: Int) {
        self.grouping = grouping
        self.rowCountMax = rowCountMax
    }

    /// The number of a row, which is made when there is none of that name.
    mutating func number(of name: SpaceReport.Row.Name) -> UInt32 {
        if let number = numbers[name] { return number }
        let isPlain = name != .uploads && name != .others
        if isPlain, numbers.count >= rowCountMax { return number(of: .others) }
        let number = UInt32(rows.count)
        numbers[name] = number
        rows.append(SpaceReport.Row(name: name))
        return number
    }

    /// Takes in what a whole walk found.
    mutating func add(_ total: SpaceFigures, _ figures: [SpaceFigures], unreadableCount: UInt64) {
        report.passCount += 1
        report.unreadableCount = max(report.unreadableCount, unreadableCount)
        report.total.add(total)
        for (number, figure) in figures.enumerated() { rows[number].figures.add(figure) }
        guard grouping != nil else { return }
        report.rows = rows.filter { $0.name != .uploads && $0.name != .others }
        report.rows += rows.filter { $0.name == .uploads } + rows.filter { $0.name == .others }
    }
}

/// One walk over one stretch of fingerprints.
private struct SpacePass<Storage: ReplicatedStorage> {
    private struct Overflow: Error {}

    private let place: SpacePlace
    private(set) var sum: SpaceSum
    private var owners: PayloadOwners
    private let storage: Storage
    private let isFirst: Bool
    private var total = SpaceFigures()
    private var figures: [SpaceFigures] = []
    private var unreadableCount: UInt64 = 0
    /// Trees that the present row, or everybody outside, was seen to name.
    private var roots: Set<Digest> = []
    private var rootsOf = UInt32.max

    private static var rootCountMax: Int { 65_536 }
    private static var pageSize: Int { 256 }

    init(_ place: SpacePlace, _ sum: SpaceSum, _ owners: PayloadOwners, _ storage: Storage) {
        self.place = place
        self.sum = sum
        self.owners = owners
        self.storage = storage
        isFirst = owners.stretch.lowerBound == 0
    }

    /// - Returns: false when the stretch has too many payloads; nothing was added to the sum then.
    mutating func run() async throws -> Bool {
        do {
            if let version = place.version {
                try await take(version, in: place.buckets[0])
            } else {
                for bucket in place.buckets {
                    try await takeVersions(of: bucket)
                    try await takeParts(of: bucket)
                }
            }
        } catch is Overflow {
            return false
        }
        roots = []
        try await walkOutside()
        sum.add(total, figures, unreadableCount: unreadableCount)
        return true
    }

    // MARK: The set

    private mutating func takeVersions(of bucket: BucketRow) async throws {
        let scope = place.scope
        var marker: VersionListMarker?
        repeat {
            try Task.checkCancellation()
            let page = try await storage.readCatalog { [marker] reader in
                try reader.listVersions(
                    VersionListRequest(bucket: bucket.id, prefix: scope.prefix, startAfter: marker)
                )
            }
            for listed in page.versions {
                // Whole keys come first among those that begin like them.
                guard scope.contains(listed.row.key.bytes) else { return }
                try await take(listed.row, in: bucket)
            }
            marker = page.next
        } while marker != nil
    }

    private mutating func take(_ row: VersionRow, in bucket: BucketRow) async throws {
        let number = self.number(of: name(of: row, in: bucket))
        if isFirst {
            count(number) { figures in
                if row.isDeleteMarker { figures.deleteMarkerCount += 1 } else { figures.versionCount += 1 }
                figures.logicalBytes += row.size
            }
        }
        for payload in row.payloads { try await take(payload.manifest, number) }
    }

    private mutating func takeParts(of bucket: BucketRow) async throws {
        let scope = place.scope
        let start =
            scope.isExact
            ? UploadKey.uploads(bucket.id, scope.prefix) : UploadKey.bucket(bucket.id) + scope.prefix
        var last: [UInt8]?
        while true {
            try Task.checkCancellation()
            let page = try await storage.readCatalog { [last] reader in
                try reader.documents(.part, prefix: start, after: last, limit: Self.pageSize)
            }
            guard let end = page.last else { return }
            for document in page {
                guard let payload = document.payload else { continue }
                let number = self.number(of: sum.grouping == .bucket ? .bucket(bucket.name) : .uploads)
                if isFirst {
                    let size = try UploadedPart(document).size
                    count(number) { figures in
                        figures.partCount += 1
                        figures.logicalBytes += size
                    }
                }
                try await take(payload.manifest, number)
            }
            last = end.key
        }
    }

    private func name(of row: VersionRow, in bucket: BucketRow) -> SpaceReport.Row.Name {
        switch sum.grouping {
        case nil, .bucket: return .bucket(bucket.name)
        case .object: return .object(row.key.bytes)
        case .version: return .version(key: row.key.bytes, row.id, isNull: row.isNull)
        case .prefix:
            let key = row.key.bytes
            guard let slash = key[place.scope.prefix.count...].firstIndex(of: UInt8(ascii: "/")) else {
                return .object(key)
            }
            return .prefix(Array(key[...slash]))
        }
    }

    private mutating func number(of name: SpaceReport.Row.Name) -> UInt32 {
        let number = sum.number(of: name)
        while figures.count <= number { figures.append(SpaceFigures()) }
        return number
    }

    private mutating func count(_ number: UInt32, _ change: (inout SpaceFigures) -> Void) {
        change(&total)
        change(&figures[Int(number)])
    }

    private mutating func take(_ manifest: ManifestReference, _ number: UInt32) async throws {
        switch manifest {
        case .inline(let chunks):
            for chunk in chunks { try take(chunk.digest, UInt64(chunk.length), number) }
        case .tree(let root, _, let nodeLength, _):
            if rootsOf != number || roots.count >= Self.rootCountMax { roots = [] }
            rootsOf = number
            guard roots.insert(root).inserted else { return }
            var stack = [ManifestNode.Entry(digest: root, payloadLength: nodeLength, contentLength: 0)]
            while let entry = stack.popLast() {
                try take(entry.digest, UInt64(entry.payloadLength), number)
                guard let node = try await node(entry) else { continue }
                if node.height > 0 {
                    stack += node.entries
                } else {
                    for chunk in node.entries {
                        try take(chunk.digest, UInt64(chunk.payloadLength), number)
                    }
                }
            }
        }
    }

    private mutating func take(_ digest: Digest, _ length: UInt64, _ number: UInt32) throws {
        guard let change = owners.add(digest.words.0, to: number) else { throw Overflow() }
        guard change.isNewToRow else { return }
        let physical = storage.physicalBytes(of: digest, length: length)
        if change.isNew {
            total.take(length, physical)
            figures[Int(number)].take(length, physical)
            return
        }
        figures[Int(number)].take(length, physical)
        figures[Int(number)].share(length, physical)
        if let loser = change.lostBy { figures[Int(loser)].share(length, physical) }
    }

    private mutating func node(_ entry: ManifestNode.Entry) async throws -> ManifestNode? {
        let length = Int(entry.payloadLength)
        do {
            return try ManifestNode(
                decoding: try await storage.read(entry.digest, length: length, range: 0..<length)
            )
        } catch let error as StoreError where error.code == .dataUnavailable {
            unreadableCount += 1
            return nil
        }
    }

    // MARK: Everything else

    private mutating func walkOutside() async throws {
        if place.scope.bucket != nil {
            var cursor: UInt64 = 0
            while true {
                try Task.checkCancellation()
                let after = cursor
                let page = try await storage.readCatalog { reader in
                    try reader.versions(afterSequence: after, limit: Self.pageSize)
                }
                guard let last = page.last else { break }
                for row in page where !place.contains(row) {
                    for payload in row.payloads { try await share(payload.manifest) }
                }
                cursor = last.id.sequence
            }
        }
        for space in DocumentSpace.allCases {
            var last: [UInt8]?
            while true {
                try Task.checkCancellation()
                let page = try await storage.readCatalog { [last] reader in
                    try reader.documents(space, after: last, limit: Self.pageSize)
                }
                guard let end = page.last else { break }
                for row in page where !place.contains(row) {
                    if let payload = row.payload { try await share(payload.manifest) }
                }
                last = end.key
            }
        }
        for manifest in storage.snapshotManifests { try await share(manifest) }
    }

    private mutating func share(_ manifest: ManifestReference) async throws {
        switch manifest {
        case .inline(let chunks):
            for chunk in chunks { share(chunk.digest, UInt64(chunk.length)) }
        case .tree(let root, _, let nodeLength, _):
            if roots.count >= Self.rootCountMax { roots = [] }
            guard roots.insert(root).inserted else { return }
            var stack = [ManifestNode.Entry(digest: root, payloadLength: nodeLength, contentLength: 0)]
            while let entry = stack.popLast() {
                share(entry.digest, UInt64(entry.payloadLength))
                guard let node = try await node(entry) else { continue }
                if node.height > 0 {
                    stack += node.entries
                } else {
                    for chunk in node.entries { share(chunk.digest, UInt64(chunk.payloadLength)) }
                }
            }
        }
    }

    private mutating func share(_ digest: Digest, _ length: UInt64) {
        guard let change = owners.addOutside(digest.words.0) else { return }
        let physical = storage.physicalBytes(of: digest, length: length)
        total.share(length, physical)
        if let loser = change.lostBy { figures[Int(loser)].share(length, physical) }
    }
}
