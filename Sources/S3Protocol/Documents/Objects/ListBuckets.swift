package import StoreModel

/// https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListBuckets.html
package struct ListAllMyBucketsResult: XMLResponse, Hashable {
    package struct Bucket: Hashable, Sendable {
        package var name: String
        package var createdAt: Timestamp
        package var region: String?

        package init(name: String, createdAt: Timestamp, region: String? = nil) {
            self.name = name
            self.createdAt = createdAt
            self.region = region
        }
    }

    package var owner: Owner
    package var buckets: [Bucket]
    package var prefix: String?
    package var continuationToken: String?

    package init(
        owner: Owner,
        buckets: [Bucket],
        prefix: String? = nil,
        continuationToken: String? = nil
    ) {
        self.owner = owner
        self.buckets = buckets
        self.prefix = prefix
        self.continuationToken = continuationToken
    }

    package func render(into writer: inout XMLWriter) {
        writer.root("ListAllMyBucketsResult") { writer in
            owner.render(into: &writer)
            writer.element("Buckets") { writer in
                for bucket in buckets {
                    writer.element("Bucket") { writer in
                        writer.element("Name", bucket.name)
                        writer.element("CreationDate", bucket.createdAt)
                        writer.optional("BucketRegion", bucket.region)
                    }
                }
            }
            writer.optional("ContinuationToken", continuationToken)
            writer.optional("Prefix", prefix)
        }
    }
}

/// https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetBucketLocation.html
package struct LocationConstraint: XMLResponse, Hashable {
    package var region: String

    package init(region: String) { self.region = region }

    /// The oldest region has no name here.
    package func render(into writer: inout XMLWriter) {
        let text = region == "us-east-1" ? "" : region
        writer.element("LocationConstraint", attributes: [("xmlns", XMLWriter.namespace)]) { writer in
            writer.text(text)
        }
    }
}

/// https://docs.aws.amazon.com/AmazonS3/latest/API/API_CreateBucket.html
package struct CreateBucketConfiguration: XMLRequest, Hashable {
    package var location: String?
    package var tags: TagSet?

    package init(xml: XMLElement) throws(S3Error) {
        // Some clients send CreateBucketRequest's older name.
        guard ["CreateBucketConfiguration", "CreateBucketRequest"].contains(xml.name) else {
            throw .malformedXML("The root element is not CreateBucketConfiguration.")
        }
        try xml.requireOnly(["LocationConstraint", "Location", "Bucket", "Tags"])
        guard try xml.child("Location") == nil, try xml.child("Bucket") == nil else {
            throw S3Error(.notImplemented, "Directory buckets are not implemented.")
        }
        location = try xml.word(of: "LocationConstraint").flatMap { $0.isEmpty ? nil : $0 }
        if let tagList = try xml.child("Tags") {
            tags = try TagSet(tagList: tagList, of: .bucket)
        }
    }
}
