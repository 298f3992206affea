internal import Catalog
internal import S3Protocol

extension S3Service {
    /// Each operation and its handler, which stands in the file of its group.
    func dispatch(_ exchange: Exchange) async throws {
        switch exchange.request.route.operation {
        case .listBuckets: try await listBuckets(exchange)
        case .createBucket: try await createBucket(exchange)
        case .headBucket: try await headBucket(exchange)
        case .deleteBucket: try await deleteBucket(exchange)
        case .getBucketLocation: try await getBucketLocation(exchange)
        case .listObjects: try await listObjects(exchange)
        case .listObjectsV2: try await listObjectsV2(exchange)
        case .putObject: try await putObject(exchange)
        case .getObject: try await getObject(exchange)
        case .headObject: try await headObject(exchange)
        case .deleteObject: try await deleteObject(exchange)
        case .deleteObjects: try await deleteObjects(exchange)
        case .copyObject: try await copyObject(exchange)
        case .postObject: try await postObject(exchange)
        case .getObjectAttributes: try await getObjectAttributes(exchange)
        case .getObjectTagging: try await getObjectTagging(exchange)
        case .putObjectTagging: try await putObjectTagging(exchange)
        case .deleteObjectTagging: try await deleteObjectTagging(exchange)
        case .getObjectRetention: try await getObjectRetention(exchange)
        case .putObjectRetention: try await putObjectRetention(exchange)
        case .getObjectLegalHold: try await getObjectLegalHold(exchange)
        case .putObjectLegalHold: try await putObjectLegalHold(exchange)
        case .listObjectVersions: try await listObjectVersions(exchange)
        case .createMultipartUpload: try await createMultipartUpload(exchange)
        case .uploadPart: try await uploadPart(exchange)
        case .uploadPartCopy: try await uploadPartCopy(exchange)
        case .completeMultipartUpload: try await completeMultipartUpload(exchange)
        case .abortMultipartUpload: try await abortMultipartUpload(exchange)
        case .listParts: try await listParts(exchange)
        case .listMultipartUploads: try await listMultipartUploads(exchange)
        case .preflight: try await preflight(exchange)
        default:
            guard try await dispatchAccessSetting(exchange) else {
                guard try await dispatchSetting(exchange) else { throw S3Error(.notImplemented) }
                return
            }
        }
    }

    /// - Returns: false for an operation of another group.
    private func dispatchAccessSetting(_ exchange: Exchange) async throws -> Bool {
        switch exchange.request.route.operation {
        case .getBucketPolicy: try await getBucketPolicy(exchange)
        case .putBucketPolicy: try await putBucketPolicy(exchange)
        case .deleteBucketPolicy: try await deleteSetting(exchange, BucketSettingName.policy)
        case .getBucketPolicyStatus: try await getBucketPolicyStatus(exchange)
        case .getPublicAccessBlock: try await getPublicAccessBlock(exchange)
        case .putPublicAccessBlock: try await putPublicAccessBlock(exchange)
        case .deletePublicAccessBlock:
            try await emptySetting(exchange, BucketSettingName.publicAccessBlock)
        case .getBucketOwnershipControls: try await getBucketOwnershipControls(exchange)
        case .putBucketOwnershipControls: try await putBucketOwnershipControls(exchange)
        case .deleteBucketOwnershipControls:
            try await emptySetting(exchange, BucketSettingName.ownershipControls)
        case .getBucketACL: try await getBucketACL(exchange)
        case .putBucketACL: try await putBucketACL(exchange)
        case .getObjectACL: try await getObjectACL(exchange)
        case .putObjectACL: try await putObjectACL(exchange)
        case .getBucketCORS:
            try await getSetting(exchange, BucketSettingName.cors, missing: .noSuchCORSConfiguration)
        case .putBucketCORS: try await putBucketCORS(exchange)
        case .deleteBucketCORS: try await deleteSetting(exchange, BucketSettingName.cors)
        default: return false
        }
        return true
    }

    /// - Returns: false for an operation of another group.
    private func dispatchSetting(_ exchange: Exchange) async throws -> Bool {
        switch exchange.request.route.operation {
        case .getBucketVersioning: try await getBucketVersioning(exchange)
        case .putBucketVersioning: try await putBucketVersioning(exchange)
        case .getBucketTagging:
            try await getSetting(exchange, BucketSettingName.tagging, missing: .noSuchTagSet)
        case .putBucketTagging: try await putBucketTagging(exchange)
        case .deleteBucketTagging: try await deleteSetting(exchange, BucketSettingName.tagging)
        case .getBucketLifecycle:
            try await getSetting(
                exchange,
                BucketSettingName.lifecycle,
                missing: .noSuchLifecycleConfiguration
            )
        case .putBucketLifecycle: try await putBucketLifecycle(exchange)
        case .deleteBucketLifecycle: try await deleteSetting(exchange, BucketSettingName.lifecycle)
        case .getObjectLockConfiguration:
            try await getSetting(
                exchange,
                BucketSettingName.objectLock,
                missing: .objectLockConfigurationNotFound
            )
        case .putObjectLockConfiguration: try await putObjectLockConfiguration(exchange)
        case .getBucketEncryption:
            try await getSetting(
                exchange,
                BucketSettingName.encryption,
                missing: .serverSideEncryptionConfigurationNotFound
            )
        case .putBucketEncryption: try await putBucketEncryption(exchange)
        case .deleteBucketEncryption: try await deleteSetting(exchange, BucketSettingName.encryption)
        case .getBucketNotification:
            try await getSetting(
                exchange,
                BucketSettingName.notification,
                fallback: NotificationConfiguration.none
            )
        case .putBucketNotification: try await putBucketNotification(exchange)
        case .getBucketLogging:
            try await getSetting(exchange, BucketSettingName.logging, fallback: BucketLoggingStatus.off)
        case .putBucketLogging: try await putBucketLogging(exchange)
        case .getBucketRequestPayment:
            try await getSetting(
                exchange,
                BucketSettingName.requestPayment,
                fallback: RequestPaymentConfiguration(payer: .bucketOwner)
            )
        case .putBucketRequestPayment: try await putBucketRequestPayment(exchange)
        case .getBucketWebsite:
            try await getSetting(exchange, BucketSettingName.website, missing: .noSuchWebsiteConfiguration)
        case .putBucketWebsite: try await putBucketWebsite(exchange)
        case .deleteBucketWebsite: try await deleteSetting(exchange, BucketSettingName.website)
        default: return false
        }
        return true
    }
}
