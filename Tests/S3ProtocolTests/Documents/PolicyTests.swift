import S3Protocol
import StoreTestKit
import Testing

enum SamplePolicy {
    static let owner = String(repeating: "0", count: 63) + "1"
    static let other = String(repeating: "0", count: 63) + "2"
    static let ownerPrincipal = PolicyPrincipal(canonicalID: owner)
    static let otherPrincipal = PolicyPrincipal(canonicalID: other)

    static func statement(
        _ effect: String = "Allow",
        principal: String = "\"Principal\": \"*\"",
        action: String = "\"Action\": \"s3:GetObject\"",
        resource: String = "\"Resource\": \"arn:aws:s3:::bucket/*\"",
        more: String = ""
    ) -> String {
        "{\"Effect\": \"\(effect)\", \(principal), \(action), \(resource)\(more)}"
    }

    static func policy(_ statements: String...) throws(S3Error) -> BucketPolicy {
        try parse("{\"Version\": \"2012-10-17\", \"Statement\": [\(statements.joined(separator: ", "))]}")
    }

    static func parse(_ text: String) throws(S3Error) -> BucketPolicy {
        try BucketPolicy(parsing: [UInt8](text.utf8), bucket: "bucket")
    }

    static func get(
        _ key: String? = "key",
        action: String = "s3:GetObject",
        by principal: PolicyPrincipal = otherPrincipal,
        _ context: [String: [String]] = [:]
    ) -> PolicyRequest {
        var values = PolicyContext()
        for (name, list) in context { values[name] = list }
        return PolicyRequest(
            principal: principal,
            action: action,
            bucket: "bucket",
            key: key,
            context: values
        )
    }
}

@Suite struct PolicyParsingTests {
    private func refusal(_ text: String) -> String? {
        do {
            _ = try SamplePolicy.parse(text)
            return nil
        } catch {
            return error.code == .malformedPolicy ? error.message : "\(error)"
        }
    }

    private func refusal(statement: String) -> String? {
        refusal("{\"Version\": \"2012-10-17\", \"Statement\": \(statement)}")
    }

    @Test(arguments: [
        "", "x", "[]", "\"a\"", "{", "{}}", "{\"a\": }", "{\"Version\": \"2012-10-17\",}", "{\"a\": 01}",
        "{\"a\": \"\\ud800\"}", "{\"a\": \"\\x\"}", "{\"a\": tru}", "{\"a\": 1, \"a\": 2}",
        "{\"a\": \"\u{1}\"}",
        "{\"a\": 1.}", "{\"a\": 1e}", "{\"a\": -}", "{\"a\": \"\\u12\"}",
        String(repeating: "[", count: 10_000), String(repeating: "{\"a\":", count: 1000),
    ])
    func whatIsNotJSONIsRefused(text: String) {
        #expect(refusal(text) == "Policies must be valid JSON and the first byte must be '{'")
    }

    @Test func fieldsAreRequired() {
        #expect(refusal("{}") == "Missing required field Statement")
        #expect(refusal("{\"Statement\": []}") == "Could not parse the policy: Statement is empty!")
        #expect(
            refusal("{\"Version\": \"2020-01-01\", \"Statement\": []}")
                == "The policy must contain a valid version string"
        )
        #expect(refusal("{\"Foo\": 1}") == "Unknown field Foo")
        #expect(refusal(statement: SamplePolicy.statement()) == nil)
        let missing = [
            ("Principal", SamplePolicy.statement(principal: "\"Sid\": \"a\"")),
            ("Action", SamplePolicy.statement(action: "\"Sid\": \"a\"")),
            ("Resource", SamplePolicy.statement(resource: "\"Sid\": \"a\"")),
        ]
        for (name, statement) in missing {
            #expect(refusal(statement: statement) == "Missing required field \(name)")
        }
        #expect(refusal(statement: "{}") == "Missing required field Effect")
        #expect(refusal(statement: SamplePolicy.statement("allow")) == "Invalid effect: allow")
        #expect(refusal(statement: SamplePolicy.statement(more: ", \"Foo\": 1")) == "Unknown field Foo")
        let both = SamplePolicy.statement(more: ", \"NotAction\": \"s3:PutObject\"")
        #expect(refusal(statement: both) == "Action and NotAction may not stand in one statement")
    }

    @Test(arguments: [
        "\"x\"", "{}", "[]", "{\"AWS\": []}", "{\"AWS\": 1}", "{\"AWS\": \"123\"}",
        "{\"AWS\": \"arn:aws:iam::123456789012:user/*\"}",
        "{\"AWS\": \"arn:aws:s3:::bucket\"}", "{\"CanonicalUser\": \"x\"}", "{\"Foo\": \"*\"}", "[\"*\"]",
    ])
    func principalsThatNameNobodyAreRefused(principal: String) {
        let statement = SamplePolicy.statement(principal: "\"Principal\": \(principal)")
        #expect(refusal(statement: statement) == "Invalid principal in policy")
    }

    @Test func actionsAndResourcesHaveToFit() {
        func refusal(action: String, resource: String) -> String? {
            self.refusal(
                statement: SamplePolicy.statement(
                    action: "\"Action\": \(action)",
                    resource: "\"Resource\": \(resource)"
                )
            )
        }
        let mismatch = "Action does not apply to any resource(s) in statement"
        let (bucket, objects) = ("\"arn:aws:s3:::bucket\"", "\"arn:aws:s3:::bucket/*\"")
        #expect(refusal(action: "\"s3:ListBucket\"", resource: bucket) == nil)
        #expect(refusal(action: "\"s3:listbucket\"", resource: bucket) == nil)
        #expect(refusal(action: "\"s3:*\"", resource: bucket) == nil)
        #expect(refusal(action: "\"*\"", resource: "\"*\"") == nil)
        #expect(refusal(action: "\"s3:GetObject\"", resource: "\"arn:aws:s3:::*/*\"") == nil)
        #expect(refusal(action: "\"s3:ListBucket\"", resource: "\"arn:aws:s3:::*\"") == nil)
        #expect(
            refusal(action: "[\"s3:ListBucket\", \"s3:GetObject\"]", resource: "[\(bucket), \(objects)]")
                == nil
        )
        #expect(refusal(action: "\"s3:ListBucket\"", resource: objects) == mismatch)
        #expect(refusal(action: "\"s3:GetObject\"", resource: bucket) == mismatch)
        #expect(refusal(action: "\"s3:Nothing\"", resource: bucket) == "Policy has invalid action")
        #expect(refusal(action: "[]", resource: bucket) == "Policy has invalid action")
        for resource in [
            "\"arn:aws:s3:::other/*\"", "\"bucket\"", "\"arn:aws:iam::1:user\"", "[]", "1",
            "\"arn:aws:s3:::\"",
        ] {
            #expect(refusal(action: "\"s3:GetObject\"", resource: resource) == "Policy has invalid resource")
        }
    }

    @Test func conditionsAreChecked() {
        func refusal(_ condition: String) -> String? {
            self.refusal(statement: SamplePolicy.statement(more: ", \"Condition\": \(condition)"))
        }
        #expect(refusal("{}") == nil)
        #expect(refusal("{\"StringEquals\": {\"aws:Referer\": \"a\"}}") == nil)
        #expect(
            refusal("{\"ForAnyValue:StringLikeIfExists\": {\"s3:RequestObjectTagKeys\": [\"a\"]}}") == nil
        )
        #expect(refusal("{\"Bool\": {\"aws:SecureTransport\": false}}") == nil)
        #expect(refusal("{\"NumericLessThan\": {\"s3:max-keys\": 10}}") == nil)
        #expect(
            refusal("{\"StringSounds\": {\"aws:Referer\": \"a\"}}") == "Invalid Condition type : StringSounds"
        )
        #expect(
            refusal("{\"StringEquals\": {\"aws:Nothing\": \"a\"}}") == "Policy has an invalid condition key"
        )
        #expect(
            refusal("{\"IpAddress\": {\"aws:SourceIp\": \"1.2.3\"}}")
                == "Invalid IP Address in Conditions : 1.2.3"
        )
        #expect(refusal("{\"Bool\": {\"aws:SecureTransport\": \"maybe\"}}") != nil)
        #expect(refusal("{\"NumericEquals\": {\"s3:max-keys\": \"nan\"}}") != nil)
        #expect(refusal("{\"DateLessThan\": {\"aws:CurrentTime\": \"soon\"}}") != nil)
        #expect(refusal("{\"StringEquals\": []}") != nil)
        #expect(refusal("{\"StringEquals\": {\"aws:Referer\": []}}") != nil)
        #expect(refusal("[]") != nil)
    }

    @Test func policiesHaveABoundAndUniqueIds() {
        let long = SamplePolicy.statement(
            more: ", \"Sid\": \"\(String(repeating: "a", count: BucketPolicy.sizeMax))\""
        )
        #expect(refusal(statement: long) == "Policies must be at most 20 KB in size.")
        let twin = SamplePolicy.statement(more: ", \"Sid\": \"a\"")
        #expect(
            refusal(statement: "[\(twin), \(twin)]")
                == "Statement IDs (SID) in a single policy must be unique."
        )
    }

    @Test(arguments: TestSeeds.seeds(fixed: 2, fresh: 1))
    func damagedPoliciesGiveErrorsAndNothingElse(seed: UInt64) {
        var generator = StoreTestKit.SeededGenerator(seed: seed)
        let condition =
            ", \"Condition\": {\"StringLike\": {\"s3:prefix\": [\"${aws:username}/*\", \"\\u00e9\"]}, \"IpAddress\": {\"aws:SourceIp\": \"::1/64\"}}"
        let text =
            "{\"Version\": \"2012-10-17\", \"Statement\": [\(SamplePolicy.statement(more: condition))]}"
        for _ in 0..<3000 {
            var bytes = [UInt8](text.utf8)
            for _ in 0...generator.below(3) {
                let index = generator.below(bytes.count)
                switch generator.below(3) {
                case 0: bytes[index] = UInt8.random(in: 0...255, using: &generator)
                case 1: bytes.remove(at: index)
                default: bytes.insert(generator.pick([UInt8]("{}[]\",:\\*?$/".utf8)), at: index)
                }
            }
            if let policy = try? BucketPolicy(parsing: bytes, bucket: "bucket") {
                _ = policy.evaluate(SamplePolicy.get())
                _ = policy.isPublic
            }
        }
    }
}

@Suite struct PolicyEvaluationTests {
    @Test func denyWins() throws {
        let policy = try SamplePolicy.policy(
            SamplePolicy.statement(),
            SamplePolicy.statement("Deny", resource: "\"Resource\": \"arn:aws:s3:::bucket/secret/*\"")
        )
        #expect(policy.evaluate(SamplePolicy.get("a")) == .allow)
        #expect(policy.evaluate(SamplePolicy.get("secret/a")) == .deny)
        #expect(policy.evaluate(SamplePolicy.get("a", action: "s3:PutObject")) == .none)
        #expect(policy.evaluate(SamplePolicy.get(nil, action: "s3:ListBucket")) == .none)
        #expect(policy.evaluate(SamplePolicy.get("a", by: .anonymous)) == .allow)
    }

    @Test func wildcardsMatchAsDocumented() throws {
        let policy = try SamplePolicy.policy(
            SamplePolicy.statement(
                action: "\"Action\": \"s3:Get*\"",
                resource: "\"Resource\": \"arn:aws:s3:::bucket/a?c/*.jpg\""
            )
        )
        #expect(policy.evaluate(SamplePolicy.get("abc/x/y.jpg")) == .allow)
        #expect(policy.evaluate(SamplePolicy.get("aéc/.jpg", action: "s3:GetObjectVersion")) == .allow)
        #expect(policy.evaluate(SamplePolicy.get("ac/y.jpg")) == .none)
        #expect(policy.evaluate(SamplePolicy.get("abc/y.jpeg")) == .none)
        #expect(policy.evaluate(SamplePolicy.get("abc/y.jpg", action: "s3:PutObject")) == .none)
    }

    @Test func manyStarsAreNoTrap() {
        let pattern = Wildcard(String(repeating: "a*", count: 200) + "b")
        #expect(!pattern.matches(String(repeating: "a", count: 1024)))
        #expect(pattern.matches(String(repeating: "a", count: 1024) + "b"))
    }

    @Test func principalsAreAccountsByAnyOfTheirNames() throws {
        let number = PolicyPrincipal.accountNumber(of: SamplePolicy.other)
        #expect(number.utf8.count == 12)
        let names = [
            "{\"AWS\": \"\(number)\"}", "{\"AWS\": [\"arn:aws:iam::\(number):root\"]}",
            "{\"CanonicalUser\": \"\(SamplePolicy.other)\"}",
            "{\"AWS\": \"arn:aws:iam::\(SamplePolicy.other):root\"}",
            "{\"AWS\": \"arn:aws:iam:::user/\(SamplePolicy.other)\"}", "{\"AWS\": \"\(SamplePolicy.other)\"}",
        ]
        for name in names {
            let policy = try SamplePolicy.policy(SamplePolicy.statement(principal: "\"Principal\": \(name)"))
            #expect(policy.evaluate(SamplePolicy.get()) == .allow, "\(name)")
            #expect(policy.evaluate(SamplePolicy.get(by: SamplePolicy.ownerPrincipal)) == .none)
            #expect(policy.evaluate(SamplePolicy.get(by: .anonymous)) == .none)
            #expect(policy.namedAccounts.count == 1)
            #expect(!policy.isPublic)
        }
    }

    @Test func exceptionsAreTheOthers() throws {
        let policy = try SamplePolicy.policy(
            SamplePolicy.statement(
                "Deny",
                principal: "\"NotPrincipal\": {\"CanonicalUser\": \"\(SamplePolicy.other)\"}",
                action: "\"NotAction\": \"s3:Put*\"",
                resource: "\"NotResource\": \"arn:aws:s3:::bucket/open/*\""
            )
        )
        #expect(policy.evaluate(SamplePolicy.get("a", by: .anonymous)) == .deny)
        #expect(policy.evaluate(SamplePolicy.get("a")) == .none)
        #expect(policy.evaluate(SamplePolicy.get("a", action: "s3:PutObject", by: .anonymous)) == .none)
        #expect(policy.evaluate(SamplePolicy.get("open/a", by: .anonymous)) == .none)
    }

    private func holds(_ condition: String, _ context: [String: [String]]) throws -> Bool {
        let policy = try SamplePolicy.policy(SamplePolicy.statement(more: ", \"Condition\": {\(condition)}"))
        return policy.evaluate(SamplePolicy.get("key", context)) == .allow
    }

    // operator, key, values, what the request has (nil: nothing), whether it holds
    @Test(
        arguments: [
            ("StringEquals", "s3:prefix", "[\"a\", \"b\"]", "b", true),
            ("StringEquals", "s3:prefix", "\"a\"", "A", false),
            ("StringEquals", "s3:prefix", "\"a\"", nil, false),
            ("StringEqualsIfExists", "s3:prefix", "\"a\"", nil, true),
            ("StringEqualsIfExists", "s3:prefix", "\"a\"", "b", false),
            ("StringNotEquals", "s3:prefix", "[\"a\", \"b\"]", "c", true),
            ("StringNotEquals", "s3:prefix", "[\"a\", \"b\"]", "b", false),
            ("StringNotEquals", "s3:prefix", "\"a\"", nil, true),
            ("StringEqualsIgnoreCase", "s3:prefix", "\"a\"", "A", true),
            ("StringNotEqualsIgnoreCase", "s3:prefix", "\"a\"", "A", false),
            ("StringLike", "aws:Referer", "\"http://*.example.com/?\"", "http://www.example.com/x", true),
            ("StringLike", "aws:Referer", "\"http://*.example.com/?\"", "http://www.example.com/", false),
            ("StringNotLike", "aws:Referer", "\"http://a*\"", "http://b", true),
            ("StringNotLike", "aws:Referer", "\"http://a*\"", "http://ab", false),
            ("NumericEquals", "s3:max-keys", "10", "10.0", true),
            ("NumericNotEquals", "s3:max-keys", "10", "11", true),
            ("NumericLessThan", "s3:max-keys", "\"10\"", "9", true),
            ("NumericLessThanEquals", "s3:max-keys", "10", "10", true),
            ("NumericGreaterThan", "s3:max-keys", "10", "10", false),
            ("NumericGreaterThanEquals", "s3:max-keys", "10", "x", false),
            ("DateLessThan", "aws:CurrentTime", "\"2030-01-01T00:00:00Z\"", "2029-12-31T23:59:59Z", true),
            ("DateGreaterThan", "aws:EpochTime", "\"1893456000\"", "1893456001", true),
            ("DateEquals", "aws:CurrentTime", "\"2030-01-01\"", "1893456000", true),
            ("Bool", "aws:SecureTransport", "\"false\"", "false", true),
            ("Bool", "aws:SecureTransport", "true", "false", false),
            ("IpAddress", "aws:SourceIp", "[\"10.0.0.0/8\", \"2001:db8::/32\"]", "10.1.2.3", true),
            ("IpAddress", "aws:SourceIp", "[\"10.0.0.0/8\", \"2001:db8::/32\"]", "2001:db8:1::1", true),
            ("IpAddress", "aws:SourceIp", "\"10.0.0.0/8\"", "::ffff:10.9.9.9", true),
            ("IpAddress", "aws:SourceIp", "\"10.0.0.1\"", "10.0.0.2", false),
            ("IpAddress", "aws:SourceIp", "\"0.0.0.0/0\"", "::1", false),
            ("NotIpAddress", "aws:SourceIp", "\"10.0.0.0/8\"", "11.0.0.1", true),
            ("NotIpAddress", "aws:SourceIp", "\"10.0.0.0/8\"", "10.0.0.1", false),
            (
                "ArnLike", "aws:PrincipalArn", "\"arn:aws:iam::*:root\"", "arn:aws:iam::123456789012:root",
                true
            ),
            ("ArnEquals", "aws:SourceArn", "\"arn:aws:s3:*:x\"", "arn:aws:s3:::x", false),
            ("ArnNotLike", "aws:SourceArn", "\"arn:aws:s3:::a*\"", "arn:aws:s3:::b", true),
            ("Null", "s3:x-amz-acl", "\"true\"", nil, true),
            ("Null", "s3:x-amz-acl", "true", "private", false),
            ("Null", "s3:x-amz-acl", "\"false\"", "private", true),
            ("Null", "s3:x-amz-acl", "\"false\"", nil, false),
            ("StringEquals", "s3:ExistingObjectTag/Team", "\"a\"", "a", true),
            ("stringequals", "S3:PREFIX", "\"a\"", "a", true),
            ("StringEquals", "s3:x-amz-server-side-encryption", "\"AES256\"", "AES256", true),
        ] as [(String, String, String, String?, Bool)]
    )
    func conditionsHoldAsDocumented(name: String, key: String, values: String, value: String?, expected: Bool)
        throws
    {
        let context = value.map { [key.uppercased() == key ? key.lowercased() : key: [$0]] } ?? [:]
        #expect(try holds("\"\(name)\": {\"\(key)\": \(values)}", context) == expected)
    }

    @Test func tagKeysKeepTheirCase() throws {
        let condition = "\"StringEquals\": {\"s3:existingobjecttag/Team\": \"a\"}"
        #expect(try holds(condition, ["s3:ExistingObjectTag/Team": ["a"]]))
        #expect(try !holds(condition, ["s3:ExistingObjectTag/team": ["a"]]))
    }

    @Test func allConditionsHaveToHold() throws {
        let condition =
            "\"StringEquals\": {\"s3:prefix\": \"a\", \"s3:delimiter\": \"/\"}, \"Bool\": {\"aws:SecureTransport\": \"true\"}"
        let all = ["s3:prefix": ["a"], "s3:delimiter": ["/"], "aws:SecureTransport": ["true"]]
        #expect(try holds(condition, all))
        for key in all.keys { #expect(try !holds(condition, all.filter { $0.key != key })) }
    }

    @Test func setOperatorsLookAtEachValue() throws {
        let any = "\"ForAnyValue:StringEquals\": {\"s3:RequestObjectTagKeys\": [\"a\", \"b\"]}"
        let all = "\"ForAllValues:StringEquals\": {\"s3:RequestObjectTagKeys\": [\"a\", \"b\"]}"
        let key = "s3:RequestObjectTagKeys"
        #expect(try holds(any, [key: ["x", "b"]]))
        #expect(try !holds(any, [key: ["x"]]))
        #expect(try !holds(any, [:]))
        #expect(try holds(all, [key: ["a", "b"]]))
        #expect(try !holds(all, [key: ["a", "x"]]))
        #expect(try holds(all, [:]))
    }

    @Test func variablesStandForWhatTheRequestHas() throws {
        let home = SamplePolicy.statement(
            resource: "\"Resource\": \"arn:aws:s3:::bucket/home/${aws:username}/*\""
        )
        let policy = try SamplePolicy.policy(home)
        #expect(policy.evaluate(SamplePolicy.get("home/me/a", ["aws:username": ["me"]])) == .allow)
        #expect(policy.evaluate(SamplePolicy.get("home/you/a", ["aws:username": ["me"]])) == .none)
        #expect(policy.evaluate(SamplePolicy.get("home/x/a", ["aws:username": ["*"]])) == .none)
        #expect(policy.evaluate(SamplePolicy.get("home//a")) == .none)
        let fallback = "\"StringLike\": {\"s3:prefix\": \"${aws:username, 'guest'}/*\"}"
        #expect(try holds(fallback, ["s3:prefix": ["guest/a"]]))
        #expect(try holds(fallback, ["s3:prefix": ["me/a"], "aws:username": ["me"]]))
        let literal = "\"StringLike\": {\"s3:prefix\": \"a${*}b\"}"
        #expect(try holds(literal, ["s3:prefix": ["a*b"]]))
        #expect(try !holds(literal, ["s3:prefix": ["axb"]]))
        // The first version of the language knows no variables.
        let old = try SamplePolicy.parse("{\"Statement\": \(home)}")
        #expect(old.evaluate(SamplePolicy.get("home/me/a", ["aws:username": ["me"]])) == .none)
        #expect(old.evaluate(SamplePolicy.get("home/${aws:username}/a")) == .allow)
    }

    @Test func tagsAreFetchedOnlyWhenAPolicyAsksForThem() throws {
        #expect(try !SamplePolicy.policy(SamplePolicy.statement()).needsExistingTags)
        let condition = ", \"Condition\": {\"StringEquals\": {\"s3:ExistingObjectTag/a\": \"b\"}}"
        #expect(try SamplePolicy.policy(SamplePolicy.statement(more: condition)).needsExistingTags)
    }
}

@Suite struct PolicyStatusTests {
    @Test(arguments: [
        ("", true), ("\"IpAddress\": {\"aws:SourceIp\": \"10.0.0.0/32\"}", false),
        ("\"IpAddress\": {\"aws:SourceIp\": \"10.0.0.0/7\"}", true),
        ("\"IpAddress\": {\"aws:SourceIp\": \"0.0.0.0/0\"}", true),
        ("\"NotIpAddress\": {\"aws:SourceIp\": \"10.0.0.0/8\"}", true),
        ("\"StringEquals\": {\"aws:SourceVpc\": \"vpc-1\"}", false),
        ("\"StringLike\": {\"aws:SourceVpc\": \"vpc-*\"}", true),
        ("\"StringLike\": {\"aws:SourceVpc\": \"vpc-1\"}", false),
        ("\"StringEqualsIfExists\": {\"aws:SourceVpc\": \"vpc-1\"}", true),
        ("\"StringEquals\": {\"aws:Referer\": \"http://a\"}", true),
        ("\"ForAllValues:StringEquals\": {\"aws:SourceVpc\": \"vpc-1\"}", true),
        ("\"StringEquals\": {\"aws:SourceVpc\": \"${aws:Referer}\"}", true),
        ("\"StringNotEquals\": {\"aws:SourceVpc\": \"vpc-1\"}", true),
    ])
    func conditionsOnWhoMakeAPolicyPrivate(condition: String, isPublic: Bool) throws {
        let policy = try SamplePolicy.policy(SamplePolicy.statement(more: ", \"Condition\": {\(condition)}"))
        #expect(policy.isPublic == isPublic)
    }

    @Test func onlyWhatAllowsEveryoneIsPublic() throws {
        #expect(try !SamplePolicy.policy(SamplePolicy.statement("Deny")).isPublic)
        #expect(
            try SamplePolicy.policy(SamplePolicy.statement(principal: "\"Principal\": {\"AWS\": \"*\"}"))
                .isPublic
        )
        let but = "\"NotPrincipal\": {\"CanonicalUser\": \"\(SamplePolicy.other)\"}"
        #expect(try SamplePolicy.policy(SamplePolicy.statement(principal: but)).isPublic)
        let status = String(decoding: PolicyStatus(isPublic: true).xmlBytes, as: UTF8.self)
        #expect(status.hasSuffix("<IsPublic>true</IsPublic></PolicyStatus>"))
    }
}
