import Catalog
import ContentHashing
import Encryption
import HoldfastNode
import Replication
import StoreModel
import StoreTestKit
import Testing

@testable import Mirroring
@testable import ObjectService

/// Writes that are acknowledged only when mirrors have them.
@Suite struct AcknowledgeTests {
    private struct Watch: MirrorWatch {
        let service: MirrorService

        func outlook(
            of version: VersionRow,
            in mirrors: [String],
            isAwaited: Bool
        ) async throws -> MirrorOutlook {
            try await service.outlook(of: version, in: mirrors, isAwaited: isAwaited)
        }

        func taker(of key: ObjectKey, tags: [NamedValue], in bucket: BucketName, among mirrors: [String])
            async throws -> String?
        {
            try await service.taker(of: key, tags: tags, in: bucket, among: mirrors)
        }
    }

    /// Enough for any machine; nothing waits for it where all is well.
    private static let patient = Duration.seconds(120)

    private static func policy(_ timeout: Duration = patient) throws -> MirrorAcknowledgement {
        try MirrorAcknowledgement(mirrors: ["offsite"], timeout: timeout)
    }

    /// A store whose bucket waits for its mirror, and what works on that mirror.
    private static func fixture(keepsVersions: Bool = true) async throws -> (MirrorFixture, MirrorService) {
        let fixture = try await MirrorFixture(keepsVersions: keepsVersions)
        try await fixture.add()
        let service = fixture.service()
        fixture.objects.mirrorWatch = Watch(service: service)
        return (fixture, service)
    }

    private static func put(
        _ fixture: MirrorFixture,
        _ bytes: [UInt8],
        _ change: (inout PutRequest) throws -> Void = { _ in }
    ) async throws -> VersionRow {
        var request = PutRequest(bucket: fixture.bucket, key: try ObjectKey("a"))
        request.acknowledgement = try policy()
        try change(&request)
        return try await fixture.objects.put(request, body: BufferByteSource(bytes))
    }

    private static func upload(
        _ parts: [[UInt8]],
        _ encryption: EncryptionChoice,
        type: String = "text/plain",
        waits: Bool = true,
        _ fixture: MirrorFixture
    ) async throws -> VersionRow {
        let objects = fixture.objects
        var request = try await fixture.sendParts("a", parts, encryption: encryption, type: type)
        if waits { request.acknowledgement = try policy() }
        let row = try await objects.complete(request)
        // Until it is acknowledged it can be asked once more.
        #expect(try await objects.complete(request).id == row.id)
        await objects.endRepeated(request.upload, answeredWith: row)
        await #expect(throws: StoreError.self) { try await objects.upload(request.upload) }
        return row
    }

    private static func history(_ fixture: MirrorFixture) async throws -> [VersionRow] {
        try await fixture.objects.history(bucket: fixture.bucket, key: try ObjectKey("a"))
    }

    // MARK: The setting

    @Test func aSettingReadsBackAsItWasWrittenAndNothingElseDoes() throws {
        let policy = try MirrorAcknowledgement(mirrors: ["offsite", "b.2"], timeout: .milliseconds(1500))
        #expect(try MirrorAcknowledgement(body: policy.body) == policy)
        for count in 0..<policy.body.count {
            let error = #expect(throws: StoreError.self) {
                try MirrorAcknowledgement(body: Array(policy.body.prefix(count)))
            }
            #expect(error?.code == .storeDamaged)
        }
        let later = #expect(throws: StoreError.self) {
            try MirrorAcknowledgement(body: [2] + policy.body.dropFirst())
        }
        #expect(later?.code == .unsupportedFormat)
        for wrong in [[], ["a", "a"], (0...16).map { "m\($0)" }] {
            #expect(throws: StoreError.self) {
                try MirrorAcknowledgement(mirrors: wrong, timeout: .seconds(1))
            }
        }
        for wrong in [Duration.zero, .milliseconds(99), .seconds(301), .seconds(-1)] {
            #expect(throws: StoreError.self) { try MirrorAcknowledgement(mirrors: ["a"], timeout: wrong) }
        }
    }

    @Test func aMirrorThatABucketWaitsForIsNotRemoved() async throws {
        let (fixture, _) = try await Self.fixture()
        try await fixture.objects.setMirrorAcknowledgement(try Self.policy(), of: fixture.bucket)
        let error = await #expect(throws: StoreError.self) {
            try await fixture.directory.remove(fixture.mirror)
        }
        #expect(error?.code == .conflict && error?.message.contains("models") == true)
        try await fixture.objects.setMirrorAcknowledgement(nil, of: fixture.bucket)
        #expect(try await fixture.objects.mirrorAcknowledgement(of: fixture.bucket) == nil)
        try await fixture.directory.remove(fixture.mirror)
        try await fixture.close()
    }

    // MARK: What is decided

    @Test func whatIsWaitedForAndWhatIsNot() {
        func outlook(
            _ standing: MirrorStanding,
            isThere: Bool = true,
            isPaused: Bool = false,
            _ breaker: CircuitBreaker.State = .closed
        ) -> String {
            switch MirrorOutlook("m", standing, isThere: isThere, isPaused: isPaused, breaker: breaker) {
            case .there: "there"
            case .waiting: "waiting"
            case .blocked: "blocked"
            }
        }
        #expect(outlook(.waiting) == "waiting")
        #expect(outlook(.waiting, .halfOpen) == "waiting")
        #expect(outlook(.waiting, .open) == "blocked")
        #expect(outlook(.waiting, isPaused: true) == "blocked")
        #expect(outlook(.waiting, isThere: false) == "blocked")
        #expect(outlook(.givenUp) == "blocked")
        // What is there is there, whatever the mirror does now; what no rule takes is not waited for.
        for standing in [MirrorStanding.mirrored, .overtaken, .notTaken] {
            #expect(outlook(standing, isPaused: true, .open) == "there")
        }
    }

    // MARK: Waiting

    @Test func aWriteEndsWhenTheBackendHasIt() async throws {
        let (fixture, service) = try await Self.fixture()
        fixture.backend.hold(true)
        let work = Task { await service.run() }
        let row = try await Self.put(fixture, [1])
        let objects = fixture.objects
        let policy = try Self.policy()
        let wait = Task { try await objects.waitForMirrors(policy, of: row) }
        while fixture.backend.heldKeys.isEmpty { try await Task.sleep(for: .milliseconds(5)) }
        // It is on its way, not there: a short wait comes to nothing.
        let error = await #expect(throws: StoreError.self) {
            try await objects.waitForMirrors(try Self.policy(.milliseconds(100)), of: row)
        }
        #expect(error?.code == .notMirrored)
        #expect(error?.message.hasPrefix(StoreError.notMirroredBeginning) == true)
        #expect(error?.message.contains(row.id.description) == true)
        #expect(fixture.backend.history("models/a").isEmpty)
        fixture.backend.hold(false)
        try await wait.value
        #expect(fixture.backend.history("models/a").map(\.bytes) == [[1]])
        work.cancel()
        await work.value
        try await fixture.close()
    }

    @Test func whatNoRuleTakesAndABucketWithoutMirrorsWaitForNothing() async throws {
        let fixture = try await MirrorFixture()
        try await fixture.add(rules: [MirrorRule(bucketPattern: "models", keyPrefix: Array("kept/".utf8))])
        fixture.objects.mirrorWatch = Watch(service: fixture.service())
        let other = try await fixture.put("other", [1])
        // Nobody works on the mirror: only what needs no wait ends.
        try await fixture.objects.waitForMirrors(try Self.policy(), of: other)
        let kept = try await fixture.put("kept/a", [1])
        await #expect(throws: StoreError.self) {
            try await fixture.objects.waitForMirrors(try Self.policy(.milliseconds(100)), of: kept)
        }
        try await fixture.close()
    }

    @Test func nobodyWaitsForAPausedMirrorForOneThatIsGoneOrForWhatWasGivenUp() async throws {
        let (fixture, _) = try await Self.fixture()
        let row = try await Self.put(fixture, [1])
        try await fixture.directory.setPaused(fixture.mirror, true)
        func refusal(_ mirror: String) async throws -> String? {
            let policy = try MirrorAcknowledgement(mirrors: [mirror], timeout: Self.patient)
            let error = await #expect(throws: StoreError.self) {
                try await fixture.objects.waitForMirrors(policy, of: row)
            }
            return error?.message
        }
        #expect(try await refusal("offsite")?.contains("paused") == true)
        #expect(try await refusal("nobody")?.contains("there is no mirror") == true)
        try await fixture.directory.setPaused(fixture.mirror, false)
        fixture.backend.poison("models/a", MirrorFailure(.rejected, "Never."))
        try await fixture.drain()
        #expect(try await refusal("offsite")?.contains("given up") == true)
        try await fixture.close()
    }

    @Test(arguments: [true, false])
    func aVersionThatWasGivenUpStandsInTheWayOfNewOnesWhereOrderCountsOnly(_ keepsVersions: Bool) async throws
    {
        let (fixture, service) = try await Self.fixture(keepsVersions: keepsVersions)
        fixture.backend.poison("models/a", MirrorFailure(.rejected, "Never."))
        let work = Task { await service.run() }
        let old = try await Self.put(fixture, [1])
        func refusal(_ row: VersionRow) async throws -> String {
            let error = await #expect(throws: StoreError.self) {
                try await fixture.objects.waitForMirrors(try Self.policy(), of: row)
            }
            return error?.message ?? ""
        }
        let first = try await refusal(old)
        #expect(first.contains(old.id.description) && first.contains("holdfast mirror retry offsite"))
        fixture.backend.poison("models/a", false)
        // The same once more is the version that was given up: nothing is made again and again.
        #expect(try await Self.put(fixture, [1]).id == old.id)
        let new = try await Self.put(fixture, [2])
        if keepsVersions {
            // At once, whatever the time that the bucket gives; with the version that is in the way.
            let second = try await refusal(new)
            #expect(second.contains("the version \(old.id)"), "\(second)")
            #expect(second.contains("holdfast mirror retry offsite"), "\(second)")
            // Another key is not concerned.
            let other = try await fixture.put("b", [3])
            try await fixture.objects.waitForMirrors(try Self.policy(), of: other)
            _ = try await fixture.directory.retry(fixture.mirror)
            service.nudge(try await fixture.directory.mirror(fixture.mirror).id)
        }
        // The nudge is taken up by the worker's next turn.
        while true {
            do {
                try await fixture.objects.waitForMirrors(try Self.policy(), of: new)
                break
            } catch let error as StoreError where error.code == .notMirrored {
                try await Task.sleep(for: .milliseconds(20))
            }
        }
        let expected: [[UInt8]] = keepsVersions ? [[1], [2]] : [[2]]
        #expect(fixture.backend.history("models/a").map(\.bytes) == expected)
        work.cancel()
        await work.value
        try await fixture.close()
    }

    @Test func anUploadInPartsThatIsMadeAnewGivesTheVersionThatWaits() async throws {
        let (fixture, _) = try await Self.fixture()
        let objects = fixture.objects
        func upload(_ parts: [[UInt8]], type: String = "text/plain", waits: Bool = true) async throws
            -> VersionRow
        {
            try await Self.upload(parts, .none, type: type, waits: waits, fixture)
        }
        let parts = [noise(5 << 20, 1), noise(70_000, 2)]
        let first = try await upload(parts)
        #expect(try await upload(parts).id == first.id)
        // Also when more is known of it than of the one that is put together.
        #expect(try await objects.findSHA256(of: first, in: fixture.bucket) != nil)
        #expect(try await upload(parts).id == first.id)
        #expect(try await Self.history(fixture).count == 1)
        #expect(try await upload(parts, type: "text/html").id != first.id)
        let newest = try await upload(parts)
        #expect(newest.id != first.id)
        #expect(try await upload([parts[0], noise(70_000, 3)]).id != newest.id)
        let last = try await upload(parts)
        #expect(try await upload(parts, waits: false).id != last.id)
        try await fixture.close()
    }

    @Test func encryptedPartsAreComparedAsTheyAreInside() async throws {
        let (fixture, _) = try await Self.fixture()
        // More chunks than a row holds.
        let parts = [[UInt8](repeating: 7, count: 18 << 20), noise(70_000, 2)]
        let first = try await Self.upload(parts, .storeKey, fixture)
        #expect(try await Self.upload(parts, .storeKey, fixture).id == first.id)
        #expect(try await Self.history(fixture).count == 1)
        #expect(try await Self.upload(parts, .storeKey, type: "text/html", fixture).id != first.id)
        let short = [noise(5 << 20, 1), noise(70_000, 2)]
        let sealed = try await Self.upload(short, .storeKey, fixture)
        #expect(try await Self.upload([short[0], noise(70_000, 3)], .storeKey, fixture).id != sealed.id)
        // Plain bytes are no sealed ones.
        let again = try await Self.upload(short, .storeKey, fixture)
        #expect(try await Self.upload(short, .none, fixture).id != again.id)
        try await fixture.close()
    }

    @Test func whatAClientsKeySealsIsNeverTakenForTheSame() async throws {
        let (fixture, _) = try await Self.fixture()
        fixture.objects.mirrorWatch = Waiting()
        let key = try #require(EncryptionKey([UInt8](repeating: 9, count: 32)))
        let parts = [noise(5 << 20, 1), noise(70_000, 2)]
        let first = try await Self.upload(parts, .clientKey(key), fixture)
        #expect(try await Self.upload(parts, .clientKey(key), fixture).id != first.id)
        try await fixture.close()
    }

    /// A mirror that has nothing and takes everything, also what it can't have.
    private struct Waiting: MirrorWatch {
        func outlook(
            of version: VersionRow,
            in mirrors: [String],
            isAwaited: Bool
        ) async throws -> MirrorOutlook { .waiting(mirror: mirrors[0]) }

        func taker(of key: ObjectKey, tags: [NamedValue], in bucket: BucketName, among mirrors: [String])
            async throws -> String?
        { nil }
    }

    @Test func onlyWhoWaitsKeepsAMirrorFromYielding() async throws {
        let (fixture, service) = try await Self.fixture()
        let objects = fixture.objects
        try await objects.setMirrorAcknowledgement(try Self.policy(), of: fixture.bucket)
        fixture.backend.hold(true)
        let work = Task { await service.run() }
        let row = try await Self.put(fixture, [1])
        while fixture.backend.heldKeys.isEmpty { try await Task.sleep(for: .milliseconds(5)) }
        let id = try await fixture.directory.mirror(fixture.mirror).id
        let yield = try #require(service.worker(id)).yield
        let bucket = fixture.bucket
        try await fixture.store.replicator.clientLoad.run {
            #expect(yield.isYielding)
            let wait = try await objects.mirrorWait(for: row, in: bucket, isAwaited: false)
            #expect(wait == Self.patient)
            // Nor does who compares what it is about to put.
            #expect(try await Self.put(fixture, [1]).id == row.id)
            #expect(yield.isYielding)
            // Who waits does so by looking again and again.
            while yield.isYielding {
                _ = try await objects.mirrorWait(for: row, in: bucket, isAwaited: true)
            }
        }
        fixture.backend.hold(false)
        try await objects.waitForMirrors(try Self.policy(), of: row)
        work.cancel()
        await work.value
        try await fixture.close()
    }

    @Test func whoReadsForADigestKeepsNothingFromWorking() async throws {
        let (fixture, _) = try await Self.fixture()
        let row = try await Self.upload([noise(5 << 20, 1), noise(5 << 20, 2)], .none, waits: false, fixture)
        #expect(row.sha256 == nil)
        let load = fixture.store.replicator.clientLoad
        while load.isBusy { try await Task.sleep(for: .milliseconds(5)) }
        // Its own budget, the mirrors' and the scrubs' look at the same.
        #expect(try await fixture.store.digests.findNext())
        #expect(!load.isBusy)
        #expect(fixture.store.digests.counts.byteCount == 10 << 20)
        try await fixture.close()
    }

    @Test func whatAMirrorReadsForADigestIsReadOnce() async throws {
        let (fixture, _) = try await Self.fixture()
        let parts = [noise(5 << 20, 1), noise(5 << 20, 2)]
        let row = try await Self.upload(parts, .none, waits: false, fixture)
        #expect(row.sha256 == nil)
        #expect(try await fixture.drain().pendingCount == 0)
        let digest = SHA256Hasher.hash(parts[0] + parts[1])
        let mirrored = try #require(fixture.backend.history("models/a").last)
        #expect(mirrored.properties.userMetadata.contains { $0.1 == digest.hex })
        #expect(mirrored.bytes == parts[0] + parts[1])
        #expect(try await fixture.store.digests.findNext())
        #expect(fixture.store.digests.counts.byteCount == 0)
        #expect(fixture.store.digests.counts.foundCount == 1)
        #expect(try await fixture.objects.head(fixture.address("a")).sha256 == digest)
        try await fixture.close()
    }

    @Test func overwrittenBytesAreWaitedForUntilThoseThatCountAreThere() async throws {
        let (fixture, service) = try await Self.fixture(keepsVersions: false)
        let first = try await Self.put(fixture, [1])
        let second = try await Self.put(fixture, [2])
        fixture.backend.hold(true)
        let work = Task { await service.run() }
        // The task of the first is done without a word to the backend; that of the second waits there.
        while fixture.backend.heldKeys.isEmpty { try await Task.sleep(for: .milliseconds(5)) }
        let standing = try await fixture.directory.standing(
            of: first,
            in: try await fixture.directory.mirror(fixture.mirror)
        )
        #expect(standing == .overtaken)
        await #expect(throws: StoreError.self) {
            try await fixture.objects.waitForMirrors(try Self.policy(.milliseconds(100)), of: first)
        }
        fixture.backend.hold(false)
        try await fixture.objects.waitForMirrors(try Self.policy(), of: first)
        try await fixture.objects.waitForMirrors(try Self.policy(), of: second)
        #expect(fixture.backend.history("models/a").map(\.bytes) == [[2]])
        work.cancel()
        await work.value
        try await fixture.close()
    }

    // MARK: The same once more

    @Test func whoRepeatsAPutThatWaitsGetsTheSameVersion() async throws {
        let (fixture, _) = try await Self.fixture()
        let bytes = noise(300_000, 3)
        let first = try await Self.put(fixture, bytes)
        #expect(try await Self.put(fixture, bytes).id == first.id)
        #expect(try await Self.history(fixture).count == 1)
        // Anything else is another version.
        let changes: [(inout PutRequest) throws -> Void] = [
            { $0.metadata.contentType = "text/plain" }, { $0.tags = [NamedValue("k", "v")] },
            { $0.attributes.legalHold = true }, { $0.checksum = .crc32c }, { $0.acknowledgement = nil },
            { $0.conditions.ifMatch = .any }, { $0.encryption = .storeKey },
        ]
        for (number, change) in changes.enumerated() {
            // The plain one is the newest again.
            let plain = try await Self.put(fixture, bytes)
            #expect(try await Self.put(fixture, bytes, change).id != plain.id, "change \(number)")
        }
        let newest = try await Self.put(fixture, bytes)
        #expect(try await Self.put(fixture, bytes.dropLast() + [bytes[0] ^ 1]).id != newest.id)
        // A client that asks to be the first is told that it isn't.
        let error = await #expect(throws: StoreError.self) {
            try await Self.put(fixture, bytes) { $0.conditions.ifNoneMatch = .any }
        }
        #expect(error?.code == .preconditionFailed)
        // Once the mirror has it, the same bytes are a version of their own again.
        try await fixture.drain()
        let count = try await Self.history(fixture).count
        let again = try await Self.put(fixture, bytes)
        #expect(try await Self.history(fixture).first?.id == again.id)
        #expect(try await Self.history(fixture).count == count + 1)
        try await fixture.close()
    }

    @Test func encryptedBytesAreComparedAsTheyAreInside() async throws {
        let (fixture, _) = try await Self.fixture()
        let bytes = noise(200_000, 4)
        let first = try await Self.put(fixture, bytes) { $0.encryption = .storeKey }
        #expect(try await Self.put(fixture, bytes) { $0.encryption = .storeKey }.id == first.id)
        #expect(try await Self.put(fixture, noise(200_000, 5)) { $0.encryption = .storeKey }.id != first.id)
        try await fixture.close()
    }

    @Test func aLockByTheBucketsRuleIsThatOfTheFirstAttempt() async throws {
        let (fixture, _) = try await Self.fixture()
        func put(_ until: Int64, isDefault: Bool) async throws -> VersionRow {
            try await Self.put(fixture, [1]) { request in
                request.attributes.retention = ObjectRetention(
                    mode: .governance,
                    until: Timestamp(milliseconds: until)
                )
                request.retentionIsDefault = isDefault
            }
        }
        let first = try await put(4_000_000_000_000, isDefault: true)
        #expect(try await put(4_000_000_001_000, isDefault: true).id == first.id)
        #expect(try await put(4_000_000_002_000, isDefault: false).id != first.id)
        try await fixture.close()
    }

    @Test func whoRepeatsACopyThatWaitsGetsTheSameVersion() async throws {
        let (fixture, _) = try await Self.fixture()
        let source = try await fixture.put("source", noise(1000, 6))
        let policy = try Self.policy()
        let bucket = fixture.bucket
        func command(_ tags: [NamedValue]? = nil) throws -> CopyCommand {
            CopyCommand(
                source: try fixture.address("source"),
                bucket: bucket,
                key: try ObjectKey("a"),
                tags: tags
            )
        }
        func known(_ command: CopyCommand) async throws -> VersionRow? {
            try await fixture.objects.versionToWaitFor(
                command,
                source: source,
                isDefaultRetention: true,
                policy
            )
        }
        #expect(try await known(command()) == nil)
        let made = try await fixture.objects.copy(command())
        #expect(try await known(command())?.id == made.id)
        #expect(try await known(command([NamedValue("k", "v")])) == nil)
        try await fixture.drain()
        #expect(try await known(command()) == nil)
        try await fixture.close()
    }
}
