/// Everything about a bucket and an object that decides who may do what.
package struct AccessScene: Sendable {
    /// Canonical id.
    package var bucketOwner: String
    /// Canonical id; nil when the request is about the bucket, or about an object that does not exist.
    package var objectOwner: String?
    /// Who began the upload that the request is about.
    package var uploadInitiator: String?
    package var policy: BucketPolicy?
    package var bucketACL: AccessControlList?
    package var objectACL: AccessControlList?
    package var publicAccess: PublicAccessBlock
    package var ownership: ObjectOwnership

    package init(
        bucketOwner: String,
        objectOwner: String? = nil,
        uploadInitiator: String? = nil,
        policy: BucketPolicy? = nil,
        bucketACL: AccessControlList? = nil,
        objectACL: AccessControlList? = nil,
        publicAccess: PublicAccessBlock = .nothing,
        ownership: ObjectOwnership = .bucketOwnerEnforced
    ) {
        self.bucketOwner = bucketOwner
        self.objectOwner = objectOwner
        self.uploadInitiator = uploadInitiator
        self.policy = policy
        self.bucketACL = bucketACL
        self.objectACL = objectACL
        self.publicAccess = publicAccess
        self.ownership = ownership
    }
}

/// Why a request is allowed or not: for the audit log.
package enum AccessDecision: String, Hashable, Sendable {
    case allowedToOwner, allowedByPolicy, allowedByACL, allowedToInitiator
    case deniedByPolicy, deniedByDefault

    package var isAllowed: Bool {
        switch self {
        case .allowedToOwner, .allowedByPolicy, .allowedByACL, .allowedToInitiator: true
        case .deniedByPolicy, .deniedByDefault: false
        }
    }

    /// - Throws: AccessDenied.
    package func require() throws(S3Error) {
        guard isAllowed else { throw S3Error(.accessDenied) }
    }
}

/// Decides one action of one principal. Pure: everything that counts is handed in.
/// https://docs.aws.amazon.com/AmazonS3/latest/userguide/how-s3-evaluates-access-control.html
///
/// 1. A Deny of the policy wins over everything, but for the owner's way back to the policy itself.
/// 2. The bucket's owner may do everything with the bucket, and with objects everything but what only their owner
///    may: read them and their ACL.
/// 3. An object's owner may read it and its ACL and change the ACL, in whosever bucket it is.
/// 4. An Allow of the policy counts for the bucket and for objects that the bucket's owner owns. A public policy
///    counts for the owner alone where public buckets are restricted.
/// 5. ACLs count unless the bucket's ownership disables them; their public grants unless they are ignored.
package struct AccessEvaluation: Sendable {
    private let scene: AccessScene

    package init(_ scene: AccessScene) { self.scene = scene }

    package func decide(_ request: PolicyRequest) -> AccessDecision {
        let account = request.principal.canonicalID
        let isBucketOwner = account == scene.bucketOwner
        let effect = scene.policy?.evaluate(request) ?? .none
        if effect == .deny {
            let isWayBack = isBucketOwner && Self.policyActions.contains(request.action)
            return isWayBack ? .allowedToOwner : .deniedByPolicy
        }
        if isOwner(account, request.action) { return .allowedToOwner }
        if effect == .allow, policyCounts(for: request) { return .allowedByPolicy }
        if let initiator = scene.uploadInitiator, initiator == account,
            Self.initiatorActions.contains(request.action)
        {
            return .allowedToInitiator
        }
        return aclAllows(account, request.action) ? .allowedByACL : .deniedByDefault
    }

    /// Even a policy that denies everything to everyone can be seen and taken away by the bucket's owner.
    /// https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteBucketPolicy.html
    private static let policyActions: Set<String> = [
        "s3:GetBucketPolicy", "s3:PutBucketPolicy", "s3:DeleteBucketPolicy",
    ]

    private static let initiatorActions: Set<String> = [
        "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts",
    ]

    /// Where ACLs are disabled, the bucket's owner owns every object.
    private var objectOwner: String? {
        scene.ownership == .bucketOwnerEnforced
            ? scene.objectOwner.map { _ in scene.bucketOwner } : scene.objectOwner
    }

    /// What comes with owning an object, and not with owning the bucket.
    private static let objectOwnerActions: Set<String> = [
        "s3:GetObject", "s3:GetObjectVersion", "s3:GetObjectAttributes", "s3:GetObjectVersionAttributes",
        "s3:GetObjectAcl", "s3:GetObjectVersionAcl", "s3:PutObjectAcl", "s3:PutObjectVersionAcl",
        "s3:GetObjectTagging", "s3:GetObjectVersionTagging", "s3:PutObjectTagging",
        "s3:PutObjectVersionTagging", "s3:DeleteObjectTagging", "s3:DeleteObjectVersionTagging",
        "s3:GetObjectTorrent", "s3:GetObjectRetention", "s3:GetObjectLegalHold",
    ]

    private func isOwner(_ account: String?, _ action: String) -> Bool {
        guard let account else { return false }
        if let owner = objectOwner, Self.objectOwnerActions.contains(action) { return owner == account }
        return account == scene.bucketOwner
    }

    private func policyCounts(for request: PolicyRequest) -> Bool {
        // The bucket's owner can't give what another owns.
        if let owner = objectOwner, owner != scene.bucketOwner,
            Self.objectOwnerActions.contains(request.action)
        {
            return false
        }
        let isRestricted = scene.publicAccess.restrictsPublicBuckets && scene.policy?.isPublic == true
        return !isRestricted || request.principal.canonicalID == scene.bucketOwner
    }

    /// https://docs.aws.amazon.com/AmazonS3/latest/userguide/acl-overview.html#permissions
    private func aclAllows(_ account: String?, _ action: String) -> Bool {
        guard scene.ownership != .bucketOwnerEnforced else { return false }
        let ignoresPublic = scene.publicAccess.ignoresPublicACLs
        let permission: Permission
        let list: AccessControlList?
        switch action {
        case "s3:ListBucket", "s3:ListBucketVersions", "s3:ListBucketMultipartUploads":
            (permission, list) = (.read, scene.bucketACL)
        case "s3:PutObject", "s3:DeleteObject": (permission, list) = (.write, scene.bucketACL)
        case "s3:GetBucketAcl": (permission, list) = (.readACP, scene.bucketACL)
        case "s3:PutBucketAcl": (permission, list) = (.writeACP, scene.bucketACL)
        case "s3:GetObject", "s3:GetObjectVersion", "s3:GetObjectAttributes", "s3:GetObjectVersionAttributes",
            "s3:GetObjectTorrent":
            (permission, list) = (.read, scene.objectACL)
        case "s3:GetObjectAcl", "s3:GetObjectVersionAcl": (permission, list) = (.readACP, scene.objectACL)
        case "s3:PutObjectAcl", "s3:PutObjectVersionAcl": (permission, list) = (.writeACP, scene.objectACL)
        default: return false
        }
        return list?.grants(permission, to: account, ignoresPublic: ignoresPublic) ?? false
    }
}

/// What a change of access settings may not do.
extension PublicAccessBlock {
    /// https://docs.aws.amazon.com/AmazonS3/latest/userguide/access-control-block-public-access.html
    /// - Throws: AccessDenied for a list that would be public where such lists are blocked.
    package func check(_ list: AccessControlList) throws(S3Error) {
        if blocksPublicACLs, list.isPublic { throw S3Error(.accessDenied) }
    }

    /// - Throws: AccessDenied for a policy that is public where such policies are blocked.
    package func check(_ policy: BucketPolicy) throws(S3Error) {
        if blocksPublicPolicy, policy.isPublic { throw S3Error(.accessDenied) }
    }
}

extension ObjectOwnership {
    /// Who owns an object that `writer` puts into a bucket of `bucketOwner`.
    package func owner(of acl: RequestedACL, writer: String, bucketOwner: String) -> String {
        switch self {
        case .bucketOwnerEnforced: bucketOwner
        case .bucketOwnerPreferred: acl == .canned(.bucketOwnerFullControl) ? bucketOwner : writer
        case .objectWriter: writer
        }
    }
}
