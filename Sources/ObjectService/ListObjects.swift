package import Catalog
package import StoreModel

/// A page of a bucket's current objects. See `ObjectListRequest` for what the fields mean.
package struct ListRequest: Hashable, Sendable {
    package var bucket: BucketName
    package var prefix: [UInt8]
    package var delimiter: [UInt8]
    package var startAfter: [UInt8]
    /// More than a page may hold means a full page.
    package var limit: Int

    package init(
        bucket: BucketName,
        prefix: [UInt8] = [],
        delimiter: [UInt8] = [],
        startAfter: [UInt8] = [],
        limit: Int = Limits.listPageSizeMax
    ) {
        self.bucket = bucket
        self.prefix = prefix
        self.delimiter = delimiter
        self.startAfter = startAfter
        self.limit = limit
    }
}

extension ObjectStore {
    package func list(_ request: ListRequest) async throws -> ObjectListPage {
        let limit = try pageLimit(request.limit)
        return try await readCatalog { reader in
            let bucket = try reader.existingBucket(request.bucket)
            return try reader.listObjects(
                ObjectListRequest(
                    bucket: bucket.id,
                    prefix: request.prefix,
                    delimiter: request.delimiter,
                    startAfter: request.startAfter,
                    limit: limit
                )
            )
        }
    }

    func pageLimit(_ limit: Int) throws(StoreError) -> Int {
        guard limit > 0 else { throw StoreError(.invalidArgument, "A page of \(limit) items.") }
        return min(limit, Limits.listPageSizeMax)
    }
}
