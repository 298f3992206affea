import Catalog
import StoreModel
import Testing

/// Decisions one by one; ModelTests in CatalogSQLiteTests explore them at random.
@Suite struct DeciderTests {
    private final class Fixture {
        let index = MemoryCatalog()
        var decider = CatalogDecider(applied: .empty, buckets: [])
        let random = CountingNumbers()
        var now = Timestamp(milliseconds: 1000)
        let bucket: BucketName
        let key: ObjectKey

        init(_ versioning: VersioningState) throws {
            bucket = try BucketName("bucket")
            key = try ObjectKey("key")
            try run(.createBucket(bucket, versioning: versioning, owner: nil))
        }

        /// Decides and leaves it pending.
        func decide(_ command: CatalogCommand, operation: UInt64 = 0) throws(DecisionFailure) -> Decision {
            try decider.decide(
                command,
                operation: UniqueID(high: 0, low: operation == 0 ? random.next() : operation),
                now: now,
                random: random,
                reader: index
            )
        }

        @discardableResult
        func run(_ command: CatalogCommand) throws -> CatalogOutcome {
            let decision = try decide(command)
            if let entry = decision.entry {
                index.apply(entry)
                decider.noteApplied(through: entry.sequence)
            }
            return decision.outcome
        }

        func put(_ etag: String, _ conditions: Conditions = .none) -> CatalogCommand {
            .putObject(
                PutCommand(
                    bucket: bucket,
                    key: key,
                    content: ObjectContent(
                        size: 1,
                        etag: etag,
                        checksums: ObjectChecksums(),
                        manifest: .inline([])
                    ),
                    conditions: conditions
                )
            )
        }

        func delete(_ conditions: Conditions = .none) -> CatalogCommand {
            .deleteObject(bucket: bucket, key: key, conditions: conditions)
        }

        func remove(_ selector: VersionSelector) -> CatalogCommand {
            .deleteVersion(VersionAddress(bucket: bucket, key: key, selector: selector))
        }

        /// ETags newest first; "-" is a delete marker, "0" in front marks the null version.
        var history: [String] {
            let id = BucketID(rawValue: 1)
            return index.log(bucket: id, key: key, before: nil, limit: .max).map {
                ($0.isNull ? "0" : "") + ($0.isDeleteMarker ? "-" : $0.etag)
            }
        }
    }

    private func failure(_ body: () throws(DecisionFailure) -> Void) -> DecisionFailure? {
        do {
            try body()
            return nil
        } catch {
            return error
        }
    }

    @Test func withoutVersioningAnOverwriteReplacesAndADeleteRemoves() throws {
        let fixture = try Fixture(.off)
        try fixture.run(fixture.put("a"))
        guard case .version(let row, let replaced) = try fixture.run(fixture.put("b")) else {
            Issue.record("a put makes a version")
            return
        }
        #expect(replaced?.etag == "a")
        #expect(row.isNull)
        #expect(fixture.history == ["0b"])
        #expect(try fixture.run(fixture.delete()) == .deleted(marker: nil, removed: row))
        #expect(fixture.history == [])
        #expect(try fixture.run(fixture.delete()) == .deleted(marker: nil, removed: nil))
    }

    @Test func withVersioningEverythingIsKept() throws {
        let fixture = try Fixture(.enabled)
        try fixture.run(fixture.put("a"))
        try fixture.run(fixture.put("b"))
        try fixture.run(fixture.delete())
        try fixture.run(fixture.delete())
        #expect(fixture.history == ["-", "-", "b", "a"])
        // Deleting the markers brings the object back, deleting the newest version brings the one before.
        try fixture.run(fixture.remove(.newest))
        try fixture.run(fixture.remove(.newest))
        #expect(fixture.history == ["b", "a"])
        try fixture.run(fixture.remove(.newest))
        #expect(fixture.history == ["a"])
    }

    @Test func aSuspendedBucketReplacesOnlyTheNullVersion() throws {
        let fixture = try Fixture(.off)
        try fixture.run(fixture.put("a"))
        try fixture.run(.setVersioning(fixture.bucket, .enabled))
        try fixture.run(fixture.put("b"))
        #expect(fixture.history == ["b", "0a"])
        try fixture.run(.setVersioning(fixture.bucket, .suspended))
        try fixture.run(fixture.put("c"))
        #expect(fixture.history == ["0c", "b"])
        try fixture.run(fixture.delete())
        #expect(fixture.history == ["0-", "b"])
        try fixture.run(fixture.delete())
        #expect(fixture.history == ["0-", "b"])
        try fixture.run(fixture.remove(.null))
        #expect(fixture.history == ["b"])
        let refusal = failure { () throws(DecisionFailure) in
            _ = try fixture.decide(.setVersioning(fixture.bucket, .off))
        }
        #expect(refusal?.error.code == .invalidArgument)
    }

    @Test func anUnconditionalPutToAVersionedBucketReadsNothing() throws {
        let fixture = try Fixture(.enabled)
        let before = fixture.index.readCount
        for number in 0..<50 { _ = try fixture.decide(fixture.put("\(number)")) }
        _ = try fixture.decide(fixture.delete())
        #expect(fixture.index.readCount == before)
    }

    @Test func conditionsHoldAgainstPendingRows() throws {
        let fixture = try Fixture(.enabled)
        let first = try fixture.decide(fixture.put("a", Conditions(ifNoneMatch: .any)))
        let second = failure { () throws(DecisionFailure) in
            _ = try fixture.decide(fixture.put("b", Conditions(ifNoneMatch: .any)))
        }
        #expect(second?.error.code == .preconditionFailed)
        #expect(second?.dependsOn == first.entry?.sequence)
        _ = try fixture.decide(fixture.put("b", Conditions(ifMatch: .oneOf(["x", "a"]))))
        let third = failure { () throws(DecisionFailure) in
            _ = try fixture.decide(fixture.delete(Conditions(ifMatch: .oneOf(["a"]))))
        }
        #expect(third?.error.code == .preconditionFailed)
        _ = try fixture.decide(fixture.delete(Conditions(ifMatch: .any)))
        let fourth = failure { () throws(DecisionFailure) in
            _ = try fixture.decide(fixture.delete(Conditions(ifMatch: .any)))
        }
        #expect(fourth?.error.code == .noSuchKey)
        #expect(fourth?.dependsOn != nil)
    }

    @Test func aFailureOnCommittedRowsDependsOnNothing() throws {
        let fixture = try Fixture(.enabled)
        try fixture.run(fixture.put("a"))
        let refusal = failure { () throws(DecisionFailure) in
            _ = try fixture.decide(fixture.put("b", Conditions(ifNoneMatch: .any)))
        }
        #expect(refusal?.error.code == .preconditionFailed)
        #expect(refusal?.dependsOn == nil)
    }

    @Test func whatIsNeverCommittedStaysPending() throws {
        let fixture = try Fixture(.enabled)
        let blocked = try fixture.decide(fixture.put("a"))
        fixture.decider.noteApplied(through: fixture.index.applied.lastVersionSequence)
        #expect(fixture.decider.pendingCount == 1)
        let sequence = try #require(blocked.entry?.sequence)
        // The index has it, the decider isn't told yet, and another decision comes in between.
        fixture.index.apply(try #require(blocked.entry))
        let second = try fixture.decide(fixture.remove(.newest))
        #expect(second.outcome != .deleted(marker: nil, removed: nil))
        fixture.decider.noteApplied(through: sequence)
        #expect(fixture.decider.pendingCount == 1)
        let nothing = try fixture.decide(fixture.remove(.newest))
        #expect(nothing.entry == nil)
        #expect(nothing.dependsOn == second.entry?.sequence)
    }

    @Test func aBucketIsEmptyOnlyWithoutVersionsAndMarkers() throws {
        let fixture = try Fixture(.enabled)
        func deletion() -> DecisionFailure? {
            failure { () throws(DecisionFailure) in _ = try fixture.decide(.deleteBucket(fixture.bucket)) }
        }
        let marker = try fixture.decide(fixture.delete())
        #expect(deletion()?.error.code == .bucketNotEmpty)
        #expect(deletion()?.dependsOn == marker.entry?.sequence)
        fixture.index.apply(try #require(marker.entry))
        fixture.decider.noteApplied(through: fixture.decider.lastSequence)
        #expect(deletion()?.dependsOn == nil)
        _ = try fixture.decide(fixture.remove(.newest))
        let removal = try fixture.decide(.deleteBucket(fixture.bucket))
        #expect(fixture.decider.stateHash == .zero)
        let missing = failure { () throws(DecisionFailure) in _ = try fixture.decide(fixture.put("a")) }
        #expect(missing?.error.code == .noSuchBucket)
        #expect(missing?.dependsOn == removal.entry?.sequence)
    }

    @Test func timeNeverGoesBackAndSequencesOnlyGrow() throws {
        let fixture = try Fixture(.enabled)
        var last = (time: Timestamp(milliseconds: 0), sequence: UInt64(0))
        for time in [5000, 10, 4000, 6000, 1] {
            fixture.now = Timestamp(milliseconds: Int64(time))
            guard case .version(let row, _) = try fixture.run(fixture.put("a")) else { continue }
            #expect(row.createdAt >= last.time)
            #expect(row.id.sequence > last.sequence)
            last = (row.createdAt, row.id.sequence)
        }
        #expect(last.time == Timestamp(milliseconds: 6000))
    }

    @Test func aRestoreIsACopyOfTheOlderVersionAsTheNewest() throws {
        let fixture = try Fixture(.enabled)
        guard case .version(let old, _) = try fixture.run(fixture.put("a")) else { return }
        try fixture.run(fixture.put("b"))
        try fixture.run(fixture.delete())
        let marker = fixture.index.version(bucket: old.bucket, key: old.key, selector: .newest)
        let restore = CatalogCommand.restore(bucket: fixture.bucket, key: fixture.key, version: old.id)
        guard case .version(let row, _) = try fixture.run(restore) else { return }
        #expect(row.content == old.content)
        #expect(row.restoredFrom == old.id)
        #expect(fixture.history == ["a", "-", "b", "a"])
        let refusal = failure { () throws(DecisionFailure) in
            guard let marker else { return }
            _ = try fixture.decide(.restore(bucket: fixture.bucket, key: fixture.key, version: marker.id))
        }
        #expect(refusal?.error.code == .methodNotAllowed)
    }

    @Test func aRetryFindsWhatItsFirstAttemptDid() throws {
        let fixture = try Fixture(.enabled)
        let operation = UniqueID(high: 0, low: 9999)
        func earlier() throws -> EarlierOutcome? {
            try fixture.decider.earlierOutcome(
                of: operation,
                bucket: fixture.bucket,
                key: fixture.key,
                reader: fixture.index
            )
        }
        #expect(try earlier() == nil)
        let decision = try fixture.decide(fixture.put("a"), operation: 9999)
        #expect(try earlier()?.pendingSequence == decision.entry?.sequence)
        #expect(try earlier()?.row?.etag == "a")
        fixture.index.apply(try #require(decision.entry))
        fixture.decider.noteApplied(through: fixture.decider.lastSequence)
        #expect(try earlier()?.pendingSequence == nil)
        #expect(try earlier()?.row?.etag == "a")
    }

    @Test func rowsAreBounded() throws {
        let fixture = try Fixture(.enabled)
        func refusal(_ metadata: ObjectMetadata, _ tags: [NamedValue] = []) -> StoreError.Code? {
            failure { () throws(DecisionFailure) in
                let put = PutCommand(
                    bucket: fixture.bucket,
                    key: fixture.key,
                    content: .nothing,
                    metadata: metadata,
                    tags: tags
                )
                _ = try fixture.decide(.putObject(put))
            }?.error.code
        }
        let long = String(repeating: "x", count: 2049)
        #expect(refusal(ObjectMetadata(userMetadata: [NamedValue("a", long)])) == .metadataTooLarge)
        #expect(refusal(ObjectMetadata(userMetadata: [NamedValue("", "a")])) == .invalidArgument)
        #expect(
            refusal(ObjectMetadata(otherHeaders: Array(repeating: NamedValue("a", long), count: 5)))
                == .metadataTooLarge
        )
        #expect(refusal(ObjectMetadata(), [NamedValue("a", "1"), NamedValue("a", "2")]) == .invalidArgument)
        #expect(refusal(ObjectMetadata(), (0..<11).map { NamedValue("\($0)", "") }) == .invalidArgument)
        #expect(refusal(ObjectMetadata()) == nil)
    }
}
