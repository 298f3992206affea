package import Catalog
package import StoreModel

extension ObjectStore {
    /// Makes an older version the newest again: a new version with its content and metadata; no bytes are moved.
    package func restore(
        bucket: BucketName,
        key: ObjectKey,
        version: VersionID,
        operation: OperationID? = nil
    ) async throws -> VersionRow {
        let command = CatalogCommand.restore(bucket: bucket, key: key, version: version)
        return try await commit(command, operation: operation).madeVersion()
    }
}
