internal import Catalog
internal import ObjectService
internal import S3Protocol
internal import StoreModel

// Settings that decide who may do what: policy, public access, ownership, access control lists.
extension S3Service {
    // MARK: Policy

    /// https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetBucketPolicy.html
    func getBucketPolicy(_ exchange: Exchange) async throws {
        let policy = try existingPolicy(try await access(to: exchange))
        exchange.send(200, [HeaderField("Content-Type", "application/json")], body: policy.source)
    }

    /// https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetBucketPolicyStatus.html
    func getBucketPolicyStatus(_ exchange: Exchange) async throws {
        let policy = try existingPolicy(try await access(to: exchange))
        exchange.send(document: PolicyStatus(isPublic: policy.isPublic))
    }

    private func existingPolicy(_ access: BucketAccess) throws(S3Error) -> BucketPolicy {
        guard let policy = access.policy else {
            throw S3Error(
                .noSuchBucketPolicy,
                details: [("BucketName", access.bucket.name.description)]
            )
        }
        return policy
    }

    /// https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketPolicy.html
    func putBucketPolicy(_ exchange: Exchange) async throws {
        let name = try exchange.request.bucket()
        let policy = try BucketPolicy(
            parsing: try await exchange.document(),
            bucket: name.description
        )
        if !policy.namedAccounts.isEmpty {
            let accounts = try await accountIndex()
            for account in policy.namedAccounts where !accounts.knows(account) {
                throw S3Error(.malformedPolicy, "Invalid principal in policy", details: [("Detail", account)])
            }
        }
        try await access(to: name).publicAccess.check(policy)
        try await objects.putBucketSetting(
            bucket: name,
            name: BucketSettingName.policy,
            body: policy.source
        )
        exchange.send(204)
    }

    // MARK: Public access, ownership

    /// https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetPublicAccessBlock.html
    func getPublicAccessBlock(_ exchange: Exchange) async throws {
        let access = try await access(to: exchange)
        guard !Self.isRemoved(BucketSettingName.publicAccessBlock, access) else {
            throw S3Error(.noSuchPublicAccessBlockConfiguration)
        }
        exchange.send(document: access.publicAccess)
    }

    /// https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutPublicAccessBlock.html
    func putPublicAccessBlock(_ exchange: Exchange) async throws {
        let document = try PublicAccessBlock(body: try await exchange.document())
        try await putSetting(exchange, BucketSettingName.publicAccessBlock, document)
    }

    /// https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetBucketOwnershipControls.html
    func getBucketOwnershipControls(_ exchange: Exchange) async throws {
        let access = try await access(to: exchange)
        guard !Self.isRemoved(BucketSettingName.ownershipControls, access) else {
            throw S3Error(.ownershipControlsNotFound)
        }
        exchange.send(document: OwnershipControls(ownership: access.ownership))
    }

    /// https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketOwnershipControls.html
    func putBucketOwnershipControls(_ exchange: Exchange) async throws {
        let document = try OwnershipControls(body: try await exchange.document())
        let access = try await access(to: exchange)
        // A list that gives something to others would lose its effect without a word.
        if document.ownership == .bucketOwnerEnforced, access.effectiveACL != .ownerOnly(access.owner) {
            throw S3Error(.invalidBucketACLWithObjectOwnership)
        }
        try await putSetting(exchange, BucketSettingName.ownershipControls, document)
    }

    /// What has a default is taken away by an empty setting: without one the default would come back.
    func emptySetting(_ exchange: Exchange, _ name: String) async throws {
        try await objects.putBucketSetting(bucket: try exchange.request.bucket(), name: name, body: [])
        exchange.send(204)
    }

    private static func isRemoved(_ name: String, _ access: BucketAccess) -> Bool {
        access.configuration.settings[name]?.isEmpty == true
    }

    // MARK: Access control lists

    /// https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetBucketAcl.html
    func getBucketACL(_ exchange: Exchange) async throws {
        try await send(try await access(to: exchange).effectiveACL, exchange)
    }

    /// https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutBucketAcl.html
    func putBucketACL(_ exchange: Exchange) async throws {
        let access = try await access(to: exchange)
        let list = try await requestedList(exchange, access, current: access.acl)
        guard let list else { return exchange.send(200) }
        try await objects.putBucketSetting(
            bucket: access.bucket.name,
            name: BucketSettingName.accessControlList,
            body: list.storedBytes
        )
        exchange.send(200)
    }

    /// https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObjectAcl.html
    func getObjectACL(_ exchange: Exchange) async throws {
        let access = try await access(to: exchange)
        let row = try await objects.head(try address(exchange))
        try await send(try access.acl(of: row), exchange, versionHeader(row))
    }

    /// https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObjectAcl.html
    func putObjectACL(_ exchange: Exchange) async throws {
        let access = try await access(to: exchange)
        let row = try await objects.head(try address(exchange))
        let list = try await requestedList(
            exchange,
            access,
            current: try access.acl(of: row),
            isBucket: false
        )
        guard let list else { return exchange.send(200, versionHeader(row)) }
        let changed = try await objects.setAttributes(
            of: VersionAddress(
                bucket: access.bucket.name,
                key: row.key,
                selector: .id(row.id)
            ),
            [AttributeChange(.accessControlList, list.storedBytes)]
        )
        exchange.send(200, versionHeader(changed))
    }

    private func address(_ exchange: Exchange) throws(S3Error) -> VersionAddress {
        VersionAddress(
            bucket: try exchange.request.bucket(),
            key: try exchange.request.key(),
            selector: try selector(exchange.query)
        )
    }

    private func send(
        _ list: AccessControlList,
        _ exchange: Exchange,
        _ headers: [HeaderField] = []
    ) async throws {
        var names: [String: String] = [:]
        for case .user(let id) in list.entries.map(\.subject) + [.user(list.owner)] where names[id] == nil {
            names[id] = try await credentials.account(id: id)?.displayName
        }
        exchange.send(200, headers, document: list.document { names[$0] })
    }

    /// The list that a request sets, by headers or by a document.
    /// - Returns: nil for one that changes nothing where lists are disabled.
    /// - Throws: `AccessControlListNotSupported`, `AccessDenied` for a public one where such are blocked.
    private func requestedList(
        _ exchange: Exchange,
        _ access: BucketAccess,
        current: AccessControlList,
        isBucket: Bool = true
    ) async throws -> AccessControlList? {
        let body = try await exchange.document()
        let requested = try RequestedACL { exchange.headers.first($0) }
        if access.ownership == .bucketOwnerEnforced {
            guard body.isEmpty, requested != .none else { throw S3Error(.accessControlListNotSupported) }
            try requested.requireNoEffect(isBucket: isBucket)
            return nil
        }
        let accounts = try await accountIndex()
        let list: AccessControlList
        if requested != .none {
            guard body.isEmpty else {
                throw S3Error(.unexpectedContent, "This request does not support content")
            }
            list = try requested.list(
                owner: current.owner,
                bucketOwner: isBucket ? nil : access.owner,
                accounts
            )
        } else {
            guard !body.isEmpty else {
                throw S3Error(
                    .missingSecurityHeader,
                    "Your request was missing a required header",
                    details: [("MissingHeaderName", "x-amz-acl")]
                )
            }
            list = try AccessControlPolicy(body: body).list(owner: current.owner, accounts)
        }
        try access.publicAccess.check(list)
        return list
    }

    // MARK: New objects

    /// Owner and list of an object that is being made: to be stored with it.
    /// - Parameters:
    ///   - headers: of the request, or the fields of a form.
    ///   - account: nil for what nobody signed: the bucket's owner owns that.
    /// - Throws: `AccessControlListNotSupported` where lists are disabled, `AccessDenied` for a public one where such
    ///   are blocked, and what unknown grantees give.
    func accessAttributes(
        _ headers: HeaderList,
        in bucket: BucketName,
        account: AccountIdentity?
    ) async throws -> VersionAttributes {
        let access = try await access(to: bucket)
        var attributes = VersionAttributes.none
        let requested = try RequestedACL { headers.first($0) }
        if access.ownership == .bucketOwnerEnforced {
            try requested.requireNoEffect(isBucket: false)
            return attributes
        }
        let owner = access.ownership.owner(
            of: requested,
            writer: account?.id ?? access.owner,
            bucketOwner: access.owner
        )
        if owner != access.owner { attributes.owner = owner }
        guard requested != .none else { return attributes }
        let list = try requested.list(
            owner: owner,
            bucketOwner: access.owner,
            try await accountIndex()
        )
        try access.publicAccess.check(list)
        if list != .ownerOnly(owner) { attributes.accessControlList = list.storedBytes }
        return attributes
    }

    func accountIndex() async throws -> AccountIndex { AccountIndex(try await credentials.accounts()) }
}

/// The accounts that grants and policies can name.
struct AccountIndex: AccountLookup {
    private var ids: Set<String> = []
    private var numbers: Set<String> = []
    private var emails: [String: [String]] = [:]

    init(_ accounts: [AccountIdentity]) {
        for account in accounts {
            ids.insert(account.id)
            numbers.insert(PolicyPrincipal.accountNumber(of: account.id))
            if let email = account.email { emails[email.lowercased(), default: []].append(account.id) }
        }
    }

    func exists(canonicalID: String) -> Bool { ids.contains(canonicalID) }

    func canonicalIDs(email: String) -> [String] { emails[email.lowercased()] ?? [] }

    /// As policies name accounts: by twelve digits or by the canonical id.
    func knows(_ name: String) -> Bool { numbers.contains(name) || ids.contains(name.lowercased()) }
}
