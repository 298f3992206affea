import S3Protocol
import StoreModel
import Testing

@Suite struct RouterTests {
    static let addressing = Addressing(domains: ["s3.example.com", "eu.s3.example.com"])

    private func head(
        _ method: String,
        _ target: String,
        host: String = "localhost:9000",
        _ headers: [(String, String)] = []
    ) -> S3RequestHead {
        S3RequestHead(method: method, target: target, headers: HeaderList([("Host", host)] + headers))
    }

    private func operation(_ method: String, _ target: String, _ headers: [(String, String)] = []) throws
        -> String
    {
        try Router.route(head(method, target, headers), addressing: Self.addressing).operation.name
    }

    private func head(_ method: String, _ target: String, _ headers: [(String, String)]) -> S3RequestHead {
        head(method, target, host: "localhost:9000", headers)
    }

    private func code(_ method: String, _ target: String, host: String = "localhost") -> S3ErrorCode? {
        refusal { _ = try Router.route(head(method, target, host: host), addressing: Self.addressing) }?.code
    }

    @Test(arguments: [
        ("GET /", "ListBuckets"), ("GET /?x-id=ListBuckets", "ListBuckets"),
        ("PUT /b00", "CreateBucket"), ("PUT /b00/", "CreateBucket"), ("DELETE /b00", "DeleteBucket"),
        ("HEAD /b00", "HeadBucket"), ("GET /b00", "ListObjects"),
        ("GET /b00?prefix=a&delimiter=/", "ListObjects"),
        ("GET /b00?list-type=2", "ListObjectsV2"), ("GET /b00?versions", "ListObjectVersions"),
        ("GET /b00?uploads", "ListMultipartUploads"), ("POST /b00?delete", "DeleteObjects"),
        ("GET /b00?location", "GetBucketLocation"), ("GET /b00?versioning", "GetBucketVersioning"),
        ("PUT /b00?versioning", "PutBucketVersioning"), ("GET /b00?policy", "GetBucketPolicy"),
        ("PUT /b00?policy", "PutBucketPolicy"), ("DELETE /b00?policy", "DeleteBucketPolicy"),
        ("GET /b00?policyStatus", "GetBucketPolicyStatus"),
        ("GET /b00?publicAccessBlock", "GetPublicAccessBlock"),
        ("PUT /b00?publicAccessBlock", "PutPublicAccessBlock"),
        ("DELETE /b00?publicAccessBlock", "DeletePublicAccessBlock"), ("GET /b00?acl", "GetBucketAcl"),
        ("PUT /b00?acl", "PutBucketAcl"), ("GET /b00?ownershipControls", "GetBucketOwnershipControls"),
        ("PUT /b00?ownershipControls", "PutBucketOwnershipControls"),
        ("DELETE /b00?ownershipControls", "DeleteBucketOwnershipControls"),
        ("GET /b00?cors", "GetBucketCors"),
        ("PUT /b00?cors", "PutBucketCors"), ("DELETE /b00?cors", "DeleteBucketCors"),
        ("GET /b00?tagging", "GetBucketTagging"), ("PUT /b00?tagging", "PutBucketTagging"),
        ("DELETE /b00?tagging", "DeleteBucketTagging"),
        ("GET /b00?lifecycle", "GetBucketLifecycleConfiguration"),
        ("PUT /b00?lifecycle", "PutBucketLifecycleConfiguration"),
        ("DELETE /b00?lifecycle", "DeleteBucketLifecycle"),
        ("GET /b00?object-lock", "GetObjectLockConfiguration"),
        ("PUT /b00?object-lock", "PutObjectLockConfiguration"),
        ("GET /b00?encryption", "GetBucketEncryption"),
        ("PUT /b00?encryption", "PutBucketEncryption"), ("DELETE /b00?encryption", "DeleteBucketEncryption"),
        ("GET /b00?notification", "GetBucketNotificationConfiguration"),
        ("PUT /b00?notification", "PutBucketNotificationConfiguration"),
        ("GET /b00?logging", "GetBucketLogging"),
        ("PUT /b00?logging", "PutBucketLogging"), ("GET /b00?requestPayment", "GetBucketRequestPayment"),
        ("PUT /b00?requestPayment", "PutBucketRequestPayment"), ("GET /b00?website", "GetBucketWebsite"),
        ("PUT /b00?website", "PutBucketWebsite"), ("DELETE /b00?website", "DeleteBucketWebsite"),
        ("OPTIONS /b00", "OptionsPreflight"), ("OPTIONS /b00/k?acl", "OptionsPreflight"),
        ("GET /b00/k", "GetObject"), ("GET /b00/k?versionId=1&partNumber=2", "GetObject"),
        ("GET /b00/k?response-content-type=a", "GetObject"), ("HEAD /b00/k", "HeadObject"),
        ("PUT /b00/k", "PutObject"), ("PUT /b00/k?x-id=PutObject", "PutObject"),
        ("DELETE /b00/k", "DeleteObject"),
        ("GET /b00/k?attributes", "GetObjectAttributes"), ("GET /b00/k?acl", "GetObjectAcl"),
        ("PUT /b00/k?acl", "PutObjectAcl"), ("GET /b00/k?tagging", "GetObjectTagging"),
        ("PUT /b00/k?tagging", "PutObjectTagging"), ("DELETE /b00/k?tagging", "DeleteObjectTagging"),
        ("GET /b00/k?retention", "GetObjectRetention"), ("PUT /b00/k?retention", "PutObjectRetention"),
        ("GET /b00/k?legal-hold", "GetObjectLegalHold"), ("PUT /b00/k?legal-hold", "PutObjectLegalHold"),
        ("POST /b00/k?uploads", "CreateMultipartUpload"),
        ("PUT /b00/k?partNumber=1&uploadId=u", "UploadPart"),
        ("POST /b00/k?uploadId=u", "CompleteMultipartUpload"),
        ("DELETE /b00/k?uploadId=u", "AbortMultipartUpload"),
        ("GET /b00/k?uploadId=u", "ListParts"),
    ])
    func everyAPIIsFound(_ request: String, _ name: String) throws {
        let parts = request.split(separator: " ", maxSplits: 1).map(String.init)
        #expect(try operation(parts[0], parts[1]) == name)
    }

    @Test func headersDecideBetweenUploadsAndCopies() throws {
        let copy = [("x-amz-copy-source", "")]
        #expect(try operation("PUT", "/b00/k", copy) == "CopyObject")
        #expect(try operation("PUT", "/b00/k?partNumber=1&uploadId=u", copy) == "UploadPartCopy")
        let form = [("Content-Type", "Multipart/Form-Data; boundary=x")]
        #expect(try operation("POST", "/b00", form) == "PostObject")
        #expect(code("POST", "/b00") == .preconditionFailed)
    }

    @Test func everyOperationCanBeReached() {
        let names = Set(S3Operation.allCases.map(\.name))
        #expect(names.count == S3Operation.allCases.count)
        #expect(S3Operation.allCases.allSatisfy { $0.policyAction().hasPrefix("s3:") })
        #expect(S3Operation.getObject.policyAction(hasVersion: true) == "s3:GetObjectVersion")
        #expect(S3Operation.putObject.policyAction(hasVersion: true) == "s3:PutObject")
        #expect(S3Operation.putBucketCORS.isMutation && !S3Operation.getBucketCORS.isMutation)
        #expect(S3Operation.deleteObjects.isMutation && !S3Operation.headObject.isMutation)
    }

    @Test(arguments: [
        "GET /b00?accelerate", "PUT /b00?replication", "GET /b00?analytics", "PUT /b00?inventory",
        "GET /b00?metrics", "GET /b00?intelligent-tiering", "POST /b00/k?restore",
        "POST /b00/k?select&select-type=2",
        "GET /b00/k?torrent", "PUT /b00/k?policy", "PUT /b00/k?versioning", "GET /b00?attributes",
        "PUT /b00/k?renameObject", "GET /b00?session",
    ])
    func whatIsNotServedSaysSo(_ request: String) {
        let parts = request.split(separator: " ", maxSplits: 1).map(String.init)
        #expect(code(parts[0], parts[1]) == .notImplemented)
    }

    @Test(arguments: [
        "POST /", "PUT /", "DELETE /", "PATCH /b00", "PATCH /b00/k", "POST /b00/k", "DELETE /b00?acl",
        "POST /b00?policy", "HEAD /b00?acl", "PUT /b00?location", "DELETE /b00/k?acl", "PUT /b00/k?uploads",
        "HEAD /b00/k?uploadId=u", "get /b00/k",
    ])
    func wrongMethodsAreRefused(_ request: String) {
        let parts = request.split(separator: " ", maxSplits: 1).map(String.init)
        #expect(code(parts[0], parts[1]) == .methodNotAllowed)
    }

    @Test func contradictionsAreRefused() {
        #expect(code("GET", "/b00?acl&policy") == .invalidArgument)
        #expect(code("GET", "/b00/k?uploadId=u&tagging") == .invalidArgument)
        #expect(code("GET", "/b00?list-type=3") == .invalidArgument)
        #expect(code("PUT", "/b00/k?partNumber=1") == .invalidArgument)
        #expect(code("PUT", "/b00/k?uploadId=u") == .invalidArgument)
    }

    @Test(arguments: [
        ("/b00/a%20b", "a b"), ("/b00/a+b", "a+b"), ("/b00/a%2Fb", "a/b"), ("/b00//a//b/", "/a//b/"),
        ("/b00/../x", "../x"), ("/b00/%2e%2e", ".."), ("/b00/%E6%97%A5", "日"), ("/b00/a%01", "a\u{1}"),
        ("/b00/?", ""),
    ])
    func keysAreTheDecodedBytes(_ target: String, _ key: String) throws {
        let route = try Router.route(head("GET", target), addressing: Self.addressing)
        #expect(route.key?.description ?? "" == key)
        #expect(route.bucket?.description == "b00")
    }

    @Test func namesThatAreNoneAreRefused() {
        let long = String(repeating: "k", count: 1024)
        #expect(code("PUT", "/b00/" + long) == nil)
        #expect(code("PUT", "/b00/" + long + "k") == .keyTooLong)
        #expect(code("PUT", "/b00/" + String(repeating: "%41", count: 1024)) == nil)
        #expect(code("PUT", "/b00/" + String(repeating: "%41", count: 2000)) == .invalidURI)
        #expect(code("PUT", "/b00/%00") == .invalidURI)
        #expect(code("PUT", "/b00/%ff") == .invalidURI)
        #expect(code("PUT", "/b00/%") == .invalidURI)
        #expect(code("PUT", "/b00/%4") == .invalidURI)
        #expect(code("PUT", "/b00/%zz") == .invalidURI)
        #expect(code("PUT", "/b00/k?x=%") == .invalidURI)
        #expect(code("PUT", "/b00/k?x=%ff") == .invalidURI)
        #expect(code("PUT", "b00/k") == .invalidURI)
        #expect(code("PUT", "") == .invalidURI)
        #expect(code("PUT", "/B00") == .invalidBucketName)
        #expect(code("PUT", "//k") == .invalidBucketName)
        #expect(code("PUT", "/..%2f../k") == .invalidBucketName)
        let many = (0..<200).map { "p\($0)" }.joined(separator: "&")
        #expect(code("GET", "/b00?" + many) == .invalidURI)
    }

    @Test(arguments: [
        ("my-bucket.s3.example.com", "/k", "my-bucket", "k"),
        ("MY-BUCKET.S3.example.com:9000", "/", "my-bucket", nil),
        ("a.b.s3.example.com", "/k/", "a.b", "k/"),
        ("my-bucket.eu.s3.example.com", "/k", "my-bucket", "k"),
        ("s3.example.com:80", "/my-bucket/k", "my-bucket", "k"),
        ("xs3.example.com", "/my-bucket/k", "my-bucket", "k"),
        ("127.0.0.1:9000", "/my-bucket/k", "my-bucket", "k"),
        ("[::1]:9000", "/my-bucket/k", "my-bucket", "k"),
    ])
    func theBucketStandsInTheHostOrInThePath(
        _ host: String,
        _ target: String,
        _ bucket: String,
        _ key: String?
    ) throws {
        let route = try Router.route(head("GET", target, host: host), addressing: Self.addressing)
        #expect(route.bucket?.description == bucket)
        #expect(route.key?.description == key)
    }

    @Test func codesHaveStatusesAndMessages() {
        for code in S3ErrorCode.allCases {
            #expect((300...507).contains(code.status), "\(code)")
            #expect(!code.message.isEmpty)
            if code != .internalError { #expect(code.status != 500, "\(code) is missing in the table") }
        }
        #expect(S3ErrorCode.insufficientStorage.status == 507)
        #expect(S3Error(.noSuchKey).message == "The specified key does not exist.")
    }
}
