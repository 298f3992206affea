// The documents of the admin API, version 1; openapi.json describes them. A field never changes its meaning within a
// version; an absent field has no value. Times are RFC 3339. A secret is in `NewKeyDocument` and nowhere else.

/// Who owns buckets and has access keys.
package struct AccountDocument: Codable, Hashable, Sendable {
    /// The canonical id: 64 hexadecimal digits.
    package var id: String
    package var name: String
    package var email: String?
    package var isRoot: Bool
    /// "active" or "suspended".
    package var state: String
    package var createdAt: String
    /// How many access keys are stored for it.
    package var keys: Int
}

package struct AccountListDocument: Codable, Hashable, Sendable {
    package var accounts: [AccountDocument]

    package init(accounts: [AccountDocument]) { self.accounts = accounts }
}

package struct RemovedAccountDocument: Codable, Hashable, Sendable {
    package var removedAccount: String
    package var name: String
    package var removedKeys: Int
}

/// An access key without its secret.
package struct KeyDocument: Codable, Hashable, Sendable {
    package var accessKeyID: String
    package var account: String
    package var accountName: String?
    package var label: String?
    /// "active" or "inactive".
    package var state: String
    package var createdAt: String
}

package struct KeyListDocument: Codable, Hashable, Sendable {
    package var keys: [KeyDocument]

    package init(keys: [KeyDocument]) { self.keys = keys }
}

/// A key that was just made: the only time that its secret is shown.
package struct NewKeyDocument: Codable, Sendable, CustomStringConvertible, CustomReflectable {
    package var accessKeyID: String
    package var secretAccessKey: String
    package var account: String
    package var accountName: String
    package var label: String?
    /// The key that is gone instead.
    package var replacedAccessKeyID: String?

    package var description: String { "new access key \(accessKeyID)" }
    package var customMirror: Mirror { Mirror(self, children: []) }
}

package struct RemovedKeyDocument: Codable, Hashable, Sendable {
    package var removedAccessKeyID: String

    package init(removedAccessKeyID: String) { self.removedAccessKeyID = removedAccessKeyID }
}

package struct MasterKeyDocument: Codable, Hashable, Sendable {
    package var masterKeyID: String
    package var secretsSealedAnew: Int
}

/// Master keys by id; the keys themselves are in master.key and nowhere else.
package struct MasterKeyListDocument: Codable, Hashable, Sendable {
    /// Keys with which something was sealed: a copy of master.key must hold all of them.
    package var used: [String]
    /// Keys in master.key, oldest first.
    package var held: [String]
    /// Why master.key can't be used.
    package var problem: String?

    /// What is lost without another copy of the file.
    package var missing: [String] { used.filter { !held.contains($0) } }
}

/// A bucket and whose it is.
package struct BucketDocument: Codable, Hashable, Sendable {
    package var name: String
    /// "off", "enabled" or "suspended".
    package var versioning: String
    package var createdAt: String
    /// Canonical id of the account; absent for a bucket that belongs to the root account without saying so.
    package var owner: String?
    package var ownerName: String?
}

package struct BucketListDocument: Codable, Hashable, Sendable {
    package var buckets: [BucketDocument]
}

package struct VolumeDocument: Codable, Hashable, Sendable {
    package var path: String
    package var id: String
    /// "healthy", "behind", "full" or "failed".
    package var state: String
    package var reason: String?
    package var payloadBytes: UInt64
    package var fileBytes: UInt64
    package var freeBytes: UInt64
    package var totalBytes: UInt64
}

/// The state of the store.
package struct StatusDocument: Codable, Hashable, Sendable {
    package var store: String
    package var storeID: String
    package var formatVersion: String
    package var replicas: Int
    package var writeQuorum: Int
    package var isWritable: Bool
    package var isReadable: Bool
    /// Whether all volumes are healthy and nothing waits for repair.
    package var isFullyRedundant: Bool
    package var copiesWaitingForRepair: UInt64
    package var volumes: [VolumeDocument]
    package var buckets: UInt64
    package var objects: UInt64
    package var versions: UInt64
    /// What all versions add up to.
    package var logicalBytes: UInt64
    /// What is left when equal chunks are counted once.
    package var uniqueBytes: UInt64
    /// What the volumes' files take up, all copies together.
    package var physicalBytes: UInt64
    package var catalog: CatalogDocument
    /// Objects that came in parts and whose SHA-256 is still to be found; absent from older servers.
    package var objectsWaitingForSHA256: UInt64?
}

/// How long a rebuild of the catalog would take: it loads the newest snapshot and replays what came after it.
package struct CatalogDocument: Codable, Hashable, Sendable {
    /// Absent when no snapshot was taken yet.
    package var snapshotTakenAt: String?
    package var snapshotRows: UInt64
    package var batchesSinceSnapshot: UInt64
}

/// The process that answers.
package struct VersionDocument: Codable, Hashable, Sendable {
    /// Of the program.
    package var version: String
    /// Versions of the admin API that it speaks.
    package var apiVersions: [String]
    package var processID: Int32
    /// Where the S3 API is.
    package var addresses: [String]

    package init(version: String, processID: Int32, addresses: [String]) {
        self.version = version
        apiVersions = ["v1"]
        self.processID = processID
        self.addresses = addresses
    }
}

/// What went wrong.
package struct ErrorDocument: Codable, Hashable, Sendable {
    package struct Detail: Codable, Hashable, Sendable {
        /// Stable: a code of the store ("noSuchAccount"), or of a refused signature ("SignatureDoesNotMatch").
        package var code: String
        package var message: String
        package var advice: String?
        package var requestID: String?
    }

    package var error: Detail
}
