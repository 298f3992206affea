internal import Catalog
package import Encryption
package import StoreModel

// Accounts and access keys as documents of the catalog.
//
//   Space account: key = canonical id (32 bytes); body:
//     offset  size  field
//          0     1  format version, 1
//          1     1  1: the root account
//          2     1  state: 0 active, 1 suspended
//          3     8  created at, milliseconds since 1970
//         11     …  display name (text), e-mail (text, empty: none)
//
//   Space accountName: key = "n" and the display name, or "e" and the e-mail in lower case; body = canonical id. There
//   so that names are taken once.
//
//   Space accessKey: key = the access key's id; body:
//     offset  size  field
//          0     1  format version, 1
//          1    32  canonical id of the account
//         33     1  state: 0 active, 1 inactive
//         34     8  created at
//         42     …  label (text), secret (counted): SealedSecret.swift, context "access key ID of ACCOUNT"
//
// Integers are little-endian; text and counted bytes have a length of 4 bytes in front.

/// Canonical id of an account: 256 random bits, 64 hexadecimal digits.
package struct AccountID: Hashable, Sendable, Comparable, CustomStringConvertible {
    package let digest: Digest

    package init(from random: any RandomSource) {
        digest = Digest(words: (random.next(), random.next(), random.next(), random.next()))
    }

    init?(bytes: [UInt8]) {
        guard let digest = Digest(bytes) else { return nil }
        self.digest = digest
    }

    package init?(_ text: some StringProtocol) {
        guard let digest = Digest(hex: text) else { return nil }
        self.digest = digest
    }

    package var description: String { digest.hex }
    package static func < (left: AccountID, right: AccountID) -> Bool { left.digest < right.digest }
}

/// Who owns buckets and objects, and has access keys.
package struct AccountRow: Hashable, Sendable {
    package enum State: UInt8, Hashable, Sendable { case active = 0, suspended }

    package let id: AccountID
    package var displayName: String
    package var email: String?
    package let isRoot: Bool
    package let createdAt: Timestamp
    package var state: State

    private static let version: UInt8 = 1

    package init(
        id: AccountID,
        displayName: String,
        email: String?,
        isRoot: Bool,
        createdAt: Timestamp,
        state: State = .active
    ) {
        self.id = id
        self.displayName = displayName
        self.email = email
        self.isRoot = isRoot
        self.createdAt = createdAt
        self.state = state
    }

    var key: [UInt8] { id.digest.bytes }

    /// That an account is there, as part of a decision.
    static func presence(_ key: [UInt8], refusal: StoreError.Code = .accessDenied) -> DocumentWrite {
        DocumentWrite(space: .account, key: key, expectation: .present, change: .keep, refusal: refusal)
    }

    var body: [UInt8] {
        var writer = ByteWriter()
        writer.write(Self.version)
        writer.write(isRoot ? 1 : 0 as UInt8)
        writer.write(state.rawValue)
        writer.write(createdAt.milliseconds)
        writer.write(text: displayName)
        writer.write(text: email ?? "")
        return writer.bytes
    }

    init(_ document: DocumentRow) throws(StoreError) {
        do throws(ByteReader.Failure) {
            guard let id = AccountID(bytes: document.key) else { throw ByteReader.Failure("no canonical id") }
            var reader = ByteReader(document.body)
            try reader.expectVersion(Self.version)
            let root = try reader.read(UInt8.self)
            guard root <= 1, let state = State(rawValue: try reader.read(UInt8.self)) else {
                throw ByteReader.Failure("an unknown state")
            }
            let createdAt = Timestamp(milliseconds: try reader.read(Int64.self))
            let name = try reader.readText()
            let email = try reader.readText()
            try reader.finish()
            self.init(
                id: id,
                displayName: name,
                email: email.isEmpty ? nil : email,
                isRoot: root == 1,
                createdAt: createdAt,
                state: state
            )
        } catch {
            throw StoreError(.storeDamaged, "An account in the catalog can't be read: \(error).")
        }
    }

    /// What makes its names taken.
    var nameKeys: [[UInt8]] { Self.nameKeys(displayName: displayName, email: email) }

    static func nameKeys(displayName: String, email: String?) -> [[UInt8]] {
        [[UInt8]("n\(displayName)".utf8)] + (email.map { [[UInt8]("e\($0.lowercased())".utf8)] } ?? [])
    }
}

/// An access key, with its secret sealed.
package struct AccessKeyRow: Hashable, Sendable {
    package enum State: UInt8, Hashable, Sendable { case active = 0, inactive }

    package let id: AccessKeyID
    package let account: AccountID
    package let sealedSecret: SealedSecret
    package let createdAt: Timestamp
    package var state: State
    package let label: String

    private static let version: UInt8 = 1

    package init(
        id: AccessKeyID,
        account: AccountID,
        sealedSecret: SealedSecret,
        createdAt: Timestamp,
        state: State = .active,
        label: String
    ) {
        self.id = id
        self.account = account
        self.sealedSecret = sealedSecret
        self.createdAt = createdAt
        self.state = state
        self.label = label
    }

    /// What a secret is sealed for: a row can't be given another's.
    static func context(_ id: AccessKeyID, _ account: AccountID) -> String {
        "access key \(id) of \(account)"
    }

    var key: [UInt8] { [UInt8](id.description.utf8) }

    var body: [UInt8] {
        var writer = ByteWriter()
        writer.write(Self.version)
        writer.write(account.digest)
        writer.write(state.rawValue)
        writer.write(createdAt.milliseconds)
        writer.write(text: label)
        writer.write(counted: sealedSecret.bytes)
        return writer.bytes
    }

    init(_ document: DocumentRow) throws(StoreError) {
        do throws(ByteReader.Failure) {
            guard let text = String(validating: document.key, as: UTF8.self), let id = AccessKeyID(text)
            else {
                throw ByteReader.Failure("no access key id")
            }
            var reader = ByteReader(document.body)
            try reader.expectVersion(Self.version)
            guard let account = AccountID(bytes: try reader.readDigest().bytes),
                let state = State(rawValue: try reader.read(UInt8.self))
            else { throw ByteReader.Failure("an unknown state") }
            let createdAt = Timestamp(milliseconds: try reader.read(Int64.self))
            let label = try reader.readText()
            let sealed = try reader.readCounted()
            try reader.finish()
            let secret: SealedSecret
            do throws(EncryptionError) {
                secret = try SealedSecret(decoding: sealed)
            } catch {
                throw ByteReader.Failure(error.message)
            }
            self.init(
                id: id,
                account: account,
                sealedSecret: secret,
                createdAt: createdAt,
                state: state,
                label: label
            )
        } catch {
            throw StoreError(.storeDamaged, "An access key in the catalog can't be read: \(error).")
        }
    }
}

extension ByteReader {
    fileprivate mutating func expectVersion(_ version: UInt8) throws(Failure) {
        let found = try read(UInt8.self)
        guard found == version else { throw Failure("it has format \(found); this program reads \(version)") }
    }
}
