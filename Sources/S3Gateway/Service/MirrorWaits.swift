internal import Catalog
internal import ObjectService
internal import S3Protocol
internal import StoreModel

// Buckets whose writes are acknowledged only when mirrors have them: ObjectService/AcknowledgeWrites.swift.
extension S3Service {
    /// The last step of every request that makes a version with content.
    /// - Throws: `ServiceUnavailable` with the id of the version, which is stored all the same.
    @inline(never)
    func acknowledge(_ row: VersionRow, _ policy: MirrorAcknowledgement?) async throws {
        guard let policy else { return }
        do {
            try await objects.waitForMirrors(policy, of: row)
        } catch let error as StoreError where error.code == .notMirrored {
            guard var answer = ErrorMapping.s3Error(for: error) else { throw error }
            answer.headers += versionHeader(row).map { ($0.name, $0.value) }
            throw answer
        }
    }
}
