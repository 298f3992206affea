import S3Protocol
import StoreModel
import Testing

@Suite struct SettingTests {
    @Test(arguments: [
        ("<VersioningConfiguration/>", S3ErrorCode.illegalVersioningConfiguration),
        ("<VersioningConfiguration><Status>enabled</Status></VersioningConfiguration>", .malformedXML),
        (
            "<VersioningConfiguration><Status>Enabled</Status><Status>Enabled</Status></VersioningConfiguration>",
            .malformedXML
        ),
        (
            "<VersioningConfiguration><Status>Enabled</Status><MfaDelete>Enabled</MfaDelete></VersioningConfiguration>",
            .notImplemented
        ),
    ])
    func versioningIsChecked(text: String, code: S3ErrorCode) {
        #expect(failureCode { _ = try VersioningConfiguration(xml: parsed(text)) } == code)
    }

    private func lockCode(_ inner: String) -> S3ErrorCode? {
        failureCode {
            let text = "<ObjectLockConfiguration>\(inner)</ObjectLockConfiguration>"
            _ = try ObjectLockConfiguration(xml: parsed(text))
        }
    }

    private func retentionCode(_ inner: String) -> S3ErrorCode? {
        lockCode(
            "<ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention>\(inner)</DefaultRetention></Rule>"
        )
    }

    @Test func objectLockIsChecked() throws {
        #expect(lockCode("<ObjectLockEnabled>Enabled</ObjectLockEnabled>") == nil)
        #expect(lockCode("") == .malformedXML)
        #expect(lockCode("<ObjectLockEnabled>Disabled</ObjectLockEnabled>") == .malformedXML)
        #expect(retentionCode("<Mode>GOVERNANCE</Mode><Days>1</Days>") == nil)
        #expect(retentionCode("<Mode>COMPLIANCE</Mode><Years>100</Years>") == nil)
        #expect(retentionCode("<Mode>governance</Mode><Days>1</Days>") == .malformedXML)
        #expect(retentionCode("<Mode>GOVERNANCE</Mode>") == .malformedXML)
        #expect(retentionCode("<Mode>GOVERNANCE</Mode><Days>1</Days><Years>1</Years>") == .malformedXML)
        #expect(retentionCode("<Mode>GOVERNANCE</Mode><Days>0</Days>") == .invalidRetentionPeriod)
        #expect(retentionCode("<Mode>GOVERNANCE</Mode><Years>-1</Years>") == .invalidRetentionPeriod)
        #expect(
            retentionCode("<Mode>GOVERNANCE</Mode><Days>9223372036854775807</Days>")
                == .invalidRetentionPeriod
        )
        let configuration = try ObjectLockConfiguration(body: ClientDocument.body("lock"))
        let retention = configuration.defaultRetention?.retention(from: Timestamp(milliseconds: 5))
        #expect(retention == Retention(mode: .governance, until: Timestamp(milliseconds: 86_400_005)))
    }

    @Test func retentionsNameModeAndTime() throws {
        #expect(try RetentionChange(xml: parsed("<Retention/>")).retention == nil)
        let halves = ["<Mode>GOVERNANCE</Mode>", "<RetainUntilDate>2030-01-01T00:00:00Z</RetainUntilDate>"]
        for half in halves {
            #expect(
                failureCode { _ = try Retention(xml: parsed("<Retention>\(half)</Retention>")) }
                    == .malformedXML
            )
        }
        let retention = try Retention(body: ClientDocument.body("retention"))
        #expect(failureCode { try retention.requireFuture(of: retention.until) } == .invalidArgument)
        #expect(failureCode { try retention.requireFuture(of: Timestamp(milliseconds: 0)) } == nil)
    }

    @Test func encryptionIsAES256() {
        func code(_ inner: String) -> S3ErrorCode? {
            failureCode {
                let rule = "<ApplyServerSideEncryptionByDefault>\(inner)</ApplyServerSideEncryptionByDefault>"
                _ = try ServerSideEncryptionConfiguration(
                    xml: parsed(
                        "<ServerSideEncryptionConfiguration><Rule>\(rule)</Rule></ServerSideEncryptionConfiguration>"
                    )
                )
            }
        }
        #expect(code("<SSEAlgorithm>AES256</SSEAlgorithm>") == nil)
        #expect(code("<SSEAlgorithm>aws:kms</SSEAlgorithm>") == .notImplemented)
        #expect(code("<SSEAlgorithm>rot13</SSEAlgorithm>") == .malformedXML)
        #expect(code("") == .malformedXML)
        let withKey = "<SSEAlgorithm>AES256</SSEAlgorithm><KMSMasterKeyID>k</KMSMasterKeyID>"
        #expect(code(withKey) == .invalidArgument)
    }

    @Test func ownershipAndPublicAccessAreChecked() throws {
        let text =
            "<OwnershipControls><Rule><ObjectOwnership>Mine</ObjectOwnership></Rule></OwnershipControls>"
        #expect(failureCode { _ = try OwnershipControls(xml: parsed(text)) } == .malformedXML)
        let two = String(
            repeating: "<Rule><ObjectOwnership>ObjectWriter</ObjectOwnership></Rule>",
            count: 2
        )
        let twice = "<OwnershipControls>\(two)</OwnershipControls>"
        #expect(failureCode { _ = try OwnershipControls(xml: parsed(twice)) } == .malformedXML)
        let block = try PublicAccessBlock(body: ClientDocument.body("pab"))
        #expect(block.blocksPublicACLs && block.blocksPublicPolicy)
        #expect(!block.ignoresPublicACLs && !block.restrictsPublicBuckets)
        let none = "<PublicAccessBlockConfiguration/>"
        #expect(failureCode { _ = try PublicAccessBlock(xml: parsed(none)) } == .invalidRequest)
    }

    private func notificationCode(_ inner: String) -> S3ErrorCode? {
        failureCode {
            _ = try NotificationConfiguration(
                xml: parsed("<NotificationConfiguration>\(inner)</NotificationConfiguration>")
            )
        }
    }

    @Test func notificationsAreChecked() {
        let queue = "<Queue>arn:aws:sqs:us-east-1:1:q</Queue>"
        let event = "<Event>s3:ObjectCreated:*</Event>"
        func configuration(_ inner: String) -> String { "<QueueConfiguration>\(inner)</QueueConfiguration>" }
        func filter(_ name: String) -> String {
            "<FilterRule><Name>\(name)</Name><Value>x</Value></FilterRule>"
        }
        func filtered(_ rules: String) -> String {
            configuration(queue + event + "<Filter><S3Key>\(rules)</S3Key></Filter>")
        }
        #expect(notificationCode("") == nil)
        #expect(notificationCode(configuration(queue + event)) == nil)
        #expect(notificationCode(configuration(queue)) == .malformedXML)
        #expect(notificationCode(configuration(event)) == .malformedXML)
        #expect(notificationCode(configuration(queue + "<Event>s3:Nothing</Event>")) == .invalidArgument)
        #expect(
            notificationCode(configuration("<Queue>arn:aws:sns:us-east-1:1:q</Queue>" + event))
                == .invalidArgument
        )
        #expect(notificationCode(configuration("<Queue>q</Queue>" + event)) == .invalidArgument)
        #expect(notificationCode(filtered(filter("Prefix") + filter("suffix"))) == nil)
        #expect(notificationCode(filtered(filter("prefix") + filter("Prefix"))) == .invalidArgument)
        #expect(notificationCode(filtered(filter("middle"))) == .invalidArgument)
        let named = configuration("<Id>a</Id>" + queue + event)
        #expect(notificationCode(named + named) == .invalidArgument)
    }

    @Test func logTargetsAreRead() throws {
        let status = try BucketLoggingStatus(body: ClientDocument.body("logging"))
        #expect(status.target?.bucket == "logs")
        #expect(status.target?.keyFormat == .partitioned(byEventTime: true))
        #expect(try BucketLoggingStatus(xml: parsed("<BucketLoggingStatus/>")) == .off)
        let incomplete = "<BucketLoggingStatus><LoggingEnabled/></BucketLoggingStatus>"
        #expect(failureCode { _ = try BucketLoggingStatus(xml: parsed(incomplete)) } == .malformedXML)
    }

    private func websiteCode(_ inner: String) -> S3ErrorCode? {
        failureCode {
            _ = try WebsiteConfiguration(xml: parsed("<WebsiteConfiguration>\(inner)</WebsiteConfiguration>"))
        }
    }

    @Test func websitesAreChecked() {
        let index = "<IndexDocument><Suffix>i</Suffix></IndexDocument>"
        func rule(_ redirect: String, _ condition: String = "") -> String {
            "\(index)<RoutingRules><RoutingRule>\(condition)<Redirect>\(redirect)</Redirect></RoutingRule></RoutingRules>"
        }
        #expect(websiteCode(index) == nil)
        #expect(websiteCode("") == .invalidArgument)
        #expect(websiteCode("<IndexDocument><Suffix>a/b</Suffix></IndexDocument>") == .invalidArgument)
        let redirect = "<RedirectAllRequestsTo><HostName>h</HostName></RedirectAllRequestsTo>"
        #expect(websiteCode(redirect) == nil)
        #expect(websiteCode(redirect + index) == .invalidRequest)
        #expect(websiteCode(rule("<Protocol>ftp</Protocol>")) == .invalidRequest)
        #expect(websiteCode(rule("<HttpRedirectCode>200</HttpRedirectCode>")) == .invalidRequest)
        #expect(websiteCode(rule("<HostName>h</HostName>", "<Condition/>")) == .invalidRequest)
        let both = "<ReplaceKeyWith>a</ReplaceKeyWith><ReplaceKeyPrefixWith>b</ReplaceKeyPrefixWith>"
        #expect(websiteCode(rule(both)) == .invalidRequest)
    }
}

@Suite struct CORSTests {
    private func code(_ inner: String) -> S3ErrorCode? {
        failureCode {
            let text = "<CORSConfiguration><CORSRule>\(inner)</CORSRule></CORSConfiguration>"
            _ = try CORSConfiguration(xml: parsed(text))
        }
    }

    @Test func rulesAreChecked() {
        let origin = "<AllowedOrigin>*</AllowedOrigin>"
        let method = "<AllowedMethod>GET</AllowedMethod>"
        #expect(code(origin + method) == nil)
        #expect(code(origin) == .malformedXML)
        #expect(code(method) == .malformedXML)
        #expect(code(origin + "<AllowedMethod>PATCH</AllowedMethod>") == .invalidRequest)
        #expect(code("<AllowedOrigin>http://*.*</AllowedOrigin>" + method) == .invalidRequest)
        #expect(code(origin + method + "<AllowedHeader>*-*</AllowedHeader>") == .invalidRequest)
        #expect(code(origin + method + "<ExposeHeader>x-*</ExposeHeader>") == .invalidRequest)
        #expect(code(origin + method + "<ExposeHeader>a&#13;&#10;b</ExposeHeader>") == .malformedXML)
        #expect(code(origin + method + "<MaxAgeSeconds>-1</MaxAgeSeconds>") == .malformedXML)
        let id = String(repeating: "i", count: 256)
        #expect(code(origin + method + "<ID>\(id)</ID>") == .invalidArgument)
        #expect(
            failureCode { _ = try CORSConfiguration(xml: parsed("<CORSConfiguration/>")) } == .malformedXML
        )
        let many = String(repeating: "<CORSRule>\(origin)\(method)</CORSRule>", count: 101)
        let text = "<CORSConfiguration>\(many)</CORSConfiguration>"
        #expect(failureCode { _ = try CORSConfiguration(xml: parsed(text)) } == .malformedXML)
    }

    private func configuration(origins: [String], headers: [String] = []) throws -> CORSConfiguration {
        let origins = origins.map { "<AllowedOrigin>\($0)</AllowedOrigin>" }.joined()
        let headers = headers.map { "<AllowedHeader>\($0)</AllowedHeader>" }.joined()
        let inner = origins + headers + "<AllowedMethod>GET</AllowedMethod><ExposeHeader>ETag</ExposeHeader>"
        return try CORSConfiguration(
            xml: parsed("<CORSConfiguration><CORSRule>\(inner)</CORSRule></CORSConfiguration>")
        )
    }

    @Test(arguments: [
        ("*suffix", "foo.suffix", true), ("*suffix", "foo.bar", false), ("*suffix", "foo.suffix.get", false),
        ("start*end", "startend", true), ("start*end", "start1end", true), ("start*end", "start.end1", false),
        ("prefix*", "prefix", true), ("prefix*", "prefix.suffix", true), ("prefix*", "bla.prefix", false),
        ("http://a?", "http://ab", false), ("*", "http://anything", true),
    ])
    func originsMatchByOneWildcard(pattern: String, origin: String, isAllowed: Bool) throws {
        let answer = try configuration(origins: [pattern]).match(origin: origin, method: "GET")
        #expect((answer != nil) == isAllowed)
        if let answer { #expect(answer.allowedOrigin == (pattern == "*" ? "*" : origin)) }
    }

    @Test func methodsAndHeadersCount() throws {
        let rules = try configuration(origins: ["http://a"], headers: ["X-Amz-*", "content-type"])
        #expect(rules.match(origin: "http://a", method: "PUT") == nil)
        #expect(rules.match(origin: "http://a", method: "GET", headers: ["x-other"]) == nil)
        let asked = CORSConfiguration.requestedHeaders("x-amz-date, Content-Type ,")
        let answer = try #require(rules.match(origin: "http://a", method: "GET", headers: asked))
        #expect(answer.allowsCredentials)
        #expect(
            answer.headers.map(\.name) == [
                "access-control-allow-origin", "access-control-allow-methods", "access-control-allow-headers",
                "access-control-expose-headers", "access-control-allow-credentials", "vary",
            ]
        )
        #expect(answer.headers[2].value == "x-amz-date, Content-Type")
    }

    @Test func noPatternHandsOutCredentials() throws {
        for pattern in ["*", "http*", "https://*.example.com"] {
            let answer = try configuration(origins: [pattern]).match(
                origin: "https://a.example.com",
                method: "GET"
            )
            #expect(answer?.allowsCredentials != true)
        }
    }
}
