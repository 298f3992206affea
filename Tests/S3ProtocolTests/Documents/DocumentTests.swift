import Foundation
import S3Protocol
import StoreModel
import StoreTestKit
import Testing

/// Bodies that botocore writes, one for each request with a document.
enum ClientDocument {
    static let names = [
        "acl", "complete", "cors", "create", "delete", "legal", "lifecycle", "lock", "logging",
        "notification",
        "owner", "pab", "pay", "retention", "sse", "tag", "versioning", "website",
    ]

    static func body(_ name: String) throws -> [UInt8] {
        let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent().deletingLastPathComponent()
        return [UInt8](try Data(contentsOf: root.appendingPathComponent("fixtures/documents/\(name).xml")))
    }

    /// Reads a body by the type that belongs to it, and gives the canonical form where there is one.
    static func read(_ name: String, _ body: [UInt8]) throws -> [UInt8]? {
        switch name {
        case "acl": try AccessControlPolicy(body: body).xmlBytes
        case "complete": try none(CompleteMultipartUpload(body: body))
        case "cors": try CORSConfiguration(body: body).xmlBytes
        case "create": try none(CreateBucketConfiguration(body: body))
        case "delete": try none(DeleteRequest(body: body))
        case "legal": try LegalHold(body: body).xmlBytes
        case "lifecycle": try LifecycleConfiguration(body: body).xmlBytes
        case "lock": try ObjectLockConfiguration(body: body).xmlBytes
        case "logging": try BucketLoggingStatus(body: body).xmlBytes
        case "notification": try NotificationConfiguration(body: body).xmlBytes
        case "owner": try OwnershipControls(body: body).xmlBytes
        case "pab": try PublicAccessBlock(body: body).xmlBytes
        case "pay": try RequestPaymentConfiguration(body: body).xmlBytes
        case "retention": try Retention(body: body).xmlBytes
        case "sse": try ServerSideEncryptionConfiguration(body: body).xmlBytes
        case "tag": try TagSet(body: body, of: .bucket).xmlBytes
        case "versioning": try VersioningConfiguration(body: body).xmlBytes
        default: try WebsiteConfiguration(body: body).xmlBytes
        }
    }

    private static func none(_ value: some Sendable) -> [UInt8]? { nil }
}

@Suite struct DocumentTests {
    @Test(arguments: ClientDocument.names)
    func whatClientsSendIsReadAndItsCanonicalFormIsStable(name: String) throws {
        let body = try ClientDocument.body(name)
        guard let canonical = try ClientDocument.read(name, body) else { return }
        #expect(try ClientDocument.read(name, canonical) == canonical)
        // The root keeps its name and S3's namespace.
        #expect(try XMLReader.read(canonical).name == XMLReader.read(body).name)
        #expect(try XMLReader.read(canonical).namespace == XMLWriter.namespace)
    }

    /// Leaves of the document, as path and text.
    private static func leaves(_ xml: XMLElement, _ path: String = "") -> Set<String> {
        let here = "\(path)/\(xml.name)"
        guard !xml.children.isEmpty else { return ["\(here)=\(xml.text)"] }
        return xml.children.reduce(into: []) { $0.formUnion(leaves($1, here)) }
    }

    @Test(arguments: ["cors", "lifecycle", "lock", "logging", "owner", "pab", "pay", "sse", "tag", "website"])
    func nothingOfASettingIsLost(name: String) throws {
        let body = try ClientDocument.body(name)
        let canonical = try #require(try ClientDocument.read(name, body))
        let before = Self.leaves(try XMLReader.read(body)).map {
            $0.replacing("T00:00:00Z", with: "T00:00:00.000Z")
        }
        #expect(Set(before).subtracting(Self.leaves(try XMLReader.read(canonical))) == [])
    }

    @Test(arguments: TestSeeds.seeds(fixed: 2, fresh: 1))
    func damagedDocumentsGiveErrorsAndNothingElse(seed: UInt64) throws {
        var generator = StoreTestKit.SeededGenerator(seed: seed)
        let marks = [UInt8]("<>/&;\"'=:! []-0123456789".utf8)
        for name in ClientDocument.names {
            let body = try ClientDocument.body(name)
            for _ in 0..<150 {
                var damaged = body
                for _ in 0...generator.below(4) {
                    let index = generator.below(damaged.count)
                    switch generator.below(5) {
                    case 0: damaged[index] = UInt8.random(in: 0...255, using: &generator)
                    case 1: damaged[index] = generator.pick(marks)
                    case 2: damaged.remove(at: index)
                    case 3:
                        let length = generator.below(min(40, damaged.count - index))
                        damaged.insert(contentsOf: damaged[index..<index + length], at: index)
                    default:
                        let length = generator.below(min(40, damaged.count - index))
                        damaged.removeSubrange(index..<index + length)
                    }
                    if damaged.isEmpty { damaged = body }
                }
                do {
                    _ = try ClientDocument.read(name, damaged)
                } catch {
                    #expect(error is S3Error, "seed \(seed), \(name)")
                }
            }
        }
    }

    @Test func anEmptyBodyIsMissing() {
        #expect(failureCode { _ = try CORSConfiguration(body: []) } == .missingRequestBody)
        #expect(failureCode { _ = try TagSet(body: [], of: .object) } == .missingRequestBody)
    }

    @Test func otherDocumentsAndUnknownElementsAreMalformed() throws {
        for name in ClientDocument.names {
            let other = [UInt8]("<Other/>".utf8)
            let expected: S3ErrorCode = name == "acl" ? .malformedACL : .malformedXML
            #expect(failureCode { _ = try ClientDocument.read(name, other) } == expected)
            let text = String(decoding: try ClientDocument.body(name), as: UTF8.self)
            let end = try #require(text.range(of: "</", options: .backwards))
            let extended = text[..<end.lowerBound] + "<Surprise/>" + text[end.lowerBound...]
            #expect(
                failureCode { _ = try ClientDocument.read(name, [UInt8](extended.utf8)) } == expected,
                "\(name)"
            )
        }
    }

    @Test func keysKeepTheirBlanks() throws {
        let request = try DeleteRequest(body: ClientDocument.body("delete"))
        #expect(request.objects.map(\.key) == [" a/<&>\n", "b"])
        #expect(request.objects.first?.versionID == "v")
        #expect(request.objects.first?.entityTag == "e")
        #expect(request.objects.first?.size == 5)
        #expect(request.isQuiet)
    }

    @Test func partsAreReadWithTheirChecksums() throws {
        let upload = try CompleteMultipartUpload(body: ClientDocument.body("complete"))
        #expect(upload.parts.map(\.number) == [1, 3])
        #expect(upload.parts.map(\.entityTag) == ["e1", "e3"])
        #expect(upload.parts.map(\.checksums.count) == [1, 0])
    }

    @Test(arguments: [
        ("", S3ErrorCode.malformedXML),
        ("<Part><ETag>e</ETag></Part>", .malformedXML),
        ("<Part><PartNumber>1</PartNumber></Part>", .malformedXML),
        ("<Part><PartNumber>x</PartNumber><ETag>e</ETag></Part>", .malformedXML),
        ("<Part><PartNumber>99999999999999999999</PartNumber><ETag>e</ETag></Part>", .malformedXML),
        ("<Part><PartNumber>0</PartNumber><ETag>e</ETag></Part>", .invalidArgument),
        ("<Part><PartNumber>10001</PartNumber><ETag>e</ETag></Part>", .invalidArgument),
        (
            "<Part><PartNumber>1</PartNumber><ETag>e</ETag><ChecksumSHA1>x</ChecksumSHA1></Part>",
            .invalidRequest
        ),
        (
            "<Part><PartNumber>2</PartNumber><ETag>e</ETag></Part><Part><PartNumber>1</PartNumber><ETag>e</ETag></Part>",
            .invalidPartOrder
        ),
        (
            "<Part><PartNumber>2</PartNumber><ETag>e</ETag></Part><Part><PartNumber>2</PartNumber><ETag>e</ETag></Part>",
            .invalidPartOrder
        ),
        (String(repeating: "<Part/>", count: 10_001), .malformedXML),
    ])
    func partListsThatCanNotBeAreRefused(inner: String, code: S3ErrorCode) {
        let text = "<CompleteMultipartUpload>\(inner)</CompleteMultipartUpload>"
        #expect(failureCode { _ = try CompleteMultipartUpload(xml: parsed(text)) } == code)
    }

    @Test(arguments: [
        ("", S3ErrorCode.malformedXML), ("<Quiet>true</Quiet>", .malformedXML), ("<Object/>", .malformedXML),
        ("<Object><Key>k</Key></Object><Quiet>perhaps</Quiet>", .malformedXML),
        ("<Object><Key>k</Key><Size>-1</Size></Object>", .malformedXML),
        (String(repeating: "<Object><Key>k</Key></Object>", count: 1001), .malformedXML),
    ])
    func deletionsThatCanNotBeAreRefused(inner: String, code: S3ErrorCode) {
        #expect(failureCode { _ = try DeleteRequest(xml: parsed("<Delete>\(inner)</Delete>")) } == code)
    }

    @Test func aNewBucketMayHaveARegionAndTags() throws {
        let configuration = try CreateBucketConfiguration(body: ClientDocument.body("create"))
        #expect(configuration.location == "eu-west-1")
        #expect(configuration.tags?.tags == [TagSet.Tag(key: "a", value: "b")])
        let directory = "<CreateBucketConfiguration><Bucket/></CreateBucketConfiguration>"
        #expect(failureCode { _ = try CreateBucketConfiguration(xml: parsed(directory)) } == .notImplemented)
    }
}

@Suite struct TagTests {
    private func tagging(_ pairs: [(String, String)]) -> String {
        let tags = pairs.map { "<Tag><Key>\($0.0)</Key><Value>\($0.1)</Value></Tag>" }
        return "<Tagging><TagSet>\(tags.joined())</TagSet></Tagging>"
    }

    private func code(_ pairs: [(String, String)], of subject: TagSet.Subject = .object) -> S3ErrorCode? {
        failureCode { _ = try TagSet(xml: parsed(tagging(pairs)), of: subject) }
    }

    @Test func theRulesOfTagsAreKept() {
        #expect(code([("k", "v"), ("Ключ 1", "a+b-c=d.e_f:g/h@i")]) == nil)
        #expect(code([]) == nil)
        #expect(code([(String(repeating: "k", count: 128), String(repeating: "v", count: 256))]) == nil)
        #expect(code([(String(repeating: "k", count: 129), "")]) == .invalidTag)
        #expect(code([("k", String(repeating: "v", count: 257))]) == .invalidTag)
        #expect(code([("", "v")]) == .invalidTag)
        #expect(code([("k?", "v")]) == .invalidTag)
        #expect(code([("k", "v&#10;")]) == .invalidTag)
        #expect(code([("aws:k", "v")]) == .invalidTag)
        #expect(code([("AWS:k", "v")]) == .invalidTag)
        #expect(code([("k", "1"), ("k", "2")]) == .invalidTag)
        let many = (0...10).map { ("k\($0)", "v") }
        #expect(code(many) == .invalidTag)
        #expect(code(many, of: .bucket) == nil)
        #expect(code((0...50).map { ("k\($0)", "v") }, of: .bucket) == .invalidTag)
    }

    @Test func theHeaderIsReadAsAQuery() throws {
        let tags = try TagSet(header: "a=1&b=x%20y%2B&c=&d&e=f=g")
        #expect(tags.tags.map(\.key) == ["a", "b", "c", "d", "e"])
        #expect(tags.tags.map(\.value) == ["1", "x y+", "", "", "f=g"])
        #expect(try TagSet(header: "").isEmpty)
        #expect(failureCode { _ = try TagSet(header: "a=1&a=2") } == .invalidArgument)
        #expect(failureCode { _ = try TagSet(header: "a=%ZZ") } == .invalidArgument)
        #expect(failureCode { _ = try TagSet(header: "=1") } == .invalidTag)
    }
}
