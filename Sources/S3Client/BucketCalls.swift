internal import CurlTransport
package import S3Protocol
package import StoreModel

package struct S3Bucket: Hashable, Sendable {
    package let name: String
    package let createdAt: Timestamp
}

extension S3Client {
    /// https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListBuckets.html
    package func listBuckets() async throws -> [S3Bucket] {
        var buckets: [S3Bucket] = []
        var token: String?
        // Servers without pages give no token; one that repeats its token ends here.
        repeat {
            var call = S3Call("GET")
            call.add("continuation-token", token)
            let xml = try await document(call).document("ListAllMyBucketsResult")
            for element in xml.children(named: "Buckets").flatMap({ $0.children(named: "Bucket") }) {
                let answer = AnswerElement(element)
                buckets.append(
                    S3Bucket(name: try answer.text("Name"), createdAt: try answer.time("CreationDate"))
                )
            }
            let next = try AnswerElement(xml).optionalText("ContinuationToken")
            guard next != token else { break }
            token = next
        } while !(token ?? "").isEmpty
        return buckets
    }

    /// - Returns: the bucket's region, where the server tells it.
    package func headBucket(_ bucket: String) async throws -> String? {
        try await document(S3Call("HEAD", bucket: bucket)).head.first("x-amz-bucket-region")
    }

    /// - Throws: code `BucketAlreadyOwnedByYou` or `BucketAlreadyExists` where it is there already.
    package func createBucket(_ bucket: String, objectLock: Bool = false) async throws {
        var call = S3Call("PUT", bucket: bucket)
        call.setHeader("x-amz-bucket-object-lock-enabled", objectLock ? "true" : nil)
        var body = S3Body.empty
        let region = configuration.endpoint.region
        if region != "us-east-1" {
            var writer = XMLWriter()
            writer.root("CreateBucketConfiguration") { $0.element("LocationConstraint", region) }
            body = .bytes(writer.bytes)
        }
        _ = try await document(call, body: body)
    }

    package func deleteBucket(_ bucket: String) async throws {
        var call = S3Call("DELETE", bucket: bucket)
        call.accepted = [200, 204]
        _ = try await document(call)
    }

    /// - Returns: nil for a bucket that was never versioned.
    package func getBucketVersioning(_ bucket: String) async throws -> VersioningConfiguration.Status? {
        var call = S3Call("GET", bucket: bucket)
        call.query = [("versioning", nil)]
        let xml = try await document(call).document("VersioningConfiguration")
        guard let text = try AnswerElement(xml).optionalText("Status"), !text.isEmpty else { return nil }
        guard let status = VersioningConfiguration.Status(rawValue: text) else {
            throw S3ClientError.answer("The versioning of a bucket is '\(text.prefix(64))'.")
        }
        return status
    }

    package func putBucketVersioning(
        _ bucket: String,
        _ status: VersioningConfiguration.Status
    ) async throws {
        var call = S3Call("PUT", bucket: bucket)
        call.query = [("versioning", nil)]
        let body = VersioningConfiguration(status: status).xmlBytes
        _ = try await document(call, body: .bytes(body))
    }
}
