package import Catalog
package import StoreModel

extension ObjectStore {
    /// Makes a version of another key, or of the same, that shares the source's chunks; no bytes are moved.
    package func copy(_ command: CopyCommand, operation: OperationID? = nil) async throws -> VersionRow {
        try await commit(.copy(command), operation: operation).madeVersion()
    }
}
