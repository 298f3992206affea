internal import S3Protocol
package import StoreModel

extension S3Client {
    /// https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
    package static let presignedSecondsMax = 7 * 24 * 3600

    /// The URL by which anybody may make this request until it expires.
    package func presignedURL(
        _ method: String,
        _ bucket: String,
        _ key: ObjectKey,
        versionID: String? = nil,
        seconds: Int
    ) async throws -> String {
        guard (1...Self.presignedSecondsMax).contains(seconds) else {
            throw S3ClientError.request("A URL can be valid for 1 second to 7 days.")
        }
        var call = S3Call(method, bucket: bucket, key: key)
        call.add("versionId", versionID)
        return try await presign(call, seconds: seconds)
    }
}
