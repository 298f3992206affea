package import StoreModel

/// What happens to objects of a bucket when they grow old.
/// https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-lifecycle-mgmt.html
package struct LifecycleConfiguration: XMLSetting, Hashable {
    package static let ruleCountMax = 1000
    package static let idSizeMax = 255

    package let rules: [LifecycleRule]

    package init(xml: XMLElement) throws(S3Error) {
        try xml.requireName("LifecycleConfiguration")
        try xml.requireOnly(["Rule"])
        guard (1...Self.ruleCountMax).contains(xml.children.count) else {
            throw .malformedXML("There must be 1 to \(Self.ruleCountMax) rules.")
        }
        var rules: [LifecycleRule] = []
        var ids: Set<String> = []
        for (index, element) in xml.children.enumerated() {
            let rule = try LifecycleRule(xml: element, index: index)
            guard ids.insert(rule.id).inserted else {
                throw S3Error(
                    .invalidArgument,
                    "Rule ID must be unique. Found same ID for more than one rule"
                )
            }
            rules.append(rule)
        }
        self.rules = rules
    }

    package func render(into writer: inout XMLWriter) {
        writer.root("LifecycleConfiguration") { writer in
            for rule in rules { rule.render(into: &writer) }
        }
    }
}

/// One rule: which objects, and what.
/// https://docs.aws.amazon.com/AmazonS3/latest/API/API_LifecycleRule.html
package struct LifecycleRule: Hashable, Sendable {
    /// When current versions expire.
    package enum Expiration: Hashable, Sendable {
        case days(Int64)
        case date(Timestamp)
        /// Delete markers without anything behind them are removed.
        case expiredDeleteMarker
        case never
    }

    package struct NoncurrentExpiration: Hashable, Sendable {
        package let days: Int64
        /// So many of the newest noncurrent versions stay.
        package let retainedCount: Int64?
    }

    package let id: String
    package let isEnabled: Bool
    package let filter: LifecycleFilter
    package let expiration: Expiration
    package let noncurrentExpiration: NoncurrentExpiration?
    package let abortUploadsAfterDays: Int64?

    init(xml: XMLElement, index: Int) throws(S3Error) {
        guard xml.name == "Rule" else { throw .malformedXML("An element is not a Rule.") }
        try xml.requireOnly([
            "ID", "Prefix", "Filter", "Status", "Expiration", "NoncurrentVersionExpiration",
            "AbortIncompleteMultipartUpload", "Transition", "NoncurrentVersionTransition",
        ])
        let given = try xml.text(of: "ID") ?? ""
        guard given.utf8.count <= LifecycleConfiguration.idSizeMax else {
            throw S3Error(.invalidArgument, "ID length should not exceed allowed limit of 255")
        }
        switch try xml.requiredWord(of: "Status") {
        case "Enabled": isEnabled = true
        case "Disabled": isEnabled = false
        default: throw .malformedXML("Status is neither Enabled nor Disabled.")
        }
        filter = try LifecycleFilter(rule: xml)
        guard xml.children(named: "Transition").isEmpty,
            xml.children(named: "NoncurrentVersionTransition").isEmpty
        else {
            throw S3Error(.notImplemented, "There is one storage class: transitions are not implemented.")
        }
        expiration =
            try xml.child("Expiration").map { element throws(S3Error) in
                try Self.expiration(element)
            } ?? .never
        noncurrentExpiration = try xml.child("NoncurrentVersionExpiration").map { element throws(S3Error) in
            try NoncurrentExpiration(xml: element)
        }
        abortUploadsAfterDays = try xml.child("AbortIncompleteMultipartUpload").map {
            element throws(S3Error) in
            try element.requireOnly(["DaysAfterInitiation"])
            return try Self.days(
                of: "DaysAfterInitiation",
                in: element,
                action: "AbortIncompleteMultipartUpload"
            )
        }
        // S3 gives an id to a rule that has none; it stays the same when the document is stored again.
        id = given.isEmpty ? GeneratedID.make(from: "\(index) \(filter) \(expiration)") : given
        try checkCombination()
    }

    private static func expiration(_ xml: XMLElement) throws(S3Error) -> Expiration {
        try xml.requireOnly(["Days", "Date", "ExpiredObjectDeleteMarker"])
        guard xml.children.count == 1 else {
            throw .malformedXML("Expiration has one of Days, Date and ExpiredObjectDeleteMarker.")
        }
        if let time = try xml.time(of: "Date") {
            guard time.isMidnight else {
                throw S3Error(.invalidArgument, "'Date' must be at midnight GMT")
            }
            return .date(time.timestamp)
        }
        if let flag = try xml.boolean(of: "ExpiredObjectDeleteMarker") {
            return flag ? .expiredDeleteMarker : .never
        }
        return .days(try days(of: "Days", in: xml, action: "Expiration"))
    }

    /// The largest number of days that S3 takes.
    private static let daysMax = Int64(Int32.max)

    fileprivate static func days(
        of name: String,
        in xml: XMLElement,
        action: String
    ) throws(S3Error) -> Int64 {
        guard let days = try xml.integer(of: name) else { throw .malformedXML("\(action) lacks \(name).") }
        guard days > 0, days <= daysMax else {
            throw .invalidArgument(
                "'\(name)' for \(action) action must be a positive integer",
                name: name,
                value: String(days)
            )
        }
        return days
    }

    private func checkCombination() throws(S3Error) {
        let hasMarkerElement = expiration == .expiredDeleteMarker
        guard expiration != .never || noncurrentExpiration != nil || abortUploadsAfterDays != nil else {
            throw S3Error(.invalidRequest, "At least one action needs to be specified in a rule")
        }
        if hasMarkerElement, !filter.tags.isEmpty {
            throw S3Error(.invalidRequest, "ExpiredObjectDeleteMarker cannot be specified with Tags.")
        }
        if abortUploadsAfterDays != nil {
            guard filter.tags.isEmpty else {
                throw S3Error(
                    .invalidRequest,
                    "AbortIncompleteMultipartUpload cannot be specified with Tags."
                )
            }
            guard !filter.hasSize else {
                throw S3Error(
                    .invalidRequest,
                    "AbortIncompleteMultipartUpload cannot be specified with Object Size."
                )
            }
        }
    }

    func render(into writer: inout XMLWriter) {
        writer.element("Rule") { writer in
            writer.element("ID", id)
            filter.render(into: &writer)
            writer.element("Status", isEnabled ? "Enabled" : "Disabled")
            if expiration != .never {
                writer.element("Expiration") { writer in
                    switch expiration {
                    case .days(let days): writer.element("Days", days)
                    case .date(let date): writer.element("Date", date)
                    case .expiredDeleteMarker: writer.element("ExpiredObjectDeleteMarker", true)
                    case .never: break
                    }
                }
            }
            if let noncurrentExpiration {
                writer.element("NoncurrentVersionExpiration") { writer in
                    writer.element("NoncurrentDays", noncurrentExpiration.days)
                    writer.optional("NewerNoncurrentVersions", noncurrentExpiration.retainedCount)
                }
            }
            if let abortUploadsAfterDays {
                writer.element("AbortIncompleteMultipartUpload") { writer in
                    writer.element("DaysAfterInitiation", abortUploadsAfterDays)
                }
            }
        }
    }
}

extension LifecycleRule.NoncurrentExpiration {
    init(xml: XMLElement) throws(S3Error) {
        try xml.requireOnly(["NoncurrentDays", "NewerNoncurrentVersions"])
        days = try LifecycleRule.days(of: "NoncurrentDays", in: xml, action: "NoncurrentVersionExpiration")
        retainedCount = try xml.integer(of: "NewerNoncurrentVersions")
        guard retainedCount.map({ (1...100).contains($0) }) ?? true else {
            throw S3Error(
                .invalidArgument,
                "'NewerNoncurrentVersions' for NoncurrentVersionExpiration action must be a positive integer "
                    + "no greater than 100"
            )
        }
    }
}
