package import Catalog

extension ObjectStore {
    /// What is known of a version, without its bytes.
    package func head(_ address: VersionAddress) async throws -> VersionRow {
        try await readableVersion(address)
    }
}
