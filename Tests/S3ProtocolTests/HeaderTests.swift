import ContentHashing
import S3Protocol
import StoreModel
import Testing

@Suite struct HTTPDateTests {
    static let epoch1994 = Timestamp(milliseconds: 784_111_777_000)

    @Test(arguments: [
        "Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994",
        "Sun, 06 Nov 1994 08:49:37 +0000", "Sun, 6 Nov 1994 08:49:37 UTC",
    ])
    func allFormsAreRead(_ text: String) {
        #expect(HTTPDate.parse(text) == Self.epoch1994)
    }

    @Test(arguments: [
        "", "x", "Sun, 31 Feb 1994 08:49:37 GMT", "Sun, 06 Nov 1994 24:49:37 GMT",
        "Sun, 06 Nov 1994 08:49 GMT",
        "Sun, 06 Nov 1994 08:49:37 CET", "Sun, -6 Nov 1994 08:49:37 GMT", "06 Nov 1994 08:49:37 GMT",
        "1994-11-06",
        "Sun, 06 Now 1994 08:49:37 GMT", "Sun, 06 Nov 99994 08:49:37 GMT",
    ])
    func otherTextIsNoDate(_ text: String) {
        #expect(HTTPDate.parse(text) == nil)
    }

    @Test func whatIsWrittenIsReadAgain() {
        #expect(HTTPDate.format(Self.epoch1994) == "Sun, 06 Nov 1994 08:49:37 GMT")
        #expect(ISO8601.format(Self.epoch1994) == "1994-11-06T08:49:37.000Z")
        #expect(ISO8601.formatBasic(Self.epoch1994) == "19941106T084937Z")
        var generator = SeededGenerator(seed: 1)
        for _ in 0..<2000 {
            let seconds = Int64.random(in: -62_135_596_800...253_402_300_799, using: &generator)
            let time = Timestamp(milliseconds: seconds * 1000)
            #expect(HTTPDate.parse(HTTPDate.format(time)) == time)
            #expect(ISO8601.parseBasic(ISO8601.formatBasic(time)) == time)
            let fine = Timestamp(milliseconds: seconds * 1000 + 7)
            #expect(ISO8601.parse(ISO8601.format(fine)) == fine)
        }
        for extreme in [Int64.min, Int64.max] {
            let time = CivilTime(Timestamp(milliseconds: extreme))
            #expect(time.year == (extreme < 0 ? 1 : 9999))
        }
    }

    @Test(arguments: [
        ("2012-12-31", 1_356_912_000_000), ("2012-12-31T00:00:00Z", 1_356_912_000_000),
        ("2012-12-31T01:00:00+01:00", 1_356_912_000_000), ("2012-12-31T00:00:00.5Z", 1_356_912_000_500),
        ("2012-12-31T00:00:00.123456Z", 1_356_912_000_123), ("2012-02-29T23:59:60Z", 1_330_559_999_000),
    ])
    func isoDatesAreRead(_ text: String, _ milliseconds: Int64) {
        #expect(ISO8601.parse(text)?.milliseconds == milliseconds)
    }

    @Test(arguments: [
        "2012-13-01", "2011-02-29", "2012-12-31T00:00", "2012-12-31T00:00:00.Z", "2012-12-31T00:00:00Zx",
        "0000-01-01", "+012-01-01",
    ])
    func otherTextIsNoISODate(_ text: String) {
        #expect(ISO8601.parse(text) == nil)
        #expect(ISO8601.parseBasic(text) == nil)
    }
}

@Suite struct ByteRangeHeaderTests {
    private func resolved(_ text: String, _ size: UInt64) -> String? {
        guard let range = ByteRangeHeader(text) else { return "whole" }
        guard let bytes = range.resolved(in: size) else { return nil }
        return bytes.contentRange(of: size)
    }

    @Test func rangesAreResolved() {
        #expect(resolved("bytes=0-9", 100) == "bytes 0-9/100")
        #expect(resolved("bytes=90-", 100) == "bytes 90-99/100")
        #expect(resolved("bytes=90-1000", 100) == "bytes 90-99/100")
        #expect(resolved("bytes=-7", 100) == "bytes 93-99/100")
        #expect(resolved("bytes=-700", 100) == "bytes 0-99/100")
        #expect(resolved("Bytes=0-0", 1) == "bytes 0-0/1")
        #expect(resolved("bytes=0-99999999999999999999999", 5) == "bytes 0-4/5")
        #expect(
            resolved("bytes=0-18446744073709551615", UInt64.max)
                == "bytes 0-18446744073709551614/18446744073709551615"
        )
    }

    @Test func whatHoldsNoByteIsNotSatisfiable() {
        #expect(resolved("bytes=100-", 100) == nil)
        #expect(resolved("bytes=40-50", 0) == nil)
        #expect(resolved("bytes=-0", 100) == nil)
        #expect(resolved("bytes=-5", 0) == nil)
        let error = refusal { _ = try ByteRangeHeader("bytes=9-")?.resolve(in: 9) }
        #expect(error?.code == .invalidRange)
        #expect(error?.headers.first?.value == "bytes */9")
    }

    @Test(arguments: [
        "", "bytes", "bytes=", "bytes=-", "bytes=a-b", "bytes=5-2", "bytes=0-1,3-4", "chars=0-1",
        "bytes=+1-2", "bytes=1--2", "bytes=0x1-2",
    ])
    func otherTextAsksForTheWhole(_ text: String) {
        #expect(ByteRangeHeader(text) == nil)
    }

    @Test(arguments: [
        "0-2", "bytes=0", "bytes=hello-world", "bytes=0-bar", "bytes=hello-", "bytes=0-2,3-5", "bytes=1-",
        "bytes=-2",
    ])
    func copiesNeedBothEnds(_ text: String) {
        #expect(refusal { _ = try ByteRangeHeader.copySource(text) }?.code == .invalidArgument)
    }

    @Test func copiesStayInsideTheirSource() throws {
        let range = try ByteRangeHeader.copySource("bytes=0-9")
        #expect(try range.resolveInside(source: 10).length == 10)
        #expect(refusal { _ = try range.resolveInside(source: 9) }?.code == .invalidArgument)
    }
}

@Suite struct ConditionalHeadersTests {
    static let modified = Timestamp(milliseconds: 784_111_777_123)
    static let before = "Sun, 06 Nov 1994 08:49:36 GMT"
    static let same = "Sun, 06 Nov 1994 08:49:37 GMT"
    static let after = "Sun, 06 Nov 1994 08:49:38 GMT"

    private func conditions(_ text: String) throws -> ConditionalHeaders {
        var list = HeaderList()
        for line in text.split(separator: "|") {
            let parts = line.split(separator: ":", maxSplits: 1).map(String.init)
            list.append(parts[0], parts[1])
        }
        return try ConditionalHeaders(list)
    }

    static let reads: [(String, ConditionalHeaders.Outcome)] = [
        ("if-match:\"e\"", .proceed), ("if-match:e", .proceed),
        ("if-match:*", .proceed),
        ("if-match:\"x\", \"e\"", .proceed), ("if-match:\"x\"", .preconditionFailed),
        ("if-none-match:\"e\"", .notModified), ("if-none-match:W/\"e\"", .notModified),
        ("if-none-match:*", .notModified),
        ("if-none-match:\"x\"", .proceed), ("if-none-match:\"x\"|if-none-match:\"e\"", .notModified),
        ("if-modified-since:\(before)", .proceed), ("if-modified-since:\(same)", .notModified),
        ("if-modified-since:\(after)", .notModified), ("if-modified-since:never", .proceed),
        ("if-unmodified-since:\(before)", .preconditionFailed), ("if-unmodified-since:\(same)", .proceed),
        ("if-match:\"e\"|if-unmodified-since:\(before)", .proceed),
        ("if-none-match:\"e\"|if-modified-since:\(before)", .notModified),
        ("if-none-match:\"x\"|if-modified-since:\(after)", .proceed),
        ("if-match:\"x\"|if-none-match:\"e\"", .preconditionFailed), ("range:bytes=0-1", .proceed),
    ]

    /// The precedence that S3 documents for GetObject is that of RFC 9110.
    @Test(arguments: reads)
    func readsAreDecidedByTheRules(_ text: String, _ outcome: ConditionalHeaders.Outcome) throws {
        #expect(try conditions(text).evaluateRead(etag: "e", lastModified: Self.modified) == outcome)
    }

    @Test func writesFailWhereReadsHaveNothingNew() throws {
        let existing = (etag: "e", lastModified: Self.modified, size: UInt64(5))
        #expect(try conditions("if-none-match:*").evaluateWrite(existing: existing) == .preconditionFailed)
        #expect(try conditions("if-none-match:*").evaluateWrite(existing: nil) == .proceed)
        #expect(try conditions("if-match:\"e\"").evaluateWrite(existing: existing) == .proceed)
        #expect(try conditions("if-match:\"x\"").evaluateWrite(existing: existing) == .preconditionFailed)
        #expect(try conditions("if-match:\"e\"").evaluateWrite(existing: nil) == .noSuchKey)
        #expect(try conditions("if-match:*").evaluateWrite(existing: nil) == .noSuchKey)
        #expect(try conditions("x-amz-if-match-size:5").evaluateWrite(existing: existing) == .proceed)
        #expect(
            try conditions("x-amz-if-match-size:6").evaluateWrite(existing: existing) == .preconditionFailed
        )
        #expect(
            try conditions("x-amz-if-match-last-modified-time:" + Self.same).evaluateWrite(existing: existing)
                == .proceed
        )
        #expect(
            try conditions("x-amz-if-match-last-modified-time:" + Self.after).evaluateWrite(
                existing: existing
            )
                == .preconditionFailed
        )
        #expect(throws: S3Error.self) { try conditions("x-amz-if-match-size:-1") }
        #expect(try conditions("range:x").isEmpty)
    }

    @Test func copySourcesAreNeverNotModified() {
        let headers = HeaderList([("x-amz-copy-source-if-none-match", "\"e\"")])
        let conditions = ConditionalHeaders(copySource: headers)
        #expect(conditions.evaluateCopySource(etag: "e", lastModified: Self.modified) == .preconditionFailed)
        #expect(conditions.evaluateCopySource(etag: "f", lastModified: Self.modified) == .proceed)
    }
}

@Suite struct CopySourceTests {
    @Test(arguments: [
        ("b00/k", "k", nil), ("/b00/k", "k", nil), ("b00/a%20b/c", "a b/c", nil), ("b00%2Fk", "k", nil),
        ("b00/k?versionId=v1", "k", "v1"), ("b00/k%3FversionId=v1", "k?versionId=v1", nil),
        ("b00/k?versionId=null", "k", "null"), ("b00/a?b", "a?b", nil), ("b00/a+b", "a+b", nil),
        ("b00//k", "/k", nil), ("b00/../k", "../k", nil),
    ])
    func sourcesAreRead(_ text: String, _ key: String, _ version: String?) throws {
        let source = try CopySource(text)
        #expect(source.bucket.description == "b00")
        #expect(source.key.description == key)
        #expect(source.versionID == version)
        #expect(try CopySource(source.headerValue) == source)
    }

    @Test(arguments: [
        "", "/", "b00", "b00/", "/b00/", "//k", "%", "b00/%zz", "b00/%00", "b00/%ff", "b00/k?versionId=",
    ])
    func malformedSourcesAreRefused(_ text: String) {
        #expect(refusal { _ = try CopySource(text) }?.code == .invalidArgument)
    }

    @Test func otherRefusalsHaveTheirOwnCodes() {
        #expect(refusal { _ = try CopySource("BAD/k") }?.code == .invalidBucketName)
        #expect(
            refusal { _ = try CopySource("b00/" + String(repeating: "k", count: 1025)) }?.code == .keyTooLong
        )
        #expect(
            refusal { _ = try CopySource("arn:aws:s3:x:1:accesspoint/a/object/k") }?.code == .notImplemented
        )
    }
}

@Suite struct ObjectHeadersTests {
    private func code(_ headers: [(String, String)]) -> S3ErrorCode? {
        refusal { _ = try ObjectHeaders(HeaderList(headers)) }?.code
    }

    @Test func whatBelongsToTheObjectIsKept() throws {
        let headers = try ObjectHeaders(
            HeaderList([
                ("Content-Type", "text/plain"), ("Content-Encoding", "aws-chunked, gzip"),
                ("Cache-Control", "no-cache"),
                ("X-Amz-Meta-B", "2"), ("x-amz-meta-a", "1"), ("x-amz-meta-b", "3"),
                ("x-amz-storage-class", "STANDARD"),
                ("Host", "h"), ("x-amz-tagging", "a=b"),
            ])
        )
        #expect(headers.contentType == "text/plain")
        #expect(headers.value("content-encoding") == "gzip")
        #expect(headers.standard.map(\.name) == ["cache-control", "content-encoding", "content-type"])
        #expect(headers.userMetadata.map(\.name) == ["b", "a"])
        #expect(headers.userMetadata.map(\.value) == ["2,3", "1"])
        #expect(headers.tagging == "a=b")
        let chunked = try ObjectHeaders(HeaderList([("Content-Encoding", "aws-chunked")]))
        #expect(chunked.standard.isEmpty)
        #expect(chunked.contentType == "binary/octet-stream")
    }

    @Test func metadataHasALimit() {
        #expect(code([("x-amz-meta-a", String(repeating: "v", count: 2047))]) == nil)
        #expect(code([("x-amz-meta-a", String(repeating: "v", count: 2048))]) == .metadataTooLarge)
        #expect(
            code([("cache-control", String(repeating: "v", count: 9000))]) == .requestHeaderSectionTooLarge
        )
    }

    @Test func whatCannotBeDoneIsNotIgnored() {
        #expect(code([("x-amz-storage-class", "GLACIER")]) == .invalidStorageClass)
        #expect(code([("x-amz-write-offset-bytes", "5")]) == .notImplemented)
        #expect(code([("x-amz-server-side-encryption", "aws:kms")]) == .notImplemented)
        #expect(code([("x-amz-server-side-encryption", "rot13")]) == .invalidArgument)
        #expect(code([("x-amz-website-redirect-location", "ftp://x")]) == .invalidArgument)
        #expect(code([("x-amz-meta-a", "b\u{0}c")]) == .invalidArgument)
        #expect(code([("content-disposition", "a\nSet-Cookie: b")]) == .invalidArgument)
    }

    private static let key = Base64.encode([UInt8](repeating: 7, count: 32))
    private static let md5 = [UInt8](repeating: 7, count: 32).withUnsafeBytes {
        Base64.encode(MD5Hasher.hash($0).bytes)
    }

    @Test func customerKeysMustBeWholeAndRight() throws {
        let prefix = "x-amz-server-side-encryption-customer-"
        let all = [
            (prefix + "algorithm", "AES256"), (prefix + "key", Self.key), (prefix + "key-MD5", Self.md5),
        ]
        let headers = try ObjectHeaders(HeaderList(all))
        guard case .customer(let key) = headers.encryption else {
            Issue.record("The key was not seen.")
            return
        }
        #expect(key.bytes.count == 32)
        #expect(!"\(key)".contains(Self.key))
        for index in all.indices {
            var some = all
            some.remove(at: index)
            #expect(code(some) == .invalidArgument)
            some = all
            some[index].1 = "AAAA"
            #expect(code(some) == .invalidArgument)
        }
        #expect(code(all + [("x-amz-server-side-encryption", "AES256")]) == .invalidArgument)
        #expect(
            try ObjectHeaders(HeaderList([("x-amz-server-side-encryption", "AES256")])).encryption == .store
        )
    }

    @Test func overridesAreForSignedRequests() throws {
        let query = try QueryItems(decoding: "response-content-type=text%2Fplain&response-expires=x&prefix=a")
        let overrides = try ResponseOverrides.parse(query, isSigned: true)
        #expect(overrides.map(\.name) == ["content-type", "expires"])
        #expect(overrides.map(\.value) == ["text/plain", "x"])
        #expect(refusal { _ = try ResponseOverrides.parse(query, isSigned: false) }?.code == .invalidRequest)
        let injected = try QueryItems(decoding: "response-content-type=a%0d%0aSet-Cookie:b")
        #expect(
            refusal { _ = try ResponseOverrides.parse(injected, isSigned: true) }?.code == .invalidArgument
        )
    }

    @Test func directivesAreTwoWords() throws {
        let replace = try CopyDirectives(HeaderList([("x-amz-metadata-directive", "REPLACE")]))
        #expect(replace.replacesMetadata && !replace.replacesTagging)
        #expect(
            refusal { _ = try CopyDirectives(HeaderList([("x-amz-tagging-directive", "MOVE")])) }?.code
                == .invalidArgument
        )
    }

    @Test func locksMustBeWholeAndAhead() throws {
        let now = Timestamp(milliseconds: 1_700_000_000_000)
        func lock(_ headers: [(String, String)]) throws -> ObjectLockHeaders {
            try ObjectLockHeaders(HeaderList(headers), now: now)
        }
        let mode = ("x-amz-object-lock-mode", "GOVERNANCE")
        let until = ("x-amz-object-lock-retain-until-date", "2033-01-01T00:00:00Z")
        #expect(try lock([mode, until]).retention?.mode == .governance)
        #expect(try lock([("x-amz-object-lock-legal-hold", "ON")]).legalHold?.isOn == true)
        #expect(try lock([]).isEmpty)
        for bad in [
            [mode], [until], [("x-amz-object-lock-mode", "OPEN"), until],
            [mode, (until.0, "2003-01-01T00:00:00Z")],
            [mode, (until.0, "later")], [("x-amz-object-lock-legal-hold", "MAYBE")],
        ] {
            #expect(refusal { _ = try lock(bad) }?.code == .invalidArgument)
        }
    }
}

@Suite struct ChecksumHeadersTests {
    private func parse(_ headers: [(String, String)]) throws -> ChecksumHeaders {
        try ChecksumHeaders(HeaderList(headers))
    }

    @Test func declaredChecksumsAreRead() throws {
        let headers = try parse([
            ("Content-MD5", "nQqh4fP9NMRFkFfRc1gyXw=="), ("x-amz-checksum-crc32", "AAAAAA=="),
            ("x-amz-sdk-checksum-algorithm", "CRC32"), ("x-amz-checksum-type", "FULL_OBJECT"),
            ("x-amz-checksum-mode", "ENABLED"),
        ])
        #expect(headers.checksum?.algorithm == .crc32)
        #expect(headers.contentMD5 != nil)
        #expect(headers.type == .fullObject)
        let trailing = try parse([
            ("x-amz-trailer", "x-amz-checksum-crc64nvme"), ("x-amz-sdk-checksum-algorithm", "CRC64NVME"),
        ])
        #expect(trailing.algorithm == .crc64nvme)
        let value = try trailing.trailerChecksum(HeaderList([("x-amz-checksum-crc64nvme", "AAAAAAAAAAA=")]))
        #expect(value?.bytes.count == 8)
        #expect(throws: S3Error.self) { try trailing.trailerChecksum(HeaderList()) }
    }

    @Test(arguments: [
        ("content-md5:short", S3ErrorCode.invalidDigest), ("content-md5:", .invalidDigest),
        ("x-amz-checksum-crc32:AAAA", .invalidRequest), ("x-amz-checksum-crc32:%%%%", .invalidRequest),
        ("x-amz-checksum-crc32:AAAAAA==|x-amz-checksum-crc32c:AAAAAA==", .invalidRequest),
        ("x-amz-checksum-crc32:AAAAAA==|x-amz-trailer:x-amz-checksum-crc32", .invalidRequest),
        ("x-amz-trailer:x-amz-meta-a", .invalidRequest), ("x-amz-checksum-md9:AAAA", .notImplemented),
        ("x-amz-trailer:x-amz-checksum-crc32,x-amz-checksum-sha1", .invalidRequest),
        ("x-amz-sdk-checksum-algorithm:CRC32", .invalidRequest),
        ("x-amz-sdk-checksum-algorithm:SHA1|x-amz-checksum-crc32:AAAAAA==", .invalidRequest),
        ("x-amz-sdk-checksum-algorithm:ROT13|x-amz-checksum-crc32:AAAAAA==", .invalidRequest),
        ("x-amz-checksum-type:HALF", .invalidRequest),
    ])
    func contradictionsAreRefused(_ text: String, _ code: S3ErrorCode) {
        var headers: [(String, String)] = []
        for line in text.split(separator: "|") {
            let parts = line.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false).map(
                String.init
            )
            headers.append((parts[0], parts[1]))
        }
        #expect(refusal { _ = try parse(headers) }?.code == code)
    }
}
