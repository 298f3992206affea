import Catalog
import CatalogSQLite
import StoreModel
import Testing

/// Pages against a brute-force reading of the rule: sort everything, cut prefixes, take what comes after.
@Suite struct ListingTests {
    /// Keys that are hard: at the ends of UTF-8, under and beside each other's prefixes, with delimiters
    /// everywhere.
    static let keys = [
        "a", "a/", "a//", "a//b", "a/b", "a/b/c", "a/b/d", "a/c", "a0", "a.b", "ab", "b/x/1", "b/x/2", "b/y",
        "/",
        "//", "/a", "\u{1}", "\u{7F}", "é", "é/x", "é/y", "\u{10FFFF}", "\u{10FFFF}/", "\u{10FFFF}\u{10FFFF}",
        "XY", "aXY", "aXYb", "aXYc", "aXXYd", "aXYXY", "XYXYXY", "zz", "z\u{FFFD}", "z\u{FFFD}/q",
    ]

    private struct Item: Equatable {
        let bytes: [UInt8]
        let isPrefix: Bool
    }

    private func bytes(_ text: String) -> [UInt8] { Array(text.utf8) }

    private func store(
        _ directory: TemporaryDirectory,
        _ keys: [String] = keys
    ) throws -> (Pipeline, BucketID) {
        let pipeline = try Pipeline(try SQLiteCatalog(path: directory.file("catalog.sqlite")), seed: 1)
        // A bucket before and one behind, whose keys must not show.
        for name in ["aaa", "bucket", "zzz"] {
            _ = try pipeline.decide(.createBucket(try BucketName(name), versioning: .enabled, owner: nil))
            for (number, key) in Self.shuffled(keys, pipeline.random).enumerated() {
                if name != "bucket" && number > 5 { break }
                _ = try pipeline.decide(try put(name, key, UInt64(number)))
            }
        }
        // Keys whose newest version is a marker are not objects.
        for key in ["a/dead", "dead", "q/dead"] {
            _ = try pipeline.decide(try put("bucket", key))
            let deletion = CatalogCommand.deleteObject(
                bucket: try BucketName("bucket"),
                key: try ObjectKey(key),
                conditions: .none
            )
            _ = try pipeline.decide(deletion)
        }
        try pipeline.settle()
        let bucket = try #require(try pipeline.store.bucket(named: try BucketName("bucket")))
        return (pipeline, bucket.id)
    }

    private static func shuffled(_ keys: [String], _ random: SeededNumbers) -> [String] {
        var generator = random
        return keys.shuffled(using: &generator)
    }

    private func items(_ keys: [[UInt8]], _ prefix: [UInt8], _ delimiter: [UInt8]) -> [Item] {
        var items: [Item] = []
        for key in keys.sorted(by: { $0.lexicographicallyPrecedes($1) }) where key.starts(with: prefix) {
            let rest = Array(key.dropFirst(prefix.count))
            var item = Item(bytes: key, isPrefix: false)
            if !delimiter.isEmpty {
                for start in rest.indices where rest[start...].starts(with: delimiter) {
                    item = Item(bytes: prefix + rest[..<(start + delimiter.count)], isPrefix: true)
                    break
                }
            }
            if items.last != item || !item.isPrefix { items.append(item) }
        }
        return items
    }

    static let prefixes = ["", "a", "a/", "a/b", "b", "b/x", "é", "\u{10FFFF}", "X", "aX", "z", "none", "/"]
    static let delimiters = ["", "/", "XY", "b", "é", "//"]

    @Test func everyPageOfObjectsIsWhatBruteForceGives() throws {
        let directory = try TemporaryDirectory()
        let (pipeline, bucket) = try store(directory)
        for prefix in Self.prefixes {
            for delimiter in Self.delimiters {
                let expected = items(Self.keys.map(bytes), bytes(prefix), bytes(delimiter))
                for limit in [1, 2, 3, 5, 7, 100] {
                    var request = ObjectListRequest(
                        bucket: bucket,
                        prefix: bytes(prefix),
                        delimiter: bytes(delimiter),
                        limit: limit
                    )
                    var found: [Item] = []
                    while true {
                        let page = try pipeline.store.listObjects(request)
                        let items = merged(page.objects.map(\.key.bytes), page.commonPrefixes)
                        #expect(items.count <= limit)
                        #expect(page.next == nil || items.count == limit)
                        found += items
                        guard let next = page.next else { break }
                        request.startAfter = next
                    }
                    #expect(found == expected, "prefix \(prefix) delimiter \(delimiter) limit \(limit)")
                }
            }
        }
        try pipeline.store.close()
    }

    @Test func aPageMayStartAfterAnything() throws {
        let directory = try TemporaryDirectory()
        let (pipeline, bucket) = try store(directory)
        let starts: [[UInt8]] =
            Self.keys.map(bytes) + Self.prefixes.map(bytes) + [
                [0xFF], [0], bytes("a/b/zz"), bytes("aXYa"), [0xC3],
            ]
        for prefix in ["", "a", "a/", "\u{10FFFF}"] {
            for delimiter in ["", "/", "XY"] {
                let all = items(Self.keys.map(bytes), bytes(prefix), bytes(delimiter))
                for start in starts {
                    let page = try pipeline.store.listObjects(
                        ObjectListRequest(
                            bucket: bucket,
                            prefix: bytes(prefix),
                            delimiter: bytes(delimiter),
                            startAfter: start,
                            limit: 1000
                        )
                    )
                    let found = merged(page.objects.map(\.key.bytes), page.commonPrefixes)
                    let expected = all.filter { start.lexicographicallyPrecedes($0.bytes) }
                    #expect(found == expected, "prefix \(prefix) delimiter \(delimiter) after \(start)")
                }
            }
        }
        try pipeline.store.close()
    }

    @Test func everyPageOfVersionsIsWhatBruteForceGives() throws {
        let directory = try TemporaryDirectory()
        let (pipeline, bucket) = try store(directory)
        for round in 0..<3 {
            for key in Self.keys where pipeline.random.chance(2) {
                _ = try pipeline.decide(try put("bucket", key, UInt64(round)))
            }
        }
        try pipeline.settle()
        var rows: [VersionRow] = []
        try pipeline.store.forEachVersion { row in
            if row.bucket == bucket { rows.append(row) }
            return true
        }
        rows.sort { $0.key == $1.key ? $0.id > $1.id : $0.key < $1.key }
        let newest = Set(Dictionary(grouping: rows, by: \.key).values.compactMap { $0.map(\.id).max() })
        for prefix in ["", "a", "a/", "\u{10FFFF}", "none"] {
            for delimiter in ["", "/", "XY"] {
                let expected = items(rows.map(\.key.bytes), bytes(prefix), bytes(delimiter))
                for limit in [1, 2, 3, 7, 1000] {
                    var request = VersionListRequest(
                        bucket: bucket,
                        prefix: bytes(prefix),
                        delimiter: bytes(delimiter),
                        limit: limit
                    )
                    var found: [Item] = []
                    var listed: [ListedVersion] = []
                    while true {
                        let page = try pipeline.store.listVersions(request)
                        found += merged(page.versions.map(\.row.key.bytes), page.commonPrefixes)
                        listed += page.versions
                        #expect(page.next == nil || page.versions.count + page.commonPrefixes.count == limit)
                        guard let next = page.next else { break }
                        request.startAfter = next
                    }
                    #expect(found == expected, "prefix \(prefix) delimiter \(delimiter) limit \(limit)")
                    let direct = rows.filter { row in
                        expected.contains { !$0.isPrefix && $0.bytes == row.key.bytes }
                    }
                    #expect(listed.map(\.row) == direct)
                    #expect(listed.allSatisfy { $0.isNewest == newest.contains($0.row.id) })
                }
            }
        }
        try pipeline.store.close()
    }

    @Test func aListingOfVersionsGoesOnWhenItsMarkerIsGone() throws {
        let directory = try TemporaryDirectory()
        let pipeline = try Pipeline(try SQLiteCatalog(path: directory.file("catalog.sqlite")), seed: 1)
        let name = try BucketName("bucket")
        try pipeline.run(.createBucket(name, versioning: .enabled, owner: nil))
        for number in 1...3 { try pipeline.run(try put("bucket", "k", UInt64(number))) }
        let bucket = try #require(try pipeline.store.bucket(named: name)).id
        let first = try pipeline.store.listVersions(VersionListRequest(bucket: bucket, limit: 1))
        let newest = try #require(first.versions.first)
        let address = VersionAddress(bucket: name, key: newest.row.key, selector: .id(newest.row.id))
        try pipeline.run(.deleteVersion(address))
        let second = try pipeline.store.listVersions(
            VersionListRequest(bucket: bucket, startAfter: first.next, limit: 10)
        )
        #expect(second.versions.map(\.row.etag) == ["etag-2", "etag-1"])
        #expect(second.versions.map(\.isNewest) == [true, false])
        let none = try pipeline.store.listVersions(VersionListRequest(bucket: bucket, limit: 0))
        #expect(none == VersionListPage(versions: [], commonPrefixes: [], next: nil))
        try pipeline.store.close()
    }

    private func merged(_ keys: [[UInt8]], _ prefixes: [[UInt8]]) -> [Item] {
        let items =
            keys.map { Item(bytes: $0, isPrefix: false) } + prefixes.map { Item(bytes: $0, isPrefix: true) }
        // Stable: versions of one key keep their order.
        return items.enumerated()
            .sorted {
                $0.element.bytes == $1.element.bytes
                    ? $0.offset < $1.offset : $0.element.bytes.lexicographicallyPrecedes($1.element.bytes)
            }
            .map(\.element)
    }
}
