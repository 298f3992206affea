internal import Catalog
internal import ObjectService
internal import S3Protocol
internal import StoreModel

// Buckets whose writes are acknowledged only when mirrors have them: ObjectService/AcknowledgeWrites.swift.
extension S3Service {
    /// For our own clients, who look before they put: a version that its bucket's writes would still wait for. Who asks again
    /// and again keeps mirrors from yielding to clients: only for those who might put it themselves, as far as this request tells.
    @inline(never)
    func mirrorWaitHeader(_ row: VersionRow, _ request: VerifiedRequest) async throws -> [HeaderField] {
        let asks = request.headers.contains(HoldfastHeader.mirrorWait)
        let wait = try await objects.mirrorWait(
            for: row,
            in: try request.bucket(),
            isAwaited: asks ? try await mayPut(request) : false
        )
        guard let wait else { return [] }
        return [HeaderField(HoldfastHeader.mirrorWait, "\(Int64((wait / .seconds(1)).rounded(.up)))")]
    }

    /// The first step: what the write waits for in the end.
    /// - Parameter tags: those that a copy keeps.
    /// - Throws: `InvalidArgument` for what a mirror would have to take and can't.
    @inline(never)
    func acknowledgement(
        of bucket: BucketName,
        for key: ObjectKey,
        _ new: NewObject,
        keeps tags: [NamedValue] = []
    ) async throws -> MirrorAcknowledgement? {
        try await objects.mirrorAcknowledgement(
            of: bucket,
            for: key,
            tags: (new.tags ?? []) + tags,
            new.encryption
        )
    }

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
