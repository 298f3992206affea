internal import Catalog
internal import ObjectService
internal import S3Protocol
internal import StoreModel

// Settings of buckets that are a document each: what is stored is its canonical form, and that is what is given back.
extension S3Service {
    /// - Parameter missing: what a bucket without the setting answers.
    func getSetting(_ exchange: Exchange, _ name: String, missing: S3ErrorCode) async throws {
        let body = try await objects.bucketSetting(bucket: try exchange.request.bucket(), name: name)
        guard let body, !body.isEmpty else {
            throw S3Error(missing, details: [("BucketName", try exchange.request.bucket().description)])
        }
        exchange.send(200, [HeaderField("Content-Type", "application/xml")], body: body)
    }

    /// - Parameter fallback: what a bucket without the setting shows.
    func getSetting(_ exchange: Exchange, _ name: String, fallback: some XMLResponse) async throws {
        let body = try await objects.bucketSetting(bucket: try exchange.request.bucket(), name: name)
        guard let body, !body.isEmpty else { return exchange.send(document: fallback) }
        exchange.send(200, [HeaderField("Content-Type", "application/xml")], body: body)
    }

    func putSetting(_ exchange: Exchange, _ name: String, _ document: some XMLResponse) async throws {
        try await objects.putBucketSetting(
            bucket: try exchange.request.bucket(),
            name: name,
            body: document.xmlBytes
        )
        exchange.send(200)
    }

    func deleteSetting(_ exchange: Exchange, _ name: String) async throws {
        try await objects.removeBucketSetting(bucket: try exchange.request.bucket(), name: name)
        exchange.send(204)
    }

    // MARK: Versioning

    /// https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetBucketVersioning.html
    func getBucketVersioning(_ exchange: Exchange) async throws {
        let status: VersioningConfiguration.Status? =
            switch try await access(to: exchange).bucket.versioning {
            case .off: nil
            case .enabled: .enabled
            case .suspended: .suspended
            }
        exchange.send(document: VersioningConfiguration(status: status))
    }

    /// https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketVersioning.html
    func putBucketVersioning(_ exchange: Exchange) async throws {
        let wanted = try VersioningConfiguration(body: try await exchange.document()).status
        _ = try await objects.setVersioning(
            of: try exchange.request.bucket(),
            to: wanted == .enabled ? .enabled : .suspended
        )
        exchange.send(200)
    }

    // MARK: Tags

    /// https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketTagging.html
    func putBucketTagging(_ exchange: Exchange) async throws {
        let tags = try TagSet(body: try await exchange.document(), of: .bucket)
        try await objects.putBucketSetting(
            bucket: try exchange.request.bucket(),
            name: BucketSettingName.tagging,
            body: tags.xmlBytes
        )
        exchange.send(204)
    }

    // MARK: Cross-origin requests, lifecycle, encryption, website, payment

    /// https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketCors.html
    func putBucketCORS(_ exchange: Exchange) async throws {
        let document = try CORSConfiguration(body: try await exchange.document())
        try await putSetting(exchange, BucketSettingName.cors, document)
    }

    /// https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketLifecycleConfiguration.html
    func putBucketLifecycle(_ exchange: Exchange) async throws {
        let document = try LifecycleConfiguration(body: try await exchange.document())
        try await putSetting(exchange, BucketSettingName.lifecycle, document)
    }

    /// https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketEncryption.html
    func putBucketEncryption(_ exchange: Exchange) async throws {
        let document = try ServerSideEncryptionConfiguration(body: try await exchange.document())
        try await putSetting(exchange, BucketSettingName.encryption, document)
    }

    /// https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketWebsite.html
    func putBucketWebsite(_ exchange: Exchange) async throws {
        let document = try WebsiteConfiguration(body: try await exchange.document())
        try await putSetting(exchange, BucketSettingName.website, document)
    }

    /// https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketRequestPayment.html
    func putBucketRequestPayment(_ exchange: Exchange) async throws {
        let document = try RequestPaymentConfiguration(body: try await exchange.document())
        try await putSetting(exchange, BucketSettingName.requestPayment, document)
    }

    // MARK: Object lock

    /// https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObjectLockConfiguration.html
    func putObjectLockConfiguration(_ exchange: Exchange) async throws {
        let document = try ObjectLockConfiguration(body: try await exchange.document())
        guard try await access(to: exchange).bucket.versioning == .enabled else {
            throw S3Error(
                .invalidBucketState,
                "Versioning must be 'Enabled' on the bucket to apply a Object Lock configuration"
            )
        }
        try await putSetting(exchange, BucketSettingName.objectLock, document)
    }

    // MARK: Notifications and logs

    /// Checked and kept. Nothing delivers events yet; the answer says so where the configuration names a target.
    /// https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketNotificationConfiguration.html
    func putBucketNotification(_ exchange: Exchange) async throws {
        let document = try NotificationConfiguration(body: try await exchange.document())
        try await objects.putBucketSetting(
            bucket: try exchange.request.bucket(),
            name: BucketSettingName.notification,
            body: document.xmlBytes
        )
        let isSilent = document.targets.isEmpty && !document.hasEventBridge
        let warning = HeaderField(
            "Warning",
            "299 - \"The configuration is kept; events are not delivered yet.\""
        )
        exchange.send(200, isSilent ? [] : [warning])
    }

    /// https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketLogging.html
    func putBucketLogging(_ exchange: Exchange) async throws {
        let document = try BucketLoggingStatus(body: try await exchange.document())
        guard let target = document.target else {
            try await objects.removeBucketSetting(
                bucket: try exchange.request.bucket(),
                name: BucketSettingName.logging
            )
            return exchange.send(200)
        }
        try await checkLogTarget(target, of: try await access(to: exchange))
        try await putSetting(exchange, BucketSettingName.logging, document)
    }

    /// "The source and destination buckets must be in the same AWS Region and owned by the same account."
    /// https://docs.aws.amazon.com/AmazonS3/latest/userguide/ServerLogs.html
    private func checkLogTarget(_ target: BucketLoggingStatus.Target, of source: BucketAccess) async throws {
        let invalid = S3Error(
            .invalidTargetBucketForLogging,
            details: [("TargetBucket", String(target.bucket.prefix(64)))]
        )
        guard let name = try? BucketName(target.bucket) else { throw invalid }
        do {
            guard try await access(to: name).owner == source.owner else { throw invalid }
        } catch let error as StoreError where error.code == .noSuchBucket {
            throw invalid
        }
        guard target.grants.isEmpty else {
            throw S3Error(.notImplemented, "Grants on delivered logs are not implemented.")
        }
    }
}
