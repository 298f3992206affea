internal import ContentHashing
package import StoreModel

/// Why a call of a backend did not do what it should, as far as it matters for what happens next.
package struct MirrorFailure: Error, Hashable, Sendable, CustomStringConvertible {
    package enum Kind: String, Hashable, Sendable {
        /// No connection, no answer, a connection that broke.
        case unreachable
        /// Its certificate can't be trusted.
        case untrusted
        /// Its name leads to an address where this mirror may not go.
        case forbidden
        /// It asks for less: SlowDown, 429, 503.
        case busy
        /// Its own fault: 5xx.
        case fault
        /// It does not take our word: keys, signature, rights, clock.
        case denied
        case noBucket
        case full
        /// It does not keep what a mirror needs.
        case unsuited
        /// The upload in parts isn't there any more.
        case noUpload
        /// It will not take this object: another answer of the class 4xx.
        case rejected
        /// What arrived is not what was sent.
        case mismatch
        /// An answer that makes no sense: no S3 document, another one, more or less than there may be.
        case garbled
    }

    /// What a failure is about.
    package enum Scope: Hashable, Sendable {
        case task
        case backend
        /// Either: what else succeeds, or fails, tells.
        case unclear
    }

    package let kind: Kind
    package let message: String
    /// How long it wants to be left alone.
    package let retryAfter: Duration?

    package init(_ kind: Kind, _ message: String, retryAfter: Duration? = nil) {
        self.kind = kind
        self.message = message
        self.retryAfter = retryAfter
    }

    /// | kind | about | the breaker | the task's budget of attempts |
    /// |---|---|---|---|
    /// | `unreachable` | the backend | opens after 5 in a row | counts when other tasks succeed meanwhile |
    /// | `busy` | the backend | opens after 5 in a row; Retry-After | never |
    /// | `untrusted`, `forbidden`, `noBucket`, `full`, `unsuited` | the backend | opens at once, asks rarely | never |
    /// | `denied` | unclear | opens when a probe is denied too, or 5 tasks are and none succeeds | counts when other tasks succeed meanwhile |
    /// | `fault`, `garbled` | unclear | opens when probes fail too, or 5 tasks do and none succeeds | counts when other tasks or a probe succeed meanwhile |
    /// | `mismatch`, `noUpload` | the task | – | counts |
    /// | `rejected` | the task | – | given up at once |
    package var scope: Scope {
        switch kind {
        case .unreachable, .untrusted, .forbidden, .busy, .noBucket, .full, .unsuited: .backend
        case .denied, .fault, .garbled: .unclear
        case .noUpload, .rejected, .mismatch: .task
        }
    }

    /// Whether only a person can change it: it is asked rarely, and shown.
    package var needsHelp: Bool {
        switch kind {
        case .untrusted, .forbidden, .denied, .noBucket, .full, .unsuited: true
        default: false
        }
    }

    package var description: String { "\(kind.rawValue): \(message)" }
}

/// What is said of an object in a backend besides its bytes.
package struct MirrorProperties: Hashable, Sendable {
    package var contentType: String?
    /// Cache-Control and its like.
    package var otherHeaders: [(String, String)] = []
    /// Without "x-amz-meta-"; names in lower case.
    package var userMetadata: [(String, String)] = []
    package var tags: [(String, String)] = []

    package init() {}

    package static func == (left: Self, right: Self) -> Bool {
        left.contentType == right.contentType
            && left.otherHeaders.elementsEqual(right.otherHeaders, by: ==)
            && left.userMetadata.elementsEqual(right.userMetadata, by: ==)
            && left.tags.elementsEqual(right.tags, by: ==)
    }

    package func hash(into hasher: inout Hasher) { hasher.combine(contentType) }
}

/// An object as a backend describes it.
package struct MirrorHead: Sendable {
    package var size: UInt64
    /// Without quotes.
    package var etag: String
    /// nil: the backend keeps no versions of it.
    package var versionID: String?
    package var properties: MirrorProperties

    package init(size: UInt64, etag: String, versionID: String?, properties: MirrorProperties) {
        self.size = size
        self.etag = etag
        self.versionID = versionID
        self.properties = properties
    }
}

/// What a backend answers to an upload.
package struct MirrorReceipt: Hashable, Sendable {
    package var etag: String
    package var versionID: String?

    package init(etag: String, versionID: String?) {
        self.etag = etag
        self.versionID = versionID
    }
}

package struct MirrorPart: Hashable, Sendable {
    package var number: Int
    package var size: UInt64
    package var etag: String

    package init(number: Int, size: UInt64, etag: String) {
        self.number = number
        self.size = size
        self.etag = etag
    }
}

/// One line of a listing.
package struct MirrorListed: Hashable, Sendable {
    package var key: String
    package var versionID: String?
    package var isDeleteMarker: Bool
    package var isLatest: Bool
    package var size: UInt64
    package var etag: String

    package init(
        key: String,
        versionID: String?,
        isDeleteMarker: Bool = false,
        isLatest: Bool = true,
        size: UInt64,
        etag: String
    ) {
        self.key = key
        self.versionID = versionID
        self.isDeleteMarker = isDeleteMarker
        self.isLatest = isLatest
        self.size = size
        self.etag = etag
    }
}

package struct MirrorListPage: Sendable {
    /// Where a listing goes on; what it means is the backend's business.
    package struct Marker: Hashable, Sendable {
        package var key: String
        package var versionID: String?
        /// Whether it is a key, behind which all its versions are left out, and not what a page has given.
        package var isKey: Bool

        package init(key: String, versionID: String?, isKey: Bool = false) {
            self.key = key
            self.versionID = versionID
            self.isKey = isKey
        }
    }

    package var entries: [MirrorListed]
    package var next: Marker?

    package init(entries: [MirrorListed], next: Marker?) {
        self.entries = entries
        self.next = next
    }
}

/// Bytes for a backend, and what they hash to.
package struct MirrorBody: Sendable {
    package let bytes: [UInt8]
    package let md5: MD5Digest
    /// It is signed, so that the backend checks the bytes.
    package let sha256: Digest

    package init(_ bytes: [UInt8], md5: MD5Digest, sha256: Digest) {
        self.bytes = bytes
        self.md5 = md5
        self.sha256 = sha256
    }

    /// - Parameter md5: where it is known.
    package init(hashing bytes: [UInt8], md5: MD5Digest? = nil) {
        self.init(
            bytes,
            md5: md5 ?? bytes.withUnsafeBytes { MD5Hasher.hash($0) },
            sha256: SHA256Hasher.hash(bytes)
        )
    }
}

/// A bucket of an S3-compatible store, as a mirror needs it.
///
/// 1. A call ends: with what it says, or with `MirrorFailure`, within the deadlines of whoever implements it; or with
///    `CancellationError` when its task is cancelled.
/// 2. A failure says nothing about whether the call was carried out.
/// 3. Bodies are whole: a part of an object at a time, so that memory is bounded by the caller.
package protocol MirrorBackend: Sendable {
    /// Whether the bucket keeps versions. Also the question that tells whether the backend is there at all.
    func keepsVersions() async throws -> Bool

    func put(_ key: String, _ body: MirrorBody, _ properties: MirrorProperties) async throws -> MirrorReceipt
    func startUpload(_ key: String, _ properties: MirrorProperties) async throws -> String
    func putPart(_ key: String, upload: String, number: Int, _ body: MirrorBody) async throws -> MirrorPart
    func parts(_ key: String, upload: String) async throws -> [MirrorPart]
    func complete(_ key: String, upload: String, _ parts: [MirrorPart]) async throws -> MirrorReceipt
    /// No error when it isn't there.
    func abort(_ key: String, upload: String) async throws

    /// - Returns: nil when there is no such object, or it is deleted.
    func head(_ key: String, version: String?) async throws -> MirrorHead?
    /// Bytes of an object, all of them in memory: callers ask for as many as they can hold.
    func get(_ key: String, version: String?, _ range: ByteRange) async throws -> [UInt8]
    /// - Returns: the id of the delete marker that was made, if one was.
    func delete(_ key: String, version: String?) async throws -> String?
    func setTags(_ key: String, version: String?, _ tags: [(String, String)]) async throws
    func tags(_ key: String, version: String?) async throws -> [(String, String)]
    func list(prefix: String, after: MirrorListPage.Marker?, limit: Int) async throws -> MirrorListPage
    /// Keys in order, each one's versions newest first.
    func listVersions(
        prefix: String,
        after: MirrorListPage.Marker?,
        limit: Int
    ) async throws -> MirrorListPage
}
