/// The codes of S3's error responses: the one table from a code to its HTTP status and usual message.
/// https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
///
/// The raw value is what stands in `<Code>` and what metrics are labelled with.
package enum S3ErrorCode: String, CaseIterable, Hashable, Sendable {
    // Authentication.
    case accessDenied = "AccessDenied"
    /// Of requests from other origins.
    case accessForbidden = "AccessForbidden"
    case accountProblem = "AccountProblem"
    case authorizationHeaderMalformed = "AuthorizationHeaderMalformed"
    case authorizationQueryParametersError = "AuthorizationQueryParametersError"
    case credentialsNotSupported = "CredentialsNotSupported"
    case expiredToken = "ExpiredToken"
    case invalidAccessKeyID = "InvalidAccessKeyId"
    case invalidSecurity = "InvalidSecurity"
    case invalidToken = "InvalidToken"
    case missingSecurityHeader = "MissingSecurityHeader"
    case notSignedUp = "NotSignedUp"
    case requestTimeTooSkewed = "RequestTimeTooSkewed"
    case signatureDoesNotMatch = "SignatureDoesNotMatch"
    case unauthorizedAccess = "UnauthorizedAccess"
    case unsupportedSignature = "UnsupportedSignature"

    // The request as a whole.
    case badRequest = "BadRequest"
    case entityTooLarge = "EntityTooLarge"
    case entityTooSmall = "EntityTooSmall"
    case incompleteBody = "IncompleteBody"
    case invalidAddressingHeader = "InvalidAddressingHeader"
    case invalidArgument = "InvalidArgument"
    case invalidHTTPMethod = "InvalidHttpMethod"
    case invalidHostHeader = "InvalidHostHeader"
    case invalidRequest = "InvalidRequest"
    case invalidURI = "InvalidURI"
    case malformedXML = "MalformedXML"
    case maxMessageLengthExceeded = "MaxMessageLengthExceeded"
    case methodNotAllowed = "MethodNotAllowed"
    case missingContentLength = "MissingContentLength"
    case missingRequestBody = "MissingRequestBodyError"
    case notImplemented = "NotImplemented"
    case requestHeaderSectionTooLarge = "RequestHeaderSectionTooLarge"
    case requestTimeout = "RequestTimeout"
    case unexpectedContent = "UnexpectedContent"
    case unsupportedArgument = "UnsupportedArgument"

    // Integrity of the body.
    case badDigest = "BadDigest"
    case invalidChunkSize = "InvalidChunkSizeError"
    case invalidDigest = "InvalidDigest"
    case malformedTrailer = "MalformedTrailerError"
    case contentChecksumMismatch = "XAmzContentChecksumMismatch"
    case contentSHA256Mismatch = "XAmzContentSHA256Mismatch"

    // POST forms.
    case incorrectNumberOfFilesInPostRequest = "IncorrectNumberOfFilesInPostRequest"
    case invalidPolicyDocument = "InvalidPolicyDocument"
    case malformedPOSTRequest = "MalformedPOSTRequest"
    case maxPostPreDataLengthExceeded = "MaxPostPreDataLengthExceededError"
    case requestIsNotMultiPartContent = "RequestIsNotMultiPartContent"
    case userKeyMustBeSpecified = "UserKeyMustBeSpecified"

    // Conditions.
    case conditionalRequestConflict = "ConditionalRequestConflict"
    case notModified = "NotModified"
    case operationAborted = "OperationAborted"
    case preconditionFailed = "PreconditionFailed"

    // Buckets.
    case bucketAlreadyExists = "BucketAlreadyExists"
    case bucketAlreadyOwnedByYou = "BucketAlreadyOwnedByYou"
    case bucketNotEmpty = "BucketNotEmpty"
    case illegalLocationConstraint = "IllegalLocationConstraintException"
    case invalidBucketName = "InvalidBucketName"
    case invalidBucketState = "InvalidBucketState"
    case invalidLocationConstraint = "InvalidLocationConstraint"
    case noSuchBucket = "NoSuchBucket"
    case permanentRedirect = "PermanentRedirect"
    case tooManyBuckets = "TooManyBuckets"

    // Objects.
    case invalidObjectState = "InvalidObjectState"
    case invalidRange = "InvalidRange"
    case invalidStorageClass = "InvalidStorageClass"
    case keyTooLong = "KeyTooLongError"
    case metadataTooLarge = "MetadataTooLarge"
    case noSuchKey = "NoSuchKey"
    case noSuchVersion = "NoSuchVersion"

    // Multipart uploads.
    case invalidPart = "InvalidPart"
    case invalidPartNumber = "InvalidPartNumber"
    case invalidPartOrder = "InvalidPartOrder"
    case noSuchUpload = "NoSuchUpload"

    // Access control.
    case accessControlListNotSupported = "AccessControlListNotSupported"
    case ambiguousGrantByEmailAddress = "AmbiguousGrantByEmailAddress"
    case invalidBucketACLWithObjectOwnership = "InvalidBucketAclWithObjectOwnership"
    case malformedACL = "MalformedACLError"
    case malformedPolicy = "MalformedPolicy"
    case noSuchBucketPolicy = "NoSuchBucketPolicy"
    case noSuchPublicAccessBlockConfiguration = "NoSuchPublicAccessBlockConfiguration"
    case ownershipControlsNotFound = "OwnershipControlsNotFoundError"
    case unresolvableGrantByEmailAddress = "UnresolvableGrantByEmailAddress"

    // Settings of buckets and objects.
    case illegalVersioningConfiguration = "IllegalVersioningConfigurationException"
    case invalidEncryptionAlgorithm = "InvalidEncryptionAlgorithmError"
    case invalidRetentionPeriod = "InvalidRetentionPeriod"
    case invalidTag = "InvalidTag"
    case invalidTargetBucketForLogging = "InvalidTargetBucketForLogging"
    case noSuchCORSConfiguration = "NoSuchCORSConfiguration"
    case noSuchLifecycleConfiguration = "NoSuchLifecycleConfiguration"
    case noSuchObjectLockConfiguration = "NoSuchObjectLockConfiguration"
    case noSuchTagSet = "NoSuchTagSet"
    case noSuchWebsiteConfiguration = "NoSuchWebsiteConfiguration"
    case objectLockConfigurationNotFound = "ObjectLockConfigurationNotFoundError"
    case replicationConfigurationNotFound = "ReplicationConfigurationNotFoundError"
    case serverSideEncryptionConfigurationNotFound = "ServerSideEncryptionConfigurationNotFoundError"

    // The server.
    case internalError = "InternalError"
    case serviceUnavailable = "ServiceUnavailable"
    case slowDown = "SlowDown"
    /// Holdfast's own: the volumes are full.
    case insufficientStorage = "InsufficientStorage"
}

extension S3ErrorCode {
    /// The status of the response.
    package var status: Int { definition.status }

    /// What `<Message>` says when there is nothing more exact to say.
    package var message: String { definition.message }

    private var definition: (status: Int, message: String) {
        authenticationDefinition ?? requestDefinition ?? bodyDefinition ?? bucketDefinition
            ?? objectDefinition
            ?? accessDefinition ?? settingDefinition ?? serverDefinition
    }

    private var authenticationDefinition: (status: Int, message: String)? {
        switch self {
        case .accessDenied: (403, "Access Denied")
        case .accessForbidden: (403, "CORSResponse: This CORS request is not allowed.")
        case .accountProblem: (403, "There is a problem with your account.")
        case .authorizationHeaderMalformed: (400, "The authorization header you provided is invalid.")
        case .authorizationQueryParametersError: (400, "The authorization query parameters are invalid.")
        case .credentialsNotSupported: (400, "This request does not support credentials.")
        case .expiredToken: (400, "The provided token has expired.")
        case .invalidAccessKeyID: (403, "The access key ID you provided does not exist in our records.")
        case .invalidSecurity: (403, "The provided security credentials are not valid.")
        case .invalidToken: (400, "The provided token is malformed or otherwise invalid.")
        case .missingSecurityHeader: (400, "Your request is missing a required header.")
        case .notSignedUp: (403, "Your account is not signed up for this service.")
        case .requestTimeTooSkewed:
            (403, "The difference between the request time and the current time is too large.")
        case .signatureDoesNotMatch:
            (
                403,
                "The request signature we calculated does not match the signature you provided. "
                    + "Check your key and signing method."
            )
        case .unauthorizedAccess: (403, "The request is not authorized.")
        case .unsupportedSignature:
            (400, "The provided request is signed with an unsupported signature version.")
        default: nil
        }
    }

    private var requestDefinition: (status: Int, message: String)? {
        switch self {
        case .badRequest: (400, "An error occurred when parsing the HTTP request.")
        case .entityTooLarge: (400, "Your proposed upload exceeds the maximum allowed size.")
        case .entityTooSmall: (400, "Your proposed upload is smaller than the minimum allowed size.")
        case .incompleteBody:
            (400, "You did not provide the number of bytes specified by the Content-Length HTTP header.")
        case .invalidAddressingHeader: (400, "You must specify the Anonymous role.")
        case .invalidArgument: (400, "Invalid Argument")
        case .invalidHTTPMethod: (400, "The HTTP method is not valid.")
        case .invalidHostHeader: (400, "The host header is not valid.")
        case .invalidRequest: (400, "Invalid Request")
        case .invalidURI: (400, "Couldn't parse the specified URI.")
        case .malformedXML:
            (
                400,
                "The XML you provided was not well-formed or did not validate against our published schema."
            )
        case .maxMessageLengthExceeded: (400, "Your request was too big.")
        case .methodNotAllowed: (405, "The specified method is not allowed against this resource.")
        case .missingContentLength: (411, "You must provide the Content-Length HTTP header.")
        case .missingRequestBody: (400, "Request body is empty.")
        case .notImplemented:
            (501, "A header or query you provided implies functionality that is not implemented.")
        case .requestHeaderSectionTooLarge:
            (400, "Your request header section exceeds the maximum allowed request header section size.")
        case .requestTimeout:
            (
                400,
                "Your socket connection to the server was not read from or written to within the timeout "
                    + "period. Idle connections will be closed."
            )
        case .unexpectedContent: (400, "This request does not support content.")
        case .unsupportedArgument: (400, "The request contained an unsupported argument.")
        default: nil
        }
    }

    private var bodyDefinition: (status: Int, message: String)? {
        switch self {
        case .badDigest: (400, "The Content-MD5 you specified did not match what we received.")
        case .invalidChunkSize: (403, "Only the last chunk is allowed to have a size less than 8192 bytes")
        case .invalidDigest: (400, "The Content-MD5 you specified was invalid.")
        case .malformedTrailer:
            (
                400,
                "The request contained trailing data that was not well-formed "
                    + "or did not conform to our published schema."
            )
        case .contentChecksumMismatch:
            (400, "The provided checksum does not match what was computed.")
        case .contentSHA256Mismatch:
            (400, "The provided 'x-amz-content-sha256' header does not match what was computed.")
        case .incorrectNumberOfFilesInPostRequest: (400, "POST requires exactly one file upload per request.")
        case .invalidPolicyDocument:
            (400, "The content of the form does not meet the conditions specified in the policy document.")
        case .malformedPOSTRequest:
            (400, "The body of your POST request is not well-formed multipart/form-data.")
        case .maxPostPreDataLengthExceeded:
            (400, "Your POST request fields preceding the upload file were too large.")
        case .requestIsNotMultiPartContent:
            (412, "Bucket POST must be of the enclosure-type multipart/form-data.")
        case .userKeyMustBeSpecified:
            (400, "The bucket POST must contain a field named 'key'. If it is specified, check the order.")
        case .conditionalRequestConflict:
            (
                409,
                "The conditional request cannot succeed due to a conflicting operation against this "
                    + "resource."
            )
        case .notModified: (304, "Not Modified")
        case .operationAborted:
            (
                409,
                "A conflicting conditional operation is currently in progress against this resource. Try again."
            )
        case .preconditionFailed: (412, "At least one of the pre-conditions you specified did not hold")
        default: nil
        }
    }

    private var bucketDefinition: (status: Int, message: String)? {
        switch self {
        case .bucketAlreadyExists:
            (
                409,
                "The requested bucket name is not available. The bucket namespace is shared by all users of the "
                    + "system. Please select a different name and try again."
            )
        case .bucketAlreadyOwnedByYou:
            (409, "Your previous request to create the named bucket succeeded and you already own it.")
        case .bucketNotEmpty: (409, "The bucket you tried to delete is not empty")
        case .illegalLocationConstraint:
            (400, "The location constraint is incompatible with the region this request was sent to.")
        case .invalidBucketName: (400, "The specified bucket is not valid.")
        case .invalidBucketState: (409, "The request is not valid for the current state of the bucket.")
        case .invalidLocationConstraint: (400, "The specified location-constraint is not valid")
        case .noSuchBucket: (404, "The specified bucket does not exist")
        case .permanentRedirect:
            (
                301,
                "The bucket you are attempting to access must be addressed using the specified endpoint. "
                    + "Please send all future requests to this endpoint."
            )
        case .tooManyBuckets: (400, "You have attempted to create more buckets than allowed")
        default: nil
        }
    }

    private var objectDefinition: (status: Int, message: String)? {
        switch self {
        case .invalidObjectState: (403, "The operation is not valid for the object's storage class")
        case .invalidRange: (416, "The requested range is not satisfiable")
        case .invalidStorageClass: (400, "The storage class you specified is not valid")
        case .keyTooLong: (400, "Your key is too long")
        case .metadataTooLarge: (400, "Your metadata headers exceed the maximum allowed metadata size")
        case .noSuchKey: (404, "The specified key does not exist.")
        case .noSuchVersion: (404, "The specified version does not exist.")
        case .invalidPart:
            (
                400,
                "One or more of the specified parts could not be found. The part may not have been uploaded, "
                    + "or the specified entity tag may not match the part's entity tag."
            )
        case .invalidPartNumber: (416, "The requested partnumber is not satisfiable")
        case .invalidPartOrder:
            (400, "The list of parts was not in ascending order. Parts must be ordered by part number.")
        case .noSuchUpload:
            (
                404,
                "The specified upload does not exist. The upload ID may be invalid, "
                    + "or the upload may have been aborted or completed."
            )
        default: nil
        }
    }

    private var accessDefinition: (status: Int, message: String)? {
        switch self {
        case .accessControlListNotSupported: (400, "The bucket does not allow ACLs")
        case .ambiguousGrantByEmailAddress:
            (400, "The e-mail address you provided is associated with more than one account.")
        case .invalidBucketACLWithObjectOwnership:
            (400, "Bucket cannot have ACLs set with ObjectOwnership's BucketOwnerEnforced setting")
        case .malformedACL:
            (
                400,
                "The XML you provided was not well-formed or did not validate against our published schema"
            )
        case .malformedPolicy: (400, "Policy has invalid resource")
        case .noSuchBucketPolicy: (404, "The bucket policy does not exist")
        case .noSuchPublicAccessBlockConfiguration:
            (404, "The public access block configuration was not found")
        case .ownershipControlsNotFound: (404, "The bucket ownership controls were not found")
        case .unresolvableGrantByEmailAddress:
            (400, "The e-mail address you provided does not match any account on record.")
        default: nil
        }
    }

    private var settingDefinition: (status: Int, message: String)? {
        switch self {
        case .illegalVersioningConfiguration:
            (400, "The versioning configuration specified in the request is invalid.")
        case .invalidEncryptionAlgorithm: (400, "The encryption request you specified is not valid.")
        case .invalidRetentionPeriod: (400, "The retention days or years must be a positive integer.")
        case .invalidTag: (400, "The tag provided was not a valid tag.")
        case .invalidTargetBucketForLogging:
            (400, "The target bucket for logging does not exist or is not owned by you.")
        case .noSuchCORSConfiguration: (404, "The CORS configuration does not exist")
        case .noSuchLifecycleConfiguration: (404, "The lifecycle configuration does not exist")
        case .noSuchObjectLockConfiguration:
            (404, "The specified object does not have a ObjectLock configuration")
        case .noSuchTagSet: (404, "The TagSet does not exist")
        case .noSuchWebsiteConfiguration: (404, "The specified bucket does not have a website configuration")
        case .objectLockConfigurationNotFound:
            (404, "Object Lock configuration does not exist for this bucket")
        case .replicationConfigurationNotFound: (404, "The replication configuration was not found")
        case .serverSideEncryptionConfigurationNotFound:
            (404, "The server side encryption configuration was not found")
        default: nil
        }
    }

    private var serverDefinition: (status: Int, message: String) {
        switch self {
        case .serviceUnavailable: (503, "Service is unable to handle request.")
        case .slowDown: (503, "Please reduce your request rate.")
        case .insufficientStorage: (507, "There is no room left on the volumes of the store.")
        default: (500, "We encountered an internal error. Please try again.")
        }
    }
}
