internal import Catalog
internal import Encryption
package import Mirroring
package import ObjectService
internal import S3Protocol
internal import StoreModel

/// Administration of a store that is open in this process.
package struct StoreAdministration: Administration {
    let objects: ObjectStore
    private let directory: AccountDirectory
    let volumeCare: any VolumeAdministration
    private let storePath: String
    private let formatVersion: String
    let mirrorService: MirrorService?
    let mirrorAuditor: (any MirrorAuditAdministration)?
    let settle: @Sendable () async -> Void
    let scrubParts: ScrubParts?
    let garbage: (any GarbageAdministration)?

    /// - Parameter settle: waits for what is about to change the status, within bounds.
    package init(
        _ objects: ObjectStore,
        _ directory: AccountDirectory,
        _ volumeCare: any VolumeAdministration,
        storePath: String,
        formatVersion: String,
        mirrors: MirrorService? = nil,
        mirrorAuditor: (any MirrorAuditAdministration)? = nil,
        scrubParts: ScrubParts? = nil,
        garbage: (any GarbageAdministration)? = nil,
        settle: @escaping @Sendable () async -> Void = {}
    ) {
        self.garbage = garbage
        self.objects = objects
        self.directory = directory
        self.volumeCare = volumeCare
        self.storePath = storePath
        self.formatVersion = formatVersion
        mirrorService = mirrors
        self.mirrorAuditor = mirrorAuditor
        self.settle = settle
        self.scrubParts = scrubParts
    }

    // MARK: Status

    package func status() async throws -> StatusDocument {
        await settle()
        let storage = try await objects.status()
        var (bucketCount, usage) = (UInt64(0), BucketUsage())
        for bucket in try await objects.buckets() {
            let one: BucketUsage
            do {
                one = try await objects.usage(of: bucket.name)
            } catch let error as StoreError where error.code == .noSuchBucket {
                // Removed meanwhile.
                continue
            }
            bucketCount += 1
            usage.objectCount += one.objectCount
            usage.versionCount += one.versionCount
            usage.versionBytes += one.versionBytes
        }
        return StatusDocument(
            store: storePath,
            storeID: storage.store.description,
            formatVersion: formatVersion,
            replicas: storage.quorum.replicaCount,
            writeQuorum: storage.quorum.writeQuorum,
            isWritable: storage.canWrite,
            isReadable: storage.canRead,
            isFullyRedundant: storage.repairsPending == 0
                && storage.volumes.allSatisfy { $0.condition == .healthy },
            copiesWaitingForRepair: UInt64(storage.repairsPending),
            volumes: storage.volumes.map(VolumeDocument.init),
            buckets: bucketCount,
            objects: usage.objectCount,
            versions: usage.versionCount,
            logicalBytes: usage.versionBytes,
            uniqueBytes: Self.uniqueBytes(storage),
            physicalBytes: storage.volumes.reduce(0) { $0 + $1.fileBytes },
            catalog: CatalogDocument(
                snapshotTakenAt: storage.snapshot.takenAt.map { ISO8601.format($0) },
                snapshotRows: storage.snapshot.rowCount,
                batchesSinceSnapshot: storage.snapshot.batchesSince
            ),
            objectsWaitingForSHA256: try await objects.digestTaskCount()
        )
    }

    /// Every volume has a copy of everything when there are no more volumes than replicas.
    private static func uniqueBytes(_ storage: StorageStatus) -> UInt64 {
        let payloadBytes = storage.volumes.map(\.payloadBytes)
        return storage.volumes.count <= storage.quorum.replicaCount
            ? payloadBytes.max() ?? 0 : payloadBytes.reduce(0, +) / UInt64(storage.quorum.replicaCount)
    }

    package func buckets() async throws -> [BucketDocument] {
        let names = try await accountNames()
        return try await objects.buckets().map { row in
            BucketDocument(
                name: row.name.description,
                versioning: row.versioning.name,
                createdAt: ISO8601.format(row.createdAt),
                owner: row.owner,
                ownerName: row.owner.flatMap { AccountID($0) }.flatMap { names[$0] }
            )
        }
    }

    // MARK: Accounts

    package func accounts() async throws -> [AccountDocument] {
        _ = try await directory.rootAccount()
        var counts: [AccountID: Int] = [:]
        for key in try await directory.keys() { counts[key.account, default: 0] += 1 }
        return try await directory.accounts().map { AccountDocument($0, keyCount: counts[$0.id] ?? 0) }
    }

    package func createAccount(name: String, email: String?) async throws -> AccountDocument {
        AccountDocument(try await directory.createAccount(displayName: name, email: email), keyCount: 0)
    }

    package func removeAccount(_ name: String) async throws -> RemovedAccountDocument {
        let account = try await directory.account(named: name)
        let count = try await directory.keys(of: account.id).count
        try await directory.removeAccount(account)
        return RemovedAccountDocument(
            removedAccount: account.id.description,
            name: account.displayName,
            removedKeys: count
        )
    }

    // MARK: Keys

    package func keys(account: String?) async throws -> [KeyDocument] {
        let only = try await account == nil ? nil : self.account(account).id
        let names = try await accountNames()
        return try await directory.keys(of: only).map { KeyDocument($0, accountName: names[$0.account]) }
    }

    package func createKey(account: String?, label: String) async throws -> NewKeyDocument {
        let owner = try await self.account(account)
        let made = try await directory.createKey(for: owner, label: label)
        return NewKeyDocument(made, owner, label: label, replaced: nil)
    }

    package func removeKey(_ id: String) async throws { try await directory.removeKey(Self.keyID(id)) }

    package func rotateKey(_ id: String, keepsOld: Bool) async throws -> NewKeyDocument {
        let id = try Self.keyID(id)
        let old = try await directory.key(id)
        let made = try await directory.rotateKey(id, keepsOld: keepsOld)
        let owner = try await directory.account(named: old.account.description)
        return NewKeyDocument(made, owner, label: old.label, replaced: keepsOld ? nil : id)
    }

    package func rotateMasterKey(acceptsLoss: Bool) async throws -> MasterKeyDocument {
        let result = try await directory.rotateMasterKey(acceptsLoss: acceptsLoss)
        let mirrors = try await mirrorService?.directory.sealAnew() ?? 0
        return MasterKeyDocument(masterKeyID: result.id, secretsSealedAnew: result.sealedCount + mirrors)
    }

    package func masterKeys() async throws -> MasterKeyListDocument {
        MasterKeyListDocument(try await objects.masterKeyState())
    }

    package func reloadMasterKeys() async throws -> MasterKeyListDocument {
        MasterKeyListDocument(try await objects.reloadMasterKeys())
    }

    private func accountNames() async throws -> [AccountID: String] {
        var names: [AccountID: String] = [:]
        for account in try await directory.accounts() { names[account.id] = account.displayName }
        return names
    }

    private func account(_ name: String?) async throws -> AccountRow {
        guard let name, name != AccountDirectory.rootName else { return try await directory.rootAccount() }
        return try await directory.account(named: name)
    }

    /// - Throws: `.noSuchAccessKey` for text that can't be the id of one.
    private static func keyID(_ text: String) throws(StoreError) -> AccessKeyID {
        guard let id = AccessKeyID(text) else {
            throw StoreError(.noSuchAccessKey, "\(quoted(text)) is not the id of an access key.")
        }
        return id
    }
}

extension AccountDocument {
    init(_ row: AccountRow, keyCount: Int) {
        self.init(
            id: row.id.description,
            name: row.displayName,
            email: row.email,
            isRoot: row.isRoot,
            state: row.state == .active ? "active" : "suspended",
            createdAt: ISO8601.format(row.createdAt),
            keys: keyCount
        )
    }
}

extension KeyDocument {
    init(_ row: AccessKeyRow, accountName: String?) {
        self.init(
            accessKeyID: row.id.description,
            account: row.account.description,
            accountName: accountName,
            label: row.label.isEmpty ? nil : row.label,
            state: row.state == .active ? "active" : "inactive",
            createdAt: ISO8601.format(row.createdAt)
        )
    }
}

extension MasterKeyListDocument {
    init(_ state: MasterKeyState) {
        self.init(
            used: state.used.map(\.description),
            held: state.held.map(\.description),
            problem: state.problem?.message
        )
    }
}

extension NewKeyDocument {
    init(_ made: AccessCredential, _ owner: AccountRow, label: String, replaced: AccessKeyID?) {
        self.init(
            accessKeyID: made.id.description,
            secretAccessKey: made.secret.reveal(),
            account: owner.id.description,
            accountName: owner.displayName,
            label: label.isEmpty ? nil : label,
            replacedAccessKeyID: replaced?.description
        )
    }
}

extension VolumeDocument {
    init(_ volume: StorageStatus.Volume) {
        let (state, reason): (String, String?) =
            switch volume.condition {
            case .healthy: ("healthy", nil)
            case .catchingUp(let missing):
                ("behind", "\(missing) \(missing == 1 ? "commit" : "commits") to catch up")
            case .full: ("full", "no room for new data; reads and deletes go on")
            case .failed(let reason): ("failed", reason)
            }
        self.init(
            path: volume.label,
            id: volume.id.description,
            state: state,
            reason: reason,
            payloadBytes: volume.payloadBytes,
            fileBytes: volume.fileBytes,
            freeBytes: volume.freeBytes,
            totalBytes: volume.totalBytes
        )
    }
}

extension VersioningState {
    fileprivate var name: String {
        switch self {
        case .off: "off"
        case .enabled: "enabled"
        case .suspended: "suspended"
        }
    }
}
