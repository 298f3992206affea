import S3Protocol
import Testing

@testable import S3Gateway

struct AccessTests {
    private let one = String(repeating: "a", count: 64)
    private let two = String(repeating: "b", count: 64)

    @Test func `Policies know accounts by their digits and by their canonical ids`() {
        let index = AccountIndex([AccountIdentity(id: one, displayName: "one", isRoot: false)])
        #expect(index.knows(one))
        #expect(index.knows(one.uppercased()))
        #expect(index.knows(PolicyPrincipal.accountNumber(of: one)))
        #expect(!index.knows(two))
        #expect(!index.knows("000000000000"))
    }

    @Test func `Grants find accounts by address, whatever its case`() {
        let index = AccountIndex([
            AccountIdentity(id: one, displayName: "one", email: "One@example.com", isRoot: false),
            AccountIdentity(id: two, displayName: "two", email: "one@EXAMPLE.com", isRoot: false),
        ])
        #expect(index.canonicalIDs(email: "one@example.com") == [one, two])
        #expect(index.canonicalIDs(email: "two@example.com").isEmpty)
        #expect(index.exists(canonicalID: one))
        #expect(!index.exists(canonicalID: "nobody"))
    }

    @Test func `A log line holds no signature`() {
        let query = "X-Amz-Expires=60&X-Amz-Signature=0123abcd&versionId=null"
        #expect(BucketLogLine.withoutSecrets(query) == "X-Amz-Expires=60&X-Amz-Signature=-&versionId=null")
    }
}
