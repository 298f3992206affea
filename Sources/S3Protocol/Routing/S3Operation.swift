/// The APIs of S3 that are served. The raw value is the name that AWS gives them, for metrics and logs.
/// https://docs.aws.amazon.com/AmazonS3/latest/API/API_Operations_Amazon_Simple_Storage_Service.html
package enum S3Operation: String, CaseIterable, Hashable, Sendable {
    case listBuckets = "ListBuckets"

    // Buckets.
    case createBucket = "CreateBucket"
    case deleteBucket = "DeleteBucket"
    case headBucket = "HeadBucket"
    case listObjects = "ListObjects"
    case listObjectsV2 = "ListObjectsV2"
    case listObjectVersions = "ListObjectVersions"
    case listMultipartUploads = "ListMultipartUploads"
    case deleteObjects = "DeleteObjects"
    /// An HTML form: `POST /bucket` with multipart/form-data.
    case postObject = "PostObject"

    // Settings of buckets.
    case getBucketLocation = "GetBucketLocation"
    case getBucketVersioning = "GetBucketVersioning"
    case putBucketVersioning = "PutBucketVersioning"
    case getBucketPolicy = "GetBucketPolicy"
    case putBucketPolicy = "PutBucketPolicy"
    case deleteBucketPolicy = "DeleteBucketPolicy"
    case getBucketPolicyStatus = "GetBucketPolicyStatus"
    case getPublicAccessBlock = "GetPublicAccessBlock"
    case putPublicAccessBlock = "PutPublicAccessBlock"
    case deletePublicAccessBlock = "DeletePublicAccessBlock"
    case getBucketACL = "GetBucketAcl"
    case putBucketACL = "PutBucketAcl"
    case getBucketOwnershipControls = "GetBucketOwnershipControls"
    case putBucketOwnershipControls = "PutBucketOwnershipControls"
    case deleteBucketOwnershipControls = "DeleteBucketOwnershipControls"
    case getBucketCORS = "GetBucketCors"
    case putBucketCORS = "PutBucketCors"
    case deleteBucketCORS = "DeleteBucketCors"
    case getBucketTagging = "GetBucketTagging"
    case putBucketTagging = "PutBucketTagging"
    case deleteBucketTagging = "DeleteBucketTagging"
    case getBucketLifecycle = "GetBucketLifecycleConfiguration"
    case putBucketLifecycle = "PutBucketLifecycleConfiguration"
    case deleteBucketLifecycle = "DeleteBucketLifecycle"
    case getObjectLockConfiguration = "GetObjectLockConfiguration"
    case putObjectLockConfiguration = "PutObjectLockConfiguration"
    case getBucketEncryption = "GetBucketEncryption"
    case putBucketEncryption = "PutBucketEncryption"
    case deleteBucketEncryption = "DeleteBucketEncryption"
    case getBucketNotification = "GetBucketNotificationConfiguration"
    case putBucketNotification = "PutBucketNotificationConfiguration"
    case getBucketLogging = "GetBucketLogging"
    case putBucketLogging = "PutBucketLogging"
    case getBucketRequestPayment = "GetBucketRequestPayment"
    case putBucketRequestPayment = "PutBucketRequestPayment"
    case getBucketWebsite = "GetBucketWebsite"
    case putBucketWebsite = "PutBucketWebsite"
    case deleteBucketWebsite = "DeleteBucketWebsite"

    // Objects.
    case getObject = "GetObject"
    case headObject = "HeadObject"
    case putObject = "PutObject"
    case copyObject = "CopyObject"
    case deleteObject = "DeleteObject"
    case getObjectAttributes = "GetObjectAttributes"
    case getObjectACL = "GetObjectAcl"
    case putObjectACL = "PutObjectAcl"
    case getObjectTagging = "GetObjectTagging"
    case putObjectTagging = "PutObjectTagging"
    case deleteObjectTagging = "DeleteObjectTagging"
    case getObjectRetention = "GetObjectRetention"
    case putObjectRetention = "PutObjectRetention"
    case getObjectLegalHold = "GetObjectLegalHold"
    case putObjectLegalHold = "PutObjectLegalHold"

    // Multipart uploads.
    case createMultipartUpload = "CreateMultipartUpload"
    case uploadPart = "UploadPart"
    case uploadPartCopy = "UploadPartCopy"
    case completeMultipartUpload = "CompleteMultipartUpload"
    case abortMultipartUpload = "AbortMultipartUpload"
    case listParts = "ListParts"

    /// CORS: what a browser asks before it sends the request that it means.
    case preflight = "OptionsPreflight"

    package var name: String { rawValue }
}

extension S3Operation {
    /// Whether the operation changes something: what a replayed or unauthorised request must not do.
    package var isMutation: Bool {
        switch self {
        case .listBuckets, .headBucket, .listObjects, .listObjectsV2, .listObjectVersions,
            .listMultipartUploads,
            .getObject, .headObject, .listParts, .preflight:
            false
        default: !rawValue.hasPrefix("Get")
        }
    }

    /// Whether the body is the content of an object or of a part, to be streamed; other bodies are small documents.
    package var hasObjectBody: Bool {
        switch self {
        case .putObject, .uploadPart, .postObject: true
        default: false
        }
    }
}
