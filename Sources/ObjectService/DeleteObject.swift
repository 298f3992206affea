package import Catalog
package import StoreModel

/// What a delete did. Both nil: there was nothing to delete, which is no error.
package struct DeleteResult: Hashable, Sendable {
    /// The delete marker that was added.
    package let marker: VersionRow?
    /// The version or delete marker that was removed for good.
    package let removed: VersionRow?
}

extension ObjectStore {
    /// Without a named version: hides the object behind a delete marker where the bucket keeps history. With one:
    /// removes that version for good.
    package func delete(
        _ address: VersionAddress,
        conditions: Conditions = .none,
        operation: OperationID? = nil
    ) async throws -> DeleteResult {
        let command: CatalogCommand
        if address.selector == .newest {
            command = .deleteObject(bucket: address.bucket, key: address.key, conditions: conditions)
        } else {
            guard conditions.isEmpty else {
                throw StoreError(
                    .invalidArgument,
                    "Conditions are for the current object, not for a named version."
                )
            }
            command = .deleteVersion(address)
        }
        let outcome = try await commit(command, operation: operation)
        guard case .deleted(let marker, let removed) = outcome else { throw outcome.unexpected }
        return DeleteResult(marker: marker, removed: removed)
    }
}
