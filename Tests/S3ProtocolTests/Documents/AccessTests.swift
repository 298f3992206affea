import S3Protocol
import StoreTestKit
import Testing

private let owner = SamplePolicy.owner
private let other = SamplePolicy.other
private let third = String(repeating: "0", count: 63) + "3"

private struct Accounts: AccountLookup {
    func exists(canonicalID: String) -> Bool { [owner, other, third].contains(canonicalID) }
    func canonicalIDs(email: String) -> [String] {
        switch email {
        case "one@example.com": [other]
        case "two@example.com": [other, third]
        default: []
        }
    }
}

@Suite struct AccessControlListTests {
    @Test func groupsStandInFrontOfUsers() throws {
        let list = CannedACL.publicReadWrite.list(owner: owner, bucketOwner: nil)
        #expect(list.entries.map(\.permission) == [.read, .write, .fullControl])
        let text = String(decoding: list.document { _ in "Me" }.xmlBytes, as: UTF8.self)
        #expect(
            text.hasPrefix(
                """
                <?xml version="1.0" encoding="UTF-8"?>
                <AccessControlPolicy xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Owner><ID>\(owner)</ID>\
                <DisplayName>Me</DisplayName></Owner><AccessControlList><Grant><Grantee \
                xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="Group">\
                <URI>http://acs.amazonaws.com/groups/global/AllUsers</URI></Grantee>\
                <Permission>READ</Permission></Grant>
                """
            )
        )
    }

    @Test func aListSurvivesItsStoredForm() throws {
        var lists = CannedACL.allCases.map { $0.list(owner: owner, bucketOwner: other) }
        lists.append(AccessControlList(owner: owner, entries: []))
        lists.append(AccessControlList(owner: owner, entries: [.init(.user(third), .readACP)]))
        for list in lists {
            #expect(AccessControlList(storedBytes: list.storedBytes) == list)
            for count in 0..<list.storedBytes.count {
                #expect(AccessControlList(storedBytes: [UInt8](list.storedBytes.prefix(count))) == nil)
            }
        }
        #expect(AccessControlList.ownerOnly(owner).storedBytes.count < 80)
    }

    @Test func documentsBecomeListsOfAccounts() throws {
        let document = AccessControlPolicy(
            owner: Owner(id: owner),
            grants: [
                Grant(grantee: .email("one@example.com"), permission: .read),
                Grant(grantee: .user(id: third, displayName: "x"), permission: .write),
            ]
        )
        let list = try document.list(owner: owner, Accounts())
        #expect(list.entries == [.init(.user(other), .read), .init(.user(third), .write)])
        #expect(failureCode { _ = try document.list(owner: other, Accounts()) } == .accessDenied)
        func code(_ grantee: Grantee) -> S3ErrorCode? {
            failureCode { _ = try Accounts().entries(for: [Grant(grantee: grantee, permission: .read)]) }
        }
        #expect(code(.user(id: "nobody", displayName: nil)) == .invalidArgument)
        #expect(code(.email("none@example.com")) == .unresolvableGrantByEmailAddress)
        #expect(code(.email("two@example.com")) == .ambiguousGrantByEmailAddress)
    }

    @Test(
        arguments: [
            ("<Grantee><ID>a</ID></Grantee><Permission>WRITE</Permission>", nil),
            ("<Grantee><ID>a</ID></Grantee><Permission>write</Permission>", S3ErrorCode.malformedACL),
            ("<Grantee><ID>a</ID></Grantee>", .malformedACL),
            ("<Permission>READ</Permission>", .malformedACL),
            ("<Grantee/><Permission>READ</Permission>", .malformedACL),
            ("<Grantee><ID>a</ID><URI>b</URI></Grantee><Permission>READ</Permission>", .malformedACL),
            ("<Grantee><URI>b</URI></Grantee><Permission>READ</Permission>", .invalidArgument),
            (
                "<Grantee xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" xsi:type=\"Group\"><ID>a</ID></Grantee>"
                    + "<Permission>READ</Permission>", .malformedACL
            ),
        ] as [(String, S3ErrorCode?)]
    )
    func grantsAreChecked(inner: String, code: S3ErrorCode?) {
        let text =
            "<AccessControlPolicy><AccessControlList><Grant>\(inner)</Grant></AccessControlList></AccessControlPolicy>"
        #expect(failureCode { _ = try AccessControlPolicy(xml: parsed(text)) } == code)
    }

    @Test func thereMayBeAHundredGrants() {
        func code(_ count: Int) -> S3ErrorCode? {
            let grant = "<Grant><Grantee><ID>a</ID></Grantee><Permission>READ</Permission></Grant>"
            let grants = String(repeating: grant, count: count)
            let text =
                "<AccessControlPolicy><AccessControlList>\(grants)</AccessControlList></AccessControlPolicy>"
            return failureCode { _ = try AccessControlPolicy(xml: parsed(text)) }
        }
        #expect(code(100) == nil)
        #expect(code(101) == .malformedACL)
    }

    private func requested(_ headers: [String: String]) throws -> RequestedACL {
        try RequestedACL { headers[$0] }
    }

    @Test func headersNameACannedListOrGrants() throws {
        #expect(try requested([:]) == .none)
        #expect(try requested(["x-amz-acl": "public-read"]) == .canned(.publicRead))
        let header = "id=\"\(other)\", emailAddress=one@example.com,uri=\"\(GranteeGroup.everyone.rawValue)\""
        guard case .grants(let grants) = try requested(["x-amz-grant-read": header]) else {
            Issue.record("no grants")
            return
        }
        #expect(
            grants.map(\.grantee) == [
                .user(id: other, displayName: nil), .email("one@example.com"), .group(.everyone),
            ]
        )
        let list = try RequestedACL.grants(grants).list(owner: owner, bucketOwner: nil, Accounts())
        #expect(list.entries.count == 3 && list.isPublic)
        #expect(failureCode { _ = try requested(["x-amz-acl": "public"]) } == .invalidArgument)
        #expect(failureCode { _ = try requested(["x-amz-acl": "aws-exec-read"]) } == .notImplemented)
        for value in ["", "x", "id=", "id", "name=\"a\"", "uri=\"b\"", "id=a,,=,"] {
            #expect(
                failureCode { _ = try requested(["x-amz-grant-write": value]) } == .invalidArgument,
                "\(value)"
            )
        }
        let both = ["x-amz-acl": "private", "x-amz-grant-write": "id=a"]
        #expect(failureCode { _ = try requested(both) } == .invalidRequest)
    }

    @Test func whereACLsAreDisabledOnlyTrueOnesAreTaken() {
        func code(_ acl: RequestedACL, isBucket: Bool) -> S3ErrorCode? {
            failureCode { try acl.requireNoEffect(isBucket: isBucket) }
        }
        #expect(code(.none, isBucket: false) == nil)
        #expect(code(.canned(.bucketOwnerFullControl), isBucket: false) == nil)
        #expect(code(.canned(.publicRead), isBucket: false) == .accessControlListNotSupported)
        #expect(code(.grants([]), isBucket: true) == .accessControlListNotSupported)
        #expect(
            ObjectOwnership.bucketOwnerPreferred.owner(of: .none, writer: other, bucketOwner: owner) == other
        )
        #expect(
            ObjectOwnership.bucketOwnerPreferred.owner(
                of: .canned(.bucketOwnerFullControl),
                writer: other,
                bucketOwner: owner
            ) == owner
        )
    }
}

@Suite struct AccessEvaluationTests {
    private func decide(
        _ scene: AccessScene,
        _ action: String,
        by account: String?,
        key: String? = "key"
    ) -> AccessDecision {
        AccessEvaluation(scene).decide(
            SamplePolicy.get(key, action: action, by: PolicyPrincipal(canonicalID: account))
        )
    }

    @Test func byDefaultTheOwnerMayEverythingAndOthersNothing() {
        let scene = AccessScene(bucketOwner: owner, objectOwner: owner, objectACL: .ownerOnly(owner))
        for action in ["s3:GetObject", "s3:PutObject", "s3:DeleteObjectVersion", "s3:PutBucketPolicy"] {
            #expect(decide(scene, action, by: owner) == .allowedToOwner)
            #expect(decide(scene, action, by: other) == .deniedByDefault)
            #expect(decide(scene, action, by: nil) == .deniedByDefault)
        }
    }

    @Test func denyHoldsForTheOwnerToo() throws {
        var scene = AccessScene(bucketOwner: owner, objectOwner: owner)
        scene.policy = try SamplePolicy.policy(
            SamplePolicy.statement("Deny", action: "\"Action\": \"s3:*\"", resource: "\"Resource\": \"*\"")
        )
        #expect(decide(scene, "s3:GetObject", by: owner) == .deniedByPolicy)
        #expect(decide(scene, "s3:DeleteBucketPolicy", by: owner, key: nil) == .allowedToOwner)
        #expect(decide(scene, "s3:DeleteBucketPolicy", by: other, key: nil) == .deniedByPolicy)
    }

    @Test func aPolicyAllowsWhatTheBucketOwnerOwns() throws {
        var scene = AccessScene(bucketOwner: owner, objectOwner: owner, ownership: .objectWriter)
        scene.policy = try SamplePolicy.policy(SamplePolicy.statement())
        #expect(decide(scene, "s3:GetObject", by: other) == .allowedByPolicy)
        #expect(decide(scene, "s3:GetObject", by: nil) == .allowedByPolicy)
        scene.objectOwner = third
        #expect(decide(scene, "s3:GetObject", by: other) == .deniedByDefault)
        scene.ownership = .bucketOwnerEnforced
        #expect(decide(scene, "s3:GetObject", by: other) == .allowedByPolicy)
        scene.publicAccess.restrictsPublicBuckets = true
        #expect(decide(scene, "s3:GetObject", by: other) == .deniedByDefault)
    }

    @Test func objectsOfOthersAreTheirs() {
        var scene = AccessScene(bucketOwner: owner, objectOwner: other, ownership: .objectWriter)
        scene.objectACL = .ownerOnly(other)
        #expect(decide(scene, "s3:GetObject", by: owner) == .deniedByDefault)
        #expect(decide(scene, "s3:DeleteObject", by: owner) == .allowedToOwner)
        #expect(decide(scene, "s3:GetObject", by: other) == .allowedToOwner)
        #expect(decide(scene, "s3:DeleteObject", by: other) == .deniedByDefault)
        scene.objectACL = CannedACL.bucketOwnerFullControl.list(owner: other, bucketOwner: owner)
        #expect(decide(scene, "s3:GetObject", by: owner) == .allowedByACL)
        #expect(decide(scene, "s3:PutObjectAcl", by: owner) == .allowedByACL)
        scene.ownership = .bucketOwnerEnforced
        #expect(decide(scene, "s3:GetObject", by: owner) == .allowedToOwner)
        #expect(decide(scene, "s3:GetObject", by: other) == .deniedByDefault)
    }

    // bucket list, object list; then read, write, list for an account and for nobody
    @Test(arguments: [
        (CannedACL.privateAccess, CannedACL.privateAccess, "------"), (.privateAccess, .publicRead, "r--r--"),
        (.privateAccess, .authenticatedRead, "r-----"), (.publicRead, .privateAccess, "--l--l"),
        (.publicReadWrite, .privateAccess, "-wl-wl"), (.publicReadWrite, .publicReadWrite, "rwlrwl"),
        (.authenticatedRead, .authenticatedRead, "r-l---"),
    ])
    func cannedListsGrantWhatTheySay(bucket: CannedACL, object: CannedACL, expected: String) {
        var scene = AccessScene(bucketOwner: owner, objectOwner: owner, ownership: .objectWriter)
        scene.bucketACL = bucket.list(owner: owner, bucketOwner: nil)
        scene.objectACL = object.list(owner: owner, bucketOwner: owner)
        func marks() -> String {
            [other, nil].flatMap { account in
                [("s3:GetObject", "r"), ("s3:PutObject", "w"), ("s3:ListBucket", "l")].map { action, mark in
                    decide(scene, action, by: account).isAllowed ? mark : "-"
                }
            }.joined()
        }
        #expect(marks() == expected)
        scene.publicAccess.ignoresPublicACLs = true
        #expect(marks() == "------")
        scene.publicAccess = .nothing
        scene.ownership = .bucketOwnerEnforced
        #expect(marks() == "------")
    }

    @Test func eachPermissionGivesItsActions() {
        var scene = AccessScene(bucketOwner: owner, objectOwner: owner, ownership: .objectWriter)
        let actions: [(Permission, bucket: String, object: String?)] = [
            (.read, "s3:ListBucket", "s3:GetObject"), (.write, "s3:PutObject", nil),
            (.readACP, "s3:GetBucketAcl", "s3:GetObjectAcl"),
            (.writeACP, "s3:PutBucketAcl", "s3:PutObjectAcl"),
        ]
        for permission in Permission.allCases {
            let list = AccessControlList(owner: owner, entries: [.init(.user(other), permission)])
            (scene.bucketACL, scene.objectACL) = (list, list)
            for (needed, bucket, object) in actions {
                let isGranted = permission == needed || permission == .fullControl
                for action in [bucket, object].compactMap({ $0 }) {
                    #expect(
                        decide(scene, action, by: other).isAllowed == isGranted,
                        "\(permission) \(action)"
                    )
                    #expect(decide(scene, action, by: third) == .deniedByDefault)
                }
            }
            #expect(decide(scene, "s3:PutBucketPolicy", by: other) == .deniedByDefault)
            #expect(decide(scene, "s3:DeleteObjectVersion", by: other) == .deniedByDefault)
        }
    }

    @Test func whoBeganAnUploadMayAbortIt() {
        let scene = AccessScene(bucketOwner: owner, uploadInitiator: other)
        #expect(decide(scene, "s3:AbortMultipartUpload", by: other) == .allowedToInitiator)
        #expect(decide(scene, "s3:AbortMultipartUpload", by: third) == .deniedByDefault)
        #expect(
            decide(AccessScene(bucketOwner: owner), "s3:AbortMultipartUpload", by: nil) == .deniedByDefault
        )
    }

    @Test func publicSettingsAreRefusedWhereTheyAreBlocked() throws {
        let publicList = CannedACL.publicRead.list(owner: owner, bucketOwner: nil)
        let publicPolicy = try SamplePolicy.policy(SamplePolicy.statement())
        #expect(failureCode { try PublicAccessBlock.everything.check(publicList) } == .accessDenied)
        #expect(failureCode { try PublicAccessBlock.everything.check(publicPolicy) } == .accessDenied)
        #expect(failureCode { try PublicAccessBlock.nothing.check(publicList) } == nil)
        #expect(failureCode { try PublicAccessBlock.nothing.check(publicPolicy) } == nil)
        #expect(failureCode { try PublicAccessBlock.everything.check(.ownerOnly(owner)) } == nil)
    }
}
