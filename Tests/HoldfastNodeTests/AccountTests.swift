import Catalog
import Encryption
import Foundation
import HoldfastNode
import ObjectService
import StoreModel
import StoreTestKit
import Testing

@Suite struct AccountTests {
    private func secret(_ text: String) throws -> AccessSecret { try #require(AccessSecret(text)) }

    @Test func aKeySignsForItsAccountUntilItIsRemoved() async throws {
        let disk = try await StoreOnDisk()
        let accounts = disk.store.accounts
        let account = try await accounts.createAccount(displayName: "research", email: "r@example.org")
        let key = try await accounts.createKey(for: account, label: "nodes")
        let other = try await accounts.createKey(for: account)
        #expect(key.id.description.count == 20 && key.secret.reveal().count == 40)
        for isOpen in [false, true] {
            if isOpen { try await disk.reopen() }
            let found = try #require(try await disk.store.accounts.credential(for: key.id))
            #expect(found.account == account && found.secret.reveal() == key.secret.reveal())
        }
        #expect(try !disk.isOnDisk([UInt8](key.secret.reveal().utf8)))
        try await disk.store.accounts.removeKey(key.id)
        #expect(try await disk.store.accounts.credential(for: key.id) == nil)
        #expect(try await disk.store.accounts.credential(for: other.id) != nil)
        await expectFailure(.noSuchAccessKey) { try await disk.store.accounts.removeKey(key.id) }
        let unknown = try #require(AccessKeyID("AKIAUNKNOWNUNKNOWN22"))
        #expect(try await disk.store.accounts.credential(for: unknown) == nil)
    }

    @Test func aChangeIsSeenByTheNextQuestion() async throws {
        let disk = try await StoreOnDisk()
        let accounts = disk.store.accounts
        let second = AccountDirectory(disk.objects)
        let account = try await accounts.createAccount(displayName: "a")
        let key = try await accounts.createKey(for: account)
        #expect(try await second.credential(for: key.id) != nil)
        _ = try await accounts.setState(of: key.id, to: .inactive)
        #expect(try await second.credential(for: key.id) == nil)
        _ = try await accounts.setState(of: key.id, to: .active)
        #expect(try await second.credential(for: key.id) != nil)
        let suspended = try await accounts.setState(of: account, to: .suspended)
        #expect(try await second.credential(for: key.id) == nil)
        try await accounts.removeAccount(suspended)
        #expect(try await second.credential(for: key.id) == nil)
        #expect(try await second.keys().isEmpty)
    }

    @Test func anAccountIsRemovedOrOwnsItsBucketNeverBoth() async throws {
        let disk = try await StoreOnDisk()
        let (accounts, objects) = (disk.store.accounts, disk.store.objects)
        for round in 0..<40 {
            let account = try await accounts.createAccount(displayName: "a\(round)")
            let name = try BucketName("bucket-\(round)")
            async let made: Bool = {
                do {
                    _ = try await objects.createBucket(
                        name,
                        owner: account.id.description,
                        isOwnerAccount: true
                    )
                    return true
                } catch let error as StoreError where error.code == .accessDenied {
                    return false
                }
            }()
            async let removed: Bool = {
                do {
                    try await accounts.removeAccount(account)
                    return true
                } catch let error as StoreError where error.code == .conflict {
                    return false
                }
            }()
            let (isMade, isRemoved) = try await (made, removed)
            #expect(isMade != isRemoved, "round \(round)")
            #expect(try await accounts.account(account.id) == nil || !isRemoved)
            #expect(try await objects.buckets().contains { $0.name == name } == isMade)
        }
    }

    @Test func rotatingPutsANewKeyInTheOldOnesPlace() async throws {
        let disk = try await StoreOnDisk()
        let accounts = disk.store.accounts
        let account = try await accounts.createAccount(displayName: "a")
        let first = try await accounts.createKey(for: account, label: "laptop")
        let second = try await accounts.rotateKey(first.id, keepsOld: true)
        #expect(try await accounts.credential(for: first.id) != nil)
        let third = try await accounts.rotateKey(second.id, keepsOld: false)
        #expect(try await accounts.credential(for: second.id) == nil)
        #expect(try await accounts.credential(for: third.id)?.account.id == account.id)
        #expect(try await accounts.key(third.id).label == "laptop")
        await expectFailure(.noSuchAccessKey) { try await accounts.rotateKey(second.id, keepsOld: false) }
    }

    @Test func namesAndAddressesAreTakenOnce() async throws {
        let disk = try await StoreOnDisk()
        let accounts = disk.store.accounts
        let account = try await accounts.createAccount(displayName: "a", email: "a@example.org")
        await expectFailure(.conflict) { try await accounts.createAccount(displayName: "a") }
        await expectFailure(.conflict) {
            try await accounts.createAccount(displayName: "b", email: "A@EXAMPLE.ORG")
        }
        await expectFailure(.conflict) { try await accounts.createAccount(displayName: "root") }
        #expect(try await accounts.account(named: "A@example.org") == account)
        #expect(try await accounts.account(named: account.id.description) == account)
        try await accounts.removeAccount(account)
        await expectFailure(.noSuchAccount) { try await accounts.removeAccount(account) }
        await expectFailure(.noSuchAccount) { try await accounts.createKey(for: account) }
        _ = try await accounts.createAccount(displayName: "a", email: "a@example.org")
    }

    @Test func whatIsNoNameOrAddressIsRefused() async throws {
        let disk = try await StoreOnDisk()
        let accounts = disk.store.accounts
        for name in ["", String(repeating: "x", count: 129), "a\nb", "\u{7F}"] {
            await expectFailure(.invalidArgument) { try await accounts.createAccount(displayName: name) }
        }
        for email in ["", "a", "@", "a@", "@b", "a@b@c", "a b@c", "a@b\n"] {
            await expectFailure(.invalidArgument) {
                try await accounts.createAccount(displayName: "a", email: email)
            }
        }
        for id in ["", "ab", "a/b", "a b", "a=b", "é123", String(repeating: "A", count: 129)] {
            #expect(AccessKeyID(id) == nil)
        }
        for text in ["", "1234567", "with space", "ümlaut123", String(repeating: "s", count: 129)] {
            #expect(AccessSecret(text) == nil)
        }
    }

    @Test func anAccountThatOwnsABucketStays() async throws {
        let disk = try await StoreOnDisk()
        let accounts = disk.store.accounts
        let account = try await accounts.createAccount(displayName: "owner")
        let bucket = try BucketName("owned")
        _ = try await disk.objects.createBucket(bucket, versioning: .enabled, owner: account.id.description)
        let error = await expectFailure(.conflict) { try await accounts.removeAccount(account) }
        #expect(error?.message.contains("owned") == true)
        try await disk.objects.deleteBucket(bucket)
        try await accounts.removeAccount(account)
    }

    @Test func thereIsAlwaysOneRootAccount() async throws {
        let disk = try await StoreOnDisk()
        let made = try #require(try await disk.store.accounts.establishRoot(nil))
        #expect(try await disk.store.accounts.establishRoot(nil) == nil, "a key is made once")
        let root = try await disk.store.accounts.rootAccount()
        #expect(root.isRoot)
        try await disk.reopen()
        #expect(try await disk.store.accounts.establishRoot(nil) == nil)
        #expect(try await disk.store.accounts.rootAccount() == root)
        #expect(try await disk.store.accounts.credential(for: made.id)?.account == root)
        await expectFailure(.conflict) { try await disk.store.accounts.removeAccount(root) }
        await expectFailure(.conflict) { try await disk.store.accounts.setState(of: root, to: .suspended) }
        #expect(try await disk.store.accounts.accounts().count { $0.isRoot } == 1)
    }

    @Test func aConfiguredRootKeyIsNotStoredAndNeedsNoMasterKey() async throws {
        let disk = try await StoreOnDisk()
        try await disk.reopen { try FileManager.default.removeItem(atPath: disk.masterKeyPath) }
        let configured = AccessCredential(
            id: try #require(AccessKeyID("admin")),
            secret: try secret("correct horse battery".replacing(" ", with: "-"))
        )
        #expect(try await disk.store.accounts.establishRoot(configured) == nil)
        let found = try #require(try await disk.store.accounts.credential(for: configured.id))
        #expect(found.account.isRoot && found.secret.reveal() == configured.secret.reveal())
        #expect(try !disk.isOnDisk([UInt8](configured.secret.reveal().utf8)))
        try await disk.reopen()
        _ = try await disk.store.accounts.establishRoot(nil)
        #expect(try await disk.store.accounts.credential(for: configured.id) == nil)
    }

    @Test func aConfiguredRootKeyCanNotTakeAnothersPlace() async throws {
        let disk = try await StoreOnDisk()
        let accounts = disk.store.accounts
        let account = try await accounts.createAccount(displayName: "a")
        let key = try await accounts.createKey(for: account)
        await expectFailure(.conflict) { try await accounts.establishRoot(key) }
    }

    @Test func aNewMasterKeySealsAllSecretsAnew() async throws {
        let disk = try await StoreOnDisk()
        let accounts = disk.store.accounts
        let account = try await accounts.createAccount(displayName: "a")
        let keys = [try await accounts.createKey(for: account), try await accounts.createKey(for: account)]
        let before = try await accounts.keys().map(\.sealedSecret.keeper)
        #expect(try await accounts.rotateMasterKey().sealedCount == 2)
        #expect(Set(before).isDisjoint(with: try await accounts.keys().map(\.sealedSecret.keeper)))
        try await disk.reopen()
        for key in keys {
            let found = try await disk.store.accounts.credential(for: key.id)
            #expect(found?.secret.reveal() == key.secret.reveal())
        }
    }

    @Test func aLostMasterKeyLeavesAWayOut() async throws {
        let disk = try await StoreOnDisk()
        let account = try await disk.store.accounts.createAccount(displayName: "a")
        let lost = try await disk.store.accounts.createKey(for: account)
        try await disk.reopen { try FileManager.default.removeItem(atPath: disk.masterKeyPath) }
        let accounts = disk.store.accounts
        await expectFailure(.masterKeyUnavailable) { try await accounts.credential(for: lost.id) }
        await expectFailure(.masterKeyUnavailable) { try await accounts.createKey(for: account) }
        await expectFailure(.masterKeyUnavailable) { try await accounts.rotateMasterKey() }
        #expect(try await accounts.keys().count == 1)
        _ = try await accounts.rotateMasterKey(acceptsLoss: true)
        let key = try await accounts.rotateKey(lost.id, keepsOld: false)
        #expect(try await accounts.credential(for: key.id) != nil)
        #expect(try await accounts.credential(for: lost.id) == nil)
    }

    @Test func secretsAreNotShownByPrintingThem() throws {
        let credential = AccessCredential(
            id: AccessKeyID(from: SeededRandom(seed: 1)),
            secret: try secret("a-very-secret-text")
        )
        var dumped = ""
        dump(credential, to: &dumped)
        for text in ["\(credential)", String(reflecting: credential), dumped] {
            #expect(!text.contains("a-very-secret-text"))
        }
        #expect(try secret("minioadmin").isWellKnown && secret("PASSWORD").isWellKnown)
        #expect(try secret("aaaaaaaaaaaa").isWellKnown && !secret("a-very-secret-text").isWellKnown)
    }

    @Test func newKeysUseTheirWholeAlphabet() {
        let random = SeededRandom(seed: 5)
        let text = (0..<200).map { _ in AccessSecret(from: random).reveal() }.joined()
        let counts = text.reduce(into: [Character: Int]()) { $0[$1, default: 0] += 1 }
        #expect(counts.count == 62)
        #expect(counts.values.allSatisfy { (60...220).contains($0) })
    }

    @Test func rowsThatCanNotBeReadHinderNobodyElse() async throws {
        let disk = try await StoreOnDisk()
        let accounts = disk.store.accounts
        let account = try await accounts.createAccount(displayName: "a", email: "a@example.org")
        let key = try await accounts.createKey(for: account)
        let random = SeededRandom(seed: 9)
        let rows = [
            try #require(try await disk.objects.documents(.account).last),
            try #require(try await disk.objects.documents(.accessKey).last),
        ]
        var writes: [DocumentWrite] = []
        for row in rows {
            var bodies = (0..<row.body.count).map { [UInt8](row.body.prefix($0)) }
            bodies += [row.body + [0], [2] + row.body.dropFirst(), random.bytes(count: 200)]
            bodies += row.body.indices.map { index in
                var body = row.body
                body[index] = 0xFF
                return body
            }
            for (index, body) in bodies.enumerated() {
                let name = "AKIABAD\(index)"
                let place = row.space == .account ? random.bytes(count: 32) : [UInt8](name.utf8)
                writes.append(DocumentWrite(space: row.space, key: place, body: body))
            }
        }
        writes.append(DocumentWrite(space: .account, key: [1, 2, 3], body: rows[0].body))
        writes.append(DocumentWrite(space: .accessKey, key: [0xFF], body: rows[1].body))
        try await disk.objects.write(documents: writes)
        #expect(try await accounts.damage().count > 100)
        #expect(try await accounts.credential(for: key.id)?.account.displayName == "a")
        // A row that was copied to another key's place doesn't open there.
        let moved = try #require(AccessKeyID("AKIAMOVED"))
        let write = DocumentWrite(space: .accessKey, key: [UInt8]("AKIAMOVED".utf8), body: rows[1].body)
        try await disk.objects.write(documents: [write])
        await expectFailure(.storeDamaged) { try await accounts.credential(for: moved) }
    }

    @Test func manyWhoNeedTheFirstMasterKeyGetTheSame() async throws {
        let disk = try await StoreOnDisk()
        try await disk.reopen { try FileManager.default.removeItem(atPath: disk.masterKeyPath) }
        let objects = disk.objects
        let ids = try await withThrowingTaskGroup(of: MasterKeyID.self) { group in
            for _ in 0..<16 { group.addTask { try await objects.sealingRing().newest.id } }
            return try await group.reduce(into: Set<MasterKeyID>()) { $0.insert($1) }
        }
        #expect(ids.count == 1)
        #expect(try MasterKeyFile(storeDirectory: disk.path).load()?.newest.id == ids.first)
    }
}
