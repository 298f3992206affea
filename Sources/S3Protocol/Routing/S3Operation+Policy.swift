extension S3Operation {
    /// The action that a bucket policy must allow for this operation. What headers ask for besides (an ACL, tags, a
    /// retention) needs further actions.
    /// https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazons3.html
    /// - Parameter hasVersion: whether the request names a version of the object.
    package func policyAction(hasVersion: Bool = false) -> String {
        if hasVersion, let action = versionAction { return action }
        return bucketAction ?? settingAction ?? objectAction
    }

    private var versionAction: String? {
        switch self {
        case .getObject, .headObject: "s3:GetObjectVersion"
        case .getObjectAttributes: "s3:GetObjectVersionAttributes"
        case .deleteObject, .deleteObjects: "s3:DeleteObjectVersion"
        case .getObjectACL: "s3:GetObjectVersionAcl"
        case .putObjectACL: "s3:PutObjectVersionAcl"
        case .getObjectTagging: "s3:GetObjectVersionTagging"
        case .putObjectTagging: "s3:PutObjectVersionTagging"
        case .deleteObjectTagging: "s3:DeleteObjectVersionTagging"
        default: nil
        }
    }

    private var bucketAction: String? {
        switch self {
        case .listBuckets: "s3:ListAllMyBuckets"
        case .createBucket: "s3:CreateBucket"
        case .deleteBucket: "s3:DeleteBucket"
        case .headBucket, .listObjects, .listObjectsV2: "s3:ListBucket"
        case .listObjectVersions: "s3:ListBucketVersions"
        case .listMultipartUploads: "s3:ListBucketMultipartUploads"
        case .deleteObjects: "s3:DeleteObject"
        case .postObject: "s3:PutObject"
        case .getBucketLocation: "s3:GetBucketLocation"
        default: nil
        }
    }

    private var settingAction: String? {
        switch self {
        case .getBucketVersioning: "s3:GetBucketVersioning"
        case .putBucketVersioning: "s3:PutBucketVersioning"
        case .getBucketPolicy: "s3:GetBucketPolicy"
        case .putBucketPolicy: "s3:PutBucketPolicy"
        case .deleteBucketPolicy: "s3:DeleteBucketPolicy"
        case .getBucketPolicyStatus: "s3:GetBucketPolicyStatus"
        case .getPublicAccessBlock: "s3:GetBucketPublicAccessBlock"
        case .putPublicAccessBlock, .deletePublicAccessBlock: "s3:PutBucketPublicAccessBlock"
        case .getBucketACL: "s3:GetBucketAcl"
        case .putBucketACL: "s3:PutBucketAcl"
        case .getBucketOwnershipControls: "s3:GetBucketOwnershipControls"
        case .putBucketOwnershipControls, .deleteBucketOwnershipControls: "s3:PutBucketOwnershipControls"
        case .getBucketCORS: "s3:GetBucketCORS"
        case .putBucketCORS, .deleteBucketCORS: "s3:PutBucketCORS"
        case .getBucketTagging: "s3:GetBucketTagging"
        case .putBucketTagging, .deleteBucketTagging: "s3:PutBucketTagging"
        case .getBucketLifecycle: "s3:GetLifecycleConfiguration"
        case .putBucketLifecycle, .deleteBucketLifecycle: "s3:PutLifecycleConfiguration"
        case .getObjectLockConfiguration: "s3:GetBucketObjectLockConfiguration"
        case .putObjectLockConfiguration: "s3:PutBucketObjectLockConfiguration"
        case .getBucketEncryption: "s3:GetEncryptionConfiguration"
        case .putBucketEncryption, .deleteBucketEncryption: "s3:PutEncryptionConfiguration"
        case .getBucketNotification: "s3:GetBucketNotification"
        case .putBucketNotification: "s3:PutBucketNotification"
        case .getBucketLogging: "s3:GetBucketLogging"
        case .putBucketLogging: "s3:PutBucketLogging"
        case .getBucketRequestPayment: "s3:GetBucketRequestPayment"
        case .putBucketRequestPayment: "s3:PutBucketRequestPayment"
        case .getBucketWebsite: "s3:GetBucketWebsite"
        case .putBucketWebsite: "s3:PutBucketWebsite"
        case .deleteBucketWebsite: "s3:DeleteBucketWebsite"
        default: nil
        }
    }

    private var objectAction: String {
        switch self {
        case .getObject, .headObject: "s3:GetObject"
        case .getObjectAttributes: "s3:GetObjectAttributes"
        case .deleteObject: "s3:DeleteObject"
        case .getObjectACL: "s3:GetObjectAcl"
        case .putObjectACL: "s3:PutObjectAcl"
        case .getObjectTagging: "s3:GetObjectTagging"
        case .putObjectTagging: "s3:PutObjectTagging"
        case .deleteObjectTagging: "s3:DeleteObjectTagging"
        case .getObjectRetention: "s3:GetObjectRetention"
        case .putObjectRetention: "s3:PutObjectRetention"
        case .getObjectLegalHold: "s3:GetObjectLegalHold"
        case .putObjectLegalHold: "s3:PutObjectLegalHold"
        case .abortMultipartUpload: "s3:AbortMultipartUpload"
        case .listParts: "s3:ListMultipartUploadParts"
        default: "s3:PutObject"
        }
    }
}
