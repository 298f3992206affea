internal import Catalog
internal import StoreModel

extension ObjectStore {
    /// A page of the uploads of a bucket that are under way.
    package func listUploads(_ request: UploadListRequest) async throws -> UploadPage {
        let limit = min(max(request.limit, 0), Limits.listPageSizeMax)
        return try await readCatalog { reader in
            var page = UploadPageBuilder(request, try reader.existingBucket(request.bucket).id, limit: limit)
            guard limit > 0, let start = page.start else { return page.last }
            let prefix = UploadKey.bucket(page.bucket) + request.prefix
            var from = start
            while true {
                let rows = try reader.documents(.upload, prefix: prefix, from: from, limit: 256)
                guard let end = rows.last else { return page.last }
                from = end.key + [0]
                for row in rows {
                    let key = UploadKey.objectKey(of: row.key)
                    let common = KeyBounds.commonPrefix(
                        of: key,
                        prefix: request.prefix,
                        delimiter: request.delimiter
                    )
                    if let common, common == page.lastPrefix { continue }
                    if page.isFull { return page.truncated }
                    guard let common else {
                        page.add(try MultipartUpload(row))
                        continue
                    }
                    page.add(prefix: common)
                    // What is under the prefix is skipped by a seek.
                    guard let bound = KeyBounds.successor(ofPrefix: UploadKey.bucket(page.bucket) + common)
                    else { return page.last }
                    from = bound
                    break
                }
            }
        }
    }
}

private struct UploadPageBuilder {
    let request: UploadListRequest
    let bucket: BucketID
    private let limit: Int
    private var uploads: [MultipartUpload] = []
    private var prefixes: [[UInt8]] = []
    private(set) var lastPrefix: [UInt8]?
    private var next: UploadMarker?

    init(_ request: UploadListRequest, _ bucket: BucketID, limit: Int) {
        self.request = request
        self.bucket = bucket
        self.limit = limit
    }

    var isFull: Bool { uploads.count + prefixes.count >= limit }
    var last: UploadPage { UploadPage(uploads: uploads, commonPrefixes: prefixes, next: nil) }
    var truncated: UploadPage { UploadPage(uploads: uploads, commonPrefixes: prefixes, next: next) }

    /// The first document after the marker; nil when there can be none.
    var start: [UInt8]? {
        let base = UploadKey.bucket(bucket)
        guard let marker = request.startAfter, !marker.key.isEmpty else { return base + request.prefix }
        if let common = KeyBounds.commonPrefix(
            of: marker.key,
            prefix: request.prefix,
            delimiter: request.delimiter
        ), marker.key.starts(with: request.prefix) {
            return KeyBounds.successor(ofPrefix: base + common)
        }
        if let id = marker.id { return UploadKey.uploads(bucket, marker.key) + id.operation.bytes + [0] }
        // Behind every upload of the key: its documents go on with a zero byte.
        return base + marker.key + [1]
    }

    mutating func add(_ upload: MultipartUpload) {
        uploads.append(upload)
        lastPrefix = nil
        next = UploadMarker(key: upload.key.bytes, id: upload.id)
    }

    mutating func add(prefix: [UInt8]) {
        prefixes.append(prefix)
        lastPrefix = prefix
        next = UploadMarker(key: prefix)
    }
}
