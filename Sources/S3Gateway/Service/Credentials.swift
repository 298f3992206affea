/// An account as requests know it.
package struct AccountIdentity: Hashable, Sendable {
    /// The canonical id: 64 hexadecimal digits.
    package let id: String
    package let displayName: String
    /// For grants that name accounts by their address.
    package let email: String?
    /// The root account owns what has no other owner. In buckets of others it is an account like any other.
    package let isRoot: Bool

    package init(id: String, displayName: String, email: String? = nil, isRoot: Bool) {
        self.id = id
        self.displayName = displayName
        self.email = email
        self.isRoot = isRoot
    }
}

/// Who signs with an access key, and with what.
package struct Credential: Sendable {
    package let account: AccountIdentity
    package let secret: String

    package init(account: AccountIdentity, secret: String) {
        self.account = account
        self.secret = secret
    }
}

/// Where credentials come from. Asked for each request: answers from memory.
package protocol CredentialSource: Sendable {
    /// - Returns: nil when there is no such key, or it must not be used.
    func credential(for accessKey: String) async throws -> Credential?

    /// The account with this canonical id, for owners in listings and for access control.
    func account(id: String) async throws -> AccountIdentity?

    /// All accounts, for grants and policies that name some.
    func accounts() async throws -> [AccountIdentity]

    /// The root account: the owner of what has no other.
    func rootAccount() async throws -> AccountIdentity
}

/// The root key of the configuration, and no other.
package struct RootCredential: CredentialSource {
    private let accessKey: String
    private let root: Credential

    package init(accessKey: String, secret: String, account: AccountIdentity) {
        self.accessKey = accessKey
        root = Credential(account: account, secret: secret)
    }

    package func credential(for accessKey: String) async throws -> Credential? {
        accessKey == self.accessKey ? root : nil
    }

    package func account(id: String) async throws -> AccountIdentity? {
        id == root.account.id ? root.account : nil
    }

    package func accounts() async throws -> [AccountIdentity] { [root.account] }

    package func rootAccount() async throws -> AccountIdentity { root.account }
}
