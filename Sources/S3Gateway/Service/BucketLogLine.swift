internal import S3Protocol
internal import StoreModel

/// A line of a bucket's access log, in the format of S3.
/// https://docs.aws.amazon.com/AmazonS3/latest/userguide/LogFormat.html
struct BucketLogLine {
    let bucketOwner: String
    let bucket: String
    let request: GatewayRequest
    let route: S3Route
    let record: AccessRecord
    let hostID: String

    func text() -> String {
        var fields: [String] = [bucketOwner, bucket, "[\(Self.time(record.time))]"]
        fields.append(Self.word(request.remoteAddress))
        fields.append(record.account ?? "-")
        fields.append(record.id)
        fields.append(operation)
        fields.append(route.key.map { PercentCoding.encode($0.bytes, keepsSlash: true) } ?? "-")
        let target = request.path + (request.query.map { "?" + Self.withoutSecrets($0) } ?? "")
        fields.append(Self.quoted("\(request.method) \(target) HTTP/1.1"))
        fields.append("\(record.status)")
        fields.append(record.code ?? "-")
        fields.append(record.sentCount > 0 ? "\(record.sentCount)" : "-")
        // The size of the object is not known here.
        fields.append("-")
        fields.append("\(record.nanoseconds / 1_000_000)")
        fields.append("-")
        fields.append(Self.quoted(request.header("referer")))
        fields.append(Self.quoted(request.header("user-agent")))
        fields.append(Self.word(route.query.first("versionId")))
        fields.append(hostID)
        let isPresigned = route.query.contains("X-Amz-Signature")
        fields.append(record.account == nil ? "-" : "SigV4")
        fields.append("-")
        fields.append(record.account == nil ? "-" : isPresigned ? "QueryString" : "AuthHeader")
        fields.append(Self.word(request.header("host")))
        fields += ["-", "-", "-"]
        return fields.joined(separator: " ") + "\n"
    }

    /// REST.METHOD.RESOURCE
    private var operation: String {
        switch route.operation {
        case .copyObject: return "REST.COPY.OBJECT"
        case .uploadPartCopy: return "REST.COPY.PART"
        case .uploadPart: return "REST.PUT.PART"
        case .createMultipartUpload, .listMultipartUploads: return "REST.\(request.method).UPLOADS"
        case .completeMultipartUpload, .abortMultipartUpload, .listParts:
            return "REST.\(request.method).UPLOAD"
        case .deleteObjects: return "REST.POST.MULTI_OBJECT_DELETE"
        case .listObjectVersions: return "REST.GET.BUCKETVERSIONS"
        case .preflight: return "REST.OPTIONS.PREFLIGHT"
        default: break
        }
        let name = Self.subresources.first { route.query.contains($0.query) }?.name
        return "REST.\(request.method).\(name ?? (route.key == nil ? "BUCKET" : "OBJECT"))"
    }

    private static let subresources: [(query: String, name: String)] = [
        ("acl", "ACL"), ("cors", "CORS"), ("encryption", "ENCRYPTION"), ("lifecycle", "LIFECYCLE"),
        ("location", "LOCATION"), ("logging", "LOGGING_STATUS"), ("notification", "NOTIFICATION"),
        ("object-lock", "OBJECT_LOCK_CONFIGURATION"), ("ownershipControls", "OWNERSHIP_CONTROLS"),
        ("policy", "BUCKETPOLICY"), ("policyStatus", "BUCKETPOLICYSTATUS"),
        ("publicAccessBlock", "PUBLIC_ACCESS_BLOCK"), ("requestPayment", "REQUEST_PAYMENT"),
        ("tagging", "TAGGING"), ("versioning", "VERSIONING"), ("website", "WEBSITE"),
        ("attributes", "OBJECT_ATTRIBUTES"), ("legal-hold", "LEGALHOLD"), ("retention", "RETENTION"),
    ]

    /// `06/Feb/2019:00:00:38 +0000`
    private static func time(_ timestamp: Timestamp) -> String {
        let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
        let time = CivilTime(timestamp)
        let clock = [time.hour, time.minute, time.second].map { padded($0) }.joined(separator: ":")
        return "\(padded(time.day))/\(months[time.month - 1])/\(time.year):\(clock) +0000"
    }

    static func padded(_ value: Int) -> String { value < 10 ? "0\(value)" : "\(value)" }

    /// Nobody may sign anything with what stands in a log.
    static func withoutSecrets(_ query: String) -> String {
        query.split(separator: "&", omittingEmptySubsequences: false).map { item in
            item.hasPrefix("X-Amz-Signature=") ? "X-Amz-Signature=-" : String(item)
        }.joined(separator: "&")
    }

    /// What a client sends stays inside its field: no blanks, no ends of lines.
    private static func word(_ text: String?) -> String {
        guard let text, !text.isEmpty else { return "-" }
        return PercentCoding.encode(text.utf8.prefix(512), keepsSlash: true)
    }

    private static func quoted(_ text: String?) -> String {
        guard let text, !text.isEmpty else { return "\"-\"" }
        var escaped = "\""
        for scalar in text.unicodeScalars.prefix(8192) {
            switch scalar {
            case "\"": escaped += "%22"
            case _ where scalar.value < 0x20 || scalar.value == 0x7F: escaped += "?"
            default: escaped.unicodeScalars.append(scalar)
            }
        }
        return escaped + "\""
    }
}
