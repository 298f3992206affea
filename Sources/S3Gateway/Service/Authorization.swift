internal import Catalog
internal import ObjectService
internal import S3Protocol
internal import StoreModel

// Who may do what. The rules are in S3Protocol (`AccessEvaluation`), as pure functions; here is what they are asked
// about each operation, and where the facts come from.
extension S3Service {
    /// Whether the sender may do what it asks for. What only the body tells is decided by the handlers: each key of
    /// DeleteObjects (`mayDelete`) and forms (`authorizeForm`).
    /// - Throws: `AccessDenied`; `NoSuchBucket`; for an object that isn't there the handler's error only where the
    ///   sender might list the bucket.
    func authorize(_ request: VerifiedRequest) async throws {
        switch request.route.operation {
        case .preflight: return
        case .listBuckets, .createBucket:
            guard request.account != nil else { throw S3Error(.accessDenied) }
            return
        default: break
        }
        let access = try await access(to: try request.bucket())
        try checkExpectedOwner(request.headers.first("x-amz-expected-bucket-owner"), access)
        if request.route.operation == .postObject { return }
        let question = try AccessQuestion(request, access)
        if request.route.operation == .deleteObjects {
            // Without a policy all keys are alike: a stranger need not send them.
            guard access.policy == nil else { return }
            try question.checkPayer()
            return try await require("s3:DeleteObject", question)
        }
        try question.checkPayer()
        try await require(
            request.route.operation.policyAction(hasVersion: request.query.contains("versionId")),
            question
        )
        for action in try Self.furtherActions(request) { try await require(action, question) }
        switch request.route.operation {
        case .copyObject, .uploadPartCopy: try await authorizeSource(request)
        default: break
        }
    }

    private func checkExpectedOwner(_ expected: String?, _ access: BucketAccess) throws(S3Error) {
        guard let expected else { return }
        guard expected == access.owner || expected == PolicyPrincipal.accountNumber(of: access.owner) else {
            throw S3Error(.accessDenied)
        }
    }

    /// What headers ask for besides the operation.
    /// https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html#API_PutObject_RequestSyntax
    private static func furtherActions(_ request: VerifiedRequest) throws(S3Error) -> [String] {
        var actions: [String] = []
        let headers = request.headers
        switch request.route.operation {
        case .putObject, .copyObject, .createMultipartUpload:
            if namesACL(headers) { actions.append(newObjectACLAction) }
            if headers.contains("x-amz-tagging") { actions.append("s3:PutObjectTagging") }
            if headers.contains("x-amz-object-lock-mode") { actions.append("s3:PutObjectRetention") }
            if headers.contains("x-amz-object-lock-legal-hold") { actions.append("s3:PutObjectLegalHold") }
        case .deleteObject, .putObjectRetention:
            if try ObjectLockHeaders.bypassesGovernance(headers) {
                actions.append("s3:BypassGovernanceRetention")
            }
        default: break
        }
        return actions
    }

    static func namesACL(_ headers: HeaderList) -> Bool {
        headers.contains("x-amz-acl") || Permission.allCases.contains { headers.contains($0.headerName) }
    }

    private static let newObjectACLAction = "s3:PutObjectAcl"

    /// A copy reads its source.
    private func authorizeSource(_ request: VerifiedRequest) async throws {
        let source = try CopySource(request.headers)
        let access = try await access(to: source.bucket)
        try checkExpectedOwner(request.headers.first("x-amz-source-expected-bucket-owner"), access)
        var question = AccessQuestion(
            request,
            access,
            key: source.key,
            version: source.versionID,
            context: try RequestContext.make(request, access)
        )
        question.isNewObject = false
        try question.checkPayer()
        try await require(source.versionID == nil ? "s3:GetObject" : "s3:GetObjectVersion", question)
    }

    // MARK: One action

    @inline(never)
    private func require(_ action: String, _ question: AccessQuestion) async throws {
        let decision = try await decide(action, question)
        try Self.pass(decision)
    }

    /// A step of its own, without a typed error: the optimiser of Swift 6.3 crashes on async functions that have it inside.
    @inline(never)
    private static func pass(_ decision: AccessDecision) throws { try decision.require() }

    /// - Throws: `AccessDenied` when an object isn't there and the sender may not know that.
    private func decide(_ action: String, _ question: AccessQuestion) async throws -> AccessDecision {
        let facts = try await facts(action, question)
        let decision = question.evaluate(action, facts)
        guard facts.isObjectMissing, decision != .deniedByPolicy else { return decision }
        // "If you have the s3:ListBucket permission on the bucket, Amazon S3 returns 404; if you don't, 403."
        // https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html
        return question.evaluate("s3:ListBucket", AccessFacts(), ofBucket: true)
    }

    /// What has to be read to decide the action. The owner of everything in a bucket without conditions on tags needs
    /// nothing: that is almost every request.
    private func facts(_ action: String, _ question: AccessQuestion) async throws -> AccessFacts {
        var facts = AccessFacts()
        guard let key = question.key else { return facts }
        let access = question.access
        if let text = question.uploadID, question.account != access.owner, let id = UploadID(text) {
            let address = UploadAddress(bucket: access.bucket.name, key: key, id: id)
            facts.uploadInitiator = try? await objects.upload(address).initiator
        }
        if action == Self.newObjectACLAction, question.isNewObject {
            // Whoever will own the object may say who else may have it.
            facts.objectOwner = question.account
            return facts
        }
        guard !question.isNewObject, AccessFacts.actionsOnExisting.contains(action) else { return facts }
        let isOwnersOwn = question.account == access.owner && access.ownership == .bucketOwnerEnforced
        if isOwnersOwn, !access.policyNeedsTags { return facts }
        let selector: VersionSelector
        switch question.version {
        case nil: selector = .newest
        case "null": selector = .null
        case let text?:
            guard let id = VersionID(text) else { return facts }
            selector = .id(id)
        }
        do {
            let row = try await objects.head(
                VersionAddress(bucket: access.bucket.name, key: key, selector: selector)
            )
            facts.objectOwner = access.owner(of: row)
            facts.objectACL = try access.acl(of: row)
            facts.existingTags = TagSet(stored: row.tags.map { .init(key: $0.name, value: $0.value) })
        } catch let error as StoreError
            where [.noSuchKey, .noSuchVersion, .methodNotAllowed].contains(error.code)
        {
            facts.isObjectMissing = true
        }
        return facts
    }

    // MARK: For handlers

    /// Whether the sender may delete one key of many, or a version of it.
    func mayDelete(_ key: ObjectKey, version: String?, _ request: VerifiedRequest) async throws -> Bool {
        let access = try await access(to: try request.bucket())
        let question = AccessQuestion(
            request,
            access,
            key: key,
            version: version,
            context: try RequestContext.make(request, access)
        )
        try question.checkPayer()
        let action = version == nil ? "s3:DeleteObject" : "s3:DeleteObjectVersion"
        guard try await decide(action, question).isAllowed else { return false }
        guard try ObjectLockHeaders.bypassesGovernance(request.headers) else { return true }
        return try await decide("s3:BypassGovernanceRetention", question).isAllowed
    }

    /// Whether the sender might put what it asks for.
    @inline(never)
    func mayPut(_ request: VerifiedRequest) async throws -> Bool {
        let access = try await access(to: try request.bucket())
        return try await decide("s3:PutObject", try Self.putQuestion(request, access)).isAllowed
    }

    /// A step of its own: the optimiser of Swift 6.3 crashes on an async function that has it inside.
    @inline(never)
    private static func putQuestion(_ request: VerifiedRequest, _ access: BucketAccess) throws
        -> AccessQuestion
    {
        var question = try AccessQuestion(request, access)
        question.isNewObject = true
        return question
    }

    /// Whether whoever signed a form may put the object: `account` is nil for a form without a signature.
    @inline(never)
    func authorizeForm(
        _ request: VerifiedRequest,
        account: AccountIdentity?,
        key: ObjectKey,
        hasACL: Bool = false,
        hasTags: Bool = false
    ) async throws {
        let bucket = try request.bucket()
        let access = try await access(to: bucket)
        let question = try Self.formQuestion(request, access, account, key)
        try await require("s3:PutObject", question)
        if hasACL { try await require(Self.newObjectACLAction, question) }
        if hasTags { try await require("s3:PutObjectTagging", question) }
    }

    /// A step of its own: the optimiser of Swift 6.3 crashes on an async function that has it inside.
    @inline(never)
    private static func formQuestion(
        _ request: VerifiedRequest,
        _ access: BucketAccess,
        _ account: AccountIdentity?,
        _ key: ObjectKey
    ) throws -> AccessQuestion {
        var question = AccessQuestion(
            request,
            access,
            key: key,
            version: nil,
            context: try RequestContext.make(request, access)
        )
        question.account = account?.id
        return question
    }

    // MARK: Owners

    /// The account that owns a bucket: the root account when it has no other.
    func ownerID(of bucket: BucketRow) async throws -> String {
        if let owner = bucket.owner { return owner }
        return try await credentials.rootAccount().id
    }

    func owner(id: String) async throws -> Owner {
        Owner(id: id, displayName: try await credentials.account(id: id)?.displayName)
    }
}

/// What had to be read to decide.
struct AccessFacts {
    var objectOwner: String?
    var objectACL: AccessControlList?
    var existingTags: TagSet?
    var uploadInitiator: String?
    var isObjectMissing = false

    /// The actions on an object that is there: its owner, its list and its tags count.
    static let actionsOnExisting: Set<String> = [
        "s3:GetObject", "s3:GetObjectVersion", "s3:GetObjectAttributes", "s3:GetObjectVersionAttributes",
        "s3:GetObjectAcl", "s3:GetObjectVersionAcl", "s3:PutObjectAcl", "s3:PutObjectVersionAcl",
        "s3:GetObjectTagging", "s3:GetObjectVersionTagging", "s3:PutObjectTagging",
        "s3:PutObjectVersionTagging", "s3:DeleteObjectTagging", "s3:DeleteObjectVersionTagging",
        "s3:GetObjectRetention", "s3:GetObjectLegalHold",
    ]
}

/// Who asks for what, where.
struct AccessQuestion {
    let request: VerifiedRequest
    let access: BucketAccess
    let key: ObjectKey?
    /// As the client wrote it.
    let version: String?
    let context: PolicyContext
    var account: String?
    /// The object is about to be made: what is there now does not count.
    var isNewObject: Bool
    var uploadID: String? { request.query.first("uploadId") }

    init(
        _ request: VerifiedRequest,
        _ access: BucketAccess,
        key: ObjectKey?,
        version: String?,
        context: PolicyContext
    ) {
        self.request = request
        self.access = access
        self.key = key
        self.version = version
        self.context = context
        account = request.account?.id
        switch request.route.operation {
        case .putObject, .copyObject, .createMultipartUpload, .postObject: isNewObject = true
        default: isNewObject = false
        }
    }

    init(_ request: VerifiedRequest, _ access: BucketAccess) throws(S3Error) {
        self.init(
            request,
            access,
            key: request.route.key,
            version: request.query.first("versionId"),
            context: try RequestContext.make(request, access)
        )
    }

    /// Where requesters pay, they say that they know it, and who they are.
    /// https://docs.aws.amazon.com/AmazonS3/latest/userguide/ObjectsinRequesterPaysBuckets.html
    func checkPayer() throws(S3Error) {
        guard access.requesterPays, account != access.owner else { return }
        let name = "x-amz-request-payer"
        guard account != nil, (request.headers.first(name) ?? request.query.first(name)) == "requester" else {
            throw S3Error(.accessDenied)
        }
    }

    func evaluate(_ action: String, _ facts: AccessFacts, ofBucket: Bool = false) -> AccessDecision {
        var context = context
        if let tags = facts.existingTags { context.setExistingTags(tags) }
        let scene = AccessScene(
            bucketOwner: access.owner,
            objectOwner: facts.objectOwner,
            uploadInitiator: facts.uploadInitiator,
            policy: access.policy,
            bucketACL: access.effectiveACL,
            objectACL: facts.objectACL,
            publicAccess: access.publicAccess,
            ownership: access.ownership
        )
        return AccessEvaluation(scene).decide(
            PolicyRequest(
                principal: PolicyPrincipal(canonicalID: account),
                action: action,
                bucket: access.bucket.name.description,
                key: ofBucket ? nil : key.map { String(decoding: $0.bytes, as: UTF8.self) },
                context: context
            )
        )
    }
}
