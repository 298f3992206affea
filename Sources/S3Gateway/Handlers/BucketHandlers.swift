internal import Catalog
internal import ObjectService
internal import S3Protocol
internal import StoreModel

extension S3Service {
    /// https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListBuckets.html
    func listBuckets(_ exchange: Exchange) async throws {
        guard let account = exchange.request.account else { throw S3Error(.accessDenied) }
        let rootID = try await credentials.rootAccount().id
        let prefix = exchange.query.first("prefix") ?? ""
        let buckets = try await objects.buckets().filter { bucket in
            (bucket.owner ?? rootID) == account.id && bucket.name.description.hasPrefix(prefix)
        }
        let (page, next) = try bucketPage(buckets, exchange.query)
        exchange.send(
            document: ListAllMyBucketsResult(
                owner: Owner(id: account.id, displayName: account.displayName),
                buckets: page.map {
                    .init(
                        name: $0.name.description,
                        createdAt: $0.createdAt,
                        region: exchange.query.isEmpty ? nil : configuration.region
                    )
                },
                prefix: exchange.query.first("prefix"),
                continuationToken: next
            )
        )
    }

    /// A page after the token, which is the name of the last bucket before.
    private func bucketPage(
        _ buckets: [BucketRow],
        _ query: QueryItems
    ) throws(S3Error) -> (page: ArraySlice<BucketRow>, next: String?) {
        var rest = buckets[...]
        if let token = query.first("continuation-token"), !token.isEmpty {
            rest = rest.drop { $0.name.description <= token }
        }
        guard let text = query.first("max-buckets") else { return (rest, nil) }
        guard let limit = Int(text), (1...10_000).contains(limit) else {
            throw .invalidArgument(
                "Provided max-buckets not an integer or within integer range",
                name: "max-buckets",
                value: text
            )
        }
        let page = rest.prefix(limit)
        return (page, page.count < rest.count ? page.last?.name.description : nil)
    }

    /// https://docs.aws.amazon.com/AmazonS3/latest/API/API_CreateBucket.html
    func createBucket(_ exchange: Exchange) async throws {
        let name = try exchange.request.bucket()
        guard let account = exchange.request.account else { throw S3Error(.accessDenied) }
        let body = try await exchange.document(sizeMax: 64 << 10)
        let document = body.isEmpty ? nil : try CreateBucketConfiguration(body: body)
        try checkLocation(document?.location)
        let settings = try await initialSettings(exchange, account, tags: document?.tags)
        let isLocked = settings.contains { $0.name == BucketSettingName.objectLock }
        do {
            _ = try await objects.createBucket(
                name,
                versioning: isLocked ? .enabled : configuration.newBuckets.versioning,
                owner: account.id,
                isOwnerAccount: true,
                settings: settings
            )
        } catch let error as StoreError where error.code == .bucketAlreadyExists {
            let owner = try await ownerID(of: try await objects.bucket(name))
            guard owner == account.id else { throw S3Error(.bucketAlreadyExists) }
            // In the oldest region, and only there, making one's own bucket again is a success.
            guard configuration.region == "us-east-1" else { throw S3Error(.bucketAlreadyOwnedByYou) }
        }
        exchange.send(200, [HeaderField("Location", "/\(name)")])
    }

    /// What a bucket is born with. Ownership and the block of public access are written down, so that a later change
    /// of the defaults is one for new buckets.
    private func initialSettings(
        _ exchange: Exchange,
        _ account: AccountIdentity,
        tags: TagSet?
    ) async throws -> [BucketSetting] {
        var ownership = configuration.newBuckets.ownership
        let name = "x-amz-object-ownership"
        if let text = try exchange.headers.single(name) {
            guard let asked = ObjectOwnership(rawValue: text) else {
                throw S3Error.invalidArgument(
                    "Invalid x-amz-object-ownership header",
                    name: name,
                    value: text
                )
            }
            ownership = asked
        }
        let publicAccess = configuration.newBuckets.publicAccess
        var settings = [
            BucketSetting(
                name: BucketSettingName.ownershipControls,
                body: OwnershipControls(ownership: ownership).xmlBytes
            ),
            BucketSetting(name: BucketSettingName.publicAccessBlock, body: publicAccess.xmlBytes),
        ]
        let requested = try RequestedACL { exchange.headers.first($0) }
        if requested != .none, requested != .canned(.privateAccess) {
            guard ownership != .bucketOwnerEnforced else {
                throw S3Error(.invalidBucketACLWithObjectOwnership)
            }
            let list = try requested.list(owner: account.id, bucketOwner: nil, try await accountIndex())
            try publicAccess.check(list)
            settings.append(BucketSetting(name: BucketSettingName.accessControlList, body: list.storedBytes))
        }
        if let text = exchange.headers.first("x-amz-bucket-object-lock-enabled"), text.lowercased() == "true"
        {
            settings.append(
                BucketSetting(name: BucketSettingName.objectLock, body: ObjectLockConfiguration().xmlBytes)
            )
        }
        if let tags, !tags.isEmpty {
            settings.append(BucketSetting(name: BucketSettingName.tagging, body: tags.xmlBytes))
        }
        return settings
    }

    private func checkLocation(_ location: String?) throws(S3Error) {
        guard let location else { return }
        guard location == configuration.region, location != "us-east-1" else {
            throw S3Error(
                .invalidLocationConstraint,
                "The specified location-constraint is not valid",
                details: [("LocationConstraint", location)]
            )
        }
    }

    /// https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadBucket.html
    func headBucket(_ exchange: Exchange) async throws {
        _ = try await objects.bucketConfiguration(try exchange.request.bucket())
        exchange.send(200, [HeaderField("x-amz-bucket-region", configuration.region)])
    }

    /// https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteBucket.html
    func deleteBucket(_ exchange: Exchange) async throws {
        try await objects.deleteBucket(try exchange.request.bucket())
        exchange.send(204)
    }

    /// https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetBucketLocation.html
    func getBucketLocation(_ exchange: Exchange) async throws {
        _ = try await objects.bucketConfiguration(try exchange.request.bucket())
        exchange.send(document: LocationConstraint(region: configuration.region))
    }
}
