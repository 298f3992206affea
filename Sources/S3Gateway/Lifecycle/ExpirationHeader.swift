internal import Catalog
internal import ObjectService
internal import S3Protocol
internal import StoreModel

extension S3Service {
    /// When the lifecycle of the bucket will take the object away.
    /// https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadObject.html#AmazonS3-HeadObject-response-header-Expiration
    func expirationHeader(_ row: VersionRow, _ exchange: Exchange) async throws -> [HeaderField] {
        // It is told of current versions.
        guard !exchange.query.contains("versionId"), let rules = try await access(to: exchange).lifecycle
        else {
            return []
        }
        let text = rules.expirationHeader(
            key: ObjectKeyText(bytes: row.key.bytes),
            size: row.size,
            tags: TagSet(stored: row.tags.map { .init(key: $0.name, value: $0.value) }),
            modifiedAt: row.createdAt
        )
        return text.map { [HeaderField("x-amz-expiration", $0)] } ?? []
    }
}
