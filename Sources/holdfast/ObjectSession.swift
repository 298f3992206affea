internal import ObjectService
package import StoreModel

/// Which version of an object is meant.
package enum VersionChoice: Sendable {
    case newest
    case id(VersionID)
    /// The version that S3 names "null".
    case null

    var isNamed: Bool {
        if case .newest = self { false } else { true }
    }
}

/// What is put, but for its bytes.
struct UploadRequest: Sendable {
    var bucket: BucketName
    var key: ObjectKey
    var contentType: String?
    var userMetadata: [(name: String, value: String)] = []
    var tags: [(name: String, value: String)] = []
    /// Only when the newest version has this ETag.
    var ifMatch: String?
    /// Only when there is no object.
    var onlyIfAbsent = false
    var expectedSize: UInt64?
    var expectedSHA256: Digest?
    /// Goes on with an upload in parts that an earlier run left unfinished.
    var resumes = true
}

/// A store as the commands see it: one in a directory, or one behind a server. Names for buckets, reports for rows.
protocol ObjectSession: Sendable {
    /// Whether every byte that comes was verified on its way, whatever is known of the whole.
    var verifiesBytes: Bool { get }

    func buckets() async throws -> [BucketReport]
    /// - Throws: `StoreError` with `.noSuchBucket`.
    func requireBucket(_ name: BucketName) async throws
    func createBucket(_ name: BucketName, versioning: BucketVersioning) async throws -> BucketReport
    func deleteBucket(_ name: BucketName) async throws
    func setVersioning(_ name: BucketName, to versioning: BucketVersioning) async throws -> BucketReport

    func put(_ request: UploadRequest, from source: any ByteSource) async throws -> VersionReport
    /// Waits until the mirrors that the bucket's writes wait for have a version that is there already.
    /// - Throws: `StoreError` with `.notMirrored`.
    func waitForMirrors(_ version: VersionReport) async throws
    func head(bucket: BucketName, key: ObjectKey, _ choice: VersionChoice) async throws -> VersionReport
    /// Brings the bytes of a version from an offset on, in order.
    func download(
        _ version: VersionReport,
        from offset: UInt64,
        _ take: ([UInt8]) async throws -> Void
    ) async throws
    /// Digest and length of a version's chunks, in order, as far as they lie in its first `byteCount` bytes: what an
    /// interrupted download is checked against. Nil where chunks are not known: then the whole is checked at its end.
    func chunks(
        of version: VersionReport,
        upTo byteCount: UInt64
    ) async throws -> [(digest: Digest, length: UInt64)]?
    func list(
        bucket: BucketName,
        prefix: String,
        isRecursive: Bool,
        continuation: ListingContinuation?
    ) async throws -> ListingPage
    /// All versions and delete markers: keys in byte order, each key's versions newest first.
    func versions(
        bucket: BucketName,
        prefix: String,
        continuation: ListingContinuation?
    ) async throws -> ListingPage
    /// All versions of a key, newest first.
    func history(bucket: BucketName, key: ObjectKey) async throws -> [VersionReport]
    func delete(bucket: BucketName, key: ObjectKey, _ choice: VersionChoice) async throws -> DeletionReport
    func restore(_ version: VersionReport) async throws -> VersionReport
    func copy(
        from source: (bucket: BucketName, key: ObjectKey),
        _ choice: VersionChoice,
        to target: (bucket: BucketName, key: ObjectKey)
    ) async throws -> VersionReport
    /// The uploads in parts that are under way, of keys that begin so.
    func uploads(bucket: BucketName, prefix: String) async throws -> [UploadReport]
    /// Ends an upload and lets its parts go.
    func abortUpload(bucket: BucketName, key: ObjectKey, id: String) async throws
    func statistics(
        bucket: BucketName,
        key: ObjectKey,
        _ choice: VersionChoice,
        chunkLimit: Int,
        verifying: Bool
    ) async throws -> StatisticsReport
}
