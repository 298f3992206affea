internal import Catalog
internal import Encryption
package import StoreModel
internal import Synchronization

/// Who signs with an access key.
package struct AccountCredential: Sendable {
    package let account: AccountRow
    package let key: AccessKeyID
    package let secret: AccessSecret
}

/// The accounts of a store and their access keys.
///
/// All of them are kept in memory, as they were at one generation of the catalog; a change makes the next question read
/// them anew. Secrets are opened when they are first asked for.
///
/// 1. There is one root account, from the first start on; it can't be removed.
/// 2. A key that the configuration gives the root account is held in memory only: another configuration, another key.
/// 3. A secret leaves this type when its key is made, and as a credential; never in a list, a message or a log.
package final class AccountDirectory: Sendable {
    package static let rootName = "root"

    /// The catalog's rows at one time.
    struct View: Sendable {
        let generations: [UInt64]
        var accounts: [AccountID: AccountRow] = [:]
        var keys: [AccessKeyID: AccessKeyRow] = [:]
        /// Documents that can't be read. They hinder nobody but whom they belong to.
        var damaged: [StoreError] = []

        var rootID: AccountID?
        var root: AccountRow? { rootID.flatMap { accounts[$0] } }
    }

    private struct State {
        var view: View?
        var opened: [AccessKeyID: AccessSecret] = [:]
        var rootCredential: AccessCredential?
    }

    let objects: ObjectStore
    let clock: any StoreClock
    let random: any RandomSource
    private let state = Mutex(State())

    package init(
        _ objects: ObjectStore,
        clock: any StoreClock = SystemClock(),
        random: any RandomSource = SystemRandom()
    ) {
        self.objects = objects
        self.clock = clock
        self.random = random
    }

    // MARK: Credentials

    /// Who signs with this key; nil when nobody does: it is unknown, switched off, or its account is.
    /// - Throws: `.masterKeyUnavailable` when the secret can't be opened, or what reading the catalog throws.
    package func credential(for id: AccessKeyID) async throws -> AccountCredential? {
        let view = try await currentView()
        let (configured, known) = state.withLock { ($0.rootCredential, $0.opened[id]) }
        if let configured, configured.id == id {
            return view.root.map { AccountCredential(account: $0, key: id, secret: configured.secret) }
        }
        guard let row = view.keys[id], row.state == .active, let account = view.accounts[row.account],
            account.state == .active
        else { return nil }
        if let known { return AccountCredential(account: account, key: id, secret: known) }
        let secret = try open(row)
        state.withLock { state in
            if state.view?.generations == view.generations { state.opened[id] = secret }
        }
        return AccountCredential(account: account, key: id, secret: secret)
    }

    func open(_ row: AccessKeyRow) throws(StoreError) -> AccessSecret {
        let subject = "The secret of access key \(row.id)"
        let ring = try objects.openingRing()
        let bytes: [UInt8]
        do throws(EncryptionError) {
            bytes = try row.sealedSecret.open(
                with: ring,
                context: AccessKeyRow.context(row.id, row.account)
            )
        } catch {
            throw error.storeError(subject, masterKeys: objects.masterKeys, sealed: row.sealedSecret)
        }
        guard let text = String(validating: bytes, as: UTF8.self), let secret = AccessSecret(text) else {
            throw StoreError(.storeDamaged, "\(subject) is not a secret.")
        }
        return secret
    }

    // MARK: Lists

    /// In the order of their names, the root account first.
    package func accounts() async throws -> [AccountRow] {
        try await currentView().accounts.values.sorted { left, right in
            left.isRoot != right.isRoot ? left.isRoot : left.displayName < right.displayName
        }
    }

    /// The keys that are stored, oldest first; without their secrets.
    package func keys(of account: AccountID? = nil) async throws -> [AccessKeyRow] {
        let keys = try await currentView().keys.values.filter { account == nil || $0.account == account }
        return keys.sorted { ($0.createdAt, $0.id) < ($1.createdAt, $1.id) }
    }

    package func account(_ id: AccountID) async throws -> AccountRow? { try await currentView().accounts[id] }

    /// The id of the configured root key, if there is one.
    package var configuredRootKey: AccessKeyID? { state.withLock { $0.rootCredential?.id } }

    /// Rows that can't be read: none, unless the catalog was written by a newer program.
    package func damage() async throws -> [StoreError] { try await currentView().damaged }

    /// Finds an account by its display name, e-mail or canonical id.
    /// - Throws: `.noSuchAccount`.
    package func account(named text: String) async throws -> AccountRow {
        let view = try await currentView()
        if let id = AccountID(text), let row = view.accounts[id] { return row }
        let lowered = text.lowercased()
        if let row = view.accounts.values.first(where: { $0.displayName == text }) { return row }
        if let row = view.accounts.values.first(where: { $0.email?.lowercased() == lowered }) { return row }
        throw StoreError(.noSuchAccount, "There is no account \(quoted(text)).")
    }

    /// - Throws: `.noSuchAccessKey`.
    package func key(_ id: AccessKeyID) async throws -> AccessKeyRow {
        guard let row = try await currentView().keys[id] else {
            throw StoreError(.noSuchAccessKey, "There is no access key \(quoted(id.description)).")
        }
        return row
    }

    // MARK: Root

    /// Makes sure that there is a root account with a key. Called when a server starts.
    /// - Returns: a key that was made because there was none: to be shown once.
    package func establishRoot(_ configured: AccessCredential?) async throws -> AccessCredential? {
        let root = try await rootAccount()
        guard let configured else {
            let hasKey = try await keys(of: root.id).contains { $0.state == .active }
            return hasKey ? nil : try await createKey(for: root, label: "root")
        }
        if let row = try await currentView().keys[configured.id], row.account != root.id {
            throw StoreError(
                .conflict,
                "The configured root access key \(configured.id) belongs to another account.",
                advice: "Choose another one."
            )
        }
        state.withLock { $0.rootCredential = configured }
        return nil
    }

    /// The root account, made when there is none.
    package func rootAccount() async throws -> AccountRow {
        if let root = try await currentView().root { return root }
        do {
            return try await create(displayName: Self.rootName, email: nil, isRoot: true)
        } catch let error as StoreError where error.code == .conflict {
            // Another one was faster.
            guard let root = try await currentView().root else { throw error }
            return root
        }
    }

    // MARK: View

    func currentView() async throws -> View {
        let generations = Self.spaces.map { objects.documentGeneration(of: $0) }
        if let view = state.withLock({ $0.view }), view.generations == generations { return view }
        let view = try await objects.readCatalog { reader in try Self.load(reader, generations) }
        state.withLock { state in
            state.view = view
            state.opened = [:]
        }
        return view
    }

    private static let spaces: [DocumentSpace] = [.account, .accessKey]

    private static func load(_ reader: any CatalogReader, _ generations: [UInt64]) throws -> View {
        var view = View(generations: generations)
        try reader.forEachDocument(.account) { document in
            do {
                let row = try AccountRow(document)
                view.accounts[row.id] = row
                if row.isRoot { view.rootID = row.id }
            } catch let error as StoreError {
                view.damaged.append(error)
            }
            return true
        }
        try reader.forEachDocument(.accessKey) { document in
            do {
                let row = try AccessKeyRow(document)
                view.keys[row.id] = row
            } catch let error as StoreError {
                view.damaged.append(error)
            }
            return true
        }
        return view
    }
}
