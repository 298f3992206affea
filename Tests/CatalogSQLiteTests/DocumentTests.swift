import Catalog
import CatalogSQLite
import ContentHashing
import Foundation
import GRDB
import StoreModel
import Testing

/// Documents and attributes in the index.
@Suite struct DocumentTests {
    private func write(_ space: DocumentSpace, _ key: [UInt8], _ body: [UInt8]?) -> CatalogCommand {
        .documents([DocumentWrite(space: space, key: key, body: body)])
    }

    @Test func pagesGoThroughAPrefixInByteOrder() throws {
        let directory = try TemporaryDirectory()
        let pipeline = try Pipeline(try SQLiteCatalog(path: directory.file("catalog.sqlite")), seed: 1)
        for first in [UInt8(1), 2, 0xFF] {
            for second in [UInt8(0), 7, 0xFF] { try pipeline.run(write(.part, [first, second], [first])) }
        }
        try pipeline.run(write(.upload, [2], [9]))
        let store = pipeline.store
        let second = try store.documents(.part, prefix: [2], limit: 10)
        #expect(second.map(\.key) == [[2, 0], [2, 7], [2, 0xFF]])
        #expect(try store.documents(.part, prefix: [0xFF], limit: 10).count == 3)
        #expect(try store.documents(.part, prefix: [2], after: [2, 7], limit: 10).map(\.key) == [[2, 0xFF]])
        #expect(try store.documents(.part, limit: 4).map(\.key) == [[1, 0], [1, 7], [1, 0xFF], [2, 0]])
        #expect(try store.documents(.part, prefix: [1], from: [2], limit: 4).isEmpty)
        #expect(try store.document(.upload, [2])?.body == [9])
        #expect(try store.document(.upload, [3]) == nil)
        var seen = 0
        try store.forEachDocument(.part, prefix: [1]) { _ in
            seen += 1
            return seen < 2
        }
        #expect(seen == 2)
        try store.verify()
        try store.close()
    }

    @Test func aGenerationGoesUpWithEveryAppliedChangeOfItsSpace() throws {
        let directory = try TemporaryDirectory()
        let pipeline = try Pipeline(try SQLiteCatalog(path: directory.file("catalog.sqlite")), seed: 1)
        let generations = pipeline.store.generations
        func current() -> [UInt64] {
            [DocumentSpace.account, .bucketSetting, .part].map { generations.generation(of: $0) }
        }
        #expect(current() == [0, 0, 0])
        try pipeline.run(write(.account, [1], [1]))
        #expect(current() == [1, 0, 0])
        try pipeline.run(.createBucket(try BucketName("bucket"), versioning: .enabled, owner: nil))
        #expect(current() == [1, 1, 0])
        try pipeline.run(try put("bucket", "key"))
        #expect(current() == [1, 1, 0])
        try pipeline.run(write(.account, [1], nil))
        #expect(current() == [2, 1, 0])
        try pipeline.store.close()
    }

    @Test(arguments: [
        "UPDATE documents SET bytes = x'44'", "UPDATE documents SET checksum = checksum + 1",
        "UPDATE documents SET key = x'09'", "UPDATE documents SET space = 2",
    ]) func aDamagedDocumentIsNeverServed(sql: String) throws {
        let directory = try TemporaryDirectory()
        let path = directory.file("catalog.sqlite")
        let pipeline = try Pipeline(try SQLiteCatalog(path: path), seed: 1)
        try pipeline.run(write(.account, [1], [1]))
        try pipeline.store.close()
        let queue = try DatabaseQueue(path: path)
        try queue.writeWithoutTransaction { try $0.execute(sql: sql) }
        try queue.close()
        var options = SQLiteCatalogOptions()
        options.verification = .never
        let store = try SQLiteCatalog(path: path, options: options)
        #expect(code { try store.verify() } == .storeDamaged)
        if !sql.contains("space") {
            #expect(code { _ = try store.documents(.account, limit: 9) } == .storeDamaged)
        }
        try store.close()
    }

    @Test func aLostDocumentIsFound() throws {
        let directory = try TemporaryDirectory()
        let path = directory.file("catalog.sqlite")
        let pipeline = try Pipeline(try SQLiteCatalog(path: path), seed: 1)
        try pipeline.run(write(.account, [1], [1]))
        try pipeline.store.close()
        let queue = try DatabaseQueue(path: path)
        try queue.writeWithoutTransaction { try $0.execute(sql: "DELETE FROM documents") }
        try queue.close()
        var options = SQLiteCatalogOptions()
        options.verification = .always
        #expect(code { _ = try SQLiteCatalog(path: path, options: options) } == .storeDamaged)
    }

    @Test func anIndexOfTheFirstFormatIsBroughtUp() throws {
        let directory = try TemporaryDirectory()
        let path = directory.file("catalog.sqlite")
        let pipeline = try Pipeline(try SQLiteCatalog(path: path), seed: 1)
        try pipeline.run(.createBucket(try BucketName("bucket"), versioning: .enabled, owner: "me"))
        try pipeline.run(try put("bucket", "key"))
        try pipeline.store.close()
        let queue = try DatabaseQueue(path: path)
        try queue.writeWithoutTransaction { database in
            let first = Int32(bitPattern: 0xFFFE_0001)
            try database.execute(sql: "DROP TABLE documents; PRAGMA user_version = \(first)")
        }
        try queue.close()
        // Programs of that time left no seal.
        try FileManager.default.removeItem(atPath: path + "-sum")
        try pipeline.replaceStore { try SQLiteCatalog(path: path) }
        try pipeline.store.verify()
        try pipeline.run(write(.account, [1], [1]))
        try pipeline.store.verify()
        #expect(try pipeline.store.document(.account, [1])?.body == [1])
        try pipeline.store.close()
    }

    @Test func aHeadKnowsOwnerAndChecksums() throws {
        let directory = try TemporaryDirectory()
        let pipeline = try Pipeline(try SQLiteCatalog(path: directory.file("catalog.sqlite")), seed: 1)
        let name = try BucketName("bucket")
        try pipeline.run(.createBucket(name, versioning: .enabled, owner: "me"))
        for owner in ["me", "you"] {
            var attributes = VersionAttributes.none
            attributes.owner = owner
            attributes.checksumType = .fullObject
            var content = content(1)
            content.checksums.others = [NamedValue("CRC32C", "yZRlqg==")]
            try pipeline.run(
                .putObject(
                    PutCommand(
                        bucket: name,
                        key: try ObjectKey(owner),
                        content: content,
                        attributes: attributes
                    )
                )
            )
        }
        let bucket = try #require(try pipeline.store.bucket(named: name)).id
        let page = try pipeline.store.listObjects(ObjectListRequest(bucket: bucket))
        // The bucket's owner goes without saying.
        #expect(page.objects.map(\.owner) == [nil, "you"])
        #expect(page.objects.allSatisfy { $0.checksumAlgorithms == ["CRC32C"] })
        #expect(page.objects.allSatisfy { $0.checksumType == .fullObject })
        try pipeline.store.verify()
        try pipeline.store.close()
    }

    @Test func aSnapshotCarriesDocumentsAndAttributes() throws {
        let directory = try TemporaryDirectory()
        let pipeline = try Pipeline(try SQLiteCatalog(path: directory.file("catalog.sqlite")), seed: 1)
        let name = try BucketName("bucket")
        try pipeline.run(
            .createBucket(
                name,
                versioning: .enabled,
                owner: "me",
                settings: [
                    BucketSetting(name: "cors", body: [1])
                ]
            )
        )
        try pipeline.run(try put("bucket", "key"))
        let address = VersionAddress(bucket: name, key: try ObjectKey("key"))
        try pipeline.run(.setAttributes(address, [AttributeChange(.legalHold, [1])]))
        for number in 0..<300 {
            try pipeline.run(write(.part, [UInt8(number % 251), UInt8(number / 251)], [1, 2, 3]))
        }
        var blocks: [[UInt8]] = []
        let summary = try pipeline.store.exportSnapshot { blocks.append($0) }
        #expect(summary.documentCount == 301)
        let copy = try SQLiteCatalog(path: directory.file("copy.sqlite"))
        var next = blocks[...]
        #expect(try copy.importSnapshot { next.popFirst() } == summary)
        try copy.verify()
        #expect(copy.applied == pipeline.store.applied)
        #expect(try copy.documents(.part, limit: .max) == pipeline.store.documents(.part, limit: .max))
        let bucket = try #require(try copy.bucket(named: name)).id
        let row = try copy.version(bucket: bucket, key: address.key, selector: .newest)
        #expect(row?.attributes.legalHold == true)
        try copy.close()
        try pipeline.store.close()
    }
}
