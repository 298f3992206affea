/// Where the access log of a bucket goes.
/// https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketLogging.html
package struct BucketLoggingStatus: XMLSetting, Hashable {
    package enum KeyFormat: Hashable, Sendable {
        /// [prefix][YYYY]-[MM]-[DD]-[hh]-[mm]-[ss]-[unique]
        case simple
        /// [prefix][account]/[region]/[bucket]/[YYYY]/[MM]/[DD]/[YYYY]-[MM]-[DD]-[hh]-[mm]-[ss]-[unique]
        case partitioned(byEventTime: Bool)
    }

    package struct Target: Hashable, Sendable {
        package let bucket: String
        package let prefix: String
        package let grants: [Grant]
        /// Nil when the client named none, which means simple.
        package let keyFormat: KeyFormat?
    }

    /// Nil: there is no log.
    package let target: Target?

    package static let off = BucketLoggingStatus(target: nil)

    private init(target: Target?) { self.target = target }

    package init(xml: XMLElement) throws(S3Error) {
        try xml.requireName("BucketLoggingStatus")
        try xml.requireOnly(["LoggingEnabled"])
        target = try xml.child("LoggingEnabled").map { element throws(S3Error) in try Target(element) }
    }

    package func render(into writer: inout XMLWriter) {
        writer.root("BucketLoggingStatus") { writer in
            guard let target else { return }
            writer.element("LoggingEnabled") { target.render(into: &$0) }
        }
    }
}

extension BucketLoggingStatus.Target {
    init(_ xml: XMLElement) throws(S3Error) {
        try xml.requireOnly(["TargetBucket", "TargetPrefix", "TargetGrants", "TargetObjectKeyFormat"])
        bucket = try xml.requiredWord(of: "TargetBucket")
        prefix = try xml.requiredText(of: "TargetPrefix")
        var grants: [Grant] = []
        if let list = try xml.child("TargetGrants") {
            try list.requireOnly(["Grant"])
            for element in list.children { grants.append(try Grant(xml: element)) }
        }
        guard grants.allSatisfy({ [.fullControl, .read, .write].contains($0.permission) }) else {
            throw .malformedXML("A target grant gives another permission than FULL_CONTROL, READ or WRITE.")
        }
        self.grants = grants
        keyFormat = try xml.child("TargetObjectKeyFormat").map { element throws(S3Error) in
            try Self.format(element)
        }
    }

    private static func format(_ xml: XMLElement) throws(S3Error) -> BucketLoggingStatus.KeyFormat {
        try xml.requireOnly(["SimplePrefix", "PartitionedPrefix"])
        guard xml.children.count == 1, let format = xml.children.first else {
            throw .malformedXML("One of SimplePrefix and PartitionedPrefix must be given.")
        }
        guard format.name == "PartitionedPrefix" else { return .simple }
        try format.requireOnly(["PartitionDateSource"])
        switch try format.word(of: "PartitionDateSource") {
        case "EventTime"?: return .partitioned(byEventTime: true)
        case "DeliveryTime"?, nil: return .partitioned(byEventTime: false)
        default: throw .malformedXML("PartitionDateSource is neither EventTime nor DeliveryTime.")
        }
    }

    func render(into writer: inout XMLWriter) {
        writer.element("TargetBucket", bucket)
        writer.element("TargetPrefix", prefix)
        if !grants.isEmpty {
            writer.element("TargetGrants") { writer in
                for grant in grants { grant.render(into: &writer) }
            }
        }
        guard let keyFormat else { return }
        writer.element("TargetObjectKeyFormat") { writer in
            switch keyFormat {
            case .simple: writer.element("SimplePrefix", "")
            case .partitioned(let byEventTime):
                writer.element("PartitionedPrefix") { writer in
                    writer.element("PartitionDateSource", byEventTime ? "EventTime" : "DeliveryTime")
                }
            }
        }
    }
}
