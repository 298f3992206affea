import Catalog
import CatalogSQLite
import Foundation
import StoreModel
import Testing

/// The decider, the log's form and the index against a dictionary, at random.
@Suite struct ModelTests {
    static let seeds: [UInt64] =
        ProcessInfo.processInfo.environment["CATALOG_SEED"].flatMap { UInt64($0) }
        .map { [$0] } ?? [1, 2, 3, 4, 5, 6]

    private struct Generator {
        let random: SeededNumbers
        let buckets: [BucketName]
        let keys: [ObjectKey]
        var ids: [VersionID] = []
        var etags: [String] = ["none"]
        var number: UInt64 = 0

        init(_ random: SeededNumbers) throws {
            self.random = random
            buckets = try ["aaa", "bbb", "ccc"].map { try BucketName($0) }
            keys = try ["a", "a/b", "a/c", "b", "é", "\u{10FFFF}"].map { try ObjectKey($0) }
        }

        mutating func command() -> CatalogCommand {
            let bucket = random.element(buckets)
            let key = random.element(keys)
            number += 1
            switch random.below(50) {
            case 0:
                return .createBucket(bucket, versioning: random.element(VersioningState.allCases), owner: nil)
            case 1: return .deleteBucket(bucket)
            case 2: return .setVersioning(bucket, random.element(VersioningState.allCases))
            case 3..<17:
                let tags = random.chance(3) ? [NamedValue("n", "\(number)")] : []
                return .putObject(
                    PutCommand(
                        bucket: bucket,
                        key: key,
                        content: content(number),
                        tags: tags,
                        conditions: conditions()
                    )
                )
            case 17..<22: return .deleteObject(bucket: bucket, key: key, conditions: conditions())
            case 22..<31:
                return .deleteVersion(VersionAddress(bucket: bucket, key: key, selector: selector()))
            case 31..<33: return .restore(bucket: bucket, key: key, version: id())
            case 33..<36:
                let source = VersionAddress(
                    bucket: random.element(buckets),
                    key: random.element(keys),
                    selector: selector()
                )
                return .copy(
                    CopyCommand(
                        source: source,
                        bucket: bucket,
                        key: key,
                        metadata: random.chance(2) ? nil : ObjectMetadata(contentType: "x"),
                        tags: random.chance(2) ? nil : [NamedValue("copied", "\(number)")],
                        conditions: conditions()
                    )
                )
            case 36..<40:
                return .setTags(
                    VersionAddress(bucket: bucket, key: key, selector: selector()),
                    [NamedValue("set", "\(random.below(3))")]
                )
            case 40..<42:
                return .setAttributes(
                    VersionAddress(bucket: bucket, key: key, selector: selector()),
                    [AttributeChange(.legalHold, [random.chance(3) ? 1 : 0])]
                )
            case 42:
                let body: [UInt8]? = random.chance(3) ? nil : [UInt8(random.below(3))]
                return .setBucketSettings(
                    bucket,
                    [BucketSetting(name: random.element(["policy", "cors"]), body: body)]
                )
            default: return .documents(writes())
            }
        }

        private func writes() -> [DocumentWrite] {
            var names: Set<DocumentName> = []
            for _ in 0...random.below(3) {
                names.insert(
                    DocumentName(random.element([.account, .upload]), [UInt8(random.below(4)), 0xFF])
                )
            }
            return names.sorted().map { name in
                let body: [UInt8] = [UInt8(random.below(3))]
                let expectation: DocumentExpectation =
                    switch random.below(6) {
                    case 0: .absent
                    case 1: .present
                    case 2: .equals(body)
                    default: .any
                    }
                let change: DocumentWrite.Change =
                    switch random.below(5) {
                    case 0: .keep
                    case 1: .remove
                    default: .put(body: body, payload: nil)
                    }
                return DocumentWrite(
                    space: name.space,
                    key: name.key,
                    expectation: expectation,
                    change: change,
                    refusal: .noSuchUpload
                )
            }
        }

        private func conditions() -> Conditions {
            switch random.below(12) {
            case 0: Conditions(ifMatch: .any)
            case 1: Conditions(ifNoneMatch: .any)
            case 2: Conditions(ifMatch: .oneOf(etags.suffix(12)))
            case 3: Conditions(ifNoneMatch: .oneOf(etags.suffix(6)))
            default: .none
            }
        }

        private func id() -> VersionID {
            ids.isEmpty ? VersionID(sequence: 7, nonce: 7) : random.element(ids.suffix(60))
        }

        private func selector() -> VersionSelector {
            switch random.below(6) {
            case 0, 1: .newest
            case 2: .null
            default: .id(id())
            }
        }
    }

    private func effect(_ outcome: CatalogOutcome) -> ReferenceModel.Effect {
        switch outcome {
        case .bucket, .none: .init()
        case .version(let row, let replaced):
            .init(made: row.id, removed: replaced?.id == row.id ? nil : replaced?.id)
        case .deleted(let marker, let removed): .init(made: marker?.id, removed: removed?.id)
        }
    }

    private func newID(_ outcome: CatalogOutcome?) -> VersionID? {
        switch outcome {
        case .version(let row, _): row.id
        case .deleted(let marker, _): marker?.id
        default: nil
        }
    }

    @Test(arguments: seeds) func aThousandMutationsComeToWhatS3WouldHold(seed: UInt64) throws {
        let directory = try TemporaryDirectory()
        let path = directory.file("catalog.sqlite")
        let pipeline = try Pipeline(try SQLiteCatalog(path: path), seed: seed)
        let random = pipeline.random
        var generator = try Generator(random)
        var model = ReferenceModel()
        for bucket in generator.buckets {
            let command = CatalogCommand.createBucket(bucket, versioning: .enabled, owner: nil)
            _ = try pipeline.decide(command)
            _ = model.perform(command, id: VersionID(sequence: 0, nonce: 0))
        }
        for step in 0..<3000 {
            // The wall clock jumps about.
            pipeline.now = Timestamp(milliseconds: 1_000_000 + Int64(random.below(1000)))
            let command = generator.command()
            let isPending = pipeline.decider.pendingCount > 0
            do {
                let decision = try pipeline.decide(command)
                let id = newID(decision.outcome) ?? VersionID(sequence: 0, nonce: 0)
                let expected = model.perform(command, id: id)
                #expect(
                    expected == .success(effect(decision.outcome)),
                    "seed \(seed) step \(step): \(command)"
                )
                if let id = newID(decision.outcome) {
                    generator.ids.append(id)
                    generator.etags.append("etag-\(generator.number)")
                }
                #expect(isPending || decision.dependsOn == nil)
            } catch {
                let expected = model.perform(command, id: VersionID(sequence: 0, nonce: 0))
                #expect(
                    expected == .failure(.init(error.error.code)),
                    "seed \(seed) step \(step): \(command): \(error.error)"
                )
                #expect(isPending || error.dependsOn == nil)
            }
            if random.chance(4) { try pipeline.closeBatch() }
            if random.chance(6) { try pipeline.apply(random.below(4)) }
            if random.chance(6) { pipeline.note() }
            if random.chance(400) { try pipeline.replaceStore { try SQLiteCatalog(path: path) } }
            if step % 500 == 499 {
                try pipeline.settle()
                try compare(pipeline, model, "seed \(seed) step \(step)")
            }
        }
        try pipeline.store.close()
        try replay(pipeline, directory)
    }

    private func compare(_ pipeline: Pipeline, _ model: ReferenceModel, _ place: Comment) throws {
        let store = pipeline.store
        try store.verify()
        #expect(store.applied.stateHash == pipeline.decider.stateHash, place)
        #expect(try store.buckets().map(\.name) == model.buckets.keys.sorted(), place)
        for space in [DocumentSpace.account, .upload] {
            let expected = model.documents.filter { $0.key.space == space }.sorted { $0.key < $1.key }
            let found = try store.documents(space, limit: .max)
            #expect(found.map(\.name) == expected.map(\.key), place)
            #expect(found.map(\.body) == expected.map(\.value), place)
        }
        for (name, bucket) in model.buckets {
            let row = try #require(try store.bucket(named: name), place)
            #expect(row.versioning == bucket.versioning, place)
            #expect(try store.bucket(id: row.id) == row, place)
            let prefix = BucketSettingKey.prefix(row.id)
            let settings = try store.documents(.bucketSetting, prefix: prefix, limit: .max)
            let names = settings.map { BucketSettingKey.name(of: $0.key) }
            #expect(names == bucket.settings.keys.sorted(), place)
            for document in settings {
                #expect(bucket.settings[BucketSettingKey.name(of: document.key)] == document.body, place)
            }
            var usage = BucketUsage()
            for (key, versions) in bucket.keys {
                let history = try store.log(bucket: row.id, key: key, before: nil, limit: .max)
                #expect(history.map(version) == versions.reversed(), place)
                #expect(
                    try store.version(bucket: row.id, key: key, selector: .newest) == history.first,
                    place
                )
                let null = try store.version(bucket: row.id, key: key, selector: .null)
                #expect(null.map(version) == versions.first(where: \.isNull), place)
                for old in history {
                    #expect(try store.version(bucket: row.id, key: key, selector: .id(old.id)) == old, place)
                }
                usage.versionCount += UInt64(versions.count { !$0.isMarker })
                usage.versionBytes += versions.reduce(0) { $0 + $1.size }
                usage.deleteMarkerCount += UInt64(versions.count(where: \.isMarker))
                if let last = versions.last, !last.isMarker {
                    usage.objectCount += 1
                    usage.objectBytes += last.size
                }
            }
            #expect(try store.usage(of: row.id) == usage, place)
            let heads = try store.listObjects(ObjectListRequest(bucket: row.id)).objects.map { $0.key }
            let live = bucket.keys.filter { $0.value.last?.isMarker == false }.keys.sorted()
            #expect(heads == live, place)
        }
    }

    private func version(_ row: VersionRow) -> ReferenceModel.Version {
        .init(
            id: row.id,
            isNull: row.isNull,
            isMarker: row.isDeleteMarker,
            etag: row.etag,
            size: row.size,
            tags: row.tags,
            isHeld: row.attributes.legalHold == true
        )
    }

    /// The same log into an empty index, with batches repeated as a replay after a crash repeats them.
    private func replay(_ pipeline: Pipeline, _ directory: TemporaryDirectory) throws {
        let copy = try SQLiteCatalog(path: directory.file("copy.sqlite"))
        var start = 0
        while start < pipeline.batches.count {
            let from = max(0, start - pipeline.random.below(5))
            let end = min(pipeline.batches.count, start + 1 + pipeline.random.below(7))
            try copy.apply(Array(pipeline.batches[from..<end]))
            start = end
        }
        #expect(copy.applied.stateHash == pipeline.decider.stateHash)
        #expect(copy.applied.lastVersionSequence == pipeline.decider.lastSequence)
        #expect(copy.applied.lastTimestamp == pipeline.decider.lastTimestamp)
        try copy.verify()
        try copy.close()
    }
}
