package import StoreModel

/// What the lifecycle needs to know about one version.
package struct LifecycleVersion: Hashable, Sendable {
    package var key: ObjectKeyText
    package var size: UInt64
    package var tags: TagSet
    /// When it was made.
    package var modifiedAt: Timestamp
    package var isDeleteMarker: Bool
    /// When the next newer version was made; nil for the current version.
    package var noncurrentSince: Timestamp?
    /// How many noncurrent versions of the key are newer than this one.
    package var newerNoncurrentCount: Int
    /// There is no other version of the key.
    package var isAlone: Bool

    package init(
        key: ObjectKeyText,
        size: UInt64,
        tags: TagSet,
        modifiedAt: Timestamp,
        isDeleteMarker: Bool,
        noncurrentSince: Timestamp?,
        newerNoncurrentCount: Int,
        isAlone: Bool
    ) {
        self.key = key
        self.size = size
        self.tags = tags
        self.modifiedAt = modifiedAt
        self.isDeleteMarker = isDeleteMarker
        self.noncurrentSince = noncurrentSince
        self.newerNoncurrentCount = newerNoncurrentCount
        self.isAlone = isAlone
    }
}

/// What a rule wants done. `rule` is its id.
package enum LifecycleAction: Hashable, Sendable {
    /// Delete the current version as a client would who names no version: in a versioned bucket that makes a marker.
    case expire(rule: String)
    /// Remove this noncurrent version for good.
    case removeNoncurrent(rule: String)
    /// Remove this delete marker: nothing is behind it.
    case removeDeleteMarker(rule: String)
}

/// Applies a configuration to versions and uploads. Pure: the time is handed in.
///
/// Ages count from midnight to midnight: an object that is made at noon with one day to live is due at the second
/// midnight, as S3 rounds. Where a "day" is shorter (for tests), it is due when so many of those have passed.
/// https://docs.aws.amazon.com/AmazonS3/latest/userguide/intro-lifecycle-rules.html#intro-lifecycle-rules-date
package struct LifecycleEvaluation: Sendable {
    private static let dayMilliseconds: Int64 = 86_400_000

    private let rules: [LifecycleRule]
    private let now: Timestamp
    /// Milliseconds of what a rule calls a day.
    private let dayLength: Int64

    /// - Parameter dayLength: 24 hours but in tests; at least a millisecond.
    package init(
        _ configuration: LifecycleConfiguration,
        now: Timestamp,
        dayLength: Duration = .seconds(86_400)
    ) {
        rules = configuration.rules.filter(\.isEnabled)
        self.now = now
        let (seconds, attoseconds) = dayLength.components
        let (milliseconds, overflow) = seconds.multipliedReportingOverflow(by: 1000)
        self.dayLength =
            overflow ? Self.dayMilliseconds : max(1, milliseconds + attoseconds / 1_000_000_000_000_000)
    }

    /// What to do with a version now, if anything.
    package func action(for version: LifecycleVersion) -> LifecycleAction? {
        for rule in rules
        where rule.filter.matches(key: version.key, size: version.size, tags: version.tags) {
            if let action = action(of: rule, for: version) { return action }
        }
        return nil
    }

    private func action(of rule: LifecycleRule, for version: LifecycleVersion) -> LifecycleAction? {
        if let since = version.noncurrentSince {
            guard let expiration = rule.noncurrentExpiration, isDue(since, days: expiration.days),
                version.newerNoncurrentCount >= Int(clamping: expiration.retainedCount ?? 0)
            else { return nil }
            return .removeNoncurrent(rule: rule.id)
        }
        let isDue =
            switch rule.expiration {
            case .days(let days): self.isDue(version.modifiedAt, days: days)
            case .date(let date): now >= date
            case .expiredDeleteMarker: version.isDeleteMarker
            case .never: false
            }
        guard isDue else { return nil }
        if version.isDeleteMarker {
            // A marker with versions behind it does its work; alone it is removed, also by days and dates.
            return version.isAlone ? .removeDeleteMarker(rule: rule.id) : nil
        }
        return .expire(rule: rule.id)
    }

    /// The rule by which an upload that nobody completed is to be aborted now.
    package func abortingRule(key: ObjectKeyText, initiatedAt: Timestamp) -> String? {
        rules.first { rule in
            guard let days = rule.abortUploadsAfterDays, rule.filter.matches(key: key) else { return false }
            return isDue(initiatedAt, days: days)
        }?.id
    }

    private func isDue(_ start: Timestamp, days: Int64) -> Bool {
        guard dayLength != Self.dayMilliseconds else { return now >= Self.dueDate(start, days: days) }
        let (age, overflow) = days.multipliedReportingOverflow(by: dayLength)
        return !overflow && now.milliseconds - start.milliseconds >= age
    }

    /// So many days later, at the next midnight.
    static func dueDate(_ start: Timestamp, days: Int64) -> Timestamp {
        let (age, overflow) = days.multipliedReportingOverflow(by: dayMilliseconds)
        let (sum, sumOverflow) = start.milliseconds.addingReportingOverflow(age)
        guard !overflow, !sumOverflow, sum < Int64.max - dayMilliseconds else {
            return Timestamp(milliseconds: Int64.max)
        }
        let day = ISOTime.floorDivision(sum + dayMilliseconds - 1, dayMilliseconds)
        return Timestamp(milliseconds: day * dayMilliseconds)
    }
}

/// What responses say about the future of an object or of an upload. The dates are those of real days.
extension LifecycleConfiguration {
    /// The value of x-amz-expiration for a current version: the earliest expiration of all rules.
    /// https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadObject.html#AmazonS3-HeadObject-response-header-Expiration
    package func expirationHeader(
        key: ObjectKeyText,
        size: UInt64,
        tags: TagSet,
        modifiedAt: Timestamp
    ) -> String? {
        var earliest: (date: Timestamp, rule: String)?
        for rule in rules where rule.isEnabled {
            guard rule.filter.matches(key: key, size: size, tags: tags) else { continue }
            let date: Timestamp
            switch rule.expiration {
            case .days(let days): date = LifecycleEvaluation.dueDate(modifiedAt, days: days)
            case .date(let fixed): date = fixed
            case .expiredDeleteMarker, .never: continue
            }
            if earliest.map({ date < $0.date }) ?? true { earliest = (date, rule.id) }
        }
        guard let earliest else { return nil }
        let rule = PercentCoding.encode(earliest.rule, keepsSlash: false)
        return "expiry-date=\"\(Self.webDate(earliest.date))\", rule-id=\"\(rule)\""
    }

    /// The values of x-amz-abort-date and x-amz-abort-rule-id for an upload.
    /// https://docs.aws.amazon.com/AmazonS3/latest/API/API_CreateMultipartUpload.html
    package func abortHeaders(key: ObjectKeyText, initiatedAt: Timestamp) -> (date: String, ruleID: String)? {
        var earliest: (date: Timestamp, rule: String)?
        for rule in rules where rule.isEnabled && rule.filter.matches(key: key) {
            guard let days = rule.abortUploadsAfterDays else { continue }
            let date = LifecycleEvaluation.dueDate(initiatedAt, days: days)
            if earliest.map({ date < $0.date }) ?? true { earliest = (date, rule.id) }
        }
        return earliest.map { (Self.webDate($0.date), PercentCoding.encode($0.rule, keepsSlash: false)) }
    }

    /// - Parameter date: a midnight, as the dates of all rules are.
    private static func webDate(_ date: Timestamp) -> String {
        // The calendar of HTTP dates has years of four digits.
        let last = Timestamp(milliseconds: 253_402_214_400_000)
        return HTTPDate.format(min(date, last))
    }
}
