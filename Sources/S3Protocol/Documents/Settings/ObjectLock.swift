package import StoreModel

/// How firmly a retention holds.
/// https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-lock.html
package enum RetentionMode: String, CaseIterable, Sendable {
    /// Who has s3:BypassGovernanceRetention may shorten it.
    case governance = "GOVERNANCE"
    /// Nobody may shorten it.
    case compliance = "COMPLIANCE"
}

/// https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObjectLockConfiguration.html
package struct ObjectLockConfiguration: XMLSetting, Hashable {
    /// The longest retention that S3 takes: 100 years.
    package static let yearsMax: Int64 = 100
    package static let daysMax: Int64 = 36_500

    package enum Period: Hashable, Sendable {
        case days(Int64)
        case years(Int64)
    }

    package struct DefaultRetention: Hashable, Sendable {
        package let mode: RetentionMode
        package let period: Period

        /// What an object that is put now gets. A year has 365 days.
        package func retention(from now: Timestamp) -> Retention {
            let days =
                switch period {
                case .days(let count): count
                case .years(let count): count * 365
                }
            let until = Timestamp(milliseconds: now.milliseconds + days * 86_400_000)
            return Retention(mode: mode, until: until)
        }
    }

    package var defaultRetention: DefaultRetention?

    package init(defaultRetention: DefaultRetention? = nil) { self.defaultRetention = defaultRetention }

    package init(xml: XMLElement) throws(S3Error) {
        try xml.requireName("ObjectLockConfiguration")
        try xml.requireOnly(["ObjectLockEnabled", "Rule"])
        guard try xml.requiredWord(of: "ObjectLockEnabled") == "Enabled" else {
            throw .malformedXML("ObjectLockEnabled is not Enabled.")
        }
        guard let rule = try xml.child("Rule") else { return }
        try rule.requireOnly(["DefaultRetention"])
        defaultRetention = try DefaultRetention(xml: rule.requiredChild("DefaultRetention"))
    }

    package func render(into writer: inout XMLWriter) {
        writer.root("ObjectLockConfiguration") { writer in
            writer.element("ObjectLockEnabled", "Enabled")
            guard let defaultRetention else { return }
            writer.element("Rule") { writer in
                writer.element("DefaultRetention") { writer in
                    writer.element("Mode", defaultRetention.mode.rawValue)
                    switch defaultRetention.period {
                    case .days(let count): writer.element("Days", count)
                    case .years(let count): writer.element("Years", count)
                    }
                }
            }
        }
    }
}

extension ObjectLockConfiguration.DefaultRetention {
    init(xml: XMLElement) throws(S3Error) {
        try xml.requireOnly(["Mode", "Days", "Years"])
        mode = try RetentionMode(checking: xml.requiredWord(of: "Mode"))
        let count: Int64
        let countMax: Int64
        switch (try xml.integer(of: "Days"), try xml.integer(of: "Years")) {
        case (let days?, nil):
            (period, count, countMax) = (.days(days), days, ObjectLockConfiguration.daysMax)
        case (nil, let years?):
            (period, count, countMax) = (.years(years), years, ObjectLockConfiguration.yearsMax)
        default: throw .malformedXML("One of Days and Years must be given, and not both.")
        }
        guard count > 0 else {
            throw S3Error(
                .invalidRetentionPeriod,
                "Default retention period must be a positive integer value."
            )
        }
        guard count <= countMax else {
            throw S3Error(
                .invalidRetentionPeriod,
                "Default retention period too large: at most \(countMax) is allowed."
            )
        }
    }
}

extension RetentionMode {
    init(checking word: String) throws(S3Error) {
        guard let mode = RetentionMode(rawValue: word) else {
            throw .malformedXML("Mode is neither GOVERNANCE nor COMPLIANCE.")
        }
        self = mode
    }
}

/// Until when a version can't be removed.
/// https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObjectRetention.html
package struct Retention: XMLSetting, Hashable {
    package let mode: RetentionMode
    package let until: Timestamp

    package init(mode: RetentionMode, until: Timestamp) {
        self.mode = mode
        self.until = until
    }

    package init(xml: XMLElement) throws(S3Error) {
        guard let retention = try RetentionChange(xml: xml).retention else {
            throw .malformedXML("Mode and RetainUntilDate are missing.")
        }
        self = retention
    }

    /// - Throws: InvalidArgument when the time is over.
    package func requireFuture(of now: Timestamp) throws(S3Error) {
        guard until > now else {
            throw .invalidArgument(
                "The retain until date must be in the future!",
                name: "RetainUntilDate",
                value: ISOTime(until).text
            )
        }
    }

    package func render(into writer: inout XMLWriter) {
        writer.root("Retention") { writer in
            writer.element("Mode", mode.rawValue)
            writer.element("RetainUntilDate", until)
        }
    }
}

/// The body of PutObjectRetention: an empty one takes the retention away.
package struct RetentionChange: XMLRequest, Hashable {
    package let retention: Retention?

    package init(xml: XMLElement) throws(S3Error) {
        try xml.requireName("Retention")
        try xml.requireOnly(["Mode", "RetainUntilDate"])
        switch (try xml.word(of: "Mode"), try xml.time(of: "RetainUntilDate")) {
        case (nil, nil): retention = nil
        case (let mode?, let time?):
            retention = Retention(mode: try RetentionMode(checking: mode), until: time.timestamp)
        default: throw .malformedXML("Mode and RetainUntilDate belong together.")
        }
    }
}

/// https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObjectLegalHold.html
package struct LegalHold: XMLSetting, Hashable {
    package var isOn: Bool

    package init(isOn: Bool) { self.isOn = isOn }

    package init(xml: XMLElement) throws(S3Error) {
        try xml.requireName("LegalHold")
        try xml.requireOnly(["Status"])
        switch try xml.requiredWord(of: "Status") {
        case "ON": isOn = true
        case "OFF": isOn = false
        default: throw .malformedXML("Status is neither ON nor OFF.")
        }
    }

    package func render(into writer: inout XMLWriter) {
        writer.root("LegalHold") { $0.element("Status", isOn ? "ON" : "OFF") }
    }
}
