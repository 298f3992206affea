import Catalog
import ContentHashing
import CurlTransport
import Mirroring
import ObjectService
import StoreModel
import Testing

/// Every change of a version leaves its task in the same decision, and no other change does.
@Suite struct OutboxTests {
    @Test func everyKindOfChangeMakesItsTask() async throws {
        let fixture = try await MirrorFixture()
        try await fixture.put("before", [1])
        try await fixture.add()
        #expect(try await fixture.tasks().isEmpty, "what was there before is the worker's business")
        let put = try await fixture.put("a", [1, 2])
        let copy = try await fixture.objects.copy(
            CopyCommand(source: fixture.address("a"), bucket: fixture.bucket, key: ObjectKey("b"))
        )
        _ = try await fixture.objects.setTags(of: fixture.address("a"), to: [NamedValue("k", "v")])
        try await fixture.delete("a")
        let restored = try await fixture.objects.restore(
            bucket: fixture.bucket,
            key: ObjectKey("a"),
            version: put.id
        )
        try await fixture.delete("b", .id(copy.id))
        let tasks = try await fixture.tasks()
        #expect(tasks.map(\.change) == [.made, .made, .changed, .made, .made, .removed])
        #expect(tasks.map(\.key.description) == ["a", "b", "a", "a", "a", "b"])
        #expect(tasks[0].version == put.id && tasks[0].size == 2 && tasks[2].version == put.id)
        #expect(tasks[4].version == restored.id && tasks[5].version == copy.id)
        #expect(tasks.map(\.sequence) == tasks.map(\.sequence).sorted())
        try await fixture.close()
    }

    @Test func anOverwriteWithoutHistoryNamesWhatItReplaced() async throws {
        let fixture = try await MirrorFixture(versioning: .off)
        try await fixture.add()
        let first = try await fixture.put("a", [1])
        let second = try await fixture.put("a", [2])
        try await fixture.delete("a")
        let tasks = try await fixture.tasks()
        #expect(tasks.map(\.change) == [.made, .made, .removed])
        #expect(tasks[1].replaced == first.id && tasks[1].version == second.id)
        #expect(tasks[2].version == second.id && tasks[2].replaced == nil)
        try await fixture.close()
    }

    @Test func rulesChooseByBucketPrefixAndTag() async throws {
        let fixture = try await MirrorFixture()
        try await fixture.add(rules: [
            MirrorRule(bucketPattern: "mod*", keyPrefix: Array("keep/".utf8)),
            MirrorRule(bucketPattern: "*", tag: NamedValue("tier", "gold")),
            MirrorRule(bucketPattern: "other-?"),
        ])
        try await fixture.put("keep/a", [1])
        try await fixture.put("drop/a", [1])
        try await fixture.put("drop/b", [1], tags: [NamedValue("tier", "gold")])
        #expect(try await fixture.tasks().map(\.key.description) == ["keep/a", "drop/b"])
        #expect(
            MirrorRule(bucketPattern: "a*b?c").matches(
                bucket: try BucketName("axxbbyc"),
                key: try ObjectKey("k")
            )
        )
        #expect(
            !MirrorRule(bucketPattern: "a*b?c").matches(
                bucket: try BucketName("axxbc"),
                key: try ObjectKey("k")
            )
        )
        try await fixture.close()
    }

    @Test func tasksOutliveTheProcessAndTheIndex() async throws {
        let fixture = try await MirrorFixture()
        try await fixture.add()
        for number in 0..<20 { try await fixture.put("k\(number % 3)", [UInt8(number)]) }
        let before = try await fixture.tasks()
        #expect(before.count == 20)
        try await fixture.reopen()
        #expect(try await fixture.tasks() == before)
        // Rebuilt from the commit log alone, and the rules count for the next decision.
        try await fixture.reopen(rebuilding: true)
        #expect(try await fixture.tasks() == before)
        try await fixture.put("after", [1])
        #expect(try await fixture.tasks().count == 21)
        try await fixture.close()
    }

    @Test func aRemovedMirrorLeavesNothingAndGetsNothing() async throws {
        let fixture = try await MirrorFixture()
        try await fixture.add()
        try await fixture.put("a", [1])
        try await fixture.directory.remove(fixture.mirror)
        try await fixture.put("b", [1])
        #expect(try await fixture.objects.documents(.outbox).isEmpty)
        #expect(try await fixture.directory.mirrors().isEmpty)
        try await fixture.close()
    }

    @Test func aSecondMirrorOfTheSameNameIsRefused() async throws {
        let fixture = try await MirrorFixture()
        try await fixture.add()
        await #expect(throws: StoreError.self) { try await fixture.add() }
        let row = try await fixture.directory.mirror(fixture.mirror)
        #expect(try fixture.directory.credentials(of: row).secret == "secret")
        #expect(!row.body.contains("secret".utf8), "the secret is sealed")
        try await fixture.close()
    }

    @Test func anEndpointOfTheLocalLinkIsRefusedHoweverItIsWritten() throws {
        for text in [
            "http://169.254.169.254", "http://2852039166", "http://0xA9FEA9FE", "http://0251.0376.0251.0376",
            "http://[fe80::1]", "http://[::ffff:169.254.169.254]", "http://[fd00:ec2::254]:80",
            "http://169.254.1",
        ] {
            let endpoint = try MirrorEndpoint(text)
            #expect(throws: StoreError.self, "\(text)") { try endpoint.check(allowsLinkLocal: false) }
            try endpoint.check(allowsLinkLocal: true)
        }
        for text in [
            "http://127.0.0.1:9000", "https://s3.example.org", "http://[::1]:9000", "http://10.0.0.1",
        ] {
            try MirrorEndpoint(text).check(allowsLinkLocal: false)
            #expect(try MirrorEndpoint(text).description == text)
        }
        for text in [
            "http://metadata.google.internal", "http://metadata.google.internal.",
            "http://[64:ff9b::a9fe:a9fe]",
        ] {
            #expect(throws: StoreError.self, "\(text)") {
                try MirrorEndpoint(text).check(allowsLinkLocal: false)
            }
        }
        for text in [
            "file:///etc/passwd", "gopher://x", "http://a@b", "http://h/p", "http://h?q", "http://", "h:1",
            "http://h:0",
        ] {
            #expect(throws: StoreError.self, "\(text)") { try MirrorEndpoint(text) }
        }
    }
}

extension OutboxTests {
    @Test(arguments: [
        ("http://127.0.0.1:9000", true), ("http://10.0.0.1", true), ("http://[::1]", true),
        ("http://localhost:9000", true), ("http://seaweedfs:8333", true),
        ("http://s3.storage.internal", true),
        ("http://nas.local", true), ("https://s3.example.org", false),
        ("https://internal.example.org", false),
        ("https://localhost.example.org.", false), ("https://x.localdomain.example", false),
    ])
    func onlyWhatNobodyOutsideCanNameLeadsIntoTheHouse(text: String, isNear: Bool) throws {
        let endpoint = try MirrorEndpoint(text)
        let rule = endpoint.addressRule(allowsPrivate: false, allowsLinkLocal: false)
        #expect(rule.allowsPrivate == isNear && rule.allowsLoopback == isNear && !rule.allowsSpecial)
        #expect(endpoint.addressRule(allowsPrivate: true, allowsLinkLocal: true) == .everything)
    }

    @Test func whatAMirrorMayDoIsKeptWithIt() async throws {
        let fixture = try await MirrorFixture()
        for (number, flags) in [(false, false), (true, false), (false, true), (true, true)].enumerated() {
            var settings = MirrorSettings(endpoint: try MirrorEndpoint("https://s3.example.org"), bucket: "b")
            (settings.allowsPrivate, settings.allowsLinkLocal) = flags
            let name = try MirrorName("m\(number)")
            _ = try await fixture.directory.add(
                name,
                settings,
                rules: [MirrorRule()],
                MirrorCredentials(accessKey: "key", secret: "secret")
            )
            let kept = try await fixture.directory.mirror(name).settings
            #expect(kept == settings)
        }
        try await fixture.close()
    }
}

extension [UInt8] {
    fileprivate func contains(_ other: String.UTF8View) -> Bool { firstRange(of: Array(other)) != nil }
}
