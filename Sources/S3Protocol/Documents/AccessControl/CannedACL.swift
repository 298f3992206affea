/// The lists that x-amz-acl names.
/// https://docs.aws.amazon.com/AmazonS3/latest/userguide/acl-overview.html#canned-acl
package enum CannedACL: String, CaseIterable, Sendable {
    case privateAccess = "private"
    case publicRead = "public-read"
    case publicReadWrite = "public-read-write"
    case authenticatedRead = "authenticated-read"
    case bucketOwnerRead = "bucket-owner-read"
    case bucketOwnerFullControl = "bucket-owner-full-control"
    case logDeliveryWrite = "log-delivery-write"

    /// - Throws: InvalidArgument for a name that S3 does not know, NotImplemented for one that has no meaning here.
    package init(header value: String) throws(S3Error) {
        if value == "aws-exec-read" {
            throw S3Error(.notImplemented, "The canned ACL aws-exec-read is not implemented.")
        }
        guard let canned = CannedACL(rawValue: value) else {
            throw S3Error(
                .invalidArgument,
                nil,
                details: [("ArgumentName", "x-amz-acl"), ("ArgumentValue", String(value.prefix(256)))]
            )
        }
        self = canned
    }

    /// - Parameters:
    ///   - owner: of what the list is for.
    ///   - bucketOwner: of the bucket that an object is in; nil for a bucket, where such lists mean nothing.
    package func list(owner: String, bucketOwner: String?) -> AccessControlList {
        var entries = [AccessControlList.Entry(.user(owner), .fullControl)]
        switch self {
        case .privateAccess: break
        case .publicRead: entries.append(.init(.group(.everyone), .read))
        case .publicReadWrite:
            entries.append(.init(.group(.everyone), .read))
            entries.append(.init(.group(.everyone), .write))
        case .authenticatedRead: entries.append(.init(.group(.authenticated), .read))
        case .bucketOwnerRead:
            if let bucketOwner, bucketOwner != owner { entries.append(.init(.user(bucketOwner), .read)) }
        case .bucketOwnerFullControl:
            if let bucketOwner, bucketOwner != owner {
                entries.append(.init(.user(bucketOwner), .fullControl))
            }
        case .logDeliveryWrite:
            if bucketOwner == nil {
                entries.append(.init(.group(.logDelivery), .write))
                entries.append(.init(.group(.logDelivery), .readACP))
            }
        }
        return AccessControlList(owner: owner, entries: entries)
    }
}

/// What the headers of a request say about the ACL of the new bucket or object.
package enum RequestedACL: Hashable, Sendable {
    /// Nothing: the owner alone.
    case none
    case canned(CannedACL)
    case grants([Grant])

    /// - Parameter header: the value of a header, or nil.
    /// - Throws: InvalidRequest when both forms are used, InvalidArgument for a value that is none.
    package init(header: (String) -> String?) throws(S3Error) {
        var grants: [Grant] = []
        for permission in Permission.allCases {
            if let value = header(permission.headerName) {
                grants += try Grant.grants(header: value, permission)
            }
        }
        guard let canned = header("x-amz-acl") else {
            self = grants.isEmpty ? .none : .grants(grants)
            return
        }
        guard grants.isEmpty else {
            throw S3Error(
                .invalidRequest,
                "Specifying both Canned ACLs and Header Grants is not allowed"
            )
        }
        self = .canned(try CannedACL(header: canned))
    }

    /// The list. Grants by header replace the owner's own grant, as in S3.
    package func list(
        owner: String,
        bucketOwner: String?,
        _ accounts: some AccountLookup
    ) throws(S3Error) -> AccessControlList {
        switch self {
        case .none: .ownerOnly(owner)
        case .canned(let canned): canned.list(owner: owner, bucketOwner: bucketOwner)
        case .grants(let grants):
            AccessControlList(owner: owner, entries: try accounts.entries(for: grants))
        }
    }

    /// Where ACLs are disabled, only lists that say what is true anyway are accepted.
    /// https://docs.aws.amazon.com/AmazonS3/latest/userguide/about-object-ownership.html
    package func requireNoEffect(isBucket: Bool) throws(S3Error) {
        switch self {
        case .none: return
        case .canned(.bucketOwnerFullControl) where !isBucket: return
        case .canned(.privateAccess) where isBucket: return
        default: throw S3Error(.accessControlListNotSupported)
        }
    }
}
