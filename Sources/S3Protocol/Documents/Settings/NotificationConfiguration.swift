internal import ContentHashing
internal import StoreModel

/// Which events of a bucket go where. Stored and validated.
/// https://docs.aws.amazon.com/AmazonS3/latest/userguide/EventNotifications.html
package struct NotificationConfiguration: XMLSetting, Hashable {
    package static let targetCountMax = 100

    package enum Destination: String, CaseIterable, Sendable {
        case topic, queue, function

        var element: String {
            switch self {
            case .topic: "TopicConfiguration"
            case .queue: "QueueConfiguration"
            case .function: "CloudFunctionConfiguration"
            }
        }

        var addressElement: String {
            switch self {
            case .topic: "Topic"
            case .queue: "Queue"
            case .function: "CloudFunction"
            }
        }

        /// The service in the address.
        var service: String {
            switch self {
            case .topic: "sns"
            case .queue: "sqs"
            case .function: "lambda"
            }
        }
    }

    package struct Target: Hashable, Sendable {
        package let id: String
        package let destination: Destination
        package let address: String
        package let events: [String]
        package let prefix: String?
        package let suffix: String?
    }

    package let targets: [Target]
    package let hasEventBridge: Bool

    /// Nothing is sent anywhere: what a bucket without a configuration shows.
    package static let none = NotificationConfiguration(targets: [], hasEventBridge: false)

    private init(targets: [Target], hasEventBridge: Bool) {
        self.targets = targets
        self.hasEventBridge = hasEventBridge
    }

    package init(xml: XMLElement) throws(S3Error) {
        try xml.requireName("NotificationConfiguration")
        let elements = Set(Destination.allCases.map(\.element))
        try xml.requireOnly(elements.union(["EventBridgeConfiguration"]))
        hasEventBridge = try xml.child("EventBridgeConfiguration") != nil
        var targets: [Target] = []
        for destination in Destination.allCases {
            for element in xml.children(named: destination.element) {
                targets.append(try Target(element, destination, index: targets.count))
            }
        }
        guard targets.count <= Self.targetCountMax else {
            throw S3Error(.invalidArgument, "There are more than \(Self.targetCountMax) configurations.")
        }
        guard Set(targets.map(\.id)).count == targets.count else {
            throw S3Error(.invalidArgument, "Configuration IDs must be unique")
        }
        self.targets = targets
    }

    package func render(into writer: inout XMLWriter) {
        writer.root("NotificationConfiguration") { writer in
            for target in targets { target.render(into: &writer) }
            if hasEventBridge { writer.element("EventBridgeConfiguration", "") }
        }
    }

    /// Every event that S3 knows.
    static let events: Set<String> = [
        "s3:TestEvent", "s3:ReducedRedundancyLostObject", "s3:ObjectCreated:*", "s3:ObjectCreated:Put",
        "s3:ObjectCreated:Post", "s3:ObjectCreated:Copy", "s3:ObjectCreated:CompleteMultipartUpload",
        "s3:ObjectRemoved:*", "s3:ObjectRemoved:Delete", "s3:ObjectRemoved:DeleteMarkerCreated",
        "s3:ObjectRestore:*", "s3:ObjectRestore:Post", "s3:ObjectRestore:Completed",
        "s3:ObjectRestore:Delete", "s3:Replication:*", "s3:Replication:OperationFailedReplication",
        "s3:Replication:OperationNotTracked", "s3:Replication:OperationMissedThreshold",
        "s3:Replication:OperationReplicatedAfterThreshold", "s3:LifecycleTransition",
        "s3:IntelligentTiering", "s3:ObjectAcl:Put", "s3:LifecycleExpiration:*",
        "s3:LifecycleExpiration:Delete", "s3:LifecycleExpiration:DeleteMarkerCreated", "s3:ObjectTagging:*",
        "s3:ObjectTagging:Put", "s3:ObjectTagging:Delete",
    ]
}

extension NotificationConfiguration.Target {
    init(
        _ xml: XMLElement,
        _ destination: NotificationConfiguration.Destination,
        index: Int
    ) throws(S3Error) {
        try xml.requireOnly(["Id", destination.addressElement, "Event", "Filter"])
        self.destination = destination
        address = try xml.requiredWord(of: destination.addressElement)
        events = try xml.texts(of: "Event").map { XMLText.trimmed($0) }
        let filter = try Self.filter(xml)
        (prefix, suffix) = (filter.prefix, filter.suffix)
        guard !events.isEmpty else { throw .malformedXML("A configuration names no event.") }
        for event in events where !NotificationConfiguration.events.contains(event) {
            throw .invalidArgument(
                "The event '\(event.prefix(256))' is not supported for notifications",
                name: "Event",
                value: event
            )
        }
        let parts = address.split(separator: ":", omittingEmptySubsequences: false)
        guard parts.count >= 6, parts[0] == "arn", parts[2] == destination.service, parts[5] != "" else {
            throw .invalidArgument("The ARN is not well formed", name: "ARN", value: address)
        }
        let given = try xml.text(of: "Id") ?? ""
        guard given.utf8.count <= 255 else {
            throw S3Error(.invalidArgument, "ID length should not exceed allowed limit of 255")
        }
        // S3 gives an id to a configuration that has none; it stays the same when the document is stored again.
        let seed = "\(index) \(address) \(events.joined(separator: ",")) \(prefix ?? "") \(suffix ?? "")"
        id = given.isEmpty ? GeneratedID.make(from: seed) : given
    }

    /// https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-how-to-filtering.html
    private static func filter(_ xml: XMLElement) throws(S3Error) -> (prefix: String?, suffix: String?) {
        guard let filter = try xml.child("Filter") else { return (nil, nil) }
        try filter.requireOnly(["S3Key"])
        guard let key = try filter.child("S3Key") else { return (nil, nil) }
        try key.requireOnly(["FilterRule"])
        var found: (prefix: String?, suffix: String?)
        for rule in key.children {
            try rule.requireOnly(["Name", "Value"])
            let name = try rule.requiredWord(of: "Name")
            let value = try rule.requiredText(of: "Value")
            switch name.lowercased() {
            case "prefix" where found.prefix == nil: found.prefix = value
            case "suffix" where found.suffix == nil: found.suffix = value
            case "prefix", "suffix":
                throw .invalidArgument(
                    "Cannot specify more than one prefix rule and one suffix rule in a filter.",
                    name: "FilterRule",
                    value: name
                )
            default:
                throw .invalidArgument(
                    "filter rule name must be either prefix or suffix",
                    name: "FilterRule.Name",
                    value: name
                )
            }
        }
        return found
    }

    func render(into writer: inout XMLWriter) {
        writer.element(destination.element) { writer in
            writer.element("Id", id)
            writer.element(destination.addressElement, address)
            for event in events { writer.element("Event", event) }
            guard prefix != nil || suffix != nil else { return }
            writer.element("Filter") { writer in
                writer.element("S3Key") { writer in
                    for (name, value) in [("prefix", prefix), ("suffix", suffix)] {
                        guard let value else { continue }
                        writer.element("FilterRule") { writer in
                            writer.element("Name", name)
                            writer.element("Value", value)
                        }
                    }
                }
            }
        }
    }
}

/// An identifier for what a client left without: the same for the same content.
enum GeneratedID {
    static func make(from text: String) -> String {
        Base64.encode(SHA256Hasher.hash([UInt8](text.utf8)).bytes.prefix(24)).map { character in
            // Free of what a header or a query would escape.
            character == "+" ? "-" : character == "/" ? "_" : String(character)
        }.joined()
    }
}
