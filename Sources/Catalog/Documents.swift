package import StoreModel

/// What kind of small record a document is. The numbers are in the commit log and never change their meaning.
package enum DocumentSpace: UInt8, Hashable, Sendable, CaseIterable {
    case account = 1
    case accessKey = 2
    case accountName = 3
    /// Key: `BucketSettingKey`.
    case bucketSetting = 4
    /// Multipart uploads that are under way.
    case upload = 5
    /// Parts of multipart uploads.
    case part = 6
    case job = 7
    case finding = 8
    case outbox = 9
    /// Settings of the whole store.
    case setting = 10
}

/// Bytes that are stored as payloads: an object's, a part's, a long list's.
package struct PayloadReference: Hashable, Sendable {
    package let manifest: ManifestReference
    package let size: UInt64

    package init(manifest: ManifestReference, size: UInt64) {
        self.manifest = manifest
        self.size = size
    }
}

package struct DocumentName: Hashable, Sendable, Comparable {
    package let space: DocumentSpace
    package let key: [UInt8]

    package init(_ space: DocumentSpace, _ key: [UInt8]) {
        self.space = space
        self.key = key
    }

    package static func < (left: DocumentName, right: DocumentName) -> Bool {
        guard left.space == right.space else { return left.space.rawValue < right.space.rawValue }
        return KeyBounds.precedes(left.key, right.key)
    }
}

/// A small record beside the versions: in the commit log, the index, snapshots and the state hash like them.
package struct DocumentRow: Hashable, Sendable {
    package let space: DocumentSpace
    package let key: [UInt8]
    /// What it means is the business of whoever owns the space.
    package let body: [UInt8]
    /// Payloads that must live as long as the document does.
    package let payload: PayloadReference?

    package init(space: DocumentSpace, key: [UInt8], body: [UInt8], payload: PayloadReference? = nil) {
        self.space = space
        self.key = key
        self.body = body
        self.payload = payload
    }

    package var name: DocumentName { DocumentName(space, key) }
}

/// What must be true of a document for a write to be done.
package enum DocumentExpectation: Hashable, Sendable {
    case any
    case absent
    case present
    /// There, with this body.
    case equals([UInt8])
}

/// One document of a command: all writes of a command are done, or none.
package struct DocumentWrite: Hashable, Sendable {
    package enum Change: Hashable, Sendable {
        case put(body: [UInt8], payload: PayloadReference?)
        /// No error when it isn't there.
        case remove
        /// The expectation alone counts.
        case keep
    }

    package let space: DocumentSpace
    package let key: [UInt8]
    package let expectation: DocumentExpectation
    package let change: Change
    /// The code with which the command fails when the expectation doesn't hold.
    package let refusal: StoreError.Code

    package init(
        space: DocumentSpace,
        key: [UInt8],
        expectation: DocumentExpectation = .any,
        change: Change,
        refusal: StoreError.Code = .conflict
    ) {
        self.space = space
        self.key = key
        self.expectation = expectation
        self.change = change
        self.refusal = refusal
    }

    /// - Parameter body: nil removes the document.
    package init(
        space: DocumentSpace,
        key: [UInt8],
        expectation: DocumentExpectation = .any,
        body: [UInt8]?,
        refusal: StoreError.Code = .conflict
    ) {
        let change = body.map { Change.put(body: $0, payload: nil) } ?? .remove
        self.init(space: space, key: key, expectation: expectation, change: change, refusal: refusal)
    }

    package var name: DocumentName { DocumentName(space, key) }
}

extension CatalogEntry {
    /// Bytes of the documents in it, which are longer than versions: what a batch is closed by.
    package var documentByteCount: Int {
        mutations.reduce(0) { count, mutation in
            guard case .putDocument(let row) = mutation else { return count }
            return count + row.key.count + row.body.count
        }
    }
}

/// A setting of a bucket, by name.
package struct BucketSetting: Hashable, Sendable {
    package let name: String
    /// nil, in a change: the setting is removed.
    package let body: [UInt8]?

    package init(name: String, body: [UInt8]?) {
        self.name = name
        self.body = body
    }
}

/// The names of the settings that a bucket can have.
package enum BucketSettingName {
    package static let accessControlList = "acl"
    package static let cors = "cors"
    package static let encryption = "encryption"
    package static let lifecycle = "lifecycle"
    package static let logging = "logging"
    /// The mirrors that new versions wait for: a setting of our own, no API of S3 shows it.
    package static let mirrorAcknowledgement = "holdfast-mirror-ack"
    package static let notification = "notification"
    /// A bucket that has it keeps its versioning enabled.
    package static let objectLock = "object-lock"
    package static let ownershipControls = "ownership-controls"
    package static let policy = "policy"
    package static let publicAccessBlock = "public-access-block"
    package static let requestPayment = "request-payment"
    /// Which noncurrent versions are kept: a setting of our own, no API of S3 shows it.
    package static let retention = "holdfast-retention"
    package static let tagging = "tagging"
    package static let website = "website"
}

/// The key of a bucket's setting: the bucket's number (8 bytes, big-endian), then the setting's name.
package enum BucketSettingKey {
    package static func key(_ bucket: BucketID, _ name: String) -> [UInt8] {
        prefix(bucket) + Array(name.utf8)
    }

    package static func prefix(_ bucket: BucketID) -> [UInt8] {
        withUnsafeBytes(of: bucket.rawValue.bigEndian) { [UInt8]($0) }
    }

    /// The name, of a key that begins with `prefix(bucket)`.
    package static func name(of key: [UInt8]) -> String {
        String(decoding: key.dropFirst(8), as: UTF8.self)
    }
}
