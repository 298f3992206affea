internal import S3Protocol
internal import StoreModel

/// The condition keys of a request.
/// https://docs.aws.amazon.com/AmazonS3/latest/userguide/amazon-s3-policy-keys.html
/// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-keys.html
enum RequestContext {
    /// Headers whose condition key is `s3:` and their name.
    private static let headers = [
        "x-amz-acl", "x-amz-copy-source", "x-amz-grant-full-control", "x-amz-grant-read",
        "x-amz-grant-read-acp",
        "x-amz-grant-write", "x-amz-grant-write-acp", "x-amz-metadata-directive",
        "x-amz-server-side-encryption", "x-amz-server-side-encryption-customer-algorithm",
        "x-amz-storage-class", "x-amz-website-redirect-location", "x-amz-content-sha256",
        "x-amz-object-ownership", "if-match", "if-none-match",
    ]

    private static let parameters = ["prefix", "delimiter", "max-keys"]

    private static let locks = [
        ("s3:object-lock-mode", "x-amz-object-lock-mode"),
        ("s3:object-lock-retain-until-date", "x-amz-object-lock-retain-until-date"),
        ("s3:object-lock-legal-hold", "x-amz-object-lock-legal-hold"),
    ]

    /// - Returns: an empty context for a bucket without a policy: nothing else asks for it, and most buckets have none.
    static func make(_ request: VerifiedRequest, _ access: BucketAccess) throws(S3Error) -> PolicyContext {
        var context = PolicyContext()
        guard access.policy != nil else { return context }
        if !request.remoteAddress.isEmpty { context.set("aws:SourceIp", request.remoteAddress) }
        context.set("aws:SecureTransport", request.head.isSecure ? "true" : "false")
        context.set("aws:CurrentTime", ISO8601.format(request.receivedAt))
        context.set("aws:EpochTime", "\(request.receivedAt.milliseconds / 1000)")
        context.set("aws:UserAgent", request.headers.first("user-agent"))
        context.set("aws:Referer", request.headers.first("referer"))
        context.set("s3:ResourceAccount", PolicyPrincipal.accountNumber(of: access.owner))
        let principal = PolicyPrincipal(canonicalID: request.account?.id)
        context.set("aws:PrincipalAccount", principal.accountNumber)
        context.set("aws:PrincipalArn", principal.arn)
        context.set("aws:userid", request.account?.id)
        context.set("aws:username", request.account?.displayName)
        context.set("aws:PrincipalType", request.account == nil ? "Anonymous" : "Account")
        if request.account != nil {
            let isPresigned = request.query.contains("X-Amz-Signature")
            context.set("s3:authType", isPresigned ? "REST-QUERY-STRING" : "REST-HEADER")
            context.set("s3:signatureversion", "AWS4-HMAC-SHA256")
        }
        for name in parameters { context.set("s3:" + name, request.query.first(name)) }
        context.set("s3:VersionId", request.query.first("versionId"))
        for name in headers { context.set("s3:" + name, request.headers.first(name)) }
        for (key, name) in locks { context.set(key, request.headers.first(name)) }
        if let tagging = request.headers.first("x-amz-tagging") {
            context.setRequestTags(try TagSet(header: tagging))
        }
        return context
    }
}
