package import Catalog
package import StoreModel

extension ObjectStore {
    /// Replaces the tags of a version, which stays the same version.
    package func setTags(
        of address: VersionAddress,
        to tags: [NamedValue],
        operation: OperationID? = nil
    ) async throws -> VersionRow {
        try await commit(.setTags(address, tags), operation: operation).madeVersion()
    }
}
