internal import Catalog
internal import Encryption
internal import StoreModel

// Changes of accounts and access keys: each is one decision of the catalog, and seen by the next question.
extension AccountDirectory {
    private static let nameLengthMax = 128
    private static let emailLengthMax = 254
    private static let labelLengthMax = 128
    /// Bounds what a directory holds in memory, and what one decision removes.
    private static let keysPerAccountMax = 100
    private static let accountsMax = 10_000

    // MARK: Accounts

    /// - Throws: `.conflict` when the name or the e-mail is taken, `.invalidArgument`.
    package func createAccount(displayName: String, email: String? = nil) async throws -> AccountRow {
        // There is always a root account, and it has its name.
        _ = try await rootAccount()
        return try await create(displayName: displayName, email: email, isRoot: false)
    }

    func create(displayName: String, email: String?, isRoot: Bool) async throws -> AccountRow {
        try Self.check(displayName, "name", lengthMax: Self.nameLengthMax)
        if let email {
            try Self.check(email, "e-mail address", lengthMax: Self.emailLengthMax)
            let parts = email.split(separator: "@", omittingEmptySubsequences: false)
            guard parts.count == 2, parts.allSatisfy({ !$0.isEmpty }), !email.utf8.contains(0x20) else {
                throw StoreError(.invalidArgument, "\(quoted(email)) is not an e-mail address.")
            }
        }
        guard try await accounts().count < Self.accountsMax else {
            throw StoreError(.invalidArgument, "A store has at most \(Self.accountsMax) accounts.")
        }
        let row = AccountRow(
            id: AccountID(from: random),
            displayName: displayName,
            email: email,
            isRoot: isRoot,
            createdAt: clock.now()
        )
        var writes = [
            DocumentWrite(space: .account, key: row.key, expectation: .absent, body: row.body)
        ]
        for key in row.nameKeys {
            writes.append(
                DocumentWrite(space: .accountName, key: key, expectation: .absent, body: row.id.digest.bytes)
            )
        }
        do {
            try await write(writes)
        } catch let error as StoreError where error.code == .conflict {
            let email = email.map { " or the e-mail address \(quoted($0))" } ?? ""
            throw StoreError(
                .conflict,
                "There is an account with the name \(quoted(displayName))\(email) already."
            )
        }
        return row
    }

    /// Removes an account and its keys. Whether it owns buckets is part of the decision: none can be made meanwhile.
    /// - Throws: `.conflict` when it owns buckets, or is the root account.
    package func removeAccount(_ account: AccountRow) async throws {
        guard !account.isRoot else {
            throw StoreError(.conflict, "The root account can't be removed.")
        }
        var writes = [
            DocumentWrite(
                space: .account,
                key: account.key,
                expectation: .present,
                body: nil,
                refusal: .noSuchAccount
            )
        ]
        for key in account.nameKeys { writes.append(DocumentWrite(space: .accountName, key: key, body: nil)) }
        for key in try await keys(of: account.id) {
            writes.append(DocumentWrite(space: .accessKey, key: key.key, body: nil))
        }
        try await write(writes)
    }

    /// A suspended account's keys don't work; what it owns stays.
    package func setState(of account: AccountRow, to accountState: AccountRow.State) async throws
        -> AccountRow
    {
        guard !account.isRoot || accountState == .active else {
            throw StoreError(.conflict, "The root account can't be suspended.")
        }
        var changed = account
        changed.state = accountState
        try await write([
            DocumentWrite(
                space: .account,
                key: account.key,
                expectation: .equals(account.body),
                body: changed.body
            )
        ])
        return changed
    }

    // MARK: Keys

    /// Makes a key; the secret is in the answer and nowhere else in the open.
    /// - Throws: `.invalidArgument`, `.masterKeyUnavailable`.
    package func createKey(for account: AccountRow, label: String = "") async throws -> AccessCredential {
        guard try await keys(of: account.id).count < Self.keysPerAccountMax else {
            throw StoreError(
                .invalidArgument,
                "An account has at most \(Self.keysPerAccountMax) access keys."
            )
        }
        let (row, credential) = try await newKey(for: account.id, label: label)
        try await write([AccountRow.presence(account.key, refusal: .noSuchAccount), Self.creation(of: row)])
        return credential
    }

    /// Makes a key that takes the place of another.
    /// - Parameter keepsOld: the old one goes on working until it is removed.
    package func rotateKey(_ id: AccessKeyID, keepsOld: Bool) async throws -> AccessCredential {
        let old = try await key(id)
        let (row, credential) = try await newKey(for: old.account, label: old.label)
        let change: DocumentWrite.Change = keepsOld ? .keep : .remove
        try await write([
            Self.creation(of: row),
            DocumentWrite(
                space: .accessKey,
                key: old.key,
                expectation: .present,
                change: change,
                refusal: .noSuchAccessKey
            ),
        ])
        return credential
    }

    package func removeKey(_ id: AccessKeyID) async throws {
        let row = try await key(id)
        try await write([
            DocumentWrite(
                space: .accessKey,
                key: row.key,
                expectation: .present,
                body: nil,
                refusal: .noSuchAccessKey
            )
        ])
    }

    package func setState(of id: AccessKeyID, to keyState: AccessKeyRow.State) async throws -> AccessKeyRow {
        let row = try await key(id)
        var changed = row
        changed.state = keyState
        try await write([
            DocumentWrite(space: .accessKey, key: row.key, expectation: .equals(row.body), body: changed.body)
        ])
        return changed
    }

    /// Makes a new master key and seals all secrets with it. Objects stay sealed with the older ones.
    /// - Returns: the new key's id, and how many secrets were sealed anew.
    package func rotateMasterKey(acceptsLoss: Bool = false) async throws -> (id: String, sealedCount: Int) {
        let id = try await objects.addMasterKey(acceptsLoss: acceptsLoss)
        return (id.description, try await sealAnew())
    }

    /// Seals with the newest master key what an older one has sealed: after a rotation, or where one was cut short. Until
    /// then the older one opens it.
    /// - Returns: how many secrets were sealed anew.
    package func sealAnew() async throws -> Int {
        let rows = try await keys()
        // A store that has sealed nothing needs no key yet.
        guard !rows.isEmpty else { return 0 }
        let ring = try await objects.sealingRing()
        var count = 0
        for row in rows where row.sealedSecret.keeper != .masterKey(ring.newest.id) {
            // What an accepted loss has taken stays lost.
            guard let secret = try? open(row) else { continue }
            let sealed = AccessKeyRow(
                id: row.id,
                account: row.account,
                sealedSecret: seal(secret, row.id, row.account, ring),
                createdAt: row.createdAt,
                state: row.state,
                label: row.label
            )
            do {
                try await write([
                    DocumentWrite(
                        space: .accessKey,
                        key: row.key,
                        expectation: .equals(row.body),
                        body: sealed.body
                    )
                ])
                count += 1
            } catch let error as StoreError where error.code == .conflict {
                // Changed or removed meanwhile: the older master keys stay, so it opens all the same.
                continue
            }
        }
        return count
    }

    private func newKey(for account: AccountID, label: String) async throws -> (
        AccessKeyRow, AccessCredential
    ) {
        if !label.isEmpty { try Self.check(label, "label", lengthMax: Self.labelLengthMax) }
        let ring = try await objects.sealingRing()
        let credential = AccessCredential(id: AccessKeyID(from: random), secret: AccessSecret(from: random))
        let row = AccessKeyRow(
            id: credential.id,
            account: account,
            sealedSecret: seal(credential.secret, credential.id, account, ring),
            createdAt: clock.now(),
            label: label
        )
        return (row, credential)
    }

    private func seal(
        _ secret: AccessSecret,
        _ id: AccessKeyID,
        _ account: AccountID,
        _ ring: MasterKeyRing
    ) -> SealedSecret {
        SealedSecret(
            [UInt8](secret.reveal().utf8),
            under: ring,
            context: AccessKeyRow.context(id, account),
            random: random
        )
    }

    // MARK: Writes

    private static func creation(of row: AccessKeyRow) -> DocumentWrite {
        DocumentWrite(space: .accessKey, key: row.key, expectation: .absent, body: row.body)
    }

    private func write(_ writes: [DocumentWrite]) async throws {
        _ = try await objects.commit(.documents(writes), operation: nil)
    }

    private static func check(_ text: String, _ what: String, lengthMax: Int) throws(StoreError) {
        let isPrintable = text.unicodeScalars.allSatisfy { $0.value >= 0x20 && $0.value != 0x7F }
        guard isPrintable, (1...lengthMax).contains(text.utf8.count) else {
            throw StoreError(
                .invalidArgument,
                "The \(what) \(quoted(text)) must have 1 to \(lengthMax) bytes and no control character."
            )
        }
    }
}
