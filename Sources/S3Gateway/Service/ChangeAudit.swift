internal import Logging
internal import S3Protocol

/// One line of the audit log for each request that changes who may do what, how versions are kept, or whether a bucket is
/// there: done or refused. No content, no secret.
struct ChangeAudit: Sendable {
    let logger: Logger

    /// - Parameter record: after the answer.
    func note(_ record: AccessRecord, _ route: S3Route?) {
        guard let route, route.operation.isAudited else { return }
        var metadata: Logger.Metadata = [
            "requestID": "\(record.id)", "remote": "\(record.remoteAddress)",
            "action": "\(route.operation.rawValue)", "outcome": "\(outcome(of: record))",
        ]
        if let account = record.account { metadata["actor"] = "account \(account)" }
        if let bucket = route.bucket {
            metadata["target"] = .string("\(bucket)" + (route.key.map { "/\($0)" } ?? ""))
        }
        logger.notice("Settings", metadata: metadata)
    }

    /// The code of an error, which a client that went away has none of.
    private func outcome(of record: AccessRecord) -> String {
        if let code = record.code { return code }
        return (200..<300).contains(record.status) ? "done" : "status \(record.status)"
    }
}

extension S3Operation {
    var isAudited: Bool {
        switch self {
        case .createBucket, .deleteBucket,
            .putBucketVersioning, .putBucketPolicy, .deleteBucketPolicy,
            .putPublicAccessBlock, .deletePublicAccessBlock, .putBucketACL, .putObjectACL,
            .putBucketOwnershipControls, .deleteBucketOwnershipControls,
            .putBucketCORS, .deleteBucketCORS, .putBucketTagging, .deleteBucketTagging,
            .putBucketLifecycle, .deleteBucketLifecycle, .putObjectLockConfiguration,
            .putObjectRetention, .putObjectLegalHold, .putBucketEncryption, .deleteBucketEncryption,
            .putBucketNotification, .putBucketLogging, .putBucketRequestPayment,
            .putBucketWebsite, .deleteBucketWebsite:
            true
        default: false
        }
    }
}
