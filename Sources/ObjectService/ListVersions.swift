package import Catalog
package import StoreModel

extension ObjectStore {
    /// A page of all versions and delete markers of a bucket: keys in byte order, each key's versions newest first.
    package func listVersions(
        bucket name: BucketName,
        prefix: [UInt8] = [],
        delimiter: [UInt8] = [],
        startAfter: VersionListMarker? = nil,
        limit: Int = Limits.listPageSizeMax
    ) async throws -> VersionListPage {
        let limit = try pageLimit(limit)
        return try await readCatalog { reader in
            let bucket = try reader.existingBucket(name)
            return try reader.listVersions(
                VersionListRequest(
                    bucket: bucket.id,
                    prefix: prefix,
                    delimiter: delimiter,
                    startAfter: startAfter,
                    limit: limit
                )
            )
        }
    }

    /// The history of one key, newest first; empty when there is none.
    package func history(
        bucket name: BucketName,
        key: ObjectKey,
        before: VersionID? = nil,
        limit: Int = Limits.listPageSizeMax
    ) async throws -> [VersionRow] {
        let limit = try pageLimit(limit)
        return try await readCatalog { reader in
            let bucket = try reader.existingBucket(name)
            return try reader.log(bucket: bucket.id, key: key, before: before, limit: limit)
        }
    }
}
