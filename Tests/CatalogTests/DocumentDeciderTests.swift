import Catalog
import ContentHashing
import StoreModel
import Testing

/// Documents, settings, attributes and locks, decision by decision.
@Suite struct DocumentDeciderTests {
    private final class Fixture {
        let index = MemoryCatalog()
        var decider = CatalogDecider(applied: .empty, buckets: [])
        let random = CountingNumbers()
        var now = Timestamp(milliseconds: 1000)
        let bucket: BucketName
        let key: ObjectKey

        init(_ versioning: VersioningState = .enabled) throws {
            bucket = try BucketName("bucket")
            key = try ObjectKey("key")
            try run(.createBucket(bucket, versioning: versioning, owner: "me"))
        }

        func decide(_ command: CatalogCommand) throws(DecisionFailure) -> Decision {
            try decider.decide(
                command,
                operation: UniqueID(high: 0, low: random.next()),
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

        func refusal(_ command: CatalogCommand) -> StoreError.Code? {
            do throws(DecisionFailure) {
                _ = try decide(command)
                return nil
            } catch {
                return error.error.code
            }
        }

        @discardableResult
        func put(_ attributes: VersionAttributes = .none) throws -> VersionRow {
            let content = ObjectContent(
                size: 1,
                etag: "e",
                checksums: ObjectChecksums(),
                manifest: .inline([])
            )
            let command = PutCommand(bucket: bucket, key: key, content: content, attributes: attributes)
            guard case .version(let row, _) = try run(.putObject(command)) else {
                throw StoreError(.internalFault, "A put makes a version.")
            }
            return row
        }

        func address(_ selector: VersionSelector = .newest) -> VersionAddress {
            VersionAddress(bucket: bucket, key: key, selector: selector)
        }
    }

    private func write(
        _ key: UInt8,
        _ body: [UInt8]?,
        _ expectation: DocumentExpectation = .any
    ) -> DocumentWrite {
        DocumentWrite(space: .account, key: [key], expectation: expectation, body: body)
    }

    @Test func anAccountThatOwnsABucketStaysAndABucketNeedsItsOwner() throws {
        let fixture = try Fixture()
        let key = [UInt8](repeating: 0xAB, count: 32)
        let id = String(repeating: "ab", count: 32)
        let removal = CatalogCommand.documents([
            DocumentWrite(
                space: .account,
                key: key,
                expectation: .present,
                body: nil,
                refusal: .noSuchAccount
            )
        ])
        func bucket(_ name: String) throws -> CatalogCommand {
            .createBucket(
                try BucketName(name),
                versioning: .off,
                owner: id,
                requires: [
                    DocumentWrite(
                        space: .account,
                        key: key,
                        expectation: .present,
                        change: .keep,
                        refusal: .accessDenied
                    )
                ]
            )
        }
        #expect(try fixture.refusal(bucket("early")) == .accessDenied)
        try fixture.run(.documents([DocumentWrite(space: .account, key: key, body: [1])]))
        // Decided, and applied to nothing yet: the next decision sees it all the same.
        let made = try fixture.decide(try bucket("owned"))
        #expect(fixture.refusal(removal) == .conflict)
        fixture.index.apply(try #require(made.entry))
        #expect(fixture.refusal(removal) == .conflict)
        try fixture.run(.deleteBucket(try BucketName("owned")))
        _ = try fixture.decide(removal)
        #expect(try fixture.refusal(bucket("late")) == .accessDenied)
    }

    @Test func writesAreDoneTogetherOrNotAtAll() throws {
        let fixture = try Fixture()
        try fixture.run(.documents([write(1, [1], .absent), write(2, [2], .absent)]))
        #expect(fixture.refusal(.documents([write(3, [3]), write(2, [9], .absent)])) == .conflict)
        #expect(fixture.refusal(.documents([write(3, [3]), write(4, nil, .present)])) == .conflict)
        #expect(fixture.index.document(.account, [3]) == nil)
        try fixture.run(.documents([write(1, [5], .equals([1])), write(2, nil, .present)]))
        #expect(fixture.refusal(.documents([write(1, [6], .equals([1]))])) == .conflict)
        #expect(fixture.index.document(.account, [1])?.body == [5])
        #expect(fixture.index.document(.account, [2]) == nil)
        #expect(fixture.refusal(.documents([write(1, [6]), write(1, [7])])) == .internalFault)
        let big = [UInt8](repeating: 0, count: Limits.documentBodySizeMax + 1)
        #expect(fixture.refusal(.documents([write(1, big)])) == .entityTooLarge)
    }

    @Test func aWriteThatChangesNothingIsNoEntry() throws {
        let fixture = try Fixture()
        try fixture.run(.documents([write(1, [1])]))
        #expect(try fixture.decide(.documents([write(1, [1])])).entry == nil)
        #expect(try fixture.decide(.documents([write(2, nil)])).entry == nil)
        let keep = DocumentWrite(space: .account, key: [1], expectation: .present, change: .keep)
        #expect(try fixture.decide(.documents([keep])).entry == nil)
    }

    @Test func expectationsHoldAgainstPendingWrites() throws {
        let fixture = try Fixture()
        let first = try fixture.decide(.documents([write(1, [1], .absent)]))
        do throws(DecisionFailure) {
            _ = try fixture.decide(.documents([write(1, [2], .absent)]))
            Issue.record("The document is there.")
        } catch {
            #expect(error.error.code == .conflict)
            #expect(error.dependsOn == first.entry?.sequence)
        }
        _ = try fixture.decide(.documents([write(1, nil, .equals([1]))]))
        #expect(fixture.refusal(.documents([write(1, [2], .present)])) == .conflict)
        // The index applies the first one; the second is still laid over it.
        fixture.index.apply(try #require(first.entry))
        fixture.decider.noteApplied(through: try #require(first.entry).sequence)
        #expect(fixture.refusal(.documents([write(1, [2], .present)])) == .conflict)
    }

    @Test func aBucketsSettingsGoWithIt() throws {
        let fixture = try Fixture()
        try fixture.run(
            .setBucketSettings(fixture.bucket, [BucketSetting(name: "cors", body: [1])])
        )
        // Pending when the bucket is deleted.
        _ = try fixture.decide(
            .setBucketSettings(fixture.bucket, [BucketSetting(name: "policy", body: [2])])
        )
        let decision = try fixture.decide(.deleteBucket(fixture.bucket))
        let removed = decision.entry?.mutations.compactMap { mutation -> [UInt8]? in
            guard case .removeDocument(let name) = mutation else { return nil }
            return Array(name.key.dropFirst(8))
        }
        #expect(removed == [Array("cors".utf8), Array("policy".utf8)])
        #expect(fixture.decider.stateHash == .zero)
        let again = try fixture.decide(
            .createBucket(
                fixture.bucket,
                versioning: .enabled,
                owner: nil,
                settings: [BucketSetting(name: "acl", body: [3]), BucketSetting(name: "cors", body: nil)]
            )
        )
        #expect(again.entry?.mutations.count == 2)
    }

    @Test func objectLockKeepsVersioningEnabled() throws {
        let fixture = try Fixture(.off)
        let lock = CatalogCommand.setBucketSettings(
            fixture.bucket,
            [BucketSetting(name: BucketSettingName.objectLock, body: [1])]
        )
        #expect(fixture.refusal(lock) == .invalidBucketState)
        try fixture.run(.setVersioning(fixture.bucket, .enabled))
        try fixture.run(lock)
        #expect(fixture.refusal(.setVersioning(fixture.bucket, .suspended)) == .invalidBucketState)
    }

    @Test func aLockedVersionIsNotRemoved() throws {
        let fixture = try Fixture()
        var attributes = VersionAttributes.none
        attributes.retention = ObjectRetention(mode: .governance, until: Timestamp(milliseconds: 5000))
        let row = try fixture.put(attributes)
        let named = fixture.address(.id(row.id))
        #expect(fixture.refusal(.deleteVersion(named)) == .objectLocked)
        // A delete marker hides it; nothing is lost.
        try fixture.run(.deleteObject(bucket: fixture.bucket, key: fixture.key, conditions: .none))
        let hold = CatalogCommand.setAttributes(named, [AttributeChange(.legalHold, [1])])
        try fixture.run(hold)
        #expect(fixture.refusal(.deleteVersion(named, bypassesGovernance: true)) == .objectLocked)
        try fixture.run(.setAttributes(named, [AttributeChange(.legalHold, [0])]))
        #expect(fixture.refusal(.deleteVersion(named)) == .objectLocked)
        fixture.now = Timestamp(milliseconds: 5000)
        let outcome = try fixture.run(.deleteVersion(named))
        guard case .deleted(nil, .some) = outcome else {
            Issue.record("It should be gone: \(outcome)")
            return
        }
    }

    @Test func aNullVersionThatIsHeldIsNotOverwritten() throws {
        let fixture = try Fixture(.off)
        var attributes = VersionAttributes.none
        attributes.legalHold = true
        try fixture.put(attributes)
        #expect(throws: DecisionFailure.self) { try fixture.put() }
        let delete = CatalogCommand.deleteObject(bucket: fixture.bucket, key: fixture.key, conditions: .none)
        #expect(fixture.refusal(delete) == .objectLocked)
    }

    @Test func aRetentionIsMadeLongerButNeitherShorterNorWeaker() throws {
        let fixture = try Fixture()
        func change(_ mode: ObjectRetention.Mode?, _ until: Int64, bypass: Bool = false) -> CatalogCommand {
            let retention = mode.map {
                ObjectRetention(mode: $0, until: Timestamp(milliseconds: until)).bytes
            }
            return .setAttributes(
                fixture.address(),
                [AttributeChange(.retention, retention)],
                bypassesGovernance: bypass
            )
        }
        try fixture.put()
        try fixture.run(change(.governance, 5000))
        #expect(fixture.refusal(change(.governance, 4000)) == .objectLocked)
        #expect(fixture.refusal(change(nil, 0)) == .objectLocked)
        #expect(fixture.refusal(change(.compliance, 6000)) == .objectLocked)
        #expect(fixture.refusal(change(nil, 0, bypass: true)) == nil)
        try fixture.run(change(.governance, 6000))
        try fixture.run(change(.compliance, 6000, bypass: true))
        #expect(fixture.refusal(change(.compliance, 5999, bypass: true)) == .objectLocked)
        #expect(fixture.refusal(change(.governance, 9000, bypass: true)) == .objectLocked)
        #expect(fixture.refusal(change(nil, 0, bypass: true)) == .objectLocked)
        try fixture.run(change(.compliance, 7000))
        fixture.now = Timestamp(milliseconds: 7000)
        #expect(fixture.refusal(change(nil, 0)) == nil)
    }

    @Test func attributesThatBelongToTheBytesGoWithThem() throws {
        let fixture = try Fixture()
        var attributes = VersionAttributes.none
        attributes.owner = "me"
        attributes.encryption = [1]
        attributes.checksumType = .composite
        attributes.legalHold = true
        attributes.accessControlList = [2]
        let row = try fixture.put(attributes)
        #expect(row.attributes.owner == nil, "the bucket's owner goes without saying")
        var own = VersionAttributes.none
        own.owner = "you"
        own.encryption = [9]
        let copy = CopyCommand(
            source: fixture.address(),
            bucket: fixture.bucket,
            key: try ObjectKey("copy"),
            attributes: own
        )
        guard case .version(let copied, _) = try fixture.run(.copy(copy)) else { return }
        #expect(copied.attributes.encryption == [1])
        #expect(copied.attributes.checksumType == .composite)
        #expect(copied.attributes.owner == "you")
        #expect(copied.attributes.legalHold == nil)
        let restore = CatalogCommand.restore(bucket: fixture.bucket, key: fixture.key, version: row.id)
        guard case .version(let restored, _) = try fixture.run(restore) else { return }
        #expect(restored.attributes.legalHold == nil)
        #expect(restored.attributes.accessControlList == [2])
        let change = CatalogCommand.setAttributes(fixture.address(), [AttributeChange(.encryption, nil)])
        #expect(fixture.refusal(change) == .internalFault)
    }

    @Test func whatTheBytesHashToIsNotedOnceAndMakesNoVersion() throws {
        let fixture = try Fixture()
        let row = try fixture.put()
        let digest = [UInt8](repeating: 7, count: 32)
        func note(_ bytes: [UInt8]?) -> CatalogCommand {
            .setAttributes(fixture.address(), [AttributeChange(.wholeSHA256, bytes)])
        }
        #expect(fixture.refusal(note([1])) == .internalFault)
        #expect(fixture.refusal(note(nil)) == .internalFault)
        guard case .version(let noted, _) = try fixture.run(note(digest)) else { return }
        #expect(noted.id == row.id && noted.sha256?.bytes == digest)
        #expect(fixture.refusal(note(digest)) == nil)
        #expect(fixture.refusal(note([UInt8](repeating: 8, count: 32))) == .internalFault)
        // It goes with the bytes.
        let key = try ObjectKey("copy")
        let copy = CopyCommand(source: fixture.address(), bucket: fixture.bucket, key: key)
        guard case .version(let copied, _) = try fixture.run(.copy(copy)) else { return }
        #expect(copied.sha256?.bytes == digest)
        var sealed = VersionAttributes.none
        sealed.encryption = [1]
        try fixture.put(sealed)
        #expect(fixture.refusal(note(digest)) == .internalFault)
    }

    @Test func conditionsKnowTimesAndSizes() throws {
        let fixture = try Fixture()
        fixture.now = Timestamp(milliseconds: 10_500)
        let row = try fixture.put()
        func check(_ conditions: Conditions, on object: VersionRow?) -> StoreError.Code? {
            do throws(StoreError) {
                try conditions.check(on: object, key: fixture.key)
                return nil
            } catch {
                return error.code
            }
        }
        let (before, same) = (Timestamp(milliseconds: 9000), Timestamp(milliseconds: 10_000))
        #expect(check(Conditions(ifModifiedSince: before), on: row) == nil)
        #expect(check(Conditions(ifModifiedSince: same), on: row) == .preconditionFailed)
        #expect(check(Conditions(ifUnmodifiedSince: same), on: row) == nil)
        #expect(check(Conditions(ifUnmodifiedSince: before), on: row) == .preconditionFailed)
        // An ETag that decides makes the time beside it void.
        #expect(check(Conditions(ifMatch: .any, ifUnmodifiedSince: before), on: row) == nil)
        #expect(check(Conditions(ifNoneMatch: .oneOf(["x"]), ifModifiedSince: same), on: row) == nil)
        #expect(check(Conditions(ifSize: 1), on: row) == nil)
        #expect(check(Conditions(ifSize: 2), on: row) == .preconditionFailed)
        #expect(check(Conditions(ifLastModified: same), on: row) == nil)
        #expect(check(Conditions(ifLastModified: before), on: row) == .preconditionFailed)
        #expect(check(Conditions(ifSize: 2), on: nil) == nil)
        #expect(check(Conditions(ifMatch: .any), on: nil) == .noSuchKey)
        let named = CatalogCommand.deleteVersion(
            fixture.address(.id(row.id)),
            conditions: Conditions(ifMatch: .oneOf(["x"]))
        )
        #expect(fixture.refusal(named) == .preconditionFailed)
    }

    @Test func documentsOfAPutAreDecidedWithIt() throws {
        let fixture = try Fixture()
        try fixture.run(.documents([write(1, [1])]))
        func put(_ documents: [DocumentWrite]) -> CatalogCommand {
            .putObject(
                PutCommand(
                    bucket: fixture.bucket,
                    key: fixture.key,
                    content: .nothing,
                    conditions: Conditions(ifNoneMatch: .any),
                    documents: documents
                )
            )
        }
        let ending = DocumentWrite(
            space: .account,
            key: [1],
            expectation: .equals([1]),
            body: nil,
            refusal: .noSuchUpload
        )
        try fixture.run(put([ending]))
        #expect(fixture.index.document(.account, [1]) == nil)
        // The upload is gone, and the key is there: that the upload is gone comes first.
        #expect(fixture.refusal(put([ending])) == .noSuchUpload)
    }
}
