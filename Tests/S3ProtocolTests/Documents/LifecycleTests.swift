import S3Protocol
import StoreModel
import Testing

@Suite struct LifecycleParsingTests {
    private func code(_ rules: String...) -> S3ErrorCode? {
        failureCode {
            let inner = rules.map { "<Rule>\($0)</Rule>" }.joined()
            _ = try LifecycleConfiguration(
                xml: parsed("<LifecycleConfiguration>\(inner)</LifecycleConfiguration>")
            )
        }
    }

    private static let enabled = "<Status>Enabled</Status>"
    private static let days = "<Expiration><Days>1</Days></Expiration>"
    private static let tag = "<Tag><Key>a</Key><Value>b</Value></Tag>"

    private func filtered(_ filter: String, _ action: String = days) -> S3ErrorCode? {
        code(Self.enabled + "<Filter>\(filter)</Filter>" + action)
    }

    private func acting(_ action: String) -> S3ErrorCode? { filtered("", action) }

    @Test func filtersAreChecked() {
        #expect(filtered("") == nil)
        #expect(filtered("<Prefix>a</Prefix>") == nil)
        #expect(filtered(Self.tag) == nil)
        #expect(filtered("<ObjectSizeGreaterThan>0</ObjectSizeGreaterThan>") == nil)
        #expect(filtered("<And><Prefix>a</Prefix>\(Self.tag)</And>") == nil)
        #expect(filtered("<And><Prefix>a</Prefix></And>") == .malformedXML)
        #expect(filtered("<Prefix>a</Prefix>\(Self.tag)") == .malformedXML)
        #expect(filtered("<And>\(Self.tag)\(Self.tag)</And>") == .invalidRequest)
        #expect(filtered("<ObjectSizeGreaterThan>-1</ObjectSizeGreaterThan>") == .invalidArgument)
        let sizes =
            "<ObjectSizeGreaterThan>5</ObjectSizeGreaterThan><ObjectSizeLessThan>5</ObjectSizeLessThan>"
        #expect(filtered("<And>\(sizes)</And>") == .invalidRequest)
        #expect(code(Self.enabled + Self.days) == .malformedXML)
        #expect(code(Self.enabled + "<Prefix>a</Prefix>" + Self.days) == nil)
        #expect(code(Self.enabled + "<Prefix>a</Prefix><Filter/>" + Self.days) == .malformedXML)
    }

    @Test func actionsAreChecked() {
        #expect(acting("") == .invalidRequest)
        #expect(acting("<Expiration/>") == .malformedXML)
        #expect(acting("<Expiration><Days>0</Days></Expiration>") == .invalidArgument)
        #expect(acting("<Expiration><Days>-1</Days></Expiration>") == .invalidArgument)
        #expect(acting("<Expiration><Days>9223372036854775807</Days></Expiration>") == .invalidArgument)
        #expect(acting("<Expiration><Days>x</Days></Expiration>") == .malformedXML)
        #expect(acting("<Expiration><Date>2030-01-01</Date></Expiration>") == nil)
        #expect(acting("<Expiration><Date>2030-01-01T01:00:00Z</Date></Expiration>") == .invalidArgument)
        #expect(acting("<Expiration><Date>20300101x</Date></Expiration>") == .malformedXML)
        #expect(acting("<Expiration><Days>1</Days><Date>2030-01-01</Date></Expiration>") == .malformedXML)
        let marker = "<ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker>"
        #expect(acting("<Expiration>\(marker)</Expiration>") == nil)
        #expect(acting("<Expiration>\(marker)<Days>1</Days></Expiration>") == .malformedXML)
        #expect(filtered(Self.tag, "<Expiration>\(marker)</Expiration>") == .invalidRequest)
        let abort =
            "<AbortIncompleteMultipartUpload><DaysAfterInitiation>1</DaysAfterInitiation></AbortIncompleteMultipartUpload>"
        #expect(acting(abort) == nil)
        #expect(filtered(Self.tag, abort) == .invalidRequest)
        #expect(filtered("<ObjectSizeLessThan>5</ObjectSizeLessThan>", abort) == .invalidRequest)
        func noncurrent(_ inner: String) -> S3ErrorCode? {
            acting("<NoncurrentVersionExpiration>\(inner)</NoncurrentVersionExpiration>")
        }
        #expect(noncurrent("<NoncurrentDays>1</NoncurrentDays>") == nil)
        #expect(noncurrent("<NoncurrentDays>0</NoncurrentDays>") == .invalidArgument)
        #expect(noncurrent("<NewerNoncurrentVersions>1</NewerNoncurrentVersions>") == .malformedXML)
        #expect(
            noncurrent(
                "<NoncurrentDays>1</NoncurrentDays><NewerNoncurrentVersions>101</NewerNoncurrentVersions>"
            )
                == .invalidArgument
        )
        let transition = "<Transition><Days>1</Days><StorageClass>GLACIER</StorageClass></Transition>"
        #expect(acting(transition) == .notImplemented)
    }

    @Test func rulesAreChecked() {
        let rest = "<Filter/>" + Self.days
        #expect(code("<Status>enabled</Status>" + rest) == .malformedXML)
        #expect(code(rest) == .malformedXML)
        #expect(
            code("<ID>\(String(repeating: "a", count: 256))</ID>" + Self.enabled + rest) == .invalidArgument
        )
        let named = "<ID>rule1</ID>" + Self.enabled + rest
        #expect(code(named, named) == .invalidArgument)
        #expect(code() == .malformedXML)
    }

    @Test func rulesWithoutAnIdGetOne() throws {
        let rule = "<Rule>\(Self.enabled)<Filter/>\(Self.days)</Rule>"
        let text = "<LifecycleConfiguration>\(rule)\(rule)</LifecycleConfiguration>"
        let configuration = try LifecycleConfiguration(xml: parsed(text))
        #expect(Set(configuration.rules.map(\.id)).count == 2)
        #expect(try LifecycleConfiguration(body: configuration.xmlBytes) == configuration)
    }
}

@Suite struct LifecycleEvaluationTests {
    private static let day: Int64 = 86_400_000
    private static let noon = Timestamp(milliseconds: 20_000 * day + day / 2)

    private func configuration(_ inner: String, filter: String = "<Filter/>") throws -> LifecycleConfiguration
    {
        let rule = "<Rule><ID>the rule</ID><Status>Enabled</Status>\(filter)\(inner)</Rule>"
        return try LifecycleConfiguration(
            xml: parsed("<LifecycleConfiguration>\(rule)</LifecycleConfiguration>")
        )
    }

    private func version(
        key: String = "a/b",
        isDeleteMarker: Bool = false,
        noncurrentSince: Timestamp? = nil,
        newer: Int = 0,
        isAlone: Bool = true
    ) -> LifecycleVersion {
        LifecycleVersion(
            key: ObjectKeyText(key),
            size: 100,
            tags: TagSet(stored: [.init(key: "k", value: "v")]),
            modifiedAt: Self.noon,
            isDeleteMarker: isDeleteMarker,
            noncurrentSince: noncurrentSince,
            newerNoncurrentCount: newer,
            isAlone: isAlone
        )
    }

    private func action(
        _ configuration: LifecycleConfiguration,
        _ version: LifecycleVersion,
        after milliseconds: Int64,
        dayLength: Duration = .seconds(86_400)
    ) -> LifecycleAction? {
        let now = Timestamp(milliseconds: Self.noon.milliseconds + milliseconds)
        return LifecycleEvaluation(configuration, now: now, dayLength: dayLength).action(for: version)
    }

    @Test func daysEndAtTheNextMidnight() throws {
        let rules = try configuration("<Expiration><Days>1</Days></Expiration>")
        #expect(action(rules, version(), after: Self.day) == nil)
        #expect(action(rules, version(), after: Self.day * 3 / 2 - 1) == nil)
        #expect(action(rules, version(), after: Self.day * 3 / 2) == .expire(rule: "the rule"))
    }

    @Test func shortDaysAreCountedFromTheVersion() throws {
        let rules = try configuration("<Expiration><Days>3</Days></Expiration>")
        #expect(action(rules, version(), after: 29_999, dayLength: .seconds(10)) == nil)
        #expect(action(rules, version(), after: 30_000, dayLength: .seconds(10)) == .expire(rule: "the rule"))
        #expect(action(rules, version(), after: 30, dayLength: .zero) != nil)
        #expect(action(rules, version(), after: 30, dayLength: .seconds(Int64.max)) == nil)
        let header = rules.expirationHeader(
            key: ObjectKeyText("a"),
            size: 0,
            tags: .empty,
            modifiedAt: Self.noon
        )
        #expect(header == "expiry-date=\"Tue, 08 Oct 2024 00:00:00 GMT\", rule-id=\"the%20rule\"")
    }

    @Test func filtersChoose() throws {
        let expiration = "<Expiration><Days>1</Days></Expiration>"
        let matching = [
            "<Prefix>a/</Prefix>", "<Filter><Prefix>a/</Prefix></Filter>",
            "<Filter><Tag><Key>k</Key><Value>v</Value></Tag></Filter>",
            "<Filter><ObjectSizeGreaterThan>99</ObjectSizeGreaterThan></Filter>",
            "<Filter><ObjectSizeLessThan>101</ObjectSizeLessThan></Filter>",
            "<Filter><And><Prefix>a</Prefix><ObjectSizeLessThan>101</ObjectSizeLessThan></And></Filter>",
        ]
        let others = [
            "<Prefix>b</Prefix>", "<Filter><Tag><Key>k</Key><Value>w</Value></Tag></Filter>",
            "<Filter><ObjectSizeGreaterThan>100</ObjectSizeGreaterThan></Filter>",
            "<Filter><ObjectSizeLessThan>100</ObjectSizeLessThan></Filter>",
            "<Filter><And><Prefix>b</Prefix><ObjectSizeLessThan>101</ObjectSizeLessThan></And></Filter>",
        ]
        for filter in matching {
            let rules = try configuration(expiration, filter: filter)
            #expect(action(rules, version(), after: 9 * Self.day) == .expire(rule: "the rule"), "\(filter)")
        }
        for filter in others {
            let rules = try configuration(expiration, filter: filter)
            #expect(action(rules, version(), after: 9 * Self.day) == nil, "\(filter)")
            #expect(
                rules.expirationHeader(
                    key: ObjectKeyText("a/b"),
                    size: 100,
                    tags: version().tags,
                    modifiedAt: Self.noon
                ) == nil
            )
        }
    }

    @Test func noncurrentVersionsCountFromWhenTheyWereReplaced() throws {
        let inner = "<NoncurrentDays>1</NoncurrentDays><NewerNoncurrentVersions>2</NewerNoncurrentVersions>"
        let rules = try configuration("<NoncurrentVersionExpiration>\(inner)</NoncurrentVersionExpiration>")
        let replacedAt = Timestamp(milliseconds: Self.noon.milliseconds + 5 * Self.day)
        func decided(newer: Int, after days: Int64) -> LifecycleAction? {
            action(
                rules,
                version(noncurrentSince: replacedAt, newer: newer, isAlone: false),
                after: days * Self.day
            )
        }
        #expect(decided(newer: 2, after: 6) == nil)
        #expect(decided(newer: 2, after: 7) == .removeNoncurrent(rule: "the rule"))
        #expect(decided(newer: 1, after: 70) == nil)
        #expect(action(rules, version(), after: 70 * Self.day) == nil)
    }

    @Test func deleteMarkersGoWhenNothingIsBehindThem() throws {
        let byMarker = try configuration(
            "<Expiration><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration>"
        )
        let byDays = try configuration("<Expiration><Days>1</Days></Expiration>")
        let alone = version(isDeleteMarker: true)
        let inUse = version(isDeleteMarker: true, isAlone: false)
        #expect(action(byMarker, alone, after: 0) == .removeDeleteMarker(rule: "the rule"))
        #expect(action(byMarker, inUse, after: 0) == nil)
        #expect(action(byMarker, version(), after: 9 * Self.day) == nil)
        #expect(action(byDays, alone, after: 0) == nil)
        #expect(action(byDays, alone, after: 2 * Self.day) == .removeDeleteMarker(rule: "the rule"))
        #expect(action(byDays, inUse, after: 2 * Self.day) == nil)
    }

    @Test func datesAndDisabledRules() throws {
        let rules = try configuration("<Expiration><Date>2024-10-05</Date></Expiration>")
        #expect(action(rules, version(), after: Self.day / 2 - 1) == nil)
        #expect(action(rules, version(), after: Self.day / 2) != nil)
        let off = "<Rule><Status>Disabled</Status><Filter/><Expiration><Days>1</Days></Expiration></Rule>"
        let disabled = try LifecycleConfiguration(
            xml: parsed("<LifecycleConfiguration>\(off)</LifecycleConfiguration>")
        )
        #expect(action(disabled, version(), after: 9 * Self.day) == nil)
    }

    @Test func oldUploadsAreAborted() throws {
        let abort = "<DaysAfterInitiation>2</DaysAfterInitiation>"
        let rules = try configuration(
            "<AbortIncompleteMultipartUpload>\(abort)</AbortIncompleteMultipartUpload>",
            filter: "<Prefix>a/</Prefix>"
        )
        func rule(_ key: String, after days: Int64) -> String? {
            let now = Timestamp(milliseconds: Self.noon.milliseconds + days * Self.day)
            return LifecycleEvaluation(rules, now: now).abortingRule(
                key: ObjectKeyText(key),
                initiatedAt: Self.noon
            )
        }
        #expect(rule("a/b", after: 2) == nil)
        #expect(rule("a/b", after: 3) == "the rule")
        #expect(rule("b", after: 3) == nil)
        let headers = rules.abortHeaders(key: ObjectKeyText("a/b"), initiatedAt: Self.noon)
        #expect(headers?.date == "Mon, 07 Oct 2024 00:00:00 GMT")
        #expect(headers?.ruleID == "the%20rule")
    }
}
