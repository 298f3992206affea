internal import ContentHashing
internal import CurlTransport
internal import Foundation
internal import S3Client
internal import S3Protocol
internal import StoreModel

/// A copy of an object that is larger than what S3 copies in one call: in parts, which the server fills from the source.
///
/// 1. All parts come from one version: it is named, and its entity tag is a condition of each part.
/// 2. Type, metadata and tags come along, as they do in one call.
/// 3. Where the source's CRC-64/NVME is known, the server compares it with that of the copy before it shows it.
struct RemoteCopy {
    static let concurrencyMax = 4
    private static let partSizeMax: UInt64 = 1 << 30
    private static let partSizeMin: UInt64 = 5 << 20

    /// What one call copies at most; tests make it smaller by HOLDFAST_COPY_LIMIT.
    static var sizeMax: UInt64 {
        ProcessInfo.processInfo.environment["HOLDFAST_COPY_LIMIT"].flatMap { UInt64($0) } ?? 5 << 30
    }

    let client: S3Client
    let retry: S3Retry
    let budget: S3RetryBudget

    /// - Returns: the version that was made, as the server names it.
    func run(
        _ info: S3ObjectInfo,
        from source: CopySource,
        tags: [TagSet.Tag],
        to bucket: String,
        _ key: ObjectKey
    ) async throws -> String? {
        var options = S3ObjectOptions()
        options.contentType = info.contentType
        options.metadata = info.metadata
        options.tags = tags
        for name in [
            "cache-control", "content-disposition", "content-encoding", "content-language", "expires",
        ] {
            if let value = info.head.first(name) { options.headers.append((name, value)) }
        }
        let id = try await client.createUpload(
            bucket,
            key,
            options: options,
            checksum: .crc64nvme,
            checksumType: .fullObject
        ).uploadID
        do {
            let parts = try await copyParts(info, source, bucket, key, id)
            let made = try await client.completeUpload(
                bucket,
                key,
                uploadID: id,
                parts: parts,
                checksum: info.checksums.first { $0.algorithm == .crc64nvme }
            )
            return made.versionID
        } catch {
            let client = client
            // In a task of its own: this one may be cancelled.
            await Task { try? await client.abortUpload(bucket, key, uploadID: id) }.value
            throw error
        }
    }

    private func copyParts(
        _ info: S3ObjectInfo,
        _ source: CopySource,
        _ bucket: String,
        _ key: ObjectKey,
        _ id: String
    ) async throws -> [S3UploadedPart] {
        let partSize = max(Self.partSizeMin, min(Self.partSizeMax, Self.sizeMax))
        let ranges = stride(from: 0, to: info.size, by: Int(partSize)).map { first in
            first...min(first + partSize, info.size) - 1
        }
        var parts: [S3UploadedPart] = []
        try await forEachConcurrently(
            [(Int, ClosedRange<UInt64>)](ranges.enumerated().map { ($0, $1) }),
            limit: Self.concurrencyMax
        ) {
            [self] number, range in
            try await retry.run(budget: budget) {
                try await client.copyPart(
                    from: source,
                    range,
                    ifMatch: info.entityTag,
                    to: bucket,
                    key,
                    uploadID: id,
                    number: number + 1
                )
            }
        } receive: { part in
            parts.append(part)
        }
        return parts
    }
}
