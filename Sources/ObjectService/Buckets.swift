package import Catalog
package import StoreModel

extension ObjectStore {
    /// - Parameter isOwnerAccount: whether `owner` is the id of an account, which must be there at the moment of the decision.
    /// - Throws: `.bucketAlreadyExists`, `.accessDenied` when the owner's account is gone.
    package func createBucket(
        _ name: BucketName,
        versioning: VersioningState = .enabled,
        owner: String? = nil,
        isOwnerAccount: Bool = false,
        settings: [BucketSetting] = [],
        operation: OperationID? = nil
    ) async throws -> BucketRow {
        let command = CatalogCommand.createBucket(
            name,
            versioning: versioning,
            owner: owner,
            settings: settings,
            requires: isOwnerAccount ? owner.flatMap(Hex.decode).map { [AccountRow.presence($0)] } ?? [] : []
        )
        return try await commit(command, operation: operation).madeBucket()
    }

    /// - Throws: `.bucketNotEmpty` while it holds a version or a delete marker.
    package func deleteBucket(_ name: BucketName, operation: OperationID? = nil) async throws {
        _ = try await commit(.deleteBucket(name), operation: operation)
    }

    package func setVersioning(
        of name: BucketName,
        to state: VersioningState,
        operation: OperationID? = nil
    ) async throws -> BucketRow {
        try await commit(.setVersioning(name, state), operation: operation).madeBucket()
    }

    /// In the order of their names.
    package func buckets() async throws -> [BucketRow] {
        try await readCatalog { reader in try reader.buckets() }
    }

    package func bucket(_ name: BucketName) async throws -> BucketRow {
        try await readCatalog { reader in try reader.existingBucket(name) }
    }

    /// Counts and bytes, kept by the catalog with every change.
    package func usage(of name: BucketName) async throws -> BucketUsage {
        try await readCatalog { reader in try reader.usage(of: try reader.existingBucket(name).id) }
    }
}
