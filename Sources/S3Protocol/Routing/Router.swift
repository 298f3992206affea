internal import StoreModel

/// Finds the API that a request is for, from method, host, path, query and two headers.
///
/// The bucket and the key that come out are the decoded bytes of the path that the signature covers: what is
/// authorised is what is served.
package enum Router {
    /// - Throws: `NotImplemented` for what S3 has and Holdfast has not, `MethodNotAllowed` for a method that the
    ///   resource does not have, `InvalidURI`, `InvalidBucketName` and `KeyTooLongError` for names.
    package static func route(_ head: S3RequestHead, addressing: Addressing) throws(S3Error) -> S3Route {
        let query = try QueryItems(decoding: head.query)
        return try route(head, query: query, addressing: addressing)
    }

    /// - Parameter query: the head's query, decoded.
    package static func route(
        _ head: S3RequestHead,
        query: QueryItems,
        addressing: Addressing
    ) throws(S3Error) -> S3Route {
        guard head.path.utf8.first == UInt8(ascii: "/"), head.path.utf8.count <= pathLengthMax else {
            throw S3Error(.invalidURI)
        }
        let resource = try Resource(head, addressing)
        let operation: S3Operation
        if resource.bucket == nil {
            operation = try serviceOperation(head.method)
        } else if resource.key == nil {
            operation = try bucketOperation(head, query)
        } else {
            operation = try objectOperation(head, query)
        }
        return S3Route(operation: operation, bucket: resource.bucket, key: resource.key, query: query)
    }

    /// Every byte of the longest key escaped, with the longest bucket name and room to spare.
    private static let pathLengthMax = 4096

    private struct Resource {
        let bucket: BucketName?
        let key: ObjectKey?

        init(_ head: S3RequestHead, _ addressing: Addressing) throws(S3Error) {
            let path = head.path.dropFirst()
            if let host = head.headers.first("host"), let name = addressing.bucketName(inHost: host) {
                bucket = try Self.bucket(name)
                key = path.isEmpty ? nil : try Self.key(path)
                return
            }
            guard !path.isEmpty else {
                bucket = nil
                key = nil
                return
            }
            let split = path.utf8.firstIndex(of: UInt8(ascii: "/"))
            guard let name = PercentCoding.decodeText(path[..<(split ?? path.endIndex)], plusIsSpace: false)
            else { throw S3Error(.invalidURI) }
            bucket = try Self.bucket(name)
            let rest = split.map { path[path.utf8.index(after: $0)...] } ?? ""
            key = rest.isEmpty ? nil : try Self.key(rest)
        }

        private static func bucket(_ name: String) throws(S3Error) -> BucketName {
            do {
                return try BucketName(name)
            } catch {
                throw S3Error(.invalidBucketName, details: [("BucketName", String(name.prefix(256)))])
            }
        }

        private static func key(_ text: Substring) throws(S3Error) -> ObjectKey {
            guard let bytes = PercentCoding.decode(text, plusIsSpace: false) else {
                throw S3Error(.invalidURI)
            }
            do {
                return try ObjectKey(bytes: bytes)
            } catch {
                throw error.code == .keyTooLong
                    ? S3Error(
                        .keyTooLong,
                        details: [
                            ("Size", "\(bytes.count)"), ("MaxSizeAllowed", "\(ObjectKey.byteCountMax)"),
                        ]
                    ) : S3Error(.invalidURI)
            }
        }
    }

    // MARK: Service

    private static func serviceOperation(_ method: String) throws(S3Error) -> S3Operation {
        switch method {
        case "GET": .listBuckets
        case "OPTIONS": .preflight
        default: throw methodNotAllowed(method, "SERVICE", allowed: ["GET"])
        }
    }

    // MARK: Buckets

    private static func bucketOperation(
        _ head: S3RequestHead,
        _ query: QueryItems
    ) throws(S3Error) -> S3Operation {
        if head.method == "OPTIONS" { return .preflight }
        if let name = try Subresource.name(in: query) {
            guard let subresource = Subresource.ofBuckets[name] else { throw notImplemented(name) }
            return try subresource.operation(head.method, type: "BUCKET")
        }
        switch head.method {
        case "GET":
            guard let type = query.first("list-type") else { return .listObjects }
            guard type == "2" else {
                throw .invalidArgument(
                    "Invalid List Type Specified in Request",
                    name: "list-type",
                    value: type
                )
            }
            return .listObjectsV2
        case "HEAD": return .headBucket
        case "PUT": return .createBucket
        case "DELETE": return .deleteBucket
        case "POST":
            let type = head.headers.first("content-type") ?? ""
            guard ASCIIText.hasPrefixIgnoringCase(type, "multipart/form-data") else {
                throw S3Error(
                    .preconditionFailed,
                    details: [("Condition", "Bucket POST must be of the enclosure-type multipart/form-data")]
                )
            }
            return .postObject
        default:
            throw methodNotAllowed(head.method, "BUCKET", allowed: ["GET", "HEAD", "PUT", "DELETE", "POST"])
        }
    }

    // MARK: Objects

    private static func objectOperation(
        _ head: S3RequestHead,
        _ query: QueryItems
    ) throws(S3Error) -> S3Operation {
        if head.method == "OPTIONS" { return .preflight }
        if let name = try Subresource.name(in: query) {
            if name == "uploadId" { return try uploadOperation(head, query) }
            guard let subresource = Subresource.ofObjects[name] else { throw notImplemented(name) }
            return try subresource.operation(head.method, type: "OBJECT")
        }
        switch head.method {
        case "GET": return .getObject
        case "HEAD": return .headObject
        case "DELETE": return .deleteObject
        case "PUT":
            if let number = query.first("partNumber") {
                throw .invalidArgument("A part needs an uploadId.", name: "partNumber", value: number)
            }
            return head.headers.contains("x-amz-copy-source") ? .copyObject : .putObject
        default: throw methodNotAllowed(head.method, "OBJECT", allowed: ["GET", "HEAD", "PUT", "DELETE"])
        }
    }

    private static func uploadOperation(
        _ head: S3RequestHead,
        _ query: QueryItems
    ) throws(S3Error) -> S3Operation {
        switch head.method {
        case "GET": return .listParts
        case "DELETE": return .abortMultipartUpload
        case "POST": return .completeMultipartUpload
        case "PUT":
            guard query.contains("partNumber") else {
                throw .invalidArgument("An upload needs a partNumber.", name: "partNumber", value: "")
            }
            return head.headers.contains("x-amz-copy-source") ? .uploadPartCopy : .uploadPart
        default: throw methodNotAllowed(head.method, "UPLOAD", allowed: ["GET", "PUT", "POST", "DELETE"])
        }
    }

    // MARK: Refusals

    static func methodNotAllowed(_ method: String, _ type: String, allowed: [String]) -> S3Error {
        S3Error(
            .methodNotAllowed,
            details: [("Method", String(method.prefix(32))), ("ResourceType", type)],
            headers: [("allow", allowed.joined(separator: ", "))]
        )
    }

    private static func notImplemented(_ subresource: String) -> S3Error {
        S3Error(
            .notImplemented,
            "A parameter you provided implies functionality that is not implemented",
            details: [("Parameter", subresource), ("ResourceType", subresource)]
        )
    }
}

/// A parameter of the query that names a part of a bucket or of an object rather than qualifying the request.
private struct Subresource: Sendable {
    private let operations: [String: S3Operation]

    private init(
        get: S3Operation? = nil,
        put: S3Operation? = nil,
        delete: S3Operation? = nil,
        post: S3Operation? = nil
    ) {
        var operations: [String: S3Operation] = [:]
        operations["GET"] = get
        operations["PUT"] = put
        operations["DELETE"] = delete
        operations["POST"] = post
        self.operations = operations
    }

    func operation(_ method: String, type: String) throws(S3Error) -> S3Operation {
        guard let operation = operations[method] else {
            throw Router.methodNotAllowed(method, type, allowed: operations.keys.sorted())
        }
        return operation
    }

    static let ofBuckets: [String: Subresource] = [
        "acl": Subresource(get: .getBucketACL, put: .putBucketACL),
        "cors": Subresource(get: .getBucketCORS, put: .putBucketCORS, delete: .deleteBucketCORS),
        "delete": Subresource(post: .deleteObjects),
        "encryption": Subresource(
            get: .getBucketEncryption,
            put: .putBucketEncryption,
            delete: .deleteBucketEncryption
        ),
        "lifecycle": Subresource(
            get: .getBucketLifecycle,
            put: .putBucketLifecycle,
            delete: .deleteBucketLifecycle
        ),
        "location": Subresource(get: .getBucketLocation),
        "logging": Subresource(get: .getBucketLogging, put: .putBucketLogging),
        "notification": Subresource(get: .getBucketNotification, put: .putBucketNotification),
        "object-lock": Subresource(get: .getObjectLockConfiguration, put: .putObjectLockConfiguration),
        "ownershipControls": Subresource(
            get: .getBucketOwnershipControls,
            put: .putBucketOwnershipControls,
            delete: .deleteBucketOwnershipControls
        ),
        "policy": Subresource(get: .getBucketPolicy, put: .putBucketPolicy, delete: .deleteBucketPolicy),
        "policyStatus": Subresource(get: .getBucketPolicyStatus),
        "publicAccessBlock": Subresource(
            get: .getPublicAccessBlock,
            put: .putPublicAccessBlock,
            delete: .deletePublicAccessBlock
        ),
        "requestPayment": Subresource(get: .getBucketRequestPayment, put: .putBucketRequestPayment),
        "tagging": Subresource(get: .getBucketTagging, put: .putBucketTagging, delete: .deleteBucketTagging),
        "uploads": Subresource(get: .listMultipartUploads),
        "versioning": Subresource(get: .getBucketVersioning, put: .putBucketVersioning),
        "versions": Subresource(get: .listObjectVersions),
        "website": Subresource(get: .getBucketWebsite, put: .putBucketWebsite, delete: .deleteBucketWebsite),
    ]

    static let ofObjects: [String: Subresource] = [
        "acl": Subresource(get: .getObjectACL, put: .putObjectACL),
        "attributes": Subresource(get: .getObjectAttributes),
        "legal-hold": Subresource(get: .getObjectLegalHold, put: .putObjectLegalHold),
        "retention": Subresource(get: .getObjectRetention, put: .putObjectRetention),
        "tagging": Subresource(get: .getObjectTagging, put: .putObjectTagging, delete: .deleteObjectTagging),
        "uploads": Subresource(post: .createMultipartUpload),
    ]

    /// What S3 has besides: it must not pass for a plain GET or PUT.
    private static let unserved: Set<String> = [
        "abac", "accelerate", "analytics", "annotation", "append", "intelligent-tiering", "inventory",
        "metadataConfiguration", "metadataInventoryTable", "metadataJournalTable", "metadataTable", "metrics",
        "object-lock-legal-hold", "renameObject", "replication", "restore", "select", "select-type",
        "session",
        "torrent",
    ]

    /// The subresource that a query names. Other parameters qualify the request, or are for somebody else: S3
    /// ignores those that it does not know.
    static func name(in query: QueryItems) throws(S3Error) -> String? {
        var found: String?
        // They all begin with a small letter, and what a presigned URL carries with a capital one.
        for item in query.items where item.name.utf8.first.map({ ASCIIText.isUpper($0) }) == false {
            let isSubresource =
                ofBuckets[item.name] != nil || ofObjects[item.name] != nil || unserved.contains(item.name)
                || item.name == "uploadId"
            guard isSubresource, found != item.name else { continue }
            if let found {
                if isSelect(found, item.name) { continue }
                throw .invalidArgument(
                    "Conflicting query string parameters: \(found), \(item.name)",
                    name: "ResourceType",
                    value: found
                )
            }
            found = item.name
        }
        return found
    }

    /// `?select&select-type=2` is one.
    private static func isSelect(_ first: String, _ second: String) -> Bool {
        first.hasPrefix("select") && second.hasPrefix("select")
    }
}
