package import Catalog
internal import ObjectService
package import S3Protocol
internal import StoreModel
internal import Synchronization

/// A bucket's settings as requests need them: read once for as long as they stay the same.
///
/// A setting that was taken away is stored empty: a bucket that never had one has the default of new buckets.
final class BucketAccess: Sendable {
    let configuration: BucketConfiguration
    /// Canonical id.
    let owner: String
    let policy: BucketPolicy?
    /// Whether the policy asks for the tags of objects.
    let policyNeedsTags: Bool
    let acl: AccessControlList
    let publicAccess: PublicAccessBlock
    let ownership: ObjectOwnership
    let cors: CORSConfiguration?
    let lifecycle: LifecycleConfiguration?
    let objectLock: ObjectLockConfiguration?
    let logging: BucketLoggingStatus?
    let requesterPays: Bool

    /// - Throws: for a setting that can't be read. Nothing is allowed then: the setting may forbid it.
    init(
        _ configuration: BucketConfiguration,
        owner: String,
        defaults: S3Service.NewBuckets
    ) throws(S3Error) {
        self.configuration = configuration
        self.owner = owner
        let settings = configuration.settings
        let name = configuration.bucket.name.description
        policy = try Self.present(settings[BucketSettingName.policy]).map { bytes throws(S3Error) in
            try BucketPolicy(parsing: bytes, bucket: name)
        }
        policyNeedsTags = policy?.needsExistingTags ?? false
        acl =
            try Self.present(settings[BucketSettingName.accessControlList]).map { bytes throws(S3Error) in
                guard let list = AccessControlList(storedBytes: bytes) else { throw S3Error(.internalError) }
                return list
            } ?? .ownerOnly(owner)
        publicAccess =
            switch settings[BucketSettingName.publicAccessBlock] {
            case nil: defaults.publicAccess
            case let body? where body.isEmpty: .nothing
            case let body?: try PublicAccessBlock(body: body)
            }
        ownership =
            switch settings[BucketSettingName.ownershipControls] {
            case nil: defaults.ownership
            // https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteBucketOwnershipControls.html
            case let body? where body.isEmpty: .objectWriter
            case let body?: try OwnershipControls(body: body).ownership
            }
        cors = try Self.present(settings[BucketSettingName.cors]).map { body throws(S3Error) in
            try CORSConfiguration(body: body)
        }
        lifecycle = try Self.present(settings[BucketSettingName.lifecycle]).map { body throws(S3Error) in
            try LifecycleConfiguration(body: body)
        }
        objectLock = try Self.present(settings[BucketSettingName.objectLock]).map { body throws(S3Error) in
            try ObjectLockConfiguration(body: body)
        }
        logging = try Self.present(settings[BucketSettingName.logging]).map { body throws(S3Error) in
            try BucketLoggingStatus(body: body)
        }
        let payment = try Self.present(settings[BucketSettingName.requestPayment]).map {
            body throws(S3Error) in
            try RequestPaymentConfiguration(body: body)
        }
        requesterPays = payment?.payer == .requester
    }

    private static func present(_ body: [UInt8]?) -> [UInt8]? { body.flatMap { $0.isEmpty ? nil : $0 } }

    var bucket: BucketRow { configuration.bucket }

    /// The list that counts: where ACLs are disabled, the owner's.
    var effectiveACL: AccessControlList { ownership == .bucketOwnerEnforced ? .ownerOnly(owner) : acl }

    /// Who owns a version.
    func owner(of row: VersionRow) -> String {
        ownership == .bucketOwnerEnforced ? owner : row.attributes.owner ?? owner
    }

    /// The list of a version: its owner's alone, unless it has one and ACLs count.
    /// - Throws: for a list that can't be read.
    func acl(of row: VersionRow) throws(S3Error) -> AccessControlList {
        let owner = owner(of: row)
        guard ownership != .bucketOwnerEnforced, let bytes = row.attributes.accessControlList else {
            return .ownerOnly(owner)
        }
        guard let list = AccessControlList(storedBytes: bytes) else { throw S3Error(.internalError) }
        return list
    }
}

/// What was read last of each bucket.
final class BucketAccessCache: Sendable {
    private static let countMax = 1024
    private let known = Mutex<[BucketName: BucketAccess]>([:])

    func access(for configuration: BucketConfiguration) -> BucketAccess? {
        known.withLock { $0[configuration.bucket.name] }
            .flatMap { $0.configuration === configuration ? $0 : nil }
    }

    func keep(_ access: BucketAccess) {
        known.withLock { known in
            if known.count >= Self.countMax { known = [:] }
            known[access.bucket.name] = access
        }
    }
}

extension S3Service {
    /// What a bucket starts with when its maker asks for nothing else. S3's own defaults since April 2023.
    /// https://docs.aws.amazon.com/AmazonS3/latest/userguide/create-bucket-faq.html
    package struct NewBuckets: Sendable {
        package var ownership = ObjectOwnership.bucketOwnerEnforced
        package var publicAccess = PublicAccessBlock.everything
        package var versioning = VersioningState.off

        package init() {}
    }

    /// - Throws: `NoSuchBucket`.
    func access(to name: BucketName) async throws -> BucketAccess {
        let configuration = try await objects.bucketConfiguration(name)
        if let known = accessCache.access(for: configuration) { return known }
        let owner = try await ownerID(of: configuration.bucket)
        let access = try BucketAccess(
            configuration,
            owner: owner,
            defaults: self.configuration.newBuckets
        )
        accessCache.keep(access)
        return access
    }

    func access(to exchange: Exchange) async throws -> BucketAccess {
        try await access(to: try exchange.request.bucket())
    }
}
