internal import Catalog
internal import GRDB
internal import StoreModel

/// Pages of objects and of versions.
///
/// A page walks one index from where it starts. Behind a common prefix it goes on at the prefix's successor:
/// one step decides whether the next key lies under the same prefix, and if it does, a new seek skips what is
/// left under it. So a page costs its items, however many keys lie under its common prefixes.
struct Listing {
    let database: Database

    /// Takes the rows of a query, whose first column is the key and whose second parameter is the first key wanted.
    /// - Returns: false when the page is full and there are more.
    private func walk<Page: PageBuilder>(
        _ query: Query,
        from start: [UInt8],
        _ prefix: [UInt8],
        _ delimiter: [UInt8],
        _ page: inout Page,
        add: (inout Page, _ key: [UInt8]) throws -> Void
    ) throws -> Bool {
        query.bind(2, start)
        while try query.step() {
            let key = query.bytes(0)
            guard key.starts(with: prefix) else { break }
            if let last = page.lastPrefix, key.starts(with: last) {
                guard let bound = KeyBounds.successor(ofPrefix: last) else { break }
                query.reset()
                query.bind(2, bound)
                continue
            }
            if page.isFull { return false }
            if let common = KeyBounds.commonPrefix(of: key, prefix: prefix, delimiter: delimiter) {
                page.add(prefix: common)
            } else {
                try add(&page, key)
            }
        }
        return true
    }

    // MARK: Objects

    func objects(_ request: ObjectListRequest) throws -> ObjectListPage {
        var page = ObjectPageBuilder(request)
        guard request.limit > 0, let start = page.start else { return page.page }
        let query = try Query(
            database,
            "SELECT key, head FROM heads WHERE bucket = ? AND key >= ? ORDER BY key"
        )
        defer { query.reset() }
        query.bind(1, request.bucket.rawValue)
        let isWhole = try walk(query, from: start, request.prefix, request.delimiter, &page) { page, key in
            page.add(try HeadCodec.decode(query.bytes(1), bucket: request.bucket, key: key))
        }
        return isWhole ? page.page : page.truncated
    }

    // MARK: Versions

    func versions(_ request: VersionListRequest) throws -> VersionListPage {
        var page = VersionPageBuilder(request)
        guard request.limit > 0 else { return page.page }
        if let marker = request.startAfter, let version = marker.version,
            marker.key.starts(with: request.prefix),
            KeyBounds.commonPrefix(of: marker.key, prefix: request.prefix, delimiter: request.delimiter)
                == nil
        {
            guard try addRest(of: marker.key, after: version, to: &page) else { return page.truncated }
        }
        guard let start = page.start else { return page.page }
        let query = try Query(
            database,
            """
            SELECT key, bytes, checksum, sequence FROM versions WHERE bucket = ? AND key >= ?
            ORDER BY key, sequence DESC
            """
        )
        defer { query.reset() }
        query.bind(1, request.bucket.rawValue)
        let isWhole = try walk(query, from: start, request.prefix, request.delimiter, &page) { page, key in
            page.add(try row(query, bucket: request.bucket, key: key))
        }
        return isWhole ? page.page : page.truncated
    }

    /// The versions of a key that are older than the one at which the last page ended.
    /// - Returns: false when the page is full and there are more.
    private func addRest(
        of key: [UInt8],
        after version: VersionID,
        to page: inout VersionPageBuilder
    ) throws -> Bool {
        let query = try Query(
            database,
            """
            SELECT key, bytes, checksum, sequence FROM versions WHERE bucket = ? AND key = ?
            ORDER BY sequence DESC
            """
        )
        defer { query.reset() }
        query.bind(1, page.request.bucket.rawValue)
        query.bind(2, key)
        // The newest is looked at even where it isn't listed: the marker's version may be gone, and then the
        // first one listed here can be the newest.
        guard try query.step() else { return true }
        let newest = try row(query, bucket: page.request.bucket, key: key)
        query.reset()
        let rest = try Query(
            database,
            """
            SELECT key, bytes, checksum, sequence FROM versions WHERE bucket = ? AND key = ? AND sequence < ?
            ORDER BY sequence DESC
            """
        )
        defer { rest.reset() }
        rest.bind(1, page.request.bucket.rawValue)
        rest.bind(2, key)
        rest.bind(3, min(version.sequence, UInt64(Int64.max)))
        while try rest.step() {
            if page.isFull { return false }
            page.add(try row(rest, bucket: page.request.bucket, key: key), newest: newest.id)
        }
        return true
    }

    private func row(_ query: Query, bucket: BucketID, key: [UInt8]) throws -> VersionRow {
        let row = try RowTables.version(query, column: 1)
        guard row.bucket == bucket, row.key.bytes == key, row.id.sequence == query.integer(3) else {
            throw CatalogError(.damaged, "The history of \(quoted(key)) holds another version's row.")
        }
        return row
    }
}

/// Where a page begins: the first key that may be on it.
private func startKey(
    prefix: [UInt8],
    delimiter: [UInt8],
    after: [UInt8]
) -> [UInt8]? {
    guard !KeyBounds.precedes(after, prefix) else { return prefix }
    guard !after.isEmpty else { return prefix }
    // `after` isn't before `prefix`: either it is under it, or everything under `prefix` is behind it.
    guard after.starts(with: prefix) else { return nil }
    if let common = KeyBounds.commonPrefix(of: after, prefix: prefix, delimiter: delimiter) {
        return KeyBounds.successor(ofPrefix: common)
    }
    return KeyBounds.successor(of: after)
}

/// What a walk fills: the rows are the page's own, common prefixes are the same in all.
private protocol PageBuilder {
    /// The common prefix that was added last.
    var lastPrefix: [UInt8]? { get }
    var isFull: Bool { get }
    mutating func add(prefix: [UInt8])
}

private struct ObjectPageBuilder: PageBuilder {
    let request: ObjectListRequest
    private var objects: [ObjectHead] = []
    private var prefixes: [[UInt8]] = []
    private(set) var lastPrefix: [UInt8]?
    private var last: [UInt8]?

    init(_ request: ObjectListRequest) { self.request = request }

    var start: [UInt8]? {
        startKey(prefix: request.prefix, delimiter: request.delimiter, after: request.startAfter)
    }

    var isFull: Bool { objects.count + prefixes.count >= request.limit }
    var page: ObjectListPage { ObjectListPage(objects: objects, commonPrefixes: prefixes, next: nil) }
    var truncated: ObjectListPage { ObjectListPage(objects: objects, commonPrefixes: prefixes, next: last) }

    mutating func add(prefix: [UInt8]) {
        prefixes.append(prefix)
        lastPrefix = prefix
        last = prefix
    }

    mutating func add(_ head: ObjectHead) {
        objects.append(head)
        last = head.key.bytes
    }
}

private struct VersionPageBuilder: PageBuilder {
    let request: VersionListRequest
    private var versions: [ListedVersion] = []
    private var prefixes: [[UInt8]] = []
    private(set) var lastPrefix: [UInt8]?
    private var lastKey: [UInt8]?
    private var next: VersionListMarker?

    init(_ request: VersionListRequest) { self.request = request }

    /// The first key after the marker's.
    var start: [UInt8]? {
        startKey(
            prefix: request.prefix,
            delimiter: request.delimiter,
            after: request.startAfter?.key ?? []
        )
    }

    var isFull: Bool { versions.count + prefixes.count >= request.limit }
    var page: VersionListPage { VersionListPage(versions: versions, commonPrefixes: prefixes, next: nil) }
    var truncated: VersionListPage {
        VersionListPage(versions: versions, commonPrefixes: prefixes, next: next)
    }

    mutating func add(prefix: [UInt8]) {
        prefixes.append(prefix)
        lastPrefix = prefix
        lastKey = nil
        next = VersionListMarker(key: prefix)
    }

    /// - Parameter newest: the newest version of the row's key; nil when this is the first row of a key that
    ///   is listed from its start.
    mutating func add(_ row: VersionRow, newest: VersionID? = nil) {
        let isNewest = newest.map { $0 == row.id } ?? (lastKey != row.key.bytes)
        versions.append(ListedVersion(row: row, isNewest: isNewest))
        lastKey = row.key.bytes
        next = VersionListMarker(key: row.key.bytes, version: row.id)
    }
}
