import Catalog
import CatalogSQLite
import Foundation
import GRDB
import StoreModel
import Testing

/// Damaged, foreign and newer files, and logs that don't fit.
@Suite struct DamageTests {
    private func filled(_ path: String, count: Int = 40) throws -> Pipeline {
        let pipeline = try Pipeline(try SQLiteCatalog(path: path), seed: 3)
        _ = try pipeline.decide(.createBucket(try BucketName("bucket"), versioning: .enabled, owner: nil))
        for number in 0..<count {
            _ = try pipeline.decide(try put("bucket", "key-\(number % 30)", UInt64(number)))
        }
        try pipeline.settle()
        return pipeline
    }

    private func edit(_ path: String, _ sql: String) throws {
        let queue = try DatabaseQueue(path: path)
        try queue.writeWithoutTransaction { database in
            try database.execute(sql: sql)
            #expect(database.totalChangesCount > 0 || sql.hasPrefix("PRAGMA"))
        }
        try queue.close()
    }

    private func errorCode(_ body: () throws -> Void) -> CatalogError.Code? {
        do {
            try body()
            return nil
        } catch let error as CatalogError {
            return error.code
        } catch {
            Issue.record("another error: \(error)")
            return nil
        }
    }

    /// Opens without the scan, so that the reads themselves must find it.
    private func unverified(_ path: String) throws -> SQLiteCatalog {
        var options = SQLiteCatalogOptions()
        options.verification = .never
        return try SQLiteCatalog(path: path, options: options)
    }

    @Test(arguments: [
        "UPDATE versions SET bytes = substr(bytes, 1, 50) || x'7A' || substr(bytes, 52)",
        "UPDATE versions SET checksum = checksum + 1",
        "UPDATE versions SET bytes = x''",
        "UPDATE versions SET bytes = 'text'",
        "UPDATE versions SET bytes = 17",
    ]) func aChangedRowIsNeverServed(sql: String) throws {
        let directory = try TemporaryDirectory()
        let path = directory.file("catalog.sqlite")
        let pipeline = try filled(path)
        try pipeline.store.close()
        try edit(path, sql)
        let store = try unverified(path)
        let bucket = try #require(try store.bucket(named: try BucketName("bucket"))).id
        let key = try ObjectKey("key-1")
        #expect(errorCode { _ = try store.version(bucket: bucket, key: key, selector: .newest) } == .damaged)
        #expect(errorCode { _ = try store.log(bucket: bucket, key: key, before: nil, limit: 1) } == .damaged)
        #expect(errorCode { _ = try store.versions(afterSequence: 0, limit: 10) } == .damaged)
        #expect(errorCode { _ = try store.listVersions(VersionListRequest(bucket: bucket)) } == .damaged)
        #expect(errorCode { try store.verify() } == .damaged)
        #expect(errorCode { _ = try store.exportSnapshot { _ in } } == .damaged)
        try store.close()
        var options = SQLiteCatalogOptions()
        options.verification = .always
        #expect(errorCode { _ = try SQLiteCatalog(path: path, options: options) } == .damaged)
    }

    @Test(arguments: [
        "DELETE FROM heads WHERE key = CAST('key-1' AS BLOB)",
        "UPDATE heads SET key = CAST('kex-1' AS BLOB) WHERE key = CAST('key-1' AS BLOB)",
        "UPDATE heads SET head = (SELECT head FROM heads WHERE key = CAST('key-2' AS BLOB))",
        "DELETE FROM versions WHERE key = CAST('key-1' AS BLOB)",
        "UPDATE versions SET key = CAST('key-z' AS BLOB) WHERE key = CAST('key-1' AS BLOB)",
    ]) func aKeyThatIsLostFromOneTreeIsNotAnsweredAsMissing(sql: String) throws {
        let directory = try TemporaryDirectory()
        let path = directory.file("catalog.sqlite")
        let pipeline = try filled(path)
        try pipeline.store.close()
        try edit(path, sql)
        let store = try unverified(path)
        let bucket = try #require(try store.bucket(named: try BucketName("bucket"))).id
        let key = try ObjectKey("key-1")
        // A row that only stands in the wrong place of the history is still found by its head, and is right.
        let found = errorCode { _ = try store.version(bucket: bucket, key: key, selector: .newest) }
        if !sql.hasPrefix("UPDATE versions") { #expect(found == .damaged) }
        #expect(errorCode { try store.verify() } == .damaged)
        try store.close()
    }

    @Test(arguments: [
        "UPDATE state SET bytes = x'01'", "UPDATE state SET checksum = 0", "DELETE FROM state",
        "UPDATE state SET importing = 1", "DROP TABLE state", "PRAGMA user_version = 12345",
        "PRAGMA application_id = 1",
    ]) func aDamagedStateAsksForARebuild(sql: String) throws {
        let directory = try TemporaryDirectory()
        let path = directory.file("catalog.sqlite")
        let pipeline = try filled(path)
        try pipeline.store.close()
        let queue = try DatabaseQueue(path: path)
        try queue.writeWithoutTransaction { try $0.execute(sql: sql) }
        try queue.close()
        do {
            _ = try SQLiteCatalog(path: path)
            Issue.record("opened after: \(sql)")
        } catch {
            #expect(error.needsRebuild, "\(sql): \(error)")
            #expect(error.storeError.code == .storeDamaged)
        }
        try rebuilt(path, pipeline)
    }

    @Test func aNewerFormatIsRefusedAndLeftAlone() throws {
        let directory = try TemporaryDirectory()
        let path = directory.file("catalog.sqlite")
        try filled(path).store.close()
        // Format 3 with its complement in the high half.
        try edit(path, "PRAGMA user_version = \(Int32(bitPattern: 0xFFFC_0003))")
        let before = try Data(contentsOf: URL(fileURLWithPath: path))
        do {
            _ = try SQLiteCatalog(path: path)
            Issue.record("opened")
        } catch {
            #expect(error.code == .unsupportedFormat)
            #expect(!error.needsRebuild)
            #expect(error.message.contains("format 3"))
        }
        #expect(try Data(contentsOf: URL(fileURLWithPath: path)) == before)
    }

    @Test func whatIsNoDatabaseIsRefused() throws {
        let directory = try TemporaryDirectory()
        let path = directory.file("catalog.sqlite")
        let pipeline = try filled(path)
        try pipeline.store.close()
        let good = try Data(contentsOf: URL(fileURLWithPath: path))
        var files = [
            Data("this is not a database, it is a sentence that is long enough to be a header of one.".utf8),
            Data([1]), good.prefix(15), good.prefix(100), good.prefix(good.count / 2), good.dropLast(4096),
            Data(repeating: 0, count: 8192), Data(repeating: 0xA5, count: 8192),
        ]
        var headless = good
        headless.replaceSubrange(16..<100, with: Data(repeating: 0xFF, count: 84))
        files.append(headless)
        for (number, file) in files.enumerated() {
            try file.write(to: URL(fileURLWithPath: path))
            do {
                _ = try SQLiteCatalog(path: path)
                Issue.record("file \(number) was opened")
            } catch {
                #expect(error.needsRebuild, "file \(number): \(error)")
            }
        }
        try rebuilt(path, pipeline)
    }

    /// Any byte of the file: found at open, or by a read, or by the audit; or it hits free space. Never a
    /// trap, and never another answer.
    @Test func aFlippedBitAnywhereNeverGivesAnotherAnswer() throws {
        let directory = try TemporaryDirectory()
        let path = directory.file("catalog.sqlite")
        let pipeline = try filled(path)
        let bucket = try #require(try pipeline.store.bucket(named: try BucketName("bucket"))).id
        let keys = try (0..<31).map { try ObjectKey("key-\($0)") }
        let truth = try keys.map { try pipeline.store.version(bucket: bucket, key: $0, selector: .newest) }
        let listing = try pipeline.store.listObjects(ObjectListRequest(bucket: bucket))
        try pipeline.store.close()
        let good = try Data(contentsOf: URL(fileURLWithPath: path))
        var refusedCount = 0
        for _ in 0..<600 {
            var file = good
            let place = pipeline.random.below(file.count)
            file[place] ^= 1 << UInt8(pipeline.random.below(8))
            try file.write(to: URL(fileURLWithPath: path))
            do {
                let store = try unverified(path)
                var isDamaged = errorCode { try store.verify() } != nil
                for (key, row) in zip(keys, truth) {
                    do {
                        let found = try store.version(bucket: bucket, key: key, selector: .newest)
                        #expect(found == row, "byte \(place) changed \(key)")
                    } catch { isDamaged = true }
                }
                if !isDamaged { #expect(try store.listObjects(ObjectListRequest(bucket: bucket)) == listing) }
                if isDamaged { refusedCount += 1 }
                try? store.close()
            } catch {
                refusedCount += 1
            }
            try SQLiteCatalog.remove(at: path)
        }
        #expect(refusedCount > 50)
        try rebuilt(path, pipeline)
    }

    /// What SQLite keeps to find rows has no checksums: a flipped bit there would hide a row from listings.
    @Test func aClosedIndexInWhichAnythingChangedIsRefusedAtOpen() throws {
        let directory = try TemporaryDirectory()
        let path = directory.file("catalog.sqlite")
        let pipeline = try filled(path)
        try pipeline.store.close()
        let url = URL(fileURLWithPath: path)
        let seal = URL(fileURLWithPath: path + "-sum")
        let (good, goodSeal) = (try Data(contentsOf: url), try Data(contentsOf: seal))
        for _ in 0..<200 {
            var file = good
            file[pipeline.random.below(file.count)] ^= 1 << UInt8(pipeline.random.below(8))
            try file.write(to: url)
            try goodSeal.write(to: seal)
            let code = errorCode { _ = try SQLiteCatalog(path: path) }
            #expect(code == .damaged || code == .unsupportedFormat)
        }
        // As it was it opens; without its seal it is read from end to end.
        for bytes in [goodSeal, nil] {
            try good.write(to: url)
            if let bytes { try bytes.write(to: seal) } else { try FileManager.default.removeItem(at: seal) }
            let store = try SQLiteCatalog(path: path)
            #expect(!FileManager.default.fileExists(atPath: seal.path))
            #expect(store.applied == pipeline.store.applied)
            try store.close()
            #expect(FileManager.default.fileExists(atPath: seal.path))
        }
    }

    /// What the node does about damage: away with the file, and the log again.
    private func rebuilt(_ path: String, _ pipeline: Pipeline) throws {
        try SQLiteCatalog.remove(at: path)
        let store = try SQLiteCatalog(path: path)
        try store.apply(pipeline.batches)
        #expect(store.applied.stateHash == pipeline.decider.stateHash)
        try store.verify()
        try store.close()
    }

    @Test func aMissingFileIsAnEmptyIndex() throws {
        let directory = try TemporaryDirectory()
        let store = try SQLiteCatalog(path: directory.file("catalog.sqlite"))
        #expect(store.applied == .empty)
        #expect(try store.buckets() == [])
        try store.verify()
        try store.close()
        #expect(errorCode { _ = try store.buckets() } == .closed)
        #expect(
            errorCode { _ = try SQLiteCatalog(path: directory.file("none/catalog.sqlite")) } == .inputOutput
        )
    }

    @Test func aFileThatWasNotClosedIsVerifiedAtOpen() throws {
        let directory = try TemporaryDirectory()
        let path = directory.file("catalog.sqlite")
        let copy = directory.file("copy.sqlite")
        let pipeline = try filled(path)
        // A copy while it is open is what a kill leaves.
        for suffix in ["", "-wal"] {
            try FileManager.default.copyItem(atPath: path + suffix, toPath: copy + suffix)
        }
        try pipeline.store.close()
        let survivor = try SQLiteCatalog(path: copy)
        #expect(survivor.applied == pipeline.store.applied)
        try survivor.verify()
        try survivor.close()
        // The same with a changed row in it.
        try edit(copy, "UPDATE versions SET checksum = checksum + 1 WHERE sequence = 5")
        try Data([1, 2, 3]).write(to: URL(fileURLWithPath: copy + "-wal"))
        #expect(errorCode { _ = try SQLiteCatalog(path: copy) } == .damaged)
    }

    @Test func batchesThatDoNotFollowAreRefusedWhole() throws {
        let directory = try TemporaryDirectory()
        let pipeline = try filled(directory.file("catalog.sqlite"))
        _ = try pipeline.decide(try put("bucket", "one"))
        try pipeline.closeBatch()
        _ = try pipeline.decide(try put("bucket", "two"))
        try pipeline.closeBatch()
        let before = pipeline.store.applied
        let gap = errorCode { try pipeline.store.apply([try #require(pipeline.batches.last)]) }
        #expect(gap == .offChain)
        let next = pipeline.batches[pipeline.batches.count - 2]
        // The same place with another hash: another history.
        let other = AppliedBatch(
            position: LogPosition(epoch: 1, sequence: before.position.sequence, hash: .zero),
            predecessor: .origin,
            stateHash: .zero,
            timestamp: next.timestamp,
            entries: []
        )
        #expect(errorCode { try pipeline.store.apply([other]) } == .offChain)
        let wrong = AppliedBatch(
            position: next.position,
            predecessor: next.predecessor,
            stateHash: StateHash(high: 1, low: 1),
            timestamp: next.timestamp,
            entries: next.entries
        )
        #expect(errorCode { try pipeline.store.apply([wrong]) } == .stateMismatch)
        #expect(errorCode { try pipeline.store.apply([next, wrong]) } == nil)
        #expect(errorCode { try pipeline.store.apply([pipeline.batches[0], next]) } == nil)
        #expect(pipeline.store.applied.position == next.position)
        try pipeline.store.verify()
        try pipeline.store.close()
    }

    @Test func anEntryThatContradictsTheIndexIsRefusedWhole() throws {
        let directory = try TemporaryDirectory()
        let pipeline = try filled(directory.file("catalog.sqlite"))
        let before = pipeline.store.applied
        let row = try #require(try pipeline.store.versions(afterSequence: 0, limit: 1).first)
        let mutations: [[CatalogMutation]] = [
            [.removeVersion(bucket: row.bucket, key: row.key, id: VersionID(sequence: 99_999, nonce: 0))],
            [.removeBucket(row.bucket)], [.removeBucket(BucketID(rawValue: 77))],
            [
                .removeVersion(bucket: row.bucket, key: row.key, id: row.id),
                .removeVersion(bucket: row.bucket, key: row.key, id: row.id),
            ],
        ]
        for list in mutations {
            let batch = AppliedBatch(
                position: LogPosition(epoch: 1, sequence: before.position.sequence + 1, hash: .zero),
                predecessor: before.position,
                stateHash: .zero,
                timestamp: before.lastTimestamp,
                entries: [CatalogEntry(operation: row.operation, sequence: 5000, mutations: list)]
            )
            #expect(errorCode { try pipeline.store.apply([batch]) } == .damaged)
            #expect(pipeline.store.applied == before)
        }
        try pipeline.store.verify()
        try pipeline.store.close()
    }
}
