package import ObjectService

/// The accounts of the store as credentials of requests.
package struct AccountCredentials: CredentialSource {
    private let directory: AccountDirectory

    package init(_ directory: AccountDirectory) { self.directory = directory }

    package func credential(for accessKey: String) async throws -> Credential? {
        guard let id = AccessKeyID(accessKey), let found = try await directory.credential(for: id) else {
            return nil
        }
        return Credential(account: AccountIdentity(found.account), secret: found.secret.reveal())
    }

    package func account(id: String) async throws -> AccountIdentity? {
        guard let id = AccountID(id) else { return nil }
        return try await directory.account(id).map { AccountIdentity($0) }
    }

    package func accounts() async throws -> [AccountIdentity] {
        try await directory.accounts().map { AccountIdentity($0) }
    }

    package func rootAccount() async throws -> AccountIdentity {
        AccountIdentity(try await directory.rootAccount())
    }
}

extension AccountIdentity {
    init(_ row: AccountRow) {
        self.init(id: row.id.description, displayName: row.displayName, email: row.email, isRoot: row.isRoot)
    }
}
